//! OTLP logs; the first byte chooses protobuf or JSON.
//!
//! Invariants: labels and metadata are in order; entries lie within the text; an entry has a
//! level.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilothouse_fuzz::logs::check;
use pilothouse_model::limits::Limits;
use pilothouse_wire::logs::Enricher;
use pilothouse_wire::otlp::{OtlpFormat, decode_logs};

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let format = if kind % 2 == 0 { OtlpFormat::Protobuf } else { OtlpFormat::Json };
    if let Ok(decoded) = decode_logs(format, body, &Enricher::default(), &Limits::default()) {
        check(&decoded);
    }
});
