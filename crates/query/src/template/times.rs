//! Functions on times.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use gotmpl::{FuncMap, TemplateError, Value};

use super::layout;
use super::zoned::Zoned;
use super::{need_args, text_arg};

type Answer = Result<Value, TemplateError>;

/// A point in time in UTC, as a template holds it: a map with secret keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

const KEY: &str = "\u{1}time";
const NANOS: &str = "\u{1}nanos";
const OFFSET: &str = "\u{1}offset";
const ZONE: &str = "\u{1}zone";
static UTC: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("UTC"));
/// Go's zero time, 0001-01-01, which a text that is no time gives.
pub(super) const ZERO: Time = Time { seconds: -62_135_596_800, nanos: 0 };

impl Time {
    pub fn from_ns(t_ns: i64) -> Self {
        Self { seconds: t_ns.div_euclid(1_000_000_000), nanos: t_ns.rem_euclid(1_000_000_000) as u32 }
    }

    pub fn to_value(self) -> Value {
        self.to_value_in(0, &UTC)
    }

    /// With the offset and name of a zone.
    pub(super) fn to_value_in(self, offset_s: i64, zone: &Arc<str>) -> Value {
        let entries = [
            (KEY, Value::Int(self.seconds)),
            (NANOS, Value::Int(i64::from(self.nanos))),
            (OFFSET, Value::Int(offset_s)),
            (ZONE, Value::String(Arc::clone(zone))),
        ];
        Value::Map(Arc::new(entries.into_iter().map(|(k, v)| (Arc::from(k), v)).collect()))
    }

    pub fn from_value(value: &Value) -> Option<Self> {
        Self::from_value_in(value).map(|(time, ..)| time)
    }

    pub(super) fn from_value_in(value: &Value) -> Option<(Self, i64, Arc<str>)> {
        let Value::Map(map) = value else { return None };
        match (map.get(KEY)?, map.get(NANOS)?, map.get(OFFSET)?, map.get(ZONE)?) {
            (Value::Int(seconds), Value::Int(nanos), Value::Int(offset_s), Value::String(zone)) => {
                let time = Self { seconds: *seconds, nanos: u32::try_from(*nanos).ok()? };
                Some((time, *offset_s, Arc::clone(zone)))
            }
            _ => None,
        }
    }

    fn unix_nanos(self) -> i64 {
        self.seconds.wrapping_mul(1_000_000_000).wrapping_add(i64::from(self.nanos))
    }

    /// The time in a layout as Go's `Time.Format`, in UTC.
    pub fn format(self, layout: &str) -> String {
        super::zoned::Zoned::utc(self).format(layout)
    }

    /// Reads a text by a layout as Go's `time.Parse`; a layout without a zone means UTC.
    pub fn parse(layout: &str, text: &str) -> Option<Self> {
        layout::read(layout, text).map(|(time, _)| time)
    }
}

/// As Go prints a time in UTC: `2023-03-23 13:13:35.5 +0000 UTC`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

fn time_arg(args: &[Value], i: usize) -> Result<Time, TemplateError> {
    args.get(i)
        .and_then(Time::from_value)
        .ok_or_else(|| TemplateError::Exec("wrong type for value; expected time.Time".to_owned()))
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
}

pub(super) fn time_functions() -> FuncMap {
    let list: [(&str, gotmpl::ValueFunc); 11] = [
        ("now", Arc::new(|_| Ok(now().to_value()))),
        ("date", Arc::new(date)),
        (
            "toDate",
            Arc::new(|args| {
                need_args(args, 2)?;
                let time = Zoned::parse(text_arg(args, 0)?, text_arg(args, 1)?);
                Ok(time.unwrap_or_else(|| Zoned::utc(ZERO)).to_value())
            }),
        ),
        ("toDateInZone", Arc::new(to_date_in_zone)),
        ("unixEpoch", Arc::new(|args| Ok(number(time_arg(args, 0)?.seconds)))),
        (
            "unixEpochMillis",
            Arc::new(|args| {
                let time = time_arg(args, 0)?;
                Ok(number(
                    time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos / 1_000_000)),
                ))
            }),
        ),
        ("unixEpochNanos", Arc::new(|args| Ok(number(time_arg(args, 0)?.unix_nanos())))),
        ("unixToTime", Arc::new(unix_to_time)),
        (
            "bytes",
            Arc::new(|args| {
                let bytes = crate::units::parse_bytes(text_arg(args, 0)?).map_err(TemplateError::Exec)?;
                Ok(Value::Float(bytes as f64))
            }),
        ),
        ("duration", Arc::new(duration)),
        ("duration_seconds", Arc::new(duration)),
    ];
    list.into_iter().map(|(name, function)| (name.to_owned(), function)).collect()
}

/// Sprig gives epochs as texts.
fn number(value: i64) -> Value {
    Value::String(Arc::from(value.to_string()))
}

fn duration(args: &[Value]) -> Answer {
    let ns = crate::units::parse_go_duration(text_arg(args, 0)?).map_err(TemplateError::Exec)?;
    Ok(Value::Float(ns as f64 / 1e9))
}

fn date(args: &[Value]) -> Answer {
    need_args(args, 2)?;
    let time = match &args[1] {
        Value::Int(seconds) => Time { seconds: *seconds, nanos: 0 },
        other => Time::from_value(other).unwrap_or_else(now),
    };
    // Local time, which here is that of UTC.
    Ok(Value::String(Arc::from(time.format(text_arg(args, 0)?))))
}

fn to_date_in_zone(args: &[Value]) -> Answer {
    need_args(args, 3)?;
    let (layout, zone, text) = (text_arg(args, 0)?, text_arg(args, 1)?, text_arg(args, 2)?);
    let Some(local) = Zoned::parse(layout, text) else { return Ok(ZERO.to_value()) };
    if layout.contains("07") || layout.contains("MST") {
        return Ok(local.to_value());
    }
    let there = in_zone(local.time, zone).and_then(|time| Zoned::utc(time).in_zone(zone));
    Ok(there.unwrap_or(local).to_value())
}

/// The instant at which clocks of a zone show what `local` shows in UTC.
fn in_zone(local: Time, zone: &str) -> Option<Time> {
    let zone = jiff::tz::TimeZone::get(zone).ok()?;
    let shown = jiff::Timestamp::new(local.seconds, 0).ok()?.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let instant = zone.to_timestamp(shown).ok()?;
    Some(Time { seconds: instant.as_second(), nanos: local.nanos })
}

/// Digits since the epoch; how many there are says whether they are days, seconds, or finer.
fn unix_to_time(args: &[Value]) -> Answer {
    need_args(args, 1)?;
    let text = text_arg(args, 0)?;
    let unable = |why: &str| TemplateError::Exec(format!("unable to parse time '{text}': {why}"));
    let value: i64 = text.parse().map_err(|_| unable("invalid syntax"))?;
    let per_second = match text.len() {
        5 => return Ok(Time { seconds: value.saturating_mul(86_400), nanos: 0 }.to_value()),
        10 => 1,
        13 => 1_000,
        16 => 1_000_000,
        19 => 1_000_000_000,
        _ => return Err(unable("%!w(<nil>)")),
    };
    let nanos = (value.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u32;
    Ok(Time { seconds: value.div_euclid(per_second), nanos }.to_value())
}
