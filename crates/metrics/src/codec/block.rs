//! The sealed block of one series' float values.
//!
//! Most series are decimal numbers: `12.34` is 1234 hundredths. A block finds the smallest
//! exponent for which nearly all of its values are whole, keeps the others aside bit by bit,
//! and stores the whole numbers as a column. Values that are no decimals are stored as a column
//! of their bits, in an order in which near values have near bits.

use super::bits::{Input, put_signed, put_varint};
use super::ints::{decode_ints, encode_ints, read_pco};
use super::{CodecError, MAX_BLOCK_SAMPLES};

/// How hard to look for a smaller form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Fast to write and fastest to read.
    Flush,
    /// Also tries pco, which takes some ten times as long.
    Compact,
}

/// Fewest values for which pco is tried; below, its header outweighs it.
pub(super) const PCO_MIN: usize = 512;

/// What a block holds; the upper half of its first byte. 8 and above are not floats.
#[derive(Clone, Copy)]
enum Kind {
    ConstantDecimal = 0,
    ConstantBits = 1,
    Decimal = 2,
    DecimalExcept = 3,
    OrderedBits = 4,
    Pco = 5,
}

const POWERS: [f64; 13] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];
const MAX_EXPONENT: usize = POWERS.len() - 1;

/// Appends a block of 1 to [`MAX_BLOCK_SAMPLES`] values. None write nothing.
pub fn encode_values(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        return put_constant(*first, out);
    }
    match to_decimals(values) {
        Some(decimals) => put_decimals(values, &decimals, effort, out),
        None => put_bits(values, effort, out),
    }
}

fn put_head(kind: Kind, exponent: usize, out: &mut Vec<u8>) {
    out.push((kind as u8) << 4 | exponent as u8);
}

fn put_constant(value: f64, out: &mut Vec<u8>) {
    match (0..=MAX_EXPONENT).find_map(|e| Some((e, to_whole(value, e)?))) {
        Some((exponent, whole)) => {
            put_head(Kind::ConstantDecimal, exponent, out);
            put_signed(out, whole);
        }
        None => {
            put_head(Kind::ConstantBits, 0, out);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// The value times a power of ten as a whole number, if dividing gives back the same bits.
#[inline]
fn to_whole(value: f64, exponent: usize) -> Option<i64> {
    if exponent == 0 {
        // Beyond 2^53 floats are whole anyway, and i64 holds them exactly.
        let whole = value as i64;
        let same = whole as f64 == value && (whole != 0 || value.to_bits() == 0) && whole != i64::MAX;
        return same.then_some(whole);
    }
    // Adding and taking away this rounds to the nearest whole number without a library call.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let scaled = value * POWERS[exponent];
    let whole = ((scaled + ROUND) - ROUND) as i64;
    let near = scaled.abs() < 2_251_799_813_685_248.0;
    (near && from_whole(whole, exponent).to_bits() == value.to_bits()).then_some(whole)
}

#[inline]
fn from_whole(whole: i64, exponent: usize) -> f64 {
    if exponent == 0 { whole as f64 } else { whole as f64 / POWERS[exponent] }
}

/// Values as whole numbers of one unit, with those that are none.
struct Decimals {
    exponent: usize,
    /// Where a value is an exception, the whole number before it.
    wholes: Vec<i64>,
    exceptions: Vec<usize>,
}

/// `None` if more than a sixteenth of the values would be exceptions.
fn to_decimals(values: &[f64]) -> Option<Decimals> {
    let room = values.len() / 16;
    let mut decimals = Decimals {
        exponent: sample_exponent(values)?,
        wholes: Vec::with_capacity(values.len()),
        exceptions: Vec::new(),
    };
    loop {
        if let Some(over) = fill_decimals(values, room, &mut decimals) {
            // Too many do not fit: go on with the exponent that the last of them needs.
            let wanted = (decimals.exponent + 1..=MAX_EXPONENT).find(|e| to_whole(over, *e).is_some());
            decimals.exponent = wanted?;
        } else {
            return Some(decimals);
        }
    }
}

/// The exponent that nearly all of some values spread over the block need.
fn sample_exponent(values: &[f64]) -> Option<usize> {
    let mut exponent = 0;
    let (mut misses, mut seen) = (0, 0);
    for value in values.iter().step_by((values.len() / 16).max(1)) {
        seen += 1;
        match (exponent..=MAX_EXPONENT).find(|e| to_whole(*value, *e).is_some()) {
            Some(e) => exponent = e,
            None => misses += 1,
        }
    }
    (misses * 4 <= seen).then_some(exponent)
}

/// Fills in the whole numbers; a value that is one exception too many is given back.
fn fill_decimals(values: &[f64], room: usize, decimals: &mut Decimals) -> Option<f64> {
    decimals.wholes.clear();
    decimals.exceptions.clear();
    let mut last = 0;
    for (at, value) in values.iter().enumerate() {
        match to_whole(*value, decimals.exponent) {
            Some(whole) => last = whole,
            None => {
                decimals.exceptions.push(at);
                if decimals.exceptions.len() > room.max(1) {
                    return Some(*value);
                }
            }
        }
        decimals.wholes.push(last);
    }
    None
}

fn put_decimals(values: &[f64], decimals: &Decimals, effort: Effort, out: &mut Vec<u8>) {
    if decimals.exceptions.is_empty() {
        put_head(Kind::Decimal, decimals.exponent, out);
    } else {
        put_head(Kind::DecimalExcept, decimals.exponent, out);
        put_varint(out, decimals.exceptions.len() as u64);
        let mut next = 0;
        for at in &decimals.exceptions {
            put_varint(out, (at - next) as u64);
            out.extend_from_slice(&values[*at].to_le_bytes());
            next = at + 1;
        }
    }
    encode_ints(&decimals.wholes, effort, out);
}

/// A float's bits as a number that grows with the float.
#[inline]
fn to_ordered(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[inline]
fn from_ordered(ordered: i64) -> f64 {
    f64::from_bits((ordered ^ ((ordered >> 63) as u64 >> 1) as i64) as u64)
}

fn put_bits(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    let begin = out.len();
    put_head(Kind::OrderedBits, 0, out);
    let ordered: Vec<i64> = values.iter().map(|v| to_ordered(*v)).collect();
    encode_ints(&ordered, Effort::Flush, out);
    if effort == Effort::Compact && values.len() >= PCO_MIN {
        let config = pco::ChunkConfig::default().with_compression_level(8);
        if let Ok(packed) = pco::standalone::simple_compress(values, &config)
            && packed.len() + 1 < out.len() - begin
        {
            out.truncate(begin);
            put_head(Kind::Pco, 0, out);
            out.extend_from_slice(&packed);
        }
    }
}

/// Appends the `n` values of a block to `out`. After an error `out` may hold some of them.
pub fn decode_values(bytes: &[u8], n: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    if n == 0 {
        return Ok(());
    }
    if n > MAX_BLOCK_SAMPLES {
        return Err(CodecError::Corrupt("length"));
    }
    let mut input = Input::new(bytes);
    let head = input.byte()?;
    let (kind, exponent) = (head >> 4, usize::from(head & 15));
    if exponent > MAX_EXPONENT {
        return Err(CodecError::Corrupt("exponent"));
    }
    out.reserve(n);
    let begin = out.len();
    match kind {
        0 => out.resize(begin + n, from_whole(input.signed()?, exponent)),
        1 => out.resize(begin + n, f64::from_le_bytes(input.array()?)),
        2 => decode_decimals(&mut input, n, exponent, out)?,
        3 => {
            let exceptions = skip_exceptions(&mut input, n)?;
            decode_decimals(&mut input, n, exponent, out)?;
            put_back(exceptions, &mut out[begin..])?;
        }
        4 => decode_ints(&mut input, n, |run| out.extend(run.iter().map(|o| from_ordered(*o))))?,
        5 => {
            out.resize(begin + n, 0.0);
            read_pco(input.rest(), &mut out[begin..])?;
        }
        _ => return Err(CodecError::Corrupt("block kind")),
    }
    Ok(())
}

fn decode_decimals(
    input: &mut Input<'_>,
    n: usize,
    exponent: usize,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    if exponent == 0 {
        return decode_ints(input, n, |run| out.extend(run.iter().map(|w| *w as f64)));
    }
    let power = POWERS[exponent];
    decode_ints(input, n, |run| out.extend(run.iter().map(|w| *w as f64 / power)))
}

/// Passes over the exceptions and gives back an input that stands at the first of them.
fn skip_exceptions<'a>(input: &mut Input<'a>, n: usize) -> Result<(usize, Input<'a>), CodecError> {
    let count = input.varint_to(n, "exception count")?;
    let exceptions = *input;
    for _ in 0..count {
        input.varint()?;
        input.take(8)?;
    }
    Ok((count, exceptions))
}

fn put_back((count, mut input): (usize, Input<'_>), values: &mut [f64]) -> Result<(), CodecError> {
    let mut next = 0usize;
    for _ in 0..count {
        let at = next + input.varint_to(MAX_BLOCK_SAMPLES, "exception position")?;
        let value = f64::from_le_bytes(input.array()?);
        *values.get_mut(at).ok_or(CodecError::Corrupt("exception position"))? = value;
        next = at + 1;
    }
    Ok(())
}
