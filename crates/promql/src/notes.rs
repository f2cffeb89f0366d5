//! Remarks made while a query is evaluated: typed where they arise, text at the end.

use std::fmt;

use hashbrown::HashMap;
use pilothouse_model::Annotations;
use pilothouse_model::labels::quote;
use pilothouse_model::sample::format_float_general;
use pilothouse_query::histogram::MonotonicityRepair;

use crate::ast::{BinaryOp, Span};
use crate::dates;
use crate::error::line_and_column;

/// During which operation histograms met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// What kind of sample stood on one side of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SampleKind {
    Float,
    Histogram,
}

impl SampleKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Histogram => "histogram",
        }
    }
}

/// A remark; those that carry text carry a metric name, empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Note {
    InvalidQuantile { bits: u64 },
    InvalidRatio { bits: u64, capped_bits: u64 },
    BadBucketLabel { name: String, label: String },
    MixedFloatsHistograms(String),
    MixedFloatsHistogramsInAggregation,
    MixedClassicNative(String),
    NotCounter(String),
    NotGauge(String),
    MixedSchemas(String),
    IncompatibleLayout(&'static str),
    SortInRangeQuery,
    ResetCollision(Operation),
    PossiblyNoCounter(String),
    IncompatibleTypes { left: SampleKind, op: BinaryOpText, right: SampleKind },
    IgnoredInAggregation(&'static str),
    IgnoredInMixedRange(String),
    QuantileNanResult(String),
    QuantileNanSkew(String),
    FractionNans(String),
    BoundsReconciled(Operation),
}

/// An operator by its text, since that is what the remark shows.
pub(crate) type BinaryOpText = &'static str;

impl Note {
    pub(crate) fn incompatible(left: SampleKind, op: BinaryOp, right: SampleKind) -> Self {
        Self::IncompatibleTypes { left, op: op.as_str(), right }
    }

    fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::InvalidQuantile { .. }
                | Self::InvalidRatio { .. }
                | Self::BadBucketLabel { .. }
                | Self::MixedFloatsHistograms(_)
                | Self::MixedFloatsHistogramsInAggregation
                | Self::MixedClassicNative(_)
                | Self::NotCounter(_)
                | Self::NotGauge(_)
                | Self::MixedSchemas(_)
                | Self::IncompatibleLayout(_)
                | Self::SortInRangeQuery
                | Self::ResetCollision(_)
        )
    }
}

/// ` for metric name "x"`, or nothing.
struct OfMetric<'a>(&'a str);

impl fmt::Display for OfMetric<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " for metric name {}", quote(self.0)) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |bits: &u64| format_float_general(f64::from_bits(*bits));
        match self {
            Self::InvalidQuantile { bits } => {
                write!(f, "quantile value should be between 0 and 1, got {}", number(bits))
            }
            Self::InvalidRatio { bits, capped_bits } => write!(
                f,
                "ratio value should be between -1 and 1, got {}, capping to {}",
                number(bits),
                number(capped_bits)
            ),
            Self::BadBucketLabel { name, label } => write!(
                f,
                "bucket label \"le\" is missing or has a malformed value of {}{}",
                quote(label),
                OfMetric(name)
            ),
            Self::MixedFloatsHistograms(name) => {
                write!(f, "encountered a mix of histograms and floats for metric name {}", quote(name))
            }
            Self::MixedFloatsHistogramsInAggregation => {
                f.write_str("encountered a mix of histograms and floats for aggregation")
            }
            Self::MixedClassicNative(name) => {
                write!(f, "vector contains a mix of classic and native histograms{}", OfMetric(name))
            }
            Self::NotCounter(name) => {
                write!(f, "this native histogram metric is not a counter: {}", quote(name))
            }
            Self::NotGauge(name) => {
                write!(f, "this native histogram metric is not a gauge: {}", quote(name))
            }
            Self::MixedSchemas(name) => write!(
                f,
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                quote(name)
            ),
            Self::IncompatibleLayout(op) => {
                write!(f, "incompatible bucket layout encountered for binary operator {op}")
            }
            Self::SortInRangeQuery => f.write_str(
                "sort is ineffective for range queries since results are always ordered by labels",
            ),
            Self::ResetCollision(operation) => {
                write!(f, "conflicting counter resets during histogram {}", operation.as_str())
            }
            Self::PossiblyNoCounter(name) => write!(
                f,
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quote(name)
            ),
            Self::IncompatibleTypes { left, op, right } => write!(
                f,
                "incompatible sample types encountered for binary operator {}: {} {op} {}",
                quote(op),
                left.as_str(),
                right.as_str()
            ),
            Self::IgnoredInAggregation(name) => write!(f, "ignored histogram in {name} aggregation"),
            Self::IgnoredInMixedRange(name) => write!(
                f,
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                quote(name)
            ),
            Self::QuantileNanResult(name) => {
                write!(f, "input to histogram_quantile has NaN observations, result is NaN{}", OfMetric(name))
            }
            Self::QuantileNanSkew(name) => write!(
                f,
                "input to histogram_quantile has NaN observations, result is skewed higher{}",
                OfMetric(name)
            ),
            Self::FractionNans(name) => write!(
                f,
                "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
                OfMetric(name)
            ),
            Self::BoundsReconciled(operation) => {
                write!(f, "mismatched custom buckets were reconciled during {}", operation.as_str())
            }
        }
    }
}

/// Repairs of classic buckets, added up per metric.
#[derive(Debug, Clone, Copy)]
struct Repairs {
    span: Span,
    first_ms: i64,
    last_ms: i64,
    worst: MonotonicityRepair,
    samples: u64,
}

impl Repairs {
    fn merge(&mut self, other: &Self) {
        self.span = other.span;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.worst.min_bound = self.worst.min_bound.min(other.worst.min_bound);
        self.worst.max_bound = self.worst.max_bound.max(other.worst.max_bound);
        self.worst.max_difference = self.worst.max_difference.max(other.worst.max_difference);
        self.samples += other.samples;
    }
}

/// All remarks so far, each once; of equal ones the position of the last stays.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    notes: HashMap<Note, Span>,
    repairs: HashMap<String, Repairs>,
}

impl Notes {
    pub(crate) fn add(&mut self, note: Note, span: Span) {
        self.notes.insert(note, span);
    }

    /// Buckets of a classic histogram had to be made to ascend.
    pub(crate) fn add_repair(&mut self, name: &str, span: Span, t_ms: i64, worst: MonotonicityRepair) {
        let repairs = Repairs { span, first_ms: t_ms, last_ms: t_ms, worst, samples: 1 };
        self.merge_repairs(name.to_owned(), repairs);
    }

    fn merge_repairs(&mut self, name: String, repairs: Repairs) {
        self.repairs.entry(name).and_modify(|known| known.merge(&repairs)).or_insert(repairs);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        if self.notes.is_empty() {
            self.notes = other.notes;
        } else {
            self.notes.extend(other.notes);
        }
        for (name, repairs) in other.repairs {
            self.merge_repairs(name, repairs);
        }
    }

    /// The texts, with their prefix and position.
    pub(crate) fn into_annotations(self, query: &str) -> Annotations {
        let mut annotations = Annotations::default();
        let place = |span: Span| {
            let (line, column) = line_and_column(query, span.start as usize);
            format!("({line}:{column})")
        };
        for (note, span) in self.notes {
            if note.is_warning() {
                annotations.warnings.insert(format!("PromQL warning: {note} {}", place(span)));
            } else {
                annotations.infos.insert(format!("PromQL info: {note} {}", place(span)));
            }
        }
        for (name, repairs) in self.repairs {
            annotations.infos.insert(repair_text(&name, &repairs, &place(repairs.span)));
        }
        annotations
    }
}

fn repair_text(name: &str, repairs: &Repairs, place: &str) -> String {
    const WHAT: &str = "PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
        (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
    let worst = repairs.worst;
    format!(
        "{WHAT}{}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {} {place}",
        OfMetric(name),
        format_float_general(worst.min_bound),
        format_float_general(worst.max_bound),
        two_digits(worst.max_difference),
        repairs.samples,
        dates::rfc3339(repairs.first_ms.div_euclid(1000)),
        dates::rfc3339(repairs.last_ms.div_euclid(1000)),
    )
}

/// A float with two significant digits, as Go's `%.2g`.
fn two_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format_float_general(value);
    }
    let text = format!("{value:.1e}");
    let rounded: f64 = text.parse().unwrap_or(value);
    let exponent: i32 = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if (-4..2).contains(&exponent) {
        return pilothouse_model::sample::format_float_plain(rounded);
    }
    let mantissa = text.split_once('e').map_or("", |(m, _)| m.trim_end_matches(".0"));
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_significant_digits_as_in_go() {
        for (value, text) in
            [(0.0, "0"), (1.0, "1"), (12.3, "12"), (123.0, "1.2e+02"), (0.00456, "0.0046"), (1e-7, "1e-07")]
        {
            assert_eq!(two_digits(value), text);
        }
    }

    #[test]
    fn equal_remarks_are_said_once_with_their_last_place() {
        let mut notes = Notes::default();
        notes.add(Note::SortInRangeQuery, Span::new(0, 1));
        notes.add(Note::SortInRangeQuery, Span::new(4, 5));
        let annotations = notes.into_annotations("a +\nsort(b)");
        let text = "PromQL warning: sort is ineffective for range queries since results are always \
                    ordered by labels (2:1)";
        assert_eq!(annotations.warnings.into_iter().collect::<Vec<_>>(), [text]);
    }
}
