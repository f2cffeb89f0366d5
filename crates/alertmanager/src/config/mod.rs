//! A configuration: read, checked, completed with what is inherited.
//!
//! Two forms come in: the document of the configuration API (templates and a configuration as
//! text, Mimir's) and a plain file. Texts of errors are Alertmanager's own, since its users
//! search for them.

mod document;
mod global;
mod lenient;
mod show;
pub(crate) mod values;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use pilothouse_model::yaml::{Aliases, aliases, is_too_deep};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny};
use serde_norway::Value;

pub(crate) use document::fits;
pub use document::{Document, DocumentError};
pub use global::Global;
pub(crate) use global::at_most_one;
pub use values::{GoMillis, HostPort, HttpUrl, Millis, SecretUrl, TemplateUrl};

use crate::interval::TimeInterval;
use crate::matchers::is_label_name;
use crate::receivers::Receiver;
use values::{MatchMap, Matchers};

/// Why a configuration is refused; Alertmanager's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl From<String> for ConfigError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for ConfigError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A configuration that can be obeyed.
#[derive(Debug, Clone)]
pub struct Config {
    pub global: Global,
    pub route: RouteOptions,
    pub receivers: Vec<Receiver>,
    pub inhibit_rules: Vec<InhibitRule>,
    /// By name, the older list and the newer together.
    pub intervals: BTreeMap<String, Vec<TimeInterval>>,
    /// Names of template files, or patterns of them.
    pub templates: Vec<String>,
    /// The configuration with its defaults, secrets left out, as YAML.
    pub shown: String,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Read {
    global: Option<Global>,
    route: Option<RouteOptions>,
    inhibit_rules: Vec<InhibitRule>,
    receivers: Vec<Receiver>,
    templates: Vec<String>,
    mute_time_intervals: Vec<MuteInterval>,
    time_intervals: Vec<NamedInterval>,
    /// Known to Alertmanager; nothing is traced here.
    tracing: Option<Value>,
}

/// A node of the routing tree as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteOptions {
    pub receiver: String,
    pub group_by: Option<Vec<String>>,
    #[serde(rename = "match")]
    pub(crate) equal: MatchMap<false>,
    #[serde(rename = "match_re")]
    pub(crate) regex: MatchMap<true>,
    pub(crate) matchers: Matchers,
    pub mute_time_intervals: Vec<String>,
    pub active_time_intervals: Vec<String>,
    #[serde(rename = "continue")]
    pub goes_on: bool,
    pub routes: Vec<RouteOptions>,
    pub group_wait: Option<Millis>,
    pub group_interval: Option<Millis>,
    pub repeat_interval: Option<Millis>,
    pub labels: BTreeMap<String, String>,
}

/// An inhibition rule as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InhibitRule {
    pub name: String,
    pub(crate) source_match: MatchMap<false>,
    pub(crate) source_match_re: MatchMap<true>,
    pub(crate) source_matchers: Matchers,
    pub(crate) target_match: MatchMap<false>,
    pub(crate) target_match_re: MatchMap<true>,
    pub(crate) target_matchers: Matchers,
    pub equal: Vec<String>,
}

#[derive(Debug, Clone)]
struct NamedInterval {
    name: String,
    intervals: Vec<TimeInterval>,
}

/// The older list of intervals; it differs in the words of its errors alone.
#[derive(Debug, Clone)]
struct MuteInterval(NamedInterval);

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct IntervalText {
    name: String,
    time_intervals: Vec<TimeInterval>,
}

fn named<'de, D: Deserializer<'de>>(deserializer: D, missing: &str) -> Result<NamedInterval, D::Error> {
    let read = IntervalText::deserialize(deserializer)?;
    if read.name.is_empty() {
        return Err(D::Error::custom(missing));
    }
    Ok(NamedInterval { name: read.name, intervals: read.time_intervals })
}

impl<'de> Deserialize<'de> for NamedInterval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        named(deserializer, "missing name in time interval")
    }
}

impl<'de> Deserialize<'de> for MuteInterval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        named(deserializer, "missing name in mute time interval").map(Self)
    }
}

/// The words of the YAML reader for what it would refuse later.
const TOO_DEEP: &str = "recursion limit exceeded";
const REPEATS: &str = "repetition limit exceeded";

/// Reads a text that may be anybody's. Where its aliases could stand for too much and there is a mistake
/// in it, the mistake is told: a look that leaves out all values follows no alias.
fn read_yaml(text: &[u8]) -> Result<Value, String> {
    if is_too_deep(text) {
        return Err(TOO_DEEP.to_owned());
    }
    match aliases(text) {
        Aliases::TooMany => return Err(REPEATS.to_owned()),
        Aliases::Broken { too_many: true } => {
            serde_norway::from_slice::<IgnoredAny>(text).map_err(|e| e.to_string())?;
            return Err(REPEATS.to_owned());
        }
        Aliases::Few | Aliases::Broken { too_many: false } => {}
    }
    serde_norway::from_slice(text).map_err(|e| e.to_string())
}

impl Config {
    /// Reads a configuration from YAML and completes it.
    pub fn load(text: &str) -> Result<Self, ConfigError> {
        Self::complete(text, None)
    }

    /// Reads a file; relative paths in it are relative to its directory.
    pub fn load_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError(format!("open {}: {e}", path.display())))?;
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::complete(&text, Some(directory))
    }

    fn complete(text: &str, directory: Option<PathBuf>) -> Result<Self, ConfigError> {
        let value = read_yaml(text.as_bytes()).map_err(|e| ConfigError(format!("yaml: {e}")))?;
        crate::matchers::begin_text();
        let mut read = read(text, value.clone())?;
        if let Some(directory) = &directory {
            read.set_directory(directory);
        }
        let global = read.global.unwrap_or_default();
        global.check()?;
        let mut names = HashSet::new();
        for receiver in &mut read.receivers {
            if !names.insert(receiver.name.clone()) {
                return Err(ConfigError(format!(
                    "notification config name {:?} is not unique",
                    receiver.name
                )));
            }
            receiver.complete(&global)?;
        }
        let route = read.route.ok_or("no routes provided")?;
        check_root(&route)?;
        route.check_receivers(&names)?;
        let intervals = intervals(read.mute_time_intervals, read.time_intervals)?;
        route.check_intervals(&intervals)?;
        if route.goes_on {
            return Err("cannot have continue in root route".into());
        }
        let _ = read.tracing;
        Ok(Self {
            global,
            route,
            receivers: read.receivers,
            inhibit_rules: read.inhibit_rules,
            intervals,
            templates: read.templates,
            shown: show::shown(value),
        })
    }
}

impl Read {
    fn set_directory(&mut self, directory: &Path) {
        for template in &mut self.templates {
            pilothouse_net::options::join(directory, template);
        }
        if let Some(global) = &mut self.global {
            global.http_config.set_directory(directory);
            global.smtp_tls_config.set_directory(directory);
        }
        for receiver in &mut self.receivers {
            receiver.set_directory(directory);
        }
    }
}

fn read(text: &str, value: Value) -> Result<Read, ConfigError> {
    if value.is_null() {
        return Err("no route provided in config".into());
    }
    if !value.is_mapping() {
        return Err("yaml: unmarshal errors:\n  line 1: cannot unmarshal into config.plain".into());
    }
    let read: Read = lenient::from_value(value).map_err(|e| ConfigError(go_error(text, &e.to_string())))?;
    for rule in &read.inhibit_rules {
        rule.check()?;
    }
    if let Some(route) = &read.route {
        route.check()?;
    }
    for receiver in &read.receivers {
        receiver.check()?;
    }
    Ok(read)
}

/// An error of the reader in the words of Go's, where a field is not known.
fn go_error(text: &str, error: &str) -> String {
    let unknown = error.split_once("unknown field `").and_then(|(_, rest)| rest.split_once('`'));
    let Some((field, _)) = unknown else { return error.to_owned() };
    let names = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim_start();
        let line = line.trim_start_matches(['"', '\'']);
        line.strip_prefix(field)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    let line = text.lines().position(names).map_or(1, |at| at + 1);
    format!("yaml: unmarshal errors:\n  line {line}: field {field} not found in type config.plain")
}

fn check_root(route: &RouteOptions) -> Result<(), ConfigError> {
    if route.receiver.is_empty() {
        return Err("root route must specify a default receiver".into());
    }
    if !route.all_matchers().is_empty() {
        return Err("root route must not have any matchers".into());
    }
    if !route.mute_time_intervals.is_empty() {
        return Err("root route must not have any mute time intervals".into());
    }
    if !route.active_time_intervals.is_empty() {
        return Err("root route must not have any active time intervals".into());
    }
    Ok(())
}

fn intervals(
    older: Vec<MuteInterval>,
    newer: Vec<NamedInterval>,
) -> Result<BTreeMap<String, Vec<TimeInterval>>, ConfigError> {
    let older = older.into_iter().map(|MuteInterval(named)| (named, "mute time interval"));
    let newer = newer.into_iter().map(|named| (named, "time interval"));
    let mut all = BTreeMap::new();
    for (NamedInterval { name, intervals }, what) in older.chain(newer) {
        if all.contains_key(&name) {
            return Err(ConfigError(format!("{what} {name:?} is not unique")));
        }
        all.insert(name, intervals);
    }
    Ok(all)
}

impl RouteOptions {
    /// Matchers of all three forms, sorted.
    pub(crate) fn all_matchers(&self) -> Vec<pilothouse_model::Matcher> {
        joined(&self.equal, &self.regex, &self.matchers)
    }

    /// The checks of this node and those below it that need nothing else.
    fn check(&self) -> Result<(), ConfigError> {
        for route in &self.routes {
            route.check()?;
        }
        for name in self.labels.keys() {
            if !is_label_name(name) {
                return Err(ConfigError(format!("invalid label name {name:?} in route labels")));
            }
        }
        self.check_group_by()?;
        let is_zero = |duration: Option<Millis>| duration == Some(Millis(0));
        if is_zero(self.group_interval) {
            return Err("group_interval cannot be zero".into());
        }
        if is_zero(self.repeat_interval) {
            return Err("repeat_interval cannot be zero".into());
        }
        Ok(())
    }

    fn check_group_by(&self) -> Result<(), ConfigError> {
        let all = self.group_by.as_deref().unwrap_or_default();
        let names: Vec<&String> = all.iter().filter(|name| *name != "...").collect();
        if let Some(bad) = names.iter().find(|name| !is_label_name(name)) {
            return Err(ConfigError(format!("invalid label name {bad:?} in group_by list")));
        }
        if !names.is_empty() && names.len() < all.len() {
            return Err("cannot have wildcard group_by (`...`) and other labels at the same time".into());
        }
        let mut seen = HashSet::new();
        match names.iter().find(|name| !seen.insert(**name)) {
            Some(twice) => Err(ConfigError(format!("duplicated label {twice:?} in group_by"))),
            None => Ok(()),
        }
    }

    fn check_receivers(&self, names: &HashSet<String>) -> Result<(), ConfigError> {
        for route in &self.routes {
            route.check_receivers(names)?;
        }
        if self.receiver.is_empty() || names.contains(&self.receiver) {
            return Ok(());
        }
        Err(ConfigError(format!("undefined receiver {:?} used in route", self.receiver)))
    }

    fn check_intervals(&self, known: &BTreeMap<String, Vec<TimeInterval>>) -> Result<(), ConfigError> {
        for route in &self.routes {
            route.check_intervals(known)?;
        }
        let used = self.active_time_intervals.iter().chain(&self.mute_time_intervals);
        match used.into_iter().find(|name| !known.contains_key(*name)) {
            Some(name) => Err(ConfigError(format!("undefined time interval {name:?} used in route"))),
            None => Ok(()),
        }
    }
}

fn joined(
    equal: &MatchMap<false>,
    regex: &MatchMap<true>,
    newer: &Matchers,
) -> Vec<pilothouse_model::Matcher> {
    let mut all: Vec<_> = equal.0.iter().chain(&regex.0).chain(&newer.0).cloned().collect();
    crate::matchers::sort(&mut all);
    all
}

impl InhibitRule {
    fn check(&self) -> Result<(), ConfigError> {
        match self.equal.iter().find(|name| !is_label_name(name)) {
            Some(name) => Err(ConfigError(format!("invalid label name {name:?} in equal list"))),
            None => Ok(()),
        }
    }

    pub(crate) fn source(&self) -> Vec<pilothouse_model::Matcher> {
        joined(&self.source_match, &self.source_match_re, &self.source_matchers)
    }

    pub(crate) fn target(&self) -> Vec<pilothouse_model::Matcher> {
        joined(&self.target_match, &self.target_match_re, &self.target_matchers)
    }
}
