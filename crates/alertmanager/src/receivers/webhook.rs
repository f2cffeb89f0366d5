//! Webhooks: version 4 of Alertmanager's payload, or one of the user's own.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{Caller, Judge, OwnHttp, check_http, inherit_http, secret};
use super::message::Rendering;
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, TemplateUrl};

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebhookConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub url: TemplateUrl,
    pub url_file: String,
    /// 0: all of them.
    pub max_alerts: usize,
    pub timeout: GoMillis,
    pub payload: Option<Json>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            url: TemplateUrl::default(),
            url_file: String::new(),
            max_alerts: 0,
            timeout: GoMillis(0),
            payload: None,
        }
    }
}

impl Kind for WebhookConfig {
    basics!("webhook", url_file);

    fn check(&self) -> Result<(), String> {
        match (self.url.0.is_empty(), self.url_file.is_empty()) {
            (true, true) => Err("one of url or url_file must be configured".to_owned()),
            (false, false) => Err("at most one of url & url_file must be configured".to_owned()),
            _ => check_http(&self.http_config),
        }
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, self.timeout)?;
        Ok(Box::new(Webhook { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Webhook {
    options: WebhookConfig,
    caller: Caller,
}

impl Notifier for Webhook {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let url = secret(&self.options.url.0, &self.options.url_file).await?;
            let (rendering, truncated) = message.rendering_first(self.options.max_alerts);
            let url = rendering.text(url.expose())?;
            if url.is_empty() {
                return Err(Failure::invalid("webhook URL is empty after templating"));
            }
            let body = match &self.options.payload {
                Some(payload) => rendering.deep(payload)?.to_string(),
                None => payload(&rendering, message, "4", truncated),
            };
            drop(rendering);
            let answer = self.caller.post_printed(&url, body).await?;
            Judge::PLAIN.check(&answer)
        })
    }
}

/// The payload of a version, with all its fields. Printed alert by alert: as values, very many of
/// them would take many times the memory.
pub(super) fn payload(
    rendering: &Rendering<'_>,
    message: &Message,
    version: &str,
    truncated: usize,
) -> String {
    let data = &rendering.data;
    let alerts: Vec<String> = data.alerts.iter().map(|alert| alert.to_json().to_string()).collect();
    let rest = json!({
        "receiver": data.receiver,
        "status": data.status,
        "notification_reason": data.notification_reason,
        "groupLabels": data.group_labels,
        "commonLabels": data.common_labels,
        "commonAnnotations": data.common_annotations,
        "routeLabels": data.route_labels,
        "externalURL": data.external_url,
        "version": version,
        "groupKey": &*message.group_key,
        "truncatedAlerts": truncated,
    })
    .to_string();
    let rest = rest.strip_prefix('{').unwrap_or(&rest);
    format!("{{\"alerts\":[{}],{rest}", alerts.join(","))
}
