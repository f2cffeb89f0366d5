//! What a key may hold: how each kind of value is read, and how it is shown.
//!
//! A value comes from the file as a node of YAML, or from a flag or a variable of the
//! environment as a text. Both readers refuse with a sentence that says what would do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use pilothouse_model::time::{format_duration_ms, parse_duration_ms};
use pilothouse_net::{REDACTED, Secret};
use pilothouse_rules::format::yaml::{Content, Node};

/// Why a value will not do, and on which line of the file it stands; 0 where there is no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) line: usize,
    pub(crate) why: String,
}

impl Wrong {
    pub(crate) fn at(node: &Node, why: impl Into<String>) -> Self {
        Self { line: node.at.line, why: why.into() }
    }
}

/// A kind of value.
pub(crate) trait Setting: Sized {
    /// What may stand there, for the reference page and for refusals.
    const ALLOWED: &'static str;

    /// From one text: a flag, a variable of the environment, or a scalar of the file.
    fn from_text(text: &str) -> Result<Self, String>;

    /// From the file.
    fn from_node(node: &Node) -> Result<Self, Wrong> {
        let text = scalar(node)?;
        Self::from_text(text).map_err(|why| Wrong::at(node, why))
    }

    /// As YAML on one line, secrets hidden; `None` where nothing is set.
    fn show(&self) -> Option<String>;
}

fn scalar(node: &Node) -> Result<&str, Wrong> {
    match &node.content {
        Content::Scalar { text, .. } => Ok(text),
        Content::Sequence(_) => Err(Wrong::at(node, "is a list, and a single value is wanted")),
        Content::Mapping(_) => Err(Wrong::at(node, "is a mapping, and a single value is wanted")),
    }
}

fn refused<T: Setting>(text: &str) -> String {
    format!("{text:?} will not do: {} is wanted", T::ALLOWED)
}

/// A text as YAML in double quotes, which is JSON's form too.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Setting for String {
    const ALLOWED: &'static str = "a text";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    const ALLOWED: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("is empty, and a path is wanted".to_owned()) } else { Ok(text.into()) }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.display().to_string()))
    }
}

impl Setting for bool {
    const ALLOWED: &'static str = "true or false";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(refused::<Self>(text)),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for f32 {
    const ALLOWED: &'static str = "a number";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|n: &Self| n.is_finite()).ok_or_else(|| refused::<Self>(text))
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for u32 {
    const ALLOWED: &'static str = "a whole number";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| refused::<Self>(text))
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A length of time in milliseconds, written as Prometheus writes durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DurationMs(pub(crate) i64);

impl Setting for DurationMs {
    const ALLOWED: &'static str = "a duration such as 90s, 12h or 31d";

    fn from_text(text: &str) -> Result<Self, String> {
        parse_duration_ms(text).map(Self).map_err(|_| refused::<Self>(text))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&if self.0 == 0 { "0".to_owned() } else { format_duration_ms(self.0) }))
    }
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) String);

impl Setting for Address {
    const ALLOWED: &'static str = "an address and a port such as 127.0.0.1:9009 or [::]:9009";

    fn from_text(text: &str) -> Result<Self, String> {
        let port = text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
        if text.parse::<SocketAddr>().is_ok() || port.is_some_and(|port| port.parse::<u16>().is_ok()) {
            return Ok(Self(text.to_owned()));
        }
        Err(refused::<Self>(text))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// The address under which clients reach a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl(pub(crate) String);

impl Setting for BaseUrl {
    const ALLOWED: &'static str = "http:// or https:// with a host and without a trailing slash";

    fn from_text(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(host) if !host.is_empty() && !host.ends_with('/') => Ok(Self(text.to_owned())),
            _ => Err(refused::<Self>(text)),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// Whether tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMode {
    Off,
    Required,
}

impl Setting for AuthMode {
    const ALLOWED: &'static str = "off or required";

    /// YAML may take `off` for a boolean; it means what it says all the same.
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "off" | "false" => Ok(Self::Off),
            "required" => Ok(Self::Required),
            _ => Err(refused::<Self>(text)),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(if *self == Self::Off { "off" } else { "required" }))
    }
}

/// A secret is the text itself, or `file:` with the path of a file that holds it.
impl Setting for Secret {
    const ALLOWED: &'static str = "a text, or file: and the path of a file that holds it";

    fn from_text(text: &str) -> Result<Self, String> {
        let secret = match text.strip_prefix("file:") {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| format!("cannot read {path}: {e}"))?
                .trim()
                .to_owned(),
            None => text.to_owned(),
        };
        if secret.is_empty() { Err("is empty".to_owned()) } else { Ok(Self::new(secret)) }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(REDACTED))
    }
}

/// A value that may be left unsaid.
impl<T: Setting> Setting for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;

    fn from_text(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Some)
    }

    fn from_node(node: &Node) -> Result<Self, Wrong> {
        T::from_node(node).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

/// A list; one text holds its members with commas between.
impl<T: Setting> Setting for Vec<T> {
    const ALLOWED: &'static str = "a list, or texts with commas between";

    fn from_text(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(T::from_text).collect()
    }

    fn from_node(node: &Node) -> Result<Self, Wrong> {
        match &node.content {
            Content::Sequence(items) => items.iter().map(T::from_node).collect(),
            Content::Scalar { text, .. } => Self::from_text(text).map_err(|why| Wrong::at(node, why)),
            Content::Mapping(_) => Err(Wrong::at(node, "is a mapping, and a list is wanted")),
        }
    }

    fn show(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(T::show).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// Names with texts; one text holds `name=text` with commas between.
impl Setting for BTreeMap<String, String> {
    const ALLOWED: &'static str = "a mapping of names to texts, or name=text with commas between";

    fn from_text(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').ok_or_else(|| refused::<Self>(part))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        parts.map(pair).collect()
    }

    fn from_node(node: &Node) -> Result<Self, Wrong> {
        let Content::Mapping(pairs) = &node.content else {
            return Err(Wrong::at(node, format!("{} is wanted", Self::ALLOWED)));
        };
        let text = |node: &Node| scalar(node).map(str::to_owned);
        pairs.iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
    }

    fn show(&self) -> Option<String> {
        let pairs = self.iter().map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)));
        Some(format!("{{{}}}", pairs.collect::<Vec<_>>().join(", ")))
    }
}

/// A limit: a whole number, for some units with a suffix.
pub(crate) fn read_limit(text: &str, unit: &str) -> Result<u64, String> {
    if let Ok(number) = text.trim().parse() {
        return Ok(number);
    }
    let with_suffix = match unit {
        "bytes" | "bytes/s" => bytes(text.trim()),
        "ms" => parse_duration_ms(text.trim()).ok().and_then(|ms| u64::try_from(ms).ok()),
        _ => None,
    };
    with_suffix.ok_or_else(|| format!("{text:?} will not do: {} is wanted", allowed_of_limit(unit)))
}

/// What may stand for a limit of this unit.
pub(crate) fn allowed_of_limit(unit: &str) -> &'static str {
    match unit {
        "bytes" | "bytes/s" => "a whole number of bytes, or one with kB, MB, GB, KiB, MiB or GiB",
        "ms" => "a whole number of milliseconds, or a duration such as 30s or 1h",
        _ => "a whole number",
    }
}

const BYTE_UNITS: [(&str, u64); 6] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

fn bytes(text: &str) -> Option<u64> {
    let (digits, factor) =
        BYTE_UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: Setting>(text: &str) -> String {
        T::from_text(text).map_or_else(|why| format!("refused: {why}"), |v| v.show().unwrap_or_default())
    }

    #[test]
    fn texts_are_read_and_shown() {
        for (shown, expected) in [
            (shown::<DurationMs>("36h"), r#""1d12h""#),
            (shown::<DurationMs>("0"), r#""0""#),
            (shown::<AuthMode>("false"), r#""off""#),
            (shown::<Vec<PathBuf>>("a.yml, b.yml,"), r#"["a.yml", "b.yml"]"#),
            (shown::<BTreeMap<String, String>>("a=b,c= d=e "), r#"{"a": "b", "c": "d=e"}"#),
            (shown::<Secret>("s3cret"), r#""<secret>""#),
            (shown::<bool>("on"), "true"),
            (shown::<Option<BaseUrl>>("https://a.example"), r#""https://a.example""#),
            (shown::<Address>("[::]:9009"), r#""[::]:9009""#),
        ] {
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn a_refusal_says_what_would_do() {
        for (refusal, expected) in [
            (shown::<DurationMs>("5 days"), "a duration such as"),
            (shown::<AuthMode>("maybe"), "off or required"),
            (shown::<BaseUrl>("http://a/"), "without a trailing slash"),
            (shown::<Address>("9009"), "127.0.0.1:9009"),
            (shown::<bool>("2"), "true or false"),
            (shown::<f32>("NaN"), "a number"),
            (shown::<Secret>("file:/nowhere/at/all"), "/nowhere/at/all"),
            (shown::<Secret>(""), "is empty"),
        ] {
            assert!(refusal.starts_with("refused: ") && refusal.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn limits_take_suffixes_of_their_unit() {
        for (text, unit, expected) in [
            ("7", "series", Some(7)),
            ("64MiB", "bytes", Some(64 << 20)),
            ("4 MB", "bytes/s", Some(4_000_000)),
            ("1h", "ms", Some(3_600_000)),
            ("1h", "bytes", None),
            ("64MiB", "series", None),
            ("99999999999GiB", "bytes", None),
            ("-1", "series", None),
        ] {
            assert_eq!(read_limit(text, unit).ok(), expected, "{text} {unit}");
        }
    }
}
