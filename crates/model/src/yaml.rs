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

/// Whether aliases stand for so much that a reader, which puts a copy in the place of each, would need
/// far more memory than the text has bytes. Nothing is copied to find out.
pub fn repeats_too_much(text: &[u8]) -> bool {
    if !text.contains(&b'*') || !text.contains(&b'&') {
        return false;
    }
    let Ok(text) = std::str::from_utf8(text) else { return true };
    let mut sizes = Sizes::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, _)) => sizes.take(event),
            // What is wrong is told by who reads it, if it finds anything wrong.
            Err(_) => return text.matches('*').count() as u64 * text.len() as u64 > REPEATED_BYTES,
        }
        if sizes.repeated_bytes > REPEATED_BYTES {
            return true;
        }
    }
    false
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
        ] {
            assert_eq!(repeats_too_much(text.as_bytes()), expected, "{text:.40}");
        }
        assert!(repeats_too_much(b"\xff\xfe&\0*\0"), "nobody looks into other encodings");
    }
}
