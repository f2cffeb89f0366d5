//! Where a backup may lie.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::BackupError;

const COPY_BYTES: usize = 1 << 20;

/// Holds the copies of a backup by name, and one manifest. Names have `/` between their parts.
pub trait Place: fmt::Debug + Send {
    /// For messages.
    fn shown(&self) -> String;

    /// Whether writing to it takes so long that nobody should wait meanwhile.
    fn is_far(&self) -> bool;

    /// Gets ready to be written to. Fails with [`BackupError::NotEmpty`] where there is something,
    /// but no manifest, and it is not what a broken-off first run has left.
    fn begin(&mut self) -> Result<(), BackupError>;

    /// The manifest as it was committed last, `None` where there is none.
    fn manifest(&mut self) -> Result<Option<Vec<u8>>, BackupError>;

    /// The lengths of all copies, in bytes.
    fn copies(&mut self) -> Result<BTreeMap<String, u64>, BackupError>;

    /// Stores a file under a name. It lasts when [`Place::commit`] has returned.
    fn put(&mut self, name: &str, from: &Path, progress: &Progress) -> Result<Copied, BackupError>;

    /// Writes a copy to somewhere. Fails with [`BackupError::Damaged`] where there is none.
    fn get(&mut self, name: &str, to: &mut dyn Write, progress: &Progress) -> Result<Copied, BackupError>;

    /// The permissions that a copy has kept, where it has.
    fn permissions(&mut self, name: &str) -> Option<Permissions>;

    /// Replaces the manifest in one step.
    fn commit(&mut self, manifest: &[u8]) -> Result<(), BackupError>;

    fn remove(&mut self, name: &str) -> Result<(), BackupError>;
}

/// What went through on the way from one place to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    pub crc32c: u32,
}

impl Copied {
    /// Counts bytes that come next.
    pub fn add(&mut self, part: &[u8]) {
        self.crc32c = crc32c::crc32c_append(self.crc32c, part);
        self.bytes += part.len() as u64;
    }
}

/// How far a run is, for others to look at while it goes on. In bytes; the whole is what was there
/// when it began, so that there may be some more or less in the end.
#[derive(Debug, Default)]
pub struct Progress {
    done_bytes: AtomicU64,
    whole_bytes: AtomicU64,
}

impl Progress {
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Relaxed)
    }

    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes.load(Relaxed)
    }

    pub fn add_done(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Relaxed);
    }

    pub fn add_whole(&self, bytes: u64) {
        self.whole_bytes.fetch_add(bytes, Relaxed);
    }

    /// Back to the start, for the next run.
    pub fn reset(&self) {
        self.done_bytes.store(0, Relaxed);
        self.whole_bytes.store(0, Relaxed);
    }
}

/// Copies all there is, counting.
pub(super) fn pour(from: &mut dyn Read, to: &mut dyn Write, progress: &Progress) -> io::Result<Copied> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut copied = Copied::default();
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let part = buffer.get(..read).unwrap_or_default();
        copied.add(part);
        to.write_all(part)?;
        progress.add_done(read as u64);
    }
}
