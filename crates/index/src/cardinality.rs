//! What fills the index: for `/api/v1/status/tsdb` and the cardinality API.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pilothouse_model::labels::METRIC_NAME;
use roaring::RoaringBitmap;

use crate::Index;
use crate::pairs::Name;
use crate::postings::Listed;

/// A name and how much of something it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub name: String,
    pub count: u64,
}

/// Figures as in Prometheus' TSDB status; each list holds the largest, largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    pub series: u64,
    pub label_pairs: u64,
    pub label_names: u64,
    pub series_by_metric: Vec<Count>,
    pub values_by_label: Vec<Count>,
    /// Bytes of name and value with their lengths, counted once for each series that has them.
    pub bytes_by_label: Vec<Count>,
    /// `name=value`.
    pub series_by_pair: Vec<Count>,
}

/// Values of one label with the number of series that have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelCardinality {
    /// Among the selection: distinct values, and series that have the label.
    pub values: u64,
    pub series: u64,
    /// Most series first.
    pub top: Vec<Count>,
}

impl Index {
    /// Counts everything; `limit` bounds each list. Walks all pairs.
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let mut names = Top::new(limit);
        let mut bytes = Top::new(limit);
        let mut pairs = Top::new(limit);
        let mut metrics = Top::new(limit);
        for name in self.pairs.names() {
            names.add(name.values.len() as u64, || name.text.to_string());
            bytes.add(self.label_bytes(name), || name.text.to_string());
            let is_metric_name = &*name.text == METRIC_NAME;
            for pair in name.values.iter() {
                let (value, series) = (self.pairs.value(pair), self.series_of(pair));
                pairs.add(series, || format!("{}={value}", name.text));
                if is_metric_name {
                    metrics.add(series, || value.to_owned());
                }
            }
        }
        Cardinality {
            series: self.len() as u64,
            label_pairs: self.pairs.len() as u64,
            label_names: self.pairs.names().count() as u64,
            series_by_metric: metrics.finish(),
            values_by_label: names.finish(),
            bytes_by_label: bytes.finish(),
            series_by_pair: pairs.finish(),
        }
    }

    /// Counts the values of one label among a selection; `None` for all series.
    pub fn label_cardinality(
        &self,
        name: &str,
        selection: Option<&RoaringBitmap>,
        limit: usize,
    ) -> LabelCardinality {
        let mut found = LabelCardinality::default();
        let Some(name) = self.pairs.find_name(name) else { return found };
        let mut top = Top::new(limit);
        for pair in name.values.iter() {
            let series = match selection {
                None => self.series_of(pair),
                Some(selection) => self.series_within(pair, selection),
            };
            if series > 0 {
                found.values += 1;
                found.series += series;
                top.add(series, || self.pairs.value(pair).to_owned());
            }
        }
        found.top = top.finish();
        found
    }

    fn series_of(&self, pair: u32) -> u64 {
        self.pairs.postings(pair).map_or(0, |p| p.len())
    }

    fn series_within(&self, pair: u32, selection: &RoaringBitmap) -> u64 {
        match self.pairs.postings(pair).map(|p| p.listed()) {
            Some(Listed::Few(ids)) => ids.iter().filter(|id| selection.contains(**id)).count() as u64,
            Some(Listed::Bitmap(bitmap)) => bitmap.intersection_len(selection),
            _ => 0,
        }
    }

    fn label_bytes(&self, name: &Name) -> u64 {
        // A text as Prometheus holds it takes one byte for its length, or four for a long one.
        let held = |text: &str| text.len() as u64 + if text.len() < 255 { 1 } else { 4 };
        let bytes = |pair| (held(&name.text) + held(self.pairs.value(pair))) * self.series_of(pair);
        name.values.iter().map(bytes).sum()
    }
}

/// The largest of many; of equal ones the one whose name sorts first.
#[derive(Debug)]
struct Top {
    limit: usize,
    heap: BinaryHeap<Reverse<(u64, Reverse<String>)>>,
}

impl Top {
    fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    fn add(&mut self, count: u64, name: impl FnOnce() -> String) {
        let least = self.heap.peek().map_or(0, |Reverse((count, _))| *count);
        if self.heap.len() >= self.limit && count < least {
            return;
        }
        self.heap.push(Reverse((count, Reverse(name()))));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn finish(self) -> Vec<Count> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|Reverse((count, Reverse(name)))| Count { name, count }).collect()
    }
}
