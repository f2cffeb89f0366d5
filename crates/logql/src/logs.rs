//! Log queries: the newest or oldest entries that pass a pipeline.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use hashbrown::HashMap;
use pilothouse_model::limits::LOG_LABEL_SETS;
use pilothouse_model::logs::{LineNeed, MetadataNeed, ReadOrder};
use pilothouse_model::{
    Budget, BudgetError, EntryBatch, EntrySource, EntryVisitor, Flow, LogSelection, SourceError,
};
use rustc_hash::FxBuildHasher;

use crate::entry::{Entry, Layer};
use crate::names::Names;
use crate::pipeline::{Pipeline, Worker, for_each_entry, labels_key};
use crate::result::{LabelPairs, LogqlValue, QueryResult, ResultStream, StreamEntry};
use crate::syntax::LogExpr;
use crate::tally::{Pool, Tally};
use crate::{Direction, LogqlError, RangeQuery};

/// What an entry costs beside its line, for the budget.
const ENTRY_BYTES: u64 = 128;
/// So much is kept before the budget is asked.
pub(crate) const ASKED_AT_ONCE_BYTES: u64 = 1 << 20;
/// Label sets that a thread remembers, beside those of entries that are kept.
const REMEMBERED_BYTES: usize = 4 << 20;

/// The labels of an entry in their layers, each sorted by name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Layered {
    pub(crate) stream: LabelPairs,
    pub(crate) metadata: LabelPairs,
    pub(crate) parsed: LabelPairs,
}

impl Layered {
    pub(crate) fn of(entry: &Entry<'_>, names: &Names) -> Self {
        let mut layered = Self::default();
        entry.each_label(|layer, sym, value| {
            let list = match layer {
                Layer::Stream => &mut layered.stream,
                Layer::Metadata => &mut layered.metadata,
                Layer::Parsed => &mut layered.parsed,
            };
            list.push((names.text(sym).to_owned(), value.to_owned()));
        });
        layered.stream.sort_unstable();
        layered.metadata.sort_unstable();
        layered.parsed.sort_unstable();
        layered
    }

    fn bytes(&self) -> usize {
        let pairs = [&self.stream, &self.metadata, &self.parsed].into_iter().flatten();
        pairs.map(|pair| size_of_val(pair) + pair.0.len() + pair.1.len()).sum()
    }

    /// All labels in one list.
    pub(crate) fn merged(&self) -> LabelPairs {
        let mut all = [self.stream.as_slice(), &self.metadata, &self.parsed].concat();
        all.sort_unstable();
        all
    }
}

struct Candidate {
    /// Ascending in the direction of the query: the best is the least.
    key: i64,
    /// Makes the order of equal times the same in every run.
    tie: (u64, u32),
    t_ns: i64,
    line: String,
    labels: Arc<Layered>,
    /// Of labels that came with this entry; others that have the same cost nothing more.
    label_bytes: usize,
}

impl Candidate {
    fn bytes(&self) -> u64 {
        (self.line.len() + self.label_bytes) as u64 + ENTRY_BYTES
    }

    fn rank(&self) -> (i64, (u64, u32)) {
        (self.key, self.tie)
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

struct LogWorker {
    worker: Worker,
    picked: Vec<u32>,
    found: Found,
}

/// What a thread has found.
#[derive(Default)]
struct Found {
    epoch: u64,
    /// The best so far, the worst of them on top.
    kept: BinaryHeap<Candidate>,
    key: Vec<u8>,
    label_sets: HashMap<Box<[u8]>, Arc<Layered>, FxBuildHasher>,
    /// Of all remembered sets and their keys.
    label_set_bytes: usize,
}

impl Found {
    /// The labels of an entry, and what they cost if they are new.
    fn labels(&mut self, entry: &Entry<'_>, names: &Names) -> (Arc<Layered>, usize) {
        labels_key(entry, &mut self.key);
        if let Some(known) = self.label_sets.get(self.key.as_slice()) {
            return (Arc::clone(known), 0);
        }
        let made = Arc::new(Layered::of(entry, names));
        let (own, remembered) = (made.bytes(), made.bytes() + self.key.len());
        if self.label_sets.len() >= LOG_LABEL_SETS || self.label_set_bytes + remembered > REMEMBERED_BYTES {
            self.forget_labels();
        }
        if remembered <= REMEMBERED_BYTES {
            self.label_set_bytes += remembered;
            self.label_sets.insert(self.key.as_slice().into(), Arc::clone(&made));
        }
        (made, own)
    }

    fn forget_labels(&mut self) {
        self.label_sets.clear();
        self.label_set_bytes = 0;
    }
}

/// Bytes of entries that a batch adds, asked for as they come: templates make long lines of short ones.
struct Kept<'q> {
    budget: &'q Budget,
    owed_bytes: u64,
    failed: Result<(), BudgetError>,
}

impl Kept<'_> {
    /// `false` where there is no room for more.
    fn add(&mut self, bytes: u64) -> bool {
        self.owed_bytes += bytes;
        if self.owed_bytes >= ASKED_AT_ONCE_BYTES {
            self.settle();
        }
        self.failed.is_ok()
    }

    fn settle(&mut self) {
        if self.failed.is_ok() {
            self.failed = self.budget.reserve_bytes(std::mem::take(&mut self.owed_bytes));
        }
    }
}

struct Collector<'q> {
    pipeline: &'q Pipeline,
    budget: &'q Budget,
    direction: Direction,
    /// How many entries a thread keeps.
    keep: usize,
    /// The key of the worst entry that a thread with enough of them holds.
    horizon: AtomicI64,
    pool: Pool<LogWorker>,
    tally: Tally,
}

impl Collector<'_> {
    fn key(&self, t_ns: i64) -> i64 {
        match self.direction {
            Direction::Forward => t_ns,
            Direction::Backward => t_ns.checked_neg().unwrap_or(i64::MAX),
        }
    }

    fn visit(&self, state: &mut LogWorker, batch: &EntryBatch<'_>) -> Result<(), SourceError> {
        let LogWorker { worker, picked, found } = state;
        self.pipeline.select(batch, picked);
        self.tally.add(batch.len(), batch.text_bytes(), picked.len());
        if self.direction == Direction::Backward {
            picked.reverse();
        }
        // Later entries of the batch only get worse.
        let in_reach = |i: &u32| {
            batch.times_ns.get(*i as usize).is_some_and(|t| self.key(*t) <= self.horizon.load(Relaxed))
        };
        worker.refresh();
        if worker.epoch() != found.epoch {
            found.epoch = worker.epoch();
            found.forget_labels();
        }
        let mut kept = Kept { budget: self.budget, owed_bytes: 0, failed: Ok(()) };
        let mut numbers = picked.iter().copied().take_while(in_reach);
        for_each_entry(self.pipeline, worker, batch, &mut numbers, &mut |i, entry, names| {
            kept.add(self.keep(found, batch.stream, i, entry, names))
        });
        kept.settle();
        Ok(kept.failed?)
    }

    /// Keeps an entry if it is among the best; how many bytes that takes.
    fn keep(&self, state: &mut Found, stream: u64, i: u32, entry: &Entry<'_>, names: &Names) -> u64 {
        let order = if self.direction == Direction::Backward { u32::MAX - i } else { i };
        let rank = (self.key(entry.t_ns), (stream, order));
        let full = state.kept.len() >= self.keep;
        if full && state.kept.peek().is_some_and(|worst| worst.rank() <= rank) {
            return 0;
        }
        let (labels, label_bytes) = state.labels(entry, names);
        let line = entry.line.to_owned();
        let new = Candidate { key: rank.0, tie: rank.1, t_ns: entry.t_ns, line, labels, label_bytes };
        let bytes = new.bytes();
        state.kept.push(new);
        let mut freed = 0;
        if full && let Some(worst) = state.kept.pop() {
            freed = worst.bytes();
        }
        if state.kept.len() >= self.keep
            && let Some(worst) = state.kept.peek()
        {
            self.horizon.fetch_min(worst.key, Relaxed);
        }
        bytes.saturating_sub(freed)
    }
}

impl EntryVisitor for Collector<'_> {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        self.budget.check("log query")?;
        let make =
            || LogWorker { worker: self.pipeline.worker(), picked: Vec::new(), found: Found::default() };
        self.pool.with(make, |state| self.visit(state, batch))?;
        Ok(Flow::Continue)
    }

    fn horizon_ns(&self) -> Option<i64> {
        match self.horizon.load(Relaxed) {
            i64::MAX => None,
            key => Some(match self.direction {
                Direction::Forward => key,
                Direction::Backward => key.checked_neg().unwrap_or(i64::MAX),
            }),
        }
    }
}

/// Runs a log query over `[start, end)`.
pub(crate) fn run(
    source: &dyn EntrySource,
    log: &LogExpr,
    query: &RangeQuery,
    budget: &Budget,
) -> Result<QueryResult, LogqlError> {
    let pipeline = Pipeline::new(&log.stages, None)?;
    let selection = LogSelection {
        matchers: log.matchers.clone(),
        start_ns: query.start_ns,
        end_ns: query.end_ns,
        order: match query.direction {
            Direction::Forward => ReadOrder::Oldest,
            Direction::Backward => ReadOrder::Newest,
        },
        demands: pipeline.demands().to_vec(),
        lines: LineNeed::Text,
        metadata: MetadataNeed::All,
        buckets: None,
    };
    let collector = Collector {
        pipeline: &pipeline,
        budget,
        direction: query.direction,
        keep: query.limit,
        horizon: AtomicI64::new(i64::MAX),
        pool: Pool::new(),
        tally: Tally::default(),
    };
    let report = source.read(&selection, &collector, budget)?;
    let Collector { pool, tally, .. } = collector;
    let mut all: Vec<Candidate> = pool.into_all().into_iter().flat_map(|w| w.found.kept.into_vec()).collect();
    all.sort_unstable();
    // As in Loki, the limit counts entries before the interval thins them out.
    all.truncate(query.limit);
    let kept = spaced(all, query.interval_ns);
    let mut stats = tally.into_stats(report);
    stats.entries_returned = kept.len() as u64;
    Ok(QueryResult { value: LogqlValue::Streams(streams(kept, query.categorize)), stats })
}

/// Walks the merged entries and keeps those at least `interval` behind the last kept one.
fn spaced(all: Vec<Candidate>, interval_ns: i64) -> Vec<Candidate> {
    let mut last: Option<i64> = None;
    all.into_iter()
        .filter(|candidate| {
            let far = last.is_none_or(|last| candidate.key.saturating_sub(last) >= interval_ns);
            if far {
                last = Some(candidate.key);
            }
            far
        })
        .collect()
}

fn streams(kept: Vec<Candidate>, categorize: bool) -> Vec<ResultStream> {
    let mut index: HashMap<LabelPairs, usize, FxBuildHasher> = HashMap::default();
    let mut known: HashMap<*const Layered, usize, FxBuildHasher> = HashMap::default();
    let mut streams: Vec<ResultStream> = Vec::new();
    for candidate in &kept {
        let at = *known.entry(Arc::as_ptr(&candidate.labels)).or_insert_with(|| {
            let labels = if categorize { candidate.labels.stream.clone() } else { candidate.labels.merged() };
            *index.entry(labels.clone()).or_insert_with(|| {
                streams.push(ResultStream { labels, entries: Vec::new() });
                streams.len() - 1
            })
        });
        let layer = |pairs: &LabelPairs| if categorize { pairs.clone() } else { LabelPairs::new() };
        if let Some(stream) = streams.get_mut(at) {
            stream.entries.push(StreamEntry {
                t_ns: candidate.t_ns,
                line: candidate.line.clone(),
                metadata: layer(&candidate.labels.metadata),
                parsed: layer(&candidate.labels.parsed),
            });
        }
    }
    streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    streams
}
