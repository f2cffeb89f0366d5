//! What the store has done and holds, for `/metrics` and the status pages.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pilothouse_disk::wal;
use pilothouse_model::active::minute_of;
use pilothouse_model::log_ports::LogAppended;

use crate::day::one::Change;
use crate::store::Store;

/// Counted while working.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    duplicates: AtomicU64,
    rejected: AtomicU64,
    pub(crate) streams_created: AtomicU64,
    pub(crate) streams_removed: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) flush_failures: AtomicU64,
    committed_blocks: AtomicU64,
    committed_entries: AtomicU64,
    committed_raw_bytes: AtomicU64,
    committed_bytes: AtomicU64,
    pub(crate) days_removed: AtomicU64,
    pub(crate) corruptions: AtomicU64,
    pub(crate) replayed_records: AtomicU64,
    pub(crate) replay_ms: AtomicU64,
    pub(crate) worker_panics: AtomicU64,
}

impl Counters {
    pub(crate) fn appended(&self, appended: &LogAppended) {
        self.requests.fetch_add(1, Relaxed);
        self.entries.fetch_add(appended.entries, Relaxed);
        self.bytes.fetch_add(appended.bytes, Relaxed);
        self.duplicates.fetch_add(appended.duplicates, Relaxed);
        self.rejected.fetch_add(appended.rejected, Relaxed);
    }

    pub(crate) fn committed(&self, change: &Change<'_>) {
        for block in &change.blocks {
            self.committed_blocks.fetch_add(1, Relaxed);
            self.committed_entries.fetch_add(u64::from(block.row.entries), Relaxed);
            self.committed_raw_bytes.fetch_add(block.row.bytes, Relaxed);
            let bytes = block.head.len() + block.body.len() + block.metadata.len();
            self.committed_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }
}

/// A reading of the store. Counters count since the store was opened.
#[derive(Debug, Clone, Default)]
pub struct StoreStats {
    /// Streams that have entries within retention.
    pub streams: u64,
    /// Streams that got an entry in the last 30 minutes.
    pub active_streams: u64,
    pub label_pairs: u64,
    pub index_bytes: u64,
    /// Entries in memory that are in no block yet, and their bytes.
    pub tail_entries: u64,
    pub tail_bytes: u64,
    /// First and last time of them; `None` while there is none.
    pub tail_span_ns: Option<(i64, i64)>,
    /// Blocks in memory that are not committed yet, and their bytes.
    pub fresh_blocks: u64,
    pub fresh_bytes: u64,
    pub wal: wal::Stats,
    /// Disk blocks in use, without the log.
    pub disk_bytes: u64,
    pub days: u64,
    /// Days whose tables are in memory, their blocks and bytes.
    pub loaded_days: u64,
    pub loaded_blocks: u64,
    pub loaded_bytes: u64,
    /// Deletions that are not done.
    pub pending_deletions: u64,
    pub appended_requests: u64,
    pub appended_entries: u64,
    pub appended_bytes: u64,
    pub duplicate_entries: u64,
    pub rejected_entries: u64,
    pub streams_created: u64,
    pub streams_removed: u64,
    pub commits: u64,
    pub flush_failures: u64,
    pub committed_blocks: u64,
    pub committed_entries: u64,
    /// Bytes of lines and metadata in committed blocks, and what they took.
    pub committed_raw_bytes: u64,
    pub committed_bytes: u64,
    pub days_removed: u64,
    /// Damaged days, parts, blocks and stretches of the log that were met.
    pub corruptions: u64,
    pub replayed_records: u64,
    pub replay_ms: u64,
    /// Times that work in the background panicked.
    pub worker_panics: u64,
}

impl Store {
    /// Walks the groups and stats the files: for a scrape, not for a request.
    pub fn stats(&self) -> StoreStats {
        let inner = &*self.inner;
        let mut stats = StoreStats { wal: inner.wal.stats(), ..StoreStats::default() };
        {
            let mut appender = inner.appender.lock();
            appender.active.advance(minute_of(inner.now_ms()));
            stats.active_streams = appender.active.total();
            inner.active_limit.report(stats.active_streams);
        }
        {
            let registry = inner.registry.read();
            stats.streams = registry.len() as u64;
            stats.label_pairs = registry.index.pair_count() as u64;
            stats.index_bytes = registry.index.memory_bytes() as u64;
        }
        self.memory_stats(&mut stats);
        self.disk_stats(&mut stats);
        stats.pending_deletions = inner.deletions.pending();
        counted(&inner.counters, &mut stats);
        stats.corruptions += inner.days.damaged();
        stats
    }

    fn memory_stats(&self, stats: &mut StoreStats) {
        let layers = self.inner.layers.read().clone();
        for group in layers.open.iter().chain(layers.cuts.iter().map(|c| &c.tail)) {
            let tail = group.tail.read();
            stats.tail_entries += tail.entries as u64;
            stats.tail_bytes += tail.heap_bytes() as u64;
            for stream in tail.streams.iter().filter(|s| s.entries > 0) {
                let (first, last) = stats.tail_span_ns.unwrap_or((stream.first_ns, stream.last_ns));
                stats.tail_span_ns = Some((first.min(stream.first_ns), last.max(stream.last_ns)));
            }
        }
        stats.fresh_blocks = layers.fresh.len() as u64;
        stats.fresh_bytes = layers.fresh.iter().map(|b| b.heap_bytes() as u64).sum();
    }

    fn disk_stats(&self, stats: &mut StoreStats) {
        stats.disk_bytes = self.inner.catalog.allocated_bytes();
        for day in self.inner.days.all() {
            stats.days += 1;
            stats.disk_bytes += day.disk_bytes();
            if let Some(view) = day.loaded() {
                stats.loaded_days += 1;
                stats.loaded_blocks += view.block_count() as u64;
                stats.loaded_bytes += view.heap_bytes() as u64;
            }
        }
    }
}

fn counted(counters: &Counters, stats: &mut StoreStats) {
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    stats.appended_requests = read(&counters.requests);
    stats.appended_entries = read(&counters.entries);
    stats.appended_bytes = read(&counters.bytes);
    stats.duplicate_entries = read(&counters.duplicates);
    stats.rejected_entries = read(&counters.rejected);
    stats.streams_created = read(&counters.streams_created);
    stats.streams_removed = read(&counters.streams_removed);
    stats.commits = read(&counters.commits);
    stats.flush_failures = read(&counters.flush_failures);
    stats.committed_blocks = read(&counters.committed_blocks);
    stats.committed_entries = read(&counters.committed_entries);
    stats.committed_raw_bytes = read(&counters.committed_raw_bytes);
    stats.committed_bytes = read(&counters.committed_bytes);
    stats.days_removed = read(&counters.days_removed);
    stats.corruptions = read(&counters.corruptions);
    stats.replayed_records = read(&counters.replayed_records);
    stats.replay_ms = read(&counters.replay_ms);
    stats.worker_panics = read(&counters.worker_panics);
}
