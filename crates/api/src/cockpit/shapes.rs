//! What several answers have in common: times, lists, durations.

use pilothouse_control::{Listed, Stamp};
use serde_json::{Map, Value};

use super::Answer;

/// RFC 3339 in UTC.
pub(super) fn time(t_ms: i64) -> Value {
    jiff::Timestamp::from_millisecond(t_ms).map_or(Value::Null, |t| t.to_string().into())
}

/// Text in seconds, as protobuf's JSON writes durations.
pub(super) fn duration_s(seconds: i64) -> Value {
    format!("{seconds}s").into()
}

pub(super) fn stamped(mut object: Map<String, Value>, stamp: Stamp) -> Map<String, Value> {
    object.insert("created_at".to_owned(), time(stamp.created_ms));
    object.insert("updated_at".to_owned(), time(stamp.updated_ms));
    object
}

/// `{"total_count": n, NAME: […]}`.
pub(super) fn listed<T>(name: &str, list: Listed<T>, shape: impl Fn(&T) -> Value) -> Answer {
    let mut object = Map::new();
    object.insert("total_count".to_owned(), list.total.into());
    object.insert(name.to_owned(), list.items.iter().map(shape).collect());
    Answer::Object(Value::Object(object))
}

/// The members of an object that was made by `json!`.
pub(super) fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
