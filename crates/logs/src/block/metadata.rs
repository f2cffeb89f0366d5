//! The distinct sets of structured metadata of a block: numbered while entries come in, written
//! by columns, and read back only for the names that are asked for.

use hashbrown::HashMap;
use pilothouse_model::Labels;
use pilothouse_model::logs::MetadataNeed;
use zstd::bulk::{Compressor, Decompressor};

use super::bytes::{Cursor, begin_sealed, push_slice, push_varint, seal, unseal};
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
        let room = bytes + 16 * set.len() + 8;
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
        let mut names: Vec<&str> = self.sets.iter().flat_map(|(set, _)| set.iter().map(|(n, _)| n)).collect();
        names.sort_unstable();
        names.dedup();
        let mut payload = Vec::with_capacity(self.bytes / 2);
        push_varint(&mut payload, names.len() as u64);
        let mut column = Vec::new();
        for name in names {
            column.clear();
            self.column(name, &mut column, scratch, zstd)?;
            push_slice(&mut payload, name.as_bytes());
            push_slice(&mut payload, &column);
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

    /// The values that a name has, in the order of first occurrence, where no value is an empty
    /// one; then for each set which of them it has.
    fn column(
        &self,
        name: &str,
        out: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
        zstd: &mut Compressor<'static>,
    ) -> Result<(), BlockError> {
        let mut seen: HashMap<&str, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut values = Vec::new();
        let mut numbers = Vec::with_capacity(self.sets.len());
        for (set, _) in &self.sets {
            let value = set.value(name);
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
        let size = cursor.size(MAX_METADATA_BYTES)?;
        self.payload.resize(size, 0);
        decompress_into(cursor.0, &mut self.payload, zstd)?;
        let columns = wanted_columns(&self.payload, n, need, &mut self.planes, zstd)?;
        let mut known: HashMap<Vec<u32>, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut key = Vec::with_capacity(columns.len());
        for i in 0..n {
            key.clear();
            key.extend(columns.iter().map(|c| c.numbers.get(i).copied().unwrap_or(0)));
            if let Some(number) = known.get(&key) {
                self.reduced.push(*number);
                continue;
            }
            let number = self.distinct.len() as u32;
            let pairs = columns.iter().zip(&key).map(|(c, v)| (c.name, c.values.get(*v as usize).copied()));
            let pairs = pairs.filter_map(|(name, value)| Some((name, value.filter(|v| !v.is_empty())?)));
            self.distinct.push(Labels::from_sorted(pairs));
            self.reduced.push(number);
            known.insert(key.clone(), number);
        }
        Ok(size)
    }
}

fn wanted_columns<'a>(
    payload: &'a [u8],
    n: usize,
    need: &MetadataNeed,
    planes: &mut Planes,
    zstd: &mut Decompressor<'static>,
) -> Result<Vec<Column<'a>>, BlockError> {
    let mut cursor = Cursor(payload);
    let names = cursor.count()?;
    let mut columns: Vec<Column<'a>> = Vec::new();
    let mut before = None;
    for _ in 0..names {
        let name = text(cursor.slice()?)?;
        let column = cursor.slice()?;
        if before.is_some_and(|before| before >= name) {
            return Err(BlockError::Malformed("order of metadata names"));
        }
        before = Some(name);
        let wanted = match need {
            MetadataNeed::Nothing => false,
            MetadataNeed::Named(names) => names.iter().any(|wanted| wanted == name),
            MetadataNeed::All => true,
        };
        if wanted {
            columns.push(read_column(name, column, n, planes, zstd)?);
        }
    }
    Ok(columns)
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
