//! Time intervals: sets of minutes, days, months and years in a zone, in which routes are muted
//! or active.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::de::{Deserialize, Deserializer, Error as _};

/// One interval. Every part that is given must hold; an empty one always holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeInterval {
    times: Option<Vec<Times>>,
    weekdays: Option<Vec<Range<DayOfWeek>>>,
    days_of_month: Option<Vec<Range<DayOfMonth>>>,
    months: Option<Vec<Range<Month>>>,
    years: Option<Vec<Range<Year>>>,
    location: Option<Location>,
}

impl TimeInterval {
    /// Whether a time lies in the interval.
    pub fn contains(&self, t_ms: i64) -> bool {
        let Ok(instant) = Timestamp::from_millisecond(t_ms) else { return false };
        let zone = self.location.as_ref().map_or(TimeZone::UTC, |l| l.0.clone());
        let local = instant.to_zoned(zone).datetime();
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        let days = i32::from(local.days_in_month());
        let any = |ranges: Option<Vec<bool>>| ranges.is_none_or(|r| r.into_iter().any(|b| b));
        let in_each = |ranges: &Option<Vec<(i32, i32)>>, value: i32| {
            any(ranges.as_ref().map(|r| r.iter().map(|(from, to)| (*from..=*to).contains(&value)).collect()))
        };
        let times = self.times.as_ref();
        any(times.map(|t| t.iter().map(|t| (t.start..t.end).contains(&minute)).collect()))
            && in_each(&bounds(&self.days_of_month, |r| day_bounds(r, days)), i32::from(local.day()))
            && in_each(&bounds(&self.months, |r| Some((r.begin, r.end))), i32::from(local.month()))
            && in_each(&bounds(&self.weekdays, |r| Some((r.begin, r.end))), weekday(local.weekday()))
            && in_each(&bounds(&self.years, |r| Some((r.begin, r.end))), i32::from(local.year()))
    }
}

fn bounds<K>(
    ranges: &Option<Vec<Range<K>>>,
    of: impl Fn(&Range<K>) -> Option<(i32, i32)>,
) -> Option<Vec<(i32, i32)>> {
    ranges.as_ref().map(|ranges| ranges.iter().filter_map(of).collect())
}

/// A range of days in a month of so many days: negative ones count from its end. One that begins
/// behind the end of the month holds nothing of it.
fn day_bounds(range: &Range<DayOfMonth>, days: i32) -> Option<(i32, i32)> {
    let resolve = |day: i32| if day < 0 { days + day + 1 } else { day };
    let (begin, end) = (resolve(range.begin), resolve(range.end));
    (begin <= days).then(|| (begin.max(-days), end.clamp(-days, days)))
}

fn weekday(day: Weekday) -> i32 {
    i32::from(day.to_sunday_zero_offset())
}

/// An IANA zone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Location(TimeZone);

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let zone = match name.as_str() {
            "" | "UTC" => Some(TimeZone::UTC),
            "Local" => Some(TimeZone::system()),
            name => TimeZone::get(name).ok(),
        };
        zone.map(Self).ok_or_else(|| D::Error::custom(format!("unknown time zone {name}")))
    }
}

/// Minutes of a day, the end not included.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Times {
    start: i32,
    end: i32,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TimesText {
    #[serde(default)]
    start_time: String,
    #[serde(default)]
    end_time: String,
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = TimesText::deserialize(deserializer)?;
        if text.start_time.is_empty() || text.end_time.is_empty() {
            return Err(D::Error::custom("both start and end times must be provided"));
        }
        let minutes = |text: &str| {
            minute_of_day(text)
                .ok_or_else(|| D::Error::custom(format!("couldn't parse timestamp {text}, invalid format")))
        };
        let (start, end) = (minutes(&text.start_time)?, minutes(&text.end_time)?);
        if start >= end {
            return Err(D::Error::custom("start time cannot be equal or greater than end time"));
        }
        Ok(Self { start, end })
    }
}

/// `00:00` to `24:00`, always with two digits each.
fn minute_of_day(text: &str) -> Option<i32> {
    let digits = |part: &str| {
        let two = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        two.then(|| part.parse::<i32>().ok()).flatten()
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    let good = (hours < 24 && minutes < 60) || (hours, minutes) == (24, 0);
    good.then_some(hours * 60 + minutes)
}

/// A kind of things that a range may be made of.
trait Kind: fmt::Debug + Clone + PartialEq + Eq {
    /// One member as a number.
    fn member(text: &str) -> Result<i32, String>;
    fn check(begin: i32, end: i32, text: &str) -> Result<(), String>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range<K> {
    begin: i32,
    end: i32,
    kind: std::marker::PhantomData<K>,
}

impl<'de, K: Kind> Deserialize<'de> for Range<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?.to_lowercase();
        let parts: Vec<&str> = text.split(':').collect();
        let (begin, end) = match parts.as_slice() {
            [one] => (*one, *one),
            [begin, end] => (*begin, *end),
            _ => return Err(D::Error::custom(format!("couldn't parse range {text}, invalid format"))),
        };
        let begin = K::member(begin).map_err(D::Error::custom)?;
        let end = K::member(end).map_err(D::Error::custom)?;
        K::check(begin, end, &text).map_err(D::Error::custom)?;
        Ok(Self { begin, end, kind: std::marker::PhantomData })
    }
}

fn number(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

#[derive(Debug, Clone, PartialEq, Eq)]
struct DayOfWeek;

impl Kind for DayOfWeek {
    fn member(text: &str) -> Result<i32, String> {
        let at = WEEKDAYS.iter().position(|day| *day == text);
        at.map(|at| at as i32).ok_or_else(|| format!("{text} is not a valid weekday"))
    }

    fn check(begin: i32, end: i32, _: &str) -> Result<(), String> {
        if begin > end { Err("start day cannot be before end day".to_owned()) } else { Ok(()) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct DayOfMonth;

impl Kind for DayOfMonth {
    fn member(text: &str) -> Result<i32, String> {
        number(text)
    }

    fn check(begin: i32, end: i32, _: &str) -> Result<(), String> {
        for day in [begin, end] {
            if day == 0 || !(-31..=31).contains(&day) {
                return Err(format!("{day} is not a valid day of the month: out of range"));
            }
        }
        if begin < 0 && end > 0 {
            return Err("end day must be negative if start day is negative".to_owned());
        }
        // What is wrong even in the shortest month.
        let least = |day: i32| if day < 0 { 28 + day } else { day };
        if least(begin) > least(end) {
            return Err(format!("end day {end} is always before start day {begin}"));
        }
        Ok(())
    }
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Month;

impl Kind for Month {
    fn member(text: &str) -> Result<i32, String> {
        let named = MONTHS.iter().position(|month| *month == text).map(|at| at as i32 + 1);
        named.or_else(|| text.parse().ok()).ok_or_else(|| format!("{text} is not a valid month"))
    }

    fn check(begin: i32, end: i32, _: &str) -> Result<(), String> {
        let name =
            |n: i32| usize::try_from(n - 1).ok().and_then(|i| MONTHS.get(i)).copied().unwrap_or_default();
        if begin > end {
            return Err(format!("end month {} is before start month {}", name(end), name(begin)));
        }
        for month in [begin, end] {
            if !(1..=12).contains(&month) {
                return Err(format!("{month} is not a valid month: out of range"));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Year;

impl Kind for Year {
    fn member(text: &str) -> Result<i32, String> {
        number(text)
    }

    fn check(begin: i32, end: i32, _: &str) -> Result<(), String> {
        if begin > end {
            return Err(format!("end year {end} is before start year {begin}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<TimeInterval, String> {
        serde_norway::from_str(yaml).map_err(|e| e.to_string())
    }

    #[test]
    fn times_lie_in_intervals() {
        let cases = [
            ("{}", "2024-02-29T12:00:00Z", true),
            ("{times: [{start_time: '09:00', end_time: '17:00'}]}", "2024-02-29T09:00:00Z", true),
            ("{times: [{start_time: '09:00', end_time: '17:00'}]}", "2024-02-29T17:00:00Z", false),
            ("{times: [{start_time: '00:00', end_time: '24:00'}]}", "2024-02-29T23:59:59Z", true),
            ("{weekdays: ['monday:friday']}", "2024-03-02T12:00:00Z", false),
            ("{weekdays: ['Monday:Friday', saturday]}", "2024-03-02T12:00:00Z", true),
            ("{days_of_month: ['-1']}", "2024-02-29T12:00:00Z", true),
            ("{days_of_month: ['-1']}", "2023-02-27T12:00:00Z", false),
            ("{days_of_month: ['30:31']}", "2023-02-28T12:00:00Z", false),
            ("{days_of_month: ['28:31']}", "2023-02-28T12:00:00Z", true),
            ("{months: ['january:march', '11']}", "2024-11-02T12:00:00Z", true),
            ("{months: ['january:march']}", "2024-04-01T00:00:00Z", false),
            ("{years: ['2024:2025']}", "2026-01-01T00:00:00Z", false),
            ("{weekdays: [sunday], location: Australia/Sydney}", "2024-03-02T13:30:00Z", true),
            (
                "{times: [{start_time: '02:30', end_time: '03:30'}], location: Europe/Paris}",
                "2024-03-31T01:15:00Z",
                true,
            ),
            ("{times: []}", "2024-02-29T12:00:00Z", false),
        ];
        for (yaml, time, expected) in cases {
            let t_ms = time.parse::<Timestamp>().unwrap().as_millisecond();
            assert_eq!(read(yaml).unwrap().contains(t_ms), expected, "{yaml} {time}");
        }
    }

    #[test]
    fn what_is_no_interval_is_named() {
        for (yaml, expected) in [
            (
                "{times: [{start_time: '25:00', end_time: '26:00'}]}",
                "couldn't parse timestamp 25:00, invalid format",
            ),
            ("{times: [{start_time: '9:00', end_time: '10:00'}]}", "couldn't parse timestamp 9:00"),
            ("{times: [{start_time: '10:00', end_time: '10:00'}]}", "start time cannot be equal or greater"),
            ("{times: [{start_time: '10:00'}]}", "both start and end times must be provided"),
            ("{weekdays: [someday]}", "someday is not a valid weekday"),
            ("{weekdays: ['friday:monday']}", "start day cannot be before end day"),
            ("{days_of_month: ['0']}", "0 is not a valid day of the month: out of range"),
            ("{days_of_month: ['-3:2']}", "end day must be negative if start day is negative"),
            ("{days_of_month: ['10:-25']}", "end day -25 is always before start day 10"),
            ("{months: ['may:april']}", "end month april is before start month may"),
            ("{years: ['2025:2024']}", "end year 2024 is before start year 2025"),
            ("{location: Nowhere/None}", "unknown time zone Nowhere/None"),
            ("{weekday: [monday]}", "unknown field `weekday`"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
    }
}
