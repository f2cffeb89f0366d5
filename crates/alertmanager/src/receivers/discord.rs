//! Discord: a webhook with one embedded card.

use serde::Deserialize;
use serde_json::json;

use super::call::{Caller, Judge, OwnHttp, check_http, inherit_http, secret, shorten, without_empty};
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, SecretUrl};

const MAX_TITLE_CHARS: usize = 256;
const MAX_DESCRIPTION_CHARS: usize = 4096;
const MAX_CONTENT_CHARS: usize = 2000;
const RED: u32 = 0x99_2D22;
const GREEN: u32 = 0x2E_CC71;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DiscordConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub webhook_url: Option<SecretUrl>,
    pub webhook_url_file: String,
    pub content: String,
    pub title: String,
    pub message: String,
    pub username: String,
    pub avatar_url: String,
}

impl Default for DiscordConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            webhook_url: None,
            webhook_url_file: String::new(),
            content: String::new(),
            title: template!("discord.default.title"),
            message: template!("discord.default.message"),
            username: String::new(),
            avatar_url: String::new(),
        }
    }
}

/// One of an address and a file that holds it, as several kinds want it.
pub(super) fn check_webhook_url(url: &Option<SecretUrl>, file: &str) -> Result<(), String> {
    match (url.is_some(), !file.is_empty()) {
        (false, false) => Err("one of webhook_url or webhook_url_file must be configured".to_owned()),
        (true, true) => Err("at most one of webhook_url & webhook_url_file must be configured".to_owned()),
        _ => Ok(()),
    }
}

impl Kind for DiscordConfig {
    basics!("discord", webhook_url_file);

    fn check(&self) -> Result<(), String> {
        check_webhook_url(&self.webhook_url, &self.webhook_url_file)?;
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Discord { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Discord {
    options: DiscordConfig,
    caller: Caller,
}

impl Discord {
    fn body(&self, message: &Message) -> Result<serde_json::Value, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let mut body = without_empty(json!({"username": o.username, "avatar_url": o.avatar_url}));
        body["content"] = shorten(&r.text(&o.content)?, MAX_CONTENT_CHARS).into();
        body["embeds"] = json!([{
            "title": shorten(&r.text(&o.title)?, MAX_TITLE_CHARS),
            "description": shorten(&r.text(&o.message)?, MAX_DESCRIPTION_CHARS),
            "color": if message.is_firing() { RED } else { GREEN },
        }]);
        Ok(body)
    }
}

impl Notifier for Discord {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let own = self.options.webhook_url.clone().unwrap_or_default();
            let url = secret(&own.0, &self.options.webhook_url_file).await?;
            let body = self.body(message)?;
            Judge::PLAIN.check(&self.caller.post_json(url.expose(), &body).await?)
        })
    }
}
