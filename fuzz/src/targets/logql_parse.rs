//! A LogQL query from outside: reading it never panics, and what was read prints as a query that
//! reads back to the same print, on one line or laid out.

use pilothouse_logql::syntax::parse_unchecked;
use pilothouse_logql::{parse, parse_matchers, pretty};

use super::as_text;

pub fn run(data: &[u8]) {
    let text = as_text(data);
    let _ = parse_matchers(text, true);
    let _ = parse(text);
    let Ok(expr) = parse_unchecked(text) else { return };
    // What is grammatical but meaningless has no text of its own.
    if parse(text).is_err() {
        return;
    }
    let printed = expr.to_string();
    // Arithmetic on literals may come to what no literal says.
    if printed.contains("NaN") || printed.contains("Inf") {
        return;
    }
    let Ok(again) = parse_unchecked(&printed) else { return check_prints_deeper(&printed) };
    assert_eq!(again.to_string(), printed);
    if let Ok(laid_out) = parse_unchecked(&pretty(&expr)) {
        assert_eq!(laid_out.to_string(), printed);
    }
}

/// Printing adds parentheses, for which there may be no room left. A name that is one character
/// which no name has (`?`) is read, as Loki reads it, and printed in quotes, as Loki prints it,
/// which neither reads. Nothing else may keep a print from being read.
fn check_prints_deeper(printed: &str) {
    let error = parse_unchecked(printed).err().map(|e| e.to_string()).unwrap_or_default();
    let known = ["nested deeper", "input size", "unexpected STRING, expecting IDENTIFIER"];
    assert!(known.iter().any(|text| error.contains(text)), "{printed}: {error}");
}
