//! The series store.

mod active;
mod append;
mod bytes;
mod catalog;
pub mod codec;
mod compact;
mod day;
mod delete;
mod error;
mod exemplars;
mod flush;
mod head;
mod keys;
mod labels;
mod loaded;
mod merge;
mod metadata;
mod options;
mod pages;
mod read;
mod record;
mod recover;
mod registry;
mod select;
mod stats;
mod store;
mod validate;

pub use error::Error;
pub use loaded::CacheStats;
pub use options::{StoreOptions, Sync};
#[doc(hidden)]
pub use record::is_record;
pub use stats::StoreStats;
pub use store::{InternalSink, Store};

#[cfg(test)]
mod tests;
