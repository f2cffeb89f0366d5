//! Groups of label sets: what `by`, `without`, `on` and `ignoring` make equal.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::HashTable;
use pilothouse_model::Labels;
use pilothouse_model::labels::METRIC_NAME;

/// Which labels of a set count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// Only these.
    By(Vec<String>),
    /// All but these and the metric name.
    Without(Vec<String>),
}

impl Grouping {
    /// Keeps its names sorted, the metric name among those that `Without` leaves out.
    pub fn new(mut names: Vec<String>, without: bool) -> Self {
        if without {
            names.push(METRIC_NAME.to_owned());
        }
        names.sort_unstable();
        names.dedup();
        if without { Self::Without(names) } else { Self::By(names) }
    }

    fn keeps(&self, name: &str) -> bool {
        let named = |names: &[String]| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
        match self {
            Self::By(names) => named(names),
            Self::Without(names) => !named(names),
        }
    }

    fn kept<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
        labels.iter().filter(|(name, _)| self.keeps(name))
    }

    /// The labels that count.
    pub fn project(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) if names.is_empty() => Labels::empty(),
            _ => labels.filter(|name| self.keeps(name)),
        }
    }
}

/// Numbers the groups that label sets fall into, in the order they are met.
#[derive(Debug)]
pub struct Groups {
    grouping: Grouping,
    state: foldhash::fast::RandomState,
    table: HashTable<usize>,
    labels: Vec<Labels>,
}

impl Groups {
    pub fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            state: foldhash::fast::RandomState::default(),
            table: HashTable::new(),
            labels: Vec::new(),
        }
    }

    /// The group of a label set, made if there is none yet.
    pub fn number(&mut self, labels: &Labels) -> usize {
        let (state, grouping, known) = (&self.state, &self.grouping, &self.labels);
        if matches!(grouping, Grouping::By(names) if names.is_empty()) {
            if known.is_empty() {
                self.labels.push(Labels::empty());
            }
            return 0;
        }
        let hash = hash_pairs(state, grouping.kept(labels));
        let same = |i: &usize| known[*i].iter().eq(grouping.kept(labels));
        if let Some(i) = self.table.find(hash, same) {
            return *i;
        }
        let number = self.labels.len();
        self.labels.push(self.grouping.project(labels));
        let (state, known) = (&self.state, &self.labels);
        self.table.insert_unique(hash, number, |i| hash_pairs(state, known[*i].iter()));
        number
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels of the groups, by number.
    pub fn labels(&self) -> &[Labels] {
        &self.labels
    }

    pub fn into_labels(self) -> Vec<Labels> {
        self.labels
    }
}

fn hash_pairs<'a>(state: &impl BuildHasher, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hasher = state.build_hasher();
    for pair in pairs {
        pair.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_numbered_as_they_are_met() {
        let sets = ["x", "y", "x"].map(|a| Labels::from_pairs([("__name__", "m"), ("a", a), ("b", "1")]));
        for (names, without, want, last) in [
            (vec!["a"], false, [0, 1, 0], r#"{a="y"}"#),
            (vec!["b", "c"], false, [0, 0, 0], r#"{b="1"}"#),
            (vec![], false, [0, 0, 0], "{}"),
            (vec!["b"], true, [0, 1, 0], r#"{a="y"}"#),
            (vec!["a"], true, [0, 0, 0], r#"{b="1"}"#),
        ] {
            let names = names.into_iter().map(str::to_owned).collect();
            let mut groups = Groups::new(Grouping::new(names, without));
            assert_eq!(sets.each_ref().map(|set| groups.number(set)), want);
            assert_eq!(groups.labels().last().map(ToString::to_string).as_deref(), Some(last));
        }
    }
}
