//! A backup in a directory: the copies under `data/`, the manifest beside it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::place::{Copied, Place, Progress, pour};
use super::{BackupError, is_closed, list_files, path_of};
use crate::files::{self, DirectoryLock, NewFile};
use crate::{Error, os};
use rustix::io::Errno;

const MANIFEST: &str = "MANIFEST";
const DATA: &str = "data";

/// A directory as the place of a backup.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    may_link: bool,
    /// From the beginning of a run on: two at once would take each other's copies away.
    lock: Option<DirectoryLock>,
}

impl Directory {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), may_link: false, lock: None }
    }

    /// Files that never change are linked instead of copied, where they lie on the same file
    /// system: they take no room then, and what damages the one damages the other.
    pub fn with_links(self) -> Self {
        Self { may_link: true, ..self }
    }

    fn copy_of(&self, name: &str) -> PathBuf {
        self.path.join(DATA).join(name)
    }

    /// Whether a first run may go into it.
    fn is_empty_but_data(&self) -> Result<bool, Error> {
        let failed = |e| Error::io("list", &self.path)(e);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if name != DATA && name != "lost+found" {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Keeps other runs away from a directory. A file system that knows no locks is no reason to make no backup.
pub(super) fn lock(directory: &Path) -> Result<Option<DirectoryLock>, Error> {
    match DirectoryLock::acquire(directory) {
        Ok(lock) => Ok(Some(lock)),
        Err(Error::Io { source, .. }) if knows_no_locks(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// NFS answers `ENOLCK` where no service of locks runs.
fn knows_no_locks(error: &io::Error) -> bool {
    let errors = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS];
    errors.iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

impl Place for Directory {
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    fn is_far(&self) -> bool {
        false
    }

    fn begin(&mut self) -> Result<(), BackupError> {
        files::create_directory(&self.path.join(DATA))?;
        match self.path.join(MANIFEST).exists() || self.is_empty_but_data()? {
            true => {
                self.lock = lock(&self.path.join(DATA))?;
                Ok(())
            }
            false => Err(BackupError::NotEmpty { at: self.shown() }),
        }
    }

    fn manifest(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let path = self.path.join(MANIFEST);
        match fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path)(e).into()),
        }
    }

    fn copies(&mut self) -> Result<BTreeMap<String, u64>, BackupError> {
        let mut copies = BTreeMap::new();
        for name in list_files(&self.path.join(DATA))? {
            let bytes = fs::metadata(self.copy_of(&name)).map_or(0, |m| m.len());
            copies.insert(name, bytes);
        }
        Ok(copies)
    }

    fn put(&mut self, name: &str, from: &Path, progress: &Progress) -> Result<Copied, BackupError> {
        let to = self.copy_of(name);
        if let Some(directory) = to.parent() {
            files::create_directory(directory)?;
        }
        if self.may_link && is_closed(path_of(name)) && link(from, &to) {
            let mut linked = File::open(&to).map_err(Error::io("open", &to))?;
            return Ok(pour(&mut linked, &mut io::sink(), progress).map_err(Error::io("read", &to))?);
        }
        let (copied, target) = copy(from, &to, progress)?;
        target.sync().map_err(Error::io("sync", &to))?;
        Ok(copied)
    }

    fn get(&mut self, name: &str, to: &mut dyn Write, progress: &Progress) -> Result<Copied, BackupError> {
        let path = self.copy_of(name);
        let mut source = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::Damaged {
                    at: path.display().to_string(),
                    reason: "it is not there",
                });
            }
            opened => opened.map_err(Error::io("open", &path))?,
        };
        Ok(pour(&mut source, to, progress).map_err(Error::io("copy", &path))?)
    }

    fn permissions(&mut self, name: &str) -> Option<Permissions> {
        fs::metadata(self.copy_of(name)).map(|m| m.permissions()).ok()
    }

    fn commit(&mut self, manifest: &[u8]) -> Result<(), BackupError> {
        sync_tree(&self.path.join(DATA))?;
        Ok(files::write_atomic(&self.path.join(MANIFEST), manifest)?)
    }

    fn remove(&mut self, name: &str) -> Result<(), BackupError> {
        Ok(files::remove(&self.copy_of(name))?)
    }
}

/// Another name for the same file; `false` where the file system has none, or it is another one.
fn link(from: &Path, to: &Path) -> bool {
    // What a broken-off run has left of this name is no use.
    files::remove(to).is_ok() && os::hard_link(from, to).is_ok()
}

/// Copies a file with its permissions; what is to last must be synced.
pub(super) fn copy(from: &Path, to: &Path, progress: &Progress) -> Result<(Copied, NewFile), Error> {
    let mut source = File::open(from).map_err(Error::io("open", from))?;
    // Never through a link that an earlier run has made.
    files::remove(to)?;
    let mut target = NewFile::create(to).map_err(Error::io("create", to))?;
    // Either may be at fault; a full disk is the likelier.
    let copied = pour(&mut source, &mut target, progress).map_err(Error::io("copy what goes to", to))?;
    let permissions = source.metadata().map_err(Error::io("stat", from))?.permissions();
    target.set_permissions(permissions).map_err(Error::io("set permissions of", to))?;
    Ok((copied, target))
}

/// Makes the names of all files below a directory durable.
pub(super) fn sync_tree(directory: &Path) -> Result<(), Error> {
    let mut directories = vec![directory.to_owned()];
    while let Some(path) = directories.pop() {
        files::sync_directory(&path)?;
        let failed = |e| Error::io("list", &path)(e);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                directories.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_there_are_no_locks_is_let_pass() {
        for (errno, expected) in [
            (Errno::NOLCK, true),
            (Errno::OPNOTSUPP, true),
            (Errno::NOSYS, true),
            (Errno::IO, false),
            (Errno::AGAIN, false),
            (Errno::NOSPC, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(knows_no_locks(&error), expected, "{error}");
        }
        assert!(!knows_no_locks(&io::Error::other("whatever")));
    }
}
