//! Every call that changes the disk outside of redb and the log, in one place: in builds with faults,
//! a `faults::Disk` hears of each before it is made, and may refuse it.
//!
//! Nothing here is durable when it returns but what is called a sync.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

#[cfg(any(test, feature = "faults"))]
use crate::faults;

/// Opens a file by options that may create it.
pub(crate) fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(any(test, feature = "faults"))]
    return faults::open(options, path);
    #[cfg(not(any(test, feature = "faults")))]
    options.open(path)
}

pub(crate) fn read_at(file: &File, path: &Path, out: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    faults::reading(file, path, offset, out.len())?;
    let _ = path;
    file.read_exact_at(out, offset)
}

pub(crate) fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    return faults::write(path, offset, bytes, |bytes| file.write_all_at(bytes, offset));
    #[cfg(not(any(test, feature = "faults")))]
    {
        let _ = path;
        file.write_all_at(bytes, offset)
    }
}

pub(crate) fn set_len(file: &File, path: &Path, bytes: u64) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    faults::resizing(path, bytes)?;
    let _ = path;
    file.set_len(bytes)
}

/// Makes the content of a file durable, not its name.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    faults::syncing(path)?;
    let _ = path;
    file.sync_all()
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = open(OpenOptions::new().read(true), path)?;
    #[cfg(any(test, feature = "faults"))]
    faults::syncing_directory(path)?;
    directory.sync_all()
}

pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    return faults::make_directory(path);
    #[cfg(not(any(test, feature = "faults")))]
    fs::create_dir(path)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    return faults::rename(from, to);
    #[cfg(not(any(test, feature = "faults")))]
    fs::rename(from, to)
}

pub(crate) fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    faults::linking(to)?;
    fs::hard_link(from, to)
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    return faults::remove(path, || fs::remove_file(path));
    #[cfg(not(any(test, feature = "faults")))]
    fs::remove_file(path)
}

/// Removes a directory with all that is below it.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    return faults::remove(path, || fs::remove_dir_all(path));
    #[cfg(not(any(test, feature = "faults")))]
    fs::remove_dir_all(path)
}
