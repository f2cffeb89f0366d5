//! The Prometheus text format.
//!
//! Invariants: the strict reader takes a text exactly when the generous one refuses nothing; each
//! sample that was read is written and read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilothouse_fuzz::text::check;
use pilothouse_wire::exposition::TextFormat;

fuzz_target!(|data: &[u8]| check(TextFormat::Prometheus, data));
