//! Which runs of four bytes occur in some lines: a bitmap of their hashes.
//!
//! A line that contains a text contains all of its 4-grams, wherever in a word the text begins
//! and ends, so that a bitmap which lacks one of them excludes its lines. ASCII letters count as
//! lower case; bytes above 127 stay as they are. Grams do not reach from one line into the next.

use std::fmt;

/// The most that a slab keeps of a block; nearly all are folded to half or less of it.
pub(super) const BITS: u32 = 16;
pub(super) const SLOTS: usize = 1 << BITS;
const WORDS: usize = SLOTS / 64;
/// Bytes of a line that are turned into lower case at once.
const PIECE: usize = 512;

/// Calls `each` with the slot of every gram of a text in lower case.
#[inline(always)]
pub(super) fn slots(lower: &[u8], mut each: impl FnMut(usize)) {
    for gram in lower.windows(4).filter_map(|window| window.first_chunk::<4>()) {
        let hash = u32::from_le_bytes(*gram).wrapping_mul(0x9E37_79B1);
        each((hash >> (u32::BITS - BITS)) as usize);
    }
}

/// The grams of a set of lines, and whether one of them has bytes above 127. 8 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct GramMap {
    words: Box<[u64; WORDS]>,
    non_ascii: bool,
}

impl Default for GramMap {
    fn default() -> Self {
        Self { words: Box::new([0; WORDS]), non_ascii: false }
    }
}

impl fmt::Debug for GramMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GramMap").field("ones", &self.ones()).field("non_ascii", &self.non_ascii).finish()
    }
}

impl GramMap {
    /// Adds a line; for the lines of the tail as they come.
    pub fn add(&mut self, line: &str) {
        let words = &mut *self.words;
        let mut lower = [0u8; PIECE];
        let mut rest = line.as_bytes();
        while rest.len() > 3 {
            let (piece, _) = rest.split_at(rest.len().min(PIECE));
            // The last three bytes begin the next piece too.
            rest = rest.get(piece.len() - 3..).unwrap_or(&[]);
            let Some(lower) = lower.get_mut(..piece.len()) else { break };
            lower.copy_from_slice(piece);
            lower.make_ascii_lowercase();
            slots(lower, |slot| {
                if let Some(word) = words.get_mut(slot / 64) {
                    *word |= 1 << (slot % 64);
                }
            });
        }
        self.non_ascii |= !line.is_ascii();
    }

    /// Adds all grams of another set of lines.
    pub fn absorb(&mut self, other: &GramMap) {
        self.words.iter_mut().zip(other.words.iter()).for_each(|(own, other)| *own |= other);
        self.non_ascii |= other.non_ascii;
    }

    pub fn clear(&mut self) {
        self.words.fill(0);
        self.non_ascii = false;
    }

    pub fn non_ascii(&self) -> bool {
        self.non_ascii
    }

    #[inline]
    pub(super) fn has(&self, slot: usize) -> bool {
        self.words.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(super) fn ones(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn words(&self) -> &[u64] {
        &*self.words
    }
}

/// Builds the map of many lines at once: a byte for each slot, which is written without being
/// read, and turned into bits at the end.
pub(super) struct GramBuilder {
    seen: Box<[u8; SLOTS]>,
}

impl Default for GramBuilder {
    fn default() -> Self {
        Self { seen: Box::new([0; SLOTS]) }
    }
}

impl GramBuilder {
    /// Adds a line in lower case.
    pub(super) fn line(&mut self, lower: &[u8]) {
        let seen = &mut *self.seen;
        slots(lower, |slot| {
            if let Some(seen) = seen.get_mut(slot) {
                *seen = 1;
            }
        });
    }

    /// The map of the lines since the last call.
    pub(super) fn take(&mut self, non_ascii: bool) -> GramMap {
        let mut map = GramMap { non_ascii, ..GramMap::default() };
        for (word, seen) in map.words.iter_mut().zip(self.seen.as_chunks::<64>().0) {
            for (i, eight) in seen.as_chunks::<8>().0.iter().enumerate() {
                // Gathers the lowest bits of eight bytes in the highest byte of the product.
                let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
                *word |= bits << (8 * i);
            }
        }
        self.seen.fill(0);
        map
    }
}
