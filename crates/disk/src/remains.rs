//! What can still be read of a damaged database: opened without a change to the file, and read piece
//! by piece, since redb gives up a walk at the first page that makes no sense.

use std::any::Any;
use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Key, ReadTransaction, ReadableDatabase, TableDefinition, TableError, Value};

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

/// So many pieces in a row of which nothing can be read end a walk.
const MAX_FAILURES: u32 = 1_000;

/// A database that is only read, and not believed.
pub struct Remains {
    open: Open,
    path: PathBuf,
}

struct Open {
    transaction: ReadTransaction,
    /// What the transaction reads from.
    _redb: Box<dyn Any>,
}

impl Open {
    /// To read only, where that goes: it needs less of the file to be well. A file that was not
    /// closed well is mended first, in memory.
    fn of(path: &Path) -> Result<Self, Error> {
        guarded(path, || Self::read_only(path)).or_else(|_| guarded(path, || Self::mended(path)))
    }

    fn read_only(path: &Path) -> Result<Self, Error> {
        let redb = redb::Builder::new().open_read_only_with_backend(overlay(path)?);
        Self::begin(path, redb.map_err(Error::database(path))?)
    }

    fn mended(path: &Path) -> Result<Self, Error> {
        let redb = redb::Builder::new().create_with_backend(overlay(path)?);
        Self::begin(path, redb.map_err(Error::database(path))?)
    }

    fn begin(path: &Path, redb: impl ReadableDatabase + 'static) -> Result<Self, Error> {
        let transaction = redb.begin_read().map_err(Error::database(path))?;
        Ok(Self { transaction, _redb: Box::new(redb) })
    }
}

fn overlay(path: &Path) -> Result<Overlay, Error> {
    File::open(path).and_then(Overlay::new).map_err(Error::io("open", path))
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remains").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Remains {
    /// Fails with damage where nothing can be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { open: Open::of(path)?, path: path.to_owned() })
    }

    /// Visits the rows of a table that can be read, in the order of their keys. Whether that is all
    /// of them, as far as can be told; a table that never was is whole. `bounds`, in order, say
    /// where to begin anew: between two of them what follows the damage is lost.
    pub fn each<'a, K, V>(
        &mut self,
        table: TableDefinition<'_, K, V>,
        bounds: impl IntoIterator<Item = K::SelfType<'a>>,
        mut visit: impl FnMut(K::SelfType<'_>, V::SelfType<'_>),
    ) -> bool
    where
        K: Key + 'static,
        V: Value + 'static,
        K::SelfType<'a>: Clone,
    {
        let (mut is_whole, mut failures) = (true, 0);
        let mut start = Bound::Unbounded;
        for end in bounds.into_iter().map(Some).chain([None]) {
            let upto = end.clone().map_or(Bound::Unbounded, Bound::Excluded);
            if guarded(&self.path, || self.piece(table, (start, upto), &mut visit)).is_ok() {
                failures = 0;
            } else {
                is_whole = false;
                failures += 1;
                // After a panic the handle takes no more.
                match Open::of(&self.path) {
                    Ok(open) if failures < MAX_FAILURES => self.open = open,
                    _ => return false,
                }
            }
            start = end.map_or(Bound::Unbounded, Bound::Included);
        }
        is_whole
    }

    fn piece<'a, K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
        piece: (Bound<K::SelfType<'a>>, Bound<K::SelfType<'a>>),
        visit: &mut impl FnMut(K::SelfType<'_>, V::SelfType<'_>),
    ) -> Result<(), Error> {
        let table = match self.open.transaction.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            opened => opened.map_err(Error::database(&self.path))?,
        };
        for row in table.range::<K::SelfType<'a>>(piece).map_err(Error::database(&self.path))? {
            let (key, value) = row.map_err(Error::database(&self.path))?;
            visit(key.value(), value.value());
        }
        Ok(())
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
        let mut remains = Remains::open(path).ok()?;
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
