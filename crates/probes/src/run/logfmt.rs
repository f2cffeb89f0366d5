//! Lines of `key=value`, quoted as the usual writers of logfmt quote.

use std::fmt::Write as _;

/// Appends a pair, after a blank where the line has begun.
pub(super) fn push(line: &mut String, key: &str, value: &str) {
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(key);
    line.push('=');
    let plain = |c: char| c > ' ' && !matches!(c, '=' | '"' | '\u{7f}' | '\u{fffd}');
    if value.chars().all(plain) {
        line.push_str(value);
    } else {
        push_quoted(line, value);
    }
}

fn push_quoted(line: &mut String, value: &str) {
    line.push('"');
    for c in value.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // Writing to a String does not fail.
            c if c < ' ' || c == '\u{7f}' => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_quoted_where_they_must_be() {
        for (value, expected) in [
            ("plain", "k=plain"),
            ("", "k="),
            ("a b", "k=\"a b\""),
            ("a=b", "k=\"a=b\""),
            ("a\"\n\\\u{1}", "k=\"a\\\"\\n\\\\\\u0001\""),
            ("é", "k=é"),
        ] {
            let mut line = String::new();
            super::push(&mut line, "k", value);
            assert_eq!(line, expected);
        }
    }
}
