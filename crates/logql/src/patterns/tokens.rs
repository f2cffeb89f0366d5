//! Lines taken apart into tokens, by what they look like, and patterns put together again.
//!
//! The borders are Loki's: text breaks at blanks, `=` and punctuation but for `_ - . : /`; of a
//! JSON line only its message counts. Logfmt is text whose times and trace ids are left open from
//! the start, so that a message is told by its words; where that makes too many tokens, its keys
//! and values are taken whole, as Loki always does.

use pilothouse_model::limits::PATTERN_LINE_BYTES;

use super::drain::WILDCARD;
use crate::json_scan::{Kind, Scan};

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Text,
    /// Keys and values in turn.
    Logfmt,
    Json,
}

/// Lines with fewer or more tokens are no use, nor are very long ones.
const TOKENS: std::ops::RangeInclusive<usize> = 4..=80;

/// The keys of a JSON object that may hold its message, in order of precedence.
const MESSAGE_KEYS: [&str; 6] = ["log", "message", "msg", "msg_", "_msg", "content"];

/// One token; for [`Shape::Text`] with the blanks that stand in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'l> {
    pub(super) text: &'l str,
    pub(super) blanks: u16,
}

#[derive(Debug)]
pub(super) struct Tokens<'l> {
    pub(super) shape: Shape,
    pub(super) list: Vec<Token<'l>>,
}

impl<'l> Tokens<'l> {
    /// Nothing for a line that is not worth a pattern.
    pub(super) fn of(line: &'l str) -> Option<Self> {
        let (shape, list) = match shape_of(line) {
            Shape::Json => {
                let message = message(line)?;
                (Shape::Json, (message.len() <= PATTERN_LINE_BYTES).then(|| text(message))?)
            }
            _ if line.len() > PATTERN_LINE_BYTES => return None,
            Shape::Logfmt => match logfmt(line)? {
                (words, _) if words.len() <= *TOKENS.end() => (Shape::Text, words),
                (_, pairs) => (Shape::Logfmt, pairs),
            },
            Shape::Text => (Shape::Text, text(line)),
        };
        TOKENS.contains(&list.len()).then_some(Self { shape, list })
    }
}

fn shape_of(line: &str) -> Shape {
    if line.len() > 1 && line.starts_with('{') && line.ends_with('}') {
        Shape::Json
    } else if is_logfmt(line) {
        Shape::Logfmt
    } else {
        Shape::Text
    }
}

/// Whether the whole line is `key=value` pairs with one blank between them.
fn is_logfmt(line: &str) -> bool {
    let mut rest = line;
    loop {
        let key = rest.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_')).unwrap_or(rest.len());
        let Some(value) = rest.get(key..).and_then(|r| r.strip_prefix('=')).filter(|_| key > 0) else {
            return false;
        };
        let length = match value.strip_prefix('"') {
            Some(quoted) => match quoted_length(quoted) {
                Some(length) => length + 2,
                None => return false,
            },
            None => value.find(char::is_whitespace).unwrap_or(value.len()),
        };
        match value.get(length..) {
            Some("") => return length > 0,
            Some(tail) if length > 0 && tail.starts_with(' ') => rest = tail.get(1..).unwrap_or(""),
            _ => return false,
        }
    }
}

/// Bytes up to the quote that ends a text.
fn quoted_length(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let stop = at + memchr::memchr2(b'"', b'\\', text.as_bytes().get(at..)?)?;
        if text.as_bytes().get(stop) == Some(&b'"') {
            return Some(stop);
        }
        at = stop + 2;
    }
}

fn text(line: &str) -> Vec<Token<'_>> {
    let (mut list, mut blanks) = (Vec::with_capacity(32), 0);
    split(line, &mut list, &mut blanks);
    // Blanks at the end belong to a token of their own, which is empty.
    if blanks > 0 {
        list.push(Token { text: "", blanks });
    }
    list
}

/// Adds the tokens of a text; `blanks` are those that wait for the next token. A few more than
/// are allowed are enough.
fn split<'l>(line: &'l str, list: &mut Vec<Token<'l>>, blanks: &mut u16) {
    let mut start = 0;
    for (at, c) in line.char_indices() {
        let splits = c == '=' || is_punctuation(c);
        if c != ' ' && !splits {
            continue;
        }
        push(list, line, start, at, blanks);
        let end = at + c.len_utf8();
        if splits {
            push(list, line, at, end, blanks);
        } else {
            *blanks = blanks.saturating_add(1);
        }
        start = end;
        if list.len() > *TOKENS.end() {
            return;
        }
    }
    push(list, line, start, line.len(), blanks);
}

fn push<'l>(list: &mut Vec<Token<'l>>, line: &'l str, start: usize, end: usize, blanks: &mut u16) {
    if end > start {
        list.push(Token { text: line.get(start..end).unwrap_or(""), blanks: std::mem::take(blanks) });
    }
}

/// Punctuation in the sense of Unicode that ends a token. `$ + < > ^ | ~` and the backtick are
/// symbols and do not.
fn is_punctuation(c: char) -> bool {
    match c {
        '_' | '-' | '.' | ':' | '/' | '$' | '+' | '<' | '>' | '^' | '`' | '|' | '~' | '=' => false,
        c if c.is_ascii() => c.is_ascii_punctuation(),
        c => matches!(c, '\u{a1}' | '\u{a7}' | '\u{ab}' | '\u{b6}' | '\u{b7}' | '\u{bb}' | '\u{bf}'
            | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}'
            | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff1f}'),
    }
}

/// A line as words, and as keys and values in turn. A value with escapes keeps its quotes there,
/// so that it can be written as it was.
fn logfmt(line: &str) -> Option<(Vec<Token<'_>>, Vec<Token<'_>>)> {
    let (mut words, mut pairs) = (Vec::with_capacity(32), Vec::with_capacity(32));
    let (mut rest, mut blanks) = (line, 0);
    while !rest.is_empty() && pairs.len() <= *TOKENS.end() {
        let (key, value) = rest.split_once('=')?;
        let (token, tail) = match value.strip_prefix('"') {
            Some(quoted) => {
                let length = quoted_length(quoted)?;
                let inner = quoted.get(..length)?;
                let token = if inner.contains('\\') { value.get(..length + 2)? } else { inner };
                (token, quoted.get(length + 1..)?)
            }
            None => value.split_at(value.find(' ').unwrap_or(value.len())),
        };
        if is_variable(key) {
            split(rest.get(..key.len() + 1)?, &mut words, &mut blanks);
            words.push(Token { text: WILDCARD, blanks: 0 });
        } else if words.len() <= *TOKENS.end() {
            split(rest.get(..rest.len() - tail.len())?, &mut words, &mut blanks);
        }
        let text = if is_variable(key) { WILDCARD } else { token };
        pairs.extend([Token { text: key, blanks: 0 }, Token { text, blanks: 0 }]);
        rest = tail.strip_prefix(' ').unwrap_or(tail);
        blanks = 1;
    }
    Some((words, pairs))
}

/// Keys whose values are never part of a pattern.
fn is_variable(key: &str) -> bool {
    key == "t" || ["ts", "traceid", "time", "timestamp"].iter().any(|name| key.eq_ignore_ascii_case(name))
}

/// The message of a JSON line as it is written, escapes and all.
fn message(line: &str) -> Option<&str> {
    let scan = Scan { text: line };
    let mut found: [Option<&str>; MESSAGE_KEYS.len()] = [None; MESSAGE_KEYS.len()];
    let mut at = scan.enter(0).ok()?;
    while let Ok(Ok(key)) = scan.key(at) {
        let Ok((kind, start, end)) = scan.value(key.value_at) else { break };
        if let Kind::Text(_) = kind
            && let Some(place) = MESSAGE_KEYS.iter().position(|name| *name == key.raw)
            && let Some(slot @ None) = found.get_mut(place)
        {
            *slot = Some(scan.slice(start, end));
            if place == 0 {
                break;
            }
        }
        let Ok(behind) = scan.value_end(kind, start, end) else { break };
        let Ok(Ok(next)) = scan.after_value(behind) else { break };
        at = next;
    }
    found.into_iter().flatten().next()
}

/// A pattern as text. Gaps that touch are one, since a filter knows no adjacent ones.
pub(super) fn joined(shape: Shape, tokens: &[(Box<str>, u16)]) -> String {
    let mut out = String::new();
    match shape {
        Shape::Text | Shape::Json => {
            for (text, blanks) in tokens {
                out.extend(std::iter::repeat_n(' ', usize::from(*blanks)));
                out.push_str(text);
            }
            if shape == Shape::Json {
                out = format!("{WILDCARD}{out}{WILDCARD}");
            }
        }
        Shape::Logfmt => {
            for pair in tokens.chunks(2) {
                let [(key, _), (value, _)] = pair else { continue };
                let blank = if out.is_empty() { "" } else { " " };
                let is_whole = value.starts_with('"');
                let quote =
                    if !is_whole && value.contains(|c: char| c <= ' ' || c == '=') { "\"" } else { "" };
                out.push_str(&format!("{blank}{key}={quote}{value}{quote}"));
            }
        }
    }
    while out.contains("<_><_>") {
        out = out.replace("<_><_>", WILDCARD);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(line: &str) -> Option<(Shape, Vec<&str>)> {
        let tokens = Tokens::of(line)?;
        let owned: Vec<(Box<str>, u16)> = tokens.list.iter().map(|t| (Box::from(t.text), t.blanks)).collect();
        let text = joined(tokens.shape, &owned);
        match tokens.shape {
            Shape::Text if text.contains(WILDCARD) => {}
            Shape::Text => assert_eq!(text, line),
            Shape::Json => assert!(text.starts_with("<_>") && text.ends_with("<_>")),
            Shape::Logfmt => {}
        }
        Some((tokens.shape, tokens.list.iter().map(|t| t.text).collect()))
    }

    #[test]
    fn lines_are_taken_apart() {
        use Shape::{Json, Text};
        for (line, expected) in [
            (
                "2024-05-07 [INFO] a.b/c: done (x=1)",
                Some((Text, vec!["2024-05-07", "[", "INFO", "]", "a.b/c:", "done", "(", "x", "=", "1", ")"])),
            ),
            ("  two  blanks here ok ", Some((Text, vec!["two", "blanks", "here", "ok", ""]))),
            ("a \"q\" $x+y", Some((Text, vec!["a", "\"", "q", "\"", "$x+y"]))),
            ("one two three", None),
            ("level=info ts=1", Some((Text, vec!["level", "=", "info", "ts", "=", "<_>"]))),
            (
                r#"a="b c" traceID=x m="q \"x\"" e="" "#,
                Some((
                    Text,
                    vec![
                        "a", "=", "\"", "b", "c", "\"", "traceID", "=", "x", "m", "=", "\"", "q", "\\", "\"",
                        "x", "\\", "\"", "\"", "e", "=", "\"", "\"", "",
                    ],
                )),
            ),
            (
                r#"a="b c" traceID=x m="q \"x\"""#,
                Some((
                    Text,
                    vec![
                        "a", "=", "\"", "b", "c", "\"", "traceID", "=", "<_>", "m", "=", "\"", "q", "\\",
                        "\"", "x", "\\", "\"", "\"",
                    ],
                )),
            ),
            (
                r#"{"level":"info","msg":"one two three four"}"#,
                Some((Json, vec!["one", "two", "three", "four"])),
            ),
            (r#"{"msg":"a b c d","log":"e f g h"}"#, Some((Json, vec!["e", "f", "g", "h"]))),
            (r#"{"x":{"msg":"a b c d"},"msg":5}"#, None),
            ("{not json at all}", None),
            ("", None),
        ] {
            assert_eq!(back(line), expected, "{line}");
        }
    }

    #[test]
    fn long_logfmt_is_taken_by_its_values() {
        let line = format!("ts=1 a=\"{}\" b=\"{}\" c=2", "one two ".repeat(30), r#"x\"y z "#.repeat(10));
        let tokens = Tokens::of(&line).unwrap();
        assert_eq!((tokens.shape, tokens.list.len()), (Shape::Logfmt, 8));
        let owned: Vec<(Box<str>, u16)> = tokens.list.iter().map(|t| (Box::from(t.text), t.blanks)).collect();
        assert_eq!(joined(Shape::Logfmt, &owned), line.replace("ts=1", "ts=<_>"));
    }

    #[test]
    fn patterns_are_put_together() {
        let own =
            |list: &[&str]| -> Vec<(Box<str>, u16)> { list.iter().map(|t| (Box::from(*t), 0)).collect() };
        for (shape, tokens, text) in [
            (Shape::Logfmt, &["a", "b c", "d", "<_>", "e", "x"][..], r#"a="b c" d=<_> e=x"#),
            (Shape::Logfmt, &["m", r#""q \"x\"""#], r#"m="q \"x\"""#),
            (Shape::Text, &["a", "<_>", "<_>", "<_>", "b", "<_>"], "a<_>b<_>"),
            (Shape::Json, &["<_>", "a"], "<_>a<_>"),
        ] {
            assert_eq!(joined(shape, &own(tokens)), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn text_goes_back(line in r#"([ \[\]=,"'().:/-]|a|b1|é|。|<|\\){0,40}"#) {
            let _ = back(&line);
        }

        #[test]
        fn no_line_makes_it_panic(line in r#"([{}":,\\= ]|msg|log|a|é){0,30}"#) {
            let _ = Tokens::of(&line);
        }
    }
}
