//! What a store holds in memory, for the account of the process, and what it can give back.

use crate::store::Store;

/// A reading that costs little.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Samples that are in no day file yet.
    pub head_bytes: u64,
    /// Labels of series and their postings.
    pub index_bytes: u64,
    /// Decoded pages and lists of times, read again when they are needed.
    pub cache_bytes: u64,
}

impl Store {
    pub fn memory(&self) -> MemoryFigures {
        let inner = &*self.inner;
        MemoryFigures {
            head_bytes: inner.head.heap_bytes(),
            index_bytes: inner.registry.read().index.memory_bytes() as u64,
            cache_bytes: inner.pages.stats().bytes + inner.times.stats().bytes,
        }
    }

    /// Lets go what can be read again.
    pub fn shrink_caches(&self) {
        self.inner.pages.clear();
        self.inner.times.clear();
        self.inner.days.close_closed();
    }
}
