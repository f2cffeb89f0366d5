//! The configuration in force: flags over the environment over the file over the defaults.
//!
//! `settings` is the one list of keys, `values` what each may hold, `layers` puts together what
//! was said, `reference` shows it. Here it becomes what the parts of the server are given, with
//! the checks that take more than one key.

mod data_sources;
mod layers;
mod reference;
mod references;
mod scraping;
mod secrets;
mod settings;
mod synthetic;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use pilothouse_api::{Enrichment, TlsFiles};
use pilothouse_control::DeclaredSource;
use pilothouse_model::Labels;
use pilothouse_model::limits::Limits;

use crate::alerting::AlertingConfig;
use crate::bucket::BucketOptions;
use crate::room::RoomConfig;
use crate::rules::RuleConfig;
use crate::scrape::ScrapeConfig;
use crate::synthetic::SyntheticConfig;

pub(crate) use layers::Fault;
pub(crate) use reference::{markdown, sample, yaml};
pub(crate) use settings::{KEYS, Settings};
pub(crate) use values::{AuthMode, Setting, read_limit};

use layers::Layers;
use references::Lookup;

/// A configuration that cannot be obeyed: all that is wrong, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct ConfigError(pub(crate) Vec<Fault>);

/// What the command line says; kept, so that a reload asks the same again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) config: Option<PathBuf>,
    /// Keys with their texts.
    pub(crate) values: Vec<(String, String)>,
    /// `NAME=VALUE`.
    pub(crate) limits: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: String,
    /// 0 keeps for ever.
    pub(crate) retention_ms: i64,
    pub(crate) auth: AuthMode,
    pub(crate) root_token: Option<String>,
    pub(crate) external_url: Option<String>,
    pub(crate) limits: Limits,
    /// How much of the machine may be taken.
    pub(crate) room: RoomConfig,
    pub(crate) tls: Option<TlsFiles>,
    /// What is added to log entries on their way in.
    pub(crate) enrichment: Enrichment,
    pub(crate) rules: RuleConfig,
    pub(crate) alerting: AlertingConfig,
    pub(crate) synthetic: SyntheticConfig,
    pub(crate) scraping: ScrapeConfig,
    pub(crate) data_sources: Vec<DeclaredSource>,
    /// How backups reach a bucket.
    pub(crate) buckets: BucketOptions,
    /// What the operator should know though it stops nothing.
    pub(crate) warnings: Vec<String>,
    /// What was said, and where.
    pub(crate) settings: Settings,
    pub(crate) flags: Flags,
    pub(crate) origins: BTreeMap<String, String>,
}

/// The defaults of what is added to entries.
fn enrichment() -> Enrichment {
    Enrichment::default()
}

/// Puts together what the flags, the environment and the file say.
pub(crate) fn load(flags: &Flags) -> Result<Config, ConfigError> {
    let mut config = load_with(flags, &|name| std::env::var(name).ok())?;
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    config.warnings.extend(names.filter_map(|name| layers::misspelt(&name)));
    Ok(config)
}

fn load_with(flags: &Flags, lookup: &Lookup<'_>) -> Result<Config, ConfigError> {
    let mut layers = Layers { directory: directory(flags), ..Layers::default() };
    if let Some(path) = &flags.config {
        let text = layers::read_file(path).map_err(|fault| ConfigError(vec![fault]))?;
        layers.add_file(&path.display().to_string(), &text, lookup);
    }
    layers.add_environment(lookup);
    flags.limits.iter().for_each(|text| layers.add_limit(text));
    for (key, text) in &flags.values {
        layers.add_text(key, text, &format!("--{}", key.replace(['_', '.'], "-")));
    }
    Ok(Config { flags: flags.clone(), ..resolve(layers)? })
}

/// Where relative paths in jobs of scraping and data sources start: at the file's directory.
fn directory(flags: &Flags) -> PathBuf {
    flags.config.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default()
}

/// What the parts are given.
fn resolve(mut layers: Layers) -> Result<Config, ConfigError> {
    let mut warnings = Vec::new();
    let checked = Checked::of(&mut layers, &mut warnings);
    take_global(&mut layers);
    match layers.faults.is_empty() {
        true => Ok(checked.config(layers, warnings)),
        false => Err(ConfigError(layers.faults)),
    }
}

/// What could not be had without a check of several keys together; made up where it failed, which is
/// then among the faults.
struct Checked {
    auth: AuthMode,
    synthetic: SyntheticConfig,
    scraping: ScrapeConfig,
    tls: Option<TlsFiles>,
}

impl Checked {
    fn of(layers: &mut Layers, warnings: &mut Vec<String>) -> Self {
        let auth = checked_auth(layers, warnings);
        let synthetic = checked_synthetic(layers);
        check_interval(layers);
        let scraping = checked_scraping(layers);
        check_mail(layers);
        Self { auth, synthetic, scraping, tls: checked_tls(layers) }
    }

    fn config(self, layers: Layers, warnings: Vec<String>) -> Config {
        let Layers { settings, directory, origins, .. } = layers;
        let Self { auth, synthetic, scraping, tls } = self;
        let room = RoomConfig::of(&settings);
        let is_said = |limit: &str| origins.contains_key(&format!("limits.{limit}"));
        Config {
            auth,
            warnings,
            synthetic,
            scraping,
            tls,
            data_sources: settings.data_sources.below(&directory),
            buckets: buckets(&settings),
            data_dir: settings.data_dir.clone(),
            listen: settings.listen.0.clone(),
            retention_ms: settings.retention.0,
            root_token: settings.root_token.as_ref().map(|token| token.expose().to_owned()),
            external_url: settings.external_url.as_ref().map(|url| url.0.clone()),
            limits: room.fit(&settings.limits, is_said),
            room,
            enrichment: enrichment_of(&settings),
            rules: rules(&settings),
            alerting: alerting(&settings),
            origins,
            flags: Flags::default(),
            settings,
        }
    }
}

fn checked_auth(layers: &mut Layers, warnings: &mut Vec<String>) -> AuthMode {
    auth_mode(layers.settings.auth, &layers.settings.listen.0, warnings).unwrap_or_else(|why| {
        layers.fault(layers.place_of("listen"), "auth", why);
        AuthMode::Required
    })
}

fn checked_synthetic(layers: &mut Layers) -> SyntheticConfig {
    let synthetic = SyntheticConfig::of(&layers.settings);
    if let Err(e) = synthetic.rules() {
        layers.refuse("synthetic.forbidden_targets", e);
    }
    if let Err(why) = synthetic.checks_hold(&layers.settings.limits) {
        layers.refuse("synthetic.checks", why);
    }
    synthetic
}

fn checked_scraping(layers: &mut Layers) -> ScrapeConfig {
    ScrapeConfig::of(&layers.settings, &layers.directory).unwrap_or_else(|e| {
        layers.refuse("scrape_configs", e);
        ScrapeConfig::default()
    })
}

fn checked_tls(layers: &mut Layers) -> Option<TlsFiles> {
    tls_files(&layers.settings).unwrap_or_else(|(key, why)| {
        layers.refuse(key, why);
        None
    })
}

fn check_interval(layers: &mut Layers) {
    if layers.settings.evaluation_interval.0 == 0 {
        layers.refuse("evaluation_interval", "must be above zero");
    }
}

fn check_mail(layers: &mut Layers) {
    if let Some(Err(e)) = AlertingConfig::mail(&layers.settings).map(|mail| mail.check()) {
        layers.refuse("smtp_smarthost", e);
    }
}

fn enrichment_of(settings: &Settings) -> Enrichment {
    Enrichment {
        service_names: settings.discover_service_name.clone(),
        detect_levels: settings.discover_log_levels,
        level_fields: settings.log_level_fields.clone(),
        level_json_depth: settings.log_level_json_depth,
        otlp_stream_attributes: settings.otlp_stream_attributes.clone(),
    }
}

fn rules(settings: &Settings) -> RuleConfig {
    RuleConfig {
        files: settings.rule_files.clone(),
        log_files: settings.log_rule_files.clone(),
        log_target: settings.log_rules_write_to.clone(),
        interval_ms: settings.evaluation_interval.0,
        external_labels: Labels::from_pairs(&settings.external_labels),
    }
}

fn alerting(settings: &Settings) -> AlertingConfig {
    AlertingConfig {
        config_file: settings.alertmanager_config_file.clone(),
        heartbeat_url: settings.heartbeat_url.clone(),
        mail: AlertingConfig::mail(settings),
    }
}

impl Config {
    /// This configuration with what may change at a reload taken from `next`, and the keys whose
    /// change has to wait for a restart.
    pub(crate) fn reloaded(&self, next: &Self) -> Result<(Self, Vec<String>), ConfigError> {
        let mut settings = self.settings.clone();
        let waiting = settings.take_reloaded(&next.settings);
        let directory = directory(&self.flags);
        let mut origins = next.origins.clone();
        // Whether a limit was said decides whether memory may lower it, so that too has to wait.
        for key in &waiting {
            match self.origins.get(key) {
                Some(place) => origins.insert(key.clone(), place.clone()),
                None => origins.remove(key),
            };
        }
        let layers = Layers { settings, directory, origins, faults: Vec::new() };
        Ok((Config { flags: self.flags.clone(), ..resolve(layers)? }, waiting))
    }

    /// Where the server is reached, without a trailing slash: as configured, else where it
    /// listens.
    pub(crate) fn url(&self, local: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        // All addresses of a machine are none that anybody could call.
        let ip = match local.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let listened = || format!("{scheme}://{}", SocketAddr::new(ip, local.port()));
        self.external_url.clone().unwrap_or_else(listened)
    }

    /// Where pages come from that may do what this server's own may.
    pub(crate) fn origins_of_pages(&self) -> impl Iterator<Item = &str> {
        let allowed = self.settings.allowed_origins.iter().map(|url| url.0.as_str());
        self.external_url.as_deref().into_iter().chain(allowed)
    }

    /// As a file would say it, secrets left out.
    pub(crate) fn to_yaml(&self) -> String {
        yaml(&self.settings, &BTreeMap::new())
    }
}

/// What the section `global` says of rules, where the keys of the same names do not.
fn take_global(layers: &mut Layers) {
    let global = layers.settings.global.section.clone();
    let is_said = |layers: &Layers, key: &str| layers.origins.contains_key(key);
    if let Some(interval) = global.evaluation_interval.filter(|_| !is_said(layers, "evaluation_interval")) {
        layers.settings.evaluation_interval.0 = interval.0;
    }
    if !global.external_labels.is_empty() && !is_said(layers, "external_labels") {
        layers.settings.external_labels = global.external_labels;
    }
}

fn buckets(settings: &Settings) -> BucketOptions {
    BucketOptions {
        endpoint_url: settings.s3_endpoint_url.clone(),
        region: settings.s3_region.clone(),
        access_key_id: settings.s3_access_key_id.clone(),
        secret_access_key: settings.s3_secret_access_key.clone().unwrap_or_default(),
        session_token: settings.s3_session_token.clone().unwrap_or_default(),
        path_style: settings.s3_path_style,
        ca_file: settings.s3_ca_file.clone(),
    }
}

/// What TLS needs, if it is asked for; else the key that is missing.
fn tls_files(settings: &Settings) -> Result<Option<TlsFiles>, (&'static str, &'static str)> {
    let Settings { tls_cert, tls_key, tls_client_ca, .. } = settings.clone();
    match (tls_cert, tls_key, tls_client_ca) {
        (Some(cert), Some(key), client_ca) => Ok(Some(TlsFiles { cert, key, client_ca })),
        (Some(_), None, _) => Err(("tls_cert", "tls_key must name the key of the certificate")),
        (None, Some(_), _) => Err(("tls_key", "tls_cert must name the certificate of the key")),
        (None, None, Some(_)) => Err(("tls_client_ca", "means nothing without tls_cert and tls_key")),
        (None, None, None) => Ok(None),
    }
}

fn auth_mode(said: Option<AuthMode>, listen: &str, warnings: &mut Vec<String>) -> Result<AuthMode, String> {
    let loopback = is_loopback(listen);
    match said {
        Some(AuthMode::Off) if !loopback => {
            warnings.push(format!("authentication is off and {listen} can be reached from elsewhere"));
            Ok(AuthMode::Off)
        }
        Some(mode) => Ok(mode),
        None if loopback => Ok(AuthMode::Off),
        None => Err(format!(
            "{listen} is no loopback address: say --auth required, or --auth off if anybody may read and write"
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

#[cfg(test)]
mod tests;
