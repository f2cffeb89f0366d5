//! The store against a plain map, and its promises one by one.

mod crash;
mod damage;
mod faults;
mod formats;
mod late;
mod model;
mod power;
mod races;
mod rules;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use pilothouse_model::limits::Limits;
use pilothouse_model::time::{DAY_MS, HOUR_MS};
use pilothouse_model::write::{
    Appended, BatchSeries, Durable, FloatSample, HistogramSample, MalformedLabels, RawPair, WriteBatch,
};
use pilothouse_model::{
    Budget, Clock, Histogram, LabelNeeds, Labels, Matcher, SampleColumns, SampleSink as _, Selection,
    SeriesSource as _, SourceError,
};

use crate::{Store, StoreOptions};

/// Noon of some day.
pub(crate) const NOON: i64 = 20_000 * DAY_MS + 12 * HOUR_MS;

#[derive(Debug)]
pub(crate) struct Stepped(AtomicI64);

impl Stepped {
    pub(crate) fn new(now_ms: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now_ms)))
    }

    pub(crate) fn step(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Relaxed);
    }
}

impl Clock for Stepped {
    fn now_ms(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Stops the store at a point that it passes, by copying its directory there.
#[derive(Debug)]
pub(crate) struct CrashPoints {
    pub(crate) directory: std::path::PathBuf,
    pub(crate) copies: Mutex<Vec<(String, tempfile::TempDir)>>,
}

impl CrashPoints {
    pub(crate) fn reached(&self, name: &str) {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(&self.directory, copy.path());
        self.copies.lock().push((name.to_owned(), copy));
    }
}

pub(crate) fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn options(clock: &Arc<Stepped>) -> StoreOptions {
    StoreOptions { clock: clock.clone(), background: false, ..StoreOptions::default() }
}

pub(crate) fn limited(clock: &Arc<Stepped>, limits: Limits) -> StoreOptions {
    StoreOptions { limits: limits.into(), ..options(clock) }
}

fn read_encoded<'a>(raw: &'a [u8], pairs: &mut Vec<RawPair<'a>>) -> Result<(), MalformedLabels> {
    for line in raw.split(|b| *b == 0).filter(|l| !l.is_empty()) {
        let at = line.iter().position(|b| *b == b'=').ok_or(MalformedLabels)?;
        pairs.push((&line[..at], &line[at + 1..]));
    }
    Ok(())
}

/// Builds a batch; raw labels are `name=value` ended by a zero byte.
pub(crate) struct Push(pub(crate) WriteBatch);

impl Push {
    pub(crate) fn new() -> Self {
        Self(WriteBatch::new(read_encoded))
    }

    pub(crate) fn floats(self, labels: &Labels, samples: &[(i64, f64)]) -> Self {
        self.series(labels, samples, &[])
    }

    pub(crate) fn series(
        mut self,
        labels: &Labels,
        samples: &[(i64, f64)],
        histograms: &[(i64, Histogram)],
    ) -> Self {
        let batch = &mut self.0;
        let start = batch.arena.len();
        for (name, value) in labels {
            batch.arena.extend_from_slice(format!("{name}={value}\0").as_bytes());
        }
        let range = |from: usize, to: usize| from as u32..to as u32;
        let key = xxhash_rust::xxh3::xxh3_128(&batch.arena[start..]);
        let floats = range(batch.floats.len(), batch.floats.len() + samples.len());
        batch.floats.extend(samples.iter().map(|(t_ms, value)| FloatSample { t_ms: *t_ms, value: *value }));
        let rows = range(batch.histograms.len(), batch.histograms.len() + histograms.len());
        batch
            .histograms
            .extend(histograms.iter().map(|(t_ms, h)| HistogramSample { t_ms: *t_ms, histogram: h.clone() }));
        let labels = range(start, batch.arena.len());
        let exemplars = range(batch.exemplars.len(), batch.exemplars.len());
        batch.series.push(BatchSeries { key, labels, floats, histograms: rows, exemplars });
        self
    }

    pub(crate) fn to(&self, store: &Store) -> Appended {
        let mut appended = store.append(&self.0).unwrap();
        let durable = std::mem::replace(&mut appended.durable, Box::pin(std::future::ready(Ok(()))));
        wait(durable).unwrap();
        appended
    }
}

/// Waits for a future by asking again and again.
pub(crate) fn wait(mut durable: Durable) -> Result<(), SourceError> {
    let mut context = Context::from_waker(Waker::noop());
    let began = std::time::Instant::now();
    loop {
        assert!(began.elapsed().as_secs() < 30, "nobody ends the wait");
        if let Poll::Ready(result) = durable.as_mut().poll(&mut context) {
            return result;
        }
        std::thread::yield_now();
    }
}

pub(crate) fn series(name: &str, i: usize) -> Labels {
    Labels::from_pairs([("__name__", name), ("i", &*i.to_string())])
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Float(u64),
    Histogram(Box<Histogram>),
}

pub(crate) type Content = BTreeMap<Labels, BTreeMap<i64, Value>>;

/// Everything that matches, between two times; series without samples left out.
pub(crate) fn read_between(store: &Store, matchers: Vec<Matcher>, start_ms: i64, end_ms: i64) -> Content {
    let selection = Selection { matchers, start_ms, end_ms, needs: LabelNeeds::All };
    let mut content = Content::new();
    let mut columns = SampleColumns::default();
    for series in store.select(&selection, &Budget::unlimited()).unwrap() {
        series.samples.read(start_ms, end_ms, &mut columns).unwrap();
        let mut samples = BTreeMap::new();
        let times: Vec<i64> = columns.times_ms.clone();
        assert!(times.windows(2).all(|w| w[0] < w[1]), "{times:?}");
        for (t, v) in columns.times_ms.iter().zip(&columns.values) {
            assert!(samples.insert(*t, Value::Float(v.to_bits())).is_none());
        }
        for (t, h) in &columns.histograms {
            assert!(samples.insert(*t, Value::Histogram(Box::new((**h).clone()))).is_none());
        }
        if !samples.is_empty() {
            assert!(content.insert(series.labels, samples).is_none());
        }
    }
    content
}

pub(crate) fn read_all(store: &Store) -> Content {
    let any = Matcher::new(pilothouse_model::MatchOp::Regex, "__name__", ".+").unwrap();
    read_between(store, vec![any], i64::MIN, i64::MAX)
}
