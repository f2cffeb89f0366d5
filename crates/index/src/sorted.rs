//! A sorted list of pair ids that takes insertions anywhere, in four bytes an id.
//!
//! The ids lie in chunks of at most [`CHUNK`]; an insertion moves one chunk only. The order is
//! the caller's: each call is given the text behind an id.

/// Ids in a full chunk; it is then split in two.
const CHUNK: usize = 512;

#[derive(Debug, Clone, Default)]
pub(crate) struct SortedIds {
    /// None is empty.
    chunks: Vec<Vec<u32>>,
    len: usize,
}

impl SortedIds {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds an id whose text no other has.
    pub(crate) fn insert<'a>(&mut self, id: u32, text: impl Fn(u32) -> &'a str) {
        let new = text(id);
        let at = self.chunk_of(new, &text);
        self.len += 1;
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(vec![id]);
            return;
        };
        let place = match chunk.last() {
            // Sorted input goes to the end without a search.
            Some(last) if text(*last) < new => chunk.len(),
            _ => chunk.partition_point(|other| text(*other) < new),
        };
        chunk.insert(place, id);
        if chunk.len() > CHUNK {
            // Sorted input leaves full chunks behind, not half ones.
            let half = if place + 1 == chunk.len() { CHUNK } else { CHUNK / 2 };
            let right = chunk.split_off(half);
            chunk.shrink_to_fit();
            self.chunks.insert(at + 1, right);
        }
    }

    pub(crate) fn remove<'a>(&mut self, id: u32, text: impl Fn(u32) -> &'a str) {
        let at = self.chunk_of(text(id), &text);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let Some(place) = chunk.iter().position(|other| *other == id) else { return };
        chunk.remove(place);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// The chunk where a text is or belongs.
    fn chunk_of<'a>(&self, of: &str, text: &impl Fn(u32) -> &'a str) -> usize {
        let behind = self.chunks.partition_point(|c| c.first().is_some_and(|first| text(*first) <= of));
        behind.saturating_sub(1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flatten().copied()
    }

    /// The ids whose text starts with `prefix`, in order.
    pub(crate) fn with_prefix<'a, 'b>(
        &'b self,
        prefix: &'b str,
        text: impl Fn(u32) -> &'a str + Copy + 'b,
    ) -> impl Iterator<Item = u32> + 'b {
        let from = if prefix.is_empty() { 0 } else { self.chunk_of(prefix, &text) };
        let chunks = self.chunks.get(from..).unwrap_or(&[]);
        let skip = chunks.first().map_or(0, |c| c.partition_point(|id| text(*id) < prefix));
        chunks.iter().flatten().copied().skip(skip).take_while(move |id| text(*id).starts_with(prefix))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Vec<u32>>()
            + self.chunks.iter().map(|c| c.capacity() * size_of::<u32>()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    proptest::proptest! {
        #[test]
        fn order_and_prefixes_hold(
            adds in proptest::collection::vec(0u32..2000, 0..1600),
            drops in proptest::collection::vec(0u32..2000, 0..400),
            prefix in 0u32..30,
            sorted: bool,
        ) {
            let texts: Vec<String> = (0..2000).map(|i| format!("{:x}", i * 7919 % 2003)).collect();
            let text = |id: u32| texts[id as usize].as_str();
            let (mut list, mut model) = (SortedIds::default(), BTreeSet::new());
            let mut adds = adds;
            if sorted {
                adds.sort_by_key(|id| text(*id));
            }
            for id in adds {
                if model.insert((text(id), id)) {
                    list.insert(id, text);
                }
            }
            for id in drops {
                if model.remove(&(text(id), id)) {
                    list.remove(id, text);
                }
            }
            proptest::prop_assert_eq!(list.len(), model.len());
            proptest::prop_assert!(list.iter().eq(model.iter().map(|(_, id)| *id)));
            let prefix = if prefix == 0 { String::new() } else { format!("{prefix:x}") };
            let expected = model.iter().filter(|(t, _)| t.starts_with(&prefix)).map(|(_, id)| *id);
            proptest::prop_assert!(list.with_prefix(&prefix, text).eq(expected));
        }
    }
}
