//! The configuration in force, from the command line, the environment, the file, the defaults.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use pilothouse_alertmanager::Secret;
use pilothouse_api::Enrichment;
use pilothouse_model::Labels;
use pilothouse_model::limits::Limits;
use pilothouse_model::time::{format_duration_ms, parse_duration_ms};
use serde::Deserialize;

use crate::alerting::AlertingConfig;
use crate::cli::Serve;
use crate::rules::RuleConfig;
use crate::synthetic::SyntheticConfig;

/// A configuration that cannot be obeyed. The text names the key and says what would do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {path}: {cause}")]
    Unreadable { path: String, cause: std::io::Error },
    #[error("configuration file {path}: {cause}")]
    Malformed { path: String, cause: serde_norway::Error },
    #[error("{key}: {why}")]
    Invalid { key: &'static str, why: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMode {
    Off,
    Required,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: String,
    /// 0 keeps for ever.
    pub(crate) retention_ms: i64,
    pub(crate) auth: AuthMode,
    pub(crate) root_token: Option<String>,
    pub(crate) external_url: Option<String>,
    pub(crate) limits: Limits,
    /// What is added to log entries on their way in.
    pub(crate) enrichment: Enrichment,
    pub(crate) rules: RuleConfig,
    pub(crate) alerting: AlertingConfig,
    pub(crate) synthetic: SyntheticConfig,
    /// What the operator should know though it stops nothing.
    pub(crate) warnings: Vec<String>,
}

/// The file. Its keys are the flags with underscores, `limits` by name, and three that Loki has
/// under the same names: which labels become `service_name` (none: it is not added), whether
/// entries get `detected_level`, and from which fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    retention: Option<Scalar>,
    max_active_series: Option<u64>,
    max_log_streams: Option<u64>,
    auth: Option<Scalar>,
    root_token: Option<String>,
    external_url: Option<String>,
    discover_service_name: Option<Vec<String>>,
    discover_log_levels: Option<bool>,
    log_level_fields: Option<Vec<String>>,
    #[serde(default)]
    rule_files: Vec<PathBuf>,
    #[serde(default)]
    log_rule_files: Vec<PathBuf>,
    evaluation_interval: Option<String>,
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
    alertmanager_config_file: Option<PathBuf>,
    heartbeat_url: Option<String>,
    #[serde(default)]
    synthetic: SyntheticConfig,
    #[serde(default)]
    limits: BTreeMap<String, u64>,
}

/// A text that YAML may take for something else when it has no quotes: `0`, `off`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(i64),
    Bool(bool),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Bool(false) => "off".to_owned(),
            Self::Bool(true) => "on".to_owned(),
        }
    }
}

fn invalid(key: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { key, why: why.into() }
}

/// Merges flags (which clap has merged with the environment) over the file over the defaults.
pub(crate) fn load(flags: Serve) -> Result<Config, ConfigError> {
    let file = flags.config.as_deref().map_or_else(|| Ok(File::default()), read_file)?;
    merge(flags, file)
}

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Unreadable { path: shown.clone(), cause })?;
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_norway::from_str(&text).map_err(|cause| ConfigError::Malformed { path: shown, cause })
}

fn merge(flags: Serve, file: File) -> Result<Config, ConfigError> {
    let limits = merge_limits(&flags, &file)?;
    let listen = flags.listen.or(file.listen).unwrap_or_else(|| "127.0.0.1:9009".to_owned());
    let retention = flags.retention.or(file.retention.map(Scalar::into_text));
    let retention_ms = parse_duration_ms(retention.as_deref().unwrap_or("31d"))
        .map_err(|e| invalid("retention", e.to_string()))?;
    let said = flags.auth.or(file.auth.map(Scalar::into_text));
    let mut warnings = Vec::new();
    let auth = auth_mode(said.as_deref(), &listen, &mut warnings)?;
    let root_token = flags.root_token.or(file.root_token);
    if root_token.as_deref().is_some_and(str::is_empty) {
        return Err(invalid("root_token", "must not be empty"));
    }
    let external_url = flags.external_url.or(file.external_url);
    if let Some(url) = &external_url {
        check_url(url)?;
    }
    let data_dir = flags.data_dir.or(file.data_dir).unwrap_or_else(|| PathBuf::from("./pilothouse-data"));
    let default = Enrichment::default();
    let enrichment = Enrichment {
        service_names: file.discover_service_name.unwrap_or(default.service_names),
        detect_levels: file.discover_log_levels.unwrap_or(default.detect_levels),
        level_fields: file.log_level_fields.unwrap_or(default.level_fields),
        ..Enrichment::default()
    };
    let rules =
        merge_rules(file.rule_files, file.log_rule_files, file.evaluation_interval, file.external_labels)?;
    let alerting = AlertingConfig {
        config_file: file.alertmanager_config_file,
        heartbeat_url: file.heartbeat_url.map(Secret::new),
    };
    file.synthetic.rules().map_err(|e| invalid("synthetic.forbidden_targets", e.to_string()))?;
    Ok(Config {
        data_dir,
        listen,
        retention_ms,
        auth,
        root_token,
        external_url,
        limits,
        enrichment,
        rules,
        alerting,
        synthetic: file.synthetic,
        warnings,
    })
}

/// What only the file says: which rules there are besides those set through the API.
fn merge_rules(
    files: Vec<PathBuf>,
    log_files: Vec<PathBuf>,
    interval: Option<String>,
    external_labels: BTreeMap<String, String>,
) -> Result<RuleConfig, ConfigError> {
    let interval_ms = interval.map(|text| parse_duration_ms(&text)).transpose();
    let interval_ms = interval_ms.map_err(|e| invalid("evaluation_interval", e.to_string()))?;
    if interval_ms == Some(0) {
        return Err(invalid("evaluation_interval", "must be above zero"));
    }
    Ok(RuleConfig { files, log_files, interval_ms, external_labels: Labels::from_pairs(&external_labels) })
}

fn merge_limits(flags: &Serve, file: &File) -> Result<Limits, ConfigError> {
    let mut limits = Limits::default();
    let mut set = |name: &str, value: u64| match limits.set(name, value) {
        true => Ok(()),
        false => Err(invalid("limits", format!("there is no limit named {name:?}"))),
    };
    for (name, value) in &file.limits {
        set(name, *value)?;
    }
    let by_key = |series: Option<u64>, streams: Option<u64>| {
        [("max_active_series", series), ("max_log_streams", streams)]
            .into_iter()
            .filter_map(|(name, value)| value.map(|v| (name, v)))
    };
    for (name, value) in by_key(file.max_active_series, file.max_log_streams) {
        set(name, value)?;
    }
    for text in &flags.limits {
        let (name, value) = text
            .split_once('=')
            .and_then(|(n, v)| v.trim().parse().ok().map(|v| (n.trim(), v)))
            .ok_or_else(|| invalid("limit", format!("{text:?} is not NAME=VALUE with a whole number")))?;
        set(name, value)?;
    }
    for (name, value) in by_key(flags.max_active_series, flags.max_log_streams) {
        set(name, value)?;
    }
    Ok(limits)
}

fn auth_mode(said: Option<&str>, listen: &str, warnings: &mut Vec<String>) -> Result<AuthMode, ConfigError> {
    let loopback = is_loopback(listen);
    match said {
        Some("required") => Ok(AuthMode::Required),
        Some("off") => {
            if !loopback {
                warnings.push(format!("authentication is off and {listen} can be reached from elsewhere"));
            }
            Ok(AuthMode::Off)
        }
        Some(other) => Err(invalid("auth", format!("{other:?} is neither \"off\" nor \"required\""))),
        None if loopback => Ok(AuthMode::Off),
        None => Err(invalid(
            "auth",
            format!(
                "{listen} is no loopback address: say --auth required, or --auth off if anybody may read and write"
            ),
        )),
    }
}

fn is_loopback(listen: &str) -> bool {
    if let Ok(address) = listen.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn check_url(url: &str) -> Result<(), ConfigError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !host.ends_with('/') => Ok(()),
        _ => Err(invalid(
            "external_url",
            format!("{url:?} must be http:// or https:// without a trailing slash"),
        )),
    }
}

impl Config {
    /// The configuration in force as a file would say it, the token left out.
    pub(crate) fn to_yaml(&self) -> String {
        let mut out = String::new();
        let auth = if self.auth == AuthMode::Off { "off" } else { "required" };
        let retention =
            if self.retention_ms == 0 { "0".to_owned() } else { format_duration_ms(self.retention_ms) };
        // Writing to a String does not fail.
        let _ = writeln!(out, "data_dir: {:?}", self.data_dir.display().to_string());
        let _ = writeln!(out, "listen: {:?}", self.listen);
        let _ = writeln!(out, "retention: {retention:?}\nauth: {auth:?}");
        if self.root_token.is_some() {
            out.push_str("root_token: \"<secret>\"\n");
        }
        if let Some(url) = &self.external_url {
            let _ = writeln!(out, "external_url: {url:?}");
        }
        let enrichment = &self.enrichment;
        let _ = writeln!(out, "discover_service_name: {:?}", enrichment.service_names);
        let _ = writeln!(out, "discover_log_levels: {}", enrichment.detect_levels);
        let _ = writeln!(out, "log_level_fields: {:?}", enrichment.level_fields);
        let rules = &self.rules;
        let _ = writeln!(out, "rule_files: {:?}", rules.files);
        let _ = writeln!(out, "log_rule_files: {:?}", rules.log_files);
        if let Some(ms) = rules.interval_ms {
            let _ = writeln!(out, "evaluation_interval: {}", format_duration_ms(ms));
        }
        if !rules.external_labels.is_empty() {
            out.push_str("external_labels:\n");
            for (name, value) in &rules.external_labels {
                let _ = writeln!(out, "  {name:?}: {value:?}");
            }
        }
        if let Some(file) = &self.alerting.config_file {
            let _ = writeln!(out, "alertmanager_config_file: {:?}", file.display().to_string());
        }
        if self.alerting.heartbeat_url.is_some() {
            // The address is what the other side knows this server by.
            out.push_str("heartbeat_url: \"<secret>\"\n");
        }
        out.push_str("limits:\n");
        for info in Limits::LIST {
            let _ = writeln!(out, "  {}: {}", info.name, self.limits.get(info.name).unwrap_or(info.default));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_yaml(flags: Serve, yaml: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.yaml");
        std::fs::write(&path, yaml).unwrap();
        load(Serve { config: Some(path), ..flags }).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let config = load(Serve::default()).unwrap();
        assert_eq!(config.listen, "127.0.0.1:9009");
        assert_eq!(config.data_dir, Path::new("./pilothouse-data"));
        assert_eq!(config.retention_ms, 31 * 86_400_000);
        assert_eq!((config.auth, &config.limits), (AuthMode::Off, &Limits::default()));
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let yaml = "listen: 127.0.0.1:1\nretention: 0\nauth: off\nmax_active_series: 7\nlimits: {max_query_depth: 9}\n\
                    discover_service_name: []\ndiscover_log_levels: false\n";
        let flags = Serve {
            listen: Some("127.0.0.1:2".into()),
            limits: vec!["max_query_depth=8".into(), "max_body_bytes = 5".into()],
            ..Serve::default()
        };
        let config = from_yaml(flags, yaml).unwrap();
        assert_eq!((config.listen.as_str(), config.retention_ms), ("127.0.0.1:2", 0));
        assert_eq!(
            config.enrichment,
            Enrichment { detect_levels: false, service_names: Vec::new(), ..Enrichment::default() }
        );
        let limits = &config.limits;
        assert_eq!((limits.max_active_series, limits.max_query_depth, limits.max_body_bytes), (7, 8, 5));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (yaml, expected) in [
            ("listem: x", "listem"),
            ("limits: {max_qeury_depth: 1}", "max_qeury_depth"),
            ("retention: 5 days", "retention"),
            ("auth: maybe", "auth"),
            ("listen: 0.0.0.0:9009", "no loopback address"),
            ("external_url: example.org/", "external_url"),
            ("max_active_series: many", "max_active_series"),
        ] {
            let error = from_yaml(Serve::default(), yaml).unwrap_err();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
    }

    #[test]
    fn authentication_follows_the_address_unless_it_is_said() {
        let with = |listen: &str, auth: Option<&str>| {
            let flags =
                Serve { listen: Some(listen.into()), auth: auth.map(str::to_owned), ..Serve::default() };
            load(flags).map(|c| (c.auth, c.warnings.len())).ok()
        };
        for listen in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
            assert_eq!(with(listen, None), Some((AuthMode::Off, 0)), "{listen}");
        }
        assert_eq!(with("0.0.0.0:1", None), None);
        assert_eq!(with("0.0.0.0:1", Some("off")), Some((AuthMode::Off, 1)));
        assert_eq!(with("0.0.0.0:1", Some("required")), Some((AuthMode::Required, 0)));
    }

    #[test]
    fn the_shown_configuration_reads_back_and_hides_the_token() {
        let flags = Serve { root_token: Some("s3cret".into()), ..Serve::default() };
        let config = load(flags).unwrap();
        let yaml = config.to_yaml();
        assert!(!yaml.contains("s3cret"));
        let again = from_yaml(Serve::default(), &yaml).unwrap();
        assert_eq!((&again.limits, &again.enrichment), (&config.limits, &config.enrichment));
        assert_eq!(again.retention_ms, config.retention_ms);
    }
}
