//! What a query answers, before anybody gives it a wire shape.

use pilothouse_model::{Labels, MatrixSeries, VectorSample};

/// Label pairs sorted by name. Unlike [`Labels`] they may hold empty values: `json x="missing"`
/// shows `x` with an empty value.
pub type LabelPairs = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    pub t_ns: i64,
    pub line: String,
    /// Only where labels are categorised; else they are part of the stream's labels.
    pub metadata: LabelPairs,
    pub parsed: LabelPairs,
}

/// Entries that share their labels, in the direction of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultStream {
    pub labels: LabelPairs,
    pub entries: Vec<StreamEntry>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LogqlValue {
    /// Sorted by labels.
    Streams(Vec<ResultStream>),
    /// In the order a `sort` asks for, else by labels.
    Vector(Vec<VectorSample>),
    /// Sorted by labels.
    Matrix(Vec<MatrixSeries>),
    Scalar {
        t_ms: i64,
        value: f64,
    },
}

/// What a query read and made, for the statistics of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryStats {
    pub streams: u64,
    /// Entries that were looked at, and the bytes of their lines.
    pub lines: u64,
    pub bytes: u64,
    /// Lines that the filters on stored lines let pass.
    pub lines_after_filter: u64,
    pub blocks: u64,
    pub blocks_pruned: u64,
    pub decompressed_bytes: u64,
    pub entries_returned: u64,
    pub exec_ns: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    pub value: LogqlValue,
    pub stats: QueryStats,
}

/// Pairs of a label set as they are shown.
pub fn pairs_of(labels: &Labels) -> LabelPairs {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}
