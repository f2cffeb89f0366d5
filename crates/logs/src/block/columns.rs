//! Columns of numbers: distances of times in packed bits, small numbers in planes of bytes, and
//! references that say "the next new one" by a zero.

use zstd::bulk::{Compressor, Decompressor};

use super::BlockError;
use super::bytes::{Cursor, push_varint};

/// Distances that share a width.
const GROUP: usize = 64;
/// Wider distances take whole words, so that eight bytes always hold all bits of a narrower one.
const WIDEST: u32 = 56;
/// In the byte of the width: a least distance follows, which is taken off all of the group.
const WITH_BASE: u8 = 0x80;
/// Bytes behind the last group, so that the last distance can be read as a whole word.
pub(super) const PADDING: usize = 8;

/// Appends distances in groups: a byte with the width, the least one if that pays, the bits.
pub(super) fn push_distances(out: &mut Vec<u8>, distances: &[u64]) {
    for group in distances.chunks(GROUP) {
        let most = group.iter().max().copied().unwrap_or(0);
        let least = group.iter().min().copied().unwrap_or(0);
        let (plain, based) = (width(most), width(most - least));
        let saved = (plain - based) as usize * group.len() / 8;
        let base = if saved > 8 { least } else { 0 };
        let width = width(most - base);
        if base > 0 {
            out.push(width as u8 | WITH_BASE);
            push_varint(out, base);
        } else {
            out.push(width as u8);
        }
        push_bits(out, group, base, width);
    }
}

fn width(value: u64) -> u32 {
    let bits = u64::BITS - value.leading_zeros();
    if bits > WIDEST { u64::BITS } else { bits }
}

fn push_bits(out: &mut Vec<u8>, group: &[u64], base: u64, width: u32) {
    let (mut word, mut filled) = (0u128, 0u32);
    for value in group {
        word |= u128::from(value - base) << filled;
        filled += width;
        while filled >= 8 {
            out.push(word as u8);
            word >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(word as u8);
    }
}

/// Walks over `n` distances without reading them.
pub(super) fn skip_distances(cursor: &mut Cursor<'_>, n: usize) -> Result<(), BlockError> {
    let mut left = n;
    while left > 0 {
        let here = left.min(GROUP);
        let (width, _) = group_head(cursor)?;
        cursor.take((width as usize * here).div_ceil(8))?;
        left -= here;
    }
    Ok(())
}

/// Reads `n` distances, calling `each` with every one. The cursor's bytes must go on for
/// [`PADDING`] bytes behind the last group.
pub(super) fn read_distances(
    cursor: &mut Cursor<'_>,
    n: usize,
    mut each: impl FnMut(u64),
) -> Result<(), BlockError> {
    let mut left = n;
    while left > 0 {
        let here = left.min(GROUP);
        let (width, base) = group_head(cursor)?;
        let size = (width as usize * here).div_ceil(8);
        let bits = cursor.0.get(..size + PADDING).ok_or(BlockError::Truncated)?;
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        let mut at = 0usize;
        for _ in 0..here {
            let word = bits.get(at / 8..at / 8 + 8).and_then(|b| b.first_chunk::<8>());
            let word = u64::from_le_bytes(*word.ok_or(BlockError::Truncated)?);
            each(((word >> (at % 8)) & mask).wrapping_add(base));
            at += width as usize;
        }
        cursor.take(size)?;
        left -= here;
    }
    Ok(())
}

#[inline]
fn group_head(cursor: &mut Cursor<'_>) -> Result<(u32, u64), BlockError> {
    let byte = cursor.byte()?;
    let width = u32::from(byte & !WITH_BASE);
    if width > WIDEST && width != 64 {
        return Err(BlockError::Malformed("width"));
    }
    let base = if byte & WITH_BASE == 0 { 0 } else { cursor.varint()? };
    Ok((width, base))
}

/// Appends numbers as planes: all lowest bytes, all second ones, as many planes as the largest
/// number needs; compressed where that pays. `scratch` is only room.
pub(super) fn push_planes(
    out: &mut Vec<u8>,
    values: &[u32],
    zstd: &mut Compressor<'static>,
    scratch: &mut Vec<u8>,
) -> Result<(), BlockError> {
    let most = values.iter().max().copied().unwrap_or(0);
    let planes = (u32::BITS - most.leading_zeros()).div_ceil(8);
    scratch.clear();
    for plane in 0..planes {
        scratch.extend(values.iter().map(|v| (v >> (8 * plane)) as u8));
    }
    out.push(planes as u8);
    push_packed(out, scratch, zstd)
}

/// The planes of [`push_planes`], decompressed; `n` numbers in each.
#[derive(Debug, Default)]
pub(super) struct Planes {
    bytes: Vec<u8>,
    n: usize,
    planes: usize,
}

impl Planes {
    pub(super) fn clear(&mut self) {
        (self.n, self.planes) = (0, 0);
    }

    pub(super) fn read(
        &mut self,
        column: &[u8],
        n: usize,
        zstd: &mut Decompressor<'static>,
    ) -> Result<(), BlockError> {
        self.clear();
        let mut cursor = Cursor(column);
        let planes = usize::from(cursor.byte()?);
        if planes > 4 {
            return Err(BlockError::Malformed("number of planes"));
        }
        read_packed(cursor.0, n * planes, &mut self.bytes, zstd)?;
        (self.n, self.planes) = (n, planes);
        Ok(())
    }

    /// The numbers from `start` on, as many as `out` has room for. `false` if there are fewer.
    pub(super) fn copy(&self, start: usize, out: &mut [u32]) -> bool {
        if start + out.len() > self.n {
            return false;
        }
        out.fill(0);
        for (i, plane) in self.bytes.chunks(self.n.max(1)).take(self.planes).enumerate() {
            let Some(bytes) = plane.get(start..start + out.len()) else { return false };
            for (value, byte) in out.iter_mut().zip(bytes) {
                *value |= u32::from(*byte) << (8 * i);
            }
        }
        true
    }
}

/// Appends bytes as a zstd frame, or as they are where that is not longer. The size before
/// compression is not written: readers know it from elsewhere.
fn push_packed(out: &mut Vec<u8>, bytes: &[u8], zstd: &mut Compressor<'static>) -> Result<(), BlockError> {
    if bytes.len() > 16 {
        let start = out.len();
        compress_onto(out, bytes, zstd)?;
        if out.len() - start < bytes.len() {
            return Ok(());
        }
        out.truncate(start);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

fn read_packed(
    packed: &[u8],
    size: usize,
    out: &mut Vec<u8>,
    zstd: &mut Decompressor<'static>,
) -> Result<(), BlockError> {
    out.resize(size, 0);
    if packed.len() == size {
        out.copy_from_slice(packed);
        return Ok(());
    }
    decompress_into(packed, out, zstd)
}

/// Appends the zstd frame of some bytes; answers its size.
pub(super) fn compress_onto(
    out: &mut Vec<u8>,
    bytes: &[u8],
    zstd: &mut Compressor<'static>,
) -> Result<usize, BlockError> {
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(bytes.len()), 0);
    let room = out.get_mut(start..).ok_or(BlockError::Compression)?;
    let n = zstd.compress_to_buffer(bytes, room).map_err(|_| BlockError::Compression)?;
    out.truncate(start + n);
    Ok(n)
}

/// Fills `out` from a zstd frame that must hold exactly as many bytes.
pub(super) fn decompress_into(
    frame: &[u8],
    out: &mut [u8],
    zstd: &mut Decompressor<'static>,
) -> Result<(), BlockError> {
    let size = out.len();
    match zstd.decompress_to_buffer(frame, out) {
        Ok(n) if n == size => Ok(()),
        _ => Err(BlockError::Malformed("compressed frame")),
    }
}

/// Writes a row of references to things that are numbered by their first occurrence: zero for
/// one that was not there before, one more than the number for the others. Ids that never recur
/// so become a row of zeros.
pub(super) fn novelty(numbers: &[u32], out: &mut Vec<u32>) {
    out.clear();
    let mut known = 0;
    for number in numbers {
        if *number == known {
            out.push(0);
            known += 1;
        } else {
            out.push(number + 1);
        }
    }
}

/// Turns references back into numbers, in place; there must be exactly `known` different ones.
pub(super) fn undo_novelty(row: &mut [u32], known: usize) -> Result<(), BlockError> {
    let mut next = 0u32;
    for value in row {
        if *value == 0 {
            *value = next;
            next += 1;
        } else {
            *value -= 1;
            if *value >= next {
                return Err(BlockError::Malformed("reference"));
            }
        }
    }
    if next as usize == known { Ok(()) } else { Err(BlockError::Malformed("number of references")) }
}
