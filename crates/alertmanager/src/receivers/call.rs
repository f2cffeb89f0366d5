//! What receivers over HTTP share: the client, the check of an answer, shortened texts.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pilothouse_net::{CallError, Client, ClientSettings, HttpOptions, Request, Response, Secret};
use serde_json::Value as Json;

use super::Failure;
use crate::config::{Global, GoMillis};
use crate::telemetry::FailureReason;

/// Alertmanager's name is what services and their proxies know.
pub(crate) const USER_AGENT: &str = concat!("Alertmanager/", env!("CARGO_PKG_VERSION"));

/// The options of calls: an integration's own, or those of `global`.
pub(crate) type OwnHttp = Option<HttpOptions>;

pub(crate) fn check_http(options: &OwnHttp) -> Result<(), String> {
    options.as_ref().map_or(Ok(()), |o| o.validate().map_err(|e| e.to_string()))
}

pub(crate) fn inherit_http(options: &mut OwnHttp, global: &Global) {
    options.get_or_insert_with(|| global.http_config.clone());
}

/// Takes a secret, or the file it lies in, from the global options where a receiver has neither.
/// `None` where there is none at all.
pub(crate) fn inherit_secret(own: (&mut Secret, &mut String), global: (&Secret, &String)) -> Option<()> {
    if own.0.is_empty() && own.1.is_empty() {
        *own.0 = global.0.clone();
        own.1.clone_from(global.1);
    }
    (!own.0.is_empty() || !own.1.is_empty()).then_some(())
}

pub(crate) fn http_in(options: &mut OwnHttp, directory: &Path) {
    if let Some(options) = options {
        options.set_directory(directory);
    }
}

/// A client with the checks of answers.
#[derive(Debug)]
pub(crate) struct Caller {
    client: Client,
}

/// How answers of a service are judged.
#[derive(Clone, Copy)]
pub(crate) struct Judge {
    /// Statuses below 500 that are worth another try.
    pub(crate) retry: &'static [u16],
    /// What a failure says besides its status; the body where this is not given.
    pub(crate) detail: Option<fn(&Bytes) -> String>,
}

impl Judge {
    pub(crate) const PLAIN: Self = Self { retry: &[], detail: None };

    pub(crate) const fn retrying(retry: &'static [u16]) -> Self {
        Self { retry, detail: None }
    }

    /// 2xx is success; 5xx, and what the service says so of, is worth another try.
    pub(crate) fn check(&self, answer: &Response) -> Result<(), Failure> {
        let status = answer.status.as_u16();
        if answer.status.is_success() {
            return Ok(());
        }
        let detail = match self.detail {
            Some(detail) => detail(&answer.body),
            None => String::from_utf8_lossy(&answer.body).trim().to_owned(),
        };
        let mut text = format!("unexpected status code {status}");
        if !detail.is_empty() {
            text = format!("{text}: {}", shorten(&detail, 1024));
        }
        let retry = status / 100 == 5 || self.retry.contains(&status);
        Err(Failure { retry, reason: FailureReason::of_status(status), text })
    }
}

impl Caller {
    pub(crate) fn new(options: &OwnHttp, timeout: GoMillis) -> Result<Self, String> {
        // Notifications go out while memory is short. How long an answer may be and how many are under way
        // bounds what they take.
        let usual = ClientSettings::booking(&Arc::default()).never_refused();
        let mut settings = ClientSettings { user_agent: USER_AGENT.to_owned(), ..usual };
        settings.timeout = match u64::try_from(timeout.0) {
            Ok(ms @ 1..) => std::time::Duration::from_millis(ms),
            _ => super::LONGEST_TRY,
        };
        let options = options.clone().unwrap_or_default();
        let client = Client::new(&options, settings).map_err(|e| e.to_string())?;
        Ok(Self { client })
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.client.send(request).await.map_err(|error| {
            let reason = match &error {
                CallError::Timeout(_) => FailureReason::ContextDeadlineExceeded,
                CallError::Token(_) => FailureReason::AuthError,
                _ => FailureReason::Other,
            };
            Failure { retry: error.is_temporary(), reason, text: error.to_string() }
        })
    }

    pub(crate) async fn post_json(&self, url: &str, body: &Json) -> Result<Response, Failure> {
        self.send(json_request(Method::POST, url, body, HeaderMap::new())).await
    }

    /// JSON that is printed already.
    pub(crate) async fn post_printed(&self, url: &str, body: String) -> Result<Response, Failure> {
        self.send(printed_request(Method::POST, url, body, HeaderMap::new())).await
    }
}

/// Headers by name and value; a value that no header may hold is a failure that says whose.
pub(crate) fn headers(pairs: &[(HeaderName, &str)]) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| Failure::invalid(format!("header {name} cannot hold its value")))?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

pub(crate) fn json_request(method: Method, url: &str, body: &Json, headers: HeaderMap) -> Request {
    printed_request(method, url, body.to_string(), headers)
}

/// A line feed follows the JSON, as Go's encoder writes it.
fn printed_request(method: Method, url: &str, mut body: String, mut headers: HeaderMap) -> Request {
    body.push('\n');
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Request { method, url: Secret::new(url), headers, body: body.into() }
}

pub(crate) fn form_request(url: &str, form: &[(&str, &str)]) -> Request {
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(header::CONTENT_TYPE, kind);
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    Request { method: Method::POST, url: Secret::new(url), headers, body: body.into() }
}

/// A text that stands in the path of an address, as it is: it begins neither a query nor a fragment.
pub(crate) fn in_path(text: &str) -> String {
    text.replace('%', "%25").replace('?', "%3F").replace('#', "%23")
}

/// A secret, or what its file holds.
pub(crate) async fn secret(secret: &Secret, file: &str) -> Result<Secret, Failure> {
    pilothouse_net::client::read_secret(secret, file).await.map_err(Failure::invalid)
}

/// An object without its fields that are empty.
pub(crate) fn without_empty(object: Json) -> Json {
    let Json::Object(mut map) = object else { return object };
    map.retain(|_, value| match value {
        Json::Null => false,
        Json::String(s) => !s.is_empty(),
        Json::Array(a) => !a.is_empty(),
        Json::Object(o) => !o.is_empty(),
        Json::Bool(b) => *b,
        Json::Number(n) => n.as_f64() != Some(0.0),
    });
    Json::Object(map)
}

/// At most so many characters; what is cut ends in an ellipsis.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    if most <= 3 {
        return text.chars().take(most).collect();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// At most so many bytes; what is cut ends in an ellipsis, which takes three.
pub(crate) fn shorten_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    if most < 3 {
        return ".".repeat(most);
    }
    let end = (0..=most - 3).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_characters() {
        assert_eq!([shorten("äöü", 3), shorten("äöüß", 2), shorten("abcdef", 5)], ["äöü", "äö", "abcd…"]);
        assert_eq!(
            [shorten_bytes("äöü", 6), shorten_bytes("äöüß", 6), shorten_bytes("abcd", 2)],
            ["äöü", "ä…", ".."]
        );
    }
}
