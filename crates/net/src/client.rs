//! The client: one per set of options, its connections kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pilothouse_model::Memory;
use pilothouse_model::limits::UNBOOKED_BYTES;
use pilothouse_model::memory::Reservation;
use reqwest::redirect::Policy;
use url::Url;

use crate::oauth::{Tokens, secret_header};
use crate::options::{BasicAuth, HttpOptions};
use crate::stream::Streamed;
use crate::websocket::{self, ConnectError, WebSocket};
use crate::{BuildError, CallError, Secret, tls};

/// What holds for every call of a client.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    pub user_agent: String,
    /// The longest time for one call, from the first look at the name to the end of the answer.
    pub timeout: Duration,
    /// How much of an answer's body is read; the rest is not waited for.
    pub max_response_bytes: usize,
    /// Where all calls go, whatever host their address names.
    pub unix_socket: Option<PathBuf>,
    /// Where bodies of answers are booked while they come, and until they are dropped.
    pub memory: Arc<Memory>,
    /// How much of each is counted without asking for room.
    pub free_bytes: u64,
}

impl ClientSettings {
    /// The usual ones. Nothing is called without an account: where there is none, as in a command, an
    /// unlimited one says so.
    pub fn booking(memory: &Arc<Memory>) -> Self {
        Self {
            user_agent: concat!("Pilothouse/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: Duration::from_secs(60),
            max_response_bytes: 256 << 10,
            unix_socket: None,
            memory: Arc::clone(memory),
            free_bytes: UNBOOKED_BYTES,
        }
    }

    /// For calls that have to go through while memory is short, such as what tells of it: their
    /// answers are counted, and bounded by `max_response_bytes` alone.
    pub fn never_refused(self) -> Self {
        Self { free_bytes: u64::MAX, ..self }
    }
}

/// One call. Headers set here win over those of the options, but for the authorization.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// Secret, since it may carry a token.
    pub url: Secret,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// At most `max_response_bytes` of it. Its memory is given back with its last copy.
    pub body: Bytes,
}

/// An HTTP client.
#[derive(Debug)]
pub struct Client {
    inner: reqwest::Client,
    options: HttpOptions,
    tokens: Option<Tokens>,
    max_response_bytes: usize,
    timeout: Duration,
    memory: Arc<Memory>,
    free_bytes: u64,
}

impl Client {
    /// Reads the files of `tls_config` now; files of passwords and tokens are read at each call,
    /// so that they may change.
    pub fn new(options: &HttpOptions, settings: ClientSettings) -> Result<Self, BuildError> {
        options.validate()?;
        let tokens = options.oauth2.as_ref().map(|o| Tokens::new(o, &settings)).transpose()?;
        let inner = builder(options, &settings)?.build().map_err(|e| BuildError::new(e.to_string()))?;
        let ClientSettings { max_response_bytes, timeout, memory, free_bytes, .. } = settings;
        Ok(Self { inner, options: options.clone(), tokens, max_response_bytes, timeout, memory, free_bytes })
    }

    /// Makes a call with everything the options ask for. Answers of any status are answers.
    pub async fn send(&self, mut request: Request) -> Result<Response, CallError> {
        self.complete(&mut request.headers).await?;
        let answer = self.send_plain(request).await?;
        self.heed(answer.status).await;
        Ok(answer)
    }

    /// As [`Client::send`], and gives the body as it comes, at most `max_bytes` of it.
    pub async fn open(&self, mut request: Request, max_bytes: u64) -> Result<Streamed, CallError> {
        self.complete(&mut request.headers).await?;
        let Request { method, url, headers, body } = request;
        let sent = self.inner.request(method, url.expose()).headers(headers).body(body).send().await?;
        let streamed = Streamed::new(sent, max_bytes);
        self.heed(streamed.status).await;
        Ok(streamed)
    }

    /// Opens a WebSocket with everything the options ask for, but a proxy.
    pub async fn follow(
        &self,
        mut request: Request,
        max_message_bytes: usize,
    ) -> Result<WebSocket, ConnectError> {
        self.complete(&mut request.headers).await?;
        let opening = websocket::connect(
            request.url.expose(),
            request.headers,
            &self.options.tls_config,
            max_message_bytes,
        );
        let opened = tokio::time::timeout(self.timeout, opening).await;
        let opened =
            opened.map_err(|_| CallError::Timeout(format!("no connection within {:?}", self.timeout)))?;
        if let Err(ConnectError::Refused { status, .. }) = &opened {
            self.heed(*status).await;
        }
        opened
    }

    /// Adds what the options ask for.
    async fn complete(&self, headers: &mut HeaderMap) -> Result<(), CallError> {
        self.add_headers(headers).await?;
        if let Some(value) = self.authorization().await? {
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(())
    }

    /// An access token that is not taken is not shown again.
    async fn heed(&self, status: StatusCode) {
        if let (Some(tokens), StatusCode::UNAUTHORIZED) = (&self.tokens, status) {
            tokens.forget().await;
        }
    }

    /// Makes a call with the request's own headers alone.
    pub(crate) async fn send_plain(&self, request: Request) -> Result<Response, CallError> {
        let Request { method, url, headers, body } = request;
        let sent = self.inner.request(method, url.expose()).headers(headers).body(body).send().await?;
        let (status, headers) = (sent.status(), sent.headers().clone());
        let body = self.read_body(sent).await?;
        Ok(Response { status, headers, body })
    }

    async fn read_body(&self, mut sent: reqwest::Response) -> Result<Bytes, CallError> {
        let (mut body, mut held) = (BytesMut::new(), Reservation::beyond(self.free_bytes, &self.memory));
        while let Some(chunk) = sent.chunk().await? {
            let room = self.max_response_bytes.saturating_sub(body.len());
            let taken = chunk.get(..room.min(chunk.len())).unwrap_or_default();
            held.grow(taken.len() as u64)?;
            body.extend_from_slice(taken);
            if chunk.len() >= room {
                break;
            }
        }
        Ok(held.attached_to(body))
    }

    async fn add_headers(&self, headers: &mut HeaderMap) -> Result<(), CallError> {
        for (name, wanted) in &self.options.http_headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| CallError::Invalid(format!("http_headers: {name:?} is no name of a header")))?;
            for value in &wanted.values {
                headers.append(name.clone(), secret_header(value)?);
            }
            for value in &wanted.secrets {
                headers.append(name.clone(), secret_header(value.expose())?);
            }
            for file in &wanted.files {
                headers.append(name.clone(), secret_header(read_file(file).await?.expose())?);
            }
        }
        Ok(())
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, CallError> {
        if let Some(tokens) = &self.tokens {
            return tokens.header().await.map(Some);
        }
        if let Some(auth) = &self.options.basic_auth {
            return basic_of(auth).await.map(Some);
        }
        let Some(authorization) = self.options.effective_authorization() else { return Ok(None) };
        let credentials = read_secret(&authorization.credentials, &authorization.credentials_file).await?;
        if credentials.is_empty() {
            return Ok(None);
        }
        secret_header(&format!("{} {}", authorization.kind(), credentials.expose())).map(Some)
    }
}

async fn basic_of(auth: &BasicAuth) -> Result<HeaderValue, CallError> {
    let username = match auth.username_file.as_str() {
        "" => auth.username.clone(),
        file => read_file(file).await?.expose().to_owned(),
    };
    let password = read_secret(&auth.password, &auth.password_file).await?;
    basic(&username, password.expose())
}

pub(crate) fn basic(username: &str, password: &str) -> Result<HeaderValue, CallError> {
    secret_header(&format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}"))))
}

/// The secret, or what a file holds where one is named.
pub async fn read_secret(secret: &Secret, file: &str) -> Result<Secret, CallError> {
    if file.is_empty() { Ok(secret.clone()) } else { read_file(file).await }
}

async fn read_file(file: &str) -> Result<Secret, CallError> {
    let text = tokio::fs::read_to_string(file)
        .await
        .map_err(|e| CallError::Invalid(format!("unable to read file {file}: {e}")))?;
    Ok(Secret::new(text.trim()))
}

fn builder(options: &HttpOptions, settings: &ClientSettings) -> Result<reqwest::ClientBuilder, BuildError> {
    let redirects = match options.follow_redirects {
        true => {
            following(options.http_headers.values().any(|h| !h.secrets.is_empty() || !h.files.is_empty()))
        }
        false => Policy::none(),
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(&settings.user_agent)
        .timeout(settings.timeout)
        .pool_idle_timeout(Duration::from_secs(300))
        .redirect(redirects)
        // The address that one came from may be a secret itself.
        .referer(false)
        .tls_backend_preconfigured(tls::client_config(&options.tls_config)?);
    if !options.enable_http2 {
        builder = builder.http1_only();
    }
    if let Some(path) = &settings.unix_socket {
        builder = builder.unix_socket(path.clone());
    }
    if options.proxy_from_environment {
        return Ok(builder);
    }
    builder = builder.no_proxy();
    if !options.proxy_url.is_empty() {
        builder = builder.proxy(proxy(options)?);
    }
    Ok(builder)
}

/// Elsewhere a redirect brings no authorization along; a secret in another header would go, so that such
/// a redirect is not followed but is the answer.
fn following(has_secret_headers: bool) -> Policy {
    if !has_secret_headers {
        return Policy::default();
    }
    Policy::custom(|attempt| {
        let from = attempt.previous().last().map(Url::origin);
        if from.is_some_and(|from| from != attempt.url().origin()) {
            attempt.stop()
        } else {
            Policy::default().redirect(attempt)
        }
    })
}

fn proxy(options: &HttpOptions) -> Result<reqwest::Proxy, BuildError> {
    let unusable = |e: &dyn std::fmt::Display| BuildError::new(format!("proxy_url: {e}"));
    let mut headers = HeaderMap::new();
    for (name, values) in &options.proxy_connect_header {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| BuildError::new(format!("proxy_connect_header: {name:?} is no name of a header")))?;
        for value in values {
            let value = secret_header(value.expose()).map_err(|e| unusable(&e))?;
            headers.append(name.clone(), value);
        }
    }
    let proxy = reqwest::Proxy::all(&options.proxy_url).map_err(|e| unusable(&e.without_url()))?;
    Ok(proxy.headers(headers).no_proxy(reqwest::NoProxy::from_string(&options.no_proxy)))
}
