//! A disk that is full or broken when a test says so, by directory. Only in builds with the
//! feature `faults`, which nothing but tests asks for.
//!
//! A [`Disk`] stands for everything below a directory from its making on: redb's files and the
//! log's segments opened after that write to it and read from it, all that [`crate::files`] does
//! is done to it, and [`crate::files::space`] tells its room.

mod names;
mod power;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::{Bound, Range};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::io::Errno;

use crate::wal::SegmentFile;
use power::Power;

pub use power::Dice;

static DISKS: Mutex<Vec<(PathBuf, Arc<State>)>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct State {
    /// What is told to be free.
    room: AtomicU64,
    /// Bytes that may still be written.
    left: AtomicU64,
    fails_opens: AtomicBool,
    fails_reads: AtomicBool,
    fails_writes: AtomicBool,
    refuses_links: AtomicBool,
    /// Files, by what stays when they are renamed, with what of them is not given.
    spoiled: Mutex<Vec<(u64, Range<u64>)>>,
    power: Power,
    root: PathBuf,
}

/// The faults of one directory; they end with it.
#[derive(Debug)]
pub struct Disk(Arc<State>);

impl Disk {
    /// A disk without faults and with endless room, to begin with.
    pub fn below(directory: &Path) -> Self {
        let state = Arc::new(State {
            room: AtomicU64::new(u64::MAX),
            left: AtomicU64::new(u64::MAX),
            fails_opens: AtomicBool::new(false),
            fails_reads: AtomicBool::new(false),
            fails_writes: AtomicBool::new(false),
            refuses_links: AtomicBool::new(false),
            spoiled: Mutex::default(),
            power: Power::default(),
            root: directory.to_owned(),
        });
        DISKS.lock().push((directory.to_owned(), state.clone()));
        Self(state)
    }

    /// What [`crate::files::space`] tells; writes go on all the same.
    pub fn tell_room(&self, bytes: u64) {
        self.0.room.store(bytes, SeqCst);
    }

    /// How many bytes may still be written, rewritten ones included; then the disk is full.
    pub fn fill_after(&self, bytes: u64) {
        self.0.left.store(bytes, SeqCst);
    }

    /// Every opening of a file fails with EMFILE, as when the process has none left.
    pub fn fail_opens(&self, fail: bool) {
        self.0.fails_opens.store(fail, SeqCst);
    }

    /// Every read fails with EIO.
    pub fn fail_reads(&self, fail: bool) {
        self.0.fails_reads.store(fail, SeqCst);
    }

    /// From now on every read of these bytes of a file fails with EIO, under whatever name it goes.
    pub fn spoil(&self, path: &Path, bytes: Range<u64>) {
        let inode = fs::metadata(path).map_or(0, |metadata| metadata.ino());
        self.0.spoiled.lock().push((inode, bytes));
    }

    /// Every hard link fails with EPERM, as where the file system has none.
    pub fn refuse_links(&self, refuse: bool) {
        self.0.refuses_links.store(refuse, SeqCst);
    }

    /// Every write and sync fails with EIO.
    pub fn fail_writes(&self, fail: bool) {
        self.0.fails_writes.store(fail, SeqCst);
    }
}

impl Disk {
    /// Lets so many changes and syncs succeed; then everything fails, until [`Disk::settle`].
    pub fn cut_power_after(&self, successes: u64) {
        self.0.power.cut_after(successes);
    }

    pub fn is_power_out(&self) -> bool {
        self.0.power.is_out()
    }

    /// Makes files and directories what a power cut may leave of them: of what was not synced
    /// since [`Disk::cut_power_after`] any part, by a seed. Nothing may have them open.
    pub fn settle(&self, seed: u64) -> io::Result<()> {
        self.0.power.settle(&self.0.root, seed)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        DISKS.lock().retain(|(_, state)| !Arc::ptr_eq(state, &self.0));
    }
}

fn of(path: &Path) -> Option<Arc<State>> {
    let disks = DISKS.lock();
    disks.iter().find(|(directory, _)| path.starts_with(directory)).map(|(_, state)| state.clone())
}

/// The room that a test has left below a path, if one has said so.
pub(crate) fn room(path: &Path) -> Option<u64> {
    of(path).map(|state| state.room.load(SeqCst)).filter(|room| *room != u64::MAX)
}

// ---- what `crate::os` asks ----

pub(crate) fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let Some(disk) = of(path) else { return options.open(path) };
    disk.check(&disk.fails_opens, Errno::MFILE)?;
    disk.power.making(path, || options.open(path))
}

pub(crate) fn reading(file: &File, path: &Path, offset: u64, bytes: usize) -> io::Result<()> {
    let Some(disk) = of(path) else { return Ok(()) };
    disk.reading(file.metadata()?.ino(), offset, bytes)
}

pub(crate) fn write(
    path: &Path,
    offset: u64,
    bytes: &[u8],
    write: impl FnOnce(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Some(disk) = of(path) else { return write(bytes) };
    disk.power.writing(path, offset, bytes)?;
    disk.write(bytes, write)
}

pub(crate) fn resizing(path: &Path, bytes: u64) -> io::Result<()> {
    of(path).map_or(Ok(()), |disk| disk.changing()?.power.resizing(path, bytes))
}

pub(crate) fn syncing(path: &Path) -> io::Result<()> {
    of(path).map_or(Ok(()), |disk| disk.changing()?.power.syncing(path))
}

pub(crate) fn syncing_directory(path: &Path) -> io::Result<()> {
    of(path).map_or(Ok(()), |disk| disk.changing()?.power.syncing_directory(path))
}

pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let Some(disk) = of(path) else { return fs::create_dir(path) };
    disk.changing()?.power.making(path, || fs::create_dir(path))
}

pub(crate) fn linking(to: &Path) -> io::Result<()> {
    let Some(disk) = of(to) else { return Ok(()) };
    disk.check(&disk.refuses_links, Errno::PERM)?;
    disk.changing()?.power.making(to, || Ok(()))
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let Some(disk) = of(from) else { return fs::rename(from, to) };
    disk.changing()?.power.rename(&disk.root, from, to)
}

pub(crate) fn remove(path: &Path, remove: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some(disk) = of(path) else { return remove() };
    disk.changing()?.power.remove(&disk.root, path, remove)
}

impl State {
    fn changing(&self) -> io::Result<&Self> {
        self.check(&self.fails_writes, Errno::IO)?;
        Ok(self)
    }

    fn check(&self, failing: &AtomicBool, errno: Errno) -> io::Result<()> {
        if failing.load(SeqCst) { Err(io::Error::from_raw_os_error(errno.raw_os_error())) } else { Ok(()) }
    }

    fn reading(&self, inode: u64, offset: u64, bytes: usize) -> io::Result<()> {
        self.check(&self.fails_reads, Errno::IO)?;
        let end = offset + bytes as u64;
        let meets = |(file, bad): &(u64, Range<u64>)| *file == inode && bad.start < end && offset < bad.end;
        match self.spoiled.lock().iter().any(meets) {
            true => Err(io::Error::from_raw_os_error(Errno::IO.raw_os_error())),
            false => Ok(()),
        }
    }

    /// How many of some bytes still fit.
    fn take(&self, bytes: usize) -> usize {
        let mut taken = 0;
        let _ = self.left.fetch_update(SeqCst, SeqCst, |left| {
            taken = left.min(bytes as u64);
            Some(if left == u64::MAX { left } else { left - taken })
        });
        taken as usize
    }

    /// Writes as much as there is room for, as a real disk does.
    fn write(&self, data: &[u8], write: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.check(&self.fails_writes, Errno::IO)?;
        let (fits, rest) = data.split_at(self.take(data.len()));
        write(fits)?;
        if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

/// redb's file on such a disk.
#[derive(Debug)]
struct Backend {
    file: FileBackend,
    inode: u64,
    path: PathBuf,
    disk: Arc<State>,
}

/// The file of a database, where a test has a disk below which it lies.
pub(crate) fn backend(path: &Path, writable: bool) -> io::Result<Option<impl StorageBackend + use<>>> {
    let Some(disk) = of(path) else { return Ok(None) };
    disk.check(&disk.fails_opens, Errno::MFILE)?;
    let file = OpenOptions::new().read(true).write(writable).create(writable).truncate(false).open(path)?;
    let inode = file.metadata()?.ino();
    let file = FileBackend::new(file).map_err(io::Error::other)?;
    Ok(Some(Backend { file, inode, path: path.to_owned(), disk }))
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.reading(self.inode, offset, out.len())?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.check(&self.disk.fails_writes, Errno::IO)?;
        self.disk.power.resizing(&self.path, len)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.check(&self.disk.fails_writes, Errno::IO)?;
        self.disk.power.syncing(&self.path)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.power.writing(&self.path, offset, data)?;
        self.disk.write(data, |data| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.file.query_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// A segment of the log on such a disk.
#[derive(Debug)]
struct FaultySegment {
    file: Box<dyn SegmentFile>,
    path: PathBuf,
    bytes: u64,
    disk: Arc<State>,
}

/// Puts a segment on the disk of a test, if one has a disk below which it lies.
pub(crate) fn segment(path: &Path, file: Box<dyn SegmentFile>) -> Box<dyn SegmentFile> {
    match of(path) {
        Some(disk) => Box::new(FaultySegment { file, path: path.to_owned(), bytes: 0, disk }),
        None => file,
    }
}

impl SegmentFile for FaultySegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (file, at) = (&mut self.file, &mut self.bytes);
        self.disk.power.writing(&self.path, *at, bytes)?;
        self.disk.write(bytes, |bytes| {
            file.append(bytes)?;
            *at += bytes.len() as u64;
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.check(&self.disk.fails_writes, Errno::IO)?;
        self.disk.power.syncing(&self.path)?;
        self.file.sync()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.disk.power.resizing(&self.path, bytes)?;
        self.file.truncate(bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}
