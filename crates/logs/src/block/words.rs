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

use hashbrown::HashTable;

pub(super) const SHORTEST: usize = 4;
pub(super) const LONGEST: usize = 40;
/// More different words than this in a block are no words but noise, such as Base64.
const MOST: usize = 4096;

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
}

/// Collects the words of lines.
#[derive(Debug, Default)]
pub(super) struct WordCollector {
    text: Vec<u8>,
    table: HashTable<(u32, u32)>,
    hasher: foldhash::fast::RandomState,
    incomplete: bool,
}

impl WordCollector {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.table.clear();
        self.incomplete = false;
    }

    pub(super) fn line(&mut self, line: &[u8]) {
        for run in runs(line) {
            if let Some(run) = line.get(run) {
                self.run(run);
            }
        }
    }

    #[inline]
    fn run(&mut self, run: &[u8]) {
        if run.len() > LONGEST || self.incomplete {
            self.incomplete = true;
            return;
        }
        let mut buffer = [0u8; LONGEST];
        let Some(word) = buffer.get_mut(..run.len()) else { return };
        word.copy_from_slice(run);
        word.make_ascii_lowercase();
        if is_hex(word) {
            return;
        }
        let hash = self.hasher.hash_one(&*word);
        let text = &self.text;
        let same = |(start, end): &(u32, u32)| text.get(*start as usize..*end as usize) == Some(&*word);
        if self.table.find(hash, same).is_some() {
            return;
        }
        if self.table.len() >= MOST {
            self.incomplete = true;
            return;
        }
        let start = self.text.len() as u32;
        self.text.extend_from_slice(word);
        let place = (start, self.text.len() as u32);
        self.text.push(b'\n');
        let (text, hasher) = (&self.text, &self.hasher);
        self.table.insert_unique(hash, place, |(start, end)| {
            hasher.hash_one(text.get(*start as usize..*end as usize).unwrap_or(&[]))
        });
    }

    pub(super) fn take(&mut self) -> Words {
        let complete = !self.incomplete;
        let text = if complete { self.text.as_slice().to_vec() } else { Vec::new() };
        self.clear();
        Words { text, complete }
    }
}

/// Whether a word in lower case has no letter beyond `f`.
pub(super) fn is_hex(word: &[u8]) -> bool {
    word.iter().all(|byte| *byte <= b'f')
}

/// The maximal runs of ASCII letters that are long enough, as ranges.
pub(super) fn runs(line: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = line.get(at..)?;
            let start = at + rest.iter().position(u8::is_ascii_alphabetic)?;
            let rest = line.get(start..)?;
            let length = rest.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len());
            at = start + length;
            if length >= SHORTEST {
                return Some(start..at);
            }
        }
    })
}
