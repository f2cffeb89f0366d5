//! Selecting series: matchers resolved, and light handles made of what they select.
//!
//! Samples are decoded when a handle is read, on the caller's thread; see [`crate::read`].

use std::collections::HashMap;
use std::sync::Arc;

use pilothouse_index::{RoaringBitmap, Scan, resolve};
use pilothouse_model::time::day_of;
use pilothouse_model::{Budget, LabelNeeds, Labels, SelectedSeries, Selection};
use rayon::prelude::*;

use crate::day::l1::{L1, OpenL1};
use crate::day::set::DaySet;
use crate::delete::matching;
use crate::error::Error;
use crate::head::Hidden;
use crate::read::{ClosedDay, Handle, NO_ID, Selected};
use crate::record::Deletion;
use crate::registry::Registry;
use crate::store::Inner;

/// Series between two looks at the budget.
const CHECK_EVERY: usize = 4096;
/// Series whose labels are taken at once; in between writers have their turn.
const LABELS_AT_ONCE: usize = 8192;

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
    let (shared, memory) = look(store, range, selection, budget)?;
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

/// One look at the days and at the memory that belong together. A compaction in between may have
/// moved a series to a closed day and out of memory, or removed a file before it was opened: then
/// what was found is of two states and is thrown away. Days change a few times an hour.
fn look(
    store: &Arc<Inner>,
    range: (i64, i64),
    selection: &Selection,
    budget: &Budget,
) -> Result<(Selected, InMemory), Error> {
    loop {
        // Deletions go first: one is dropped only when no file needs it any more.
        let deletions = store.deletions.within(range.0, range.1);
        let (days, version) = store.days.snapshot();
        let found = closed_days(store, &days, range, selection, &deletions, budget).and_then(|closed| {
            store.crash_point("select: days read");
            Ok((InMemory::read(store, selection, &deletions, !closed.is_empty(), budget)?, closed))
        });
        if store.days.version() == version {
            let (memory, closed) = found?;
            let groups = store.head.all();
            return Ok((Selected { store: store.clone(), range, days, version, groups, closed }, memory));
        }
        budget.check("selecting series")?;
    }
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
        let (selected, hidden) = {
            let index = &store.registry.read().index;
            let hiding =
                |d: &Deletion| Ok((matching(index, d, budget)?, (d.upto_flush, d.start_ms, d.end_ms)));
            let hidden = deletions.iter().map(hiding).collect::<Result<_, Error>>()?;
            (resolve(index, &selection.matchers, budget)?, hidden)
        };
        let mut memory = Self { ids: Vec::new(), labels: Vec::new(), fingerprints: Vec::new(), hidden };
        if needs_none(&selection.needs) && !join {
            memory.ids = selected.iter().collect();
            return Ok(memory);
        }
        let mut selected = selected.iter();
        loop {
            let part: Vec<u32> = selected.by_ref().take(LABELS_AT_ONCE).collect();
            if part.is_empty() {
                return Ok(memory);
            }
            budget.check("selecting series")?;
            memory.add(&store.registry.read(), part, &selection.needs, join);
        }
    }

    /// Adds series with their labels, but for those that have been forgotten since they were
    /// found: they have samples in closed days only.
    fn add(&mut self, registry: &Registry, ids: Vec<u32>, needs: &LabelNeeds, join: bool) {
        let index = &registry.index;
        let known = ids.into_iter().filter(|id| index.contains(*id));
        let from = self.ids.len();
        self.ids.extend(known);
        let added = &self.ids[from..];
        match needs {
            needs if needs_none(needs) => {}
            LabelNeeds::All => self.labels.extend(added.iter().filter_map(|id| index.labels(*id))),
            LabelNeeds::Only(names) => {
                let mut projection = index.projection(names);
                self.labels.extend(added.iter().filter_map(|id| projection.labels(*id)));
            }
        }
        if join {
            self.fingerprints.extend(added.iter().map(|id| registry.fingerprint(*id)));
        }
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

/// `None` where nothing is selected.
fn closed_day(
    store: &Inner,
    (day, file): (i32, &L1),
    selection: &Selection,
    deletions: &[Deletion],
    budget: &Budget,
) -> Result<Option<ClosedDay>, Error> {
    let open = store.days.open_l1(file)?;
    let selected = resolve(&open.index, &selection.matchers, budget)?;
    if selected.is_empty() {
        return Ok(None);
    }
    let deleted = deleted_in(&open, deletions, budget)?;
    Ok(Some(ClosedDay { day, open, selected, deleted }))
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
        match closed_day(store, (*day, l1), selection, deletions, budget) {
            // The others are no worse for it.
            Err(error) if error.is_damage() => drop(store.corrupt(error.in_file(l1.path()))),
            found => closed.extend(found?),
        }
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
