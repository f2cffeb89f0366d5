//! One day: a directory with a tantivy index and the filters of its blocks.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Condvar, Mutex};
use pilothouse_disk::{Position, files};
use tantivy::directory::{Directory as _, META_LOCK, OwnedBytes};
use tantivy::fastfield::AliveBitSet;
use tantivy::index::{Index, SegmentComponent, SegmentId, SegmentMeta, SegmentReader};
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, MergeCandidate, MergePolicy, UserOperation};
use tantivy::store::StoreReader;
use tantivy::{IndexWriter, Term};

use super::directory::{IndexDirectory, segment_of};
use super::filters::{self, Filters};
use super::schema::{Fields, FilterPlace, schema, settings};
use super::streams::StreamFile;
use super::table::{Row, Span, Table};
use super::{meta, rebuild};
use crate::block::{BlockFilter, SlabBuilder};
use crate::delete::LeftBlock;
use crate::error::Error;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT: &str = "pilothouse-logs-day";
const VERSION: u32 = 2;
const PAYLOAD_VERSION: u32 = 1;
/// Stands before the position up to which nothing is known of any group.
const ANY_GROUP: &str = "*";
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
    /// The positions were lost once: of what the log has before this one, some may be there, which its blocks
    /// alone can tell.
    pub(crate) unsure_upto: Option<Position>,
}

impl Default for Payload {
    fn default() -> Self {
        Self {
            filters_end: 0,
            newest_ns: i64::MIN,
            last_cut: 0,
            next_block: 0,
            positions: Vec::new(),
            unsure_upto: None,
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filters_end, newest_ns, last_cut, next_block, .. } = self;
        write!(f, "{PAYLOAD_VERSION} {filters_end} {newest_ns} {last_cut} {next_block}")?;
        self.positions.iter().try_for_each(|(group, position)| write!(f, " {group}:{position}"))?;
        self.unsure_upto.map_or(Ok(()), |position| write!(f, " {ANY_GROUP}:{position}"))
    }
}

impl Payload {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()?.parse::<u32>().ok()? != PAYLOAD_VERSION {
            return None;
        }
        let filters_end = words.next()?.parse().ok()?;
        let newest_ns = words.next()?.parse().ok()?;
        let (last_cut, next_block) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (mut positions, mut unsure_upto) = (Vec::new(), None);
        for word in words {
            let (group, position) = word.split_once(':')?;
            let position = Position(position.parse().ok()?);
            match group {
                ANY_GROUP => unsure_upto = Some(position),
                group => positions.push((group.parse().ok()?, position)),
            }
        }
        Some(Self { filters_end, newest_ns, last_cut, next_block, positions, unsure_upto })
    }

    fn counts(&mut self, row: &Row) {
        self.newest_ns = self.newest_ns.max(row.max_ns);
        self.last_cut = self.last_cut.max(row.cut);
        self.next_block = self.next_block.max(row.id + 1);
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
    /// Segments to set aside, whatever they hold.
    pub(crate) cut_out: Vec<SegmentId>,
    pub(crate) positions: Vec<(u32, Position)>,
    /// Positions below this are of no use any more.
    pub(crate) log_first: Position,
}

/// The blocks of a change that are not held at once: some with each call, `None` when there are no more.
pub(crate) type MoreBlocks<'a> = dyn FnMut() -> Result<Option<Vec<LeftBlock>>, Error> + 'a;

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
    pub(crate) fn id(&self) -> SegmentId {
        self.key.0
    }

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
    damaged: Mutex<Vec<SegmentId>>,
}

/// What is wrong with what a directory says of itself, though it can be read all the same.
pub(crate) type Faults = Vec<(PathBuf, String)>;

impl Day {
    /// Makes the directory of a day that has none.
    pub(crate) fn create(path: &Path, number: i32) -> Result<Self, Error> {
        // Under another name first: what a crash leaves of it is cleared away at start.
        let unfinished = files::unfinished_path(path);
        files::remove_tree(&unfinished)?;
        files::create_directory(&unfinished)?;
        let (schema, _) = schema();
        let directory = IndexDirectory::of(&unfinished);
        let made = Index::builder().schema(schema).settings(settings()).open_or_create(directory);
        drop(made.map_err(Error::tantivy(path))?);
        write_format(&unfinished)?;
        files::rename_durably(&unfinished, path)?;
        Ok(Self::new(path, number, Payload::default()))
    }

    /// Opens a directory, and mends what it has twice. What was wrong is told besides.
    pub(crate) fn open(path: &Path, number: i32) -> Result<(Self, Faults), Error> {
        let made_anew = mend_list(path)?;
        let (day, mut faults, meta) = Self::found(path, number)?;
        faults.extend(made_anew);
        let format = if faults.iter().any(|(file, _)| file.ends_with(FORMAT_FILE)) {
            write_format(path)
        } else {
            Ok(())
        };
        // A full disk must not keep a day from being read.
        if let Err(error) = format.and_then(|()| Ok(meta::settle(path, &meta)?)) {
            tracing::warn!(%error, "a day is read as it is; it cannot be written");
        }
        Ok((day, faults))
    }

    /// As [`Day::open`], and changes nothing.
    pub(crate) fn look(path: &Path, number: i32) -> Result<(Self, Faults), Error> {
        Self::found(path, number).map(|(day, faults, _)| (day, faults))
    }

    fn found(path: &Path, number: i32) -> Result<(Self, Faults, meta::Found), Error> {
        let mut faults = Faults::new();
        if !says_format(path)? {
            faults.push((path.join(FORMAT_FILE), "it says no format version that is known".to_owned()));
        }
        let file = path.join(meta::FILE);
        let meta = meta::look(path).map_err(Error::io("read", &file))?;
        if let Some(fault) = meta.fault
            && !meta.is_lost()
        {
            faults.push((file, format!("{fault}; its copy is read")));
        }
        Ok((Self::new(path, number, read_payload(path)?), faults, meta))
    }

    fn new(path: &Path, number: i32, payload: Payload) -> Self {
        Self {
            number,
            path: path.to_owned(),
            payload: Mutex::new(Some(payload)),
            view: Mutex::default(),
            streams: StreamFile::of(path),
            used: AtomicU64::new(0),
            damaged: Mutex::default(),
        }
    }

    /// Segments that could not be read when the day was looked at last.
    pub(crate) fn damaged_segments(&self) -> Vec<SegmentId> {
        self.damaged.lock().clone()
    }

    /// What the last commit carried.
    pub(crate) fn payload(&self) -> Result<Payload, Error> {
        let mut payload = self.payload.lock();
        match &*payload {
            Some(known) => Ok(known.clone()),
            None => Ok(payload.insert(read_payload(&self.path)?).clone()),
        }
    }

    /// Where the log ended when the day was opened: what comes behind it is known again.
    pub(crate) fn log_ends(&self, end: Position) {
        if let Some(upto) = self.payload.lock().as_mut().and_then(|payload| payload.unsure_upto.as_mut()) {
            *upto = (*upto).min(end);
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
        let mut damaged = Vec::new();
        for segment in &metas {
            let key = (segment.id(), segment.meta().delete_opstamp());
            if let Some(known) = before.and_then(|b| b.segments.iter().find(|s| s.key == key)) {
                segments.push(known.clone());
                continue;
            }
            match guarded(&self.path, || self.read_segment(segment, key)) {
                Ok(read) => segments.push(Arc::new(read)),
                Err(error) if error.is_damage() => {
                    damaged.push(segment.id());
                    tracing::error!(%error, segment = %segment.id().uuid_string(), "a part of a day is damaged and left out");
                }
                Err(error) => return Err(error),
            }
        }
        *self.damaged.lock() = damaged;
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
        self.commit_with(change, &mut || Ok(None), reached)
    }

    /// As [`Day::commit`], with blocks of which only some are held at a time.
    pub(crate) fn commit_with(
        &self,
        change: &Change<'_>,
        more: &mut MoreBlocks<'_>,
        reached: &dyn Fn(&str),
    ) -> Result<(), Error> {
        let bytes: usize = change.blocks.iter().map(|b| b.head.len() + b.body.len()).sum();
        files::require_space(&self.path, COMMIT_BYTES + bytes as u64)?;
        let mut next = self.payload()?;
        let places = self.append_filters(&change.blocks, &mut next)?;
        next.positions.retain(|(_, position)| *position > change.log_first);
        next.unsure_upto = next.unsure_upto.filter(|upto| *upto > change.log_first);
        for (group, position) in &change.positions {
            match next.positions.iter_mut().find(|(g, _)| g == group) {
                Some(known) => known.1 = known.1.max(*position),
                None => next.positions.push((*group, *position)),
            }
        }
        reached("day: filters written");
        change.blocks.iter().for_each(|block| next.counts(block.row));
        *self.payload.lock() = None;
        self.write(change, &places, more, &mut next)?;
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

    fn append_filters(
        &self,
        blocks: &[NewBlock<'_>],
        payload: &mut Payload,
    ) -> Result<Vec<FilterPlace>, Error> {
        let mut places = Vec::with_capacity(blocks.len());
        let mut slabs = Vec::new();
        for part in blocks.chunks(SLAB_BLOCKS) {
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

    fn write(
        &self,
        change: &Change<'_>,
        places: &[FilterPlace],
        more: &mut MoreBlocks<'_>,
        payload: &mut Payload,
    ) -> Result<(), Error> {
        let _permit = Permit::take();
        let failed = || Error::tantivy(&self.path);
        let mut writer = self.writer(&self.cut_out_by(change)).map_err(failed())?;
        for id in &change.removed {
            writer.delete_term(Term::from_field_u64(schema().1.id, *id));
        }
        add_blocks(&mut writer, &change.blocks, places).map_err(failed())?;
        while let Some(blocks) = more()? {
            let blocks: Vec<NewBlock<'_>> = blocks.iter().map(LeftBlock::borrowed).collect();
            let places = self.append_filters(&blocks, payload)?;
            blocks.iter().for_each(|block| payload.counts(block.row));
            add_blocks(&mut writer, &blocks, &places).map_err(failed())?;
        }
        self.finish(writer, payload).map_err(failed())
    }

    fn writer(&self, cut_out: &[SegmentId]) -> tantivy::Result<IndexWriter> {
        let index = Index::open(self.directory_without(cut_out)?)?;
        let options =
            IndexWriterOptions::builder().memory_budget_per_thread(HEAP_BYTES).num_merge_threads(1).build();
        let writer: IndexWriter = index.writer_with_options(options)?;
        writer.set_merge_policy(Box::new(MergeReadable::but(self.damaged_segments())));
        Ok(writer)
    }

    fn finish(&self, mut writer: IndexWriter, payload: &Payload) -> tantivy::Result<()> {
        let mut prepared = writer.prepare_commit()?;
        prepared.set_payload(&payload.to_string());
        prepared.commit()?;
        if let Err(error) = writer.wait_merging_threads() {
            // What is committed stays; the next commit tries again.
            tracing::warn!(%error, path = %self.path.display(), "cannot merge parts of a day");
        }
        Ok(())
    }

    /// What a change cuts out. To delete from a segment it has to be read: one that cannot be goes
    /// with such a change, or no deletion would ever come to its end.
    fn cut_out_by(&self, change: &Change<'_>) -> Vec<SegmentId> {
        let mut cut_out = change.cut_out.clone();
        if !change.removed.is_empty() {
            cut_out.extend(self.damaged_segments());
        }
        cut_out
    }

    /// The directory without some segments, whose files are set aside: tantivy removes what no
    /// segment has.
    fn directory_without(&self, segments: &[SegmentId]) -> tantivy::Result<IndexDirectory> {
        let ids: Vec<String> = segments.iter().map(|id| id.uuid_string()).collect();
        let aside = || -> Result<(), pilothouse_disk::Error> {
            for name in files::file_names(&self.path)? {
                if segment_of(&name).is_some_and(|id| ids.iter().any(|cut| cut == id)) {
                    files::keep_aside(&self.path.join(name), "damaged")?;
                }
            }
            files::sync_directory(&self.path)
        };
        if !ids.is_empty() {
            aside().map_err(std::io::Error::from)?;
        }
        Ok(IndexDirectory::without(&self.path, ids))
    }

    /// The files of tantivy's whose checksums are wrong, and their segments. Reads them all.
    pub(crate) fn damaged_files(&self) -> Result<Vec<(SegmentId, PathBuf)>, Error> {
        let index = open_index(&self.path)?;
        let metas = index.searchable_segment_metas().map_err(Error::tantivy(&self.path))?;
        let mut damaged = Vec::new();
        for name in files::file_names(&self.path)? {
            let meta = metas.iter().find(|m| segment_of(&name).is_some_and(|id| id == m.id().uuid_string()));
            let Some(meta) = meta else { continue };
            let is_whole = guarded(&self.path, || {
                index.directory().validate_checksum(Path::new(&name)).map_err(Error::tantivy(&self.path))
            });
            match is_whole {
                Ok(true) => {}
                Ok(false) => damaged.push((meta.id(), self.path.join(name))),
                Err(error) if error.is_damage() => damaged.push((meta.id(), self.path.join(name))),
                Err(error) => return Err(error),
            }
        }
        Ok(damaged)
    }

    /// What the store of a segment has, whatever else of it cannot be read: head, body and metadata of each block
    /// that can be had. Fails with damage where the store, or what is deleted in it, cannot be opened.
    pub(crate) fn stored_blocks(
        &self,
        id: SegmentId,
    ) -> Result<impl Iterator<Item = Result<[OwnedBytes; 3], Error>> + use<>, Error> {
        let path = self.path.clone();
        let failed = || Error::tantivy(&self.path);
        let segments = open_index(&path)?.searchable_segments().map_err(failed())?;
        let segment = segments.iter().find(|segment| segment.id() == id);
        let segment = segment.ok_or_else(|| Error::corrupt(&path, "a segment is missing"))?;
        let read = |component| {
            let opened = segment.open_read(component);
            opened.map_err(|e| failed()(tantivy::TantivyError::from(e)))
        };
        let (store, alive) = guarded(&path, || {
            let alive = match segment.meta().has_deletes() {
                true => Some(read(SegmentComponent::Delete)?.read_bytes().map_err(|e| failed()(e.into()))?),
                false => None,
            };
            let store =
                StoreReader::open(read(SegmentComponent::Store)?, 0).map_err(|e| failed()(e.into()))?;
            Ok((store, alive.map(AliveBitSet::open)))
        })?;
        let fields = schema().1;
        let document = move |doc: u32| {
            let read = guarded(&path, || store.get_document_bytes(doc).map_err(Error::tantivy(&path)));
            read.map(Some).or_else(|error| if error.is_damage() { Ok(None) } else { Err(error) })
        };
        let block = move |doc: u32| {
            let Some(head) = document(doc)?.and_then(|first| fields.head_of(&first)) else { return Ok(None) };
            let second = document(doc + 1)?.and_then(|second| fields.body_of(&second));
            Ok(second.map(|(body, metadata)| [head, body, metadata]))
        };
        let is_alive = move |doc: &u32| alive.as_ref().is_none_or(|a| a.is_alive(*doc));
        let docs = (0..segment.meta().max_doc()).filter(is_alive);
        Ok(docs.filter_map(move |doc| block(doc).transpose()))
    }

    /// Bytes of all files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let names = files::file_names(&self.path).unwrap_or_default();
        names.iter().map(|name| files::allocated_bytes(&self.path.join(name)).unwrap_or(0)).sum()
    }
}

fn add_blocks(
    writer: &mut IndexWriter,
    blocks: &[NewBlock<'_>],
    places: &[FilterPlace],
) -> tantivy::Result<()> {
    let (_, fields) = schema();
    for (block, place) in blocks.iter().zip(places) {
        let first = fields.first_document(block.row, block.spans, *place, block.head);
        let second = fields.second_document(block.row, block.body, block.metadata);
        // In one batch: both go to the same segment.
        writer.run([UserOperation::Add(first), UserOperation::Add(second)])?;
    }
    Ok(())
}

/// tantivy and redb trust their files, and panic over some damaged ones.
pub(crate) fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Error::corrupt(path, "its reader has met something it did not expect")))
}

fn open_index(path: &Path) -> Result<Index, Error> {
    Index::open(IndexDirectory::of(path)).map_err(Error::tantivy(path))
}

fn read_payload(path: &Path) -> Result<Payload, Error> {
    let metas = open_index(path)?.load_metas().map_err(Error::tantivy(path))?;
    match metas.payload.as_deref() {
        Some(text) => Payload::parse(text).ok_or_else(|| Error::corrupt(path, "the commit's payload")),
        None => Ok(Payload::default()),
    }
}

/// Makes the list of segments anew where both copies of it are lost, and says so.
fn mend_list(path: &Path) -> Result<Option<(PathBuf, String)>, Error> {
    // What a newer release has written is left alone.
    says_format(path)?;
    let file = path.join(meta::FILE);
    if !meta::look(path).map_err(Error::io("read", &file))?.is_lost() {
        return Ok(None);
    }
    meta::write(path, &rebuild::list(path)?)?;
    Ok(Some((file, "it and its copy are lost; it was made anew from the segments".to_owned())))
}

fn write_format(path: &Path) -> Result<(), Error> {
    Ok(files::write_atomic(&path.join(FORMAT_FILE), format!("{FORMAT} {VERSION}\n").as_bytes())?)
}

/// Whether a directory says that it is of the present version; `false` if it cannot be made out. Another
/// one is an error.
fn says_format(path: &Path) -> Result<bool, Error> {
    let file = path.join(FORMAT_FILE);
    let bytes = match files::read(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        read => read.map_err(Error::io("read", &file))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let version = text.trim_end().strip_prefix(FORMAT).and_then(|rest| rest.trim().parse::<u32>().ok());
    let (kind, known) = (FORMAT, VERSION);
    match version {
        None => Ok(false),
        Some(found) if found > VERSION => {
            Err(pilothouse_disk::Error::Newer { path: file, kind, found, known }.into())
        }
        Some(found) if found < VERSION => {
            Err(pilothouse_disk::Error::Older { path: file, kind, found, known }.into())
        }
        Some(_) => Ok(true),
    }
}

/// Merges what can be read: one segment that cannot be must not keep the others from it.
#[derive(Debug)]
struct MergeReadable {
    policy: LogMergePolicy,
    damaged: Vec<SegmentId>,
}

impl MergeReadable {
    fn but(damaged: Vec<SegmentId>) -> Self {
        let mut policy = LogMergePolicy::default();
        policy.set_min_layer_size(LEAST_LAYER);
        policy.set_max_docs_before_merge(LARGEST_MERGED);
        policy.set_min_num_segments(MERGED_AT_ONCE);
        // A segment that is half deleted is written anew.
        policy.set_del_docs_ratio_before_merge(0.5);
        Self { policy, damaged }
    }
}

impl MergePolicy for MergeReadable {
    fn compute_merge_candidates(&self, segments: &[SegmentMeta]) -> Vec<MergeCandidate> {
        let readable: Vec<SegmentMeta> =
            segments.iter().filter(|segment| !self.damaged.contains(&segment.id())).cloned().collect();
        self.policy.compute_merge_candidates(&readable)
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
            unsure_upto: None,
        };
        assert_eq!(payload.to_string(), "1 7 -8 9 10 0:1 63:18446744073709551615");
        let unsure = Payload { unsure_upto: Some(Position(12)), ..payload.clone() };
        assert_eq!(unsure.to_string(), "1 7 -8 9 10 0:1 63:18446744073709551615 *:12");
        assert_eq!(Payload::parse(&unsure.to_string()), Some(unsure));
        assert_eq!(Payload::parse(&payload.to_string()), Some(payload));
        assert_eq!(Payload::parse(&Payload::default().to_string()), Some(Payload::default()));
        for bad in ["", "2 0 0 0 0", "1 0 0 0", "1 x 0 0 0", "1 0 0 0 0 1", "1 0 0 0 0 1:", "1 0 0 0 0 a:1"] {
            assert_eq!(Payload::parse(bad), None, "{bad}");
        }
    }
}
