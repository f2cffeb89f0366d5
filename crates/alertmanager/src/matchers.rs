//! Matchers as Alertmanager reads and prints them: a newer syntax with quoted names, an older
//! one that is more tolerant, and the older one's reading wherever the two differ.

use std::cell::Cell;
use std::fmt::Write as _;

use pilothouse_model::labels::quote;
use pilothouse_model::limits::ALERT_REGEX_BYTES;
use pilothouse_model::matcher::{Pattern, fault_when_anchored};
use pilothouse_model::{Labels, MatchOp, Matcher};

/// Why a text is no matcher; Alertmanager's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MatcherError(String);

/// Any number of matchers: `a="b",c=~"d"`, with braces or without. Sorted as Alertmanager sorts
/// them, by name, value, kind.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, MatcherError> {
    older_or_newer(|| older_matchers(text), || Newer { rest: text }.matchers())
}

/// Exactly one matcher without braces, as filters of the API are.
pub fn parse_matcher(text: &str) -> Result<Matcher, MatcherError> {
    if text.starts_with('{') || text.ends_with('}') {
        return Err(MatcherError(format!("unexpected open or close brace: {text}")));
    }
    let newer = || {
        let [only] = <[Matcher; 1]>::try_from(Newer { rest: text }.matchers()?).ok()?;
        Some(only)
    };
    older_or_newer(|| older_matcher(text), newer)
}

/// The older syntax counts wherever it reads a text, and has the last word where neither does. So
/// the newer one is asked only where it matters, and each expression is compiled and counted once.
fn older_or_newer<T>(
    older: impl FnOnce() -> Result<T, MatcherError>,
    newer: impl FnOnce() -> Option<T>,
) -> Result<T, MatcherError> {
    let before = COMPILED_BYTES.get();
    older().or_else(|error| {
        // What the older syntax compiled before it failed is gone.
        COMPILED_BYTES.set(before);
        newer().ok_or(error)
    })
}

/// A label name in UTF-8: anything but nothing.
pub fn is_label_name(name: &str) -> bool {
    !name.is_empty()
}

thread_local! {
    /// What the expressions of the text take that this thread is reading.
    static COMPILED_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Begins a text whose expressions are counted together: a configuration, a silence, all that a
/// request says. They are compiled in the midst of reading, where many may be a few bytes each.
pub fn begin_text() {
    COMPILED_BYTES.set(0);
}

/// Compiles a matcher, within what all expressions of a text may take.
pub(crate) fn compile(op: MatchOp, name: &str, value: &str) -> Result<Matcher, MatcherError> {
    let matcher = Matcher::new(op, name, value).map_err(|e| MatcherError(e.to_string()))?;
    matcher.pattern().map_or(Ok(()), count)?;
    Ok(matcher)
}

/// Counts an expression of the text that was compiled elsewhere.
pub fn count(pattern: &Pattern) -> Result<(), MatcherError> {
    COMPILED_BYTES.set(COMPILED_BYTES.get().saturating_add(pattern.bytes()));
    if COMPILED_BYTES.get() > ALERT_REGEX_BYTES {
        let most = ALERT_REGEX_BYTES >> 20;
        return Err(MatcherError(format!("regular expressions take more than {most} MiB together")));
    }
    Ok(())
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Result<Matcher, MatcherError> {
    compile(op, name, value)
        .map_err(|e| fault_when_anchored(value).map_or(e, |fault| MatcherError(fault.to_string())))
}

fn is_reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

/// The newer syntax. Its own messages are never seen: where it does not read a text, the older
/// syntax has the last word.
struct Newer<'a> {
    rest: &'a str,
}

impl Newer<'_> {
    fn matchers(mut self) -> Option<Vec<Matcher>> {
        let mut all = Vec::new();
        let open = self.take("{");
        while !self.at_end_of_list() {
            all.push(self.matcher()?);
            if !self.take(",") {
                break;
            }
        }
        let closed = self.take("}");
        (open == closed && self.rest.trim_start().is_empty()).then_some(all)
    }

    fn at_end_of_list(&self) -> bool {
        matches!(self.rest.trim_start().chars().next(), None | Some('}'))
    }

    fn matcher(&mut self) -> Option<Matcher> {
        let name = self.text()?;
        let op = self.op()?;
        let value = self.text()?;
        compile(op, &name, &value).ok()
    }

    fn take(&mut self, token: &str) -> bool {
        let tail = self.rest.trim_start().strip_prefix(token);
        if let Some(tail) = tail {
            self.rest = tail;
        }
        tail.is_some()
    }

    fn op(&mut self) -> Option<MatchOp> {
        let ops = [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("=", MatchOp::Equal),
        ];
        ops.into_iter().find(|(token, _)| self.take(token)).map(|(_, op)| op)
    }

    fn text(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let end = closing_quote(quoted)?;
            let (inside, tail) = quoted.split_at(end);
            self.rest = tail.strip_prefix('"')?;
            return unquote(inside);
        }
        let end = self.rest.find(is_reserved).unwrap_or(self.rest.len());
        let (text, tail) = self.rest.split_at(end);
        self.rest = tail;
        (!text.is_empty()).then(|| text.to_owned())
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        end.then_some(at)
    })
}

/// What stands between double quotes, as Go's `strconv.Unquote` reads it.
fn unquote(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '\n' => return None,
            '\\' => rest = unescape(rest, &mut out)?,
            c => push(&mut out, c),
        }
    }
    String::from_utf8(out).ok()
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Reads one escape behind its backslash and gives what is left.
fn unescape<'a>(rest: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let digits = |from: usize, count: usize, radix: u32| {
        let text = rest.get(from..from + count).filter(|t| t.chars().all(|c| c.is_digit(radix)))?;
        u32::from_str_radix(text, radix).ok()
    };
    let byte = |value: Option<u32>| value.and_then(|v| u8::try_from(v).ok());
    let (code, length) = match rest.as_bytes().first()? {
        b'x' => {
            out.push(byte(digits(1, 2, 16))?);
            return rest.get(3..);
        }
        b'0'..=b'7' => {
            out.push(byte(digits(0, 3, 8))?);
            return rest.get(3..);
        }
        b'u' => (digits(1, 4, 16)?, 5),
        b'U' => (digits(1, 8, 16)?, 9),
        b'a' => (0x07, 1),
        b'b' => (0x08, 1),
        b'f' => (0x0c, 1),
        b'n' => (0x0a, 1),
        b'r' => (0x0d, 1),
        b't' => (0x09, 1),
        b'v' => (0x0b, 1),
        c @ (b'\\' | b'"') => (u32::from(*c), 1),
        _ => return None,
    };
    push(out, char::from_u32(code)?);
    rest.get(length..)
}

fn older_matchers(text: &str) -> Result<Vec<Matcher>, MatcherError> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let (mut quoted, mut escaped, mut from) = (false, false, 0);
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            ',' if !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
                continue;
            }
            '"' if escaped => escaped = false,
            '"' => quoted = !quoted,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    let last = text[from..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts.into_iter().map(older_matcher).collect()
}

fn older_matcher(text: &str) -> Result<Matcher, MatcherError> {
    let bad = || MatcherError(format!("bad matcher format: {text}"));
    let trimmed = text.trim();
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    let end = trimmed.find(|c: char| !is_start(c) && !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (name, tail) = trimmed.split_at(end);
    if !name.starts_with(is_start) {
        return Err(bad());
    }
    let tail = tail.trim_start();
    let ops =
        [("=~", MatchOp::Regex), ("=", MatchOp::Equal), ("!=", MatchOp::NotEqual), ("!~", MatchOp::NotRegex)];
    let (op, raw) =
        ops.into_iter().find_map(|(token, op)| Some((op, tail.strip_prefix(token)?))).ok_or_else(bad)?;
    matcher(op, name, &older_value(raw.trim())?)
}

/// A value in quotes or without; a backslash that escapes nothing stands for itself.
fn older_value(raw: &str) -> Result<String, MatcherError> {
    let stray = || MatcherError(format!("matcher value contains unescaped double quote: {raw}"));
    let (inside, quoted) = raw.strip_prefix('"').map_or((raw, false), |inside| (inside, true));
    let mut value = String::with_capacity(inside.len());
    let (mut escaped, mut open) = (false, quoted);
    for (at, c) in inside.char_indices() {
        let last = at + c.len_utf8() == inside.len();
        if escaped {
            escaped = false;
            match c {
                'n' => value.push('\n'),
                '"' | '\\' => value.push(c),
                c => value.extend(['\\', c]),
            }
            continue;
        }
        match c {
            '\\' if !last => escaped = true,
            '"' if open && last => open = false,
            '"' => return Err(stray()),
            c => value.push(c),
        }
    }
    if open { Err(stray()) } else { Ok(value) }
}

/// Sorted by name, value, kind, as Alertmanager keeps the matchers of a route.
pub fn sort(matchers: &mut [Matcher]) {
    let kind = |op: MatchOp| match op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex => 2,
        MatchOp::NotRegex => 3,
    };
    matchers.sort_by(|a, b| (&a.name, &a.value, kind(a.op)).cmp(&(&b.name, &b.value, kind(b.op))));
}

/// Whether all hold; a label that is not there is empty.
pub fn match_all(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.value(&m.name)))
}

/// A list of matchers as Alertmanager prints it in group keys: `{a="b",c=~"d"}`.
pub fn braced(matchers: &[Matcher]) -> String {
    let all: Vec<String> = matchers.iter().map(print).collect();
    format!("{{{}}}", all.join(","))
}

/// One matcher as Alertmanager prints it.
pub fn print(matcher: &Matcher) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = if matcher.name.contains(is_reserved) {
        write!(out, "{}{}{}", quote(&matcher.name), matcher.op, quote(&matcher.value))
    } else {
        let value = matcher.value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        write!(out, "{}{}\"{value}\"", matcher.name, matcher.op)
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_alertmanager_reads_them() {
        for (text, expected) in [
            ("a=b", r#"{a="b"}"#),
            (r#"{a="b", c=~"d|e",}"#, r#"{a="b",c=~"d|e"}"#),
            (r#"a!="x",b!~"y""#, r#"{a!="x",b!~"y"}"#),
            (r#""ü b"="x y""#, r#"{"ü b"="x y"}"#),
            (r#"ü=日本"#, r#"{ü="日本"}"#),
            (r#"a="x\"y\\z\n""#, r#"{a="x\"y\\z\n"}"#),
            (r#"a=~"[0-9]\d""#, r#"{a=~"[0-9]\\d"}"#),
            (r#"a=x y"#, r#"{a="x y"}"#),
            (r#"a="""#, r#"{a=""}"#),
            ("a=", r#"{a=""}"#),
            (r#"a="b,c",d=e"#, r#"{a="b,c",d="e"}"#),
            ("", "{}"),
            ("{}", "{}"),
            (r#"a="\u00e9""#, r#"{a="\\u00e9"}"#),
            (r#""a"="\u00e9""#, r#"{a="é"}"#),
        ] {
            assert_eq!(braced(&parse_matchers(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_alertmanagers_words() {
        for (text, expected) in [
            ("a", "bad matcher format: a"),
            ("=b", "bad matcher format: =b"),
            (r#"a="b"#, r#"matcher value contains unescaped double quote: "b"#),
            (r#"a=b"c"#, r#"matcher value contains unescaped double quote: b"c"#),
        ] {
            assert_eq!(parse_matchers(text).unwrap_err().to_string(), expected, "{text}");
        }
        assert_eq!(parse_matcher("{a=b}").unwrap_err().to_string(), "unexpected open or close brace: {a=b}");
        assert!(parse_matcher("a=~\"(\"").is_err());
        assert!(parse_matcher("a=b,c=d").is_ok_and(|m| m.value == "b,c=d"));
    }

    #[test]
    fn each_expression_is_compiled_and_counted_once() {
        let bytes = |matchers: &[Matcher]| -> usize {
            matchers.iter().filter_map(Matcher::pattern).map(Pattern::bytes).sum()
        };
        // What both syntaxes read, what they read differently, what only the newer one reads, also
        // where the older one fails behind an expression.
        for text in [
            r#"{a=~"x[0-9]+y",b!~"z.+z"}"#,
            r#"a=~"\d+""#,
            r#""ü b"=~"x[0-9]+y""#,
            r#"a=~"x.y","ü b"=~"z.z""#,
        ] {
            begin_text();
            let all = parse_matchers(text).unwrap();
            assert!(bytes(&all) > 0, "{text}");
            assert_eq!(COMPILED_BYTES.get(), bytes(&all), "{text}");
        }
        begin_text();
        let one = parse_matcher(r#"a=~"x[0-9]+y""#).unwrap();
        assert_eq!(COMPILED_BYTES.get(), bytes(std::slice::from_ref(&one)));
        // The last byte is there to be had, and not one more.
        COMPILED_BYTES.set(ALERT_REGEX_BYTES - COMPILED_BYTES.get());
        assert!(parse_matchers(r#"{a=~"x[0-9]+y"}"#).is_ok());
        assert!(parse_matchers("a=b").is_ok(), "that is no expression");
        let refused = parse_matcher(r#"a=~"x[0-9]+y""#).unwrap_err().to_string();
        assert_eq!(refused, "regular expressions take more than 64 MiB together");
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_as_the_same(name in "[a-z]{1,3}|.{1,4}", value in ".{0,6}") {
            let printed = print(&Matcher::equal(name.as_str(), value.as_str()));
            if let Ok(read) = parse_matchers(&printed) {
                proptest::prop_assert_eq!(read.len(), 1);
            }
        }
    }
}
