//! What is sent, at first and after a redirect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::HttpError;
use crate::words::{Compression, HttpMethod, HttpSettings};

const USER_AGENT: &str = concat!("pilothouse-synthetic-monitoring/", env!("CARGO_PKG_VERSION"));
const RUN_BY: HeaderName = HeaderName::from_static("x-sm-id");

#[derive(Debug, Clone)]
pub(in crate::probe) struct Sent {
    pub(in crate::probe) method: Method,
    pub(in crate::probe) headers: HeaderMap,
    pub(in crate::probe) body: Bytes,
}

pub(super) fn first(
    settings: &HttpSettings,
    oauth_token: Option<String>,
    run_by: &str,
) -> Result<Sent, HttpError> {
    let method = HttpMethod::try_from(settings.method).unwrap_or_default().text();
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(coding) = accepted(settings) {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(coding));
    }
    if let Some(value) = authorization(settings, oauth_token) {
        let mut value = HeaderValue::from_str(&value).map_err(|e| HttpError::Request(e.to_string()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    for line in &settings.headers {
        let (name, value) = read_line(line)?;
        headers.insert(name, value);
    }
    set_run_by(&mut headers, run_by);
    Ok(Sent {
        method: Method::from_bytes(method.as_bytes()).unwrap_or_default(),
        headers,
        body: Bytes::from(settings.body.clone().into_bytes()),
    })
}

/// Cannot be overridden: targets know by it who asks.
pub(in crate::probe) fn set_run_by(headers: &mut HeaderMap, run_by: &str) {
    match HeaderValue::from_str(run_by) {
        Ok(value) if !run_by.is_empty() => drop(headers.insert(RUN_BY, value)),
        _ => drop(headers.remove(RUN_BY)),
    }
}

/// `Name: value`.
pub(super) fn read_line(line: &str) -> Result<(HeaderName, HeaderValue), HttpError> {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let wrong = || HttpError::Request(format!("invalid header {name:?}"));
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

fn accepted(settings: &HttpSettings) -> Option<&'static str> {
    match Compression::try_from(settings.compression).unwrap_or_default() {
        Compression::None => None,
        coding => Some(coding.text()),
    }
}

fn authorization(settings: &HttpSettings, oauth_token: Option<String>) -> Option<String> {
    if let Some(basic) = &settings.basic_auth {
        return Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", basic.username, basic.password))));
    }
    if !settings.bearer_token.is_empty() {
        return Some(format!("Bearer {}", settings.bearer_token));
    }
    oauth_token.map(|token| format!("Bearer {token}"))
}

impl Sent {
    /// What follows a redirect: as browsers and Go do, 307 and 308 repeat the request, the others
    /// ask with GET. Credentials do not go to another origin.
    pub(super) fn redirected(mut self, status: StatusCode, same_origin: bool) -> Self {
        let repeats = matches!(status.as_u16(), 307 | 308);
        if !repeats && self.method != Method::HEAD {
            self.method = Method::GET;
            self.body = Bytes::new();
            self.headers.remove(header::CONTENT_TYPE);
            self.headers.remove(header::CONTENT_LENGTH);
        }
        if !same_origin {
            self.headers.remove(header::AUTHORIZATION);
            self.headers.remove(header::COOKIE);
        }
        self.headers.remove(header::HOST);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_changes_method_body_and_credentials() {
        let settings = HttpSettings {
            method: HttpMethod::Post as i32,
            body: "b".into(),
            bearer_token: "t".into(),
            headers: vec!["Content-Type: a/b".into(), "x-sm-id: mine".into(), "User-Agent: me".into()],
            ..HttpSettings::default()
        };
        let sent = first(&settings, None, "1-2").unwrap();
        assert_eq!(
            (sent.headers[RUN_BY].as_bytes(), sent.headers[header::USER_AGENT].as_bytes()),
            (&b"1-2"[..], &b"me"[..])
        );
        let again = sent.clone().redirected(StatusCode::TEMPORARY_REDIRECT, true);
        assert_eq!((again.method, again.body.len()), (Method::POST, 1));
        assert!(again.headers.contains_key(header::AUTHORIZATION));
        let other = sent.redirected(StatusCode::FOUND, false);
        assert_eq!((other.method, other.body.len()), (Method::GET, 0));
        assert!(
            !other.headers.contains_key(header::AUTHORIZATION)
                && !other.headers.contains_key(header::CONTENT_TYPE)
        );
    }
}
