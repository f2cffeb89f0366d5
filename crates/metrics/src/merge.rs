//! Runs of samples of one series, from several places, made into one ascending list.
//!
//! Places are read from the oldest to the newest: where two hold the same time, the later run
//! wins. Nearly always the runs follow each other and nothing has to be moved.

use std::sync::Arc;

use pilothouse_model::{Histogram, SampleColumns};

/// Watches runs being appended to columns.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    pub(crate) out: &'a mut SampleColumns,
    /// Where each run begins: floats, histograms.
    runs: Vec<(usize, usize)>,
    last_t: i64,
    in_order: bool,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(out: &'a mut SampleColumns) -> Self {
        out.clear();
        Self { out, runs: Vec::new(), last_t: i64::MIN, in_order: true }
    }

    /// Appends one run, itself ascending with each time at most once over floats and histograms.
    pub(crate) fn run<T>(&mut self, push: impl FnOnce(&mut SampleColumns) -> T) -> T {
        let (floats, histograms) = (self.out.times_ms.len(), self.out.histograms.len());
        let result = push(self.out);
        let first = self.out.times_ms.get(floats).copied();
        let first_histogram = self.out.histograms.get(histograms).map(|h| h.0);
        let Some(first) = first.into_iter().chain(first_histogram).min() else { return result };
        self.runs.push((floats, histograms));
        self.in_order &= first > self.last_t;
        if self.out.times_ms.len() > floats {
            self.last_t = self.last_t.max(*self.out.times_ms.last().unwrap_or(&first));
        }
        if self.out.histograms.len() > histograms {
            self.last_t = self.last_t.max(self.out.histograms.last().map_or(first, |h| h.0));
        }
        result
    }

    /// Brings the columns into order.
    pub(crate) fn finish(self) {
        if !self.in_order {
            sort(self.out, &self.runs);
        }
    }
}

enum Item {
    Float(f64),
    Histogram(Arc<Histogram>),
}

#[cold]
fn sort(out: &mut SampleColumns, runs: &[(usize, usize)]) {
    let run_of = |at: usize, part: fn(&(usize, usize)) -> usize| runs.partition_point(|r| part(r) <= at);
    let mut items: Vec<(i64, usize, Item)> = Vec::with_capacity(out.len());
    for (i, (t, value)) in out.times_ms.iter().zip(&out.values).enumerate() {
        items.push((*t, run_of(i, |r| r.0), Item::Float(*value)));
    }
    for (i, (t, histogram)) in out.histograms.drain(..).enumerate() {
        items.push((t, run_of(i, |r| r.1), Item::Histogram(histogram)));
    }
    items.sort_by_key(|(t, run, _)| (*t, std::cmp::Reverse(*run)));
    items.dedup_by_key(|(t, _, _)| *t);
    out.clear();
    for (t, _, item) in items {
        match item {
            Item::Float(value) => out.push_float(t, value),
            Item::Histogram(histogram) => out.histograms.push((t, histogram)),
        }
    }
}

/// Takes the samples between two times, both inclusive, out of ascending columns.
pub(crate) fn remove_range(columns: &mut SampleColumns, start_ms: i64, end_ms: i64) {
    let from = columns.times_ms.partition_point(|t| *t < start_ms);
    let to = columns.times_ms.partition_point(|t| *t <= end_ms);
    if from < to {
        columns.times_ms.drain(from..to);
        columns.values.drain(from..to);
    }
    columns.histograms.retain(|(t, _)| !(start_ms..=end_ms).contains(t));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_runs_win_and_times_are_unique() {
        let mut out = SampleColumns::default();
        let mut merge = Merge::new(&mut out);
        merge.run(|c| {
            c.push_float(10, 1.0);
            c.push_float(30, 3.0);
            c.histograms.push((20, Arc::new(Histogram::default())));
        });
        merge.run(|c| {
            c.push_float(20, 2.0);
            c.push_float(40, 4.0);
        });
        merge.run(|c| c.histograms.push((30, Arc::new(Histogram { count: 9.0, ..Histogram::default() }))));
        merge.run(|_| ());
        merge.finish();
        assert_eq!((out.times_ms, out.values), (vec![10, 20, 40], vec![1.0, 2.0, 4.0]));
        assert_eq!(out.histograms.len(), 1);
        assert_eq!((out.histograms[0].0, out.histograms[0].1.count), (30, 9.0));
    }

    #[test]
    fn runs_in_order_are_left_as_they_are() {
        let mut out = SampleColumns::default();
        let mut merge = Merge::new(&mut out);
        merge.run(|c| c.push_float(1, 1.0));
        merge.run(|c| c.push_float(2, 2.0));
        assert!(merge.in_order);
        merge.finish();
        remove_range(&mut out, 2, 9);
        assert_eq!(out.times_ms, [1]);
    }
}
