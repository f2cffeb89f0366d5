//! Names, values, series and exemplars, without samples.

use std::collections::BTreeSet;

use pilothouse_index::resolve::{names_within, values_within};
use pilothouse_index::{PostingsSource, RoaringBitmap, Scan, resolve};
use pilothouse_model::ports::{Exemplar, LabelQuery};
use pilothouse_model::time::{DAY_MS, day_of};
use pilothouse_model::{Budget, Labels, Matcher};

use crate::day::l0::L0;
use crate::error::Error;
use crate::head::{GROUP_SERIES, Open, slot_of};
use crate::store::Inner;

/// Series whose labels are taken at once.
const SERIES_AT_ONCE: usize = 4096;

impl Inner {
    pub(crate) fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, Error> {
        self.listed(query, budget, |source, selection| match selection {
            Some(selection) => Ok(names_within(source, source.names()?, selection)?),
            None => Ok(source.names()?),
        })
    }

    pub(crate) fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, Error> {
        self.listed(query, budget, |source, selection| Ok(values_within(source, name, selection, budget)?))
    }

    /// Sorted texts of all sources of a query.
    fn listed(
        &self,
        query: &LabelQuery,
        budget: &Budget,
        list: impl Fn(&dyn PostingsSource, Option<&RoaringBitmap>) -> Result<Vec<String>, Error>,
    ) -> Result<Vec<String>, Error> {
        let mut lists = Vec::new();
        let selection = self.in_memory(query, budget)?;
        lists.push(list(&self.registry.read().index, selection.as_ref())?);
        self.each_closed(query, |open| {
            let selection = match query.matcher_sets.as_slice() {
                [] => None,
                sets => Some(resolve_any(&open.index, sets, budget)?),
            };
            lists.push(list(&open.index, selection.as_ref())?);
            Ok(())
        })?;
        let mut all = match lists.len() {
            1 => lists.pop().unwrap_or_default(),
            _ => lists.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect(),
        };
        if query.limit > 0 {
            all.truncate(query.limit);
        }
        Ok(all)
    }

    pub(crate) fn series(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<Labels>, Error> {
        let mut series = BTreeSet::new();
        let keep = |series: &mut BTreeSet<Labels>, labels| {
            series.insert(labels);
            if query.limit > 0 && series.len() > query.limit {
                series.pop_last();
            }
        };
        let selection = self.in_memory(query, budget)?;
        let ids: Vec<u32> = match &selection {
            Some(ids) => ids.iter().collect(),
            None => self.registry.read().index.ids().iter().collect(),
        };
        budget.add_series(ids.len() as u64)?;
        // In parts, so that writers have their turn in between.
        for part in ids.chunks(SERIES_AT_ONCE) {
            budget.check("listing series")?;
            let registry = self.registry.read();
            part.iter().filter_map(|id| registry.index.labels(*id)).for_each(|l| keep(&mut series, l));
        }
        self.each_closed(query, |open| {
            let selection = match query.matcher_sets.as_slice() {
                [] => open.index.all()?.into_owned(),
                sets => resolve_any(&open.index, sets, budget)?,
            };
            budget.check("listing series")?;
            open.index.for_each(&selection, &mut |_, page, row| {
                keep(&mut series, page.labels(row));
                Ok(Scan::Continue(()))
            })?;
            Ok(())
        })?;
        Ok(series.into_iter().collect())
    }

    pub(crate) fn query_exemplars(&self, query: &LabelQuery) -> Result<Vec<(Labels, Vec<Exemplar>)>, Error> {
        let selection = match query.matcher_sets.as_slice() {
            [] => None,
            sets => Some(resolve_any(&self.registry.read().index, sets, &Budget::unlimited())?),
        };
        let held: Vec<(u32, Vec<Exemplar>)> = {
            let ring = self.exemplars.lock();
            let ids = ring.ids().filter(|id| selection.as_ref().is_none_or(|s| s.contains(*id)));
            let of = ids.map(|id| (id, ring.of(id, query.start_ms, query.end_ms)));
            of.filter(|(_, exemplars)| !exemplars.is_empty()).collect()
        };
        let registry = self.registry.read();
        let labelled = |(id, exemplars)| Some((registry.index.labels(id)?, exemplars));
        let mut found: Vec<(Labels, Vec<Exemplar>)> = held.into_iter().filter_map(labelled).collect();
        drop(registry);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        if query.limit > 0 {
            found.truncate(query.limit);
        }
        Ok(found)
    }

    /// The series in memory that a query selects and that may have samples in its range; `None`
    /// for all of them.
    fn in_memory(&self, query: &LabelQuery, budget: &Budget) -> Result<Option<RoaringBitmap>, Error> {
        let selection = match query.matcher_sets.as_slice() {
            [] => None,
            sets => Some(resolve_any(&self.registry.read().index, sets, budget)?),
        };
        let exact = self.are_few(selection.as_ref());
        if self.is_present(query) && !exact {
            return Ok(selection);
        }
        let ids = match selection {
            Some(ids) => ids,
            None => self.registry.read().index.ids().clone(),
        };
        let range = (query.start_ms, query.end_ms);
        let mut kept = self.in_head(&ids, range);
        let (days, _) = self.days.snapshot();
        let files = days.range(day_of(range.0)..=day_of(range.1)).flat_map(|(_, files)| &files.l0);
        for file in files {
            let missing = (&ids - &kept) & file.ids();
            budget.check("listing series")?;
            kept |= missing
                .iter()
                .filter(|id| self.is_in_file(file, *id, range, exact))
                .collect::<RoaringBitmap>();
        }
        Ok(Some(kept))
    }

    /// Whether a young file may have samples of a series in a range: by the ends of its pages or,
    /// if it is to be exact, by the series' own times in them.
    fn is_in_file(&self, file: &L0, id: u32, range: (i64, i64), exact: bool) -> bool {
        let mut pages = Vec::new();
        file.pages_of(id, range, |flush, page, place| pages.push(((flush, page), place)));
        let has =
            |key, place| self.flushed_page(file, key).and_then(|page| page.has_samples_of(place, range));
        // What cannot be read is told by whoever reads it.
        pages.into_iter().any(|(key, place)| !exact || has(key, place).unwrap_or(true))
    }

    /// Those of some series that have samples in memory whose ends overlap a range.
    fn in_head(&self, ids: &RoaringBitmap, range: (i64, i64)) -> RoaringBitmap {
        let overlaps = |open: &Open| open.span().is_some_and(|s| s.0 <= range.1 && s.1 >= range.0);
        let mut kept = RoaringBitmap::new();
        for (number, group) in self.head.all().iter().enumerate() {
            let first = (number * GROUP_SERIES) as u32;
            let group = group.read();
            for id in ids.range(first..=first + (GROUP_SERIES as u32 - 1)) {
                let open = group.series.get(slot_of(id)).map(|s| &s.open);
                let sealing = group.sealing.iter().filter_map(|s| s.of(slot_of(id)));
                if open.into_iter().chain(sealing).any(overlaps) {
                    kept.insert(id);
                }
            }
        }
        kept
    }

    /// Whether a range reaches into a day that has a young file, or to the present: series in
    /// memory have samples there, and many are not looked at one by one.
    fn is_present(&self, query: &LabelQuery) -> bool {
        const RECENT_MS: i64 = 5 * 60 * 1000;
        let now = self.now_ms();
        let (days, _) = self.days.snapshot();
        let young = days.iter().find(|(_, files)| !files.l0.is_empty());
        let since = young.map_or(i64::MAX, |(day, _)| i64::from(*day) * DAY_MS);
        query.end_ms >= since.min(now.saturating_sub(RECENT_MS)) && query.start_ms <= now
    }

    /// Whether looking at the selected series one by one costs next to nothing; then an answer
    /// is exact even where it might be wider.
    fn are_few(&self, selection: Option<&RoaringBitmap>) -> bool {
        const FEW: u64 = 2_000;
        selection.map_or_else(|| self.registry.read().index.ids().len(), RoaringBitmap::len) <= FEW
    }

    /// Calls `each` with the closed days that a query touches.
    fn each_closed(
        &self,
        query: &LabelQuery,
        mut each: impl FnMut(&crate::day::l1::OpenL1) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start_ms = query.start_ms.max(self.oldest_ms(self.now_ms()));
        if start_ms > query.end_ms {
            return Ok(());
        }
        loop {
            let (days, version) = self.days.snapshot();
            let mut files =
                days.range(day_of(start_ms)..=day_of(query.end_ms)).filter_map(|d| d.1.l1.as_ref());
            let all = files.try_for_each(|l1| each(&*self.days.open_l1(l1)?));
            // A file that failed may be one that a compaction has just replaced. What was listed
            // twice counts once.
            match all {
                Err(Error::Disk(_)) if self.days.version() != version => {}
                other => return other,
            }
        }
    }
}

/// The series that any of the sets selects.
pub(crate) fn resolve_any<S: PostingsSource + ?Sized>(
    source: &S,
    sets: &[Vec<Matcher>],
    budget: &Budget,
) -> Result<RoaringBitmap, Error> {
    let mut all = RoaringBitmap::new();
    for set in sets {
        all |= resolve(source, set, budget)?;
    }
    Ok(all)
}
