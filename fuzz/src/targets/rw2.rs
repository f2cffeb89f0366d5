//! Remote write 2.0.
//!
//! Invariants: labels of every series can be read; the batch written as version 1.0 decodes to
//! the same keys, samples and histograms.

use pilothouse_model::limits::Limits;
use pilothouse_wire::remote_write::{Message, decode};

use crate::wire::{as_version_1, read_all_labels, words};

pub fn run(data: &[u8]) {
    let limits = Limits { max_histogram_buckets: 100, ..Limits::default() };
    let Ok(first) = decode(Message::V2, data.to_vec(), &limits) else { return };
    let second = decode(Message::V1, as_version_1(&first), &limits).expect("what was written is read");
    assert_eq!(words(&first), words(&second));
    assert_eq!(read_all_labels(&first), read_all_labels(&second));
}
