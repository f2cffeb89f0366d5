//! The values of OTLP/JSON: pairs and nested values, whole numbers as numbers or text, lists
//! kept as the text of their elements.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::words::{self, Value};
use crate::DecodeError;

pub(super) type List<'a> = Option<Vec<&'a RawValue>>;

pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|e| DecodeError::malformed("OTLP/JSON", e.to_string()))
}

/// An object; `null` is one without anything in it. A list would do for our reader of structures, field
/// by field, and is refused here.
pub(super) fn read_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<Option<T>, DecodeError> {
    if text.trim_start().starts_with('[') {
        return Err(DecodeError::malformed("OTLP/JSON", "a list where an object was expected"));
    }
    read(text)
}

pub(super) fn elements<'l, 'a>(list: &'l List<'a>) -> impl Iterator<Item = &'a RawValue> + use<'l, 'a> {
    list.iter().flatten().copied()
}

#[derive(Deserialize)]
pub(super) struct Pair {
    key: Option<String>,
    value: Option<AnyValue>,
}

/// Nesting is bounded by the reader of JSON, which refuses 128 levels.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnyValue {
    #[serde(alias = "string_value")]
    string_value: Option<String>,
    #[serde(alias = "bool_value")]
    bool_value: Option<bool>,
    #[serde(default, alias = "int_value")]
    int_value: Option<Number<i64>>,
    #[serde(default, alias = "double_value")]
    double_value: Option<Float>,
    #[serde(alias = "array_value")]
    array_value: Option<Values<AnyValue>>,
    #[serde(alias = "kvlist_value")]
    kvlist_value: Option<Values<Pair>>,
    #[serde(alias = "bytes_value")]
    bytes_value: Option<String>,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Values<T> {
    values: Option<Vec<Option<T>>>,
}

impl Pair {
    pub(super) fn into_words(self) -> Result<(String, Value), DecodeError> {
        let value = self.value.map(AnyValue::into_words).transpose()?;
        Ok((self.key.unwrap_or_default(), value.unwrap_or_default()))
    }
}

impl AnyValue {
    pub(super) fn into_words(self) -> Result<Value, DecodeError> {
        Ok(if let Some(text) = self.string_value {
            Value::Text(text)
        } else if let Some(value) = self.bool_value {
            Value::Bool(value)
        } else if let Some(Number(value)) = self.int_value {
            Value::Int(value)
        } else if let Some(Float(value)) = self.double_value {
            Value::Double(value)
        } else if let Some(list) = self.array_value {
            let values = list.values.unwrap_or_default().into_iter();
            let words = values.map(|value| Ok(value.map(Self::into_words).transpose()?.unwrap_or_default()));
            Value::List(words.collect::<Result<_, DecodeError>>()?)
        } else if let Some(map) = self.kvlist_value {
            let pairs = map.values.unwrap_or_default().into_iter().flatten();
            Value::Map(pairs.map(Pair::into_words).collect::<Result<_, _>>()?)
        } else if let Some(text) = self.bytes_value {
            let bytes = words::from_base64(&text);
            Value::Bytes(bytes.ok_or_else(|| DecodeError::malformed("OTLP/JSON", "bytes are not base64"))?)
        } else {
            Value::Empty
        })
    }
}

/// A whole number as a number, a string, or `null` for zero.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Number<T>(pub(super) T);

impl<'de, T: TryFrom<i128> + Default> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wide = from.deserialize_any(WideVisitor)?;
        let out_of_range = || de::Error::custom(format_args!("number {wide} is out of range"));
        T::try_from(wide).map(Self).map_err(|_| out_of_range())
    }
}

struct WideVisitor;

impl Visitor<'_> for WideVisitor {
    type Value = i128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number or its text")
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<i128, E> {
        Ok(n.into())
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<i128, E> {
        Ok(n.into())
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<i128, E> {
        // Some writers print whole numbers with an exponent.
        if n.fract() == 0.0 && n.abs() < 1e20 { Ok(n as i128) } else { Err(E::custom("not a whole number")) }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i128, E> {
        text.parse().map_err(|_| E::custom(format_args!("not a whole number: {text:?}")))
    }

    fn visit_unit<E: de::Error>(self) -> Result<i128, E> {
        Ok(0)
    }
}

/// A float as a number, a string (`"NaN"`, `"Infinity"`), or `null` for zero.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Float(pub(super) f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FloatVisitor).map(Self)
    }
}

struct FloatVisitor;

impl Visitor<'_> for FloatVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or its text")
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<f64, E> {
        Ok(n as f64)
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<f64, E> {
        Ok(n as f64)
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<f64, E> {
        Ok(n)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
        text.parse().map_err(|_| E::custom(format_args!("not a number: {text:?}")))
    }

    fn visit_unit<E: de::Error>(self) -> Result<f64, E> {
        Ok(0.0)
    }
}
