//! Line demands, compiled for looking them up in grams and words.

use pilothouse_model::logs::{LineDemand, Literal};

use super::grams::{GramMap, slots};
use super::words::{LONGEST, Letters, Words, is_hex};

/// More grams of one text tell nothing new.
const MOST_GRAMS: usize = 32;

/// What blocks must have for the demands of a query to be met.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// All must be met; each by one of its alternatives at least.
    pub(super) demands: Vec<Vec<Alternative>>,
}

/// Pieces of text that must all occur in a line.
#[derive(Debug, Clone, Default)]
pub(super) struct Alternative {
    pub(super) pieces: Vec<Piece>,
}

/// A piece that is compared byte by byte, but for the case of ASCII letters.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Letters may also match others by Unicode's folding: says nothing of lines that have bytes
    /// above 127.
    pub(super) ascii_only: bool,
    pub(super) slots: Vec<usize>,
    /// Of insides of words, which only blocks without all their words have.
    pub(super) word_slots: Vec<usize>,
    /// To be found in a dictionary in which a line feed stands before and behind each word: a
    /// line feed here means that the word begins or ends at this place.
    pub(super) words: Vec<Vec<u8>>,
}

impl Probe {
    pub fn new(demands: &[LineDemand]) -> Self {
        let demands = demands.iter().filter(|demand| demand.prunes());
        let demands = demands.map(|demand| demand.alternatives.iter().map(|a| Alternative::new(a)).collect());
        let mut demands: Vec<Vec<Alternative>> = demands.collect();
        demands.retain(|demand| demand.iter().all(|a| !a.pieces.is_empty()));
        Self { demands }
    }

    /// Whether it can exclude anything; if not, filters need not be read.
    pub fn prunes(&self) -> bool {
        !self.demands.is_empty()
    }

    /// Whether one of the lines with these grams and words may meet all demands.
    pub(super) fn may_match(&self, grams: &GramMap, words: &Words) -> bool {
        let piece = |piece: &Piece| {
            (piece.ascii_only && grams.non_ascii())
                || piece.slots.iter().all(|slot| grams.has(*slot))
                    && match words.complete {
                        true => piece.words.iter().all(|word| words.holds(word)),
                        false => piece.word_slots.iter().all(|slot| grams.has(*slot)),
                    }
        };
        self.demands.iter().all(|demand| demand.iter().any(|a| a.pieces.iter().all(piece)))
    }
}

impl Alternative {
    fn new(literals: &[Literal]) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for literal in literals {
            if literal.fold_case {
                // What is not ASCII may match something else, even an ASCII letter, so nothing is
                // known of what lies at its place.
                let parts = literal.text.split(|c: char| !c.is_ascii());
                pieces.extend(parts.map(|part| Piece::new(part.as_bytes(), true)));
            } else {
                pieces.push(Piece::new(literal.text.as_bytes(), false));
            }
        }
        pieces.retain(|piece| !piece.slots.is_empty() || !piece.word_slots.is_empty());
        Self { pieces }
    }
}

impl Piece {
    fn new(text: &[u8], ascii_only: bool) -> Self {
        let lower = text.to_ascii_lowercase();
        let (mut plain, mut of_words) = (Vec::new(), Vec::new());
        slots(&lower, |slot, of_word| if of_word { of_words.push(slot) } else { plain.push(slot) });
        Self { ascii_only, slots: a_few(plain), word_slots: a_few(of_words), words: words(&lower) }
    }
}

fn a_few(all: Vec<usize>) -> Vec<usize> {
    let step = all.len().div_ceil(MOST_GRAMS).max(1);
    let mut few: Vec<usize> = all.into_iter().step_by(step).collect();
    few.dedup();
    few
}

/// The runs of letters of a text in lower case, as far as dictionaries know such ones.
fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut letters = Letters::default();
    letters.read(text);
    let mut at = 0;
    while let Some(run) = letters.next_run(at, text.len()) {
        at = run.end;
        let Some(run_text) = text.get(run.clone()).filter(|t| t.len() <= LONGEST && !is_hex(t)) else {
            continue;
        };
        let mut word = Vec::with_capacity(run.len() + 2);
        if run.start > 0 {
            word.push(b'\n');
        }
        word.extend_from_slice(run_text);
        if run.end < text.len() {
            word.push(b'\n');
        }
        words.push(word);
    }
    words
}
