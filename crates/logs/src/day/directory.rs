//! How tantivy's files are read: by `pread` into memory of our own.
//!
//! A mapped file that a failing disk or a foreign hand makes shorter ends the process with a
//! signal; a read that fails is an error of one query. And what a scan has read does not stay in
//! the resident size of the process.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(test)]
use pilothouse_disk::faults;
use tantivy::HasLen;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, OwnedBytes, WatchCallback, WatchHandle,
    WritePtr,
};

/// Files up to this size are read as a whole when they are opened, and closed again.
const SMALL_BYTES: u64 = 16 << 10;

/// A directory of tantivy's; writes go the usual way.
#[derive(Debug, Clone)]
pub(crate) struct IndexDirectory {
    inner: MmapDirectory,
    path: PathBuf,
}

impl IndexDirectory {
    pub(crate) fn open(path: &Path) -> tantivy::Result<Self> {
        Ok(Self { inner: MmapDirectory::open(path)?, path: path.to_owned() })
    }
}

#[derive(Debug)]
struct ReadFile {
    file: File,
    bytes: usize,
    #[cfg(test)]
    directory: PathBuf,
}

impl HasLen for ReadFile {
    fn len(&self) -> usize {
        self.bytes
    }
}

impl FileHandle for ReadFile {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        if range.end > self.bytes || range.start > range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        #[cfg(test)]
        faults::reading(&self.directory)?;
        let mut bytes = vec![0; range.len()];
        self.file.read_exact_at(&mut bytes, range.start as u64)?;
        Ok(OwnedBytes::new(bytes))
    }
}

impl Directory for IndexDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => OpenReadError::FileDoesNotExist(path.to_owned()),
            _ => OpenReadError::wrap_io_error(e, path.to_owned()),
        };
        #[cfg(test)]
        faults::opening(&self.path).map_err(failed)?;
        let file = File::open(self.path.join(path)).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let file = ReadFile {
            file,
            bytes: bytes as usize,
            #[cfg(test)]
            directory: self.path.clone(),
        };
        if bytes > SMALL_BYTES {
            return Ok(Arc::new(file));
        }
        let whole = file.read_bytes(0..bytes as usize).map_err(failed)?;
        Ok(Arc::new(whole))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        #[cfg(test)]
        return faulty::open(&self.inner, &self.path, path);
        #[cfg(not(test))]
        self.inner.open_write(path)
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        #[cfg(test)]
        faults::opening(&self.path).map_err(|e| OpenReadError::wrap_io_error(e, path.to_owned()))?;
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        faulty::whole(&self.path, data.len())?;
        self.inner.atomic_write(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        #[cfg(test)]
        faulty::whole(&self.path, 0)?;
        self.inner.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(watch_callback)
    }
}

/// Writing to a disk that a test has made full or broken.
#[cfg(test)]
mod faulty {
    use std::io::{BufWriter, Write};

    use tantivy::directory::{AntiCallToken, TerminatingWrite};

    use super::*;

    struct FaultyFile {
        file: WritePtr,
        directory: PathBuf,
    }

    pub(super) fn open(
        inner: &MmapDirectory,
        directory: &Path,
        path: &Path,
    ) -> Result<WritePtr, OpenWriteError> {
        let failed = |e: io::Error| OpenWriteError::wrap_io_error(e, path.to_owned());
        faults::opening(directory).map_err(failed)?;
        let file = FaultyFile { file: inner.open_write(path)?, directory: directory.to_owned() };
        Ok(BufWriter::new(Box::new(file)))
    }

    /// Fails unless all of some bytes can be written.
    pub(super) fn whole(directory: &Path, bytes: usize) -> io::Result<()> {
        match faults::fitting(directory, bytes)? {
            fits if fits == bytes => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    impl Write for FaultyFile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = faults::fitting(&self.directory, bytes.len())?;
            self.file.write_all(&bytes[..fits])?;
            if fits == bytes.len() { Ok(fits) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            self.file.flush()
        }
    }

    impl TerminatingWrite for FaultyFile {
        fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
            // Where it is synced.
            whole(&self.directory, 0)?;
            self.file.terminate_ref(token)
        }
    }
}
