//! Numbers packed in groups of 64: a base, a width, and patches for the few that need more.

use super::CodecError;
use super::bits::{BitWriter, Input, bit_length, low_mask, put_signed};
use super::unpack::unpack;

/// Numbers of one group.
pub(super) const GROUP: usize = 64;

// A group's first byte is a width (0 to 61, or 62 for 64) plus 63 times its flags.
const WIDTHS: u32 = 63;
const NEW_BASE: u32 = 1;
const PATCHED: u32 = 2;

pub(super) fn put_groups(residuals: &[i64], out: &mut Vec<u8>) {
    let mut last_base = 0i64;
    for group in residuals.chunks(GROUP) {
        last_base = put_group(group, last_base, out);
    }
}

/// Lengths in bytes that the part of a patch above the width may take.
const PATCH_BYTES: [u32; 4] = [1, 2, 4, 8];

fn patch_code(high_bits: u32) -> usize {
    match high_bits {
        0..=8 => 0,
        9..=16 => 1,
        17..=32 => 2,
        _ => 3,
    }
}

/// How one group is packed.
struct Plan {
    base: i64,
    width: u32,
    patches: u32,
    bytes: usize,
}

impl Plan {
    fn at_base(base: i64, group: &[i64]) -> (Self, [u8; 65]) {
        let mut lengths = [0u8; 65];
        for value in group {
            lengths[bit_length(value.wrapping_sub(base) as u64) as usize] += 1;
        }
        let most = 64 - lengths.iter().rev().take_while(|c| **c == 0).count() as u32;
        let mut best = Self { base, width: most, patches: 0, bytes: packed_bytes(most, group.len()) };
        if most > 61 {
            best.width = 64;
            best.bytes = packed_bytes(64, group.len());
        }
        Self::with_patches(&mut best, &lengths, most, group.len());
        (best, lengths)
    }

    /// Narrows the width as long as patches for what no longer fits cost less.
    fn with_patches(best: &mut Self, lengths: &[u8; 65], most: u32, n: usize) {
        let widest = most.min(62);
        let mut patches: u32 = lengths[widest as usize + 1..].iter().map(|c| u32::from(*c)).sum();
        for width in (0..widest).rev() {
            patches += u32::from(lengths[width as usize + 1]);
            if patches > n as u32 / 4 {
                return;
            }
            let mut bytes = packed_bytes(width, n) + 1;
            for length in width + 1..=most {
                let cost = 1 + PATCH_BYTES[patch_code(length - width)] as usize;
                bytes += usize::from(lengths[length as usize]) * cost;
            }
            if bytes < best.bytes {
                *best = Self { width, patches, bytes, ..*best };
            }
        }
    }
}

fn packed_bytes(width: u32, n: usize) -> usize {
    (width as usize * n).div_ceil(8)
}

fn plan_group(group: &[i64]) -> Plan {
    let min = group.iter().copied().min().unwrap_or(0);
    let (plan, lengths) = Plan::at_base(min, group);
    if plan.width < 4 || group.len() < 8 {
        return plan;
    }
    // A few far below the rest (a counter that started anew) would make everything wide: leave
    // them out of the base, and they become patches that wrap.
    let low: usize = lengths[..plan.width as usize - 1].iter().map(|c| usize::from(*c)).sum();
    if !(1..=3).contains(&low) {
        return plan;
    }
    let bound = 1u64 << (plan.width - 2);
    let above = group.iter().copied().filter(|v| v.wrapping_sub(min) as u64 >= bound).min();
    let (other, _) = Plan::at_base(above.unwrap_or(min), group);
    if other.bytes + 2 < plan.bytes { other } else { plan }
}

fn put_group(group: &[i64], last_base: i64, out: &mut Vec<u8>) -> i64 {
    let mut plan = plan_group(group);
    if plan.width == 64 {
        plan.base = last_base;
    }
    let mut flags = if plan.patches > 0 { PATCHED } else { 0 };
    if plan.base != last_base {
        flags |= NEW_BASE;
    }
    let width_code = if plan.width == 64 { 62 } else { plan.width };
    out.push((flags * WIDTHS + width_code) as u8);
    if plan.base != last_base {
        put_signed(out, plan.base.wrapping_sub(last_base));
    }
    let offset = |value: &i64| value.wrapping_sub(plan.base) as u64;
    let mut writer = BitWriter::new(out);
    for value in group {
        writer.put(offset(value) & low_mask(plan.width), plan.width);
    }
    writer.finish();
    if plan.patches > 0 {
        out.push(plan.patches as u8);
        for (at, value) in group.iter().enumerate() {
            let high = offset(value) >> plan.width;
            if high > 0 {
                let code = patch_code(bit_length(high));
                out.push(at as u8 | (code as u8) << 6);
                out.extend_from_slice(&high.to_le_bytes()[..PATCH_BYTES[code] as usize]);
            }
        }
    }
    plan.base
}

/// Reads one group of `n <= 64` numbers; the rest of `out` is unspecified.
pub(super) fn read_group(
    input: &mut Input<'_>,
    n: usize,
    last_base: i64,
    out: &mut [u64; GROUP],
) -> Result<i64, CodecError> {
    let code = u32::from(input.byte()?);
    let (flags, width) = (code / WIDTHS, code % WIDTHS);
    if flags > 3 {
        return Err(CodecError::Corrupt("group"));
    }
    let width = if width == 62 { 64 } else { width };
    let base = if flags & NEW_BASE != 0 { last_base.wrapping_add(input.signed()?) } else { last_base };
    let bytes = input.take(packed_bytes(width, n))?;
    if n == GROUP {
        unpack(width, bytes, out);
    } else {
        let mut padded = [0u8; GROUP * 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        unpack(width, &padded, out);
    }
    if flags & PATCHED != 0 {
        read_patches(input, n, width, out)?;
    }
    Ok(base)
}

fn read_patches(
    input: &mut Input<'_>,
    n: usize,
    width: u32,
    out: &mut [u64; GROUP],
) -> Result<(), CodecError> {
    let count = input.byte()?;
    for _ in 0..count {
        let head = input.byte()?;
        let length = PATCH_BYTES[usize::from(head >> 6)] as usize;
        let mut high = [0u8; 8];
        high[..length].copy_from_slice(input.take(length)?);
        let at = usize::from(head & 63);
        if at >= n || width >= 64 {
            return Err(CodecError::Corrupt("patch"));
        }
        out[at] |= u64::from_le_bytes(high) << width;
    }
    Ok(())
}
