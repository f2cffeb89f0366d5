//! A closed day: one file in the order of labels, which needs nothing beside itself.
//!
//! Series are numbered by their place in that order. Pages are large and their lists of times
//! are shared through a table, since the series of a target have the same times all day. The
//! file is opened when a query needs it; see [`crate::day::set::Days`] for how many stay open.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use pilothouse_disk::remains::guarded;
use pilothouse_disk::{ReadOnlyDatabase, files};
use pilothouse_index::{DayIndex, DayRows, RoaringBitmap, VisitRow};
use redb::{ReadOnlyTable, TableDefinition};

use super::l0::{PageRef, read_directory};
use crate::codec::{MAX_BLOCK_SAMPLES, decode_times};
use crate::error::Error;
use crate::loaded::{LoadedPage, TimesList};
use pilothouse_model::bytes::{Malformed, Reader, push_signed, push_varint};

pub(crate) const KIND: &str = "metrics-l1";
pub(crate) const VERSION: u32 = 1;
const CACHE_BYTES: usize = if cfg!(test) { 0 } else { 4 << 20 };
/// Fingerprints in one row.
pub(crate) const FINGERPRINTS: u32 = 1024;
pub(crate) const FINGERPRINT_BYTES: usize = 16;

pub(crate) const PAGES: TableDefinition<u32, &[u8]> = TableDefinition::new("pages");
pub(crate) const TIMES: TableDefinition<u32, &[u8]> = TableDefinition::new("times");
pub(crate) const PRINTS: TableDefinition<u32, &[u8]> = TableDefinition::new("fingerprints");
pub(crate) const INDEX: TableDefinition<&[u8], &[u8]> = TableDefinition::new("index");
/// One row: [`About`] and the directory of pages.
pub(crate) const ABOUT: TableDefinition<(), &[u8]> = TableDefinition::new("about");

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) series: u32,
    pub(crate) samples: u64,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// The last flush that it has taken in.
    pub(crate) newest_flush: u32,
    /// Deletions below this id are done in it.
    pub(crate) deletions_below: u32,
}

pub(crate) fn push_about(out: &mut Vec<u8>, about: &About) {
    push_varint(out, u64::from(about.series));
    push_varint(out, about.samples);
    push_signed(out, about.start_ms);
    push_signed(out, about.end_ms);
    push_varint(out, u64::from(about.newest_flush));
    push_varint(out, u64::from(about.deletions_below));
}

fn read_about(from: &mut Reader<'_>) -> Result<About, Malformed> {
    Ok(About {
        series: from.u32()?,
        samples: from.varint()?,
        start_ms: from.signed()?,
        end_ms: from.signed()?,
        newest_flush: from.u32()?,
        deletions_below: from.u32()?,
    })
}

/// A file of a closed day, open or not.
#[derive(Debug)]
pub(crate) struct L1 {
    path: PathBuf,
    pub(crate) generation: u64,
    pub(crate) uid: u64,
    open: Mutex<Option<Arc<OpenL1>>>,
    /// When it was last asked for, in the numbering of the caller.
    used: AtomicU64,
}

impl L1 {
    pub(crate) fn new(path: PathBuf, generation: u64, uid: u64) -> Self {
        Self { path, generation, uid, open: Mutex::new(None), used: AtomicU64::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.lock().is_some()
    }

    /// The open file. Whoever holds the answer may go on reading after [`L1::close`].
    pub(crate) fn get(&self, now: u64) -> Result<Arc<OpenL1>, Error> {
        self.used.store(now, Relaxed);
        let mut open = self.open.lock();
        // One that a failed read has broken is left to those who have it.
        if let Some(open) = open.as_ref().filter(|open| !open.broken.load(Relaxed)) {
            return Ok(open.clone());
        }
        let opened = Arc::new(guarded(&self.path, || OpenL1::open(&self.path, self.uid))?);
        *open = Some(opened.clone());
        Ok(opened)
    }

    pub(crate) fn close(&self) {
        *self.open.lock() = None;
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        files::allocated_bytes(&self.path).unwrap_or(0)
    }
}

pub(crate) struct OpenL1 {
    path: PathBuf,
    pub(crate) uid: u64,
    pub(crate) about: About,
    pub(crate) index: DayIndex<WatchedRows>,
    directory: Box<[PageRef]>,
    pages: ReadOnlyTable<u32, &'static [u8]>,
    times: ReadOnlyTable<u32, &'static [u8]>,
    prints: ReadOnlyTable<u32, &'static [u8]>,
    broken: Arc<AtomicBool>,
    _database: ReadOnlyDatabase,
}

/// The index's rows. A read that the disk failed is noted, since the database refuses everything
/// after it.
#[derive(Debug)]
pub(crate) struct WatchedRows {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    broken: Arc<AtomicBool>,
}

impl DayRows for WatchedRows {
    fn scan_from(&self, from: &[u8], visit: &mut VisitRow<'_>) -> Result<(), pilothouse_index::Error> {
        let scan = AssertUnwindSafe(|| self.table.scan_from(from, visit));
        // redb believes its file, and panics over some damage.
        let met = Err(pilothouse_index::Error::Malformed("its reader has met something it did not expect"));
        let scanned = catch_unwind(scan).unwrap_or(met);
        if let Err(pilothouse_index::Error::Database(e)) = &scanned {
            self.broken.fetch_or(pilothouse_disk::is_latched(e), Relaxed);
        }
        scanned
    }
}

impl std::fmt::Debug for OpenL1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenL1").field("path", &self.path).field("about", &self.about).finish_non_exhaustive()
    }
}

impl OpenL1 {
    /// Opens a file that has just been written and reads it through, before anything that it has
    /// taken in is removed.
    pub(crate) fn verify(path: &Path, written: &About) -> Result<(), Error> {
        let open = Self::open(path, 0)?;
        if open.about != *written || open.index.len() != written.series {
            return Err(Error::corrupt(path, "it is not what was written"));
        }
        open.directory.iter().try_for_each(|page| open.load(page.number).map(drop))
    }

    fn open(path: &Path, uid: u64) -> Result<Self, Error> {
        let database = ReadOnlyDatabase::open(path, KIND, VERSION, CACHE_BYTES)?;
        let read = database.read()?;
        let about = read.open_table(ABOUT).map_err(Error::redb(path))?;
        let row = about.get(()).map_err(Error::redb(path))?;
        let row = row.ok_or_else(|| Error::corrupt(path, "it does not say what it is"))?;
        let mut reader = Reader(row.value());
        let malformed = |e: Malformed| Error::corrupt(path, e.to_string());
        let about = read_about(&mut reader).map_err(malformed)?;
        let directory = read_directory(0, reader.0).map_err(malformed)?.pages;
        let broken = Arc::new(AtomicBool::new(false));
        let table = read.open_table(INDEX).map_err(Error::redb(path))?;
        Ok(Self {
            path: path.to_owned(),
            uid,
            about,
            index: DayIndex::open(WatchedRows { table, broken: broken.clone() })?,
            broken,
            directory,
            pages: read.open_table(PAGES).map_err(Error::redb(path))?,
            times: read.open_table(TIMES).map_err(Error::redb(path))?,
            prints: read.open_table(PRINTS).map_err(Error::redb(path))?,
            _database: database,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn page_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.directory.iter().map(|page| page.number)
    }

    /// Calls `each` with the number of the pages that may hold samples of a series in a range of
    /// time, in order.
    pub(crate) fn pages_of(&self, position: u32, (start_ms, end_ms): (i64, i64), mut each: impl FnMut(u32)) {
        let from = self.directory.partition_point(|p| p.last_id < position);
        let candidates = self.directory[from..].iter().take_while(|p| p.first_id <= position);
        candidates.filter(|p| p.start_ms <= end_ms && p.end_ms >= start_ms).for_each(|p| each(p.number));
    }

    /// The error of a read; one of the disk's is noted, so that the file is opened anew.
    fn failed<E: Into<redb::Error>>(&self) -> impl FnOnce(E) -> Error + use<'_, E> {
        |e| {
            let error = Error::redb(&self.path)(e);
            self.broken.fetch_or(error.is_latched(), Relaxed);
            error
        }
    }

    pub(crate) fn load(&self, number: u32) -> Result<LoadedPage, Error> {
        guarded(&self.path, || {
            let row = self.pages.get(number).map_err(self.failed())?;
            let row = row.ok_or_else(|| Error::corrupt(&self.path, format!("page {number} is missing")))?;
            LoadedPage::open(row.value())
                .map_err(|e| Error::corrupt(&self.path, format!("page {number}: {e}")))
        })
    }

    pub(crate) fn load_times(&self, number: u32) -> Result<TimesList, Error> {
        guarded(&self.path, || {
            let row = self.times.get(number).map_err(self.failed())?;
            let row = row.ok_or_else(|| Error::corrupt(&self.path, format!("list {number} is missing")))?;
            let mut times = Vec::new();
            decode_times(row.value(), MAX_BLOCK_SAMPLES, &mut times)?;
            Ok(TimesList(times.into()))
        })
    }

    /// Visits the fingerprints of a selection of series, in order.
    pub(crate) fn fingerprints(
        &self,
        selection: &RoaringBitmap,
        mut each: impl FnMut(u32, u128),
    ) -> Result<(), Error> {
        let mut row: Option<(u32, Vec<u8>)> = None;
        for position in selection {
            let number = position / FINGERPRINTS;
            if row.as_ref().is_none_or(|r| r.0 != number) {
                let found = self.prints.get(number).map_err(self.failed())?;
                row = Some((number, found.map_or_else(Vec::new, |r| r.value().to_vec())));
            }
            let at = (position % FINGERPRINTS) as usize * FINGERPRINT_BYTES;
            let bytes = row.as_ref().and_then(|r| r.1.get(at..at + FINGERPRINT_BYTES));
            let bytes = bytes.and_then(|b| b.try_into().ok());
            let bytes = bytes.ok_or_else(|| Error::corrupt(&self.path, "a fingerprint is missing"))?;
            each(position, u128::from_le_bytes(bytes));
        }
        Ok(())
    }
}
