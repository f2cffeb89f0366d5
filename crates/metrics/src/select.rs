//! Selecting series, and reading the samples of one.
//!
//! Selecting is cheap: it resolves matchers and makes light handles; samples are decoded when a
//! handle is read, on the caller's thread. A handle that is read first looks into the head, then
//! at the disk: samples only ever move that way, so none is missed, and one seen twice is merged.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLock;
use pilothouse_index::{RoaringBitmap, Scan, resolve};
use pilothouse_model::time::day_of;
use pilothouse_model::{
    Budget, LabelNeeds, Labels, SampleColumns, SampleValue, SelectedSeries, Selection, SeriesSamples,
    SourceError,
};
use rayon::prelude::*;

use crate::day::l0::L0;
use crate::day::l1::OpenL1;
use crate::day::set::{Day, DaySet};
use crate::delete::matching;
use crate::error::Error;
use crate::head::{self, Group, Hidden, group_of, slot_of};
use crate::loaded::{LoadedPage, PageKey, TimesList, no_lists};
use crate::merge::{Merge, remove_range};
use crate::record::Deletion;
use crate::store::Inner;

/// A series that is in closed days only.
const NO_ID: u32 = u32::MAX;
/// Series between two looks at the budget.
const CHECK_EVERY: usize = 4096;

/// What all handles of a selection share.
struct Selected {
    store: Arc<Inner>,
    range: (i64, i64),
    days: Arc<DaySet>,
    version: u64,
    groups: Vec<Arc<RwLock<Group>>>,
    closed: Vec<ClosedDay>,
}

/// A closed day of a selection.
struct ClosedDay {
    day: i32,
    open: Arc<OpenL1>,
    /// The selected series, and which of them deletions hide.
    selected: RoaringBitmap,
    deleted: Vec<(RoaringBitmap, i64, i64)>,
}

struct Handle {
    shared: Arc<Selected>,
    id: u32,
    /// Closed days and the series' numbers in them, by day.
    closed: Box<[(u16, u32)]>,
    hidden: Option<Arc<[Hidden]>>,
}

pub(crate) fn select(
    store: &Arc<Inner>,
    selection: &Selection,
    budget: &Budget,
) -> Result<Vec<SelectedSeries>, Error> {
    let oldest = store.oldest_ms(store.now_ms());
    let range = (selection.start_ms.max(oldest), selection.end_ms);
    if range.0 > range.1 {
        return Ok(Vec::new());
    }
    let (days, version) = store.days.snapshot();
    let deletions = store.deletions.within(range.0, range.1);
    let closed = closed_days(store, &days, range, selection, &deletions, budget)?;
    let memory = InMemory::read(store, selection, &deletions, !closed.is_empty(), budget)?;
    let shared = Selected { store: store.clone(), range, days, version, groups: store.head.all(), closed };
    if shared.closed.is_empty() {
        budget.add_series(memory.ids.len() as u64)?;
        return Ok(memory.into_series(&Arc::new(shared)));
    }
    let mut found = memory.into_found();
    for (at, day) in shared.closed.iter().enumerate().rev() {
        found.add_closed(at as u16, day, &selection.needs, budget)?;
    }
    budget.add_series(found.series.len() as u64)?;
    Ok(found.into_series(&Arc::new(shared)))
}

/// The selected series that are in memory. A copy, so that the registry is not held while other
/// threads are waited for: one of them may want to write to it.
struct InMemory {
    ids: Vec<u32>,
    /// One a series, or none where no label is needed.
    labels: Vec<Labels>,
    /// One a series, where closed days are to be joined.
    fingerprints: Vec<u128>,
    hidden: Vec<(RoaringBitmap, Hidden)>,
}

impl InMemory {
    fn read(
        store: &Inner,
        selection: &Selection,
        deletions: &[Deletion],
        join: bool,
        budget: &Budget,
    ) -> Result<Self, Error> {
        let registry = store.registry.read();
        let index = &registry.index;
        let ids: Vec<u32> = resolve(index, &selection.matchers, budget)?.iter().collect();
        let hiding = |d: &Deletion| Ok((matching(index, d, budget)?, (d.upto_flush, d.start_ms, d.end_ms)));
        let hidden = deletions.iter().map(hiding).collect::<Result<_, Error>>()?;
        let mut projection = match &selection.needs {
            LabelNeeds::All => None,
            LabelNeeds::Only(names) => Some(index.projection(names)),
        };
        let mut labels_of = |id: u32| match &mut projection {
            Some(projection) => projection.labels(id),
            None => index.labels(id),
        };
        let mut labels = Vec::new();
        if !needs_none(&selection.needs) {
            labels.reserve(ids.len());
            for part in ids.chunks(CHECK_EVERY) {
                budget.check("selecting series")?;
                labels.extend(part.iter().map(|id| labels_of(*id).unwrap_or_default()));
            }
        }
        let fingerprints =
            if join { ids.iter().map(|id| registry.fingerprint(*id)).collect() } else { Vec::new() };
        Ok(Self { ids, labels, fingerprints, hidden })
    }

    fn hidden(&self, id: u32) -> Option<Arc<[Hidden]>> {
        if self.hidden.is_empty() {
            return None;
        }
        let of: Vec<Hidden> = self.hidden.iter().filter(|h| h.0.contains(id)).map(|h| h.1).collect();
        (!of.is_empty()).then(|| of.into())
    }

    fn labels(&self, at: usize) -> Labels {
        self.labels.get(at).cloned().unwrap_or_default()
    }

    /// Handles of all of them, where no closed day has to be joined.
    fn into_series(self, shared: &Arc<Selected>) -> Vec<SelectedSeries> {
        let handle = |(at, id): (usize, &u32)| {
            let handle =
                Handle { shared: shared.clone(), id: *id, closed: Box::default(), hidden: self.hidden(*id) };
            SelectedSeries { labels: self.labels(at), samples: Box::new(handle) }
        };
        self.ids.par_iter().enumerate().with_min_len(CHECK_EVERY).map(handle).collect()
    }

    /// The same as a list that closed days are joined to.
    fn into_found(self) -> Found {
        let series = self.ids.iter().enumerate().map(|(at, id)| FoundSeries {
            labels: self.labels(at),
            id: *id,
            closed: Vec::new(),
            hidden: self.hidden(*id),
        });
        let by_fingerprint = self.fingerprints.iter().copied().zip(0..).collect();
        Found { series: series.collect(), by_fingerprint }
    }
}

fn needs_none(needs: &LabelNeeds) -> bool {
    matches!(needs, LabelNeeds::Only(names) if names.is_empty())
}

/// The closed days of a range with the series that are selected in them.
fn closed_days(
    store: &Inner,
    days: &DaySet,
    range: (i64, i64),
    selection: &Selection,
    deletions: &[Deletion],
    budget: &Budget,
) -> Result<Vec<ClosedDay>, Error> {
    let mut closed = Vec::new();
    for (day, files) in days.range(day_of(range.0)..=day_of(range.1)) {
        let Some(l1) = &files.l1 else { continue };
        budget.check("selecting series")?;
        let open = store.days.open_l1(l1)?;
        let selected = resolve(&open.index, &selection.matchers, budget)?;
        if selected.is_empty() {
            continue;
        }
        let deleted = deleted_in(&open, deletions, budget)?;
        closed.push(ClosedDay { day: *day, open, selected, deleted });
    }
    Ok(closed)
}

fn deleted_in(
    open: &OpenL1,
    deletions: &[Deletion],
    budget: &Budget,
) -> Result<Vec<(RoaringBitmap, i64, i64)>, Error> {
    let pending = deletions.iter().filter(|d| d.id >= open.about.deletions_below);
    pending.map(|d| Ok((matching(&open.index, d, budget)?, d.start_ms, d.end_ms))).collect()
}

/// The series of a selection with closed days, as they are found.
struct Found {
    series: Vec<FoundSeries>,
    /// Where each series is in the list.
    by_fingerprint: HashMap<u128, u32, foldhash::fast::FixedState>,
}

struct FoundSeries {
    labels: Labels,
    id: u32,
    closed: Vec<(u16, u32)>,
    hidden: Option<Arc<[Hidden]>>,
}

impl Found {
    /// Joins the series of a closed day to those that were found before.
    fn add_closed(
        &mut self,
        at: u16,
        day: &ClosedDay,
        needs: &LabelNeeds,
        budget: &Budget,
    ) -> Result<(), Error> {
        budget.check("selecting series")?;
        let mut unknown = RoaringBitmap::new();
        let mut prints = Vec::new();
        let Self { series, by_fingerprint } = self;
        day.open.fingerprints(&day.selected, |position, fingerprint| {
            if let Some(known) = by_fingerprint.get(&fingerprint) {
                series[*known as usize].closed.push((at, position));
            } else {
                unknown.insert(position);
                prints.push(fingerprint);
            }
        })?;
        let mut prints = prints.into_iter();
        let mut visited = 0usize;
        day.open.index.for_each(&unknown, &mut |position, page, row| {
            visited += 1;
            if visited.is_multiple_of(CHECK_EVERY) {
                budget.check("selecting series")?;
            }
            let labels = match needs {
                LabelNeeds::All => page.labels(row),
                LabelNeeds::Only(names) => Labels::from_sorted(
                    page.label_pairs(row)
                        .filter(|(n, _)| names.binary_search_by(|x| x.as_str().cmp(n)).is_ok()),
                ),
            };
            if let Some(fingerprint) = prints.next() {
                by_fingerprint.insert(fingerprint, series.len() as u32);
            }
            series.push(FoundSeries { labels, id: NO_ID, closed: vec![(at, position)], hidden: None });
            Ok(Scan::Continue(()))
        })?;
        Ok(())
    }

    fn into_series(self, shared: &Arc<Selected>) -> Vec<SelectedSeries> {
        let handle = |mut found: FoundSeries| {
            // Closed days were visited newest first.
            found.closed.reverse();
            let handle = Handle {
                shared: shared.clone(),
                id: found.id,
                closed: found.closed.into(),
                hidden: found.hidden,
            };
            SelectedSeries { labels: found.labels, samples: Box::new(handle) }
        };
        self.series.into_iter().map(handle).collect()
    }
}

thread_local! {
    static SCRATCH: RefCell<SampleColumns> = RefCell::default();
    static FROM_HEAD: RefCell<SampleColumns> = RefCell::default();
}

impl SeriesSamples for Handle {
    fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) -> Result<(), SourceError> {
        let range = (start_ms.max(self.shared.range.0), end_ms.min(self.shared.range.1));
        out.clear();
        if range.0 > range.1 {
            return Ok(());
        }
        Ok(self.read_range(range, out)?)
    }

    fn latest(&self, after_ms: i64, at_ms: i64) -> Result<Option<(i64, SampleValue)>, SourceError> {
        let (after, at) =
            (after_ms.max(self.shared.range.0.saturating_sub(1)), at_ms.min(self.shared.range.1));
        if after >= at {
            return Ok(None);
        }
        if let Some(newest) = self.newest().filter(|n| n.0 <= at) {
            return Ok((newest.0 > after).then_some(newest));
        }
        Ok(self.search((after.saturating_add(1), at))?)
    }
}

fn last_of(columns: &SampleColumns) -> Option<(i64, SampleValue)> {
    let float = columns.times_ms.last().zip(columns.values.last());
    let float = float.map(|(t, v)| (*t, SampleValue::Float(*v)));
    let histogram = columns.histograms.last().map(|(t, h)| (*t, SampleValue::Histogram(h.clone())));
    match (float, histogram) {
        (Some(f), Some(h)) => Some(if f.0 > h.0 { f } else { h }),
        (f, h) => f.or(h),
    }
}

impl Handle {
    fn group(&self) -> Option<&RwLock<Group>> {
        self.shared.groups.get(group_of(self.id) as usize).map(|g| &**g)
    }

    /// The newest sample of the series, if the head knows that it is.
    fn newest(&self) -> Option<(i64, SampleValue)> {
        let floor = self.shared.store.floor_ms.load(Relaxed);
        head::newest(&self.group()?.read(), slot_of(self.id)).filter(|n| n.0 > floor)
    }

    fn hidden(&self) -> &[Hidden] {
        self.hidden.as_deref().unwrap_or(&[])
    }

    /// Into empty columns. The head goes first, since samples move from there to the disk.
    fn read_range(&self, range: (i64, i64), out: &mut SampleColumns) -> Result<(), Error> {
        if let Some(group) = self.group() {
            let mut merge = Merge::new(out);
            head::read_series(&group.read(), slot_of(self.id), self.hidden(), range, &mut merge);
            merge.finish();
        }
        let pieces = self.pieces(range);
        if pieces.is_empty() {
            return Ok(());
        }
        FROM_HEAD.with_borrow_mut(|from_head| {
            std::mem::swap(from_head, out);
            let mut merge = Merge::new(out);
            for piece in &pieces {
                self.read_piece(piece, range, &mut merge)?;
            }
            merge.run(|c| {
                c.times_ms.append(&mut from_head.times_ms);
                c.values.append(&mut from_head.values);
                c.histograms.append(&mut from_head.histograms);
            });
            merge.finish();
            Ok(())
        })
    }

    /// The newest sample in a range. Of the disk only pages that may hold a newer one than the
    /// head does are looked at.
    fn search(&self, range: (i64, i64)) -> Result<Option<(i64, SampleValue)>, Error> {
        let mut newest = self.group().and_then(|group| {
            SCRATCH.with_borrow_mut(|columns| {
                let mut merge = Merge::new(columns);
                head::read_series(&group.read(), slot_of(self.id), self.hidden(), range, &mut merge);
                merge.finish();
                last_of(columns)
            })
        });
        let from = newest.as_ref().map_or(range.0, |n| n.0.saturating_add(1));
        if from > range.1 {
            return Ok(newest);
        }
        for piece in self.pieces((from, range.1)) {
            self.search_piece(&piece, (from, range.1), &mut newest)?;
        }
        Ok(newest)
    }

    fn search_piece(
        &self,
        piece: &Piece,
        range: (i64, i64),
        newest: &mut Option<(i64, SampleValue)>,
    ) -> Result<(), Error> {
        let store = &*self.shared.store;
        match piece {
            Piece::Flushed { file, flush, page } if self.hidden.is_none() => {
                let loaded = store.flushed_page(file, (*flush, *page))?;
                let mut of = loaded.find(self.id).iter();
                of.try_for_each(|entry| loaded.latest(entry, range, &no_lists, newest))
                    .map_err(|e| store.corrupt(e.in_file(file.path())))
            }
            Piece::Closed { at, position, page } if self.is_whole(*at) => {
                let Some(closed) = self.shared.closed.get(usize::from(*at)) else { return Ok(()) };
                let loaded = store.closed_page(&closed.open, *page)?;
                let lists = |number| store.closed_times(&closed.open, number);
                let mut of = loaded.find(*position).iter();
                of.try_for_each(|entry| loaded.latest(entry, range, &lists, newest))
                    .map_err(|e| store.corrupt(e.in_file(closed.open.path())))
            }
            _ => self.search_shown(piece, range, newest),
        }
    }

    /// Whether no deletion hides anything of a closed day.
    fn is_whole(&self, at: u16) -> bool {
        self.shared.closed.get(usize::from(at)).is_some_and(|c| c.deleted.is_empty())
    }

    /// As [`Handle::search_piece`] where deletions may hide some of it.
    #[cold]
    fn search_shown(
        &self,
        piece: &Piece,
        range: (i64, i64),
        newest: &mut Option<(i64, SampleValue)>,
    ) -> Result<(), Error> {
        SCRATCH.with_borrow_mut(|columns| {
            let mut merge = Merge::new(columns);
            self.read_piece(piece, range, &mut merge)?;
            merge.finish();
            if let Some(found) = last_of(columns).filter(|f| newest.as_ref().is_none_or(|n| n.0 <= f.0)) {
                *newest = Some(found);
            }
            Ok(())
        })
    }

    /// The pages on the disk that may hold samples of the series, oldest day first, in a day the
    /// closed file first and then flush by flush.
    fn pieces(&self, range: (i64, i64)) -> Vec<Piece> {
        let shared = &*self.shared;
        let mut pieces = Vec::new();
        let days = day_of(range.0)..=day_of(range.1);
        for (day, files) in shared.days.range(days.clone()) {
            self.closed_pieces(*day, range, &mut pieces);
            self.flushed_pieces(files, None, range, &mut pieces);
        }
        if shared.store.days.version() != shared.version {
            // What was flushed into files that are younger than the selection; its own files
            // still hold everything else, whatever became of their names.
            let (current, _) = shared.store.days.snapshot();
            for (day, files) in current.range(days) {
                self.flushed_pieces(files, shared.days.get(day), range, &mut pieces);
            }
        }
        pieces
    }

    fn closed_pieces(&self, day: i32, range: (i64, i64), pieces: &mut Vec<Piece>) {
        let of_day = self.closed.iter().find_map(|(at, position)| {
            let closed = self.shared.closed.get(usize::from(*at))?;
            (closed.day == day).then_some((*at, *position, closed))
        });
        if let Some((at, position, closed)) = of_day {
            closed.open.pages_of(position, range, |page| pieces.push(Piece::Closed { at, position, page }));
        }
    }

    /// Leaves out the files that the selection began with, where `known` is given.
    fn flushed_pieces(&self, files: &Day, known: Option<&Day>, range: (i64, i64), pieces: &mut Vec<Piece>) {
        if self.id == NO_ID {
            return;
        }
        for file in &files.l0 {
            if known.is_none_or(|k| k.l0.iter().all(|l0| l0.uid != file.uid)) {
                file.pages_of(self.id, range, |flush, page| {
                    pieces.push(Piece::Flushed { file: file.clone(), flush, page });
                });
            }
        }
    }

    fn read_piece(&self, piece: &Piece, range: (i64, i64), merge: &mut Merge<'_>) -> Result<(), Error> {
        match piece {
            Piece::Flushed { file, flush, page } => {
                let loaded = self.shared.store.flushed_page(file, (*flush, *page))?;
                for entry in loaded.find(self.id) {
                    merge
                        .run(|c| {
                            read_shown(c, self.hidden(), *flush, |c| {
                                loaded.read_block(entry, range, &no_lists, c)
                            })
                        })
                        .map_err(|e| self.shared.store.corrupt(e.in_file(file.path())))?;
                }
            }
            Piece::Closed { at, position, page } => {
                let Some(closed) = self.shared.closed.get(usize::from(*at)) else { return Ok(()) };
                self.read_closed(closed, *position, *page, range, merge)?;
            }
        }
        Ok(())
    }

    fn read_closed(
        &self,
        closed: &ClosedDay,
        position: u32,
        page: u32,
        range: (i64, i64),
        merge: &mut Merge<'_>,
    ) -> Result<(), Error> {
        let store = &*self.shared.store;
        let loaded = store.closed_page(&closed.open, page)?;
        let lists = |number| store.closed_times(&closed.open, number);
        let deleted = closed.deleted.iter().filter(|d| d.0.contains(position));
        let hidden: Vec<Hidden> = deleted.map(|d| (u32::MAX, d.1, d.2)).collect();
        for entry in loaded.find(position) {
            merge
                .run(|c| read_shown(c, &hidden, 0, |c| loaded.read_block(entry, range, &lists, c)))
                .map_err(|e| store.corrupt(e.in_file(closed.open.path())))?;
        }
        Ok(())
    }
}

/// Reads a block and takes out what deletions hide of it.
fn read_shown(
    out: &mut SampleColumns,
    hidden: &[Hidden],
    flush: u32,
    read: impl FnOnce(&mut SampleColumns) -> Result<(), Error>,
) -> Result<(), Error> {
    if hidden.iter().all(|h| h.0 < flush) {
        return read(out);
    }
    let mut own = SampleColumns::default();
    read(&mut own)?;
    for (_, start, end) in hidden.iter().filter(|h| h.0 >= flush) {
        remove_range(&mut own, *start, *end);
    }
    out.times_ms.append(&mut own.times_ms);
    out.values.append(&mut own.values);
    out.histograms.append(&mut own.histograms);
    Ok(())
}

/// A page that a series may have samples in.
enum Piece {
    Flushed { file: Arc<L0>, flush: u32, page: u32 },
    Closed { at: u16, position: u32, page: u32 },
}

impl Inner {
    pub(crate) fn flushed_page(&self, file: &L0, key: (u32, u32)) -> Result<Arc<LoadedPage>, Error> {
        let load = || file.load(key).map_err(|e| self.corrupt(e));
        self.pages.get_or(PageKey { file: file.uid, key }, load)
    }

    pub(crate) fn closed_page(&self, open: &OpenL1, number: u32) -> Result<Arc<LoadedPage>, Error> {
        let load = || open.load(number).map_err(|e| self.corrupt(e));
        self.pages.get_or(PageKey { file: open.uid, key: (0, number) }, load)
    }

    pub(crate) fn closed_times(&self, open: &OpenL1, number: u32) -> Result<Arc<TimesList>, Error> {
        let load = || open.load_times(number).map_err(|e| self.corrupt(e));
        self.times.get_or(PageKey { file: open.uid, key: (0, number) }, load)
    }

    /// Counts damage that was met.
    pub(crate) fn corrupt(&self, error: Error) -> Error {
        if matches!(error, Error::Corrupt { .. } | Error::Codec(_)) {
            self.counters.corruptions.fetch_add(1, Relaxed);
            tracing::error!(%error, "damaged data");
        }
        error
    }
}
