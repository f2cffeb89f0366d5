//! The document of the configuration API, as Mimir stores it for a tenant.

use std::collections::BTreeMap;

use pilothouse_model::limits::Limits;
use serde::{Deserialize, Serialize};
use serde_norway::Value;

use super::{Config, ConfigError, read_yaml};
use crate::templates::Templates;

/// Templates by name, and a configuration as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    pub template_files: BTreeMap<String, String>,
    pub alertmanager_config: String,
}

/// Why a document is refused; Mimir's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("Alertmanager configuration is too big, limit: {0} bytes")]
    TooBig(u64),
    #[error("error marshalling YAML Alertmanager config: {0}")]
    Yaml(String),
    #[error("error validating Alertmanager config: {0}")]
    Invalid(ConfigError),
}

impl Document {
    /// Reads a document and checks all of it: the configuration, its templates, and what a
    /// hosted configuration may not hold.
    pub fn read(body: &[u8], limits: &Limits) -> Result<(Self, Config, Templates), DocumentError> {
        if body.len() as u64 > limits.max_alertmanager_config_bytes {
            return Err(DocumentError::TooBig(limits.max_alertmanager_config_bytes));
        }
        let value = read_yaml(body).map_err(DocumentError::Yaml)?;
        let document: Self = match value {
            Value::Null => Self::default(),
            value => super::lenient::from_value(value).map_err(|e| DocumentError::Yaml(e.to_string()))?,
        };
        let (config, templates) = document.check(limits).map_err(DocumentError::Invalid)?;
        Ok((document, config, templates))
    }

    /// The document as YAML.
    pub fn to_yaml(&self) -> String {
        serde_norway::to_string(self).unwrap_or_default()
    }

    /// Checks what was read, or stored before.
    pub fn check(&self, limits: &Limits) -> Result<(Config, Templates), ConfigError> {
        if self.alertmanager_config.is_empty() {
            return Err(
                "configuration provided is empty, if you'd like to remove your configuration please use the delete configuration endpoint"
                    .into(),
            );
        }
        let config = Config::load(&self.alertmanager_config)?;
        refuse_files(&self.alertmanager_config)?;
        for name in config.templates.iter().chain(self.template_files.keys()) {
            check_template_name(name)?;
        }
        let (count, most) = (self.template_files.len() as u64, limits.max_alertmanager_templates);
        if most > 0 && count > most {
            return Err(ConfigError(format!(
                "too many templates in the configuration: {count} (limit: {most})"
            )));
        }
        for (name, text) in &self.template_files {
            let (size, most) = (text.len() as u64, limits.max_alertmanager_template_bytes);
            if most > 0 && size > most {
                return Err(ConfigError(format!(
                    "template {name} is too big: {size} bytes (limit: {most} bytes)"
                )));
            }
        }
        let used =
            self.template_files.iter().filter(|(name, _)| config.templates.iter().any(|t| fits(t, name)));
        let templates = Templates::new(used.map(|(name, text)| (name.as_str(), text.as_str())))?;
        Ok((config, templates))
    }
}

/// Whether a pattern of file names (`*`, `?`) fits a name. Goes back to the last star alone, so
/// that no pattern takes long.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

fn check_template_name(name: &str) -> Result<(), ConfigError> {
    if name.contains(['/', '\\']) || matches!(name, "" | "." | "..") {
        return Err(ConfigError(format!(
            "invalid template name {name:?}: the template name cannot contain any path"
        )));
    }
    Ok(())
}

/// A configuration that comes over the network may name no file of this machine, and no proxy:
/// what is behind it is not the caller's.
fn refuse_files(text: &str) -> Result<(), ConfigError> {
    let value: Value = serde_norway::from_str(text).map_err(|e| ConfigError(e.to_string()))?;
    refuse_in(&value, "")
}

fn refuse_in(value: &Value, list: &str) -> Result<(), ConfigError> {
    match value {
        Value::Sequence(items) => items.iter().try_for_each(|item| refuse_in(item, list)),
        Value::Mapping(map) => map.iter().try_for_each(|(name, value)| {
            let name = name.as_str().unwrap_or_default();
            // Labels and texts of users are no fields.
            if matches!(
                name,
                "labels"
                    | "match"
                    | "match_re"
                    | "details"
                    | "custom_fields"
                    | "headers"
                    | "payload"
                    | "fields"
            ) {
                return Ok(());
            }
            let set = value.as_str().is_some_and(|text| !text.is_empty());
            if set && (name.ends_with("_file") || name == "proxy_url") {
                return Err(ConfigError(not_allowed(list, name)));
            }
            if name == "files" && value.as_sequence().is_some_and(|files| !files.is_empty()) {
                return Err("setting http_headers files is not allowed".into());
            }
            if name == "proxy_from_environment" && value.as_bool() == Some(true) {
                return Err("setting proxy_from_environment is not allowed".into());
            }
            refuse_in(value, if name.ends_with("_configs") { name } else { list })
        }),
        _ => Ok(()),
    }
}

fn not_allowed(list: &str, field: &str) -> String {
    match (list, field) {
        (_, "password_file" | "bearer_token_file" | "credentials_file" | "username_file") => {
            "setting password_file, bearer_token_file and credentials_file is not allowed".to_owned()
        }
        (_, "proxy_url") => "setting proxy_url is not allowed".to_owned(),
        (_, "client_secret_file") => "setting OAuth2 client_secret_file is not allowed".to_owned(),
        (_, "ca_file" | "cert_file" | "key_file") => {
            "setting TLS ca_file, cert_file and key_file is not allowed".to_owned()
        }
        ("slack_configs", "api_url_file") | (_, "slack_api_url_file") => {
            "setting Slack api_url_file and global slack_api_url_file is not allowed".to_owned()
        }
        ("opsgenie_configs", "api_key_file") | (_, "opsgenie_api_key_file") => {
            "setting OpsGenie api_key_file and global opsgenie_api_key_file is not allowed".to_owned()
        }
        ("victorops_configs", "api_key_file") | (_, "victorops_api_key_file") => {
            "setting VictorOps api_key_file is not allowed".to_owned()
        }
        ("pagerduty_configs", "routing_key_file" | "service_key_file") => {
            "setting PagerDuty routing_key_file and service_key_file is not allowed".to_owned()
        }
        (list, field) => match list.strip_suffix("_configs") {
            Some(kind) => format!("setting {kind} {field} is not allowed"),
            None => format!("setting {field} is not allowed"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, expected) in [
            ("a.tmpl", "a.tmpl", true),
            ("*.tmpl", "a.tmpl", true),
            ("*", "", true),
            ("a?c*", "abcd", true),
            ("*b*d", "abcd", true),
            ("*.tmpl", "a.txt", false),
            ("?", "", false),
            ("*a*a*a*a*a*a*a*a*b", &"a".repeat(200), false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
