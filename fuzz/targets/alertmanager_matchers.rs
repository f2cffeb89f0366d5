//! Matchers in both syntaxes; what is printed reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilothouse_alertmanager::matchers::{parse_matcher, parse_matchers};

fuzz_target!(|text: &str| {
    let _ = parse_matcher(text);
    let _ = parse_matchers(text);
});
