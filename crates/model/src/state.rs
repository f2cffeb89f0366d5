//! Small durable records: what the control plane keeps for the workers (rule groups, alert
//! state, silences, checks), as tables of keys and bytes.
//!
//! Two implementers: the control plane's redb file, and [`MemoryState`]. What the bytes mean is
//! the business of the crate that owns the table; they begin with a version of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::SourceError;

/// One change of a table: a new value, or `None` to remove the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    pub table: &'static str,
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// Tables of small records. Calls block (each change is synced) and belong off the async workers.
pub trait StateStore: Send + Sync + fmt::Debug {
    /// All records of a table, sorted by key; none where the table was never written.
    fn load(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, SourceError>;
    /// Applies all changes or none of them; they are durable when this returns.
    fn apply(&self, changes: &[StateChange]) -> Result<(), SourceError>;
}

/// Records in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryState {
    tables: Mutex<BTreeMap<(&'static str, String), Vec<u8>>>,
}

impl StateStore for MemoryState {
    fn load(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, SourceError> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let of_table = tables.iter().filter(|((name, _), _)| *name == table);
        Ok(of_table.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, changes: &[StateChange]) -> Result<(), SourceError> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let key = (change.table, change.key.clone());
            match &change.value {
                Some(value) => tables.insert(key, value.clone()),
                None => tables.remove(&key),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_back_its_own_records_in_order() {
        let state = MemoryState::default();
        let change = |table, key: &str, value: Option<&[u8]>| StateChange {
            table,
            key: key.to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        let changes =
            [change("a", "2", Some(b"y")), change("a", "1", Some(b"x")), change("b", "1", Some(b"z"))];
        state.apply(&changes).unwrap();
        state.apply(&[change("a", "2", None)]).unwrap();
        assert_eq!(state.load("a").unwrap(), [("1".to_owned(), b"x".to_vec())]);
        assert_eq!(state.load("none").unwrap(), []);
    }
}
