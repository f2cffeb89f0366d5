//! Matchers in both syntaxes.
//!
//! Invariant: what is printed reads as the same, but for escapes, which the two syntaxes read
//! differently.

use pilothouse_alertmanager::matchers::{begin_text, parse_matcher, parse_matchers};

use super::as_text;

pub fn run(data: &[u8]) {
    begin_text();
    let text = as_text(data);
    let one = parse_matcher(text);
    for matcher in parse_matchers(text).unwrap_or_default().into_iter().chain(one) {
        let printed = matcher.to_string();
        if !printed.contains('\\') {
            begin_text();
            assert_eq!(parse_matcher(&printed), Ok(matcher));
        }
    }
}
