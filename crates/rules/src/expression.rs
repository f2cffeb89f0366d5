//! The expression of a rule, in either language.

use std::fmt;

use pilothouse_logql::{LogqlError, LogqlValue};
use pilothouse_model::{Annotations, Budget, Labels, QueryValue, SampleValue, SourceError};
use pilothouse_promql::printer::OneLine;
use pilothouse_promql::{Engine, EvalError, Options, ParseContext};

use crate::source::Data;

/// Which ruler a rule belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    Promql,
    Logql,
}

/// An expression that was read once and is evaluated many times.
#[derive(Debug, Clone)]
pub enum Expression {
    Promql(Box<pilothouse_promql::Expr>),
    Logql(Box<pilothouse_logql::Expr>),
}

/// One element of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    pub labels: Labels,
    pub value: SampleValue,
}

impl Element {
    /// The value as a number; that of a histogram is 0, as Prometheus has it.
    pub fn float(&self) -> f64 {
        match &self.value {
            SampleValue::Float(value) => *value,
            SampleValue::Histogram(_) => 0.0,
        }
    }
}

/// Why an expression gave nothing; the text is what the list of rules shows.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExpressionError {
    #[error(transparent)]
    Promql(#[from] EvalError),
    #[error("rule evaluation failed: {0}")]
    Logql(#[from] LogqlError),
    #[error("rule result is not a vector or scalar")]
    NotAVector,
    /// Of a system that evaluates expressions itself.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The rule's data source is of the other kind.
    #[error("the data source cannot answer this language")]
    WrongSource,
    /// The evaluation panicked; what it left is consistent.
    #[error("the evaluation failed unexpectedly")]
    Panicked,
}

/// Prints as the list of rules shows it: on one line, in the language's own form.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promql(expr) => OneLine(expr.root()).fmt(f),
            Self::Logql(expr) => expr.fmt(f),
        }
    }
}

impl Expression {
    /// The error is the language's own text.
    pub fn parse(language: Language, text: &str) -> Result<Self, String> {
        match language {
            Language::Promql => pilothouse_promql::parse(text, &ParseContext::default())
                .map(|expr| Self::Promql(Box::new(expr)))
                .map_err(|e| e.to_string()),
            Language::Logql => pilothouse_logql::parse(text)
                .map(|expr| Self::Logql(Box::new(expr)))
                .map_err(|e| e.to_string()),
        }
    }

    pub fn language(&self) -> Language {
        match self {
            Self::Promql(_) => Language::Promql,
            Self::Logql(_) => Language::Logql,
        }
    }

    /// As another system is asked.
    fn asked(&self) -> String {
        match self {
            Self::Promql(expr) => expr.text().to_owned(),
            Self::Logql(expr) => expr.to_string(),
        }
    }

    /// The vector at a time; a scalar is an element without labels. Blocks.
    pub fn evaluate(
        &self,
        data: &Data,
        t_ms: i64,
        options: &EvaluationOptions,
        budget: &Budget,
    ) -> Result<Vec<Element>, ExpressionError> {
        if let Some(evaluator) = data.evaluator()
            && self.language() == data.language()
            && let Some(value) = evaluator.instant(&self.asked(), t_ms, budget)?
        {
            return elements_of(value);
        }
        match (self, data) {
            (Self::Promql(expr), Data::Metrics(source)) => {
                let outcome = Engine::instant(source.as_ref(), expr, t_ms, &options.promql, budget)?;
                log_annotations(expr.text(), &outcome.annotations);
                elements_of(outcome.value)
            }
            (Self::Logql(expr), Data::Logs(source)) => {
                let t_ns = t_ms.saturating_mul(1_000_000);
                let series = options.max_log_series;
                let result = pilothouse_logql::query_instant(source.as_ref(), expr, t_ns, series, budget)?;
                log_elements_of(result.value)
            }
            _ => Err(ExpressionError::WrongSource),
        }
    }
}

/// What every evaluation of a ruler has in common.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationOptions {
    pub promql: Options,
    /// Series that one expression over logs may give.
    pub max_log_series: usize,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        Self { promql: Options::default(), max_log_series: 100_000 }
    }
}

fn log_annotations(query: &str, annotations: &Annotations) {
    for warning in &annotations.warnings {
        tracing::debug!(query, "rule: {warning}");
    }
}

fn elements_of(value: QueryValue) -> Result<Vec<Element>, ExpressionError> {
    match value {
        QueryValue::Vector(samples) => {
            Ok(samples.into_iter().map(|s| Element { labels: s.labels, value: s.value }).collect())
        }
        QueryValue::Scalar { value, .. } => Ok(scalar(value)),
        QueryValue::String { .. } | QueryValue::Matrix(_) => Err(ExpressionError::NotAVector),
    }
}

fn log_elements_of(value: LogqlValue) -> Result<Vec<Element>, ExpressionError> {
    match value {
        LogqlValue::Vector(samples) => {
            // Only answers to log queries know labels without a value.
            let labels = |s: &Labels| Labels::from_pairs(s.iter());
            Ok(samples.into_iter().map(|s| Element { labels: labels(&s.labels), value: s.value }).collect())
        }
        LogqlValue::Scalar { value, .. } => Ok(scalar(value)),
        LogqlValue::Streams(_) | LogqlValue::Matrix(_) => Err(ExpressionError::NotAVector),
    }
}

fn scalar(value: f64) -> Vec<Element> {
    vec![Element { labels: Labels::empty(), value: SampleValue::Float(value) }]
}
