//! Times on the command line: `now`, `now-90m`, RFC 3339, or seconds since 1970.

use clap::Args;
use pilothouse_model::Clock as _;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::time::parse_duration_ms;

use super::client::CommandError;

const FORMS: &str = "now, now-90m, 2026-11-22T10:00:00Z or seconds since 1970";

/// A range of time, if one is asked for.
#[derive(Debug, Clone, Args)]
pub(crate) struct Range {
    /// From this long ago until now
    #[arg(long, value_name = "DURATION", conflicts_with = "start")]
    pub(crate) since: Option<String>,
    /// Start: now, now-90m, 2026-11-22T10:00:00Z or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,
    /// End, in the same forms; unsaid, now
    #[arg(long, value_name = "TIME")]
    pub(crate) end: Option<String>,
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

impl Bounds {
    /// What lies up to a time, of the whole. `None` where the start is that of all time, and says
    /// nothing of what there is.
    pub(crate) fn share(&self, up_to_ms: i64) -> Option<(u64, u64)> {
        let of = |end_ms: i64| u64::try_from(end_ms.saturating_sub(self.start_ms)).unwrap_or(0);
        (self.start_ms != 0).then(|| (of(up_to_ms.min(self.end_ms)), of(self.end_ms)))
    }
}

impl Range {
    /// `None` where neither `--since` nor `--start` is there.
    pub(crate) fn bounds(&self) -> Result<Option<Bounds>, CommandError> {
        let now_ms = SystemClock.now_ms();
        let end_ms = self.end.as_deref().map_or(Ok(now_ms), |text| time_ms(text, now_ms))?;
        let start_ms = match (&self.start, &self.since) {
            (Some(text), _) => time_ms(text, now_ms)?,
            (None, Some(text)) => end_ms - duration_ms(text)?,
            (None, None) => return Ok(None),
        };
        if start_ms > end_ms {
            return Err(CommandError::Usage("the start is after the end".to_owned()));
        }
        Ok(Some(Bounds { start_ms, end_ms }))
    }
}

pub(crate) fn duration_ms(text: &str) -> Result<i64, CommandError> {
    parse_duration_ms(text).map_err(|e| CommandError::Usage(e.to_string()))
}

/// A time in one of the forms.
pub(crate) fn time_ms(text: &str, now_ms: i64) -> Result<i64, CommandError> {
    if let Some(ago) = text.strip_prefix("now") {
        return match ago.strip_prefix('-') {
            Some(ago) => Ok(now_ms - duration_ms(ago)?),
            None if ago.is_empty() => Ok(now_ms),
            None => Err(unreadable(text)),
        };
    }
    if let Some(seconds) = text.parse::<f64>().ok().filter(|s| s.is_finite()) {
        return Ok((seconds * 1_000.0) as i64);
    }
    text.parse::<jiff::Timestamp>().map(|t| t.as_millisecond()).map_err(|_| unreadable(text))
}

fn unreadable(text: &str) -> CommandError {
    CommandError::Usage(format!("{text:?} is not a time: {FORMS}"))
}

/// Seconds with milliseconds, as the query APIs read times.
pub(crate) fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

/// A time as RFC 3339.
pub(crate) fn shown(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_forms() {
        for (text, expected) in [
            ("now", Some(10_000_000)),
            ("now-1h30m", Some(4_600_000)),
            ("12.5", Some(12_500)),
            ("1970-01-01T00:01:00Z", Some(60_000)),
            ("1970-01-01T01:00:01.5+01:00", Some(1_500)),
            ("yesterday", None),
            ("now+1h", None),
            ("NaN", None),
        ] {
            assert_eq!(time_ms(text, 10_000_000).ok(), expected, "{text}");
        }
        assert_eq!(seconds(-1), "-1.999");
    }
}
