//! What a query answers, before anybody gives it a wire shape.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{Histogram, Labels};

#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub t_ms: i64,
    pub value: SampleValue,
}

/// One series of a matrix, each list in ascending time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MatrixSeries {
    pub labels: Labels,
    pub floats: Vec<(i64, f64)>,
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    Scalar {
        t_ms: i64,
        value: f64,
    },
    String {
        t_ms: i64,
        text: String,
    },
    /// In the order the query asks for (`sort`, `topk` …), else in any.
    Vector(Vec<VectorSample>),
    /// Sorted by labels for a range query.
    Matrix(Vec<MatrixSeries>),
}

impl QueryValue {
    /// What it takes in memory, about: labels are guessed, and mostly shared.
    pub fn about_bytes(&self) -> u64 {
        const ELEMENT: usize = 128;
        const HISTOGRAM: usize = 512;
        let of_vector = |sample: &VectorSample| match sample.value {
            SampleValue::Float(_) => ELEMENT,
            SampleValue::Histogram(_) => ELEMENT + HISTOGRAM,
        };
        let of_series = |series: &MatrixSeries| {
            ELEMENT + series.floats.capacity() * size_of::<(i64, f64)>() + series.histograms.len() * HISTOGRAM
        };
        let bytes = match self {
            Self::Scalar { .. } => 0,
            Self::String { text, .. } => text.len(),
            Self::Vector(samples) => samples.iter().map(of_vector).sum(),
            Self::Matrix(all) => all.iter().map(of_series).sum(),
        };
        bytes as u64
    }
}

/// Remarks on an answer, each once, with their prefix (`PromQL warning: …`) and position.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    pub warnings: BTreeSet<String>,
    pub infos: BTreeSet<String>,
}

impl Annotations {
    pub fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.infos.is_empty()
    }

    pub fn merge(&mut self, other: Annotations) {
        self.warnings.extend(other.warnings);
        self.infos.extend(other.infos);
    }
}
