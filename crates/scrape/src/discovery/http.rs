//! `http_sd_configs`: groups as JSON from an endpoint.

use std::path::Path;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use pilothouse_model::sample::format_float_plain;
use pilothouse_net::{Client, ClientSettings, HttpOptions, Request, Secret};

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
}

#[derive(Debug)]
pub(super) struct Endpoint {
    settings: Settings,
    max_bytes: u64,
    client: Option<Client>,
}

impl Endpoint {
    pub(super) fn new(settings: Settings, max_bytes: u64) -> Self {
        Self { settings, max_bytes, client: None }
    }

    pub(super) fn interval(&self) -> Duration {
        interval(self.settings.refresh_interval)
    }

    pub(super) async fn refresh(&mut self) -> Result<Vec<Group>, DiscoveryError> {
        let url = self.settings.url.clone();
        let every = self.interval();
        let client = client(&mut self.client, &self.settings.http, every, self.max_bytes, None)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Ok(seconds) = HeaderValue::from_str(&format_float_plain(every.as_secs_f64())) {
            headers.insert("X-Prometheus-Refresh-Interval-Seconds", seconds);
        }
        let (body, content_type) = get(client, &url, headers, self.max_bytes).await?;
        if !is_json(&content_type) {
            return Err(DiscoveryError::ContentType(content_type));
        }
        Group::list_from_json(&body, (URL, &url))
    }
}

/// The client, made at the first use, since files of its options may not be there at the start.
pub(super) fn client<'c>(
    slot: &'c mut Option<Client>,
    options: &HttpOptions,
    timeout: Duration,
    max_bytes: u64,
    unix_socket: Option<std::path::PathBuf>,
) -> Result<&'c Client, DiscoveryError> {
    let made = match slot.take() {
        Some(client) => client,
        None => {
            let max_response_bytes = usize::try_from(max_bytes.saturating_add(1)).unwrap_or(usize::MAX);
            let settings =
                ClientSettings { timeout, max_response_bytes, unix_socket, ..ClientSettings::default() };
            Client::new(options, settings)?
        }
    };
    Ok(slot.insert(made))
}

/// The body of an answer with status 200, and its type.
pub(super) async fn get(
    client: &Client,
    url: &str,
    headers: HeaderMap,
    max_bytes: u64,
) -> Result<(Bytes, String), DiscoveryError> {
    let request = Request { method: Method::GET, url: Secret::new(url), headers, body: Bytes::new() };
    let answer = client.send(request).await?;
    if answer.status != StatusCode::OK {
        return Err(DiscoveryError::Status(answer.status));
    }
    if answer.body.len() as u64 > max_bytes {
        return Err(DiscoveryError::TooLong { limit: max_bytes });
    }
    let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    Ok((answer.body, content_type.unwrap_or("").trim().to_owned()))
}

/// `application/json`, the character set perhaps said.
fn is_json(content_type: &str) -> bool {
    let lower = content_type.to_ascii_lowercase();
    let (kind, charset) = lower.split_once(';').map_or((lower.as_str(), "utf-8"), |(kind, parameter)| {
        (kind, parameter.trim().strip_prefix("charset=").unwrap_or("").trim_matches('"'))
    });
    kind == "application/json" && charset == "utf-8"
}
