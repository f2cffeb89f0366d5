//! What the visitors of a query share: a pool of per-thread states, and counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use pilothouse_model::ReadReport;

use crate::result::QueryStats;

/// States that threads take for a batch and give back.
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(crate) fn with<R>(&self, make: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let taken = self.0.lock().pop();
        let mut state = taken.unwrap_or_else(make);
        let result = work(&mut state);
        self.0.lock().push(state);
        result
    }

    pub(crate) fn into_all(self) -> Vec<T> {
        self.0.into_inner()
    }
}

/// What one thread has counted for itself: runs are so many that threads would wait for each
/// other's counters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OwnTally {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    lines: AtomicU64,
    bytes: AtomicU64,
    passed: AtomicU64,
}

impl Tally {
    pub(crate) fn add(&self, lines: usize, bytes: usize, passed: usize) {
        self.lines.fetch_add(lines as u64, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.passed.fetch_add(passed as u64, Relaxed);
    }

    /// Adds entries that no filter was asked about.
    pub(crate) fn absorb(&mut self, own: OwnTally) {
        *self.lines.get_mut() += own.entries;
        *self.bytes.get_mut() += own.bytes;
        *self.passed.get_mut() += own.entries;
    }

    pub(crate) fn into_stats(self, report: ReadReport) -> QueryStats {
        QueryStats {
            streams: report.streams,
            lines: self.lines.into_inner(),
            bytes: self.bytes.into_inner(),
            lines_after_filter: self.passed.into_inner(),
            blocks: report.blocks,
            blocks_pruned: report.blocks_pruned,
            decompressed_bytes: report.decompressed_bytes,
            entries_returned: 0,
            exec_ns: 0,
        }
    }
}

impl QueryStats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.streams += other.streams;
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.lines_after_filter += other.lines_after_filter;
        self.blocks += other.blocks;
        self.blocks_pruned += other.blocks_pruned;
        self.decompressed_bytes += other.decompressed_bytes;
    }
}
