//! Parameters of a request: one list from the URL and the form, and their grammars, with the
//! texts that Prometheus gives for what does not parse.

use bytes::Bytes;
use http::{HeaderMap, header};
use pilothouse_model::labels::quote;
use pilothouse_model::time::parse_duration_ms;

use crate::error::ApiError;

/// The widest range of time that is worked with, in milliseconds either side of 1970. Half of
/// what fits, so that windows and offsets can be added without thought.
pub(crate) const TIME_BOUND_MS: i64 = i64::MAX / 2;
/// How Prometheus prints its own outermost times; clients send them back.
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// All parameters in order; those of the form stand before those of the URL and so win.
#[derive(Debug, Default, Clone)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    /// What is wrong with the first pair that was left out for it.
    fault: Option<String>,
}

impl Params {
    /// As Go reads them: a pair that is broken is left out, and told to who asks.
    pub(crate) fn read(query: Option<&str>, headers: &HeaderMap, body: &Bytes) -> Self {
        let mut params = Self::default();
        if is_form(headers) {
            params.add(body);
        }
        params.add(query.unwrap_or("").as_bytes());
        params
    }

    fn add(&mut self, text: &[u8]) {
        for pair in text.split(|b| *b == b'&') {
            match broken_pair(pair) {
                None => self.pairs.extend(form_urlencoded::parse(pair).into_owned()),
                Some(fault) => {
                    self.fault.get_or_insert(fault);
                }
            }
        }
    }

    /// Refuses requests of which a pair was left out, as Loki does.
    pub(crate) fn check_whole(&self) -> Result<(), ApiError> {
        self.fault.as_ref().map_or(Ok(()), |fault| Err(ApiError::bad_data(fault.as_str())))
    }

    /// The first value of a parameter, the empty text where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A time that must be there.
    pub(crate) fn time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time_ms(self.text(name)).map_err(|e| ApiError::parameter(name, e))
    }

    pub(crate) fn time_or(&self, name: &str, default_ms: i64) -> Result<i64, ApiError> {
        match self.text(name) {
            "" => Ok(default_ms),
            text => parse_time_ms(text)
                .map_err(|e| ApiError::parameter(name, format!("Invalid time value for '{name}': {e}"))),
        }
    }

    /// `start` and `end` where both may be left out.
    pub(crate) fn range(&self) -> Result<(i64, i64), ApiError> {
        Ok((self.time_or("start", -TIME_BOUND_MS)?, self.time_or("end", TIME_BOUND_MS)?))
    }

    /// Nanoseconds; `None` where it is left out.
    pub(crate) fn duration_ns(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => parse_duration_ns(text).map(Some).map_err(|e| ApiError::parameter(name, e)),
        }
    }

    /// 0 is no limit.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let error = |reason: &str| ApiError::parameter("limit", reason);
        let text = self.text("limit");
        if text.is_empty() {
            return Ok(0);
        }
        let number = text
            .parse::<i64>()
            .map_err(|_| error(&format!("strconv.Atoi: parsing {}: invalid syntax", quote(text))))?;
        usize::try_from(number).map_err(|_| error("limit must be non-negative"))
    }

    /// A whole number where it is given; `None` when it is not there.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, std::num::ParseIntError> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some),
        }
    }
}

/// What Go says of a pair that it cannot read.
fn broken_pair(pair: &[u8]) -> Option<String> {
    if pair.contains(&b';') {
        return Some("invalid semicolon separator in query".to_owned());
    }
    let broken = |at: &usize| {
        let digits = pair.get(at + 1..at + 3).unwrap_or(&[]);
        digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit)
    };
    let percents = pair.iter().enumerate().filter(|(_, b)| **b == b'%').map(|(at, _)| at);
    let at = percents.into_iter().find(broken)?;
    let cut = pair.get(at..pair.len().min(at + 3)).unwrap_or(&[]);
    Some(format!("invalid URL escape {}", quote(&String::from_utf8_lossy(cut))))
}

pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Unix seconds with an optional fraction, or RFC 3339; milliseconds, cut to the bounds.
pub(crate) fn parse_time_ms(text: &str) -> Result<i64, String> {
    if let Some(seconds) = text.parse::<f64>().ok().filter(|s| s.is_finite()) {
        let whole = seconds.trunc();
        // The fraction is rounded to milliseconds, as Prometheus does.
        let millis = (seconds.fract() * 1000.0).round();
        return Ok(((whole * 1000.0 + millis) as i64).clamp(-TIME_BOUND_MS, TIME_BOUND_MS));
    }
    match text {
        MIN_TIME_TEXT => return Ok(-TIME_BOUND_MS),
        MAX_TIME_TEXT => return Ok(TIME_BOUND_MS),
        _ => {}
    }
    text.parse::<jiff::Timestamp>()
        .map(|t| t.as_millisecond())
        .map_err(|_| format!("cannot parse {} to a valid timestamp", quote(text)))
}

/// Float seconds or a Prometheus duration, in nanoseconds.
pub(crate) fn parse_duration_ns(text: &str) -> Result<i64, String> {
    let invalid = || format!("cannot parse {} to a valid duration", quote(text));
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * 1e9;
        // Go makes the least of its integers of it, which no parameter takes.
        if ns.is_nan() {
            return Ok(i64::MIN);
        }
        if ns.abs() > i64::MAX as f64 {
            return Err(format!("{}. It overflows int64", invalid()));
        }
        return Ok(ns as i64);
    }
    let ms = parse_duration_ms(text).map_err(|_| invalid())?;
    ms.checked_mul(1_000_000).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [
            ("0", 0),
            ("1700000000", 1_700_000_000_000),
            ("1700000000.5", 1_700_000_000_500),
            ("1447696814.1239", 1_447_696_814_124),
            ("-0.25", -250),
            ("1e3", 1_000_000),
            ("2015-06-03T13:21:58.555Z", 1_433_337_718_555),
            ("2015-06-03T14:21:58.555+01:00", 1_433_337_718_555),
            (MIN_TIME_TEXT, -TIME_BOUND_MS),
            (MAX_TIME_TEXT, TIME_BOUND_MS),
            ("1e300", TIME_BOUND_MS),
        ] {
            assert_eq!(parse_time_ms(text), Ok(ms), "{text}");
        }
        for bad in ["", "x", "30s", "2015-06-03", "NaN"] {
            assert_eq!(parse_time_ms(bad), Err(format!("cannot parse \"{bad}\" to a valid timestamp")));
        }
    }

    #[test]
    fn durations() {
        for (text, ns) in [("15", 15_000_000_000), ("0.5", 500_000_000), ("1m30s", 90_000_000_000), ("0", 0)]
        {
            assert_eq!(parse_duration_ns(text), Ok(ns), "{text}");
        }
        assert_eq!(parse_duration_ns("-1"), Ok(-1_000_000_000));
        for bad in ["", "soon", "1x"] {
            assert_eq!(parse_duration_ns(bad), Err(format!("cannot parse \"{bad}\" to a valid duration")));
        }
        assert!(parse_duration_ns("1e20").is_err_and(|e| e.ends_with("It overflows int64")));
    }

    #[test]
    fn the_form_wins_over_the_url() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8".parse().unwrap(),
        );
        let body = Bytes::from_static(b"query=a%2Bb+c&match[]=1");
        let params = Params::read(Some("query=url&match[]=2&limit=-1"), &headers, &body);
        assert_eq!(params.text("query"), "a+b c");
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["1", "2"]);
        let error = params.limit().unwrap_err();
        assert_eq!(error.text, "invalid parameter \"limit\": limit must be non-negative");
    }
}
