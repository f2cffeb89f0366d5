//! The parsers that read logfmt: `logfmt` and `logfmt a, b="key"`.

use bumpalo::Bump;
use bumpalo::collections::String as BumpString;

use crate::entry::{ERROR_SYM, Entry, LOGFMT_ERROR};
use crate::hints::{Hints, Parsing};
use crate::json::{admit, fail, push_sanitised, store};
use crate::json_scan::without_replacement;
use crate::names::{Names, Sym};

/// Walks `key=value` pairs of a line. Broken pairs are stepped over.
struct Pairs<'a> {
    line: &'a str,
    at: usize,
    error: Option<String>,
}

enum Pair<'a> {
    /// A key and its value; a bare key has the empty one. The key may be empty as well.
    Whole(&'a str, Value<'a>),
    Broken,
}

enum Value<'a> {
    Plain(&'a str),
    /// Between quotes, with escapes in it.
    Escaped(&'a str),
}

impl<'a> Pairs<'a> {
    fn new(line: &'a str) -> Self {
        Self { line, at: 0, error: None }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.line.as_bytes().get(at).copied()
    }

    fn position(&self, from: usize, mut is: impl FnMut(u8) -> bool) -> usize {
        let bytes = self.line.as_bytes();
        bytes.get(from..).and_then(|rest| rest.iter().position(|b| is(*b))).map_or(bytes.len(), |p| from + p)
    }

    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.line.get(from..to).unwrap_or("")
    }

    fn next(&mut self) -> Option<Pair<'a>> {
        if self.at >= self.line.len() {
            return None;
        }
        self.at = self.position(self.at, |b| b > b' ');
        if self.at >= self.line.len() {
            return None;
        }
        let start = self.at;
        let end = self.position(start, |b| b == b'=' || b == b'"' || b <= b' ');
        self.at = end;
        let key = self.slice(start, end);
        match self.byte(end) {
            Some(b'=') if key.is_empty() => Some(self.broken_at('=')),
            Some(b'"') => Some(self.broken_at('"')),
            _ if key.contains('\u{fffd}') => {
                self.error = Some(format!("logfmt syntax error at pos {} : invalid key", end + 1));
                self.skip_word();
                Some(Pair::Broken)
            }
            Some(b'=') => Some(self.value(key)),
            _ => Some(Pair::Whole(key, Value::Plain(""))),
        }
    }

    fn value(&mut self, key: &'a str) -> Pair<'a> {
        self.at += 1;
        match self.byte(self.at) {
            None => return Pair::Whole(key, Value::Plain("")),
            Some(b'"') => return self.quoted(key),
            Some(b) if b <= b' ' => return Pair::Whole(key, Value::Plain("")),
            Some(_) => {}
        }
        let start = self.at;
        self.at = self.position(start, |b| b == b'=' || b == b'"' || b <= b' ');
        match self.byte(self.at) {
            Some(b'=') => self.broken_at('='),
            Some(b'"') => self.broken_at('"'),
            _ => Pair::Whole(key, Value::Plain(self.slice(start, self.at))),
        }
    }

    fn quoted(&mut self, key: &'a str) -> Pair<'a> {
        let start = self.at + 1;
        let (mut from, mut escaped) = (start, false);
        loop {
            let found = self.position(from, |b| b == b'"' || b == b'\\');
            match self.byte(found) {
                Some(b'\\') => {
                    escaped = true;
                    from = found + 2;
                }
                Some(_) => {
                    self.at = found + 1;
                    let inner = self.slice(start, found);
                    if escaped && !escapes_are_valid(inner) {
                        self.error = Some(format!(
                            "logfmt syntax error at pos {} : invalid quoted value",
                            self.at + 1
                        ));
                        return Pair::Broken;
                    }
                    return Pair::Whole(
                        key,
                        if escaped { Value::Escaped(inner) } else { Value::Plain(inner) },
                    );
                }
                None => {
                    self.at = self.line.len();
                    self.error = Some(format!(
                        "logfmt syntax error at pos {} : unterminated quoted value",
                        self.at + 1
                    ));
                    return Pair::Broken;
                }
            }
        }
    }

    fn broken_at(&mut self, found: char) -> Pair<'a> {
        self.error = Some(format!("logfmt syntax error at pos {} : unexpected '{found}'", self.at + 1));
        self.skip_word();
        Pair::Broken
    }

    fn skip_word(&mut self) {
        self.at = self.position(self.at, |b| b <= b' ');
    }
}

impl<'a> Value<'a> {
    fn text(&self, arena: &'a Bump) -> &'a str {
        match self {
            Self::Plain(text) => text,
            Self::Escaped(inner) => unescape(inner, arena),
        }
    }
}

fn escapes_are_valid(inner: &str) -> bool {
    let mut rest = inner.as_bytes();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        match rest.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'\'' | b'b' | b'f' | b'n' | b'r' | b't') => rest = &rest[at + 2..],
            Some(b'u') if rest.get(at + 2..at + 6).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) => {
                rest = &rest[at + 6..];
            }
            _ => return false,
        }
    }
    true
}

/// Resolves the escapes of a quoted value that [`escapes_are_valid`] has passed.
fn unescape<'a>(inner: &str, arena: &'a Bump) -> &'a str {
    let mut out = BumpString::with_capacity_in(inner.len(), arena);
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let kind = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or("");
        match kind {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let hex = |text: &str| text.get(..4).and_then(|h| u16::from_str_radix(h, 16).ok());
                let first = hex(rest).unwrap_or(0xFFFD);
                rest = rest.get(4..).unwrap_or("");
                let second = rest.strip_prefix("\\u").and_then(hex);
                let pair = second.and_then(|s| char::decode_utf16([first, s]).next()?.ok());
                match pair.filter(|c| *c as u32 > 0xFFFF) {
                    Some(c) => {
                        out.push(c);
                        rest = rest.get(6..).unwrap_or("");
                    }
                    None => out.push(char::from_u32(u32::from(first)).unwrap_or('\u{fffd}')),
                }
            }
            other => out.push(char::from(other)),
        }
    }
    out.push_str(rest);
    out.into_bump_str()
}

/// The label of a key; none for a key that is only blanks.
fn label_of(key: &str, names: &mut Names) -> Option<Sym> {
    if pilothouse_model::labels::is_legacy_label_name(key) {
        return Some(names.sym(key));
    }
    let mut label = String::with_capacity(key.len() + 1);
    push_sanitised(&mut label, key);
    (!label.is_empty()).then(|| names.sym(&label))
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Logfmt {
    pub(crate) strict: bool,
    pub(crate) keep_empty: bool,
}

impl Logfmt {
    /// `false` if a filter refuses the line by what was found.
    pub(crate) fn run(self, entry: &mut Entry<'_>, parsing: Parsing<'_>, names: &mut Names) -> bool {
        let hints = parsing.hints;
        if hints.is_satisfied(entry) {
            return true;
        }
        entry.reserve_parsed(16);
        let mut pairs = Pairs::new(entry.line);
        while let Some(pair) = pairs.next() {
            let Pair::Whole(key, value) = pair else {
                if self.strict {
                    break;
                }
                continue;
            };
            let Some(sym) = label_of(key, names) else { continue };
            let Some(sym) = admit(entry, sym, hints, names) else { continue };
            let value = without_replacement(value.text(entry.arena), entry.arena);
            if value.is_empty() && !self.keep_empty {
                continue;
            }
            if !store(entry, sym, value, parsing) {
                return false;
            }
            if hints.is_satisfied(entry) {
                break;
            }
        }
        if self.strict
            && let Some(error) = &pairs.error
        {
            fail(entry, LOGFMT_ERROR, Some(error), hints);
            return parsing.goes_on(ERROR_SYM, entry);
        }
        true
    }
}

/// `logfmt a, b="key"`.
#[derive(Debug)]
pub(crate) struct LogfmtFields {
    /// The label, and the key it is taken from.
    pub(crate) fields: Vec<(Sym, Sym)>,
    pub(crate) strict: bool,
}

impl LogfmtFields {
    pub(crate) fn run<'a>(&self, entry: &mut Entry<'a>, hints: &Hints, names: &mut Names) {
        if hints.is_satisfied(entry) {
            return;
        }
        for (label, _) in &self.fields {
            if !entry.is_taken(*label) {
                if !entry.was_parsed(*label) {
                    hints.found(entry, *label);
                }
                entry.set(*label, "");
            }
        }
        let mut pairs = Pairs::new(entry.line);
        while let Some(pair) = pairs.next() {
            let Pair::Whole(key, value) = pair else {
                if self.strict {
                    break;
                }
                continue;
            };
            let Some(key) = label_of(key, names) else { continue };
            let renamed = self.fields.iter().find(|(_, from)| *from == key).map(|(label, _)| *label);
            let named = self.fields.iter().any(|(label, _)| *label == key);
            // As in Loki, a key that is renamed is read only where the query wants it by its old name too.
            if !named && (!hints.wants(key) || entry.was_parsed(key)) {
                continue;
            }
            let Some(mut label) = renamed.or(named.then_some(key)) else { continue };
            let value = value.text(entry.arena);
            let value = if value.contains('\u{fffd}') { "" } else { value };
            if entry.is_taken(label) {
                label = names.extracted(label);
                if entry.was_parsed(label) || !hints.wants(label) {
                    break;
                }
            }
            if !entry.was_parsed(label) {
                hints.found(entry, label);
            }
            entry.set(label, value);
            // The empty defaults count as found, so that this may be the first of several fields.
            if hints.is_satisfied(entry) {
                break;
            }
        }
        if self.strict
            && let Some(error) = &pairs.error
        {
            fail(entry, LOGFMT_ERROR, Some(error), hints);
        }
    }
}

/// Reads the key of an extraction: a bare word, or a quoted text.
pub(crate) fn parse_key(text: &str) -> Result<String, String> {
    let text = text.trim();
    if let Some(quoted) = text.strip_prefix('"') {
        let end = quoted.find(['"', ']']).unwrap_or(quoted.len());
        return Ok(quoted[..end].to_owned());
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '_')) {
        Some(c) => Err(format!("unexpected char {c}")),
        None if text.is_empty() => Err("syntax error: unexpected $end, expecting STRING or KEY".to_owned()),
        None if text.starts_with(|c: char| c.is_ascii_digit()) => {
            Err(format!("unexpected char {}", &text[..1]))
        }
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found() {
        let arena = Bump::new();
        for (line, expected, error) in [
            ("a=1 b=two", "a:1 b:two", false),
            (r#"a="x y" b"#, "a:x y b:", false),
            (r#"a="say \"hi\"" c=3"#, r#"a:say "hi" c:3"#, false),
            ("a=1=2 c=3", "! c:3", true),
            ("=x b=1", "! b:1", true),
            (r#"a="open b=1"#, "!", true),
            ("  a=  b=1", "a: b:1", false),
            (r#"a"b c=1"#, "! c:1", true),
            (r#"a="\u0041\n" "#, "a:A\n", false),
            (r#"a="\q" b=1"#, "! b:1", true),
        ] {
            let mut pairs = Pairs::new(line);
            let mut got = Vec::new();
            while let Some(pair) = pairs.next() {
                got.push(match pair {
                    Pair::Whole(key, value) => format!("{key}:{}", value.text(&arena)),
                    Pair::Broken => "!".to_owned(),
                });
            }
            assert_eq!(got.join(" "), expected, "{line}");
            assert_eq!(pairs.error.is_some(), error, "{line}");
        }
    }
}
