//! Blocks of float values.
//!
//! Strategy: the first byte chooses between bytes read as a block of a chosen length, and a walk
//! of values written and read back, also with one byte damaged.
//! Invariants: never a panic; a block that is read gives exactly the values asked for; what was
//! written is read back to the bit; values that were read are written and read again the same.

use pilothouse_metrics::codec::{Effort, decode_values, encode_values};

use crate::choices::{Choices, assert_same_bits};

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mode = choices.byte();
    if mode.is_multiple_of(2) {
        let n = choices.below(if mode < 16 { 60_000 } else { 700 });
        let mut values = Vec::new();
        if decode_values(choices.rest(), n, &mut values).is_ok() {
            assert_eq!(values.len(), n);
            round_trip(&values, Effort::Flush);
        }
        return;
    }
    let effort = if mode < 32 { Effort::Compact } else { Effort::Flush };
    let (at, to) = (choices.below(usize::MAX), choices.byte());
    let values = choices.values(2_000);
    let mut block = round_trip(&values, effort);
    if !block.is_empty() {
        let at = at % block.len();
        block[at] = to;
        let mut read = Vec::new();
        if decode_values(&block, values.len(), &mut read).is_ok() {
            assert_eq!(read.len(), values.len());
        }
    }
}

fn round_trip(values: &[f64], effort: Effort) -> Vec<u8> {
    let mut block = Vec::new();
    encode_values(values, effort, &mut block);
    let mut read = Vec::new();
    decode_values(&block, values.len(), &mut read).expect("what was written can be read");
    assert_same_bits(&read, values);
    block
}
