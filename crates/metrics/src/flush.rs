//! From the head to the disk.
//!
//! A flush takes some groups: under the append lock their open samples are swapped out and the
//! position of the log is noted; everything else happens outside of it. The order of the steps
//! is what a crash anywhere between them is harmless for:
//!
//! 1. the log is synced, so that no file is ahead of it,
//! 2. the pages go into the files of their days, one transaction a file,
//! 3. the catalog gets new series and the groups' positions in one transaction,
//! 4. the head forgets what was swapped out,
//! 5. the log is trimmed below the least position that is still needed.
//!
//! A crash before the third step replays samples that are on the disk already: the same samples
//! at the same times, which reading merges.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex};
use pilothouse_disk::Position;
use pilothouse_model::SampleColumns;
use pilothouse_model::time::{DAY_MS, day_of};
use roaring::RoaringBitmap;

use crate::catalog::GroupRow;
use crate::codec::Effort;
use crate::error::Error;
use crate::head::{GROUP_BITS, GROUP_SERIES, Open, Sealing, slot_of};
use crate::pages::{NewPages, PageWriter};
use crate::store::Inner;

/// Pages of 16 KiB: a look-up of one series in a young day reads few bytes beside its own.
const PAGE_SIZE_BITS: u32 = 14;
/// A group is sealed when its oldest sample is this far back in the log.
const MAX_LOG_BYTES: u64 = 512 << 20;
/// Or this old.
const MAX_OPEN_MS: i64 = 2 * 60 * 60 * 1000;
/// Groups in one flush, so that what is encoded at once stays small.
const MAX_GROUPS: usize = 16;

/// The place of each slot of a group in its pages.
type Order = Arc<[u16]>;

/// Groups that wait for their flush.
#[derive(Debug, Default)]
pub(crate) struct Flusher {
    due: Mutex<BTreeSet<u32>>,
    wake: Condvar,
    idle: Mutex<()>,
    stop: Condvar,
    /// One flush at a time, and what an earlier one could not finish.
    pub(crate) unfinished: Mutex<Vec<Work>>,
    /// By group: how many series it had, and their order.
    orders: Mutex<HashMap<u32, (u64, Order)>>,
    /// Nothing in the log before this position was needed when it was last looked at.
    log_start: AtomicU64,
}

/// A flush under way.
#[derive(Debug)]
pub(crate) struct Work {
    flush: u32,
    groups: Vec<(u32, Arc<Sealing>)>,
    rows: Vec<(u32, GroupRow)>,
    series: Vec<u32>,
    days_done: BTreeSet<i32>,
}

impl Flusher {
    pub(crate) fn request(&self, groups: Vec<u32>) {
        if !groups.is_empty() {
            self.due.lock().extend(groups);
            self.wake.notify_all();
        }
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_all();
    }

    /// Raises the flag and ends every wait. Each lock is taken once in between, so that nobody
    /// who found the flag down begins to wait after the call.
    pub(crate) fn stop(&self, stopping: &AtomicBool) {
        stopping.store(true, Relaxed);
        drop(self.due.lock());
        self.wake.notify_all();
        drop(self.idle.lock());
        self.stop.notify_all();
    }

    /// Waits, unless the store is being stopped.
    pub(crate) fn pause(&self, timeout: std::time::Duration, stopping: &AtomicBool) {
        let mut idle = self.idle.lock();
        if !stopping.load(Relaxed) {
            self.stop.wait_for(&mut idle, timeout);
        }
    }

    /// The groups that are due, after waiting for some at most this long.
    pub(crate) fn wait(&self, timeout: std::time::Duration, stopping: &AtomicBool) -> Vec<u32> {
        let mut due = self.due.lock();
        if due.is_empty() && !stopping.load(Relaxed) {
            self.wake.wait_for(&mut due, timeout);
        }
        take_some(&mut due)
    }

    pub(crate) fn take(&self) -> Vec<u32> {
        take_some(&mut self.due.lock())
    }
}

fn take_some(due: &mut BTreeSet<u32>) -> Vec<u32> {
    let some: Vec<u32> = due.iter().copied().take(MAX_GROUPS).collect();
    some.iter().for_each(|g| {
        due.remove(g);
    });
    some
}

impl Inner {
    /// Flushes what is due now: by request, by age, by the length of the log, by memory.
    pub(crate) fn flush_due(&self) -> Result<(), Error> {
        self.request_overdue();
        loop {
            let groups = self.flusher.take();
            let idle = groups.is_empty() && self.flusher.unfinished.lock().is_empty();
            if idle && !self.is_log_held() {
                return Ok(());
            }
            self.flush(&groups)?;
        }
    }

    /// Asks for what is due by the clock, by the length of the log or by memory.
    pub(crate) fn request_overdue(&self) {
        self.flusher.request(self.overdue_groups());
    }

    /// Whether series, exemplars or metadata that came without samples hold the log.
    fn is_log_held(&self) -> bool {
        let since = self.appender.lock().unsaved_since;
        since.is_some_and(|p| self.wal.next().0.saturating_sub(p.0) > MAX_LOG_BYTES)
    }

    /// Seals and flushes every group.
    pub(crate) fn flush_all(&self) -> Result<(), Error> {
        self.flusher.request((0..self.head.len()).collect());
        self.flush_due()?;
        // Without samples there may still be new series, exemplars or metadata.
        self.flush(&[])
    }

    /// At the end: flushes everything and notes where the log would have to be read from, so that
    /// the next start does not look at what is done.
    pub(crate) fn flush_last(&self) -> Result<(), Error> {
        self.flush_all()?;
        // What is left of the log stays, though nothing in it is needed: it has labels of series a
        // second time, for the day on which the catalog is damaged.
        let least = self.trim()?;
        self.catalog.save_log_start(least)?;
        self.catalog.compact();
        Ok(())
    }

    fn overdue_groups(&self) -> Vec<u32> {
        let (next, now) = (self.wal.next(), self.now_ms());
        let mut overdue = Vec::new();
        let mut sizes = Vec::new();
        for (number, group) in self.head.all().iter().enumerate() {
            let group = group.read();
            let Some((position, since_ms)) = group.since else { continue };
            let too_long = next.0.saturating_sub(position.0) > MAX_LOG_BYTES;
            if too_long || now.saturating_sub(since_ms) > MAX_OPEN_MS || group.is_due() {
                overdue.push(number as u32);
            }
            sizes.push((group.heap_bytes as u64, number as u32));
        }
        overdue.extend(self.largest(sizes));
        overdue
    }

    /// The groups to flush when the head is over its memory: the largest, down to half of it.
    fn largest(&self, mut sizes: Vec<(u64, u32)>) -> Vec<u32> {
        let limit = self.limits.now().head_memory_bytes;
        let mut held: u64 = sizes.iter().map(|s| s.0).sum();
        if limit == 0 || held <= limit {
            return Vec::new();
        }
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let over = sizes.into_iter().take_while(|(bytes, _)| {
            let go_on = held > limit / 2;
            held = held.saturating_sub(*bytes);
            go_on
        });
        over.map(|(_, number)| number).collect()
    }

    /// Seals some groups and brings them to the disk, after whatever is left of earlier flushes.
    pub(crate) fn flush(&self, groups: &[u32]) -> Result<(), Error> {
        let mut unfinished = self.flusher.unfinished.lock();
        // Nothing more is sealed while the disk does not take what is sealed already.
        self.finish_all(&mut unfinished)?;
        unfinished.push(self.seal(groups));
        self.finish_all(&mut unfinished)?;
        self.counters.flushes.fetch_add(1, Relaxed);
        self.trim()?;
        Ok(())
    }

    fn finish_all(&self, unfinished: &mut Vec<Work>) -> Result<(), Error> {
        while let Some(work) = unfinished.first_mut() {
            if let Err(e) = self.finish(work) {
                self.counters.flush_failures.fetch_add(1, Relaxed);
                return Err(e);
            }
            unfinished.remove(0);
        }
        Ok(())
    }

    /// Swaps the open samples of some groups out, in one step with the position of the log.
    fn seal(&self, numbers: &[u32]) -> Work {
        let mut appender = self.appender.lock();
        let position = self.wal.next();
        let flush = self.next_flush();
        let minute = appender.active.now();
        let (mut groups, mut rows) = (Vec::new(), Vec::new());
        for number in numbers {
            let Some(group) = self.head.group(*number) else { continue };
            let mut group = group.write();
            if let Some(sealing) = group.seal(flush, position) {
                rows.push((*number, GroupRow { position, minute, active: active_slots(&group, minute) }));
                groups.push((*number, sealing));
            }
        }
        appender.unsaved_since = None;
        let series = std::mem::take(&mut appender.unsaved_series);
        Work { flush, groups, rows, series, days_done: BTreeSet::new() }
    }

    fn finish(&self, work: &mut Work) -> Result<(), Error> {
        self.crash_point("flush: sealed");
        self.wal.sync()?;
        self.crash_point("flush: log synced");
        let orders: Vec<_> = work.groups.iter().map(|(number, s)| self.order_of(*number, s)).collect();
        for (day, groups) in encode(work, &orders) {
            if work.days_done.contains(&day) {
                continue;
            }
            let l0 = self.days.open_l0(day)?;
            let bytes: usize = groups.iter().flat_map(|g| &g.1.pages).map(|p| p.bytes.len()).sum();
            l0.write(work.flush, groups, self.now_ms())?;
            self.counters.flushed_bytes.fetch_add(bytes as u64, Relaxed);
            work.days_done.insert(day);
            self.crash_point("flush: day written");
        }
        self.save(work)?;
        self.crash_point("flush: catalog saved");
        let mut samples = 0;
        for (number, sealing) in work.groups.drain(..) {
            self.head.forget(number, work.flush);
            self.head.heap_bytes.fetch_sub(sealing.heap_bytes as u64, Relaxed);
            samples += sealing.samples;
        }
        self.counters.flushed_samples.fetch_add(samples, Relaxed);
        Ok(())
    }

    /// Forgets the orders of groups that have no series.
    pub(crate) fn forget_orders(&self, has_series: impl Fn(u32) -> bool) {
        self.flusher.orders.lock().retain(|number, _| has_series(*number));
    }

    /// The place of each slot of a group when its series are put in the order of their labels:
    /// then those of one metric lie in few pages, and queries go by metric. Made anew only when
    /// series have come or gone.
    fn order_of(&self, number: u32, sealing: &Sealing) -> Arc<[u16]> {
        let first = number << GROUP_BITS;
        let registry = self.registry.read();
        let ids = registry.index.ids();
        let group = first..=first + (GROUP_SERIES as u32 - 1);
        let count = ids.range_cardinality(group.clone());
        let needed = sealing.series.last().map_or(0, |s| usize::from(s.0) + 1);
        let mut orders = self.flusher.orders.lock();
        if let Some((_, order)) = orders.get(&number).filter(|(c, o)| *c == count && o.len() >= needed) {
            return order.clone();
        }
        let last = ids.range(group).next_back().map_or(0, |id| slot_of(id) + 1);
        let slots = 0..last.max(needed) as u32;
        let mut slots: Vec<_> = slots.map(|slot| (registry.index.labels(first | slot), slot)).collect();
        slots.sort_unstable_by(|a, b| (a.0.is_none(), &a.0, a.1).cmp(&(b.0.is_none(), &b.0, b.1)));
        let mut order = vec![0; slots.len()];
        for (place, (_, slot)) in slots.iter().enumerate() {
            order[*slot as usize] = place as u16;
        }
        let order: Arc<[u16]> = order.into();
        orders.insert(number, (count, order.clone()));
        order
    }

    /// Brings everything the log would be trimmed of into the catalog.
    fn save(&self, work: &Work) -> Result<(), Error> {
        self.save_deletions()?;
        let (exemplars, first, next) = {
            let ring = self.exemplars.lock();
            (ring.unsaved(), ring.first(), ring.next())
        };
        let metadata = self.metadata.lock().take_unsaved();
        let series: Vec<_> = {
            let registry = self.registry.read();
            let of = |id: &u32| registry.index.labels(*id).map(|labels| (*id, labels));
            work.series.iter().filter_map(of).collect()
        };
        let next_ids = (self.registry.read().next_id(), work.flush + 1);
        let saved = self.catalog.save(&crate::catalog::Save {
            series: &series,
            groups: &work.rows,
            exemplars: &exemplars,
            exemplars_first: first,
            metadata: metadata.as_deref(),
            next_series: next_ids.0,
            next_flush: next_ids.1,
            log_start: Position(self.flusher.log_start.load(Relaxed)),
        });
        match &saved {
            Ok(()) => self.exemplars.lock().set_saved(next),
            Err(_) if metadata.is_some() => self.metadata.lock().set_unsaved(),
            Err(_) => {}
        }
        saved
    }

    /// Drops the part of the log that nothing needs: below it all samples are in day files and
    /// all series, exemplars, metadata and deletions in the catalog.
    fn trim(&self) -> Result<Position, Error> {
        // Read before the groups are: what is appended from here on lies behind it.
        let mut least = {
            let appender = self.appender.lock();
            appender.unsaved_since.unwrap_or_else(|| self.wal.next())
        };
        for group in self.head.all() {
            let group = group.read();
            let open = group.since.map(|s| s.0);
            let sealing = group.sealing.iter().map(|s| s.since);
            least = sealing.chain(open).fold(least, Position::min);
        }
        // The next flush writes it down beside other things, so that a start reads less.
        self.flusher.log_start.fetch_max(least.0, Relaxed);
        if self.wal.has_segments_before(least) {
            // Before anything goes: a start that does not find the log from there on knows that
            // something is missing.
            self.catalog.save_log_start(least)?;
            self.crash_point("flush: log start saved");
            self.wal.trim(least)?;
        }
        Ok(least)
    }
}

/// Slots of a group whose series are active.
fn active_slots(group: &crate::head::Group, minute: u32) -> RoaringBitmap {
    let count = pilothouse_model::active::ActiveCount::new(minute, crate::append::ACTIVE_MINUTES);
    let slots = group.series.iter().filter(|(_, s)| !s.internal && count.is_active(s.minute));
    slots.map(|(slot, _)| slot as u32).collect()
}

type DayPages = BTreeMap<i32, Vec<(u32, NewPages)>>;

/// The pages of a flush by day. On the flusher's own thread: queries have the pool, and one core
/// encodes far more than comes in.
fn encode(work: &Work, orders: &[Arc<[u16]>]) -> DayPages {
    let mut days = DayPages::new();
    for ((number, sealing), order) in work.groups.iter().zip(orders) {
        for (day, pages) in encode_group(*number, sealing, order) {
            days.entry(day).or_default().push((*number, pages));
        }
    }
    days
}

/// The pages of one group, its series in an order that puts those of one metric together.
fn encode_group(number: u32, sealing: &Sealing, order: &Arc<[u16]>) -> BTreeMap<i32, NewPages> {
    let mut writers: BTreeMap<i32, (PageWriter, RoaringBitmap)> = BTreeMap::new();
    let mut columns = SampleColumns::default();
    let place = |slot: u16| order.get(usize::from(slot)).copied().unwrap_or(slot);
    let mut series: Vec<&(u16, Open)> = sealing.series.iter().collect();
    series.sort_unstable_by_key(|(slot, _)| place(*slot));
    for (slot, open) in series {
        columns.clear();
        open.read(i64::MIN, i64::MAX, &mut columns);
        by_day(&mut columns, |day, part| {
            let new = || (PageWriter::new(PAGE_SIZE_BITS, Effort::Flush), RoaringBitmap::new());
            let (writer, ids) = writers.entry(day).or_insert_with(new);
            writer.push(number << GROUP_BITS | u32::from(place(*slot)), part, |_| None);
            ids.insert(number << GROUP_BITS | u32::from(*slot));
        });
    }
    let finish = |(day, (writer, series)): (i32, (PageWriter, RoaringBitmap))| {
        (day, NewPages { series, order: order.clone(), ..writer.finish() })
    };
    writers.into_iter().map(finish).collect()
}

/// Cuts ascending columns at the days' ends.
pub(crate) fn by_day(columns: &mut SampleColumns, mut each: impl FnMut(i32, &SampleColumns)) {
    let (mut float, mut histogram) = (0, 0);
    let mut part = SampleColumns::default();
    while float < columns.times_ms.len() || histogram < columns.histograms.len() {
        let next_float = columns.times_ms.get(float).copied().unwrap_or(i64::MAX);
        let next_histogram = columns.histograms.get(histogram).map_or(i64::MAX, |h| h.0);
        let day = day_of(next_float.min(next_histogram));
        let end = (i64::from(day) + 1).saturating_mul(DAY_MS);
        let floats = float..columns.times_ms.partition_point(|t| *t < end);
        let histograms = histogram..columns.histograms.partition_point(|h| h.0 < end);
        if floats.len() == columns.times_ms.len() && histograms.len() == columns.histograms.len() {
            return each(day, columns);
        }
        part.clear();
        part.times_ms.extend_from_slice(&columns.times_ms[floats.clone()]);
        part.values.extend_from_slice(&columns.values[floats.clone()]);
        part.histograms.extend_from_slice(&columns.histograms[histograms.clone()]);
        each(day, &part);
        (float, histogram) = (floats.end, histograms.end);
    }
}
