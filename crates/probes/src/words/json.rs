//! How JSON of this protocol is read: `null` is a field that is not there, texts of choices
//! ignore case, bytes are base64.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads a document whose fields may be `null` wherever they may be missing. The nesting that
/// `serde_json` allows bounds the recursion.
pub fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_value(without_nulls(serde_json::from_slice(body)?))
}

/// The same without the fields that are `null`.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(name, v)| (name, without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Bytes as standard base64 with padding.
pub(super) mod bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// A text that may also come as a list of texts, which are joined.
pub(super) fn text_or_parts<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    match Value::deserialize(d)? {
        Value::String(text) => Ok(text),
        Value::Array(parts) => parts
            .into_iter()
            .map(|part| match part {
                Value::String(text) => Ok(text),
                other => Err(D::Error::custom(format!("invalid type: {other}, expected a string"))),
            })
            .collect(),
        other => Err(D::Error::custom(format!("invalid type: {other}, expected a string"))),
    }
}
