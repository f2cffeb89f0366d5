//! The control plane: how it is opened, and how a change is made.
//!
//! A change works on a copy of the image, is written with its entry of the audit trail in one
//! transaction, and only then is seen. One change at a time; readers take the image as it is and
//! hold no lock while they look at it.

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
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableHandle as _, WriteTransaction};

use crate::audit::{Actor, AuditEntry, Event};
use crate::copy;
use crate::error::{Error, Resource};
use crate::ids::ProjectId;
use crate::image::{Held, Image, LoadTable};
use crate::list::{Listed, Page};
use crate::project::Project;
use crate::row::{self, Row, Stamp};
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
    /// The copy beside the file is not written anew, because the file is damaged, or only looked at.
    /// What is deleted goes from it all the same.
    pub leaves_copy: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), limits: LiveLimits::default(), leaves_copy: false }
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

/// Who holds it changes the file.
#[derive(Debug)]
struct Writer {
    /// Of the next entry of the audit trail.
    next_number: u64,
    /// Nothing was changed since the copy was written.
    is_copied: bool,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("path", &self.database.path()).finish_non_exhaustive()
    }
}

// ---- opening and reading ----

impl Control {
    /// Opens the file or makes it, with the default data sources in it.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        guarded(path, || Self::open_file(path, options))
    }

    fn open_file(path: &Path, options: Options) -> Result<Self, Error> {
        let database = Database::open(path, KIND, VERSION, CACHE_BYTES)?;
        make_tables(&database)?;
        let (image, next_number, usage) = load(&database)?;
        let control = Self {
            database,
            options,
            image: RwLock::new(Arc::new(image)),
            writer: Mutex::new(Writer { next_number, is_copied: false }),
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
        self.database.standing_still(work)
    }

    /// At the end: writes what the copy does not have, gives back what room the file does not need, and
    /// closes it.
    pub fn close(&self) {
        self.renew_copy();
        self.database.compact_small();
        self.database.close();
    }

    /// Brings the copy up to date, if it is not.
    pub(crate) fn renew_copy(&self) {
        self.write_copy(&mut self.writer.lock());
    }

    fn write_copy(&self, writer: &mut Writer) {
        if writer.is_copied || self.options.leaves_copy {
            return;
        }
        match copy::write(&self.database) {
            Ok(()) => writer.is_copied = true,
            Err(error) => tracing::warn!(%error, "the control plane's file has no copy that is up to date"),
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
        let transaction = self.database.read()?;
        let table = transaction.open_table(AUDIT).map_err(|e| self.fault(e.into()))?;
        let rows = table.range(..below.unwrap_or(u64::MAX)).map_err(|e| self.fault(e.into()))?;
        let mut entries = Vec::new();
        for row in rows.rev().take(limit) {
            let (number, bytes) = row.map_err(|e| self.fault(e.into()))?;
            entries.push(decoded::<AuditEntry>(&self.database, &number.value().to_string(), bytes.value())?);
        }
        Ok(entries)
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
    fn table<R: Row>(&self) -> Result<BTreeMap<R::Key, Arc<R>>, Error> {
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
    row::decode(bytes).map_err(|why| Error::Damaged {
        path: database.path().to_owned(),
        table: R::TABLE,
        key: key.to_owned(),
        why,
    })
}

/// Everything that is held in memory, and the number of the next change.
fn load(database: &Database) -> Result<(Image, u64, UsageBook), Error> {
    let fault = |e: redb::Error| Error::from(pilothouse_disk::Error::database(database.path())(e));
    let loader = Loader { database, transaction: database.read()? };
    let mut image = Image::load(&loader)?;
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

// ---- changing ----

/// A change in the making: what it sees is what it has put.
pub(crate) struct Draft<'a> {
    options: &'a Options,
    image: Image,
    writes: Vec<Write>,
    number: u64,
    now_ms: i64,
}

/// A row to be written, or removed.
struct Write {
    table: &'static str,
    key: String,
    row: Option<Vec<u8>>,
}

impl Draft<'_> {
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.options.limits.now()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Of a record that is made now.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { number: self.number, created_ms: self.now_ms, updated_ms: self.now_ms }
    }

    pub(crate) fn put<R: Held>(&mut self, row: R) {
        self.keep(&row);
        self.image.put(row);
    }

    pub(crate) fn remove<R: Held>(&mut self, key: &R::Key) {
        self.forget::<R>(key);
        self.image.remove::<R>(key);
    }

    /// Writes a row that is not in the image.
    pub(crate) fn keep<R: Row>(&mut self, row: &R) {
        let key = R::key_text(&row.key());
        self.writes.push(Write { table: R::TABLE, key, row: Some(row::encode(row)) });
    }

    /// Removes a row that is not in the image.
    pub(crate) fn forget<R: Row>(&mut self, key: &R::Key) {
        self.writes.push(Write { table: R::TABLE, key: R::key_text(key), row: None });
    }

    /// A project is one from the moment it is named.
    pub(crate) fn touch_project(&mut self, id: ProjectId) {
        if self.image.get::<Project>(&id).is_none() {
            self.put(Project { id, stamp: self.stamp() });
        }
    }

    pub(crate) fn check_quota(&self, resource: Resource, current: usize, quota: u64) -> Result<(), Error> {
        let current = current as u64;
        if current < quota { Ok(()) } else { Err(Error::Quota { resource, quota, current }) }
    }
}

impl Control {
    /// Makes a change and its entry of the audit trail, both or none; durable when it returns.
    pub(crate) fn change<T>(
        &self,
        by: &Actor,
        make: impl FnOnce(&mut Draft<'_>) -> Result<(T, Event), Error>,
    ) -> Result<T, Error> {
        let mut writer = self.writer.lock();
        let mut draft = self.draft(writer.next_number);
        let (value, event) = make(&mut draft)?;
        let entry = event.entry(draft.number, draft.now_ms, by);
        let gone = draft.writes.iter().filter(|write| write.row.is_none());
        let gone: Vec<(&str, &str)> = gone.map(|write| (write.table, write.key.as_str())).collect();
        copy::forget(self.database.path(), &gone)?;
        writer.is_copied = false;
        self.commit(&mut writer, draft, Some(&entry))?;
        if let Some(watcher) = self.watcher.get() {
            watcher(&entry);
        }
        Ok(value)
    }

    /// Notes a change of something that is kept elsewhere.
    pub fn note(&self, by: &Actor, event: Event) -> Result<(), Error> {
        self.change(by, |_| Ok(((), event)))
    }

    /// Writes figures, of which the audit trail says nothing.
    pub(crate) fn quietly(&self, make: impl FnOnce(&mut Draft<'_>)) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let mut draft = self.draft(writer.next_number);
        make(&mut draft);
        if draft.writes.is_empty() {
            return Ok(());
        }
        self.commit(&mut writer, draft, None)
    }

    fn draft(&self, number: u64) -> Draft<'_> {
        let image = (*self.image()).clone();
        Draft { options: &self.options, image, writes: Vec::new(), number, now_ms: self.now_ms() }
    }

    fn commit(
        &self,
        writer: &mut Writer,
        mut draft: Draft<'_>,
        entry: Option<&AuditEntry>,
    ) -> Result<(), Error> {
        self.write(writer, |transaction| {
            self.write_rows(transaction, &draft.writes)?;
            entry.map_or(Ok(()), |entry| self.write_audit(transaction, entry))
        })?;
        writer.next_number += u64::from(entry.is_some());
        let mut image = self.image.write();
        draft.image.renew_grants(&image);
        *image = Arc::new(draft.image);
        Ok(())
    }

    /// One transaction, all of it or nothing.
    fn write(
        &self,
        writer: &mut Writer,
        work: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let written = self.database.write(|transaction| {
            self.crash_point("begun");
            work(transaction)?;
            self.crash_point("written");
            Ok(())
        });
        match written {
            Ok(()) => self.crash_point("committed"),
            Err(_) => self.recover(writer),
        }
        written
    }

    fn write_rows(&self, transaction: &WriteTransaction, writes: &[Write]) -> Result<(), Error> {
        for write in writes {
            let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(write.table);
            let mut table = transaction.open_table(definition).map_err(|e| self.fault(e.into()))?;
            match &write.row {
                Some(row) => table.insert(write.key.as_str(), row.as_slice()).map(|_| ()),
                None => table.remove(write.key.as_str()).map(|_| ()),
            }
            .map_err(|e| self.fault(e.into()))?;
        }
        Ok(())
    }

    /// Appends an entry; the oldest one goes where there are too many.
    fn write_audit(&self, transaction: &WriteTransaction, entry: &AuditEntry) -> Result<(), Error> {
        let mut table = transaction.open_table(AUDIT).map_err(|e| self.fault(e.into()))?;
        table.insert(entry.number, row::encode(entry).as_slice()).map_err(|e| self.fault(e.into()))?;
        let oldest = entry.number.saturating_sub(self.options.limits.now().max_audit_entries);
        table.retain_in(..oldest, |_, _| false).map_err(|e| self.fault(e.into()))
    }

    /// A transaction of the workers' tables, which have no image. The copy has nothing any more of what
    /// is `gone`, by table and key.
    pub(crate) fn transact(
        &self,
        gone: &[(&str, &str)],
        work: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        copy::forget(self.database.path(), gone)?;
        writer.is_copied = false;
        self.write(&mut writer, work)
    }

    /// After a failed write: whether the commit took place is known to the file alone, and redb
    /// refuses everything until it is opened again.
    fn recover(&self, writer: &mut Writer) {
        let loaded = self.database.reopen().map_err(Error::from).and_then(|()| load(&self.database));
        match loaded {
            Ok((mut image, next_number, _)) => {
                let mut current = self.image.write();
                image.renew_grants(&current);
                *current = Arc::new(image);
                writer.next_number = next_number;
            }
            Err(e) => tracing::error!("the control plane cannot be read back after a failed write: {e}"),
        }
    }

    /// A place where a test may stop the process as a crash would.
    #[inline]
    fn crash_point(&self, name: &'static str) {
        #[cfg(test)]
        if let Some(points) = &*self.crash_points.lock() {
            points.reached(name);
        }
        let _ = name;
    }
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
