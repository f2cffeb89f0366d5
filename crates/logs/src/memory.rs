//! What a store holds in memory, for the account of the process, and what it can give back.

use std::sync::atomic::Ordering::Relaxed;

use crate::store::Store;

/// A reading that costs little.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Lines that are in no block yet, and blocks that are not committed.
    pub tail_bytes: u64,
    /// Labels of streams and their postings.
    pub index_bytes: u64,
    /// Tables of blocks of days, read again when they are needed.
    pub table_bytes: u64,
}

impl Store {
    pub fn memory(&self) -> MemoryFigures {
        let inner = &*self.inner;
        let open = inner.layers.read().open.clone();
        let tails: usize = open.iter().map(|group| group.tail.read().heap_bytes()).sum();
        let loaded = inner.days.all().into_iter().filter_map(|day| day.loaded());
        MemoryFigures {
            tail_bytes: (tails + inner.waiting_bytes.load(Relaxed)) as u64,
            index_bytes: inner.registry.read().index.memory_bytes() as u64,
            table_bytes: loaded.map(|view| view.heap_bytes() as u64).sum(),
        }
    }

    /// Lets go what can be read again.
    pub fn shrink_caches(&self) {
        self.inner.days.all().iter().for_each(|day| day.unload());
    }
}
