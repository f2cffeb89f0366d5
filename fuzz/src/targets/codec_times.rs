//! Lists of timestamps.
//!
//! Strategy: the first byte chooses between bytes read as a list, and a list made from the bytes,
//! written and read back.
//! Invariants: never a panic; never more times than the caller allows; a list is read back
//! exactly and says its length without being decoded.

use pilothouse_metrics::codec::times::count_times;
use pilothouse_metrics::codec::{decode_times, encode_times};

use crate::choices::Choices;

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mode = choices.byte();
    let mut times = Vec::new();
    if mode.is_multiple_of(2) {
        let max = choices.below(60_000);
        let read = decode_times(choices.rest(), max, &mut times);
        assert!(times.len() <= max);
        if read.is_err() {
            return;
        }
    } else {
        let n = choices.below(2_000).min(data.len());
        times = choices.times(n);
    }
    let mut list = Vec::new();
    encode_times(&times, &mut list);
    assert_eq!(count_times(&list), Ok(times.len()));
    let mut read = Vec::new();
    decode_times(&list, times.len(), &mut read).expect("what was written can be read");
    assert_eq!(read, times);
}
