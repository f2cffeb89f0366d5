//! Numbers, durations and strings as they are written in a query.

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
    if quoted.starts_with('`') || !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c == '\\' {
            push_escape(&mut rest, &mut out);
        } else {
            push_char(c, &mut out);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn push_char(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn push_escape(rest: &mut std::str::Chars<'_>, out: &mut Vec<u8>) {
    let Some(c) = rest.next() else { return };
    let simple = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        'x' => return out.push(digits(rest, 2, 16, 0) as u8),
        '0'..='7' => return out.push(digits(rest, 2, 8, c.to_digit(8).unwrap_or(0)) as u8),
        'u' | 'U' => {
            let code = digits(rest, if c == 'u' { 4 } else { 8 }, 16, 0);
            return push_char(char::from_u32(code).unwrap_or('\u{fffd}'), out);
        }
        other => return push_char(other, out),
    };
    out.push(simple);
}

fn digits(rest: &mut std::str::Chars<'_>, count: usize, base: u32, start: u32) -> u32 {
    let mut value = start;
    for _ in 0..count {
        let digit = rest.next().and_then(|c| c.to_digit(base)).unwrap_or(0);
        value = value.wrapping_mul(base).wrapping_add(digit);
    }
    value
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
            (r#""\u00e9\x41\101\t""#, "éAA\t"),
        ] {
            assert_eq!(unquote(quoted), text);
        }
    }
}
