//! What can be wrong with a block.

use pilothouse_model::bytes::Malformed;

/// Why a block could not be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("block ends early")]
    Truncated,
    #[error("block has a malformed {0}")]
    Malformed(&'static str),
    #[error("checksum of the block's {0} does not match")]
    Checksum(&'static str),
    #[error("block has the unknown format version {0}")]
    Version(u8),
    #[error("block is larger than a block may be")]
    TooLarge,
    #[error("entries were not given in the order of streams and times")]
    Order,
    #[error("block cannot be compressed")]
    Compression,
}

impl From<Malformed> for BlockError {
    fn from(malformed: Malformed) -> Self {
        if malformed == Malformed::END { Self::Truncated } else { Self::Malformed(malformed.0) }
    }
}
