//! Whether an entry that came late is stored already, in a cut, a fresh block or on the disk.
//!
//! Only entries that are not newer than everything cut of their group are asked for here. The
//! answer is exact, so that no entry is ever stored twice, whatever is sent again and when, and
//! readers need not compare blocks with each other.

use std::collections::VecDeque;
use std::sync::Arc;

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
}

impl Decoded {
    fn contains(&self, t_ns: i64, line: &str) -> bool {
        let from = self.times_ns.partition_point(|t| *t < t_ns);
        let at = from..from + self.times_ns[from..].partition_point(|t| *t == t_ns);
        at.into_iter().any(|i| match (self.bounds.get(i), self.bounds.get(i + 1)) {
            (Some(start), Some(end)) => self.text.get(*start as usize..*end as usize) == Some(line),
            _ => false,
        })
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
        head: &[u8],
        body: &[u8],
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
            metadata: &MetadataNeed::Nothing,
        };
        reader.read(&head, body, &[], &want).map_err(block_error)?;
        let entries = reader.streams().next();
        let (times_ns, text, bounds) = match &entries {
            Some(e) => (e.times_ns.to_vec(), e.text.to_owned(), e.bounds.to_vec()),
            None => Default::default(),
        };
        Ok(Arc::new(Decoded { block, day, stream, times_ns, text, bounds }))
    }
}

impl Inner {
    /// The caller holds the append lock, so nothing is cut meanwhile.
    pub(crate) fn is_stored(&self, (group, stream): (u32, u32), t_ns: i64, line: &str) -> Result<bool, Error> {
        let (cuts, fresh) = {
            let layers = self.layers.read();
            let of_group = layers.cuts.iter().filter(|c| c.group == group);
            let at = |b: &&Arc<FreshBlock>| has(&b.row, &b.spans, stream, t_ns);
            (of_group.cloned().collect::<Vec<_>>(), layers.fresh.iter().filter(at).cloned().collect::<Vec<_>>())
        };
        for cut in cuts {
            let mut tail = cut.tail.tail.write();
            if tail.stream(stream).is_some() {
                let place = tail.place(stream);
                if tail.streams.get_mut(place).is_some_and(|s| s.contains(t_ns, line)) {
                    return Ok(true);
                }
            }
        }
        let day = day_of(t_ns);
        for block in fresh {
            let found = self.is_in_block((day, block.row.id, stream), t_ns, line, || {
                Ok((block.head.clone(), block.body.clone()))
            });
            if found? {
                return Ok(true);
            }
        }
        self.is_on_disk(day, stream, t_ns, line)
    }

    fn is_on_disk(&self, day: i32, stream: u32, t_ns: i64, line: &str) -> Result<bool, Error> {
        let known = self.day_streams.read().get(&day).is_some_and(|streams| streams.contains(stream));
        let Some(day) = self.days.get(day).filter(|_| known) else { return Ok(false) };
        let view = self.days.view(&day)?;
        for segment in &view.segments {
            if !segment.table.overlaps(t_ns, t_ns.saturating_add(1)) {
                continue;
            }
            for row in &segment.table.rows {
                if !has(row, segment.table.spans(row), stream, t_ns) {
                    continue;
                }
                let found = self.is_in_block((day.number, row.id, stream), t_ns, line, || {
                    Ok((segment.head(row)?, segment.body(row)?.0))
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
        (day, block, stream): (i32, u64, u32),
        t_ns: i64,
        line: &str,
        frames: impl FnOnce() -> Result<(Vec<u8>, Vec<u8>), Error>,
    ) -> Result<bool, Error> {
        let mut seen = self.seen.lock();
        if let Some(decoded) = seen.find(day, block, stream) {
            return Ok(decoded.contains(t_ns, line));
        }
        let (head, body) = frames()?;
        let decoded = seen.decode((day, block, stream), &head, &body)?;
        let found = decoded.contains(t_ns, line);
        seen.keep(decoded);
        Ok(found)
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
        && spans.binary_search_by_key(&stream, |s| s.stream).is_ok_and(|at| {
            spans.get(at).is_some_and(|s| s.min_ns <= t_ns && t_ns <= s.max_ns)
        })
}
