//! The entry store: lines with their structured metadata, of one data source.
//!
//! What it promises: an append that was told durable is on the disk, and a query sees it from
//! the append on; each entry is shown once, whatever is sent again and whenever the process is
//! killed. An entry is its stream, time and line: the first to come keeps its structured
//! metadata. What it does not promise: an order among entries of one time in different blocks.
//!
//! Its words: a *stream* is a label set, known by a 32-bit id; a *group* is the streams that
//! fill blocks together; the *tail* is the lines that are in no block yet; a group is *cut* when
//! its tail no longer changes; a *block* is some hundred kilobytes of a cut's lines, encoded; it
//! is *fresh* until a commit has brought it into its *day*, a directory with a tantivy index in
//! which a block is a document. A *filter* tells which texts cannot be in a block. The bytes, and
//! the rules that hold them together, are told in `docs/formats/logs.md`.
//!
//! Reading order: `store` (what there is, and who works in the background), `append` with
//! `validate`, `registry` and `seen` (the way in), `tail` and `layers` (what is in
//! memory), `record` (what the log says), `recover` (opening), `flush` with `day` and `catalog`
//! (the way to the disk), `read` and `labels` (the way out), `delete`, `stats`; [`block`] stands by
//! itself.

mod append;
pub mod block;
mod catalog;
mod check;
mod day;
mod delete;
mod error;
mod flush;
mod labels;
mod layers;
mod memory;
mod options;
mod read;
mod record;
mod recover;
mod registry;
mod scan;
mod seen;
mod stats;
mod store;
mod tail;
pub mod validate;

pub use check::{check, repair};
pub use delete::DeletionRequest;
pub use error::Error;
pub use memory::MemoryFigures;
pub use options::{FilterCompiler, LinePredicate, StoreOptions, Sync};
pub use record::Deletion;
pub use stats::StoreStats;
pub use store::{InternalSink, Store};

#[cfg(test)]
mod tests;
