//! Float samples in a record: about five bytes each.
//!
//! Each sample begins with one byte: how many bytes of the value follow, and whether series and
//! time are told or follow from the sample before. A value keeps its high bytes only, since the
//! low ones of most numbers are zero.

use super::RecordSink;
use pilothouse_model::bytes::{Malformed, Reader, push_signed};

const LENGTH: u8 = 0x0f;
const NEXT_ID: u8 = 0x10;
const SAME_ID: u8 = 0x20;
const SAME_TIME: u8 = 0x40;

#[derive(Debug)]
pub(super) struct SampleWriter {
    bytes: Vec<u8>,
    id: u32,
    t_ms: i64,
}

impl Default for SampleWriter {
    fn default() -> Self {
        Self { bytes: Vec::new(), id: u32::MAX, t_ms: 0 }
    }
}

impl SampleWriter {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(4 << 20);
        self.id = u32::MAX;
        self.t_ms = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub(super) fn push(&mut self, id: u32, t_ms: i64, value: f64) {
        let bits = value.to_bits();
        let length = 8 - bits.trailing_zeros().min(64) as usize / 8;
        let mut tag = length as u8;
        let step = id.wrapping_sub(self.id);
        tag |= match step {
            0 => SAME_ID,
            1 => NEXT_ID,
            _ => 0,
        };
        if t_ms == self.t_ms {
            tag |= SAME_TIME;
        }
        self.bytes.push(tag);
        if step > 1 {
            push_signed(&mut self.bytes, i64::from(step as i32));
        }
        if t_ms != self.t_ms {
            push_signed(&mut self.bytes, t_ms.wrapping_sub(self.t_ms));
        }
        self.bytes.extend_from_slice(&bits.to_be_bytes()[..length]);
        (self.id, self.t_ms) = (id, t_ms);
    }
}

pub(super) fn read_samples(mut from: Reader<'_>, sink: &mut impl RecordSink) -> Result<(), Malformed> {
    let (mut id, mut t_ms) = (u32::MAX, 0i64);
    while !from.is_empty() {
        let tag = from.byte()?;
        if tag & SAME_ID == 0 {
            let step = if tag & NEXT_ID != 0 { 1 } else { from.i32()? as u32 };
            id = id.wrapping_add(step);
        }
        if tag & SAME_TIME == 0 {
            t_ms = t_ms.wrapping_add(from.signed()?);
        }
        let mut bits = [0u8; 8];
        let bytes = from.take(usize::from(tag & LENGTH))?;
        bits.get_mut(..bytes.len()).ok_or(Malformed("value"))?.copy_from_slice(bytes);
        sink.sample(id, t_ms, f64::from_be_bytes(bits));
    }
    Ok(())
}
