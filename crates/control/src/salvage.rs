//! A damaged file of the control plane: what is certain of it goes to a fresh one.
//!
//! Certain is a row whose pages have the right checksums, and that decodes. What may have been in the other
//! pages, and only that, comes from the copy beside the file. Where there is none, rows of those other
//! pages are taken too if they decode. What neither has stays lost: a token that is not there is
//! refused, a data source that is not there leaves its directory alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilothouse_disk::remains::{Gaps, Remains};
use pilothouse_disk::{Database, files};
use redb::TableDefinition;

use crate::audit::AuditEntry;
use crate::control::{AUDIT, CACHE_BYTES, KIND, VERSION, make_tables, table_of};
use crate::copy::{self, Kept, Kind};
use crate::error::Error;
use crate::image::{Image, LoadTable};
use crate::row::{self, Row, Unread};
use crate::state::RECORDS;
use crate::token::TokenUseRow;
use crate::usage::UsageRow;

/// The workers' records, as they are told of.
const WORKERS: &str = "records";

/// What became of a damaged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    pub rows: u64,
    /// Of them from the copy.
    pub copied: u64,
    /// Tables of which some rows cannot be read, with how many are known to be lost.
    pub incomplete: Vec<(&'static str, u64)>,
    /// Where the damaged file is now.
    pub aside: PathBuf,
}

/// Puts a fresh file in the place of a damaged or missing one that nobody has open, with all rows that
/// can be read. Where nothing can be read there is no file afterwards, and the next start makes an empty
/// one. Of a copy that is damaged, too, what decodes is taken; it is set aside then.
pub fn salvage(path: &Path) -> Result<Salvaged, Error> {
    let (copy, scraps) = match copy::read(path) {
        Err(Error::Copy { .. }) => (None, Some(copy::scraps(path))),
        read => (read?, None),
    };
    let is_damaged = scraps.is_some();
    let saved = Salvage::made_of(path, copy, scraps.unwrap_or_default())?.write(path)?;
    if is_damaged {
        copy::set_aside(path)?;
    }
    Ok(saved)
}

/// The tables of a file that nobody has open which lack rows, or have some that make no sense, with the number of
/// those. Changes nothing.
pub fn incomplete(path: &Path) -> Result<Vec<(&'static str, u64)>, Error> {
    Ok(Salvage::of(path)?.incomplete)
}

/// What a fresh file shall hold.
#[derive(Debug)]
pub(crate) struct Salvage {
    /// By table and key.
    rows: BTreeMap<(&'static str, String), Vec<u8>>,
    audit: BTreeMap<u64, Vec<u8>>,
    /// By the worker's table and its key.
    records: BTreeMap<(String, String), Vec<u8>>,
    copied: u64,
    incomplete: Vec<(&'static str, u64)>,
    has_copy: bool,
}

/// What it is made from.
struct Reading<'a> {
    path: &'a Path,
    /// `None` where there is not even a header.
    remains: Option<Remains>,
    /// `None` where there is none that is whole.
    copy: Option<Vec<Kept>>,
    /// Of one that is damaged.
    scraps: Vec<Kept>,
    into: Salvage,
}

impl Salvage {
    /// Reads a file that nobody writes to, and its copy if that is whole. Fails with [`Error::Unknown`]
    /// where it would leave out what another release wrote.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let copy = match copy::read(path) {
            Err(error @ Error::Copy { .. }) => {
                tracing::error!("{error}");
                None
            }
            read => read?,
        };
        Self::made_of(path, copy, Vec::new())
    }

    fn made_of(path: &Path, copy: Option<Vec<Kept>>, scraps: Vec<Kept>) -> Result<Self, Error> {
        let remains = match Remains::open(path) {
            Err(e) if !e.is_damage() && !e.is_unreadable() && !files::is_absent_or_empty(path)? => {
                return Err(e.into());
            }
            opened => opened.ok(),
        };
        let into = Self {
            rows: BTreeMap::new(),
            audit: BTreeMap::new(),
            records: BTreeMap::new(),
            copied: 0,
            incomplete: Vec::new(),
            has_copy: copy.is_some(),
        };
        let mut reading = Reading { path, remains, copy, scraps, into };
        Image::load(&mut reading)?;
        reading.table::<TokenUseRow>()?;
        reading.table::<UsageRow>()?;
        reading.audit();
        reading.records();
        Ok(reading.into)
    }

    pub(crate) fn has_copy(&self) -> bool {
        self.has_copy
    }

    pub(crate) fn lacks_nothing(&self) -> bool {
        self.incomplete.is_empty()
    }

    /// Takes the rows that an image holds from there.
    pub(crate) fn know(&mut self, image: &Image) {
        let is_held = |table: &&str| Image::TABLES.contains(table);
        self.rows.retain(|(table, _), _| !is_held(table));
        self.incomplete.retain(|(table, _)| !is_held(table));
        image.each_row(|table, key, row| drop(self.rows.insert((table, key), row)));
    }

    fn count(&self) -> u64 {
        (self.rows.len() + self.audit.len() + self.records.len()) as u64
    }

    /// Puts it in the place of the file, which gets another name.
    pub(crate) fn write(self, path: &Path) -> Result<Salvaged, Error> {
        if files::is_absent_or_empty(path)? {
            files::write_private(path, b"")?;
        }
        let rows = self.count();
        let aside = if rows == 0 { files::set_aside(path, "damaged")? } else { self.replace(path)? };
        Ok(Salvaged { rows, copied: self.copied, incomplete: self.incomplete, aside })
    }

    fn replace(&self, path: &Path) -> Result<PathBuf, Error> {
        let fresh = path.with_extension("salvaged");
        files::remove(&fresh)?;
        self.fill(&fresh)?;
        // Secrets of checks are in there.
        let permissions = fs::metadata(path).map(|m| m.permissions());
        let failed = |source| pilothouse_disk::Error::Io { action: "protect", path: fresh.clone(), source };
        permissions.and_then(|permissions| fs::set_permissions(&fresh, permissions)).map_err(failed)?;
        let aside = files::keep_aside(path, "damaged")?;
        files::rename_durably(&fresh, path)?;
        Ok(aside)
    }

    fn fill(&self, path: &Path) -> Result<(), Error> {
        let database = Database::open(path, KIND, VERSION, CACHE_BYTES)?;
        make_tables(&database)?;
        database.write(|transaction| {
            let fault = |e: redb::Error| Error::from(pilothouse_disk::Error::database(path)(e));
            for ((table, key), bytes) in &self.rows {
                let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
                let mut table = transaction.open_table(table).map_err(|e| fault(e.into()))?;
                table.insert(key.as_str(), bytes.as_slice()).map_err(|e| fault(e.into()))?;
            }
            let mut audit = transaction.open_table(AUDIT).map_err(|e| fault(e.into()))?;
            for (number, bytes) in &self.audit {
                audit.insert(number, bytes.as_slice()).map_err(|e| fault(e.into()))?;
            }
            let mut records = transaction.open_table(RECORDS).map_err(|e| fault(e.into()))?;
            for ((table, key), bytes) in &self.records {
                let key = (table.as_str(), key.as_str());
                records.insert(key, bytes.as_slice()).map_err(|e| fault(e.into()))?;
            }
            Ok(())
        })
    }
}

impl Reading<'_> {
    /// Visits the rows that are believed; what is not certain only where there is no copy.
    fn each<K: redb::Key + 'static>(
        &self,
        table: TableDefinition<'_, K, &'static [u8]>,
        mut visit: impl FnMut(K::SelfType<'_>, &[u8], bool),
    ) -> Gaps<K> {
        let Some(remains) = &self.remains else { return Gaps::all() };
        remains.each(table, |key, bytes, is_certain| {
            if is_certain || self.copy.is_none() {
                visit(key, bytes, is_certain);
            }
        })
    }

    fn kept(&self, kind: Kind) -> impl Iterator<Item = &Kept> {
        self.copy.iter().flatten().chain(&self.scraps).filter(move |kept| kept.kind == kind)
    }

    fn tell(&mut self, table: &'static str, is_whole: bool, lost: u64) {
        if !is_whole || lost > 0 {
            self.into.incomplete.push((table, lost));
        }
    }

    fn audit(&mut self) {
        let (mut entries, mut lost) = (BTreeMap::new(), 0);
        let gaps = self.each(AUDIT, |number, bytes, is_certain| {
            // Nothing but a reader of the trail has to understand one.
            let is_row = match row::judge::<AuditEntry>(&number.to_string(), bytes) {
                Err(Unread::Unknown(_)) => is_certain,
                judged => judged.is_ok(),
            };
            if !is_row {
                lost += 1;
            } else if is_certain || !entries.contains_key(&number) {
                entries.insert(number, bytes.to_vec());
            }
        });
        // Numbers go on from the last one.
        let newest = entries.keys().next_back().copied().unwrap_or_default();
        let last = self.kept(Kind::Audit).find_map(|kept| {
            let number = kept.key.parse().ok().filter(|number| *number > newest)?;
            let judged = row::judge::<AuditEntry>(&kept.key, &kept.value);
            judged.is_ok().then(|| (number, kept.value.clone()))
        });
        self.into.copied += u64::from(last.is_some());
        entries.extend(last);
        self.into.audit = entries;
        self.tell(AuditEntry::TABLE, gaps.is_empty(), lost);
    }

    /// What the bytes of a worker mean is the worker's: they are taken as they are.
    fn records(&mut self) {
        let mut records = BTreeMap::new();
        let gaps = self.each(RECORDS, |(table, key), bytes, is_certain| {
            let place = (table.to_owned(), key.to_owned());
            if is_certain || !records.contains_key(&place) {
                records.insert(place, bytes.to_vec());
            }
        });
        let read = records.len();
        for Kept { table, key, value, .. } in self.kept(Kind::Record) {
            if gaps.may_hold(&(table.as_str(), key.as_str())) {
                records.entry((table.clone(), key.clone())).or_insert_with(|| value.clone());
            }
        }
        self.into.copied += (records.len() - read) as u64;
        self.into.records = records;
        self.tell(WORKERS, gaps.is_empty(), 0);
    }
}

impl LoadTable<Error> for Reading<'_> {
    fn table<R: Row>(&mut self) -> Result<BTreeMap<R::Key, Arc<R>>, Error> {
        let (mut rows, mut lost, mut unknown) = (BTreeMap::new(), 0, None);
        let gaps = self.each(table_of::<R>(), |key, bytes, is_certain| match row::judge::<R>(key, bytes) {
            Ok(()) if is_certain || !rows.contains_key(key) => {
                rows.insert(key.to_owned(), bytes.to_vec());
            }
            Ok(()) => {}
            Err(unread @ Unread::Unknown(_)) if is_certain => {
                unknown.get_or_insert(Error::unread(self.path, R::TABLE, key, unread));
            }
            Err(_) => lost += 1,
        });
        let read = rows.len();
        // A row that makes no sense does not say either which one it was.
        for Kept { key, value, .. } in self.kept(Kind::Row).filter(|kept| kept.table == R::TABLE) {
            if lost == 0 && !gaps.may_hold(&key.as_str()) {
                continue;
            }
            match row::judge::<R>(key, value) {
                Ok(()) => drop(rows.entry(key.clone()).or_insert_with(|| value.clone())),
                Err(unread @ Unread::Unknown(_)) if self.copy.is_some() => {
                    let copy = copy::path_of(self.path);
                    unknown.get_or_insert(Error::unread(&copy, R::TABLE, key, unread));
                }
                Err(_) => {}
            }
        }
        if let Some(unknown) = unknown {
            return Err(unknown);
        }
        self.into.copied += (rows.len() - read) as u64;
        self.into.rows.extend(rows.into_iter().map(|(key, row)| ((R::TABLE, key), row)));
        self.tell(R::TABLE, gaps.is_empty(), lost);
        Ok(BTreeMap::new())
    }
}
