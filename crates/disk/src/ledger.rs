//! A database that is read as a whole at start and only written after that: what a store keeps of
//! itself besides its data.
//!
//! All changes may be made twice. So after one that failed, whose commit may have come far enough,
//! the file is simply opened anew; redb would take nothing more.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redb::{Key, ReadTransaction, ReadableTable as _, TableDefinition, TableError, Value, WriteTransaction};

use crate::remains::Remains;
use crate::{Database, Error, files};

#[derive(Debug)]
pub struct Ledger {
    database: Database,
    /// What a change needs in free space: more than one brings at the most in a usual store.
    change_bytes: u64,
    failed: AtomicBool,
}

impl Ledger {
    /// Opens as [`Database::open`] does.
    pub fn open(
        path: &Path,
        (kind, version): (&'static str, u32),
        cache_bytes: usize,
        change_bytes: u64,
    ) -> Result<Self, Error> {
        let database = Database::open(path, kind, version, cache_bytes)?;
        Ok(Self { database, change_bytes, failed: AtomicBool::new(false) })
    }

    pub fn path(&self) -> &Path {
        self.database.path()
    }

    /// See [`Database::verify`].
    pub fn verify(&self) -> Result<bool, Error> {
        self.database.verify()
    }

    /// See [`Database::standing_still`].
    pub fn standing_still<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        self.database.standing_still(work)
    }

    /// See [`Database::compact_small`].
    pub fn compact_small(&self) {
        self.database.compact_small();
    }

    /// Disk blocks in use; 0 where that cannot be told.
    pub fn allocated_bytes(&self) -> u64 {
        self.database.allocated_bytes().unwrap_or(0)
    }

    /// Makes a change durable, all of it or nothing.
    pub fn change<E: From<Error>>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.failed.load(Relaxed) {
            self.reopen()?;
        }
        files::require_space(self.path(), self.change_bytes)?;
        let changed = self.database.write(change);
        if changed.is_err() {
            self.failed.store(true, Relaxed);
            let _ = self.reopen();
        }
        changed
    }

    fn reopen(&self) -> Result<(), Error> {
        self.database.reopen()?;
        self.failed.store(false, Relaxed);
        Ok(())
    }

    /// See [`Database::remains`].
    pub fn remains(&self) -> Result<Remains, Error> {
        self.database.remains()
    }

    pub fn read(&self) -> Result<ReadTransaction, Error> {
        self.database.read()
    }

    /// Visits the rows of a table, which need not be there yet, by key.
    pub fn each<K: Key + 'static, V: Value + 'static, E: From<Error>>(
        &self,
        read: &ReadTransaction,
        table: TableDefinition<'_, K, V>,
        mut visit: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = match read.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            opened => opened.map_err(Error::database(self.path()))?,
        };
        for row in table.iter().map_err(Error::database(self.path()))? {
            let (key, value) = row.map_err(Error::database(self.path()))?;
            visit(key.value(), value.value())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Disk;

    const ROWS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("rows");

    fn put(ledger: &Ledger, key: u32) -> Result<(), Error> {
        ledger.change(|transaction| {
            let mut rows = transaction.open_table(ROWS).map_err(Error::database(ledger.path()))?;
            rows.insert(key, [1, 2].as_slice()).map_err(Error::database(ledger.path()))?;
            Ok(())
        })
    }

    fn keys(ledger: &Ledger) -> Vec<u32> {
        let mut keys = Vec::new();
        let visit = |key, value: &[u8]| -> Result<(), Error> {
            assert_eq!(value, [1, 2]);
            keys.push(key);
            Ok(())
        };
        ledger.each(&ledger.read().unwrap(), ROWS, visit).unwrap();
        keys
    }

    #[test]
    fn a_change_after_one_that_failed_is_made_as_if_nothing_had_been() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::below(dir.path());
        let path = dir.path().join("x.redb");
        let ledger = Ledger::open(&path, ("rows", 1), 1 << 20, 4 << 20).unwrap();
        assert!(keys(&ledger).is_empty());
        put(&ledger, 2).unwrap();
        disk.tell_room(1 << 20);
        assert!(put(&ledger, 1).unwrap_err().is_no_space());
        disk.tell_room(u64::MAX);
        for fill in [true, false] {
            if fill {
                disk.fill_after(100)
            } else {
                disk.fail_writes(true)
            }
            assert!(put(&ledger, 3).is_err() && put(&ledger, 3).is_err());
            disk.fill_after(u64::MAX);
            disk.fail_writes(false);
            put(&ledger, 1).unwrap();
            assert_eq!(keys(&ledger).first(), Some(&1));
        }
        assert!(ledger.verify().unwrap());
        drop(ledger);
        let ledger = Ledger::open(&path, ("rows", 1), 1 << 20, 4 << 20).unwrap();
        assert!(keys(&ledger).starts_with(&[1, 2]));
    }

    #[test]
    fn a_small_file_gives_back_what_it_does_not_need() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.redb");
        let ledger = Ledger::open(&path, ("rows", 1), 1 << 20, 0).unwrap();
        (0..100).for_each(|key| put(&ledger, key).unwrap());
        let before = ledger.allocated_bytes();
        ledger.compact_small();
        assert_eq!(keys(&ledger).len(), 100);
        drop(ledger);
        let after = files::allocated_bytes(&path).unwrap();
        assert!(after < before, "{after} of {before}");
        let ledger = Ledger::open(&path, ("rows", 1), 1 << 20, 0).unwrap();
        assert!(ledger.verify().unwrap() && keys(&ledger).len() == 100);
        put(&ledger, 100).unwrap();
    }

    #[test]
    fn changed_bytes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.redb");
        let ledger = Ledger::open(&path, ("rows", 1), 1 << 20, 0).unwrap();
        (0..2_000).for_each(|key| put(&ledger, key).unwrap());
        drop(ledger);
        let bytes = std::fs::read(&path).unwrap();
        let row = bytes.windows(4).rposition(|w| w == [1, 2, 1, 2]).unwrap();
        let mut changed = bytes;
        changed[row] ^= 0xff;
        std::fs::write(&path, changed).unwrap();
        let ledger = Ledger::open(&path, ("rows", 1), 1 << 20, 0).unwrap();
        assert!(!ledger.verify().unwrap_or(false));
    }
}
