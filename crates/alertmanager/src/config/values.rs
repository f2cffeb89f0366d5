//! Kinds of values in a configuration, with Alertmanager's checks and words.

use std::fmt;

use pilothouse_model::time::parse_duration_ms;
use pilothouse_model::{MatchOp, Matcher};
use pilothouse_net::{REDACTED, Secret};
use serde::de::{Deserialize, Deserializer, Error as _};

use crate::matchers;

/// A Prometheus duration (`1h30m`) in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Millis(pub i64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration_ms(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A duration as Go writes it (`1m0.5s`) in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GoMillis(pub i64);

impl<'de> Deserialize<'de> for GoMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ns = pilothouse_query::units::parse_go_duration(&text).map_err(D::Error::custom)?;
        Ok(Self(ns / 1_000_000))
    }
}

/// The address of a service: `http` or `https`, with a host. Kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpUrl(pub String);

impl HttpUrl {
    /// The address ending in a slash, as the services with paths below it want it.
    pub(crate) fn with_slash(&self) -> String {
        if self.0.ends_with('/') { self.0.clone() } else { format!("{}/", self.0) }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Alertmanager's checks of an address.
pub(crate) fn check_url(text: &str) -> Result<(), String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = !scheme.is_empty()
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let scheme = if is_scheme { scheme.to_ascii_lowercase() } else { String::new() };
    if scheme != "http" && scheme != "https" {
        return Err(format!("unsupported scheme {scheme:?} for URL"));
    }
    match url::Url::parse(text) {
        Ok(url) if url.host_str().is_some_and(|h| !h.is_empty()) => Ok(()),
        Ok(_) | Err(url::ParseError::EmptyHost) => Err("missing host for URL".to_owned()),
        Err(e) => Err(format!("parse URL: {e}")),
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_url(&text).map_err(D::Error::custom)?;
        Ok(Self(text))
    }
}

/// An address that must not be shown. `<secret>` is taken, so that a configuration which the
/// API has shown can be checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretUrl(pub Secret);

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text != REDACTED {
            check_url(&text).map_err(D::Error::custom)?;
        }
        Ok(Self(Secret::new(text)))
    }
}

/// A secret address that may be a template, which is then checked only when it is used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TemplateUrl(pub Secret);

impl<'de> Deserialize<'de> for TemplateUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_empty() && text != REDACTED && !text.contains("{{") {
            check_url(&text).map_err(|e| D::Error::custom(format!("invalid URL: {e}")))?;
        }
        Ok(Self(Secret::new(text)))
    }
}

/// `host:port`; empty where nothing is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostPort {
    pub host: String,
    pub port: String,
}

impl HostPort {
    pub fn is_empty(&self) -> bool {
        self.host.is_empty() && self.port.is_empty()
    }

    /// `host:port`; an empty text is none. Errors are Go's.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("address {text}: missing port in address"));
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return Err(format!("address {text}: too many colons in address"));
        }
        if port.is_empty() {
            return Err(format!("address {text:?}: port cannot be empty"));
        }
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port: port.to_owned() })
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `matchers`: a list of texts, each one matcher or several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Matchers(pub Vec<Matcher>);

impl<'de> Deserialize<'de> for Matchers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Vec::new();
        for line in Vec::<String>::deserialize(deserializer)? {
            all.extend(matchers::parse_matchers(&line).map_err(D::Error::custom)?);
        }
        matchers::sort(&mut all);
        Ok(Self(all))
    }
}

/// `match` or `match_re`: names and values, or names and expressions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MatchMap<const REGEX: bool>(pub Vec<Matcher>);

impl<'de, const REGEX: bool> Deserialize<'de> for MatchMap<REGEX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = std::collections::BTreeMap::<String, Option<String>>::deserialize(deserializer)?;
        let mut all = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            if !pilothouse_model::labels::is_legacy_label_name(&name) {
                return Err(D::Error::custom(format!("invalid label name {name:?}")));
            }
            let value = match value {
                None if REGEX => {
                    return Err(D::Error::custom(format!("invalid regexp value for {name:?}")));
                }
                value => value.unwrap_or_default(),
            };
            let op = if REGEX { MatchOp::Regex } else { MatchOp::Equal };
            all.push(matchers::compile(op, &name, &value).map_err(D::Error::custom)?);
        }
        Ok(Self(all))
    }
}
