//! Label sets: validity, order, identity.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use regex_syntax::hir::{Class, HirKind};

/// The label that carries the metric name.
pub const METRIC_NAME: &str = "__name__";

/// An immutable set of labels, sorted by name, in one shared allocation.
///
/// The set is one `str`: for each label the length of its name, the name, the length
/// of its value, the value. A length is written as one character, so that slicing
/// needs no validation and the whole needs no unsafe code. Names are unique and no
/// value is empty: a label with an empty value is a label that is not there.
///
/// Cloning is a reference count. Equality and hashing go over the bytes; order is as
/// Prometheus orders label sets (name by name, value by value, shorter first).
#[derive(Clone)]
pub struct Labels(Arc<str>);

static EMPTY: LazyLock<Labels> = LazyLock::new(|| Labels(Arc::from("")));

impl Labels {
    pub fn empty() -> Self {
        EMPTY.clone()
    }

    /// From pairs in any order. Empty values are left out; of two equal names the last wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// From pairs that are already sorted by name, unique, and without empty values.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::with_capacity(256);
        Self::encode(&mut text, pairs);
        if text.is_empty() { Self::empty() } else { Labels(Arc::from(text)) }
    }

    /// The value of a label, or `None` if it is not there.
    pub fn get(&self, name: &str) -> Option<&str> {
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The value of a label, the empty text if it is not there.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of the whole set in this crate's own encoding; stable within one format version.
    pub fn as_encoded(&self) -> &str {
        &self.0
    }

    /// Writes the encoding of pairs that are sorted by name, unique, and without empty values: what
    /// [`Labels::from_sorted`] would hold, for callers that look a set up before they make it.
    pub fn encode<'a>(text: &mut String, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (name, value) in pairs {
            push_pair(text, name, value);
        }
    }

    /// Takes back what [`Labels::as_encoded`] gave; `None` if the text is not such an encoding.
    pub fn from_encoded(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut last: Option<&str> = None;
        while !rest.is_empty() {
            let (name, after) = take_text(rest)?;
            let (value, after) = take_text(after)?;
            if last.is_some_and(|l| l >= name) || value.is_empty() {
                return None;
            }
            last = Some(name);
            rest = after;
        }
        Some(if text.is_empty() { Self::empty() } else { Labels(Arc::from(text)) })
    }

    /// Walks what [`Labels::as_encoded`] gave without making a set of it; ends where the text is
    /// no such encoding.
    pub fn iter_encoded(text: &str) -> Iter<'_> {
        Iter(text)
    }

    /// Identity of the set: a 128-bit hash, for which collisions are not expected within
    /// the life of a store.
    pub fn fingerprint(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(self.0.as_bytes())
    }

    /// The set without its metric name.
    pub fn without_name(&self) -> Self {
        if self.metric_name().is_none() {
            return self.clone();
        }
        Self::from_sorted(self.iter().filter(|(n, _)| *n != METRIC_NAME))
    }

    /// Only the labels for which `keep` holds.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self::from_sorted(self.iter().filter(|(n, _)| keep(n)))
    }

    /// The set with one label set, or removed where `value` is empty.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut builder = LabelsBuilder::from(self);
        builder.set(name, value);
        builder.build()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// As Prometheus prints a label set: `{a="b", c="d"}`, names quoted where they must be.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_braced(f, self.iter())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A series as Prometheus and Mimir print it in messages: `name{a="b"}`.
#[derive(Debug)]
pub struct SeriesText<'a>(pub &'a Labels);

impl fmt::Display for SeriesText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.metric_name() {
            Some(name) if is_legacy_metric_name(name) => {
                f.write_str(name)?;
                if self.0.len() > 1 {
                    write_braced(f, self.0.iter().filter(|(n, _)| *n != METRIC_NAME))?;
                }
                Ok(())
            }
            _ => write_braced(f, self.0.iter()),
        }
    }
}

fn write_braced<'a>(
    f: &mut fmt::Formatter<'_>,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> fmt::Result {
    f.write_str("{")?;
    for (i, (name, value)) in pairs.enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        if is_legacy_label_name(name) {
            f.write_str(name)?
        } else {
            f.write_str(&quote(name))?
        }
        write!(f, "={}", quote(value))?;
    }
    f.write_str("}")
}

/// A text in double quotes, escaped as Go's `strconv.Quote`: what is not printable is written as
/// a number.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) < 0x10000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Takes Go's escapes out of the inside of a quoted text, the reverse of [`quote`]. The delimiter
/// may be escaped, other quotes may not. Bytes written as `\xff` that make no UTF-8 become U+FFFD.
/// `None` where Go knows no such escape.
pub fn unquote(inner: &str, delimiter: char) -> Option<Cow<'_, str>> {
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(rest.get(..at)?.as_bytes());
        rest = unquote_escape(rest.get(at + 1..)?, delimiter, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    let lossy = |e: std::string::FromUtf8Error| String::from_utf8_lossy(e.as_bytes()).into_owned();
    Some(Cow::Owned(String::from_utf8(out).unwrap_or_else(lossy)))
}

/// One escape whose backslash has been read; gives back what stands behind it.
fn unquote_escape<'a>(text: &'a str, delimiter: char, out: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = text.get(kind.len_utf8()..)?;
    let (digits, radix, count) = match kind {
        'x' => (rest, 16, 2),
        'u' => (rest, 16, 4),
        'U' => (rest, 16, 8),
        '0'..='7' => (text, 8, 3),
        _ => {
            out.push(match kind {
                'a' => 7,
                'b' => 8,
                'f' => 12,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 11,
                '\\' => b'\\',
                c if c == delimiter && c.is_ascii() => c as u8,
                _ => return None,
            });
            return Some(rest);
        }
    };
    let number = digits.get(..count).filter(|d| d.chars().all(|c| c.is_digit(radix)))?;
    let code = u32::from_str_radix(number, radix).ok()?;
    if count > 3 {
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(u8::try_from(code).ok()?);
    }
    digits.get(count..)
}

/// As Go's `unicode.IsPrint` beyond ASCII: letters, marks, numbers, punctuation, symbols, and no
/// kind of space.
fn is_printable(c: char) -> bool {
    static PRINTABLE: LazyLock<Vec<(char, char)>> = LazyLock::new(|| {
        let class = regex_syntax::parse(r"[\pL\pM\pN\pP\pS]").map(|hir| hir.into_kind());
        match class {
            Ok(HirKind::Class(Class::Unicode(class))) => class.iter().map(|r| (r.start(), r.end())).collect(),
            _ => Vec::new(),
        }
    });
    let after = PRINTABLE.partition_point(|(start, _)| *start <= c);
    after.checked_sub(1).and_then(|i| PRINTABLE.get(i)).is_some_and(|(_, end)| c <= *end)
}

/// Walks a label set in name order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a str);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = take_text(self.0)?;
        let (value, rest) = take_text(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

/// Collects labels in any order and makes a [`Labels`] of them.
#[derive(Default, Clone, Debug)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) if value.is_empty() => {
                self.pairs.remove(i);
            }
            Ok(i) => value.clone_into(&mut self.pairs[i].1),
            Err(_) if value.is_empty() => {}
            Err(i) => self.pairs.insert(i, (name.to_owned(), value.to_owned())),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let i = self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        Some(self.pairs[i].1.as_str())
    }

    /// Removes the labels for which `keep` does not hold.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) -> &mut Self {
        self.pairs.retain(|(name, _)| keep(name));
        self
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> Self {
        Self { pairs: labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, the names that need no quotes in PromQL.
pub fn is_legacy_metric_name(name: &str) -> bool {
    is_name(name, |b| b == b':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || also(b);
    name.as_bytes().first().is_some_and(|b| !b.is_ascii_digit()) && name.bytes().all(ok)
}

/// Turns a name escaped as `U__…` back, as Prometheus' "values" escaping writes names in
/// paths: `__` is an underscore, `_HEX_` a code point. A name without the prefix, or with a
/// broken escape, is returned as it is.
pub fn unescape_name(name: &str) -> Cow<'_, str> {
    name.strip_prefix("U__").and_then(unescape_tail).map_or(Cow::Borrowed(name), Cow::Owned)
}

fn unescape_tail(escaped: &str) -> Option<String> {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('_')?;
        let code = &rest[..end];
        rest = &rest[end + 1..];
        if code.is_empty() {
            out.push('_');
        } else {
            out.push(char::from_u32(u32::from_str_radix(code, 16).ok().filter(|_| code.len() <= 6)?)?);
        }
    }
    out.push_str(rest);
    Some(out)
}

/// A length as one character; the gap of the surrogates is stepped over. Lengths above
/// `MAX_LENGTH` cannot be written and are cut by the limits long before.
const SURROGATES: u32 = 0xD800;
const GAP: u32 = 0x800;
/// The longest name or value that an encoded label set can hold, in bytes.
pub const MAX_LENGTH: usize = (0x10_FFFF - GAP) as usize;

fn push_pair(text: &mut String, name: &str, value: &str) {
    for part in [name, value] {
        let n = part.len().min(MAX_LENGTH);
        let cut = part.get(..n).unwrap_or("");
        let n = cut.len() as u32;
        text.push(char::from_u32(if n < SURROGATES { n } else { n + GAP }).unwrap_or('\0'));
        text.push_str(cut);
    }
}

#[inline]
fn take_text(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let first = *bytes.first()?;
    // Nearly every length is below 128 and takes one byte.
    let (length, head) = if first < 0x80 {
        (usize::from(first), 1)
    } else {
        let c = text.chars().next()?;
        let n = c as u32;
        ((if n < SURROGATES { n } else { n - GAP }) as usize, c.len_utf8())
    };
    Some((text.get(head..head + length)?, text.get(head + length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_that_of_go() {
        for (text, quoted) in [
            ("a \"b\" \\", r#""a \"b\" \\""#),
            ("\n\r\t\x07\x08\x0b\x0c\0\x1b\x7f", r#""\n\r\t\a\b\v\f\x00\x1b\x7f""#),
            ("ä€😀", "\"ä€😀\""),
            ("\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}\u{e000}", r#""\u00a0\u00ad\u200b\u2028\ufeff\ue000""#),
            ("\u{e0001}\u{10ffff}", r#""\U000e0001\U0010ffff""#),
            ("e\u{301}", "\"e\u{301}\""),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn escapes_are_those_of_go() {
        for (inner, text) in [
            ("plain", Some("plain")),
            (r#"a \"b\" \\"#, Some("a \"b\" \\")),
            (r"\n\r\t\a\b\v\f", Some("\n\r\t\x07\x08\x0b\x0c")),
            (r"\x41\101\u00e4\U0001F600", Some("AAä😀")),
            (r"\xc3\xa4", Some("ä")),
            (r"\xff", Some("\u{fffd}")),
            (r"\'", None),
            (r"\q", None),
            (r"\x4", None),
            (r"\u+123", None),
            (r"\ud800", None),
            (r"\777", None),
            ("\\", None),
        ] {
            assert_eq!(unquote(inner, '"').as_deref(), text, "{inner}");
        }
        assert_eq!(unquote(r"it\'s", '\'').as_deref(), Some("it's"));
    }

    #[test]
    fn sets_are_sorted_and_unique() {
        let set = Labels::from_pairs([("b", "2"), ("a", "1"), ("b", "3"), ("c", "")]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!(set.get("b"), Some("3"));
        assert_eq!(set.get("c"), None);
        assert_eq!(set.to_string(), r#"{a="1", b="3"}"#);
    }

    #[test]
    fn order_is_by_name_then_value_then_length() {
        let of = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        assert!(of(&[("a", "1")]) < of(&[("a", "2")]));
        assert!(of(&[("a", "10")]) < of(&[("a", "2")]));
        assert!(of(&[("a", "1")]) < of(&[("a", "1"), ("b", "1")]));
        assert!(of(&[("a", "z")]) < of(&[("b", "a")]));
    }

    #[test]
    fn names_are_unescaped_as_prometheus_does() {
        for (escaped, name) in [
            ("U__dotted_2e_label", "dotted.label"),
            ("U__a__b", "a_b"),
            ("plain_name", "plain_name"),
            ("U__broken_zz_", "U__broken_zz_"),
        ] {
            assert_eq!(unescape_name(escaped), name);
        }
    }

    proptest::proptest! {
        #[test]
        fn quoting_goes_back(text in proptest::prelude::any::<String>()) {
            let quoted = quote(&text);
            let back = unquote(&quoted[1..quoted.len() - 1], '"');
            proptest::prop_assert_eq!(back.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn encoding_goes_back(pairs in proptest::collection::btree_map(".{1,200}", ".{1,300}", 0..6)) {
            let set = Labels::from_pairs(pairs.iter());
            let back = Labels::from_encoded(set.as_encoded());
            proptest::prop_assert_eq!(back.as_ref(), Some(&set));
            let read: std::collections::BTreeMap<String, String> =
                set.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            proptest::prop_assert_eq!(read, pairs);
        }

        #[test]
        fn decoding_any_text_never_panics(text in ".{0,40}") {
            if let Some(set) = Labels::from_encoded(&text) {
                proptest::prop_assert_eq!(set.as_encoded(), text.as_str());
            }
        }
    }
}
