//! Points in time in templates.

use gotmpl::Value;
use pilothouse_query::template::{Time, Zoned, time_method};

use super::data::{kind_of, structure};
use super::duration;

const KIND: &str = "time";
/// 0001-01-01, Go's zero time, in milliseconds.
pub(super) const ZERO_MS: i64 = -62_135_596_800_000;

pub(super) fn from_ms(t_ms: i64) -> Zoned {
    let nanos = (t_ms.rem_euclid(1000) * 1_000_000) as u32;
    Zoned::utc(Time { seconds: t_ms.div_euclid(1000), nanos })
}

pub(super) fn to_value(time: &Zoned) -> Value {
    structure(KIND, [("time", time.to_value())])
}

pub(super) fn from_value(value: &Value) -> Option<Zoned> {
    if kind_of(value) != Some(KIND) {
        return None;
    }
    value.field("time").and_then(Zoned::from_value)
}

/// As JSON has it.
pub(super) fn rfc3339(time: &Zoned) -> String {
    time.format("2006-01-02T15:04:05.999999999Z07:00")
}

/// The methods of Go's `time.Time`; those that give times or durations give them in the form of
/// this module.
pub(super) fn get(time: &Zoned, name: &str, args: &[Value]) -> Option<Value> {
    let other = || args.first().and_then(from_value);
    Some(match (name, args) {
        ("Local", []) => to_value(&time.in_zone("Local")?),
        ("Before", [_]) => Value::Bool(time.nanos_since(&other()?) < 0),
        ("After", [_]) => Value::Bool(time.nanos_since(&other()?) > 0),
        ("Equal", [_]) => Value::Bool(time.nanos_since(&other()?) == 0),
        ("Sub", [_]) => duration::to_value(time.nanos_since(&other()?)),
        ("Add", [span]) => to_value(&time.plus_nanos(duration::from_value(span)?)),
        _ => {
            let given = time_method(&time.to_value(), name, args)?.ok()?;
            Zoned::from_value(&given).map_or(given, |time| to_value(&time))
        }
    })
}
