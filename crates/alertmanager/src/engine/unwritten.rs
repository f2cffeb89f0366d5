//! What of changes that wait for the disk is needed, when it takes none for long.
//!
//! Alerts come and go meanwhile, and a disk that is full shall not take the memory as well. Of a record
//! that never reached the disk nothing needs to be forgotten there. The end of one that did has to be
//! written, however late: an alert that the disk knows as firing would fire again after a restart. So no
//! more waits than there are records in memory and on the disk.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use pilothouse_model::StateChange;

use crate::silence;

/// Which alerts and entries of the notification log the disk has, by a hash: where two share one, a
/// deletion too many is written.
#[derive(Debug, Default)]
pub(super) struct OnDisk(HashSet<u64>);

/// What one takes in memory, about.
const HASH_BYTES: u64 = 16;

fn hash(table: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (table, key).hash(&mut hasher);
    hasher.finish()
}

impl OnDisk {
    /// What was read of each table.
    pub(super) fn of<'a>(tables: impl IntoIterator<Item = (&'a str, &'a Vec<(String, Vec<u8>)>)>) -> Self {
        let keys = tables.into_iter().flat_map(|(table, all)| all.iter().map(move |(key, _)| (table, key)));
        Self(keys.map(|(table, key)| hash(table, key)).collect())
    }

    pub(super) fn note(&mut self, written: &[StateChange]) {
        for change in written.iter().filter(|change| change.table != silence::TABLE) {
            let hash = hash(change.table, &change.key);
            match change.value {
                Some(_) => self.0.insert(hash),
                None => self.0.remove(&hash),
            };
        }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.0.len() as u64 * HASH_BYTES
    }

    /// Of several changes of one record the last, in the same order; none of one that came and went.
    pub(super) fn needed(&self, changes: Vec<StateChange>) -> Vec<StateChange> {
        let mut seen = HashSet::new();
        let mut newest_first = changes;
        newest_first.reverse();
        newest_first.retain(|change| seen.insert((change.table, change.key.clone())));
        newest_first.retain(|change| change.value.is_some() || self.may_have(change));
        newest_first.reverse();
        newest_first
    }

    /// Silences are written where they are made; there are few.
    fn may_have(&self, change: &StateChange) -> bool {
        change.table == silence::TABLE || self.0.contains(&hash(change.table, &change.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::TABLE as ALERTS;
    use crate::nflog::TABLE as NFLOG;

    fn change(table: &'static str, key: &str, value: Option<u8>) -> StateChange {
        StateChange { table, key: key.to_owned(), value: value.map(|v| vec![v]) }
    }

    #[test]
    fn only_what_never_reached_the_disk_needs_no_end_there() {
        let mut on_disk = OnDisk::of([(ALERTS, &vec![("loaded".to_owned(), vec![1])])]);
        on_disk.note(&[
            change(ALERTS, "written", Some(1)),
            change(ALERTS, "gone", Some(1)),
            change(ALERTS, "gone", None),
        ]);
        let changes = vec![
            change(ALERTS, "loaded", None),
            change(ALERTS, "new", Some(1)),
            change(ALERTS, "written", Some(2)),
            change(NFLOG, "written", Some(1)),
            change(ALERTS, "new", None),
            change(ALERTS, "written", None),
            change(NFLOG, "written", None),
            change(ALERTS, "gone", None),
            change(silence::TABLE, "s", None),
            change(ALERTS, "again", None),
            change(ALERTS, "again", Some(1)),
        ];
        let needed = on_disk.needed(changes);
        let keys: Vec<_> = needed.iter().map(|c| (c.key.as_str(), c.value.is_some())).collect();
        assert_eq!(keys, [("loaded", false), ("written", false), ("s", false), ("again", true)]);
    }
}
