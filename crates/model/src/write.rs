//! A batch of series on its way into a store, and what became of it.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use crate::{Histogram, Labels, SourceError};

/// One label pair as raw bytes; not yet known to be UTF-8.
pub type RawPair<'a> = (&'a [u8], &'a [u8]);

/// Reads the label pairs of one series from its raw bytes. The bytes have been walked once by
/// the decoder that made the batch; a failure here means that they were not its own.
pub type ReadLabels = for<'a> fn(raw: &'a [u8], pairs: &mut Vec<RawPair<'a>>) -> Result<(), MalformedLabels>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed label bytes")]
pub struct MalformedLabels;

/// Many series with their samples, decoded from one request.
///
/// Labels stay as raw bytes of the request: a store knows most series by the hash of those
/// bytes and parses them only for a series it has not met. That hash is the largest single
/// saving on the way in.
pub struct WriteBatch {
    /// What the `labels` ranges point into.
    pub arena: Vec<u8>,
    pub read_labels: ReadLabels,
    pub series: Vec<BatchSeries>,
    pub floats: Vec<FloatSample>,
    pub histograms: Vec<HistogramSample>,
    pub exemplars: Vec<BatchExemplar>,
    pub metadata: Vec<MetadataEntry>,
}

/// One series of a batch. The ranges index the batch's lists; a series may occur more than once.
#[derive(Debug, Clone)]
pub struct BatchSeries {
    /// 128-bit hash over the raw label bytes and their form: equal keys mean equal label sets.
    /// One label set may have several keys (other order of labels, other protocol).
    pub key: u128,
    pub labels: Range<u32>,
    pub floats: Range<u32>,
    pub histograms: Range<u32>,
    pub exemplars: Range<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatSample {
    pub t_ms: i64,
    pub value: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    pub t_ms: i64,
    pub histogram: Histogram,
}

/// An exemplar with its labels as pairs, in the order they came.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchExemplar {
    pub t_ms: i64,
    pub value: f64,
    pub labels: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum MetricType {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricType {
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Counter,
        Self::Gauge,
        Self::Histogram,
        Self::GaugeHistogram,
        Self::Summary,
        Self::Info,
        Self::StateSet,
    ];

    /// The name that the metadata API and the exposition formats use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// The number that remote write uses for it; unknown numbers are `Unknown`.
    pub fn from_wire(number: i32) -> Self {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n).copied()).unwrap_or_default()
    }
}

/// What is known of a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetadataEntry {
    pub family: String,
    pub metric_type: MetricType,
    pub help: String,
    pub unit: String,
}

impl WriteBatch {
    pub fn new(read_labels: ReadLabels) -> Self {
        Self {
            arena: Vec::new(),
            read_labels,
            series: Vec::new(),
            floats: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// A batch for workers of the house, whose series are label sets already; filled by
    /// [`WriteBatch::push_float`] and [`WriteBatch::push_histogram`].
    pub fn of_labels() -> Self {
        Self::new(read_encoded_labels)
    }

    /// Adds a sample to a batch made by [`WriteBatch::of_labels`].
    pub fn push_float(&mut self, labels: &Labels, t_ms: i64, value: f64) {
        let at = self.floats.len() as u32;
        self.floats.push(FloatSample { t_ms, value });
        let none = self.histograms.len() as u32;
        self.push_encoded(labels, at..at + 1, none..none);
    }

    /// Adds a native histogram to a batch made by [`WriteBatch::of_labels`].
    pub fn push_histogram(&mut self, labels: &Labels, t_ms: i64, histogram: Histogram) {
        let at = self.histograms.len() as u32;
        self.histograms.push(HistogramSample { t_ms, histogram });
        let none = self.floats.len() as u32;
        self.push_encoded(labels, none..none, at..at + 1);
    }

    /// Adds exemplars to the series that was pushed last.
    pub fn push_exemplars(&mut self, exemplars: impl IntoIterator<Item = BatchExemplar>) {
        let start = self.exemplars.len() as u32;
        self.exemplars.extend(exemplars);
        let end = self.exemplars.len() as u32;
        if let Some(last) = self.series.last_mut() {
            last.exemplars = start..end;
        }
    }

    fn push_encoded(&mut self, labels: &Labels, floats: Range<u32>, histograms: Range<u32>) {
        /// Tells keys of this form from those of other forms.
        const SEED: u64 = 0x6c61_6265_6c73;
        let bytes = labels.as_encoded().as_bytes();
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        self.series.push(BatchSeries {
            key: xxhash_rust::xxh3::xxh3_128_with_seed(bytes, SEED),
            labels: start..self.arena.len() as u32,
            floats,
            histograms,
            exemplars: 0..0,
        });
    }

    /// Raw label bytes of one series; empty where the range does not fit.
    pub fn raw_labels(&self, series: &BatchSeries) -> &[u8] {
        slice(&self.arena, &series.labels)
    }

    pub fn floats_of(&self, series: &BatchSeries) -> &[FloatSample] {
        slice(&self.floats, &series.floats)
    }

    pub fn histograms_of(&self, series: &BatchSeries) -> &[HistogramSample] {
        slice(&self.histograms, &series.histograms)
    }

    pub fn exemplars_of(&self, series: &BatchSeries) -> &[BatchExemplar] {
        slice(&self.exemplars, &series.exemplars)
    }
}

fn read_encoded_labels<'a>(raw: &'a [u8], pairs: &mut Vec<RawPair<'a>>) -> Result<(), MalformedLabels> {
    let text = std::str::from_utf8(raw).map_err(|_| MalformedLabels)?;
    pairs.extend(Labels::iter_encoded(text).map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    Ok(())
}

impl fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBatch")
            .field("series", &self.series.len())
            .field("floats", &self.floats.len())
            .field("histograms", &self.histograms.len())
            .field("exemplars", &self.exemplars.len())
            .field("metadata", &self.metadata.len())
            .finish_non_exhaustive()
    }
}

fn slice<'a, T>(of: &'a [T], range: &Range<u32>) -> &'a [T] {
    of.get(range.start as usize..range.end as usize).unwrap_or(&[])
}

/// Why a series or a sample was not taken. The texts that callers see are made at the edge.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    MissingMetricName,
    InvalidMetricName {
        name: String,
    },
    InvalidLabelName {
        name: String,
    },
    InvalidLabelValue {
        name: String,
    },
    DuplicateLabelName {
        name: String,
    },
    TooManyLabels {
        actual: u64,
        limit: u64,
    },
    LabelNameTooLong {
        name: String,
        limit: u64,
    },
    LabelValueTooLong {
        name: String,
        value: String,
        limit: u64,
    },
    MaxSeries {
        limit: u64,
    },
    TooFarInFuture {
        t_ms: i64,
    },
    TooOld {
        t_ms: i64,
        oldest_ms: i64,
    },
    OutOfOrder {
        t_ms: i64,
    },
    DuplicateTimestamp {
        t_ms: i64,
    },
    InvalidHistogram {
        t_ms: i64,
        why: String,
    },
    ExemplarLabelsMissing {
        t_ms: i64,
    },
    ExemplarLabelsTooLong {
        t_ms: i64,
        limit: u64,
    },
    ExemplarOutOfOrder {
        t_ms: i64,
    },
    /// Neither samples nor histograms, which remote write 2.0 forbids.
    NoSamples,
    /// A part of the request that makes no sense in itself; `why` is fit for the client and
    /// names the part (`invalid labelRefs length 3`, `line 7: expected a value`).
    Undecodable {
        why: String,
    },
}

/// One refusal: why, and of which series (printed as `name{a="b"}`, invalid bytes replaced).
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    pub reason: Reason,
    pub series: String,
}

/// A future that ends when what was appended is as durable as the store promises.
pub type Durable = Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send>>;

/// What became of a batch. The good part is stored; each list names what was not.
pub struct Appended {
    pub floats: u64,
    pub histograms: u64,
    pub exemplars: u64,
    /// Series that were not known before.
    pub created: u64,
    /// The first refusals, at most [`Appended::MAX_REJECTIONS`]; `rejected` counts all.
    pub rejections: Vec<Rejection>,
    /// Samples, histograms and whole series refused. Refused exemplars are not counted here.
    pub rejected: u64,
    pub durable: Durable,
}

impl Appended {
    pub const MAX_REJECTIONS: usize = crate::limits::TOLD_REJECTIONS;
}

impl Appended {
    /// Counts so many refusals, and tells of one of them as long as few are told.
    pub fn refuse(&mut self, count: u64, rejection: impl FnOnce() -> Rejection) {
        self.rejected += count;
        if self.rejections.len() < Self::MAX_REJECTIONS {
            self.rejections.push(rejection());
        }
    }
}

/// Nothing was taken, and there is nothing to wait for.
impl Default for Appended {
    fn default() -> Self {
        Self {
            floats: 0,
            histograms: 0,
            exemplars: 0,
            created: 0,
            rejections: Vec::new(),
            rejected: 0,
            durable: Box::pin(std::future::ready(Ok(()))),
        }
    }
}

impl fmt::Debug for Appended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appended")
            .field("floats", &self.floats)
            .field("histograms", &self.histograms)
            .field("exemplars", &self.exemplars)
            .field("created", &self.created)
            .field("rejected", &self.rejected)
            .field("rejections", &self.rejections)
            .finish_non_exhaustive()
    }
}
