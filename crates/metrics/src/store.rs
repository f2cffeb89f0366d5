//! The store: what it owns, how it is opened, who works in the background.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pilothouse_disk::Wal;
use pilothouse_disk::files::DirectoryLock;
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
    workers: Arc<Workers>,
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

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
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
        let workers = Arc::new(Workers::default());
        if background {
            workers.start(&inner)?;
        }
        Ok(Self { inner, workers })
    }

    /// Refuses writes from now on, seals and flushes everything, stops the threads. Queries go
    /// on being answered.
    pub fn close(&self) -> Result<(), Error> {
        self.inner.appender.lock().closed = true;
        self.workers.stop(&self.inner);
        self.inner.flush_last()
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

    fn exemplars(&self, query: &LabelQuery) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        Ok(self.inner.query_exemplars(query)?)
    }

    fn metadata(&self, family: Option<&str>) -> Result<Vec<MetadataEntry>, SourceError> {
        Ok(self.inner.metadata.lock().list(family))
    }
}

// ---- background ----

/// The store's own threads: one flushes, one compacts and removes.
#[derive(Debug, Default)]
struct Workers {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    fn start(&self, inner: &Arc<Inner>) -> Result<(), Error> {
        let mut threads = self.threads.lock();
        for (name, work) in [("flush", flush_loop as fn(&Inner)), ("compact", compact_step as fn(&Inner))] {
            let inner = inner.clone();
            let thread = std::thread::Builder::new().name(format!("metrics-{name}")).spawn(move || {
                while !inner.is_stopping() {
                    work_once(&inner, name, work);
                }
            });
            threads.push(thread.map_err(|e| Error::thread(name, e))?);
        }
        Ok(())
    }

    fn stop(&self, inner: &Inner) {
        inner.flusher.stop(&inner.stopping);
        for thread in self.threads.lock().drain(..) {
            // A worker that has panicked has nothing more to lose.
            let _ = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if Arc::strong_count(&self.workers) == 1 {
            self.workers.stop(&self.inner);
        }
    }
}

/// One round of a thread. A panic is a fault of this program, but a store whose thread is gone
/// fills its memory in silence: what was under way is taken up again after a while.
pub(crate) fn work_once(inner: &Inner, name: &str, work: impl FnOnce(&Inner)) {
    if catch_unwind(AssertUnwindSafe(|| work(inner))).is_err() {
        inner.counters.worker_panics.fetch_add(1, Relaxed);
        tracing::error!(thread = name, "work in the background has panicked; it is tried again in a minute");
        inner.flusher.pause(30 * TICK, &inner.stopping);
    }
}

fn flush_loop(inner: &Inner) {
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

fn compact_step(inner: &Inner) {
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
