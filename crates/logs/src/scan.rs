//! Texts of which lines must hold one. Lines in memory have no filter; a search for what they must
//! hold costs less than to copy them for who asks.

use memchr::memmem::Finder;
use pilothouse_model::logs::{LineDemand, Literal};

/// Each is looked for by itself, so that many cost more than they save.
const MOST_TEXTS: usize = 4;

#[derive(Debug)]
pub(crate) struct Scan {
    /// None: nothing is excluded.
    texts: Vec<Finder<'static>>,
}

impl Scan {
    /// Of several demands the one with the longest texts, which are the rarest as a rule.
    pub(crate) fn new(demands: &[LineDemand]) -> Self {
        let texts = |demand: &LineDemand| {
            let texts: Vec<String> =
                demand.alternatives.iter().map(|literals| longest(literals)).collect::<Option<_>>()?;
            (1..=MOST_TEXTS).contains(&texts.len()).then_some(texts)
        };
        let shortest = |texts: &Vec<String>| texts.iter().map(String::len).min();
        let best = demands.iter().filter_map(texts).max_by_key(shortest).unwrap_or_default();
        Self { texts: best.iter().map(|text| Finder::new(text).into_owned()).collect() }
    }

    /// Whether a line in the text, one behind the other, may meet the demands.
    pub(crate) fn may_match(&self, lines: &str) -> bool {
        self.texts.is_empty() || self.texts.iter().any(|text| text.find(lines.as_bytes()).is_some())
    }
}

fn longest(literals: &[Literal]) -> Option<String> {
    let exact = literals.iter().filter(|literal| !literal.fold_case && !literal.text.is_empty());
    exact.map(|literal| literal.text.clone()).max_by_key(String::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(alternatives: &[&[(&str, bool)]]) -> LineDemand {
        let literal =
            |(text, fold_case): &(&str, bool)| Literal { text: (*text).to_owned(), fold_case: *fold_case };
        let alternatives = alternatives.iter().map(|all| all.iter().map(literal).collect()).collect();
        LineDemand { alternatives }
    }

    #[test]
    fn only_what_no_line_can_meet_is_excluded() {
        let (id, either) = (demand(&[&[("7f3a", false)]]), demand(&[&[("a", false)], &[("warn", false)]]));
        let folded = demand(&[&[("ERROR", true)], &[("x", false)]]);
        for (demands, lines, expected) in [
            (vec![], "", true),
            (vec![id.clone()], "id=7f3b id=7f3", false),
            (vec![id.clone()], "id=7f3b id=7f3a", true),
            (vec![either.clone()], "warning", true),
            (vec![either.clone()], "info", false),
            // The longer one is looked for.
            (vec![either.clone(), id.clone()], "warning", false),
            (vec![id, either], "7f3a", true),
            // Of what may be written in several ways nothing is known.
            (vec![folded.clone()], "", true),
            (vec![folded, demand(&[&[("b", false), ("long", false)]])], "b", false),
            (vec![demand(&[&[]])], "", true),
            (vec![demand(&[&[("a", false)][..]; 5])], "", true),
        ] {
            assert_eq!(Scan::new(&demands).may_match(lines), expected, "{demands:?} in {lines:?}");
        }
    }
}
