//! A token by client credentials (RFC 6749, section 4.4), asked for anew in each run: a check
//! that kept one would not see its issuer fail.

use bytes::Bytes;
use cookie_store::CookieStore;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use url::Url;

use super::{Hop, HttpError, Phases, Sent};
use crate::probe::LocalProber;
use crate::run::Recorder;
use crate::words::{HttpSettings, OAuth2Config};

#[derive(Deserialize)]
struct Granted {
    access_token: String,
}

/// `None` where the check does not ask for one. Its request follows the rules of targets; its
/// time belongs to no phase.
pub(super) async fn token(
    prober: &LocalProber,
    settings: &HttpSettings,
    recorder: &mut Recorder,
) -> Result<Option<String>, HttpError> {
    let Some(oauth) = &settings.oauth2_config else { return Ok(None) };
    let url = Url::parse(&oauth.token_url).map_err(|e| HttpError::Token(e.to_string()))?;
    let own = HttpSettings {
        ip_version: settings.ip_version,
        tls_config: oauth.tls_config.clone(),
        proxy_url: oauth.proxy_url.clone(),
        ..HttpSettings::default()
    };
    let hop = Hop { prober, settings: &own };
    let sent = Sent { method: Method::POST, headers: headers(), body: form(oauth) };
    let mut aside = Recorder::default();
    let answer = hop.send(&url, &sent, &CookieStore::default(), &mut Phases::default(), &mut aside).await?;
    if !answer.status.is_success() {
        return Err(HttpError::Token(format!("answered {}", answer.status.as_u16())));
    }
    let granted: Granted =
        serde_json::from_slice(&answer.body).map_err(|e| HttpError::Token(format!("gave no token: {e}")))?;
    recorder.info("Got an access token", &[("url", &url)]);
    Ok(Some(granted.access_token))
}

fn headers() -> HeaderMap {
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    HeaderMap::from_iter([(header::CONTENT_TYPE, form)])
}

fn form(oauth: &OAuth2Config) -> Bytes {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    form.append_pair("client_id", &oauth.client_id).append_pair("client_secret", &oauth.client_secret);
    if !oauth.scopes.is_empty() {
        form.append_pair("scope", &oauth.scopes.join(" "));
    }
    for parameter in &oauth.endpoint_params {
        form.append_pair(&parameter.name, &parameter.value);
    }
    Bytes::from(form.finish())
}
