//! Deletions: durable, applied when reading, made real when the day's blocks are rewritten.
//!
//! A deletion cuts all groups first, so that each block lies wholly before or behind it; it means
//! what was cut up to its number, and what is written later stays visible, whatever its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use pilothouse_disk::workers::Rounds as _;
use pilothouse_index::{RoaringBitmap, resolve};
use pilothouse_model::logs::{LineNeed, MetadataNeed};
use pilothouse_model::{Budget, Labels, Matcher, SourceError};
use tantivy::directory::OwnedBytes;

use crate::block::{Encoded, Encoder, Head, Reader, StreamEntries, Want};
use crate::day::day_of;
use crate::day::one::{Change, Day, DayView, NewBlock};
use crate::day::table::{Row, Span};
use crate::error::Error;
use crate::flush::block_error;
use crate::options::{FilterCompiler, LinePredicate};
use crate::record::{Deletion, cancel_record, deletion_record};
use crate::seen::Sought;
use crate::store::{Inner, Store};
use crate::tail::metadata_volume;

/// Blocks that are rewritten in one commit.
pub(crate) const REWRITTEN_AT_ONCE: usize = 64;

/// What is to be deleted: entries of matching streams with `start <= t < end`.
#[derive(Debug, Clone, Default)]
pub struct DeletionRequest {
    /// At least one, which must not match the empty text; the caller has checked that.
    pub matchers: Vec<Matcher>,
    pub start_ns: i64,
    pub end_ns: i64,
    /// The text of a line filter, as [`FilterCompiler`] takes it; empty for all lines.
    pub filter: String,
    /// The request as the client wrote it.
    pub query: String,
}

#[derive(Debug, Clone)]
struct Known {
    deletion: Deletion,
    predicate: Predicate,
}

#[derive(Clone)]
enum Predicate {
    All,
    Lines(LinePredicate),
    /// The filter could not be understood, so nothing is deleted by it.
    Unknown,
}

impl Predicate {
    fn means(&self, labels: &Labels, line: &str, metadata: Option<&Labels>) -> bool {
        match self {
            Self::All => true,
            Self::Lines(means) => means(labels, line, metadata),
            Self::Unknown => false,
        }
    }
}

impl Predicate {
    fn hides(&self, sought: &Sought<'_>, metadata: Option<&Labels>) -> bool {
        self.means(sought.labels, sought.line, metadata)
    }
}

/// Whether a deletion that is not done hides an entry of a cut, unless its filter says otherwise.
fn may_hide(deletion: &Deletion, sought: &Sought<'_>, cut: u64) -> bool {
    let matches = |m: &Matcher| m.matches(sought.labels.value(&m.name));
    let is_inside = sought.t_ns >= deletion.start_ns && sought.t_ns < deletion.end_ns;
    !deletion.done && cut <= deletion.upto_cut && is_inside && deletion.matchers.iter().all(matches)
}

/// The filters of deletions while the log is read again and there is no store to ask, by the deletions' ids.
#[derive(Debug)]
pub(crate) struct Predicates {
    compiler: FilterCompiler,
    compiled: HashMap<u64, Predicate>,
}

impl Predicates {
    pub(crate) fn new(compiler: &FilterCompiler) -> Self {
        Self { compiler: compiler.clone(), compiled: HashMap::new() }
    }

    /// Whether a deletion hides an entry of a cut. A filter that cannot be understood hides nothing.
    pub(crate) fn hides(
        &mut self,
        deletion: &Deletion,
        sought: &Sought<'_>,
        cut: u64,
        metadata: Option<&Labels>,
    ) -> bool {
        if !may_hide(deletion, sought, cut) {
            return false;
        }
        let compile = || predicate_of(&deletion.filter, &self.compiler).unwrap_or(Predicate::Unknown);
        self.compiled.entry(deletion.id).or_insert_with(compile).hides(sought, metadata)
    }
}

impl std::fmt::Debug for Predicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::All => "All",
            Self::Lines(_) => "Lines",
            Self::Unknown => "Unknown",
        })
    }
}

/// All deletions, done or not, by id.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    list: RwLock<Arc<Vec<Known>>>,
    next_id: AtomicU64,
    /// What the catalog does not have yet.
    unsaved: Mutex<Vec<Deletion>>,
}

impl Deletions {
    pub(crate) fn new(list: Vec<Deletion>, next_id: u64, filters: &FilterCompiler) -> Self {
        let known = |deletion: Deletion| {
            let predicate = predicate_of(&deletion.filter, filters).unwrap_or_else(|error| {
                tracing::error!(filter = deletion.filter, error, "a deletion's filter is not understood");
                Predicate::Unknown
            });
            Known { deletion, predicate }
        };
        let list = list.into_iter().map(known).collect();
        Self {
            list: RwLock::new(Arc::new(list)),
            next_id: AtomicU64::new(next_id),
            unsaved: Mutex::default(),
        }
    }

    fn all(&self) -> Arc<Vec<Known>> {
        self.list.read().clone()
    }

    /// Deletions that are not done.
    pub(crate) fn pending(&self) -> u64 {
        self.all().iter().filter(|k| !k.deletion.done).count() as u64
    }

    /// Is another after a request has been made, taken back or done.
    pub(crate) fn mark(&self) -> (Option<u64>, usize, u64) {
        let all = self.all();
        (all.last().map(|k| k.deletion.id), all.len(), self.pending())
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Known>)) {
        change(Arc::make_mut(&mut self.list.write()));
    }
}

fn predicate_of(filter: &str, filters: &FilterCompiler) -> Result<Predicate, String> {
    if filter.is_empty() {
        return Ok(Predicate::All);
    }
    (filters.0)(filter).map(Predicate::Lines)
}

// ---- what a reader applies ----

/// A deletion as it bears on one query or rewrite.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) upto_cut: u64,
    start_ns: i64,
    end_ns: i64,
    streams: RoaringBitmap,
    predicate: Predicate,
}

impl Applied {
    /// Whether it may mean an entry of a block's stream.
    pub(crate) fn touches(&self, cut: u64, span: &Span) -> bool {
        cut <= self.upto_cut
            && span.overlaps(self.start_ns, self.end_ns)
            && self.streams.contains(span.stream)
    }

    fn means(&self, stream: u32, labels: &Labels, t_ns: i64, line: &str, metadata: Option<&Labels>) -> bool {
        t_ns >= self.start_ns
            && t_ns < self.end_ns
            && self.streams.contains(stream)
            && self.predicate.means(labels, line, metadata)
    }
}

/// Entries of one stream that are left after deletions.
#[derive(Debug, Default)]
pub(crate) struct Sifted {
    pub(crate) times_ns: Vec<i64>,
    pub(crate) text: String,
    pub(crate) bounds: Vec<u32>,
    pub(crate) metadata: Vec<u32>,
}

impl Sifted {
    /// Keeps of some entries those that no deletion means; the entries have text and metadata.
    pub(crate) fn sift(
        &mut self,
        entries: &StreamEntries<'_>,
        labels: &Labels,
        cut: u64,
        applied: &[Applied],
    ) {
        self.times_ns.clear();
        self.text.clear();
        self.metadata.clear();
        self.bounds.clear();
        self.bounds.push(0);
        let batch = entries.batch(labels, u64::from(entries.number));
        for (i, t_ns) in entries.times_ns.iter().enumerate() {
            let (line, metadata) = (batch.line(i), batch.metadata_of(i));
            let means =
                |a: &Applied| cut <= a.upto_cut && a.means(entries.number, labels, *t_ns, line, metadata);
            if applied.iter().any(means) {
                continue;
            }
            self.times_ns.push(*t_ns);
            self.text.push_str(line);
            self.bounds.push(self.text.len() as u32);
            self.metadata.extend(entries.metadata.get(i));
        }
    }

    fn line(&self, i: usize) -> &str {
        let range = self.bounds.get(i).zip(self.bounds.get(i + 1));
        range.and_then(|(start, end)| self.text.get(*start as usize..*end as usize)).unwrap_or("")
    }

    /// Keeps of what is left the entries that are, by time and line, nowhere else.
    fn retain(
        &mut self,
        is_elsewhere: &mut dyn FnMut(i64, &str) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut kept = Self { bounds: vec![0], ..Self::default() };
        for (i, t_ns) in self.times_ns.iter().enumerate() {
            let line = self.line(i);
            if !is_elsewhere(*t_ns, line)? {
                kept.times_ns.push(*t_ns);
                kept.text.push_str(line);
                kept.bounds.push(kept.text.len() as u32);
                kept.metadata.extend(self.metadata.get(i));
            }
        }
        *self = kept;
        Ok(())
    }
}

impl Inner {
    /// The deletions that bear on some streams in a range of time.
    pub(crate) fn applied(
        &self,
        streams: Option<&RoaringBitmap>,
        (start_ns, end_ns): (i64, i64),
        budget: &Budget,
    ) -> Result<Vec<Applied>, Error> {
        let all = self.deletions.all();
        let pending = all
            .iter()
            .filter(|k| !k.deletion.done && k.deletion.start_ns < end_ns && k.deletion.end_ns > start_ns);
        self.applied_of(pending, streams, budget)
    }

    fn applied_of<'a>(
        &self,
        known: impl Iterator<Item = &'a Known>,
        within: Option<&RoaringBitmap>,
        budget: &Budget,
    ) -> Result<Vec<Applied>, Error> {
        let registry = self.registry.read();
        let mut applied = Vec::new();
        for Known { deletion, predicate } in known {
            let mut streams = resolve(&registry.index, &deletion.matchers, budget)?;
            if let Some(within) = within {
                streams &= within;
            }
            if !streams.is_empty() {
                applied.push(Applied {
                    upto_cut: deletion.upto_cut,
                    start_ns: deletion.start_ns,
                    end_ns: deletion.end_ns,
                    streams,
                    predicate: predicate.clone(),
                });
            }
        }
        Ok(applied)
    }
}

impl Inner {
    /// Whether a deletion that is not done hides an entry that is stored. Then it may come again,
    /// and that deletion can no longer be taken back, or the entry would be there twice.
    pub(crate) fn hides(
        &self,
        sought: &Sought<'_>,
        cut: u64,
        metadata: Option<&Labels>,
    ) -> Result<bool, Error> {
        let all = self.deletions.all();
        let hides = |k: &&Known| may_hide(&k.deletion, sought, cut) && k.predicate.hides(sought, metadata);
        let Some(Known { deletion, .. }) = all.iter().find(hides) else { return Ok(false) };
        if !deletion.is_final {
            self.make_final(deletion.id)?;
        }
        Ok(true)
    }

    fn make_final(&self, id: u64) -> Result<(), Error> {
        let all = self.deletions.all();
        let Some(known) = all.iter().find(|k| k.deletion.id == id) else { return Ok(()) };
        self.catalog.save_deletions([&Deletion { is_final: true, ..known.deletion.clone() }])?;
        let mut unsaved = self.deletions.unsaved.lock();
        unsaved.iter_mut().filter(|d| d.id == id).for_each(|d| d.is_final = true);
        self.deletions.change(|list| {
            list.iter_mut().filter(|k| k.deletion.id == id).for_each(|k| k.deletion.is_final = true);
        });
        Ok(())
    }
}

// ---- requests ----

impl Store {
    /// Hides entries at once and removes them from the disk later, when the time to cancel is
    /// over. Returns the request's id; durable when it returns.
    pub fn delete(&self, request: &DeletionRequest) -> Result<u64, Error> {
        self.inner.delete(request)
    }

    /// All requests that are known, the oldest first.
    pub fn deletions(&self) -> Vec<Deletion> {
        self.inner.deletions.all().iter().map(|k| k.deletion.clone()).collect()
    }

    /// Takes a request back, as long as nothing was removed by it: its entries are shown again.
    /// `false` if there is none of that id, it is done, or entries that it hides were written
    /// anew.
    pub fn cancel_deletion(&self, id: u64) -> Result<bool, Error> {
        self.inner.cancel_deletion(id)
    }
}

impl Inner {
    fn delete(&self, request: &DeletionRequest) -> Result<u64, Error> {
        let predicate = predicate_of(&request.filter, &self.filters).map_err(Error::BadDeletion)?;
        if request.matchers.is_empty() || request.start_ns >= request.end_ns {
            return Err(Error::BadDeletion("a deletion needs a selector and a range of time".to_owned()));
        }
        if self.deletions.pending() >= self.limits.now().max_log_deletions {
            return Err(Error::BadDeletion("too many deletion requests are pending".to_owned()));
        }
        let (id, position) = {
            let mut appender = self.appender.lock();
            if appender.closed {
                return Err(SourceError::NotWritable("the store is closed".into()).into());
            }
            appender.catch_up(&self.wal).map_err(|e| Error::Source(e.into()))?;
            let groups: Vec<u32> = (0..self.layers.read().open.len() as u32).collect();
            self.cut(&groups);
            let deletion = Deletion {
                id: self.deletions.next_id.fetch_add(1, Relaxed),
                created_ms: self.now_ms(),
                upto_cut: self.layers.read().last_cut,
                start_ns: request.start_ns,
                end_ns: request.end_ns,
                matchers: request.matchers.clone(),
                filter: request.filter.clone(),
                query: request.query.clone(),
                is_final: false,
                done: false,
            };
            let logged = appender.log_one(&self.wal, &deletion_record(&deletion));
            let position = logged.map_err(|e| Error::Source(e.into()))?;
            let id = deletion.id;
            self.deletions.unsaved.lock().push(deletion.clone());
            self.deletions.change(|list| list.push(Known { deletion, predicate }));
            (id, position)
        };
        self.wal.wait(position)?;
        self.crash_point("delete: logged");
        self.save_deletions()?;
        self.crash_point("delete: saved");
        Ok(id)
    }

    fn cancel_deletion(&self, id: u64) -> Result<bool, Error> {
        // Not while a rewrite is under way.
        let _work = self.flusher.work.lock();
        let mut appender = self.appender.lock();
        let all = self.deletions.all();
        let is_pending = all.iter().any(|k| k.deletion.id == id && !k.deletion.done && !k.deletion.is_final);
        if !is_pending {
            return Ok(false);
        }
        if appender.closed {
            return Err(SourceError::NotWritable("the store is closed".into()).into());
        }
        let logged = appender.log_one(&self.wal, &cancel_record(id));
        let position = logged.map_err(|e| Error::Source(e.into()))?;
        self.deletions.unsaved.lock().retain(|d| d.id != id);
        self.deletions.change(|list| list.retain(|k| k.deletion.id != id));
        drop(appender);
        self.wal.wait(position)?;
        self.catalog.remove_deletions(&[id])?;
        Ok(true)
    }

    /// Brings deletions into the catalog that hold already and are in the log only. A flush does
    /// it again for one that could not be saved, before the log is trimmed.
    pub(crate) fn save_deletions(&self) -> Result<(), Error> {
        loop {
            let Some(deletion) = self.deletions.unsaved.lock().first().cloned() else { return Ok(()) };
            self.catalog.save_deletions([&deletion])?;
            self.deletions.unsaved.lock().retain(|d| d.id != deletion.id);
        }
    }
}

// ---- making them real ----

impl Inner {
    /// Rewrites the blocks that deletions mean which can no longer be canceled. The caller holds
    /// the flusher's lock.
    pub(crate) fn settle_deletions(&self, now_ms: i64) -> Result<(), Error> {
        let delay_ms = i64::try_from(self.limits.now().log_deletion_delay_ms).unwrap_or(i64::MAX);
        let all = self.deletions.all();
        let uncommitted = {
            let layers = self.layers.read();
            let fresh = layers.fresh.iter().map(|b| b.row.cut);
            layers.cuts.iter().map(|c| c.number).chain(fresh).min().unwrap_or(u64::MAX)
        };
        let is_due = |k: &&Known| {
            let deletion = &k.deletion;
            !deletion.done
                && deletion.created_ms.saturating_add(delay_ms) <= now_ms
                && deletion.upto_cut < uncommitted
                && !matches!(k.predicate, Predicate::Unknown)
        };
        let due: Vec<&Known> = all.iter().filter(is_due).collect();
        if due.is_empty() {
            return Ok(());
        }
        let applied = self.applied_of(due.iter().copied(), None, &Budget::unlimited())?;
        if let (Some(start), Some(end)) =
            (applied.iter().map(|a| a.start_ns).min(), applied.iter().map(|a| a.end_ns).max())
        {
            for day in self.days.range(day_of(start), day_of(end)) {
                self.rewrite_day(&day, &applied)?;
            }
            self.forget_seen();
        }
        let ids: Vec<u64> = due.iter().map(|k| k.deletion.id).collect();
        let done: Vec<Deletion> = due.iter().map(|k| Deletion { done: true, ..k.deletion.clone() }).collect();
        self.catalog.save_deletions(&done)?;
        self.deletions.change(|list| {
            list.iter_mut().filter(|k| ids.contains(&k.deletion.id)).for_each(|k| k.deletion.done = true);
        });
        self.forget_done()
    }

    /// Of requests that are done, a number is kept for the list.
    fn forget_done(&self) -> Result<(), Error> {
        let all = self.deletions.all();
        let done: Vec<u64> = all.iter().filter(|k| k.deletion.done).map(|k| k.deletion.id).collect();
        let excess = done.len().saturating_sub(self.limits.now().max_log_deletions as usize);
        let gone = done.get(..excess).unwrap_or(&[]);
        if !gone.is_empty() {
            self.catalog.remove_deletions(gone)?;
            self.deletions.change(|list| list.retain(|k| !gone.contains(&k.deletion.id)));
        }
        Ok(())
    }

    fn rewrite_day(&self, day: &Day, applied: &[Applied]) -> Result<(), Error> {
        let view = self.days.view(day)?;
        let mut meant = Vec::new();
        for (number, segment) in view.segments.iter().enumerate() {
            for row in &segment.table.rows {
                let spans = segment.table.spans(row);
                if spans.iter().any(|span| applied.iter().any(|a| a.touches(row.cut, span))) {
                    meant.push((number, row));
                }
            }
        }
        for part in meant.chunks(REWRITTEN_AT_ONCE) {
            if self.is_stopping() {
                return Err(Error::Closed);
            }
            self.rewrite_blocks(day, &view, part, applied)?;
            self.crash_point("delete: blocks rewritten");
        }
        Ok(())
    }

    fn rewrite_blocks(
        &self,
        day: &Day,
        view: &DayView,
        meant: &[(usize, &Row)],
        applied: &[Applied],
    ) -> Result<(), Error> {
        let mut rewriter = Rewriter::new(self, applied)?;
        let mut removed = Vec::new();
        let mut made = Vec::new();
        for (segment, row) in meant {
            let Some(segment) = view.segments.get(*segment) else { continue };
            let (body, metadata) = segment.body(row)?;
            let rewritten = rewriter.rewrite(row, &segment.head(row)?, &body, &metadata);
            match rewritten {
                Ok(Rewritten::Same) => {}
                Ok(Rewritten::Gone) => removed.push(row.id),
                Ok(Rewritten::Left(block)) => {
                    removed.push(row.id);
                    made.push(block);
                }
                Err(error) if error.is_damage() => self.damaged_block(&error),
                Err(error) => return Err(error),
            }
        }
        if removed.is_empty() {
            return Ok(());
        }
        let blocks = made.iter().map(|b| b.borrowed()).collect();
        let log_first = self.wal.stats().first;
        let change = Change { blocks, removed, log_first, ..Change::default() };
        day.commit(&change, &|step| self.crash_point(step))
    }
}

/// What became of a block.
enum Rewritten {
    Same,
    Gone,
    Left(Box<LeftBlock>),
}

/// What is left of a block; it keeps its id and cut.
pub(crate) struct LeftBlock {
    row: Row,
    spans: Vec<Span>,
    encoded: Encoded,
}

impl LeftBlock {
    pub(crate) fn borrowed(&self) -> NewBlock<'_> {
        NewBlock {
            row: &self.row,
            spans: &self.spans,
            head: &self.encoded.head,
            body: &self.encoded.body,
            metadata: &self.encoded.metadata,
            filter: &self.encoded.filter,
        }
    }
}

/// Whether an entry is stored elsewhere too, by stream, time and line.
type IsElsewhere<'a> = dyn FnMut(u32, i64, &str) -> Result<bool, Error> + 'a;

/// Makes blocks anew without what is deleted.
pub(crate) struct Rewriter<'a> {
    inner: &'a Inner,
    applied: &'a [Applied],
    reader: Reader,
    encoder: Encoder,
    sifted: Sifted,
}

impl<'a> Rewriter<'a> {
    pub(crate) fn new(inner: &'a Inner, applied: &'a [Applied]) -> Result<Self, Error> {
        let reader = Reader::new().map_err(block_error)?;
        let encoder = Encoder::new().map_err(block_error)?;
        Ok(Self { inner, applied, reader, encoder, sifted: Sifted::default() })
    }

    fn rewrite(&mut self, row: &Row, head: &[u8], body: &[u8], metadata: &[u8]) -> Result<Rewritten, Error> {
        let (kept, spans) = self.sift(row, [head, body, metadata], None)?;
        if kept == row.entries as usize {
            self.encoder.clear();
            return Ok(Rewritten::Same);
        }
        if kept == 0 {
            return Ok(Rewritten::Gone);
        }
        Ok(Rewritten::Left(Box::new(self.finish(row, spans)?)))
    }

    /// The same block once more, even if nothing of it is deleted.
    pub(crate) fn again(
        &mut self,
        row: &Row,
        head: &[u8],
        body: &[u8],
        metadata: &[u8],
    ) -> Result<LeftBlock, Error> {
        let (_, spans) = self.sift(row, [head, body, metadata], None)?;
        self.finish(row, spans)
    }

    /// A block once more but for entries that are elsewhere; `None` if all are.
    pub(crate) fn unless_elsewhere(
        &mut self,
        row: &Row,
        [head, body, metadata]: &[OwnedBytes; 3],
        is_elsewhere: &mut IsElsewhere<'_>,
    ) -> Result<Option<LeftBlock>, Error> {
        match self.sift(row, [head, body, metadata], Some(is_elsewhere))? {
            (0, _) => Ok(None),
            (_, spans) => self.finish(row, spans).map(Some),
        }
    }

    /// Begins anew after an error.
    pub(crate) fn clear(&mut self) {
        self.encoder.clear();
    }

    /// Gives the encoder what is left of a block: the number of its entries, and its streams.
    fn sift(
        &mut self,
        row: &Row,
        [head, body, metadata]: [&[u8]; 3],
        mut is_elsewhere: Option<&mut IsElsewhere<'_>>,
    ) -> Result<(usize, Vec<Span>), Error> {
        let head = Head::decode(head).map_err(block_error)?;
        let want = Want {
            streams: &|_| true,
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            lines: LineNeed::Text,
            metadata: &MetadataNeed::All,
        };
        self.reader.read(&head, body, metadata, &want).map_err(block_error)?;
        let mut spans = Vec::new();
        let mut kept = 0;
        for entries in self.reader.streams() {
            let labels = self.inner.registry.read().get(entries.number).map(|s| s.labels.clone());
            let labels = labels.unwrap_or_default();
            self.sifted.sift(&entries, &labels, row.cut, self.applied);
            if let Some(is_elsewhere) = &mut is_elsewhere {
                self.sifted.retain(&mut |t_ns, line| is_elsewhere(entries.number, t_ns, line))?;
            }
            kept += self.sifted.times_ns.len();
            if let Some(span) = push_stream(&mut self.encoder, &entries, &self.sifted)? {
                spans.push(span);
            }
        }
        Ok((kept, spans))
    }

    fn finish(&mut self, row: &Row, spans: Vec<Span>) -> Result<LeftBlock, Error> {
        let encoded = self.encoder.finish().map_err(block_error)?;
        let left = Row::of(&encoded, row.id, row.cut);
        Ok(LeftBlock { row: left, spans, encoded })
    }
}

/// Gives the encoder what is left of a stream.
fn push_stream(
    encoder: &mut Encoder,
    entries: &StreamEntries<'_>,
    left: &Sifted,
) -> Result<Option<Span>, Error> {
    let (Some(first), Some(last)) = (left.times_ns.first(), left.times_ns.last()) else { return Ok(None) };
    encoder.stream(entries.number).map_err(block_error)?;
    let mut sum = 0;
    for (i, t_ns) in left.times_ns.iter().enumerate() {
        let set = left.metadata.get(i).and_then(|set| entries.metadata_sets.get(*set as usize));
        let set = set.cloned().unwrap_or_default();
        sum += metadata_volume(&set);
        encoder.push(*t_ns, left.line(i), &set).map_err(block_error)?;
    }
    Ok(Some(Span {
        stream: entries.number,
        entries: left.times_ns.len() as u32,
        bytes: left.text.len() as u32,
        metadata_bytes: sum as u32,
        min_ns: *first,
        max_ns: *last,
    }))
}
