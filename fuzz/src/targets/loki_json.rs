//! Loki's push in JSON.
//!
//! Invariants: labels and metadata are in order; entries lie within the text; an entry has a
//! level; the batch written as protobuf decodes to the same batch.

use pilothouse_model::limits::Limits;
use pilothouse_wire::logs::{Enricher, PushFormat, decode};

use crate::logs::{as_protobuf, check, words};

pub fn run(data: &[u8]) {
    let (enricher, limits) = (Enricher::default(), Limits::default());
    let Ok(first) = decode(PushFormat::Json, data, &enricher, &limits) else { return };
    check(&first);
    let second = decode(PushFormat::Protobuf, &as_protobuf(&first), &enricher, &limits);
    assert_eq!(words(&first), words(&second.expect("what was written is read")));
}
