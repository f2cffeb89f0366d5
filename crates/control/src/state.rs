//! The workers' small records: tables of keys and bytes, whose meaning is theirs.

use pilothouse_model::{SourceError, StateChange, StateStore};
use redb::TableDefinition;

use crate::control::Control;
use crate::error::Error;

/// By the worker's table and its key.
pub(crate) const RECORDS: TableDefinition<'static, (&'static str, &'static str), &'static [u8]> =
    TableDefinition::new("records");

/// Tables of what lets somebody in: what goes from them goes from the copy at once, and from all others
/// when the copy is written again.
const ACCESS: [&str; 2] = ["synthetic_tokens", "synthetic_probe_tokens"];

impl StateStore for Control {
    fn load(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, SourceError> {
        Ok(self.load_records(table)?)
    }

    fn apply(&self, changes: &[StateChange]) -> Result<(), SourceError> {
        Ok(self.apply_records(changes)?)
    }
}

impl Control {
    fn load_records(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let fault = |e: redb::Error| self.fault(e);
        self.reading(|transaction| {
            let records = transaction.open_table(RECORDS).map_err(|e| fault(e.into()))?;
            let mut found = Vec::new();
            for row in records.range((table, "")..).map_err(|e| fault(e.into()))? {
                let (key, value) = row.map_err(|e| fault(e.into()))?;
                let (of_table, key) = key.value();
                if of_table != table {
                    break;
                }
                found.push((key.to_owned(), value.value().to_vec()));
            }
            Ok(found)
        })
    }

    fn apply_records(&self, changes: &[StateChange]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let gone = changes.iter().filter(|c| c.value.is_none() && ACCESS.contains(&c.table));
        let gone: Vec<(&str, &str)> = gone.map(|c| (c.table, c.key.as_str())).collect();
        self.transact(&gone, |transaction| {
            let fault = |e: redb::Error| self.fault(e);
            let mut records = transaction.open_table(RECORDS).map_err(|e| fault(e.into()))?;
            for StateChange { table, key, value } in changes {
                match value {
                    Some(value) => records.insert((*table, key.as_str()), value.as_slice()).map(|_| ()),
                    None => records.remove((*table, key.as_str())).map(|_| ()),
                }
                .map_err(|e| fault(e.into()))?;
            }
            Ok(())
        })
    }
}
