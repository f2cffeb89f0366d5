//! Series in memory: what files of tests write into and read from, and the tests of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use pilothouse_model::ports::{Exemplar, LabelQuery};
use pilothouse_model::write::{Appended, MetadataEntry, Reason, Rejection, WriteBatch};
use pilothouse_model::{
    Budget, Labels, Matcher, ResetHint, SampleColumns, SampleSink, SampleValue, SelectedSeries, Selection,
    SeriesSamples, SeriesSource, SourceError,
};
use pilothouse_query::histogram::has_reset;

type Samples = BTreeMap<i64, SampleValue>;

/// Takes and gives samples; the first value of a time stands, and a different one is refused.
#[derive(Debug, Default)]
pub struct MemorySeries {
    series: RwLock<BTreeMap<Labels, Arc<RwLock<Samples>>>>,
}

impl MemorySeries {
    fn add(&self, labels: &Labels, t_ms: i64, value: SampleValue) -> Option<Reason> {
        let samples = Arc::clone(self.series.write().entry(labels.clone()).or_default());
        let mut samples = samples.write();
        match samples.get(&t_ms) {
            Some(known) if !same_value(known, &value) => Some(Reason::DuplicateTimestamp { t_ms }),
            Some(_) => None,
            None => {
                let before = samples.range(..t_ms).next_back().map(|(_, value)| value);
                let value = hinted(value, before);
                samples.insert(t_ms, value);
                None
            }
        }
    }

    fn matching(&self, matcher_sets: &[Vec<Matcher>]) -> Vec<Labels> {
        let fits = |labels: &&Labels| {
            let all = |set: &Vec<Matcher>| set.iter().all(|m| m.matches(labels.value(&m.name)));
            matcher_sets.is_empty() || matcher_sets.iter().any(all)
        };
        self.series.read().keys().filter(fits).cloned().collect()
    }
}

/// A histogram knows, as stored ones do, whether its counter began anew since the one before.
fn hinted(value: SampleValue, before: Option<&SampleValue>) -> SampleValue {
    match (&value, before) {
        (SampleValue::Histogram(now), Some(SampleValue::Histogram(before)))
            if now.reset_hint == ResetHint::Unknown && before.reset_hint != ResetHint::Gauge =>
        {
            let mut hinted = now.as_ref().clone();
            hinted.reset_hint = if has_reset(now, before) { ResetHint::Reset } else { ResetHint::NotReset };
            SampleValue::Histogram(Arc::new(hinted))
        }
        _ => value,
    }
}

fn same_value(a: &SampleValue, b: &SampleValue) -> bool {
    match (a, b) {
        (SampleValue::Float(a), SampleValue::Float(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

impl SampleSink for MemorySeries {
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        let mut appended = Appended::default();
        for series in &batch.series {
            let mut pairs = Vec::new();
            (batch.read_labels)(batch.raw_labels(series), &mut pairs).map_err(SourceError::storage)?;
            let text = |bytes| std::str::from_utf8(bytes).unwrap_or("");
            let labels = Labels::from_pairs(pairs.iter().map(|(name, value)| (text(name), text(value))));
            let floats = batch.floats_of(series).iter().map(|f| (f.t_ms, SampleValue::Float(f.value)));
            let histograms = batch
                .histograms_of(series)
                .iter()
                .map(|h| (h.t_ms, SampleValue::Histogram(Arc::new(h.histogram.clone()))));
            for (t_ms, value) in floats.chain(histograms) {
                match self.add(&labels, t_ms, value) {
                    None => appended.floats += 1,
                    Some(reason) => {
                        appended.rejected += 1;
                        appended.rejections.push(Rejection { reason, series: labels.to_string() });
                    }
                }
            }
        }
        appended.rejections.truncate(Appended::MAX_REJECTIONS);
        Ok(appended)
    }
}

impl SeriesSource for MemorySeries {
    fn select(&self, selection: &Selection, _: &Budget) -> Result<Vec<SelectedSeries>, SourceError> {
        let labels = self.matching(std::slice::from_ref(&selection.matchers));
        let series = self.series.read();
        let selected = labels.into_iter().filter_map(|labels| {
            let samples = Box::new(MemorySamples(Arc::clone(series.get(&labels)?)));
            Some(SelectedSeries { labels, samples })
        });
        Ok(selected.collect())
    }

    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        let series = self.series(query, budget)?;
        let mut names: Vec<String> =
            series.iter().flat_map(|l| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        let series = self.series(query, budget)?;
        let mut values: Vec<String> = series.iter().filter_map(|l| Some(l.get(name)?.to_owned())).collect();
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn series(&self, query: &LabelQuery, _: &Budget) -> Result<Vec<Labels>, SourceError> {
        Ok(self.matching(&query.matcher_sets))
    }

    fn exemplars(&self, _: &LabelQuery, _: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: Option<&str>, _: &Budget) -> Result<Vec<MetadataEntry>, SourceError> {
        Ok(Vec::new())
    }
}

struct MemorySamples(Arc<RwLock<Samples>>);

impl SeriesSamples for MemorySamples {
    fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) -> Result<(), SourceError> {
        out.clear();
        if start_ms > end_ms {
            return Ok(());
        }
        for (t_ms, value) in self.0.read().range(start_ms..=end_ms) {
            match value {
                SampleValue::Float(value) => out.push_float(*t_ms, *value),
                SampleValue::Histogram(h) => out.histograms.push((*t_ms, Arc::clone(h))),
            }
        }
        Ok(())
    }
}
