//! Numbers in texts as Go's `strconv` reads them: what logs, templates and queries say must count
//! the same here as there.

use std::borrow::Cow;

/// Why a text is no number; the words are those of `strconv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    #[error("invalid syntax")]
    Syntax,
    #[error("value out of range")]
    Range,
}

impl NumberError {
    /// The error of `ParseFloat` as a whole.
    pub fn of_float(self, text: &str) -> String {
        format!("strconv.ParseFloat: parsing {}: {self}", pilothouse_model::labels::quote(text))
    }
}

/// `strconv.ParseFloat`: decimal or, with an exponent to the base of two, hexadecimal; single
/// underscores between digits; `Inf`, `Infinity` and `NaN` in any case.
pub fn parse_float(text: &str) -> Result<f64, NumberError> {
    let plain = without_underscores(text)?;
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    if let Some(digits) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        let value = hexadecimal(digits).ok_or(NumberError::Syntax)?;
        return finite(if plain.starts_with('-') { -value } else { value });
    }
    let value: f64 = plain.parse().map_err(|_| NumberError::Syntax)?;
    if value.is_nan() && unsigned.len() < plain.len() {
        return Err(NumberError::Syntax);
    }
    if unsigned.bytes().any(|b| b.is_ascii_digit()) { finite(value) } else { Ok(value) }
}

fn finite(value: f64) -> Result<f64, NumberError> {
    if value.is_infinite() { Err(NumberError::Range) } else { Ok(value) }
}

/// `1f.8p-3`: hexadecimal digits, and the power of two, which must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    Some(value * 2f64.powi(exponent.saturating_sub(4 * i32::try_from(fraction.len()).ok()?)))
}

/// `strconv.ParseInt` with base 0: `0x`, `0o`, `0b`, a leading zero for octal, and underscores
/// between digits.
pub fn parse_int(text: &str) -> Result<i64, NumberError> {
    let (unsigned, negative) = match text.as_bytes().first() {
        Some(b'-') => (&text[1..], true),
        Some(b'+') => (&text[1..], false),
        _ => (text, false),
    };
    let plain = without_underscores(unsigned)?;
    let (base, digits) = match plain.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &plain[2..]),
        [b'0', b'b' | b'B', ..] => (2, &plain[2..]),
        [b'0', b'o' | b'O', ..] => (8, &plain[2..]),
        [b'0', _, ..] => (8, &plain[1..]),
        _ => (10, &*plain),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err(NumberError::Syntax);
    }
    let value = i128::from_str_radix(digits, base).map_err(|_| NumberError::Range)?;
    i64::try_from(if negative { -value } else { value }).map_err(|_| NumberError::Range)
}

/// Underscores must stand singly between digits, the mark of a base counting as one.
fn without_underscores(text: &str) -> Result<Cow<'_, str>, NumberError> {
    if !text.contains('_') {
        return Ok(Cow::Borrowed(text));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    let hexadecimal = unsigned.starts_with("0x");
    let marked = hexadecimal || unsigned.starts_with("0b") || unsigned.starts_with("0o");
    let (mut last, digits) = if marked { ('0', &unsigned[2..]) } else { ('^', unsigned.as_str()) };
    for c in digits.chars() {
        let is_digit = c.is_ascii_digit() || (hexadecimal && c.is_ascii_hexdigit());
        last = match (c, last) {
            _ if is_digit => '0',
            ('_', '0') => '_',
            (_, '_') | ('_', _) => return Err(NumberError::Syntax),
            _ => '!',
        };
    }
    if last == '_' { Err(NumberError::Syntax) } else { Ok(Cow::Owned(text.replace('_', ""))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_what_go_takes() {
        use NumberError::{Range, Syntax};
        for (text, expected) in [
            ("1", Ok(1.0)),
            ("-1.5e3", Ok(-1500.0)),
            ("+.5", Ok(0.5)),
            ("5.", Ok(5.0)),
            ("1_000", Ok(1000.0)),
            ("1_23.50_0_0e+1_2", Ok(1.235e14)),
            ("0x1p4", Ok(16.0)),
            ("-0X1.8p1", Ok(-3.0)),
            ("Inf", Ok(f64::INFINITY)),
            ("-infinity", Ok(f64::NEG_INFINITY)),
            ("1e400", Err(Range)),
            ("0x1p2000", Err(Range)),
            ("0x10", Err(Syntax)),
            ("1__0", Err(Syntax)),
            ("_1", Err(Syntax)),
            ("1_", Err(Syntax)),
            ("1_.5", Err(Syntax)),
            ("+nan", Err(Syntax)),
            ("", Err(Syntax)),
            (" 1", Err(Syntax)),
            ("0b11", Err(Syntax)),
        ] {
            assert_eq!(parse_float(text), expected, "{text}");
        }
        assert!(parse_float("NaN").is_ok_and(f64::is_nan));
    }

    #[test]
    fn integers_name_their_base() {
        for (text, expected) in [
            ("12", Some(12)),
            ("-7", Some(-7)),
            ("+5", Some(5)),
            ("010", Some(8)),
            ("-010", Some(-8)),
            ("0xff", Some(255)),
            ("0b11", Some(3)),
            ("0o17", Some(15)),
            ("1_000", Some(1000)),
            ("0_7", Some(7)),
            ("0", Some(0)),
            ("00", Some(0)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("08", None),
            ("", None),
            ("-", None),
            ("0x", None),
            ("1e3", None),
            ("--1", None),
        ] {
            assert_eq!(parse_int(text).ok(), expected, "{text}");
        }
    }
}
