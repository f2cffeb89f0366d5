//! Times and durations. Metrics count in milliseconds, logs in nanoseconds, both since 1970 UTC.

use std::fmt::Write as _;

pub const SECOND_MS: i64 = 1_000;
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// The UTC day that holds a time, counted from 1970-01-01; negative before it.
pub fn day_of(t_ms: i64) -> i32 {
    t_ms.div_euclid(DAY_MS).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// A day as `2026-11-22`.
pub fn format_day(day: i32) -> String {
    let (year, month, day) = civil(i64::from(day));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Reads what [`format_day`] wrote, and nothing else.
pub fn parse_day(text: &str) -> Option<i32> {
    let (rest, day) = text.rsplit_once('-')?;
    let (year, month) = rest.rsplit_once('-')?;
    let (year, month, day): (i64, i64, i64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year.abs() > 6_000_000 {
        return None;
    }
    let number = i32::try_from(days_from_civil(year, month, day)).ok()?;
    (format_day(number) == text).then_some(number)
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar:
/// counted in eras of 400 years that begin in March, so that a leap day ends its year.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`]; a month after the twelfth or a day after a month's last counts on.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = (year + (month - 1).div_euclid(12), (month - 1).rem_euclid(12) + 1);
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// How many days a month from 1 to 12 has.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    days_from_civil(year, month + 1, 1) - days_from_civil(year, month, 1)
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    #[error("duration out of range")]
    OutOfRange,
}

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * DAY_MS),
    ("w", 7 * DAY_MS),
    ("d", DAY_MS),
    ("h", HOUR_MS),
    ("m", MINUTE_MS),
    ("s", SECOND_MS),
    ("ms", 1),
];

/// A Prometheus duration in milliseconds: units `y w d h m s ms`, each at most once and in
/// that order (`1h30m`), or a bare `0`.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let (mut rest, mut total, mut from) = (text, 0i64, 0usize);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: i64 = match rest[..digits].parse() {
            Ok(n) => n,
            Err(_) if digits > 0 => return Err(DurationError::OutOfRange),
            Err(_) => return Err(invalid()),
        };
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = UNITS[from..].iter().position(|(u, _)| *u == &rest[..end]).ok_or_else(invalid)? + from;
        from = unit + 1;
        rest = &rest[end..];
        total = number
            .checked_mul(UNITS[unit].1)
            .and_then(|n| total.checked_add(n))
            .filter(|n| *n <= i64::MAX / 1_000_000)
            .ok_or(DurationError::OutOfRange)?;
    }
    Ok(total)
}

/// A duration as Prometheus prints it: `1h30m`, `90s` as `1m30s`, weeks and years only where
/// they fit exactly.
pub fn format_duration_ms(duration_ms: i64) -> String {
    if duration_ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = duration_ms;
    if rest < 0 {
        out.push('-');
        rest = rest.saturating_neg();
    }
    for (unit, length) in UNITS {
        let exact_only = matches!(unit, "y" | "w");
        if rest >= length && (!exact_only || rest % length == 0) {
            let _ = write!(out, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_and_print() {
        for (text, ms, printed) in [
            ("0", 0, "0s"),
            ("5m", 300_000, "5m"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1d12h", 129_600_000, "1d12h"),
            ("2w", 1_209_600_000, "2w"),
            ("8d", 691_200_000, "8d"),
            ("1y", 31_536_000_000, "1y"),
            ("1500ms", 1500, "1s500ms"),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
            assert_eq!(format_duration_ms(ms), printed);
        }
        for bad in ["", "5", "m", "1m1h", "1h1h", "-1m", "1 m", "1x", "99999999999999y"] {
            assert!(parse_duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_calendar_goes_both_ways() {
        for days in (-1_000_000..1_000_000).step_by(97) {
            let (year, month, day) = civil(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!((1..=days_in_month(year, month)).contains(&day), "{days}");
        }
        for (year, month, length) in
            [(2024, 2, 29), (1900, 2, 28), (2000, 2, 29), (2023, 12, 31), (-1, 4, 30)]
        {
            assert_eq!(days_in_month(year, month), length, "{year}-{month}");
        }
        assert_eq!(days_from_civil(2023, 13, 32), days_from_civil(2024, 2, 1));
    }

    #[test]
    fn days_have_names() {
        for (day, name) in
            [(0, "1970-01-01"), (-1, "1969-12-31"), (20_779, "2026-11-22"), (11_016, "2000-02-29")]
        {
            assert_eq!(format_day(day), name);
            assert_eq!(parse_day(name), Some(day));
        }
        for bad in ["", "2026-11-22.tmp", "2026-13-01", "2026-02-30", "2026-1-01", "x-01-01"] {
            assert_eq!(parse_day(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_are_utc_and_floor() {
        assert_eq!([day_of(-1), day_of(0), day_of(DAY_MS - 1), day_of(DAY_MS)], [-1, 0, 0, 1]);
    }
}
