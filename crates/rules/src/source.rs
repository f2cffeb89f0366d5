//! Where a rule reads and writes.

use std::fmt;
use std::sync::Arc;

use pilothouse_model::{EntrySource, Evaluator, SampleSink, SeriesSource};

use crate::expression::Language;

/// What the expressions of a data source's rules are asked of.
#[derive(Clone)]
pub enum Data {
    Metrics(Arc<dyn SeriesSource>),
    Logs(Arc<dyn EntrySource>),
}

impl Data {
    /// Who answers expressions in place of this server.
    pub(crate) fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        match self {
            Self::Metrics(source) => source.evaluator(),
            Self::Logs(source) => source.evaluator(),
        }
    }

    pub fn language(&self) -> Language {
        match self {
            Self::Metrics(_) => Language::Promql,
            Self::Logs(_) => Language::Logql,
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({:?})", self.language())
    }
}

/// One data source with its rules' way in and out.
#[derive(Clone)]
pub struct RuleSource {
    pub data: Data,
    /// Takes what rules record, and the series of alerts. For a source of logs this is some
    /// source of metrics.
    pub sink: Arc<dyn SampleSink>,
    /// Where that can be read again, so that alerts find back to their state after a restart.
    pub written: Arc<dyn SeriesSource>,
}

impl fmt::Debug for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleSource").field("data", &self.data).finish_non_exhaustive()
    }
}
