//! Floats as Prometheus writes them with `xor2-encoding`: one code says of time and value together
//! how they differ, and a stale marker is a code of its own, which leaves the value that the next
//! one is compared with as it was.

use pilothouse_model::sample::{is_stale, stale_nan};

use super::bits::{BitReader, ChunkError};
use super::starts::StartTimes;
use super::xor::XorState;

/// A stale marker at the time that was expected, which has no field for its value.
const STALE_IN_TIME: u32 = 5;
/// Bits of a difference of differences of times by the ones in front of it.
const TIME_BITS: [u32; 5] = [0, 0, 13, 20, 64];

pub(super) fn decode(data: &[u8], mut sample: impl FnMut(i64, f64)) -> Result<(), ChunkError> {
    let ([high, low, starts], body) = data.split_first_chunk::<3>().ok_or(ChunkError::Truncated)?;
    let starts = StartTimes(*starts);
    let mut from = BitReader::new(body);
    let (mut state, mut t, mut delta) = (XorState::new(0.0), 0i64, 0u64);
    for i in 0..u16::from_be_bytes([*high, *low]) {
        let value = match i {
            0 => {
                t = from.varint()?;
                first_value(&mut from, &mut state)?
            }
            1 => {
                delta = from.uvarint()?;
                value(&mut from, &mut state)?
            }
            _ => step(&mut from, &mut delta, &mut state)?,
        };
        if i > 0 {
            t = t.wrapping_add(delta as i64);
        }
        starts.skip(i, &mut from)?;
        sample(t, value);
    }
    Ok(())
}

/// Stands whole. Behind a stale marker the next value is compared with 0.
fn first_value(from: &mut BitReader<'_>, state: &mut XorState) -> Result<f64, ChunkError> {
    let value = from.float()?;
    if !is_stale(value) {
        *state = XorState::new(value);
    }
    Ok(value)
}

/// The code of a sample behind the second: the ones in front of it say which.
fn step(from: &mut BitReader<'_>, delta: &mut u64, state: &mut XorState) -> Result<f64, ChunkError> {
    let ones = from.ones(STALE_IN_TIME)?;
    match ones {
        0 => Ok(state.value()),
        1 => changed(from, state),
        STALE_IN_TIME => Ok(stale_nan()),
        _ => {
            *delta = delta.wrapping_add(signed(from, TIME_BITS[ones as usize])? as u64);
            value(from, state)
        }
    }
}

/// As two's complement, other than in XOR chunks.
fn signed(from: &mut BitReader<'_>, bits: u32) -> Result<i64, ChunkError> {
    let unused = u64::BITS - bits;
    Ok((from.bits(bits)? << unused) as i64 >> unused)
}

/// A value that may be the one before, or a stale marker.
fn value(from: &mut BitReader<'_>, state: &mut XorState) -> Result<f64, ChunkError> {
    match from.ones(3)? {
        0 => {}
        1 => state.read_difference(from)?,
        2 => state.read_window(from)?,
        _ => return Ok(stale_nan()),
    }
    Ok(state.value())
}

/// A value that is known to be another than the one before.
fn changed(from: &mut BitReader<'_>, state: &mut XorState) -> Result<f64, ChunkError> {
    match from.bit()? {
        false => state.read_difference(from)?,
        true => state.read_window(from)?,
    }
    Ok(state.value())
}
