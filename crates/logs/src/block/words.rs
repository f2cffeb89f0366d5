//! The words of some lines: runs of ASCII letters, lower case, each once.
//!
//! Only letters, since ids would make a dictionary as large as the lines; runs of 4 to 40; and at
//! least one letter beyond `f`, since hexadecimal ids hold random short runs of the others. A
//! text that is looked for is cut in the same way: a run that the text bounds on both sides must
//! be a word of the line, one at its edge must be the end, the begin or the inside of one. So the
//! words may exclude a block even for a text that begins in the middle of a word.
//!
//! That is sound only if every run of the length is there. A block with a longer run, or with
//! more words than are worth keeping, therefore says that its words are not complete, and is
//! never excluded by them.

use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::{HashSet, HashTable};
use memchr::memmem;

pub(super) const SHORTEST: usize = 4;
pub(super) const LONGEST: usize = 40;
/// More different words than this in a block are no words but noise, such as Base64.
const MOST: usize = 4096;
/// Words up to this length are compared as numbers.
const PACKED: usize = 16;

/// The words of a block in no particular order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Each word followed by a line feed.
    pub(super) text: Vec<u8>,
    pub(super) complete: bool,
}

impl Words {
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|byte| *byte == b'\n').filter(|word| !word.is_empty())
    }

    /// Whether a word contains the given letters; line feeds in it are those between words.
    pub(super) fn holds(&self, wanted: &[u8]) -> bool {
        let is_first = wanted.strip_prefix(b"\n").is_some_and(|start| self.text.starts_with(start));
        is_first || memmem::find(&self.text, wanted).is_some()
    }
}

/// Collects the words of blocks.
#[derive(Debug, Default)]
pub(super) struct WordCollector {
    text: Vec<u8>,
    letters: Letters,
    packed: HashTable<u128>,
    long: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
    hasher: foldhash::fast::RandomState,
}

impl WordCollector {
    /// The words of lines in lower case, which lie one behind the other in `text` and have these
    /// lengths. `text` gets some bytes more in the course of it.
    pub(super) fn collect(&mut self, text: &mut Vec<u8>, lengths: &[u32]) -> Words {
        self.text.clear();
        self.packed.clear();
        self.long.clear();
        self.letters.read(text);
        // So that a whole number can be read at each place.
        text.extend([0; PACKED]);
        let complete = self.lines(text, lengths);
        text.truncate(text.len() - PACKED);
        let text = if complete { self.text.as_slice().to_vec() } else { Vec::new() };
        Words { text, complete }
    }

    fn lines(&mut self, text: &[u8], lengths: &[u32]) -> bool {
        let mut start = 0;
        for length in lengths {
            let end = start + *length as usize;
            while let Some(run) = self.letters.next_run(start, end) {
                start = run.end;
                if !self.word(text, run) {
                    return false;
                }
            }
            start = end;
        }
        true
    }

    /// Notes a word; `false` if there is no sense in going on.
    #[inline]
    fn word(&mut self, text: &[u8], run: Range<usize>) -> bool {
        let n = run.len();
        if n > PACKED {
            return n <= LONGEST && self.long_word(text.get(run).unwrap_or(&[]));
        }
        let Some(bytes) = text.get(run.start..).and_then(|rest| rest.first_chunk::<PACKED>()) else {
            return false;
        };
        let word = u128::from_le_bytes(*bytes) & (u128::MAX >> (8 * (PACKED - n)));
        let hash = self.hasher.hash_one(word);
        if self.packed.find(hash, |known| *known == word).is_some() {
            return true;
        }
        let letters = bytes.get(..n).unwrap_or(&[]);
        if is_hex(letters) {
            return true;
        }
        self.packed.insert_unique(hash, word, |word| self.hasher.hash_one(*word));
        self.text.extend_from_slice(letters);
        self.text.push(b'\n');
        self.packed.len() + self.long.len() <= MOST
    }

    #[cold]
    fn long_word(&mut self, word: &[u8]) -> bool {
        if !is_hex(word) && !self.long.contains(word) {
            self.long.insert(word.into());
            self.text.extend_from_slice(word);
            self.text.push(b'\n');
        }
        self.packed.len() + self.long.len() <= MOST
    }
}

/// Whether a word in lower case has no letter beyond `f`.
pub(super) fn is_hex(word: &[u8]) -> bool {
    word.iter().all(|byte| *byte <= b'f')
}

/// Where in a text lower-case letters stand, a bit for each byte.
#[derive(Debug, Default)]
pub(super) struct Letters {
    bits: Vec<u64>,
    /// Where a run of the shortest length begins.
    begins: Vec<u64>,
}

impl Letters {
    pub(super) fn read(&mut self, lower: &[u8]) {
        self.bits.clear();
        let (chunks, rest) = lower.as_chunks::<64>();
        self.bits.extend(chunks.iter().map(letters_of));
        let mut last = [0u8; 64];
        if let Some(last) = last.get_mut(..rest.len()) {
            last.copy_from_slice(rest);
        }
        self.bits.extend([letters_of(&last), 0]);
        self.begins.clear();
        self.begins.extend(self.bits.windows(2).map(|pair| {
            let both = u128::from(pair[0]) | u128::from(pair[1]) << 64;
            let two = both & both >> 1;
            (two & two >> 2) as u64
        }));
    }

    /// The next maximal run that is long enough, within a range of places.
    #[inline]
    pub(super) fn next_run(&self, from: usize, end: usize) -> Option<Range<usize>> {
        let mut from = from;
        while from < end {
            let begin = next_set(&self.begins, from, 0)?;
            let stop = next_set(&self.bits, begin, u64::MAX).unwrap_or(end).min(end);
            if begin + SHORTEST <= stop {
                return Some(begin..stop);
            }
            from = stop.max(from + 1);
        }
        None
    }
}

/// The first place from `from` on whose bit is set once all are turned by `turn`.
#[inline]
fn next_set(bits: &[u64], from: usize, turn: u64) -> Option<usize> {
    let mut at = from / 64;
    let mut word = (bits.get(at)? ^ turn) >> (from % 64) << (from % 64);
    while word == 0 {
        at += 1;
        word = bits.get(at)? ^ turn;
    }
    Some(at * 64 + word.trailing_zeros() as usize)
}

/// Which of 64 bytes are lower-case letters, eight bytes in one step.
#[inline]
fn letters_of(bytes: &[u8; 64]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut letters = 0;
    for (i, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        let low = word & (EACH * 0x7f);
        // The highest bit of each byte: at least `a`, beyond `z`, not ASCII.
        let from_a = low + EACH * (0x80 - b'a' as u64);
        let beyond_z = low + EACH * (0x7f - b'z' as u64);
        let hits = (from_a & !beyond_z & !word) >> 7 & EACH;
        letters |= (hits.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    letters
}
