//! Label sets under other label sets.

use std::collections::BTreeMap;

use pilothouse_model::Labels;

/// Labels to be laid over those of a result: sorted, each name once; an empty value removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overlay(Vec<(String, String)>);

impl Overlay {
    pub(crate) fn new(labels: BTreeMap<String, String>) -> Self {
        Self(labels.into_iter().collect())
    }

    /// The base with this over it.
    pub(crate) fn over(&self, base: &Labels) -> Labels {
        self.over_without(base, "")
    }

    /// As [`Overlay::over`], without one label of the base.
    pub(crate) fn over_without(&self, base: &Labels, absent: &str) -> Labels {
        let mut below = base.iter().filter(|(name, _)| *name != absent).peekable();
        let mut above = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).peekable();
        let merged = std::iter::from_fn(move || {
            let (Some((low, _)), Some((high, _))) = (below.peek(), above.peek()) else {
                return above.next().or_else(|| below.next());
            };
            if low < high {
                return below.next();
            }
            if low == high {
                below.next();
            }
            above.next()
        });
        Labels::from_sorted(merged.filter(|(_, value)| !value.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_above_wins_and_empty_removes() {
        let overlay = Overlay::new(
            [("b", "2"), ("c", ""), ("z", "9")].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
        );
        let base = Labels::from_pairs([("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
        assert_eq!(overlay.over(&base).to_string(), r#"{a="1", b="2", d="1", z="9"}"#);
        assert_eq!(overlay.over_without(&base, "a").to_string(), r#"{b="2", d="1", z="9"}"#);
        assert_eq!(overlay.over(&Labels::empty()).to_string(), r#"{b="2", z="9"}"#);
        assert_eq!(Overlay::default().over(&base), base);
    }
}
