//! The distinct sets of structured metadata of a block: numbered while entries come in, written
//! by columns, and read back only for the names that are asked for.

use hashbrown::HashMap;
use pilothouse_model::Labels;
use pilothouse_model::logs::MetadataNeed;
use zstd::bulk::{Compressor, Decompressor};

use super::bytes::{Cursor, begin_sealed, push_slice, push_varint, seal, size, unseal};
use super::columns::{Planes, compress_onto, decompress_into, novelty, push_planes, undo_novelty};
use super::{BlockError, MAX_METADATA_BYTES};

/// Which names of metadata occur in a block, by a bit of the CRC-32C of each: enough to know that
/// none of those a query asks for is there. Kept where blocks are chosen, as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetadataNames(pub u64);

impl MetadataNames {
    pub fn insert(&mut self, name: &str) {
        self.0 |= 1 << (crc32c::crc32c(name.as_bytes()) % 64);
    }

    /// Whether entries may have any of what is needed; if not, the block may be read as if they
    /// had no metadata.
    pub fn may_have(self, need: &MetadataNeed) -> bool {
        match need {
            MetadataNeed::Nothing => false,
            MetadataNeed::All => self.0 != 0,
            MetadataNeed::Named(names) => names.iter().any(|name| {
                let mut one = Self::default();
                one.insert(name);
                self.0 & one.0 != 0
            }),
        }
    }
}

/// Numbers sets by their first occurrence.
#[derive(Debug, Default)]
pub(super) struct SetTable {
    sets: Vec<(Labels, u32)>,
    numbers: HashMap<Labels, u32, foldhash::fast::RandomState>,
    last: u32,
    bytes: usize,
}

impl SetTable {
    /// The number of a set, and the bytes of its names and values.
    #[inline]
    pub(super) fn number(&mut self, set: &Labels) -> Result<(u32, u32), BlockError> {
        if let Some((last, bytes)) = self.sets.get(self.last as usize)
            && last == set
        {
            return Ok((self.last, *bytes));
        }
        self.look_up(set)
    }

    fn look_up(&mut self, set: &Labels) -> Result<(u32, u32), BlockError> {
        if let Some(number) = self.numbers.get(set) {
            self.last = *number;
            let bytes = self.sets.get(*number as usize).map_or(0, |(_, bytes)| *bytes);
            return Ok((*number, bytes));
        }
        // What a set takes in the worst case, with the numbers beside its texts.
        let bytes: usize = set.iter().map(|(name, value)| name.len() + value.len()).sum();
        let room = bytes + PAIR_ROOM * set.len() + 8;
        if self.bytes + room > MAX_METADATA_BYTES {
            return Err(BlockError::TooLarge);
        }
        self.bytes += room;
        self.last = self.sets.len() as u32;
        self.numbers.insert(set.clone(), self.last);
        self.sets.push((set.clone(), bytes as u32));
        Ok((self.last, bytes as u32))
    }

    pub(super) fn clear(&mut self) {
        self.sets.clear();
        self.numbers.clear();
        (self.last, self.bytes) = (0, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether any entry has metadata.
    pub(super) fn is_needed(&self) -> bool {
        self.sets.iter().any(|(set, _)| !set.is_empty())
    }

    pub(super) fn names(&self) -> MetadataNames {
        let mut names = MetadataNames::default();
        self.sets.iter().flat_map(|(set, _)| set.iter()).for_each(|(name, _)| names.insert(name));
        names
    }

    /// The frame; empty if it is not needed.
    pub(super) fn encode(
        &self,
        scratch: &mut Vec<u8>,
        zstd: &mut Compressor<'static>,
    ) -> Result<Vec<u8>, BlockError> {
        let mut frame = Vec::new();
        if !self.is_needed() {
            return Ok(frame);
        }
        let pairs = || self.sets.iter().flat_map(|(set, _)| set.iter());
        let mut names: Vec<&str> = pairs().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        let in_columns = names.len() * self.sets.len() <= most_cells(pairs().count());
        let mut payload = Vec::with_capacity(self.bytes / 2);
        payload.push(if in_columns { COLUMNS } else { ROWS });
        push_varint(&mut payload, names.len() as u64);
        names.iter().for_each(|name| push_slice(&mut payload, name.as_bytes()));
        let numbers: NameNumbers<'_> = names.iter().enumerate().map(|(i, name)| (*name, i)).collect();
        if in_columns {
            self.columns(&numbers, &mut payload, scratch, zstd)?;
        } else {
            self.rows(&numbers, &mut payload);
        }
        if payload.len() > MAX_METADATA_BYTES {
            return Err(BlockError::TooLarge);
        }
        begin_sealed(&mut frame);
        push_varint(&mut frame, payload.len() as u64);
        compress_onto(&mut frame, &payload, zstd)?;
        seal(&mut frame);
        Ok(frame)
    }

    /// For each name a column with a cell for every set.
    fn columns(
        &self,
        names: &NameNumbers<'_>,
        out: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
        zstd: &mut Compressor<'static>,
    ) -> Result<(), BlockError> {
        let n = self.sets.len();
        let mut cells: Vec<&str> = vec![""; names.len() * n];
        for (row, (set, _)) in self.sets.iter().enumerate() {
            for (name, value) in set.iter() {
                let cell = names.get(name).and_then(|column| cells.get_mut(column * n + row));
                cell.into_iter().for_each(|cell| *cell = value);
            }
        }
        let mut column = Vec::new();
        for values in cells.chunks(n.max(1)) {
            column.clear();
            push_column(values, &mut column, scratch, zstd)?;
            push_slice(out, &column);
        }
        Ok(())
    }

    /// Set by set, where few sets have the same names.
    fn rows(&self, names: &NameNumbers<'_>, out: &mut Vec<u8>) {
        for (set, _) in &self.sets {
            push_varint(out, set.len() as u64);
            for (name, value) in set.iter() {
                push_varint(out, names.get(name).map_or(0, |number| *number as u64));
                push_slice(out, value.as_bytes());
            }
        }
    }
}

type NameNumbers<'a> = HashMap<&'a str, usize, foldhash::fast::RandomState>;

const COLUMNS: u8 = 0;
const ROWS: u8 = 1;

/// How many cells columns may have, so that the work stays in proportion to what is there: names
/// times sets would not, for instance if every entry had names of its own.
fn most_cells(pairs: usize) -> usize {
    2 * pairs + 1024
}

/// Cells that a reader takes: pairs of the largest block, in columns.
const MAX_CELLS: usize = 2 * MAX_METADATA_BYTES / PAIR_ROOM + 1024;
/// What a pair takes beside its texts at most.
const PAIR_ROOM: usize = 16;

/// The distinct values of a column in the order of first occurrence, where no value is an empty
/// one; then for each set which of them it has.
fn push_column(
    cells: &[&str],
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    zstd: &mut Compressor<'static>,
) -> Result<(), BlockError> {
    let mut seen: HashMap<&str, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut values = Vec::new();
    let mut numbers = Vec::with_capacity(cells.len());
    for value in cells {
        let next = seen.len() as u32;
        let number = *seen.entry(value).or_insert(next);
        if number == next {
            push_slice(&mut values, value.as_bytes());
        }
        numbers.push(number);
    }
    push_varint(out, seen.len() as u64);
    push_slice(out, &values);
    let mut row = Vec::new();
    novelty(&numbers, &mut row);
    push_planes(out, &row, zstd, scratch)
}

/// Sets read back: each set of the block, reduced to the wanted names, and the different ones
/// among those.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// For each set of the block its reduced one.
    pub(super) reduced: Vec<u32>,
    pub(super) distinct: Vec<Labels>,
    payload: Vec<u8>,
    planes: Planes,
}

struct Column<'a> {
    name: &'a str,
    values: Vec<&'a str>,
    numbers: Vec<u32>,
}

impl Sets {
    pub(super) fn clear(&mut self) {
        self.reduced.clear();
        self.distinct.clear();
    }

    /// Whether no wanted name occurs.
    pub(super) fn is_empty(&self) -> bool {
        self.distinct.iter().all(Labels::is_empty)
    }

    /// Reads the `n` sets of a frame; answers the bytes that were decompressed.
    pub(super) fn read(
        &mut self,
        frame: &[u8],
        n: usize,
        need: &MetadataNeed,
        zstd: &mut Decompressor<'static>,
    ) -> Result<usize, BlockError> {
        self.clear();
        let mut cursor = Cursor(unseal(frame, "metadata")?);
        let bytes = size(&mut cursor, MAX_METADATA_BYTES)?;
        self.payload.resize(bytes, 0);
        decompress_into(cursor.0, &mut self.payload, zstd)?;
        let mut cursor = Cursor(&self.payload);
        let form = cursor.byte()?;
        let names = read_names(&mut cursor, need)?;
        match form {
            COLUMNS => {
                let columns = wanted_columns(&mut cursor, &names, n, &mut self.planes, zstd)?;
                (self.reduced, self.distinct) = sets_of_columns(&columns, n);
            }
            ROWS => (self.reduced, self.distinct) = sets_of_rows(&mut cursor, &names, n)?,
            _ => return Err(BlockError::Malformed("form of metadata")),
        }
        if cursor.0.is_empty() { Ok(bytes) } else { Err(BlockError::Malformed("metadata")) }
    }
}

/// The names, ascending, and whether each is wanted.
fn read_names<'a>(cursor: &mut Cursor<'a>, need: &MetadataNeed) -> Result<Vec<(&'a str, bool)>, BlockError> {
    let n = cursor.count()?;
    let mut names: Vec<(&str, bool)> = Vec::with_capacity(n);
    for _ in 0..n {
        let name = text(cursor.slice()?)?;
        if names.last().is_some_and(|(before, _)| *before >= name) {
            return Err(BlockError::Malformed("order of metadata names"));
        }
        let wanted = match need {
            MetadataNeed::Nothing => false,
            MetadataNeed::Named(names) => names.iter().any(|wanted| wanted == name),
            MetadataNeed::All => true,
        };
        names.push((name, wanted));
    }
    Ok(names)
}

fn wanted_columns<'a>(
    cursor: &mut Cursor<'a>,
    names: &[(&'a str, bool)],
    n: usize,
    planes: &mut Planes,
    zstd: &mut Decompressor<'static>,
) -> Result<Vec<Column<'a>>, BlockError> {
    if names.len() * n > MAX_CELLS {
        return Err(BlockError::TooLarge);
    }
    let mut columns = Vec::new();
    for (name, wanted) in names {
        let column = cursor.slice()?;
        if *wanted {
            columns.push(read_column(name, column, n, planes, zstd)?);
        }
    }
    Ok(columns)
}

/// For each of `n` sets its number among the distinct ones, and those.
fn sets_of_columns(columns: &[Column<'_>], n: usize) -> (Vec<u32>, Vec<Labels>) {
    let (mut reduced, mut distinct) = (Vec::with_capacity(n), Vec::new());
    let mut known: HashMap<Vec<u32>, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut key = Vec::with_capacity(columns.len());
    for i in 0..n {
        key.clear();
        key.extend(columns.iter().map(|c| c.numbers.get(i).copied().unwrap_or(0)));
        if let Some(number) = known.get(&key) {
            reduced.push(*number);
            continue;
        }
        let number = distinct.len() as u32;
        let pairs = columns.iter().zip(&key).map(|(c, v)| (c.name, c.values.get(*v as usize).copied()));
        let pairs = pairs.filter_map(|(name, value)| Some((name, value.filter(|v| !v.is_empty())?)));
        distinct.push(Labels::from_sorted(pairs));
        reduced.push(number);
        known.insert(key.clone(), number);
    }
    (reduced, distinct)
}

fn sets_of_rows(
    cursor: &mut Cursor<'_>,
    names: &[(&str, bool)],
    n: usize,
) -> Result<(Vec<u32>, Vec<Labels>), BlockError> {
    let (mut reduced, mut distinct) = (Vec::new(), Vec::new());
    let mut known: HashMap<Labels, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for _ in 0..n {
        pairs.clear();
        let mut next = 0;
        for _ in 0..cursor.count()? {
            let (number, value) = (size(cursor, names.len())?, cursor.slice()?);
            let Some((name, wanted)) = names.get(number).filter(|_| number >= next) else {
                return Err(BlockError::Malformed("metadata name"));
            };
            next = number + 1;
            if *wanted && !value.is_empty() {
                pairs.push((name, text(value)?));
            }
        }
        let set = Labels::from_sorted(pairs.iter().copied());
        let number = *known.entry(set).or_insert_with_key(|set| {
            distinct.push(set.clone());
            distinct.len() as u32 - 1
        });
        reduced.push(number);
    }
    Ok((reduced, distinct))
}

fn read_column<'a>(
    name: &'a str,
    column: &'a [u8],
    n: usize,
    planes: &mut Planes,
    zstd: &mut Decompressor<'static>,
) -> Result<Column<'a>, BlockError> {
    let mut cursor = Cursor(column);
    let count = cursor.count()?;
    let mut texts = Cursor(cursor.slice()?);
    if count > texts.0.len() || count > n {
        return Err(BlockError::Malformed("number of values"));
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(text(texts.slice()?)?);
    }
    planes.read(cursor.0, n, zstd)?;
    let mut numbers = vec![0; n];
    if !planes.copy(0, &mut numbers) {
        return Err(BlockError::Truncated);
    }
    undo_novelty(&mut numbers, count)?;
    Ok(Column { name, values, numbers })
}

fn text(bytes: &[u8]) -> Result<&str, BlockError> {
    std::str::from_utf8(bytes).map_err(|_| BlockError::Malformed("text"))
}
