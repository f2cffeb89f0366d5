//! What was flushed on the way through a day: pages by flush, series by id.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use pilothouse_disk::remains::{Gaps, guarded};
use pilothouse_disk::{Database, files};
use redb::{ReadOnlyTable, TableDefinition, TableHandle as _};
use roaring::RoaringBitmap;

use crate::error::Error;
use crate::head::{GROUP_BITS, group_of, slot_of};
use crate::loaded::LoadedPage;
use crate::pages::NewPages;
use pilothouse_model::bytes::{Malformed, Reader, push_signed, push_slice, push_varint};

pub(crate) const KIND: &str = "metrics-l0";
pub(crate) const VERSION: u32 = 1;
/// redb's own cache of a file that is written to and read a page at a time. Tests have none, so
/// that what they read comes from the disk.
const CACHE_BYTES: usize = if cfg!(test) { 0 } else { 4 << 20 };

/// By flush and number of the page in it.
pub(crate) const PAGES: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("pages");
/// By flush and group: which pages hold which series and times.
pub(crate) const DIRECTORY: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("directory");

/// A file that fails again and again is opened anew at most this often.
const MEND_EVERY: Duration = Duration::from_secs(1);

/// Where a page's series and times lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRef {
    pub(crate) number: u32,
    pub(crate) first_id: u32,
    pub(crate) last_id: u32,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

/// The pages of one group in one flush, by first id.
#[derive(Debug, Clone)]
pub(crate) struct GroupFlush {
    pub(crate) flush: u32,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) pages: Box<[PageRef]>,
    /// The place of each slot in the pages, so that series of one metric lie together; empty
    /// where they lie by id. Flushes that follow each other mostly share it.
    order: Arc<[u16]>,
}

impl GroupFlush {
    /// The number of a series in the pages.
    fn place(&self, id: u32) -> Option<u32> {
        if self.order.is_empty() {
            return Some(id);
        }
        let place = self.order.get(slot_of(id))?;
        Some(group_of(id) << GROUP_BITS | u32::from(*place))
    }
}

#[derive(Debug)]
pub(crate) struct L0 {
    database: Database,
    path: PathBuf,
    /// Tells files apart in the page cache.
    pub(crate) uid: u64,
    pub(crate) generation: u64,
    state: RwLock<State>,
    handle: Mutex<HandleHealth>,
}

/// Held by whoever writes to the file or opens it anew.
#[derive(Debug, Default)]
struct HandleHealth {
    /// A write has failed, after which the database refuses everything.
    failed: bool,
    mended: Option<Instant>,
}

type Pages = ReadOnlyTable<(u32, u32), &'static [u8]>;

struct State {
    pages: Option<Arc<Pages>>,
    /// By group, in the order of flushes.
    groups: BTreeMap<u32, Vec<GroupFlush>>,
    ids: RoaringBitmap,
    flushes: Option<(u32, u32)>,
    /// A part of the directory could not be read.
    is_damaged: bool,
    /// When something was first and last written, by the store's clock.
    since_ms: i64,
    written_ms: i64,
}

impl State {
    fn note_flush(&mut self, flush: u32) {
        let (first, last) = self.flushes.unwrap_or((flush, flush));
        self.flushes = Some((first.min(flush), last.max(flush)));
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

impl L0 {
    pub(crate) fn open(path: &Path, generation: u64, uid: u64) -> Result<Self, Error> {
        let (database, state) = guarded(path, || {
            let database = Database::open(path, KIND, VERSION, CACHE_BYTES)?;
            let state = Self::load_state(&database, path)?;
            Ok::<_, Error>((database, RwLock::new(state)))
        })?;
        let handle = Mutex::default();
        Ok(Self { database, path: path.to_owned(), uid, generation, state, handle })
    }

    fn load_state(database: &Database, path: &Path) -> Result<State, Error> {
        let mut state = State {
            pages: None,
            groups: BTreeMap::new(),
            ids: RoaringBitmap::new(),
            flushes: None,
            is_damaged: false,
            since_ms: i64::MIN,
            written_ms: i64::MIN,
        };
        let read = database.read()?;
        state.pages = match read.open_table(PAGES) {
            Ok(table) => Some(Arc::new(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(e) => return Err(Error::redb(path)(e)),
        };
        if state.pages.is_some() {
            Self::load_directory(database, path, &mut state)?;
        }
        Ok(state)
    }

    /// Of a damaged directory, what is certain; the rest of the file is read without the pages that it names.
    fn load_directory(database: &Database, path: &Path, state: &mut State) -> Result<(), Error> {
        let mut rows = Vec::new();
        let gaps = database.remains()?.each(DIRECTORY, |key, row, is_certain| {
            if is_certain {
                rows.push((key, row.to_vec()));
            }
        });
        state.is_damaged = !gaps.is_empty();
        for ((flush, group), row) in rows {
            let earlier = state.groups.entry(group).or_default();
            let before = earlier.last().filter(|before| is_next(&gaps, before.flush, flush, group));
            let (entry, ids) = match read_group(flush, before, &row) {
                Ok(read) => read,
                // Its order is that of a row that is lost.
                Err(_) if state.is_damaged => continue,
                Err(e) => return Err(Error::corrupt(path, format!("directory of flush {flush}: {e}"))),
            };
            earlier.push(entry);
            state.ids |= ids;
            state.note_flush(flush);
        }
        // What the disk did not give may come yet.
        match gaps.refuse(DIRECTORY.name(), path) {
            Err(error) if !error.is_damage() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether a part of it could not be read when it was opened.
    pub(crate) fn is_damaged(&self) -> bool {
        self.state.read().is_damaged
    }

    /// Opens the file again after a failed access. What a write was told to have failed with may
    /// have reached the disk all the same.
    fn reload(&self, health: &mut HandleHealth) -> Result<(), Error> {
        self.database.reopen()?;
        let mut loaded = Self::load_state(&self.database, &self.path)?;
        let mut state = self.state.write();
        (loaded.since_ms, loaded.written_ms) = (state.since_ms, state.written_ms);
        *state = loaded;
        health.failed = false;
        Ok(())
    }

    /// After a failed read from a table: whether another may succeed. A write under way is not
    /// disturbed; if the handle is broken, it finds out itself.
    fn mend(&self, used: &Arc<Pages>) -> bool {
        let Some(mut health) = self.handle.try_lock() else { return false };
        let replaced = self.state.read().pages.as_ref().is_some_and(|p| !Arc::ptr_eq(p, used));
        if replaced && !health.failed {
            return true;
        }
        if health.mended.is_some_and(|at| at.elapsed() < MEND_EVERY) {
            return false;
        }
        health.mended = Some(Instant::now());
        health.failed = true;
        let reloaded = self.reload(&mut health);
        tracing::warn!(file = %self.path.display(), mended = reloaded.is_ok(), "a day file was opened anew after a failed read");
        reloaded.is_ok()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the pages of one flush in one durable transaction and shows them to readers. After
    /// an error the same flush may be written again.
    pub(crate) fn write(&self, flush: u32, groups: Vec<(u32, NewPages)>, now_ms: i64) -> Result<(), Error> {
        let mut health = self.handle.lock();
        if health.failed {
            self.reload(&mut health)?;
        }
        if self.state.read().groups.values().flatten().any(|g| g.flush == flush) {
            return Ok(());
        }
        let bytes: usize = groups.iter().flat_map(|g| &g.1.pages).map(|p| p.bytes.len()).sum();
        files::require_space(&self.path, 2 * bytes as u64)?;
        let written = self.write_pages(flush, groups, now_ms);
        if written.is_err() {
            health.failed = true;
            // So that reads are answered; if it fails now, the next write tries again.
            let _ = self.reload(&mut health);
        }
        written
    }

    fn write_pages(&self, flush: u32, groups: Vec<(u32, NewPages)>, now_ms: i64) -> Result<(), Error> {
        let path = &*self.path;
        let transaction = self.database.begin_write()?;
        let mut written = Vec::with_capacity(groups.len());
        {
            let mut pages = transaction.open_table(PAGES).map_err(Error::redb(path))?;
            let mut directory = transaction.open_table(DIRECTORY).map_err(Error::redb(path))?;
            let mut end = pages.upper_bound_mut(Bound::<(u32, u32)>::Unbounded).map_err(Error::redb(path))?;
            let mut number = 0;
            for (group, new) in groups {
                let mut refs = Vec::with_capacity(new.pages.len());
                for page in new.pages {
                    end.insert_before((flush, number), page.bytes.as_slice()).map_err(Error::redb(path))?;
                    refs.push(PageRef {
                        number,
                        first_id: page.first,
                        last_id: page.last,
                        start_ms: page.start_ms,
                        end_ms: page.end_ms,
                    });
                    number += 1;
                }
                let entry =
                    GroupFlush { order: self.shared_order(group, new.order), ..group_flush(flush, refs) };
                let mut bytes = Vec::new();
                push_bitmap(&mut bytes, &new.series);
                self.push_order(&mut bytes, group, &entry.order);
                push_directory(&mut bytes, &entry);
                directory.insert((flush, group), bytes.as_slice()).map_err(Error::redb(path))?;
                written.push((group, entry, new.series));
            }
            end.close().map_err(Error::redb(path))?;
        }
        transaction.commit().map_err(Error::redb(path))?;
        self.show(flush, written, now_ms)
    }

    /// The order of the group's flush before, if it is the same.
    fn shared_order(&self, group: u32, order: Arc<[u16]>) -> Arc<[u16]> {
        let state = self.state.read();
        let before = state.groups.get(&group).and_then(|g| g.last()).map(|g| &g.order);
        before.filter(|b| **b == order).cloned().unwrap_or(order)
    }

    /// Writes an order unless the group's flush before has the same.
    fn push_order(&self, out: &mut Vec<u8>, group: u32, order: &Arc<[u16]>) {
        let state = self.state.read();
        let before = state.groups.get(&group).and_then(|g| g.last()).map(|g| &g.order);
        let same = before.is_some_and(|b| Arc::ptr_eq(b, order));
        out.push(u8::from(!same));
        if !same {
            push_varint(out, order.len() as u64);
            order.iter().for_each(|place| out.extend_from_slice(&place.to_le_bytes()));
        }
    }

    fn show(
        &self,
        flush: u32,
        written: Vec<(u32, GroupFlush, RoaringBitmap)>,
        now_ms: i64,
    ) -> Result<(), Error> {
        let table = self.database.read()?.open_table(PAGES).map_err(Error::redb(&self.path))?;
        let mut state = self.state.write();
        state.pages = Some(Arc::new(table));
        state.note_flush(flush);
        if state.written_ms == i64::MIN && state.groups.is_empty() {
            state.since_ms = now_ms;
        }
        state.written_ms = now_ms;
        for (group, entry, ids) in written {
            state.groups.entry(group).or_default().push(entry);
            state.ids |= ids;
        }
        Ok(())
    }

    /// Calls `each` with flush, page number and the series' number in the page, for the pages that
    /// may hold samples of a series in a range of time, oldest flush first.
    pub(crate) fn pages_of(
        &self,
        id: u32,
        (start_ms, end_ms): (i64, i64),
        mut each: impl FnMut(u32, u32, u32),
    ) {
        let state = self.state.read();
        let Some(flushes) = state.groups.get(&group_of(id)) else { return };
        for flush in flushes {
            if flush.start_ms > end_ms || flush.end_ms < start_ms {
                continue;
            }
            let Some(place) = flush.place(id) else { continue };
            let from = flush.pages.partition_point(|p| p.last_id < place);
            let candidates = flush.pages[from..].iter().take_while(|p| p.first_id <= place);
            candidates
                .filter(|p| p.start_ms <= end_ms && p.end_ms >= start_ms)
                .for_each(|p| each(flush.flush, p.number, place));
        }
    }

    /// Reads a page from the file. After a read that the disk failed the file is opened anew.
    pub(crate) fn load(&self, key: (u32, u32)) -> Result<LoadedPage, Error> {
        let table = self.pages()?;
        match self.load_from(&table, key) {
            Err(e) if e.is_latched() && self.mend(&table) => self.load_from(&*self.pages()?, key),
            loaded => loaded,
        }
    }

    fn pages(&self) -> Result<Arc<Pages>, Error> {
        self.state.read().pages.clone().ok_or_else(|| Error::corrupt(&self.path, "no pages"))
    }

    fn load_from(&self, table: &Pages, key: (u32, u32)) -> Result<LoadedPage, Error> {
        guarded(&self.path, || {
            let row = table.get(key).map_err(Error::redb(&self.path))?;
            let row = row.ok_or_else(|| Error::corrupt(&self.path, format!("page {key:?} is missing")))?;
            LoadedPage::open(row.value())
                .map_err(|e| Error::corrupt(&self.path, format!("page {key:?}: {e}")))
        })
    }

    /// The series that have samples here.
    pub(crate) fn ids(&self) -> RoaringBitmap {
        self.state.read().ids.clone()
    }

    pub(crate) fn largest_id(&self) -> Option<u32> {
        self.state.read().ids.max()
    }

    /// First and last flush.
    pub(crate) fn flushes(&self) -> Option<(u32, u32)> {
        self.state.read().flushes
    }

    /// When something was last written in this life of the process; `i64::MIN` if nothing was.
    pub(crate) fn written_ms(&self) -> i64 {
        self.state.read().written_ms
    }

    /// When something was first written; `i64::MIN` if that was in an earlier life.
    pub(crate) fn since_ms(&self) -> i64 {
        self.state.read().since_ms
    }

    /// First and last time of all pages.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        let state = self.state.read();
        let spans = state.groups.values().flatten().map(|f| (f.start_ms, f.end_ms));
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.database.allocated_bytes().unwrap_or(0)
    }
}

/// Whether no flush of a group between two others can be missing.
fn is_next(gaps: &Gaps<(u32, u32)>, before: u32, flush: u32, group: u32) -> bool {
    gaps.is_empty() || (before.saturating_add(1)..flush).all(|between| !gaps.may_hold(&(between, group)))
}

pub(crate) fn group_flush(flush: u32, pages: Vec<PageRef>) -> GroupFlush {
    let start_ms = pages.iter().map(|p| p.start_ms).min().unwrap_or(i64::MAX);
    let end_ms = pages.iter().map(|p| p.end_ms).max().unwrap_or(i64::MIN);
    GroupFlush { flush, start_ms, end_ms, pages: pages.into(), order: Arc::default() }
}

fn push_bitmap(out: &mut Vec<u8>, ids: &RoaringBitmap) {
    let mut bytes = Vec::with_capacity(ids.serialized_size());
    // Writing into memory does not fail.
    let _ = ids.serialize_into(&mut bytes);
    push_slice(out, &bytes);
}

fn read_group(
    flush: u32,
    before: Option<&GroupFlush>,
    bytes: &[u8],
) -> Result<(GroupFlush, RoaringBitmap), Malformed> {
    let mut from = Reader(bytes);
    let ids = RoaringBitmap::deserialize_from(from.slice()?).map_err(|_| Malformed("bitmap"))?;
    let order = match from.byte()? {
        0 => before.map(|b| b.order.clone()).ok_or(Malformed("order"))?,
        _ => {
            let count = from.count()?;
            let places = from.take(count.saturating_mul(2))?.chunks_exact(2);
            places.map(|p| u16::from_le_bytes([p[0], p[1]])).collect()
        }
    };
    Ok((GroupFlush { order, ..read_directory(flush, from.0)? }, ids))
}

pub(crate) fn push_directory(out: &mut Vec<u8>, entry: &GroupFlush) {
    push_varint(out, entry.pages.len() as u64);
    let (mut id, mut t_ms) = (0u32, 0i64);
    for page in &entry.pages {
        push_varint(out, u64::from(page.number));
        push_varint(out, u64::from(page.first_id.wrapping_sub(id)));
        push_varint(out, u64::from(page.last_id.wrapping_sub(page.first_id)));
        push_signed(out, page.start_ms.wrapping_sub(t_ms));
        push_signed(out, page.end_ms.wrapping_sub(page.start_ms));
        (id, t_ms) = (page.last_id, page.start_ms);
    }
}

pub(crate) fn read_directory(flush: u32, bytes: &[u8]) -> Result<GroupFlush, Malformed> {
    let mut from = Reader(bytes);
    let (mut id, mut t_ms) = (0u32, 0i64);
    let mut pages = Vec::new();
    for _ in 0..from.count()? {
        let number = from.u32()?;
        let first_id = id.wrapping_add(from.u32()?);
        let last_id = first_id.wrapping_add(from.u32()?);
        let start_ms = t_ms.wrapping_add(from.signed()?);
        let end_ms = start_ms.wrapping_add(from.signed()?);
        pages.push(PageRef { number, first_id, last_id, start_ms, end_ms });
        (id, t_ms) = (last_id, start_ms);
    }
    Ok(group_flush(flush, pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::NewPage;

    #[test]
    fn pages_are_found_by_series_and_time_and_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day.redb");
        let page = |first, last, start_ms, end_ms| NewPage { first, last, start_ms, end_ms, bytes: vec![1] };
        let pages = |pages: Vec<NewPage>| {
            let series = pages.iter().flat_map(|p| [p.first, p.last]).collect();
            NewPages { pages, series, order: Arc::default() }
        };
        let check = |l0: &L0| {
            let find = |id, range| {
                let mut found = Vec::new();
                l0.pages_of(id, range, |f, p, _| found.push((f, p)));
                found
            };
            assert_eq!(find(5, (0, 100)), [(1, 0), (2, 0)]);
            assert_eq!(find(15, (0, 100)), [(1, 0), (1, 1)]);
            assert_eq!(find(15, (0, 15)), [(1, 0)]);
            assert_eq!(find(5, (101, 200)), [(2, 0)]);
            assert_eq!(find(5000, (0, 200)), [(1, 2)]);
            assert_eq!(find(21, (0, 200)), []);
            assert_eq!((l0.flushes(), l0.span()), (Some((1, 2)), Some((10, 150))));
            assert_eq!(l0.ids(), [1, 5, 15, 20, 5000].into_iter().collect());
            assert!(l0.load((1, 0)).is_err());
        };
        let l0 = L0::open(&path, 1, 1).unwrap();
        l0.write(
            1,
            vec![
                (0, pages(vec![page(1, 15, 10, 100), page(15, 20, 20, 90)])),
                (1, pages(vec![page(5000, 5000, 10, 100)])),
            ],
            7,
        )
        .unwrap();
        l0.write(2, vec![(0, pages(vec![page(5, 5, 100, 150)]))], 7).unwrap();
        check(&l0);
        // Flushes come in order; one that fails is as if it had never been.
        assert!(l0.write(0, vec![(0, pages(vec![page(5, 5, 100, 150)]))], 7).is_err());
        check(&l0);
        l0.write(2, vec![(0, pages(vec![page(5, 5, 100, 150)]))], 7).unwrap();
        check(&l0);
        drop(l0);
        check(&L0::open(&path, 1, 1).unwrap());
    }
}
