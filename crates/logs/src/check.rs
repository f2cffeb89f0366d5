//! Looking a store over that nobody has open: every segment, block and record by its checksum.

use std::collections::BTreeSet;
use std::path::Path;

use pilothouse_disk::Position;
use pilothouse_disk::backup::Progress;
use pilothouse_disk::check::{self, Checked};
use pilothouse_disk::files::{self, DirectoryLock};
use pilothouse_model::Labels;
use pilothouse_model::logs::{LineNeed, MetadataNeed};
use pilothouse_model::time;
use tantivy::index::SegmentId;

use crate::block::{Head, Reader, Want};
use crate::catalog;
use crate::day::directory::segment_of;
use crate::day::one::{Change, Day, MoreBlocks, Segment};
use crate::day::set::directory_names;
use crate::day::table::Row;
use crate::delete::{LeftBlock, REWRITTEN_AT_ONCE, Rewriter};
use crate::error::Error;
use crate::options::StoreOptions;
use crate::record::{Deletion, RecordSink, read_record};
use crate::seen::{Seen, is_on_disk};
use crate::store::Store;

/// Looks the store of a directory over, and changes nothing; tells segment by segment how far it is. Fails if
/// somebody has it open.
pub fn check(directory: &Path, progress: &Progress) -> Result<Checked, Error> {
    let _lock = DirectoryLock::acquire(directory)?;
    let mut checked = Checked::default();
    let streams = directory.join("streams.redb");
    if !files::is_absent_or_empty(&streams)? {
        check::database(&streams, catalog::KIND, catalog::VERSION, &mut checked)?;
        check::done_with(&streams, progress);
    }
    match catalog::read_copy(&streams) {
        Err(error) if error.is_damage() => checked.found(&directory.join(catalog::COPY), "", error),
        read => drop(read?),
    }
    for (number, path) in days_of(&directory.join("day"))? {
        check_day(&path, number, &mut checked, progress)?;
    }
    let record = |payload: &[u8]| read_record(payload, &mut Nothing).map_err(|e| e.to_string());
    check::log(&directory.join("wal"), Position(0), &mut checked, record)?;
    Ok(checked)
}

/// Looks the store over and cuts out what is damaged: days of which nothing can be read are set
/// aside; of a segment with something damaged in it, the blocks that can be decoded are written
/// anew, from its store alone where that is all that can be opened, and its files set aside. What was found is returned.
pub fn repair(directory: &Path, options: StoreOptions, progress: &Progress) -> Result<Checked, Error> {
    let checked = check(directory, progress)?;
    if checked.findings.is_empty() {
        return Ok(checked);
    }
    let store = Store::open(directory, StoreOptions { background: false, ..options })?;
    store.flush()?;
    for day in store.inner.days.all() {
        for segment in damaged_segments(&day)? {
            cut_out(&store, &day, segment, REWRITTEN_AT_ONCE)?;
        }
        let known = store.inner.day_streams.read().get(&day.number).cloned().unwrap_or_default();
        day.streams.add(&[], || store.inner.registry.read().rows(&known))?;
    }
    // With them their copy is written anew.
    files::remove(&directory.join(catalog::COPY))?;
    store.inner.catalog.save_deletions(&store.deletions())?;
    store.close()?;
    Ok(checked)
}

/// Segments that cannot be opened, with a file whose checksum is wrong, or with a block that
/// cannot be decoded.
fn damaged_segments(day: &Day) -> Result<BTreeSet<SegmentId>, Error> {
    let view = day.view()?;
    let mut damaged: BTreeSet<SegmentId> = day.damaged_segments().into_iter().collect();
    damaged.extend(day.damaged_files()?.into_iter().map(|(segment, _)| segment));
    for segment in &view.segments {
        if segment.table.rows.iter().any(|row| read_block(segment, row).is_err()) {
            damaged.insert(segment.id());
        }
    }
    Ok(damaged)
}

/// In one commit: what is left of a segment is there, the segment is not. So many of its blocks are held at once.
pub(crate) fn cut_out(store: &Store, day: &Day, id: SegmentId, at_once: usize) -> Result<(), Error> {
    let view = day.view()?;
    let change = Change { cut_out: vec![id], ..Change::default() };
    let mut left = match view.segments.iter().find(|segment| segment.id() == id) {
        Some(segment) => left_of(store, segment, at_once)?,
        None => left_of_store(store, day, id, at_once)?,
    };
    day.commit_with(&change, &mut *left, &|_| {})
}

fn left_of<'a>(store: &'a Store, segment: &'a Segment, at_once: usize) -> Result<Box<MoreBlocks<'a>>, Error> {
    let mut rewriter = Rewriter::new(&store.inner, &[])?;
    let mut groups = segment.table.rows.chunks(at_once);
    Ok(Box::new(move || {
        let Some(rows) = groups.next() else { return Ok(None) };
        let mut left = Vec::new();
        for row in rows {
            let again = segment.head(row).and_then(|head| {
                let (body, metadata) = segment.body(row)?;
                rewriter.again(row, &head, &body, &metadata).map(Some)
            });
            left.extend(unless_damaged(again, &mut rewriter)?);
        }
        Ok(Some(left))
    }))
}

/// Of a segment that cannot be opened, what its store has. Which cut its blocks were of is not known any more; as blocks
/// of the first, no deletion that waits passes them over. As long as it could not be read, nobody who sent its lines once
/// more was told that they are there: those that came again are taken from elsewhere.
fn left_of_store<'a>(
    store: &'a Store,
    day: &'a Day,
    id: SegmentId,
    at_once: usize,
) -> Result<Box<MoreBlocks<'a>>, Error> {
    let mut stored = match day.stored_blocks(id) {
        Err(error) if error.is_damage() => return Ok(Box::new(|| Ok(None))),
        stored => stored?,
    };
    let mut rewriter = Rewriter::new(&store.inner, &[])?;
    let mut seen = Seen::default();
    Ok(Box::new(move || {
        let group: Vec<_> = stored.by_ref().take(at_once).collect::<Result<_, _>>()?;
        if group.is_empty() {
            return Ok(None);
        }
        let mut left = Vec::new();
        for block in group {
            let row = Row::unknown(store.inner.layers.write().take_block_id());
            let mut is_elsewhere = |stream, t_ns, line: &str| {
                // What a deletion hides there it hides here too.
                is_on_disk(&mut seen, day, (stream, t_ns, line), |_, _| false)
            };
            let again = rewriter.unless_elsewhere(&row, &block, &mut is_elsewhere);
            left.extend(unless_damaged(again, &mut rewriter)?);
        }
        Ok(Some(left))
    }))
}

fn unless_damaged(
    block: Result<Option<LeftBlock>, Error>,
    rewriter: &mut Rewriter<'_>,
) -> Result<Option<LeftBlock>, Error> {
    match block {
        Ok(block) => Ok(block),
        Err(error) if error.is_damage() => {
            rewriter.clear();
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn days_of(directory: &Path) -> Result<Vec<(i32, std::path::PathBuf)>, Error> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let names = directory_names(directory)?;
    let day = |name: &String| Some((time::parse_day(name)?, directory.join(name)));
    Ok(names.iter().filter_map(day).collect())
}

fn check_day(path: &Path, number: i32, checked: &mut Checked, progress: &Progress) -> Result<(), Error> {
    let names = files::file_names(path)?;
    checked.files += names.len() as u64;
    let opened = Day::look(path, number).and_then(|(day, faults)| {
        let damaged = day.damaged_files()?;
        Ok((faults, damaged, day.view()?, day))
    });
    let (faults, damaged, view, day) = match opened {
        Ok(opened) => opened,
        Err(error) if error.is_damage() => {
            checked.found(path, "", error);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for (file, fault) in faults {
        checked.found(&file, "", fault);
    }
    for (_, file) in &damaged {
        checked.found(file, "", "its checksum is wrong");
    }
    if day.streams.is_there() && !day.streams.read()?.is_whole {
        checked.found(day.streams.path(), "", "not all of its streams can be read");
    }
    for segment in day.damaged_segments() {
        checked.found(path, format!("segment {}", segment.uuid_string()), "it cannot be opened");
    }
    for segment in &view.segments {
        for row in &segment.table.rows {
            checked.parts += 1;
            if let Err(error) = read_block(segment, row) {
                checked.found(path, format!("block {}", row.id), error);
            }
        }
        let id = segment.id().uuid_string();
        let own = names.iter().filter(|name| segment_of(name) == Some(id.as_str()));
        own.for_each(|name| check::done_with(&path.join(name), progress));
    }
    Ok(())
}

/// Decodes all of a block.
fn read_block(segment: &Segment, row: &Row) -> Result<(), Error> {
    let undecodable = |e: crate::block::BlockError| Error::corrupt(&segment.path, e.to_string());
    let head = segment.head(row)?;
    let head = Head::decode(&head).map_err(undecodable)?;
    let (body, metadata) = segment.body(row)?;
    let everything = Want {
        streams: &|_| true,
        start_ns: i64::MIN,
        end_ns: i64::MAX,
        lines: LineNeed::Text,
        metadata: &MetadataNeed::All,
    };
    Reader::new()
        .and_then(|mut reader| reader.read(&head, &body, &metadata, &everything))
        .map_err(undecodable)
}

/// Takes records and does nothing with them.
struct Nothing;

impl RecordSink for Nothing {
    fn stream(&mut self, _: u32, _: u32, _: Labels) {}
    fn part(&mut self, _: u32) {}
    fn entry(&mut self, _: i64, _: &str, _: &Labels) {}
    fn deletion(&mut self, _: Deletion) {}
    fn cancel(&mut self, _: u64) {}
}
