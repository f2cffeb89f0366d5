//! The Prometheus text format.
//!
//! Invariants: the strict reader takes a text exactly when the generous one refuses nothing; each
//! sample that was read is written and read the same.

use pilothouse_wire::exposition::TextFormat;

use crate::text;

pub fn run(data: &[u8]) {
    text::check(TextFormat::Prometheus, data);
}
