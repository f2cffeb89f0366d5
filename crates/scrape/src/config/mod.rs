//! What may be configured: `global`, `scrape_configs` and `scrape_config_files`, as Prometheus
//! has them.
//!
//! [`sections`] is what is written; [`load`] checks it, fills in what the global section says, and
//! gives [`Job`]s. What is not supported is an unknown field and refused by its name.

mod http;
pub mod protocol;
pub mod sections;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use pilothouse_model::labels::quote;
use pilothouse_model::time::format_duration_ms;
use pilothouse_net::HttpOptions;

use crate::discovery::Discovery;
use crate::relabel::{NameScheme, Rule, RuleSpec};
use protocol::{Escaping, Protocol};
use sections::{GlobalSection, JobFile, JobSection};
pub use text::{Duration, Size};

/// A configuration of jobs that cannot be obeyed. The text names the file or job, and the field.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}")]
    Global(String),
    /// Of one job; `at` says which.
    #[error("{at}: {why}")]
    Job { at: String, why: String },
    #[error("{}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{}: {cause}", path.display())]
    Malformed { path: PathBuf, cause: serde_norway::Error },
    #[error("{pattern:?} is no pattern of files: {cause}")]
    Pattern { pattern: String, cause: glob::PatternError },
}

/// Everything that a configuration file says of scraping.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sections {
    pub global: GlobalSection,
    pub scrape_configs: Vec<JobSection>,
    /// Patterns of files with further jobs.
    pub scrape_config_files: Vec<String>,
}

/// One job, checked, with what the global section says filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub name: String,
    pub interval_ms: i64,
    pub timeout_ms: i64,
    pub protocols: Vec<Protocol>,
    pub fallback: Option<Protocol>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub params: BTreeMap<String, Vec<String>>,
    pub metrics_path: String,
    pub scheme: String,
    pub compression: bool,
    /// 0 of any limit is no limit of the job's own.
    pub body_size_limit: u64,
    pub sample_limit: u64,
    pub target_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub keep_dropped_targets: u64,
    pub bucket_limit: u64,
    pub min_bucket_factor: f64,
    pub histograms: Histograms,
    pub extra_metrics: bool,
    pub names: NameScheme,
    pub escaping: Escaping,
    pub http: HttpOptions,
    pub relabel: Vec<Rule>,
    pub metric_relabel: Vec<Rule>,
    pub discoveries: Vec<Discovery>,
}

/// Which forms of histograms are taken. The labels of a target may say otherwise than its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histograms {
    /// Those of protobuf as they are.
    pub native: bool,
    /// Classic ones also where there is another form of them.
    pub always_classic: bool,
    /// Classic ones as native ones with custom buckets.
    pub convert_classic: bool,
}

/// Checks everything; relative paths are relative to the directory of the file they stand in.
/// Blocks: it reads the files that `scrape_config_files` names.
pub fn load(sections: &Sections, directory: &Path) -> Result<Vec<Job>, ConfigError> {
    let global = Global::new(&sections.global).map_err(ConfigError::Global)?;
    let mut jobs: Vec<Job> = Vec::new();
    let mut origins: HashMap<String, String> = HashMap::new();
    for (i, section) in sections.scrape_configs.iter().enumerate() {
        let job = global.job(section, directory).map_err(|why| of_job(section, i, why))?;
        if origins.insert(job.name.clone(), "main config file".to_owned()).is_some() {
            let name = quote(&job.name);
            return Err(ConfigError::Global(format!("found multiple scrape configs with job name {name}")));
        }
        jobs.push(job);
    }
    for path in files(&sections.scrape_config_files, directory)? {
        let within = path.parent().unwrap_or(directory);
        for (i, section) in read_jobs(&path)?.iter().enumerate() {
            let in_file = |why| ConfigError::Job { at: path.display().to_string(), why };
            let job =
                global.job(section, within).map_err(|why| in_file(of_job(section, i, why).to_string()))?;
            if let Some(first) = origins.get(&job.name) {
                let name = quote(&job.name);
                return Err(in_file(format!(
                    "found multiple scrape configs with job name {name}, first found in {first}"
                )));
            }
            origins.insert(job.name.clone(), quote(&path.display().to_string()));
            jobs.push(job);
        }
    }
    Ok(jobs)
}

fn of_job(section: &JobSection, index: usize, why: String) -> ConfigError {
    let at = match section.job_name.as_str() {
        "" => format!("scrape_configs[{index}]"),
        name => format!("scrape_configs[{index}] ({name})"),
    };
    ConfigError::Job { at, why }
}

/// The files that match, by name, each once.
fn files(patterns: &[String], directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut found = Vec::new();
    for pattern in patterns {
        let whole = directory.join(pattern).display().to_string();
        let paths =
            glob::glob(&whole).map_err(|cause| ConfigError::Pattern { pattern: pattern.clone(), cause })?;
        found.extend(paths.filter_map(Result::ok));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn read_jobs(path: &Path) -> Result<Vec<JobSection>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let file: JobFile = serde_norway::from_str(&text)
        .map_err(|cause| ConfigError::Malformed { path: path.to_owned(), cause })?;
    Ok(file.scrape_configs)
}

/// The global section with its defaults.
pub(crate) struct Global<'a> {
    section: &'a GlobalSection,
    interval_ms: i64,
    timeout_ms: i64,
    names: NameScheme,
}

const DEFAULT_INTERVAL_MS: i64 = 60_000;
const DEFAULT_TIMEOUT_MS: i64 = 10_000;

impl<'a> Global<'a> {
    pub(crate) fn new(section: &'a GlobalSection) -> Result<Self, String> {
        let said = |duration: Option<Duration>| duration.map(|d| d.0).filter(|ms| *ms > 0);
        let interval_ms = said(section.scrape_interval).unwrap_or(DEFAULT_INTERVAL_MS);
        let timeout_ms = match said(section.scrape_timeout) {
            Some(ms) if ms > interval_ms => {
                return Err("global scrape timeout greater than scrape interval".to_owned());
            }
            Some(ms) => ms,
            None => DEFAULT_TIMEOUT_MS.min(interval_ms),
        };
        let names = name_scheme(&section.metric_name_validation_scheme, NameScheme::Utf8)?;
        if let Some(protocols) = &section.scrape_protocols {
            check_protocols(protocols).map_err(|e| format!("{e} for global config"))?;
        }
        for name in section.external_labels.keys() {
            if !names.is_label_name(name) {
                return Err(format!("{} is not a valid label name", quote(name)));
            }
        }
        Ok(Self { section, interval_ms, timeout_ms, names })
    }

    pub(crate) fn job(&self, section: &JobSection, directory: &Path) -> Result<Job, String> {
        if section.job_name.is_empty() {
            return Err("job_name is empty".to_owned());
        }
        let (interval_ms, timeout_ms) = self.times(section)?;
        let either = |own: u64, global: u64| if own == 0 { global } else { own };
        let global = self.section;
        let native = section.scrape_native_histograms.unwrap_or(global.scrape_native_histograms);
        let names = name_scheme(&section.metric_name_validation_scheme, self.names)?;
        Ok(Job {
            name: section.job_name.clone(),
            interval_ms,
            timeout_ms,
            protocols: self.protocols(section, native)?,
            fallback: section.fallback_scrape_protocol,
            honor_labels: section.honor_labels,
            honor_timestamps: section.honor_timestamps,
            track_timestamps_staleness: section.track_timestamps_staleness,
            params: section.params.clone(),
            metrics_path: section.metrics_path.clone(),
            scheme: section.scheme.clone(),
            compression: section.enable_compression,
            body_size_limit: either(section.body_size_limit.0, global.body_size_limit.0),
            sample_limit: either(section.sample_limit, global.sample_limit),
            target_limit: either(section.target_limit, global.target_limit),
            label_limit: either(section.label_limit, global.label_limit),
            label_name_length_limit: either(section.label_name_length_limit, global.label_name_length_limit),
            label_value_length_limit: either(
                section.label_value_length_limit,
                global.label_value_length_limit,
            ),
            keep_dropped_targets: either(section.keep_dropped_targets, global.keep_dropped_targets),
            bucket_limit: section.native_histogram_bucket_limit,
            min_bucket_factor: section.native_histogram_min_bucket_factor,
            histograms: Histograms {
                native,
                always_classic: section
                    .always_scrape_classic_histograms
                    .unwrap_or(global.always_scrape_classic_histograms),
                convert_classic: section
                    .convert_classic_histograms_to_nhcb
                    .unwrap_or(global.convert_classic_histograms_to_nhcb),
            },
            extra_metrics: section.extra_scrape_metrics.unwrap_or(global.extra_scrape_metrics),
            names,
            escaping: self.escaping(section, names)?,
            http: section.http(directory).map_err(|e| e.to_string())?,
            relabel: rules(&section.relabel_configs, names)?,
            metric_relabel: rules(&section.metric_relabel_configs, names)?,
            discoveries: Discovery::of(section, directory)?,
        })
    }

    fn times(&self, section: &JobSection) -> Result<(i64, i64), String> {
        let said = |duration: Option<Duration>| duration.map(|d| d.0).filter(|ms| *ms > 0);
        let interval_ms = said(section.scrape_interval).unwrap_or(self.interval_ms);
        match said(section.scrape_timeout) {
            Some(timeout_ms) if timeout_ms > interval_ms => Err(format!(
                "scrape timeout greater than scrape interval for scrape config with job name {}",
                quote(&section.job_name)
            )),
            Some(timeout_ms) => Ok((interval_ms, timeout_ms)),
            None => Ok((interval_ms, self.timeout_ms.min(interval_ms))),
        }
    }

    fn protocols(&self, section: &JobSection, native: bool) -> Result<Vec<Protocol>, String> {
        let said = section.scrape_protocols.as_ref().or(self.section.scrape_protocols.as_ref());
        let protocols = match said {
            Some(protocols) => protocols.clone(),
            None if native => Protocol::PROTO_FIRST.to_vec(),
            None => Protocol::DEFAULT.to_vec(),
        };
        let name = quote(&section.job_name);
        check_protocols(&protocols).map_err(|e| format!("{e} for scrape config with job name {name}"))?;
        Ok(protocols)
    }

    /// As the names allow where nothing is said; the global word holds only where the job does not
    /// speak of names at all.
    fn escaping(&self, section: &JobSection, names: NameScheme) -> Result<Escaping, String> {
        let said = match section.metric_name_escaping_scheme.as_str() {
            "" if section.metric_name_validation_scheme.is_empty() => {
                self.section.metric_name_escaping_scheme.as_str()
            }
            own => own,
        };
        let escaping = match (said, names) {
            ("", NameScheme::Utf8) => Escaping::AllowUtf8,
            ("", NameScheme::Legacy) => Escaping::Underscores,
            (name, _) => Escaping::from_name(name).ok_or_else(|| {
                format!(
                    "unknown scrape config name escaping method specified, must be one of 'allow-utf-8', \
                     'underscores', 'dots', or 'values', got {}",
                    quote(name)
                )
            })?,
        };
        if escaping == Escaping::AllowUtf8 && names == NameScheme::Legacy {
            return Err("utf8 metric names requested but validation scheme is not set to UTF8".to_owned());
        }
        Ok(escaping)
    }
}

fn name_scheme(said: &str, unsaid: NameScheme) -> Result<NameScheme, String> {
    match said {
        "" => Ok(unsaid),
        "utf8" => Ok(NameScheme::Utf8),
        "legacy" => Ok(NameScheme::Legacy),
        other => Err(format!(
            "unknown scrape config name validation method specified, must be either '', 'legacy' or 'utf8', got {other}"
        )),
    }
}

fn check_protocols(protocols: &[Protocol]) -> Result<(), String> {
    if protocols.is_empty() {
        return Err("scrape_protocols cannot be empty".to_owned());
    }
    let twice = protocols.iter().enumerate().any(|(i, p)| protocols.iter().skip(i + 1).any(|q| p == q));
    if twice { Err("duplicated protocol in scrape_protocols".to_owned()) } else { Ok(()) }
}

fn rules(specs: &[RuleSpec], names: NameScheme) -> Result<Vec<Rule>, String> {
    specs
        .iter()
        .map(|spec| Rule::new(RuleSpec { names, ..spec.clone() }).map_err(|e| e.to_string()))
        .collect()
}

impl Job {
    /// The intervals as the labels of a target say them.
    pub(crate) fn interval_text(&self) -> String {
        format_duration_ms(self.interval_ms)
    }

    pub(crate) fn timeout_text(&self) -> String {
        format_duration_ms(self.timeout_ms)
    }
}
