//! What the control plane cannot do without, once more in a plain file beside the redb file: of that
//! one a single page may take all others along, and there is no second server to ask.
//!
//! Written about once a minute: what it says may be a minute old. What is removed of the control
//! plane's own tables, and of the workers' those that let somebody in, goes from it before the caller
//! is told so. It is read where the redb file cannot be, see `salvage`. Sums of use and the audit
//! trail, but for its last entry, are not in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pilothouse_disk::{Database, files};
use pilothouse_model::limits::CONTROL_COPY_BYTES;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition};

use crate::control::AUDIT;
use crate::error::Error;
use crate::image::Image;
use crate::row::Row as _;
use crate::state::RECORDS;
use crate::token::TokenUseRow;

const MAGIC: &[u8] = b"pilothouse-control-copy 1\n";

/// One row of the redb file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) kind: Kind,
    /// The table; of a record that of its worker.
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Row = 1,
    Record = 2,
    /// Of the audit trail, with its number as the key.
    Audit = 3,
}

pub(crate) fn path_of(control: &Path) -> PathBuf {
    control.with_extension("copy")
}

/// Writes the copy anew.
pub(crate) fn write(database: &Database) -> Result<(), Error> {
    let mut bytes = MAGIC.to_vec();
    let copying = Copying { database, transaction: database.read()?, left: CONTROL_COPY_BYTES };
    copying.all(&mut |row| push(&mut bytes, row))?;
    seal(database.path(), bytes)
}

fn seal(control: &Path, mut bytes: Vec<u8>) -> Result<(), Error> {
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    Ok(files::write_private(&path_of(control), &bytes)?)
}

/// Takes rows, named by table and key, out of the copy, if there is one that is whole.
pub(crate) fn forget(control: &Path, gone: &[(&str, &str)]) -> Result<(), Error> {
    let Some(rows) = (if gone.is_empty() { None } else { read(control) }) else { return Ok(()) };
    let stays = |row: &&Kept| !gone.contains(&(row.table.as_str(), row.key.as_str()));
    if rows.iter().all(|row| stays(&row)) {
        return Ok(());
    }
    let mut bytes = MAGIC.to_vec();
    rows.iter().filter(stays).for_each(|row| push(&mut bytes, row));
    seal(control, bytes)
}

/// Whether the file of a control plane has a copy beside it that is whole.
pub fn has_copy(control: &Path) -> bool {
    read(control).is_some()
}

/// What the copy holds; `None` if there is none that is whole.
pub(crate) fn read(control: &Path) -> Option<Vec<Kept>> {
    parse(&files::read(&path_of(control)).ok()?)
}

struct Copying<'a> {
    database: &'a Database,
    transaction: ReadTransaction,
    /// Bytes that records may take.
    left: usize,
}

impl Copying<'_> {
    fn fault(&self, e: redb::Error) -> Error {
        pilothouse_disk::Error::database(self.database.path())(e).into()
    }

    fn all(mut self, each: &mut impl FnMut(&Kept)) -> Result<(), Error> {
        for table in Image::TABLES.iter().chain([&TokenUseRow::TABLE]) {
            let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
            let rows = self.transaction.open_table(definition).map_err(|e| self.fault(e.into()))?;
            for row in rows.iter().map_err(|e| self.fault(e.into()))? {
                let (key, value) = row.map_err(|e| self.fault(e.into()))?;
                let (key, value) = (key.value().to_owned(), value.value().to_vec());
                each(&Kept { kind: Kind::Row, table: (*table).to_owned(), key, value });
            }
        }
        let audit = self.transaction.open_table(AUDIT).map_err(|e| self.fault(e.into()))?;
        if let Some((number, value)) = audit.last().map_err(|e| self.fault(e.into()))? {
            let (key, value) = (number.value().to_string(), value.value().to_vec());
            each(&Kept { kind: Kind::Audit, table: String::new(), key, value });
        }
        self.records(each)
    }

    /// Of the workers' tables the small ones first, as far as there is room: what is large is what
    /// makes itself anew, such as alerts that fire.
    fn records(&mut self, each: &mut impl FnMut(&Kept)) -> Result<(), Error> {
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        self.each_record(&mut |table, key, value| {
            *sizes.entry(table.to_owned()).or_default() += key.len() + value.len();
        })?;
        let mut by_size: Vec<(usize, String)> =
            sizes.into_iter().map(|(table, bytes)| (bytes, table)).collect();
        by_size.sort_unstable();
        let mut taken = Vec::new();
        for (bytes, table) in by_size {
            let Some(left) = self.left.checked_sub(bytes) else { break };
            self.left = left;
            taken.push(table);
        }
        self.each_record(&mut |table, key, value| {
            if taken.iter().any(|taken| taken == table) {
                let (table, key, value) = (table.to_owned(), key.to_owned(), value.to_vec());
                each(&Kept { kind: Kind::Record, table, key, value });
            }
        })
    }

    fn each_record(&self, each: &mut impl FnMut(&str, &str, &[u8])) -> Result<(), Error> {
        let records = self.transaction.open_table(RECORDS).map_err(|e| self.fault(e.into()))?;
        for row in records.iter().map_err(|e| self.fault(e.into()))? {
            let (key, value) = row.map_err(|e| self.fault(e.into()))?;
            let (table, key) = key.value();
            each(table, key, value.value());
        }
        Ok(())
    }
}

fn push(out: &mut Vec<u8>, row: &Kept) {
    out.push(row.kind as u8);
    for part in [row.table.as_bytes(), row.key.as_bytes(), &row.value] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Kept>> {
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut rows = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        rest = after;
        let kind = [Kind::Row, Kind::Record, Kind::Audit].into_iter().find(|k| *k as u8 == *kind)?;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            Some(part.to_vec())
        };
        let (table, key, value) = (part()?, part()?, part()?);
        rows.push(Kept {
            kind,
            table: String::from_utf8(table).ok()?,
            key: String::from_utf8(key).ok()?,
            value,
        });
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_as_a_whole_or_not_at_all() {
        let row = |kind, table: &str, key: &str| Kept {
            kind,
            table: table.to_owned(),
            key: key.to_owned(),
            value: vec![7; 40],
        };
        let rows =
            [row(Kind::Row, "tokens", "a"), row(Kind::Record, "rules", "é"), row(Kind::Audit, "", "17")];
        let mut bytes = MAGIC.to_vec();
        rows.iter().for_each(|row| push(&mut bytes, row));
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        assert_eq!(parse(&bytes).as_deref(), Some(&rows[..]));
        for at in 0..bytes.len() {
            assert_eq!(parse(&bytes[..at]), None, "{at}");
            bytes[at] ^= 1;
            assert_eq!(parse(&bytes), None, "{at}");
            bytes[at] ^= 1;
        }
    }
}
