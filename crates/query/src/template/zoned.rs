//! Points in time, each with the offset and name of its zone, and the methods that Go has for them.

use std::fmt;
use std::sync::Arc;

use gotmpl::{TemplateError, Value};
use jiff::tz::TimeZone;

use super::layout;
use super::times::{Time, ZERO};
use crate::units::{format_go_duration, parse_go_duration};

/// A point in time as it is shown somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zoned {
    pub time: Time,
    /// Seconds ahead of UTC.
    pub offset_s: i64,
    pub zone: Arc<str>,
}

impl Zoned {
    pub fn utc(time: Time) -> Self {
        Self { time, offset_s: 0, zone: Arc::from("UTC") }
    }

    /// The same point in another zone; `None` where there is none of that name.
    pub fn in_zone(&self, name: &str) -> Option<Self> {
        let zone = match name {
            "" | "UTC" => return Some(Self::utc(self.time)),
            "Local" => TimeZone::system(),
            name => TimeZone::get(name).ok()?,
        };
        let info = zone.to_offset_info(jiff::Timestamp::new(self.time.seconds, 0).ok()?);
        let offset_s = i64::from(info.offset().seconds());
        Some(Self { time: self.time, offset_s, zone: Arc::from(info.abbreviation()) })
    }

    /// Reads a text in a layout of Go's. An offset in it stays that of the time.
    pub fn parse(layout: &str, text: &str) -> Option<Self> {
        let (time, offset_s) = layout::read(layout, text)?;
        let mut zoned = Self::utc(time);
        if offset_s != 0 {
            zoned.offset_s = offset_s;
            zoned.zone = Arc::from(zoned.zone_text("-0700"));
        }
        Some(zoned)
    }

    /// The time in a layout of Go's.
    pub fn format(&self, layout: &str) -> String {
        let shifted =
            Time { seconds: self.time.seconds.saturating_add(self.offset_s), nanos: self.time.nanos };
        layout::text(shifted, layout, |field| self.zone_text(field))
    }

    fn zone_text(&self, field: &str) -> String {
        if field == "MST" {
            return self.zone.to_string();
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

    /// The difference to an earlier time.
    pub fn nanos_since(&self, other: &Self) -> i64 {
        let seconds = self.time.seconds.saturating_sub(other.time.seconds);
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(self.time.nanos) - i64::from(other.time.nanos))
    }

    pub fn plus_nanos(&self, ns: i64) -> Self {
        let ns = i64::from(self.time.nanos).saturating_add(ns);
        let seconds = self.time.seconds.saturating_add(ns.div_euclid(1_000_000_000));
        Self { time: Time { seconds, nanos: ns.rem_euclid(1_000_000_000) as u32 }, ..self.clone() }
    }

    /// The methods of Go's `time.Time` that need no other time and give a number or a text;
    /// `None` for any other name.
    pub fn part(&self, name: &str) -> Option<Value> {
        let text = |s: String| Some(Value::String(s.into()));
        let number = |n: i64| Some(Value::Int(n));
        let shown = |layout: &str| number(self.format(layout).trim().parse().unwrap_or(0));
        let (seconds, nanos) = (self.time.seconds, i64::from(self.time.nanos));
        match name {
            "String" => text(self.to_string()),
            "Unix" => number(seconds),
            "UnixMilli" => number(seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)),
            "UnixMicro" => number(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)),
            "UnixNano" => number(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)),
            "IsZero" => Some(Value::Bool(self.time == ZERO)),
            "Year" => shown("2006"),
            "Month" => text(self.format("January")),
            "Day" => shown("2"),
            "Hour" => shown("15"),
            "Minute" => shown("4"),
            "Second" => shown("5"),
            "Nanosecond" => number(nanos),
            "Weekday" => text(self.format("Monday")),
            "YearDay" => shown("002"),
            _ => None,
        }
    }

    /// So many years, months and days later; what a month is too short for runs on into the next.
    fn plus_date(&self, years: i64, months: i64, days: i64) -> Option<Self> {
        let local = jiff::Timestamp::new(self.time.seconds.checked_add(self.offset_s)?, 0).ok()?;
        let local = local.to_zoned(TimeZone::UTC).datetime();
        let month = i64::from(local.year()).checked_add(years)?.checked_mul(12)?;
        let month = month.checked_add(i64::from(local.month()) - 1)?.checked_add(months)?;
        let year = i16::try_from(month.div_euclid(12)).ok()?;
        let first = jiff::civil::Date::new(year, month.rem_euclid(12) as i8 + 1, 1).ok()?;
        let since = first.to_datetime(local.time()).to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
        let days = days.checked_add(i64::from(local.day()) - 1)?.checked_mul(86_400)?;
        let seconds = since.checked_add(days)?.checked_sub(self.offset_s)?;
        Some(Self { time: Time { seconds, ..self.time }, ..self.clone() })
    }

    pub fn to_value(&self) -> Value {
        self.time.to_value_in(self.offset_s, &self.zone)
    }

    pub fn from_value(value: &Value) -> Option<Self> {
        let (time, offset_s, zone) = Time::from_value_in(value)?;
        Some(Self { time, offset_s, zone })
    }
}

/// As Go prints a time.
impl fmt::Display for Zoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// Methods of times; durations are texts in Go's form.
pub fn time_method(value: &Value, name: &str, args: &[Value]) -> Option<Result<Value, TemplateError>> {
    let zoned = Zoned::from_value(value)?;
    let wrong = || TemplateError::Exec("wrong type for value; expected time.Time".to_owned());
    let other = |value: &Value| Zoned::from_value(value).ok_or_else(wrong);
    Some(match (name, args) {
        ("Format", [Value::String(layout)]) => Ok(Value::String(zoned.format(layout).into())),
        ("UTC" | "Local", []) => Ok(Zoned::utc(zoned.time).to_value()),
        ("Before", [o]) => other(o).map(|o| Value::Bool(zoned.nanos_since(&o) < 0)),
        ("After", [o]) => other(o).map(|o| Value::Bool(zoned.nanos_since(&o) > 0)),
        ("Equal", [o]) => other(o).map(|o| Value::Bool(zoned.nanos_since(&o) == 0)),
        ("Sub", [o]) => other(o).map(|o| Value::String(format_go_duration(zoned.nanos_since(&o)).into())),
        ("Add", [duration]) => duration_ns(duration).map(|ns| zoned.plus_nanos(ns).to_value()),
        ("Truncate", [duration]) => duration_ns(duration).map(|ns| {
            let since = zoned.nanos_since(&Zoned::utc(ZERO));
            if ns > 0 { zoned.plus_nanos(-since.rem_euclid(ns)).to_value() } else { zoned.to_value() }
        }),
        ("AddDate", [Value::Int(years), Value::Int(months), Value::Int(days)]) => zoned
            .plus_date(*years, *months, *days)
            .map(|zoned| zoned.to_value())
            .ok_or_else(|| TemplateError::Exec("time is out of range".to_owned())),
        (name, _) => zoned
            .part(name)
            .filter(|_| args.is_empty())
            .ok_or_else(|| TemplateError::Exec(format!("can't evaluate field {name} in type time.Time"))),
    })
}

fn duration_ns(value: &Value) -> Result<i64, TemplateError> {
    match value {
        Value::Int(ns) => Ok(*ns),
        Value::String(text) => parse_go_duration(text).map_err(TemplateError::Exec),
        _ => Err(TemplateError::Exec("wrong type for value; expected time.Duration".to_owned())),
    }
}
