//! A damaged file of the control plane: what can be read of it goes to a fresh one.
//!
//! A row is taken over if it decodes. Of a table that cannot be read to its end, what is missing comes
//! from the copy beside the file, if that is whole. What neither has stays lost: a token that is not
//! there is refused, a data source that is not there leaves its directory alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilothouse_disk::remains::Remains;
use pilothouse_disk::{Database, files};

use crate::audit::AuditEntry;
use crate::control::{AUDIT, CACHE_BYTES, KIND, VERSION, make_tables, table_of};
use crate::copy::{self, Kept, Kind};
use crate::error::Error;
use crate::image::{Image, LoadTable};
use crate::row::{self, Row};
use crate::state::RECORDS;
use crate::token::TokenUseRow;
use crate::usage::UsageRow;

/// Begins of keys: most are UUIDs, all are printable.
const PRINTABLE: std::ops::RangeInclusive<u8> = b'!'..=b'~';
/// Entries of the audit trail that are read as one piece.
const AUDIT_STEP: usize = 16;
/// More of them than any limit keeps.
const AUDIT_MAX: u64 = 1 << 20;

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
/// can be read; the damaged one gets another name. Where nothing can be read there is no file afterwards,
/// and the next start makes an empty one.
pub fn salvage(path: &Path) -> Result<Salvaged, Error> {
    let mut salvage = Salvage::default();
    // Of an empty file a database is made that lacks nothing.
    if files::is_absent_or_empty(path)? {
        files::write_private(path, b"")?;
        salvage.tell_all();
    } else {
        match Remains::open(path) {
            Ok(remains) => salvage.read(remains)?,
            Err(_) => salvage.tell_all(),
        }
    }
    let copied = salvage.add_copied(copy::read(path).unwrap_or_default());
    let (rows, incomplete) = (salvage.count(), salvage.incomplete.take());
    if rows == 0 {
        return Ok(Salvaged { rows, copied, incomplete, aside: files::set_aside(path, "damaged")? });
    }
    let fresh = path.with_extension("salvaged");
    files::remove(&fresh)?;
    salvage.write(&fresh)?;
    // Secrets of checks are in there.
    let permissions = fs::metadata(path).map(|m| m.permissions());
    let failed = |source| pilothouse_disk::Error::Io { action: "protect", path: fresh.clone(), source };
    permissions.and_then(|permissions| fs::set_permissions(&fresh, permissions)).map_err(failed)?;
    let aside = files::keep_aside(path, "damaged")?;
    files::rename_durably(&fresh, path)?;
    Ok(Salvaged { rows, copied, incomplete, aside })
}

#[derive(Debug, Default)]
struct Salvage {
    /// Rows of the tables that are held in memory, by table.
    rows: RefCell<Vec<(&'static str, String, Vec<u8>)>>,
    audit: Vec<(u64, Vec<u8>)>,
    /// By the worker's table and its key.
    records: BTreeMap<(String, String), Vec<u8>>,
    incomplete: RefCell<Vec<(&'static str, u64)>>,
}

struct Reading<'a> {
    salvage: &'a Salvage,
    remains: RefCell<Remains>,
}

impl LoadTable<Error> for Reading<'_> {
    fn table<R: Row>(&self) -> Result<BTreeMap<R::Key, Arc<R>>, Error> {
        let bounds: Vec<String> = begins().collect();
        let mut lost = 0;
        let take = |key: &str, bytes: &[u8]| match row::decode::<R>(bytes) {
            Ok(row) if R::key_text(&row.key()) == key => {
                self.salvage.rows.borrow_mut().push((R::TABLE, key.to_owned(), bytes.to_vec()));
            }
            _ => lost += 1,
        };
        let bounds = bounds.iter().map(String::as_str);
        let is_whole = self.remains.borrow_mut().each(table_of::<R>(), bounds, take);
        self.salvage.tell(R::TABLE, is_whole, lost);
        Ok(BTreeMap::new())
    }
}

/// One printable character, then two hexadecimal digits where a UUID may begin.
fn begins() -> impl Iterator<Item = String> {
    PRINTABLE.map(char::from).flat_map(|first| {
        let second = "123456789abcdef".chars().map(move |second| format!("{first}{second}"));
        let second = if first.is_ascii_hexdigit() { Some(second) } else { None };
        std::iter::once(first.to_string()).chain(second.into_iter().flatten())
    })
}

/// Which rows of the copy decode, by table and key: it was written from what may have been damaged
/// already, and a release before this one may not know what a later one has written.
struct Decodable<'a> {
    copied: &'a [Kept],
    rows: RefCell<HashSet<(String, String)>>,
}

impl<'a> Decodable<'a> {
    fn of(copied: &'a [Kept]) -> HashSet<(String, String)> {
        let decodable = Self { copied, rows: RefCell::default() };
        let tables = Image::load(&decodable).and_then(|_| decodable.table::<TokenUseRow>());
        drop(tables);
        decodable.rows.into_inner()
    }
}

impl LoadTable<Error> for Decodable<'_> {
    fn table<R: Row>(&self) -> Result<BTreeMap<R::Key, Arc<R>>, Error> {
        let rows = self.copied.iter().filter(|kept| kept.kind == Kind::Row && kept.table == R::TABLE);
        let decodes =
            |kept: &&Kept| row::decode::<R>(&kept.value).is_ok_and(|row| R::key_text(&row.key()) == kept.key);
        self.rows
            .borrow_mut()
            .extend(rows.filter(decodes).map(|kept| (kept.table.clone(), kept.key.clone())));
        Ok(BTreeMap::new())
    }
}

impl Salvage {
    fn tell(&self, table: &'static str, is_whole: bool, lost: u64) {
        if !is_whole || lost > 0 {
            self.incomplete.borrow_mut().push((table, lost));
        }
    }

    /// Nothing can be read of any table.
    fn tell_all(&self) {
        let tables = Image::TABLES.iter().copied();
        let others = [TokenUseRow::TABLE, UsageRow::TABLE, AuditEntry::TABLE, WORKERS];
        tables.chain(others).for_each(|table| self.tell(table, false, 0));
    }

    /// Adds what tables with lost rows lack; gives how many rows that are.
    fn add_copied(&mut self, copied: Vec<Kept>) -> u64 {
        let before = self.count();
        let incomplete: Vec<&'static str> =
            self.incomplete.borrow().iter().map(|(table, _)| *table).collect();
        let rows = self.rows.get_mut();
        let known: HashSet<(&'static str, String)> = rows.iter().map(|(t, k, _)| (*t, k.clone())).collect();
        let decodable = Decodable::of(&copied);
        for Kept { kind, table, key, value } in copied {
            match kind {
                Kind::Row => {
                    let place = (table, key);
                    if !decodable.contains(&place) {
                        continue;
                    }
                    let Some(table) = incomplete.iter().find(|t| **t == place.0) else { continue };
                    let place = (*table, place.1);
                    if !known.contains(&place) {
                        rows.push((place.0, place.1, value));
                    }
                }
                Kind::Record if incomplete.contains(&WORKERS) => {
                    self.records.entry((table, key)).or_insert(value);
                }
                Kind::Record => {}
                // Numbers go on from there.
                Kind::Audit => match key.parse() {
                    Ok(number)
                        if row::decode::<AuditEntry>(&value).is_ok()
                            && self.audit.iter().all(|(n, _)| *n < number) =>
                    {
                        self.audit.push((number, value))
                    }
                    _ => {}
                },
            }
        }
        self.count() - before
    }

    fn count(&self) -> u64 {
        (self.rows.borrow().len() + self.audit.len() + self.records.len()) as u64
    }

    fn read(&mut self, remains: Remains) -> Result<(), Error> {
        let reading = Reading { salvage: self, remains: RefCell::new(remains) };
        Image::load(&reading)?;
        reading.table::<TokenUseRow>()?;
        reading.table::<UsageRow>()?;
        let mut remains = reading.remains.into_inner();
        self.read_audit(&mut remains);
        self.read_records(&mut remains);
        Ok(())
    }

    fn read_audit(&mut self, remains: &mut Remains) {
        // In one piece where that goes: numbers grow for ever.
        if self.read_audit_by(remains, 0) {
            return;
        }
        self.audit.clear();
        self.read_audit_by(remains, AUDIT_MAX);
    }

    fn read_audit_by(&mut self, remains: &mut Remains, upto: u64) -> bool {
        let mut lost = 0;
        let bounds = (0..upto).step_by(AUDIT_STEP);
        let is_whole = remains.each(AUDIT, bounds, |number, bytes| match row::decode::<AuditEntry>(bytes) {
            Ok(entry) if entry.number == number => self.audit.push((number, bytes.to_vec())),
            _ => lost += 1,
        });
        if is_whole || upto > 0 {
            self.tell(AuditEntry::TABLE, is_whole, lost);
        }
        is_whole
    }

    /// What the bytes of a worker mean is the worker's: they are taken as they are.
    fn read_records(&mut self, remains: &mut Remains) {
        let mut visit = |(table, key): (&str, &str), bytes: &[u8]| {
            self.records.insert((table.to_owned(), key.to_owned()), bytes.to_vec());
        };
        let letters: Vec<String> = begins().collect();
        let mut is_whole = remains.each(RECORDS, letters.iter().map(|l| (l.as_str(), "")), &mut visit);
        if !is_whole {
            // Once more, in smaller pieces of the tables that are known now.
            let tables: std::collections::BTreeSet<String> =
                self.records.keys().map(|(table, _)| table.clone()).collect();
            let pairs = tables.iter().flat_map(|t| letters.iter().map(move |l| (t.as_str(), l.as_str())));
            let mut more = BTreeMap::new();
            is_whole = remains.each(RECORDS, pairs, |(table, key), bytes| {
                more.insert((table.to_owned(), key.to_owned()), bytes.to_vec());
            });
            self.records.extend(more);
        }
        self.tell(WORKERS, is_whole, 0);
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let database = Database::open(path, KIND, VERSION, CACHE_BYTES)?;
        make_tables(&database)?;
        database.write(|transaction| {
            let fault = |e: redb::Error| Error::from(pilothouse_disk::Error::database(path)(e));
            for (table, key, bytes) in &*self.rows.borrow() {
                let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new(table);
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
