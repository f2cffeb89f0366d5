//! Reading a backup: comparing all of it, and putting it into a data directory.
//!
//! A directory that a restore is filling says so, in a file that goes when all is there: half a backup looks
//! like a whole one to a server, which would go on with it, and back it up over the whole one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::manifest::{Entry, Manifest};
use super::place::{Copied, Place, Progress, pour};
use super::{BackupError, Summary, directory, load};
use crate::Error;
use crate::files::{self, NewFile};

/// In the data directory while a restore is not done; holds the checksum of the manifest.
const MARK: &str = "RESTORE";

/// Reads all copies of a backup and compares; tells each that is wrong, or that the disk does not give back.
pub fn verify(
    place: &mut dyn Place,
    progress: &Progress,
) -> Result<(Summary, Vec<BackupError>), BackupError> {
    let manifest = load_whole(place, progress)?;
    let mut summary = Summary::default();
    let mut damaged = Vec::new();
    for entry in manifest.entries.values() {
        match check(place, entry, &mut io::sink(), progress) {
            Err(error @ (BackupError::Damaged { .. } | BackupError::Disk(_))) => damaged.push(error),
            checked => checked?,
        }
        summary.files += 1;
        summary.bytes += entry.bytes;
    }
    Ok((summary, damaged))
}

/// Fails where a restore into a data directory has not come to its end.
pub fn refuse_unfinished(data_dir: &Path) -> Result<(), BackupError> {
    match data_dir.join(MARK).exists() {
        true => Err(BackupError::Unfinished { at: data_dir.display().to_string() }),
        false => Ok(()),
    }
}

/// Puts a backup into a directory that is new or empty, or that a restore of the same backup was filling when it
/// broke off: what came by then and is whole stays. Checks every copy while it is read. Where the place keeps no
/// permissions, files are for their owner alone. Nobody else fills the directory meanwhile: fails with
/// [`Error::Locked`] where somebody does.
pub fn restore(place: &mut dyn Place, data_dir: &Path, progress: &Progress) -> Result<Summary, BackupError> {
    let manifest = load_whole(place, progress)?;
    files::create_directory(data_dir)?;
    // Once before there is a lock, which is not left in a directory of somebody else's.
    is_marked(data_dir, &manifest)?;
    let _lock = directory::lock(data_dir)?;
    if !is_marked(data_dir, &manifest)? {
        files::write_atomic(&data_dir.join(MARK), mark_of(&manifest).as_bytes())?;
    }
    let mut summary = Summary::default();
    for (path, entry) in &manifest.entries {
        let to = data_dir.join(path);
        if is_there(&to, entry)? {
            progress.add_done(entry.bytes);
        } else {
            put_back(place, entry, &to, progress)?;
            summary.copied_files += 1;
            summary.copied_bytes += entry.bytes;
        }
        summary.files += 1;
        summary.bytes += entry.bytes;
    }
    directory::sync_tree(data_dir)?;
    files::remove(&data_dir.join(MARK))?;
    files::sync_directory(data_dir)?;
    Ok(summary)
}

fn mark_of(manifest: &Manifest) -> String {
    format!(
        "{:08x}\nA restore into this directory is not done. Run it once more, or empty the directory.\n",
        crc32c::crc32c(manifest.to_text().as_bytes())
    )
}

/// Whether the directory says that this backup is being put into it; fails where it may not be.
fn is_marked(data_dir: &Path, manifest: &Manifest) -> Result<bool, BackupError> {
    let path = data_dir.join(MARK);
    match fs::read(&path) {
        Ok(found) if found == mark_of(manifest).as_bytes() => return Ok(true),
        // Of another backup.
        Ok(_) => return Err(BackupError::Unfinished { at: data_dir.display().to_string() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("read", path)(e).into()),
    }
    for entry in fs::read_dir(data_dir).map_err(Error::io("list", data_dir))? {
        let name = entry.map_err(Error::io("list", data_dir))?.file_name();
        let is_ours = name == "LOCK" || Path::new(&name) == files::unfinished_path(Path::new(MARK));
        if name != "lost+found" && !is_ours {
            return Err(BackupError::NotEmpty { at: data_dir.display().to_string() });
        }
    }
    Ok(false)
}

/// Whether an earlier run has put a file back as a whole.
fn is_there(path: &Path, entry: &Entry) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() == entry.bytes => {}
        _ => return Ok(false),
    }
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let found = pour(&mut file, &mut io::sink(), &Progress::default()).map_err(Error::io("read", path))?;
    Ok(found == Copied { bytes: entry.bytes, crc32c: entry.crc32c })
}

fn put_back(place: &mut dyn Place, entry: &Entry, to: &Path, progress: &Progress) -> Result<(), BackupError> {
    if let Some(directory) = to.parent() {
        files::create_directory(directory)?;
    }
    files::remove(to)?;
    let file = NewFile::create_private(to).map_err(Error::io("create", to))?;
    if let Some(permissions) = place.permissions(&entry.stored) {
        file.set_permissions(permissions).map_err(Error::io("set permissions of", to))?;
    }
    let mut target = Target { file, path: to.to_owned() };
    check(place, entry, &mut target, progress)?;
    Ok(target.file.sync().map_err(Error::io("sync", to))?)
}

/// A file that names itself where it cannot be written to: the error is otherwise told of what is read.
struct Target {
    file: NewFile,
    path: PathBuf,
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.path.display()));
        self.file.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn load_whole(place: &mut dyn Place, progress: &Progress) -> Result<Manifest, BackupError> {
    let manifest = load(place)?;
    let missing = || BackupError::Manifest { at: place.shown(), reason: "it is not there".to_owned() };
    let manifest = manifest.ok_or_else(missing)?;
    progress.reset();
    progress.add_whole(manifest.entries.values().map(|entry| entry.bytes).sum());
    Ok(manifest)
}

/// Reads one copy through to somewhere and compares it with what was noted.
fn check(
    place: &mut dyn Place,
    entry: &Entry,
    to: &mut dyn Write,
    progress: &Progress,
) -> Result<(), BackupError> {
    let copied = place.get(&entry.stored, to, progress)?;
    let damaged = |reason| BackupError::Damaged { at: format!("{}/{}", place.shown(), entry.stored), reason };
    if copied.bytes != entry.bytes {
        return Err(damaged("its length is another"));
    }
    if copied.crc32c != entry.crc32c {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(())
}
