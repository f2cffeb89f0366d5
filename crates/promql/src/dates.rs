//! Calendar dates of Unix times, UTC, without leap seconds.

use pilothouse_model::time::{civil, days_from_civil, days_in_month};

/// A day in the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: i64,
    /// From 1.
    pub(crate) day: i64,
}

const DAY: i64 = 86_400;

/// The day of a Unix time in seconds.
pub(crate) fn date(seconds: i64) -> Date {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    Date { year, month, day }
}

/// What a date function asks of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatePart {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

impl DatePart {
    pub(crate) fn from_function(name: &str) -> Option<Self> {
        Some(match name {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day_of_week" => Self::DayOfWeek,
            "day_of_month" => Self::DayOfMonth,
            "day_of_year" => Self::DayOfYear,
            "days_in_month" => Self::DaysInMonth,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    pub(crate) fn of(self, seconds: i64) -> f64 {
        let day = date(seconds);
        let value = match self {
            Self::Minute => seconds.div_euclid(60).rem_euclid(60),
            Self::Hour => seconds.div_euclid(3600).rem_euclid(24),
            Self::DayOfWeek => (seconds.div_euclid(DAY) + 4).rem_euclid(7),
            Self::DayOfMonth => day.day,
            Self::DayOfYear => seconds.div_euclid(DAY) - days_from_civil(day.year, 1, 1) + 1,
            Self::DaysInMonth => days_in_month(day.year, day.month),
            Self::Month => day.month,
            Self::Year => day.year,
        };
        value as f64
    }
}

/// A Unix time as `2006-01-02T15:04:05Z`.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let Date { year, month, day } = date(seconds);
    let clock = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
        let leap_day = 1_709_164_800;
        for (part, want) in [
            (DatePart::DayOfYear, 60.0),
            (DatePart::DaysInMonth, 29.0),
            (DatePart::DayOfWeek, 4.0),
            (DatePart::Month, 2.0),
        ] {
            assert_eq!(part.of(leap_day), want, "{part:?}");
        }
        assert_eq!(DatePart::DayOfYear.of(leap_day + DAY * 306), 366.0);
    }
}
