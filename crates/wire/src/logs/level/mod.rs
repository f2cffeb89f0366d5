//! Which level an entry has, as Loki's field detection tells it.
//!
//! A line of JSON is asked for a known key, else a line with a `=` is read as logfmt, and where
//! neither gives a known word, the first level word that stands alone counts. All of it looks at
//! bytes and allocates nothing; a line whose level stands near its front is not read further.

mod json_keys;
mod logfmt_keys;
mod words;

use std::fmt;

/// A level in the words that Loki normalises to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    Unknown,
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
    Fatal,
}

impl Level {
    pub(super) const COUNT: usize = 8;

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Fatal => "fatal",
        }
    }

    /// The level that a word in any case means.
    fn of_word(word: &[u8]) -> Option<Self> {
        let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        Some(match word.len() {
            3 if is(&["inf"]) => Self::Info,
            3 if is(&["err"]) => Self::Error,
            3 if is(&["wrn"]) => Self::Warn,
            3 if is(&["dbg"]) => Self::Debug,
            3 if is(&["trc"]) => Self::Trace,
            4 if is(&["info"]) => Self::Info,
            4 if is(&["warn"]) => Self::Warn,
            5 if is(&["error"]) => Self::Error,
            5 if is(&["debug"]) => Self::Debug,
            5 if is(&["trace"]) => Self::Trace,
            5 if is(&["fatal"]) => Self::Fatal,
            7 if is(&["warning"]) => Self::Warn,
            8 if is(&["critical"]) => Self::Critical,
            11 if is(&["information"]) => Self::Info,
            _ => return None,
        })
    }

    /// By OpenTelemetry's severity number; what is no number is `info` (as in Loki).
    pub(super) fn of_severity(number: &str) -> Self {
        let Ok(number) = number.parse::<i64>() else { return Self::Info };
        match number {
            0 => Self::Unknown,
            ..=4 => Self::Trace,
            5..=8 => Self::Debug,
            9..=12 => Self::Info,
            13..=16 => Self::Warn,
            17..=20 => Self::Error,
            21..=24 => Self::Fatal,
            25.. => Self::Unknown,
        }
    }
}

/// The level that a label or metadata names: a word that is not known stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named<'l> {
    Level(Level),
    Word(&'l str),
}

impl<'l> Named<'l> {
    pub(super) fn of(word: &'l str) -> Self {
        Level::of_word(word.as_bytes()).map_or(Self::Word(word), Self::Level)
    }

    pub(super) fn as_str(self) -> &'l str {
        match self {
            Self::Level(level) => level.as_str(),
            Self::Word(word) => word,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names under which a level may stand, in order of precedence.
#[derive(Debug)]
pub(super) struct FieldNames {
    names: Vec<Box<str>>,
    /// For each first byte whether a name begins with it, in either case.
    begins: [bool; 256],
    max_bytes: usize,
}

impl FieldNames {
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut new = Self { names: Vec::new(), begins: [false; 256], max_bytes: 0 };
        for name in names.filter(|name| !name.is_empty()) {
            for first in name
                .as_bytes()
                .first()
                .into_iter()
                .flat_map(|b| [b.to_ascii_lowercase(), b.to_ascii_uppercase()])
            {
                new.begins[usize::from(first)] = true;
            }
            new.max_bytes = new.max_bytes.max(name.len());
            new.names.push(name.into());
        }
        new
    }

    #[inline]
    fn may_be(&self, key: &[u8]) -> bool {
        key.len() <= self.max_bytes && key.first().is_some_and(|b| self.begins[usize::from(*b)])
    }

    /// The place of a name in the list.
    #[inline]
    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        self.may_be(name.as_bytes()).then(|| self.names.iter().position(|n| **n == *name))?
    }

    #[inline]
    fn holds(&self, key: &[u8]) -> bool {
        self.may_be(key) && self.names.iter().any(|n| n.as_bytes() == key)
    }

    /// The place of a name in the list, whatever its case.
    #[inline]
    fn rank_folded(&self, key: &[u8]) -> Option<usize> {
        self.may_be(key).then(|| self.names.iter().position(|n| n.as_bytes().eq_ignore_ascii_case(key)))?
    }
}

/// The level of a line.
pub(super) fn of_line(line: &str, fields: &FieldNames, json_depth: u32) -> Level {
    let bytes = line.as_bytes();
    let value = if is_object(line) {
        json_keys::find(bytes, fields, json_depth)
    } else if memchr::memchr(b'=', bytes).is_some() {
        logfmt_keys::find(bytes, fields)
    } else {
        None
    };
    value.and_then(Level::of_word).unwrap_or_else(|| words::first(bytes))
}

/// Whether a line begins and ends as an object does. Loki looks at bytes from behind, so that the
/// second half of some letters is a blank to it.
fn is_object(line: &str) -> bool {
    let blank = |b: &u8| matches!(b, b'\t'..=b'\r' | b' ' | 0x85 | 0xa0);
    line.trim_start().starts_with('{') && line.bytes().rev().find(|b| !blank(b)) == Some(b'}')
}

#[cfg(test)]
mod tests {
    use super::super::enrich::Enricher;
    use super::*;

    #[test]
    fn lines_have_the_level_that_loki_finds() {
        let enricher = Enricher::default();
        for (line, level) in [
            // JSON: exact keys with string values, two levels deep, the first that comes.
            (r#"{"level":"warn","msg":"error"}"#, "warn"),
            (r#"{"level": "WARNING"}"#, "warn"),
            (r#"  {"a":1,"severity":"Information"}  "#, "info"),
            (r#"{"lvl":"dbg","level":"error"}"#, "debug"),
            (r#"{"log":{"level":"fatal"}}"#, "fatal"),
            (r#"{"a":{"b":{"level":"fatal"}}}"#, "fatal"),
            (r#"{"a":{"b":{"level":"x"}},"c":"warn"}"#, "warn"),
            (r#"{"log.level":"trc"}"#, "trace"),
            (r#"{"lEvEl":"warn"}"#, "warn"),
            (r#"{"level":30,"severity":"critical"}"#, "critical"),
            (r#"{"level":30}"#, "unknown"),
            (r#"{"level":"notice"}"#, "unknown"),
            (r#"{"level":"notice","msg":"an error"}"#, "error"),
            (r#"{"a":[{"level":"info"}],"level":"error"}"#, "error"),
            (r#"{"a":"x } \" ","level":"error"}"#, "error"),
            (r#"{"a":tru,"level":"error","b":"info"}"#, "error"),
            (r#"{"level":"err"#, "error"),
            (r#"{"a" "level":"err"}"#, "error"),
            ("{}", "unknown"),
            // logfmt: keys in any case, the earliest name of the list.
            ("level=info msg=error", "info"),
            ("ts=1 LEVEL=warn", "warn"),
            ("severity=error level=info", "info"),
            ("lvl=crit msg=ok", "unknown"),
            ("lvl=critical severity=debug", "debug"),
            ("msg=\"level=error in text\" level=debug", "debug"),
            ("level=\"info\" x=1", "info"),
            ("level= x=1 error", "error"),
            ("a=b=c level=debug error", "debug"),
            ("level=notice", "unknown"),
            ("level=notice warn", "warn"),
            ("a=1 \"broken level=debug", "debug"),
            ("2024 started service=api", "unknown"),
            ("level=warn something", "warn"),
            // Words of their own.
            ("an ERROR happened", "error"),
            ("[error] x", "error"),
            ("Error: x", "error"),
            ("errors are none", "unknown"),
            ("misc:error", "unknown"),
            ("(warning) info", "warn"),
            ("info", "info"),
            ("information", "unknown"),
            ("x|trace|y", "trace"),
            ("fatal!", "fatal"),
            ("terror error", "error"),
            ("debug,info", "debug"),
            ("'critical'", "critical"),
            ("error.log err", "error"),
            ("\u{e9}error info", "info"),
            ("error\u{e9} info", "info"),
            ("", "unknown"),
            ("warn\r\n", "unknown"),
            ("\twarn\n", "warn"),
        ] {
            assert_eq!(enricher.line_level(line).as_str(), level, "{line}");
        }
    }

    #[test]
    fn severity_numbers_fall_into_levels() {
        for (number, level) in [
            ("1", "trace"),
            ("-1", "trace"),
            ("5", "debug"),
            ("9", "info"),
            ("13", "warn"),
            ("17", "error"),
            ("24", "fatal"),
            ("25", "unknown"),
            ("0", "unknown"),
            ("x", "info"),
        ] {
            assert_eq!(Level::of_severity(number).as_str(), level, "{number}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in r#"([{}\[\]"'=:,\\ ]|level|lvl|error|info|a|é|1|true|null){0,30}"#) {
            Enricher::default().line_level(&line);
        }
    }
}
