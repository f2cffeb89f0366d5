//! What can go wrong with a query, in the words Loki's clients know.

use pilothouse_model::{BudgetError, Labels, SourceError};

/// Why a query was refused or could not be finished. The texts are Loki's; which status they
/// get is decided at the edge, by kind.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogqlError {
    /// The text is no LogQL. Line and column count from 1; both are 0 where no place is meant.
    #[error("{}", parse_text(message, *line, *column))]
    Parse { message: String, line: u32, column: u32 },
    /// A stage failed on an entry, and no filter asked for that.
    #[error(
        "pipeline error: '{kind}' for series: '{labels}'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"{kind}\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )]
    Pipeline { kind: String, labels: Labels },
    #[error(
        "maximum number of series ({limit}) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
    )]
    SeriesLimit { limit: usize },
    #[error("only label matchers are supported")]
    OnlyMatchers,
    #[error("only log selector is supported")]
    OnlyLogSelector,
    #[error(
        "log queries are not supported as an instant query type, please change your query to a range query type"
    )]
    InstantLogs,
    /// Series could not be paired.
    #[error("{0}")]
    Matching(String),
    #[error("approx_topk is not enabled. See -limits.shard_aggregations")]
    ApproxTopkOff,
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl LogqlError {
    pub(crate) fn semantic(message: impl Into<String>) -> Self {
        Self::Parse { message: message.into(), line: 0, column: 0 }
    }

    pub fn budget(&self) -> Option<&BudgetError> {
        match self {
            Self::Source(SourceError::Budget(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<BudgetError> for LogqlError {
    fn from(error: BudgetError) -> Self {
        Self::Source(SourceError::Budget(error))
    }
}

fn parse_text(message: &str, line: u32, column: u32) -> String {
    match (line, column) {
        (0, 0) => format!("parse error : {message}"),
        _ => format!("parse error at line {line}, col {column}: {message}"),
    }
}
