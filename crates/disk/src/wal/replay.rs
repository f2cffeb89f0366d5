//! Opening a log: every record from a position on, up to a torn end, damage told.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilothouse_model::limits::WAL_DAMAGE_NAMED;

use super::record::{self, Entry, Invalid};
use super::segment::{self, BadHeader, HEADER_BYTES, Header, Segment, SegmentFiles};
use super::writer::{Shared, Writer};
use super::{Options, Position, Wal, WalError};
use crate::error::{is_no_space, is_unreadable};
use crate::{files, os, sectors};

/// Bytes read at a time; a longer record is read as a whole.
const READ_BYTES: usize = 1 << 20;
/// How far behind an invalid entry the next valid one is looked for at first.
const LOOK_AHEAD_BYTES: u64 = 64 << 10;

/// What to do about bytes that had been synced and are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Fail with [`WalError::Damaged`]; nothing is changed on the disk.
    Stop,
    /// Go on with the next entry that can be found, and tell what was lost.
    Skip,
}

/// A stretch of the log that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    pub from: Position,
    /// Where reading went on.
    pub to: Position,
    pub reason: &'static str,
}

/// What a replay found.
#[derive(Debug, Clone, Default)]
pub struct Replayed {
    /// Records given to the caller, and their payload.
    pub records: u64,
    pub bytes: u64,
    /// Where the log ends.
    pub end: Position,
    /// Bytes of a torn end, which [`Recovery::start`] cuts off. Nobody was told that they were durable.
    pub cut_bytes: u64,
    /// Only with [`OnDamage::Skip`]; at most the first hundred.
    pub damage: Vec<Damage>,
    pub damages: u64,
}

/// A log that is not yet appended to. Replay it, then start it.
#[derive(Debug)]
pub struct Recovery {
    directory: PathBuf,
    options: Options,
    files: Box<dyn SegmentFiles>,
    segments: Vec<Segment>,
    /// Known once the newest segment was read.
    ends: Option<Ends>,
}

/// Where reading ended.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// In the log.
    log: Position,
    /// In the newest segment; what follows in its file is a torn end.
    newest: Position,
}

impl Recovery {
    pub(super) fn open(
        directory: &Path,
        options: Options,
        files: Box<dyn SegmentFiles>,
    ) -> Result<Self, WalError> {
        files::create_directory(directory)?;
        let segments = segment::list(directory)?;
        Ok(Self { directory: directory.to_owned(), options, files, segments, ends: None })
    }

    /// Whether there is no segment at all.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The oldest position still kept; zero for an empty log.
    pub fn first(&self) -> Position {
        self.segments.first().map_or(Position(0), |s| s.first)
    }

    /// Gives every record at or behind `from` to `take`, in order, up to the torn end that the
    /// life before may have left. Changes nothing on the disk.
    ///
    /// `from` is where the caller's own state stands: that records between it and the oldest
    /// segment are gone is damage, what is wrong before it is none. From zero on, whatever is there is read.
    pub fn replay<E: From<WalError>>(
        &mut self,
        from: Position,
        on_damage: OnDamage,
        mut take: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<Replayed, E> {
        let mut run = Run { from, on_damage, found: Replayed::default() };
        let mut expected = if from.0 == 0 { None } else { Some(from) };
        let mut ends = Ends { log: from, newest: from };
        let Some((newest, closed)) = self.segments.split_last() else {
            self.ends = Some(ends);
            run.found.end = from;
            return Ok(run.found);
        };
        for segment in closed {
            let end =
                if segment.end() <= from { segment.end() } else { run.closed(segment, expected, &mut take)? };
            expected = Some(end);
        }
        ends.newest = run.newest(newest, expected, &mut take)?;
        // A segment torn in its header has no entries, but positions before its name are given.
        ends.log = ends.newest.max(newest.first);
        run.found.cut_bytes = newest.end().0.saturating_sub(ends.newest.0);
        run.found.end = ends.log;
        self.ends = Some(ends);
        Ok(run.found)
    }

    /// Opens the log for appending. The first record gets a position of at least `at_least`: a
    /// caller whose own state is ahead of the log, after a power cut in [`super::SyncMode::Interval`],
    /// must not see positions again that it takes for done.
    ///
    /// Cuts a torn end off. Reads the newest segment to its end if there was no replay.
    pub fn start(mut self, at_least: Position) -> Result<Wal, WalError> {
        let ends = match self.ends {
            Some(ends) => ends,
            None => self.find_ends()?,
        };
        self.settle(ends.newest)?;
        // Not the end of the log: a segment without entries, now gone, may have skipped positions.
        let written = self.segments.last().map_or(ends.log, Segment::end);
        let start = ends.log.max(written).max(at_least);
        let shared = Arc::new(Shared::new(self.options, self.segments, start));
        let writer = Writer::new(shared.clone(), self.files, self.directory.clone(), written);
        let writer = std::thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || writer.run())
            .map_err(WalError::io("start the writer of", &self.directory))?;
        Ok(Wal { shared, writer: Some(writer) })
    }

    fn find_ends(&mut self) -> Result<Ends, WalError> {
        let newest = self.segments.last().map_or(Position(0), |s| s.first);
        let found = self.replay(newest, OnDamage::Skip, |_, _| Ok::<_, WalError>(()))?;
        Ok(self.ends.unwrap_or(Ends { log: found.end, newest: found.end }))
    }

    /// Closes what the life before has written, which ends at `end` in the newest segment: it is
    /// durable from now on, and damage to it can be told from a torn end. Segments without
    /// entries are removed after that, since the next one may get their name.
    fn settle(&mut self, end: Position) -> Result<(), WalError> {
        let mut newest_end = Some(end);
        let mut empty = Vec::new();
        while let Some(last) = self.segments.last_mut() {
            let end = newest_end.take().unwrap_or_else(|| last.end());
            if end > last.first {
                close(last, end)?;
                break;
            }
            empty.extend(self.segments.pop());
        }
        for segment in &empty {
            files::remove(&segment.path)?;
        }
        Ok(files::sync_directory(&self.directory)?)
    }
}

/// Ends a segment with a mark that all before it is synced, in place of anything torn there.
fn close(segment: &mut Segment, end: Position) -> Result<(), WalError> {
    let mut mark = Vec::new();
    record::push_mark(&mut mark, end, end);
    let at = end.0 - segment.first.0 + HEADER_BYTES as u64;
    let path = segment.path.clone();
    let closed = os::open(OpenOptions::new().write(true), &path).and_then(|file| {
        segment.bytes = match os::write_at(&file, &path, &mark, at) {
            Ok(()) => at + mark.len() as u64,
            // A full disk must not keep a store from being read. Only the mark is missed.
            Err(e) if is_no_space(&e) => at,
            Err(e) => return Err(e),
        };
        os::set_len(&file, &path, segment.bytes)?;
        os::sync(&file, &path)
    });
    closed.map_err(WalError::io("close", &path))
}

/// One replay.
struct Run {
    from: Position,
    on_damage: OnDamage,
    found: Replayed,
}

/// How reading a segment ended.
enum Ended {
    /// With its last entry whole.
    Whole,
    /// With something invalid at the current position.
    Invalid(&'static str),
}

impl Run {
    /// A segment that was synced before the next was begun: anything invalid is damage.
    fn closed<E: From<WalError>>(
        &mut self,
        segment: &Segment,
        expected: Option<Position>,
        take: &mut impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<Position, E> {
        let mut reader = Reader::open(segment)?;
        match reader.header()? {
            Ok(header) => self.follows(segment, header, expected)?,
            Err(reason) => self.damaged(segment, segment.first, segment.first, reason)?,
        }
        while let Ended::Invalid(reason) = self.entries(&mut reader, take)? {
            let to = reader.resume()?.unwrap_or_else(|| segment.end());
            self.damaged(segment, reader.position(), to, reason)?;
            reader.skip_to(to);
        }
        Ok(reader.position())
    }

    /// The segment written last: what was not yet synced may be torn. Returns where that starts.
    fn newest<E: From<WalError>>(
        &mut self,
        segment: &Segment,
        expected: Option<Position>,
        take: &mut impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<Position, E> {
        let mut reader = Reader::open(segment)?;
        match reader.header()? {
            Ok(header) => self.follows(segment, header, expected)?,
            Err(reason) => {
                reader.skip_to(segment.first);
                if reader.synced()? <= segment.first {
                    return Ok(segment.first);
                }
                self.damaged(segment, segment.first, segment.first, reason)?;
            }
        }
        let mut synced = None;
        while let Ended::Invalid(reason) = self.entries(&mut reader, take)? {
            let at = reader.position();
            let synced = match synced {
                Some(synced) => synced,
                None => *synced.insert(reader.synced()?),
            };
            if synced <= at {
                break;
            }
            let to = reader.resume()?.unwrap_or_else(|| segment.end());
            self.damaged(segment, at, to, reason)?;
            reader.skip_to(to);
        }
        Ok(reader.position())
    }

    /// Reads entries until the segment ends or one is invalid.
    fn entries<E: From<WalError>>(
        &mut self,
        reader: &mut Reader,
        take: &mut impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<Ended, E> {
        loop {
            let position = reader.position();
            match reader.entry()? {
                None => return Ok(Ended::Whole),
                Some(Ok(Entry::Record(payload))) if position >= self.from => {
                    self.found.records += 1;
                    self.found.bytes += payload.len() as u64;
                    take(position, payload)?;
                }
                Some(Ok(_)) => {}
                Some(Err(invalid)) => return Ok(Ended::Invalid(reason_of(invalid))),
            }
        }
    }

    /// Checks that nothing is missing between the segment before and this one.
    fn follows(
        &mut self,
        segment: &Segment,
        header: Header,
        expected: Option<Position>,
    ) -> Result<(), WalError> {
        let Some(expected) = expected else { return Ok(()) };
        if header.previous_end > expected && header.previous_end > self.from {
            return self.damaged(segment, expected, segment.first, "segments are missing");
        }
        Ok(())
    }

    fn damaged(
        &mut self,
        segment: &Segment,
        from: Position,
        to: Position,
        reason: &'static str,
    ) -> Result<(), WalError> {
        // Nobody needs what was there.
        if to <= self.from && from < to {
            return Ok(());
        }
        let damage = Damage { from, to, reason };
        if self.on_damage == OnDamage::Stop {
            return Err(WalError::Damaged { path: segment.path.clone(), damage });
        }
        self.found.damages += 1;
        if self.found.damage.len() < WAL_DAMAGE_NAMED {
            self.found.damage.push(damage);
        }
        Ok(())
    }
}

fn reason_of(invalid: Invalid) -> &'static str {
    match invalid {
        Invalid::Short => "an entry ends behind its segment",
        Invalid::Length => "an entry has an impossible length",
        Invalid::Checksum => "an entry has a wrong checksum",
    }
}

/// What the disk does not give reads as zeros, which are invalid entries, where it gives other parts of the segment.
fn read_at(file: &File, segment: &Segment, out: &mut [u8], offset: u64) -> Result<(), WalError> {
    let path = &segment.path;
    let read = match os::read_at(file, path, out, offset) {
        Err(e) if is_unreadable(&e) && sectors::is_bad_in_part(path) => {
            sectors::read_around_at(file, path, out, offset)
        }
        read => read,
    };
    read.map_err(WalError::io("read", path))
}

/// Where to go on behind something invalid at the start of `bytes`, which are the whole rest of
/// a segment or the first part of it: the next mark, or the entry that the invalid one's length
/// leads to, if that one is valid and comes before. `None` if these bytes do not tell.
fn resume(bytes: &[u8], whole: bool, at: Position) -> Option<Position> {
    let position = |offset: usize| Position(at.0 + offset as u64);
    let mark = record::marks(bytes, at).map(|(offset, _)| offset).next();
    // A mark before it shows that the length is wrong.
    let next = record::offset_behind(bytes).filter(|next| mark.is_none_or(|mark| *next < mark));
    let read = next.map(|offset| record::read(bytes.get(offset..).unwrap_or(&[]), position(offset)));
    let offset = match read {
        Some(Ok(_)) => next,
        // It may be valid when more is read.
        Some(Err(Invalid::Short)) if !whole => None,
        _ => mark,
    };
    offset.map(position)
}

/// Walks over the entries of a segment with a window into it.
struct Reader<'a> {
    segment: &'a Segment,
    file: File,
    window: Vec<u8>,
    /// Offset in the file of the window's first byte, and in the window of what comes next.
    window_offset: u64,
    at: usize,
}

impl<'a> Reader<'a> {
    fn open(segment: &'a Segment) -> Result<Self, WalError> {
        let file = File::open(&segment.path).map_err(WalError::io("open", &segment.path))?;
        Ok(Self { segment, file, window: Vec::new(), window_offset: 0, at: 0 })
    }

    /// Reads the header; the inner error says what is wrong with it.
    fn header(&mut self) -> Result<Result<Header, &'static str>, WalError> {
        self.fill(HEADER_BYTES)?;
        let header = self.window.first_chunk().map(Header::decode);
        self.at = HEADER_BYTES.min(self.window.len());
        match header {
            Some(Ok(header)) if header.first == self.segment.first => Ok(Ok(header)),
            Some(Err(BadHeader::Newer(found))) => {
                Err(WalError::Newer { path: self.segment.path.clone(), found, known: segment::VERSION })
            }
            Some(_) => Ok(Err("a segment's header is damaged")),
            None => Ok(Err("a segment's header is cut off")),
        }
    }

    fn offset(&self) -> u64 {
        self.window_offset + self.at as u64
    }

    fn position(&self) -> Position {
        Position(self.segment.first.0 + self.offset().saturating_sub(HEADER_BYTES as u64))
    }

    /// Goes on at a position, or at the end if it lies behind that.
    fn skip_to(&mut self, position: Position) {
        let offset = position.0.saturating_sub(self.segment.first.0) + HEADER_BYTES as u64;
        self.window_offset = offset.min(self.segment.bytes);
        self.window.clear();
        self.at = 0;
    }

    /// The next entry; `None` at the end of the segment. An invalid one is not passed over.
    fn entry(&mut self) -> Result<Option<Result<Entry<'_>, Invalid>>, WalError> {
        self.fill(record::HEAD)?;
        if self.at >= self.window.len() {
            return Ok(None);
        }
        let position = self.position();
        self.fill(record::needed(self.window.get(self.at..).unwrap_or(&[])))?;
        match record::read(self.window.get(self.at..).unwrap_or(&[]), position) {
            Ok((entry, size)) => {
                self.at += size;
                Ok(Some(Ok(entry)))
            }
            Err(invalid) => Ok(Some(Err(invalid))),
        }
    }

    /// Makes `needed` bytes ready from the current place on, or as many as there are.
    fn fill(&mut self, needed: usize) -> Result<(), WalError> {
        if self.window.len() - self.at >= needed {
            return Ok(());
        }
        self.window.drain(..self.at);
        self.window_offset += self.at as u64;
        self.at = 0;
        let end = self.window_offset + self.window.len() as u64;
        let left = self.segment.bytes.saturating_sub(end);
        let wanted = left.min(needed.max(READ_BYTES) as u64) as usize;
        let old = self.window.len();
        self.window.resize(old + wanted, 0);
        let target = self.window.get_mut(old..).unwrap_or(&mut []);
        read_at(&self.file, self.segment, target, end)
    }

    /// Where to go on behind the invalid entry at the current place; `None` if nothing valid
    /// follows. Looks ahead only as far as it must.
    fn resume(&self) -> Result<Option<Position>, WalError> {
        let mut ahead = LOOK_AHEAD_BYTES;
        loop {
            let (bytes, whole) = self.rest(ahead)?;
            let found = resume(&bytes, whole, self.position());
            if found.is_some() || whole {
                return Ok(found);
            }
            ahead *= 8;
        }
    }

    /// The newest position that a mark in the rest of the segment says was synced; zero if there
    /// is none. What is invalid before it was valid once.
    fn synced(&self) -> Result<Position, WalError> {
        let (bytes, _) = self.rest(u64::MAX)?;
        Ok(record::marks(&bytes, self.position()).map(|(_, synced)| synced).max().unwrap_or_default())
    }

    /// What follows the current place, at most so many bytes, and whether that is all.
    fn rest(&self, at_most: u64) -> Result<(Vec<u8>, bool), WalError> {
        let left = self.segment.bytes.saturating_sub(self.offset());
        let mut bytes = vec![0; left.min(at_most) as usize];
        read_at(&self.file, self.segment, &mut bytes, self.offset())?;
        Ok((bytes, left <= at_most))
    }
}
