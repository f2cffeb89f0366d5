//! Points in time in templates, each with the offset and name of its zone.

use gotmpl::Value;
use jiff::tz::TimeZone;
use pilothouse_query::template::Time;

use super::data::{kind_of, structure};
use super::duration;

const KIND: &str = "time";
/// 0001-01-01, Go's zero time, in milliseconds.
pub(super) const ZERO_MS: i64 = -62_135_596_800_000;

/// A point in time as it is shown somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zoned {
    pub(super) time: Time,
    offset_s: i64,
    zone: String,
}

impl Zoned {
    pub(super) fn utc(time: Time) -> Self {
        Self { time, offset_s: 0, zone: "UTC".to_owned() }
    }

    pub(super) fn from_ms(t_ms: i64) -> Self {
        let nanos = (t_ms.rem_euclid(1000) * 1_000_000) as u32;
        Self::utc(Time { seconds: t_ms.div_euclid(1000), nanos })
    }

    pub(super) fn to_value(&self) -> Value {
        structure(
            KIND,
            [
                ("seconds", Value::Int(self.time.seconds)),
                ("nanos", Value::Int(i64::from(self.time.nanos))),
                ("offset", Value::Int(self.offset_s)),
                ("zone", Value::String(self.zone.as_str().into())),
            ],
        )
    }

    pub(super) fn from_value(value: &Value) -> Option<Self> {
        if kind_of(value) != Some(KIND) {
            return None;
        }
        let int = |name: &str| value.field(name).and_then(Value::as_int);
        let zone = match value.field("zone") {
            Some(Value::String(zone)) => zone.to_string(),
            _ => return None,
        };
        let time = Time { seconds: int("seconds")?, nanos: u32::try_from(int("nanos")?).ok()? };
        Some(Self { time, offset_s: int("offset")?, zone })
    }

    /// The same point in another zone; `None` where there is none of that name.
    pub(super) fn in_zone(&self, name: &str) -> Option<Self> {
        let zone = match name {
            "" | "UTC" => return Some(Self::utc(self.time)),
            "Local" => TimeZone::system(),
            name => TimeZone::get(name).ok()?,
        };
        let instant = jiff::Timestamp::new(self.time.seconds, 0).ok()?;
        let info = zone.to_offset_info(instant);
        let offset_s = i64::from(info.offset().seconds());
        Some(Self { time: self.time, offset_s, zone: info.abbreviation().to_owned() })
    }

    /// The time in a layout of Go's.
    pub(super) fn format(&self, layout: &str) -> String {
        let shifted =
            Time { seconds: self.time.seconds.saturating_add(self.offset_s), nanos: self.time.nanos };
        let mut out = String::new();
        let mut rest = layout;
        // What names the zone is written here; the rest knows UTC alone.
        while let Some((at, field)) = first_zone_field(rest) {
            out.push_str(&shifted.format(&rest[..at]));
            out.push_str(&self.zone_text(field));
            rest = &rest[at + field.len()..];
        }
        out.push_str(&shifted.format(rest));
        out
    }

    fn zone_text(&self, field: &str) -> String {
        if field == "MST" {
            return self.zone.clone();
        }
        if field.starts_with('Z') && self.offset_s == 0 {
            return "Z".to_owned();
        }
        let sign = if self.offset_s < 0 { '-' } else { '+' };
        let (hours, minutes) = (self.offset_s.abs() / 3600, self.offset_s.abs() / 60 % 60);
        match &field[1..] {
            "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
            "0700" => format!("{sign}{hours:02}{minutes:02}"),
            _ => format!("{sign}{hours:02}"),
        }
    }

    /// As JSON has it.
    pub(super) fn rfc3339(&self) -> String {
        self.format("2006-01-02T15:04:05.999999999Z07:00")
    }

    fn nanos_since(&self, other: &Self) -> i64 {
        let seconds = self.time.seconds.saturating_sub(other.time.seconds);
        seconds.saturating_mul(1_000_000_000) + i64::from(self.time.nanos) - i64::from(other.time.nanos)
    }

    /// The methods of Go's `time.Time` that need no more than it.
    pub(super) fn get(&self, name: &str, args: &[Value]) -> Option<Value> {
        let text = |s: String| Value::String(s.into());
        let part = |layout: &str| {
            self.format(layout).trim_start_matches('0').parse().map_or(Value::Int(0), Value::Int)
        };
        let other = || args.first().and_then(Self::from_value);
        Some(match (name, args) {
            ("Format", [Value::String(layout)]) => text(self.format(layout)),
            ("String", []) => text(self.to_string()),
            ("Unix", []) => Value::Int(self.time.seconds),
            ("UnixMilli", []) => {
                Value::Int(self.time.seconds.saturating_mul(1000) + i64::from(self.time.nanos / 1_000_000))
            }
            ("UTC", []) => Self::utc(self.time).to_value(),
            ("Local", []) => self.in_zone("Local")?.to_value(),
            ("IsZero", []) => Value::Bool(self.time.seconds == ZERO_MS / 1000 && self.time.nanos == 0),
            ("Year", []) => part("2006"),
            ("Month", []) => text(self.format("January")),
            ("Day", []) => part("02"),
            ("Hour", []) => part("15"),
            ("Minute", []) => part("04"),
            ("Second", []) => part("05"),
            ("Weekday", []) => text(self.format("Monday")),
            ("Before", [_]) => Value::Bool(self.nanos_since(&other()?) < 0),
            ("After", [_]) => Value::Bool(self.nanos_since(&other()?) > 0),
            ("Equal", [_]) => Value::Bool(self.nanos_since(&other()?) == 0),
            ("Sub", [_]) => duration::to_value(self.nanos_since(&other()?)),
            ("Add", [span]) => {
                let ns = i64::from(self.time.nanos) + duration::from_value(span)?;
                let seconds = self.time.seconds.saturating_add(ns.div_euclid(1_000_000_000));
                let time = Time { seconds, nanos: ns.rem_euclid(1_000_000_000) as u32 };
                Self { time, ..self.clone() }.to_value()
            }
            _ => return None,
        })
    }
}

/// As Go prints a time.
impl std::fmt::Display for Zoned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// Longer ones first where one begins another.
const ZONE_FIELDS: [&str; 7] = ["Z07:00", "Z0700", "Z07", "-07:00", "-0700", "-07", "MST"];

fn first_zone_field(layout: &str) -> Option<(usize, &'static str)> {
    let found = ZONE_FIELDS.iter().filter_map(|field| Some((layout.find(field)?, *field)));
    found.min_by_key(|(at, field)| (*at, std::cmp::Reverse(field.len())))
}
