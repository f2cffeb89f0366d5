//! What the store has done and holds, for `/metrics` and the status pages.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pilothouse_disk::wal;
use pilothouse_model::write::Appended;

use crate::loaded::CacheStats;
use crate::store::Store;

/// Counted while working.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) floats: AtomicU64,
    pub(crate) histograms: AtomicU64,
    pub(crate) exemplars: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_failures: AtomicU64,
    pub(crate) flushed_samples: AtomicU64,
    pub(crate) flushed_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_samples: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) days_removed: AtomicU64,
    pub(crate) corruptions: AtomicU64,
    pub(crate) series_created: AtomicU64,
    pub(crate) series_removed: AtomicU64,
    pub(crate) replayed_records: AtomicU64,
    pub(crate) replay_ms: AtomicU64,
    pub(crate) worker_panics: AtomicU64,
}

impl Counters {
    pub(crate) fn appended(&self, appended: &Appended) {
        self.requests.fetch_add(1, Relaxed);
        self.floats.fetch_add(appended.floats, Relaxed);
        self.histograms.fetch_add(appended.histograms, Relaxed);
        self.exemplars.fetch_add(appended.exemplars, Relaxed);
        self.rejected.fetch_add(appended.rejected, Relaxed);
    }
}

/// A reading of the store. Counters count since the store was opened.
#[derive(Debug, Clone, Default)]
pub struct StoreStats {
    /// Series in memory: of the head, and of days that are not compacted yet.
    pub series: u64,
    /// Series that got a sample in the last 20 minutes.
    pub active_series: u64,
    pub label_pairs: u64,
    /// Open chunks in memory, and their samples and bytes.
    pub head_chunks: u64,
    pub head_samples: u64,
    pub head_bytes: u64,
    /// First and last time in the head; `None` while it is empty.
    pub head_span_ms: Option<(i64, i64)>,
    pub index_bytes: u64,
    pub key_aliases: u64,
    pub wal: wal::Stats,
    /// Disk blocks in use, without the log.
    pub disk_bytes: u64,
    pub days: u64,
    /// Files of days being written, and of closed days.
    pub open_day_files: u64,
    pub closed_day_files: u64,
    pub exemplars: u64,
    pub metadata_families: u64,
    pub deletions: u64,
    pub appended_requests: u64,
    pub appended_floats: u64,
    pub appended_histograms: u64,
    pub appended_exemplars: u64,
    pub rejected_samples: u64,
    pub series_created: u64,
    pub series_removed: u64,
    pub flushes: u64,
    pub flush_failures: u64,
    pub flushed_samples: u64,
    pub flushed_bytes: u64,
    pub compactions: u64,
    pub compacted_samples: u64,
    pub compacted_bytes: u64,
    pub days_removed: u64,
    /// Damaged pages and stretches of the log that were met.
    pub corruptions: u64,
    pub replayed_records: u64,
    pub replay_ms: u64,
    /// Times that work in the background panicked.
    pub worker_panics: u64,
    pub page_cache: CacheStats,
    pub times_cache: CacheStats,
}

impl Store {
    /// Walks the groups and stats the files: for a scrape, not for a request.
    pub fn stats(&self) -> StoreStats {
        let inner = &*self.inner;
        let mut stats = StoreStats { wal: inner.wal.stats(), ..StoreStats::default() };
        {
            let mut appender = inner.appender.lock();
            appender.active.advance(pilothouse_model::active::minute_of(inner.now_ms()));
            stats.active_series = appender.active.total();
            inner.active_limit.report(stats.active_series);
            stats.key_aliases = appender.keys.len() as u64;
        }
        {
            let registry = inner.registry.read();
            stats.series = registry.len() as u64;
            stats.label_pairs = registry.index.pair_count() as u64;
            stats.index_bytes = registry.index.memory_bytes() as u64;
        }
        self.head_stats(&mut stats);
        self.disk_stats(&mut stats);
        stats.exemplars = inner.exemplars.lock().len() as u64;
        stats.metadata_families = inner.metadata.lock().len() as u64;
        stats.deletions = inner.deletions.all().len() as u64;
        stats.page_cache = inner.pages.stats();
        stats.times_cache = inner.times.stats();
        counted(&inner.counters, &mut stats);
        stats.corruptions += inner.days.damaged();
        stats
    }

    fn head_stats(&self, stats: &mut StoreStats) {
        stats.head_bytes = self.inner.head.heap_bytes();
        for group in self.inner.head.all() {
            let group = group.read();
            let sealing = group.sealing.iter().flat_map(|s| s.series.iter().map(|s| &s.1));
            for open in group.series.iter().map(|s| &s.1.open).chain(sealing) {
                stats.head_chunks += open.chunks() as u64;
                stats.head_samples += open.len() as u64;
                if let Some((first, last)) = open.span() {
                    let span = stats.head_span_ms.unwrap_or((first, last));
                    stats.head_span_ms = Some((span.0.min(first), span.1.max(last)));
                }
            }
        }
    }

    fn disk_stats(&self, stats: &mut StoreStats) {
        let (days, _) = self.inner.days.snapshot();
        stats.days = days.len() as u64;
        stats.disk_bytes = self.inner.catalog.allocated_bytes();
        for day in days.values() {
            stats.open_day_files += day.l0.len() as u64;
            stats.closed_day_files += u64::from(day.l1.is_some());
            stats.disk_bytes += day.l0.iter().map(|f| f.allocated_bytes()).sum::<u64>();
            stats.disk_bytes += day.l1.iter().map(|f| f.allocated_bytes()).sum::<u64>();
        }
    }
}

fn counted(counters: &Counters, stats: &mut StoreStats) {
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    stats.appended_requests = read(&counters.requests);
    stats.appended_floats = read(&counters.floats);
    stats.appended_histograms = read(&counters.histograms);
    stats.appended_exemplars = read(&counters.exemplars);
    stats.rejected_samples = read(&counters.rejected);
    stats.series_created = read(&counters.series_created);
    stats.series_removed = read(&counters.series_removed);
    stats.flushes = read(&counters.flushes);
    stats.flush_failures = read(&counters.flush_failures);
    stats.flushed_samples = read(&counters.flushed_samples);
    stats.flushed_bytes = read(&counters.flushed_bytes);
    stats.compactions = read(&counters.compactions);
    stats.compacted_samples = read(&counters.compacted_samples);
    stats.compacted_bytes = read(&counters.compacted_bytes);
    stats.days_removed = read(&counters.days_removed);
    stats.corruptions += read(&counters.corruptions);
    stats.worker_panics = read(&counters.worker_panics);
    stats.replayed_records = read(&counters.replayed_records);
    stats.replay_ms = read(&counters.replay_ms);
}
