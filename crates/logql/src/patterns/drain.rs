//! Lines of one stream, level and shape, gathered in clusters.
//!
//! A line goes down a tree: by its number of tokens, then by one token after the other. A token
//! with a digit in it goes the way of the wildcard, and so does everything once a place has many
//! different tokens. At the end of the way stand the clusters that the line may belong to: it
//! joins the one that is most like it, or founds another.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use pilothouse_model::limits::PATTERN_STREAM_CLUSTERS;
use rustc_hash::FxBuildHasher;

use super::tokens::Tokens;

/// What stands in a pattern where lines differ.
pub(super) const WILDCARD: &str = "<_>";

/// Tokens of a line that the tree looks at, children of a place, and the part of its tokens that
/// a line must share with a cluster, as in Loki.
const MAX_DEPTH: usize = 28;
const MAX_CHILDREN: usize = 15;
const MIN_SIMILARITY: f64 = 0.3;
/// Clusters ever founded; a stream that needs more has no patterns to speak of, and learns no
/// further ones.
const MAX_FOUNDED: u32 = 4 * PATTERN_STREAM_CLUSTERS as u32;

#[derive(Debug)]
pub(super) struct Cluster {
    /// With the blanks in front of each.
    pub(super) tokens: Vec<(Box<str>, u16)>,
    /// Lines by the step they fall into.
    pub(super) samples: BTreeMap<i64, u64>,
    last_met: u64,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(Box<str>, u32)>,
    clusters: Vec<u32>,
}

impl Node {
    fn child(&self, token: &str) -> Option<u32> {
        self.children.iter().find(|(key, _)| **key == *token).map(|(_, node)| *node)
    }
}

#[derive(Debug, Default)]
pub(super) struct Drain {
    nodes: Vec<Node>,
    /// Where the way of lines with so many tokens begins.
    roots: HashMap<usize, u32, FxBuildHasher>,
    clusters: HashMap<u32, Cluster, FxBuildHasher>,
    founded: u32,
    clock: u64,
}

impl Drain {
    /// Counts a line; `true` if it founded a cluster, which it may only where told so.
    pub(super) fn take(&mut self, line: &Tokens<'_>, bucket: i64, weight: u64, may_grow: bool) -> bool {
        self.clock += 1;
        let found = self.leaf(line).and_then(|leaf| self.most_alike(leaf, line));
        match found {
            Some(id) => {
                self.join(id, line, bucket, weight);
                false
            }
            None if !may_grow || self.founded >= MAX_FOUNDED => false,
            None => {
                self.found(line, bucket, weight);
                true
            }
        }
    }

    pub(super) fn into_clusters(self) -> impl Iterator<Item = Cluster> {
        self.clusters.into_values()
    }

    /// Where the way of a line ends, if there is one.
    fn leaf(&self, line: &Tokens<'_>) -> Option<u32> {
        let mut at = *self.roots.get(&line.list.len())?;
        for token in way(line) {
            let node = self.nodes.get(at as usize)?;
            at = node.child(token).or_else(|| node.child(WILDCARD))?;
        }
        Some(at)
    }

    /// The cluster that shares most tokens with a line; of equals the one with more gaps.
    fn most_alike(&self, leaf: u32, line: &Tokens<'_>) -> Option<u32> {
        let ids = &self.nodes.get(leaf as usize)?.clusters;
        let known = ids.iter().filter_map(|id| Some((*id, self.clusters.get(id)?)));
        let alike = known.map(|(id, cluster)| {
            let pairs = cluster.tokens.iter().zip(&line.list);
            let gaps = cluster.tokens.iter().filter(|(text, _)| &**text == WILDCARD).count();
            let same = pairs.filter(|((text, _), token)| &**text == token.text && token.text != WILDCARD);
            (same.count(), gaps, std::cmp::Reverse(id))
        });
        let (same, _, std::cmp::Reverse(id)) = alike.max()?;
        (same as f64 / line.list.len() as f64 >= MIN_SIMILARITY).then_some(id)
    }

    fn join(&mut self, id: u32, line: &Tokens<'_>, bucket: i64, weight: u64) {
        let Some(cluster) = self.clusters.get_mut(&id) else { return };
        for ((text, _), token) in cluster.tokens.iter_mut().zip(&line.list) {
            if **text != *token.text && &**text != WILDCARD {
                *text = Box::from(WILDCARD);
            }
        }
        *cluster.samples.entry(bucket).or_default() += weight;
        cluster.last_met = self.clock;
    }

    fn found(&mut self, line: &Tokens<'_>, bucket: i64, weight: u64) {
        if self.clusters.len() >= PATTERN_STREAM_CLUSTERS
            && let Some(oldest) = self.clusters.iter().min_by_key(|(_, c)| c.last_met).map(|(id, _)| *id)
        {
            self.clusters.remove(&oldest);
        }
        let id = self.founded;
        self.founded += 1;
        let leaf = self.make_way(line);
        let Self { nodes, clusters, .. } = self;
        if let Some(node) = nodes.get_mut(leaf as usize) {
            node.clusters.retain(|id| clusters.contains_key(id));
            node.clusters.push(id);
        }
        let tokens = line.list.iter().map(|token| (Box::from(token.text), token.blanks)).collect();
        let cluster = Cluster { tokens, samples: BTreeMap::from([(bucket, weight)]), last_met: self.clock };
        self.clusters.insert(id, cluster);
    }

    /// As [`Drain::leaf`], with what is missing made.
    fn make_way(&mut self, line: &Tokens<'_>) -> u32 {
        let count = line.list.len();
        let mut at = match self.roots.get(&count) {
            Some(at) => *at,
            None => {
                let root = self.add_node();
                self.roots.insert(count, root);
                root
            }
        };
        for token in way(line) {
            at = self.child_for(at, token);
        }
        at
    }

    fn child_for(&mut self, at: u32, token: &str) -> u32 {
        let Some(node) = self.nodes.get(at as usize) else { return at };
        if let Some(child) = node.child(token) {
            return child;
        }
        let wildcard = node.child(WILDCARD);
        // One place is kept free for the wildcard.
        let room = MAX_CHILDREN - usize::from(wildcard.is_none());
        let is_open = token.contains(char::is_numeric) || node.children.len() >= room;
        let key = if is_open { WILDCARD } else { token };
        if let Some(child) = wildcard.filter(|_| is_open) {
            return child;
        }
        let child = self.add_node();
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.children.push((Box::from(key), child));
        }
        child
    }

    fn add_node(&mut self) -> u32 {
        self.nodes.push(Node::default());
        (self.nodes.len() - 1) as u32
    }
}

/// The tokens that decide a line's way: never the last one.
fn way<'t>(line: &'t Tokens<'_>) -> impl Iterator<Item = &'t str> {
    let steps = line.list.len().saturating_sub(1).min(MAX_DEPTH - 1);
    line.list.iter().take(steps).map(|token| token.text)
}

#[cfg(test)]
mod tests {
    use super::super::tokens::joined;
    use super::*;

    fn mined(lines: impl IntoIterator<Item = String>) -> Vec<(String, u64)> {
        let mut drain = Drain::default();
        let mut shape = None;
        for line in lines {
            let tokens = Tokens::of(&line).unwrap();
            shape = Some(tokens.shape);
            drain.take(&tokens, 0, 1, true);
        }
        let text = |c: Cluster| (joined(shape.unwrap(), &c.tokens), c.samples.values().sum::<u64>());
        let mut found: Vec<_> = drain.into_clusters().map(text).collect();
        found.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        found
    }

    #[test]
    fn numbers_are_gaps_and_words_are_not() {
        let lines = (0..100).map(|i| match i % 3 {
            0 => format!("server request took {i} ms to complete"),
            1 => format!("worker {i} started on node-{i}.example"),
            _ => format!(
                "2024-05-07T11:59:{:02}Z [INFO] expiration: revoked lease: lease_id=auth/x/{i}",
                i % 60
            ),
        });
        assert_eq!(
            mined(lines),
            [
                ("server request took <_> ms to complete".to_owned(), 34),
                ("<_> [INFO] expiration: revoked lease: lease_id=<_>".to_owned(), 33),
                ("worker <_> started on <_>".to_owned(), 33),
            ]
        );
    }

    #[test]
    fn a_place_with_many_words_becomes_a_gap() {
        let names: Vec<String> = (0..40u8)
            .map(|i| format!("{}{}", char::from(b'a' + i % 26), "x".repeat(1 + usize::from(i / 26))))
            .collect();
        let found = mined((0..400).map(|i| format!("user {} logged in from {i}", names[i % 40])));
        assert!(found[0].0.starts_with("user <_> logged in from <_>"), "{found:?}");
        assert!(found.len() <= MAX_CHILDREN, "{found:?}");
    }

    #[test]
    fn lines_without_patterns_do_not_fill_the_memory() {
        let mut drain = Drain::default();
        let word = |n: usize| -> String {
            (0..4).map(|k| char::from(b'a' + (n / 26usize.pow(k) % 26) as u8)).collect()
        };
        for n in 0..6_000 {
            let line = format!("{} {} {} {}", word(n * 7), word(n * 31), word(n * 57), word(n * 101));
            drain.take(&Tokens::of(&line).unwrap(), 0, 1, true);
        }
        assert!(drain.clusters.len() <= PATTERN_STREAM_CLUSTERS && drain.founded <= MAX_FOUNDED);
        assert!(drain.nodes.len() <= 1 + 3 * MAX_FOUNDED as usize);
    }
}
