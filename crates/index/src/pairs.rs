//! Names, and pairs of a name and a value, each known by a small number.
//!
//! A pair lives as long as a series has it, a name as long as a pair has it; their numbers are
//! then given again. Text is therefore counted by the postings themselves.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use roaring::RoaringBitmap;

use crate::postings::{self, Postings};
use crate::sorted::SortedIds;

/// A number in [`Pairs`].
pub(crate) type PairId = u32;
pub(crate) type NameId = u32;

/// A name with all its values.
#[derive(Debug, Default)]
pub(crate) struct Name {
    pub text: Box<str>,
    /// Pairs by their value.
    pub values: SortedIds,
    /// All series that have a label of this name.
    pub series: RoaringBitmap,
    /// Counts changes of `values`, and changes of any of its postings: for the cache.
    pub values_version: u64,
    pub series_version: u64,
}

/// All pairs. The columns are indexed by [`PairId`].
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    name: Vec<NameId>,
    value: Vec<Box<str>>,
    postings: Vec<Postings>,
    free: Vec<PairId>,
    by_text: HashTable<PairId>,
    names: Vec<Name>,
    free_names: Vec<NameId>,
    by_name: HashMap<Box<str>, NameId, RandomState>,
    hasher: RandomState,
    /// Counted on over the lives of names, so that a number given again never meets an old cache.
    version: u64,
    text_bytes: usize,
}

impl Pairs {
    // ---- reading ----

    /// Pairs in use.
    pub(crate) fn len(&self) -> usize {
        self.by_text.len()
    }

    pub(crate) fn find(&self, name: &str, value: &str) -> Option<PairId> {
        let is = |id: &PairId| self.value(*id) == value && self.name_text(*id) == name;
        self.by_text.find(hash(&self.hasher, name, value), is).copied()
    }

    pub(crate) fn name_id(&self, name: &str) -> Option<NameId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, id: NameId) -> Option<&Name> {
        self.names.get(id as usize)
    }

    pub(crate) fn find_name(&self, name: &str) -> Option<&Name> {
        self.name(self.name_id(name)?)
    }

    /// Names in use, in any order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.by_name.values().filter_map(|id| self.name(*id))
    }

    pub(crate) fn name_of(&self, id: PairId) -> NameId {
        self.name.get(id as usize).copied().unwrap_or(NameId::MAX)
    }

    pub(crate) fn name_text(&self, id: PairId) -> &str {
        self.name(self.name_of(id)).map_or("", |n| &n.text)
    }

    pub(crate) fn value(&self, id: PairId) -> &str {
        self.value.get(id as usize).map_or("", |v| v)
    }

    pub(crate) fn postings(&self, id: PairId) -> Option<&Postings> {
        self.postings.get(id as usize)
    }

    /// The pairs of a name whose value starts with `prefix`, by value.
    pub(crate) fn of_name<'a>(
        &'a self,
        name: &'a Name,
        prefix: &'a str,
    ) -> impl Iterator<Item = PairId> + 'a {
        name.values.with_prefix(prefix, |id| self.value(id))
    }

    // ---- changing ----

    /// The number of a pair, a new one if it is not there yet.
    pub(crate) fn intern(&mut self, name: &str, value: &str) -> PairId {
        if let Some(id) = self.find(name, value) {
            return id;
        }
        let name_id = self.intern_name(name);
        let id = self.take_pair(name_id, value);
        let Self { by_text, hasher, names, value: values, name: pair_names, .. } = self;
        let text = |id: PairId| values.get(id as usize).map_or("", |v| &**v);
        let rehash = |id: &PairId| {
            let of = pair_names.get(*id as usize).and_then(|n| names.get(*n as usize));
            hash(hasher, of.map_or("", |n| &*n.text), text(*id))
        };
        by_text.insert_unique(hash(hasher, name, value), id, rehash);
        self.version += 1;
        if let Some(name) = names.get_mut(name_id as usize) {
            name.values.insert(id, text);
            name.values_version = self.version;
        }
        id
    }

    fn take_pair(&mut self, name: NameId, value: &str) -> PairId {
        self.text_bytes += value.len();
        if let Some(id) = self.free.pop() {
            self.name[id as usize] = name;
            self.value[id as usize] = Box::from(value);
            return id;
        }
        self.name.push(name);
        self.value.push(Box::from(value));
        self.postings.push(Postings::default());
        (self.name.len() - 1) as PairId
    }

    fn intern_name(&mut self, name: &str) -> NameId {
        if let Some(id) = self.name_id(name) {
            return id;
        }
        let id = self.free_names.pop().unwrap_or_else(|| {
            self.names.push(Name::default());
            (self.names.len() - 1) as NameId
        });
        self.names[id as usize].text = Box::from(name);
        self.by_name.insert(Box::from(name), id);
        id
    }

    /// Adds a series to a pair.
    pub(crate) fn attach(&mut self, pair: PairId, series: u32) {
        self.version += 1;
        if let Some(postings) = self.postings.get_mut(pair as usize) {
            postings.insert(series);
        }
        let name = self.name_of(pair);
        if let Some(name) = self.names.get_mut(name as usize) {
            name.series.insert(series);
            name.series_version = self.version;
        }
    }

    /// Takes a series out of a pair; forgets the pair, and its name, when it was the last.
    pub(crate) fn detach(&mut self, pair: PairId, series: u32) {
        self.version += 1;
        let name_id = self.name_of(pair);
        if let Some(name) = self.names.get_mut(name_id as usize) {
            name.series.remove(series);
            name.series_version = self.version;
        }
        let Some(postings) = self.postings.get_mut(pair as usize) else { return };
        postings.remove(series);
        if postings.is_empty() {
            self.forget(pair, name_id);
        }
    }

    fn forget(&mut self, pair: PairId, name_id: NameId) {
        let hashed = hash(&self.hasher, self.name_text(pair), self.value(pair));
        if let Ok(entry) = self.by_text.find_entry(hashed, |id| *id == pair) {
            entry.remove();
        }
        let Self { names, value, .. } = self;
        let Some(name) = names.get_mut(name_id as usize) else { return };
        name.values.remove(pair, |id| value.get(id as usize).map_or("", |v| &**v));
        name.values_version = self.version;
        let nameless = name.values.len() == 0;
        self.text_bytes -= self.value(pair).len();
        self.value[pair as usize] = Box::default();
        self.name[pair as usize] = NameId::MAX;
        self.free.push(pair);
        if nameless {
            self.forget_name(name_id);
        }
    }

    fn forget_name(&mut self, id: NameId) {
        let name = std::mem::take(&mut self.names[id as usize]);
        self.by_name.remove(&name.text);
        self.free_names.push(id);
    }

    // ---- size ----

    /// Memory held, about; allocators round up.
    pub(crate) fn heap_bytes(&self) -> usize {
        let columns = self.name.capacity() * size_of::<NameId>()
            + self.value.capacity() * size_of::<Box<str>>()
            + self.postings.capacity() * size_of::<Postings>()
            + (self.free.capacity() + self.free_names.capacity()) * size_of::<u32>();
        let tables = self.by_text.allocation_size() + self.by_name.allocation_size();
        let lists: usize = self.postings.iter().map(Postings::heap_bytes).sum();
        let names: usize = self
            .names
            .iter()
            .map(|n| {
                size_of::<Name>()
                    + 2 * n.text.len()
                    + n.values.heap_bytes()
                    + postings::bitmap_bytes(&n.series)
            })
            .sum();
        columns + tables + lists + names + self.text_bytes + 8 * self.len()
    }
}

fn hash(hasher: &RandomState, name: &str, value: &str) -> u64 {
    let mut state = hasher.build_hasher();
    name.hash(&mut state);
    value.hash(&mut state);
    state.finish()
}
