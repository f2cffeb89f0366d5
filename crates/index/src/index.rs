//! The label sets of live series, in memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::ControlFlow;

use parking_lot::Mutex;
use pilothouse_model::{Budget, Labels, Matcher};
use roaring::RoaringBitmap;

use crate::cache::MatchCache;
use crate::pairs::{Name, PairId, Pairs};
use crate::postings::{self, Listed, Union};
use crate::resolve::{PostingsSource, Scan, Test};
use crate::rows::{MAX_ROW, Rows};
use crate::{Error, Projection};

/// All live series and their labels. A series is an id that the caller gives; ids may be sparse
/// and are best given in ascending order.
///
/// At 250,000 series of twelve labels a series takes about a hundred bytes.
#[derive(Debug, Default)]
pub struct Index {
    pub(crate) pairs: Pairs,
    rows: Rows,
    all: RoaringBitmap,
    cache: Mutex<MatchCache>,
}

impl Index {
    pub fn new() -> Self {
        Self::default()
    }

    // ---- changing ----

    /// Adds a series. `false`, and nothing is changed, if the id is taken.
    pub fn insert(&mut self, id: u32, labels: &Labels) -> Result<bool, Error> {
        if self.contains(id) {
            return Ok(false);
        }
        let count = labels.len();
        if count > MAX_ROW {
            return Err(Error::TooManyLabels(count));
        }
        let row: Vec<PairId> = labels.iter().map(|(name, value)| self.pairs.intern(name, value)).collect();
        self.insert_row(id, &row);
        Ok(true)
    }

    /// Adds a series whose pairs are interned, in the order of their names.
    pub(crate) fn insert_row(&mut self, id: u32, row: &[PairId]) {
        for pair in row {
            self.pairs.attach(*pair, id);
        }
        self.rows.insert(id, row);
        self.all.insert(id);
    }

    /// Removes a series; `false` if there is none of that id.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(row) = self.rows.remove(id) else { return false };
        for pair in row {
            self.pairs.detach(pair, id);
        }
        self.all.remove(id);
        true
    }

    /// Lays the rows side by side again, after many series were removed. Takes some ten
    /// milliseconds per million series.
    pub fn compact(&mut self) {
        self.rows.compact();
    }

    // ---- reading ----

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, id: u32) -> bool {
        self.rows.get(id).is_some()
    }

    /// All ids.
    pub fn ids(&self) -> &RoaringBitmap {
        &self.all
    }

    pub(crate) fn row(&self, id: u32) -> Option<&[PairId]> {
        self.rows.get(id)
    }

    /// The label set of a series.
    pub fn labels(&self, id: u32) -> Option<Labels> {
        let pairs = &self.pairs;
        let row = self.rows.get(id)?;
        Some(Labels::from_sorted(row.iter().map(|pair| (pairs.name_text(*pair), pairs.value(*pair)))))
    }

    /// The value of one label of a series; `None` if the series or the label is not there.
    pub fn value(&self, id: u32, name: &str) -> Option<&str> {
        let name = self.pairs.name_id(name)?;
        let pair = self.rows.get(id)?.iter().find(|pair| self.pairs.name_of(**pair) == name)?;
        Some(self.pairs.value(*pair))
    }

    /// A series by its label set: among those that have its two rarest pairs there are few.
    pub fn get(&self, labels: &Labels) -> Option<u32> {
        let (mut row, mut lists) = (Vec::with_capacity(16), Vec::with_capacity(16));
        for (name, value) in labels {
            let pair = self.pairs.find(name, value)?;
            row.push(pair);
            lists.push(self.pairs.postings(pair)?);
        }
        lists.sort_unstable_by_key(|list| list.len());
        let is = |id: &u32| self.rows.get(*id) == Some(row.as_slice());
        match lists.as_slice() {
            [] => self.all.iter().find(is),
            [only] => only.to_bitmap().iter().find(is),
            [rarest, second, ..] if second.len() < 16 => rarest.to_bitmap().iter().find(is),
            [rarest, second, ..] => (&*rarest.to_bitmap() & &*second.to_bitmap()).iter().find(is),
        }
    }

    /// Label sets cut down to some names; for many series, sharing equal sets.
    pub fn projection<N: AsRef<str>>(&self, names: &[N]) -> Projection<'_> {
        Projection::new(self, names)
    }

    // ---- size ----

    /// Distinct label pairs.
    pub fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// Memory held, about. Walks all pairs: for a scrape, not for a request.
    pub fn memory_bytes(&self) -> usize {
        self.pairs.heap_bytes()
            + self.rows.heap_bytes()
            + postings::bitmap_bytes(&self.all)
            + self.cache.lock().bytes()
    }

    // ---- matching ----

    /// The pairs of a name whose value passes, through the cache.
    fn union_cached(&self, name: &Name, test: &Test<'_>, budget: &Budget) -> Result<RoaringBitmap, Error> {
        if let Some(union) = self.cache.lock().union(name, test) {
            return Ok(union);
        }
        let cached = self.cache.lock().pairs(name, test);
        let passing = match cached {
            Some(pairs) => pairs,
            None => self.passing(name, test, budget)?,
        };
        let mut union = Union::default();
        for pair in passing.iter() {
            if let Some(postings) = self.pairs.postings(*pair) {
                union.add(postings);
            }
        }
        let union = union.finish();
        self.cache.lock().keep(name, test, passing, &union);
        Ok(union)
    }

    fn passing(
        &self,
        name: &Name,
        test: &Test<'_>,
        budget: &Budget,
    ) -> Result<std::sync::Arc<[PairId]>, Error> {
        let mut passing = Vec::new();
        for (i, pair) in self.pairs.of_name(name, test.prefix()).enumerate() {
            if i % 4096 == 4095 {
                budget.check("matching labels")?;
            }
            if test.passes(self.pairs.value(pair)) {
                passing.push(pair);
            }
        }
        Ok(passing.into())
    }
}

impl PostingsSource for Index {
    fn all(&self) -> Result<Cow<'_, RoaringBitmap>, Error> {
        Ok(Cow::Borrowed(&self.all))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = self.pairs.names().map(|n| n.text.to_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn postings(&self, name: &str, value: &str) -> Result<Cow<'_, RoaringBitmap>, Error> {
        let postings = self.pairs.find(name, value).and_then(|pair| self.pairs.postings(pair));
        Ok(postings.map_or_else(Default::default, |p| p.to_bitmap()))
    }

    fn having(&self, name: &str) -> Result<Cow<'_, RoaringBitmap>, Error> {
        Ok(self.pairs.find_name(name).map_or_else(Default::default, |n| Cow::Borrowed(&n.series)))
    }

    fn scan(
        &self,
        name: &str,
        prefix: &str,
        visit: &mut dyn FnMut(&str, Listed<'_>) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        let Some(name) = self.pairs.find_name(name) else { return Ok(()) };
        for pair in self.pairs.of_name(name, prefix) {
            let Some(postings) = self.pairs.postings(pair) else { continue };
            if let ControlFlow::Break(()) = visit(self.pairs.value(pair), postings.listed())? {
                break;
            }
        }
        Ok(())
    }

    fn union_where(&self, test: &Test<'_>, budget: &Budget) -> Result<RoaringBitmap, Error> {
        match self.pairs.find_name(test.name()) {
            Some(name) => self.union_cached(name, test, budget),
            None => Ok(RoaringBitmap::new()),
        }
    }

    /// Worth it when a selection is small beside the values of the name: each series' own value
    /// is looked at, each distinct one once.
    fn narrow(&self, selection: &RoaringBitmap, matcher: &Matcher) -> Result<Option<RoaringBitmap>, Error> {
        let Some(name_id) = self.pairs.name_id(&matcher.name) else { return Ok(None) };
        let values = self.pairs.name(name_id).map_or(0, |n| n.values.len());
        if selection.len() * 4 > values as u64 {
            return Ok(None);
        }
        let mut verdicts: HashMap<PairId, bool> = HashMap::new();
        let empty = matcher.matches_empty();
        let narrowed = selection.iter().filter(|id| {
            let row = self.rows.get(*id).unwrap_or(&[]);
            match row.iter().find(|pair| self.pairs.name_of(**pair) == name_id) {
                Some(pair) => {
                    *verdicts.entry(*pair).or_insert_with(|| matcher.matches(self.pairs.value(*pair)))
                }
                None => empty,
            }
        });
        Ok(Some(narrowed.collect()))
    }
}
