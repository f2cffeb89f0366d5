//! The engine alone, over series in memory: what a query costs beside reading the store.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use pilothouse_model::ports::{Exemplar, LabelQuery};
use pilothouse_model::write::MetadataEntry;
use pilothouse_model::{
    Budget, LabelNeeds, Labels, SampleColumns, SampleValue, SelectedSeries, Selection, SeriesSamples,
    SeriesSource, SourceError,
};
use pilothouse_promql::{Engine, Options, ParseContext, parse};

const STEP_MS: i64 = 15_000;
const SAMPLES: usize = 360;

/// Series that share their times; `shift` keeps their values apart.
struct Source {
    labels: Vec<Labels>,
    times_ms: Arc<[i64]>,
}

struct Series {
    times_ms: Arc<[i64]>,
    shift: f64,
}

impl SeriesSamples for Series {
    fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) -> Result<(), SourceError> {
        out.clear();
        let from = self.times_ms.partition_point(|t| *t < start_ms);
        let to = self.times_ms.partition_point(|t| *t <= end_ms);
        out.times_ms.extend_from_slice(&self.times_ms[from..to]);
        out.values.extend((from..to).map(|i| self.shift + i as f64 * 3.0));
        Ok(())
    }

    fn latest(&self, after_ms: i64, at_ms: i64) -> Result<Option<(i64, SampleValue)>, SourceError> {
        let at = self.times_ms.partition_point(|t| *t <= at_ms);
        let newest = at.checked_sub(1).map(|i| (self.times_ms[i], self.shift + i as f64 * 3.0));
        Ok(newest.filter(|(t, _)| *t > after_ms).map(|(t, v)| (t, SampleValue::Float(v))))
    }
}

impl Source {
    fn new(series: usize) -> Self {
        let labels = (0..series).map(|i| {
            Labels::from_pairs([
                ("__name__", "http_requests_total".to_owned()),
                ("instance", format!("10.0.{}.{}:8080", i / 256 % 256, i % 256)),
                ("job", "kubernetes-pods".to_owned()),
                ("namespace", format!("namespace-{}", i % 40)),
                ("pod", format!("service-{}-{i:08x}", i % 300)),
                ("code", ["200", "404", "500"][i % 3].to_owned()),
            ])
        });
        Self { labels: labels.collect(), times_ms: (0..SAMPLES as i64).map(|i| i * STEP_MS).collect() }
    }
}

impl SeriesSource for Source {
    fn select(&self, selection: &Selection, _: &Budget) -> Result<Vec<SelectedSeries>, SourceError> {
        let series = self.labels.iter().enumerate().map(|(i, labels)| SelectedSeries {
            labels: match &selection.needs {
                LabelNeeds::All => labels.clone(),
                LabelNeeds::Only(names) if names.is_empty() => Labels::empty(),
                LabelNeeds::Only(names) => labels.filter(|name| names.iter().any(|n| n == name)),
            },
            samples: Box::new(Series { times_ms: self.times_ms.clone(), shift: i as f64 }),
        });
        Ok(series.collect())
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

fn queries(c: &mut Criterion) {
    let source = Source::new(10_000);
    let end_ms = (SAMPLES as i64 - 1) * STEP_MS;
    let over_an_hour = (end_ms - 3_600_000, end_ms, 60_000);
    for (name, query, range) in [
        ("rate of 10k series over 61 steps", "rate(m[5m])", Some(over_an_hour)),
        (
            "sum by of rates of 10k series over 61 steps",
            "sum by (namespace, code) (rate(m[5m]))",
            Some(over_an_hour),
        ),
        ("max_over_time of 10k series over 61 steps", "max_over_time(m[15m])", Some(over_an_hour)),
        ("count of 10k series", "count({__name__=~\".+\"})", None),
        ("topk of sums of 10k series", "topk(10, sum by (pod) (rate(m[5m])))", None),
        ("join of 10k series", "m * on (instance, pod) group_left (job) m", None),
    ] {
        let expr = parse(query, &ParseContext::default()).unwrap_or_else(|e| panic!("{query}: {e}"));
        let (options, budget) = (Options::default(), Budget::unlimited());
        c.bench_function(name, |b| {
            b.iter(|| match range {
                Some(range) => black_box(Engine::range(&source, &expr, range, &options, &budget)).is_ok(),
                None => black_box(Engine::instant(&source, &expr, end_ms, &options, &budget)).is_ok(),
            });
        });
    }
    let query = "histogram_quantile(0.9, sum by (le, job) (rate(http_request_duration_seconds_bucket{a=~\"b.*\"}[5m] offset 1h)))";
    c.bench_function("read a query", |b| {
        b.iter(|| parse(black_box(query), &ParseContext::default()).is_ok())
    });
}

criterion_group!(benches, queries);
criterion_main!(benches);
