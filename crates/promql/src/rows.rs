//! Vectors over a grid of steps: one row a series, one cell a step.

use std::sync::Arc;

use pilothouse_model::sample::{is_stale, stale_nan};
use pilothouse_model::{Histogram, Labels};

/// The labels that name a metric's schema; an operation that changes the meaning of the values
/// takes all of them away, as Prometheus since type and unit labels.
pub(crate) fn is_schema_label(name: &str) -> bool {
    matches!(name, "__name__" | "__type__" | "__unit__")
}

/// The cell of a step without a value. No operator can make it: a stale marker never gets past
/// a selector.
pub(crate) fn absent() -> f64 {
    stale_nan()
}

#[inline]
pub(crate) fn is_absent(cell: f64) -> bool {
    is_stale(cell)
}

/// One sample of a row or of a result on its way.
#[derive(Debug, Clone)]
pub(crate) enum Sample {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Sample {
    pub(crate) fn histogram(h: Histogram) -> Self {
        Self::Histogram(Arc::new(h))
    }
}

/// One series over the grid.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    /// The schema labels are to go at the end.
    pub(crate) drop_name: bool,
    /// As long as the grid.
    pub(crate) floats: Vec<f64>,
    /// Empty, or as long as the grid; where there is a histogram the float is absent.
    pub(crate) histograms: Vec<Option<Arc<Histogram>>>,
}

impl Row {
    pub(crate) fn empty(labels: Labels, steps: usize) -> Self {
        Self { labels, drop_name: false, floats: vec![absent(); steps], histograms: Vec::new() }
    }

    pub(crate) fn of_floats(labels: Labels, floats: Vec<f64>) -> Self {
        Self { labels, drop_name: false, floats, histograms: Vec::new() }
    }

    /// Makes it the empty row of another series, keeping its memory.
    pub(crate) fn reset(&mut self, labels: &Labels, steps: usize) {
        // Threads that count references to one empty set would wait for each other.
        if self.labels != *labels {
            self.labels = labels.clone();
        }
        self.drop_name = false;
        self.floats.clear();
        self.floats.resize(steps, absent());
        self.histograms.clear();
    }

    pub(crate) fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    #[inline]
    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.get(step).and_then(Option::as_ref)
    }

    #[inline]
    pub(crate) fn is_present(&self, step: usize) -> bool {
        !is_absent(self.floats[step]) || self.histogram(step).is_some()
    }

    pub(crate) fn sample(&self, step: usize) -> Option<Sample> {
        match self.histogram(step) {
            Some(h) => Some(Sample::Histogram(h.clone())),
            None => {
                let cell = self.floats[step];
                (!is_absent(cell)).then_some(Sample::Float(cell))
            }
        }
    }

    pub(crate) fn set(&mut self, step: usize, sample: Sample) {
        match sample {
            Sample::Float(value) => {
                self.floats[step] = value;
                if let Some(cell) = self.histograms.get_mut(step) {
                    *cell = None;
                }
            }
            Sample::Histogram(h) => {
                if self.histograms.is_empty() {
                    self.histograms.resize(self.floats.len(), None);
                }
                self.floats[step] = absent();
                self.histograms[step] = Some(h);
            }
        }
    }

    pub(crate) fn clear(&mut self, step: usize) {
        self.floats[step] = absent();
        if let Some(cell) = self.histograms.get_mut(step) {
            *cell = None;
        }
    }

    pub(crate) fn drop_histograms(&mut self) {
        self.histograms.clear();
    }

    /// Whether any step has a value.
    pub(crate) fn any(&self) -> bool {
        self.floats.iter().any(|cell| !is_absent(*cell)) || self.histograms.iter().any(Option::is_some)
    }

    /// Steps with a value.
    pub(crate) fn count(&self) -> usize {
        let floats = self.floats.iter().filter(|cell| !is_absent(**cell)).count();
        floats + self.histograms.iter().flatten().count()
    }

    /// Memory that the cells take, without the histograms themselves.
    pub(crate) fn bytes(&self) -> u64 {
        (self.floats.len() * 8 + self.histograms.len() * 8 + size_of::<Self>()) as u64
    }

    /// The same value at every one of `steps`, from a row of one.
    pub(crate) fn spread(mut self, steps: usize) -> Self {
        let cell = self.floats.first().copied().unwrap_or_else(absent);
        self.floats = vec![cell; steps];
        if let Some(cell) = self.histograms.first().cloned() {
            self.histograms = vec![cell; steps];
        }
        self
    }

    /// The labels as a result shows them.
    pub(crate) fn final_labels(&self) -> Labels {
        if self.drop_name && self.labels.iter().any(|(name, _)| is_schema_label(name)) {
            self.labels.filter(|name| !is_schema_label(name))
        } else {
            self.labels.clone()
        }
    }
}

/// How many float samples a histogram stands for in limits and statistics, as Prometheus counts.
pub(crate) fn histogram_weight(h: &Histogram) -> u64 {
    let parts = h.positive_spans.len()
        + h.negative_spans.len()
        + h.positive_counts.len()
        + h.negative_counts.len()
        + h.custom_bounds.len();
    (168 + 8 * parts as u64 + 8) / 16
}
