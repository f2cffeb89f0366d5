//! From the tail to the disk.
//!
//! A group is cut under the append lock, and the position of the log is noted; everything else
//! happens outside of it. The order of the steps is what a crash anywhere between them is
//! harmless for:
//!
//! 1. the log is synced, so that no day is ahead of it,
//! 2. the catalog gets the new streams, and which day has which,
//! 3. each day gets its blocks in one commit, which carries the positions of their groups,
//! 4. the layers forget the blocks,
//! 5. the log is trimmed below the least position that is still needed.
//!
//! A crash between two commits of the third step leaves some days with the entries of a cut and
//! others without; replay asks each day for its own positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pilothouse_disk::Position;
use pilothouse_index::RoaringBitmap;
use pilothouse_model::Labels;
use rayon::prelude::*;

use crate::block::{BlockError, Encoder};
use crate::catalog::Save;
use crate::day::one::{Change, NewBlock};
use crate::day::table::Span;
use crate::day::{bounds_of, day_of};
use crate::error::Error;
use crate::layers::{Cut, FreshBlock, fresh_block};
use crate::store::Inner;
use crate::tail::{OpenGroup, TailStream, metadata_bytes, metadata_volume};

/// Bytes of lines in a block.
const BLOCK_BYTES: usize = 256 << 10;
/// Entries in a block of very short lines.
const BLOCK_ENTRIES: usize = 32 << 10;
/// A group is cut when its oldest entry has been in the tail for so long.
const MAX_OPEN_MS: i64 = 15 * 60 * 1000;
/// Or when its oldest entry is this far back in the log.
const MAX_LOG_BYTES: u64 = 256 << 20;
/// Blocks are committed when they hold so many bytes of lines together,
const COMMIT_BYTES: usize = 16 << 20;
/// or when the oldest of them has waited so long.
const COMMIT_MS: i64 = 60_000;
/// Cuts that are encoded at once.
const ENCODE_AT_ONCE: usize = 8;

/// Wakes the background thread, and those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Flusher {
    wanted: Mutex<bool>,
    wake: Condvar,
    idle: Mutex<()>,
    progress: Condvar,
    /// The last try to bring something to the disk has failed.
    failed: AtomicBool,
    /// Kept from cut to cut, with their buffers.
    encoders: Mutex<Vec<Encoder>>,
    /// One flush at a time; since when the oldest fresh block waits.
    pub(crate) work: Mutex<Waiting>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    since_ms: Option<i64>,
    /// When retention was looked at last.
    swept_ms: Option<i64>,
}

impl Flusher {
    pub(crate) fn wake(&self) {
        *self.wanted.lock() = true;
        self.wake.notify_all();
    }

    /// Waits until somebody wants something, for at most so long.
    pub(crate) fn wait(&self, timeout: Duration, stopping: &AtomicBool) {
        let mut wanted = self.wanted.lock();
        if !*wanted && !stopping.load(Relaxed) {
            self.wake.wait_for(&mut wanted, timeout);
        }
        *wanted = false;
    }

    /// Waits, unless the store is being stopped.
    pub(crate) fn pause(&self, timeout: Duration, stopping: &AtomicBool) {
        let mut wanted = self.wanted.lock();
        let until = std::time::Instant::now() + timeout;
        while !stopping.load(Relaxed) && !self.wake.wait_until(&mut wanted, until).timed_out() {}
    }

    /// Raises the flag and ends every wait. The lock is taken once in between, so that nobody
    /// who found the flag down begins to wait after the call.
    pub(crate) fn stop(&self, stopping: &AtomicBool) {
        stopping.store(true, Relaxed);
        drop(self.wanted.lock());
        self.wake.notify_all();
        self.progress.notify_all();
    }

    pub(crate) fn wait_for_progress(&self, timeout: Duration) {
        let mut idle = self.idle.lock();
        self.progress.wait_for(&mut idle, timeout);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

// ---- cutting ----

impl Inner {
    /// Cuts those of some groups that are full; the caller holds the append lock, and everything
    /// in the tail is in the log.
    pub(crate) fn cut_due(&self, groups: &[u32]) {
        let due: Vec<u32> = {
            let layers = self.layers.read();
            let full = |g: &&u32| layers.group(**g).is_some_and(|open| is_full(open));
            groups.iter().filter(full).copied().collect()
        };
        if !due.is_empty() {
            self.cut(&due);
        }
    }

    /// Cuts groups; the caller holds the append lock, and everything in the tail is in the log.
    pub(crate) fn cut(&self, groups: &[u32]) {
        let upto = self.wal.next();
        self.cut_at(groups, upto);
        self.flusher.wake();
    }

    pub(crate) fn cut_at(&self, groups: &[u32], upto: Position) {
        let mut layers = self.layers.write();
        for group in groups {
            let number = layers.last_cut + 1;
            let Some(open) = layers.open.get_mut(*group as usize) else { continue };
            let (since, bytes, next) = {
                let tail = open.tail.read();
                let Some((since, _)) = tail.since else { continue };
                (since, tail.heap_bytes(), OpenGroup::after(&tail))
            };
            let newest_ns = open.tail.read().streams.iter().map(|s| s.newest_ns()).max();
            let tail = std::mem::replace(open, Arc::new(next));
            layers.settle(*group, newest_ns.unwrap_or(i64::MIN));
            layers.last_cut = number;
            layers.cuts.push(Arc::new(Cut { number, group: *group, since, upto, bytes, tail }));
            self.waiting_bytes.fetch_add(bytes, Relaxed);
        }
    }

    /// Cuts the groups that are due by age, by the length of the log or by memory, or all.
    fn cut_overdue(&self, all: bool) -> Result<(), Error> {
        let mut appender = self.appender.lock();
        if appender.is_behind() {
            // What the log does not have must not be cut.
            appender.catch_up(&self.wal)?;
        }
        let overdue = self.overdue(all);
        if !overdue.is_empty() {
            self.cut(&overdue);
        }
        Ok(())
    }

    fn overdue(&self, all: bool) -> Vec<u32> {
        let (now_ms, next) = (self.now_ms(), self.wal.next());
        let open = self.layers.read().open.clone();
        let (mut overdue, mut sizes) = (Vec::new(), Vec::new());
        for (number, group) in open.iter().enumerate() {
            let tail = group.tail.read();
            let Some((position, since_ms)) = tail.since else { continue };
            let long = next.0.saturating_sub(position.0) > MAX_LOG_BYTES;
            if all || long || now_ms.saturating_sub(since_ms) > MAX_OPEN_MS {
                overdue.push(number as u32);
            } else {
                sizes.push((tail.heap_bytes() as u64, number as u32));
            }
        }
        sizes.sort_unstable();
        let mut held: u64 = sizes.iter().map(|s| s.0).sum();
        while held > self.limits.now().log_tail_bytes / 2
            && let Some((bytes, number)) = sizes.pop()
        {
            held -= bytes;
            overdue.push(number);
        }
        overdue
    }
}

fn is_full(open: &OpenGroup) -> bool {
    let tail = open.tail.read();
    tail.bytes >= BLOCK_BYTES || tail.entries >= BLOCK_ENTRIES
}

// ---- the rounds of the background thread ----

impl Inner {
    /// One round: what is due. `now`: commit whatever there is.
    pub(crate) fn work(&self, now: bool) -> Result<(), Error> {
        let mut waiting = self.flusher.work.lock();
        let worked = self.work_locked(&mut waiting, now);
        self.flusher.failed.store(worked.is_err(), Relaxed);
        if worked.is_err() {
            self.counters.flush_failures.fetch_add(1, Relaxed);
        }
        worked
    }

    fn work_locked(&self, waiting: &mut Waiting, now: bool) -> Result<(), Error> {
        self.cut_overdue(false)?;
        self.encode_cuts(waiting)?;
        if now || self.is_commit_due(waiting) {
            self.commit_fresh(waiting)?;
        }
        let now_ms = self.now_ms();
        let swept = waiting.swept_ms.is_some_and(|t| now_ms.abs_diff(t) < 60_000);
        if now || !swept {
            waiting.swept_ms = Some(now_ms);
            self.drop_old_days(now_ms)?;
            self.settle_deletions(now_ms)?;
        }
        Ok(())
    }

    /// Brings everything to the disk.
    pub(crate) fn flush_all(&self) -> Result<(), Error> {
        let mut waiting = self.flusher.work.lock();
        self.cut_overdue(true)?;
        self.encode_cuts(&mut waiting)?;
        self.commit_fresh(&mut waiting)
    }

    /// At the end, when writes are refused: as [`Inner::flush_all`], and notes where the log would
    /// have to be read from, so that the next start does not look at what is done.
    pub(crate) fn flush_last(&self) -> Result<(), Error> {
        self.flush_all()?;
        let least = self.trim()?;
        self.catalog.save_log_start(least)?;
        if least >= self.wal.next() {
            self.wal.clear()?;
        }
        self.catalog.compact();
        Ok(())
    }

    fn is_commit_due(&self, waiting: &Waiting) -> bool {
        let fresh: u64 = self.layers.read().fresh.iter().map(|b| b.row.bytes).sum();
        let old = waiting.since_ms.is_some_and(|t| self.now_ms().saturating_sub(t) >= COMMIT_MS);
        fresh as usize >= COMMIT_BYTES || (fresh > 0 && old)
    }

    // ---- encoding ----

    /// Makes blocks of all cuts.
    fn encode_cuts(&self, waiting: &mut Waiting) -> Result<(), Error> {
        loop {
            let cuts: Vec<Arc<Cut>> = self.layers.read().cuts.iter().take(ENCODE_AT_ONCE).cloned().collect();
            if cuts.is_empty() {
                return Ok(());
            }
            let encoded: Vec<_> = cuts.par_iter().map(|cut| self.encode(cut)).collect();
            waiting.since_ms.get_or_insert_with(|| self.now_ms());
            for (cut, blocks) in cuts.iter().zip(encoded) {
                let blocks = blocks?;
                let bytes: usize = blocks.iter().map(|b| b.heap_bytes()).sum();
                self.layers.write().replace_cut(cut, blocks);
                self.waiting_bytes.fetch_add(bytes, Relaxed);
                self.waiting_bytes.fetch_sub(cut.bytes, Relaxed);
                self.flusher.progress.notify_all();
            }
            self.crash_point("flush: encoded");
            if self.is_commit_due(waiting) {
                self.commit_fresh(waiting)?;
            }
        }
    }

    fn encode(&self, cut: &Cut) -> Result<Vec<FreshBlock>, Error> {
        let kept = self.flusher.encoders.lock().pop();
        let mut encoder = match kept {
            Some(encoder) => encoder,
            None => Encoder::new().map_err(block_error)?,
        };
        let dropped = self.dropped.read().clone();
        let is_dropped = |day: i32| dropped.get(&day).is_some_and(|upto| cut.upto <= *upto);
        let blocks = encode(cut, &mut encoder, is_dropped);
        self.flusher.encoders.lock().push(encoder);
        blocks
    }
}

/// The blocks of one cut: by day, then by stream, then by time.
fn encode(
    cut: &Cut,
    encoder: &mut Encoder,
    is_dropped: impl Fn(i32) -> bool,
) -> Result<Vec<FreshBlock>, Error> {
    encoder.clear();
    let tail = cut.tail.tail.read();
    let mut streams: Vec<_> = tail.streams.iter().filter(|s| s.entries > 0).collect();
    streams.sort_unstable_by_key(|s| s.id);
    let none = Labels::empty();
    let mut maker = BlockMaker::new(cut, encoder);
    for day in days_of(&streams).into_iter().filter(|day| !is_dropped(*day)) {
        let (start_ns, end_ns) = bounds_of(day);
        maker.day = day;
        for stream in &streams {
            if stream.first_ns >= end_ns || stream.last_ns < start_ns {
                continue;
            }
            let mut failed = None;
            maker.is_begun = false;
            stream.for_each(|t_ns, line, set| {
                if t_ns >= start_ns && t_ns < end_ns && failed.is_none() {
                    let metadata = tail.sets.get(set as usize).unwrap_or(&none);
                    failed = maker.push(stream.id, t_ns, line, metadata).err();
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
        }
        maker.finish()?;
    }
    Ok(maker.blocks)
}

/// The days that some streams have entries in.
fn days_of(streams: &[&TailStream]) -> BTreeSet<i32> {
    let first = streams.iter().map(|s| s.first_ns).min().map(day_of);
    if first == streams.iter().map(|s| s.last_ns).max().map(day_of) {
        return first.into_iter().collect();
    }
    let mut days = BTreeSet::new();
    for stream in streams {
        stream.for_each(|t_ns, _, _| {
            days.insert(day_of(t_ns));
        });
    }
    days
}

/// Fills blocks.
struct BlockMaker<'a> {
    cut: &'a Cut,
    encoder: &'a mut Encoder,
    day: i32,
    spans: Vec<Span>,
    bytes: usize,
    entries: usize,
    /// Whether the present stream has entries in the present block.
    is_begun: bool,
    blocks: Vec<FreshBlock>,
}

impl<'a> BlockMaker<'a> {
    fn new(cut: &'a Cut, encoder: &'a mut Encoder) -> Self {
        Self {
            cut,
            encoder,
            day: 0,
            spans: Vec::new(),
            bytes: 0,
            entries: 0,
            is_begun: false,
            blocks: Vec::new(),
        }
    }

    fn push(&mut self, stream: u32, t_ns: i64, line: &str, metadata: &Labels) -> Result<(), Error> {
        // A block may become half as large again, rather than leave a small one behind.
        if self.bytes >= BLOCK_BYTES * 3 / 2 || self.entries >= BLOCK_ENTRIES * 3 / 2 {
            self.finish()?;
        }
        if !self.is_begun {
            self.encoder.stream(stream).map_err(block_error)?;
            self.spans.push(Span {
                stream,
                entries: 0,
                bytes: 0,
                metadata_bytes: 0,
                min_ns: t_ns,
                max_ns: t_ns,
            });
            self.is_begun = true;
        }
        self.encoder.push(t_ns, line, metadata).map_err(block_error)?;
        let metadata_bytes = metadata_bytes(metadata);
        if let Some(span) = self.spans.last_mut() {
            span.entries += 1;
            span.bytes += line.len() as u32;
            span.metadata_bytes += metadata_volume(metadata) as u32;
            span.max_ns = t_ns;
        }
        self.bytes += line.len() + metadata_bytes;
        self.entries += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.is_begun = false;
        if self.entries == 0 {
            return Ok(());
        }
        let encoded = self.encoder.finish().map_err(block_error)?;
        let spans = std::mem::take(&mut self.spans).into_boxed_slice();
        (self.bytes, self.entries) = (0, 0);
        self.blocks.push(fresh_block(encoded, (self.day, self.cut), spans));
        Ok(())
    }
}

pub(crate) fn block_error(error: BlockError) -> Error {
    Error::corrupt("a block", error)
}

// ---- committing ----

impl Inner {
    /// Commits all fresh blocks, day by day.
    fn commit_fresh(&self, waiting: &mut Waiting) -> Result<(), Error> {
        let fresh = self.layers.read().fresh.clone();
        if fresh.is_empty() {
            return self.save_streams(&[]);
        }
        self.crash_point("commit: begun");
        self.wal.sync()?;
        self.crash_point("commit: log synced");
        self.save_streams(&fresh)?;
        self.crash_point("commit: catalog saved");
        let mut days: BTreeMap<i32, Vec<Arc<FreshBlock>>> = BTreeMap::new();
        for block in fresh {
            days.entry(block.day).or_default().push(block);
        }
        for (number, blocks) in days {
            self.commit_day(number, &blocks)?;
            self.crash_point("commit: day written");
        }
        waiting.since_ms = None;
        self.counters.commits.fetch_add(1, Relaxed);
        self.trim()?;
        self.crash_point("commit: trimmed");
        Ok(())
    }

    fn commit_day(&self, number: i32, blocks: &[Arc<FreshBlock>]) -> Result<(), Error> {
        let day = self.days.get_or_create(number)?;
        let known = day.payload()?;
        let is_new = |b: &&Arc<FreshBlock>| known.position_of(b.group).is_none_or(|p| p < b.upto);
        let mut positions: BTreeMap<u32, Position> = BTreeMap::new();
        for block in blocks {
            let position = positions.entry(block.group).or_default();
            *position = (*position).max(block.upto);
        }
        let change = Change {
            // A commit that failed in its last step has made its blocks durable.
            blocks: blocks.iter().filter(is_new).map(|b| new_block(b)).collect(),
            positions: positions.into_iter().collect(),
            log_first: self.wal.stats().first,
            ..Change::default()
        };
        if change.blocks.len() < blocks.len() {
            day.refresh();
        }
        if !change.blocks.is_empty() {
            day.commit(&change, &|step| self.crash_point(step))?;
        }
        self.crash_point("commit: day committed");
        let bytes: usize = blocks.iter().map(|b| b.heap_bytes()).sum();
        let done: Vec<u64> = blocks.iter().map(|b| b.row.id).collect();
        self.layers.write().fresh.retain(|b| !done.contains(&b.row.id));
        self.waiting_bytes.fetch_sub(bytes, Relaxed);
        self.flusher.progress.notify_all();
        self.counters.committed(&change);
        Ok(())
    }

    /// Brings new streams into the catalog, and which of them the blocks' days have: whatever a
    /// commit refers to is known before it.
    fn save_streams(&self, blocks: &[Arc<FreshBlock>]) -> Result<(), Error> {
        let (ids, since) = {
            let mut appender = self.appender.lock();
            (std::mem::take(&mut appender.unsaved_streams), appender.unsaved_since.take())
        };
        let saved = self.save_streams_of(&ids, blocks);
        if saved.is_err() {
            let mut appender = self.appender.lock();
            appender.unsaved_streams.extend(ids);
            appender.unsaved_since = since.into_iter().chain(appender.unsaved_since).min();
        }
        saved
    }

    fn save_streams_of(&self, ids: &[u32], blocks: &[Arc<FreshBlock>]) -> Result<(), Error> {
        self.save_deletions()?;
        let days = self.list_streams(blocks)?;
        let (streams, next_stream) = {
            let registry = self.registry.read();
            (registry.rows(ids.iter().copied()), registry.next_id())
        };
        if streams.is_empty() && days.is_empty() {
            return Ok(());
        }
        self.catalog.save(&Save { streams: &streams, days: &days, next_stream })?;
        self.day_streams.write().extend(days);
        Ok(())
    }

    /// Lists the streams of blocks in the directories of their days. Returns all streams of those
    /// days that had not all of them before.
    fn list_streams(&self, blocks: &[Arc<FreshBlock>]) -> Result<Vec<(i32, RoaringBitmap)>, Error> {
        let mut days: BTreeMap<i32, RoaringBitmap> = BTreeMap::new();
        for block in blocks {
            days.entry(block.day).or_default().extend(block.spans.iter().map(|s| s.stream));
        }
        let mut grown = Vec::new();
        for (number, mut streams) in days {
            let known = self.day_streams.read().get(&number).cloned().unwrap_or_default();
            let new = &streams - &known;
            streams |= known;
            let day = self.days.get_or_create(number)?;
            if new.is_empty() && day.streams.is_there() {
                continue;
            }
            let new_rows = self.registry.read().rows(&new);
            day.streams.add(&new_rows, || self.registry.read().rows(&streams))?;
            if !new.is_empty() {
                grown.push((number, streams));
            }
        }
        Ok(grown)
    }

    /// Drops the part of the log that nothing needs: below it all entries are in committed blocks
    /// and all streams and deletions in the catalog.
    fn trim(&self) -> Result<Position, Error> {
        // Read before the layers are: what is appended from here on lies behind it.
        let mut least = {
            let appender = self.appender.lock();
            let next = self.wal.next();
            appender.unsaved_since.map_or(next, |p| p.min(next))
        };
        let layers = self.layers.read().clone();
        for open in &layers.open {
            if let Some((position, _)) = open.tail.read().since {
                least = least.min(position);
            }
        }
        let cuts = layers.cuts.iter().map(|c| c.since);
        least = cuts.chain(layers.fresh.iter().map(|b| b.since)).fold(least, Position::min);
        self.wal.trim(least)?;
        Ok(least)
    }
}

fn new_block(block: &FreshBlock) -> NewBlock<'_> {
    NewBlock {
        row: &block.row,
        spans: &block.spans,
        head: &block.head,
        body: &block.body,
        metadata: &block.metadata,
        filter: &block.filter,
    }
}

// ---- retention ----

impl Inner {
    /// Removes the days that lie wholly before what is kept, and the streams that are nowhere
    /// else.
    fn drop_old_days(&self, now_ms: i64) -> Result<(), Error> {
        let oldest_ns = self.oldest_ns(now_ms);
        let mut known: BTreeSet<i32> = self.days.all().iter().map(|d| d.number).collect();
        known.extend(self.day_streams.read().keys());
        let old: Vec<i32> = known.into_iter().filter(|d| bounds_of(*d).1 <= oldest_ns).collect();
        if old.is_empty() {
            return Ok(());
        }
        for number in &old {
            self.days.remove(*number)?;
            self.counters.days_removed.fetch_add(1, Relaxed);
            self.crash_point("retention: day removed");
        }
        self.forget_streams(&old)
    }

    /// Removes a day for the sake of room on the disk, with what memory and log have of it. Lines of
    /// that day which come later are taken as any others.
    pub(crate) fn drop_day(&self, number: i32) -> Result<(), Error> {
        let _working = self.flusher.work.lock();
        let upto = self.cut_day(number)?;
        self.dropped.write().insert(number, upto);
        let noted = self.catalog.save_dropped(number, upto);
        self.forget_fresh(number);
        self.days.remove(number)?;
        self.counters.days_removed.fetch_add(1, Relaxed);
        self.crash_point("drop: day removed");
        if noted.is_err() {
            // Now there is room for the note.
            self.catalog.save_dropped(number, upto)?;
        }
        self.flusher.wake();
        self.forget_streams(&[number])
    }

    /// Cuts the groups that have entries of a day; what comes from now on lies behind the position.
    fn cut_day(&self, number: i32) -> Result<Position, Error> {
        let mut appender = self.appender.lock();
        if appender.is_behind() {
            appender.catch_up(&self.wal)?;
        }
        let (start_ns, end_ns) = bounds_of(number);
        let has_some = |open: &OpenGroup| {
            let tail = open.tail.read();
            tail.streams.iter().any(|s| s.entries > 0 && s.first_ns < end_ns && s.last_ns >= start_ns)
        };
        let open = self.layers.read().open.clone();
        let groups: Vec<u32> = (0..).zip(&open).filter(|(_, open)| has_some(open)).map(|(g, _)| g).collect();
        let upto = self.wal.next();
        self.cut_at(&groups, upto);
        Ok(upto)
    }

    fn forget_fresh(&self, number: i32) {
        let mut layers = self.layers.write();
        let bytes = layers.fresh.iter().filter(|b| b.day == number).map(|b| b.heap_bytes()).sum();
        layers.fresh.retain(|b| b.day != number);
        self.waiting_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Forgets streams of days that are gone, unless another day or the memory has them.
    fn forget_streams(&self, gone: &[i32]) -> Result<(), Error> {
        let mut appender = self.appender.lock();
        let mut candidates = RoaringBitmap::new();
        let mut kept = RoaringBitmap::new();
        for (day, streams) in self.day_streams.read().iter() {
            if gone.contains(day) { candidates |= streams } else { kept |= streams }
        }
        let layers = self.layers.read().clone();
        for tail in layers.open.iter().chain(layers.cuts.iter().map(|c| &c.tail)) {
            kept.extend(tail.tail.read().streams.iter().map(|s| s.id));
        }
        layers.fresh.iter().for_each(|b| kept.extend(b.spans.iter().map(|s| s.stream)));
        kept.extend(appender.unsaved_streams.iter().copied());
        candidates -= kept;
        self.catalog.forget(gone, &candidates)?;
        self.day_streams.write().retain(|day, _| !gone.contains(day));
        let mut registry = self.registry.write();
        for id in &candidates {
            let Some(stream) = registry.get(id) else { continue };
            if let Some(known) = appender.known.remove(&stream.labels.fingerprint()) {
                appender.active.leave(known.minute);
            }
        }
        registry.remove(&candidates);
        self.counters.streams_removed.fetch_add(candidates.len(), Relaxed);
        Ok(())
    }
}
