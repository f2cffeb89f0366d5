//! Numbers, durations and strings as they are written in a query.

use std::borrow::Cow;

use pilothouse_model::labels;
use pilothouse_model::time::parse_duration_ms;

/// A number as Go reads it: integers with `0x`, `0o`, `0b` or a leading zero for octal, and
/// underscores; else a float, decimal or hexadecimal; `Inf`, `NaN`.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let invalid = || format!("error parsing number: strconv.ParseFloat: parsing {text:?}: invalid syntax");
    if let Some(integer) = integer(text) {
        return Ok(integer as f64);
    }
    match text.to_ascii_lowercase().as_str() {
        "inf" => Ok(f64::INFINITY),
        "nan" => Ok(f64::NAN),
        _ if text.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) => {
            Err(invalid())
        }
        _ => {
            let value: f64 = text.parse().map_err(|_| invalid())?;
            if value.is_infinite() {
                let cause = format!("strconv.ParseFloat: parsing {text:?}: value out of range");
                return Err(format!("error parsing number: {cause}"));
            }
            Ok(value)
        }
    }
}

fn integer(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    i64::from_str_radix(&digits.replace('_', ""), base).ok()
}

/// A duration such as `1h30m` in seconds.
pub(crate) fn duration_seconds(text: &str) -> Result<f64, String> {
    let ms = parse_duration_ms(text).map_err(|e| e.to_string())?;
    Ok(ms as f64 / 1000.0)
}

/// The text inside quotes, escapes undone. The lexer has checked it; bytes that are no UTF-8
/// become the replacement character, since labels here are UTF-8.
pub(crate) fn unquote(quoted: &str) -> String {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or("");
    match quoted.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            labels::unquote(inner, quote).unwrap_or(Cow::Borrowed(inner)).into_owned()
        }
        _ => inner.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_go() {
        for (text, value) in [
            ("1", 1.0),
            ("0x1F", 31.0),
            ("010", 8.0),
            ("1_000", 1000.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("09", 9.0),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert_eq!(number("Inf"), Ok(f64::INFINITY));
        assert!(number("NaN").is_ok_and(f64::is_nan));
        for bad in ["1_0.5", "1.5.5", "1e400"] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn strings_lose_their_quotes_and_escapes() {
        for (quoted, text) in [
            (r#""a\"b""#, "a\"b"),
            ("'it\\'s'", "it's"),
            (r"`raw\n`", r"raw\n"),
            (r#""\u00e9\x41\101\t\v""#, "éAA\t\u{b}"),
            (r#""\xff""#, "\u{fffd}"),
            ("''", ""),
        ] {
            assert_eq!(unquote(quoted), text);
        }
    }
}
