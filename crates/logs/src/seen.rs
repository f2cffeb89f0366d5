//! Whether an entry that came late is stored already, in a cut, a fresh block or on the disk.
//!
//! Only entries that are not newer than everything cut of their group are asked for here. The
//! answer is exact, so that no entry is ever stored twice, whatever is sent again and when, and
//! readers need not compare blocks with each other.

use std::collections::VecDeque;
use std::sync::Arc;

use pilothouse_model::Labels;
use pilothouse_model::logs::{LineNeed, MetadataNeed};

use crate::block::{Head, Reader, Want};
use crate::day::day_of;
use crate::day::table::{Row, Span};
use crate::error::Error;
use crate::flush::block_error;
use crate::layers::FreshBlock;
use crate::store::Inner;

/// Bytes of decoded streams that are kept: a repeated push asks for the same ones again.
const KEPT_BYTES: usize = 8 << 20;

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
}

impl Seen {
    fn find(&mut self, day: i32, block: u64, stream: u32) -> Option<Arc<Decoded>> {
        let is = |d: &Arc<Decoded>| d.block == block && d.stream == stream && d.day == day;
        let at = self.kept.iter().position(is)?;
        let found = self.kept.remove(at)?;
        self.kept.push_front(found.clone());
        Some(found)
    }

    fn keep(&mut self, decoded: Arc<Decoded>) {
        self.bytes += decoded.bytes();
        self.kept.push_front(decoded);
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.kept.pop_back()
        {
            self.bytes -= oldest.bytes();
        }
    }

    fn decode(
        &mut self,
        (day, block, stream): (i32, u64, u32),
        (head, body, sets): (&[u8], &[u8], &[u8]),
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

/// An entry that is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought<'a> {
    pub(crate) group: u32,
    pub(crate) stream: u32,
    pub(crate) labels: &'a Labels,
    pub(crate) t_ns: i64,
    pub(crate) line: &'a str,
}

impl Inner {
    /// Whether an entry is stored, and no deletion hides it. The caller holds the append lock, so
    /// nothing is cut meanwhile.
    pub(crate) fn is_stored(&self, sought: &Sought<'_>) -> Result<bool, Error> {
        let Sought { stream, t_ns, .. } = *sought;
        let (cuts, fresh) = {
            let layers = self.layers.read();
            let of_group = layers.cuts.iter().filter(|c| c.group == sought.group);
            let at = |b: &&Arc<FreshBlock>| has(&b.row, &b.spans, stream, t_ns);
            (
                of_group.cloned().collect::<Vec<_>>(),
                layers.fresh.iter().filter(at).cloned().collect::<Vec<_>>(),
            )
        };
        for cut in cuts {
            let mut tail = cut.tail.tail.write();
            if let Some(metadata) = tail.find(stream, t_ns, sought.line)
                && !self.hides(sought, cut.number, metadata.as_ref())?
            {
                return Ok(true);
            }
        }
        let day = day_of(t_ns);
        for block in fresh {
            let found = self.is_in_block(sought, (day, &block.row), || {
                Ok((block.head.clone(), block.body.clone(), block.metadata.clone()))
            });
            if found? {
                return Ok(true);
            }
        }
        self.is_on_disk(day, sought)
    }

    fn is_on_disk(&self, day: i32, sought: &Sought<'_>) -> Result<bool, Error> {
        let Sought { stream, t_ns, .. } = *sought;
        let known = self.day_streams.read().get(&day).is_some_and(|streams| streams.contains(stream));
        let Some(day) = self.days.get(day).filter(|_| known) else { return Ok(false) };
        let view = self.days.view(&day)?;
        for segment in &view.segments {
            if !segment.table.overlaps(t_ns, t_ns.saturating_add(1)) {
                continue;
            }
            for (row, _) in segment.table.blocks().filter(|(row, spans)| has(row, spans, stream, t_ns)) {
                let found = self.is_in_block(sought, (day.number, row), || {
                    let (body, metadata) = segment.body(row)?;
                    Ok((segment.head(row)?.to_vec(), body.to_vec(), metadata.to_vec()))
                });
                match found {
                    Ok(true) => return Ok(true),
                    Ok(false) => {}
                    // What cannot be read cannot be shown either.
                    Err(error) if error.is_damage() => self.damaged_block(&error),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(false)
    }

    fn is_in_block(
        &self,
        sought: &Sought<'_>,
        (day, row): (i32, &Row),
        frames: impl FnOnce() -> Result<(Vec<u8>, Vec<u8>, Vec<u8>), Error>,
    ) -> Result<bool, Error> {
        let decoded = {
            let mut seen = self.seen.lock();
            match seen.find(day, row.id, sought.stream) {
                Some(decoded) => decoded,
                None => {
                    let (head, body, sets) = frames()?;
                    let decoded = seen.decode((day, row.id, sought.stream), (&head, &body, &sets))?;
                    seen.keep(decoded.clone());
                    decoded
                }
            }
        };
        match decoded.find(sought.t_ns, sought.line) {
            Some(metadata) => Ok(!self.hides(sought, row.cut, metadata)?),
            None => Ok(false),
        }
    }

    /// Forgets what was decoded: blocks have been rewritten.
    pub(crate) fn forget_seen(&self) {
        *self.seen.lock() = Seen::default();
    }
}

/// Whether a block may have an entry of a stream at a time.
fn has(row: &Row, spans: &[Span], stream: u32, t_ns: i64) -> bool {
    row.min_ns <= t_ns
        && t_ns <= row.max_ns
        && spans
            .binary_search_by_key(&stream, |s| s.stream)
            .is_ok_and(|at| spans.get(at).is_some_and(|s| s.min_ns <= t_ns && t_ns <= s.max_ns))
}
