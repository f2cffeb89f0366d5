//! Range aggregations: each batch is walked once over the whole grid of steps.
//!
//! Counts and sizes never become samples: an entry adds itself to the first window that holds it
//! and takes itself away behind the last, and running sums over the steps give every window's
//! total. Values taken from labels are kept and swept with two pointers.

use std::sync::Arc;

use hashbrown::HashMap;
use pilothouse_model::logs::{LineNeed, MetadataNeed, ReadOrder};
use pilothouse_model::{
    Budget, BudgetError, EntryBatch, EntryRun, EntrySource, EntryVisitor, Flow, Labels, LogSelection,
    SourceError,
};
use pilothouse_query::units::{parse_bytes, parse_go_duration};
use rayon::prelude::*;
use rustc_hash::FxBuildHasher;

use crate::LogqlError;
use crate::columns::{ABSENT, Column, Grid, is_absent};
use crate::entry::{ERROR, Entry, PRESERVE_ERROR, SAMPLE_ERROR};
use crate::hints::Wanted;
use crate::label_filter::{Filter, labels_of, parse_number};
use crate::logs::ASKED_AT_ONCE_BYTES;
use crate::names::{Names, Sym};
use crate::pipeline::{Pipeline, Worker, for_each_entry, labels_key, push_value, referenced};
use crate::reduce::{Samples, reduce};
use crate::result::QueryStats;
use crate::syntax::{Conversion, Grouping, RangeAggregation, RangeOp, Stage, Unwrap};
use crate::tally::{OwnTally, Pool, Tally};

/// Which labels of an entry its series has.
#[derive(Debug)]
enum Labeling {
    None,
    All,
    By(Vec<(Sym, String)>),
    /// And only those with a value.
    ByValue(Vec<(Sym, String)>),
    Without(Vec<Sym>),
    /// Nor those without a value.
    WithoutEmpty(Vec<Sym>),
}

#[derive(Debug)]
struct UnwrapPlan {
    label: Sym,
    conversion: Conversion,
    filters: Vec<Filter>,
}

impl UnwrapPlan {
    /// The entry's value, or nothing if it contributes none.
    fn value(&self, entry: &mut Entry<'_>) -> Option<f64> {
        let text = entry.get(self.label).filter(|text| !text.is_empty())?;
        let converted = match self.conversion {
            Conversion::Number => parse_number(text),
            Conversion::Bytes => parse_bytes(text).map(|b| b as f64),
            Conversion::Duration | Conversion::DurationSeconds => {
                parse_go_duration(text).map(|ns| ns as f64 / 1e9)
            }
        };
        let value = match converted {
            Ok(value) => value,
            Err(details) => {
                entry.fail(SAMPLE_ERROR, Some(&details));
                0.0
            }
        };
        self.filters.iter().all(|filter| filter.keeps(entry)).then_some(value)
    }
}

#[derive(Debug)]
struct Plan<'q> {
    op: RangeOp,
    pipeline: Pipeline,
    labeling: Labeling,
    unwrap: Option<UnwrapPlan>,
    grid: &'q Grid,
    /// Sizes of lines are added up.
    sizes: bool,
}

/// What an entry of the table of keys costs beside its key.
const KEY_BYTES: u64 = 32;

/// Series by number. Keys are cheap to make and exact; one label set may have several.
#[derive(Default)]
struct SeriesTable {
    epoch: u64,
    by_key: HashMap<Box<[u8]>, u32, FxBuildHasher>,
    by_labels: HashMap<Labels, u32, FxBuildHasher>,
    /// Of streams whose entries came as runs.
    by_stream: HashMap<u64, u32, FxBuildHasher>,
    labels: Vec<Labels>,
    key: Vec<u8>,
    /// Neighbouring entries often belong together.
    last_key: Vec<u8>,
    last_number: u32,
    /// Texts and keys that were added since the budget was asked last.
    owed_bytes: u64,
    /// Series that the budget knows of.
    booked: usize,
}

impl SeriesTable {
    fn number(&mut self, labels: Labels) -> u32 {
        let next = self.labels.len() as u32;
        let number = *self.by_labels.entry(labels.clone()).or_insert(next);
        if number == next {
            self.owed_bytes += labels.as_encoded().len() as u64;
            self.labels.push(labels);
        }
        number
    }

    fn of(&mut self, entry: &Entry<'_>, labeling: &Labeling, names: &Names) -> u32 {
        let whole = entry.error.is_some();
        match labeling {
            Labeling::None if !whole => return self.number(Labels::empty()),
            Labeling::By(groups) | Labeling::ByValue(groups) if !whole => {
                self.key.clear();
                self.key.push(0);
                for (sym, _) in groups {
                    push_value(&mut self.key, group_value(entry, *sym));
                }
            }
            _ => {
                labels_key(entry, &mut self.key);
                self.key.push(1 + u8::from(whole));
            }
        }
        if self.key == self.last_key {
            return self.last_number;
        }
        let number = match self.by_key.get(self.key.as_slice()) {
            Some(number) => *number,
            None => {
                let number = self.number(series_labels(entry, labeling, names));
                self.owed_bytes += KEY_BYTES + self.key.len() as u64;
                self.by_key.insert(self.key.as_slice().into(), number);
                number
            }
        };
        self.last_key.clone_from(&self.key);
        self.last_number = number;
        number
    }
}

/// A label that was ever deleted does not group, even if a later stage made it anew.
fn group_value<'a>(entry: &Entry<'a>, sym: Sym) -> Option<&'a str> {
    if entry.is_deleted(sym) { None } else { entry.get(sym) }
}

/// Unlike anywhere else, a label without a value is one here (`json x="missing"`), as in Loki; it
/// ends where answers become alerts or samples.
fn series_labels(entry: &Entry<'_>, labeling: &Labeling, names: &Names) -> Labels {
    let all = |keep: &dyn Fn(Sym, &str) -> bool| {
        let mut pairs = Vec::new();
        entry.each_label(|_, sym, value| {
            if keep(sym, value) {
                pairs.push((names.text(sym), value));
            }
        });
        pairs.sort_unstable();
        Labels::from_sorted(pairs)
    };
    match labeling {
        _ if entry.error.is_some() => all(&|_, _| true),
        Labeling::None => Labels::empty(),
        Labeling::All => all(&|_, _| true),
        Labeling::Without(gone) => all(&|sym, _| !gone.contains(&sym)),
        Labeling::WithoutEmpty(gone) => all(&|sym, value| !value.is_empty() && !gone.contains(&sym)),
        Labeling::By(groups) | Labeling::ByValue(groups) => {
            let all =
                groups.iter().filter_map(|(sym, name)| Some((name.as_str(), group_value(entry, *sym)?)));
            let empty = matches!(labeling, Labeling::By(_));
            Labels::from_sorted(all.filter(|(_, value)| empty || !value.is_empty()))
        }
    }
}

/// What one thread has gathered, by series.
#[derive(Default)]
struct Gathered {
    table: SeriesTable,
    /// Changes of the count from step to step.
    counts: Vec<Vec<i64>>,
    sizes: Vec<Vec<i64>>,
    samples: Vec<Samples>,
}

struct RangeWorker {
    worker: Worker,
    picked: Vec<u32>,
    gathered: Gathered,
    runs: OwnTally,
}

struct Gatherer<'q> {
    plan: &'q Plan<'q>,
    budget: &'q Budget,
    pool: Pool<RangeWorker>,
    tally: Tally,
}

impl Gathered {
    #[inline]
    fn count(&mut self, plan: &Plan<'_>, series: u32, t_ns: i64, entries: i64, bytes: i64) {
        let Some((first, last)) = plan.grid.windows_of(t_ns) else { return };
        let add = |lists: &mut Vec<Vec<i64>>, amount: i64| {
            while lists.len() <= series as usize {
                lists.push(vec![0; plan.grid.count + 1]);
            }
            let list = &mut lists[series as usize];
            list[first] += amount;
            list[last + 1] -= amount;
        };
        add(&mut self.counts, entries);
        if plan.sizes {
            add(&mut self.sizes, bytes);
        }
    }

    fn sample(&mut self, series: u32, t_ns: i64, value: f64) {
        while self.samples.len() <= series as usize {
            self.samples.push(Samples::default());
        }
        self.samples[series as usize].push(t_ns, value);
    }
}

impl Gatherer<'_> {
    fn make(&self) -> RangeWorker {
        RangeWorker {
            worker: self.plan.pipeline.worker(),
            picked: Vec::new(),
            gathered: Gathered::default(),
            runs: OwnTally::default(),
        }
    }

    fn visit(&self, state: &mut RangeWorker, batch: &EntryBatch<'_>) -> Result<(), SourceError> {
        let RangeWorker { worker, picked, gathered, .. } = state;
        worker.refresh();
        if worker.epoch() != gathered.table.epoch {
            gathered.table.epoch = worker.epoch();
            gathered.table.by_key.clear();
            gathered.table.last_key.clear();
        }
        let plan = self.plan;
        plan.pipeline.select(batch, picked);
        self.tally.add(batch.len(), batch.text_bytes(), picked.len());
        if plan.unwrap.is_none() && plan.pipeline.has_no_steps() {
            flat(plan, worker, gathered, batch, picked);
        } else {
            let mut numbers = picked.iter().copied();
            self.piped(worker, gathered, batch, &mut numbers)?;
        }
        Ok(self.settle(&mut gathered.table)?)
    }

    /// Asks for the room of what is new in a table: the steps of series, their labels and keys.
    fn settle(&self, table: &mut SeriesTable) -> Result<(), BudgetError> {
        let made = (table.labels.len() - table.booked) as u64;
        table.booked = table.labels.len();
        match made * (self.plan.grid.count as u64 * 16 + 512) + std::mem::take(&mut table.owed_bytes) {
            0 => Ok(()),
            bytes => self.budget.reserve_bytes(bytes),
        }
    }

    fn piped(
        &self,
        worker: &mut Worker,
        gathered: &mut Gathered,
        batch: &EntryBatch<'_>,
        numbers: &mut dyn Iterator<Item = u32>,
    ) -> Result<(), SourceError> {
        let plan = self.plan;
        let (mut sampled, mut room) = (0, Ok(()));
        for_each_entry(&plan.pipeline, worker, batch, numbers, &mut |_, entry, names| {
            match &plan.unwrap {
                None => {
                    let series = gathered.table.of(entry, &plan.labeling, names);
                    gathered.count(plan, series, entry.t_ns, 1, entry.line.len() as i64);
                }
                Some(unwrap) => {
                    if let Some(value) = unwrap.value(entry) {
                        let series = gathered.table.of(entry, &plan.labeling, names);
                        gathered.sample(series, entry.t_ns, value);
                        sampled += 1;
                    }
                }
            }
            if gathered.table.owed_bytes >= ASKED_AT_ONCE_BYTES {
                room = self.settle(&mut gathered.table);
            }
            room.is_ok()
        });
        room?;
        self.budget.add_samples(sampled)?;
        self.budget.reserve_bytes(sampled * 16)?;
        Ok(())
    }
}

/// Without stages the series follows from stream and metadata, once a batch.
fn flat(
    plan: &Plan<'_>,
    worker: &mut Worker,
    gathered: &mut Gathered,
    batch: &EntryBatch<'_>,
    picked: &[u32],
) {
    let base = worker.base(batch.stream, batch.labels);
    let sets = worker.metadata(batch, &base);
    let arena = bumpalo::Bump::new();
    let mut series_of = |metadata: &[(Sym, &str)]| {
        let entry = Entry::new(0, "", &base, metadata, &arena);
        gathered.table.of(&entry, &plan.labeling, &worker.names)
    };
    let by_set: Vec<u32> = sets.iter().map(|set| series_of(set)).collect();
    let bare = if batch.metadata.len() < batch.len() { series_of(&[]) } else { 0 };
    if by_set.is_empty() {
        return alike(plan, gathered, bare, batch, picked);
    }
    for i in picked {
        let at = *i as usize;
        let set = batch.metadata.get(at).and_then(|set| by_set.get(*set as usize));
        let Some(t_ns) = batch.times_ns.get(at) else { continue };
        gathered.count(plan, set.copied().unwrap_or(bare), *t_ns, 1, batch.line_bytes(at) as i64);
    }
}

/// Counts entries of one series: those between two borders of windows at once.
fn alike(plan: &Plan<'_>, gathered: &mut Gathered, series: u32, batch: &EntryBatch<'_>, picked: &[u32]) {
    let buckets = plan.grid.buckets();
    let time = |i: &u32| batch.times_ns.get(*i as usize).copied().unwrap_or(i64::MAX);
    let mut rest = picked;
    while let Some(first) = rest.first() {
        let t_ns = time(first);
        let end_ns = buckets.end_of(t_ns);
        // The first is not above the end of its own bucket.
        let n = rest.partition_point(|i| time(i) <= end_ns).max(1);
        let (here, behind) = rest.split_at(n);
        let bytes =
            if plan.sizes { here.iter().map(|i| batch.line_bytes(*i as usize) as i64).sum() } else { 0 };
        gathered.count(plan, series, t_ns, n as i64, bytes);
        rest = behind;
    }
}

impl EntryVisitor for Gatherer<'_> {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        self.budget.check("metric query")?;
        self.pool.with(|| self.make(), |state| self.visit(state, batch))?;
        Ok(Flow::Continue)
    }

    /// The budget is not asked: a source asks it once a block, and runs are many.
    fn run(&self, run: &EntryRun<'_>) -> Result<Flow, SourceError> {
        self.pool.with(
            || self.make(),
            |state| {
                let RangeWorker { worker, gathered, runs, .. } = state;
                runs.entries += run.entries;
                runs.bytes += run.bytes;
                let series = match gathered.table.by_stream.get(&run.stream) {
                    Some(series) => *series,
                    None => {
                        let base = worker.base(run.stream, run.labels);
                        let arena = bumpalo::Bump::new();
                        let entry = Entry::new(run.t_ns, "", &base, &[], &arena);
                        let series = gathered.table.of(&entry, &self.plan.labeling, &worker.names);
                        gathered.table.by_stream.insert(run.stream, series);
                        self.settle(&mut gathered.table)?;
                        series
                    }
                };
                gathered.count(self.plan, series, run.t_ns, run.entries as i64, run.bytes as i64);
                Ok(Flow::Continue)
            },
        )
    }
}

/// Stages without the `line_format`s that nothing behind them can see, as Loki leaves them out.
fn needed_stages(op: RangeOp, stages: &[Stage]) -> Vec<Stage> {
    let reads_line = |stage: &Stage| {
        !matches!(
            stage,
            Stage::Filter(_)
                | Stage::LineFormat(_)
                | Stage::LabelFormat(_)
                | Stage::Decolorize
                | Stage::Drop(_)
                | Stage::Keep(_)
        )
    };
    let sizes = matches!(op, RangeOp::Bytes | RangeOp::BytesRate);
    let useless = |(i, stage): &(usize, &Stage)| {
        !sizes && matches!(stage, Stage::LineFormat(_)) && !stages[i + 1..].iter().any(reads_line)
    };
    stages.iter().enumerate().filter(|item| !useless(item)).map(|(_, stage)| stage.clone()).collect()
}

/// `outer`: the grouping of a `sum` round the aggregation, which may be applied to the entries.
fn plan<'q>(
    aggregation: &RangeAggregation,
    outer: Option<&Grouping>,
    grid: &'q Grid,
) -> Result<Plan<'q>, LogqlError> {
    let grouping = outer.or(aggregation.grouping.as_ref());
    let stages = needed_stages(aggregation.op, &aggregation.range.log.stages);
    let mut wanted = Wanted { referenced: referenced(&stages), ..Wanted::default() };
    if let Some(grouping) = grouping {
        wanted.groups = grouping.labels.clone();
        wanted.groups.sort_unstable();
        wanted.groups.dedup();
        wanted.without = grouping.without;
        wanted.no_labels = grouping.is_single();
    }
    wanted.no_labels |= aggregation.op == RangeOp::Absent;
    if let Some(unwrap) = &aggregation.range.unwrap {
        unwrap.filters.iter().for_each(|filter| labels_of(filter, &mut wanted.referenced));
        wanted.referenced.push(unwrap.label.clone());
        if wanted.groups.is_empty() || wanted.without {
            wanted.without = true;
            wanted.groups.push(unwrap.label.clone());
        }
    }
    let mut pipeline = Pipeline::new(&stages, Some(&wanted))?;
    let gone = |pipeline: &mut Pipeline| wanted.groups.iter().map(|name| pipeline.sym(name)).collect();
    let kept = |pipeline: &mut Pipeline| {
        wanted.groups.iter().map(|name| (pipeline.sym(name), name.clone())).collect()
    };
    // Loki makes sums and counts of averages, and joins them, which loses labels without a value;
    // so does a `without` that is written.
    let averages = outer.is_none() && aggregation.op == RangeOp::Avg;
    let labeling = match (wanted.no_labels, wanted.groups.is_empty(), wanted.without) {
        (true, ..) => Labeling::None,
        (_, true, _) => Labeling::All,
        (_, _, true) if grouping.is_some() => Labeling::WithoutEmpty(gone(&mut pipeline)),
        (_, _, true) => Labeling::Without(gone(&mut pipeline)),
        _ if averages => Labeling::ByValue(kept(&mut pipeline)),
        _ => Labeling::By(kept(&mut pipeline)),
    };
    let unwrap = match &aggregation.range.unwrap {
        None => None,
        Some(unwrap) => Some(unwrap_plan(unwrap, &mut pipeline)?),
    };
    let sizes = matches!(aggregation.op, RangeOp::Bytes | RangeOp::BytesRate);
    Ok(Plan { op: aggregation.op, pipeline, labeling, unwrap, grid, sizes })
}

fn unwrap_plan(unwrap: &Unwrap, pipeline: &mut Pipeline) -> Result<UnwrapPlan, LogqlError> {
    let filters = unwrap.filters.iter().map(|filter| pipeline.filter(filter));
    let filters: Vec<Filter> = filters.collect::<Result<_, _>>().map_err(LogqlError::semantic)?;
    if let [only] = filters.as_slice() {
        pipeline.check_early(only);
    }
    let label = pipeline.sym(&unwrap.label);
    Ok(UnwrapPlan { label, conversion: unwrap.conversion, filters })
}

fn selection(plan: &Plan<'_>, aggregation: &RangeAggregation) -> LogSelection {
    let metadata = match (plan.pipeline.hints.nothing, plan.pipeline.hints.names()) {
        (true, _) => MetadataNeed::Nothing,
        (_, Some(names)) => {
            let mut names = names.to_vec();
            names.sort_unstable();
            MetadataNeed::Named(Arc::from(names))
        }
        _ => MetadataNeed::All,
    };
    // Steps are given lines, not lengths, though all they look at may be labels.
    let lines = match plan.pipeline.line_need() {
        LineNeed::Nothing if plan.sizes && plan.pipeline.has_no_steps() => LineNeed::Length,
        LineNeed::Nothing if plan.sizes => LineNeed::Text,
        need => need,
    };
    let counts_only = plan.unwrap.is_none()
        && plan.pipeline.has_no_steps()
        && !plan.pipeline.has_leading_filters()
        && metadata != MetadataNeed::All;
    let (start_ns, end_ns) = plan.grid.reach();
    LogSelection {
        matchers: aggregation.range.log.matchers.clone(),
        start_ns,
        end_ns,
        order: ReadOrder::Any,
        demands: plan.pipeline.demands().to_vec(),
        lines,
        metadata,
        buckets: counts_only.then(|| plan.grid.buckets()),
    }
}

/// Evaluates a range aggregation over the whole grid.
pub(crate) fn evaluate(
    source: &dyn EntrySource,
    aggregation: &RangeAggregation,
    outer: Option<&Grouping>,
    grid: &Grid,
    budget: &Budget,
    stats: &mut QueryStats,
) -> Result<Vec<Column>, LogqlError> {
    let grid = grid.with_range(aggregation.range.interval_ns, aggregation.range.offset_ns);
    let plan = plan(aggregation, outer, &grid)?;
    let gatherer = Gatherer { plan: &plan, budget, pool: Pool::new(), tally: Tally::default() };
    let report = source.read(&selection(&plan, aggregation), &gatherer, budget)?;
    let Gatherer { pool, mut tally, .. } = gatherer;
    let states = pool.into_all();
    states.iter().for_each(|state| tally.absorb(state.runs));
    stats.add(&tally.into_stats(report));
    let gathered = states.into_iter().map(|state| state.gathered).collect();
    let columns = columns(&plan, aggregation.parameter, merged(gathered));
    refuse_errors(&columns)?;
    if aggregation.op == RangeOp::Absent {
        return Ok(vec![absent(&columns, aggregation, grid.count)]);
    }
    Ok(columns)
}

/// All threads' series as one, by labels.
fn merged(mut all: Vec<Gathered>) -> Gathered {
    let Some(mut first) = all.pop() else { return Gathered::default() };
    for other in all {
        let Gathered { table, counts, sizes, samples } = other;
        let mut counts = counts.into_iter();
        let mut sizes = sizes.into_iter();
        let mut samples = samples.into_iter();
        for labels in table.labels {
            let at = first.table.number(labels) as usize;
            add_up(&mut first.counts, at, counts.next());
            add_up(&mut first.sizes, at, sizes.next());
            if let Some(more) = samples.next() {
                first.samples.resize_with(first.samples.len().max(at + 1), Samples::default);
                first.samples[at].append(more);
            }
        }
    }
    first
}

fn add_up(lists: &mut Vec<Vec<i64>>, at: usize, more: Option<Vec<i64>>) {
    let Some(more) = more else { return };
    while lists.len() <= at {
        lists.push(vec![0; more.len()]);
    }
    lists[at].iter_mut().zip(more).for_each(|(sum, n)| *sum += n);
}

fn columns(plan: &Plan<'_>, parameter: Option<f64>, gathered: Gathered) -> Vec<Column> {
    let Gathered { table, counts, sizes, samples } = gathered;
    let seconds = plan.grid.range_ns as f64 / 1e9;
    if plan.unwrap.is_some() {
        let series: Vec<(Labels, Samples)> = table.labels.into_iter().zip(samples).collect();
        return series
            .into_par_iter()
            .map(|(labels, samples)| Column {
                labels,
                values: reduce(plan.op, parameter, samples, plan.grid),
            })
            .collect();
    }
    let scale = match plan.op {
        RangeOp::Rate | RangeOp::BytesRate => seconds,
        _ => 1.0,
    };
    let mut sizes = sizes.into_iter();
    table
        .labels
        .into_iter()
        .zip(counts)
        .map(|(labels, counts)| {
            let sizes = sizes.next();
            let (mut count, mut size) = (0i64, 0i64);
            let values = (0..plan.grid.count)
                .map(|step| {
                    count += counts[step];
                    size += sizes.as_ref().map_or(0, |s| s[step]);
                    let total = if plan.sizes { size } else { count };
                    if count > 0 { total as f64 / scale } else { ABSENT }
                })
                .collect();
            Column { labels, values }
        })
        .collect()
}

/// A series that carries an error fails the query, unless errors were asked for.
fn refuse_errors(columns: &[Column]) -> Result<(), LogqlError> {
    for column in columns {
        if let Some(kind) = column.labels.get(ERROR)
            && column.labels.get(PRESERVE_ERROR) != Some("true")
            && column.values.iter().any(|v| !is_absent(*v))
        {
            return Err(LogqlError::Pipeline { kind: kind.to_owned(), labels: column.labels.clone() });
        }
    }
    Ok(())
}

/// One where there was nothing, with the labels that the selector's equalities fix.
fn absent(columns: &[Column], aggregation: &RangeAggregation, steps: usize) -> Column {
    let values = (0..steps)
        .map(|step| if columns.iter().any(|c| !is_absent(c.values[step])) { ABSENT } else { 1.0 })
        .collect();
    let mut labels = pilothouse_model::LabelsBuilder::default();
    let mut ambiguous: Vec<&str> = Vec::new();
    for matcher in &aggregation.range.log.matchers {
        if matcher.op == pilothouse_model::MatchOp::Equal && labels.get(&matcher.name).is_none() {
            labels.set(&matcher.name, &matcher.value);
        } else {
            ambiguous.push(&matcher.name);
        }
    }
    for name in ambiguous {
        labels.remove(name);
    }
    Column { labels: labels.build(), values }
}
