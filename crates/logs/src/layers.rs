//! Entries that are not on the disk as blocks yet, in the order they go through: open in a
//! group, cut and waiting to be encoded, encoded and waiting to be committed.
//!
//! A reader takes one look at all layers under one lock, and whatever moves an entry from one
//! layer to the next does so under the same lock: each entry is seen once. What happens on the
//! way from the last layer to the disk is told apart by ids, which a block gets when it enters
//! that layer: a reader leaves out blocks on the disk whose ids were given after its look, or
//! that it holds itself.

use std::sync::Arc;

use hashbrown::HashSet;
use pilothouse_disk::Position;
use rustc_hash::FxBuildHasher;

use crate::block::{BlockFilter, Encoded};
use crate::day::table::{Row, Span};
use crate::tail::OpenGroup;

/// A group whose lines no longer change.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Counts up over restarts; a deletion means what was cut up to a number.
    pub(crate) number: u64,
    pub(crate) group: u32,
    /// The log has the lines from the first to before the second.
    pub(crate) since: Position,
    pub(crate) upto: Position,
    pub(crate) bytes: usize,
    pub(crate) tail: Arc<OpenGroup>,
}

/// A block that is not on the disk yet.
#[derive(Debug)]
pub(crate) struct FreshBlock {
    pub(crate) day: i32,
    pub(crate) group: u32,
    pub(crate) since: Position,
    pub(crate) upto: Position,
    pub(crate) row: Row,
    pub(crate) spans: Box<[Span]>,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) filter: BlockFilter,
}

impl FreshBlock {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.head.len() + self.body.len() + self.metadata.len() + 16 * 1024
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Layers {
    pub(crate) open: Vec<Arc<OpenGroup>>,
    pub(crate) cuts: Vec<Arc<Cut>>,
    pub(crate) fresh: Vec<Arc<FreshBlock>>,
    /// The number of the newest cut.
    pub(crate) last_cut: u64,
    pub(crate) next_block: u64,
    /// By group: no entry that is cut is newer.
    settled_ns: Vec<i64>,
    /// The same for groups that were not cut since the store was opened.
    pub(crate) opened_ns: i64,
}

impl Layers {
    /// `opened_ns`: no entry on the disk is newer.
    pub(crate) fn new((last_cut, next_block): (u64, u64), opened_ns: i64) -> Self {
        Self {
            open: Vec::new(),
            cuts: Vec::new(),
            fresh: Vec::new(),
            last_cut,
            next_block,
            settled_ns: Vec::new(),
            opened_ns,
        }
    }

    /// An entry of the group that is newer can only be in its open tail.
    pub(crate) fn settled_ns(&self, group: u32) -> i64 {
        self.settled_ns.get(group as usize).copied().unwrap_or(self.opened_ns)
    }

    pub(crate) fn settle(&mut self, group: u32, newest_ns: i64) {
        let opened_ns = self.opened_ns;
        if self.settled_ns.len() <= group as usize {
            self.settled_ns.resize(group as usize + 1, opened_ns);
        }
        if let Some(settled) = self.settled_ns.get_mut(group as usize) {
            *settled = newest_ns.max(*settled);
        }
    }

    pub(crate) fn group(&self, number: u32) -> Option<&Arc<OpenGroup>> {
        self.open.get(number as usize)
    }

    /// One that no block has.
    pub(crate) fn take_block_id(&mut self) -> u64 {
        self.next_block += 1;
        self.next_block - 1
    }

    /// Puts the blocks of a cut in its place.
    pub(crate) fn replace_cut(&mut self, cut: &Arc<Cut>, blocks: Vec<FreshBlock>) {
        self.cuts.retain(|c| !Arc::ptr_eq(c, cut));
        for mut block in blocks {
            block.row.id = self.take_block_id();
            self.fresh.push(Arc::new(block));
        }
    }

    /// Which blocks on the disk a reader with this look must leave out.
    pub(crate) fn exclusion(&self) -> Exclusion {
        let blocks = self.fresh.iter().map(|b| b.row.id).collect();
        Exclusion { next_block: self.next_block, blocks }
    }
}

#[derive(Debug)]
pub(crate) struct Exclusion {
    next_block: u64,
    blocks: HashSet<u64, FxBuildHasher>,
}

impl Exclusion {
    #[inline]
    pub(crate) fn excludes(&self, row: &Row) -> bool {
        row.id >= self.next_block || (!self.blocks.is_empty() && self.blocks.contains(&row.id))
    }
}

/// Splits a finished block into what is kept of it. It has no id yet.
pub(crate) fn fresh_block(encoded: Encoded, (day, cut): (i32, &Cut), spans: Box<[Span]>) -> FreshBlock {
    FreshBlock {
        day,
        group: cut.group,
        since: cut.since,
        upto: cut.upto,
        row: Row::of(&encoded, 0, cut.number),
        spans,
        head: encoded.head,
        body: encoded.body,
        metadata: encoded.metadata,
        filter: encoded.filter,
    }
}
