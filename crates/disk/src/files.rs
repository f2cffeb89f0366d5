//! Directories and whole files: the lock, replacement in one step, generations, free space.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::lacks_links;
use crate::{Error, os, sectors};

/// Ending of files that are being written. They are nothing until renamed, and
/// [`remove_unfinished`] clears them away at start.
pub const UNFINISHED: &str = "tmp";

/// Holds a data directory for this process alone, until dropped or the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Creates the directory if it is not there and locks its file `LOCK`. Fails with
    /// [`Error::Locked`] while another process holds it.
    pub fn acquire(directory: &Path) -> Result<Self, Error> {
        create_directory(directory)?;
        let path = directory.join("LOCK");
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path }),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", path)(e)),
        }
    }
}

/// Creates a directory with its parents, and makes the new entries durable.
pub fn create_directory(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = directory_of(path);
    if parent != path {
        create_directory(parent)?;
    }
    match os::make_directory(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(Error::io("create", path)(e))
        }
        _ => sync_directory(parent),
    }
}

/// The directory that a path lies in; that of a bare name is the working directory.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes creations, renames and removals in a directory survive a power cut.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    os::sync_directory(path).map_err(Error::io("sync directory", path))
}

/// Replaces a file's whole content: after a crash there is the old one or the new one.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace(path, bytes, 0o666)
}

/// As [`write_atomic`], for what nobody but the owner may read.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace(path, bytes, 0o600)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let unfinished = unfinished_path(path);
    let written = (|| {
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(true).write(true).mode(mode);
        let file = os::open(options, &unfinished)?;
        os::write_at(&file, &unfinished, bytes, 0)?;
        os::sync(&file, &unfinished)
    })();
    if let Err(e) = written {
        let _ = os::remove_file(&unfinished);
        return Err(Error::io("write", unfinished)(e));
    }
    rename_durably(&unfinished, path)
}

/// Writes bytes into a file, made if need be, from a place on: what was behind that place is
/// gone, what is in front of it stays. Durable when it returns, except the file's own name.
pub fn write_from(path: &Path, start: u64, bytes: &[u8]) -> Result<(), Error> {
    let written = (|| {
        let file = os::open(OpenOptions::new().create(true).truncate(false).write(true), path)?;
        os::write_at(&file, path, bytes, start)?;
        os::set_len(&file, path, start + bytes.len() as u64)?;
        os::sync(&file, path)
    })();
    written.map_err(Error::io("write", path))
}

/// A file that is written from its first byte to its last.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl NewFile {
    /// Fails if there is a file of that name already.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, 0o666)
    }

    /// As [`NewFile::create`], for what nobody but the owner may read.
    pub fn create_private(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, 0o600)
    }

    fn with_mode(path: &Path, mode: u32) -> io::Result<Self> {
        let file = os::open(OpenOptions::new().write(true).create_new(true).mode(mode), path)?;
        Ok(Self { file, path: path.to_owned(), bytes: 0 })
    }

    pub fn set_permissions(&self, permissions: fs::Permissions) -> io::Result<()> {
        self.file.set_permissions(permissions)
    }

    /// Makes what was written durable; the name is with the next [`sync_directory`].
    pub fn sync(&self) -> io::Result<()> {
        os::sync(&self.file, &self.path)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        os::write_at(&self.file, &self.path, bytes, self.bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is read by places, as long as it was when it was opened.
#[derive(Debug)]
pub struct ReadFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl ReadFile {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = os::open(OpenOptions::new().read(true), path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, path: path.to_owned(), bytes })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `out`, or fails with `UnexpectedEof`.
    pub fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        os::read_at(&self.file, &self.path, out, offset)
    }
}

/// The whole of a file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = ReadFile::open(path)?;
    let mut bytes = vec![0; file.bytes as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The name under which a file is written before it takes its place.
pub fn unfinished_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// Renames a file, whose content the caller has synced, and syncs the directory it lands in.
pub fn rename_durably(from: &Path, to: &Path) -> Result<(), Error> {
    os::rename(from, to).map_err(Error::io("rename", from))?;
    sync_directory(directory_of(to))
}

/// Removes a file if it is there; the removal is durable with the next [`sync_directory`].
pub fn remove(path: &Path) -> Result<(), Error> {
    match os::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a directory that nothing refers to, if it is there; durable as [`remove`] is.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    match os::remove_tree(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Takes a file out of use without losing it: gives it a name that says why, and that no other
/// has. Returns that name.
pub fn set_aside(path: &Path, why: &str) -> Result<PathBuf, Error> {
    let free = free_name(path, why);
    rename_durably(path, &free)?;
    Ok(free)
}

/// As [`set_aside`], for a file that somebody else is about to remove. Where there are no hard links it is copied, as
/// far as it can be read.
pub fn keep_aside(path: &Path, why: &str) -> Result<PathBuf, Error> {
    let free = free_name(path, why);
    match os::hard_link(path, &free) {
        Err(e) if lacks_links(&e) => {
            let unfinished = unfinished_path(&free);
            remove(&unfinished)?;
            sectors::copy_readable(path, &unfinished)?;
            rename_durably(&unfinished, &free)?;
        }
        linked => linked.map_err(Error::io("link", path))?,
    }
    Ok(free)
}

fn free_name(path: &Path, why: &str) -> PathBuf {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{why}-{number}"));
        PathBuf::from(name)
    };
    (1..u32::MAX).map(named).find(|aside| !aside.exists()).unwrap_or_else(|| named(0))
}

/// Whether there is no file of a name, or one without a byte.
pub fn is_absent_or_empty(path: &Path) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() == 0),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::io("stat", path)(e)),
    }
}

/// Clears away what a crash left half written; returns how many files that were.
pub fn remove_unfinished(directory: &Path) -> Result<usize, Error> {
    let mut removed = 0;
    for name in file_names(directory)? {
        let path = directory.join(&name);
        if path.extension().is_some_and(|e| e == UNFINISHED) {
            remove(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The plain files of a directory by name, sorted; names that are not UTF-8 are left out, as
/// none of ours is.
pub fn file_names(directory: &Path) -> Result<Vec<String>, Error> {
    let failed = |e| Error::io("list", directory)(e);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A file that is replaced by later generations of itself: `2026-11-22.000003.l1`, a stem, a
/// generation counted up for ever, and a kind. The names alone tell what stands after a crash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// Without dots.
    pub stem: String,
    pub number: u64,
    /// What the file holds; may contain dots (`l0.redb`).
    pub kind: String,
}

impl Generation {
    pub fn new(stem: impl Into<String>, number: u64, kind: impl Into<String>) -> Self {
        Self { stem: stem.into(), number, kind: kind.into() }
    }

    pub fn file_name(&self) -> String {
        format!("{}.{:06}.{}", self.stem, self.number, self.kind)
    }

    /// `None` for a name of another shape, and for a file not finished.
    pub fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.splitn(3, '.');
        let (stem, number, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = number.len() >= 6 && number.bytes().all(|b| b.is_ascii_digit());
        let finished = kind.rsplit('.').next() != Some(UNFINISHED);
        if stem.is_empty() || kind.is_empty() || !digits || !finished {
            return None;
        }
        let parsed = Self::new(stem, number.parse().ok()?, kind);
        (parsed.file_name() == file_name).then_some(parsed)
    }
}

/// What a file really takes on the disk. Lengths mislead: redb's files are sparse.
pub fn allocated_bytes(path: &Path) -> Result<u64, Error> {
    fs::metadata(path).map(|m| m.blocks() * 512).map_err(Error::io("stat", path))
}

/// Room on the file system that holds a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write; the share reserved for root is not in it.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

pub fn space(path: &Path) -> Result<Space, Error> {
    let stat = rustix::fs::statvfs(path).map_err(|e| Error::io("stat file system of", path)(e.into()))?;
    #[cfg(any(test, feature = "faults"))]
    if let Some(free_bytes) = crate::faults::room(path) {
        return Ok(Space { free_bytes, total_bytes: u64::MAX });
    }
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

impl Space {
    /// What is kept free for the log, whose writes are answered for: little, on a small disk.
    pub fn reserved_bytes(self) -> u64 {
        (self.total_bytes / 16).min(64 << 20)
    }
}

/// Fails as a full disk would, unless there is room for this many bytes and some more. For
/// writers whose own failure on a full disk is worse than being told before.
pub fn require_space(path: &Path, bytes: u64) -> Result<(), Error> {
    let space = space(directory_of(path))?;
    if space.free_bytes < bytes.saturating_add(space.reserved_bytes()) {
        return Err(Error::io("find room for", path)(io::ErrorKind::StorageFull.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/data");
        let lock = DirectoryLock::acquire(&path).unwrap();
        assert!(matches!(DirectoryLock::acquire(&path), Err(Error::Locked { .. })));
        drop(lock);
        DirectoryLock::acquire(&path).unwrap();
    }

    #[test]
    fn directories_are_created_with_their_parents_unless_a_file_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        create_directory(&dir.path().join("a/b/c")).unwrap();
        create_directory(&dir.path().join("a/b/c")).unwrap();
        assert!(dir.path().join("a/b/c").is_dir());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(create_directory(&dir.path().join("file")).is_err());
        assert!(create_directory(&dir.path().join("file/below")).is_err());
        assert_eq!(directory_of(Path::new("name")), Path::new("."));
    }

    #[test]
    fn replacing_leaves_one_content_and_no_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        fs::write(unfinished_path(&path), b"half").unwrap();
        assert_eq!(remove_unfinished(dir.path()).unwrap(), 1);
        assert_eq!(file_names(dir.path()).unwrap(), ["state"]);
    }

    #[test]
    fn a_file_set_aside_takes_nobodys_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        for content in ["one", "two"] {
            fs::write(&path, content).unwrap();
            assert_eq!(fs::read_to_string(set_aside(&path, "damaged").unwrap()).unwrap(), content);
        }
        assert_eq!(file_names(dir.path()).unwrap(), ["state.damaged-1", "state.damaged-2"]);
    }

    #[test]
    fn generation_names_read_back() {
        let day = Generation::new("2026-11-22", 3, "l0.redb");
        assert_eq!(day.file_name(), "2026-11-22.000003.l0.redb");
        for number in [0, 3, 999_999, 1_000_000, u64::MAX] {
            let g = Generation::new("2026-11-22", number, "l1");
            assert_eq!(Generation::parse(&g.file_name()), Some(g));
        }
        for bad in
            ["", "a", "a.000001", "a.1.l0", "a.+00001.l0", "a.000001.", "a.0000001.l0", "a.000001.l0.tmp"]
        {
            assert_eq!(Generation::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn space_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path()).unwrap();
        assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
        assert!(super::space(Path::new("/no/such/place")).is_err());
        let file = dir.path().join("file");
        require_space(&file, 0).unwrap();
        assert!(require_space(&file, u64::MAX).unwrap_err().is_no_space());
    }
}
