//! OTLP metrics in JSON.
//!
//! Invariants: labels of every series can be read and are sorted; the batch written as remote
//! write 1.0 decodes to the same keys and samples.

use pilothouse_model::limits::Limits;
use pilothouse_wire::otlp::{OtlpFormat, decode};
use pilothouse_wire::remote_write;

use crate::wire::{as_version_1, read_all_labels, words};

pub fn run(data: &[u8]) {
    let limits = Limits { max_histogram_buckets: 100, ..Limits::default() };
    let Ok(first) = decode(OtlpFormat::Json, data, &limits) else { return };
    assert!(read_all_labels(&first).iter().all(|labels| labels.is_sorted()));
    let body = as_version_1(&first);
    let second = remote_write::decode(remote_write::Message::V1, body, &Limits::default());
    assert_eq!(words(&first), words(&second.expect("what was written is read")));
}
