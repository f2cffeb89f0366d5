//! Blocks: some thousand entries of a few streams, as they lie on the disk, and the filters that
//! tell which blocks cannot hold a text.
//!
//! Pure functions over bytes; no file is opened here. A block is three frames, each with a
//! checksum, and a filter that stays outside of it:
//!
//! - the **head** ([`Head`]): first a directory of the streams with their counts, bytes, first
//!   and last time, which is read without decompressing anything; then times, line lengths and
//!   the numbers of metadata sets;
//! - the **body**: the lines, stream after stream, without separators, in one or a few zstd
//!   frames ("parts") that are cut between streams;
//! - the **metadata**: the distinct sets, by columns. Empty if no entry has any;
//! - the **filter** ([`BlockFilter`]): the 4-grams and the words of the lines. The filters of
//!   the blocks that are committed together are turned and written as one **slab**
//!   ([`SlabBuilder`], [`Slab`]), of which a query reads a few kilobytes instead of all of it.
//!
//! # Writing
//!
//! ```text
//! let mut encoder = Encoder::new()?;            // one per thread, keeps its buffers
//! for stream in streams_ascending {
//!     encoder.stream(number)?;
//!     for entry in entries_by_time { encoder.push(t_ns, line, &metadata)?; }
//! }
//! let block: Encoded = encoder.finish()?;
//! slab.push(&block.filter);                      // answers the block's number in the slab
//! ```
//!
//! # Reading
//!
//! ```text
//! let probe = Probe::new(&selection.demands);    // once a query
//! block.filter.may_match(&probe)                 // for a block that is in no slab yet
//! slab.probe(&probe, &file_region)?              // -> BlockMask: which blocks to open
//! let head = Head::decode(head_bytes)?;          // statistics of each stream, cheap
//! reader.read(&head, Some(body), Some(metadata), &want)?;   // one reader per thread
//! for part in reader.streams() { visitor.batch(&part.batch(labels, id)) }
//! ```
//!
//! Bytes that come from a disk may be anything: every decoder answers an error or data, never
//! panics, and takes no more memory than the constants below allow, whatever a length says.
//! A filter that cannot be read prunes nothing.
//!
//! The bytes are described in `docs/formats/logs-blocks.md`.

mod bytes;
mod columns;
mod encode;
mod error;
mod grams;
mod head;
mod metadata;
mod probe;
mod read;
mod slab;
#[cfg(test)]
mod tests;
mod words;

pub use encode::{Encoded, Encoder};
pub use error::BlockError;
pub use head::{Head, StreamStat};
pub use metadata::MetadataNames;
pub use probe::Probe;
pub use read::{Reader, StreamEntries, Want};
pub use slab::{BlockFilter, BlockMask, ReadAt, Slab, SlabBuilder};

/// Most bytes of lines in one block. Stores cut long before (256 KiB is a good measure: a false
/// alarm of the filter costs one block's decompression); one very long line may exceed that.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// Most entries in one block.
pub const MAX_ENTRIES: usize = 1 << 20;
/// Most bytes of a block's metadata before compression.
pub const MAX_METADATA_BYTES: usize = 16 << 20;
/// Most blocks whose filters one slab holds; 64 use it best.
pub const MAX_SLAB_BLOCKS: usize = 512;
