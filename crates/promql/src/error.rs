//! What can go wrong with a query: it does not parse, or it does not evaluate.

use std::fmt;

use pilothouse_model::{BudgetError, SourceError};

use crate::ast::Span;

/// A query that could not be read or does not make sense; shown as Prometheus shows it,
/// `line:col: parse error: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    pub message: String,
    /// From 1.
    pub line: usize,
    /// From 1, in bytes.
    pub column: usize,
}

impl ParseError {
    pub fn new(query: &str, span: Span, message: impl Into<String>) -> Self {
        let (line, column) = line_and_column(query, span.start as usize);
        Self { message: message.into(), line, column }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Line and column of a byte position, both from 1, the column in bytes.
pub(crate) fn line_and_column(query: &str, position: usize) -> (usize, usize) {
    let before = &query.as_bytes()[..position.min(query.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    (1 + before.iter().filter(|b| **b == b'\n').count(), before.len() - line_start + 1)
}

/// Why a query that parsed has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EvalError {
    /// The query and the data do not fit; the text is for the caller.
    #[error("{0}")]
    Execution(String),
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Source(SourceError),
}

impl From<SourceError> for EvalError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Budget(budget) => Self::Budget(budget),
            other => Self::Source(other),
        }
    }
}

pub(crate) fn execution<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::Execution(message.into()))
}
