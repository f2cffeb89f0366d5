//! The way out: streams by labels, blocks by time, stream and filter, entries to the visitor.
//!
//! Whatever may hold wanted entries is a *unit*: a group in memory, or a block. Units are put in
//! the order of reading and taken one by one by the threads of the pool, so that a query with a
//! limit ends after a few of them.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::Mutex;
use pilothouse_index::{RoaringBitmap, resolve};
use pilothouse_model::log_ports::beyond_horizon;
use pilothouse_model::logs::{EntryRun, LineNeed, LogSelection, MetadataNeed, ReadOrder, TimeBuckets};
use pilothouse_model::{Budget, EntryBatch, EntryVisitor, Flow, Labels, Matcher, ReadReport};
use rayon::prelude::*;
use rustc_hash::FxBuildHasher;
use tantivy::directory::OwnedBytes;

use crate::block::{BlockMask, Head, Probe, Reader, Want};
use crate::day::day_of;
use crate::day::one::DayView;
use crate::day::table::{Row, Span};
use crate::delete::{Applied, Sifted};
use crate::error::Error;
use crate::flush::block_error;
use crate::layers::FreshBlock;
use crate::scan::Scan;
use crate::store::Inner;
use crate::tail::{OpenGroup, Run};

// ---- streams ----

/// The streams of a query: who they are, and a quick test for a number.
pub(crate) struct Selected {
    pub(crate) ids: RoaringBitmap,
    bits: Vec<u64>,
    labels: HashMap<u32, Labels, FxBuildHasher>,
}

impl Selected {
    pub(crate) fn resolve(inner: &Inner, matchers: &[Matcher], budget: &Budget) -> Result<Self, Error> {
        let registry = inner.registry.read();
        let ids = resolve(&registry.index, matchers, budget)?;
        let labels = ids.iter().filter_map(|id| Some((id, registry.get(id)?.labels.clone()))).collect();
        Ok(Self { bits: bits_of(&ids), ids, labels })
    }

    #[inline]
    fn has(&self, id: u32) -> bool {
        has_bit(&self.bits, id)
    }
}

pub(crate) fn bits_of(ids: &RoaringBitmap) -> Vec<u64> {
    let mut bits = vec![0u64; ids.max().map_or(0, |max| max as usize / 64 + 1)];
    for id in ids {
        if let Some(word) = bits.get_mut(id as usize / 64) {
            *word |= 1 << (id % 64);
        }
    }
    bits
}

#[inline]
pub(crate) fn has_bit(bits: &[u64], id: u32) -> bool {
    bits.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
}

// ---- units ----

enum Place {
    /// Group and the least cut number its entries may have got; the greatest for an open one.
    Tail(Arc<OpenGroup>, u64),
    Fresh(Arc<FreshBlock>),
    Disk {
        view: Arc<DayView>,
        segment: u32,
        row: u32,
    },
}

struct Unit {
    /// Of the wanted entries, both inclusive.
    oldest_ns: i64,
    newest_ns: i64,
    place: Place,
}

/// Everything one read works with.
struct Read<'a> {
    inner: &'a Inner,
    selection: &'a LogSelection,
    selected: Selected,
    /// For lines in memory.
    scan: Scan,
    applied: Vec<Applied>,
    visitor: &'a dyn EntryVisitor,
    budget: &'a Budget,
    pruned: AtomicU64,
    decompressed: AtomicU64,
    stopped: AtomicBool,
}

pub(crate) fn read(
    inner: &Inner,
    selection: &LogSelection,
    visitor: &dyn EntryVisitor,
    budget: &Budget,
) -> Result<ReadReport, Error> {
    let mut selection = selection.clone();
    selection.start_ns = selection.start_ns.max(inner.oldest_ns(inner.now_ms()));
    let selected = Selected::resolve(inner, &selection.matchers, budget)?;
    let mut report = ReadReport { streams: selected.ids.len(), ..ReadReport::default() };
    if selected.ids.is_empty() || selection.start_ns >= selection.end_ns {
        return Ok(report);
    }
    budget.add_series(selected.ids.len())?;
    let range = (selection.start_ns, selection.end_ns);
    let applied = inner.applied(Some(&selected.ids), range, budget)?;
    let read = Read {
        inner,
        selection: &selection,
        selected,
        scan: Scan::new(&selection.demands),
        applied,
        visitor,
        budget,
        pruned: AtomicU64::new(0),
        decompressed: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
    };
    let mut units = read.units(&mut report)?;
    match selection.order {
        ReadOrder::Any => {}
        ReadOrder::Newest => units.sort_by_key(|u| std::cmp::Reverse(u.newest_ns)),
        ReadOrder::Oldest => units.sort_by_key(|u| u.oldest_ns),
    }
    read.run(&units)?;
    report.blocks_pruned += read.pruned.load(Relaxed);
    report.decompressed_bytes = read.decompressed.load(Relaxed);
    Ok(report)
}

impl Read<'_> {
    // ---- choosing ----

    fn units(&self, report: &mut ReadReport) -> Result<Vec<Unit>, Error> {
        let (layers, exclusion) = {
            let layers = self.inner.layers.read();
            (layers.clone(), layers.exclusion())
        };
        let probe = Probe::new(&self.selection.demands);
        let mut units = Vec::new();
        let cuts = layers.cuts.iter().map(|c| (&c.tail, c.number));
        for (group, cut) in layers.open.iter().map(|g| (g, u64::MAX)).chain(cuts) {
            if let Some((oldest_ns, newest_ns)) = self.span_of_tail(group) {
                units.push(Unit { oldest_ns, newest_ns, place: Place::Tail(group.clone(), cut) });
            }
        }
        for block in &layers.fresh {
            let Some((oldest_ns, newest_ns)) = self.span_of(&block.row, &block.spans) else { continue };
            report.blocks += 1;
            if probe.prunes() && !block.filter.may_match(&probe) {
                report.blocks_pruned += 1;
                continue;
            }
            units.push(Unit { oldest_ns, newest_ns, place: Place::Fresh(block.clone()) });
        }
        let (first, last) = (day_of(self.selection.start_ns), day_of(self.selection.end_ns - 1));
        for day in self.inner.days.range(first, last) {
            self.budget.check("log query")?;
            let streams = self.inner.day_streams.read();
            if streams.get(&day.number).is_none_or(|s| s.is_disjoint(&self.selected.ids)) {
                continue;
            }
            drop(streams);
            let view = self.inner.days.view(&day)?;
            self.units_of_day(&view, &exclusion, &probe, report, &mut units);
        }
        Ok(units)
    }

    fn span_of_tail(&self, group: &OpenGroup) -> Option<(i64, i64)> {
        let tail = group.tail.read();
        let wanted = tail.streams.iter().filter(|s| s.entries > 0 && self.selected.has(s.id));
        let inside =
            wanted.filter(|s| s.first_ns < self.selection.end_ns && s.last_ns >= self.selection.start_ns);
        inside.map(|s| (s.first_ns, s.last_ns)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// The times of the wanted streams of a block.
    #[inline]
    fn span_of(&self, row: &Row, spans: &[Span]) -> Option<(i64, i64)> {
        let (start_ns, end_ns) = (self.selection.start_ns, self.selection.end_ns);
        if !row.overlaps(start_ns, end_ns) {
            return None;
        }
        let mut found: Option<(i64, i64)> = None;
        for span in spans {
            if self.selected.has(span.stream) && span.overlaps(start_ns, end_ns) {
                let (oldest, newest) = found.unwrap_or((span.min_ns, span.max_ns));
                found = Some((oldest.min(span.min_ns), newest.max(span.max_ns)));
            }
        }
        found
    }

    fn units_of_day(
        &self,
        view: &Arc<DayView>,
        exclusion: &crate::layers::Exclusion,
        probe: &Probe,
        report: &mut ReadReport,
        units: &mut Vec<Unit>,
    ) {
        let first = units.len();
        for (segment, held) in view.segments.iter().enumerate() {
            if !held.table.overlaps(self.selection.start_ns, self.selection.end_ns) {
                continue;
            }
            for (number, row) in held.table.rows.iter().enumerate() {
                let Some((oldest_ns, newest_ns)) = self.span_of(row, held.table.spans(row)) else { continue };
                if exclusion.excludes(row) {
                    continue;
                }
                let place = Place::Disk { view: view.clone(), segment: segment as u32, row: number as u32 };
                units.push(Unit { oldest_ns, newest_ns, place });
            }
        }
        report.blocks += (units.len() - first) as u64;
        if probe.prunes() {
            let masks = masks_of(view, &units[first..], probe);
            let mut at = 0;
            units.retain(|unit| {
                at += 1;
                at <= first || unit.passes(&masks)
            });
            let kept = (units.len() - first) as u64;
            report.blocks_pruned += (at - first) as u64 - kept;
        }
    }

    // ---- running ----

    fn run(&self, units: &[Unit]) -> Result<(), Error> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            let mut worker = Worker::default();
            while let Some(unit) = units.get(next.fetch_add(1, Relaxed)) {
                if self.stopped.load(Relaxed) {
                    self.pruned.fetch_add(1, Relaxed);
                    continue;
                }
                match self.unit(&mut worker, unit) {
                    Ok(Flow::Continue) => {}
                    Ok(Flow::Stop) => self.stopped.store(true, Relaxed),
                    Err(error) => {
                        failure.lock().get_or_insert(error);
                        self.stopped.store(true, Relaxed);
                    }
                }
            }
        };
        let threads = rayon::current_num_threads().min(units.len());
        if threads <= 1 {
            work();
        } else {
            rayon::scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| work())));
        }
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn unit(&self, worker: &mut Worker, unit: &Unit) -> Result<Flow, Error> {
        self.budget.check("log query")?;
        if beyond_horizon(self.selection.order, self.visitor.horizon_ns(), unit.oldest_ns, unit.newest_ns) {
            self.pruned.fetch_add(1, Relaxed);
            return Ok(Flow::Continue);
        }
        let read = match &unit.place {
            Place::Tail(group, cut) => return self.tail(worker, group, *cut),
            Place::Fresh(block) => self.block(worker, &block.row, &block.spans, &**block),
            Place::Disk { view, segment, row } => {
                let Some(segment) = view.segments.get(*segment as usize) else { return Ok(Flow::Continue) };
                let Some(row) = segment.table.rows.get(*row as usize) else { return Ok(Flow::Continue) };
                self.block(worker, row, segment.table.spans(row), &Stored { segment, row })
            }
        };
        match read {
            // One bad block does not take the others away.
            Err(error) if error.is_damage() => {
                self.inner.damaged_block(&error);
                Ok(Flow::Continue)
            }
            read => read,
        }
    }

    // ---- memory ----

    /// The wanted streams of a group. What is wanted is copied first, so that a slow visitor
    /// does not keep writers waiting.
    fn tail(&self, worker: &mut Worker, group: &OpenGroup, cut: u64) -> Result<Flow, Error> {
        let wanted: Vec<u32> = {
            let tail = group.tail.read();
            tail.streams.iter().filter(|s| s.entries > 0 && self.selected.has(s.id)).map(|s| s.id).collect()
        };
        for id in wanted {
            let Some(labels) = self.selected.labels.get(&id) else { continue };
            let filtered = self.applied.iter().any(|a| cut <= a.upto_cut);
            self.copy_stream(worker, group, id, filtered);
            let flow = self.visit_copied(worker, id, labels, filtered.then_some(cut))?;
            if flow == Flow::Stop {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue)
    }

    fn copy_stream(&self, worker: &mut Worker, group: &OpenGroup, id: u32, whole: bool) {
        worker.parts.clear();
        let tail = group.tail.read();
        let Some(stream) = tail.stream(id) else { return };
        let text = whole || self.selection.lines == LineNeed::Text;
        let metadata = whole || self.selection.metadata != MetadataNeed::Nothing;
        for run in &stream.runs {
            let range = run.range(self.selection.start_ns, self.selection.end_ns);
            if range.is_empty() || !self.scan.may_match(run.lines(&range)) {
                continue;
            }
            let mut part = worker.spare.pop().unwrap_or_default();
            part.copy(run, range, text);
            if metadata {
                part.copy_sets(run, &tail.sets);
            }
            worker.parts.push(part);
        }
    }

    fn visit_copied(
        &self,
        worker: &mut Worker,
        id: u32,
        labels: &Labels,
        cut: Option<u64>,
    ) -> Result<Flow, Error> {
        let mut parts = std::mem::take(&mut worker.parts);
        let mut flow = Flow::Continue;
        for part in &parts {
            let entries = part.entries(id);
            flow = match cut {
                Some(cut) => self.sifted(&mut worker.sifted, &entries, labels, cut)?,
                None => match self.run_of(&entries, part.text_bytes) {
                    Some(run) => self.visitor.run(&run.of(labels, id))?,
                    None => self.visitor.batch(&entries.batch(labels, u64::from(id)))?,
                },
            };
            if flow == Flow::Stop {
                break;
            }
        }
        worker.spare.append(&mut parts);
        worker.parts = parts;
        Ok(flow)
    }

    /// All entries as a run, if they are wanted as one.
    fn run_of(&self, entries: &crate::block::StreamEntries<'_>, bytes: u64) -> Option<Counted> {
        let buckets = self.selection.buckets.as_ref()?;
        let (first, last) = (*entries.times_ns.first()?, *entries.times_ns.last()?);
        let plain = entries.metadata.is_empty();
        (plain && buckets.same(first, last)).then_some(Counted {
            t_ns: first,
            entries: entries.times_ns.len() as u64,
            bytes,
        })
    }

    // ---- blocks ----

    fn block(
        &self,
        worker: &mut Worker,
        row: &Row,
        spans: &[Span],
        frames: &dyn Frames,
    ) -> Result<Flow, Error> {
        let filtered = spans
            .iter()
            .any(|s| self.selected.has(s.stream) && self.applied.iter().any(|a| a.touches(row.cut, s)));
        worker.wanted.clear();
        let countable = self.countable(row).filter(|_| !filtered);
        for span in spans {
            if !self.selected.has(span.stream) || !self.overlaps(span) {
                continue;
            }
            match countable.filter(|b| self.contains(span) && b.same(span.min_ns, span.max_ns)) {
                Some(_) => {
                    let Some(labels) = self.selected.labels.get(&span.stream) else { continue };
                    let counted = Counted {
                        t_ns: span.min_ns,
                        entries: u64::from(span.entries),
                        bytes: u64::from(span.bytes),
                    };
                    if self.visitor.run(&counted.of(labels, span.stream))? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                }
                None => worker.wanted.push(span.stream),
            }
        }
        if worker.wanted.is_empty() {
            return Ok(Flow::Continue);
        }
        self.budget.reserve_bytes(row.bytes)?;
        let read = self.entries(worker, row, frames, filtered);
        self.budget.release_bytes(row.bytes);
        read
    }

    /// The buckets, if entries of a block may come as runs.
    fn countable(&self, row: &Row) -> Option<&TimeBuckets> {
        let plain = !row.metadata_names.may_have(&self.selection.metadata);
        self.selection.buckets.as_ref().filter(|_| plain)
    }

    fn overlaps(&self, span: &Span) -> bool {
        span.overlaps(self.selection.start_ns, self.selection.end_ns)
    }

    fn contains(&self, span: &Span) -> bool {
        span.lies_within(self.selection.start_ns, self.selection.end_ns)
    }

    /// Decodes the wanted streams of a block and hands them out.
    fn entries(
        &self,
        worker: &mut Worker,
        row: &Row,
        frames: &dyn Frames,
        filtered: bool,
    ) -> Result<Flow, Error> {
        let lines = if filtered { LineNeed::Text } else { self.selection.lines };
        let all = MetadataNeed::All;
        let mut metadata = if filtered { &all } else { &self.selection.metadata };
        if !row.metadata_names.may_have(metadata) {
            metadata = &MetadataNeed::Nothing;
        }
        let head = frames.head()?;
        let head = Head::decode(&head).map_err(block_error)?;
        let with_body = lines == LineNeed::Text || *metadata != MetadataNeed::Nothing;
        let (body, sets) = if with_body { frames.body()? } else { Default::default() };
        let Worker { reader, wanted, sifted, .. } = worker;
        let reader = match reader {
            Some(reader) => reader,
            none => none.insert(Reader::new().map_err(block_error)?),
        };
        let want = Want {
            streams: &|number| wanted.binary_search(&number).is_ok(),
            start_ns: self.selection.start_ns,
            end_ns: self.selection.end_ns,
            lines,
            metadata,
        };
        reader.read(&head, &body, &sets, &want).map_err(block_error)?;
        self.decompressed.fetch_add(reader.decompressed_bytes(), Relaxed);
        for entries in reader.streams() {
            let Some(labels) = self.selected.labels.get(&entries.number) else { continue };
            let flow = match filtered {
                true => self.sifted(sifted, &entries, labels, row.cut)?,
                false => self.visitor.batch(&entries.batch(labels, u64::from(entries.number)))?,
            };
            if flow == Flow::Stop {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue)
    }

    /// Hands out what deletions leave of some entries.
    fn sifted(
        &self,
        sifted: &mut Sifted,
        entries: &crate::block::StreamEntries<'_>,
        labels: &Labels,
        cut: u64,
    ) -> Result<Flow, Error> {
        sifted.sift(entries, labels, cut, &self.applied);
        if sifted.times_ns.is_empty() {
            return Ok(Flow::Continue);
        }
        let batch = EntryBatch {
            labels,
            stream: u64::from(entries.number),
            times_ns: &sifted.times_ns,
            text: &sifted.text,
            bounds: &sifted.bounds,
            metadata_sets: entries.metadata_sets,
            metadata: &sifted.metadata,
        };
        Ok(self.visitor.batch(&batch)?)
    }
}

/// A run before its stream is named.
struct Counted {
    t_ns: i64,
    entries: u64,
    bytes: u64,
}

impl Counted {
    fn of<'a>(&self, labels: &'a Labels, id: u32) -> EntryRun<'a> {
        EntryRun { labels, stream: u64::from(id), t_ns: self.t_ns, entries: self.entries, bytes: self.bytes }
    }
}

/// What a thread keeps from unit to unit.
#[derive(Default)]
struct Worker {
    reader: Option<Reader>,
    /// Streams of the present block that must be decoded, ascending.
    wanted: Vec<u32>,
    sifted: Sifted,
    parts: Vec<Part>,
    spare: Vec<Part>,
}

/// Copied entries of one run.
#[derive(Default)]
struct Part {
    times_ns: Vec<i64>,
    text: String,
    bounds: Vec<u32>,
    sets: Vec<Labels>,
    metadata: Vec<u32>,
    text_bytes: u64,
    first: usize,
}

impl Part {
    fn copy(&mut self, run: &Run, range: std::ops::Range<usize>, text: bool) {
        let (start, end) = (run.start(range.start), run.start(range.end));
        self.times_ns.clear();
        self.times_ns.extend_from_slice(run.times_ns.get(range.clone()).unwrap_or(&[]));
        self.bounds.clear();
        self.bounds.push(0);
        self.bounds.extend(run.ends.get(range.clone()).unwrap_or(&[]).iter().map(|e| e - start));
        self.text.clear();
        if text {
            self.text.push_str(run.lines(&range));
        }
        self.sets.clear();
        self.metadata.clear();
        self.text_bytes = u64::from(end - start);
        self.first = range.start;
    }

    /// The sets that occur, numbered anew.
    fn copy_sets(&mut self, run: &Run, sets: &[Labels]) {
        let range = self.first..self.first + self.times_ns.len();
        let numbers = run.metadata.get(range).unwrap_or(&[]);
        if numbers.iter().all(|n| *n == 0) {
            return;
        }
        let mut local: HashMap<u32, u32, FxBuildHasher> = HashMap::default();
        for number in numbers {
            let next = self.sets.len() as u32;
            let own = *local.entry(*number).or_insert(next);
            if own == next {
                self.sets.push(sets.get(*number as usize).cloned().unwrap_or_default());
            }
            self.metadata.push(own);
        }
    }

    fn entries(&self, number: u32) -> crate::block::StreamEntries<'_> {
        crate::block::StreamEntries {
            number,
            times_ns: &self.times_ns,
            text: &self.text,
            bounds: &self.bounds,
            metadata_sets: &self.sets,
            metadata: &self.metadata,
        }
    }
}

/// Bytes of a frame.
#[derive(Default)]
enum Frame<'a> {
    #[default]
    Nothing,
    Fresh(&'a [u8]),
    Read(OwnedBytes),
}

impl Deref for Frame<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Fresh(bytes) => bytes,
            Self::Read(bytes) => bytes,
        }
    }
}

/// Where the frames of a block come from.
trait Frames {
    fn head(&self) -> Result<Frame<'_>, Error>;
    /// Body and metadata.
    fn body(&self) -> Result<(Frame<'_>, Frame<'_>), Error>;
}

impl Frames for FreshBlock {
    fn head(&self) -> Result<Frame<'_>, Error> {
        Ok(Frame::Fresh(&self.head))
    }

    fn body(&self) -> Result<(Frame<'_>, Frame<'_>), Error> {
        Ok((Frame::Fresh(&self.body), Frame::Fresh(&self.metadata)))
    }
}

struct Stored<'a> {
    segment: &'a crate::day::one::Segment,
    row: &'a Row,
}

impl Frames for Stored<'_> {
    fn head(&self) -> Result<Frame<'_>, Error> {
        Ok(Frame::Read(self.segment.head(self.row)?))
    }

    fn body(&self) -> Result<(Frame<'_>, Frame<'_>), Error> {
        let (body, metadata) = self.segment.body(self.row)?;
        Ok((Frame::Read(body), Frame::Read(metadata)))
    }
}

/// By slab, which of its blocks may match; `None` for one that cannot tell.
type Masks = HashMap<u64, Option<BlockMask>, FxBuildHasher>;

/// Probes the filters of some units of one day, each slab once.
fn masks_of(view: &DayView, units: &[Unit], probe: &Probe) -> Masks {
    let mut places: Vec<_> = units.iter().filter_map(|u| u.row().map(|row| row.filter)).collect();
    places.sort_unstable_by_key(|p| p.slab);
    places.dedup_by_key(|p| p.slab);
    let mask = |place: &crate::day::schema::FilterPlace| (place.slab, view.filters.probe(place, probe));
    // A few are done before another thread has woken.
    if places.len() < 8 {
        return places.iter().map(mask).collect();
    }
    places.par_iter().map(mask).collect::<Vec<_>>().into_iter().collect()
}

impl Unit {
    /// The row of a block on the disk.
    fn row(&self) -> Option<&Row> {
        let Place::Disk { view, segment, row } = &self.place else { return None };
        view.segments.get(*segment as usize)?.table.rows.get(*row as usize)
    }

    fn passes(&self, masks: &Masks) -> bool {
        let Some(row) = self.row() else { return true };
        match masks.get(&row.filter.slab) {
            Some(Some(mask)) => mask.contains(row.filter.in_slab as usize),
            _ => true,
        }
    }
}

impl Inner {
    /// Counts a block that cannot be decoded, and tells of it.
    pub(crate) fn damaged_block(&self, error: &Error) {
        if self.counters.corruptions.fetch_add(1, Relaxed) < 100 {
            tracing::error!(%error, "a damaged block is left out");
        }
    }
}
