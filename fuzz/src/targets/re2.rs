//! Regular expressions in RE2 syntax.
//!
//! Strategy: the bytes up to the first zero are the expression, the others are texts.
//! Invariants: never a panic; the short ways agree with the automaton; the prefix is one of every
//! text that matches; every text of a set matches; quoted text matches itself alone.

use pilothouse_model::matcher::pattern::set_max_compiled_bytes;
use pilothouse_model::matcher::{Anchoring, CapturingPattern, Pattern};

pub fn run(data: &[u8]) {
    // What grows has to be refused soon, or little is tried.
    set_max_compiled_bytes(1 << 18);
    let mut parts = data.split(|b| *b == 0).map(String::from_utf8_lossy);
    let expression = parts.next().unwrap_or_default();
    let texts: Vec<_> = parts.take(16).chain([expression.clone()]).collect();
    for anchoring in [Anchoring::Whole, Anchoring::Part] {
        let Ok(pattern) = Pattern::new(&expression, anchoring) else { continue };
        // A set may have texts for which an automaton would be too large.
        let Ok(plain) = CapturingPattern::new(&expression, anchoring) else { continue };
        for text in &texts {
            let matched = plain.captures(text).is_some();
            assert_eq!(pattern.is_match(text), matched, "{expression:?} {anchoring:?} on {text:?}");
            assert!(!matched || text.starts_with(pattern.prefix()), "{expression:?} {:?}", pattern.prefix());
        }
        for text in pattern.set_matches().unwrap_or_default() {
            assert!(plain.captures(text).is_some(), "{expression:?} does not match {text:?}");
        }
        let _ = plain.expand(&texts[0], &expression);
    }
    if !expression.contains("\\E")
        && let Ok(quoted) = Pattern::new(&format!("\\Q{expression}\\E"), Anchoring::Whole)
    {
        for text in &texts {
            assert_eq!(quoted.is_match(text), text == &expression);
        }
    }
}
