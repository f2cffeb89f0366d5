//! What can still be read of a damaged database: opened without a change to the file, and read piece
//! by piece, since redb gives up a walk at the first page that makes no sense.

use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Key, ReadTransaction, ReadableDatabase as _, TableDefinition, TableError, Value};

use crate::Error;
use crate::overlay::Overlay;

/// Calls into redb about a file that is perhaps damaged: it trusts what it reads, and panics over
/// some of it.
pub fn guarded<T, E: From<Error>>(path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let what = "its reader has met something it did not expect".to_owned();
        Err(Error::database(path)(redb::Error::Corrupted(what)).into())
    })
}

/// A database that is only read, and not believed.
pub struct Remains {
    transaction: ReadTransaction,
    /// What the transaction reads from.
    _redb: redb::Database,
    path: PathBuf,
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remains").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Remains {
    /// Fails with damage where nothing can be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        guarded(path, || {
            let overlay = File::open(path).and_then(Overlay::new).map_err(Error::io("open", path))?;
            let redb = redb::Builder::new().create_with_backend(overlay).map_err(Error::database(path))?;
            let transaction = redb.begin_read().map_err(Error::database(path))?;
            Ok(Self { transaction, _redb: redb, path: path.to_owned() })
        })
    }

    /// Visits the rows of a table that can be read, in the order of their keys. Whether that is all
    /// of them, as far as can be told; a table that never was is whole. `bounds`, in order, say
    /// where to begin anew: between two of them what follows the damage is lost.
    pub fn each<'a, K, V>(
        &self,
        table: TableDefinition<'_, K, V>,
        bounds: impl IntoIterator<Item = K::SelfType<'a>>,
        mut visit: impl FnMut(K::SelfType<'_>, V::SelfType<'_>),
    ) -> bool
    where
        K: Key + 'static,
        V: Value + 'static,
        K::SelfType<'a>: Clone,
    {
        let opened = guarded(&self.path, || match self.transaction.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            opened => opened.map(Some).map_err(Error::database(&self.path)),
        });
        let table = match opened {
            Ok(Some(table)) => table,
            Ok(None) => return true,
            Err(_) => return false,
        };
        let mut is_whole = true;
        let mut start = Bound::Unbounded;
        for end in bounds.into_iter().map(Some).chain([None]) {
            let upto = end.clone().map_or(Bound::Unbounded, Bound::Excluded);
            is_whole &= guarded(&self.path, || {
                for row in
                    table.range::<K::SelfType<'a>>((start, upto)).map_err(Error::database(&self.path))?
                {
                    let (key, value) = row.map_err(Error::database(&self.path))?;
                    visit(key.value(), value.value());
                }
                Ok::<(), Error>(())
            })
            .is_ok();
            start = end.map_or(Bound::Unbounded, Bound::Included);
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;

    const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
    const NEVER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("never");
    const COUNT: u64 = 2_000;

    fn read(path: &Path) -> Option<(Vec<u64>, bool)> {
        let remains = Remains::open(path).ok()?;
        let mut keys = Vec::new();
        let is_whole = remains.each(ROWS, (0..COUNT).step_by(20), |key, _| keys.push(key));
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert!(remains.each(NEVER, [], |_, _| unreachable!()));
        Some((keys, is_whole))
    }

    #[test]
    fn what_is_around_the_damage_is_read_and_the_file_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.redb");
        let database = Database::open(&path, "rows", 1, 1 << 20).unwrap();
        let write = database.write(|transaction| -> Result<(), Error> {
            let mut rows = transaction.open_table(ROWS).unwrap();
            (0..COUNT).for_each(|key| drop(rows.insert(key, [key as u8; 100].as_slice()).unwrap()));
            Ok(())
        });
        write.unwrap();
        drop(database);
        assert_eq!(read(&path), Some(((0..COUNT).collect(), true)));
        let whole = std::fs::read(&path).unwrap();
        let mut partly = 0;
        // Each page in turn becomes nonsense.
        for page in (1..whole.len() / 4096).step_by(3) {
            let mut bytes = whole.clone();
            bytes[page * 4096..page * 4096 + 64].fill(0xff);
            std::fs::write(&path, &bytes).unwrap();
            let Some((keys, is_whole)) = read(&path) else { continue };
            assert_eq!(is_whole, keys.len() as u64 == COUNT, "page {page}");
            partly += u64::from(!is_whole && keys.len() > 1_800);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        assert!(partly > 5, "{partly}");
    }
}
