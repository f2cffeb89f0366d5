//! How fast logs may come in: all together, and each stream for itself.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;
use pilothouse_model::limits::{self, LiveLimits};
use pilothouse_model::logs::PushStream;
use pilothouse_model::{Labels, LogBatch};

use crate::admission::{Bucket, Rate};
use crate::error::{ApiError, Kind};

#[derive(Debug)]
pub(crate) struct Rates {
    limits: LiveLimits,
    all: Mutex<Bucket>,
    streams: Mutex<HashMap<u128, Bucket>>,
}

/// A stream of a push that was too fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooFast {
    pub(crate) labels: Labels,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) first_ns: i64,
}

impl Rates {
    pub(crate) fn new(limits: LiveLimits) -> Self {
        Self { limits, all: Mutex::default(), streams: Mutex::default() }
    }

    /// Takes the bytes of a whole push, all or none.
    pub(crate) fn admit(&self, batch: &LogBatch) -> Result<(), ApiError> {
        let limits = self.limits.now();
        let Some(rate) = Rate::of(limits.max_log_bytes_per_second, limits.max_log_burst_bytes) else {
            return Ok(());
        };
        let bytes: u64 = batch.streams.iter().map(|s| bytes_of(batch, s)).sum();
        self.all.lock().take(bytes as f64, rate, Instant::now()).map_err(|wait| {
            let text = format!(
                "ingestion rate limit exceeded for user fake (limit: {} bytes/sec) while attempting to ingest '{}' \
                 lines totaling '{bytes}' bytes, reduce log volume or contact your Loki administrator to see if the \
                 limit can be increased",
                rate.per_second,
                batch.entries.len(),
            );
            ApiError::new(Kind::TooManyRequests, text).retry_after(wait.as_secs().max(1))
        })
    }

    /// Leaves out of a batch the streams that come too fast.
    pub(crate) fn thin(&self, batch: &mut LogBatch) -> Vec<TooFast> {
        let limits = self.limits.now();
        let Some(rate) = Rate::of(limits.max_stream_bytes_per_second, limits.max_stream_burst_bytes) else {
            return Vec::new();
        };
        let mut too_fast = Vec::new();
        let streams = std::mem::take(&mut batch.streams);
        for stream in streams {
            let bytes = bytes_of(batch, &stream);
            if self.admit_stream(&stream.labels, bytes, rate) {
                batch.streams.push(stream);
                continue;
            }
            let entries = batch.entries_of(&stream);
            too_fast.push(TooFast {
                entries: entries.len() as u64,
                bytes,
                first_ns: entries.first().map_or(0, |e| e.t_ns),
                labels: stream.labels,
            });
        }
        too_fast
    }

    fn admit_stream(&self, labels: &Labels, bytes: u64, rate: Rate) -> bool {
        let now = Instant::now();
        let mut streams = self.streams.lock();
        if streams.len() >= limits::STREAM_RATES {
            streams.retain(|_, bucket| !bucket.is_full(rate, now));
        }
        streams.entry(labels.fingerprint()).or_default().take(bytes as f64, rate, now).is_ok()
    }
}

/// Lines and structured metadata.
fn bytes_of(batch: &LogBatch, stream: &PushStream) -> u64 {
    let metadata = |labels: &Labels| labels.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
    batch.entries_of(stream).iter().map(|e| (e.line.len() + metadata(&e.metadata)) as u64).sum()
}

#[cfg(test)]
mod tests {
    use pilothouse_model::limits::Limits;

    use super::*;

    fn batch(streams: &[(&str, usize)]) -> LogBatch {
        let mut batch = LogBatch::default();
        for (app, bytes) in streams {
            batch.begin_stream(Labels::from_pairs([("app", *app)]));
            batch.push(1, &"x".repeat(*bytes), Labels::empty());
        }
        batch
    }

    #[test]
    fn a_push_beyond_the_rate_is_refused_as_a_whole() {
        let limits = Limits { max_log_bytes_per_second: 10, max_log_burst_bytes: 100, ..Limits::default() };
        let rates = Rates::new(limits.into());
        assert!(rates.admit(&batch(&[("a", 60), ("b", 30)])).is_ok());
        let refused = rates.admit(&batch(&[("a", 30)])).unwrap_err();
        assert_eq!((refused.kind, refused.retry_after_s), (Kind::TooManyRequests, Some(1)));
        let start = "ingestion rate limit exceeded for user fake (limit: 10 bytes/sec) while attempting to ingest \
                     '1' lines totaling '30' bytes";
        assert!(refused.text.starts_with(start), "{}", refused.text);
    }

    #[test]
    fn a_fast_stream_does_not_take_the_others_with_it() {
        let limits =
            Limits { max_stream_bytes_per_second: 1, max_stream_burst_bytes: 50, ..Limits::default() };
        let rates = Rates::new(limits.into());
        assert!(rates.thin(&mut batch(&[("a", 40), ("b", 10)])).is_empty());
        let mut next = batch(&[("a", 40), ("b", 10)]);
        let refused = rates.thin(&mut next);
        assert_eq!((refused.len(), next.streams.len()), (1, 1));
        assert_eq!((refused[0].labels.value("app"), refused[0].bytes), ("a", 40));
        assert_eq!(next.streams[0].labels.value("app"), "b");
    }
}
