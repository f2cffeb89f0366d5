//! Label text, `{a="1", b="2"}`, as Prometheus' parser of series reads it for Loki, and the labels
//! of a stream made of it.

use std::borrow::Cow;

use pilothouse_model::Labels;
use pilothouse_model::labels::{METRIC_NAME, quote, unquote};
use pilothouse_model::log_ports::EntryReason;

use super::enrich::{Enricher, SERVICE_NAME};

pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The labels of a stream, or why its entries are refused.
#[derive(Debug, Clone)]
pub(crate) struct StreamStart {
    pub(crate) labels: Labels,
    pub(crate) refused: Option<EntryReason>,
}

impl StreamStart {
    /// From pairs in any order: empty values go, `service_name` comes, and a name that stands
    /// twice refuses the stream in Loki's words.
    pub(crate) fn new(mut pairs: Vec<Pair<'_>>, enricher: &Enricher) -> Self {
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let get = |name: &str| {
            let at = pairs.partition_point(|(n, _)| **n < *name);
            pairs.get(at).filter(|(n, _)| **n == *name).map(|(_, value)| &**value)
        };
        if let Some(service) = enricher.service_name(get).map(|s| Cow::Owned(s.to_owned())) {
            let at = pairs.partition_point(|(name, _)| **name < *SERVICE_NAME);
            pairs.insert(at, (Cow::Borrowed(SERVICE_NAME), service));
        }
        let why = match pairs.windows(2).find(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
            Some([(name, _), ..]) => {
                Some(format!("stream '{}' has duplicate label name: '{name}'", text_of(&pairs)))
            }
            _ if pairs.is_empty() => Some("error at least one label pair is required per stream".to_owned()),
            _ => None,
        };
        let unique = pairs.chunk_by(|a, b| a.0 == b.0).filter_map(<[Pair<'_>]>::first);
        let labels = Labels::from_sorted(unique.map(|(name, value)| (&**name, &**value)));
        Self { labels, refused: why.map(|why| EntryReason::Undecodable { why }) }
    }
}

/// Pairs as label text.
pub(crate) fn text_of(pairs: &[Pair<'_>]) -> String {
    let each = pairs.iter().map(|(name, value)| format!("{name}={}", quote(value)));
    format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
}

/// The pairs of a label text in the order they stand, or why it cannot be read. A name in front
/// of the braces is the label `__name__`; the empty text has no labels.
pub(crate) fn parse(text: &str) -> Result<Vec<Pair<'_>>, String> {
    let mut reader = Reader { text, at: 0 };
    let mut pairs = Vec::new();
    reader.skip_blanks();
    let name = reader.word(|b| b == b':');
    if !name.is_empty() {
        pairs.push((Cow::Borrowed(METRIC_NAME), Cow::Borrowed(name)));
        reader.skip_blanks();
    }
    if reader.takes('{') {
        reader.braces(&mut pairs)?;
        reader.skip_blanks();
    }
    match reader.peek() {
        None => Ok(pairs),
        Some(_) => Err(reader.unexpected(&reader.item(), "")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn takes(&mut self, c: char) -> bool {
        let is = self.rest().starts_with(c);
        self.at += if is { c.len_utf8() } else { 0 };
        is
    }

    /// Blanks and comments up to the end of their line.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// A name without quotes; empty where none stands here.
    fn word(&mut self, also: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || also(b);
        let length = match rest.as_bytes().first() {
            Some(b'0'..=b'9') | None => 0,
            Some(_) => rest.bytes().position(|b| !allowed(b)).unwrap_or(rest.len()),
        };
        self.at += length;
        rest.get(..length).unwrap_or("")
    }

    fn braces(&mut self, pairs: &mut Vec<Pair<'a>>) -> Result<(), String> {
        loop {
            self.skip_blanks();
            if self.takes('}') {
                return Ok(());
            }
            pairs.push(self.pair()?);
            self.skip_blanks();
            if self.takes('}') {
                return Ok(());
            }
            if !self.takes(',') {
                return Err(self.stuck("in label set, expected \",\" or \"}\""));
            }
        }
    }

    fn pair(&mut self) -> Result<Pair<'a>, String> {
        let quoted = matches!(self.peek(), Some('"' | '\'' | '`'));
        let name = if quoted { self.string()? } else { Cow::Borrowed(self.word(|_| false)) };
        if name.is_empty() {
            return Err(self.stuck("in label set, expected identifier or \"}\""));
        }
        self.skip_blanks();
        if self.rest().starts_with("=~") || !self.takes('=') {
            // A name alone in quotes is the metric's.
            return match self.peek() {
                Some(',' | '}') if quoted => Ok((Cow::Borrowed(METRIC_NAME), name)),
                _ => Err(self.stuck("in label set, expected \"=\"")),
            };
        }
        self.skip_blanks();
        Ok((name, self.string()?))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        let delimiter = match self.peek() {
            Some(c @ ('"' | '\'' | '`')) => c,
            _ => return Err(self.stuck("in label set, expected string")),
        };
        let start = self.at + 1;
        let inner = self.text.get(start..).unwrap_or("");
        let raw = delimiter == '`';
        let mut length = 0;
        loop {
            let found = inner.get(length..).and_then(|rest| rest.find([delimiter, '\\', '\n']));
            length += found.ok_or_else(|| self.error("unterminated quoted string"))?;
            match inner.as_bytes().get(length) {
                Some(b'\\') if raw => length += 1,
                // What is escaped may take more than a byte; the search goes on at its border.
                Some(b'\\') => {
                    length +=
                        1 + inner.get(length + 1..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8);
                }
                Some(b'\n') if raw => length += 1,
                Some(b'\n') => return Err(self.error("unterminated quoted string")),
                _ => break,
            }
        }
        let inner = inner.get(..length).unwrap_or("");
        let text = if raw { Some(Cow::Borrowed(inner)) } else { unquote(inner, delimiter) };
        let text = text.ok_or_else(|| self.error("unknown escape sequence"))?;
        self.at = start + length + 1;
        Ok(text)
    }

    fn stuck(&self, where_: &str) -> String {
        let mut chars = self.rest().chars();
        match (chars.next(), chars.next()) {
            (None, _) => self.error("unexpected end of input inside braces"),
            (Some('!'), next) if !matches!(next, Some('=' | '~')) => match next {
                Some(c) => self.error(&format!("unexpected character after '!' inside braces: '{c}'")),
                None => self.error("unexpected end of input inside braces"),
            },
            (Some('{'), _) => self.error("unexpected left brace '{'"),
            (Some(c), _) if c.is_ascii_alphabetic() || "_,=!}\"'`".contains(c) => {
                self.unexpected(&self.item(), where_)
            }
            (Some(c), _) => self.error(&format!("unexpected character inside braces: '{c}'")),
        }
    }

    /// What stands here, as Prometheus' parser names it.
    fn item(&self) -> String {
        let mut ahead = Reader { text: self.text, at: self.at };
        let word = ahead.word(|b| b == b':');
        if !word.is_empty() {
            let kind = if word.contains(':') { "metric identifier" } else { "identifier" };
            return format!("{kind} {}", shortened(word, NAME_LETTERS));
        }
        if let Some(op) = ["=~", "!=", "!~"].into_iter().find(|op| self.rest().starts_with(op)) {
            return format!("<op:{op}>");
        }
        // Elsewhere the reader of strings would ask for the name of what stands here.
        let quoted = matches!(self.peek(), Some('"' | '\'' | '`'));
        if quoted && ahead.string().is_ok() {
            let raw = self.text.get(self.at..ahead.at).unwrap_or("");
            return format!("string {}", shortened(raw, TEXT_LETTERS));
        }
        let mut first = [0; 4];
        quote(self.peek().map_or("", |c| c.encode_utf8(&mut first)))
    }

    fn unexpected(&self, item: &str, where_: &str) -> String {
        self.error(format!("unexpected {item} {where_}").trim_end())
    }

    fn error(&self, why: &str) -> String {
        let before = self.text.get(..self.at).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = self.at - before.rfind('\n').map_or(0, |at| at + 1) + 1;
        format!("{line}:{column}: parse error: {why}")
    }
}

/// How much of a string a complaint shows.
const TEXT_LETTERS: usize = 10;
/// And of a name, of which Prometheus shows all.
const NAME_LETTERS: usize = 256;

/// In quotes, and no more than its first letters.
fn shortened(text: &str, letters: usize) -> String {
    if text.len() <= letters {
        return quote(text);
    }
    format!("{}...", quote(&text.chars().take(letters).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Enrichment;

    #[test]
    fn text_is_read_as_loki_reads_it() {
        for (text, pairs) in [
            (r#"{a="1"}"#, r#"{a="1"}"#),
            (r#" { b = "2" , a="1" , } "#, r#"{a="1", b="2"}"#),
            (r#"{a="x\"y\\\n\u00e4\x41"}"#, r#"{a="x\"y\\\näA"}"#),
            (r#"{a='it\'s "x"'}"#, r#"{a="it's \"x\""}"#),
            (r#"{a=`raw \n "x"`}"#, r#"{a="raw \\n \"x\""}"#),
            ("{a=\"1\", # a comment\n b=\"2\"}", r#"{a="1", b="2"}"#),
            (r#"{a="", b="2"}"#, r#"{b="2"}"#),
            (r#"up{a="1"}"#, r#"{__name__="up", a="1"}"#),
            (r#"{"a.b"="1"}"#, r#"{"a.b"="1"}"#),
            (r#"{"up", a="1"}"#, r#"{__name__="up", a="1"}"#),
            (r#"{on="1", sum="2", by="3", inf="4"}"#, r#"{by="3", inf="4", on="1", sum="2"}"#),
            (r#"{a="č🐎"}"#, r#"{a="č🐎"}"#),
            ("{}", "{}"),
            ("", "{}"),
        ] {
            let read = parse(text).map(|pairs| StreamStart::new(pairs, &Enricher::new(&Enrichment::off())));
            assert_eq!(read.map(|s| s.labels.to_string()).as_deref(), Ok(pairs), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        for (text, why) in [
            (r#"{a-b="1"}"#, "1:3: parse error: unexpected character inside braces: '-'"),
            (r#"{1a="1"}"#, "1:2: parse error: unexpected character inside braces: '1'"),
            (r#"{a="1""#, "1:7: parse error: unexpected end of input inside braces"),
            (r#"{a="1"#, "1:4: parse error: unterminated quoted string"),
            (r#"{a="\q"}"#, "1:4: parse error: unknown escape sequence"),
            (r#"{a=1}"#, "1:4: parse error: unexpected character inside braces: '1'"),
            (r#"{a=b}"#, r#"1:4: parse error: unexpected identifier "b" in label set, expected string"#),
            (r#"{a b="1"}"#, r#"1:4: parse error: unexpected identifier "b" in label set, expected "=""#),
            (r#"{a!="1"}"#, r#"1:3: parse error: unexpected <op:!=> in label set, expected "=""#),
            (r#"{a=~"1"}"#, r#"1:3: parse error: unexpected <op:=~> in label set, expected "=""#),
            (r#"{a!1}"#, "1:3: parse error: unexpected character after '!' inside braces: '1'"),
            (r#"{a"b=""#, r#"1:3: parse error: unexpected string "\"b=\"" in label set, expected "=""#),
            (
                r#"{a"a long text"}"#,
                r#"1:3: parse error: unexpected string "\"a long te"... in label set, expected "=""#,
            ),
            (r#"{{a="1"}"#, "1:2: parse error: unexpected left brace '{'"),
            (r#"{a}"#, r#"1:3: parse error: unexpected "}" in label set, expected "=""#),
            (r#"{a="1"} xy"#, r#"1:9: parse error: unexpected identifier "xy""#),
            (r#"{a="1"}}"#, r#"1:8: parse error: unexpected "}""#),
            (
                r#"{"","a"="1"}"#,
                r#"1:4: parse error: unexpected "," in label set, expected identifier or "}""#,
            ),
            ("{,}", r#"1:2: parse error: unexpected "," in label set, expected identifier or "}""#),
            ("{a=\"\\", "1:4: parse error: unterminated quoted string"),
        ] {
            assert_eq!(parse(text).map(|pairs| text_of(&pairs)), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn streams_get_a_service_name_and_no_name_twice() {
        let enricher = Enricher::default();
        for (text, labels, why) in [
            (r#"{app="x", job="y"}"#, r#"{app="x", job="y", service_name="x"}"#, None),
            (r#"{job="y", service=""}"#, r#"{job="y", service_name="y"}"#, None),
            (r#"{service_name="z", app="x"}"#, r#"{app="x", service_name="z"}"#, None),
            ("{}", r#"{service_name="unknown_service"}"#, None),
            (r#"{zone="b"}"#, r#"{service_name="unknown_service", zone="b"}"#, None),
            (r#"{__pattern__="x", app="y"}"#, r#"{__pattern__="x", app="y"}"#, None),
            (
                r#"{b="1", a="1", b="2"}"#,
                r#"{a="1", b="1", service_name="unknown_service"}"#,
                Some(
                    r#"stream '{a="1", b="1", b="2", service_name="unknown_service"}' has duplicate label name: 'b'"#,
                ),
            ),
        ] {
            let start = StreamStart::new(parse(text).unwrap_or_default(), &enricher);
            let refused = why.map(|why: &str| EntryReason::Undecodable { why: why.to_owned() });
            assert_eq!((start.labels.to_string().as_str(), start.refused), (labels, refused), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([{}=,"'`\\# \n]|a|é|__|\\x4|\\u00e4){0,20}"#) {
            let _ = parse(&text);
        }

        #[test]
        fn printed_labels_go_back(pairs in proptest::collection::btree_map("[a-z_][a-z0-9_]{0,5}", ".{1,20}", 1..5)) {
            let labels = Labels::from_pairs(pairs.iter());
            let text = labels.to_string();
            let start = StreamStart::new(parse(&text).unwrap(), &Enricher::new(&Enrichment::off()));
            proptest::prop_assert_eq!(start.labels, labels);
        }
    }
}
