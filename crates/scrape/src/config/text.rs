//! Values that YAML may take for something else when they have no quotes: `replacement: 1`.

use std::collections::BTreeMap;
use std::fmt;

use pilothouse_model::time::parse_duration_ms;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// A text, or a number or a truth value as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Text(pub(crate) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Text, E> {
                Ok(Text(v.to_owned()))
            }
            fn visit_bool<E: Error>(self, v: bool) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_unit<E: Error>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
        }
        from.deserialize_any(Scalar)
    }
}

pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Text::deserialize(from).map(|text| text.0)
}

/// What is written, also if it is nothing; for fields that default to `None`.
pub(crate) fn optional_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    text(from).map(Some)
}

pub(crate) fn text_map<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map: Option<BTreeMap<String, Text>> = Option::deserialize(from)?;
    Ok(map.unwrap_or_default().into_iter().map(|(name, value)| (name, value.0)).collect())
}

pub(crate) fn text_lists<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let map: BTreeMap<String, Vec<Text>> = BTreeMap::deserialize(from)?;
    let texts = |list: Vec<Text>| list.into_iter().map(|text| text.0).collect();
    Ok(map.into_iter().map(|(name, list)| (name, texts(list))).collect())
}

/// A Prometheus duration (`1m30s`) in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Duration(pub i64);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse_duration_ms(&text(from)?).map(Self).map_err(Error::custom)
    }
}

/// A size with an optional unit: `10MB` and `10MiB` are the same, 10 times 2^20 bytes, as
/// everywhere in Prometheus' configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let said = text(from)?;
        parse_size(&said)
            .map(Self)
            .ok_or_else(|| Error::custom(format!("not a size: {said:?}; use bytes with a unit, as 10MB")))
    }
}

fn parse_size(said: &str) -> Option<u64> {
    let end = said.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(said.len());
    let (number, unit) = said.split_at(end);
    let number: f64 = number.parse().ok()?;
    let letter = unit.trim_end_matches("iB").trim_end_matches('B');
    let power = match (letter, unit) {
        ("", "" | "B") => 0,
        (_, "K" | "M" | "G" | "T" | "P" | "E") => return None,
        ("K", _) => 1,
        ("M", _) => 2,
        ("G", _) => 3,
        ("T", _) => 4,
        ("P", _) => 5,
        ("E", _) => 6,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (said, bytes) in [
            ("0", 0),
            ("12", 12),
            ("7B", 7),
            ("1KB", 1024),
            ("1KiB", 1024),
            ("1.5MB", 3 << 19),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse_size(said), Some(bytes), "{said}");
        }
        for bad in ["", "B", "1K", "x", "1XB", "-1B", "1e3"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
