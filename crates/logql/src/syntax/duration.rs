//! Durations as queries write them.

use pilothouse_model::time;
use pilothouse_query::units::parse_go_duration;

/// A duration in a query: as Prometheus writes it, else as Go does.
pub(crate) fn parse_query_duration(text: &str) -> Option<i64> {
    if let Ok(ms) = time::parse_duration_ms(text) {
        return ms.checked_mul(1_000_000);
    }
    parse_go_duration(text).ok()
}

/// A length of time in nanoseconds, as Prometheus' `model.ParseDuration` reads it, with its messages: the window in
/// brackets, and `since` beside a query.
pub fn parse_range(text: &str) -> Result<i64, String> {
    match time::parse_duration_ms(text) {
        Ok(ms) => ms.checked_mul(1_000_000).ok_or_else(|| "duration out of range".to_owned()),
        Err(time::DurationError::Empty) => Err("empty duration string".to_owned()),
        Err(time::DurationError::OutOfRange) => Err("duration out of range".to_owned()),
        Err(time::DurationError::Invalid(_)) => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let unit: String = text[digits..].chars().take_while(|c| !c.is_ascii_digit()).collect();
            let known = ["ms", "s", "m", "h", "d", "w", "y"].contains(&unit.as_str());
            let quoted = pilothouse_model::labels::quote(text);
            Err(if digits > 0 && !unit.is_empty() && !known {
                format!("unknown unit {} in duration {quoted}", pilothouse_model::labels::quote(&unit))
            } else {
                format!("not a valid duration string: {quoted}")
            })
        }
    }
}
