//! Rule groups as small durable records: one a group, the group as YAML behind a version.

use pilothouse_model::{SourceError, StateChange, StateStore};

use crate::format::{RuleGroup, print_group, read_group};

pub(crate) const TABLE: &str = "rule_groups";
const VERSION: u8 = 1;
/// Between the parts of a key; no part may have it.
const SEPARATOR: char = '\0';

/// Source, namespace and name.
pub(crate) type RecordKey = (String, String, String);

fn key_text((source, namespace, name): &RecordKey) -> String {
    format!("{source}{SEPARATOR}{namespace}{SEPARATOR}{name}")
}

/// Whether names may be parts of a key.
pub(crate) fn are_storable(names: &[&str]) -> bool {
    !names.iter().any(|name| name.contains(SEPARATOR))
}

/// All groups; those that cannot be read are told and left out, and stay where they are.
pub(crate) fn load(store: &dyn StateStore) -> Result<Vec<(RecordKey, RuleGroup)>, SourceError> {
    let mut groups = Vec::new();
    for (key, value) in store.load(TABLE)? {
        match decode(&key, &value) {
            Ok(group) => groups.push(group),
            Err(why) => tracing::error!("the stored rule group {key:?} cannot be read: {why}"),
        }
    }
    Ok(groups)
}

fn decode(key: &str, value: &[u8]) -> Result<(RecordKey, RuleGroup), String> {
    let mut parts = key.split(SEPARATOR).map(str::to_owned);
    let (Some(source), Some(namespace), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("its key has not three parts".to_owned());
    };
    let (version, text) = value.split_first().ok_or("it is empty")?;
    if *version != VERSION {
        return Err(format!("its version is {version}, this program knows {VERSION}"));
    }
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    Ok(((source, namespace, name), read_group(text)?.group))
}

/// The change that stores a group, or removes it.
pub(crate) fn change(key: &RecordKey, group: Option<&RuleGroup>) -> StateChange {
    let encode = |group: &RuleGroup| {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(print_group(group).as_bytes());
        bytes
    };
    StateChange { table: TABLE, key: key_text(key), value: group.map(encode) }
}
