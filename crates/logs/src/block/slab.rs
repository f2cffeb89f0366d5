//! The filters of many blocks, turned: for each slot of the gram bitmaps the bits of all blocks
//! lie side by side, so that a query reads one short row for each gram of its text instead of the
//! bitmaps of all blocks. Beside it a dictionary of the words, each with the blocks that have it.

use std::cell::OnceCell;
use std::io;
use std::ops::Range;

use hashbrown::HashMap;
use memchr::memmem;

use super::bytes::{Cursor, begin_sealed, push_slice, push_varint, seal, size, unseal};
use super::grams::{GramMap, SLOTS};
use super::probe::{Piece, Probe};
use super::words::Words;
use super::{BlockError, MAX_SLAB_BLOCKS};

const VERSION: u8 = 2;
/// Bytes of rows under one checksum. A row is read with its page.
const PAGE_BYTES: usize = 1020;
const CHECKSUM_BYTES: usize = 4;
/// A header is never longer.
const MAX_HEADER_BYTES: usize = 32 + MAX_SLAB_BLOCKS;
const MAX_WORDS_BYTES: usize = 64 << 20;
const WORDS_LEVEL: i32 = 3;
/// A bitmap is folded to the smallest size that leaves it thinner than this, in percent.
const MOST_ONES: u32 = 40;
/// The same from half the slots on, since each step is a hundredth of the lines of a block then:
/// where lines have an id of 32 digits each, half of the slots leave a block in some hundreds as a
/// false alarm for such an id, three quarters of them one in a hundred thousand.
const MOST_ONES_OF_LARGE: u32 = 69;
const FLAG_NON_ASCII: u8 = 1;
const FLAG_WORDS: u8 = 2;

/// What is known of the lines of a block without reading them.
#[derive(Debug, Clone)]
pub struct BlockFilter {
    pub(super) grams: GramMap,
    pub(super) words: Words,
}

impl BlockFilter {
    /// Whether a line of the block may meet all demands.
    pub fn may_match(&self, probe: &Probe) -> bool {
        probe.may_match(&self.grams, &self.words)
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        SLOTS / 8 + self.words.text.len()
    }
}

/// A set of blocks of one slab, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockMask([u64; MAX_SLAB_BLOCKS / 64]);

impl BlockMask {
    /// The first `n`.
    pub fn first(n: usize) -> Self {
        let mut mask = Self::default();
        (0..n).for_each(|i| mask.insert(i));
        mask
    }

    pub fn contains(&self, block: usize) -> bool {
        self.0.get(block / 64).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    pub fn insert(&mut self, block: usize) {
        if let Some(word) = self.0.get_mut(block / 64) {
            *word |= 1 << (block % 64);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own &= other);
        self
    }

    fn without(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own &= !other);
        self
    }

    fn or(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own |= other);
        self
    }
}

/// Collects filters and writes them as one slab.
#[derive(Debug, Default)]
pub struct SlabBuilder {
    maps: Vec<GramMap>,
    infos: Vec<u8>,
    /// For each word the blocks that have it, ascending.
    words: HashMap<Box<[u8]>, Vec<u16>, foldhash::fast::RandomState>,
}

impl SlabBuilder {
    /// Adds a block's filter and answers the block's number in the slab; `None` if it is full.
    pub fn push(&mut self, filter: &BlockFilter) -> Option<u32> {
        let block = self.maps.len();
        if block >= MAX_SLAB_BLOCKS {
            return None;
        }
        for word in filter.words.iter() {
            match self.words.get_mut(word) {
                Some(blocks) => blocks.push(block as u16),
                None => {
                    self.words.insert(word.into(), vec![block as u16]);
                }
            }
        }
        let flags = if filter.grams.non_ascii() { FLAG_NON_ASCII } else { 0 }
            | if filter.words.complete { FLAG_WORDS } else { 0 };
        self.infos.push(flags | fitting_size(&filter.grams).0 << 4);
        self.maps.push(filter.grams.clone());
        Some(block as u32)
    }

    pub fn len(&self) -> usize {
        self.maps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.maps.is_empty()
    }

    /// The slab's bytes; begins anew.
    pub fn finish(&mut self) -> Vec<u8> {
        let words = self.words_section();
        let mut out = Vec::new();
        begin_sealed(&mut out);
        out.push(VERSION);
        push_varint(&mut out, self.infos.len() as u64);
        out.extend_from_slice(&self.infos);
        push_varint(&mut out, self.words.len() as u64);
        push_varint(&mut out, words.len() as u64);
        // The header's own length lies in front of what it seals.
        let mut header = (out.len() as u32).to_le_bytes().to_vec();
        seal(&mut out);
        header.append(&mut out);
        out = header;
        out.extend_from_slice(&words);
        for (size, columns) in classes(&self.infos) {
            self.rows_section(size, &columns, &mut out);
        }
        *self = Self::default();
        out
    }

    /// All words in order, packed, then for each the row of blocks that have it.
    fn words_section(&self) -> Vec<u8> {
        let mut words: Vec<(&[u8], &[u16])> = self.words.iter().map(|(w, b)| (&**w, b.as_slice())).collect();
        words.sort_unstable();
        let stride = stride(self.maps.len());
        let mut text = vec![b'\n'];
        for (word, _) in &words {
            text.extend_from_slice(word);
            text.push(b'\n');
        }
        let mut out = Vec::new();
        begin_sealed(&mut out);
        push_varint(&mut out, text.len() as u64);
        push_slice(&mut out, &packed(text));
        for (_, blocks) in &words {
            let row = out.len();
            out.resize(row + stride, 0);
            for block in *blocks {
                if let Some(byte) = out.get_mut(row + usize::from(*block) / 8) {
                    *byte |= 1 << (block % 8);
                }
            }
        }
        seal(&mut out);
        out
    }

    fn rows_section(&self, size: MapSize, columns: &[u16], out: &mut Vec<u8>) {
        let stride = stride(columns.len());
        let mut rows = vec![0u8; stride * size.slots()];
        for (column, block) in columns.iter().enumerate() {
            let Some(map) = self.maps.get(usize::from(*block)) else { continue };
            for (i, word) in map.words().iter().enumerate() {
                let mut word = *word;
                while word != 0 {
                    let slot = size.slot(i * 64 + word.trailing_zeros() as usize);
                    if let Some(byte) = rows.get_mut(slot * stride + column / 8) {
                        *byte |= 1 << (column % 8);
                    }
                    word &= word - 1;
                }
            }
        }
        for page in rows.chunks(page_rows(stride) * stride) {
            out.extend_from_slice(page);
            out.extend_from_slice(&crc32c::crc32c(page).to_le_bytes());
        }
    }
}

/// How many slots a folded bitmap has, by its number in a slab's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MapSize(u8);

impl MapSize {
    const HALF: Self = Self(6);
    const THREE_QUARTERS: Self = Self(7);
    const FULL: Self = Self(8);

    fn of_info(info: u8) -> Self {
        Self(info >> 4)
    }

    /// From 512 for blocks of a few lines, each twice the one before, up to half of all; then
    /// three quarters of all, and all.
    fn all() -> impl Iterator<Item = Self> {
        (0..=Self::FULL.0).map(Self)
    }

    /// By what a full slot is multiplied and shifted.
    fn scale(self) -> (usize, u32) {
        match self {
            Self::FULL => (1, 0),
            Self::THREE_QUARTERS => (3, 2),
            Self(step) => (1, 7 - u32::from(step).min(6)),
        }
    }

    fn slots(self) -> usize {
        self.slot(SLOTS)
    }

    #[inline]
    fn slot(self, full: usize) -> usize {
        let (factor, shift) = self.scale();
        (full * factor) >> shift
    }
}

/// The smallest size into which a map may be folded without filling up.
fn fitting_size(map: &GramMap) -> MapSize {
    let fits = |ones: u32, size: MapSize, most: u32| {
        u64::from(ones) * 100 <= (size.slots() as u64) * u64::from(most)
    };
    let count = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
    let mut words = folded(map.words());
    if !fits(count(&words), MapSize::HALF, MOST_ONES_OF_LARGE) {
        // Of each four slots the first two become one.
        let lost = map.words().iter().map(|w| (w & w >> 1 & 0x1111_1111_1111_1111).count_ones()).sum::<u32>();
        let fit = fits(count(map.words()) - lost, MapSize::THREE_QUARTERS, MOST_ONES_OF_LARGE);
        return if fit { MapSize::THREE_QUARTERS } else { MapSize::FULL };
    }
    let mut size = MapSize::HALF;
    while size.0 > 0 {
        words = folded(&words);
        let half = MapSize(size.0 - 1);
        if !fits(count(&words), half, MOST_ONES) {
            break;
        }
        size = half;
    }
    size
}

/// A map of half the size.
fn folded(words: &[u64]) -> Vec<u64> {
    words.as_chunks::<2>().0.iter().map(|[a, b]| fold(*a) | fold(*b) << 32).collect()
}

/// Joins each pair of neighbouring bits: 64 of them become 32.
fn fold(word: u64) -> u64 {
    let mut x = (word | word >> 1) & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0F0F_0F0F_0F0F_0F0F),
        (4, 0x00FF_00FF_00FF_00FF),
        (8, 0x0000_FFFF_0000_FFFF),
        (16, 0x0000_0000_FFFF_FFFF),
    ] {
        x = (x | x >> shift) & mask;
    }
    x
}

fn stride(columns: usize) -> usize {
    columns.div_ceil(8)
}

fn page_rows(stride: usize) -> usize {
    (PAGE_BYTES / stride.max(1)).max(1)
}

/// The blocks by the size of their bitmaps, smallest first.
fn classes(infos: &[u8]) -> Vec<(MapSize, Vec<u16>)> {
    let classes = MapSize::all().map(|size| {
        let blocks = infos.iter().enumerate().filter(|(_, info)| MapSize::of_info(**info) == size);
        (size, blocks.map(|(block, _)| block as u16).collect::<Vec<_>>())
    });
    classes.filter(|(_, blocks)| !blocks.is_empty()).collect()
}

/// Where a slab's bytes come from: a region of a file, or a slice.
pub trait ReadAt {
    /// Fills the buffer from a place in the slab.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end =
            usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let bytes = end.and_then(|range| self.get(range)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// The bitmaps of one size.
#[derive(Debug, Clone)]
struct Rows {
    size: MapSize,
    /// The block of each column.
    columns: Vec<u16>,
    offset: usize,
}

/// The opened header of a slab; some hundred bytes in memory.
#[derive(Debug, Clone)]
pub struct Slab {
    blocks: usize,
    non_ascii: BlockMask,
    /// Blocks whose words are not complete.
    wordless: BlockMask,
    word_count: usize,
    words: Range<usize>,
    rows: Vec<Rows>,
}

impl Slab {
    /// Reads the header of a slab of `bytes` bytes, which must be exactly its size.
    pub fn open(source: &(impl ReadAt + ?Sized), bytes: u64) -> Result<Self, BlockError> {
        let total = usize::try_from(bytes).map_err(|_| BlockError::TooLarge)?;
        let mut buffer = vec![0; total.min(MAX_HEADER_BYTES)];
        source.read_at(0, &mut buffer).map_err(|_| BlockError::Truncated)?;
        let (header, rest) = buffer.split_first_chunk::<4>().ok_or(BlockError::Truncated)?;
        let header = u32::from_le_bytes(*header) as usize;
        let mut cursor = Cursor(unseal(rest.get(..header).ok_or(BlockError::Truncated)?, "slab header")?);
        let version = cursor.byte()?;
        if version != VERSION {
            return Err(BlockError::Version(version));
        }
        let blocks = size(&mut cursor, MAX_SLAB_BLOCKS)?;
        let infos = cursor.take(blocks)?;
        let word_count = size(&mut cursor, MAX_WORDS_BYTES)?;
        let start = header + 4;
        let words = start..start + size(&mut cursor, MAX_WORDS_BYTES)?;
        let mut slab = Self {
            blocks,
            non_ascii: mask_of(infos, |info| info & FLAG_NON_ASCII != 0),
            wordless: mask_of(infos, |info| info & FLAG_WORDS == 0),
            word_count,
            words,
            rows: Vec::new(),
        };
        let mut offset = slab.words.end;
        for (size, columns) in classes(infos) {
            let stride = stride(columns.len());
            slab.rows.push(Rows { size, columns, offset });
            offset += stride * size.slots() + size.slots().div_ceil(page_rows(stride)) * CHECKSUM_BYTES;
        }
        let placed: usize = slab.rows.iter().map(|rows| rows.columns.len()).sum();
        if offset == total && placed == blocks { Ok(slab) } else { Err(BlockError::Malformed("slab header")) }
    }

    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The blocks whose lines may meet the demands. What cannot be read, or was damaged,
    /// excludes nothing.
    pub fn probe(&self, probe: &Probe, source: &(impl ReadAt + ?Sized)) -> BlockMask {
        let mut alive = BlockMask::first(self.blocks);
        // Read only if the grams leave something to ask it for.
        let dictionary = OnceCell::new();
        let words = || dictionary.get_or_init(|| Dictionary::read(self, source)).as_ref();
        for demand in &probe.demands {
            let mut met = BlockMask::default();
            for alternative in demand {
                let mut left = alive;
                for piece in &alternative.pieces {
                    left = self.with_piece(piece, left, words, source);
                    if left.is_empty() {
                        break;
                    }
                }
                met = met.or(&left);
            }
            alive = met;
            if alive.is_empty() {
                break;
            }
        }
        alive
    }

    /// Those of the blocks whose lines may hold the piece.
    fn with_piece<'d>(
        &self,
        piece: &Piece,
        blocks: BlockMask,
        dictionary: impl FnOnce() -> Option<&'d Dictionary>,
        source: &(impl ReadAt + ?Sized),
    ) -> BlockMask {
        let unknown = if piece.ascii_only { blocks.and(&self.non_ascii) } else { BlockMask::default() };
        let mut left = self.with_grams(&piece.slots, blocks, source);
        let wordless = self.with_grams(&piece.word_slots, left.and(&self.wordless), source);
        left = left.without(&self.wordless);
        if !piece.words.is_empty()
            && !left.is_empty()
            && let Some(dictionary) = dictionary()
        {
            for word in &piece.words {
                left = left.and(&dictionary.blocks_with(word));
            }
        }
        left.or(&wordless).or(&unknown)
    }

    fn with_grams(&self, slots: &[usize], blocks: BlockMask, source: &(impl ReadAt + ?Sized)) -> BlockMask {
        let mut left = blocks;
        if !slots.is_empty() {
            self.rows.iter().for_each(|rows| rows.exclude(slots, &mut left, source));
        }
        left
    }
}

fn mask_of(infos: &[u8], holds: impl Fn(u8) -> bool) -> BlockMask {
    let mut mask = BlockMask::default();
    infos.iter().enumerate().filter(|(_, info)| holds(**info)).for_each(|(block, _)| mask.insert(block));
    mask
}

impl Rows {
    /// Takes off the blocks of these rows that lack one of the grams.
    fn exclude(&self, slots: &[usize], blocks: &mut BlockMask, source: &(impl ReadAt + ?Sized)) {
        let stride = stride(self.columns.len());
        let mut left = vec![0u8; stride];
        for (column, block) in self.columns.iter().enumerate() {
            if blocks.contains(usize::from(*block))
                && let Some(byte) = left.get_mut(column / 8)
            {
                *byte |= 1 << (column % 8);
            }
        }
        let mut page = Page::default();
        for slot in slots {
            if left.iter().all(|byte| *byte == 0) {
                break;
            }
            if let Some(row) = self.row(self.size.slot(*slot), &mut page, source) {
                left.iter_mut().zip(row).for_each(|(own, row)| *own &= row);
            }
        }
        for (column, block) in self.columns.iter().enumerate() {
            if left.get(column / 8).is_some_and(|byte| byte >> (column % 8) & 1 == 0) {
                blocks.remove(usize::from(*block));
            }
        }
    }

    /// A row, if its page is whole.
    fn row<'p>(&self, slot: usize, page: &'p mut Page, source: &(impl ReadAt + ?Sized)) -> Option<&'p [u8]> {
        let stride = stride(self.columns.len());
        let page_rows = page_rows(stride);
        let (number, row) = (slot / page_rows, slot % page_rows);
        let rows = page_rows.min(self.size.slots().checked_sub(number * page_rows)?);
        let size = rows * stride;
        if page.number != Some(number) {
            page.number = None;
            page.bytes.resize(size + CHECKSUM_BYTES, 0);
            let offset = self.offset + number * (page_rows * stride + CHECKSUM_BYTES);
            source.read_at(offset as u64, &mut page.bytes).ok()?;
            let (bytes, checksum) = page.bytes.split_at_checked(size)?;
            if crc32c::crc32c(bytes).to_le_bytes() != checksum {
                return None;
            }
            page.number = Some(number);
        }
        page.bytes.get(row * stride..(row + 1) * stride)
    }
}

#[derive(Default)]
struct Page {
    number: Option<usize>,
    bytes: Vec<u8>,
}

impl BlockMask {
    fn remove(&mut self, block: usize) {
        if let Some(word) = self.0.get_mut(block / 64) {
            *word &= !(1 << (block % 64));
        }
    }
}

/// A zstd frame, or the text as it is where that is not longer.
fn packed(text: Vec<u8>) -> Vec<u8> {
    match zstd::bulk::compress(&text, WORDS_LEVEL) {
        Ok(frame) if frame.len() < text.len() => frame,
        _ => text,
    }
}

fn unpacked(packed: &[u8], size: usize) -> Option<Vec<u8>> {
    if packed.len() == size {
        return Some(packed.to_vec());
    }
    zstd::bulk::decompress(packed, size).ok().filter(|text| text.len() == size)
}

/// The words of a slab, read for one query.
struct Dictionary {
    text: Vec<u8>,
    rows: Vec<u8>,
    stride: usize,
}

impl Dictionary {
    /// `None` if it is damaged.
    fn read(slab: &Slab, source: &(impl ReadAt + ?Sized)) -> Option<Self> {
        let mut bytes = vec![0; slab.words.len()];
        source.read_at(slab.words.start as u64, &mut bytes).ok()?;
        let mut cursor = Cursor(unseal(&bytes, "words").ok()?);
        let text_bytes = size(&mut cursor, MAX_WORDS_BYTES).ok()?;
        let text = unpacked(cursor.slice().ok()?, text_bytes)?;
        let stride = stride(slab.blocks);
        let whole = cursor.0.len() == slab.word_count.checked_mul(stride)?;
        whole.then(|| Self { text, rows: cursor.0.to_vec(), stride })
    }

    /// The blocks that have a word which contains the given letters. Line feeds in it are those
    /// between words.
    fn blocks_with(&self, wanted: &[u8]) -> BlockMask {
        let mut blocks = BlockMask::default();
        let (mut word, mut counted) = (0usize, 1usize);
        let inside = usize::from(wanted.first() == Some(&b'\n'));
        for at in memmem::find_iter(&self.text, wanted) {
            // The number of a word is that of the line feeds before it, less the first one.
            let at = at + inside;
            word += memchr::memchr_iter(b'\n', self.text.get(counted..at).unwrap_or(&[])).count();
            counted = at.max(counted);
            let row = self.rows.get(word * self.stride..(word + 1) * self.stride).unwrap_or(&[]);
            for (own, byte) in row.iter().enumerate() {
                if let Some(mask) = blocks.0.get_mut(own / 8) {
                    *mask |= u64::from(*byte) << (8 * (own % 8));
                }
            }
        }
        blocks
    }
}
