//! The JSON forms of a push, read straight into the batch.
//!
//! One reader takes both generations: `stream` with `values`, and the older `labels` with
//! `entries` (`/api/prom/push`). As in Loki, unknown keys are skipped, what follows the document
//! is not looked at, and a mistake in one entry refuses the push. Text that is not UTF-8 and lone
//! surrogates are replaced.

use std::borrow::Cow;
use std::fmt;

use pilothouse_model::labels::is_legacy_label_name;
use pilothouse_model::limits::{LOG_LABEL_TEXT_BYTES, Limits};
use pilothouse_model::log_ports::EntryReason;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json_complaint::complaint;
use super::label_text::{self, Pair, StreamStart};
use super::{Enricher, Intake, LogDecoded};
use crate::DecodeError;

const MESSAGE: &str = "loghttp.PushRequest";

pub(super) fn decode(body: &[u8], enricher: &Enricher, limits: &Limits) -> Result<LogDecoded, DecodeError> {
    let text = String::from_utf8_lossy(body);
    let mut walk = Walk { intake: Intake::new(enricher, limits), line: String::new(), fault: None };
    walk.intake.reserve(text.len());
    let mut from = serde_json::Deserializer::from_str(&text);
    match Request(&mut walk).deserialize(&mut from) {
        Ok(()) => Ok(walk.intake.finish()),
        Err(error) => Err(walk.fault.unwrap_or_else(|| {
            let own = || DecodeError::malformed(MESSAGE, error.to_string());
            complaint(body).map_or_else(own, |why| DecodeError::InLokisWords { why })
        })),
    }
}

struct Walk<'e> {
    intake: Intake<'e>,
    /// The line at hand, where its escapes had to be taken out.
    line: String,
    /// Why the walk was stopped, where the reader of JSON did not stop it.
    fault: Option<DecodeError>,
}

impl Walk<'_> {
    /// Hands a fault around the reader of JSON, whose errors are texts.
    fn check<T, E: de::Error>(&mut self, result: Result<T, DecodeError>) -> Result<T, E> {
        result.map_err(|fault| {
            let error = E::custom(&fault);
            self.fault = Some(fault);
            error
        })
    }

    fn begin<E: de::Error>(&mut self, pairs: Result<Vec<Pair<'_>>, DecodeError>) -> Result<(), E> {
        let pairs = self.check(pairs)?;
        let start = StreamStart::new(pairs, self.intake.enricher);
        let begun = self.intake.begin_stream(start);
        self.check(begun)
    }

    fn entry<E: de::Error>(&mut self, t_ns: i64, line: Line<'_>) -> Result<(), E> {
        let taken = match line {
            Line::Borrowed(line) => self.intake.entry(t_ns, line),
            Line::Kept => self.intake.entry(t_ns, &self.line),
        };
        self.check(taken)
    }
}

/// Implements the seed of a part: which kind of value it wants, and who visits that.
macro_rules! seed {
    ($name:ident, $wants:ident, $value:ty) => {
        impl<'de> DeserializeSeed<'de> for $name<'_, '_> {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<$value, D::Error> {
                from.$wants(self)
            }
        }
    };
}

struct Request<'w, 'e>(&'w mut Walk<'e>);
seed!(Request, deserialize_any, ());

impl<'de> Visitor<'de> for Request<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with streams")
    }

    /// `null` is a request without streams.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            if key.eq_ignore_ascii_case("streams") {
                map.next_value_seed(Streams(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Streams<'w, 'e>(&'w mut Walk<'e>);
seed!(Streams, deserialize_any, ());

impl<'de> Visitor<'de> for Streams<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of streams")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Stream(self.0))?.is_some() {}
        Ok(())
    }
}

struct Stream<'w, 'e>(&'w mut Walk<'e>);
seed!(Stream, deserialize_map, ());

impl<'de> Visitor<'de> for Stream<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with stream and values")
    }

    /// Entries may stand in front of the labels that they need; those wait as text.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let walk = self.0;
        let mut begun = false;
        let mut waiting: Vec<(bool, &'de RawValue)> = Vec::new();
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            let legacy = key.eq_ignore_ascii_case("entries");
            if key == "stream" && !begun {
                let pairs = map.next_value_seed(StreamLabels)?;
                walk.begin(checked(pairs))?;
                begun = true;
            } else if key.eq_ignore_ascii_case("labels") && !begun {
                let Text(text) = map.next_value()?;
                walk.begin(from_text(&text))?;
                begun = true;
            } else if key != "values" && !legacy {
                map.next_value::<IgnoredAny>()?;
            } else if !begun {
                waiting.push((legacy, map.next_value()?));
            } else {
                map.next_value_seed(Entries { walk, legacy })?;
            }
        }
        if !begun {
            walk.begin(Ok(Vec::new()))?;
        }
        for (legacy, text) in waiting {
            let mut from = serde_json::Deserializer::from_str(text.get());
            Entries { walk, legacy }.deserialize(&mut from).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

fn from_text(text: &str) -> Result<Vec<Pair<'_>>, DecodeError> {
    if text.len() > LOG_LABEL_TEXT_BYTES {
        return Err(DecodeError::TooMany {
            what: "bytes of stream labels",
            limit: LOG_LABEL_TEXT_BYTES as u64,
        });
    }
    label_text::parse(text).map_err(|why| DecodeError::Labels { why })
}

/// Names that need quotes go the way of Loki, which prints the labels of JSON without looking and
/// reads that text.
fn checked(pairs: Vec<Pair<'_>>) -> Result<Vec<Pair<'_>>, DecodeError> {
    if pairs.iter().all(|(name, _)| is_legacy_label_name(name)) {
        return Ok(pairs);
    }
    let text = label_text::text_of(&pairs);
    let read = from_text(&text)?;
    Ok(read.into_iter().map(|(n, v)| (Cow::Owned(n.into_owned()), Cow::Owned(v.into_owned()))).collect())
}

/// The labels of a stream as an object. Values that are no strings count as they are written; of
/// equal names the last stays.
struct StreamLabels;

impl<'de> DeserializeSeed<'de> for StreamLabels {
    type Value = Vec<Pair<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for StreamLabels {
    type Value = Vec<Pair<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Vec<Pair<'de>> = Vec::new();
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            let raw: &'de RawValue = map.next_value()?;
            let value: Cow<'de, str> = match raw.get() {
                text if text.starts_with('"') => {
                    serde_json::from_str::<Text<'de>>(text).map_err(de::Error::custom)?.0
                }
                text => Cow::Borrowed(text),
            };
            pairs.push((name, value));
        }
        // The sort keeps equal names in order; the last of them is wanted.
        pairs.reverse();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|b, a| a.0 == b.0);
        Ok(pairs)
    }
}

struct Entries<'w, 'e> {
    walk: &'w mut Walk<'e>,
    legacy: bool,
}
seed!(Entries, deserialize_any, ());

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.legacy {
            while seq.next_element_seed(LegacyEntry(self.walk))?.is_some() {}
        } else {
            while seq.next_element_seed(Entry(self.walk))?.is_some() {}
        }
        Ok(())
    }
}

/// `["<ns>", "line", {"name": "value"}]`; what follows is not looked at, and a line may be
/// missing.
struct Entry<'w, 'e>(&'w mut Walk<'e>);
seed!(Entry, deserialize_any, ());

impl<'de> Visitor<'de> for Entry<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry: [\"<nanoseconds>\", \"<line>\"]")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let walk = self.0;
        let t_ns = seq
            .next_element_seed(Nanoseconds)?
            .ok_or_else(|| de::Error::invalid_length(0, &"a timestamp"))?;
        let line = seq.next_element_seed(LineText(&mut walk.line))?.unwrap_or(Line::Borrowed(""));
        seq.next_element_seed(MetadataObject(walk))?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        walk.entry(t_ns, line)
    }
}

/// `{"ts": "<RFC 3339>", "line": "..", "structuredMetadata": {..}}`.
struct LegacyEntry<'w, 'e>(&'w mut Walk<'e>);
seed!(LegacyEntry, deserialize_map, ());

impl<'de> Visitor<'de> for LegacyEntry<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with ts and line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let walk = self.0;
        let (mut t_ns, mut line) = (None, Line::Borrowed(""));
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            if key.eq_ignore_ascii_case("ts") {
                t_ns = Some(read_time(&map.next_value::<Text<'de>>()?.0)?);
            } else if key.eq_ignore_ascii_case("line") {
                line = map.next_value_seed(LineText(&mut walk.line))?;
            } else if key.eq_ignore_ascii_case("structuredMetadata") {
                map.next_value_seed(MetadataObject(walk))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        match t_ns {
            Some(t_ns) => walk.entry(t_ns, line),
            None => {
                walk.intake.refuse(EntryReason::Undecodable { why: "an entry has no timestamp".to_owned() });
                Ok(())
            }
        }
    }
}

fn read_time<E: de::Error>(text: &str) -> Result<i64, E> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| E::custom(format_args!("not an RFC 3339 time: {text:?}")))?;
    Ok(i64::try_from(time.as_nanosecond()).unwrap_or(if time.as_second() < 0 { i64::MIN } else { i64::MAX }))
}

/// A string of decimal nanoseconds since 1970, written as an integer of JSON would be.
struct Nanoseconds;

impl<'de> DeserializeSeed<'de> for Nanoseconds {
    type Value = i64;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<i64, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Nanoseconds {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a timestamp as a string of nanoseconds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        nanoseconds(text).ok_or_else(|| E::custom(format_args!("not a timestamp in nanoseconds: {text:?}")))
    }
}

pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    match text.strip_prefix('-').unwrap_or(text).as_bytes() {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => text.parse().ok(),
        _ => None,
    }
}

/// The line at hand.
#[derive(Clone, Copy)]
enum Line<'de> {
    Borrowed(&'de str),
    /// In [`Walk::line`].
    Kept,
}

struct LineText<'w>(&'w mut String);

impl<'de> DeserializeSeed<'de> for LineText<'_> {
    type Value = Line<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Line<'de>, D::Error> {
        // As bytes, since text would be refused for a lone surrogate.
        from.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for LineText<'_> {
    type Value = Line<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line as a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Line<'de>, E> {
        match std::str::from_utf8(bytes) {
            Ok(line) => Ok(Line::Borrowed(line)),
            Err(_) => self.visit_bytes_lossy(bytes),
        }
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Line<'de>, E> {
        self.visit_bytes_lossy(bytes)
    }
}

impl LineText<'_> {
    fn visit_bytes_lossy<'de, E>(self, bytes: &[u8]) -> Result<Line<'de>, E> {
        self.0.clear();
        self.0.push_str(&String::from_utf8_lossy(bytes));
        Ok(Line::Kept)
    }
}

/// Text that is borrowed where it has no escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct MetadataObject<'w, 'e>(&'w mut Walk<'e>);
seed!(MetadataObject, deserialize_map, ());

impl<'de> Visitor<'de> for MetadataObject<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("structured metadata as an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            map.next_value_seed(MetadataValue { walk: self.0, name: &name })?;
        }
        Ok(())
    }
}

struct MetadataValue<'w, 'e, 'n> {
    walk: &'w mut Walk<'e>,
    name: &'n str,
}

impl<'de> DeserializeSeed<'de> for MetadataValue<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_bytes(self)
    }
}

impl Visitor<'_> for MetadataValue<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string as the value of structured metadata")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<(), E> {
        self.walk.intake.metadata.push(self.name, &String::from_utf8_lossy(bytes));
        Ok(())
    }
}
