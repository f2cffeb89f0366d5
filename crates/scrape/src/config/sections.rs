//! What may be written, section by section, before it is checked against the whole.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::http::section_with_http;
use super::protocol::Protocol;
use super::text::{Duration, Size, text, text_lists, text_map};
use crate::relabel::RuleSpec;

/// The section `global`: defaults of all jobs.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlobalSection {
    pub scrape_interval: Option<Duration>,
    pub scrape_timeout: Option<Duration>,
    pub scrape_protocols: Option<Vec<Protocol>>,
    /// Of rules; taken by the ruler, as are the external labels.
    pub evaluation_interval: Option<Duration>,
    #[serde(deserialize_with = "text_map")]
    pub external_labels: BTreeMap<String, String>,
    pub body_size_limit: Size,
    pub sample_limit: u64,
    pub target_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub keep_dropped_targets: u64,
    pub metric_name_validation_scheme: String,
    pub metric_name_escaping_scheme: String,
    pub scrape_native_histograms: bool,
    pub always_scrape_classic_histograms: bool,
    pub convert_classic_histograms_to_nhcb: bool,
    pub extra_scrape_metrics: bool,
}

section_with_http! {
    /// One entry of `scrape_configs`.
    pub struct JobSection {
        #[serde(deserialize_with = "text")]
        pub job_name: String = String::new(),
        pub scrape_interval: Option<Duration> = None,
        pub scrape_timeout: Option<Duration> = None,
        pub scrape_protocols: Option<Vec<Protocol>> = None,
        pub fallback_scrape_protocol: Option<Protocol> = None,
        pub honor_labels: bool = false,
        pub honor_timestamps: bool = true,
        pub track_timestamps_staleness: bool = false,
        #[serde(deserialize_with = "text_lists")]
        pub params: BTreeMap<String, Vec<String>> = BTreeMap::new(),
        pub metrics_path: String = "/metrics".to_owned(),
        pub scheme: String = "http".to_owned(),
        pub enable_compression: bool = true,
        pub body_size_limit: Size = Size(0),
        pub sample_limit: u64 = 0,
        pub target_limit: u64 = 0,
        pub label_limit: u64 = 0,
        pub label_name_length_limit: u64 = 0,
        pub label_value_length_limit: u64 = 0,
        pub keep_dropped_targets: u64 = 0,
        pub native_histogram_bucket_limit: u64 = 0,
        pub native_histogram_min_bucket_factor: f64 = 0.0,
        pub scrape_native_histograms: Option<bool> = None,
        pub always_scrape_classic_histograms: Option<bool> = None,
        pub convert_classic_histograms_to_nhcb: Option<bool> = None,
        pub extra_scrape_metrics: Option<bool> = None,
        pub metric_name_validation_scheme: String = String::new(),
        pub metric_name_escaping_scheme: String = String::new(),
        pub relabel_configs: Vec<RuleSpec> = Vec::new(),
        pub metric_relabel_configs: Vec<RuleSpec> = Vec::new(),
        pub static_configs: Vec<GroupSection> = Vec::new(),
        pub file_sd_configs: Vec<FileSection> = Vec::new(),
        pub http_sd_configs: Vec<HttpSection> = Vec::new(),
        pub docker_sd_configs: Vec<DockerSection> = Vec::new(),
    }
}

impl JobSection {
    /// A job of which nothing is said but its name.
    pub(crate) fn named(name: &str) -> Self {
        let mut section = Self::default();
        name.clone_into(&mut section.job_name);
        section
    }
}

/// A group of targets, as it stands in configurations and in what discoveries read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupSection {
    pub targets: Vec<String>,
    #[serde(deserialize_with = "text_map")]
    pub labels: BTreeMap<String, String>,
}

/// An entry of `file_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSection {
    pub files: Vec<String>,
    pub refresh_interval: Duration,
}

impl Default for FileSection {
    fn default() -> Self {
        Self { files: Vec::new(), refresh_interval: Duration(5 * 60_000) }
    }
}

section_with_http! {
    /// An entry of `http_sd_configs`.
    pub struct HttpSection {
        pub url: String = String::new(),
        pub refresh_interval: Duration = Duration(60_000),
    }
}

section_with_http! {
    /// An entry of `docker_sd_configs`.
    pub struct DockerSection {
        pub host: String = String::new(),
        pub port: u16 = 80,
        pub filters: Vec<DockerFilter> = Vec::new(),
        pub host_networking_host: String = "localhost".to_owned(),
        pub refresh_interval: Duration = Duration(60_000),
        pub match_first_network: bool = true,
    }
}

/// What containers must be like, as the Docker daemon understands it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DockerFilter {
    pub name: String,
    pub values: Vec<String>,
}

/// A file that `scrape_config_files` names.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JobFile {
    pub(crate) scrape_configs: Vec<JobSection>,
}
