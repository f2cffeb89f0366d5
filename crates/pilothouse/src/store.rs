//! The series store as the HTTP side knows it.

use pilothouse_api::{Family, HeadFigures, StoreAdmin};
use pilothouse_metrics::{Store, StoreOptions, StoreStats};
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::{Matcher, SourceError};

pub(crate) fn options(limits: &LiveLimits, retention_ms: i64) -> StoreOptions {
    StoreOptions { limits: limits.clone(), retention_ms, ..StoreOptions::default() }
}

pub(crate) struct Admin(pub(crate) Store);

impl StoreAdmin for Admin {
    fn head(&self) -> HeadFigures {
        let stats = self.0.stats();
        let (min_time_ms, max_time_ms) = stats.head_span_ms.unwrap_or_default();
        HeadFigures { chunks: stats.head_chunks, min_time_ms, max_time_ms }
    }

    fn delete(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<(), SourceError> {
        self.0.delete_series(&[matchers.to_vec()], start_ms, end_ms)
    }

    fn families(&self) -> Vec<Family> {
        families(&self.0.stats())
    }
}

/// The store's figures under the names that are scraped.
fn families(stats: &StoreStats) -> Vec<Family> {
    let mut families = Vec::new();
    for (name, help, value) in [
        ("pilothouse_store_series", "Series in memory.", stats.series),
        (
            "pilothouse_store_active_series",
            "Series with a sample in the last 20 minutes.",
            stats.active_series,
        ),
        ("pilothouse_store_label_pairs", "Pairs of label name and value in the index.", stats.label_pairs),
        ("pilothouse_store_index_bytes", "Memory of the index.", stats.index_bytes),
        ("pilothouse_store_head_chunks", "Open chunks in memory.", stats.head_chunks),
        ("pilothouse_store_head_samples", "Samples of the open chunks.", stats.head_samples),
        ("pilothouse_store_head_bytes", "Memory of the open chunks.", stats.head_bytes),
        ("pilothouse_store_disk_bytes", "Disk space in use, without the log.", stats.disk_bytes),
        ("pilothouse_store_partitions", "Days with data on the disk.", stats.days),
        ("pilothouse_store_open_day_files", "Files of days that are being written.", stats.open_day_files),
        ("pilothouse_store_closed_day_files", "Files of closed days.", stats.closed_day_files),
        ("pilothouse_store_exemplars", "Exemplars kept.", stats.exemplars),
        ("pilothouse_store_metadata_families", "Families whose metadata is kept.", stats.metadata_families),
        ("pilothouse_store_deletions", "Deletions that hold.", stats.deletions),
        ("pilothouse_store_page_cache_bytes", "Memory of decoded pages.", stats.page_cache.bytes),
    ] {
        families.push(Family::gauge(name, help).value(value as f64));
    }
    families.extend(counters(stats));
    families.extend(log(stats));
    families
}

/// The write-ahead log.
fn log(stats: &StoreStats) -> [Family; 6] {
    let wal = &stats.wal;
    [
        Family::gauge("pilothouse_wal_segments", "Files of the log.").value(wal.segments as f64),
        Family::gauge("pilothouse_wal_size_bytes", "Length of the log.").value(wal.bytes as f64),
        Family::counter("pilothouse_wal_records_total", "Records appended.")
            .value(wal.appended_records as f64),
        Family::counter("pilothouse_wal_written_bytes_total", "Bytes appended.")
            .value(wal.appended_bytes as f64),
        Family::counter("pilothouse_wal_groups_total", "Groups of records written together.")
            .value(wal.groups as f64),
        Family::histogram("pilothouse_wal_sync_duration_seconds", "Time of one fsync.")
            .distribution(&[], wal.syncs.into()),
    ]
}

fn counters(stats: &StoreStats) -> Vec<Family> {
    [
        ("pilothouse_store_append_requests_total", "Batches appended.", stats.appended_requests),
        ("pilothouse_store_series_created_total", "Series met for the first time.", stats.series_created),
        ("pilothouse_store_series_removed_total", "Series forgotten.", stats.series_removed),
        ("pilothouse_store_flushes_total", "Times that sealed chunks went to the disk.", stats.flushes),
        ("pilothouse_store_flush_failures_total", "Times that failed.", stats.flush_failures),
        ("pilothouse_store_flushed_samples_total", "Samples that went to the disk.", stats.flushed_samples),
        ("pilothouse_store_flushed_bytes_total", "Bytes that they took.", stats.flushed_bytes),
        ("pilothouse_store_compactions_total", "Days compacted.", stats.compactions),
        ("pilothouse_store_compacted_samples_total", "Samples compacted.", stats.compacted_samples),
        ("pilothouse_store_compacted_bytes_total", "Bytes that they took.", stats.compacted_bytes),
        ("pilothouse_store_partitions_removed_total", "Days removed by retention.", stats.days_removed),
        ("pilothouse_store_corruptions_total", "Damaged places met.", stats.corruptions),
        ("pilothouse_store_panics_total", "Panics of work in the background.", stats.worker_panics),
        (
            "pilothouse_store_replayed_records_total",
            "Records of the log read at the start.",
            stats.replayed_records,
        ),
        ("pilothouse_store_page_cache_hits_total", "Pages found in memory.", stats.page_cache.hits),
        ("pilothouse_store_page_cache_misses_total", "Pages read from the disk.", stats.page_cache.misses),
    ]
    .map(|(name, help, value)| Family::counter(name, help).value(value as f64))
    .into()
}
