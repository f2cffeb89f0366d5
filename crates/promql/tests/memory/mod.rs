//! A list of series in memory: the second implementer of the source port.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pilothouse_model::ports::{Exemplar, LabelQuery};
use pilothouse_model::write::MetadataEntry;
use pilothouse_model::{
    Budget, LabelNeeds, Labels, SampleColumns, SampleValue, SelectedSeries, Selection, SeriesSamples,
    SeriesSource, SourceError,
};

type Samples = Arc<BTreeMap<i64, SampleValue>>;

#[derive(Default)]
pub(crate) struct Memory {
    series: BTreeMap<Labels, Samples>,
    /// The client goes away with the last of so many reads; never, where there are none.
    pub(crate) reads_left: Arc<AtomicU64>,
}

impl Memory {
    pub(crate) fn add(&mut self, labels: Labels, t_ms: i64, value: SampleValue) {
        Arc::make_mut(self.series.entry(labels).or_default()).insert(t_ms, value);
    }
}

struct Series {
    samples: Samples,
    reads_left: Arc<AtomicU64>,
    budget: Budget,
}

impl SeriesSamples for Series {
    fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) -> Result<(), SourceError> {
        if self.reads_left.fetch_sub(1, Relaxed) == 1 {
            self.budget.cancel();
        }
        out.clear();
        for (t_ms, value) in self.samples.iter().filter(|(t, _)| (start_ms..=end_ms).contains(*t)) {
            match value {
                SampleValue::Float(value) => out.push_float(*t_ms, *value),
                SampleValue::Histogram(h) => out.histograms.push((*t_ms, h.clone())),
            }
        }
        Ok(())
    }
}

impl SeriesSource for Memory {
    fn select(&self, selection: &Selection, budget: &Budget) -> Result<Vec<SelectedSeries>, SourceError> {
        let matches = |labels: &Labels| selection.matchers.iter().all(|m| m.matches(labels.value(&m.name)));
        let selected = self.series.iter().filter(|(labels, _)| matches(labels)).map(|(labels, samples)| {
            let labels = match &selection.needs {
                LabelNeeds::All => labels.clone(),
                LabelNeeds::Only(names) => labels.filter(|name| names.iter().any(|n| n == name)),
            };
            let (samples, reads_left, budget) = (samples.clone(), self.reads_left.clone(), budget.clone());
            SelectedSeries { labels, samples: Box::new(Series { samples, reads_left, budget }) }
        });
        let selected: Vec<SelectedSeries> = selected.collect();
        budget.add_series(selected.len() as u64)?;
        Ok(selected)
    }

    fn label_names(&self, _: &LabelQuery, _: &Budget) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &LabelQuery, _: &Budget) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    fn series(&self, _: &LabelQuery, _: &Budget) -> Result<Vec<Labels>, SourceError> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _: &LabelQuery, _: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: Option<&str>, _: &Budget) -> Result<Vec<MetadataEntry>, SourceError> {
        Ok(Vec::new())
    }
}
