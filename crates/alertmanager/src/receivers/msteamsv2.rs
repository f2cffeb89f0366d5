//! Microsoft Teams by Power Automate: an adaptive card.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{Caller, Judge, OwnHttp, check_http, secret};
use super::discord::check_webhook_url;
use super::{Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, SecretUrl};

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MsteamsV2Config {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub webhook_url: Option<SecretUrl>,
    pub webhook_url_file: String,
    pub title: String,
    pub text: String,
}

impl Default for MsteamsV2Config {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            webhook_url: None,
            webhook_url_file: String::new(),
            title: template!("msteamsv2.default.title"),
            text: template!("msteamsv2.default.text"),
        }
    }
}

impl Kind for MsteamsV2Config {
    basics!("msteamsv2", webhook_url_file);

    fn check(&self) -> Result<(), String> {
        check_webhook_url(&self.webhook_url, &self.webhook_url_file)?;
        check_http(&self.http_config)
    }

    /// Of all kinds this one alone takes the proxy of `global` into options of its own.
    fn complete(&mut self, global: &Global) -> Result<(), String> {
        let http = self.http_config.get_or_insert_with(|| global.http_config.clone());
        if http.proxy_url.is_empty() && !http.proxy_from_environment {
            http.proxy_url.clone_from(&global.http_config.proxy_url);
        }
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(MsteamsV2 { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct MsteamsV2 {
    options: MsteamsV2Config,
    caller: Caller,
}

fn card(title: &str, text: &str, color: &str) -> Json {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "body": [
                    {
                        "type": "TextBlock",
                        "text": title,
                        "weight": "Bolder",
                        "size": "Medium",
                        "wrap": true,
                        "style": "heading",
                        "color": color,
                    },
                    { "type": "TextBlock", "text": text, "wrap": true },
                ],
                "msteams": { "width": "full" },
            },
        }],
    })
}

impl Notifier for MsteamsV2 {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let o = &self.options;
            let url = secret(&o.webhook_url.clone().unwrap_or_default().0, &o.webhook_url_file).await?;
            let color = if message.is_firing() { "Attention" } else { "Good" };
            let r = message.rendering();
            let body = card(&r.text(&o.title)?, &r.text(&o.text)?, color);
            drop(r);
            Judge::PLAIN.check(&self.caller.post_json(url.expose(), &body).await?)
        })
    }
}
