//! Which runs of four bytes occur in some lines: a bitmap of their hashes.
//!
//! A line that contains a text contains all of its 4-grams, wherever in a word the text begins
//! and ends, so that a bitmap which lacks one of them excludes its lines. ASCII letters count as
//! lower case; bytes above 127 stay as they are. Grams do not reach from one line into the next.
//!
//! Grams of letters are left to the dictionary of words where it is complete, which knows them
//! better: a bitmap is thinner by 4 % without them, and lets half as many blocks through for an id.

use std::fmt;

/// The most that a slab keeps of a block; nearly all are folded to half or less of it.
pub(super) const BITS: u32 = 16;
pub(super) const SLOTS: usize = 1 << BITS;
const WORDS: usize = SLOTS / 64;

/// Calls `each` with the slot of every gram of a text in lower case, and whether it is the inside
/// of a word.
#[inline(always)]
pub(super) fn slots(lower: &[u8], mut each: impl FnMut(usize, bool)) {
    for gram in lower.windows(4).filter_map(|window| window.first_chunk::<4>()) {
        let gram = u32::from_le_bytes(*gram);
        each((gram.wrapping_mul(0x9E37_79B1) >> (u32::BITS - BITS)) as usize, is_of_word(gram));
    }
}

/// Whether all bytes are letters and one of them is beyond `f`: then the run they are in is a
/// word, since only such runs are. The few other characters of ASCII's last rows count as letters.
#[inline(always)]
fn is_of_word(gram: u32) -> bool {
    let letters = gram & 0xE0E0_E0E0 == 0x6060_6060;
    // Seven and more, in the five low bits, carry into the sixth.
    let beyond_f = ((gram & 0x1F1F_1F1F) + 0x1919_1919) & 0x2020_2020 != 0;
    letters & beyond_f
}

/// The grams of a set of lines, and whether one of them has bytes above 127. 8 KiB.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct GramMap {
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
    pub(super) fn non_ascii(&self) -> bool {
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

/// Builds the map of many lines: a byte for each slot, which is written without being read, and
/// turned into bits at the end.
pub(super) struct GramBuilder {
    /// One more, where those go that are not kept: a store costs less than a branch, since in a
    /// log line letters and digits follow each other as they like.
    seen: Box<[u8; SLOTS + 1]>,
}

impl Default for GramBuilder {
    fn default() -> Self {
        Self { seen: Box::new([0; SLOTS + 1]) }
    }
}

impl GramBuilder {
    /// Adds a line in lower case, with or without the insides of words.
    pub(super) fn line(&mut self, lower: &[u8], with_words: bool) {
        let seen = &mut *self.seen;
        slots(lower, |slot, of_word| {
            let slot = if of_word & !with_words { SLOTS } else { slot };
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
