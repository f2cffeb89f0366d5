//! The store's two hot paths: taking a scrape's worth of samples, and reading what a rate over
//! many series needs, from the head, from a young day and from a closed one.

// A measurement that cannot be made may end with a panic.
#![allow(clippy::expect_used)]

#[allow(dead_code)]
#[path = "../crates/metrics/src/codec/hard_mix.rs"]
mod hard_mix;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use criterion::{BatchSize, Criterion, Throughput};
use pilothouse_metrics::{Store, StoreOptions};
use pilothouse_model::time::DAY_MS;
use pilothouse_model::write::{BatchSeries, FloatSample, MalformedLabels, RawPair, WriteBatch};
use pilothouse_model::{
    Budget, Clock, LabelNeeds, Matcher, SampleColumns, SampleSink as _, Selection, SeriesSource as _,
};
use rayon::prelude::*;

const SERIES: usize = 10_000;
const PER_BATCH: usize = 2_000;
const STEPS: usize = 240;
const STEP_MS: i64 = 15_000;
const START: i64 = 20_000 * DAY_MS;

#[derive(Debug)]
struct Manual(AtomicI64);

impl Clock for Manual {
    fn now_ms(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

fn read_labels<'a>(raw: &'a [u8], pairs: &mut Vec<RawPair<'a>>) -> Result<(), MalformedLabels> {
    for line in raw.split(|b| *b == 0).filter(|l| !l.is_empty()) {
        let at = line.iter().position(|b| *b == b'=').ok_or(MalformedLabels)?;
        pairs.push((&line[..at], &line[at + 1..]));
    }
    Ok(())
}

fn batch(first: usize) -> WriteBatch {
    let mut batch = WriteBatch::new(read_labels);
    for i in first..first + PER_BATCH {
        let start = batch.arena.len() as u32;
        let raw =
            format!("__name__=requests_total\0instance=10.0.{}.{}\0path=/{}\0", i / 250, i % 250, i % 7);
        batch.arena.extend_from_slice(raw.as_bytes());
        let labels = start..batch.arena.len() as u32;
        let key = xxhash_rust::xxh3::xxh3_128(raw.as_bytes());
        let at = batch.floats.len() as u32;
        batch.floats.push(FloatSample { t_ms: 0, value: 0.0 });
        batch.series.push(BatchSeries { key, labels, floats: at..at + 1, histograms: 0..0, exemplars: 0..0 });
    }
    batch
}

/// A store that is fed step by step.
struct Fed {
    store: Store,
    clock: Arc<Manual>,
    batches: Vec<WriteBatch>,
    values: Vec<Vec<f64>>,
    step: usize,
    _directory: tempfile::TempDir,
}

impl Fed {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let clock = Arc::new(Manual(AtomicI64::new(START)));
        let options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
        let store = Store::open(directory.path(), options).expect("open");
        let batches = (0..SERIES).step_by(PER_BATCH).map(batch).collect();
        let values = (0..1_000).map(|i| hard_mix::values(i, 1_000)).collect();
        Self { store, clock, batches, values, step: 0, _directory: directory }
    }

    /// Sets the next samples of all batches.
    fn fill(&mut self) {
        let t_ms = self.clock.0.fetch_add(STEP_MS, Relaxed);
        self.step += 1;
        for (b, batch) in self.batches.iter_mut().enumerate() {
            for (i, sample) in batch.floats.iter_mut().enumerate() {
                let of = &self.values[(b * PER_BATCH + i) % self.values.len()];
                *sample = FloatSample { t_ms, value: of[self.step % of.len()] };
            }
        }
    }

    fn append(&self) {
        for batch in &self.batches {
            let appended = self.store.append(batch).expect("append");
            assert_eq!(appended.rejected, 0);
        }
    }

    /// Samples of all series over the last hour.
    fn read(&self) -> usize {
        let end_ms = self.clock.now_ms();
        let start_ms = end_ms - STEPS as i64 * STEP_MS;
        let matchers = vec![Matcher::equal("__name__", "requests_total")];
        let selection = Selection { matchers, start_ms, end_ms, needs: LabelNeeds::Only(Arc::from([])) };
        let selected = self.store.select(&selection, &Budget::unlimited()).expect("select");
        let read = |columns: &mut SampleColumns, series: &pilothouse_model::SelectedSeries| {
            series.samples.read(start_ms, end_ms, columns).expect("read");
            columns.len()
        };
        selected.par_iter().map_init(SampleColumns::default, read).sum()
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut fed = Fed::new();
    fed.fill();
    fed.append();
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("append a step of 10,000 series", |b| {
        let fed = std::cell::RefCell::new(&mut fed);
        b.iter_batched(|| fed.borrow_mut().fill(), |()| fed.borrow().append(), BatchSize::PerIteration);
    });
    fed.store.compact_now().expect("compact");
    for _ in 0..STEPS {
        fed.fill();
        fed.append();
    }
    group.throughput(Throughput::Elements(fed.read() as u64));
    group.bench_function("read an hour of 10,000 series, half from the head", |b| b.iter(|| fed.read()));
    fed.store.seal_all().expect("seal");
    group.bench_function("read an hour of 10,000 series from the young day", |b| b.iter(|| fed.read()));
    fed.store.compact_now().expect("compact");
    group.bench_function("read an hour of 10,000 series from the closed day", |b| b.iter(|| fed.read()));
    group.finish();
    criterion.final_summary();
}
