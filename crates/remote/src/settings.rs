//! Where the other system is and how it is spoken to.

use std::time::Duration;

use http::Uri;
use pilothouse_model::time::{format_duration_ms, parse_duration_ms};
use pilothouse_net::HttpOptions;
use pilothouse_wire::remote_write::Message;
use serde::Deserialize;
use serde_json::{Value, json};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// What the other system holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Metrics,
    Logs,
}

/// What is wrong with settings, and with which of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct SettingsError {
    /// As it stands in the settings, `remote.write_url`.
    pub key: String,
    pub why: String,
}

impl SettingsError {
    fn new(key: &str, why: impl Into<String>) -> Self {
        let key = if key.is_empty() { "remote".to_owned() } else { format!("remote.{key}") };
        Self { key, why: why.into() }
    }
}

/// As they are written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    write_url: String,
    #[serde(default)]
    query_url: String,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    timeout: String,
    #[serde(default)]
    queries: String,
    #[serde(default)]
    http_config: HttpOptions,
}

/// A remote system. The addresses hold no credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Takes remote write, or Loki's push.
    pub write_url: String,
    /// What stands before `/api/v1/query`, or before `/loki/api/v1/query`; without a slash at its end.
    pub query_url: String,
    /// Of remote write; a Loki has but one.
    pub protocol: Message,
    /// The header `X-Scope-OrgID`; empty for none.
    pub tenant: String,
    /// For one write. Queries have the time that any query has.
    pub timeout: Duration,
    /// Whether this server keeps all of it too and answers queries: the time before a move, in which
    /// what comes in goes both ways.
    pub is_copy: bool,
    pub http_config: HttpOptions,
}

impl Settings {
    /// Reads and checks settings as the management API takes and the control plane keeps them.
    pub fn read(kind: Kind, value: &Value) -> Result<Self, SettingsError> {
        if !value.is_object() {
            return Err(SettingsError::new("", "an object is wanted"));
        }
        let written = Written::deserialize(value).map_err(|e| SettingsError::new("", e.to_string()))?;
        written.http_config.validate().map_err(|e| SettingsError::new("http_config", e.to_string()))?;
        let tenant = written.tenant;
        if tenant.len() > 150 || tenant.bytes().any(|b| !(b'!'..=b'~').contains(&b)) {
            let why = "at most 150 characters, none of them a space or beyond ASCII";
            return Err(SettingsError::new("tenant", why));
        }
        Ok(Self {
            write_url: address("write_url", &written.write_url, true)?,
            query_url: address("query_url", &written.query_url, false)?.trim_end_matches('/').to_owned(),
            protocol: protocol(kind, &written.protocol)?,
            tenant,
            timeout: timeout(&written.timeout)?,
            is_copy: match written.queries.as_str() {
                "" | "remote" => false,
                "local" => true,
                _ => return Err(SettingsError::new("queries", "remote or local")),
            },
            http_config: written.http_config,
        })
    }

    /// Settings with a change over them, both as they are written down: a key that is said stands for
    /// what was there, `null` takes it away, and others stay. `http_config` is one thing, and is said
    /// again where an address goes to another host: whoever may change an address without knowing
    /// the credentials shall not have them sent to himself.
    pub fn changed(kind: Kind, before: &Value, change: &Value) -> Result<Value, SettingsError> {
        let Some(change) = change.as_object() else {
            return Err(SettingsError::new("", "an object is wanted"));
        };
        let mut merged = before.as_object().cloned().unwrap_or_default();
        for (key, value) in change {
            match value {
                Value::Null => merged.remove(key),
                value => merged.insert(key.clone(), value.clone()),
            };
        }
        let merged = Value::Object(merged);
        let settings = Self::read(kind, &merged)?;
        // Settings that no longer read say nothing of where they went.
        let stays = Self::read(kind, before).is_ok_and(|b| b.origins() == settings.origins());
        let goes_elsewhere = !before.is_null() && !stays;
        let is_plain = settings.http_config == HttpOptions::default();
        if goes_elsewhere && !is_plain && !change.contains_key("http_config") {
            let why = "is said again, or null, with an address on another host";
            return Err(SettingsError::new("http_config", why));
        }
        Ok(merged)
    }

    /// Scheme, host and port of both addresses.
    fn origins(&self) -> [Option<(String, String)>; 2] {
        [&self.write_url, &self.query_url].map(|url| {
            let uri = url.parse::<Uri>().ok()?;
            Some((uri.scheme_str()?.to_owned(), uri.authority()?.to_string()))
        })
    }

    /// The settings without what is secret in them; of the credentials only of which kind they are.
    pub fn shown(&self) -> Value {
        let http = &self.http_config;
        let credentials = [
            ("basic", http.basic_auth.is_some()),
            ("oauth2", http.oauth2.is_some()),
            ("authorization", http.effective_authorization().is_some()),
        ];
        let credentials = credentials.into_iter().find(|(_, there)| *there).map_or("none", |(name, _)| name);
        json!({
            "write_url": without_query(&self.write_url),
            "query_url": self.query_url,
            "protocol": match self.protocol { Message::V1 => "1.0", Message::V2 => "2.0" },
            "tenant": self.tenant,
            "timeout": format_duration_ms(i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX)),
            "queries": if self.is_copy { "local" } else { "remote" },
            "credentials": credentials,
            "headers": http.http_headers.keys().collect::<Vec<_>>(),
        })
    }

    /// Host and port, for the log.
    pub fn host(&self) -> String {
        let uri = self.write_url.parse::<Uri>();
        uri.ok().and_then(|uri| Some(uri.authority()?.to_string())).unwrap_or_default()
    }
}

fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// Credentials have keys of their own, where they are kept from being shown.
fn address(key: &str, text: &str, may_have_query: bool) -> Result<String, SettingsError> {
    let refuse = |why: &str| Err(SettingsError::new(key, why));
    if text.is_empty() {
        return refuse("an address is wanted");
    }
    let Ok(uri) = text.parse::<Uri>() else { return refuse("is no address") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return refuse("begins with http:// or https://");
    }
    let authority = uri.authority().map_or("", |a| a.as_str());
    if authority.is_empty() {
        return refuse("has no host");
    }
    if authority.contains('@') {
        return refuse("holds credentials; they go into remote.http_config");
    }
    if (uri.query().is_some() && !may_have_query) || text.contains('#') {
        return refuse("has something behind its path");
    }
    Ok(text.to_owned())
}

fn protocol(kind: Kind, text: &str) -> Result<Message, SettingsError> {
    match (kind, text) {
        (_, "") | (Kind::Metrics, "1.0") => Ok(Message::V1),
        (Kind::Metrics, "2.0") => Ok(Message::V2),
        (Kind::Metrics, _) => Err(SettingsError::new("protocol", "1.0 or 2.0 of remote write")),
        (Kind::Logs, _) => Err(SettingsError::new("protocol", "only sources of metrics have it")),
    }
}

fn timeout(text: &str) -> Result<Duration, SettingsError> {
    if text.is_empty() {
        return Ok(DEFAULT_TIMEOUT);
    }
    let wrong = |why: String| SettingsError::new("timeout", why);
    let ms = parse_duration_ms(text).map_err(|e| wrong(e.to_string()))?;
    let timeout = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
        return Err(wrong(format!("{text} is not above nothing and up to {}s", LONGEST_TIMEOUT.as_secs())));
    }
    Ok(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Value {
        json!({"write_url": "http://m:9009/api/v1/push", "query_url": "http://m:9009/prometheus/"})
    }

    fn with(key: &str, value: Value) -> Value {
        let mut settings = base();
        settings[key] = value;
        settings
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let settings = Settings::read(Kind::Metrics, &base()).unwrap();
        assert_eq!(settings.query_url, "http://m:9009/prometheus");
        assert_eq!((settings.protocol, settings.timeout), (Message::V1, DEFAULT_TIMEOUT));
        assert_eq!(settings.host(), "m:9009");
        let second = Settings::read(Kind::Metrics, &with("protocol", "2.0".into())).unwrap();
        assert_eq!(second.protocol, Message::V2);
    }

    #[test]
    fn a_fault_names_its_key() {
        for (kind, value, expected) in [
            (Kind::Metrics, json!("x"), "remote: an object is wanted"),
            (Kind::Metrics, json!({}), "remote.write_url: an address is wanted"),
            (Kind::Metrics, with("write_url", "m:9009/x".into()), "remote.write_url: is no address"),
            (
                Kind::Metrics,
                with("query_url", "ftp://m/".into()),
                "remote.query_url: begins with http:// or https://",
            ),
            (
                Kind::Metrics,
                with("query_url", "http://a:b@m/".into()),
                "remote.query_url: holds credentials; they go into remote.http_config",
            ),
            (
                Kind::Metrics,
                with("query_url", "http://m/?x=1".into()),
                "remote.query_url: has something behind its path",
            ),
            (Kind::Metrics, with("protocol", "3".into()), "remote.protocol: 1.0 or 2.0 of remote write"),
            (Kind::Metrics, with("queries", "both".into()), "remote.queries: remote or local"),
            (Kind::Logs, with("protocol", "1.0".into()), "remote.protocol: only sources of metrics have it"),
            (
                Kind::Logs,
                with("timeout", "1h".into()),
                "remote.timeout: 1h is not above nothing and up to 600s",
            ),
            (
                Kind::Logs,
                with("tenant", "a b".into()),
                "remote.tenant: at most 150 characters, none of them a space or beyond ASCII",
            ),
            (
                Kind::Logs,
                with("http_config", json!({"basic_auth": {}, "oauth2": {}})),
                "remote.http_config: at most one of basic_auth, oauth2 & authorization must be configured",
            ),
        ] {
            assert_eq!(Settings::read(kind, &value).unwrap_err().to_string(), expected, "{value}");
        }
        let unknown = Settings::read(Kind::Logs, &with("uri", "x".into())).unwrap_err().to_string();
        assert!(unknown.starts_with("remote: unknown field `uri`, expected one of `write_url`"), "{unknown}");
    }

    #[test]
    fn a_change_says_what_changes() {
        let mut before = with("http_config", json!({"basic_auth": {"username": "u", "password": "hush"}}));
        before["tenant"] = "a".into();
        let changed = |change: Value| {
            Settings::changed(Kind::Metrics, &before, &change).map_err(|e| e.to_string()).map(|value| {
                let kept = value["http_config"] == before["http_config"];
                (Settings::read(Kind::Metrics, &value).unwrap(), kept)
            })
        };
        let (settings, kept) = changed(json!({"queries": "local"})).unwrap();
        assert!(settings.is_copy && settings.tenant == "a" && kept);
        let (settings, kept) = changed(json!({"tenant": null, "timeout": "5s"})).unwrap();
        assert!(settings.tenant.is_empty() && settings.timeout == Duration::from_secs(5) && kept);
        let (settings, kept) = changed(json!({"write_url": "http://m:9009/other"})).unwrap();
        assert!(settings.write_url.ends_with("/other") && kept);
        let (settings, kept) = changed(json!({"http_config": {"bearer_token": "x"}})).unwrap();
        assert!(settings.http_config.basic_auth.is_none() && !kept);
        for address in ["write_url", "query_url"] {
            let elsewhere = json!({ address: "http://else:9009/x" });
            assert_eq!(
                changed(elsewhere.clone()).unwrap_err(),
                "remote.http_config: is said again, or null, with an address on another host"
            );
            let mut said = elsewhere;
            said["http_config"] = Value::Null;
            assert_eq!(changed(said).unwrap().0.http_config, HttpOptions::default());
        }
        assert_eq!(
            changed(json!({"write_url": null})).unwrap_err(),
            "remote.write_url: an address is wanted"
        );
        // Where nothing was before, all of it is said.
        assert!(Settings::changed(Kind::Metrics, &Value::Null, &json!({"tenant": "a"})).is_err());
        assert!(Settings::changed(Kind::Metrics, &Value::Null, &base()).is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut value = with("http_config", json!({"basic_auth": {"username": "u", "password": "hush"}}));
        value["write_url"] = "http://m/push?token=hush".into();
        let settings = Settings::read(Kind::Metrics, &value).unwrap();
        let shown = settings.shown();
        assert_eq!(shown["credentials"], "basic");
        assert_eq!(shown["write_url"], "http://m/push");
        assert!(!shown.to_string().contains("hush"));
        assert!(!format!("{:?}", settings.http_config).contains("hush"));
    }
}
