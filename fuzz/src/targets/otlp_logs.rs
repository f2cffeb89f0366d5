//! OTLP logs; the first byte chooses protobuf or JSON.
//!
//! Invariants: labels and metadata are in order; entries lie within the text; an entry has a
//! level.

use pilothouse_model::limits::Limits;
use pilothouse_wire::logs::Enricher;
use pilothouse_wire::otlp::{OtlpFormat, decode_logs};

use crate::logs::check;

pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let format = if kind.is_multiple_of(2) { OtlpFormat::Protobuf } else { OtlpFormat::Json };
    if let Ok(decoded) = decode_logs(format, body, &Enricher::default(), &Limits::default()) {
        check(&decoded);
    }
}
