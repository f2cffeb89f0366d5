//! A column of integers: differences or none, a common divisor, and then whichever is smallest
//! of nothing at all, packed groups of 64 with a base and patches, or the places that differ.
//!
//! The length is not stored: whoever stores a column knows it. Arithmetic wraps, so that every
//! column of 64-bit numbers is held exactly.

use super::bits::{
    BitReader, BitWriter, Input, bit_length, low_mask, put_signed, put_varint, unzigzag, zigzag,
};
use super::unpack::unpack;
use super::{CodecError, Effort};

/// Numbers of one packed group.
const GROUP: usize = 64;

// The first byte: two bits of order, one for the divisor, the rest for the form.
const ORDER_MASK: u8 = 0b011;
const HAS_DIVISOR: u8 = 0b100;
const FORM_SHIFT: u32 = 3;

/// How the residuals are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Packed = 1,
    Sparse = 2,
    /// By the library pco, which searches an order and a divisor of its own.
    Pco = 3,
    /// A bit for each residual, and the ones that are not zero packed in groups.
    Masked = 4,
}

/// Appends the column to `out`. An empty column writes nothing.
pub fn encode_ints(values: &[i64], effort: Effort, out: &mut Vec<u8>) {
    let Some((first, rest)) = values.split_first() else { return };
    let begin = out.len();
    let (order, mut residuals) = choose_order(*first, rest);
    let divisor = common_divisor(&residuals);
    divide(&mut residuals, divisor);
    let seeds: &[i64] = &values[..(if order == 2 { 2 } else { 1 }).min(values.len())];
    put_column(order, divisor, seeds, &residuals, out);
    if effort == Effort::Compact && values.len() >= super::block::PCO_MIN {
        try_pco(values, begin, out);
    }
}

fn put_column(order: u8, divisor: u64, seeds: &[i64], residuals: &[i64], out: &mut Vec<u8>) {
    let begin = out.len();
    out.push(order | if divisor > 1 { HAS_DIVISOR } else { 0 });
    for seed in seeds {
        put_signed(out, *seed);
    }
    if divisor > 1 {
        put_varint(out, divisor);
    }
    let changes = residuals.iter().filter(|r| **r != 0).count();
    if changes == 0 {
        return;
    }
    let body = out.len();
    put_groups(residuals, out);
    let mut form = Form::Packed;
    // Half as large at half the speed is worth it; a little smaller is not.
    let mut consider = |candidate: Form, put: &dyn Fn(&mut Vec<u8>), out: &mut Vec<u8>| {
        let at = out.len();
        put(out);
        if (out.len() - at) * 9 / 8 < at - body {
            out.drain(body..at);
            form = candidate;
        } else {
            out.truncate(at);
        }
    };
    if changes <= residuals.len() / 2 {
        consider(Form::Masked, &|out| put_masked(residuals, changes, out), out);
    }
    if changes <= residuals.len() / 4 {
        consider(Form::Sparse, &|out| put_sparse(residuals, changes, out), out);
    }
    out[begin] |= (form as u8) << FORM_SHIFT;
}

/// Replaces what stands from `begin` on by pco's form if that is clearly smaller: it decodes at
/// half the speed.
fn try_pco(values: &[i64], begin: usize, out: &mut Vec<u8>) {
    let size = out.len() - begin;
    let config = pco::ChunkConfig::default().with_compression_level(8);
    if let Ok(packed) = pco::standalone::simple_compress(values, &config)
        && packed.len() + 1 < size - size / 32
    {
        out.truncate(begin);
        out.push((Form::Pco as u8) << FORM_SHIFT);
        out.extend_from_slice(&packed);
    }
}

/// The order of differences (0, 1 or 2) that packs best, by the ranges within groups, and its
/// residuals behind the seeds.
fn choose_order(first: i64, rest: &[i64]) -> (u8, Vec<i64>) {
    let mut costs = [0u64; 3];
    let (mut last, mut last_delta) = (first, rest.first().map_or(0, |r| r.wrapping_sub(first)));
    for group in rest.chunks(GROUP) {
        let mut ranges = [Range::EMPTY; 3];
        for value in group {
            let delta = value.wrapping_sub(last);
            ranges[0].add(*value);
            ranges[1].add(delta);
            ranges[2].add(delta.wrapping_sub(last_delta));
            (last, last_delta) = (*value, delta);
        }
        for (cost, range) in costs.iter_mut().zip(ranges) {
            *cost += u64::from(range.bits()) * group.len() as u64 + 8;
        }
    }
    // Differences of the second order must earn their keep: they double noise elsewhere.
    let order =
        if costs[2] + costs[2] / 16 < costs[0].min(costs[1]) { 2 } else { u8::from(costs[1] < costs[0]) };
    (order, residuals_of(order, first, rest))
}

fn residuals_of(order: u8, first: i64, rest: &[i64]) -> Vec<i64> {
    let mut last = first;
    let deltas = rest.iter().map(|v| v.wrapping_sub(std::mem::replace(&mut last, *v)));
    match order {
        0 => rest.iter().map(|v| v.wrapping_sub(first)).collect(),
        1 => deltas.collect(),
        _ => {
            let mut deltas = deltas;
            let mut last = deltas.next().unwrap_or(0);
            deltas.map(|d| d.wrapping_sub(std::mem::replace(&mut last, d))).collect()
        }
    }
}

#[derive(Clone, Copy)]
struct Range {
    min: i64,
    max: i64,
}

impl Range {
    const EMPTY: Self = Self { min: i64::MAX, max: i64::MIN };

    #[inline]
    fn add(&mut self, value: i64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    fn bits(self) -> u32 {
        bit_length(self.max.wrapping_sub(self.min) as u64)
    }
}

/// The greatest divisor of all residuals; 1 if there is none worth the trouble.
fn common_divisor(residuals: &[i64]) -> u64 {
    let mut divisor = 0u64;
    for residual in residuals {
        let magnitude = residual.unsigned_abs();
        if magnitude != 0 && (divisor == 0 || magnitude % divisor != 0) {
            divisor = gcd(divisor, magnitude);
            if divisor == 1 {
                return 1;
            }
        }
    }
    divisor.max(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 {
        return a | b;
    }
    let twos = (a | b).trailing_zeros();
    let (mut a, mut b) = (a >> a.trailing_zeros(), b >> b.trailing_zeros());
    while a != b {
        if a > b {
            std::mem::swap(&mut a, &mut b);
        }
        b -= a;
        b >>= b.trailing_zeros();
    }
    a << twos
}

/// Exact division: a shift, and a multiplication by the inverse of the odd part.
fn divide(residuals: &mut [i64], divisor: u64) {
    if divisor <= 1 {
        return;
    }
    let twos = divisor.trailing_zeros();
    let odd = divisor >> twos;
    let mut inverse = odd;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    for residual in residuals {
        *residual = (*residual >> twos).wrapping_mul(inverse as i64);
    }
}

// ------------------------------------------------------------------------------ packed groups

// A group's first byte is a width (0 to 61, or 62 for 64) plus 63 times its flags.
const WIDTHS: u32 = 63;
const NEW_BASE: u32 = 1;
const PATCHED: u32 = 2;

fn put_groups(residuals: &[i64], out: &mut Vec<u8>) {
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
    if plan.width < 4 {
        return plan;
    }
    // A few far below the rest (a counter that started anew) would make everything wide: leave
    // them out of the base, and they become patches that wrap.
    let low = lengths[..plan.width as usize - 1].iter().map(|c| usize::from(*c)).sum::<usize>();
    if low == 0 || low > 3 || group.len() < 8 {
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
fn read_group(
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

// ----------------------------------------------------------------------------------- sparse

/// Gap and value of each residual that is not zero, as exponential Golomb codes.
fn put_sparse(residuals: &[i64], changes: usize, out: &mut Vec<u8>) {
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
fn read_sparse(input: &mut Input<'_>, n: usize, mut visit: impl FnMut(usize, i64)) -> Result<(), CodecError> {
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

fn put_masked(residuals: &[i64], changes: usize, out: &mut Vec<u8>) {
    let mut changed = Vec::with_capacity(changes);
    for eight in residuals.chunks(8) {
        let mut mask = 0u8;
        for (bit, residual) in eight.iter().enumerate() {
            if *residual != 0 {
                mask |= 1 << bit;
                changed.push(*residual);
            }
        }
        out.push(mask);
    }
    put_groups(&changed, out);
}

// ---------------------------------------------------------------------------------- decoding

/// Reads a column of `n` numbers and hands it on in runs, in order. The input is left behind it.
pub fn decode_ints(input: &mut Input<'_>, n: usize, mut emit: impl FnMut(&[i64])) -> Result<(), CodecError> {
    if n == 0 {
        return Ok(());
    }
    if n > super::MAX_BLOCK_SAMPLES {
        return Err(CodecError::Corrupt("length"));
    }
    let head = input.byte()?;
    let (order, form) = (head & ORDER_MASK, head >> FORM_SHIFT);
    if form == Form::Pco as u8 {
        return decode_pco(input, n, emit);
    }
    if order > 2 || form > Form::Masked as u8 {
        return Err(CodecError::Corrupt("column"));
    }
    let first = input.signed()?;
    emit(&[first]);
    let mut delta = 0i64;
    let mut left = n - 1;
    let mut last = first;
    if order == 2 && left > 0 {
        let second = input.signed()?;
        emit(&[second]);
        delta = second.wrapping_sub(first);
        last = second;
        left -= 1;
    }
    let divisor = if head & HAS_DIVISOR != 0 { input.varint()? as i64 } else { 1 };
    let mut sums = Sums { order, first, last, delta, divisor };
    match form {
        0 => sums.run_of_zeros(left, &mut emit),
        1 => return sums.groups(input, left, &mut emit),
        4 => return sums.masked(input, left, &mut emit),
        _ => return sums.sparse(input, left, &mut emit),
    }
    Ok(())
}

fn decode_pco(input: &mut Input<'_>, n: usize, mut emit: impl FnMut(&[i64])) -> Result<(), CodecError> {
    let mut values = vec![0i64; n];
    let bytes = input.take(input.rest().len())?;
    read_pco(bytes, &mut values)?;
    emit(&values);
    Ok(())
}

/// Fills `values` from pco's own container.
pub(super) fn read_pco<T: pco::data_types::Number>(bytes: &[u8], values: &mut [T]) -> Result<(), CodecError> {
    let progress =
        pco::standalone::simple_decompress_into(bytes, values).map_err(|_| CodecError::Corrupt("pco"))?;
    if progress.n_processed != values.len() { Err(CodecError::Truncated) } else { Ok(()) }
}

/// Turns residuals back into values.
struct Sums {
    order: u8,
    first: i64,
    last: i64,
    delta: i64,
    divisor: i64,
}

impl Sums {
    #[inline]
    fn apply(&mut self, values: &mut [i64]) {
        if self.divisor != 1 {
            for value in values.iter_mut() {
                *value = value.wrapping_mul(self.divisor);
            }
        }
        match self.order {
            0 => values.iter_mut().for_each(|v| *v = v.wrapping_add(self.first)),
            1 => {
                for value in values.iter_mut() {
                    self.last = self.last.wrapping_add(*value);
                    *value = self.last;
                }
            }
            _ => {
                for value in values.iter_mut() {
                    self.delta = self.delta.wrapping_add(*value);
                    self.last = self.last.wrapping_add(self.delta);
                    *value = self.last;
                }
            }
        }
    }

    fn groups(
        &mut self,
        input: &mut Input<'_>,
        mut left: usize,
        emit: &mut impl FnMut(&[i64]),
    ) -> Result<(), CodecError> {
        let mut base = 0i64;
        let mut raw = [0u64; GROUP];
        let mut values = [0i64; GROUP];
        while left > 0 {
            let n = left.min(GROUP);
            base = read_group(input, n, base, &mut raw)?;
            for (value, raw) in values.iter_mut().zip(&raw) {
                *value = (*raw as i64).wrapping_add(base);
            }
            self.apply(&mut values[..n]);
            emit(&values[..n]);
            left -= n;
        }
        Ok(())
    }

    fn masked(
        &mut self,
        input: &mut Input<'_>,
        n: usize,
        emit: &mut impl FnMut(&[i64]),
    ) -> Result<(), CodecError> {
        let masks = input.take(n.div_ceil(8))?;
        let spare = (n % 8) as u32;
        if spare != 0 && masks.last().is_some_and(|m| m >> spare != 0) {
            return Err(CodecError::Corrupt("mask"));
        }
        let mut left: usize = masks.iter().map(|m| m.count_ones() as usize).sum();
        let (mut base, mut next, mut raw) = (0i64, GROUP, [0u64; GROUP]);
        let mut done = 0;
        for eight in masks.chunks(GROUP / 8) {
            let mut mask = eight.iter().rev().fold(0u64, |all, m| all << 8 | u64::from(*m));
            let mut values = [0i64; GROUP];
            while mask != 0 {
                if next == GROUP {
                    base = read_group(input, left.min(GROUP), base, &mut raw)?;
                    left -= left.min(GROUP);
                    next = 0;
                }
                values[mask.trailing_zeros() as usize] = (raw[next] as i64).wrapping_add(base);
                next += 1;
                mask &= mask - 1;
            }
            let run = (n - done).min(GROUP);
            self.apply(&mut values[..run]);
            emit(&values[..run]);
            done += run;
        }
        Ok(())
    }

    fn run_of_zeros(&mut self, mut n: usize, emit: &mut impl FnMut(&[i64])) {
        while n > 0 {
            let mut values = [0i64; GROUP];
            let run = n.min(GROUP);
            self.apply(&mut values[..run]);
            emit(&values[..run]);
            n -= run;
        }
    }

    fn sparse(
        &mut self,
        input: &mut Input<'_>,
        n: usize,
        emit: &mut impl FnMut(&[i64]),
    ) -> Result<(), CodecError> {
        let mut done = 0usize;
        read_sparse(input, n, |at, residual| {
            self.run_of_zeros(at - done, emit);
            let mut value = [residual];
            self.apply(&mut value);
            emit(&value);
            done = at + 1;
        })?;
        self.run_of_zeros(n - done, emit);
        Ok(())
    }
}
