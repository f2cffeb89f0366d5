//! `streams.redb`: what must outlive the log besides entries.
//!
//! Streams by id, which streams each day has, deletions, where the log begins. It is read as a
//! whole at start and only written after that.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pilothouse_disk::{Database, Position, files};
use pilothouse_index::RoaringBitmap;
use pilothouse_model::Labels;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError};

use crate::error::Error;
use crate::record::{Deletion, push_deletion, read_deletion};
use crate::registry::Registry;
use pilothouse_model::bytes::{Malformed, Reader, push_slice, push_varint};

const KIND: &str = "logs-streams";
const VERSION: u32 = 1;
const CACHE_BYTES: usize = 1 << 20;
/// More than one change brings at the most in a usual store.
const CHANGE_BYTES: u64 = 8 << 20;

/// By id: the group, then the label set.
const STREAMS: TableDefinition<u32, &[u8]> = TableDefinition::new("streams");
/// By day since 1970: a bitmap of the streams that have entries in it.
const DAYS: TableDefinition<i32, &[u8]> = TableDefinition::new("days");
const DELETIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("deletions");
const NEXT: TableDefinition<&str, u64> = TableDefinition::new("next");

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
}

#[derive(Debug)]
pub(crate) struct Catalog {
    database: Database,
    path: PathBuf,
    failed: AtomicBool,
}

impl Catalog {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let database = Database::open(path, KIND, VERSION, CACHE_BYTES)?;
        Ok(Self { database, path: path.to_owned(), failed: AtomicBool::new(false) })
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

    pub(crate) fn save_deletion(&self, deletion: &Deletion) -> Result<(), Error> {
        let mut row = Vec::new();
        push_deletion(&mut row, deletion);
        self.change(|transaction, path| {
            let mut table = transaction.open_table(DELETIONS).map_err(Error::redb(path))?;
            table.insert(deletion.id, row.as_slice()).map_err(Error::redb(path))?;
            let mut next = transaction.open_table(NEXT).map_err(Error::redb(path))?;
            // A deletion that replay brings back must not turn the count back.
            let known = next.get("deletion").map_err(Error::redb(path))?.map_or(0, |n| n.value());
            next.insert("deletion", known.max(deletion.id + 1)).map_err(Error::redb(path))?;
            Ok(())
        })
    }

    pub(crate) fn remove_deletions(&self, ids: &[u64]) -> Result<(), Error> {
        self.change(|transaction, path| {
            let mut table = transaction.open_table(DELETIONS).map_err(Error::redb(path))?;
            for id in ids {
                table.remove(id).map_err(Error::redb(path))?;
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
        if self.failed.load(Relaxed) {
            self.reopen()?;
        }
        files::require_space(&self.path, CHANGE_BYTES)?;
        let changed = self.database.write(|transaction| change(transaction, &self.path));
        if changed.is_err() {
            self.failed.store(true, Relaxed);
            let _ = self.reopen();
        }
        changed
    }

    /// After a failed write redb takes nothing more. All changes may be made twice.
    fn reopen(&self) -> Result<(), Error> {
        self.database.reopen()?;
        self.failed.store(false, Relaxed);
        Ok(())
    }

    // ---- reading ----

    /// Reads everything; streams go into the registry.
    pub(crate) fn load(&self, registry: &mut Registry) -> Result<Loaded, Error> {
        let read = self.database.read()?;
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
        self.each_number(&read, |name, value| match name {
            "stream" => registry.set_next_id(u32::try_from(value).unwrap_or(u32::MAX)),
            "deletion" => loaded.next_deletion = value,
            "log" => loaded.log_start = Position(value),
            _ => {}
        })?;
        Ok(loaded)
    }

    /// Visits the rows of a table, which need not be there yet.
    fn each<K: redb::Key + 'static>(
        &self,
        read: &ReadTransaction,
        table: TableDefinition<'_, K, &'static [u8]>,
        mut visit: impl FnMut(K::SelfType<'_>, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        use redb::TableHandle as _;
        let name = table.name().to_owned();
        let table = match read.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            opened => opened.map_err(Error::redb(&self.path))?,
        };
        for row in table.iter().map_err(Error::redb(&self.path))? {
            let (key, value) = row.map_err(Error::redb(&self.path))?;
            visit(key.value(), value.value())
                .map_err(|e| Error::corrupt(&self.path, format!("table {name}: {e}")))?;
        }
        Ok(())
    }

    fn each_number(&self, read: &ReadTransaction, mut visit: impl FnMut(&str, u64)) -> Result<(), Error> {
        let table = match read.open_table(NEXT) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            opened => opened.map_err(Error::redb(&self.path))?,
        };
        for row in table.iter().map_err(Error::redb(&self.path))? {
            let (name, value) = row.map_err(Error::redb(&self.path))?;
            visit(name.value(), value.value());
        }
        Ok(())
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.database.allocated_bytes().unwrap_or(0)
    }
}
