//! What is asked of a YAML text before a parser sees it.
//!
//! libyaml and its translations look at every open bracket with each token, so that a megabyte of
//! `[` keeps a thread busy for minutes, before any limit on recursion is reached.

use crate::limits;

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
}
