//! Series and their labels as one value on disk: many rows over a dictionary of their own.
//!
//! A page needs nothing beside itself, so series can be added by a page more, and rewritten by
//! pages less. Rows that resemble their neighbours cost little: each label is told as the
//! difference to the row before.

use pilothouse_model::Labels;

use crate::bytes::{self, Reader, push_front_coded, push_signed, push_slice, push_varint};
use crate::pairs::{PairId, Pairs};
use crate::{Error, Index};

/// Collects the rows of one page.
#[derive(Debug, Default)]
pub struct PageWriter {
    pairs: Pairs,
    /// Id, tag, and where the row ends in `cells`.
    rows: Vec<(u32, u64, usize)>,
    cells: Vec<PairId>,
    text_bytes: usize,
}

impl PageWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series; ids must ascend. `tag` is a number that the store keeps with it.
    pub fn push(&mut self, id: u32, tag: u64, labels: &Labels) -> Result<(), Error> {
        if self.rows.last().is_some_and(|(last, ..)| *last >= id) {
            return Err(Error::Unordered);
        }
        for (name, value) in labels {
            let before = self.pairs.len();
            self.cells.push(self.pairs.intern(name, value));
            if self.pairs.len() > before {
                self.text_bytes += name.len() + value.len();
            }
        }
        self.rows.push((id, tag, self.cells.len()));
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// An upper estimate of the page before compression, in bytes. Finish a page long before it
    /// has 16 MiB, which is all that a reader takes.
    pub fn bytes(&self) -> usize {
        self.text_bytes + 4 * self.pairs.len() + 3 * self.cells.len() + 8 * self.rows.len()
    }

    /// The page's bytes; the writer is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        let numbers = self.push_dictionary(&mut out);
        self.push_rows(&mut out, &numbers);
        *self = Self::default();
        bytes::seal(&out)
    }

    /// Writes names and their values in order; returns each pair's place in that order.
    fn push_dictionary(&self, out: &mut Vec<u8>) -> Vec<u32> {
        let mut names: Vec<_> = self.pairs.names().collect();
        names.sort_unstable_by_key(|name| &*name.text);
        push_varint(out, names.len() as u64);
        let (mut numbers, mut next) = (vec![0; self.pairs.len()], 0);
        for name in names {
            push_slice(out, name.text.as_bytes());
            push_varint(out, name.values.len() as u64);
            let mut before = "";
            for pair in name.values.iter() {
                let value = self.pairs.value(pair);
                push_front_coded(out, before, value);
                before = value;
                if let Some(number) = numbers.get_mut(pair as usize) {
                    *number = next;
                }
                next += 1;
            }
        }
        numbers
    }

    /// Writes the columns of ids, tags and lengths, then the cells row by row, each as the
    /// difference to the one above it.
    fn push_rows(&self, out: &mut Vec<u8>, numbers: &[u32]) {
        push_varint(out, self.rows.len() as u64);
        let mut next = 0;
        for (id, ..) in &self.rows {
            push_varint(out, u64::from(*id) - next);
            next = u64::from(*id) + 1;
        }
        let mut tag_before = 0;
        for (_, tag, _) in &self.rows {
            push_signed(out, tag.wrapping_sub(tag_before) as i64);
            tag_before = *tag;
        }
        let mut start = 0;
        for (.., end) in &self.rows {
            push_varint(out, (end - start) as u64);
            start = *end;
        }
        let (mut start, mut above): (usize, &[PairId]) = (0, &[]);
        let number = |pair: PairId| i64::from(numbers.get(pair as usize).copied().unwrap_or(0));
        for (.., end) in &self.rows {
            let row = self.cells.get(start..*end).unwrap_or(&[]);
            for (i, pair) in row.iter().enumerate() {
                push_signed(out, number(*pair) - above.get(i).map_or(0, |a| number(*a)));
            }
            (start, above) = (*end, row);
        }
    }
}

/// A page read and checked.
#[derive(Debug)]
pub struct Page {
    text: String,
    /// Where names and values end in `text`; a name comes before its values.
    pairs: Vec<PagePair>,
    rows: Vec<PageRow>,
    cells: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct PagePair {
    name: (u32, u32),
    value: (u32, u32),
}

/// A series of a page.
#[derive(Debug, Clone, Copy)]
pub struct PageRow {
    pub id: u32,
    /// What [`PageWriter::push`] was given.
    pub tag: u64,
    start: u32,
    end: u32,
}

impl Page {
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let raw = bytes::unseal(bytes)?;
        let mut reader = Reader(&raw);
        let (text, pairs) = read_dictionary(&mut reader)?;
        let rows = read_row_heads(&mut reader)?;
        let cells = read_cells(&mut reader, &rows, &pairs)?;
        if !reader.0.is_empty() {
            return Err(Error::Malformed("page longer than its content"));
        }
        Ok(Self { text, pairs, rows, cells })
    }

    /// The series, by ascending id.
    pub fn rows(&self) -> &[PageRow] {
        &self.rows
    }

    /// The series of an id.
    pub fn find(&self, id: u32) -> Option<&PageRow> {
        self.rows.get(self.rows.binary_search_by_key(&id, |row| row.id).ok()?)
    }

    pub fn labels(&self, row: &PageRow) -> Labels {
        Labels::from_sorted(self.label_pairs(row))
    }

    /// Names and values of a series, by name.
    pub fn label_pairs(&self, row: &PageRow) -> impl Iterator<Item = (&str, &str)> {
        self.cells_of(row).iter().filter_map(|cell| self.pair(*cell))
    }

    fn cells_of(&self, row: &PageRow) -> &[u32] {
        self.cells.get(row.start as usize..row.end as usize).unwrap_or(&[])
    }

    fn pair(&self, cell: u32) -> Option<(&str, &str)> {
        let pair = self.pairs.get(cell as usize)?;
        let text = |(start, end): (u32, u32)| self.text.get(start as usize..end as usize);
        Some((text(pair.name)?, text(pair.value)?))
    }

    /// Memory held.
    pub fn heap_bytes(&self) -> usize {
        self.text.len()
            + size_of_val(self.pairs.as_slice())
            + size_of_val(self.rows.as_slice())
            + size_of_val(self.cells.as_slice())
    }
}

fn read_dictionary(reader: &mut Reader<'_>) -> Result<(String, Vec<PagePair>), Error> {
    let (mut text, mut pairs) = (Vec::new(), Vec::new());
    let names = reader.count()?;
    let mut name_before: Option<&[u8]> = None;
    for _ in 0..names {
        let name = reader.slice()?;
        if name_before.is_some_and(|before| before >= name) {
            return Err(Error::Malformed("order of names"));
        }
        name_before = Some(name);
        let name_range = push_text(&mut text, name)?;
        let values = reader.count()?;
        pairs.reserve(values);
        let (mut value, mut before) = (Vec::new(), Vec::new());
        for _ in 0..values {
            bytes::front_coded(reader, &mut value)?;
            // Values ascend and none is empty, so the first must be behind the empty text too.
            if value <= before {
                return Err(Error::Malformed("order of values"));
            }
            before.clone_from(&value);
            pairs.push(PagePair { name: name_range, value: push_text(&mut text, &value)? });
        }
    }
    let text = String::from_utf8(text).map_err(|_| Error::Malformed("text"))?;
    let whole = |(start, end): (u32, u32)| {
        text.is_char_boundary(start as usize) && text.is_char_boundary(end as usize)
    };
    if !pairs.iter().all(|p| whole(p.name) && whole(p.value)) {
        return Err(Error::Malformed("text"));
    }
    Ok((text, pairs))
}

/// Front coding can tell far more text than a page has bytes, hence the bound.
fn push_text(text: &mut Vec<u8>, piece: &[u8]) -> Result<(u32, u32), Error> {
    let start = text.len() as u32;
    if text.len() + piece.len() > 4 * bytes::MAX_PAGE_BYTES {
        return Err(Error::Malformed("page too large"));
    }
    text.extend_from_slice(piece);
    Ok((start, text.len() as u32))
}

fn read_row_heads(reader: &mut Reader<'_>) -> Result<Vec<PageRow>, Error> {
    let count = reader.count()?;
    let mut rows = Vec::with_capacity(count);
    let mut next = 0u64;
    for _ in 0..count {
        let id = reader.varint()?.checked_add(next).and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or(Error::Malformed("series id"))?;
        next = u64::from(id) + 1;
        rows.push(PageRow { id, tag: 0, start: 0, end: 0 });
    }
    let mut tag = 0u64;
    for row in &mut rows {
        tag = tag.wrapping_add(reader.signed()? as u64);
        row.tag = tag;
    }
    let mut end = 0u32;
    for row in &mut rows {
        row.start = end;
        end = reader.u32()?.checked_add(end).ok_or(Error::Malformed("row length"))?;
        row.end = end;
    }
    Ok(rows)
}

fn read_cells(reader: &mut Reader<'_>, rows: &[PageRow], pairs: &[PagePair]) -> Result<Vec<u32>, Error> {
    let total = rows.last().map_or(0, |row| row.end as usize);
    if total > reader.0.len() {
        return Err(Error::Malformed("row length"));
    }
    let mut cells: Vec<u32> = Vec::with_capacity(total);
    let mut above = 0..0;
    for row in rows {
        let (start, mut name_before) = (row.start as usize, None);
        for i in start..row.end as usize {
            let base = above.start + (i - start);
            let base = if base < above.end { cells.get(base).copied().unwrap_or(0) } else { 0 };
            let cell = i64::from(base).checked_add(reader.signed()?).and_then(|c| u32::try_from(c).ok());
            let cell = cell.ok_or(Error::Malformed("pair number"))?;
            let name = pairs.get(cell as usize).ok_or(Error::Malformed("pair number"))?.name.0;
            if name_before.is_some_and(|before| before >= name) {
                return Err(Error::Malformed("order of labels"));
            }
            name_before = Some(name);
            cells.push(cell);
        }
        above = start..row.end as usize;
    }
    Ok(cells)
}

impl Index {
    /// Adds all series of a page; one whose id is taken is left out. Returns how many were added.
    /// Much faster than one by one, most of all with ascending ids.
    pub fn insert_page(&mut self, page: &Page) -> usize {
        let mut known: Vec<Option<PairId>> = vec![None; page.pairs.len()];
        let (mut row, mut added) = (Vec::new(), 0);
        for series in &page.rows {
            if self.contains(series.id) || (series.end - series.start) as usize > crate::rows::MAX_ROW {
                continue;
            }
            row.clear();
            for cell in page.cells_of(series) {
                let Some(slot) = known.get_mut(*cell as usize) else { continue };
                if slot.is_none() {
                    *slot = page.pair(*cell).map(|(name, value)| self.pairs.intern(name, value));
                }
                row.extend(*slot);
            }
            self.insert_row(series.id, &row);
            added += 1;
        }
        added
    }
}
