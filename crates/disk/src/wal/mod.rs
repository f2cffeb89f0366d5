//! The write-ahead log: what a write is in before it is answered.
//!
//! A log is a directory of segments. A [`Position`] counts the bytes of all records ever
//! appended, so positions only grow, over segments and restarts, and a record keeps its own for
//! ever. Appending copies a record into a bounded buffer under a short lock; one thread writes
//! the buffer and syncs it, and all who wait share that sync. The bytes are told in
//! `docs/formats/wal.md`.
//!
//! Three rules hold the rest together. A segment is written by one life of the process only, so
//! only the newest segment can have a torn end. A segment is begun only after the one before it
//! is synced. Marks between the records tell what was synced when they were written, so that a
//! torn end, which was never promised to anybody, is told from damage to what was.
//!
//! What fails: a full disk refuses appends ([`WalError::NoSpace`]) until there is room, the
//! records in the buffer stay in their order and are written then. Any other failure of a write
//! or a sync ends the log for this process ([`WalError::Failed`]), since nobody can tell what a
//! failed sync has left on the disk.
//!
//! Reading order: `record` and `segment` (the bytes), `replay` (opening), this file and
//! `writer` (appending), `durable` (waiting).

mod ahead;
mod durable;
mod record;
mod replay;
mod segment;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use ahead::Ahead;
pub use durable::Durable;
pub use replay::{Damage, OnDamage, Recovery, Replayed};
pub use segment::{DiskFiles, SegmentFile, SegmentFiles};

use pilothouse_model::durations::DurationCounts;
use pilothouse_model::limits::WAL_RECORD_BYTES;
use writer::Shared;

/// A place in the log: how many bytes of records and marks came before it, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// When it is synced: neither `kill -9` nor a power cut loses it.
    Ack,
    /// When it is written: `kill -9` does not lose it, a power cut may lose what is younger
    /// than this and the sync itself.
    Interval(Duration),
}

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub sync: SyncMode,
    /// A new segment is begun when one has this size.
    pub segment_bytes: u64,
    /// Records waiting to be written. As many again may be on their way to the disk.
    pub buffer_bytes: usize,
    /// How long [`Wal::append`] waits for room in the buffer.
    pub append_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: SyncMode::Ack,
            segment_bytes: 64 << 20,
            buffer_bytes: 16 << 20,
            append_timeout: Duration::from_secs(10),
        }
    }
}

/// Why the log did not take or give a record. Cheap to clone: all who wait get the same.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The buffer stayed full: the disk is slower than what comes in. Nothing was appended.
    #[error("the write-ahead log's buffer is full")]
    Full,
    /// The disk is full. Appends are refused until there is room; a record that was waiting is
    /// kept and written then, though its waiter got this.
    #[error("no space for the write-ahead log: {0}")]
    NoSpace(Arc<str>),
    /// No segment could be begun, for want of file descriptors or memory. As with
    /// [`WalError::NoSpace`], appends are refused until it works again, and nothing is lost.
    #[error("the write-ahead log waits for resources: {0}")]
    Short(Arc<str>),
    /// A write or sync failed; the log refuses everything until the process is started again.
    #[error("the write-ahead log failed: {0}")]
    Failed(Arc<str>),
    #[error("a record of {bytes} bytes is larger than the write-ahead log takes ({WAL_RECORD_BYTES})")]
    TooLarge { bytes: usize },
    /// Bytes that had been synced are not what was written.
    #[error("{path}: damaged at position {from}: {reason}", path = path.display(), from = damage.from, reason = damage.reason)]
    Damaged { path: PathBuf, damage: Damage },
    #[error("{path} has format version {found}, written by a newer release; this one reads version {known}",
        path = path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },
}

impl WalError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }

    /// Whether the same append may succeed later without a hand.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full | Self::NoSpace(_) | Self::Short(_))
    }
}

impl From<crate::Error> for WalError {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Io { action, path, source } => Self::Io { action, path, source: Arc::new(source) },
            other => Self::Failed(Arc::from(other.to_string())),
        }
    }
}

/// What the log has done and holds, for `/metrics`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// The oldest position still kept, and the one the next record gets at least.
    pub first: Position,
    pub next: Position,
    pub segments: u64,
    /// Length of all segments.
    pub bytes: u64,
    pub buffered_bytes: u64,
    pub appended_records: u64,
    pub appended_bytes: u64,
    /// Groups written; each is one write(2).
    pub groups: u64,
    pub syncs: DurationCounts,
}

/// The log, open for appending. Made by [`Recovery::start`]. Dropping it writes and syncs what
/// is buffered.
#[derive(Debug)]
pub struct Wal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Wal {
    /// Opens the log of a directory, creating it if it is not there. The answer must first be
    /// [replayed](Recovery::replay) and then [started](Recovery::start).
    pub fn open(directory: &Path, options: Options) -> Result<Recovery, WalError> {
        Recovery::open(directory, options, Box::new(DiskFiles))
    }

    /// As [`Wal::open`], with segment files of another make, for tests of what a disk may do.
    pub fn open_with(
        directory: &Path,
        options: Options,
        files: Box<dyn SegmentFiles>,
    ) -> Result<Recovery, WalError> {
        Recovery::open(directory, options, files)
    }

    /// Puts a record at the end of the log and returns its position; the order of appends is
    /// the order of positions. It is not durable yet: see [`Wal::durable`]. Waits for room
    /// while the buffer is full, for at most [`Options::append_timeout`].
    pub fn append(&self, payload: &[u8]) -> Result<Position, WalError> {
        self.shared.append(payload, Some(Instant::now() + self.shared.options.append_timeout))
    }

    /// As [`Wal::append`], but fails with [`WalError::Full`] at once.
    pub fn try_append(&self, payload: &[u8]) -> Result<Position, WalError> {
        self.shared.append(payload, None)
    }

    /// A future that ends when the record at `position` is as durable as [`SyncMode`] says. It
    /// holds no runtime and may outlive the log.
    pub fn durable(&self, position: Position) -> Durable {
        Durable::new(self.shared.clone(), position)
    }

    /// As [`Wal::durable`], blocking the thread.
    pub fn wait(&self, position: Position) -> Result<(), WalError> {
        self.shared.wait_durable(position)
    }

    /// Writes and syncs everything appended so far, whatever the mode; blocks. A store calls it
    /// before it commits elsewhere what must not be ahead of the log.
    pub fn sync(&self) -> Result<(), WalError> {
        self.shared.sync_all()
    }

    /// The position that the next record gets at least: everything appended lies before it.
    pub fn next(&self) -> Position {
        self.shared.next()
    }

    /// Everything before this position is synced.
    pub fn synced(&self) -> Position {
        Position(self.shared.synced.load(Relaxed))
    }

    /// Whether [`Wal::trim`] would remove anything.
    pub fn has_segments_before(&self, before: Position) -> bool {
        self.shared.oldest_before(before).is_some()
    }

    /// Removes the segments whose records all lie before `before`; returns how many.
    pub fn trim(&self, before: Position) -> Result<usize, WalError> {
        self.shared.trim(before)
    }

    /// Removes the log's files when nothing in it is needed any more: the one being written is never
    /// trimmed, and may be as large as a small store. Appends are refused from then on.
    pub fn clear(&self) -> Result<(), WalError> {
        self.shared.clear()
    }

    /// Whether appends are refused, and why.
    pub fn fault(&self) -> Option<WalError> {
        self.shared.fault()
    }

    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has already failed every waiter.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
