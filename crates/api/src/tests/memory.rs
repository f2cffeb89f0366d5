//! A store that is a list in memory: the ports' other implementer.

use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_control::{DataSource, SourceId, SourceKind};
use pilothouse_model::ports::{Exemplar, LabelQuery};
use pilothouse_model::write::{Appended, MetadataEntry, Reason, Rejection, WriteBatch};
use pilothouse_model::{
    Budget, Labels, LabelsBuilder, Matcher, SampleColumns, SampleSink, SelectedSeries, Selection,
    SeriesSamples, SeriesSource, SourceError,
};

use crate::telemetry::Family;
use crate::{Backend, HeadFigures, SourceBackend, SourceFigures, Sources, StoreAdmin};

#[derive(Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    series: Vec<(Labels, SampleColumns)>,
    exemplars: Vec<(Labels, Vec<Exemplar>)>,
    metadata: Vec<MetadataEntry>,
}

impl Memory {
    pub(crate) fn backend() -> (Arc<Self>, Backend) {
        let memory = Arc::new(Self::default());
        let backend = Backend {
            source: Arc::clone(&memory) as _,
            sink: Arc::clone(&memory) as _,
            store: Arc::clone(&memory) as _,
        };
        (memory, backend)
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().series.len()
    }

    pub(crate) fn add(&self, labels: &[(&str, &str)], samples: impl IntoIterator<Item = (i64, f64)>) {
        let mut columns = SampleColumns::default();
        samples.into_iter().for_each(|(t_ms, value)| columns.push_float(t_ms, value));
        self.state.lock().series.push((Labels::from_pairs(labels.iter().copied()), columns));
    }

    fn matching(&self, query: &LabelQuery) -> Vec<Labels> {
        let state = self.state.lock();
        let within =
            |c: &SampleColumns| c.times_ms.iter().any(|t| (query.start_ms..=query.end_ms).contains(t));
        let asked = |labels: &Labels| {
            query.matcher_sets.is_empty() || query.matcher_sets.iter().any(|set| holds(set, labels))
        };
        let found = state.series.iter().filter(|(labels, columns)| asked(labels) && within(columns));
        let mut found: Vec<Labels> = found.map(|(labels, _)| labels.clone()).collect();
        found.sort();
        found
    }
}

fn holds(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.value(&m.name)))
}

fn cut<T: Ord>(mut items: Vec<T>, limit: usize) -> Vec<T> {
    items.sort();
    items.dedup();
    if limit > 0 {
        items.truncate(limit);
    }
    items
}

struct Samples(SampleColumns);

impl SeriesSamples for Samples {
    fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) -> Result<(), SourceError> {
        out.clear();
        for (t_ms, value) in self.0.times_ms.iter().zip(&self.0.values) {
            if (start_ms..=end_ms).contains(t_ms) {
                out.push_float(*t_ms, *value);
            }
        }
        Ok(())
    }
}

impl SeriesSource for Memory {
    fn select(&self, selection: &Selection, budget: &Budget) -> Result<Vec<SelectedSeries>, SourceError> {
        budget.check("selection")?;
        let state = self.state.lock();
        let found = state.series.iter().filter(|(labels, _)| holds(&selection.matchers, labels));
        Ok(found
            .map(|(labels, columns)| SelectedSeries {
                labels: labels.clone(),
                samples: Box::new(Samples(columns.clone())),
            })
            .collect())
    }

    fn label_names(&self, query: &LabelQuery, _: &Budget) -> Result<Vec<String>, SourceError> {
        let names = |labels: Labels| labels.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>();
        Ok(cut(self.matching(query).into_iter().flat_map(names).collect(), query.limit))
    }

    fn label_values(&self, name: &str, query: &LabelQuery, _: &Budget) -> Result<Vec<String>, SourceError> {
        let values = self.matching(query).into_iter().filter_map(|l| l.get(name).map(str::to_owned));
        Ok(cut(values.collect(), query.limit))
    }

    fn series(&self, query: &LabelQuery, _: &Budget) -> Result<Vec<Labels>, SourceError> {
        Ok(cut(self.matching(query), query.limit))
    }

    fn exemplars(&self, query: &LabelQuery, _: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        let asked = |labels: &Labels| query.matcher_sets.iter().any(|set| holds(set, labels));
        Ok(self.state.lock().exemplars.iter().filter(|(labels, _)| asked(labels)).cloned().collect())
    }

    fn metadata(&self, family: Option<&str>, _: &Budget) -> Result<Vec<MetadataEntry>, SourceError> {
        let mut entries = self.state.lock().metadata.clone();
        entries.retain(|e| family.is_none_or(|f| f == e.family));
        entries.sort();
        Ok(entries)
    }
}

impl SampleSink for Memory {
    /// Refuses a series without a metric name and takes everything else.
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        let mut state = self.state.lock();
        let (mut floats, mut exemplars, mut rejections) = (0, 0, Vec::new());
        for one in &batch.series {
            let mut pairs = Vec::new();
            let read = (batch.read_labels)(batch.raw_labels(one), &mut pairs);
            read.map_err(|e| SourceError::storage(e.to_string()))?;
            let mut labels = LabelsBuilder::default();
            for (name, value) in pairs {
                labels.set(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
            }
            let labels = labels.build();
            if labels.metric_name().is_none() {
                rejections.push(Rejection { reason: Reason::MissingMetricName, series: labels.to_string() });
                continue;
            }
            let mut columns = SampleColumns::default();
            batch.floats_of(one).iter().for_each(|s| columns.push_float(s.t_ms, s.value));
            floats += columns.len() as u64;
            let own: Vec<Exemplar> = batch
                .exemplars_of(one)
                .iter()
                .map(|e| Exemplar {
                    labels: Labels::from_pairs(e.labels.clone()),
                    value: e.value,
                    t_ms: e.t_ms,
                })
                .collect();
            exemplars += own.len() as u64;
            if !own.is_empty() {
                state.exemplars.push((labels.clone(), own));
            }
            state.series.push((labels, columns));
        }
        state.metadata.extend(batch.metadata.iter().cloned());
        let rejected = rejections.len() as u64;
        Ok(Appended {
            floats,
            histograms: 0,
            exemplars,
            created: 0,
            rejections,
            rejected,
            durable: Box::pin(async { Ok(()) }),
        })
    }
}

impl StoreAdmin for Memory {
    fn head(&self) -> HeadFigures {
        HeadFigures { chunks: 1, min_time_ms: 0, max_time_ms: 1 }
    }

    fn delete(&self, matchers: &[Matcher], _: i64, _: i64) -> Result<(), SourceError> {
        self.state.lock().series.retain(|(labels, _)| !holds(matchers, labels));
        Ok(())
    }

    fn families(&self) -> Vec<Family> {
        vec![
            Family::gauge("pilothouse_memory_series", "Series.").value(self.state.lock().series.len() as f64),
        ]
    }
}

/// Sources whose stores are lists in memory, made when they are asked for.
#[derive(Debug, Default)]
pub(crate) struct MemorySources;

impl Sources for MemorySources {
    fn open(&self, source: &DataSource) -> Result<SourceBackend, SourceError> {
        match source.kind {
            SourceKind::Metrics => Ok(SourceBackend::Metrics(Memory::backend().1)),
            kind => Err(SourceError::storage(format!("no {} in memory", kind.as_str()))),
        }
    }

    fn update(&self, _: SourceId) {}

    fn remove_deleted(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn totals(&self) -> SourceFigures {
        SourceFigures::default()
    }

    fn figures(&self) -> Vec<(SourceId, SourceFigures)> {
        Vec::new()
    }
}
