//! redb opened one way: a kind and a format version in every file, small caches, commits that
//! are durable and leave nothing to walk after a crash.
//!
//! There is no migration of older formats here: a store that needs one reads the old file with
//! its old version number and writes a new one.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use redb::{Durability, ReadTransaction, ReadableDatabase as _, TableDefinition, WriteTransaction};

#[cfg(any(test, feature = "faults"))]
use crate::faults;
use crate::overlay::Overlay;
use crate::remains::Remains;
use crate::{Error, files, os};

/// One row: the kind of the file and its format version.
const FORMAT: TableDefinition<&str, u32> = TableDefinition::new("format");

/// Files up to this size are compacted at the end. In a larger one the free pages are few beside
/// the others, and rewriting them takes time.
const SMALL_BYTES: u64 = 2 << 20;

/// A redb file open for reading and writing. This process holds it alone.
#[derive(Debug)]
pub struct Database {
    redb: RwLock<Handle>,
    path: PathBuf,
    cache_bytes: usize,
}

#[derive(Debug)]
enum Handle {
    Open(redb::Database),
    /// It could not be opened again, or is about to be.
    Away,
    /// For good.
    Closed,
}

impl Handle {
    fn refusal(&self) -> redb::Error {
        if matches!(self, Self::Closed) { redb::Error::DatabaseClosed } else { redb::Error::PreviousIo }
    }

    /// The old one is let go first, since it holds the file's lock.
    fn reopen(&mut self, path: &Path, cache_bytes: usize) -> Result<(), Error> {
        if matches!(self, Self::Closed) {
            return Err(Error::database(path)(redb::Error::DatabaseClosed));
        }
        *self = Self::Away;
        *self = Self::Open(open_writable(path, cache_bytes)?);
        Ok(())
    }
}

/// A redb file that is only read; it must not be open for writing anywhere.
pub struct ReadOnlyDatabase {
    redb: redb::ReadOnlyDatabase,
    path: PathBuf,
}

impl Database {
    /// Opens a file or creates it. A file of another kind, or of another format version, is
    /// refused by name and left as it is.
    ///
    /// `cache_bytes` is redb's own cache. Keep it at some MiB: the operating system caches the
    /// file already, and every open file has a cache of its own.
    pub fn open(path: &Path, kind: &'static str, version: u32, cache_bytes: usize) -> Result<Self, Error> {
        if files::is_absent_or_empty(path)? {
            Self::create(path, kind, version)?;
        }
        let database = Self { redb: RwLock::new(Handle::Away), path: path.to_owned(), cache_bytes };
        database.reopen()?;
        check_format(&database.read()?, path, kind, version)?;
        Ok(database)
    }

    /// Makes the file under another name first: redb writes a new file in steps, and one that was
    /// left between them would be refused for ever.
    fn create(path: &Path, kind: &'static str, version: u32) -> Result<(), Error> {
        let unfinished = files::unfinished_path(path);
        files::remove(&unfinished)?;
        let made = os::open(OpenOptions::new().write(true).create_new(true), &unfinished);
        drop(made.map_err(Error::io("create", &unfinished))?);
        let redb = open_writable(&unfinished, 0)?;
        let redb = RwLock::new(Handle::Open(redb));
        let database = Self { redb, path: unfinished.clone(), cache_bytes: 0 };
        database.write_format(kind, version)?;
        drop(database);
        files::rename_durably(&unfinished, path)
    }

    /// Closes the file and opens it again, unless it was closed for good. After one failed write redb
    /// refuses everything, reads too, even when the disk has room again; what was read from before
    /// fails for good.
    pub fn reopen(&self) -> Result<(), Error> {
        self.redb.write().reopen(&self.path, self.cache_bytes)
    }

    /// As [`Database::reopen`], with `work` between the two, which may put another file in the place of
    /// this one. It is opened again also where that fails.
    pub fn replaced<T, E: From<Error>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut redb = self.redb.write();
        if matches!(*redb, Handle::Closed) {
            return Err(Error::database(&self.path)(redb.refusal()).into());
        }
        *redb = Handle::Away;
        let done = work();
        redb.reopen(&self.path, self.cache_bytes)?;
        done
    }

    /// What of the file is certain, page by page. Nobody may write to it meanwhile.
    pub fn remains(&self) -> Result<Remains, Error> {
        match &*self.redb.read() {
            Handle::Closed => Err(Error::database(&self.path)(redb::Error::DatabaseClosed)),
            _ => Remains::open(&self.path),
        }
    }

    /// Whether it was closed for good.
    pub fn is_closed(&self) -> bool {
        matches!(*self.redb.read(), Handle::Closed)
    }

    /// Runs `work` while nobody writes to the file, which can be copied meanwhile: it is then as a
    /// crash would leave it.
    pub fn standing_still<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        // There is one writer at a time, and this one changes nothing.
        let transaction = self.begin_write()?;
        let value = work();
        transaction.abort().map_err(Error::database(&self.path))?;
        Ok(value)
    }

    /// Walks the whole file and compares its checksums, which opening does not do. `false` when
    /// something was wrong and was mended, perhaps with an older state of the file; an error when
    /// it cannot be. Nothing may be read or written meanwhile.
    pub fn verify(&self) -> Result<bool, Error> {
        match &mut *self.redb.write() {
            Handle::Open(redb) => redb.check_integrity().map_err(Error::database(&self.path)),
            away => Err(Error::database(&self.path)(away.refusal())),
        }
    }

    fn with<T, E: Into<redb::Error>>(
        &self,
        begin: impl FnOnce(&redb::Database) -> Result<T, E>,
    ) -> Result<T, Error> {
        match &*self.redb.read() {
            Handle::Open(redb) => begin(redb).map_err(Error::database(&self.path)),
            away => Err(Error::database(&self.path)(away.refusal())),
        }
    }

    fn write_format(&self, kind: &'static str, version: u32) -> Result<(), Error> {
        self.write(|transaction| {
            let mut format = transaction.open_table(FORMAT).map_err(Error::database(&self.path))?;
            format.insert(kind, version).map_err(Error::database(&self.path))?;
            Ok(())
        })
    }

    pub fn read(&self) -> Result<ReadTransaction, Error> {
        self.with(|redb| redb.begin_read())
    }

    /// A transaction that is on the disk when [`commit`](WriteTransaction::commit) returns, and
    /// after which an unclean end costs no walk over the file. Waits for the one before it.
    pub fn begin_write(&self) -> Result<WriteTransaction, Error> {
        let mut transaction = self.with(|redb| redb.begin_write())?;
        transaction.set_durability(Durability::Immediate).map_err(Error::database(&self.path))?;
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Runs `change` in a transaction and commits; an error of `change` undoes all of it.
    pub fn write<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.begin_write()?;
        let value = change(&transaction)?;
        transaction.commit().map_err(Error::database(&self.path))?;
        Ok(value)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Disk blocks in use, not the length of the sparse file.
    pub fn allocated_bytes(&self) -> Result<u64, Error> {
        files::allocated_bytes(&self.path)
    }

    /// Gives free pages back to the file system; rewrites what stays, and needs that no reader
    /// is left. Returns whether anything moved.
    pub fn compact(&self) -> Result<bool, Error> {
        match &mut *self.redb.write() {
            Handle::Open(redb) => redb.compact().map_err(Error::database(&self.path)),
            away => Err(Error::database(&self.path)(away.refusal())),
        }
    }

    /// Closes the file for good, whoever else holds this handle: what is asked of it from now on fails,
    /// and nothing opens it again.
    pub fn close(&self) {
        *self.redb.write() = Handle::Closed;
    }

    /// As [`Database::compact`], at the end of a file's use, where that is done quickly. It is no
    /// failure if that does not work out: all that is lost is some room.
    pub fn compact_small(&self) {
        if self.allocated_bytes().is_ok_and(|bytes| bytes <= SMALL_BYTES)
            && let Err(error) = self.compact()
        {
            tracing::debug!(%error, "a database is left as large as it is");
        }
    }
}

impl ReadOnlyDatabase {
    /// Opens an existing file; checks as [`Database::open`] does.
    ///
    /// A file that was not closed well is first opened for writing, which mends it.
    pub fn open(path: &Path, kind: &'static str, version: u32, cache_bytes: usize) -> Result<Self, Error> {
        let redb = match open_read_only(path, cache_bytes) {
            Err(redb::DatabaseError::RepairAborted) => {
                drop(open_writable(path, cache_bytes)?);
                open_read_only(path, cache_bytes)
            }
            opened => opened,
        };
        let redb = redb.map_err(Error::database(path))?;
        let database = Self { redb, path: path.to_owned() };
        check_format(&database.read()?, path, kind, version)?;
        Ok(database)
    }

    pub fn read(&self) -> Result<ReadTransaction, Error> {
        self.redb.begin_read().map_err(Error::database(&self.path))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Disk blocks in use, not the length of the sparse file.
    pub fn allocated_bytes(&self) -> Result<u64, Error> {
        files::allocated_bytes(&self.path)
    }
}

impl std::fmt::Debug for ReadOnlyDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOnlyDatabase").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens a file, which may be empty.
fn open_writable(path: &Path, cache_bytes: usize) -> Result<redb::Database, Error> {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(cache_bytes);
    #[cfg(any(test, feature = "faults"))]
    if let Some(backend) = faults::backend(path, true).map_err(Error::io("open", path))? {
        return builder.create_with_backend(backend).map_err(Error::database(path));
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open", path))?;
    let backend = redb::backends::FileBackend::new(file).map_err(Error::database(path))?;
    builder.create_with_backend(backend).map_err(Error::database(path))
}

fn open_read_only(path: &Path, cache_bytes: usize) -> Result<redb::ReadOnlyDatabase, redb::DatabaseError> {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(cache_bytes);
    #[cfg(any(test, feature = "faults"))]
    if let Some(backend) = faults::backend(path, false)? {
        return builder.open_read_only_with_backend(backend);
    }
    builder.open_read_only(path)
}

/// Walks a whole file and compares its checksums, and changes nothing in it. `false` when some
/// are wrong; an error when it cannot be opened.
pub(crate) fn verify_untouched(path: &Path, kind: &'static str, version: u32) -> Result<bool, Error> {
    let overlay = Overlay::open(path).map_err(Error::io("open", path))?;
    let mut redb = redb::Builder::new().create_with_backend(overlay).map_err(Error::database(path))?;
    check_format(&redb.begin_read().map_err(Error::database(path))?, path, kind, version)?;
    redb.check_integrity().map_err(Error::database(path))
}

fn check_format(
    transaction: &ReadTransaction,
    path: &Path,
    kind: &'static str,
    version: u32,
) -> Result<(), Error> {
    let Some((found_kind, found)) = read_format(transaction, path)? else {
        return Err(Error::NoFormat { path: path.to_owned() });
    };
    let path = path.to_owned();
    if found_kind != kind {
        return Err(Error::WrongKind { path, expected: kind, found: found_kind });
    }
    match found.cmp(&version) {
        std::cmp::Ordering::Greater => Err(Error::Newer { path, kind, found, known: version }),
        std::cmp::Ordering::Less => Err(Error::Older { path, kind, found, known: version }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

fn read_format(transaction: &ReadTransaction, path: &Path) -> Result<Option<(String, u32)>, Error> {
    use redb::ReadableTable as _;
    let table = match transaction.open_table(FORMAT) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_) | redb::TableError::TableTypeMismatch { .. }) => {
            return Ok(None);
        }
        Err(e) => return Err(Error::database(path)(e)),
    };
    let row = table.first().map_err(Error::database(path))?;
    Ok(row.map(|(kind, version)| (kind.value().to_owned(), version.value())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: TableDefinition<u32, &str> = TableDefinition::new("rows");
    const CACHE: usize = 1 << 20;

    #[test]
    fn what_is_written_is_read_again_by_kind_and_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.redb");
        let database = Database::open(&path, "rows", 2, CACHE).unwrap();
        database
            .write(|t| -> Result<(), Error> {
                t.open_table(ROWS).unwrap().insert(1, "one").unwrap();
                Ok(())
            })
            .unwrap();
        let undone = database.write(|t| -> Result<(), Error> {
            t.open_table(ROWS).unwrap().insert(2, "two").unwrap();
            Err(Error::NoFormat { path: path.clone() })
        });
        assert!(undone.is_err());
        assert!(database.allocated_bytes().unwrap() > 0);
        let before = database.read().unwrap().open_table(ROWS).unwrap();
        database.reopen().unwrap();
        let after = database.read().unwrap().open_table(ROWS).unwrap();
        assert_eq!(after.get(1).unwrap().unwrap().value(), "one");
        drop((before, after, database));

        let database = ReadOnlyDatabase::open(&path, "rows", 2, CACHE).unwrap();
        let rows = database.read().unwrap().open_table(ROWS).unwrap();
        assert_eq!(rows.get(1).unwrap().unwrap().value(), "one");
        assert!(rows.get(2).unwrap().is_none());
    }

    #[test]
    fn a_file_of_another_kind_or_version_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.redb");
        drop(Database::open(&path, "rows", 2, CACHE).unwrap());
        let newer = Database::open(&path, "rows", 1, CACHE).unwrap_err().to_string();
        assert!(
            newer.contains("x.redb") && newer.contains("version 2") && newer.contains("newer"),
            "{newer}"
        );
        assert!(matches!(Database::open(&path, "rows", 3, CACHE), Err(Error::Older { .. })));
        assert!(matches!(ReadOnlyDatabase::open(&path, "pages", 2, CACHE), Err(Error::WrongKind { .. })));
        Database::open(&path, "rows", 2, CACHE).unwrap();
    }

    #[test]
    fn a_file_appears_under_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.redb");
        let unfinished = files::unfinished_path(&path);
        std::fs::create_dir(&unfinished).unwrap();
        assert!(Database::open(&path, "rows", 1, CACHE).is_err());
        assert!(!path.exists());
        std::fs::remove_dir(&unfinished).unwrap();
        // What a kill in the middle leaves, and a file that never got a byte.
        std::fs::write(&unfinished, [0; 1 << 16]).unwrap();
        std::fs::write(&path, "").unwrap();
        drop(Database::open(&path, "rows", 1, CACHE).unwrap());
        assert!(!unfinished.exists());
        Database::open(&path, "rows", 1, CACHE).unwrap();
    }

    fn put(database: &Database, key: u32) -> Result<(), Error> {
        database.write(|t| {
            let mut rows = t.open_table(ROWS).map_err(Error::database(database.path()))?;
            rows.insert(key, "row").map_err(Error::database(database.path()))?;
            Ok(())
        })
    }

    fn count(database: &Database) -> Result<u64, Error> {
        use redb::ReadableTableMetadata as _;
        let rows = database.read()?.open_table(ROWS).map_err(Error::database(database.path()))?;
        rows.len().map_err(Error::database(database.path()))
    }

    #[test]
    fn after_a_full_or_broken_disk_opening_again_mends_the_handle() {
        let dir = tempfile::tempdir().unwrap();
        let disk = faults::Disk::below(dir.path());
        // Without a cache, so that reads reach the disk.
        let database = Database::open(&dir.path().join("x.redb"), "rows", 1, 0).unwrap();
        put(&database, 1).unwrap();
        for round in 0..3 {
            match round {
                0 => disk.fill_after(0),
                1 => disk.fail_writes(true),
                _ => disk.fail_reads(true),
            }
            let failed = put(&database, 2).and_then(|()| count(&database).map(|_| ())).unwrap_err();
            assert!(failed.is_latched(), "{failed}");
            assert_eq!(failed.is_no_space(), round == 0);
            disk.fill_after(u64::MAX);
            disk.fail_writes(false);
            disk.fail_reads(false);
            // The disk is well, the handle is not.
            assert!(put(&database, 2).unwrap_err().is_latched());
            database.reopen().unwrap();
            assert_eq!(count(&database).unwrap(), 1);
        }
        put(&database, 2).unwrap();
        assert_eq!(count(&database).unwrap(), 2);
    }

    #[test]
    fn what_is_closed_stays_closed_and_what_is_replaced_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("x.redb"), dir.path().join("other.redb"));
        put(&Database::open(&other, "rows", 1, CACHE).unwrap(), 1).unwrap();
        let database = Database::open(&path, "rows", 1, CACHE).unwrap();
        let moved = || files::rename_durably(&other, &path);
        database.replaced(moved).unwrap();
        assert_eq!(count(&database).unwrap(), 1);
        // What cannot be put in its place leaves it as it was.
        assert!(database.replaced(moved).is_err());
        put(&database, 2).unwrap();
        database.close();
        assert!(put(&database, 3).is_err() && database.reopen().is_err() && database.remains().is_err());
        assert!(database.replaced(|| Ok::<(), Error>(())).is_err() && database.is_closed());
        assert_eq!(count(&Database::open(&path, "rows", 1, CACHE).unwrap()).unwrap(), 2);
    }

    #[test]
    fn a_file_that_was_not_closed_well_can_be_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("x.redb"), dir.path().join("copy.redb"));
        let database = Database::open(&path, "rows", 1, CACHE).unwrap();
        put(&database, 1).unwrap();
        std::fs::copy(&path, &copy).unwrap();
        assert!(matches!(open_read_only(&copy, CACHE), Err(redb::DatabaseError::RepairAborted)));
        let read = ReadOnlyDatabase::open(&copy, "rows", 1, CACHE).unwrap();
        assert_eq!(read.read().unwrap().open_table(ROWS).unwrap().get(1).unwrap().unwrap().value(), "row");
    }

    #[test]
    fn a_foreign_redb_file_and_no_redb_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("foreign.redb");
        let redb = redb::Database::create(&foreign).unwrap();
        let t = redb.begin_write().unwrap();
        t.open_table(ROWS).unwrap().insert(1, "one").unwrap();
        t.commit().unwrap();
        drop(redb);
        assert!(matches!(Database::open(&foreign, "rows", 1, CACHE), Err(Error::NoFormat { .. })));
        let text = dir.path().join("text");
        std::fs::write(&text, "no database at all").unwrap();
        assert!(matches!(Database::open(&text, "rows", 1, CACHE), Err(Error::Database { .. })));
        assert!(matches!(
            ReadOnlyDatabase::open(&dir.path().join("gone"), "rows", 1, CACHE),
            Err(Error::Database { .. })
        ));
    }
}
