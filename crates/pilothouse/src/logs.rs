//! The entry store as the HTTP side knows it.

use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_api::{App, DeletionError, Family, KnownDeletion, LogDeletion, LogsAdmin, LogsBackend};
use pilothouse_control::SourceId;
use pilothouse_logql::{LogPipeline, LogqlError, parse_log};
use pilothouse_logs::{
    DeletionRequest, Error, FilterCompiler, LinePredicate, Store, StoreOptions, StoreStats,
};
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::log_ports::LogAppended;
use pilothouse_model::{EntrySink, Labels, LogBatch, SourceError};

pub(crate) fn options(limits: &LiveLimits, retention_ms: i64) -> StoreOptions {
    StoreOptions {
        limits: limits.clone(),
        retention_ms,
        filters: FilterCompiler(Arc::new(|filter| predicate(filter).map_err(|e| e.to_string()))),
        ..StoreOptions::default()
    }
}

/// Whether an entry passes the stages of a deletion. Deletions are few and apply to few blocks, so
/// one pipeline behind a lock serves all threads.
fn predicate(filter: &str) -> Result<LinePredicate, LogqlError> {
    let mut log = parse_log(&format!("{{any=\"stream\"}} {filter}"))?;
    log.matchers.clear();
    let pipeline = Mutex::new(LogPipeline::new(&log)?);
    Ok(Arc::new(move |labels, line, metadata| {
        let none = Labels::default();
        pipeline.lock().process(labels, 0, line, metadata.unwrap_or(&none)).is_some()
    }))
}

pub(crate) fn backend(store: &Store) -> LogsBackend {
    LogsBackend {
        source: Arc::new(store.clone()),
        sink: Arc::new(store.clone()),
        admin: Arc::new(Admin(store.clone())),
    }
}

/// Where the server writes its own lines: who follows their data source is told of them.
pub(crate) struct OwnLines {
    pub(crate) app: Arc<App>,
    pub(crate) source: SourceId,
    pub(crate) store: Store,
}

impl EntrySink for OwnLines {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.app.telling(self.source, Arc::new(self.store.internal_sink())).append(batch)
    }
}

struct Admin(Store);

impl LogsAdmin for Admin {
    fn delete(&self, deletion: &LogDeletion) -> Result<u64, DeletionError> {
        let LogDeletion { matchers, start_ns, end_ns, filter, query } = deletion.clone();
        let request = DeletionRequest { matchers, start_ns, end_ns, filter, query };
        self.0.delete(&request).map_err(|e| match e {
            Error::BadDeletion(text) => DeletionError::Refused(text),
            other => SourceError::from(other).into(),
        })
    }

    fn deletions(&self) -> Vec<KnownDeletion> {
        let shown = |d: pilothouse_logs::Deletion| KnownDeletion {
            id: d.id,
            created_ms: d.created_ms,
            start_ns: d.start_ns,
            end_ns: d.end_ns,
            query: d.query,
            done: d.done,
        };
        self.0.deletions().into_iter().map(shown).collect()
    }

    fn cancel_deletion(&self, id: u64) -> Result<bool, SourceError> {
        Ok(self.0.cancel_deletion(id)?)
    }

    fn families(&self) -> Vec<Family> {
        families(&self.0.stats())
    }
}

/// The store's figures under the names that are scraped.
fn families(stats: &StoreStats) -> Vec<Family> {
    let gauges = [
        ("pilothouse_logs_streams", "Streams with entries within retention.", stats.streams),
        (
            "pilothouse_logs_active_streams",
            "Streams with an entry in the last 30 minutes.",
            stats.active_streams,
        ),
        ("pilothouse_logs_index_bytes", "Memory of the index of streams.", stats.index_bytes),
        ("pilothouse_logs_tail_entries", "Entries that are in no block yet.", stats.tail_entries),
        ("pilothouse_logs_tail_bytes", "Bytes of those entries.", stats.tail_bytes),
        ("pilothouse_logs_fresh_blocks", "Blocks that are not committed yet.", stats.fresh_blocks),
        ("pilothouse_logs_disk_bytes", "Disk space in use, without the log.", stats.disk_bytes),
        ("pilothouse_logs_partitions", "Days with data on the disk.", stats.days),
        ("pilothouse_logs_pending_deletions", "Deletions that are not done.", stats.pending_deletions),
    ];
    let counters = [
        ("pilothouse_logs_streams_created_total", "Streams met for the first time.", stats.streams_created),
        ("pilothouse_logs_commits_total", "Times that blocks went to the disk.", stats.commits),
        ("pilothouse_logs_flush_failures_total", "Times that failed.", stats.flush_failures),
        ("pilothouse_logs_committed_blocks_total", "Blocks that went to the disk.", stats.committed_blocks),
        ("pilothouse_logs_committed_entries_total", "Entries in those blocks.", stats.committed_entries),
        ("pilothouse_logs_committed_raw_bytes_total", "Bytes of those entries.", stats.committed_raw_bytes),
        ("pilothouse_logs_committed_bytes_total", "Bytes that the blocks took.", stats.committed_bytes),
        ("pilothouse_logs_partitions_removed_total", "Days removed by retention.", stats.days_removed),
        ("pilothouse_logs_corruptions_total", "Damaged places met.", stats.corruptions),
        ("pilothouse_logs_panics_total", "Panics of work in the background.", stats.worker_panics),
    ];
    let gauges = gauges.map(|(name, help, value)| Family::gauge(name, help).value(value as f64));
    let counters = counters.map(|(name, help, value)| Family::counter(name, help).value(value as f64));
    let log = [
        Family::gauge("pilothouse_logs_wal_size_bytes", "Length of the log.").value(stats.wal.bytes as f64),
        Family::histogram("pilothouse_logs_wal_sync_duration_seconds", "Time of one fsync.")
            .distribution(&[], stats.wal.syncs.into()),
    ];
    gauges.into_iter().chain(counters).chain(log).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_judge_lines_as_queries_do() {
        let labels = Labels::from_pairs([("app", "x")]);
        for (filter, line, means) in [
            ("|= \"secret\"", "a secret", true),
            ("|= \"secret\"", "nothing", false),
            ("| json | level=\"debug\"", "{\"level\":\"debug\"}", true),
            ("| json | level=\"debug\"", "{\"level\":\"info\"}", false),
        ] {
            let predicate = predicate(filter).unwrap();
            assert_eq!(predicate(&labels, line, None), means, "{filter} {line}");
        }
        assert!(predicate("| nonsense !").is_err());
    }
}
