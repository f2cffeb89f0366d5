//! What every decoder of written samples answers, and the bounds it keeps.

use pilothouse_model::limits::Limits;
use pilothouse_model::write::{
    Appended, BatchExemplar, BatchSeries, FloatSample, HistogramSample, Reason, Rejection, WriteBatch,
};

use crate::labels;
use crate::proto::ProtoError;
use crate::proto_complaint::{Dialect, Message, complaint};

/// The good part of a request, and what was refused of the rest.
#[derive(Debug)]
pub struct Decoded {
    pub batch: WriteBatch,
    /// The first refusals, at most [`Appended::MAX_REJECTIONS`]; `rejected` counts all.
    pub rejections: Vec<Rejection>,
    /// Series, samples or points that were refused.
    pub rejected: u64,
}

/// A request that is refused as a whole. The text is fit for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("cannot decode {message} at byte {at}: {cause}")]
    Protobuf { message: &'static str, at: usize, cause: ProtoError },
    #[error("cannot decode {message}: {why}")]
    Malformed { message: &'static str, why: String },
    /// A push of logs, as Loki says it.
    #[error("{why}")]
    InLokisWords { why: String },
    /// The labels of a log stream.
    #[error("couldn't parse labels: {why}")]
    Labels { why: String },
    #[error("line {line}: {why}")]
    Text { line: usize, why: String },
    #[error("the request has more than {limit} {what}")]
    TooMany { what: &'static str, limit: u64 },
}

impl DecodeError {
    /// Whether the request is too large rather than wrong (413 instead of 400).
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooMany { .. })
    }

    pub(crate) fn malformed(message: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { message, why: why.into() }
    }
}

/// Why the walk stopped; where is known only to its caller.
pub(crate) enum Fault {
    Proto(ProtoError),
    Request(DecodeError),
}

impl From<ProtoError> for Fault {
    fn from(cause: ProtoError) -> Self {
        Self::Proto(cause)
    }
}

impl From<DecodeError> for Fault {
    fn from(cause: DecodeError) -> Self {
        Self::Request(cause)
    }
}

impl Fault {
    pub(crate) fn at(self, message: &'static str, at: usize) -> DecodeError {
        match self {
            Self::Proto(cause) => DecodeError::Protobuf { message, at, cause },
            Self::Request(cause) => cause,
        }
    }

    /// As [`Fault::at`], in the words of the generated code that senders know, where it finds a
    /// mistake too.
    pub(crate) fn told(self, dialect: Dialect, shape: &Message, body: &[u8], at: usize) -> DecodeError {
        let own = self.at(shape.name, at);
        match own {
            DecodeError::Protobuf { .. } => {
                complaint(dialect, shape, body).map_or(own, |why| DecodeError::InLokisWords { why })
            }
            own => own,
        }
    }
}

impl Decoded {
    pub(crate) fn new() -> Self {
        Self { batch: WriteBatch::new(labels::read_labels), rejections: Vec::new(), rejected: 0 }
    }

    /// Refuses something; `series` is only made for the first few.
    pub(crate) fn refuse(&mut self, reason: Reason, series: impl FnOnce() -> String) {
        self.rejected += 1;
        if self.rejections.len() < Appended::MAX_REJECTIONS {
            self.rejections.push(Rejection { reason, series: series() });
        }
    }

    /// Where the next series' parts will start.
    pub(crate) fn mark(&self) -> Mark {
        let at = |n: usize| n as u32;
        Mark {
            floats: at(self.batch.floats.len()),
            histograms: at(self.batch.histograms.len()),
            exemplars: at(self.batch.exemplars.len()),
        }
    }

    /// Adds a series made of what was pushed since `mark`.
    #[inline]
    pub(crate) fn close_series(&mut self, mark: Mark, key: u128, labels: std::ops::Range<u32>) {
        let now = self.mark();
        self.batch.series.push(BatchSeries {
            key,
            labels,
            floats: mark.floats..now.floats,
            histograms: mark.histograms..now.histograms,
            exemplars: mark.exemplars..now.exemplars,
        });
    }

    /// Adds one sample of the series with the given labels, sorted by name. A run of samples of
    /// one series becomes one entry.
    pub(crate) fn push_sample<'p>(
        &mut self,
        quota: &mut Quota,
        pairs: impl IntoIterator<Item = (&'p [u8], &'p [u8])>,
        sample: Sample,
        exemplars: Vec<BatchExemplar>,
    ) -> Result<(), DecodeError> {
        quota.take_samples(1 + exemplars.iter().map(|e| 1 + e.labels.len()).sum::<usize>())?;
        let mark = self.mark();
        let start = self.batch.arena.len();
        for (name, value) in pairs {
            labels::push_pair(&mut self.batch.arena, name, value);
        }
        let end = self.batch.arena.len();
        let key = labels::key(self.batch.arena.get(start..end).unwrap_or(&[]));
        match sample {
            Sample::Float(float) => self.batch.floats.push(float),
            Sample::Histogram(histogram) => self.batch.histograms.push(histogram),
        }
        self.batch.exemplars.extend(exemplars);
        let now = self.mark();
        match self.batch.series.last_mut() {
            Some(last) if last.key == key => {
                self.batch.arena.truncate(start);
                last.floats.end = now.floats;
                last.histograms.end = now.histograms;
                last.exemplars.end = now.exemplars;
            }
            _ => {
                quota.take_series()?;
                quota.take_bytes(end - start)?;
                self.close_series(mark, key, start as u32..end as u32);
            }
        }
        Ok(())
    }

    /// Takes back what was pushed since `mark`.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.batch.floats.truncate(mark.floats as usize);
        self.batch.histograms.truncate(mark.histograms as usize);
        self.batch.exemplars.truncate(mark.exemplars as usize);
    }
}

/// One sample of either kind.
#[derive(Debug)]
pub(crate) enum Sample {
    Float(FloatSample),
    Histogram(HistogramSample),
}

/// The lengths of a batch's lists before a series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) floats: u32,
    pub(crate) histograms: u32,
    pub(crate) exemplars: u32,
}

/// What a request may still hold.
#[derive(Debug)]
pub(crate) struct Quota {
    series: u64,
    samples: u64,
    bytes: u64,
    max_series: u64,
    max_samples: u64,
    max_bytes: u64,
    pub(crate) max_buckets: usize,
}

/// How much longer than the largest body the text made of a request may be. Forms that say a
/// text once and refer to it would otherwise grow without bound.
const TEXT_PER_BODY: u64 = 2;

impl Quota {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            series: 0,
            samples: 0,
            bytes: 0,
            max_bytes: limits.max_body_bytes.saturating_mul(TEXT_PER_BODY).min(u64::from(u32::MAX)),
            max_series: limits.max_request_series.min(u64::from(u32::MAX)),
            max_samples: limits.max_request_samples.min(u64::from(u32::MAX)),
            max_buckets: usize::try_from(limits.max_histogram_buckets).unwrap_or(usize::MAX),
        }
    }

    #[inline]
    pub(crate) fn take_series(&mut self) -> Result<(), DecodeError> {
        self.series += 1;
        if self.series > self.max_series {
            return Err(DecodeError::TooMany { what: "series", limit: self.max_series });
        }
        Ok(())
    }

    /// Takes `n` samples, exemplars, or buckets of histograms.
    #[inline]
    pub(crate) fn take_samples(&mut self, n: usize) -> Result<(), DecodeError> {
        self.samples += n as u64;
        if self.samples > self.max_samples {
            return Err(DecodeError::TooMany { what: "samples", limit: self.max_samples });
        }
        Ok(())
    }

    /// Takes `n` bytes of text that is written out. All ranges into an arena thus fit 32 bits.
    #[inline]
    pub(crate) fn take_bytes(&mut self, n: usize) -> Result<(), DecodeError> {
        self.bytes += n as u64;
        if self.bytes > self.max_bytes {
            return Err(DecodeError::TooMany {
                what: "bytes of labels and other text",
                limit: self.max_bytes,
            });
        }
        Ok(())
    }
}
