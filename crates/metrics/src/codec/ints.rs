//! A column of integers: differences or none, a common divisor, and then whichever is smallest
//! of nothing at all, packed groups of 64 with a base and patches, or the places that differ.
//!
//! The length is not stored: whoever stores a column knows it. Arithmetic wraps, so that every
//! column of 64-bit numbers is held exactly.

use super::bits::{Input, bit_length, put_signed, put_varint};
use super::groups::{GROUP, put_groups, read_group};
use super::sparse::{put_sparse, read_sparse};
use super::{CodecError, Effort};

// The first byte: two bits of order, one for the divisor, the rest for the form.
const ORDER_MASK: u8 = 0b011;
const HAS_DIVISOR: u8 = 0b100;
const FORM_SHIFT: u32 = 3;

/// How the residuals are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Packed = 1,
    /// A bit for each residual, and the ones that are not zero packed in groups.
    Masked = 2,
    Sparse = 3,
    /// By the library pco; at the end of a block only, since it takes all that is left.
    Pco = 4,
}

/// Appends the column to `out`. An empty column writes nothing.
pub fn encode_ints(values: &[i64], effort: Effort, out: &mut Vec<u8>) {
    let Some((first, rest)) = values.split_first() else { return };
    let begin = out.len();
    let (order, mut residuals) = choose_order(*first, rest);
    let divisor = common_divisor(&residuals);
    divide(&mut residuals, divisor);
    let seeds: &[i64] = &values[..(if order == 2 { 2 } else { 1 }).min(values.len())];
    let body = put_column(order, divisor, seeds, &residuals, out);
    // Below a bit a number there is nothing left to gain.
    let worth_it = residuals.len() >= super::block::PCO_MIN && out.len() - body > residuals.len() / 8;
    if effort == Effort::Compact && worth_it {
        try_pco(&residuals, begin, body, out);
    }
}

/// Answers where the residuals begin.
fn put_column(order: u8, divisor: u64, seeds: &[i64], residuals: &[i64], out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    out.push(order | if divisor > 1 { HAS_DIVISOR } else { 0 });
    for seed in seeds {
        put_signed(out, *seed);
    }
    if divisor > 1 {
        put_varint(out, divisor);
    }
    let changes = residuals.iter().filter(|r| **r != 0).count();
    let body = out.len();
    if changes == 0 {
        return body;
    }
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
    body
}

/// Replaces the residuals, which stand from `body` on, by pco's form of them if that is clearly
/// smaller: it decodes at half the speed. Order and divisor are found already.
fn try_pco(residuals: &[i64], begin: usize, body: usize, out: &mut Vec<u8>) {
    let config = pco::ChunkConfig::default()
        .with_compression_level(8)
        .with_mode_spec(pco::ModeSpec::Classic)
        .with_delta_spec(pco::DeltaSpec::NoOp);
    let size = out.len() - body;
    if let Ok(packed) = pco::standalone::simple_compress(residuals, &config)
        && packed.len() < size - size / 32
    {
        out.truncate(body);
        out.extend_from_slice(&packed);
        out[begin] = out[begin] & ((1 << FORM_SHIFT) - 1) | (Form::Pco as u8) << FORM_SHIFT;
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
    if order > 2 || form > Form::Pco as u8 {
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
        4 => return sums.pco(input, left, &mut emit),
        2 => return sums.masked(input, left, &mut emit),
        _ => return sums.sparse(input, left, &mut emit),
    }
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

    fn pco(
        &mut self,
        input: &mut Input<'_>,
        n: usize,
        emit: &mut impl FnMut(&[i64]),
    ) -> Result<(), CodecError> {
        let mut values = vec![0i64; n];
        read_pco(input.take(input.rest().len())?, &mut values)?;
        self.apply(&mut values);
        emit(&values);
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
