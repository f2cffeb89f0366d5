//! Variable-length integers, checksummed frames, and a reader that never runs past the end.

use super::BlockError;

#[inline]
pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn push_signed(out: &mut Vec<u8>, value: i64) {
    push_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// A length and the bytes.
pub(super) fn push_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

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

/// Reads from the front of a slice.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, BlockError> {
        let (first, rest) = self.0.split_first().ok_or(BlockError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, BlockError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BlockError::Malformed("number"))
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, BlockError> {
        u32::try_from(self.varint()?).map_err(|_| BlockError::Malformed("number"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, BlockError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], BlockError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(BlockError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn slice(&mut self) -> Result<&'a [u8], BlockError> {
        let n = self.size(usize::MAX)?;
        self.take(n)
    }

    /// A number of at most `limit`.
    #[inline]
    pub(super) fn size(&mut self, limit: usize) -> Result<usize, BlockError> {
        match usize::try_from(self.varint()?) {
            Ok(n) if n <= limit => Ok(n),
            _ => Err(BlockError::TooLarge),
        }
    }

    /// A count of things of which each takes at least one byte, so that a wrong count cannot
    /// ask for more memory than there are bytes.
    pub(super) fn count(&mut self) -> Result<usize, BlockError> {
        self.size(self.0.len())
    }
}
