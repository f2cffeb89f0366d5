//! Calls to either side, again where that may help.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pilothouse_model::limits::{MOVE_ANSWER_BYTES, MOVE_TRIES, MOVE_WAIT_SECONDS};
use pilothouse_net::{Client, Request, Response, Secret};

use super::super::client::{CommandError, Server};
use super::super::progress::say;

/// Longer than a server works on a query by default.
const TIMEOUT: Duration = Duration::from_secs(300);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(MOVE_WAIT_SECONDS);

/// One of the two servers.
#[derive(Debug)]
pub(super) struct Peer {
    client: Client,
    /// Secret, since it may hold a password.
    url: Secret,
    headers: HeaderMap,
    host: String,
    /// A server that never answered is more likely misspelt than busy.
    has_answered: Cell<bool>,
}

impl Peer {
    pub(super) fn here(server: &Server, root: &str) -> Result<Self, CommandError> {
        let mut headers = HeaderMap::new();
        let token = server.token()?;
        if !token.is_empty() {
            headers.insert("x-token", secret_value(token.expose())?);
        }
        Self::new(server, &format!("{}{root}", server.url()), headers)
    }

    pub(super) fn there(server: &Server, url: &str, said: &[String]) -> Result<Self, CommandError> {
        let mut headers = HeaderMap::new();
        for text in said {
            let wrong = || CommandError::Usage(format!("a header is NAME: VALUE, not {:?}", name_of(text)));
            let (name, value) = text.split_once(':').ok_or_else(wrong)?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
            let value = match value.trim().strip_prefix("file:") {
                Some(path) => std::fs::read_to_string(path)
                    .map_err(|e| CommandError::Usage(format!("cannot read a header from {path}: {e}")))?,
                None => value.to_owned(),
            };
            headers.append(name, secret_value(value.trim())?);
        }
        Self::new(server, url.trim_end_matches('/'), headers)
    }

    fn new(server: &Server, url: &str, headers: HeaderMap) -> Result<Self, CommandError> {
        let uri = url.parse::<http::Uri>();
        let authority = uri.ok().and_then(|uri| Some(uri.authority()?.as_str().to_owned()));
        let authority =
            authority.ok_or_else(|| CommandError::Usage("an address is http://HOST:PORT".to_owned()))?;
        let host = authority.rsplit('@').next().unwrap_or_default().to_owned();
        let client = server.client_for(url, TIMEOUT, MOVE_ANSWER_BYTES)?;
        Ok(Self { client, url: Secret::new(url), headers, host, has_answered: Cell::new(false) })
    }

    /// Without what is secret in its address.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Calls until there is an answer that will not change by waiting. `path` is put behind the
    /// address.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        own: &[(&'static str, &'static str)],
        body: Bytes,
    ) -> Result<Response, CommandError> {
        let mut headers = self.headers.clone();
        for (name, value) in own {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let url = Secret::new(format!("{}{path}", self.url.expose()));
        let (mut wait, mut tries) = (FIRST_WAIT, 0);
        loop {
            let request = Request {
                method: method.clone(),
                url: url.clone(),
                headers: headers.clone(),
                body: body.clone(),
            };
            tries += 1;
            let asked = match self.client.send(request).await {
                Ok(answer) if !is_temporary(answer.status) => {
                    self.has_answered.set(true);
                    return Ok(answer);
                }
                Ok(answer) if tries < MOVE_TRIES => {
                    self.has_answered.set(true);
                    say(&format!("{} answered {}; trying again", self.host, answer.status.as_u16()));
                    retry_after(&answer)
                }
                Ok(answer) => return Err(self.refused(&answer)),
                Err(cause) if cause.is_temporary() && self.has_answered.get() && tries < MOVE_TRIES => {
                    say(&format!("{}: {cause}; trying again", self.host));
                    None
                }
                Err(cause) => return Err(CommandError::Unreachable { url: self.host.clone(), cause }),
            };
            tokio::time::sleep(asked.unwrap_or(wait).min(MAX_WAIT)).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
    }

    /// The answer of a query, or `None` where it is too large to be taken in or to be made, so that
    /// less of it may do.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        own: &[(&'static str, &'static str)],
        body: Bytes,
    ) -> Result<Option<Response>, CommandError> {
        let answer = self.call(method, path, own, body).await?;
        let too_large = matches!(answer.status.as_u16(), 413 | 422)
            || answer.status.is_success() && answer.body.len() >= MOVE_ANSWER_BYTES;
        match answer.status.is_success() {
            _ if too_large => Ok(None),
            true => Ok(Some(answer)),
            false => Err(self.refused(&answer)),
        }
    }

    pub(super) fn refused(&self, answer: &Response) -> CommandError {
        let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
        CommandError::OtherRefused { host: self.host.clone(), status: answer.status.as_u16(), text }
    }
}

fn is_temporary(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn secret_value(text: &str) -> Result<HeaderValue, CommandError> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| CommandError::Usage("a token or header has characters that none has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What stands in front of the secret.
fn name_of(header: &str) -> &str {
    header.split([':', ' ']).next().unwrap_or_default()
}
