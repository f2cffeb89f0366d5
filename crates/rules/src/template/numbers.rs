//! Numbers for people.

use std::fmt::Write as _;

use pilothouse_model::sample::format_float_general;

/// A float as Go's `%.4g`: four significant digits, no zeros behind them.
pub(super) fn four_digits(value: f64) -> String {
    if !value.is_finite() {
        return format_float_general(value);
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    // Rounding may add a digit, so the exponent is read off the rounded text.
    let text = format!("{value:.3e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..4).contains(&exponent) {
        let mantissa = trim_zeros(mantissa);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let places = usize::try_from(3 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.places$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

/// `1.235M`, `1.5m`.
pub(super) fn humanize(mut value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value);
    }
    let mut prefix = "";
    if value.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1000.0 {
                break;
            }
            prefix = next;
            value /= 1000.0;
        }
    } else {
        for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if value.abs() >= 1.0 {
                break;
            }
            prefix = next;
            value *= 1000.0;
        }
    }
    four_digits(value) + prefix
}

/// `1Mi`.
pub(super) fn humanize_1024(mut value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four_digits(value);
    }
    let mut prefix = "";
    for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if value.abs() < 1024.0 {
            break;
        }
        prefix = next;
        value /= 1024.0;
    }
    four_digits(value) + prefix
}

/// Seconds as `1d 1h 1m 1s`, `1.5ms`.
pub(super) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value);
    }
    if value == 0.0 {
        return "0s".to_owned();
    }
    if value.abs() < 1.0 {
        return small_duration(value);
    }
    let (sign, value) = if value < 0.0 { ("-", -value) } else { ("", value) };
    let duration = value as i64;
    let (seconds, minutes) = (duration % 60, duration / 60 % 60);
    let (hours, days) = (duration / 3600 % 24, duration / 86_400);
    let mut out = sign.to_owned();
    if days != 0 {
        let _ = write!(out, "{days}d ");
    }
    if days != 0 || hours != 0 {
        let _ = write!(out, "{hours}h ");
    }
    if days != 0 || hours != 0 || minutes != 0 {
        let _ = write!(out, "{minutes}m {seconds}s");
        return out;
    }
    out + &four_digits(value) + "s"
}

fn small_duration(mut value: f64) -> String {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    four_digits(value) + prefix + "s"
}
