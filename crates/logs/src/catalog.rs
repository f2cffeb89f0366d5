//! `streams.redb`: what must outlive the log besides entries.
//!
//! Streams by id, which streams each day has, deletions, where the log begins. It is read as a
//! whole at start and only written after that. What it holds is held a second time where it can
//! be had cheaply, for the day on which the file is damaged: streams by the days that have them
//! (`day::streams`), deletions in a file beside it, which is replaced with each change of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pilothouse_disk::{Ledger, Position, files};
use pilothouse_index::RoaringBitmap;
use pilothouse_model::Labels;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableHandle as _};

use crate::error::Error;
use crate::record::{Deletion, push_deletion, read_deletion};
use crate::registry::Registry;
use pilothouse_model::bytes::{Malformed, Reader, push_slice, push_varint};

pub(crate) const KIND: &str = "logs-streams";
pub(crate) const VERSION: u32 = 1;
const CACHE_BYTES: usize = 1 << 20;
/// More than one change brings at the most in a usual store.
const CHANGE_BYTES: u64 = 8 << 20;

/// By id: the group, then the label set.
const STREAMS: TableDefinition<u32, &[u8]> = TableDefinition::new("streams");
/// By day since 1970: a bitmap of the streams that have entries in it.
const DAYS: TableDefinition<i32, &[u8]> = TableDefinition::new("days");
const DELETIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("deletions");
const NEXT: TableDefinition<&str, u64> = TableDefinition::new("next");
/// By day that was dropped to make room: what the log has of it before this position is dropped too.
const DROPPED: TableDefinition<i32, u64> = TableDefinition::new("dropped");

/// What a flush brings.
#[derive(Debug)]
pub(crate) struct Save<'a> {
    pub(crate) streams: &'a [(u32, u32, Labels)],
    pub(crate) days: &'a [(i32, RoaringBitmap)],
    pub(crate) next_stream: u32,
}

/// What a catalog held when it was opened; its streams are in the registry.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) days: Vec<(i32, RoaringBitmap)>,
    pub(crate) deletions: Vec<Deletion>,
    pub(crate) next_deletion: u64,
    /// Nothing in the log before it is needed.
    pub(crate) log_start: Position,
    /// Nothing of these days is needed that the log has before their positions.
    pub(crate) dropped: BTreeMap<i32, Position>,
}

#[derive(Debug)]
pub(crate) struct Catalog {
    ledger: Ledger,
}

impl Catalog {
    /// Opens the file or makes it, and compares its checksums; `false` if some were wrong, so that
    /// it is perhaps an older state of it that was opened.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), Error> {
        let ledger = Ledger::open(path, (KIND, VERSION), CACHE_BYTES, CHANGE_BYTES)?;
        let is_whole = ledger.verify()?;
        Ok((Self { ledger }, is_whole))
    }

    /// Runs `work` while nobody writes to the file.
    pub(crate) fn standing_still<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        Ok(self.ledger.standing_still(work)?)
    }

    // ---- writing ----

    pub(crate) fn save(&self, save: &Save<'_>) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut streams = transaction.open_table(STREAMS).map_err(Error::redb(path))?;
            for (id, group, labels) in save.streams {
                let mut row = Vec::new();
                push_varint(&mut row, u64::from(*group));
                push_slice(&mut row, labels.as_encoded().as_bytes());
                streams.insert(id, row.as_slice()).map_err(Error::redb(path))?;
            }
            let mut days = transaction.open_table(DAYS).map_err(Error::redb(path))?;
            for (day, ids) in save.days {
                let mut row = Vec::with_capacity(ids.serialized_size());
                // Writing into memory does not fail.
                let _ = ids.serialize_into(&mut row);
                days.insert(day, row.as_slice()).map_err(Error::redb(path))?;
            }
            let mut next = transaction.open_table(NEXT).map_err(Error::redb(path))?;
            next.insert("stream", u64::from(save.next_stream)).map_err(Error::redb(path))?;
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

    pub(crate) fn save_deletions<'a>(
        &self,
        deletions: impl IntoIterator<Item = &'a Deletion>,
    ) -> Result<(), Error> {
        let mut deletions = deletions.into_iter().peekable();
        if deletions.peek().is_none() {
            return Ok(());
        }
        self.change(|transaction, path| {
            let mut table = transaction.open_table(DELETIONS).map_err(Error::redb(path))?;
            let mut following = 0;
            for deletion in deletions {
                let mut row = Vec::new();
                push_deletion(&mut row, deletion);
                table.insert(deletion.id, row.as_slice()).map_err(Error::redb(path))?;
                following = following.max(deletion.id + 1);
            }
            copy_deletions(path, &table)?;
            let mut next = transaction.open_table(NEXT).map_err(Error::redb(path))?;
            // A deletion that replay brings back must not turn the count back.
            let known = next.get("deletion").map_err(Error::redb(path))?.map_or(0, |n| n.value());
            next.insert("deletion", known.max(following)).map_err(Error::redb(path))?;
            Ok(())
        })
    }

    pub(crate) fn remove_deletions(&self, ids: &[u64]) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut table = transaction.open_table(DELETIONS).map_err(Error::redb(path))?;
            for id in ids {
                table.remove(id).map_err(Error::redb(path))?;
            }
            copy_deletions(path, &table)
        })
    }

    /// What the log has of a day before a position shall not come back.
    pub(crate) fn save_dropped(&self, day: i32, upto: Position) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut dropped = transaction.open_table(DROPPED).map_err(Error::redb(path))?;
            dropped.insert(day, upto.0).map_err(Error::redb(path))?;
            Ok(())
        })
    }

    /// Days of which the log has nothing any more.
    pub(crate) fn forget_dropped(&self, days: &[i32]) -> Result<(), Error> {
        if days.is_empty() {
            return Ok(());
        }
        self.change(|transaction, path| {
            let mut dropped = transaction.open_table(DROPPED).map_err(Error::redb(path))?;
            for day in days {
                dropped.remove(day).map_err(Error::redb(path))?;
            }
            Ok(())
        })
    }

    /// Days that are gone, and streams that were in no other.
    pub(crate) fn forget(&self, days: &[i32], streams: &RoaringBitmap) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut table = transaction.open_table(DAYS).map_err(Error::redb(path))?;
            for day in days {
                table.remove(day).map_err(Error::redb(path))?;
            }
            let mut table = transaction.open_table(STREAMS).map_err(Error::redb(path))?;
            for id in streams {
                table.remove(id).map_err(Error::redb(path))?;
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

    /// At the end.
    pub(crate) fn compact(&self) {
        self.ledger.compact_small();
    }

    // ---- reading ----

    /// Reads everything; streams go into the registry.
    pub(crate) fn load(&self, registry: &mut Registry) -> Result<Loaded, Error> {
        let read = self.ledger.read()?;
        let mut loaded = Loaded::default();
        self.each(&read, STREAMS, |id, row| {
            let mut row = Reader(row);
            let group = row.u32()?;
            let labels = Labels::from_encoded(row.text()?).ok_or(Malformed("labels"))?;
            registry.insert_as(id, group, &labels);
            Ok(())
        })?;
        self.each(&read, DAYS, |day, row| {
            let ids = RoaringBitmap::deserialize_from(row).map_err(|_| Malformed("bitmap"))?;
            loaded.days.push((day, ids));
            Ok(())
        })?;
        self.each(&read, DELETIONS, |_, row| {
            loaded.deletions.push(read_deletion(&mut Reader(row))?);
            Ok(())
        })?;
        self.ledger.each(&read, NEXT, |name, value| -> Result<(), Error> {
            match name {
                "stream" => registry.set_next_id(u32::try_from(value).unwrap_or(u32::MAX)),
                "deletion" => loaded.next_deletion = value,
                "log" => loaded.log_start = Position(value),
                _ => {}
            }
            Ok(())
        })?;
        self.ledger.each(&read, DROPPED, |day, upto| -> Result<(), Error> {
            loaded.dropped.insert(day, Position(upto));
            Ok(())
        })?;
        Ok(loaded)
    }

    /// Visits the rows of a table.
    fn each<K: redb::Key + 'static>(
        &self,
        read: &ReadTransaction,
        table: TableDefinition<'_, K, &'static [u8]>,
        mut visit: impl FnMut(K::SelfType<'_>, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let name = table.name().to_owned();
        let malformed = |e| Error::corrupt(self.ledger.path(), format!("table {name}: {e}"));
        self.ledger.each(read, table, |key, row| visit(key, row).map_err(malformed))
    }

    pub(crate) fn path(&self) -> &Path {
        self.ledger.path()
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.ledger.allocated_bytes()
    }
}

// ---- the copy of the deletions ----

pub(crate) const COPY: &str = "deletions.bin";

fn copy_path(catalog: &Path) -> PathBuf {
    catalog.with_file_name(COPY)
}

/// Writes all deletions beside the catalog, before a change of them is committed: the checksum,
/// then each as in the table.
fn copy_deletions(catalog: &Path, table: &redb::Table<'_, u64, &[u8]>) -> Result<(), Error> {
    let mut bytes = vec![0; 4];
    for row in table.iter().map_err(Error::redb(catalog))? {
        let (_, value) = row.map_err(Error::redb(catalog))?;
        bytes.extend_from_slice(value.value());
    }
    let (sum, rows) = bytes.split_at_mut(4);
    sum.copy_from_slice(&crc32c::crc32c(rows).to_le_bytes());
    Ok(files::write_atomic(&copy_path(catalog), &bytes)?)
}

/// The deletions as the copy has them; `None` if there never were any.
pub(crate) fn read_copy(catalog: &Path) -> Result<Option<Vec<Deletion>>, Error> {
    let path = copy_path(catalog);
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(Error::io("read", &path))?,
    };
    parse_copy(&bytes).map(Some).map_err(|malformed| Error::corrupt(&path, malformed))
}

fn parse_copy(bytes: &[u8]) -> Result<Vec<Deletion>, Malformed> {
    let (sum, mut rows) = bytes.split_first_chunk::<4>().ok_or(Malformed::END)?;
    if crc32c::crc32c(rows) != u32::from_le_bytes(*sum) {
        return Err(Malformed("checksum"));
    }
    let mut deletions = Vec::new();
    while !rows.is_empty() {
        let mut reader = Reader(rows);
        deletions.push(read_deletion(&mut reader)?);
        rows = reader.0;
    }
    Ok(deletions)
}
