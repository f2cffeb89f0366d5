//! Access tokens by client credentials (RFC 6749, 4.4), kept until shortly before they end.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, header};
use pilothouse_model::limits::UNBOOKED_BYTES;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::client::{Client, ClientSettings, Request, basic, read_secret};
use crate::options::OAuth2;
use crate::{BuildError, CallError, Secret};

/// A token is renewed this long before it ends.
const EARLY: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

struct Held {
    header: HeaderValue,
    until: Option<Instant>,
}

pub(crate) struct Tokens {
    options: OAuth2,
    client: Box<Client>,
    held: Mutex<Option<Held>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("client_id", &self.options.client_id).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(options: &OAuth2, settings: &ClientSettings) -> Result<Self, BuildError> {
        // However long the answers are that the token is for, a token is short.
        let settings = ClientSettings { max_response_bytes: UNBOOKED_BYTES as usize, ..settings.clone() };
        let client = Client::new(&options.token_options(), settings)?;
        Ok(Self { options: options.clone(), client: Box::new(client), held: Mutex::new(None) })
    }

    /// The header `Authorization`; asks for a token where none is held that lasts.
    pub(crate) async fn header(&self) -> Result<HeaderValue, CallError> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.as_ref().filter(|t| t.until.is_none_or(|u| Instant::now() < u)) {
            return Ok(token.header.clone());
        }
        let granted = self.fetch().await?;
        let kind = if granted.token_type.eq_ignore_ascii_case("bearer") || granted.token_type.is_empty() {
            "Bearer"
        } else {
            granted.token_type.as_str()
        };
        let header = secret_header(&format!("{kind} {}", granted.access_token.expose()))?;
        let lasts = granted.expires_in.filter(|s| *s > 0.0 && *s < 1e9).map(Duration::from_secs_f64);
        let until = lasts.map(|lasts| Instant::now() + lasts.saturating_sub(EARLY));
        *held = Some(Held { header: header.clone(), until });
        Ok(header)
    }

    /// Forgets a token that the other side did not take.
    pub(crate) async fn forget(&self) {
        *self.held.lock().await = None;
    }

    async fn fetch(&self) -> Result<Granted, CallError> {
        let secret = read_secret(&self.options.client_secret, &self.options.client_secret_file).await?;
        // As Go's client does: the credentials in a header first, then among the parameters.
        match self.ask(&secret, true).await {
            Err(CallError::Token(_)) => self.ask(&secret, false).await,
            other => other,
        }
    }

    fn request(&self, secret: &Secret, in_header: bool) -> Result<Request, CallError> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !self.options.scopes.is_empty() {
            form.append_pair("scope", &self.options.scopes.join(" "));
        }
        for (name, value) in &self.options.endpoint_params {
            form.append_pair(name, value);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if in_header {
            headers.insert(header::AUTHORIZATION, basic(&self.options.client_id, secret.expose())?);
        } else {
            form.append_pair("client_id", &self.options.client_id);
            form.append_pair("client_secret", secret.expose());
        }
        Ok(Request {
            method: Method::POST,
            url: Secret::new(self.options.token_url.clone()),
            headers,
            body: form.finish().into(),
        })
    }

    async fn ask(&self, secret: &Secret, in_header: bool) -> Result<Granted, CallError> {
        let request = self.request(secret, in_header)?;
        let answer = self.client.send_plain(request).await?;
        if !answer.status.is_success() {
            return Err(CallError::Token(format!("cannot fetch token: status {}", answer.status.as_u16())));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|_| CallError::Token("cannot parse the answer with the token".to_owned()))
    }
}

pub(crate) fn secret_header(text: &str) -> Result<HeaderValue, CallError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| CallError::Invalid("credentials hold characters that no header may".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
