//! The series that are in memory: in the head, or in a day that is not compacted yet.

use hashbrown::HashTable;
use pilothouse_index::Index;
use pilothouse_model::Labels;

/// Fingerprints in a page.
const PAGE: usize = 1024;

/// Label sets by id, and ids by fingerprint. Ids only grow and are never given twice.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) index: Index,
    by_fingerprint: HashTable<u32>,
    fingerprints: Fingerprints,
    next_id: u32,
}

#[derive(Debug, Default)]
struct Fingerprints(Vec<Option<Box<[u128; PAGE]>>>);

impl Fingerprints {
    fn get(&self, id: u32) -> u128 {
        let page = self.0.get(id as usize / PAGE).and_then(Option::as_ref);
        page.map_or(0, |p| p[id as usize % PAGE])
    }

    fn set(&mut self, id: u32, fingerprint: u128) {
        let at = id as usize / PAGE;
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at].get_or_insert_with(|| Box::new([0; PAGE]))[id as usize % PAGE] = fingerprint;
    }

    fn forget_page_if(&mut self, at: usize, empty: bool) {
        if let Some(page) = self.0.get_mut(at).filter(|_| empty) {
            *page = None;
        }
    }
}

impl Registry {
    pub(crate) fn id_of(&self, fingerprint: u128) -> Option<u32> {
        self.by_fingerprint.find(fingerprint as u64, |id| self.fingerprints.get(*id) == fingerprint).copied()
    }

    pub(crate) fn fingerprint(&self, id: u32) -> u128 {
        self.fingerprints.get(id)
    }

    /// Gives a new series the next id. `None` when there are no more ids, or more labels than
    /// the index takes; neither happens within the limits.
    pub(crate) fn insert(&mut self, labels: &Labels, fingerprint: u128) -> Option<u32> {
        let id = self.next_id;
        if id == u32::MAX - 1 || !self.insert_as(id, labels, fingerprint) {
            return None;
        }
        Some(id)
    }

    /// Adds a series under the id it had before. `false` if the id is taken by another.
    pub(crate) fn insert_as(&mut self, id: u32, labels: &Labels, fingerprint: u128) -> bool {
        if !self.index.insert(id, labels).unwrap_or(false) {
            return false;
        }
        self.add_fingerprint(id, fingerprint);
        true
    }

    /// Notes id and fingerprint of a series that the index has already.
    pub(crate) fn add_fingerprint(&mut self, id: u32, fingerprint: u128) {
        self.fingerprints.set(id, fingerprint);
        self.next_id = self.next_id.max(id + 1);
        let Self { by_fingerprint, fingerprints, .. } = self;
        by_fingerprint.insert_unique(fingerprint as u64, id, |id| fingerprints.get(*id) as u64);
    }

    /// Forgets series that are nowhere any more. Their memory stays until
    /// [`Registry::compact`], which is for the end of many such calls.
    pub(crate) fn remove(&mut self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            if !self.index.remove(id) {
                continue;
            }
            let fingerprint = self.fingerprints.get(id);
            if let Ok(entry) = self.by_fingerprint.find_entry(fingerprint as u64, |i| *i == id) {
                entry.remove();
            }
        }
    }

    pub(crate) fn compact(&mut self) {
        self.index.compact();
        for at in 0..self.fingerprints.0.len() {
            let (from, to) = ((at * PAGE) as u32, ((at + 1) * PAGE) as u32);
            let empty = self.index.ids().range_cardinality(from..to) == 0;
            self.fingerprints.forget_page_if(at, empty);
        }
        let fingerprints = &self.fingerprints;
        self.by_fingerprint.shrink_to_fit(|id| fingerprints.get(*id) as u64);
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    pub(crate) fn set_next_id(&mut self, next_id: u32) {
        self.next_id = self.next_id.max(next_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_and_forgotten() {
        let mut registry = Registry::default();
        let labels = |i: u32| Labels::from_pairs([("__name__", "m"), ("i", &*i.to_string())]);
        for i in 0..3000 {
            assert_eq!(registry.insert(&labels(i), labels(i).fingerprint()), Some(i));
        }
        assert_eq!(registry.id_of(labels(7).fingerprint()), Some(7));
        registry.remove(0..2000);
        registry.compact();
        assert_eq!((registry.id_of(labels(7).fingerprint()), registry.len()), (None, 1000));
        assert_eq!(registry.id_of(labels(2500).fingerprint()), Some(2500));
        assert_eq!(registry.insert(&labels(7), labels(7).fingerprint()), Some(3000));
        assert_eq!(registry.fingerprint(3000), labels(7).fingerprint());
    }
}
