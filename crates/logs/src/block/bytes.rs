//! Checksummed frames, and numbers that have a limit.

pub(super) use pilothouse_model::bytes::{Reader as Cursor, push_signed, push_slice, push_varint};

use super::BlockError;

/// Leaves room for a checksum at the front; [`seal`] fills it.
pub(super) fn begin_sealed(out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; 4]);
}

pub(super) fn seal(frame: &mut [u8]) {
    if let Some((checksum, rest)) = frame.split_first_chunk_mut::<4>() {
        *checksum = crc32c::crc32c(rest).to_le_bytes();
    }
}

/// What lies behind the checksum, if that is right.
pub(super) fn unseal<'a>(frame: &'a [u8], what: &'static str) -> Result<&'a [u8], BlockError> {
    let (checksum, rest) = frame.split_first_chunk::<4>().ok_or(BlockError::Truncated)?;
    if crc32c::crc32c(rest) == u32::from_le_bytes(*checksum) {
        Ok(rest)
    } else {
        Err(BlockError::Checksum(what))
    }
}

/// A number of at most `limit`.
#[inline]
pub(super) fn size(cursor: &mut Cursor<'_>, limit: usize) -> Result<usize, BlockError> {
    match usize::try_from(cursor.varint()?) {
        Ok(n) if n <= limit => Ok(n),
        _ => Err(BlockError::TooLarge),
    }
}
