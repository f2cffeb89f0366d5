//! Reading the samples of one selected series.
//!
//! The head goes first, then the disk: samples only ever move that way, so none is missed, and
//! one seen twice is merged. A handle keeps the files that stood when it was made, and looks
//! into files that have come since.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLock;
use pilothouse_index::RoaringBitmap;
use pilothouse_model::time::day_of;
use pilothouse_model::{Matcher, SampleColumns, SampleValue, SeriesSamples, SourceError};

use crate::day::l0::L0;
use crate::day::l1::OpenL1;
use crate::day::set::{Day, DaySet};
use crate::error::Error;
use crate::head::{self, Group, Hidden, group_of, slot_of};
use crate::loaded::{LoadedPage, PageKey, TimesList, no_lists};
use crate::merge::{Merge, remove_range};
use crate::store::Inner;

/// The id of a series that is in closed days only.
pub(crate) const NO_ID: u32 = u32::MAX;

/// What all handles of a selection share.
pub(crate) struct Selected {
    pub(crate) store: Arc<Inner>,
    pub(crate) range: (i64, i64),
    pub(crate) days: Arc<DaySet>,
    pub(crate) version: u64,
    pub(crate) groups: Vec<Arc<RwLock<Group>>>,
    pub(crate) closed: Vec<ClosedDay>,
}

/// A closed day of a selection.
pub(crate) struct ClosedDay {
    pub(crate) day: i32,
    pub(crate) open: Arc<OpenL1>,
    /// The selected series, and which of them deletions hide.
    pub(crate) selected: RoaringBitmap,
    pub(crate) deleted: Vec<(RoaringBitmap, i64, i64)>,
}

pub(crate) struct Handle {
    pub(crate) shared: Arc<Selected>,
    pub(crate) id: u32,
    /// Closed days and the series' numbers in them, by day.
    pub(crate) closed: Box<[(u16, u32)]>,
    pub(crate) hidden: Option<Arc<[Hidden]>>,
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
        let group = self.group()?.read();
        // Under the lock: a deletion raises the floor under it.
        let floor = self.shared.store.floor_ms.load(Relaxed);
        head::newest(&group, slot_of(self.id)).filter(|n| n.0 > floor)
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
        let pieces = self.pieces(range)?;
        if pieces.is_empty() {
            return Ok(());
        }
        FROM_HEAD.with_borrow_mut(|from_head| {
            std::mem::swap(from_head, out);
            let mut merge = Merge::new(out);
            for piece in &pieces {
                unless_damaged(self.read_piece(piece, range, &mut merge))?;
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
        for piece in self.pieces((from, range.1))? {
            unless_damaged(self.search_piece(&piece, (from, range.1), &mut newest))?;
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
            Piece::Flushed { file, flush, page, place } if self.hidden.is_none() => {
                let loaded = store.flushed_page(file, (*flush, *page))?;
                let mut of = loaded.find(*place).iter();
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
    fn pieces(&self, range: (i64, i64)) -> Result<Vec<Piece>, Error> {
        let shared = &*self.shared;
        let mut pieces = Vec::new();
        let days = day_of(range.0)..=day_of(range.1);
        for (day, files) in shared.days.range(days.clone()) {
            self.closed_pieces(*day, range, &mut pieces);
            self.flushed_pieces(files, None, range, &mut pieces);
        }
        if shared.store.days.version() != shared.version {
            // What was flushed since the selection is in younger files, or by now in a closed
            // one. The selection's own files hold everything else, whatever became of their names.
            let (current, _) = shared.store.days.snapshot();
            for (day, files) in current.range(days) {
                let known = shared.days.get(day);
                self.exchanged_pieces(files, known, range, &mut pieces)?;
                self.flushed_pieces(files, known, range, &mut pieces);
            }
        }
        Ok(pieces)
    }

    /// The pages of a closed file that is younger than the selection, found by labels. A series
    /// that was in closed days only has nothing new in it.
    #[cold]
    fn exchanged_pieces(
        &self,
        files: &Day,
        known: Option<&Day>,
        range: (i64, i64),
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Error> {
        let store = &*self.shared.store;
        let uid = |day: &Day| day.l1.as_ref().map(|l1| l1.uid);
        let Some(l1) = files.l1.as_ref().filter(|l1| known.and_then(uid) != Some(l1.uid)) else {
            return Ok(());
        };
        let labels = store.registry.read_recursive().index.labels(self.id);
        let Some(labels) = labels.filter(|_| self.id != NO_ID) else { return Ok(()) };
        let open = store.days.open_l1(l1)?;
        let Some(position) = open.index.get(&labels)? else { return Ok(()) };
        let matches = |set: &Vec<Matcher>| set.iter().all(|m| m.matches(labels.value(&m.name)));
        let deletions = store.deletions.within(range.0, range.1);
        let pending = deletions.iter().filter(|d| d.id >= open.about.deletions_below);
        let hiding = pending.filter(|d| d.matcher_sets.iter().any(matches));
        let hidden: Arc<[Hidden]> = hiding.map(|d| (u32::MAX, d.start_ms, d.end_ms)).collect();
        open.pages_of(position, range, |page| {
            pieces.push(Piece::Exchanged { open: open.clone(), position, page, hidden: hidden.clone() });
        });
        Ok(())
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
                file.pages_of(self.id, range, |flush, page, place| {
                    pieces.push(Piece::Flushed { file: file.clone(), flush, page, place });
                });
            }
        }
    }

    fn read_piece(&self, piece: &Piece, range: (i64, i64), merge: &mut Merge<'_>) -> Result<(), Error> {
        match piece {
            Piece::Flushed { file, flush, page, place } => {
                let loaded = self.shared.store.flushed_page(file, (*flush, *page))?;
                for entry in loaded.find(*place) {
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
                let deleted = closed.deleted.iter().filter(|d| d.0.contains(*position));
                let hidden: Vec<Hidden> = deleted.map(|d| (u32::MAX, d.1, d.2)).collect();
                self.read_closed(&closed.open, &hidden, (*position, *page), range, merge)?;
            }
            Piece::Exchanged { open, position, page, hidden } => {
                self.read_closed(open, hidden, (*position, *page), range, merge)?;
            }
        }
        Ok(())
    }

    fn read_closed(
        &self,
        open: &OpenL1,
        hidden: &[Hidden],
        (position, page): (u32, u32),
        range: (i64, i64),
        merge: &mut Merge<'_>,
    ) -> Result<(), Error> {
        let store = &*self.shared.store;
        let loaded = store.closed_page(open, page)?;
        let lists = |number| store.closed_times(open, number);
        for entry in loaded.find(position) {
            merge
                .run(|c| read_shown(c, hidden, 0, |c| loaded.read_block(entry, range, &lists, c)))
                .map_err(|e| store.corrupt(e.in_file(open.path())))?;
        }
        Ok(())
    }
}

/// What is damaged was counted and told of; a query goes on with what there is besides.
fn unless_damaged(read: Result<(), Error>) -> Result<(), Error> {
    match read {
        Err(error) if error.is_damage() => Ok(()),
        read => read,
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

/// How often damage is told of before the counter alone does it.
const TOLD: u64 = 100;

/// A page that a series may have samples in.
enum Piece {
    Flushed {
        file: Arc<L0>,
        flush: u32,
        page: u32,
        /// The number of the series in it.
        place: u32,
    },
    /// Of the closed day with this place in the selection.
    Closed { at: u16, position: u32, page: u32 },
    /// Of a closed day that came after the selection.
    Exchanged { open: Arc<OpenL1>, position: u32, page: u32, hidden: Arc<[Hidden]> },
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
        if error.is_damage() {
            // Each query that comes by meets it again.
            if self.counters.corruptions.fetch_add(1, Relaxed) < TOLD {
                tracing::error!(%error, "damaged samples are left out");
            }
        }
        error
    }
}
