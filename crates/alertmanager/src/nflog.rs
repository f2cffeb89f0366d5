//! The notification log: what each integration was last told about each group.
//!
//! An entry is durable as soon as its notification went out. Without it a restart would tell
//! everything again, and would never tell that something ended.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use pilothouse_model::StateChange;
use serde::{Deserialize, Serialize};

/// Where the log is kept.
pub(crate) const TABLE: &str = "alertmanager_nflog";
const VERSION: u8 = 1;
/// The least time that an entry is kept.
pub(crate) const RETENTION_MS: i64 = 120 * 3_600_000;

/// What an integration wants to know again when the group is told the next time.
pub(crate) type Notes = BTreeMap<String, String>;

/// Alerts. A group may have very many, and many integrations that are told the same of it.
pub(crate) type Fingerprints = Arc<BTreeSet<u64>>;

mod shared {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(set: &Arc<BTreeSet<u64>>, out: S) -> Result<S::Ok, S::Error> {
        set.as_ref().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<BTreeSet<u64>>, D::Error> {
        BTreeSet::deserialize(from).map(Arc::new)
    }
}

/// What an integration was told, by fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(with = "shared")]
    pub(crate) firing: Fingerprints,
    #[serde(with = "shared")]
    pub(crate) resolved: Fingerprints,
    pub(crate) at_ms: i64,
    expires_at_ms: i64,
    #[serde(default, skip_serializing_if = "Notes::is_empty")]
    pub(crate) notes: Notes,
}

/// Why a notification goes out; Alertmanager's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    First,
    NewAlerts,
    SomeResolved,
    AllResolved,
    Repeat,
}

impl Reason {
    pub fn text(self) -> &'static str {
        match self {
            Self::First => "first notification",
            Self::NewAlerts => "new alerts added",
            Self::SomeResolved => "some alerts resolved",
            Self::AllResolved => "all alerts resolved",
            Self::Repeat => "repeat interval elapsed",
        }
    }
}

/// The name of an entry: an integration of a receiver, and a group.
pub(crate) fn key(group_key: &str, receiver: &str, integration: &str) -> String {
    format!("{receiver}/{integration}:{group_key}")
}

/// Whether an integration has to be told of a group in this state, and why.
pub(crate) fn reason(
    entry: Option<&Entry>,
    firing: &BTreeSet<u64>,
    resolved: &BTreeSet<u64>,
    send_resolved: bool,
    repeat_ms: i64,
    now_ms: i64,
) -> Option<Reason> {
    let Some(entry) = entry else {
        // What fired and ended between two looks is never told.
        return (!firing.is_empty()).then_some(Reason::First);
    };
    if !firing.is_subset(&entry.firing) {
        return Some(if entry.firing.is_empty() { Reason::First } else { Reason::NewAlerts });
    }
    if firing.is_empty() {
        // Whether or not the end is told, the entry has to forget what fired.
        return (!entry.firing.is_empty()).then_some(Reason::AllResolved);
    }
    if send_resolved && !resolved.is_subset(&entry.resolved) {
        return Some(Reason::SomeResolved);
    }
    (entry.at_ms < now_ms.saturating_sub(repeat_ms)).then_some(Reason::Repeat)
}

/// What an entry takes in memory beside its key, and a fingerprint in it, about.
const ENTRY_BYTES: usize = 200;
const FINGERPRINT_BYTES: usize = 12;

impl Entry {
    fn bytes(&self, key: &str) -> u64 {
        let told = (self.firing.len() + self.resolved.len()) * FINGERPRINT_BYTES;
        let notes: usize = self.notes.iter().map(|(name, note)| name.len() + note.len()).sum();
        (ENTRY_BYTES + key.len() + told + notes) as u64
    }
}

#[derive(Debug, Default)]
pub(crate) struct Nflog {
    entries: HashMap<String, Entry>,
    /// What all of them take, about.
    bytes: u64,
}

impl Nflog {
    /// Reads what was kept. Records that cannot be read are left out and counted.
    pub(crate) fn load(records: Vec<(String, Vec<u8>)>) -> (Self, usize) {
        let mut log = Self::default();
        let mut unreadable = 0;
        for (key, bytes) in records {
            match bytes.split_first() {
                Some((&VERSION, json)) if let Ok(entry) = serde_json::from_slice(json) => {
                    log.insert(key, entry);
                }
                _ => unreadable += 1,
            }
        }
        (log, unreadable)
    }

    fn insert(&mut self, key: String, entry: Entry) {
        self.bytes += entry.bytes(&key);
        let older = self.entries.get(&key).map_or(0, |older| older.bytes(&key));
        self.bytes -= older;
        self.entries.insert(key, entry);
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All alerts that some integration was told of and not yet that they ended.
    pub(crate) fn firing(&self) -> HashSet<u64> {
        self.entries.values().flat_map(|entry| entry.firing.iter().copied()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Notes that an integration was told; what is returned has to be written.
    pub(crate) fn set(
        &mut self,
        key: String,
        firing: Fingerprints,
        resolved: Fingerprints,
        notes: Notes,
        repeat_ms: i64,
        now_ms: i64,
    ) -> StateChange {
        let lasts = repeat_ms.saturating_mul(2).max(RETENTION_MS);
        let expires_at_ms = now_ms.saturating_add(lasts);
        let entry = Entry { firing, resolved, at_ms: now_ms, expires_at_ms, notes };
        let mut bytes = vec![VERSION];
        // Numbers; writing to memory does not fail.
        let _ = serde_json::to_writer(&mut bytes, &entry);
        self.insert(key.clone(), entry);
        StateChange { table: TABLE, key, value: Some(bytes) }
    }

    /// Forgets entries past their time.
    pub(crate) fn forget(&mut self, now_ms: i64) -> Vec<StateChange> {
        let old: Vec<_> = self.entries.extract_if(|_, entry| entry.expires_at_ms <= now_ms).collect();
        self.bytes -= old.iter().map(|(key, entry)| entry.bytes(key)).sum::<u64>();
        old.into_iter().map(|(key, _)| StateChange { table: TABLE, key, value: None }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(items: &[u64]) -> BTreeSet<u64> {
        items.iter().copied().collect()
    }

    #[test]
    fn who_is_told_why() {
        let entry = |firing: &[u64], resolved: &[u64]| {
            Some(Entry {
                firing: set(firing).into(),
                resolved: set(resolved).into(),
                at_ms: 1_000,
                expires_at_ms: i64::MAX,
                notes: Notes::new(),
            })
        };
        type Case = (Option<Entry>, &'static [u64], &'static [u64], bool, i64, Option<Reason>);
        let cases: [Case; 11] = [
            (None, &[], &[1], true, 1_000, None),
            (None, &[1], &[], true, 1_000, Some(Reason::First)),
            (entry(&[1], &[]), &[1, 2], &[], true, 1_000, Some(Reason::NewAlerts)),
            (entry(&[], &[1]), &[1], &[], true, 1_000, Some(Reason::First)),
            (entry(&[1], &[]), &[], &[1], false, 1_000, Some(Reason::AllResolved)),
            (entry(&[], &[]), &[], &[1], true, 1_000, None),
            (entry(&[1, 2], &[]), &[1], &[2], true, 1_000, Some(Reason::SomeResolved)),
            (entry(&[1, 2], &[]), &[1], &[2], false, 1_000, None),
            (entry(&[1, 2], &[2]), &[1], &[2], true, 1_000, None),
            (entry(&[1], &[]), &[1], &[], true, 11_000, None),
            (entry(&[1], &[]), &[1], &[], true, 11_001, Some(Reason::Repeat)),
        ];
        for (entry, firing, resolved, send_resolved, now, expected) in cases {
            let told = reason(entry.as_ref(), &set(firing), &set(resolved), send_resolved, 10_000, now);
            assert_eq!(told, expected, "{entry:?} {firing:?} {resolved:?} {now}");
        }
    }

    #[test]
    fn entries_outlive_a_restart_and_end() {
        let mut log = Nflog::default();
        let notes = Notes::from([("ts".to_owned(), "1.5".to_owned())]);
        let change = log.set("k".into(), set(&[1]).into(), set(&[u64::MAX]).into(), notes.clone(), 1_000, 5);
        let (mut log, unreadable) = Nflog::load(vec![("k".into(), change.value.unwrap())]);
        let entry = log.get("k").unwrap();
        assert_eq!((entry.firing.as_ref(), &entry.notes, unreadable), (&set(&[1]), &notes, 0));
        assert!(log.forget(RETENTION_MS + 4).is_empty());
        assert_eq!(log.forget(RETENTION_MS + 5).len(), 1);
        assert_eq!((log.len(), Nflog::load(vec![("k".into(), vec![])]).1), (0, 1));
    }
}
