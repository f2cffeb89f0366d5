//! A forgiving scanner over JSON text: it tells where keys and values begin and end, and checks
//! no more than it must, as the scanner under Loki does. Broken text gives what comes before the
//! break.

use bumpalo::Bump;
use bumpalo::collections::String as BumpString;
use memchr::memchr2;

/// Why scanning ended; the text becomes the error's details.
pub(crate) type Broken = &'static str;

pub(crate) const MALFORMED: Broken = "Malformed JSON error";
pub(crate) const NO_OBJECT: Broken = "Value looks like object, but can't find closing '}' symbol";
const NO_ARRAY: Broken = "Value is array, but can't find closing ']' symbol";
const NO_TEXT: Broken = "Value is string, but can't find closing '\"' symbol";
const UNKNOWN: Broken = "Unknown value type";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Without its quotes; whether it holds escapes.
    Text(bool),
    Number,
    Bool,
    Null,
    Object,
    Array,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub(crate) text: &'a str,
}

/// A key of an object: its text between the quotes, and where the scan goes on behind the colon.
pub(crate) struct Key<'a> {
    pub(crate) raw: &'a str,
    pub(crate) escaped: bool,
    pub(crate) value_at: usize,
}

impl<'a> Scan<'a> {
    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The next byte that is not blank, and its place.
    #[inline(always)]
    pub(crate) fn token(&self, mut at: usize) -> Option<(usize, u8)> {
        loop {
            match self.byte(at)? {
                b' ' | b'\n' | b'\r' | b'\t' => at += 1,
                b => return Some((at, b)),
            }
        }
    }

    #[inline]
    pub(crate) fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or("")
    }

    /// The place behind the closing quote of a text that begins at `at` (behind its opening
    /// quote), and whether it holds escapes.
    #[inline(always)]
    fn text_end(&self, at: usize) -> Option<(usize, bool)> {
        let bytes = self.text.as_bytes();
        let mut from = at;
        let mut escaped = false;
        loop {
            let found = quote_or_escape(bytes, from)?;
            if bytes[found] == b'"' {
                return Some((found + 1, escaped));
            }
            escaped = true;
            from = found + 2;
        }
    }

    /// Enters the object that begins at the next token: the place behind its brace.
    #[inline]
    pub(crate) fn enter(&self, at: usize) -> Result<usize, Broken> {
        match self.token(at) {
            Some((at, b'{')) => Ok(at + 1),
            _ => Err(NO_OBJECT),
        }
    }

    /// The key at `at`, or the place behind the object if it ends here.
    #[inline(always)]
    pub(crate) fn key(&self, at: usize) -> Result<Result<Key<'a>, usize>, Broken> {
        match self.token(at) {
            Some((at, b'}')) => Ok(Err(at + 1)),
            Some((at, b'"')) => {
                let (end, escaped) = self.text_end(at + 1).ok_or(MALFORMED)?;
                match self.token(end) {
                    Some((colon, b':')) => {
                        let raw = self.slice(at + 1, end - 1);
                        Ok(Ok(Key { raw, escaped, value_at: colon + 1 }))
                    }
                    _ => Err(MALFORMED),
                }
            }
            Some(_) => Err(NO_OBJECT),
            None => Err(MALFORMED),
        }
    }

    /// Behind a value of an object: the place of the next key, or the place behind the object.
    #[inline(always)]
    pub(crate) fn after_value(&self, at: usize) -> Result<Result<usize, usize>, Broken> {
        match self.token(at) {
            Some((at, b',')) => match self.token(at + 1) {
                Some((next, _)) => Ok(Ok(next)),
                None => Err(NO_ARRAY),
            },
            Some((at, b'}')) => Ok(Err(at + 1)),
            Some(_) => Err(NO_OBJECT),
            None => Err(NO_ARRAY),
        }
    }

    /// The value at or behind `at`: its kind and its extent (of a text, without the quotes). The
    /// end of an object is not looked for: `end` is its start.
    #[inline(always)]
    pub(crate) fn value(&self, at: usize) -> Result<(Kind, usize, usize), Broken> {
        let (at, first) = self.token(at).ok_or(MALFORMED)?;
        match first {
            b'"' => {
                let (end, escaped) = self.text_end(at + 1).ok_or(NO_TEXT)?;
                Ok((Kind::Text(escaped), at + 1, end - 1))
            }
            b'{' => Ok((Kind::Object, at, at)),
            b'[' => Ok((Kind::Array, at, self.block_end(at, b'[', b']').ok_or(NO_ARRAY)?)),
            _ => {
                let rest = &self.text.as_bytes()[at..];
                let length = rest
                    .iter()
                    .position(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']'))
                    .unwrap_or(rest.len());
                let kind = match (first, &rest[..length]) {
                    (_, b"true" | b"false") => Kind::Bool,
                    (_, b"null") => Kind::Null,
                    (b'0'..=b'9' | b'-', _) => Kind::Number,
                    _ => return Err(UNKNOWN),
                };
                Ok((kind, at, at + length))
            }
        }
    }

    /// Where a value that [`Scan::value`] found ends, quote included, object included.
    pub(crate) fn value_end(&self, kind: Kind, start: usize, end: usize) -> Result<usize, Broken> {
        match kind {
            Kind::Text(_) => Ok(end + 1),
            Kind::Object => self.object_end(start),
            _ => Ok(end),
        }
    }

    pub(crate) fn object_end(&self, start: usize) -> Result<usize, Broken> {
        self.block_end(start, b'{', b'}').ok_or(NO_OBJECT)
    }

    /// The place behind the bracket that closes the one at `at`. Brackets of the other kind are
    /// not looked at.
    fn block_end(&self, mut at: usize, open: u8, close: u8) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut level = 0usize;
        loop {
            let b = *bytes.get(at)?;
            if b == b'"' {
                at = self.text_end(at + 1)?.0;
                continue;
            }
            if b == open {
                level += 1;
            } else if b == close {
                level -= 1;
                if level == 0 {
                    return Some(at + 1);
                }
            }
            at += 1;
        }
    }

    /// Calls back for each element of the array at `at`, with its kind and extent, until one
    /// answers `false` or the text breaks.
    pub(crate) fn elements(&self, at: usize, mut each: impl FnMut(Kind, usize, usize) -> bool) {
        let mut at = at + 1;
        if !matches!(self.token(at), Some((_, b)) if b != b']') {
            return;
        }
        loop {
            let Ok((kind, start, end)) = self.value(at) else { return };
            let Ok(behind) = self.value_end(kind, start, end) else { return };
            if !each(kind, start, end) {
                return;
            }
            match self.token(behind) {
                Some((comma, b',')) => at = comma + 1,
                _ => return,
            }
        }
    }
}

/// The next quote or backslash. Most texts are short: eight bytes at a time are looked at before
/// the vector search, which costs more to start, takes over.
#[inline(always)]
fn quote_or_escape(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        // A zero byte where the byte is the one looked for; the lowest such mark is exact.
        let (quotes, escapes) = (word ^ (ONES * 0x22), word ^ (ONES * 0x5c));
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
        let marks = zero(quotes) | zero(escapes);
        if marks != 0 {
            return Some(at + (marks.trailing_zeros() / 8) as usize);
        }
        at += 8;
        if at - from >= 32 {
            return memchr2(b'"', b'\\', bytes.get(at..)?).map(|found| at + found);
        }
    }
    let tail = bytes.get(at..)?;
    tail.iter().position(|b| matches!(b, b'"' | b'\\')).map(|found| at + found)
}

/// A text value as a label holds it: escapes resolved, U+FFFD as a blank, and nothing at all if an
/// escape makes no sense.
#[inline]
pub(crate) fn label_value<'a>(raw: &'a str, escaped: bool, arena: &'a Bump) -> &'a str {
    if !escaped && memchr::memchr(0xEF, raw.as_bytes()).is_none() {
        return raw;
    }
    match unescape(raw, arena) {
        Some(text) => without_replacement(text, arena),
        None => "",
    }
}

/// U+FFFD stands for what was no text; labels hold a blank instead.
pub(crate) fn without_replacement<'a>(text: &'a str, arena: &'a Bump) -> &'a str {
    if memchr::memchr(0xEF, text.as_bytes()).is_none() || !text.contains('\u{fffd}') {
        return text;
    }
    let mut out = BumpString::with_capacity_in(text.len(), arena);
    out.extend(text.chars().map(|c| if c == '\u{fffd}' { ' ' } else { c }));
    out.into_bump_str()
}

/// Resolves JSON's escapes; `None` where one makes no sense.
pub(crate) fn unescape<'a>(raw: &'a str, arena: &'a Bump) -> Option<&'a str> {
    if !raw.contains('\\') {
        return Some(raw);
    }
    let mut out = BumpString::with_capacity_in(raw.len(), arena);
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let c = match rest.as_bytes().first()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (c, length) = unicode(rest)?;
                out.push(c);
                rest = &rest[length..];
                continue;
            }
            _ => return None,
        };
        out.push(c);
        rest = &rest[1..];
    }
    out.push_str(rest);
    Some(out.into_bump_str())
}

/// The character of `uXXXX`, or of a surrogate pair `uXXXX\uXXXX`, and the length of that text.
fn unicode(text: &str) -> Option<(char, usize)> {
    let hex = |at: usize| {
        text.get(at..at + 4)
            .filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|h| u32::from_str_radix(h, 16).ok())
    };
    let first = hex(1)?;
    if !(0xD800..=0xDFFF).contains(&first) {
        return Some((char::from_u32(first)?, 5));
    }
    if text.get(5..7)? != "\\u" {
        return None;
    }
    let second = hex(7).filter(|s| *s >= 0xDC00)?;
    let code =
        0x10000u32.wrapping_add(first.wrapping_sub(0xD800) << 10).wrapping_add(second.wrapping_sub(0xDC00));
    Some((char::from_u32(code).unwrap_or('\u{fffd}'), 11))
}
