//! Days that are over: rewritten in the order of labels, and removed when they are too old.
//! See [`crate::forget`] for the series that are in no young day any more.
//!
//! A compaction freezes the day's files (what is flushed later lands in a new one), reads them
//! series by series, merges what an earlier compaction had written, leaves out what deletions
//! hide, and writes one file that needs nothing beside itself. The file gets its name when it is
//! whole; from then on the older files are only leftovers, which opening clears away.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pilothouse_disk::files;
use pilothouse_disk::workers::Rounds as _;
use pilothouse_index::Page;
use pilothouse_model::time::{DAY_MS, HOUR_MS, MINUTE_MS, day_of, format_day};
use pilothouse_model::{Budget, Labels, SampleColumns};
use roaring::RoaringBitmap;

use crate::day::l1::OpenL1;
use crate::day::set::Day;
use crate::day::writer::DayFile;
use crate::delete::matching;
use crate::error::Error;
use crate::loaded::{Cache, LoadedPage, PageKey, no_lists};
use crate::merge::{Merge, remove_range};
use crate::record::Deletion;
use crate::store::Inner;

/// How long after its end a day may still grow before it is compacted.
const GRACE_MS: i64 = 2 * HOUR_MS;
/// How long nothing must have been written to an old day.
const IDLE_MS: i64 = 10 * MINUTE_MS;
/// Pages of the files that are read.
const PAGES_BYTES: u64 = 32 << 20;

/// How long a day that could not be compacted is left alone.
const RETRY: Duration = Duration::from_secs(600);
/// Days that may be removed without a delay, and the delay for more.
const DAYS_AT_ONCE: usize = 2;
const REMOVAL_DELAY: Duration = Duration::from_secs(3600);
/// A clock that is off by more than this has been set.
const LEAP_MS: u64 = 5 * MINUTE_MS as u64;
/// Late samples that keep coming are compacted after this time all the same.
const LATE_MS: i64 = 6 * HOUR_MS;
/// A closed day is not written anew more often than this, unless what is new is a good part of it.
const REWRITE_MS: i64 = 3 * HOUR_MS;
const GOOD_PART: u64 = 10;

/// What one compaction leaves for the next to know.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    /// Days that could not be compacted, and when that was.
    failed: BTreeMap<i32, Instant>,
    /// When days were compacted last, by the store's clock.
    compacted_ms: BTreeMap<i32, i64>,
    /// The clock when it was first looked at, or after its last leap.
    clock: Option<(Instant, i64)>,
    /// This life of the store has looked once.
    looked: bool,
    /// It was told that days wait for their removal.
    told: bool,
}

impl Compaction {
    /// Whether the store's clock has gone as time does for so long that it is believed.
    fn is_clock_steady(&mut self, now_ms: i64) -> bool {
        let expected = |(since, then_ms): &(Instant, i64)| then_ms + since.elapsed().as_millis() as i64;
        let leapt = self.clock.as_ref().is_none_or(|c| expected(c).abs_diff(now_ms) > LEAP_MS);
        if leapt {
            self.clock = Some((Instant::now(), now_ms));
        }
        self.clock.is_some_and(|(since, _)| since.elapsed() >= REMOVAL_DELAY)
    }

    #[cfg(test)]
    pub(crate) fn pretend_steady(&mut self, now_ms: i64) {
        let delay_ms = REMOVAL_DELAY.as_millis() as i64;
        self.clock = Instant::now().checked_sub(REMOVAL_DELAY).map(|since| (since, now_ms - delay_ms));
    }
}

impl Inner {
    /// Removes days older than retention, compacts those that are over (all that have something
    /// to compact, if `now`), and forgets series that are nowhere any more.
    pub(crate) fn compact_days(&self, now: bool) -> Result<(), Error> {
        let mut compaction = self.compacting.lock();
        let now_ms = self.now_ms();
        let removed = self.days.remove_before(self.first_kept(&mut compaction, now_ms, now))?;
        self.counters.days_removed.fetch_add(removed as u64, Relaxed);
        // What the log brought back of series that had been forgotten is forgotten again.
        let mut changed = removed > 0 || !std::mem::replace(&mut compaction.looked, true);
        let (days, _) = self.days.snapshot();
        compaction.failed.retain(|day, _| days.contains_key(day));
        compaction.compacted_ms.retain(|day, _| days.contains_key(day));
        let mut failure = None;
        for (day, files) in days.iter() {
            if self.is_stopping() && !now {
                break;
            }
            if !now && compaction.failed.get(day).is_some_and(|at| at.elapsed() < RETRY) {
                continue;
            }
            match self.compact_if_due(&compaction, *day, files, now_ms, now) {
                Ok(false) => {}
                Ok(true) => {
                    compaction.compacted_ms.insert(*day, now_ms);
                    changed = true;
                }
                Err(Error::Closed) => return Err(Error::Closed),
                // The days after it must not wait for a day that cannot be read.
                Err(error) => {
                    tracing::error!(%error, day = format_day(*day), "cannot compact a day");
                    compaction.failed.insert(*day, Instant::now());
                    failure.get_or_insert(error);
                }
            }
        }
        if changed {
            let dropped = self.drop_done_deletions();
            self.forget_series()?;
            dropped?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Removes days for the sake of room on the disk.
    pub(crate) fn drop_days_through(&self, day: i32) -> Result<(), Error> {
        let _compaction = self.compacting.lock();
        let removed = self.days.remove_before(day.saturating_add(1))?;
        self.counters.days_removed.fetch_add(removed as u64, Relaxed);
        self.forget_series()
    }

    /// The first day that is not over. A clock that has leapt ahead must not take everything with
    /// it: until it has been steady for an hour it is believed only as far as the newest samples
    /// bear it out, and not when it makes more days over than pass between two looks.
    fn first_kept(&self, compaction: &mut Compaction, now_ms: i64, now: bool) -> i32 {
        let steady = compaction.is_clock_steady(now_ms);
        if now || steady {
            compaction.told = false;
            return day_of(self.oldest_ms(now_ms));
        }
        let (days, _) = self.days.snapshot();
        let Some((newest, _)) = days.last_key_value() else { return i32::MIN };
        let believed_ms = now_ms.min((i64::from(*newest) + 2).saturating_mul(DAY_MS));
        let first = day_of(self.oldest_ms(believed_ms));
        let over = days.range(..first).count();
        if over <= DAYS_AT_ONCE {
            return first;
        }
        if !std::mem::replace(&mut compaction.told, true) {
            tracing::warn!(
                over,
                "many days are over at once; they are removed in an hour unless the clock is set back"
            );
        }
        i32::MIN
    }

    fn compact_if_due(
        &self,
        compaction: &Compaction,
        day: i32,
        files: &Day,
        now_ms: i64,
        now: bool,
    ) -> Result<bool, Error> {
        let compacted_ms = compaction.compacted_ms.get(&day).copied();
        let due = if now && !files.l0.is_empty() {
            true
        } else if !now && (i64::from(day) + 1) * DAY_MS + GRACE_MS > now_ms {
            false
        } else if !files.l0.is_empty() {
            is_young_due(files, compacted_ms, now_ms)
        } else {
            self.is_deletion_due(day, files, now_ms, now)?
        };
        if due {
            self.compact_day(day)?;
        }
        Ok(due)
    }

    /// Whether deletions want a closed day to be rewritten.
    fn is_deletion_due(&self, day: i32, files: &Day, now_ms: i64, now: bool) -> Result<bool, Error> {
        // For their sake alone it is done when no more seem to come.
        if !now && self.deletions.newest_ms().saturating_add(IDLE_MS) > now_ms {
            return Ok(false);
        }
        let start_ms = i64::from(day) * DAY_MS;
        let pending = self.deletions.within(start_ms, start_ms + DAY_MS - 1);
        match &files.l1 {
            Some(l1) if !pending.is_empty() => {
                let below = self.days.open_l1(l1)?.about.deletions_below;
                Ok(pending.iter().any(|d| d.id >= below))
            }
            _ => Ok(false),
        }
    }

    pub(crate) fn compact_day(&self, day: i32) -> Result<(), Error> {
        self.require_space(day)?;
        let (files, number, deletions, below) = {
            // A flush would hold a file that must not be written to any more, a deletion would
            // be half in and half out.
            let _unfinished = self.flusher.unfinished.lock();
            let (files, number) = self.days.freeze(day);
            let below = self.next_deletion.load(Relaxed);
            (files, number, self.deletions.all(), below)
        };
        self.crash_point("compact: frozen");
        let path = self.days.l1_path(day, number);
        let unfinished = files::unfinished_path(&path);
        files::remove(&unfinished)?;
        let written = self.write_day(&unfinished, &files, &deletions, below);
        let (about, damaged) = match written {
            Ok(written) => written,
            Err(e) => {
                files::remove(&unfinished)?;
                return Err(e);
            }
        };
        OpenL1::verify(&unfinished, &about).inspect_err(|_| drop(files::remove(&unfinished)))?;
        self.crash_point("compact: written");
        let l1 = if about.series > 0 {
            files::rename_durably(&unfinished, &path)?;
            Some(self.days.new_l1(path, number))
        } else {
            files::remove(&unfinished)?;
            None
        };
        if damaged {
            self.keep_inputs(&files)?;
        }
        self.crash_point("compact: named");
        let bytes = l1.as_ref().map_or(0, |l1| l1.allocated_bytes());
        let labelled = self.registry.read().index.ids().clone();
        self.days.replace(day, number, l1, |id| labelled.contains(id))?;
        self.crash_point("compact: replaced");
        self.counters.compactions.fetch_add(1, Relaxed);
        self.counters.compacted_samples.fetch_add(about.samples, Relaxed);
        self.counters.compacted_bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// The new file stands beside what it takes in for a while, and is hardly larger.
    fn require_space(&self, day: i32) -> Result<(), Error> {
        let (days, _) = self.days.snapshot();
        let Some(files) = days.get(&day) else { return Ok(()) };
        let young = files.l0.iter().map(|l0| l0.allocated_bytes());
        let closed = files.l1.iter().map(|l1| l1.allocated_bytes());
        Ok(files::require_space(&self.days.l1_path(day, 0), young.chain(closed).sum())?)
    }

    /// What the new file says of itself, and whether damaged pages were left out of it.
    fn write_day(
        &self,
        path: &Path,
        files: &Day,
        deletions: &[Deletion],
        below: u32,
    ) -> Result<(crate::day::l1::About, bool), Error> {
        let mut out = DayFile::create(path)?;
        let closed = files.l1.as_ref().map(|l1| self.days.open_l1(l1)).transpose()?;
        let source = DaySource::new(self, files, closed.as_ref(), deletions)?;
        let flushed = self.flushed_series(files);
        let mut columns = SampleColumns::default();
        for (n, series) in Joined::new(&flushed, closed.as_deref()).enumerate() {
            if n % 1024 == 0 && self.is_stopping() {
                return Err(Error::Closed);
            }
            let (labels, id, position) = series?;
            source.read(id, position, &mut columns)?;
            if !columns.is_empty() {
                out.push(&labels, &columns)?;
            }
        }
        let newest = files.l0.iter().filter_map(|l0| l0.flushes()).map(|f| f.1).max();
        let newest = newest.max(closed.as_ref().map(|c| c.about.newest_flush)).unwrap_or(0);
        let lacks_pages = files.l0.iter().any(|l0| l0.is_damaged());
        Ok((out.finish(newest, below)?, source.damaged.get() || lacks_pages))
    }

    /// Leaves files that have damaged pages under another name, for somebody to look at, instead
    /// of removing them with what could still be read from them.
    fn keep_inputs(&self, files: &Day) -> Result<(), Error> {
        let paths = files.l0.iter().map(|l0| l0.path()).chain(files.l1.iter().map(|l1| l1.path()));
        for path in paths {
            let aside = files::set_aside(path, "damaged")?;
            tracing::error!(file = %aside.display(), "a compacted file had damaged pages; it was set aside");
        }
        Ok(())
    }

    /// The series of a day's young files, in the order of labels.
    fn flushed_series(&self, files: &Day) -> Vec<(Labels, u32)> {
        let mut ids = RoaringBitmap::new();
        files.l0.iter().for_each(|l0| ids |= l0.ids());
        let registry = self.registry.read();
        let mut series: Vec<(Labels, u32)> =
            ids.iter().filter_map(|id| Some((registry.index.labels(id)?, id))).collect();
        drop(registry);
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        series
    }

    /// Removes deletions that no file and no samples on their way to one need.
    fn drop_done_deletions(&self) -> Result<(), Error> {
        let _unfinished = self.flusher.unfinished.lock();
        let mut done = Vec::new();
        for deletion in self.deletions.all().iter() {
            if !self.is_needed(deletion)? {
                done.push(deletion.id);
            }
        }
        if !done.is_empty() {
            self.catalog.remove_deletions(&done)?;
            self.deletions.remove(&done);
        }
        Ok(())
    }

    fn is_needed(&self, deletion: &Deletion) -> Result<bool, Error> {
        let sealing = |flush: u32| flush <= deletion.upto_flush;
        if self.head.all().iter().any(|g| g.read().sealing.iter().any(|s| sealing(s.flush))) {
            return Ok(true);
        }
        let (days, _) = self.days.snapshot();
        for (_, files) in days.range(day_of(deletion.start_ms)..=day_of(deletion.end_ms)) {
            let flushed = files.l0.iter().filter_map(|l0| l0.flushes()).any(|f| sealing(f.0));
            let closed = match &files.l1 {
                Some(l1) => self.days.open_l1(l1)?.about.deletions_below <= deletion.id,
                None => false,
            };
            if flushed || closed {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the young files of a day that is over shall be compacted: when nothing more comes, or
/// has come for so long that waiting for that has no end. A closed file is not written anew for
/// a few samples again and again.
fn is_young_due(files: &Day, compacted_ms: Option<i64>, now_ms: i64) -> bool {
    let idle = files.l0.iter().all(|l0| l0.written_ms().saturating_add(IDLE_MS) <= now_ms);
    let waited = files.l0.iter().any(|l0| l0.since_ms().saturating_add(LATE_MS) <= now_ms);
    let Some(l1) = &files.l1 else { return idle || waited };
    let young: u64 = files.l0.iter().map(|l0| l0.allocated_bytes()).sum();
    let much = young >= l1.allocated_bytes() / GOOD_PART;
    let lately = compacted_ms.is_some_and(|at| at.saturating_add(REWRITE_MS) > now_ms);
    (idle || waited) && (much || !lately)
}

/// Series of a day from both kinds of files, each once, in the order of labels.
struct Joined<'a> {
    flushed: Peekable<std::slice::Iter<'a, (Labels, u32)>>,
    closed: Option<&'a OpenL1>,
    page: Option<Page>,
    position: u32,
}

type JoinedSeries = (Labels, Option<u32>, Option<u32>);

impl<'a> Joined<'a> {
    fn new(flushed: &'a [(Labels, u32)], closed: Option<&'a OpenL1>) -> Self {
        Self { flushed: flushed.iter().peekable(), closed, page: None, position: 0 }
    }

    /// The labels of the next series of the closed file.
    fn next_closed(&mut self) -> Result<Option<Labels>, Error> {
        let Some(closed) = self.closed.filter(|c| self.position < c.about.series) else { return Ok(None) };
        if self.page.as_ref().and_then(|p| p.find(self.position)).is_none() {
            self.page = Some(closed.index.page_of(self.position)?);
        }
        let page = self.page.as_ref();
        let found = page.and_then(|p| Some(p.labels(p.find(self.position)?)));
        found.map(Some).ok_or_else(|| Error::corrupt(closed.path(), "a series is missing"))
    }

    fn advance(&mut self) -> Result<Option<JoinedSeries>, Error> {
        let closed = self.next_closed()?;
        let flushed = self.flushed.peek();
        let (take_closed, take_flushed) = match (&closed, flushed) {
            (None, None) => return Ok(None),
            (Some(c), Some((f, _))) => (c <= f, f <= c),
            (c, f) => (c.is_some(), f.is_some()),
        };
        let position = take_closed.then_some(self.position);
        self.position += u32::from(take_closed);
        let flushed = if take_flushed { self.flushed.next() } else { None };
        let labels = flushed.map(|(labels, _)| labels.clone()).or(closed).unwrap_or_default();
        Ok(Some((labels, flushed.map(|(_, id)| *id), position)))
    }
}

impl Iterator for Joined<'_> {
    type Item = Result<JoinedSeries, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// Reads one series of a day from all its files, without what deletions hide.
struct DaySource<'a> {
    store: &'a Inner,
    files: &'a Day,
    closed: Option<&'a Arc<OpenL1>>,
    /// By deletion: the series hidden in young files up to a flush, and in the closed file.
    hidden: Vec<Hiding>,
    /// Pages of its own, so that the queries' ones are not driven out.
    pages: Cache<LoadedPage>,
    /// Something could not be read.
    damaged: Cell<bool>,
}

struct Hiding {
    flushed: RoaringBitmap,
    closed: RoaringBitmap,
    upto_flush: u32,
    range: (i64, i64),
}

impl<'a> DaySource<'a> {
    fn new(
        store: &'a Inner,
        files: &'a Day,
        closed: Option<&'a Arc<OpenL1>>,
        deletions: &[Deletion],
    ) -> Result<Self, Error> {
        let budget = Budget::unlimited();
        let registry = store.registry.read();
        let hiding = |d: &Deletion| {
            let pending = closed.filter(|c| d.id >= c.about.deletions_below);
            Ok(Hiding {
                flushed: matching(&registry.index, d, &budget)?,
                closed: pending.map(|c| matching(&c.index, d, &budget)).transpose()?.unwrap_or_default(),
                upto_flush: d.upto_flush,
                range: (d.start_ms, d.end_ms),
            })
        };
        let hidden = deletions.iter().map(hiding).collect::<Result<_, Error>>()?;
        Ok(Self { store, files, closed, hidden, pages: Cache::new(PAGES_BYTES), damaged: Cell::new(false) })
    }

    fn read(&self, id: Option<u32>, position: Option<u32>, out: &mut SampleColumns) -> Result<(), Error> {
        let mut merge = Merge::new(out);
        if let (Some(position), Some(closed)) = (position, self.closed) {
            self.read_closed(closed, position, &mut merge)?;
        }
        if let Some(id) = id {
            for file in &self.files.l0 {
                let mut pages = Vec::new();
                file.pages_of(id, (i64::MIN, i64::MAX), |flush, page, place| {
                    pages.push(((flush, page), place));
                });
                for (key, place) in pages {
                    self.read_flushed(file, (id, place), key, &mut merge)?;
                }
            }
        }
        merge.finish();
        Ok(())
    }

    /// What could be read; `None` where the bytes are damaged. Other failures stay failures.
    fn readable<T>(&self, read: Result<T, Error>) -> Result<Option<T>, Error> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_damage() => {
                self.damaged.set(true);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn read_flushed(
        &self,
        file: &crate::day::l0::L0,
        (id, place): (u32, u32),
        key: (u32, u32),
        merge: &mut Merge<'_>,
    ) -> Result<(), Error> {
        // A damaged page was counted; the day goes on without it.
        let load = || file.load(key).map_err(|e| self.store.corrupt(e));
        let page = self.pages.get_or(PageKey { file: file.uid, key }, load);
        let Some(page) = self.readable(page)? else { return Ok(()) };
        for entry in page.find(place) {
            let mut own = SampleColumns::default();
            let read = page.read_block(entry, (i64::MIN, i64::MAX), &no_lists, &mut own);
            self.readable(read.map_err(|e| self.store.corrupt(e.in_file(file.path()))))?;
            let hiding = self.hidden.iter().filter(|h| key.0 <= h.upto_flush && h.flushed.contains(id));
            hiding.for_each(|h| remove_range(&mut own, h.range.0, h.range.1));
            merge.run(|c| append(c, &mut own));
        }
        Ok(())
    }

    fn read_closed(&self, closed: &OpenL1, position: u32, merge: &mut Merge<'_>) -> Result<(), Error> {
        let mut numbers = Vec::new();
        closed.pages_of(position, (i64::MIN, i64::MAX), |number| numbers.push(number));
        for number in numbers {
            let load = || closed.load(number).map_err(|e| self.store.corrupt(e));
            let page = self.pages.get_or(PageKey { file: closed.uid, key: (0, number) }, load);
            let Some(page) = self.readable(page)? else { continue };
            let lists = |number| self.store.closed_times(closed, number);
            for entry in page.find(position) {
                let mut own = SampleColumns::default();
                let read = page.read_block(entry, (i64::MIN, i64::MAX), &lists, &mut own);
                self.readable(read.map_err(|e| self.store.corrupt(e.in_file(closed.path()))))?;
                let hiding = self.hidden.iter().filter(|h| h.closed.contains(position));
                hiding.for_each(|h| remove_range(&mut own, h.range.0, h.range.1));
                merge.run(|c| append(c, &mut own));
            }
        }
        Ok(())
    }
}

fn append(to: &mut SampleColumns, from: &mut SampleColumns) {
    to.times_ms.append(&mut from.times_ms);
    to.values.append(&mut from.values);
    to.histograms.append(&mut from.histograms);
}
