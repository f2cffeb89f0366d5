//! incident.io: the webhook's payload, as its version 1, to an alert source.

use bytes::Bytes;
use pilothouse_net::Secret;
use pilothouse_net::options::Authorization;
use serde::Deserialize;
use serde_json::Value as Json;

use super::call::{Caller, Judge, OwnHttp, check_http, inherit_http, secret};
use super::webhook::payload;
use super::{Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, at_most_one};

const MAX_PAYLOAD_BYTES: usize = 512 << 10;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IncidentioConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub url: Option<HttpUrl>,
    pub url_file: String,
    pub alert_source_token: Secret,
    pub alert_source_token_file: String,
    pub max_alerts: usize,
    pub timeout: GoMillis,
}

impl Default for IncidentioConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            url: None,
            url_file: String::new(),
            alert_source_token: Secret::default(),
            alert_source_token_file: String::new(),
            max_alerts: 0,
            timeout: GoMillis(0),
        }
    }
}

impl IncidentioConfig {
    fn has_token(&self) -> bool {
        !self.alert_source_token.is_empty() || !self.alert_source_token_file.is_empty()
    }
}

impl Kind for IncidentioConfig {
    basics!("incidentio", url_file, alert_source_token_file);

    fn check(&self) -> Result<(), String> {
        match (self.url.is_some(), !self.url_file.is_empty()) {
            (false, false) => return Err("one of url or url_file must be configured".to_owned()),
            (true, true) => return Err("at most one of url & url_file must be configured".to_owned()),
            _ => {}
        }
        at_most_one(
            !self.alert_source_token.is_empty(),
            !self.alert_source_token_file.is_empty(),
            "alert_source_token & alert_source_token_file",
        )?;
        let authorized = self.http_config.as_ref().map(|h| h.authorization.is_some());
        if authorized == Some(true) && self.has_token() {
            return Err(
                "cannot specify alert_source_token or alert_source_token_file when using http_config.authorization"
                    .to_owned(),
            );
        }
        if authorized == Some(false) && !self.has_token() {
            return Err("at least one of alert_source_token, alert_source_token_file or http_config.authorization must be configured".to_owned());
        }
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        if self.has_token()
            && let Some(http) = &mut self.http_config
        {
            http.authorization = Some(Authorization {
                credentials: self.alert_source_token.clone(),
                credentials_file: self.alert_source_token_file.clone(),
                ..Authorization::default()
            });
        }
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, self.timeout)?;
        Ok(Box::new(Incidentio { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Incidentio {
    options: IncidentioConfig,
    caller: Caller,
}

impl Incidentio {
    /// A body that is too large keeps its first alert.
    fn body(&self, message: &Message) -> String {
        let (mut rendering, truncated) = message.rendering_first(self.options.max_alerts);
        let body = payload(&rendering, message, "1", truncated);
        if body.len() <= MAX_PAYLOAD_BYTES {
            return body;
        }
        rendering.data.alerts.truncate(1);
        payload(&rendering, message, "1", truncated)
    }
}

/// The service explains what it refuses.
fn explanation(body: &Bytes) -> String {
    let Ok(answer) = serde_json::from_slice::<Json>(body) else { return String::new() };
    let errors: Vec<&str> =
        answer["errors"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let errors = errors.join(", ");
    let texts = [answer["message"].as_str(), answer["error"].as_str(), Some(&errors)]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    texts.collect::<Vec<_>>().join(": ")
}

impl Notifier for Incidentio {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let own = Secret::new(self.options.url.clone().unwrap_or_default().0);
            let url = secret(&own, &self.options.url_file).await?;
            let body = self.body(message);
            let answer = self.caller.post_printed(url.expose(), body).await?;
            Judge { retry: &[429], detail: Some(explanation) }.check(&answer)
        })
    }
}
