//! What is asked of a YAML text before a parser sees it.
//!
//! libyaml and its translations look at every open bracket with each token, so that a megabyte of
//! `[` keeps a thread busy for minutes, before any limit on recursion is reached.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

use crate::limits;

/// What a node takes beside its text, about.
const NODE_BYTES: u64 = 64;

/// Whether so many brackets are open at once that no document of anybody's is meant. Brackets in
/// quotes and in block texts count too: they are closed there as a rule.
pub fn is_too_deep(text: &[u8]) -> bool {
    let mut open = 0u32;
    for byte in text {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > limits::YAML_BRACKETS {
            return true;
        }
    }
    false
}

/// What the aliases of a text stand for, which a reader puts a copy of in the place of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aliases {
    /// Little enough.
    Few,
    /// A reader would need far more memory than the text has bytes.
    TooMany,
    /// There is a mistake in the text, at least by the parser that looked here: a reader that goes by the
    /// same one says which, and gets no further. Another may, and `too_many` says whether it had better
    /// not.
    Broken { too_many: bool },
}

/// Whether aliases stand for too much for any reader.
pub fn repeats_too_much(text: &[u8]) -> bool {
    matches!(aliases(text), Aliases::TooMany | Aliases::Broken { too_many: true })
}

/// Looks at the aliases of a text. Nothing is copied to find out.
pub fn aliases(text: &[u8]) -> Aliases {
    if !text.contains(&b'*') || !text.contains(&b'&') {
        return Aliases::Few;
    }
    let Ok(text) = std::str::from_utf8(text) else { return Aliases::Broken { too_many: true } };
    let (mut sizes, mut last) = (Sizes::default(), 0);
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else {
            let rest = text.char_indices().nth(last).and_then(|(at, _)| text.get(at..)).unwrap_or(text);
            return Aliases::Broken { too_many: sizes.with(rest) > REPEATED_BYTES };
        };
        last = span.start.index();
        sizes.take(event);
        if sizes.repeated_bytes > REPEATED_BYTES {
            return Aliases::TooMany;
        }
    }
    Aliases::Few
}

/// How many words of a text begin with a mark, as those of aliases and anchors do. In quotes and comments
/// they count too.
fn marked(text: &str, mark: char) -> u64 {
    let may_precede = |c: char| c.is_whitespace() || "[{,:?".contains(c);
    let may_follow = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let is_one = |(at, _): &(usize, &str)| {
        let (before, behind) = text.split_at(*at);
        before.chars().next_back().is_none_or(may_precede) && behind.chars().nth(1).is_some_and(may_follow)
    };
    text.match_indices(mark).filter(is_one).count() as u64
}

const REPEATED_BYTES: u64 = limits::YAML_REPEATED_BYTES;

#[derive(Default)]
struct Sizes {
    /// Anchors of collections that are open, and what is in them so far.
    open: Vec<(usize, u64)>,
    /// Of whole nodes by their anchors, with what stands for aliases in them.
    anchored: HashMap<usize, u64>,
    /// What all aliases stand for together.
    repeated_bytes: u64,
}

impl Sizes {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Scalar(text, _, anchor, _) => self.add(anchor, NODE_BYTES + text.len() as u64),
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                self.open.push((anchor, NODE_BYTES));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((anchor, bytes)) = self.open.pop() {
                    self.add(anchor, bytes);
                }
            }
            Event::Alias(anchor) => {
                let bytes = self.anchored.get(&anchor).copied().unwrap_or(0);
                self.repeated_bytes = self.repeated_bytes.saturating_add(bytes);
                self.add(0, bytes);
            }
            _ => {}
        }
    }

    /// What aliases stand for at most if the rest of the text is read, which is not taken apart: each for
    /// the longest of what has an anchor, or gets one there.
    fn with(&self, rest: &str) -> u64 {
        let rest_bytes = NODE_BYTES + rest.len() as u64;
        let known = self.anchored.values().copied();
        let open = self.open.iter().filter(|(anchor, _)| *anchor > 0).map(|(_, bytes)| bytes + rest_bytes);
        let coming = (marked(rest, '&') > 0).then_some(rest_bytes);
        let longest = known.chain(open).chain(coming).max().unwrap_or(0);
        self.repeated_bytes.saturating_add(marked(rest, '*').saturating_mul(longest))
    }

    fn add(&mut self, anchor: usize, bytes: u64) {
        if anchor > 0 {
            self.anchored.insert(anchor, bytes);
        }
        if let Some((_, within)) = self.open.last_mut() {
            *within = within.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_means_is_too_deep() {
        for (text, expected) in [
            ("a: [1, 2, {b: c}]".to_owned(), false),
            ("x: '[0-9]+'\n".repeat(10_000), false),
            ("{{ if .a }}b{{ end }}".repeat(10_000), false),
            ("]".repeat(10_000), false),
            ("[".repeat(500), false),
            ("[".repeat(501), true),
            ("{routes: [".repeat(300), true),
        ] {
            assert_eq!(is_too_deep(text.as_bytes()), expected, "{text:.40}");
        }
    }

    #[test]
    fn aliases_may_stand_for_a_few_megabytes() {
        let long = "x".repeat(100_000);
        let of = |n: usize| format!("a: [&a \"{long}\"{}]\n", ", *a".repeat(n));
        let levels = |n: u8| {
            let level = |i: u8| {
                let (own, below) = (char::from(b'a' + i), char::from(b'a' + i - 1));
                format!("{own}: &{own} [{}]\n", vec![format!("*{below}"); 9].join(", "))
            };
            format!("a: &a [x, y]\n{}", (1..=n).map(level).collect::<String>())
        };
        for (text, expected) in [
            ("a: &a {b: c}\nd: *a\n".to_owned(), false),
            ("expr: a & b * c\n".repeat(1_000), false),
            (of(10), false),
            (of(200), true),
            (levels(3), false),
            (levels(9), true),
            (format!("{}\n\"unclosed: [&a *a", of(10)), false),
            (format!("x: ]\n{}", of(10_000)), true),
            (format!("a: &a [b]\nc: *a\n{}x: ]\n", "- expr: '5 * 3 =~ \".*\"'\n".repeat(9_000)), false),
            (format!("a: &a [b]\n{}x: ]\n{}", "y: z\n".repeat(40_000), "c: *a\n".repeat(50)), false),
            (format!("a: &a [b]\nx: ]\n{}", "y: &b z\nc: *a\n".repeat(9_000)), true),
            (format!("a: &a {long}\nx: ]\n{}", "- [*a,*a]\n".repeat(50)), true),
        ] {
            assert_eq!(repeats_too_much(text.as_bytes()), expected, "{text:.40}");
        }
        assert_eq!(aliases(b"a: &a b\nc: [*a\nd: ]]"), Aliases::Broken { too_many: false });
        assert!(repeats_too_much(b"\xff\xfe&\0*\0"), "nobody looks into other encodings");
    }
}
