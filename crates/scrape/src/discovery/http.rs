//! `http_sd_configs`: groups as JSON from an endpoint.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, header};
use pilothouse_model::Memory;
use pilothouse_model::sample::format_float_plain;
use pilothouse_net::HttpOptions;

use super::ask::Asker;
use super::{DiscoveryError, Group, interval};
use crate::config;
use crate::config::sections::HttpSection;

const URL: &str = "__meta_url";

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    url: String,
    refresh_interval: config::Duration,
    http: HttpOptions,
}

impl Settings {
    pub(super) fn new(section: &HttpSection, directory: &Path) -> Result<Self, String> {
        if section.url.is_empty() {
            return Err("URL is missing".to_owned());
        }
        let scheme_and_rest = section.url.split_once("://").filter(|(s, _)| matches!(*s, "http" | "https"));
        let Some((_, rest)) = scheme_and_rest else {
            return Err("URL scheme must be 'http' or 'https'".to_owned());
        };
        if rest.is_empty() || rest.starts_with('/') {
            return Err("host is missing in URL".to_owned());
        }
        let http = section.http(directory).map_err(|e| e.to_string())?;
        Ok(Self { url: section.url.clone(), refresh_interval: section.refresh_interval, http })
    }

    pub(super) fn asker(&self, max_bytes: u64, memory: &Arc<Memory>) -> Asker {
        Asker::new(self.http.clone(), None, max_bytes, memory)
    }
}

#[derive(Debug)]
pub(super) struct Endpoint {
    settings: Settings,
    asker: Asker,
}

impl Endpoint {
    pub(super) fn new(settings: Settings, asker: Asker) -> Self {
        Self { settings, asker }
    }

    pub(super) fn interval(&self) -> Duration {
        interval(self.settings.refresh_interval)
    }

    pub(super) async fn refresh(&mut self) -> Result<Vec<Group>, DiscoveryError> {
        let url = self.settings.url.clone();
        let every = self.interval();
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Ok(seconds) = HeaderValue::from_str(&format_float_plain(every.as_secs_f64())) {
            headers.insert("X-Prometheus-Refresh-Interval-Seconds", seconds);
        }
        let answer = self.asker.get(&url, headers, every).await?;
        if !is_json(&answer.content_type) {
            return Err(DiscoveryError::ContentType(answer.content_type));
        }
        Group::list_from_json(&answer.body, (URL, &url))
    }
}

/// `application/json`, the character set perhaps said.
fn is_json(content_type: &str) -> bool {
    let lower = content_type.to_ascii_lowercase();
    let (kind, charset) = lower.split_once(';').map_or((lower.as_str(), "utf-8"), |(kind, parameter)| {
        (kind, parameter.trim().strip_prefix("charset=").unwrap_or("").trim_matches('"'))
    });
    kind == "application/json" && charset == "utf-8"
}
