//! The ports: what a language or a worker may ask of a store, and nothing more.
//!
//! Each has three implementers: the store, a remote system, and a list in memory for tests.
//! A port speaks in batches, not in items.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::write::{Appended, MetadataEntry, WriteBatch};
use crate::{Budget, BudgetError, Labels, Matcher, QueryValue, SampleColumns, SampleValue};

/// Which labels of the selected series the caller will look at. A store may leave out the
/// others, and need not keep series apart whose remaining labels are equal: each stays an
/// element of its own in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LabelNeeds {
    #[default]
    All,
    /// Only these, sorted by name.
    Only(Arc<[String]>),
}

/// A selection of series with all samples between two times, both inclusive.
#[derive(Debug, Clone)]
pub struct Selection {
    /// All must hold. At least one must not match the empty text; the caller has checked that.
    pub matchers: Vec<Matcher>,
    pub start_ms: i64,
    pub end_ms: i64,
    pub needs: LabelNeeds,
}

/// Why a source could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The storage failed. The message names what and where, for the log.
    #[error("storage: {0}")]
    Storage(Arc<str>),
    /// No room, or a log that could not be written: refused, nothing stored.
    #[error("not writable: {0}")]
    NotWritable(Arc<str>),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// What the system behind a remote data source answered where it did not do what was asked. The
/// texts are for clients: they hold neither addresses nor secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// It cannot be reached, cannot work now, or does not let this server in. The same call may go
    /// through later.
    #[error("the remote store cannot do this now: {why}")]
    Away { why: Arc<str>, retry_after_s: Option<u64> },
    /// It asks for slower calls.
    #[error("the remote store asks to wait: {why}")]
    Busy { why: Arc<str>, retry_after_s: Option<u64> },
    /// It will not do it, now or later. `status` is what HTTP numbers that with.
    #[error("{text}")]
    Refused { status: u16, text: Arc<str> },
}

impl RemoteError {
    /// Whether the same call may go through later.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

impl SourceError {
    pub fn storage(cause: impl fmt::Display) -> Self {
        Self::Storage(Arc::from(cause.to_string()))
    }
}

/// The samples of one selected series. Reading decodes; it may be called from any thread.
pub trait SeriesSamples: Send + Sync {
    /// Replaces `out` by the samples with `start_ms <= t <= end_ms`, ascending, stale markers
    /// included. Times outside the selection give nothing or something, but never wrong data.
    fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) -> Result<(), SourceError>;

    /// The newest sample with `after_ms < t <= at_ms`, a stale marker included.
    fn latest(&self, after_ms: i64, at_ms: i64) -> Result<Option<(i64, SampleValue)>, SourceError> {
        let mut columns = SampleColumns::default();
        self.read(after_ms.saturating_add(1), at_ms, &mut columns)?;
        let float =
            columns.times_ms.last().zip(columns.values.last()).map(|(t, v)| (*t, SampleValue::Float(*v)));
        let histogram = columns.histograms.last().map(|(t, h)| (*t, SampleValue::Histogram(h.clone())));
        Ok(match (float, histogram) {
            (Some(f), Some(h)) => Some(if f.0 > h.0 { f } else { h }),
            (f, h) => f.or(h),
        })
    }
}

pub struct SelectedSeries {
    pub labels: Labels,
    pub samples: Box<dyn SeriesSamples>,
}

impl fmt::Debug for SelectedSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectedSeries").field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// Names, values and series asked for by matcher sets (a union; none means everything) in a
/// range of time. Answers may include what lies just outside the range, never less.
#[derive(Debug, Clone)]
pub struct LabelQuery {
    pub matcher_sets: Vec<Vec<Matcher>>,
    pub start_ms: i64,
    pub end_ms: i64,
    /// At most this many entries, in order; 0 for all.
    pub limit: usize,
}

/// One exemplar of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    pub labels: Labels,
    pub value: f64,
    pub t_ms: i64,
}

/// A source of series: the store, a remote system, a list in memory. Calls block (they
/// may read the disk) and belong on rayon or a blocking thread.
pub trait SeriesSource: Send + Sync {
    /// In any order, each series once. Series without a sample in the range may be among them.
    fn select(&self, selection: &Selection, budget: &Budget) -> Result<Vec<SelectedSeries>, SourceError>;
    /// Sorted; when cut to the limit, the answer has exactly `limit` entries.
    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, SourceError>;
    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError>;
    /// Sorted by labels.
    fn series(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError>;
    /// By series, each list ascending in time.
    fn exemplars(
        &self,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError>;
    /// By family name; of one family or of all.
    fn metadata(&self, family: Option<&str>, budget: &Budget) -> Result<Vec<MetadataEntry>, SourceError>;

    /// Who evaluates whole expressions over these series where they are kept, if somebody does;
    /// what is selected from far away need not be brought here then.
    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        None
    }
}

/// A store that evaluates expressions itself, in the language of what it holds. Calls block.
pub trait Evaluator: Send + Sync {
    /// What an expression gives at a time: a vector, a scalar or a string. `None` where it gives what
    /// cannot be told from there; who asks evaluates over the series then.
    fn instant(
        &self,
        expression: &str,
        t_ms: i64,
        budget: &Budget,
    ) -> Result<Option<QueryValue>, SourceError>;
}

/// A sink of samples. `append` does not wait for the disk: the answer's `durable` does.
pub trait SampleSink: Send + Sync {
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError>;
}

/// The time of day, so that hours of alerting pass in a millisecond of test.
pub trait Clock: Send + Sync + fmt::Debug {
    fn now_ms(&self) -> i64;

    /// As fine as the clock is: what was stamped before now lies before it.
    fn now_ns(&self) -> i64 {
        self.now_ms().saturating_mul(1_000_000)
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn now_ns(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        }
    }
}
