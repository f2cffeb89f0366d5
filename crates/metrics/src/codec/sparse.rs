//! The few numbers of a column that are not zero, each by its distance from the one before.

use super::CodecError;
use super::bits::{BitReader, BitWriter, Input, bit_length, low_mask, put_varint, unzigzag, zigzag};

/// Gap and value of each residual that is not zero, as exponential Golomb codes.
pub(super) fn put_sparse(residuals: &[i64], changes: usize, out: &mut Vec<u8>) {
    let mut pairs = Vec::with_capacity(changes);
    let mut next = 0usize;
    for (at, residual) in residuals.iter().enumerate() {
        if *residual != 0 {
            // A value is never zero, and its code says so by starting at one less.
            pairs.push(((at - next) as u64, zigzag(*residual) - 1));
            next = at + 1;
        }
    }
    let gap_order = best_order(pairs.iter().map(|p| p.0));
    let value_order = best_order(pairs.iter().map(|p| p.1));
    put_varint(out, changes as u64);
    out.push(gap_order);
    out.push(value_order);
    let mut writer = BitWriter::new(out);
    for (gap, value) in pairs {
        put_golomb(&mut writer, gap, gap_order);
        put_golomb(&mut writer, value, value_order);
    }
    writer.finish();
}

fn golomb_bits(value: u64, order: u8) -> u32 {
    let length = bit_length((value >> order).saturating_add(1));
    2 * length - 1 + u32::from(order)
}

fn best_order(values: impl Iterator<Item = u64> + Clone) -> u8 {
    let cost = |order: &u8| values.clone().map(|v| u64::from(golomb_bits(v, *order))).sum::<u64>();
    let mean = values.clone().fold((0u128, 1u128), |(s, n), v| (s + u128::from(v), n + 1));
    let near = bit_length(u64::try_from(mean.0 / mean.1).unwrap_or(u64::MAX)).min(59) as u8;
    (near.saturating_sub(3)..=near).min_by_key(cost).unwrap_or(0)
}

/// Unary length of the part above `order` bits, that part without its first bit, the low bits.
fn put_golomb(writer: &mut BitWriter<'_>, value: u64, order: u8) {
    let above = (value >> order).saturating_add(1);
    let extra = bit_length(above) - 1;
    writer.put(low_mask(extra), extra);
    writer.put(0, 1);
    writer.put(above & low_mask(extra), extra);
    writer.put(value & low_mask(u32::from(order)), u32::from(order));
}

fn take_golomb(reader: &mut BitReader<'_>, order: u32) -> u64 {
    let mut extra = reader.peek().trailing_ones().min(57);
    reader.skip(extra);
    if extra == 57 {
        let more = reader.peek().trailing_ones().min(7);
        reader.skip(more);
        extra = (extra + more).min(63);
    }
    reader.skip(1);
    let above = reader.take(extra) | (1u64 << extra);
    ((above - 1) << order) | reader.take(order)
}

/// Walks a sparse list: `visit(at, residual)` with ascending positions below `n`.
pub(super) fn read_sparse(
    input: &mut Input<'_>,
    n: usize,
    mut visit: impl FnMut(usize, i64),
) -> Result<(), CodecError> {
    let count = input.varint_to(n, "sparse count")?;
    let (gap_order, value_order) = (u32::from(input.byte()?), u32::from(input.byte()?));
    if gap_order > 59 || value_order > 59 {
        return Err(CodecError::Corrupt("sparse order"));
    }
    let mut reader = BitReader::new(input.rest());
    let mut next = 0usize;
    for _ in 0..count {
        let gap = take_golomb(&mut reader, gap_order);
        let value = take_golomb(&mut reader, value_order);
        let at = usize::try_from(gap).ok().and_then(|g| next.checked_add(g)).filter(|at| *at < n);
        let at = at.ok_or(CodecError::Corrupt("sparse position"))?;
        if reader.is_overrun() {
            return Err(CodecError::Truncated);
        }
        visit(at, unzigzag(value.wrapping_add(1)));
        next = at + 1;
    }
    input.take(reader.bytes_used()).map(|_| ())
}
