//! What is wrong with a push in JSON, in the words in which Loki says it.
//!
//! Senders' logs hold these texts, and people search for them. Our own reader of JSON words its
//! mistakes otherwise, so a body that it has refused is walked once more here, the way the reader of
//! Loki (json-iterator) goes: the first step that fails gives its name, what it wanted, and a cut of
//! the body around the place. A stream that is whole as JSON is then looked at for what it holds.
//!
//! Nothing here decides whether a body is taken. Where this walk finds no mistake, there is no
//! complaint, and the words of our own reader stay.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::nanoseconds;

/// How deep values may be nested; Loki's reader goes further, ours does not.
const NESTING: usize = 128;
/// The reader looks at its input in pieces of this many bytes, and shows no more than one of them.
const PIECE_BYTES: usize = 512;
/// How much is shown on either side of the place, close by and around it.
const SHOWN_BYTES: [usize; 2] = [10, 50];

/// The text for a body, if anything is wrong with it.
pub(super) fn complaint(body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return Some("EOF".to_owned());
    }
    let mut walk = Walk { body, at: 0, ended: false, within: "" };
    let mistake = walk.request().err()?;
    Some(format!("{}{}", walk.within, mistake.text(body)))
}

/// A step that failed.
struct Mistake {
    step: &'static str,
    why: String,
    at: usize,
}

type Step<T = ()> = Result<T, Mistake>;

impl Mistake {
    fn text(&self, body: &[u8]) -> String {
        let piece = self.at.saturating_sub(1) / PIECE_BYTES * PIECE_BYTES;
        let end = body.len().min(piece + PIECE_BYTES);
        let cut = |around: usize| {
            let from = self.at.saturating_sub(around).max(piece);
            String::from_utf8_lossy(body.get(from..end.min(self.at + around)).unwrap_or(&[])).into_owned()
        };
        let [near, far] = SHOWN_BYTES;
        let place = (self.at - piece).min(near);
        format!(
            "{}: {}, error found in #{place} byte of ...|{}|..., bigger context ...|{}|...",
            self.step,
            self.why,
            cut(near),
            cut(far)
        )
    }
}

struct Walk<'b> {
    body: &'b [u8],
    at: usize,
    /// More was wanted than there is. From then on every byte is zero, and none is given back.
    ended: bool,
    /// The type and field at hand, in front of what is told.
    within: &'static str,
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
}

/// A byte as it stands, whatever it means.
fn shown(byte: u8) -> String {
    String::from_utf8_lossy(&[byte]).into_owned()
}

impl Walk<'_> {
    fn fail<T>(&self, step: &'static str, why: impl Into<String>) -> Step<T> {
        Err(Mistake { step, why: why.into(), at: self.at })
    }

    fn byte(&mut self) -> u8 {
        match self.body.get(self.at) {
            Some(byte) => {
                self.at += 1;
                *byte
            }
            None => {
                self.ended = true;
                0
            }
        }
    }

    /// The next byte that is no blank. At the end, the blanks in front of it stay.
    fn token(&mut self) -> u8 {
        let rest = self.body.get(self.at..).unwrap_or(&[]);
        match rest.iter().position(|b| !is_blank(*b)) {
            Some(blanks) => {
                self.at += blanks;
                self.byte()
            }
            None => {
                self.ended = true;
                0
            }
        }
    }

    fn give_back(&mut self) {
        if !self.ended {
            self.at = self.at.saturating_sub(1);
        }
    }

    /// What the reader has of the input without asking for more.
    fn in_sight(&self) -> &[u8] {
        let end = (self.at.saturating_sub(1) / PIECE_BYTES + 1) * PIECE_BYTES;
        self.body.get(self.at..end.min(self.body.len())).unwrap_or(&[])
    }

    fn request(&mut self) -> Step {
        match self.token() {
            b'{' => {}
            b'n' => return self.word("ull"),
            c => return self.fail("readObjectStart", format!("expect {{ or n, but found {}", shown(c))),
        }
        if self.token() == b'}' {
            return Ok(());
        }
        self.give_back();
        loop {
            self.within = "loghttp.PushRequest.";
            if self.key()?.eq_ignore_ascii_case(b"streams") {
                self.within = "loghttp.PushRequest.Streams: []loghttp.LogProtoStream: ";
                self.streams()?;
                self.within = "loghttp.PushRequest.";
            } else {
                self.value(0)?;
            }
            match self.token() {
                b',' => {}
                b'}' => return Ok(()),
                c => {
                    let why = format!("object ended prematurely, unexpected char {}", shown(c));
                    return self.fail("isObjectEnd", why);
                }
            }
        }
    }

    fn key(&mut self) -> Step<Vec<u8>> {
        let c = self.token();
        if c != b'"' {
            return self.fail("readFieldHash", format!("expect \", but found {}", shown(c)));
        }
        let from = self.at;
        let rest = self.body.get(from..).unwrap_or(&[]);
        let Some(length) = rest.iter().position(|b| matches!(b, b'"' | b'\\')) else {
            return self.fail("readFieldHash", "incomplete field name");
        };
        let name = rest.get(..length).unwrap_or(&[]).to_vec();
        self.at += length;
        self.rest_of_text()?;
        match self.token() {
            b':' => Ok(name),
            c => self.fail("readFieldHash", format!("expect :, but found {}", shown(c))),
        }
    }

    fn streams(&mut self) -> Step {
        match self.token() {
            b'n' => return self.word("ull"),
            b'[' => {}
            c => return self.fail("decode slice", format!("expect [ or n, but found {}", shown(c))),
        }
        if self.token() == b']' {
            return Ok(());
        }
        self.give_back();
        loop {
            self.stream()?;
            match self.token() {
                b',' => {}
                b']' => return Ok(()),
                c => return self.fail("decode slice", format!("expect ], but found {}", shown(c))),
            }
        }
    }

    fn stream(&mut self) -> Step {
        self.token();
        self.give_back();
        let from = self.at;
        self.value(0)?;
        let text = self.body.get(from..self.at).unwrap_or(&[]);
        // What is broken in a way that this walk does not see is left to our own reader.
        let Ok(raw) = serde_json::from_slice::<&RawValue>(text) else { return Ok(()) };
        match of_stream(raw) {
            Some(why) => self.fail("unmarshalerDecoder", why),
            None => Ok(()),
        }
    }

    /// Any value.
    fn value(&mut self, depth: usize) -> Step {
        if depth > NESTING {
            return self.fail("incrementDepth", "exceeded max depth");
        }
        match self.token() {
            b'"' => self.text(),
            b'n' => self.word("ull"),
            b't' => self.word("rue"),
            b'f' => self.word("alse"),
            b'0' => self.number_from_zero(),
            b'-' | b'1'..=b'9' => self.number(),
            b'[' => self.list(depth + 1),
            b'{' => self.object(depth + 1),
            c => self.fail("Skip", format!("do not know how to skip: {c}")),
        }
    }

    fn word(&mut self, rest: &'static str) -> Step {
        let step = if rest.len() == 3 { "skipThreeBytes" } else { "skipFourBytes" };
        for wanted in rest.bytes() {
            if self.byte() != wanted {
                return self.fail(step, format!("expect {rest}"));
            }
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Step {
        if self.token() == b']' {
            return Ok(());
        }
        self.give_back();
        loop {
            self.value(depth)?;
            match self.token() {
                b',' => {}
                b']' => return Ok(()),
                c => {
                    return self.fail("ReadArrayCB", format!("expect ] in the end, but found {}", shown(c)));
                }
            }
        }
    }

    fn object(&mut self, depth: usize) -> Step {
        match self.token() {
            b'}' => return Ok(()),
            b'"' => self.give_back(),
            c => return self.fail("ReadObjectCB", format!("expect \" after {{, but found {}", shown(c))),
        }
        loop {
            self.name()?;
            match self.token() {
                b':' => self.value(depth)?,
                c => {
                    let why = format!("expect : after object field, but found {}", shown(c));
                    return self.fail("ReadObject", why);
                }
            }
            match self.token() {
                b',' => {}
                b'}' => return Ok(()),
                _ => return self.fail("ReadObjectCB", "object not ended with }"),
            }
        }
    }

    fn name(&mut self) -> Step {
        match self.token() {
            b'"' => {}
            b'n' => return self.word("ull"),
            c => return self.fail("ReadString", format!("expects \" or n, but found {}", shown(c))),
        }
        match self.in_sight().iter().find(|b| matches!(b, b'"' | b'\\' | 0..b' ')) {
            Some(c @ 0..b' ') => self.fail("ReadString", format!("invalid control character found: {c}")),
            _ => self.rest_of_text(),
        }
    }

    fn text(&mut self) -> Step {
        match self.in_sight().iter().find(|b| matches!(b, b'"' | b'\\' | 0..b' ')) {
            Some(c @ 0..b' ') => self.fail("trySkipString", format!("invalid control character found: {c}")),
            _ => self.rest_of_text(),
        }
    }

    /// Up to the closing quote. Escapes are checked, control characters are not.
    fn rest_of_text(&mut self) -> Step {
        while !self.ended {
            match self.byte() {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                _ => {}
            }
        }
        self.fail("readStringSlowPath", "unexpected end of input")
    }

    fn escape(&mut self) -> Step {
        match self.byte() {
            b'u' => self.hex_digits(),
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            _ => self.fail("readEscapedChar", "invalid escape char after \\"),
        }
    }

    fn hex_digits(&mut self) -> Step {
        for _ in 0..4 {
            let c = self.byte();
            if self.ended {
                return Ok(());
            }
            if !c.is_ascii_hexdigit() {
                return self.fail("readU4", format!("expects 0~9 or a~f, but found {}", shown(c)));
            }
        }
        Ok(())
    }

    fn number_from_zero(&mut self) -> Step {
        if self.body.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.give_back();
            return self.fail("readFloat32", "leading zero is invalid");
        }
        let from = self.at.saturating_sub(1);
        self.run_of_number();
        self.stand_again_at(from);
        Ok(())
    }

    /// A number whose first byte has been taken.
    fn number(&mut self) -> Step {
        let seen = self.in_sight();
        let dots = |byte: &u8| *byte == b'.';
        if let Some(dot) = seen.iter().position(dots)
            && seen.iter().take(dot).all(u8::is_ascii_digit)
            && let Some(next) = seen.get(dot + 1)
        {
            if !next.is_ascii_digit() {
                return self.fail("validateNumber", "missing digit after dot");
            }
            let behind = seen.get(dot + 1..).unwrap_or(&[]);
            let digits = behind.iter().take_while(|b| b.is_ascii_digit()).count();
            if behind.get(digits).is_some_and(dots) {
                return self.fail("validateNumber", "more than one dot found in number");
            }
        }
        let from = self.at.saturating_sub(1);
        self.run_of_number();
        let text = self.body.get(from..self.at).unwrap_or(&[]);
        let reads = std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok());
        if !reads {
            return self.fail("readNumberAsString", "invalid number");
        }
        self.stand_again_at(from + usize::from(text.starts_with(b"-")));
        Ok(())
    }

    /// A number that ends with the body may go on, and so it is not taken: what wants more meets it
    /// again.
    fn stand_again_at(&mut self, number: usize) {
        if self.at == self.body.len() {
            self.at = number;
            self.ended = true;
        }
    }

    fn run_of_number(&mut self) {
        let rest = self.body.get(self.at..).unwrap_or(&[]);
        let in_number = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
        self.at += rest.iter().take_while(|b| in_number(b)).count();
    }
}

// What Loki's reader of a stream (jsonparser) says, each for more than its words tell.
const NO_OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
const NO_LIST: &str = "Value is array, but can't find closing ']' symbol";
const NO_TEXT: &str = "Value is string, but can't find closing '\"' symbol";
const NO_VALUE: &str = "Value looks like Number/Boolean/None, but can't find its end: ',' or '}' symbol";
const MALFORMED: &str = "Malformed JSON error";
const UNKNOWN: &str = "Unknown value type";

/// What is wrong with a stream that is whole as JSON.
fn of_stream(stream: &RawValue) -> Option<&'static str> {
    each_pair(stream, |key, value| match key {
        "stream" => each_pair(value, |_, value| (!is_sound(value)).then_some(NO_VALUE)),
        "values" if value.get() != "null" => {
            each_element(value, |entry| if entry.get() == "null" { None } else { of_entry(entry) })
        }
        _ => None,
    })
}

/// An entry's elements are all looked at, and the last mistake counts; after one, the next element
/// is taken for the one that was wanted.
fn of_entry(entry: &RawValue) -> Option<&'static str> {
    let (mut found, mut place) = (None, 0);
    let shape = each_element(entry, |element| {
        let why = match (place, kind(element)) {
            (0, Kind::Text) => nanoseconds(element.get().trim_matches('"')).is_none().then_some(NO_VALUE),
            (1, Kind::Text) => (!is_sound(element)).then_some(NO_VALUE),
            (0 | 1, _) => Some(NO_TEXT),
            (2, Kind::Object) => of_metadata(element),
            (2, _) => Some(NO_OBJECT),
            _ => None,
        };
        if why.is_none() {
            place += 1;
        } else {
            found = why;
        }
        None
    });
    found.or(shape)
}

fn of_metadata(object: &RawValue) -> Option<&'static str> {
    each_pair(object, |_, value| match kind(value) {
        Kind::Text if is_sound(value) => None,
        Kind::Text => Some(NO_VALUE),
        _ => Some(NO_TEXT),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    List,
    Text,
    Number,
    Word,
}

fn kind(value: &RawValue) -> Kind {
    match value.get().as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::List,
        Some(b'"') => Kind::Text,
        Some(b't' | b'f' | b'n') => Kind::Word,
        _ => Kind::Number,
    }
}

/// Text whose escapes make letters, or any other value.
fn is_sound(value: &RawValue) -> bool {
    kind(value) != Kind::Text || serde_json::from_str::<String>(value.get()).is_ok()
}

fn each_pair<'v>(
    object: &'v RawValue,
    look: impl FnMut(&str, &'v RawValue) -> Option<&'static str>,
) -> Option<&'static str> {
    if kind(object) != Kind::Object {
        return Some(NO_OBJECT);
    }
    let pairs = Pairs(look);
    serde_json::Deserializer::from_str(object.get()).deserialize_map(pairs).unwrap_or_default()
}

/// Loki's reader does not ask whether a list begins with a bracket: it goes on behind the first byte,
/// and what it says of other values comes from there.
fn each_element<'v>(
    list: &'v RawValue,
    look: impl FnMut(&'v RawValue) -> Option<&'static str>,
) -> Option<&'static str> {
    let text = list.get();
    match kind(list) {
        Kind::List => {}
        Kind::Object => return Some(if is_empty_object(text) { UNKNOWN } else { NO_LIST }),
        Kind::Word => return Some(UNKNOWN),
        Kind::Text if text.len() > 3 => return Some(UNKNOWN),
        Kind::Text | Kind::Number => return Some(MALFORMED),
    }
    let elements = Elements(look);
    serde_json::Deserializer::from_str(text).deserialize_seq(elements).unwrap_or_default()
}

fn is_empty_object(text: &str) -> bool {
    text.trim_matches(['{', '}', ' ', '\n', '\t', '\r']).is_empty()
}

struct Pairs<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue) -> Option<&'static str>> Visitor<'de> for Pairs<F> {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let value = map.next_value()?;
            if found.is_none() {
                found = (self.0)(&key, value);
            }
        }
        Ok(found)
    }
}

struct Elements<F>(F);

impl<'de, F: FnMut(&'de RawValue) -> Option<&'static str>> Visitor<'de> for Elements<F> {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        while let Some(element) = seq.next_element()? {
            if let found @ Some(_) = (self.0)(element) {
                // The rest has to be read for the reader to be content.
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(found);
            }
        }
        Ok(None)
    }
}
