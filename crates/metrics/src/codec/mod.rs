//! Encodings of samples: pure functions over bytes, no input or output.
//!
//! Everything is exact to the bit, for every float there is. What reads bytes that may have
//! come from a disk takes any bytes: it answers an error or values, never panics and never
//! allocates more than the caller said there may be.
//!
//! Reading order: [`bits`] (varints and bit streams), [`head`] (the open chunk of a series in
//! memory), [`ints`] (columns of integers, on which the rest stands, with `groups` and `sparse`),
//! [`block`] (sealed float values), [`times`] (lists of timestamps, shared between series),
//! [`histogram`] (sealed native histograms), [`page`] (many series' blocks under one checksum).
//! The bytes are described in `docs/formats/metrics-pages.md`.

pub mod bits;
pub mod block;
mod groups;
pub mod head;
pub mod histogram;
pub mod ints;
pub mod page;
mod sparse;
#[cfg(test)]
mod tests;
pub mod times;
mod unpack;

pub use block::{Effort, decode_values, encode_values};
pub use head::HeadChunk;
pub use histogram::{decode_histograms, encode_histograms, holds_histograms};
pub use page::{Page, PageBuilder};
pub use times::{decode_times, encode_times};

/// Most samples one block or one list of times may hold; a day at one a second fits.
pub const MAX_BLOCK_SAMPLES: usize = 1 << 17;

/// Why bytes could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("encoded data ends early")]
    Truncated,
    #[error("corrupt {0}")]
    Corrupt(&'static str),
    #[error("checksum does not match")]
    Checksum,
    #[error("unknown format version {0}")]
    Version(u8),
}
