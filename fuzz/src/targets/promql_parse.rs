//! A query from outside: reading it never panics, and what was read prints as a query that reads
//! back to the same print.

use pilothouse_promql::printer::format;
use pilothouse_promql::{ParseContext, parse, parse_selector};

use super::as_text;

pub fn run(data: &[u8]) {
    let text = as_text(data);
    let context = ParseContext { max_length_bytes: 4_096, max_depth: 100 };
    let _ = parse_selector(text, &context);
    let Ok(expr) = parse(text, &context) else { return };
    let printed = format(&expr);
    // Printing may add parentheses and quotes, so it gets more room.
    let roomy = ParseContext { max_length_bytes: 1 << 20, max_depth: 400 };
    let again = parse(&printed, &roomy).unwrap_or_else(|e| panic!("{printed}: {e}"));
    // As in Prometheus infinity prints with a sign, which reads as an operator that is weaker than
    // `^`: the same number, printed with one sign more.
    if !printed.contains("+Inf") {
        assert_eq!(format(&again), printed);
    }
}
