//! Which values of a label pass a matcher: kept, since dashboards ask the same again and again.

use std::collections::HashMap;
use std::sync::Arc;

use pilothouse_model::limits::{SELECTOR_CACHE_BYTES, SELECTOR_CACHE_ENTRIES};
use roaring::RoaringBitmap;

use crate::pairs::{Name, PairId};
use crate::postings;
use crate::resolve::Test;

type Key = (Box<str>, Box<str>);

#[derive(Debug)]
struct Entry {
    /// Right as long as the name's values are the same.
    values_version: u64,
    pairs: Arc<[PairId]>,
    /// Right as long as no series of the name came or went.
    series_version: u64,
    union: RoaringBitmap,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Default)]
pub(crate) struct MatchCache {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    clock: u64,
}

impl MatchCache {
    fn entry(&mut self, name: &Name, test: &Test<'_>) -> Option<&Entry> {
        self.clock += 1;
        let entry = self.entries.get_mut(&key(name, test))?;
        entry.used = self.clock;
        Some(entry)
    }

    /// The series, if nothing has changed.
    pub(crate) fn union(&mut self, name: &Name, test: &Test<'_>) -> Option<RoaringBitmap> {
        self.entry(name, test).filter(|e| e.series_version == name.series_version).map(|e| e.union.clone())
    }

    /// The passing pairs, if the values have not changed.
    pub(crate) fn pairs(&mut self, name: &Name, test: &Test<'_>) -> Option<Arc<[PairId]>> {
        self.entry(name, test).filter(|e| e.values_version == name.values_version).map(|e| e.pairs.clone())
    }

    pub(crate) fn keep(&mut self, name: &Name, test: &Test<'_>, pairs: Arc<[PairId]>, union: &RoaringBitmap) {
        let key = key(name, test);
        let bytes = size_of::<Entry>()
            + key.0.len()
            + key.1.len()
            + size_of_val(&*pairs)
            + postings::bitmap_bytes(union);
        if bytes > SELECTOR_CACHE_BYTES / 4 {
            return;
        }
        self.drop_entry(&key);
        while self.entries.len() >= SELECTOR_CACHE_ENTRIES || self.bytes + bytes > SELECTOR_CACHE_BYTES {
            let Some(oldest) = self.entries.iter().min_by_key(|(_, e)| e.used).map(|(k, _)| k.clone()) else {
                break;
            };
            self.drop_entry(&oldest);
        }
        self.bytes += bytes;
        let (values_version, series_version) = (name.values_version, name.series_version);
        let entry =
            Entry { values_version, pairs, series_version, union: union.clone(), bytes, used: self.clock };
        self.entries.insert(key, entry);
    }

    fn drop_entry(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn key(name: &Name, test: &Test<'_>) -> Key {
    (name.text.clone(), Box::from(test.cache_key()))
}
