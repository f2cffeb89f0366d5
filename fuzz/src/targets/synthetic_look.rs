//! What JSONPath, CSS selectors and regular expressions find in bodies of checked targets.
//!
//! Strategy: the first line is the expression, whose first byte chooses its kind and whether an
//! attribute is wanted; the rest is the body.
//! Invariants: never a panic; no memory stays booked; a body without room for its tree is refused and
//! leaves nothing behind either.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilothouse_model::Memory;
use pilothouse_model::memory::Part;
use pilothouse_probes::probe::found_in;
use pilothouse_probes::words::MultiHttpVariable;

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (expression, body) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
    let Ok(expression) = std::str::from_utf8(expression) else { return };
    let variable = MultiHttpVariable {
        kind: i32::from(choice % 3),
        name: "v".to_owned(),
        expression: expression.to_owned(),
        attribute: if choice & 8 == 0 { String::new() } else { "href".to_owned() },
    };
    for limit_bytes in [1 << 30, 64 << 10] {
        let memory = Arc::new(Memory::limited(limit_bytes));
        let deadline = Instant::now() + Duration::from_secs(1);
        let found = found_in(&variable, body.to_vec().into(), deadline, &memory);
        drop(found);
        assert_eq!(memory.held_bytes(Part::Requests), 0);
    }
}
