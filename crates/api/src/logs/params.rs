//! Parameters as Loki reads them: their grammars, defaults and the texts for what does not parse.

use pilothouse_logql::Direction;
use pilothouse_model::labels::quote;

use crate::error::ApiError;
use crate::params::{Params, parse_duration_ns};

const MS_NS: i64 = 1_000_000;
const SECOND_NS: i64 = 1_000 * MS_NS;
/// What queries look back where nobody says otherwise.
const SINCE_NS: i64 = 3_600 * SECOND_NS;
const MAX_POINTS: i128 = 11_000;
const DEFAULT_LIMIT: usize = 100;

/// A range of time in nanoseconds. Whether its end belongs to it depends on the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start_ns: i64,
    pub(crate) end_ns: i64,
}

impl Span {
    /// `start`, `end` and `since`. An end that lies ahead does not shorten what `since` covers.
    pub(crate) fn read(params: &Params, now_ns: i64) -> Result<Self, ApiError> {
        let wrong =
            |name: &str, e: String| ApiError::bad_data(format!("could not parse '{name}' parameter: {e}"));
        let since_ns = match params.text("since") {
            "" => SINCE_NS,
            text => pilothouse_logql::parse_duration_ns(text).map_err(|e| wrong("since", e))?,
        };
        let end_ns = time_or(params.text("end"), now_ns).map_err(|e| wrong("end", e))?;
        let default_ns = end_ns.min(now_ns).saturating_sub(since_ns);
        let start_ns = time_or(params.text("start"), default_ns).map_err(|e| wrong("start", e))?;
        Ok(Self { start_ns, end_ns })
    }

    /// As [`Span::read`], and its end must not lie before its start.
    pub(crate) fn ordered(params: &Params, now_ns: i64) -> Result<Self, ApiError> {
        let span = Self::read(params, now_ns)?;
        if span.end_ns < span.start_ns {
            let text = "end timestamp must not be before or equal to start time";
            return Err(ApiError::bad_data(text));
        }
        Ok(span)
    }

    fn length_ns(self) -> i128 {
        i128::from(self.end_ns) - i128::from(self.start_ns)
    }

    /// Its length between whole milliseconds, in which limits are told.
    fn length_of_whole_ms(self) -> i128 {
        let whole = |ns: i64| i128::from(ns.div_euclid(MS_NS)) * i128::from(MS_NS);
        whole(self.end_ns) - whole(self.start_ns)
    }

    /// Refuses a range that is longer than the limit (0: none) or ends before it starts.
    pub(crate) fn check_length(self, limit_ms: u64) -> Result<(), ApiError> {
        self.check_reach(0, limit_ms)
    }

    /// As [`Span::check_length`], where each point looks back so far.
    pub(crate) fn check_reach(self, back_ns: i64, limit_ms: u64) -> Result<(), ApiError> {
        let limit_ns = i128::from(limit_ms) * 1_000_000;
        let length_ns = self.length_of_whole_ms() + i128::from(back_ns);
        if limit_ms > 0 && length_ns > limit_ns {
            return Err(ApiError::bad_data(format!(
                "the query time range exceeds the limit (query length: {}, limit: {})",
                go_duration(length_ns),
                pilothouse_model::time::format_duration_ms(i64::try_from(limit_ms).unwrap_or(i64::MAX)),
            )));
        }
        if self.length_ns() < 0 {
            let text = "this data is no longer available, it is past now - max_query_lookback (0s)";
            return Err(ApiError::bad_data(text));
        }
        Ok(())
    }

    /// `step`, above zero and not so small that there would be too many points.
    pub(crate) fn step_ns(self, params: &Params) -> Result<i64, ApiError> {
        let step_ns = match params.text("step") {
            "" => default_step_ns(self),
            text => parse_duration_ns(text).map_err(ApiError::bad_data)?,
        };
        if step_ns <= 0 {
            let text =
                "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(ApiError::bad_data(text));
        }
        if self.length_ns() / i128::from(step_ns) > MAX_POINTS {
            let text = "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of \
                        the step parameter";
            return Err(ApiError::bad_data(text));
        }
        // Loki hands steps on in milliseconds.
        Ok(if step_ns > MS_NS { step_ns / MS_NS * MS_NS } else { step_ns })
    }
}

/// One 250th of the range in whole seconds, one at least.
fn default_step_ns(span: Span) -> i64 {
    let seconds = span.length_ns().div_euclid(250 * i128::from(SECOND_NS)).max(1);
    i64::try_from(seconds * i128::from(SECOND_NS)).unwrap_or(i64::MAX)
}

/// `interval`: 0 where it is left out.
pub(crate) fn interval_ns(params: &Params) -> Result<i64, ApiError> {
    let interval_ns = match params.text("interval") {
        "" => 0,
        text => parse_duration_ns(text).map_err(ApiError::bad_data)?,
    };
    if interval_ns < 0 {
        return Err(ApiError::bad_data("interval must be >= 0"));
    }
    Ok(interval_ns)
}

pub(crate) fn direction(params: &Params) -> Result<Direction, ApiError> {
    match params.text("direction") {
        "" => Ok(Direction::Backward),
        text if text.eq_ignore_ascii_case("backward") => Ok(Direction::Backward),
        text if text.eq_ignore_ascii_case("forward") => Ok(Direction::Forward),
        text => Err(ApiError::bad_data(format!("invalid direction '{text}'"))),
    }
}

/// What every question over a range may say beside its span.
pub(crate) struct Rest {
    pub(crate) limit: usize,
    pub(crate) direction: Direction,
    pub(crate) step_ns: i64,
    pub(crate) interval_ns: i64,
}

impl Rest {
    /// In the order in which Loki refuses them.
    pub(crate) fn read(params: &Params, span: Span) -> Result<Self, ApiError> {
        Ok(Self {
            limit: limit(params)?,
            direction: direction(params)?,
            step_ns: span.step_ns(params)?,
            interval_ns: interval_ns(params)?,
        })
    }
}

/// `limit`, 100 where it is left out.
pub(crate) fn limit(params: &Params) -> Result<usize, ApiError> {
    positive("limit", params.text("limit"), DEFAULT_LIMIT)
}

/// A number above zero that fits 32 bits.
pub(crate) fn positive(name: &str, text: &str, default: usize) -> Result<usize, ApiError> {
    if text.is_empty() {
        return Ok(default);
    }
    let number = whole(text)?;
    if number <= 0 {
        return Err(ApiError::bad_data("limit must be a positive value"));
    }
    u32::try_from(number)
        .map(|n| n as usize)
        .map_err(|_| ApiError::bad_data(format!("{name} value {number} is out of range [0, {}]", u32::MAX)))
}

/// A whole number, refused in the words of Go.
pub(crate) fn whole(text: &str) -> Result<i64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_data(format!("strconv.Atoi: parsing {}: {}", quote(text), no_integer(text)))
    })
}

/// `time`, or the default.
pub(crate) fn instant_ns(params: &Params, now_ns: i64) -> Result<i64, ApiError> {
    time_or(params.text("time"), now_ns).map_err(ApiError::bad_data)
}

fn time_or(text: &str, default_ns: i64) -> Result<i64, String> {
    if text.is_empty() { Ok(default_ns) } else { parse_time_ns(text) }
}

/// Seconds with a fraction (rounded to milliseconds), whole seconds of up to ten characters, whole
/// nanoseconds, or RFC 3339; times that do not fit are cut to what does.
pub(crate) fn parse_time_ns(text: &str) -> Result<i64, String> {
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        let millis = (seconds.fract() * 1000.0).round() as i64;
        let whole_ns = (seconds.trunc() as i64).saturating_mul(SECOND_NS);
        return Ok(whole_ns.saturating_add(millis * 1_000_000));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(if text.len() <= 10 { number.saturating_mul(SECOND_NS) } else { number });
    }
    let parsed = text.parse::<jiff::Timestamp>().map(|t| t.as_nanosecond());
    let clamp = |ns: i128| ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    parsed.map(clamp).map_err(|_| format!("strconv.ParseInt: parsing {}: {}", quote(text), no_integer(text)))
}

/// Why Go takes a text for no integer.
fn no_integer(text: &str) -> &'static str {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let looks = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if looks { "value out of range" } else { "invalid syntax" }
}

/// A length of time as Go prints it: `1h0m0s`, `1.5s`, `300ms`.
pub(crate) fn go_duration(ns: i128) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let decimal = |whole: u128, unit: u128| {
        let text = format!("{whole}.{:0width$}", ns % unit, width = (unit.ilog10()) as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{ns}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(ns / 1_000, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(ns / 1_000_000, 1_000_000)),
        _ => {
            let seconds = ns / 1_000_000_000;
            let below = decimal(seconds % 60, 1_000_000_000);
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{below}s"),
                (0, _) => format!("{sign}{minutes}m{below}s"),
                _ => format!("{sign}{hours}h{minutes}m{below}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    const NOW: i64 = 1_700_000_000 * SECOND_NS;

    fn params(query: &str) -> Params {
        Params::read(Some(query), &HeaderMap::new(), &Bytes::new())
    }

    #[test]
    fn times() {
        for (text, ns) in [
            ("0", 0),
            ("1700000000", NOW),
            ("4000000000", 4_000_000_000 * SECOND_NS),
            ("1700000000000000001", NOW + 1),
            ("1700000000.5", NOW + 500_000_000),
            ("1447696814.1239", 1_447_696_814_124_000_000),
            ("2015-06-03T13:21:58.000000001Z", 1_433_337_718_000_000_001),
            ("2015-06-03T14:21:58+01:00", 1_433_337_718_000_000_000),
        ] {
            assert_eq!(parse_time_ns(text), Ok(ns), "{text}");
        }
        assert!(parse_time_ns("noon").is_err_and(|e| e.contains("\"noon\": invalid syntax")));
    }

    #[test]
    fn spans_have_loki_defaults() {
        let hour = 3_600 * SECOND_NS;
        for (query, start_ns, end_ns) in [
            ("", NOW - hour, NOW),
            ("since=2h", NOW - 2 * hour, NOW),
            ("end=1699990000&since=1m", NOW - 10_060 * SECOND_NS, NOW - 10_000 * SECOND_NS),
            ("end=1700000600", NOW - hour, NOW + 600 * SECOND_NS),
            ("start=1&since=1m", SECOND_NS, NOW),
        ] {
            assert_eq!(Span::read(&params(query), NOW).unwrap(), Span { start_ns, end_ns }, "{query}");
        }
        for (query, text) in [
            ("since=abc", "could not parse 'since' parameter: not a valid duration string: \"abc\""),
            ("since=1.5", "could not parse 'since' parameter: unknown unit \".\" in duration \"1.5\""),
            ("start=x", "could not parse 'start' parameter: strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "end=99999999999999999999",
                "could not parse 'end' parameter: strconv.ParseInt: parsing \"99999999999999999999\": value out of \
                 range",
            ),
        ] {
            assert_eq!(Span::read(&params(query), NOW).unwrap_err().text, text);
        }
    }

    #[test]
    fn steps_and_lengths_are_bounded() {
        let span = Span { start_ns: 0, end_ns: 3_600 * SECOND_NS };
        assert_eq!(span.step_ns(&params("")).unwrap(), 14 * SECOND_NS);
        assert_eq!(span.step_ns(&params("step=1m")).unwrap(), 60 * SECOND_NS);
        assert_eq!(span.step_ns(&params("step=0.5")).unwrap(), SECOND_NS / 2);
        for (query, part) in [
            ("step=0", "zero or negative"),
            ("step=0.1", "11,000 points"),
            ("step=abc", "cannot parse \"abc\" to a valid duration"),
        ] {
            assert!(span.step_ns(&params(query)).unwrap_err().text.contains(part), "{query}");
        }
        let long = Span { start_ns: 0, end_ns: 40 * 24 * 3_600 * SECOND_NS };
        assert_eq!(
            long.check_length(721 * 3_600_000).unwrap_err().text,
            "the query time range exceeds the limit (query length: 960h0m0s, limit: 30d1h)"
        );
        assert!(long.check_length(0).is_ok());
        let short = Span { start_ns: 5_500_000_001, end_ns: 9_000_000_000 };
        assert!(short.check_length(1).is_err_and(|e| e.text.contains("query length: 3.5s,")));
    }

    #[test]
    fn limits_are_whole_and_positive() {
        assert_eq!(limit(&params("")).unwrap(), 100);
        assert_eq!(limit(&params("limit=7")).unwrap(), 7);
        for (query, text) in [
            ("limit=0", "limit must be a positive value"),
            ("limit=-3", "limit must be a positive value"),
            ("limit=abc", "strconv.Atoi: parsing \"abc\": invalid syntax"),
            ("limit=5000000000", "limit value 5000000000 is out of range [0, 4294967295]"),
        ] {
            assert_eq!(limit(&params(query)).unwrap_err().text, text);
        }
    }

    #[test]
    fn durations_print_as_in_go() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (300_000_000, "300ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-5_400_000_000_000, "-1h30m0s"),
        ] {
            assert_eq!(go_duration(ns), text);
        }
    }
}
