//! Level words that stand alone in a text.

use super::Level;

/// What may stand in front of a level word, what may stand behind one, and which bytes begin one.
const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const BEGINS: u8 = 4;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut i = 0;
    let left = b" \t\n[({\"'=|";
    while i < left.len() {
        class[left[i] as usize] |= LEFT | RIGHT;
        i += 1;
    }
    let right = b"]):},!";
    i = 0;
    while i < right.len() {
        class[right[i] as usize] |= RIGHT;
        i += 1;
    }
    let begins = b"tdfcewiTDFCEWI";
    i = 0;
    while i < begins.len() {
        class[begins[i] as usize] |= BEGINS;
        i += 1;
    }
    class
};

const WORDS: [(&[u8], Level); 9] = [
    (b"trace", Level::Trace),
    (b"debug", Level::Debug),
    (b"fatal", Level::Fatal),
    (b"critical", Level::Critical),
    (b"error", Level::Error),
    (b"err", Level::Error),
    (b"warning", Level::Warn),
    (b"warn", Level::Warn),
    (b"info", Level::Info),
];

/// The level of the first word that stands alone; unknown where there is none.
pub(super) fn first(line: &[u8]) -> Level {
    if let Some(level) = word_at(line, 0) {
        return level;
    }
    // Eight places at a time, without a branch for each: a place counts where a word may begin
    // behind what may stand in front of one.
    let mut at = 0;
    while let Some(window) = line.get(at..).and_then(|rest| rest.first_chunk::<9>()) {
        let mut places = 0u8;
        for i in 0..8 {
            let here = CLASS[usize::from(window[i])] & LEFT;
            let next = CLASS[usize::from(window[i + 1])] / BEGINS;
            places |= (here & next) << i;
        }
        while places != 0 {
            let place = at + places.trailing_zeros() as usize + 1;
            if let Some(level) = word_at(line, place) {
                return level;
            }
            places &= places - 1;
        }
        at += 8;
    }
    let tail = at..line.len();
    tail.filter(|i| CLASS[usize::from(line[*i])] & LEFT != 0)
        .find_map(|i| word_at(line, i + 1))
        .unwrap_or(Level::Unknown)
}

/// The level word that begins here and ends where a word may end.
fn word_at(line: &[u8], at: usize) -> Option<Level> {
    let rest = line.get(at..)?;
    let found = WORDS.iter().find(|(word, _)| {
        rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
            && rest.get(word.len()).is_none_or(|b| CLASS[usize::from(*b)] & RIGHT != 0)
    });
    found.map(|(_, level)| *level)
}
