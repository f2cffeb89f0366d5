//! The series store: floats, native histograms, exemplars and metadata of one data source.
//!
//! What it promises: an append that was told durable is on the disk, and a query sees it from
//! the append on; what was accepted is given back to the bit; a crash at any moment loses
//! nothing of it and shows nothing twice. What it does not: undo a batch whose other half was
//! refused (the good part is kept), or keep two values for one time (the later one stands once
//! the earlier is sealed, and is refused before).
//!
//! Its words: a *series* is a label set, known by a 32-bit *id* while it is in memory and by the
//! fingerprint of its labels on the disk; a *group* is 4,096 consecutive ids; the *head* holds the
//! open samples of all groups; a group is *sealed* when its samples are swapped out, and *flushed*
//! when they are in a *young* (`l0`) day file; *compaction* makes one *closed* (`l1`) file of a day
//! that is over. The bytes, and the rules that hold them together, are told in
//! `docs/formats/metrics.md`.
//!
//! Reading order: `store` (what there is, and who works in the background), `append` with
//! `keys` and `validate` (the way in), `head` (open samples), `record` (what the log
//! says), `recover` (opening), `flush`, `compact` and `forget` with `day`, `pages` and `catalog` (the way to
//! the disk), `select`, `read`, `labels` and `loaded` (the way out), `delete`, `exemplars`,
//! `metadata`, `memory`, `stats`, `check`; [`codec`] stands by itself.

mod append;
mod catalog;
mod check;
pub mod codec;
mod compact;
mod day;
mod delete;
mod error;
mod exemplars;
mod flush;
mod forget;
mod head;
mod keys;
mod labels;
mod loaded;
mod memory;
mod merge;
mod metadata;
mod options;
mod pages;
mod read;
mod record;
mod recover;
mod registry;
mod room;
mod select;
mod stats;
mod store;
pub mod validate;

pub use check::{check, repair};
pub use error::Error;
pub use loaded::CacheStats;
pub use memory::MemoryFigures;
pub use options::{StoreOptions, Sync};
#[doc(hidden)]
pub use record::is_record;
pub use stats::StoreStats;
pub use store::{InternalSink, Store};

#[cfg(test)]
mod tests;
