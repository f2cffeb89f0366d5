//! Lists of series: in memory, as they are visited, and their union.

use std::borrow::Cow;

use roaring::{MultiOps as _, RoaringBitmap};

use crate::Error;

/// How many series a pair has before its list becomes a bitmap. Most pairs of a label with many
/// values have one series, and a bitmap of one takes a hundred bytes.
const FEW: usize = 3;

/// The series of one pair.
#[derive(Debug, Clone)]
pub(crate) enum Postings {
    /// Sorted.
    Few {
        len: u8,
        ids: [u32; FEW],
    },
    Many(Box<RoaringBitmap>),
}

impl Default for Postings {
    fn default() -> Self {
        Self::Few { len: 0, ids: [0; FEW] }
    }
}

impl Postings {
    pub(crate) fn listed(&self) -> Listed<'_> {
        match self {
            Self::Few { len, ids } => Listed::Few(ids.get(..usize::from(*len)).unwrap_or(&[])),
            Self::Many(bitmap) => Listed::Bitmap(bitmap),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Few { len, .. } => u64::from(*len),
            Self::Many(bitmap) => bitmap.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few { len, .. } => *len == 0,
            Self::Many(bitmap) => bitmap.is_empty(),
        }
    }

    pub(crate) fn insert(&mut self, id: u32) {
        match self {
            Self::Many(bitmap) => {
                bitmap.insert(id);
            }
            Self::Few { len, ids } => {
                let held = ids.get(..usize::from(*len)).unwrap_or(&[]);
                let Err(at) = held.binary_search(&id) else { return };
                if held.len() == FEW {
                    let mut bitmap = RoaringBitmap::from_iter(held);
                    bitmap.insert(id);
                    *self = Self::Many(Box::new(bitmap));
                } else {
                    ids.copy_within(at..usize::from(*len), at + 1);
                    ids[at] = id;
                    *len += 1;
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, id: u32) {
        match self {
            Self::Many(bitmap) => {
                bitmap.remove(id);
                if bitmap.len() <= FEW as u64 {
                    let (mut few, mut len) = ([0; FEW], 0);
                    for (slot, id) in few.iter_mut().zip(bitmap.iter()) {
                        *slot = id;
                        len += 1;
                    }
                    *self = Self::Few { len, ids: few };
                }
            }
            Self::Few { len, ids } => {
                let held = ids.get(..usize::from(*len)).unwrap_or(&[]);
                if let Ok(at) = held.binary_search(&id) {
                    ids.copy_within(at + 1..usize::from(*len), at);
                    *len -= 1;
                }
            }
        }
    }

    pub(crate) fn to_bitmap(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Self::Many(bitmap) => Cow::Borrowed(bitmap),
            Self::Few { .. } => Cow::Owned(match self.listed() {
                Listed::Few(ids) => RoaringBitmap::from_iter(ids),
                _ => RoaringBitmap::new(),
            }),
        }
    }

    /// Memory beside the value itself; an estimate from the sizes of roaring's containers.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Many(bitmap) => size_of::<RoaringBitmap>() + bitmap_bytes(bitmap),
        }
    }
}

/// Memory that a bitmap has allocated, about: roaring's containers are lists of two bytes an
/// element, lists of runs, and 8 KiB of bits.
pub(crate) fn bitmap_bytes(bitmap: &RoaringBitmap) -> usize {
    let s = bitmap.statistics();
    let arrays = s.n_values_array_containers as usize * 2;
    arrays
        + s.n_bytes_run_containers as usize
        + s.n_bitset_containers as usize * 8192
        + s.n_containers as usize * 40
}

/// The series of one value as a scan hands them out.
#[derive(Debug, Clone, Copy)]
pub enum Listed<'a> {
    /// Sorted ids.
    Few(&'a [u32]),
    Bitmap(&'a RoaringBitmap),
    /// A bitmap in roaring's portable form, as it lies on disk.
    Bytes(&'a [u8]),
}

impl Listed<'_> {
    /// Whether any of the series is in a selection.
    pub fn intersects(&self, selection: &RoaringBitmap) -> Result<bool, Error> {
        Ok(match self {
            Self::Few(ids) => ids.iter().any(|id| selection.contains(*id)),
            Self::Bitmap(bitmap) => !bitmap.is_disjoint(selection),
            Self::Bytes(bytes) => !read_bitmap(bytes)?.is_disjoint(selection),
        })
    }

    pub fn to_bitmap(&self) -> Result<RoaringBitmap, Error> {
        Ok(match self {
            Self::Few(ids) => ids.iter().collect(),
            Self::Bitmap(bitmap) => (*bitmap).clone(),
            Self::Bytes(bytes) => read_bitmap(bytes)?,
        })
    }
}

/// Reads a bitmap and checks it.
pub(crate) fn read_bitmap(bytes: &[u8]) -> Result<RoaringBitmap, Error> {
    RoaringBitmap::deserialize_from(bytes).map_err(|_| Error::Malformed("bitmap"))
}

/// So many bitmaps are held before they are united, so that a scan of many values stays small.
const HELD_BITMAPS: usize = 1024;
const HELD_IDS: usize = 1 << 16;

/// Unites lists; many at once cost far less than one after the other.
#[derive(Debug, Default)]
pub struct Union<'a> {
    bitmaps: Vec<Cow<'a, RoaringBitmap>>,
    ids: Vec<u32>,
}

impl<'a> Union<'a> {
    pub(crate) fn add(&mut self, postings: &'a Postings) {
        match postings.listed() {
            Listed::Few(ids) => self.add_ids(ids),
            Listed::Bitmap(bitmap) => self.bitmaps.push(Cow::Borrowed(bitmap)),
            Listed::Bytes(_) => {}
        }
    }

    /// Adds what a scan hands out, which does not outlive the visit.
    pub fn add_listed(&mut self, listed: Listed<'_>) -> Result<(), Error> {
        match listed {
            Listed::Few(ids) => self.add_ids(ids),
            other => self.bitmaps.push(Cow::Owned(other.to_bitmap()?)),
        }
        if self.bitmaps.len() >= HELD_BITMAPS {
            let united = self.united();
            self.bitmaps.push(Cow::Owned(united));
        }
        Ok(())
    }

    fn add_ids(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        if self.ids.len() >= HELD_IDS {
            let bitmap = self.take_ids();
            self.bitmaps.push(Cow::Owned(bitmap));
        }
    }

    fn take_ids(&mut self) -> RoaringBitmap {
        self.ids.sort_unstable();
        let bitmap = self.ids.iter().collect();
        self.ids.clear();
        bitmap
    }

    fn united(&mut self) -> RoaringBitmap {
        let bitmaps = std::mem::take(&mut self.bitmaps);
        bitmaps.iter().map(|bitmap| &**bitmap).union()
    }

    pub fn finish(mut self) -> RoaringBitmap {
        if !self.ids.is_empty() {
            let bitmap = self.take_ids();
            self.bitmaps.push(Cow::Owned(bitmap));
        }
        self.united()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_list_takes_the_smaller_form() {
        let mut postings = Postings::default();
        for id in [9, 3, 6] {
            postings.insert(id);
        }
        assert!(matches!(postings.listed(), Listed::Few([3, 6, 9])));
        postings.insert(1);
        assert!(matches!(postings, Postings::Many(_)));
        postings.remove(6);
        assert!(matches!(postings.listed(), Listed::Few([1, 3, 9])));
    }

    proptest::proptest! {
        #[test]
        fn lists_are_sets(changes in proptest::collection::vec((proptest::bool::ANY, 0u32..12), 0..60)) {
            let (mut postings, mut model) = (Postings::default(), BTreeSet::new());
            for (add, id) in changes {
                if add {
                    postings.insert(id);
                    model.insert(id);
                } else {
                    postings.remove(id);
                    model.remove(&id);
                }
                proptest::prop_assert!(postings.to_bitmap().iter().eq(model.iter().copied()));
                proptest::prop_assert_eq!(postings.len(), model.len() as u64);
            }
        }
    }
}
