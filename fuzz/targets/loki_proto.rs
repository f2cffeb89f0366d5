//! Loki's push in protobuf.
//!
//! Invariants: as for the JSON form, and the batch written as protobuf decodes to the same batch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilothouse_fuzz::logs::{as_protobuf, check, words};
use pilothouse_model::limits::Limits;
use pilothouse_wire::logs::{Enricher, PushFormat, decode};

fuzz_target!(|data: &[u8]| {
    let (enricher, limits) = (Enricher::default(), Limits::default());
    let Ok(first) = decode(PushFormat::Protobuf, data, &enricher, &limits) else { return };
    check(&first);
    let second = decode(PushFormat::Protobuf, &as_protobuf(&first), &enricher, &limits);
    assert_eq!(words(&first), words(&second.expect("what was written is read")));
});
