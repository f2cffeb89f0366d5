//! The streams: labels by id, ids by label set, and the group each one writes with.

use hashbrown::{HashMap, HashSet};
use pilothouse_index::{Index, RoaringBitmap};
use pilothouse_model::Labels;
use rustc_hash::FxBuildHasher;

/// Groups of streams that fill blocks together. With more, slow streams make many small blocks;
/// with fewer, a block has lines of too many kinds to compress well, and more to skip.
pub(crate) const MAX_GROUPS: usize = 64;

/// Labels that tell what kind of lines a stream has, the first that is there.
const KIND_LABELS: [&str; 5] = ["service_name", "app", "job", "container", "namespace"];

#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) labels: Labels,
    pub(crate) group: u32,
}

#[derive(Debug, Default)]
struct Group {
    /// Values of the label that tells the kind.
    kinds: HashSet<Box<str>>,
    streams: u32,
}

/// Ids only grow and are never given twice; a stream keeps its group for ever.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) index: Index,
    streams: HashMap<u32, Stream, FxBuildHasher>,
    by_fingerprint: HashMap<u128, u32, FxBuildHasher>,
    groups: Vec<Group>,
    next_id: u32,
}

impl Registry {
    pub(crate) fn id_of(&self, fingerprint: u128) -> Option<u32> {
        self.by_fingerprint.get(&fingerprint).copied()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Stream> {
        self.streams.get(&id)
    }

    /// Id, group and labels of those that are known.
    pub(crate) fn rows(&self, ids: impl IntoIterator<Item = u32>) -> Vec<(u32, u32, Labels)> {
        let row = |id: u32| self.get(id).map(|s| (id, s.group, s.labels.clone()));
        ids.into_iter().filter_map(row).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    pub(crate) fn set_next_id(&mut self, next_id: u32) {
        self.next_id = self.next_id.max(next_id);
    }

    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Gives a new stream an id and a group; `None` when there are no more ids, or more labels
    /// than the index takes; neither happens within the limits.
    pub(crate) fn create(&mut self, labels: &Labels) -> Option<(u32, u32)> {
        let id = self.next_id;
        let group = self.group_for(labels);
        (id < u32::MAX - 1 && self.insert_as(id, group, labels)).then_some((id, group))
    }

    /// Adds a stream under the id it had before. `false` if id or label set are taken.
    pub(crate) fn insert_as(&mut self, id: u32, group: u32, labels: &Labels) -> bool {
        let fingerprint = labels.fingerprint();
        if group as usize >= MAX_GROUPS || self.by_fingerprint.contains_key(&fingerprint) {
            return false;
        }
        if !self.index.insert(id, labels).unwrap_or(false) {
            return false;
        }
        self.by_fingerprint.insert(fingerprint, id);
        self.streams.insert(id, Stream { labels: labels.clone(), group });
        if group as usize >= self.groups.len() {
            self.groups.resize_with(group as usize + 1, Group::default);
        }
        let entry = &mut self.groups[group as usize];
        entry.kinds.insert(kind_of(labels).into());
        entry.streams += 1;
        self.next_id = self.next_id.max(id + 1);
        true
    }

    /// Streams of a kind share a group, since their lines are alike; beyond [`MAX_GROUPS`] kinds
    /// the group with the fewest streams takes one more.
    fn group_for(&self, labels: &Labels) -> u32 {
        let kind = kind_of(labels);
        let known = self.groups.iter().position(|g| g.kinds.contains(kind));
        let number = known.unwrap_or_else(|| match self.groups.len() {
            count if count < MAX_GROUPS => count,
            _ => (0..MAX_GROUPS).min_by_key(|g| self.groups[*g].streams).unwrap_or(0),
        });
        number as u32
    }

    /// Forgets streams that are nowhere any more.
    pub(crate) fn remove(&mut self, ids: &RoaringBitmap) {
        for id in ids {
            let Some(stream) = self.streams.remove(&id) else { continue };
            self.index.remove(id);
            self.by_fingerprint.remove(&stream.labels.fingerprint());
            if let Some(group) = self.groups.get_mut(stream.group as usize) {
                group.streams -= 1;
                if group.streams == 0 {
                    group.kinds.clear();
                }
            }
        }
        if !ids.is_empty() {
            self.index.compact();
            self.streams.shrink_to_fit();
            self.by_fingerprint.shrink_to_fit();
        }
    }
}

fn kind_of(labels: &Labels) -> &str {
    KIND_LABELS.iter().find_map(|name| labels.get(name)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_kind_share_a_group_and_groups_are_bounded() {
        let mut registry = Registry::default();
        let labels = |app: usize, pod: usize| {
            Labels::from_pairs([("app", &*app.to_string()), ("pod", &*pod.to_string())])
        };
        let (first, group) = registry.create(&labels(0, 0)).unwrap();
        assert_eq!((first, group), (0, 0));
        assert_eq!(registry.create(&labels(0, 1)), Some((1, 0)));
        for app in 1..MAX_GROUPS {
            assert_eq!(registry.create(&labels(app, 0)).unwrap().1, app as u32);
        }
        // The group with the fewest streams, and the kind stays there.
        let shared = registry.create(&labels(1000, 0)).unwrap().1;
        assert_eq!((shared, registry.create(&labels(1000, 1)).unwrap().1), (1, 1));
        assert_eq!(registry.id_of(labels(0, 1).fingerprint()), Some(1));
        registry.remove(&RoaringBitmap::from_iter([0, 1]));
        assert_eq!(registry.id_of(labels(0, 1).fingerprint()), None);
        assert!(registry.create(&labels(0, 1)).unwrap().0 > 1);
        assert_eq!(registry.group_count(), MAX_GROUPS);
    }
}
