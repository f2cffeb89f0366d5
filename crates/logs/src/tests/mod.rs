//! Tests of the store as a whole, against a plain map.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use pilothouse_model::limits::Limits;
use pilothouse_model::logs::{LogBatch, LogSelection};
use pilothouse_model::{
    Budget, Clock, EntryBatch, EntrySink as _, EntrySource as _, EntryVisitor, Flow, Labels, MatchOp,
    Matcher, SourceError,
};

use crate::{Store, StoreOptions};

mod basics;
mod crash;
mod damage;
mod deletions;
mod dropping;
mod faults;
mod model;
mod power;
mod pruning;
mod races;

/// Noon of 2026-11-22 UTC.
pub(crate) const NOON_NS: i64 = 1_795_348_800_000_000_000;
pub(crate) const MINUTE_NS: i64 = 60_000_000_000;

#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn at(t_ns: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(t_ns / 1_000_000)))
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Stops the store at a named place, the nth time it comes there, as a crash would.
#[derive(Debug, Clone)]
pub(crate) struct CrashPoints {
    pub(crate) at: String,
    pub(crate) left: Arc<Mutex<usize>>,
}

impl CrashPoints {
    pub(crate) fn reached(&self, name: &str) {
        if name != self.at {
            return;
        }
        let mut left = self.left.lock();
        if *left == 0 {
            return;
        }
        *left -= 1;
        if *left == 0 {
            drop(left);
            panic!("crash point {name}");
        }
    }
}

pub(crate) fn options(clock: &Arc<TestClock>) -> StoreOptions {
    StoreOptions { clock: clock.clone(), background: false, ..StoreOptions::default() }
}

pub(crate) fn limited(clock: &Arc<TestClock>, change: impl FnOnce(&mut Limits)) -> StoreOptions {
    let mut limits = Limits::default();
    change(&mut limits);
    StoreOptions { limits: limits.into(), ..options(clock) }
}

pub(crate) fn open(directory: &Path, clock: &Arc<TestClock>) -> Store {
    Store::open(directory, options(clock)).unwrap()
}

pub(crate) fn labels(app: &str) -> Labels {
    Labels::from_pairs([("app", app)])
}

pub(crate) type Entry = (Labels, i64, String, Labels);

/// One push of entries, each as a stream of its own unless the labels repeat.
pub(crate) fn batch(entries: &[Entry]) -> LogBatch {
    let mut batch = LogBatch::default();
    for part in entries.chunk_by(|a, b| a.0 == b.0) {
        batch.begin_stream(part[0].0.clone());
        for (_, t_ns, line, metadata) in part {
            assert!(batch.push(*t_ns, line, metadata.clone()));
        }
    }
    batch
}

pub(crate) fn push(store: &Store, entries: &[Entry]) -> pilothouse_model::log_ports::LogAppended {
    store.append(&batch(entries)).unwrap()
}

pub(crate) fn line(app: &str, t_ns: i64, line: &str) -> Entry {
    (labels(app), t_ns, line.to_owned(), Labels::empty())
}

/// Collects all that a read shows, and that it keeps the rules of the port.
#[derive(Debug, Default)]
pub(crate) struct Collect {
    pub(crate) found: Mutex<Vec<Entry>>,
    numbers: Mutex<HashMap<u64, Labels>>,
}

impl EntryVisitor for Collect {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        assert!(!batch.is_empty());
        assert!(batch.times_ns.is_sorted());
        assert_eq!(batch.bounds.len(), batch.len() + 1);
        assert_eq!(batch.bounds[0], 0);
        assert_eq!(batch.text_bytes(), batch.text.len());
        let known = self.numbers.lock().entry(batch.stream).or_insert_with(|| batch.labels.clone()).clone();
        assert_eq!(known, *batch.labels);
        let mut found = self.found.lock();
        for i in 0..batch.len() {
            let metadata = batch.metadata_of(i).cloned().unwrap_or_default();
            found.push((batch.labels.clone(), batch.times_ns[i], batch.line(i).to_owned(), metadata));
        }
        Ok(Flow::Continue)
    }
}

pub(crate) fn select(store: &Store, selection: &LogSelection) -> Vec<Entry> {
    let collect = Collect::default();
    store.read(selection, &collect, &Budget::unlimited()).unwrap();
    let mut found = collect.found.into_inner();
    found.sort();
    found
}

/// Every stream has a label `app`.
pub(crate) fn every_stream() -> Vec<Matcher> {
    vec![Matcher::new(MatchOp::Regex, "app", ".+").unwrap()]
}

pub(crate) fn all(store: &Store) -> Vec<Entry> {
    select(store, &LogSelection::all(every_stream(), i64::MIN, i64::MAX))
}

/// What a store should hold.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model(pub(crate) BTreeMap<(Labels, i64, String), Labels>);

impl Model {
    pub(crate) fn add(&mut self, entries: &[Entry]) {
        for (labels, t_ns, line, metadata) in entries {
            self.0.entry((labels.clone(), *t_ns, line.clone())).or_insert_with(|| metadata.clone());
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let own = self.0.iter().map(|((l, t, s), m)| (l.clone(), *t, s.clone(), m.clone()));
        let mut all: Vec<Entry> = own.collect();
        all.sort();
        all
    }
}

/// Compares without printing megabytes.
pub(crate) fn check_same(found: &[Entry], expected: &[Entry], what: &str) {
    if found == expected {
        return;
    }
    let short = |e: &Entry| format!("{} {} {:.60} {}", e.0, e.1, e.2, e.3);
    let missing: Vec<_> = expected.iter().filter(|e| !found.contains(e)).take(3).map(short).collect();
    let extra: Vec<_> = found.iter().filter(|e| !expected.contains(e)).take(3).map(short).collect();
    let doubled: Vec<_> = found.windows(2).filter(|w| w[0] == w[1]).take(3).map(|w| short(&w[0])).collect();
    panic!(
        "{what}: {} found, {} expected; missing {missing:#?}, extra {extra:#?}, doubled {doubled:#?}",
        found.len(),
        expected.len()
    );
}
