//! One day: a directory with a tantivy index and the filters of its blocks.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex};
use pilothouse_disk::{Position, files};
use tantivy::directory::{Directory as _, META_LOCK, OwnedBytes};
use tantivy::index::{Index, SegmentId, SegmentReader};
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, UserOperation};
use tantivy::store::StoreReader;
use tantivy::{IndexWriter, Term};

use super::directory::IndexDirectory;
use super::filters::{self, Filters};
use super::schema::{Fields, FilterPlace, schema, settings};
use super::streams::StreamFile;
use super::table::{Row, Span, Table};
use crate::block::{BlockFilter, SlabBuilder};
use crate::error::Error;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT: &str = "pilothouse-logs-day";
const VERSION: u32 = 1;
/// Blocks in one slab.
const SLAB_BLOCKS: usize = 64;
/// The least that tantivy takes; a commit needs a fraction of it.
const HEAP_BYTES: usize = 15_000_000;
/// More than one commit brings at the most in a usual store.
const COMMIT_BYTES: u64 = 64 << 20;
/// Documents in segments that are merged, and no more after it: a merge reads a segment's store
/// as a whole, and pays off in file handles and openings only.
const LARGEST_MERGED: usize = 1024;
/// Segments below this many documents count as of one size, so that a day that gets a few blocks
/// a minute does not merge its segments again and again.
const LEAST_LAYER: u32 = 64;
const MERGED_AT_ONCE: usize = 8;

// ---- what a commit carries ----

/// What is committed together with the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Where the committed part of the filters ends.
    pub(crate) filters_end: u64,
    /// No entry of the day is newer.
    pub(crate) newest_ns: i64,
    /// No cut of the day has a greater number, and no block this id or a greater one.
    pub(crate) last_cut: u64,
    pub(crate) next_block: u64,
    /// By group: the day has all its entries that lie before this position in the log.
    pub(crate) positions: Vec<(u32, Position)>,
}

impl Default for Payload {
    fn default() -> Self {
        Self { filters_end: 0, newest_ns: i64::MIN, last_cut: 0, next_block: 0, positions: Vec::new() }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filters_end, newest_ns, last_cut, next_block, .. } = self;
        write!(f, "{VERSION} {filters_end} {newest_ns} {last_cut} {next_block}")?;
        self.positions.iter().try_for_each(|(group, position)| write!(f, " {group}:{position}"))
    }
}

impl Payload {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()?.parse::<u32>().ok()? != VERSION {
            return None;
        }
        let filters_end = words.next()?.parse().ok()?;
        let newest_ns = words.next()?.parse().ok()?;
        let (last_cut, next_block) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let position = |word: &str| {
            let (group, position) = word.split_once(':')?;
            Some((group.parse().ok()?, Position(position.parse().ok()?)))
        };
        let positions = words.map(position).collect::<Option<_>>()?;
        Some(Self { filters_end, newest_ns, last_cut, next_block, positions })
    }

    pub(crate) fn position_of(&self, group: u32) -> Option<Position> {
        self.positions.iter().find(|(g, _)| *g == group).map(|(_, p)| *p)
    }
}

/// A block to be committed.
#[derive(Debug)]
pub(crate) struct NewBlock<'a> {
    pub(crate) row: &'a Row,
    pub(crate) spans: &'a [Span],
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) metadata: &'a [u8],
    pub(crate) filter: &'a BlockFilter,
}

/// A change of a day, made in one step.
#[derive(Debug, Default)]
pub(crate) struct Change<'a> {
    pub(crate) blocks: Vec<NewBlock<'a>>,
    /// Ids of blocks to remove.
    pub(crate) removed: Vec<u64>,
    pub(crate) positions: Vec<(u32, Position)>,
    /// Positions below this are of no use any more.
    pub(crate) log_first: Position,
}

// ---- what a reader holds ----

/// A segment as it was at one time.
pub(crate) struct Segment {
    key: (SegmentId, Option<u64>),
    pub(crate) table: Table,
    store: StoreReader,
    fields: Fields,
    pub(crate) path: PathBuf,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Segment {
    fn document(&self, doc: u32) -> Result<OwnedBytes, Error> {
        guarded(&self.path, || self.store.get_document_bytes(doc).map_err(Error::tantivy(&self.path)))
    }

    pub(crate) fn head(&self, row: &Row) -> Result<OwnedBytes, Error> {
        let head = self.fields.head_of(&self.document(row.doc)?);
        head.ok_or_else(|| Error::corrupt(&self.path, "a block without a head"))
    }

    /// Body and metadata.
    pub(crate) fn body(&self, row: &Row) -> Result<(OwnedBytes, OwnedBytes), Error> {
        let body = self.fields.body_of(&self.document(row.doc + 1)?);
        body.ok_or_else(|| Error::corrupt(&self.path, "a block without a body"))
    }
}

#[derive(Debug)]
pub(crate) struct DayView {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) filters: Arc<Filters>,
}

impl DayView {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.segments.iter().map(|s| s.table.heap_bytes()).sum::<usize>() + self.filters.heap_bytes()
    }

    pub(crate) fn block_count(&self) -> usize {
        self.segments.iter().map(|s| s.table.rows.len()).sum()
    }
}

// ---- the day ----

#[derive(Debug)]
pub(crate) struct Day {
    pub(crate) number: i32,
    pub(crate) path: PathBuf,
    /// Unknown after a commit that failed, since that may have come far enough.
    payload: Mutex<Option<Payload>>,
    view: Mutex<Option<Arc<DayView>>>,
    /// The labels of its streams.
    pub(crate) streams: StreamFile,
    /// When the view was asked for last, in counts of the set.
    pub(crate) used: AtomicU64,
    /// Segments that could not be read when the view was made.
    pub(crate) damaged: AtomicU64,
}

impl Day {
    /// Makes the directory of a day that has none.
    pub(crate) fn create(path: &Path, number: i32) -> Result<Self, Error> {
        // Under another name first: what a crash leaves of it is cleared away at start.
        let unfinished = files::unfinished_path(path);
        remove_directory(&unfinished)?;
        files::create_directory(&unfinished)?;
        let (schema, _) = schema();
        let directory = IndexDirectory::open(&unfinished).map_err(Error::tantivy(path))?;
        let made = Index::builder().schema(schema).settings(settings()).open_or_create(directory);
        drop(made.map_err(Error::tantivy(path))?);
        files::write_atomic(&unfinished.join(FORMAT_FILE), format!("{FORMAT} {VERSION}\n").as_bytes())?;
        files::rename_durably(&unfinished, path)?;
        Ok(Self::new(path, number, Payload::default()))
    }

    pub(crate) fn open(path: &Path, number: i32) -> Result<Self, Error> {
        check_format(path)?;
        Ok(Self::new(path, number, read_payload(path)?))
    }

    fn new(path: &Path, number: i32, payload: Payload) -> Self {
        Self {
            number,
            path: path.to_owned(),
            payload: Mutex::new(Some(payload)),
            view: Mutex::default(),
            streams: StreamFile::of(path),
            used: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        }
    }

    /// What the last commit carried.
    pub(crate) fn payload(&self) -> Result<Payload, Error> {
        let mut payload = self.payload.lock();
        match &*payload {
            Some(known) => Ok(known.clone()),
            None => Ok(payload.insert(read_payload(&self.path)?).clone()),
        }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.view.lock().is_some()
    }

    pub(crate) fn loaded(&self) -> Option<Arc<DayView>> {
        self.view.lock().clone()
    }

    /// Forgets the tables; who holds them goes on reading.
    pub(crate) fn unload(&self) {
        *self.view.lock() = None;
    }

    /// The blocks as they are now; read from the disk if they are not in memory.
    pub(crate) fn view(&self) -> Result<Arc<DayView>, Error> {
        let mut view = self.view.lock();
        if let Some(view) = &*view {
            return Ok(view.clone());
        }
        let read = Arc::new(self.read_view(None)?);
        *view = Some(read.clone());
        Ok(read)
    }

    fn read_view(&self, before: Option<&DayView>) -> Result<DayView, Error> {
        let index = open_index(&self.path)?;
        // As long as it is held nobody removes the files that are about to be opened.
        let lock = index.directory().acquire_lock(&META_LOCK);
        let _lock = lock.map_err(|e| Error::tantivy(&self.path)(tantivy::TantivyError::from(e)))?;
        let metas = index.searchable_segments().map_err(Error::tantivy(&self.path))?;
        let mut segments = Vec::with_capacity(metas.len());
        let mut damaged = 0;
        for segment in &metas {
            let key = (segment.id(), segment.meta().delete_opstamp());
            if let Some(known) = before.and_then(|b| b.segments.iter().find(|s| s.key == key)) {
                segments.push(known.clone());
                continue;
            }
            match guarded(&self.path, || self.read_segment(segment, key)) {
                Ok(read) => segments.push(Arc::new(read)),
                Err(error) if error.is_damage() => {
                    damaged += 1;
                    tracing::error!(%error, segment = %segment.id().uuid_string(), "a part of a day is damaged and left out");
                }
                Err(error) => return Err(error),
            }
        }
        self.damaged.store(damaged, Relaxed);
        let filters = match before {
            Some(before) => before.filters.clone(),
            None => Arc::new(Filters::of(&self.path)),
        };
        Ok(DayView { segments, filters })
    }

    fn read_segment(
        &self,
        segment: &tantivy::Segment,
        key: (SegmentId, Option<u64>),
    ) -> Result<Segment, Error> {
        let reader = SegmentReader::open(segment).map_err(Error::tantivy(&self.path))?;
        let table = Table::read(&reader).map_err(Error::tantivy(&self.path))?;
        let store = reader.get_store_reader(0).map_err(Error::tantivy(&self.path))?;
        Ok(Segment { key, table, store, fields: schema().1, path: self.path.clone() })
    }

    /// Makes a change durable, then shows it. After an error nothing of it is there or all of it
    /// is; [`Payload::positions`] tell. `reached` hears of the steps on the way.
    pub(crate) fn commit(&self, change: &Change<'_>, reached: &dyn Fn(&str)) -> Result<(), Error> {
        let bytes: usize = change.blocks.iter().map(|b| b.head.len() + b.body.len()).sum();
        files::require_space(&self.path, COMMIT_BYTES + bytes as u64)?;
        let mut next = self.payload()?;
        let places = self.append_filters(change, &mut next)?;
        next.positions.retain(|(_, position)| *position > change.log_first);
        for (group, position) in &change.positions {
            match next.positions.iter_mut().find(|(g, _)| g == group) {
                Some(known) => known.1 = known.1.max(*position),
                None => next.positions.push((*group, *position)),
            }
        }
        reached("day: filters written");
        for block in &change.blocks {
            next.newest_ns = next.newest_ns.max(block.row.max_ns);
            next.last_cut = next.last_cut.max(block.row.cut);
            next.next_block = next.next_block.max(block.row.id + 1);
        }
        *self.payload.lock() = None;
        self.index(change, &places, &next)?;
        reached("day: committed");
        *self.payload.lock() = Some(next);
        self.refresh();
        Ok(())
    }

    /// Reads what has changed since the view was made.
    pub(crate) fn refresh(&self) {
        let mut view = self.view.lock();
        match self.read_view(view.as_deref()) {
            Ok(read) => *view = Some(Arc::new(read)),
            // It is read again when it is asked for.
            Err(error) => {
                *view = None;
                tracing::error!(%error, "cannot read a day after a commit");
            }
        }
    }

    fn append_filters(&self, change: &Change<'_>, payload: &mut Payload) -> Result<Vec<FilterPlace>, Error> {
        let mut places = Vec::with_capacity(change.blocks.len());
        let mut slabs = Vec::new();
        for part in change.blocks.chunks(SLAB_BLOCKS) {
            let mut builder = SlabBuilder::default();
            let at = payload.filters_end + slabs.len() as u64;
            for block in part {
                let in_slab = u64::from(builder.push(block.filter).unwrap_or(0));
                places.push(FilterPlace { slab: at, slab_bytes: 0, in_slab });
            }
            let slab = builder.finish();
            let first = places.len() - part.len();
            places[first..].iter_mut().for_each(|p| p.slab_bytes = slab.len() as u64);
            slabs.extend_from_slice(&slab);
        }
        if !slabs.is_empty() {
            filters::append(&self.path, payload.filters_end, &slabs)?;
            payload.filters_end += slabs.len() as u64;
        }
        Ok(places)
    }

    fn index(&self, change: &Change<'_>, places: &[FilterPlace], payload: &Payload) -> Result<(), Error> {
        let _permit = Permit::take();
        self.write(change, places, payload).map_err(Error::tantivy(&self.path))
    }

    fn write(&self, change: &Change<'_>, places: &[FilterPlace], payload: &Payload) -> tantivy::Result<()> {
        let index = Index::open(IndexDirectory::open(&self.path)?)?;
        let (_, fields) = schema();
        let options =
            IndexWriterOptions::builder().memory_budget_per_thread(HEAP_BYTES).num_merge_threads(1).build();
        let mut writer: IndexWriter = index.writer_with_options(options)?;
        writer.set_merge_policy(Box::new(merge_policy()));
        for id in &change.removed {
            writer.delete_term(Term::from_field_u64(fields.id, *id));
        }
        for (block, place) in change.blocks.iter().zip(places) {
            let first = fields.first_document(block.row, block.spans, *place, block.head);
            let second = fields.second_document(block.row, block.body, block.metadata);
            // In one batch: both go to the same segment.
            writer.run([UserOperation::Add(first), UserOperation::Add(second)])?;
        }
        let mut prepared = writer.prepare_commit()?;
        prepared.set_payload(&payload.to_string());
        prepared.commit()?;
        if let Err(error) = writer.wait_merging_threads() {
            // What is committed stays; the next commit tries again.
            tracing::warn!(%error, path = %self.path.display(), "cannot merge parts of a day");
        }
        Ok(())
    }

    /// The files of tantivy's whose checksums are wrong. Reads them all.
    pub(crate) fn damaged_files(&self) -> Result<Vec<PathBuf>, Error> {
        let damaged = open_index(&self.path)?.validate_checksum().map_err(Error::tantivy(&self.path))?;
        let mut damaged: Vec<PathBuf> = damaged.into_iter().collect();
        damaged.sort_unstable();
        Ok(damaged)
    }

    /// Bytes of all files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let names = files::file_names(&self.path).unwrap_or_default();
        names.iter().map(|name| files::allocated_bytes(&self.path.join(name)).unwrap_or(0)).sum()
    }
}

/// tantivy and redb trust their files, and panic over some damaged ones.
pub(crate) fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Error::corrupt(path, "its reader has met something it did not expect")))
}

fn open_index(path: &Path) -> Result<Index, Error> {
    let directory = IndexDirectory::open(path).map_err(Error::tantivy(path))?;
    Index::open(directory).map_err(Error::tantivy(path))
}

fn read_payload(path: &Path) -> Result<Payload, Error> {
    let metas = open_index(path)?.load_metas().map_err(Error::tantivy(path))?;
    match metas.payload.as_deref() {
        Some(text) => Payload::parse(text).ok_or_else(|| Error::corrupt(path, "the commit's payload")),
        None => Ok(Payload::default()),
    }
}

fn check_format(path: &Path) -> Result<(), Error> {
    let file = path.join(FORMAT_FILE);
    let text = std::fs::read_to_string(&file).map_err(Error::io("read", &file))?;
    let version = text.trim_end().strip_prefix(FORMAT).and_then(|rest| rest.trim().parse::<u32>().ok());
    match version {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => {
            Err(pilothouse_disk::Error::Newer { path: file, kind: FORMAT, found, known: VERSION }.into())
        }
        _ => Err(Error::corrupt(file, "no format version that is known")),
    }
}

fn merge_policy() -> LogMergePolicy {
    let mut policy = LogMergePolicy::default();
    policy.set_min_layer_size(LEAST_LAYER);
    policy.set_max_docs_before_merge(LARGEST_MERGED);
    policy.set_min_num_segments(MERGED_AT_ONCE);
    // A segment that is half deleted is written anew.
    policy.set_del_docs_ratio_before_merge(0.5);
    policy
}

/// Removes a directory that nothing refers to, if it is there.
pub(crate) fn remove_directory(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Writers of tantivy in the whole process, whatever number of sources and days write at once:
/// each takes memory and threads.
const MAX_WRITERS: usize = 2;

static WRITERS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

struct Permit;

impl Permit {
    fn take() -> Self {
        let mut writers = WRITERS.0.lock();
        while *writers >= MAX_WRITERS {
            WRITERS.1.wait(&mut writers);
        }
        *writers += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *WRITERS.0.lock() -= 1;
        WRITERS.1.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_read_back() {
        let payload = Payload {
            filters_end: 7,
            newest_ns: -8,
            last_cut: 9,
            next_block: 10,
            positions: vec![(0, Position(1)), (63, Position(u64::MAX))],
        };
        assert_eq!(payload.to_string(), "1 7 -8 9 10 0:1 63:18446744073709551615");
        assert_eq!(Payload::parse(&payload.to_string()), Some(payload));
        assert_eq!(Payload::parse(&Payload::default().to_string()), Some(Payload::default()));
        for bad in ["", "2 0 0 0 0", "1 0 0 0", "1 x 0 0 0", "1 0 0 0 0 1", "1 0 0 0 0 1:", "1 0 0 0 0 a:1"] {
            assert_eq!(Payload::parse(bad), None, "{bad}");
        }
    }
}
