//! Floats: times as delta of delta, values as the exclusive or with the value before.

use super::bits::{BitReader, BitWriter, ChunkError, in_range, signed};
use super::{Chunk, ChunkEncoding};

/// The exclusive or coding of one column of floats; the window of significant bits is kept while
/// the next difference fits into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct XorState {
    bits: u64,
    /// Leading and trailing zeros of the window; `None` before the first difference.
    window: Option<(u32, u32)>,
}

impl XorState {
    /// `value` has been written whole.
    pub(super) fn new(value: f64) -> Self {
        Self { bits: value.to_bits(), window: None }
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    pub(super) fn write(&mut self, out: &mut BitWriter, value: f64) {
        let difference = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if difference == 0 {
            return out.bit(false);
        }
        out.bit(true);
        // Five bits say the leading zeros, so there are at most 31.
        let (leading, trailing) = (difference.leading_zeros().min(31), difference.trailing_zeros());
        if let Some((l, t)) = self.window
            && leading >= l
            && trailing >= t
        {
            out.bit(false);
            return out.bits(difference >> t, 64 - l - t);
        }
        self.window = Some((leading, trailing));
        let significant = 64 - leading - trailing;
        out.bit(true);
        out.bits(u64::from(leading), 5);
        // 64 does not fit into six bits and stands as 0.
        out.bits(u64::from(significant & 63), 6);
        out.bits(difference >> trailing, significant);
    }

    pub(super) fn read(&mut self, from: &mut BitReader<'_>) -> Result<f64, ChunkError> {
        if from.bit()? {
            match from.bit()? {
                true => self.read_window(from)?,
                false => self.read_difference(from)?,
            }
        }
        Ok(self.value())
    }

    /// A window, and a difference within it.
    pub(super) fn read_window(&mut self, from: &mut BitReader<'_>) -> Result<(), ChunkError> {
        let leading = from.bits(5)? as u32;
        let significant = match from.bits(6)? as u32 {
            0 => 64,
            n => n,
        };
        // A window that does not fit into 64 bits is no window.
        let trailing = 64u32.checked_sub(leading + significant).ok_or(ChunkError::Varint)?;
        self.window = Some((leading, trailing));
        self.read_difference(from)
    }

    /// A difference within the window of before; that is of all bits at first, which a Prometheus
    /// uses that went on with a chunk.
    pub(super) fn read_difference(&mut self, from: &mut BitReader<'_>) -> Result<(), ChunkError> {
        let (leading, trailing) = self.window.unwrap_or((0, 0));
        self.bits ^= from.bits(64 - leading - trailing)? << trailing;
        Ok(())
    }
}

/// A chunk of at most 65,535 samples; the caller has cut them.
pub(super) fn encode(times_ms: &[i64], values: &[f64]) -> Chunk {
    let samples = times_ms.len().min(values.len()).min(usize::from(u16::MAX));
    let mut out = BitWriter::after((samples as u16).to_be_bytes().to_vec());
    let (mut state, mut last_t, mut delta) = (XorState::new(0.0), 0i64, 0u64);
    for (i, (t, value)) in times_ms.iter().zip(values).take(samples).enumerate() {
        let next = t.wrapping_sub(last_t) as u64;
        match i {
            0 => {
                out.varint(*t);
                out.bits(value.to_bits(), 64);
                state = XorState::new(*value);
            }
            1 => out.uvarint(next),
            _ => write_time(&mut out, next.wrapping_sub(delta) as i64),
        }
        if i > 0 {
            state.write(&mut out, *value);
            delta = next;
        }
        last_t = *t;
    }
    Chunk {
        min_t_ms: times_ms.first().copied().unwrap_or(0),
        max_t_ms: last_t,
        encoding: ChunkEncoding::Xor,
        data: out.finish(),
    }
}

/// Bits of a delta of deltas by the ones in front of it; four ones stand for 64 bits.
const TIME_SIZES: [u32; 3] = [14, 17, 20];

fn write_time(out: &mut BitWriter, delta_of_delta: i64) {
    if delta_of_delta == 0 {
        return out.bit(false);
    }
    match TIME_SIZES.iter().position(|bits| in_range(delta_of_delta, *bits)) {
        Some(i) => {
            let ones = i as u32 + 1;
            out.bits((1 << (ones + 1)) - 2, ones + 1);
            out.bits(delta_of_delta as u64, TIME_SIZES[i]);
        }
        None => {
            out.bits(0b1111, 4);
            out.bits(delta_of_delta as u64, 64);
        }
    }
}

fn read_time(from: &mut BitReader<'_>) -> Result<i64, ChunkError> {
    Ok(match from.ones(4)? {
        0 => 0,
        4 => from.bits(64)? as i64,
        ones => {
            let bits = TIME_SIZES[ones as usize - 1];
            signed(from.bits(bits)?, bits)
        }
    })
}

pub(super) fn decode(data: &[u8], mut sample: impl FnMut(i64, f64)) -> Result<(), ChunkError> {
    let (header, body) = data.split_first_chunk::<2>().ok_or(ChunkError::Truncated)?;
    let samples = u16::from_be_bytes(*header);
    let mut from = BitReader::new(body);
    let (mut state, mut t, mut delta) = (XorState::new(0.0), 0i64, 0u64);
    for i in 0..samples {
        if i == 0 {
            t = from.varint()?;
            state = XorState::new(from.float()?);
        } else {
            delta = if i == 1 { from.uvarint()? } else { delta.wrapping_add(read_time(&mut from)? as u64) };
            t = t.wrapping_add(delta as i64);
            state.read(&mut from)?;
        }
        sample(t, state.value());
    }
    Ok(())
}
