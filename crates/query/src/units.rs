//! Durations as Go's `time` package writes them, and sizes as `go-humanize` does.

use std::fmt::Write as _;

/// Units of Go's `time.ParseDuration`; both micro signs are known.
const GO_UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// A duration as Go's `time.ParseDuration` reads it, in nanoseconds: `1m30s`, `2.5s`, `-800us`,
/// a bare `0`. The error is Go's text.
pub fn parse_go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", pilothouse_model::labels::quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = &rest[..end];
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.bytes().filter(|b| *b == b'.').count() > 1 {
            return Err(invalid());
        }
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, tail) = rest.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", pilothouse_model::labels::quote(text)));
        }
        let Some((_, length)) = GO_UNITS.iter().find(|(u, _)| *u == unit) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                pilothouse_model::labels::quote(unit),
                pilothouse_model::labels::quote(text)
            ));
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut part = whole.checked_mul(*length as u64).ok_or_else(invalid)?;
        if !fraction.is_empty() {
            let fraction: f64 = format!("0.{fraction}").parse().map_err(|_| invalid())?;
            part = part.checked_add((fraction * length) as u64).ok_or_else(invalid)?;
        }
        total = total.checked_add(part).filter(|t| *t <= 1 << 63).ok_or_else(invalid)?;
        rest = tail;
    }
    if negative {
        return Ok((total as i64).wrapping_neg());
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// A duration as Go's `time.Duration` prints: `1h0m0s`, `1.5s`, `300ms`, `0s`.
pub fn format_go_duration(duration_ns: i64) -> String {
    let mut out = String::new();
    let mut rest = duration_ns.unsigned_abs();
    if rest == 0 {
        return "0s".to_owned();
    }
    if duration_ns < 0 {
        out.push('-');
    }
    if rest < 1_000_000_000 {
        let (unit, digits) = match rest {
            0..1_000 => ("ns", 0),
            1_000..1_000_000 => ("\u{b5}s", 3),
            _ => ("ms", 6),
        };
        push_fraction(&mut out, rest, digits);
        out.push_str(unit);
        return out;
    }
    const MINUTE: u64 = 60_000_000_000;
    let hours = rest / (60 * MINUTE);
    let minutes = rest / MINUTE % 60;
    rest %= MINUTE;
    if hours > 0 {
        let _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(out, "{minutes}m");
    }
    push_fraction(&mut out, rest, 9);
    out.push('s');
    out
}

fn push_fraction(out: &mut String, value: u64, digits: u32) {
    let scale = 10u64.pow(digits);
    let _ = write!(out, "{}", value / scale);
    let fraction = value % scale;
    if fraction > 0 {
        let text = format!("{fraction:0width$}", width = digits as usize);
        let _ = write!(out, ".{}", text.trim_end_matches('0'));
    }
}

/// A number of bytes as `go-humanize` reads it: `5KB` is 5000, `5KiB` 5120, units in any case,
/// a blank between and commas in the number allowed. The error is its text.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let plain;
    let digits = if number.contains(',') {
        plain = number.replace(',', "");
        plain.as_str()
    } else {
        number
    };
    let value: f64 = digits.parse().map_err(|_| {
        format!("strconv.ParseFloat: parsing {}: invalid syntax", pilothouse_model::labels::quote(digits))
    })?;
    let factor = unit_factor(unit.trim())
        .ok_or_else(|| format!("unhandled size name: {}", unit.trim().to_lowercase()))?;
    let bytes = value * factor;
    if bytes >= u64::MAX as f64 {
        return Err(format!("too large: {text}"));
    }
    Ok(bytes as u64)
}

fn unit_factor(unit: &str) -> Option<f64> {
    let mut lower = [0u8; 3];
    let short = lower.get_mut(..unit.len())?;
    for (to, from) in short.iter_mut().zip(unit.bytes()) {
        *to = from.to_ascii_lowercase();
    }
    let (letter, tail) = match &*short {
        [] | [b'b'] => return Some(1.0),
        [letter, tail @ ..] => (*letter, tail),
    };
    let power = b"kmgtpe".iter().position(|l| *l == letter)? as i32 + 1;
    match tail {
        b"" | b"b" => Some(1000f64.powi(power)),
        b"i" | b"ib" => Some(1024f64.powi(power)),
        _ => None,
    }
}

/// A number of bytes as `humanize.Bytes` prints it, without its blank: `5.0kB`, `12MB`.
pub fn format_bytes(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes}B");
    }
    let power = ((bytes as f64).ln() / 1000f64.ln()).floor();
    let value = (bytes as f64 / 1000f64.powf(power) * 10.0 + 0.5).floor() / 10.0;
    let name = NAMES.get(power as usize).copied().unwrap_or("EB");
    if value < 10.0 { format!("{value:.1}{name}") } else { format!("{value:.0}{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_go_back_and_forth() {
        for (text, ns, printed) in [
            ("1m30s", 90_000_000_000, "1m30s"),
            ("2.5s", 2_500_000_000, "2.5s"),
            ("800us", 800_000, "800\u{b5}s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("-3ms", -3_000_000, "-3ms"),
            ("0", 0, "0s"),
            (".5s", 500_000_000, "500ms"),
            ("15ns", 15, "15ns"),
        ] {
            assert_eq!(parse_go_duration(text), Ok(ns), "{text}");
            assert_eq!(format_go_duration(ns), printed);
        }
        for bad in ["", "5", "m", "1x", "1d", ".", "1..2s", "-", "x5s"] {
            assert!(parse_go_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_as_humanize_does() {
        for (text, bytes) in [
            ("5KB", 5_000),
            ("5KiB", 5_120),
            ("42", 42),
            ("1.5MB", 1_500_000),
            ("1,000 b", 1_000),
            ("3k", 3_000),
            ("2Gi", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "KB", "5XB", "5 lightyears", "-1B", "99999999EB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!([format_bytes(5), format_bytes(5_000), format_bytes(12_000_000)], ["5B", "5.0kB", "12MB"]);
    }
}
