//! What a refused entry reads like: the words of Loki, which senders log.

use pilothouse_model::limits;
use std::fmt::Write as _;

use http::StatusCode;
use pilothouse_logql::pairs_of;
use pilothouse_model::Labels;
use pilothouse_model::log_ports::{EntryReason, EntryRejection};

use crate::logs::answer::labels_text;
use crate::logs::rates::TooFast;

/// Refusals of one push, and how many entries there were in all.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    pub(crate) rejections: Vec<EntryRejection>,
    pub(crate) rejected: u64,
    pub(crate) too_fast: Vec<TooFast>,
    /// Bytes a second that each stream may have.
    pub(crate) stream_rate: u64,
}

impl Refusals {
    pub(crate) fn is_empty(&self) -> bool {
        self.rejected == 0 && self.rejections.is_empty() && self.too_fast.is_empty()
    }

    /// 429 where it helps to come again later, else 400: senders drop what gets a 400.
    pub(crate) fn status(&self) -> StatusCode {
        let limited = |r: &EntryRejection| matches!(r.reason, EntryReason::MaxStreams { .. });
        if !self.too_fast.is_empty() || self.rejections.iter().any(limited) {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::BAD_REQUEST
        }
    }

    /// Every text once; what makes a sender come again goes first.
    pub(crate) fn text(&self) -> String {
        let mut texts: Vec<(String, u64)> = Vec::new();
        let mut add = |text: String| match texts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => texts.push((text, 1)),
        };
        let limited = |r: &&EntryRejection| matches!(r.reason, EntryReason::MaxStreams { .. });
        self.rejections.iter().filter(limited).for_each(|r| add(of(r)));
        self.too_fast.iter().for_each(|t| add(of_fast(t, self.stream_rate)));
        self.rejections.iter().filter(|r| !limited(r)).for_each(|r| add(of(r)));
        let many = texts.len() > 1;
        let shown: Vec<String> = texts
            .into_iter()
            .map(|(text, n)| if many || n > 1 { format!("{n} errors like: {text}") } else { text })
            .collect();
        let mut out = shown.join("; ");
        let more = self.rejected.saturating_sub(self.rejections.len() as u64);
        if more > 0 {
            let _ = write!(out, "; {more} more entries were refused");
        }
        out
    }
}

fn of(EntryRejection { reason, labels }: &EntryRejection) -> String {
    let stream = text_of(labels);
    match reason {
        EntryReason::TooManyLabels { actual, limit } => {
            format!("entry for stream '{stream}' has {actual} label names; limit {limit}")
        }
        EntryReason::LabelNameTooLong { name, .. } => {
            format!("stream '{stream}' has label name too long: '{}'", cut(name.clone()))
        }
        EntryReason::LabelValueTooLong { value, .. } => {
            format!("stream '{stream}' has label value too long: '{}'", cut(value.clone()))
        }
        EntryReason::LineTooLong { bytes, limit } => format!(
            "max entry size '{limit}' bytes exceeded for stream '{stream}' while adding an entry with length '{bytes}' \
             bytes"
        ),
        EntryReason::TooNew { t_ns } => {
            format!("entry for stream '{stream}' has timestamp too new: {}", seconds_text(*t_ns))
        }
        EntryReason::TooOld { t_ns, oldest_ns } => format!(
            "entry for stream '{stream}' has timestamp too old: {}, oldest acceptable timestamp is: {}",
            seconds_text(*t_ns),
            seconds_text(*oldest_ns)
        ),
        EntryReason::TooMuchMetadata { actual, limit } => format!(
            "stream '{stream}' has too many structured metadata labels: '{actual}', limit: '{limit}'. Please see \
             `limits_config.max_structured_metadata_entries_count` or contact your Loki administrator to increase it"
        ),
        EntryReason::MetadataTooLarge { bytes, limit } => format!(
            "stream '{stream}' has structured metadata too large: '{bytes}' bytes, limit: '{limit}' bytes. Please see \
             `limits_config.max_structured_metadata_size` or contact your Loki administrator to increase it"
        ),
        // In capitals at first, as older releases have it and people search for it.
        EntryReason::MaxStreams { .. } => format!(
            "Maximum active stream limit exceeded when trying to create stream {stream}, reduce the number of active \
             streams (reduce labels or reduce label values), or contact your Loki administrator to see if the limit \
             can be increased, user: 'fake'"
        ),
        EntryReason::Undecodable { why } => why.clone(),
    }
}

fn of_fast(fast: &TooFast, rate: u64) -> String {
    let stream = text_of(&fast.labels);
    format!(
        "entry with timestamp {} ignored, reason: 'Per stream rate limit exceeded (limit: {}/sec) while attempting to \
         ingest for stream '{stream}' totaling {}, consider splitting a stream via additional labels or contact your \
         Loki administrator to see if the limit can be increased',\nuser 'fake', total ignored: {} out of {} for \
         stream: {stream}",
        seconds_text(fast.first_ns),
        size_text(rate),
        size_text(fast.bytes),
        fast.entries,
        fast.entries,
    )
}

fn text_of(labels: &Labels) -> String {
    cut(labels_text(&pairs_of(labels)))
}

/// What a sender made too long is not sent back to him as a whole.
fn cut(mut text: String) -> String {
    if text.len() > limits::QUOTED_LABELS_BYTES {
        let end = (0..=limits::QUOTED_LABELS_BYTES).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}

/// RFC 3339 in whole seconds.
fn seconds_text(t_ns: i64) -> String {
    let time = jiff::Timestamp::from_second(t_ns.div_euclid(1_000_000_000));
    time.map_or_else(|_| t_ns.to_string(), |t| t.to_string())
}

/// `3MB`, `1536B`: the largest unit, in steps of 1024, that divides it.
fn size_text(bytes: u64) -> String {
    let unit = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")]
        .into_iter()
        .find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    unit.map_or_else(|| format!("{bytes}B"), |(bits, name)| format!("{}{name}", bytes >> bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: EntryReason) -> EntryRejection {
        EntryRejection { reason, labels: Labels::from_pairs([("app", "x"), ("service_name", "x")]) }
    }

    #[test]
    fn what_is_far_too_long_is_not_sent_back() {
        let name = "é".repeat(100_000);
        let labels = Labels::from_pairs([("app", name.as_str())]);
        let reason = EntryReason::LabelNameTooLong { name, limit: 1 };
        let text = of(&EntryRejection { reason, labels });
        assert!(text.len() < 17_000 && text.contains("é...' has label name too long: 'éé"), "{}", text.len());
    }

    #[test]
    fn texts_are_those_of_loki() {
        let stream = "{app=\"x\", service_name=\"x\"}";
        for (reason, text) in [
            (
                EntryReason::TooManyLabels { actual: 16, limit: 15 },
                format!("entry for stream '{stream}' has 16 label names; limit 15"),
            ),
            (
                EntryReason::LineTooLong { bytes: 262_145, limit: 262_144 },
                format!(
                    "max entry size '262144' bytes exceeded for stream '{stream}' while adding an entry with length \
                     '262145' bytes"
                ),
            ),
            (
                EntryReason::TooNew { t_ns: 1_700_000_000_000_000_001 },
                format!("entry for stream '{stream}' has timestamp too new: 2023-11-14T22:13:20Z"),
            ),
            (
                EntryReason::TooOld { t_ns: 0, oldest_ns: 1_000_000_000 },
                format!(
                    "entry for stream '{stream}' has timestamp too old: 1970-01-01T00:00:00Z, oldest acceptable \
                     timestamp is: 1970-01-01T00:00:01Z"
                ),
            ),
        ] {
            let refusals = Refusals { rejections: vec![refused(reason)], rejected: 1, ..Refusals::default() };
            assert_eq!((refusals.text(), refusals.status()), (text, StatusCode::BAD_REQUEST));
        }
    }

    #[test]
    fn equal_texts_are_counted_and_limits_go_first() {
        let old = || refused(EntryReason::Undecodable { why: "bad".into() });
        let full = refused(EntryReason::MaxStreams { limit: 5 });
        let refusals = Refusals { rejections: vec![old(), old(), full], rejected: 7, ..Refusals::default() };
        let text = refusals.text();
        assert!(text.starts_with("1 errors like: Maximum active stream limit exceeded"), "{text}");
        assert!(text.ends_with("; 2 errors like: bad; 4 more entries were refused"), "{text}");
        assert_eq!(refusals.status(), StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn sizes_have_the_unit_that_divides_them() {
        for (bytes, text) in [(3 << 20, "3MB"), (1536, "1536B"), (2048, "2KB"), (0, "0B")] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
