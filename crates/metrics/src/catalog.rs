//! `series.redb`: what must outlive the log besides samples.
//!
//! Series by id, positions of groups in the log, exemplars, metadata, deletions. It is read as a
//! whole at start, each page held against its checksum, and only written after that.

use std::path::{Path, PathBuf};

use pilothouse_disk::remains::Remains;
use pilothouse_disk::{Ledger, Position, files};
use pilothouse_index::page::{Page, PageWriter};
use pilothouse_model::Labels;
use pilothouse_model::ports::Exemplar;
use pilothouse_model::write::MetadataEntry;
use redb::{Key, ReadableTable as _, TableDefinition, TableHandle as _, Value, WriteTransaction};
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::Error;
use crate::head::group_of;
use crate::record::{
    Deletion, push_deletion, push_exemplar, push_metadata, read_deletion, read_exemplar, read_metadata,
};
use crate::registry::Registry;
use pilothouse_model::bytes::{Malformed, Reader, push_slice, push_varint};

pub(crate) const KIND: &str = "metrics-series";
pub(crate) const VERSION: u32 = 1;
const CACHE_BYTES: usize = 2 << 20;
/// More than one change brings at the most in a usual store.
const CHANGE_BYTES: u64 = 16 << 20;
const FINGERPRINT_BYTES: usize = 16;
/// Series in one row: a group's worth.
const ROW_SERIES: usize = 4096;

/// By group and first id: fingerprints, then a page of label sets.
const SERIES: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("series");
const GROUPS: TableDefinition<u32, &[u8]> = TableDefinition::new("groups");
const EXEMPLARS: TableDefinition<u64, &[u8]> = TableDefinition::new("exemplars");
const METADATA: TableDefinition<&str, &[u8]> = TableDefinition::new("metadata");
const DELETIONS: TableDefinition<u32, &[u8]> = TableDefinition::new("deletions");
const NEXT: TableDefinition<&str, u64> = TableDefinition::new("next");

/// What is known of a group without its samples.
#[derive(Debug, Clone)]
pub(crate) struct GroupRow {
    /// Samples of the group that lie before it in the log are on the disk.
    pub(crate) position: Position,
    /// When that was, and which slots were active then.
    pub(crate) minute: u32,
    pub(crate) active: RoaringBitmap,
}

/// What a flush brings.
#[derive(Debug)]
pub(crate) struct Save<'a> {
    /// By ascending id.
    pub(crate) series: &'a [(u32, Labels)],
    pub(crate) groups: &'a [(u32, GroupRow)],
    pub(crate) exemplars: &'a [(u64, u32, Exemplar)],
    /// Exemplars below this number are gone.
    pub(crate) exemplars_first: u64,
    pub(crate) metadata: Option<&'a [MetadataEntry]>,
    pub(crate) next_series: u32,
    pub(crate) next_flush: u32,
    /// Nothing in the log before it is needed; zero if that is not known.
    pub(crate) log_start: Position,
}

/// What a catalog held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) groups: Vec<(u32, GroupRow)>,
    pub(crate) exemplars: Vec<(u64, u32, Exemplar)>,
    pub(crate) metadata: Vec<MetadataEntry>,
    pub(crate) deletions: Vec<Deletion>,
    pub(crate) next_flush: u32,
    pub(crate) next_deletion: u32,
    /// Nothing in the log before it is needed. Zero where rows are missing that the log may have
    /// anywhere, until they are in the catalog again.
    pub(crate) log_start: Position,
}

#[derive(Debug)]
pub(crate) struct Catalog {
    ledger: Ledger,
}

impl Catalog {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { ledger: Ledger::open(path, (KIND, VERSION), CACHE_BYTES, CHANGE_BYTES)? })
    }

    // ---- writing ----

    pub(crate) fn save(&self, save: &Save<'_>) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut series = transaction.open_table(SERIES).map_err(Error::redb(path))?;
            for part in save.series.chunk_by(|a, b| group_of(a.0) == group_of(b.0)) {
                let Some((first, _)) = part.first() else { continue };
                let row = series_row(part);
                series.insert((group_of(*first), *first), row.as_slice()).map_err(Error::redb(path))?;
            }
            let mut groups = transaction.open_table(GROUPS).map_err(Error::redb(path))?;
            for (number, row) in save.groups {
                groups.insert(number, group_row(row).as_slice()).map_err(Error::redb(path))?;
            }
            let mut exemplars = transaction.open_table(EXEMPLARS).map_err(Error::redb(path))?;
            exemplars.retain_in(..save.exemplars_first, |_, _| false).map_err(Error::redb(path))?;
            for (number, id, exemplar) in save.exemplars {
                let mut row = Vec::new();
                push_exemplar(&mut row, *id, exemplar);
                exemplars.insert(number, row.as_slice()).map_err(Error::redb(path))?;
            }
            let mut metadata = transaction.open_table(METADATA).map_err(Error::redb(path))?;
            for family in save.metadata.unwrap_or(&[]).chunk_by(|a, b| a.family == b.family) {
                let Some(first) = family.first() else { continue };
                let mut row = Vec::new();
                family.iter().for_each(|entry| push_metadata(&mut row, entry));
                metadata.insert(first.family.as_str(), row.as_slice()).map_err(Error::redb(path))?;
            }
            let mut next = transaction.open_table(NEXT).map_err(Error::redb(path))?;
            next.insert("series", u64::from(save.next_series)).map_err(Error::redb(path))?;
            next.insert("flush", u64::from(save.next_flush)).map_err(Error::redb(path))?;
            if save.log_start > Position(0) {
                next.insert("log", save.log_start.0).map_err(Error::redb(path))?;
            }
            Ok(())
        })
    }

    /// Nothing in the log before this position is needed.
    pub(crate) fn save_log_start(&self, position: Position) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut next = transaction.open_table(NEXT).map_err(Error::redb(path))?;
            next.insert("log", position.0).map_err(Error::redb(path))?;
            Ok(())
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.ledger.path()
    }

    /// At the end.
    pub(crate) fn compact(&self) {
        self.ledger.compact_small();
    }

    /// Ids of deletions below `following` are never given again.
    pub(crate) fn save_deletions(&self, deletions: &[Deletion], following: u32) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut table = transaction.open_table(DELETIONS).map_err(Error::redb(path))?;
            for deletion in deletions {
                let mut row = Vec::new();
                push_deletion(&mut row, deletion);
                table.insert(deletion.id, row.as_slice()).map_err(Error::redb(path))?;
            }
            copy_deletions(path, &table)?;
            let mut next = transaction.open_table(NEXT).map_err(Error::redb(path))?;
            // A deletion that replay brings back must not turn the count back.
            let known = next.get("deletion").map_err(Error::redb(path))?.map_or(0, |n| n.value());
            let behind = deletions.iter().map(|d| d.id.saturating_add(1)).max().unwrap_or(0);
            let following = u64::from(following.max(behind));
            next.insert("deletion", known.max(following)).map_err(Error::redb(path))?;
            Ok(())
        })
    }

    pub(crate) fn remove_deletions(&self, ids: &[u32]) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut table = transaction.open_table(DELETIONS).map_err(Error::redb(path))?;
            for id in ids {
                table.remove(id).map_err(Error::redb(path))?;
            }
            copy_deletions(path, &table)
        })
    }

    /// Writes the series of some groups anew, with what is left of them. Their positions stay.
    pub(crate) fn rewrite_groups(&self, groups: &[(u32, Vec<(u32, Labels)>)]) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut table = transaction.open_table(SERIES).map_err(Error::redb(path))?;
            for (group, series) in groups {
                table.retain_in((*group, 0)..=(*group, u32::MAX), |_, _| false).map_err(Error::redb(path))?;
                if let Some((first, _)) = series.first() {
                    let row = series_row(series);
                    table.insert((*group, *first), row.as_slice()).map_err(Error::redb(path))?;
                }
            }
            Ok(())
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&redb::WriteTransaction, &Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.ledger.change(|transaction| change(transaction, self.ledger.path()))
    }

    // ---- reading ----

    /// Reads everything; series go into the registry.
    pub(crate) fn load(&self, registry: &mut Registry) -> Result<Loaded, Error> {
        Rows { remains: self.ledger.remains()?, path: self.ledger.path() }.load(registry)
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.ledger.allocated_bytes()
    }
}

/// Reads the catalog of a store that nobody has open, and changes nothing.
pub(crate) fn look(path: &Path) -> Result<Loaded, Error> {
    Rows { remains: Remains::open(path)?, path }.load(&mut Registry::default())
}

/// Puts a new catalog, with all rows of a damaged one that are certain, in its place; the damaged one is kept aside.
/// `None`, and nothing done, if there is no series among them; else the tables that may lack rows.
pub(crate) fn salvage(path: &Path) -> Result<Option<Vec<String>>, Error> {
    let unfinished = files::unfinished_path(path);
    files::remove(&unfinished)?;
    let remains = match Remains::open(path) {
        Err(error) if error.is_damage() || error.is_unreadable() => return Ok(None),
        opened => opened?,
    };
    let mut series = 0;
    remains.each(SERIES, |_, _, is_certain| series += u64::from(is_certain));
    if series == 0 {
        return Ok(None);
    }
    let fresh = Catalog::open(&unfinished)?;
    let mut lacking = Vec::new();
    fresh.change(|transaction, path| {
        let mut salvage = Salvage { transaction, path, remains: &remains, lacking: &mut lacking };
        salvage.copy(SERIES)?;
        salvage.copy(GROUPS)?;
        salvage.copy(EXEMPLARS)?;
        salvage.copy(METADATA)?;
        salvage.copy(DELETIONS)?;
        salvage.copy(NEXT)?;
        // The log may have any of what is missing. What comes back from it is in memory at first: every
        // start reads all of it, until a flush has brought that into the catalog and says where it begins.
        if !lacking.is_empty() {
            let mut next = transaction.open_table(NEXT).map_err(Error::redb(path))?;
            next.remove("log").map_err(Error::redb(path))?;
        }
        Ok(())
    })?;
    drop(fresh);
    files::keep_aside(path, "damaged")?;
    files::rename_durably(&unfinished, path)?;
    Ok(Some(lacking))
}

struct Salvage<'a> {
    transaction: &'a WriteTransaction,
    path: &'a Path,
    remains: &'a Remains,
    /// Tables with gaps.
    lacking: &'a mut Vec<String>,
}

impl Salvage<'_> {
    fn copy<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), Error> {
        let mut to = self.transaction.open_table(table).map_err(Error::redb(self.path))?;
        let mut failed = None;
        let gaps = self.remains.each(table, |key, value, is_certain| {
            if is_certain && failed.is_none() {
                failed = to.insert(key, value).err();
            }
        });
        if !gaps.is_empty() {
            self.lacking.push(table.name().to_owned());
        }
        failed.map_or(Ok(()), |error| Err(Error::redb(self.path)(error)))
    }
}

// ---- the copy of the deletions ----

/// Without them samples that are on the disk would be seen again, and the log has only the last ones.
pub(crate) const COPY: &str = "deletions.bin";
const SUM_BYTES: usize = 16;

fn copy_path(catalog: &Path) -> PathBuf {
    catalog.with_file_name(COPY)
}

/// Writes all deletions beside the catalog, before a change of them is committed: the XXH3 of the rest, the version of
/// the catalog, then each as in the table.
fn copy_deletions(catalog: &Path, table: &redb::Table<'_, u32, &[u8]>) -> Result<(), Error> {
    let mut bytes = vec![0; SUM_BYTES];
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    for row in table.iter().map_err(Error::redb(catalog))? {
        let (_, value) = row.map_err(Error::redb(catalog))?;
        bytes.extend_from_slice(value.value());
    }
    let (sum, rest) = bytes.split_at_mut(SUM_BYTES);
    sum.copy_from_slice(&xxh3_128(rest).to_le_bytes());
    Ok(files::write_atomic(&copy_path(catalog), &bytes)?)
}

pub(crate) fn has_copy(catalog: &Path) -> bool {
    copy_path(catalog).exists()
}

/// The deletions as the copy has them; `None` if there never were any.
pub(crate) fn read_copy(catalog: &Path) -> Result<Option<Vec<Deletion>>, Error> {
    let path = copy_path(catalog);
    let bytes = match files::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(pilothouse_disk::Error::io("read", &path))?,
    };
    parse_copy(&bytes).map(Some).map_err(|malformed| Error::corrupt(&path, malformed.to_string()))
}

fn parse_copy(bytes: &[u8]) -> Result<Vec<Deletion>, Malformed> {
    let (sum, rest) = bytes.split_first_chunk::<SUM_BYTES>().ok_or(Malformed("copy of the deletions"))?;
    if xxh3_128(rest) != u128::from_le_bytes(*sum) {
        return Err(Malformed("checksum of the copy of the deletions"));
    }
    let (version, rows) = rest.split_first_chunk().ok_or(Malformed("copy of the deletions"))?;
    if u32::from_le_bytes(*version) != VERSION {
        return Err(Malformed("version of the copy of the deletions"));
    }
    let mut reader = Reader(rows);
    let mut deletions = Vec::new();
    while !reader.is_empty() {
        deletions.push(read_deletion(&mut reader)?);
    }
    Ok(deletions)
}

/// The rows of a catalog. Reading fails where a page has not its checksum.
struct Rows<'a> {
    remains: Remains,
    path: &'a Path,
}

impl Rows<'_> {
    fn load(&self, registry: &mut Registry) -> Result<Loaded, Error> {
        let mut loaded = Loaded::default();
        self.load_series(registry)?;
        self.each(GROUPS, |number, row| {
            loaded.groups.push((number, read_group_row(row)?));
            Ok(())
        })?;
        self.each(EXEMPLARS, |number, row| {
            let (id, exemplar) = read_exemplar(&mut Reader(row))?;
            loaded.exemplars.push((number, id, exemplar));
            Ok(())
        })?;
        self.each(METADATA, |_, row| {
            let mut row = Reader(row);
            while !row.is_empty() {
                loaded.metadata.push(read_metadata(&mut row)?);
            }
            Ok(())
        })?;
        self.each(DELETIONS, |_, row| {
            loaded.deletions.push(read_deletion(&mut Reader(row))?);
            Ok(())
        })?;
        self.each(NEXT, |name, value| {
            let number = u32::try_from(value).unwrap_or(u32::MAX);
            match name {
                "series" => registry.set_next_id(number),
                "flush" => loaded.next_flush = number,
                "deletion" => loaded.next_deletion = number,
                "log" => loaded.log_start = Position(value),
                _ => {}
            }
            Ok(())
        })?;
        Ok(loaded)
    }

    fn load_series(&self, registry: &mut Registry) -> Result<(), Error> {
        self.each(SERIES, |_, row| {
            let bad = |_| Malformed("series page");
            let mut row = Reader(row);
            let count = row.count()?;
            let fingerprints = row.take(count * FINGERPRINT_BYTES)?;
            let page = Page::decode(row.0).map_err(bad)?;
            // A series may be in two rows: a group was written anew while a flush had yet to save it.
            let known: Vec<u32> = page
                .rows()
                .iter()
                .map(|series| series.id)
                .filter(|id| registry.index.contains(*id))
                .collect();
            registry.remove(known);
            registry.index.insert_page(&page);
            for (series, bytes) in page.rows().iter().zip(fingerprints.chunks_exact(FINGERPRINT_BYTES)) {
                let fingerprint = u128::from_le_bytes(bytes.try_into().map_err(|_| Malformed("series"))?);
                // A row that should have been removed when its series was forgotten: the series
                // that came after it has the samples.
                if let Some(stale) = registry.id_of(fingerprint).filter(|stale| *stale != series.id) {
                    registry.remove([stale]);
                }
                registry.add_fingerprint(series.id, fingerprint);
            }
            Ok(())
        })
    }

    /// Visits the rows of a table.
    fn each<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
        mut visit: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let mut read = Ok(());
        let gaps = self.remains.each(table, |key, row, is_certain| {
            if is_certain && read.is_ok() {
                read = visit(key, row);
            }
        });
        let malformed = |e| Error::corrupt(self.path, format!("table {}: {e}", table.name()));
        read.map_err(malformed)?;
        Ok(gaps.refuse(table.name(), self.path)?)
    }
}

/// Series of one group, by ascending id.
fn series_row(series: &[(u32, Labels)]) -> Vec<u8> {
    debug_assert!(series.len() <= ROW_SERIES);
    let mut row = Vec::with_capacity(series.len() * 48);
    push_varint(&mut row, series.len() as u64);
    let mut page = PageWriter::new();
    for (id, labels) in series {
        row.extend_from_slice(&labels.fingerprint().to_le_bytes());
        // Only more labels than the index itself takes could fail here.
        let _ = page.push(*id, 0, labels);
    }
    row.extend_from_slice(&page.finish());
    row
}

fn group_row(row: &GroupRow) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_varint(&mut bytes, row.position.0);
    push_varint(&mut bytes, u64::from(row.minute));
    let mut active = Vec::new();
    // Writing into memory does not fail.
    let _ = row.active.serialize_into(&mut active);
    push_slice(&mut bytes, &active);
    bytes
}

fn read_group_row(bytes: &[u8]) -> Result<GroupRow, Malformed> {
    let mut from = Reader(bytes);
    let (position, minute) = (Position(from.varint()?), from.u32()?);
    let active = RoaringBitmap::deserialize_from(from.slice()?).map_err(|_| Malformed("bitmap"))?;
    Ok(GroupRow { position, minute, active })
}
