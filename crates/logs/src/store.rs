//! The store: what it owns, how it is opened, who works in the background.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use pilothouse_disk::files::DirectoryLock;
use pilothouse_disk::workers::{Rounds, Workers};
use pilothouse_disk::{Position, Wal};
use pilothouse_index::RoaringBitmap;
use pilothouse_model::limits::{LOG_ROOM_WAIT_MS, LiveLimits};
use pilothouse_model::log_ports::{EntrySink, EntrySource, LogAppended, LogStats, StreamVolume};
use pilothouse_model::logs::{LogBatch, LogSelection};
use pilothouse_model::{
    ActiveLimit, Budget, Clock, EntryVisitor, Labels, ReadReport, SourceError, StreamQuery,
};

use crate::append::Appender;
use crate::catalog::Catalog;
use crate::day::set::Days;
use crate::delete::Deletions;
use crate::error::Error;
use crate::flush::Flusher;
use crate::layers::Layers;
use crate::options::{FilterCompiler, StoreOptions};
use crate::registry::Registry;
use crate::seen::Seen;
use crate::stats::Counters;

/// How often the background thread looks around when nothing calls it.
const TICK: Duration = Duration::from_secs(2);

/// One data source's entries.
///
/// Cheap to clone; the last clone to go stops the thread, but only [`Store::close`] brings what
/// is in memory to the disk first. Without it the log brings that back.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    workers: Arc<Workers<Inner>>,
}

/// Locks are taken in this order: flusher, appender, an open group's tail, layers or registry,
/// then any other, each of which is a leaf. Only the appender goes from a tail to the layers.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) limits: LiveLimits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention_ms: AtomicI64,
    pub(crate) active_limit: Arc<ActiveLimit>,
    pub(crate) filters: FilterCompiler,
    pub(crate) wal: Wal,
    pub(crate) appender: Mutex<Appender>,
    pub(crate) registry: RwLock<Registry>,
    pub(crate) layers: RwLock<Layers>,
    pub(crate) days: Days,
    /// Which streams each day has on the disk, or is about to have.
    pub(crate) day_streams: RwLock<BTreeMap<i32, RoaringBitmap>>,
    /// Days that were dropped to make room, with what the log had of them before a position.
    pub(crate) dropped: RwLock<BTreeMap<i32, Position>>,
    pub(crate) catalog: Catalog,
    pub(crate) deletions: Deletions,
    pub(crate) flusher: Flusher,
    pub(crate) counters: Counters,
    /// Streams of blocks that were decoded to find duplicates in.
    pub(crate) seen: Mutex<Seen>,
    /// Bytes of lines that are cut and not encoded, or encoded and not committed.
    pub(crate) waiting_bytes: AtomicUsize,
    /// Ends long work in the background.
    pub(crate) stopping: AtomicBool,
    #[cfg(test)]
    pub(crate) crash_points: Mutex<Option<crate::tests::CrashPoints>>,
    pub(crate) _lock: DirectoryLock,
}

impl Inner {
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Entries before this time are refused and not shown.
    pub(crate) fn oldest_ns(&self, now_ms: i64) -> i64 {
        oldest_ns(self.retention_ms.load(Relaxed), now_ms)
    }

    /// Waits while more lines wait for the disk than memory is meant for; refuses when that
    /// does not get better.
    pub(crate) fn wait_for_room(&self) -> Result<(), SourceError> {
        let limit = self.limits.now().log_tail_bytes.max(16 << 20) as usize;
        if self.waiting_bytes.load(Relaxed) <= limit {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_millis(LOG_ROOM_WAIT_MS);
        self.flusher.wake();
        while self.waiting_bytes.load(Relaxed) > limit {
            if Instant::now() >= deadline || self.is_stopping() || self.flusher.has_failed() {
                let text = "the lines in memory are over their limit because the disk does not take them";
                return Err(SourceError::NotWritable(text.into()));
            }
            self.flusher.wait_for_progress(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A place where a test may stop the store as a crash would.
    #[inline]
    pub(crate) fn crash_point(&self, name: &str) {
        #[cfg(test)]
        if let Some(points) = &*self.crash_points.lock() {
            points.reached(name);
        }
        let _ = name;
    }
}

/// The first time that a retention keeps; zero or less keeps everything.
pub(crate) fn oldest_ns(retention_ms: i64, now_ms: i64) -> i64 {
    match retention_ms {
        ..=0 => i64::MIN,
        _ => now_ms.saturating_sub(retention_ms).saturating_mul(1_000_000),
    }
}

// ---- opening and closing ----

impl Store {
    /// Opens the store of a directory, creating it if it is not there. Reads the catalog and the
    /// log: up to some seconds after a crash.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<Self, Error> {
        let background = options.background;
        let inner = Arc::new(crate::recover::open(directory, options)?);
        let workers = Arc::new(Workers::of(&inner));
        if background {
            let name = "logs-flush";
            workers.start(name, flush_round).map_err(|source| Error::Thread { name, source })?;
        }
        Ok(Self { inner, workers })
    }

    /// Refuses writes from now on, brings everything to the disk, stops the thread. Queries go
    /// on being answered.
    pub fn close(&self) -> Result<(), Error> {
        self.inner.appender.lock().closed = true;
        self.workers.stop();
        match self.inner.flush_last() {
            Err(Error::Disk(error)) if error.is_no_space() => {
                tracing::warn!(%error, "there is no room to write out what is in memory; the next start reads it from the log");
                Ok(())
            }
            flushed => flushed,
        }
    }

    /// From now on entries older than this are refused and not shown; their days go with the next
    /// round in the background. 0 keeps for ever.
    pub fn set_retention_ms(&self, retention_ms: i64) {
        self.inner.retention_ms.store(retention_ms, Relaxed);
    }

    /// Cuts all groups and brings everything that is in memory to the disk.
    pub fn flush(&self) -> Result<(), Error> {
        self.inner.flush_all()
    }

    /// What the background thread does, once: cut what is due, encode and commit, make deletions
    /// real, drop days older than retention.
    pub fn maintain(&self) -> Result<(), Error> {
        self.inner.work(true)
    }

    /// Runs `work` while the files of the store are as a crash would leave them, but for the log,
    /// which grows: they can be copied, the log last. Lines stay in memory meanwhile.
    pub fn standing_still<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let _working = self.inner.flusher.work.lock();
        self.inner.catalog.standing_still(work)
    }

    /// The first day that has data on the disk, in days since 1970.
    pub fn oldest_day(&self) -> Option<i32> {
        self.inner.days.all().first().map(|day| day.number)
    }

    /// Removes a day with all that is in it, whatever the retention, to make room on the disk.
    pub fn drop_day(&self, day: i32) -> Result<(), Error> {
        self.inner.drop_day(day)
    }

    /// As [`EntrySink::append`], for the process' own lines: such streams do not count towards
    /// the limit of active ones.
    pub fn append_internal(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.inner.append(batch, true, &mut Vec::new())
    }

    /// The same store as a sink of the process' own lines.
    pub fn internal_sink(&self) -> InternalSink {
        InternalSink(self.clone())
    }
}

/// Appends as [`Store::append_internal`] does.
#[derive(Debug, Clone)]
pub struct InternalSink(Store);

impl EntrySink for InternalSink {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.0.append_internal(batch)
    }

    fn append_noting(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> Result<LogAppended, SourceError> {
        self.0.inner.append(batch, true, skipped)
    }
}

impl EntrySink for Store {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.inner.append(batch, false, &mut Vec::new())
    }

    fn append_noting(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> Result<LogAppended, SourceError> {
        self.inner.append(batch, false, skipped)
    }
}

impl EntrySource for Store {
    fn read(
        &self,
        selection: &LogSelection,
        visitor: &dyn EntryVisitor,
        budget: &Budget,
    ) -> Result<ReadReport, SourceError> {
        Ok(crate::read::read(&self.inner, selection, visitor, budget)?)
    }

    fn label_names(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        Ok(self.inner.label_names(query, budget)?)
    }

    fn label_values(
        &self,
        name: &str,
        query: &StreamQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        Ok(self.inner.label_values(name, query, budget)?)
    }

    fn streams(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError> {
        Ok(self.inner.streams(query, budget)?)
    }

    fn stats(&self, query: &StreamQuery, budget: &Budget) -> Result<LogStats, SourceError> {
        Ok(self.inner.log_stats(query, budget)?)
    }

    fn volume(
        &self,
        query: &StreamQuery,
        period_ns: i64,
        budget: &Budget,
    ) -> Result<Vec<StreamVolume>, SourceError> {
        Ok(self.inner.volume(query, period_ns, budget)?)
    }
}

// ---- background ----

impl Rounds for Inner {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    fn stop(&self) {
        self.flusher.stop(&self.stopping);
    }

    fn after_panic(&self) {
        self.counters.worker_panics.fetch_add(1, Relaxed);
        self.flusher.pause(30 * TICK, &self.stopping);
    }
}

fn flush_round(inner: &Inner) {
    inner.flusher.wait(TICK, &inner.stopping);
    match inner.work(false) {
        // Given up because the store is being closed: what is left is in the log.
        Ok(()) | Err(Error::Closed) => {}
        Err(error) => {
            tracing::error!(%error, "cannot bring lines to the disk; they stay in memory and in the log");
            inner.flusher.pause(TICK, &inner.stopping);
        }
    }
}
