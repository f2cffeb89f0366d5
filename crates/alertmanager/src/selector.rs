//! Which of very many lists of matchers may hold for a label set, without asking each.
//!
//! Routes, inhibition rules and silences nearly all ask that some label has one of a few values.
//! Each list is filed under such a label, the one under which the fewest are filed already, so
//! that a label set meets only the lists that ask for a value of its own, and those that ask for
//! no value at all.

use std::collections::{BTreeSet, HashMap};

use pilothouse_model::{Labels, MatchOp, Matcher};

/// Values of one expression (`a|b|c`) that a list is filed under; one with more is asked always.
const MAX_VALUES: usize = 64;

/// Lists of matchers by what they ask for. `K` names a list; lists are met in the order of names.
#[derive(Debug, Clone)]
pub(crate) struct Selector<K> {
    by_label: HashMap<String, HashMap<String, BTreeSet<K>>>,
    /// Those that ask for no value.
    others: BTreeSet<K>,
}

impl<K> Default for Selector<K> {
    fn default() -> Self {
        Self { by_label: HashMap::new(), others: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Selector<K> {
    /// Files all lists, named by their place.
    pub(crate) fn of<'m>(lists: impl IntoIterator<Item = (K, &'m [Matcher])>) -> Self {
        let mut selector = Self::default();
        for (key, matchers) in lists {
            selector.insert(key, matchers);
        }
        selector
    }

    pub(crate) fn insert(&mut self, key: K, matchers: &[Matcher]) {
        let asked = matchers.iter().filter_map(|m| Some((m.name.as_str(), values(m)?)));
        let load = |(name, values): &(&str, Vec<&str>)| {
            let filed = |value: &&str| self.by_label.get(*name).and_then(|by| by.get(*value));
            values.iter().filter_map(filed).map(BTreeSet::len).max().unwrap_or(0)
        };
        let Some((name, values)) = asked.min_by_key(load) else {
            self.others.insert(key);
            return;
        };
        let by_value = self.by_label.entry(name.to_owned()).or_default();
        for value in values {
            by_value.entry(value.to_owned()).or_default().insert(key.clone());
        }
    }

    /// Takes a list out that was filed with these matchers.
    pub(crate) fn remove(&mut self, key: &K, matchers: &[Matcher]) {
        self.others.remove(key);
        for matcher in matchers {
            let Some(by_value) = self.by_label.get_mut(&matcher.name) else { continue };
            for value in values(matcher).unwrap_or_default() {
                let Some(keys) = by_value.get_mut(value) else { continue };
                keys.remove(key);
                if keys.is_empty() {
                    by_value.remove(value);
                }
            }
            if by_value.is_empty() {
                self.by_label.remove(&matcher.name);
            }
        }
    }

    /// The lists that may hold for a label set, in order. Whether they do is left to ask.
    pub(crate) fn candidates(&self, labels: &Labels) -> Vec<&K> {
        let mut found: Vec<&K> = self.others.iter().collect();
        for (name, value) in labels {
            found.extend(self.by_label.get(name).and_then(|by| by.get(value)).into_iter().flatten());
        }
        found.sort();
        found
    }
}

/// The values of which a label must have one, where these are few and none is empty: a label that
/// is not there is empty, and no label set shows it.
fn values(matcher: &Matcher) -> Option<Vec<&str>> {
    let values: Vec<&str> = match matcher.op {
        MatchOp::Equal => vec![&matcher.value],
        MatchOp::Regex => matcher.set_matches()?.iter().map(String::as_str).collect(),
        MatchOp::NotEqual | MatchOp::NotRegex => return None,
    };
    let fits = !values.is_empty() && values.len() <= MAX_VALUES && values.iter().all(|v| !v.is_empty());
    fits.then_some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matchers::{match_all, parse_matchers};

    fn filed(texts: &[&str]) -> Selector<usize> {
        let lists: Vec<Vec<Matcher>> = texts.iter().map(|t| parse_matchers(t).unwrap()).collect();
        Selector::of(lists.iter().enumerate().map(|(i, list)| (i, list.as_slice())))
    }

    #[test]
    fn a_label_set_meets_few_lists() {
        let texts = ["a=1,b=x", "a=2,b=x", "a=~\"1|3\"", "a!=1", "a=~\"1.*\"", "c=\"\"", "b=y"];
        let selector = filed(&texts);
        for (labels, expected) in [
            (vec![("a", "1"), ("b", "x")], vec![0, 2, 3, 4, 5]),
            (vec![("a", "3")], vec![2, 3, 4, 5]),
            (vec![("b", "y")], vec![3, 4, 5, 6]),
        ] {
            let met: Vec<usize> =
                selector.candidates(&Labels::from_pairs(labels)).into_iter().copied().collect();
            assert_eq!(met, expected);
        }
        let many: Vec<String> = (0..1_000).map(|i| format!("env=prod,instance=i{i}")).collect();
        let selector = filed(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let labels = Labels::from_pairs([("env", "prod"), ("instance", "i7")]);
        assert!(selector.candidates(&labels).len() <= 2, "the label that tells lists apart");
    }

    fn matcher() -> impl Strategy<Value = String> {
        ("[ab]", prop::sample::select(vec!["=", "!=", "=~", "!~"]), "[xy]?(\\|[xy])?")
            .prop_map(|(name, op, value)| format!("{name}{op}\"{value}\""))
    }

    proptest! {
        #[test]
        fn no_list_that_holds_is_missed(
            lists in prop::collection::vec(prop::collection::vec(matcher(), 0..3), 0..12),
            gone in prop::collection::vec(any::<bool>(), 12),
            (a, b) in ("[xy]?", "[xy]?"),
        ) {
            let lists: Vec<Vec<Matcher>> =
                lists.iter().map(|list| parse_matchers(&list.join(",")).unwrap()).collect();
            let mut selector = Selector::of(lists.iter().enumerate().map(|(i, l)| (i, l.as_slice())));
            let is_gone = |i: usize| gone.get(i).copied().unwrap_or(false);
            for (i, list) in lists.iter().enumerate().filter(|(i, _)| is_gone(*i)) {
                selector.remove(&i, list);
            }
            let labels = Labels::from_pairs([("a", a), ("b", b)]);
            let met: Vec<usize> = selector.candidates(&labels).into_iter().copied().collect();
            prop_assert!(met.is_sorted() && met.iter().all(|i| !is_gone(*i)));
            for (i, list) in lists.iter().enumerate() {
                prop_assert!(is_gone(i) || met.contains(&i) || !match_all(list, &labels));
            }
        }
    }
}
