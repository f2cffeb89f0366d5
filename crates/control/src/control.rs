//! The control plane: how it is opened, read, copied and closed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard, RwLock};
use pilothouse_disk::Database;
use pilothouse_disk::remains::guarded;
use pilothouse_model::Clock;
use pilothouse_model::limits::{Limits, LiveLimits, NAME_CHARS};
use pilothouse_model::ports::SystemClock;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableHandle as _};

use crate::audit::AuditEntry;
use crate::change::Writer;
use crate::copy;
use crate::error::Error;
use crate::ids::ProjectId;
use crate::image::{Image, LoadTable};
use crate::list::{Listed, Page};
use crate::project::Project;
use crate::row::{self, Row};
use crate::state::RECORDS;
use crate::token::TokenUseRow;
use crate::usage::{UsageBook, UsageRow};

/// The kind and the version of the file. Rows have versions of their own.
pub(crate) const KIND: &str = "control";
pub(crate) const VERSION: u32 = 1;
pub(crate) const CACHE_BYTES: usize = 4 << 20;

pub(crate) const AUDIT: TableDefinition<'static, u64, &'static [u8]> =
    TableDefinition::new(AuditEntry::TABLE);

pub(crate) fn table_of<R: Row>() -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(R::TABLE)
}

#[derive(Debug, Clone)]
pub struct Options {
    pub clock: Arc<dyn Clock>,
    pub limits: LiveLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), limits: LiveLimits::default() }
    }
}

type Watcher = Box<dyn Fn(&AuditEntry) + Send + Sync>;

/// The control plane of one server.
pub struct Control {
    database: Database,
    options: Options,
    image: RwLock<Arc<Image>>,
    writer: Mutex<Writer>,
    usage: Mutex<UsageBook>,
    watcher: OnceLock<Watcher>,
    corruptions: AtomicU64,
    #[cfg(test)]
    pub(crate) crash_points: Mutex<Option<crate::tests::CrashPoints>>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("path", &self.database.path()).finish_non_exhaustive()
    }
}

// ---- opening and reading ----

impl Control {
    /// Opens the file or makes it, with the default data sources in it. None is made while the copy of one
    /// that is gone is there.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        guarded(path, || Self::open_file(path, options))
    }

    fn open_file(path: &Path, options: Options) -> Result<Self, Error> {
        copy::refuse_gone(path)?;
        let database = Database::open(path, KIND, VERSION, CACHE_BYTES)?;
        make_tables(&database)?;
        let (image, next_number, usage) = load(&database)?;
        let control = Self {
            database,
            options,
            image: RwLock::new(Arc::new(image)),
            writer: Mutex::new(Writer { next_number, is_copied: false, mends: 0 }),
            usage: Mutex::new(usage),
            watcher: OnceLock::new(),
            corruptions: AtomicU64::new(0),
            #[cfg(test)]
            crash_points: Mutex::new(None),
        };
        control.create_default_sources()?;
        control.renew_copy();
        Ok(control)
    }

    /// Calls `watcher` after every change, in order, with its entry of the audit trail; it must
    /// not block, and not change anything itself. A second watcher is not taken.
    pub fn watch(&self, watcher: impl Fn(&AuditEntry) + Send + Sync + 'static) {
        let _ = self.watcher.set(Box::new(watcher));
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.read())
    }

    /// From now on this is what there is.
    pub(crate) fn show(&self, mut image: Image) {
        let mut current = self.image.write();
        image.renew_grants(&current);
        *current = Arc::new(image);
    }

    pub(crate) fn told(&self, entry: &AuditEntry) {
        if let Some(watcher) = self.watcher.get() {
            watcher(entry);
        }
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Counts damaged places of the file that were met on the way here.
    pub fn met_damage(&self, places: u64) {
        self.corruptions.fetch_add(places, Relaxed);
    }

    pub fn corruptions(&self) -> u64 {
        self.corruptions.load(Relaxed)
    }

    /// Runs `work` while nobody writes to the file, which can be copied meanwhile.
    pub fn standing_still<T>(&self, work: impl FnOnce() -> T) -> Result<T, pilothouse_disk::Error> {
        let _writer = self.writer();
        self.database.standing_still(work)
    }

    /// At the end: writes what the copy does not have, gives back what room the file does not need, and
    /// closes it. Whoever comes later changes nothing any more, neither in it nor beside it.
    pub fn close(&self) {
        let mut writer = self.writer();
        self.write_copy(&mut writer);
        self.database.compact_small();
        self.database.close();
    }

    /// Brings the copy up to date, if it is not.
    pub(crate) fn renew_copy(&self) {
        self.write_copy(&mut self.writer());
    }

    /// What the copy is written from is held against its checksums: damage never gets there, and is
    /// mended from what is there.
    fn write_copy(&self, writer: &mut Writer) {
        if writer.is_copied || self.database.is_closed() {
            return;
        }
        let mut written = copy::write(&self.database);
        if let Err(cause) = &written
            && cause.is_in_file()
            && self.mend(writer, cause)
        {
            written = copy::write(&self.database);
        }
        match written {
            Ok(()) => writer.is_copied = true,
            Err(error) => tracing::warn!(%error, "the control plane's file has no copy that is up to date"),
        }
    }

    /// Reads from the file. Damage that is met is mended, and the reading tried again.
    pub(crate) fn reading<T>(&self, read: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error> {
        let attempt = || guarded(self.database.path(), || read(&self.database.read()?));
        match attempt() {
            Err(cause) if cause.is_in_file() => {}
            done => return done,
        }
        let mut writer = self.writer();
        // Somebody else may have met the same damage, and mended it by now.
        match attempt() {
            Err(cause) if cause.is_in_file() && self.mend(&mut writer, &cause) => attempt(),
            done => done,
        }
    }

    pub(crate) fn usage(&self) -> MutexGuard<'_, UsageBook> {
        self.usage.lock()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.options.clock.now_ms()
    }

    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.options.limits.now()
    }

    pub(crate) fn fault(&self, e: redb::Error) -> Error {
        pilothouse_disk::Error::database(self.database.path())(e).into()
    }

    pub fn project(&self, id: ProjectId) -> Option<Project> {
        self.image().get::<Project>(&id).map(|p| (**p).clone())
    }

    /// The audit trail, newest first; `below` leaves out numbers from there on.
    pub fn audit(&self, below: Option<u64>, limit: usize) -> Result<Vec<AuditEntry>, Error> {
        self.reading(|transaction| {
            let table = transaction.open_table(AUDIT).map_err(|e| self.fault(e.into()))?;
            let rows = table.range(..below.unwrap_or(u64::MAX)).map_err(|e| self.fault(e.into()))?;
            let mut entries = Vec::new();
            for row in rows.rev().take(limit) {
                let (number, bytes) = row.map_err(|e| self.fault(e.into()))?;
                let key = number.value().to_string();
                entries.push(decoded::<AuditEntry>(&self.database, &key, bytes.value())?);
            }
            Ok(entries)
        })
    }

    /// A page of the audit trail, newest first.
    pub fn audit_page(&self, page: Page) -> Result<Listed<AuditEntry>, Error> {
        let kept = usize::try_from(self.options.limits.now().max_audit_entries).unwrap_or(usize::MAX);
        Ok(page.of(self.audit(None, kept)?))
    }
}

/// Compares the checksums of a control plane's file that nobody has open; `false` if it is damaged.
pub fn check(
    path: &Path,
    checked: &mut pilothouse_disk::check::Checked,
) -> Result<bool, pilothouse_disk::Error> {
    pilothouse_disk::check::database(path, KIND, VERSION, checked)
}

/// Makes the tables that are not there yet. A file that has them all is not written to: it may be
/// damaged, which is seen when it is loaded.
pub(crate) fn make_tables(database: &Database) -> Result<(), Error> {
    let fault = |e: redb::Error| Error::from(pilothouse_disk::Error::database(database.path())(e));
    let names = [TokenUseRow::TABLE, UsageRow::TABLE].into_iter().chain(Image::TABLES.iter().copied());
    let there: BTreeSet<String> = {
        let transaction = database.read()?;
        transaction.list_tables().map_err(|e| fault(e.into()))?.map(|table| table.name().to_owned()).collect()
    };
    if names.clone().chain([AUDIT.name(), RECORDS.name()]).all(|name| there.contains(name)) {
        return Ok(());
    }
    database.write(|transaction| {
        transaction.open_table(AUDIT).map_err(|e| fault(e.into()))?;
        transaction.open_table(RECORDS).map_err(|e| fault(e.into()))?;
        for name in names {
            let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(name);
            transaction.open_table(table).map_err(|e| fault(e.into()))?;
        }
        Ok(())
    })
}

struct Loader<'a> {
    database: &'a Database,
    transaction: ReadTransaction,
}

impl LoadTable<Error> for Loader<'_> {
    fn table<R: Row>(&mut self) -> Result<BTreeMap<R::Key, Arc<R>>, Error> {
        let fault = |e: redb::Error| Error::from(pilothouse_disk::Error::database(self.database.path())(e));
        let table = self.transaction.open_table(table_of::<R>()).map_err(|e| fault(e.into()))?;
        let mut rows = BTreeMap::new();
        for row in table.iter().map_err(|e| fault(e.into()))? {
            let (key, bytes) = row.map_err(|e| fault(e.into()))?;
            let row: R = decoded(self.database, key.value(), bytes.value())?;
            rows.insert(row.key(), Arc::new(row));
        }
        Ok(rows)
    }
}

fn decoded<R: Row>(database: &Database, key: &str, bytes: &[u8]) -> Result<R, Error> {
    row::decode(bytes).map_err(|unread| Error::unread(database.path(), R::TABLE, key, unread))
}

/// Everything that is held in memory, and the number of the next change.
pub(crate) fn load(database: &Database) -> Result<(Image, u64, UsageBook), Error> {
    let fault = |e: redb::Error| Error::from(pilothouse_disk::Error::database(database.path())(e));
    let mut loader = Loader { database, transaction: database.read()? };
    let mut image = Image::load(&mut loader)?;
    image.renew_grants(&Image::default());
    let uses = loader.table::<TokenUseRow>()?;
    for grant in image.grants.values().flatten() {
        if let Some(row) = uses.get(&grant.token()) {
            grant.add(row.total);
        }
    }
    let usage = UsageBook::of(loader.table::<UsageRow>()?.into_values().map(|row| *row));
    let audit = loader.transaction.open_table(AUDIT).map_err(|e| fault(e.into()))?;
    let last = audit.last().map_err(|e| fault(e.into()))?.map_or(0, |(number, _)| number.value());
    Ok((image, last + 1, usage))
}

/// A name without blanks around it, neither empty nor too long.
pub(crate) fn checked_name(argument: &'static str, name: &str) -> Result<String, Error> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Error::required(argument));
    }
    if name.chars().count() > NAME_CHARS || name.chars().any(char::is_control) {
        let help = format!("at most {NAME_CHARS} characters, none of them a control character");
        return Err(Error::constraint(argument, help));
    }
    Ok(name.to_owned())
}
