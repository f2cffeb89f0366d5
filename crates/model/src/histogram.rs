//! The native histogram sample. Its arithmetic lives in the crate `query`.

use std::sync::Arc;

/// The schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
/// Exponential schemas that are stored: bucket bounds grow by 2^(2^-schema).
pub const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// A run of `length` buckets, `offset` buckets behind the end of the run before it (the first
/// one counts from bucket 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// What a histogram says of a counter reset before it, as Prometheus `CounterResetHint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A native histogram with absolute float bucket counts.
///
/// `integer` remembers that it came with integer counts, so that remote read hands it on in
/// the same form; all arithmetic is on floats, which hold such counts exactly up to 2^53.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// -4..=8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    pub reset_hint: ResetHint,
    pub integer: bool,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    /// The stale marker here makes the whole histogram one.
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub positive_counts: Vec<f64>,
    pub negative_spans: Vec<Span>,
    pub negative_counts: Vec<f64>,
    /// Upper bounds, ascending and finite; only with custom buckets.
    pub custom_bounds: Arc<[f64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            schema: 0,
            reset_hint: ResetHint::Unknown,
            integer: false,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive_spans: Vec::new(),
            positive_counts: Vec::new(),
            negative_spans: Vec::new(),
            negative_counts: Vec::new(),
            custom_bounds: Arc::from([]),
        }
    }
}

impl Histogram {
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    pub fn is_stale(&self) -> bool {
        crate::sample::is_stale(self.sum)
    }
}
