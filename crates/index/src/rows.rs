//! Which pairs each series has: rows of pair ids in chunks of one size, found through pages of
//! spans, so that ids may grow for ever while only live series take memory.

use crate::pairs::PairId;

/// Pair ids in a chunk. A row never crosses chunks.
const CHUNK: usize = 1 << 16;
/// The longest row.
pub(crate) const MAX_ROW: usize = u16::MAX as usize - 1;
/// Spans in a page.
const PAGE: usize = 1 << 10;

#[derive(Debug, Clone, Copy)]
struct Span {
    at: u32,
    len: u16,
}

impl Span {
    const NONE: Self = Self { at: 0, len: u16::MAX };

    fn is_some(self) -> bool {
        self.len != u16::MAX
    }
}

#[derive(Debug)]
struct Page {
    spans: [Span; PAGE],
    live: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pages: Vec<Option<Box<Page>>>,
    chunks: Vec<Box<[PairId]>>,
    /// How much of the last chunk is used.
    used: usize,
    /// Places of removed rows by their length.
    free: Vec<Vec<u32>>,
    len: usize,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, id: u32) -> Option<&[PairId]> {
        let page = self.pages.get(id as usize / PAGE)?.as_ref()?;
        let span = page.spans.get(id as usize % PAGE)?;
        if span.is_some() { self.slice(*span) } else { None }
    }

    fn slice(&self, span: Span) -> Option<&[PairId]> {
        if span.len == 0 {
            // Such a row has no place, maybe in no chunk.
            return Some(&[]);
        }
        let (chunk, from) = (span.at as usize / CHUNK, span.at as usize % CHUNK);
        self.chunks.get(chunk)?.get(from..from + usize::from(span.len))
    }

    /// Sets the row of an id that has none; at most [`MAX_ROW`] pairs.
    pub(crate) fn insert(&mut self, id: u32, row: &[PairId]) {
        let len = row.len().min(MAX_ROW) as u16;
        let span = Span { at: self.place(usize::from(len)), len };
        let (chunk, from) = (span.at as usize / CHUNK, span.at as usize % CHUNK);
        if let Some(target) = self.chunks.get_mut(chunk).and_then(|c| c.get_mut(from..from + row.len())) {
            target.copy_from_slice(row);
        }
        self.set_span(id, span);
        self.len += 1;
    }

    fn set_span(&mut self, id: u32, span: Span) {
        let (page, slot) = (id as usize / PAGE, id as usize % PAGE);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page =
            self.pages[page].get_or_insert_with(|| Box::new(Page { spans: [Span::NONE; PAGE], live: 0 }));
        page.live += u32::from(!page.spans[slot].is_some());
        page.spans[slot] = span;
    }

    /// A place for a row: that of a removed one, cut to size if it was longer, or a new one.
    fn place(&mut self, len: usize) -> u32 {
        if len == 0 {
            return 0;
        }
        let longer = self.free.iter().enumerate().skip(len).find(|(_, places)| !places.is_empty());
        let longer = longer.map(|(length, _)| length);
        if let Some(length) = longer
            && let Some(at) = self.free[length].pop()
        {
            self.free_place(at + len as u32, length - len);
            return at;
        }
        self.place_at_end(len)
    }

    fn place_at_end(&mut self, len: usize) -> u32 {
        if self.chunks.is_empty() || self.used + len > CHUNK {
            if let Some(last) = self.chunks.len().checked_sub(1) {
                let (at, left) = (last * CHUNK + self.used, CHUNK - self.used);
                self.free_place(at as u32, left);
            }
            self.chunks.push(vec![0; CHUNK].into_boxed_slice());
            self.used = 0;
        }
        let at = (self.chunks.len() - 1) * CHUNK + self.used;
        self.used += len;
        at as u32
    }

    fn free_place(&mut self, at: u32, len: usize) {
        if len == 0 {
            return;
        }
        if len >= self.free.len() {
            self.free.resize_with(len + 1, Vec::new);
        }
        self.free[len].push(at);
    }

    /// Removes and returns a row.
    pub(crate) fn remove(&mut self, id: u32) -> Option<Vec<PairId>> {
        let row = self.get(id)?.to_vec();
        let slot = self.pages.get_mut(id as usize / PAGE)?;
        let page = slot.as_mut()?;
        let span = std::mem::replace(page.spans.get_mut(id as usize % PAGE)?, Span::NONE);
        page.live -= 1;
        if page.live == 0 {
            *slot = None;
        }
        self.free_place(span.at, usize::from(span.len));
        self.len -= 1;
        Some(row)
    }

    /// Lays all rows side by side again, giving back what removed ones took.
    pub(crate) fn compact(&mut self) {
        let mut compacted = Self::default();
        for (page, spans) in self.pages.iter().enumerate() {
            for (slot, span) in spans.iter().flat_map(|p| p.spans.iter().enumerate()) {
                if span.is_some()
                    && let Some(row) = self.slice(*span)
                {
                    compacted.insert((page * PAGE + slot) as u32, row);
                }
            }
        }
        *self = compacted;
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count() * size_of::<Page>();
        let free: usize = self.free.iter().map(|f| f.capacity() * size_of::<u32>()).sum();
        self.pages.capacity() * size_of::<Option<Box<Page>>>()
            + pages
            + self.chunks.len() * CHUNK * size_of::<PairId>()
            + self.free.capacity() * size_of::<Vec<u32>>()
            + free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    proptest::proptest! {
        #[test]
        fn rows_are_a_map(changes in proptest::collection::vec((0u32..4000, 0usize..20, proptest::bool::ANY), 0..400)) {
            let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
            for (i, (id, len, add)) in changes.into_iter().enumerate() {
                if !add {
                    proptest::prop_assert_eq!(rows.remove(id), model.remove(&id));
                } else if let std::collections::btree_map::Entry::Vacant(slot) = model.entry(id) {
                    let row: Vec<u32> = (0..len as u32).map(|k| k * 1000 + i as u32).collect();
                    rows.insert(id, &row);
                    slot.insert(row);
                }
                if i % 97 == 0 {
                    rows.compact();
                }
                proptest::prop_assert_eq!(rows.len(), model.len());
            }
            for id in 0..4000 {
                proptest::prop_assert_eq!(rows.get(id), model.get(&id).map(Vec::as_slice));
            }
        }
    }

    #[test]
    fn places_of_removed_rows_are_used_again() {
        let mut rows = Rows::default();
        for round in 0..50u32 {
            for i in 0..10_000u32 {
                rows.insert(round * 10_000 + i, &[7; 12]);
            }
            for i in 0..10_000u32 {
                rows.remove(round * 10_000 + i);
            }
        }
        assert_eq!(rows.len(), 0);
        assert!(rows.chunks.len() <= 3, "{} chunks", rows.chunks.len());
    }
}
