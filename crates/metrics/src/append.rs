//! The way in: labels to ids, checks, head and log, in one locked step.
//!
//! The order is what makes replay and trimming right. Under the one append lock a batch is
//! checked, applied to the head and put into the log's buffer, so that the log has the same
//! order as the head; the caller then waits for the log without the lock. Whatever was sealed
//! under the same lock therefore holds exactly what lies before some position of the log.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::{MutexGuard, RwLockWriteGuard};
use pilothouse_disk::wal::Ahead;
use pilothouse_disk::{Position, Wal, WalError};
use pilothouse_model::active::{ActiveCount, minute_of};
use pilothouse_model::labels::SeriesText;
use pilothouse_model::limits::Limits;
use pilothouse_model::time::DAY_MS;
use pilothouse_model::write::{Appended, BatchSeries, RawPair, Reason, Rejection, WriteBatch};
use pilothouse_model::{Labels, SourceError};

use crate::exemplars::Kept;
use crate::head::{Group, Head, Taken, group_of, slot_of};
use crate::keys::KeyMap;
use crate::record::RecordWriter;
use crate::store::Inner;
use crate::validate;

/// A record that has grown to this size is logged while its batch goes on.
const RECORD_BYTES: usize = if cfg!(test) { 1 << 15 } else { 32 << 20 };
/// The days that have a number lie within; a day further out could not be named.
const FIRST_MS: i64 = (i32::MIN as i64 + 1) * DAY_MS;
const LAST_MS: i64 = i32::MAX as i64 * DAY_MS;

/// A series that is not known, or was refused.
const NO_ID: u32 = u32::MAX;

/// How long a series counts as active after a sample.
pub(crate) const ACTIVE_MINUTES: u32 = 20;

/// What the append lock protects.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) keys: KeyMap,
    pub(crate) active: ActiveCount,
    record: RecordWriter,
    /// What the head has and the log has not.
    ahead: Ahead,
    ids: Vec<u32>,
    /// Series that the catalog does not have yet.
    pub(crate) unsaved_series: Vec<u32>,
    /// From where on the log has series, exemplars or metadata that the catalog does not have.
    pub(crate) unsaved_since: Option<Position>,
    pub(crate) closed: bool,
}

impl Appender {
    pub(crate) fn new(minute: u32) -> Self {
        Self {
            keys: KeyMap::default(),
            active: ActiveCount::new(minute, ACTIVE_MINUTES),
            record: RecordWriter::default(),
            ahead: Ahead::default(),
            ids: Vec::new(),
            unsaved_series: Vec::new(),
            unsaved_since: None,
            closed: false,
        }
    }

    /// Puts the record that was collected into the log.
    fn log(&mut self, wal: &Wal) -> Result<(), WalError> {
        self.ahead.log(wal, self.record.finish())
    }

    /// Logs what a large batch has brought so far, and goes on collecting.
    #[cold]
    fn log_part(&mut self, wal: &Wal) -> Result<(), WalError> {
        self.log(wal)?;
        self.record.clear();
        self.ahead.begin();
        Ok(())
    }

    fn catch_up(&mut self, wal: &Wal) -> Result<(), WalError> {
        self.ahead.catch_up(wal, || self.record.finish())
    }

    /// A record of something that is no batch, logged at once or not at all: nothing has been
    /// done yet that it would have to tell of.
    pub(crate) fn log_one(
        &mut self,
        wal: &Wal,
        put: impl FnOnce(&mut RecordWriter),
    ) -> Result<Position, WalError> {
        self.catch_up(wal)?;
        self.record.clear();
        put(&mut self.record);
        self.ahead.log_first(wal, self.record.finish())
    }
}

/// The running sums of one batch.
struct Batch<'a> {
    inner: &'a Inner,
    limits: Arc<Limits>,
    batch: &'a WriteBatch,
    /// Samples before and after are refused.
    oldest_ms: i64,
    newest_ms: i64,
    now_ms: i64,
    internal: bool,
    /// Where the log was when the batch began.
    position: Position,
    floats: u64,
    histograms: u64,
    exemplars: u64,
    created: u64,
    rejected: u64,
    rejections: Vec<Rejection>,
    due: Vec<u32>,
}

impl Inner {
    pub(crate) fn append(&self, batch: &WriteBatch, internal: bool) -> Result<Appended, SourceError> {
        let now_ms = self.now_ms();
        self.check_writable()?;
        let mut appender = self.appender.lock();
        if appender.closed {
            return Err(SourceError::NotWritable("the store is closed".into()));
        }
        let result = self.append_locked(&mut appender, batch, now_ms, internal);
        let last = appender.ahead.last();
        MutexGuard::unlock_fair(appender);
        let mut run = result?;
        self.counters.appended(&run.appended);
        self.flusher.request(std::mem::take(&mut run.due));
        // A batch that brought nothing new waits too: it may repeat one that is not durable yet.
        run.appended.durable = self.wal.durable_upto(last);
        Ok(run.appended)
    }

    fn append_locked(
        &self,
        appender: &mut Appender,
        batch: &WriteBatch,
        now_ms: i64,
        internal: bool,
    ) -> Result<Run, SourceError> {
        appender.catch_up(&self.wal)?;
        appender.record.clear();
        appender.ahead.begin();
        appender.active.advance(minute_of(now_ms));
        let limits = self.limits.now();
        let mut state = Batch {
            inner: self,
            batch,
            oldest_ms: self.oldest_ms(now_ms).max(FIRST_MS),
            newest_ms: now_ms.saturating_add_unsigned(limits.max_future_ms).min(LAST_MS),
            limits,
            now_ms,
            internal,
            position: self.wal.next(),
            floats: 0,
            histograms: 0,
            exemplars: 0,
            created: 0,
            rejected: 0,
            rejections: Vec::new(),
            due: Vec::new(),
        };
        state.run(appender)?;
        state.metadata(appender);
        self.active_limit.report(appender.active.total());
        appender.log(&self.wal)?;
        Ok(state.finish())
    }
}

struct Run {
    appended: Appended,
    due: Vec<u32>,
}

/// A group while samples are put into it; the sums that others rely on are brought up to date
/// when it goes, even if it goes by a panic.
struct GroupRun<'a> {
    head: &'a Head,
    group: RwLockWriteGuard<'a, Group>,
    since: (Position, i64),
    bytes: usize,
    samples: u64,
}

impl<'a> GroupRun<'a> {
    fn begin(head: &'a Head, group: RwLockWriteGuard<'a, Group>, since: (Position, i64)) -> Self {
        let (bytes, samples) = (group.heap_bytes, group.samples);
        Self { head, group, since, bytes, samples }
    }
}

impl Drop for GroupRun<'_> {
    fn drop(&mut self) {
        if self.group.samples > self.samples {
            self.group.since.get_or_insert(self.since);
        }
        let grown = (self.group.heap_bytes as u64).wrapping_sub(self.bytes as u64);
        self.head.heap_bytes.fetch_add(grown, Relaxed);
    }
}

impl Batch<'_> {
    fn run(&mut self, appender: &mut Appender) -> Result<(), WalError> {
        let mut ids = std::mem::take(&mut appender.ids);
        ids.clear();
        // All look-ups in one go: they miss the caches, but they do not wait for each other.
        ids.extend(self.batch.series.iter().map(|s| appender.keys.get(s.key).unwrap_or(NO_ID)));
        let mut at = 0;
        let mut logged = Ok(());
        while at < ids.len() && logged.is_ok() {
            let id = self.known(appender, ids[at], at);
            if id == NO_ID {
                at += 1;
                continue;
            }
            at = self.run_of_group(appender, &ids, at, id);
            if appender.record.len() >= RECORD_BYTES {
                logged = appender.log_part(&self.inner.wal);
            }
        }
        appender.ids = ids;
        logged
    }

    /// Applies the series from `at` on that lie in one group; returns the first that does not.
    fn run_of_group(&mut self, appender: &mut Appender, ids: &[u32], mut at: usize, mut id: u32) -> usize {
        let number = group_of(id);
        let group = self.inner.head.group_or_new(number);
        let mut group = GroupRun::begin(&self.inner.head, group.write(), (self.position, self.now_ms));
        loop {
            if id != NO_ID {
                if group_of(id) != number {
                    break;
                }
                let series = &self.batch.series[at];
                self.series(appender, &mut group.group, id, series);
            }
            at += 1;
            if at >= ids.len() || appender.record.len() >= RECORD_BYTES {
                break;
            }
            id = self.known(appender, ids[at], at);
        }
        let group = &mut group.group;
        if group.is_due() && !group.queued {
            group.queued = true;
            self.due.push(number);
        }
        at
    }

    /// The id of a series of the batch; made if need be.
    #[inline]
    fn known(&mut self, appender: &mut Appender, id: u32, at: usize) -> u32 {
        if id != NO_ID {
            return id;
        }
        let batch = self.batch;
        let series = &batch.series[at];
        // It may have been met earlier in the same batch.
        if let Some(id) = appender.keys.get(series.key) {
            return id;
        }
        match self.meet(appender, series) {
            Ok(id) => id,
            Err(rejection) => {
                let lost = (series.floats.len() + series.histograms.len()).max(1) as u64;
                self.refuse(lost, || rejection);
                NO_ID
            }
        }
    }

    /// Parses the labels of a series whose key is not known.
    #[cold]
    fn meet(&mut self, appender: &mut Appender, series: &BatchSeries) -> Result<u32, Rejection> {
        let batch = self.batch;
        let mut pairs: Vec<RawPair<'_>> = Vec::with_capacity(32);
        let malformed = (batch.read_labels)(batch.raw_labels(series), &mut pairs).is_err();
        if malformed {
            let reason = Reason::InvalidLabelValue { name: String::new() };
            return Err(Rejection { reason, series: validate::series_text(&pairs) });
        }
        let labels = validate::canonical(&mut pairs, &self.limits)?;
        let fingerprint = labels.fingerprint();
        let known = self.inner.registry.read().id_of(fingerprint);
        let id = match known {
            Some(id) => id,
            None => self.create(appender, series, &labels, fingerprint)?,
        };
        let count = self.inner.registry.read().len();
        appender.keys.insert(series.key, id, count);
        Ok(id)
    }

    fn create(
        &mut self,
        appender: &mut Appender,
        series: &BatchSeries,
        labels: &Labels,
        fingerprint: u128,
    ) -> Result<u32, Rejection> {
        let refuse = |reason| Err(Rejection { reason, series: SeriesText(labels).to_string() });
        if let Some(reason) = self.all_out_of_time(series) {
            return refuse(reason);
        }
        if let Some(limit) = self.reached_limit(appender) {
            return refuse(Reason::MaxSeries { limit });
        }
        // Series that are no longer active stay until their day is compacted: names that change
        // with every request would fill the memory without ever being many at a time.
        let (held, limit) = (self.inner.registry.read().len(), self.limits.max_series_in_memory);
        if !self.internal && limit > 0 && held as u64 >= limit {
            return refuse(Reason::MaxSeries { limit });
        }
        let Some(id) = self.inner.registry.write().insert(labels, fingerprint) else {
            return refuse(Reason::MaxSeries { limit: u64::from(u32::MAX) });
        };
        appender.record.series(id, labels);
        appender.unsaved_series.push(id);
        self.inner.counters.series_created.fetch_add(1, Relaxed);
        self.created += 1;
        appender.unsaved_since.get_or_insert(self.position);
        Ok(id)
    }

    /// The reason why no sample of a series would be taken, if so: such a series is not made.
    fn all_out_of_time(&self, series: &BatchSeries) -> Option<Reason> {
        let floats = self.batch.floats_of(series).iter().map(|s| s.t_ms);
        let histograms = self.batch.histograms_of(series).iter().map(|h| h.t_ms);
        let mut first = None;
        for t_ms in floats.chain(histograms) {
            match self.out_of_time(t_ms) {
                Some(reason) => first = first.or(Some(reason)),
                None => return None,
            }
        }
        first
    }

    #[inline]
    fn out_of_time(&self, t_ms: i64) -> Option<Reason> {
        if t_ms > self.newest_ms {
            return Some(Reason::TooFarInFuture { t_ms });
        }
        (t_ms < self.oldest_ms).then_some(Reason::TooOld { t_ms, oldest_ms: self.oldest_ms })
    }

    /// The limit of active series that one more would exceed.
    fn reached_limit(&self, appender: &Appender) -> Option<u64> {
        if self.internal {
            return None;
        }
        self.inner.active_limit.admit(appender.active.total()).err()
    }

    /// Applies one series of the batch to its slot.
    fn series(&mut self, appender: &mut Appender, group: &mut Group, id: u32, series: &BatchSeries) {
        let batch = self.batch;
        let (floats, histograms) = (batch.floats_of(series), batch.histograms_of(series));
        if let Err(limit) = self.activate(appender, group, id) {
            let lost = (floats.len() + histograms.len()).max(1) as u64;
            return self.refuse_sample(series, lost, Reason::MaxSeries { limit });
        }
        let window = self.limits.out_of_order_window_ms;
        for sample in floats {
            if let Some(reason) = self.out_of_time(sample.t_ms) {
                self.refuse_sample(series, 1, reason);
                continue;
            }
            let taken = group.change(slot_of(id), |s| s.append(sample.t_ms, sample.value, window));
            if taken == Taken::Stored {
                appender.record.sample(id, sample.t_ms, sample.value);
            }
            self.floats += u64::from(self.is_taken(series, taken, sample.t_ms));
        }
        if !histograms.is_empty() {
            self.histograms(appender, group, id, series);
        }
        if !series.exemplars.is_empty() {
            self.exemplars(appender, id, series);
        }
    }

    fn histograms(&mut self, appender: &mut Appender, group: &mut Group, id: u32, series: &BatchSeries) {
        let window = self.limits.out_of_order_window_ms;
        for sample in self.batch.histograms_of(series) {
            let t_ms = sample.t_ms;
            let checked = match self.out_of_time(t_ms) {
                Some(reason) => Err(reason),
                None => validate::histogram(sample),
            };
            let histogram = match checked {
                Ok(histogram) => histogram,
                Err(reason) => {
                    self.refuse_sample(series, 1, reason);
                    continue;
                }
            };
            let taken = group.change(slot_of(id), |s| s.append_histogram(t_ms, &histogram, window));
            if taken == Taken::Stored {
                appender.record.histogram(id, t_ms, &histogram);
            }
            self.histograms += u64::from(self.is_taken(series, taken, t_ms));
        }
    }

    /// Counts a series as active, or tells the limit that forbids it.
    #[inline]
    fn activate(&mut self, appender: &mut Appender, group: &mut Group, id: u32) -> Result<(), u64> {
        let slot = group.slot(slot_of(id));
        if slot.minute == appender.active.now() {
            return Ok(());
        }
        if self.internal {
            slot.internal = true;
        }
        if slot.internal {
            return Ok(());
        }
        if let Some(limit) = self.reached_limit(appender).filter(|_| !appender.active.is_active(slot.minute))
        {
            return Err(limit);
        }
        slot.minute = appender.active.touch(slot.minute);
        Ok(())
    }

    fn is_taken(&mut self, series: &BatchSeries, taken: Taken, t_ms: i64) -> bool {
        match taken {
            Taken::Stored | Taken::Same => return true,
            Taken::Duplicate => self.refuse_sample(series, 1, Reason::DuplicateTimestamp { t_ms }),
            Taken::OutOfOrder => self.refuse_sample(series, 1, Reason::OutOfOrder { t_ms }),
        }
        false
    }

    fn exemplars(&mut self, appender: &mut Appender, id: u32, series: &BatchSeries) {
        let max_chars = self.limits.max_exemplar_label_chars;
        let mut ring = self.inner.exemplars.lock();
        for exemplar in self.batch.exemplars_of(series) {
            let kept = match self.out_of_time(exemplar.t_ms) {
                Some(_) => Kept::Refused(Reason::ExemplarOutOfOrder { t_ms: exemplar.t_ms }),
                None => ring.offer(id, exemplar, max_chars),
            };
            match kept {
                Kept::Stored(kept) => {
                    appender.record.exemplar(id, &kept);
                    appender.unsaved_since.get_or_insert(self.position);
                    self.exemplars += 1;
                }
                Kept::Same => self.exemplars += 1,
                Kept::Refused(reason) => self.refuse_sample(series, 0, reason),
            }
        }
    }

    fn metadata(&mut self, appender: &mut Appender) {
        if self.batch.metadata.is_empty() {
            return;
        }
        let limits = &self.limits;
        let mut known = self.inner.metadata.lock();
        for entry in &self.batch.metadata {
            if known.insert(entry, limits.max_metadata_families, limits.max_metadata_text_bytes) {
                appender.record.metadata(entry);
                appender.unsaved_since.get_or_insert(self.position);
            }
        }
    }

    #[cold]
    fn refuse_sample(&mut self, series: &BatchSeries, lost: u64, reason: Reason) {
        let batch = self.batch;
        self.refuse(lost, || {
            let mut pairs = Vec::new();
            let _ = (batch.read_labels)(batch.raw_labels(series), &mut pairs);
            Rejection { reason, series: validate::series_text(&pairs) }
        });
    }

    /// Counts a refusal and keeps its text if it is one of the first.
    fn refuse(&mut self, lost: u64, rejection: impl FnOnce() -> Rejection) {
        self.rejected += lost;
        if self.rejections.len() < Appended::MAX_REJECTIONS {
            self.rejections.push(rejection());
        }
    }

    fn finish(self) -> Run {
        let appended = Appended {
            floats: self.floats,
            histograms: self.histograms,
            exemplars: self.exemplars,
            created: self.created,
            rejections: self.rejections,
            rejected: self.rejected,
            durable: Box::pin(std::future::ready(Ok(()))),
        };
        Run { appended, due: self.due }
    }
}
