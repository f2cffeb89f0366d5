//! redb's file as its pages lie on the disk (format 3, as redb's own design document tells it), each held
//! against the checksum that the page above has of it. redb compares them only when it is asked about
//! a whole file, and then says no more than that something is wrong.
//!
//! Only what is needed to find rows: no free pages, no trees of redb's own.

use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use crate::Error;
use crate::files::ReadFile;

const PAGE_BYTES: u64 = 4096;
/// One of its bits says which of the two commits in the header holds. Nothing tells whether it is right.
const STATE_BYTE: usize = 9;
const REGION_HEADER_PAGES: usize = 16;
const REGION_PAGES: usize = 20;
const COMMITS: [usize; 2] = [64, 192];
const HEADER_BYTES: usize = 320;

const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// A page as what is above it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRef {
    number: u64,
    sum: u128,
}

/// Bytes of all keys and of all values of a tree, where they are of one length.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Widths {
    pub(crate) key: Option<usize>,
    pub(crate) value: Option<usize>,
}

/// A page, taken apart as far as its bytes make sense.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    Leaf(Vec<(&'a [u8], &'a [u8])>),
    Branch(Vec<Child<'a>>),
}

/// A page below a branch, with the key that none of its keys is greater than; the last has none.
#[derive(Debug)]
pub(crate) struct Child<'a> {
    pub(crate) page: PageRef,
    pub(crate) upto: Option<&'a [u8]>,
}

/// The pages of a database that nobody writes to meanwhile.
#[derive(Debug)]
pub(crate) struct Pages {
    file: ReadFile,
    region_header_pages: u64,
    region_pages: u64,
    root: Option<PageRef>,
}

impl Pages {
    /// Fails with damage where there is no header.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = ReadFile::open(path).map_err(Error::io("open", path))?;
        let mut header = [0; HEADER_BYTES];
        file.read_at(&mut header, 0).map_err(|source| Error::database(path)(redb::Error::Io(source)))?;
        let geometry = |at| array(&header, at).map_or(0, |bytes| u64::from(u32::from_le_bytes(bytes)));
        let state = header.get(STATE_BYTE).copied().unwrap_or_default();
        let commit = if state & 1 == 0 { COMMITS[0] } else { COMMITS[1] };
        Ok(Self {
            region_header_pages: geometry(REGION_HEADER_PAGES),
            region_pages: geometry(REGION_PAGES),
            root: root_of(&header, commit),
            file,
        })
    }

    /// Of the tree that holds the names of all tables. Its page's checksum stands for the header: of a
    /// commit that is wrong it would not fit.
    pub(crate) fn root(&self) -> Option<PageRef> {
        self.root
    }

    /// The bytes of a page; `None` if there is no such place in the file.
    pub(crate) fn read(&self, page: PageRef) -> io::Result<Option<Vec<u8>>> {
        let Some((start, length)) = self.place(page.number) else { return Ok(None) };
        let mut bytes = vec![0; length];
        self.file.read_at(&mut bytes, start)?;
        Ok(Some(bytes))
    }

    /// Five bits say how often the length is doubled, twice twenty the region and the place in it.
    fn place(&self, number: u64) -> Option<(u64, usize)> {
        let order = u32::try_from(number >> 59).ok()?;
        let length = PAGE_BYTES.checked_shl(order)?;
        let index = number & (0xf_ffff >> order);
        let region = (number >> 20) & 0xf_ffff;
        let region_bytes = (self.region_header_pages + self.region_pages) * PAGE_BYTES;
        let before = PAGE_BYTES + self.region_header_pages * PAGE_BYTES;
        let start = region.checked_mul(region_bytes)?.checked_add(before)?.checked_add(index * length)?;
        (start.checked_add(length)? <= self.file.bytes()).then_some((start, usize::try_from(length).ok()?))
    }
}

fn root_of(header: &[u8], commit: usize) -> Option<PageRef> {
    let is_there = *header.get(commit + 1)? != 0;
    PageRef::parse(header.get(commit + 8..)?).filter(|_| is_there)
}

impl PageRef {
    /// As roots are written: number, then checksum.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let number = u64::from_le_bytes(array(bytes, 0)?);
        Some(Self { number, sum: u128::from_le_bytes(array(bytes, 8)?) })
    }

    /// Takes a page apart, and says whether it is what was written.
    pub(crate) fn node(self, bytes: &[u8], widths: Widths) -> (Option<Node<'_>>, bool) {
        let taken = match bytes.first() {
            Some(&LEAF) => leaf(bytes, widths),
            Some(&BRANCH) => branch(bytes, widths),
            _ => None,
        };
        let Some((node, end)) = taken else { return (None, false) };
        let is_sound = bytes.get(..end).is_some_and(|summed| xxh3_128(summed) == self.sum);
        (Some(node), is_sound)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// How many keys there are. A page without any is none.
fn count(bytes: &[u8]) -> Option<usize> {
    let count = usize::from(u16::from_le_bytes(array(bytes, 2)?));
    (count > 0).then_some(count)
}

/// Where each of `count` pieces ends: one width after the other from `first` on, or as is written at
/// `written`.
fn ends(
    bytes: &[u8],
    count: usize,
    width: Option<usize>,
    first: usize,
    written: usize,
) -> Option<Vec<usize>> {
    let end = |n| match width {
        Some(width) => Some(first + width * (n + 1)),
        None => Some(u32::from_le_bytes(array(bytes, written + 4 * n)?) as usize),
    };
    (0..count).map(end).collect()
}

/// The pieces between the ends; `None` for one whose ends make no sense.
fn pieces<'a>(bytes: &'a [u8], first: usize, ends: &[usize]) -> impl Iterator<Item = Option<&'a [u8]>> {
    let starts = std::iter::once(first).chain(ends.iter().copied());
    starts.zip(ends.iter().copied()).map(|(start, end)| bytes.get(start..end))
}

/// Type, number of pairs, ends of keys, ends of values, keys, values.
fn leaf(bytes: &[u8], widths: Widths) -> Option<(Node<'_>, usize)> {
    let count = count(bytes)?;
    let written = |width: Option<usize>| if width.is_none() { 4 * count } else { 0 };
    let value_ends_at = 4 + written(widths.key);
    let first_key = value_ends_at + written(widths.value);
    let key_ends = ends(bytes, count, widths.key, first_key, 4)?;
    let first_value = *key_ends.last()?;
    let value_ends = ends(bytes, count, widths.value, first_value, value_ends_at)?;
    let rows = pieces(bytes, first_key, &key_ends).zip(pieces(bytes, first_value, &value_ends));
    let rows = rows.filter_map(|(key, value)| key.zip(value)).collect();
    Some((Node::Leaf(rows), *value_ends.last()?))
}

/// Type, number of keys, checksums of the pages below, their numbers, ends of keys, keys.
fn branch(bytes: &[u8], widths: Widths) -> Option<(Node<'_>, usize)> {
    let count = count(bytes)?;
    let numbers_at = 8 + 16 * (count + 1);
    let ends_at = numbers_at + 8 * (count + 1);
    let first_key = ends_at + if widths.key.is_none() { 4 * count } else { 0 };
    let key_ends = ends(bytes, count, widths.key, first_key, ends_at)?;
    let page = |n| {
        let number = u64::from_le_bytes(array(bytes, numbers_at + 8 * n)?);
        Some(PageRef { number, sum: u128::from_le_bytes(array(bytes, 8 + 16 * n)?) })
    };
    let uptos = pieces(bytes, first_key, &key_ends).chain([None]);
    let children = uptos.enumerate().map(|(n, upto)| Some(Child { page: page(n)?, upto }));
    Some((Node::Branch(children.collect::<Option<_>>()?), *key_ends.last()?))
}
