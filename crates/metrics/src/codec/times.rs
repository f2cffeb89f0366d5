//! A list of timestamps. All series of a target share one, so a list is stored once and named by
//! many blocks.
//!
//! Scrapes lie on a grid and a few are some milliseconds late, so a list is a start, a step and
//! a column of distances from the grid; other lists are the column of the times themselves.

use super::bits::{Input, put_signed, put_varint};
use super::ints::{decode_ints, encode_ints};
use super::{CodecError, Effort};

const GRID: u8 = 1;
const FREE: u8 = 2;

/// Appends a list of at most [`super::MAX_BLOCK_SAMPLES`] times. Any order is kept exactly.
pub fn encode_times(times_ms: &[i64], out: &mut Vec<u8>) {
    let begin = out.len();
    put_varint(out, times_ms.len() as u64);
    let Some(first) = times_ms.first() else { return };
    let body = out.len();
    out.push(FREE);
    encode_ints(times_ms, Effort::Flush, out);
    let free = out.len() - body;
    if times_ms.len() < 3 {
        return;
    }
    let step = usual_step(times_ms);
    let off_grid: Vec<i64> = (0i64..)
        .zip(times_ms)
        .map(|(i, t)| t.wrapping_sub(first.wrapping_add(step.wrapping_mul(i))))
        .collect();
    let mut grid = vec![GRID];
    put_signed(&mut grid, *first);
    put_signed(&mut grid, step);
    encode_ints(&off_grid, Effort::Flush, &mut grid);
    if grid.len() < free {
        out.truncate(body);
        out.extend_from_slice(&grid);
    }
    debug_assert!(out.len() > begin);
}

/// The median difference: late and missing scrapes do not move it.
fn usual_step(times_ms: &[i64]) -> i64 {
    let mut steps: Vec<i64> = times_ms.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    let middle = steps.len() / 2;
    *steps.select_nth_unstable(middle).1
}

/// The number of times in an encoded list.
pub fn count_times(bytes: &[u8]) -> Result<usize, CodecError> {
    Input::new(bytes).varint_to(super::MAX_BLOCK_SAMPLES, "times count")
}

/// Appends the times of a list to `out`; a list of more than `max` is refused.
pub fn decode_times(bytes: &[u8], max: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let mut input = Input::new(bytes);
    let n = input.varint_to(max.min(super::MAX_BLOCK_SAMPLES), "times count")?;
    if n == 0 {
        return Ok(());
    }
    out.reserve(n);
    match input.byte()? {
        FREE => decode_ints(&mut input, n, |run| out.extend_from_slice(run)),
        GRID => {
            let (mut next, step) = (input.signed()?, input.signed()?);
            decode_ints(&mut input, n, |run| {
                out.extend(run.iter().map(|off| {
                    let t = next.wrapping_add(*off);
                    next = next.wrapping_add(step);
                    t
                }));
            })
        }
        _ => Err(CodecError::Corrupt("times form")),
    }
}
