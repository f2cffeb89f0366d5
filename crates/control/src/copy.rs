//! What the control plane cannot do without, once more in a plain file beside the redb file: of that
//! one a single page may take all others along, and there is no second server to ask.
//!
//! Written about once a minute, from pages that are held against their checksums: what it says may be a
//! minute old. What is removed of the control
//! plane's own tables, and of the workers' those that let somebody in, goes from it before the caller
//! is told so. It is read where the redb file cannot be, see `salvage`. Sums of use and the audit
//! trail, but for its last entry, are not in it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use pilothouse_disk::remains::Remains;
use pilothouse_disk::{Database, files};
use pilothouse_model::limits::CONTROL_COPY_BYTES;
use redb::{TableDefinition, TableHandle as _};

use crate::control::AUDIT;
use crate::error::Error;
use crate::image::Image;
use crate::row::{Row as _, Unread};
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

/// Writes the copy anew, while nobody writes to the file. Fails where a page of what belongs there is not
/// what was written.
pub(crate) fn write(database: &Database) -> Result<(), Error> {
    let mut bytes = MAGIC.to_vec();
    let copying = Copying { path: database.path(), remains: database.remains()? };
    copying.all(&mut |kind, table, key, value| push(&mut bytes, kind, table, key, value))?;
    seal(database.path(), bytes)
}

fn seal(control: &Path, mut bytes: Vec<u8>) -> Result<(), Error> {
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    Ok(files::write_private(&path_of(control), &bytes)?)
}

/// Takes rows, named by table and key, out of the copy. One that cannot be read is set aside: it may
/// have what goes, and nothing is taken from there any more without a hand.
pub(crate) fn forget(control: &Path, gone: &[(&str, &str)]) -> Result<(), Error> {
    if gone.is_empty() {
        return Ok(());
    }
    let rows = match read(control) {
        Err(error @ Error::Copy { .. }) => {
            let aside = set_aside(control)?;
            tracing::error!(%error, aside = %aside.display(), "it was set aside");
            return Ok(());
        }
        read => read?,
    };
    let Some(rows) = rows else { return Ok(()) };
    let stays = |row: &&Kept| !gone.contains(&(row.table.as_str(), row.key.as_str()));
    if rows.iter().all(|row| stays(&row)) {
        return Ok(());
    }
    let mut bytes = MAGIC.to_vec();
    let kept = rows.iter().filter(stays);
    kept.for_each(|row| push(&mut bytes, row.kind, &row.table, &row.key, &row.value));
    seal(control, bytes)
}

pub(crate) fn set_aside(control: &Path) -> Result<PathBuf, Error> {
    Ok(files::set_aside(&path_of(control), "damaged")?)
}

/// Whether the file of a control plane has a copy beside it that is whole.
pub(crate) fn has_copy(control: &Path) -> bool {
    matches!(read(control), Ok(Some(_)))
}

/// Fails where the file is gone or empty and its copy, whole or not, is there: an empty file would soon be
/// copied over it.
pub(crate) fn refuse_gone(control: &Path) -> Result<(), Error> {
    if !files::is_absent_or_empty(control)? {
        return Ok(());
    }
    let why = match read(control) {
        Ok(None) => return Ok(()),
        Ok(Some(_)) => String::new(),
        Err(Error::Copy { why, .. }) => format!(", which cannot be read as a whole ({why})"),
        Err(error) => return Err(error),
    };
    Err(Error::Gone { path: control.to_owned(), copy: path_of(control), why })
}

/// What the copy holds; `None` if there is none. Fails with [`Error::Copy`] where it is damaged, or the
/// disk does not give it.
pub(crate) fn read(control: &Path) -> Result<Option<Vec<Kept>>, Error> {
    let path = path_of(control);
    let bytes = match files::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(pilothouse_disk::Error::io("read", &path)),
    };
    let parsed = match bytes {
        Err(e) if e.is_unreadable() || e.is_damage() => Err(Unread::Damaged(e.to_string())),
        bytes => parse(&bytes?),
    };
    parsed.map(Some).map_err(|unread| match unread {
        Unread::Damaged(why) => Error::Copy { path, why },
        Unread::Unknown(why) => Error::Unknown { path, what: "the copy".to_owned(), why },
    })
}

/// What can be told apart of a copy that is damaged: its rows up to the first that is none. None of them is
/// certain.
pub(crate) fn scraps(control: &Path) -> Vec<Kept> {
    let bytes = files::read(&path_of(control)).unwrap_or_default();
    rows_of(bytes.get(MAGIC.len()..).unwrap_or_default()).0
}

struct Copying<'a> {
    path: &'a Path,
    remains: Remains,
}

impl Copying<'_> {
    /// Gives kind, table, key and value of each row.
    fn all(&self, each: &mut impl FnMut(Kind, &str, &str, &[u8])) -> Result<(), Error> {
        for table in Image::TABLES.iter().chain([&TokenUseRow::TABLE]) {
            let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
            let row = |key: &str, value: &[u8]| each(Kind::Row, table, key, value);
            self.read(definition, row)?;
        }
        let mut last = None;
        self.read(AUDIT, |number, value| last = Some((number, value.to_vec())))?;
        if let Some((number, value)) = last {
            each(Kind::Audit, "", &number.to_string(), &value);
        }
        self.records(each)
    }

    /// Of the workers' tables the small ones first, as far as there is room: what is large is what
    /// makes itself anew, such as alerts that fire.
    fn records(&self, each: &mut impl FnMut(Kind, &str, &str, &[u8])) -> Result<(), Error> {
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        self.read(RECORDS, |(table, key), value| {
            let bytes = key.len() + value.len();
            match sizes.get_mut(table) {
                Some(size) => *size += bytes,
                None => drop(sizes.insert(table.to_owned(), bytes)),
            }
        })?;
        let mut by_size: Vec<(usize, String)> =
            sizes.into_iter().map(|(table, bytes)| (bytes, table)).collect();
        by_size.sort_unstable();
        let (mut taken, mut left) = (Vec::new(), CONTROL_COPY_BYTES);
        for (bytes, table) in by_size {
            let Some(rest) = left.checked_sub(bytes) else { break };
            left = rest;
            taken.push(table);
        }
        self.read(RECORDS, |(table, key), value| {
            if taken.iter().any(|taken| taken == table) {
                each(Kind::Record, table, key, value);
            }
        })
    }

    fn read<K: redb::Key + 'static>(
        &self,
        table: TableDefinition<'_, K, &'static [u8]>,
        mut each: impl FnMut(K::SelfType<'_>, &[u8]),
    ) -> Result<(), Error> {
        let gaps = self.remains.each(table, |key, value, is_certain| {
            if is_certain {
                each(key, value);
            }
        });
        Ok(gaps.refuse(table.name(), self.path)?)
    }
}

fn push(out: &mut Vec<u8>, kind: Kind, table: &str, key: &str, value: &[u8]) {
    out.push(kind as u8);
    for part in [table.as_bytes(), key.as_bytes(), value] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Kept>, Unread> {
    let damaged = |why: &str| Unread::Damaged(why.to_owned());
    let (content, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*sum) {
        return Err(damaged("its checksum is wrong"));
    }
    let unknown = || Unread::Unknown("it has a format that this release does not know".to_owned());
    match rows_of(content.strip_prefix(MAGIC).ok_or_else(unknown)?) {
        (rows, true) => Ok(rows),
        (_, false) => Err(unknown()),
    }
}

/// Rows up to the first that is none, and whether that was the end.
fn rows_of(mut bytes: &[u8]) -> (Vec<Kept>, bool) {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let Some(row) = take_row(&mut bytes) else { return (rows, false) };
        rows.push(row);
    }
    (rows, true)
}

fn take_row(bytes: &mut &[u8]) -> Option<Kept> {
    let (kind, mut rest) = bytes.split_first()?;
    let kind = [Kind::Row, Kind::Record, Kind::Audit].into_iter().find(|k| *k as u8 == *kind)?;
    let mut part = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        Some(part.to_vec())
    };
    let (table, key, value) = (part()?, part()?, part()?);
    *bytes = rest;
    let (table, key) = (String::from_utf8(table).ok()?, String::from_utf8(key).ok()?);
    Some(Kept { kind, table, key, value })
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
        rows.iter().for_each(|row| push(&mut bytes, row.kind, &row.table, &row.key, &row.value));
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        assert_eq!(parse(&bytes).as_deref(), Ok(&rows[..]));
        for at in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..at]), Err(Unread::Damaged(_))), "{at}");
            bytes[at] ^= 1;
            assert!(matches!(parse(&bytes), Err(Unread::Damaged(_))), "{at}");
            bytes[at] ^= 1;
        }
        // Whole, and of another release.
        for (at, byte) in [(MAGIC.len() - 2, b'2'), (MAGIC.len(), 9)] {
            let mut bytes = bytes[..bytes.len() - 4].to_vec();
            bytes[at] = byte;
            bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
            assert!(matches!(parse(&bytes), Err(Unread::Unknown(_))), "{at}");
        }
    }
}
