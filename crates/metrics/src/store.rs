//! The store: what it owns, how it is opened, who works in the background.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pilothouse_disk::Wal;
use pilothouse_disk::files::DirectoryLock;
use pilothouse_disk::workers::{Rounds, Workers};
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::{Exemplar, LabelQuery};
use pilothouse_model::write::{Appended, MetadataEntry, WriteBatch};
use pilothouse_model::{
    ActiveLimit, Budget, Clock, Labels, SampleSink, SelectedSeries, Selection, SeriesSource, SourceError,
};

use crate::append::Appender;
use crate::catalog::Catalog;
use crate::compact::Compaction;
use crate::day::set::Days;
use crate::delete::Deletions;
use crate::error::Error;
use crate::exemplars::Exemplars;
use crate::flush::Flusher;
use crate::head::Head;
use crate::loaded::{Cache, LoadedPage, TimesList};
use crate::metadata::Metadata;
use crate::options::StoreOptions;
use crate::registry::Registry;
use crate::room::Room;
use crate::stats::Counters;

/// How often the background thread looks around when nothing calls it.
const TICK: Duration = Duration::from_secs(2);

/// One data source's series.
///
/// Cheap to clone; the last clone to go stops the threads, but only [`Store::close`] seals what
/// is in memory first. Without it the log brings that back.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    workers: Arc<Workers<Inner>>,
}

/// Locks are taken in this order: flusher, appender, a group, registry, then any other, each of
/// which is a leaf.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) limits: LiveLimits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention_ms: AtomicI64,
    pub(crate) active_limit: Arc<ActiveLimit>,
    pub(crate) wal: Wal,
    pub(crate) appender: Mutex<Appender>,
    pub(crate) registry: RwLock<Registry>,
    pub(crate) head: Head,
    pub(crate) days: Days,
    pub(crate) catalog: Catalog,
    pub(crate) exemplars: Mutex<Exemplars>,
    pub(crate) metadata: Mutex<Metadata>,
    pub(crate) deletions: Deletions,
    pub(crate) flusher: Flusher,
    pub(crate) pages: Cache<LoadedPage>,
    pub(crate) times: Cache<TimesList>,
    pub(crate) counters: Counters,
    pub(crate) next_flush: AtomicU32,
    pub(crate) next_deletion: AtomicU32,
    /// No sample that was on the disk when the store was opened is newer; beyond it the head
    /// knows the newest sample of a series.
    pub(crate) floor_ms: AtomicI64,
    pub(crate) room: Room,
    /// One compaction at a time.
    pub(crate) compacting: Mutex<Compaction>,
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

    /// Samples before this time are refused and not shown.
    pub(crate) fn oldest_ms(&self, now_ms: i64) -> i64 {
        match self.retention_ms.load(Relaxed) {
            ..=0 => i64::MIN,
            retention_ms => now_ms.saturating_sub(retention_ms),
        }
    }

    pub(crate) fn next_flush(&self) -> u32 {
        self.next_flush.fetch_add(1, Relaxed)
    }

    /// The flush that was begun last.
    pub(crate) fn last_flush(&self) -> u32 {
        self.next_flush.load(Relaxed).saturating_sub(1)
    }

    pub(crate) fn check_writable(&self) -> Result<(), SourceError> {
        if let Some(free_bytes) = self.room.low() {
            let text = format!(
                "no space left on the disk: {} MiB are free, which are kept for what is stored already",
                free_bytes >> 20
            );
            return Err(SourceError::NotWritable(text.into()));
        }
        // Twice what it may hold: flushing is far behind then.
        let ceiling = self.limits.now().head_memory_bytes.max(64 << 20).saturating_mul(2);
        if self.head.heap_bytes() > ceiling {
            self.flusher.wake();
            let text = "the samples in memory are over their limit because the disk does not take them";
            return Err(SourceError::NotWritable(text.into()));
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

// ---- opening and closing ----

impl Store {
    /// Opens the store of a directory, creating it if it is not there. Reads the catalog and the
    /// log: up to some seconds after a crash.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<Self, Error> {
        let background = options.background;
        let inner = Arc::new(crate::recover::open(directory, options)?);
        let workers = Arc::new(Workers::of(&inner));
        if background {
            let rounds = [("metrics-flush", flush_round as fn(&Inner)), ("metrics-compact", compact_round)];
            for (name, round) in rounds {
                workers.start(name, round).map_err(|e| Error::thread(name, e))?;
            }
        }
        Ok(Self { inner, workers })
    }

    /// Refuses writes from now on, seals and flushes everything, stops the threads. Queries go
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

    /// From now on samples older than this are refused and not shown; their days go with the next
    /// round in the background. 0 keeps for ever.
    pub fn set_retention_ms(&self, retention_ms: i64) {
        self.inner.retention_ms.store(retention_ms, Relaxed);
    }

    /// Seals and flushes everything that is in memory.
    pub fn seal_all(&self) -> Result<(), Error> {
        self.inner.flush_all()
    }

    /// Seals, compacts every day that has something to compact, and drops what is over.
    pub fn compact_now(&self) -> Result<(), Error> {
        self.inner.flush_all()?;
        self.inner.compact_days(true)
    }

    /// What the background threads do, once: flush what is due, compact days that are over, drop
    /// days older than retention.
    pub fn maintain(&self) -> Result<(), Error> {
        self.inner.flush_due()?;
        self.inner.compact_days(false)
    }

    /// Runs `work` while the files of the store are as a crash would leave them, but for the log,
    /// which grows: they can be copied, the log last. Samples stay in memory meanwhile.
    pub fn standing_still<T>(&self, work: impl FnOnce() -> T) -> T {
        let _compaction = self.inner.compacting.lock();
        let _unfinished = self.inner.flusher.unfinished.lock();
        work()
    }

    /// The first day that has data on the disk, in days since 1970.
    pub fn oldest_day(&self) -> Option<i32> {
        self.inner.days.snapshot().0.first_key_value().map(|(day, _)| *day)
    }

    /// Removes the data of all days up to and including this one, whatever the retention, to make
    /// room on the disk.
    pub fn drop_days_through(&self, day: i32) -> Result<(), Error> {
        self.inner.drop_days_through(day)
    }

    /// As [`SampleSink::append`], for the process' own figures: such series do not count towards
    /// the limit of active ones.
    pub fn append_internal(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        self.inner.append(batch, true)
    }

    /// The same store as a sink of the process' own figures.
    pub fn internal_sink(&self) -> InternalSink {
        InternalSink(self.clone())
    }
}

/// Appends as [`Store::append_internal`] does.
#[derive(Debug, Clone)]
pub struct InternalSink(Store);

impl SampleSink for InternalSink {
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        self.0.append_internal(batch)
    }
}

impl SampleSink for Store {
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        self.inner.append(batch, false)
    }
}

impl SeriesSource for Store {
    fn select(&self, selection: &Selection, budget: &Budget) -> Result<Vec<SelectedSeries>, SourceError> {
        Ok(crate::select::select(&self.inner, selection, budget)?)
    }

    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        Ok(self.inner.label_names(query, budget)?)
    }

    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        Ok(self.inner.label_values(name, query, budget)?)
    }

    fn series(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError> {
        Ok(self.inner.series(query, budget)?)
    }

    fn exemplars(&self, query: &LabelQuery, _: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        Ok(self.inner.query_exemplars(query)?)
    }

    fn metadata(&self, family: Option<&str>, _: &Budget) -> Result<Vec<MetadataEntry>, SourceError> {
        Ok(self.inner.metadata.lock().list(family))
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
    let groups = inner.flusher.wait(TICK, &inner.stopping);
    let result = match groups.is_empty() {
        true => inner.flush_due(),
        // Age and the length of the log are looked at however busy the head is.
        false => inner.flush(&groups).map(|()| inner.request_overdue()),
    };
    if let Err(error) = result {
        tracing::error!(%error, "cannot bring samples to the disk; they stay in memory and in the log");
        inner.flusher.request(groups);
        inner.flusher.pause(TICK, &inner.stopping);
    }
}

fn compact_round(inner: &Inner) {
    inner.flusher.pause(TICK, &inner.stopping);
    match inner.compact_days(false) {
        // Given up because the store is being closed: the day is compacted another time.
        Ok(()) | Err(Error::Closed) => {}
        Err(error) => {
            tracing::error!(%error, "cannot compact or remove old days");
            inner.flusher.pause(30 * TICK, &inner.stopping);
        }
    }
}
