//! Durations in templates: what `since` gives and `humanizeDuration` takes.

use gotmpl::Value;

use super::data::{kind_of, structure};

const KIND: &str = "duration";

pub(super) fn to_value(ns: i64) -> Value {
    structure(KIND, [("ns", Value::Int(ns))])
}

/// The nanoseconds of a duration.
pub(super) fn from_value(value: &Value) -> Option<i64> {
    (kind_of(value) == Some(KIND)).then(|| value.field("ns").and_then(Value::as_int)).flatten()
}

/// The fields and methods of Go's `time.Duration`.
pub(super) fn get(ns: i64, name: &str) -> Option<Value> {
    let seconds = ns as f64 / 1e9;
    Some(match name {
        "Seconds" => Value::Float(seconds),
        "Minutes" => Value::Float(seconds / 60.0),
        "Hours" => Value::Float(seconds / 3600.0),
        "Milliseconds" => Value::Int(ns / 1_000_000),
        "Nanoseconds" => Value::Int(ns),
        "String" => Value::String(pilothouse_query::units::format_go_duration(ns).into()),
        _ => return None,
    })
}

/// Seconds for people: `1d 2h 3m 4s`, `1.5s`, `12ms`; Prometheus' function of that name.
pub(super) fn humanize(seconds: f64) -> String {
    if seconds.is_nan() || seconds.is_infinite() {
        return pilothouse_model::sample::format_float_general(seconds);
    }
    if seconds == 0.0 {
        return "0s".to_owned();
    }
    if seconds.abs() < 1.0 {
        let (mut value, mut prefix) = (seconds, "");
        for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if value.abs() >= 1.0 {
                break;
            }
            prefix = next;
            value *= 1000.0;
        }
        return format!("{}{prefix}s", four_digits(value));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let whole = seconds.abs() as i64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {rest}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {rest}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {rest}s")
    } else {
        format!("{}s", four_digits(seconds))
    }
}

/// Go's `%.4g`.
fn four_digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = value.abs().log10().floor() as i32;
    let scale = 10f64.powi(3 - exponent);
    let rounded = (value * scale).round() / scale;
    pilothouse_model::sample::format_float_general(rounded)
}
