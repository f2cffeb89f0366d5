//! Functions on times, with Go's layouts.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use gotmpl::{FuncMap, TemplateError, Value};

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
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

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
        Self::parse_with_offset(layout, text).map(|(time, _)| time)
    }

    /// The time, and the offset in seconds that the text names.
    pub(super) fn parse_with_offset(layout: &str, text: &str) -> Option<(Self, i64)> {
        let mut civil = Civil { year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0, weekday: 0 };
        let (mut nanos, mut offset, mut pm, mut rest, mut good) = (0u32, 0i64, None, text, true);
        each_part(layout, |part| {
            let read = match part {
                Part::Text(literal) => rest.strip_prefix(literal),
                Part::Field(field) => civil.read(field, rest, &mut nanos, &mut offset, &mut pm),
            };
            match read {
                Some(tail) if good => rest = tail,
                _ => good = false,
            }
            // Go takes a fraction behind the seconds though the layout has none.
            if let Part::Field("05" | "5") = part
                && let Some(fraction) = rest.strip_prefix('.')
                && !layout.contains("05.")
            {
                let digits = fraction.len() - fraction.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                if digits > 0 {
                    nanos = fraction_nanos(&fraction[..digits]);
                    rest = &fraction[digits..];
                }
            }
        });
        if let Some(pm) = pm {
            civil.hour = civil.hour % 12 + if pm { 12 } else { 0 };
        }
        if !good || !rest.is_empty() || !civil.is_valid() {
            return None;
        }
        Some((Self { seconds: civil.unix_seconds() - offset, nanos }, offset))
    }
}

/// As Go prints a time in UTC: `2023-03-23 13:13:35.5 +0000 UTC`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// What clocks that show `time` show in a layout; `zone` writes the fields that name a zone.
pub(super) fn civil_text(time: Time, layout: &str, zone: impl Fn(&str) -> String) -> String {
    let civil = Civil::of(time);
    let mut out = String::new();
    each_part(layout, |part| match part {
        Part::Text(text) => out.push_str(text),
        Part::Field(field) if ZONE_FIELDS.contains(&field) => out.push_str(&zone(field)),
        Part::Field(field) => civil.push(field, time.nanos, &mut out),
    });
    out
}

struct Civil {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    weekday: u8,
}

impl Civil {
    /// The proleptic Gregorian calendar, by counting days from 0000-03-01.
    fn of(time: Time) -> Self {
        let days = time.seconds.div_euclid(86_400);
        let second = time.seconds.rem_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (second / 3_600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
        }
    }

    fn days_before_month(&self) -> i64 {
        const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let leap = i64::from(self.month > 2 && self.is_leap());
        BEFORE.get(usize::from(self.month).wrapping_sub(1)).copied().unwrap_or(0) + leap
    }

    fn is_leap(&self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn unix_seconds(&self) -> i64 {
        let before = self.year - 1;
        let leaps = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
        let days = before * 365 + leaps + self.days_before_month() + i64::from(self.day) - 1 - 719_162;
        days * 86_400 + i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }

    fn is_valid(&self) -> bool {
        let length = match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if self.is_leap() => 29,
            2 => 28,
            1..=12 => 31,
            _ => return false,
        };
        (1..=length).contains(&self.day) && self.hour < 24 && self.minute < 60 && self.second < 60
    }

    fn push(&self, field: &str, nanos: u32, out: &mut String) {
        let month = MONTHS.get(usize::from(self.month).wrapping_sub(1)).copied().unwrap_or("");
        let day = DAYS.get(usize::from(self.weekday)).copied().unwrap_or("");
        let twelve = (self.hour + 11) % 12 + 1;
        out.push_str(&match field {
            "2006" => format!("{:04}", self.year),
            "06" => format!("{:02}", self.year.rem_euclid(100)),
            "January" => month.to_owned(),
            "Jan" => month.chars().take(3).collect(),
            "01" => format!("{:02}", self.month),
            "1" => self.month.to_string(),
            "Monday" => day.to_owned(),
            "Mon" => day.chars().take(3).collect(),
            "02" => format!("{:02}", self.day),
            "_2" => format!("{:2}", self.day),
            "2" => self.day.to_string(),
            "002" => format!("{:03}", self.days_before_month() + i64::from(self.day)),
            "15" => format!("{:02}", self.hour),
            "03" => format!("{twelve:02}"),
            "3" => twelve.to_string(),
            "04" => format!("{:02}", self.minute),
            "4" => self.minute.to_string(),
            "05" => format!("{:02}", self.second),
            "5" => self.second.to_string(),
            "PM" => if self.hour < 12 { "AM" } else { "PM" }.to_owned(),
            "pm" => if self.hour < 12 { "am" } else { "pm" }.to_owned(),
            fraction => fraction_text(fraction, nanos),
        });
    }

    /// Reads one field from the front of a text; gives the rest.
    fn read<'a>(
        &mut self,
        field: &str,
        text: &'a str,
        nanos: &mut u32,
        offset: &mut i64,
        pm: &mut Option<bool>,
    ) -> Option<&'a str> {
        let digits = |text: &'a str, least: usize, most: usize| -> Option<(i64, &'a str)> {
            let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
            if length < least {
                return None;
            }
            Some((text[..length].parse().ok()?, &text[length..]))
        };
        let name = |text: &'a str, names: &[&str], short: bool| -> Option<(i64, &'a str)> {
            names.iter().enumerate().find_map(|(i, name)| {
                let name = if short { &name[..3] } else { name };
                let head = text.get(..name.len())?;
                head.eq_ignore_ascii_case(name).then(|| (i as i64, &text[name.len()..]))
            })
        };
        let (value, rest) = match field {
            "2006" => digits(text, 4, 4)?,
            "06" | "01" | "02" | "15" | "03" | "04" | "05" => digits(text, 2, 2)?,
            "1" | "2" | "3" | "4" | "5" => digits(text, 1, 2)?,
            "_2" => digits(text.trim_start_matches(' '), 1, 2)?,
            "002" => digits(text, 3, 3)?,
            "January" => name(text, &MONTHS, false)?,
            "Jan" => name(text, &MONTHS, true)?,
            "Monday" => name(text, &DAYS, false)?,
            "Mon" => name(text, &DAYS, true)?,
            "PM" | "pm" => {
                let head = text.get(..2)?;
                *pm = Some(head.eq_ignore_ascii_case("pm"));
                return (head.eq_ignore_ascii_case("pm") || head.eq_ignore_ascii_case("am"))
                    .then(|| &text[2..]);
            }
            "MST" => {
                let length = text.bytes().take_while(u8::is_ascii_uppercase).count();
                return (length >= 3).then(|| &text[length..]);
            }
            "Z07:00" | "Z0700" | "Z07" if text.starts_with('Z') => return Some(&text[1..]),
            "Z07:00" | "-07:00" | "Z0700" | "-0700" | "Z07" | "-07" => {
                let sign = match text.as_bytes().first()? {
                    b'+' => 1,
                    b'-' => -1,
                    _ => return None,
                };
                let (hours, mut rest) = digits(&text[1..], 2, 2)?;
                let mut minutes = 0;
                if !field.ends_with("07") {
                    if field.contains(':') {
                        rest = rest.strip_prefix(':')?;
                    }
                    (minutes, rest) = digits(rest, 2, 2)?;
                }
                *offset = sign * (hours * 3_600 + minutes * 60);
                return Some(rest);
            }
            _ => {
                let Some(fraction) = text.strip_prefix(['.', ',']) else {
                    return field.contains('9').then_some(text);
                };
                let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
                let wanted = field.len() - 1;
                if length == 0 || (field.contains('0') && length != wanted) {
                    return None;
                }
                *nanos = fraction_nanos(&fraction[..length]);
                return Some(&fraction[length..]);
            }
        };
        match field {
            "2006" => self.year = value,
            "06" => self.year = value + if value >= 69 { 1900 } else { 2000 },
            "01" | "1" => self.month = value as u8,
            "January" | "Jan" => self.month = value as u8 + 1,
            "02" | "2" | "_2" => self.day = value as u8,
            "15" | "03" | "3" => self.hour = value as u8,
            "04" | "4" => self.minute = value as u8,
            "05" | "5" => self.second = value as u8,
            _ => {}
        }
        Some(rest)
    }
}

fn fraction_nanos(digits: &str) -> u32 {
    let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    nine.parse().unwrap_or(0)
}

/// `.000` keeps its zeros, `.999` drops those at the end and itself if nothing is left.
fn fraction_text(layout: &str, nanos: u32) -> String {
    let wanted = layout.len().saturating_sub(1).min(9);
    let digits = format!("{nanos:09}");
    let digits = &digits[..wanted];
    if layout.contains('0') {
        return format!("{}{digits}", &layout[..1]);
    }
    match digits.trim_end_matches('0') {
        "" => String::new(),
        kept => format!("{}{kept}", &layout[..1]),
    }
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Text(&'a str),
    Field(&'a str),
}

const ZONE_FIELDS: [&str; 7] = ["MST", "Z07:00", "Z0700", "Z07", "-07:00", "-0700", "-07"];

/// Longer ones first where one begins another.
const FIELDS: [&str; 30] = [
    "2006", "January", "Jan", "Monday", "Mon", "MST", "002", "01", "02", "03", "04", "05", "06", "_2", "15",
    "1", "2", "3", "4", "5", "PM", "pm", "Z07:00", "Z0700", "Z07", "-07:00", "-0700", "-07", ".", ",",
];

fn each_part(layout: &str, mut each: impl FnMut(Part<'_>)) {
    let mut rest = layout;
    let mut plain = rest;
    while !rest.is_empty() {
        let Some(length) = field_length(rest) else {
            let step = rest.chars().next().map_or(1, char::len_utf8);
            rest = &rest[step..];
            continue;
        };
        let before = &plain[..plain.len() - rest.len()];
        if !before.is_empty() {
            each(Part::Text(before));
        }
        each(Part::Field(&rest[..length]));
        rest = &rest[length..];
        plain = rest;
    }
    if !plain.is_empty() {
        each(Part::Text(plain));
    }
}

fn field_length(rest: &str) -> Option<usize> {
    let field = FIELDS.iter().find(|f| rest.starts_with(**f))?;
    if !matches!(*field, "." | ",") {
        return Some(field.len());
    }
    // A fraction: all zeros or all nines, and no further digit.
    let digits = &rest[1..];
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let digits = &digits[..length];
    (length > 0 && (digits.bytes().all(|b| b == b'0') || digits.bytes().all(|b| b == b'9')))
        .then_some(length + 1)
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
                Ok(number(time.seconds.saturating_mul(1_000) + i64::from(time.nanos / 1_000_000)))
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
