//! How much room the disk has left, looked at now and then.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pilothouse_disk::files;

/// A look costs a system call; in between it is taken that little has changed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Writes are refused a little before the disk is full: what is in memory must still get to the
/// day files, or the log could never be cut.
#[derive(Debug)]
pub(crate) struct Room {
    directory: PathBuf,
    began: Instant,
    /// Milliseconds after `began`.
    next_look: AtomicU64,
    free_bytes: AtomicU64,
    is_low: AtomicBool,
}

impl Room {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            began: Instant::now(),
            next_look: AtomicU64::new(0),
            free_bytes: AtomicU64::new(u64::MAX),
            is_low: AtomicBool::new(false),
        }
    }

    /// The bytes that are free if they are too few.
    pub(crate) fn low(&self) -> Option<u64> {
        let now = self.began.elapsed().as_millis() as u64;
        let due = self.next_look.load(Relaxed);
        let next = now + LOOK_EVERY.as_millis() as u64;
        if now >= due && self.next_look.compare_exchange(due, next, Relaxed, Relaxed).is_ok() {
            self.look();
        }
        self.is_low.load(Relaxed).then(|| self.free_bytes.load(Relaxed))
    }

    fn look(&self) {
        // A disk that does not tell is written to until it fails.
        let space = files::space(&self.directory).ok();
        let low = space.filter(|s| s.free_bytes < s.reserved_bytes() + s.reserved_bytes() / 2);
        self.free_bytes.store(low.map_or(u64::MAX, |s| s.free_bytes), Relaxed);
        if self.is_low.swap(low.is_some(), Relaxed) != low.is_some() {
            match low {
                Some(space) => tracing::error!(
                    free_bytes = space.free_bytes,
                    "the disk is nearly full; writes are refused"
                ),
                None => tracing::info!("the disk has room again"),
            }
        }
    }
}
