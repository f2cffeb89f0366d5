//! What is found in lines for those who explore: patterns, fields and their values.
//!
//! Strategy: each line of the input is one of a stream, many times over, since a rare line is in
//! no pattern; its number chooses its time.
//! Invariants: never a panic; no more lines are counted than there are; a field that is found has
//! values.

use pilothouse_logql::{
    FieldQuery, MemoryEntries, PatternQuery, detected_field_values, detected_fields, parse_log, patterns,
};
use pilothouse_model::{Budget, Labels};

const STEP_NS: i64 = 10_000_000_000;
/// What a pattern needs to be shown.
const COPIES: i64 = 31;

pub fn run(data: &[u8]) {
    let entries = MemoryEntries::default();
    let labels = Labels::from_pairs([("app", "x")]);
    let mut added = 0;
    for (number, line) in (0..).zip(data.split(|byte| *byte == b'\n').take(20)) {
        let line = String::from_utf8_lossy(line);
        for copy in 0..COPIES {
            added += u64::from(entries.add(&labels, number * STEP_NS / 3 + copy, &line, &Labels::empty()));
        }
    }
    let log = parse_log("{app=\"x\"}").unwrap();
    let query = PatternQuery {
        matchers: log.matchers.clone(),
        start_ns: 0,
        end_ns: 100 * STEP_NS,
        step_ns: STEP_NS,
        max_lines: 1_000,
        max_read_bytes: 1 << 20,
    };
    let budget = Budget::unlimited();
    let found = patterns(&entries, &query, &budget).unwrap();
    let counted: u64 = found.iter().flat_map(|pattern| &pattern.samples).map(|(_, lines)| lines).sum();
    assert!(counted <= added, "{counted} of {added}");
    let query = FieldQuery { start_ns: 0, end_ns: 100 * STEP_NS, line_limit: 100, limit: 100 };
    for field in detected_fields(&entries, &log, &query, &budget).unwrap() {
        let values = detected_field_values(&entries, &log, &field.label, &query, &budget).unwrap();
        assert!(!values.is_empty(), "{field:?}");
    }
}
