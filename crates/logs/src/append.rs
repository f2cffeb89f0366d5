//! The way in: label sets to ids, checks, tail and log, in one locked step.
//!
//! The order is what makes replay and trimming right. Under the one append lock a batch is
//! checked, put into the tail and put into the log's buffer, so that the log has the same order
//! as the tail; the caller then waits for the log without the lock. A group is cut under the
//! same lock, after the batch is logged: a cut holds exactly what the log has of its group
//! before some position.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::MutexGuard;
use pilothouse_disk::wal::Ahead;
use pilothouse_disk::{Position, Wal, WalError};
use pilothouse_model::active::{ActiveCount, minute_of};
use pilothouse_model::limits::Limits;
use pilothouse_model::log_ports::{EntryReason, EntryRejection, LogAppended};
use pilothouse_model::logs::{LogBatch, PushEntry, PushStream};
use pilothouse_model::write::Appended;
use pilothouse_model::{Labels, SourceError};
use rustc_hash::FxBuildHasher;

use crate::error::Error;
use crate::record::RecordWriter;
use crate::seen::{Checked, Sought};
use crate::store::Inner;
use crate::tail::OpenGroup;
use crate::validate;

/// What the appender knows of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) id: u32,
    pub(crate) group: u32,
    /// No entry of the stream is newer.
    pub(crate) newest_ns: i64,
    /// When it got an entry last; 0 if it is not counted.
    pub(crate) minute: u32,
}

/// How long a stream counts as active after an entry, as an idle chunk lives in Loki.
const ACTIVE_MINUTES: u32 = 30;

/// What the append lock protects.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) known: HashMap<u128, Known, FxBuildHasher>,
    pub(crate) active: ActiveCount,
    record: RecordWriter,
    /// What the tail has and the log has not.
    ahead: Ahead,
    /// Streams that the catalog does not have yet, and from where on the log tells of them.
    pub(crate) unsaved_streams: Vec<u32>,
    pub(crate) unsaved_since: Option<Position>,
    pub(crate) closed: bool,
}

impl Appender {
    pub(crate) fn new(minute: u32) -> Self {
        Self {
            known: HashMap::default(),
            active: ActiveCount::new(minute, ACTIVE_MINUTES),
            record: RecordWriter::default(),
            ahead: Ahead::default(),
            unsaved_streams: Vec::new(),
            unsaved_since: None,
            closed: false,
        }
    }

    /// Puts the record that was collected into the log.
    fn log(&mut self, wal: &Wal) -> Result<(), WalError> {
        self.ahead.log(wal, self.record.finish())
    }

    pub(crate) fn catch_up(&mut self, wal: &Wal) -> Result<(), WalError> {
        self.ahead.catch_up(wal, || self.record.finish())
    }

    /// Whether the tail has entries that the log has not.
    pub(crate) fn is_behind(&self) -> bool {
        self.ahead.is_any()
    }

    /// A record of something that is no batch, logged at once or not at all.
    pub(crate) fn log_one(&mut self, wal: &Wal, record: &[u8]) -> Result<Position, WalError> {
        self.catch_up(wal)?;
        self.ahead.log_first(wal, record)
    }
}

/// The running sums of one batch.
struct Batch<'a> {
    inner: &'a Inner,
    limits: Arc<Limits>,
    batch: &'a LogBatch,
    checked: &'a Checked,
    now_ms: i64,
    /// Entries before and after are refused.
    oldest_ns: i64,
    newest_ns: i64,
    internal: bool,
    /// Where the log was when the batch began.
    position: Position,
    entries: u64,
    bytes: u64,
    duplicates: u64,
    created: u64,
    rejected: u64,
    rejections: Vec<EntryRejection>,
    /// Places in the batch of what was not stored anew.
    skipped: Vec<u32>,
    /// Entries of a stream that came out of order, sorted.
    order: Vec<u32>,
    /// What is newer can only be in the present stream's open tail.
    settled_ns: i64,
    /// Groups that grew.
    groups: Vec<u32>,
    failure: Option<Error>,
}

impl Inner {
    pub(crate) fn append(
        &self,
        batch: &LogBatch,
        internal: bool,
        skipped: &mut Vec<u32>,
    ) -> Result<LogAppended, SourceError> {
        self.wait_for_room()?;
        let now_ms = self.now_ms();
        let checked = self.check(batch)?;
        let mut appender = self.appender.lock();
        if appender.closed {
            return Err(SourceError::NotWritable("the store is closed".into()));
        }
        let result = self.append_locked(&mut appender, (batch, &checked), now_ms, internal, skipped);
        let last = appender.ahead.last();
        MutexGuard::unlock_fair(appender);
        let mut appended = result?;
        self.counters.appended(&appended);
        // A batch that brought nothing new waits too: it may repeat one that is not durable yet.
        appended.durable = self.wal.durable_upto(last);
        Ok(appended)
    }

    fn append_locked(
        &self,
        appender: &mut Appender,
        (batch, checked): (&LogBatch, &Checked),
        now_ms: i64,
        internal: bool,
        skipped: &mut Vec<u32>,
    ) -> Result<LogAppended, SourceError> {
        appender.catch_up(&self.wal)?;
        appender.record.clear();
        appender.ahead.begin();
        appender.active.advance(minute_of(now_ms));
        let nothing = Checked::default();
        let checked = if self.is_valid(checked) { checked } else { &nothing };
        let mut state = Batch::new(self, (batch, checked), now_ms, internal);
        for stream in &batch.streams {
            state.stream(appender, stream);
            if state.failure.is_some() {
                break;
            }
        }
        self.active_limit.report(appender.active.total());
        appender.log(&self.wal)?;
        self.cut_due(&state.groups);
        match state.failure.take() {
            Some(error) => Err(error.into()),
            None => {
                // Entries of a stream were taken in the order of their times.
                state.skipped.sort_unstable();
                skipped.append(&mut state.skipped);
                Ok(state.finish())
            }
        }
    }
}

impl<'a> Batch<'a> {
    fn new(
        inner: &'a Inner,
        (batch, checked): (&'a LogBatch, &'a Checked),
        now_ms: i64,
        internal: bool,
    ) -> Self {
        let limits = inner.limits.now();
        let newest_ms = now_ms.saturating_add_unsigned(limits.max_future_ms);
        Self {
            inner,
            limits,
            batch,
            checked,
            now_ms,
            oldest_ns: inner.oldest_ns(now_ms),
            newest_ns: newest_ms.saturating_mul(1_000_000),
            internal,
            position: inner.wal.next(),
            entries: 0,
            bytes: 0,
            duplicates: 0,
            created: 0,
            rejected: 0,
            rejections: Vec::new(),
            skipped: Vec::new(),
            order: Vec::new(),
            settled_ns: i64::MAX,
            groups: Vec::new(),
            failure: None,
        }
    }

    fn stream(&mut self, appender: &mut Appender, stream: &PushStream) {
        let batch = self.batch;
        let entries = batch.entries_of(stream);
        if entries.is_empty() {
            return;
        }
        let mut known = match self.known(appender, stream, entries) {
            Ok(known) => known,
            Err(reason) => return self.refuse(stream.entries.clone(), &stream.labels, reason),
        };
        let found = {
            let layers = self.inner.layers.read();
            layers.group(known.group).cloned().map(|group| (group, layers.settled_ns(known.group)))
        };
        let Some((group, settled_ns)) = found else { return };
        self.settled_ns = settled_ns;
        if !self.groups.contains(&known.group) {
            self.groups.push(known.group);
        }
        appender.record.begin_part(known.id);
        self.entries_of(appender, stream, entries, &group, &mut known);
        if let Some(kept) = appender.known.get_mut(&stream.labels.fingerprint()) {
            *kept = known;
        }
    }

    /// Puts the entries of one stream into its group, in the order of their times.
    fn entries_of(
        &mut self,
        appender: &mut Appender,
        stream: &PushStream,
        entries: &[PushEntry],
        group: &OpenGroup,
        known: &mut Known,
    ) {
        let mut tail = group.tail.write();
        let place = tail.place(known.id);
        let before = tail.entries;
        if entries.is_sorted_by_key(|e| e.t_ns) {
            for (at, entry) in stream.entries.clone().zip(entries) {
                self.entry(appender, stream, (at, entry), &mut tail, place, known);
            }
        } else {
            let mut order = std::mem::take(&mut self.order);
            order.clear();
            order.extend(0..entries.len() as u32);
            order.sort_by_key(|i| entries[*i as usize].t_ns);
            for i in &order {
                let at = stream.entries.start + i;
                self.entry(appender, stream, (at, &entries[*i as usize]), &mut tail, place, known);
            }
            self.order = order;
        }
        if tail.entries > before {
            tail.since.get_or_insert((self.position, self.now_ms));
            if !self.internal {
                known.minute = appender.active.touch(known.minute);
            }
        }
    }

    #[inline]
    fn entry(
        &mut self,
        appender: &mut Appender,
        stream: &PushStream,
        (at, entry): (u32, &PushEntry),
        tail: &mut crate::tail::Tail,
        place: usize,
        known: &mut Known,
    ) {
        let line = self.batch.line_of(entry);
        if let Some(reason) = self.fault_of(entry, line) {
            return self.refuse(at..at + 1, &stream.labels, reason);
        }
        if entry.t_ns <= known.newest_ns {
            let here = tail.streams.get_mut(place).is_some_and(|s| s.contains(entry.t_ns, line));
            match here
                || (entry.t_ns <= self.settled_ns && self.is_stored(known, (at, stream), entry.t_ns, line))
            {
                true => {
                    self.duplicates += 1;
                    self.skipped.push(at);
                    return;
                }
                false if self.failure.is_some() => return,
                false => {}
            }
        }
        known.newest_ns = known.newest_ns.max(entry.t_ns);
        tail.push(place, entry.t_ns, line, &entry.metadata);
        appender.record.entry(entry.t_ns, line, &entry.metadata);
        self.entries += 1;
        self.bytes += line.len() as u64;
    }

    /// Whether a cut, a fresh block or the disk has the entry.
    #[cold]
    fn is_stored(&mut self, known: &Known, (at, stream): (u32, &PushStream), t_ns: i64, line: &str) -> bool {
        let sought = Sought { group: known.group, stream: known.id, labels: &stream.labels, t_ns, line };
        match self.inner.is_stored(&sought, at, self.checked) {
            Ok(stored) => stored,
            Err(error) => {
                self.failure = Some(error);
                false
            }
        }
    }

    #[inline]
    fn fault_of(&self, entry: &PushEntry, line: &str) -> Option<EntryReason> {
        let limits = &self.limits;
        if entry.t_ns < self.oldest_ns {
            return Some(EntryReason::TooOld { t_ns: entry.t_ns, oldest_ns: self.oldest_ns });
        }
        if entry.t_ns > self.newest_ns {
            return Some(EntryReason::TooNew { t_ns: entry.t_ns });
        }
        let limit = validate::line_limit(limits);
        if line.len() as u64 > limit {
            return Some(EntryReason::LineTooLong { bytes: line.len() as u64, limit });
        }
        if entry.metadata.is_empty() { None } else { validate::metadata(&entry.metadata, limits) }
    }

    /// What is known of a stream of the batch, which is made if need be.
    fn known(
        &mut self,
        appender: &mut Appender,
        stream: &PushStream,
        entries: &[PushEntry],
    ) -> Result<Known, EntryReason> {
        let fingerprint = stream.labels.fingerprint();
        let admitted = match self.internal {
            true => Ok(()),
            false => self.inner.active_limit.admit(appender.active.total()),
        };
        let full = admitted.map_err(|limit| EntryReason::MaxStreams { limit });
        if let Some(known) = appender.known.get(&fingerprint) {
            // A stream that was silent for long counts as a new one.
            return match full {
                Err(reason) if !appender.active.is_active(known.minute) => Err(reason),
                _ => Ok(*known),
            };
        }
        if let Some(reason) = validate::labels(&stream.labels, &self.limits) {
            return Err(reason);
        }
        if let Some(reason) = self.fault_of_all(entries) {
            return Err(reason);
        }
        full?;
        self.create(appender, &stream.labels, fingerprint)
    }

    /// Why none of some entries is taken: a stream is not made for such.
    fn fault_of_all(&self, entries: &[PushEntry]) -> Option<EntryReason> {
        let mut first = None;
        for entry in entries {
            let fault = self.fault_of(entry, self.batch.line_of(entry))?;
            first.get_or_insert(fault);
        }
        first
    }

    fn create(
        &mut self,
        appender: &mut Appender,
        labels: &Labels,
        fingerprint: u128,
    ) -> Result<Known, EntryReason> {
        let created = self.inner.registry.write().create(labels);
        let Some((id, group)) = created else {
            return Err(EntryReason::MaxStreams { limit: u64::from(u32::MAX) });
        };
        self.inner.ensure_group(group);
        appender.record.stream(id, group, labels);
        appender.unsaved_streams.push(id);
        appender.unsaved_since.get_or_insert(self.position);
        let known = Known { id, group, newest_ns: i64::MIN, minute: 0 };
        appender.known.insert(fingerprint, known);
        self.inner.counters.streams_created.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.created += 1;
        Ok(known)
    }

    #[cold]
    fn refuse(&mut self, entries: Range<u32>, labels: &Labels, reason: EntryReason) {
        self.rejected += entries.len() as u64;
        self.skipped.extend(entries);
        if self.rejections.len() < Appended::MAX_REJECTIONS {
            self.rejections.push(EntryRejection { reason, labels: labels.clone() });
        }
    }

    fn finish(self) -> LogAppended {
        LogAppended {
            entries: self.entries,
            bytes: self.bytes,
            duplicates: self.duplicates,
            created: self.created,
            rejections: self.rejections,
            rejected: self.rejected,
            durable: Box::pin(std::future::ready(Ok(()))),
        }
    }
}

impl Inner {
    /// Makes sure that a group has a place.
    pub(crate) fn ensure_group(&self, number: u32) {
        let mut layers = self.layers.write();
        while layers.open.len() <= number as usize {
            layers.open.push(Arc::new(OpenGroup::default()));
        }
    }
}
