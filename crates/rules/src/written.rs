//! What rules write: samples into a sink, and markers where series end.

use std::collections::HashSet;

use pilothouse_model::limits;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::write::{Appended, Durable, Reason, Rejection, WriteBatch};
use pilothouse_model::{Labels, SampleSink, SampleValue, SourceError};

/// One sample that a rule gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub labels: Labels,
    pub value: SampleValue,
}

/// Why what a rule gave was not taken as a whole.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The text of the first refusal.
    #[error("{0}")]
    Refused(String),
}

/// The series that a rule gave last time, so that those which are gone can be ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given(Vec<Labels>);

impl Given {
    pub(crate) fn series(&self) -> &[Labels] {
        &self.0
    }

    /// About; `is_shared` where the labels are counted elsewhere.
    pub(crate) fn held_bytes(&self, is_shared: bool) -> usize {
        let labels = || self.0.iter().map(|labels| labels.as_encoded().len()).sum();
        self.0.capacity() * size_of::<Labels>() + if is_shared { 0 } else { labels() }
    }

    pub(crate) fn into_series(self) -> Vec<Labels> {
        self.0
    }

    /// Takes the series of this time and gives those that were there last time and are not now.
    fn replace(&mut self, now: Vec<Labels>) -> Vec<Labels> {
        // Mostly they are the same, in the same order.
        if self.0 == now {
            return Vec::new();
        }
        let kept: HashSet<&Labels, foldhash::fast::RandomState> = now.iter().collect();
        let gone = self.0.iter().filter(|labels| !kept.contains(labels)).cloned().collect();
        drop(kept);
        self.0 = now;
        gone
    }
}

/// What became of a write.
pub(crate) struct Written {
    /// Ends when all of it is durable.
    pub(crate) durable: Option<Durable>,
    pub(crate) refused: Option<WriteError>,
}

/// Writes what a rule gave at a time, and ends the series that it gave before and not now.
pub(crate) fn write(
    sink: &dyn SampleSink,
    outputs: &[Output],
    t_ms: i64,
    given: &mut Given,
) -> Result<Written, WriteError> {
    let mut written = Written { durable: None, refused: None };
    if !outputs.is_empty() {
        let mut batch = WriteBatch::of_labels();
        for output in outputs {
            match &output.value {
                SampleValue::Float(value) => batch.push_float(&output.labels, t_ms, *value),
                SampleValue::Histogram(h) => batch.push_histogram(&output.labels, t_ms, h.as_ref().clone()),
            }
        }
        let appended = sink.append(&batch)?;
        written.refused = refusal(&appended);
        written.durable = Some(appended.durable);
    }
    let gone = given.replace(outputs.iter().map(|output| output.labels.clone()).collect());
    if let Some(durable) = end_series(sink, &gone, t_ms)? {
        written.durable = Some(durable);
    }
    Ok(written)
}

/// Marks series as ended at a time. What the sink refuses is no fault: another rule may give the
/// same series.
pub(crate) fn end_series(
    sink: &dyn SampleSink,
    gone: &[Labels],
    t_ms: i64,
) -> Result<Option<Durable>, SourceError> {
    if gone.is_empty() {
        return Ok(None);
    }
    let mut batch = WriteBatch::of_labels();
    for labels in gone {
        batch.push_float(labels, t_ms, stale_nan());
    }
    Ok(Some(sink.append(&batch)?.durable))
}

fn refusal(appended: &Appended) -> Option<WriteError> {
    let first = appended.rejections.first()?;
    Some(WriteError::Refused(reason_text(first)))
}

/// A rule may make labels without end, and what is refused of it is told at every evaluation.
fn shortened(text: &str) -> &str {
    let end = (0..=limits::QUOTED_LABELS_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or("")
}

/// Prometheus' words where it has some.
fn reason_text(rejection: &Rejection) -> String {
    let series = shortened(&rejection.series);
    match &rejection.reason {
        Reason::OutOfOrder { .. } => "out of order sample".to_owned(),
        Reason::TooOld { .. } => "too old sample".to_owned(),
        Reason::DuplicateTimestamp { .. } => "duplicate sample for timestamp".to_owned(),
        Reason::TooFarInFuture { .. } => "out of bounds".to_owned(),
        Reason::MaxSeries { limit } => {
            format!("the limit of {limit} active series is reached, {series} was not written")
        }
        Reason::TooManyLabels { actual, limit } => {
            format!("{series} has {actual} labels, more than the limit of {limit}")
        }
        Reason::LabelNameTooLong { name, limit } => {
            let name = shortened(name);
            format!("the label name {name:?} of {series} is longer than {limit} bytes")
        }
        Reason::LabelValueTooLong { name, limit, .. } => {
            format!("the value of label {name:?} of {series} is longer than {limit} bytes")
        }
        other => format!("{series} was refused: {other:?}"),
    }
}
