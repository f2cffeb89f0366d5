//! One request to a target, and what kind of answer it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use pilothouse_model::labels::quote;
use pilothouse_model::limits::UNBOOKED_BYTES;
use pilothouse_model::memory::Reservation;
use pilothouse_model::sample::format_float_plain;
use pilothouse_model::{Memory, NoMemory};
use pilothouse_net::{BuildError, CallError, Client, ClientSettings, HttpOptions, Request, Response, Secret};
use pilothouse_wire::body::{BodyError, Encoding, decompress_booked};
use pilothouse_wire::exposition::TextFormat;

use crate::config::Job;
use crate::config::protocol::{Protocol, accept_header};

/// Why a scrape gave nothing, as `lastError` shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScrapeError {
    #[error("Get {}: {why}", quote(url))]
    Request { url: String, why: String },
    #[error("server returned HTTP status {0}")]
    Status(StatusCode),
    #[error("body size limit exceeded")]
    TooLong,
    #[error("{0}")]
    ContentType(String),
    #[error("{0}")]
    Body(String),
    #[error("sample limit exceeded")]
    SampleLimit,
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    /// Of the whole job: too many targets, or no client can be made.
    #[error("{0}")]
    Forced(String),
    /// Nothing is known of the target then.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

/// What is asked of every target of a job.
#[derive(Debug)]
pub(crate) struct Exchange {
    options: HttpOptions,
    /// Made at the first request that finds the files it needs.
    client: Mutex<Option<Arc<Client>>>,
    accept: String,
    compression: bool,
    fallback: Option<Protocol>,
    max_bytes: u64,
    memory: Arc<Memory>,
}

/// The time limits of requests are the targets'; this is only the one that no target may exceed.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A body as it came.
#[derive(Debug)]
pub(crate) struct Fetched {
    body: Bytes,
    encoding: Encoding,
    form: Form,
    max_bytes: u64,
    memory: Arc<Memory>,
}

/// A body as it was before compression, and room for what is made of it until it is stored.
#[derive(Debug)]
pub(crate) struct Exposed {
    pub(crate) bytes: Bytes,
    pub(crate) form: Form,
    _held: Reservation,
}

/// What samples and their batch take, in times of the body.
const PARSED: u64 = 3;

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text(TextFormat),
    Protobuf,
}

impl Exchange {
    pub(crate) fn new(job: &Job, max_bytes: u64, memory: Arc<Memory>) -> Self {
        Self {
            options: job.http.clone(),
            client: Mutex::default(),
            accept: accept_header(&job.protocols, job.escaping),
            compression: job.compression,
            fallback: job.fallback,
            max_bytes: match job.body_size_limit {
                0 => max_bytes,
                own => own.min(max_bytes),
            },
            memory,
        }
    }

    fn client(&self) -> Result<Arc<Client>, BuildError> {
        let mut slot = self.client.lock();
        if let Some(client) = &*slot {
            return Ok(Arc::clone(client));
        }
        let settings = ClientSettings {
            timeout: LONGEST,
            max_response_bytes: usize::try_from(self.max_bytes).unwrap_or(usize::MAX),
            ..ClientSettings::booking(&self.memory)
        };
        let client = Client::new(&self.options, settings)?;
        Ok(Arc::clone(slot.insert(Arc::new(client))))
    }

    fn headers(&self, timeout: Duration) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let seconds = format_float_plain(timeout.as_secs_f64());
        for (name, value) in [("accept", &self.accept), ("x-prometheus-scrape-timeout-seconds", &seconds)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        let encoding = if self.compression { "gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers
    }

    /// Asks a target, for at most `timeout`.
    pub(crate) async fn fetch(&self, url: &str, timeout: Duration) -> Result<Fetched, ScrapeError> {
        let failed = |why: String| ScrapeError::Request { url: url.to_owned(), why };
        let address = address_of(url);
        let client = self.client().map_err(|e| ScrapeError::Forced(e.to_string()))?;
        let (url, headers) = (Secret::new(url), self.headers(timeout));
        let request = Request { method: Method::GET, url, headers, body: Bytes::new() };
        let answer = tokio::time::timeout(timeout, client.send(request))
            .await
            .map_err(|_| failed("context deadline exceeded".to_owned()))?
            .map_err(|e| match e {
                CallError::NoMemory(full) => full.into(),
                e => failed(cause(&e.to_string(), address)),
            })?;
        if answer.status != StatusCode::OK {
            return Err(ScrapeError::Status(answer.status));
        }
        if answer.body.len() as u64 >= self.max_bytes {
            return Err(ScrapeError::TooLong);
        }
        let text = |name| answer.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("");
        let encoding = match text(header::CONTENT_ENCODING) {
            "gzip" => Encoding::Gzip,
            _ => Encoding::Identity,
        };
        let form = form(text(header::CONTENT_TYPE), self.fallback)?;
        let Response { body, .. } = answer;
        Ok(Fetched { body, encoding, form, max_bytes: self.max_bytes, memory: Arc::clone(&self.memory) })
    }
}

/// Host and port of an address with a scheme.
fn address_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

/// Why a target cannot be reached; the usual cause in the words that those who watch Prometheus
/// look for.
fn cause(text: &str, address: &str) -> String {
    if text.contains("Connection refused") {
        format!("dial tcp {address}: connect: connection refused")
    } else {
        text.to_owned()
    }
}

impl Fetched {
    /// Undoes the compression.
    pub(crate) fn expose(self) -> Result<Exposed, ScrapeError> {
        let Self { body, encoding, form, max_bytes, memory } = self;
        // As much of what is made of a body needs no asking as of the body itself.
        let mut held = Reservation::beyond(UNBOOKED_BYTES * (1 + PARSED), &memory);
        let bytes = match encoding {
            Encoding::Identity => body,
            // A body as long as the limit is refused, as one without compression is.
            _ => decompress_booked(encoding, &body, max_bytes.saturating_sub(1), &mut held)?.into(),
        };
        held.grow(bytes.len() as u64 * PARSED)?;
        Ok(Exposed { bytes, form, _held: held })
    }
}

impl From<BodyError> for ScrapeError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::TooLong,
            BodyError::NoMemory(full) => Self::NoMemory(full),
            e => Self::Body(e.to_string()),
        }
    }
}

/// What a `Content-Type` says, or the job says in its place. Prometheus' texts.
fn form(content_type: &str, fallback: Option<Protocol>) -> Result<Form, ScrapeError> {
    let kind = media_type(content_type);
    let of = |kind: &str| match kind {
        "application/openmetrics-text" => Some(Form::Text(TextFormat::OpenMetrics)),
        "application/vnd.google.protobuf" => Some(Form::Protobuf),
        "text/plain" => Some(Form::Text(TextFormat::Prometheus)),
        _ => None,
    };
    let said =
        kind.as_deref().and_then(of).or_else(|| fallback.and_then(|protocol| of(protocol.media_type())));
    said.ok_or_else(|| {
        let shown = quote(content_type);
        ScrapeError::ContentType(if content_type.is_empty() {
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol \
             specified for target"
                .to_owned()
        } else if kind.is_some() {
            format!("received unsupported Content-Type {shown} and no fallback_scrape_protocol specified for target")
        } else {
            format!("cannot parse Content-Type {shown} and no fallback_scrape_protocol for target")
        })
    })
}

/// The type without its parameters; `None` where the whole makes no sense, as to Go.
fn media_type(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let kind = parts.next().unwrap_or_default();
    let (major, minor) = kind.split_once('/')?;
    let mut names: Vec<String> = parts
        .filter(|part| !part.is_empty())
        .map(|part| part.split('=').next().unwrap_or_default().trim().to_owned())
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    let is_sound = !major.is_empty() && !minor.is_empty() && !minor.contains('/') && names.len() == count;
    is_sound.then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_the_answer_decides_and_the_fallback_helps() {
        let plain = Form::Text(TextFormat::Prometheus);
        let open = Form::Text(TextFormat::OpenMetrics);
        for (content_type, fallback, expected) in [
            ("text/plain; version=0.0.4; charset=utf-8", None, Ok(plain)),
            ("Text/Plain", None, Ok(plain)),
            ("application/openmetrics-text; version=1.0.0", None, Ok(open)),
            (
                "application/vnd.google.protobuf; proto=x",
                Some(Protocol::PrometheusText0_0_4),
                Ok(Form::Protobuf),
            ),
            ("", Some(Protocol::OpenMetricsText1_0_0), Ok(open)),
            ("text/html", Some(Protocol::PrometheusText1_0_0), Ok(plain)),
            ("", None, Err("non-compliant scrape target sending blank Content-Type")),
            ("text/html", None, Err("received unsupported Content-Type \"text/html\"")),
            ("nonsense", None, Err("cannot parse Content-Type \"nonsense\"")),
            ("invalid/", None, Err("cannot parse Content-Type")),
            ("/", None, Err("cannot parse Content-Type")),
            ("a/b/c", None, Err("cannot parse Content-Type")),
            ("a/b/c", Some(Protocol::PrometheusText0_0_4), Ok(plain)),
            ("text/plain; charset=a; charset=b", None, Err("cannot parse Content-Type")),
            ("text/plain; charset=a; charset=b", Some(Protocol::PrometheusProto), Ok(Form::Protobuf)),
            ("application/openmetrics-text", None, Ok(open)),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", None, Ok(open)),
        ] {
            match (form(content_type, fallback), expected) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{content_type}"),
                (Err(got), Err(wanted)) => assert!(got.to_string().starts_with(wanted), "{got}"),
                (got, _) => panic!("{content_type}: {got:?}"),
            }
        }
    }
}
