//! How tantivy's files are read and written: by [`pilothouse_disk::files`], as all others.
//!
//! Reads go by `pread` into memory of our own. A mapped file that a failing disk or a foreign hand
//! makes shorter ends the process with a signal; a read that fails is an error of one query. And
//! what a scan has read does not stay in the resident size of the process.
//!
//! tantivy replaces two files as a whole. `meta.json` says which segments there are, and carries
//! the payload of the last commit: it is durable when the commit returns, ends with a checksum, and has a
//! copy, which is read where it is damaged or gone. `.managed.json` would list files that may be
//! garbage; a look at the directory says the same and cannot be out of date, so that it is never
//! written.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilothouse_disk::files::{self, NewFile, ReadFile};
use tantivy::HasLen;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, OwnedBytes, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

use super::meta;

/// Files up to this size are read as a whole when they are opened, and closed again.
const SMALL_BYTES: u64 = 16 << 10;
/// Where tantivy keeps its list of files.
const MANAGED: &str = ".managed.json";

/// A directory of tantivy's.
#[derive(Debug, Clone)]
pub(crate) struct IndexDirectory {
    path: PathBuf,
    /// Segments that are shown to nobody, by the names of their files: the next commit leaves them out.
    hidden: Arc<HashSet<String>>,
    /// The list of segments, whatever lies in the directory.
    told: Option<Arc<[u8]>>,
}

impl IndexDirectory {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), hidden: Arc::default(), told: None }
    }

    /// Without some segments, by the hexadecimal digits of their ids.
    pub(crate) fn without(path: &Path, segments: impl IntoIterator<Item = String>) -> Self {
        Self { hidden: Arc::new(segments.into_iter().collect()), ..Self::of(path) }
    }

    /// With a list of segments that is not the directory's own.
    pub(crate) fn told(path: &Path, list: Vec<u8>) -> Self {
        Self { told: Some(list.into()), ..Self::of(path) }
    }

    /// The files that tantivy has made, garbage among them, in JSON.
    fn list(&self) -> io::Result<Vec<u8>> {
        let names = files::file_names(&self.path)?;
        let own: Vec<String> = names
            .iter()
            .filter(|name| segment_of(name).is_some())
            .map(|name| format!("\"{name}\""))
            .collect();
        Ok(format!("[{}]", own.join(",")).into_bytes())
    }
}

/// The segment that a file of tantivy's belongs to: 32 hexadecimal digits, a dot, and what it is.
pub(crate) fn segment_of(file_name: &str) -> Option<&str> {
    let (segment, kind) = file_name.split_once('.')?;
    let is_id = segment.len() == 32 && segment.bytes().all(|b| b.is_ascii_hexdigit());
    let is_kind = kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.');
    (is_id && is_kind).then_some(segment)
}

#[derive(Debug)]
struct Handle(ReadFile);

impl HasLen for Handle {
    fn len(&self) -> usize {
        self.0.bytes() as usize
    }
}

impl FileHandle for Handle {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        if range.end > self.len() || range.start > range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; range.len()];
        self.0.read_at(&mut bytes, range.start as u64)?;
        Ok(OwnedBytes::new(bytes))
    }
}

/// A file that is synced at its end.
struct Written(NewFile);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl TerminatingWrite for Written {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.0.sync()
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> OpenReadError + use<> {
    let path = path.to_owned();
    move |e| match e.kind() {
        io::ErrorKind::NotFound => OpenReadError::FileDoesNotExist(path),
        _ => OpenReadError::wrap_io_error(e, path),
    }
}

impl Directory for IndexDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let handle = Handle(ReadFile::open(&self.path.join(path)).map_err(unreadable(path))?);
        if handle.0.bytes() > SMALL_BYTES {
            return Ok(Arc::new(handle));
        }
        let whole = handle.read_bytes(0..handle.len()).map_err(unreadable(path))?;
        Ok(Arc::new(whole))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        files::remove(&self.path.join(path))
            .map_err(|e| DeleteError::IoError { io_error: Arc::new(e.into()), filepath: path.to_owned() })
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.path.join(path).try_exists().map_err(unreadable(path))
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let file = NewFile::create(&self.path.join(path)).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => OpenWriteError::FileAlreadyExists(path.to_owned()),
            _ => OpenWriteError::wrap_io_error(e, path.to_owned()),
        })?;
        Ok(BufWriter::new(Box::new(Written(file))))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        if path == Path::new(MANAGED) {
            return self.list().map_err(unreadable(path));
        }
        if path != Path::new(meta::FILE) {
            return files::read(&self.path.join(path)).map_err(unreadable(path));
        }
        if let Some(told) = &self.told {
            return Ok(told.to_vec());
        }
        let text = meta::read(&self.path).map_err(unreadable(path))?;
        match self.hidden.is_empty() {
            true => Ok(text),
            false => meta::without(&text, &self.hidden).map_err(unreadable(path)),
        }
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        if path == Path::new(MANAGED) {
            return Ok(());
        }
        if path == Path::new(meta::FILE) {
            return Ok(meta::write(&self.path, data)?);
        }
        Ok(files::write_atomic(&self.path.join(path), data)?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(files::sync_directory(&self.path)?)
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        let path = self.path.join(&lock.filepath);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(LockError::wrap_io_error)?;
        if lock.is_blocking {
            file.lock().map_err(LockError::wrap_io_error)?;
        } else {
            file.try_lock().map_err(|e| match e {
                TryLockError::WouldBlock => LockError::LockBusy,
                TryLockError::Error(e) => LockError::wrap_io_error(e),
            })?;
        }
        // Dropping it unlocks it.
        Ok(DirectoryLock::from(Box::new(file) as Box<File>))
    }

    /// Nobody waits for changes: the store makes them.
    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_segments_are_known_by_their_names() {
        let id = "0123456789abcdef0123456789abcdef";
        for kind in ["store", "fast", "17.del"] {
            assert_eq!(segment_of(&format!("{id}.{kind}")), Some(id));
        }
        for other in ["meta.json", "FORMAT", "filters.bin", &format!("{id}.store.damaged-1"), &id[1..]] {
            assert_eq!(segment_of(other), None, "{other}");
        }
    }
}
