//! Whether an entry that came late is stored already, in a cut, a fresh block or on the disk.
//!
//! Only entries that are not newer than everything cut of their group are asked for here. The
//! answer is exact, so that no entry is ever stored twice, whatever is sent again and when, and
//! readers need not compare blocks with each other.
//!
//! Blocks are decoded before the append lock is taken, so that a sender of old lines keeps nobody
//! waiting. Under the lock only what may have changed meanwhile is looked at: what is not in a
//! block, and blocks that were made since.

use std::collections::VecDeque;
use std::sync::Arc;

use pilothouse_model::Labels;
use pilothouse_model::limits::LOG_SEEN_BYTES;
use pilothouse_model::logs::{LineNeed, LogBatch, MetadataNeed, PushEntry, PushStream};

use crate::block::{Head, Reader, Want};
use crate::day::day_of;
use crate::day::one::{Day, Segment};
use crate::day::table::{Row, Span};
use crate::error::Error;
use crate::flush::block_error;
use crate::layers::{Cut, FreshBlock};
use crate::store::Inner;

/// The entries of one stream of one block.
#[derive(Debug)]
struct Decoded {
    block: u64,
    day: i32,
    stream: u32,
    times_ns: Vec<i64>,
    text: String,
    bounds: Vec<u32>,
    sets: Vec<Labels>,
    metadata: Vec<u32>,
}

impl Decoded {
    /// The entry with this time and line, by its structured metadata.
    fn find(&self, t_ns: i64, line: &str) -> Option<Option<&Labels>> {
        let from = self.times_ns.partition_point(|t| *t < t_ns);
        let mut at = from..from + self.times_ns[from..].partition_point(|t| *t == t_ns);
        let is = |i: &usize| match (self.bounds.get(*i), self.bounds.get(*i + 1)) {
            (Some(start), Some(end)) => self.text.get(*start as usize..*end as usize) == Some(line),
            _ => false,
        };
        let found = at.find(is)?;
        Some(self.metadata.get(found).and_then(|set| self.sets.get(*set as usize)))
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.times_ns.len() * 12 + 64
    }
}

/// Streams of blocks decoded lately, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    kept: VecDeque<Arc<Decoded>>,
    bytes: usize,
    reader: Option<Reader>,
    /// Counts how often it was forgotten.
    generation: u64,
}

impl Seen {
    fn find(&mut self, (day, block, stream): (i32, u64, u32)) -> Option<Arc<Decoded>> {
        let is = |d: &Arc<Decoded>| d.block == block && d.stream == stream && d.day == day;
        let at = self.kept.iter().position(is)?;
        let found = self.kept.remove(at)?;
        self.kept.push_front(found.clone());
        Some(found)
    }

    fn keep(&mut self, decoded: Arc<Decoded>) {
        self.bytes += decoded.bytes();
        self.kept.push_front(decoded);
        while self.bytes > LOG_SEEN_BYTES
            && let Some(oldest) = self.kept.pop_back()
        {
            self.bytes -= oldest.bytes();
        }
    }

    /// The entries of one stream of a block, decoded now or lately.
    fn read(&mut self, block: &Candidate, stream: u32) -> Result<Arc<Decoded>, Error> {
        let key = (block.day, block.id, stream);
        if let Some(kept) = self.find(key) {
            return Ok(kept);
        }
        let decoded = self.decode(key, &block.place.frames()?)?;
        self.keep(decoded.clone());
        Ok(decoded)
    }

    fn decode(
        &mut self,
        (day, block, stream): (i32, u64, u32),
        (head, body, sets): &Frames,
    ) -> Result<Arc<Decoded>, Error> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(Reader::new().map_err(block_error)?),
        };
        let head = Head::decode(head).map_err(block_error)?;
        let want = Want {
            streams: &|number| number == stream,
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            lines: LineNeed::Text,
            metadata: &MetadataNeed::All,
        };
        reader.read(&head, body, sets, &want).map_err(block_error)?;
        let entries =
            reader.streams().next().ok_or_else(|| Error::corrupt("a block", "a stream is missing"))?;
        Ok(Arc::new(Decoded {
            block,
            day,
            stream,
            times_ns: entries.times_ns.to_vec(),
            text: entries.text.to_owned(),
            bounds: entries.bounds.to_vec(),
            sets: entries.metadata_sets.to_vec(),
            metadata: entries.metadata.to_vec(),
        }))
    }
}

/// Whether a day on the disk has an entry that is not hidden, asked when its log is read again and when it is repaired.
/// Blocks that cannot be read have nothing. `is_hidden` is asked of each that is found, by its cut and its structured
/// metadata.
pub(crate) fn is_on_disk(
    seen: &mut Seen,
    day: &Day,
    (stream, t_ns, line): (u32, i64, &str),
    mut is_hidden: impl FnMut(u64, Option<&Labels>) -> bool,
) -> Result<bool, Error> {
    let end_ns = t_ns.saturating_add(1);
    for segment in day.view()?.segments.iter().filter(|s| s.table.overlaps(t_ns, end_ns)) {
        for block in segment.table.blocks().filter(|(row, _)| row.overlaps(t_ns, end_ns)) {
            let place = || Place::Disk(Arc::clone(segment), *block.0);
            let candidate = Candidate::of(day.number, stream, block, place);
            let Some(candidate) = candidate.filter(|c| c.min_ns <= t_ns && t_ns <= c.max_ns) else {
                continue;
            };
            match seen.read(&candidate, stream) {
                Ok(decoded) => {
                    if decoded.find(t_ns, line).is_some_and(|metadata| !is_hidden(candidate.cut, metadata)) {
                        return Ok(true);
                    }
                }
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}

/// An entry that is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought<'a> {
    pub(crate) group: u32,
    pub(crate) stream: u32,
    pub(crate) labels: &'a Labels,
    pub(crate) t_ns: i64,
    pub(crate) line: &'a str,
}

/// What blocks were found to have of a batch before the append lock was taken.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Places in the batch of entries that are stored, ascending.
    stored: Vec<u32>,
    /// Blocks with lower ids were looked at.
    next_block: u64,
    deletions: (Option<u64>, usize, u64),
}

/// The late entries of one stream of a batch.
struct Late<'a> {
    id: u32,
    group: u32,
    stream: &'a PushStream,
    /// What is newer can be in no block.
    settled_ns: i64,
}

impl Inner {
    /// What was found stands as long as no deletion came, went or was done since: then what was
    /// stored may be hidden, or be shown again. The caller holds the append lock.
    pub(crate) fn is_valid(&self, checked: &Checked) -> bool {
        checked.deletions == self.deletions.mark()
    }

    /// Looks for the late entries of a batch in all blocks. The caller does not hold the append
    /// lock.
    pub(crate) fn check(&self, batch: &LogBatch) -> Result<Checked, Error> {
        let deletions = self.deletions.mark();
        let (late, fresh, next_block) = self.late(batch);
        let mut stored = Vec::new();
        for Late { id, group, stream, settled_ns } in late {
            let mut places: Vec<(u32, &PushEntry)> = stream
                .entries
                .clone()
                .zip(batch.entries_of(stream))
                .filter(|(_, e)| e.t_ns <= settled_ns)
                .collect();
            // In the order of time each block is decoded once.
            places.sort_by_key(|(_, entry)| entry.t_ns);
            for of_day in places.chunk_by(|a, b| day_of(a.1.t_ns) == day_of(b.1.t_ns)) {
                let (Some((_, first)), Some((_, last))) = (of_day.first(), of_day.last()) else { continue };
                let candidates = self.candidates(id, (first.t_ns, last.t_ns), &fresh, 0)?;
                for (place, entry) in of_day {
                    let (t_ns, line) = (entry.t_ns, batch.line_of(entry));
                    let sought = Sought { group, stream: id, labels: &stream.labels, t_ns, line };
                    if self.is_in_blocks(&sought, &candidates)? {
                        stored.push(*place);
                    }
                }
            }
        }
        stored.sort_unstable();
        Ok(Checked { stored, next_block, deletions })
    }

    /// The streams of a batch that have late entries, and the blocks that are not on the disk yet.
    fn late<'a>(&self, batch: &'a LogBatch) -> (Vec<Late<'a>>, Vec<Arc<FreshBlock>>, u64) {
        let mut late = Vec::new();
        {
            let registry = self.registry.read();
            for stream in &batch.streams {
                let known = registry.id_of(stream.labels.fingerprint());
                if let Some((id, known)) = known.and_then(|id| Some((id, registry.get(id)?))) {
                    late.push(Late { id, group: known.group, stream, settled_ns: i64::MIN });
                }
            }
        }
        let layers = self.layers.read();
        late.retain_mut(|late| {
            late.settled_ns = layers.settled_ns(late.group);
            batch.entries_of(late.stream).iter().any(|e| e.t_ns <= late.settled_ns)
        });
        let fresh = if late.is_empty() { Vec::new() } else { layers.fresh.clone() };
        (late, fresh, layers.next_block)
    }

    /// Whether an entry is stored, and no deletion hides it; `at` is its place in the batch that was
    /// checked. The caller holds the append lock, so nothing is cut meanwhile.
    pub(crate) fn is_stored(&self, sought: &Sought<'_>, at: u32, checked: &Checked) -> Result<bool, Error> {
        let (cuts, fresh, next_block) = {
            let layers = self.layers.read();
            let of_group = layers.cuts.iter().filter(|c| c.group == sought.group);
            let new = layers.fresh.iter().filter(|b| b.row.id >= checked.next_block);
            (of_group.cloned().collect::<Vec<_>>(), new.cloned().collect::<Vec<_>>(), layers.next_block)
        };
        if checked.stored.binary_search(&at).is_ok() || self.is_in_cuts(sought, &cuts)? {
            return Ok(true);
        }
        if next_block == checked.next_block {
            return Ok(false);
        }
        let times = (sought.t_ns, sought.t_ns);
        let candidates = self.candidates(sought.stream, times, &fresh, checked.next_block)?;
        self.is_in_blocks(sought, &candidates)
    }

    fn is_in_cuts(&self, sought: &Sought<'_>, cuts: &[Arc<Cut>]) -> Result<bool, Error> {
        let Sought { stream, t_ns, .. } = *sought;
        for cut in cuts {
            let mut tail = cut.tail.tail.write();
            if let Some(metadata) = tail.find(stream, t_ns, sought.line)
                && !self.hides(sought, cut.number, metadata.as_ref())?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The blocks that have a stream between two times of one day: of these fresh ones, and on the
    /// disk from an id on.
    fn candidates(
        &self,
        stream: u32,
        (first_ns, last_ns): (i64, i64),
        fresh: &[Arc<FreshBlock>],
        from_id: u64,
    ) -> Result<Vec<Candidate>, Error> {
        let (number, end_ns) = (day_of(first_ns), last_ns.saturating_add(1));
        let mut found = Vec::new();
        for block in fresh.iter().filter(|b| b.day == number && b.row.overlaps(first_ns, end_ns)) {
            let place = || Place::Fresh(Arc::clone(block));
            found.extend(Candidate::of(number, stream, (&block.row, &block.spans), place));
        }
        let known = self.day_streams.read().get(&number).is_some_and(|streams| streams.contains(stream));
        let Some(day) = self.days.get(number).filter(|_| known) else { return Ok(found) };
        for segment in self.days.view(&day)?.segments.iter().filter(|s| s.table.overlaps(first_ns, end_ns)) {
            let wanted = |row: &Row| row.id >= from_id && row.overlaps(first_ns, end_ns);
            for block in segment.table.blocks().filter(|(row, _)| wanted(row)) {
                let place = || Place::Disk(Arc::clone(segment), *block.0);
                found.extend(Candidate::of(number, stream, block, place));
            }
        }
        Ok(found)
    }

    fn is_in_blocks(&self, sought: &Sought<'_>, candidates: &[Candidate]) -> Result<bool, Error> {
        let spans = |c: &&Candidate| c.min_ns <= sought.t_ns && sought.t_ns <= c.max_ns;
        for candidate in candidates.iter().filter(spans) {
            match self.is_in_block(sought, candidate) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // What cannot be read cannot be shown either.
                Err(error) if error.is_damage() => self.damaged_block(&error),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn is_in_block(&self, sought: &Sought<'_>, block: &Candidate) -> Result<bool, Error> {
        let key = (block.day, block.id, sought.stream);
        let (kept, generation) = {
            let mut seen = self.seen.lock();
            (seen.find(key), seen.generation)
        };
        let decoded = match kept {
            Some(decoded) => decoded,
            None => {
                let frames = block.place.frames()?;
                let mut seen = self.seen.lock();
                let decoded = seen.decode(key, &frames)?;
                // What was read before the block was rewritten is of use this once only.
                if seen.generation == generation {
                    seen.keep(decoded.clone());
                }
                decoded
            }
        };
        match decoded.find(sought.t_ns, sought.line) {
            Some(metadata) => Ok(!self.hides(sought, block.cut, metadata)?),
            None => Ok(false),
        }
    }

    /// Forgets what was decoded: blocks have been rewritten.
    pub(crate) fn forget_seen(&self) {
        let mut seen = self.seen.lock();
        *seen = Seen { generation: seen.generation + 1, ..Seen::default() };
    }
}

/// A block that has entries of the stream that is asked for.
struct Candidate {
    day: i32,
    id: u64,
    cut: u64,
    /// Of the stream, both inclusive.
    min_ns: i64,
    max_ns: i64,
    place: Place,
}

enum Place {
    Fresh(Arc<FreshBlock>),
    Disk(Arc<Segment>, Row),
}

/// Head, body and metadata.
type Frames = (Vec<u8>, Vec<u8>, Vec<u8>);

impl Candidate {
    fn of(
        day: i32,
        stream: u32,
        (row, spans): (&Row, &[Span]),
        place: impl FnOnce() -> Place,
    ) -> Option<Self> {
        let at = spans.binary_search_by_key(&stream, |s| s.stream).ok()?;
        let Span { min_ns, max_ns, .. } = *spans.get(at)?;
        Some(Self { day, id: row.id, cut: row.cut, min_ns, max_ns, place: place() })
    }
}

impl Place {
    fn frames(&self) -> Result<Frames, Error> {
        match self {
            Self::Fresh(block) => Ok((block.head.clone(), block.body.clone(), block.metadata.clone())),
            Self::Disk(segment, row) => {
                let (body, metadata) = segment.body(row)?;
                Ok((segment.head(row)?.to_vec(), body.to_vec(), metadata.to_vec()))
            }
        }
    }
}
