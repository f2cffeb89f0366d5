//! Keys of senders to series ids: the first look-up of every sample.

use hashbrown::HashTable;

/// Two aliases a series on average, and some room for a store that is still small.
const ALIASES_PER_SERIES: usize = 3;
const SMALL: usize = 1 << 16;

/// A key in four words, so that an entry takes 20 bytes instead of 32.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: [u32; 4],
    id: u32,
}

/// Which series a sender's key means. One series may have several keys. The keys are hashes
/// already and are used as such.
#[derive(Debug, Default)]
pub(crate) struct KeyMap {
    entries: HashTable<Entry>,
}

impl KeyMap {
    #[inline]
    pub(crate) fn get(&self, key: u128) -> Option<u32> {
        let words = words(key);
        self.entries.find(hash(words), |e| e.key == words).map(|e| e.id)
    }

    /// Remembers a key. When there are far more keys than series, all are forgotten: they come
    /// back one by one at the price of a parse each.
    pub(crate) fn insert(&mut self, key: u128, id: u32, series: usize) {
        if self.entries.len() >= series * ALIASES_PER_SERIES + SMALL {
            self.entries.clear();
        }
        let key = words(key);
        self.entries.insert_unique(hash(key), Entry { key, id }, |e| hash(e.key));
    }

    /// Forgets the keys of series that are no longer known.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        self.entries.retain(|e| keep(e.id));
    }

    /// Gives back the memory of keys that are forgotten.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit(|e| hash(e.key));
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn words(key: u128) -> [u32; 4] {
    [key as u32, (key >> 32) as u32, (key >> 64) as u32, (key >> 96) as u32]
}

fn hash(words: [u32; 4]) -> u64 {
    u64::from(words[0]) | u64::from(words[1]) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_forgotten_and_bounded() {
        let mut keys = KeyMap::default();
        for i in 0..1000u32 {
            keys.insert(u128::from(i) << 70 | u128::from(i), i, 1000);
        }
        assert_eq!(keys.get(7u128 << 70 | 7), Some(7));
        assert_eq!(keys.get(7), None);
        keys.retain(|id| id >= 500);
        assert_eq!((keys.get(7u128 << 70 | 7), keys.len()), (None, 500));
        for i in 0..(SMALL as u128 + 10) {
            keys.insert(i << 40, 1, 0);
        }
        assert!(keys.len() <= SMALL);
    }
}
