//! Microsoft Teams by its older connectors: a message card.

use serde::Deserialize;
use serde_json::json;

use super::call::{Caller, Judge, OwnHttp, check_http, inherit_http, secret};
use super::discord::check_webhook_url;
use super::{Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, SecretUrl};

const RED: &str = "8C1A1A";
const GREEN: &str = "2DC72D";

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MsteamsConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub webhook_url: Option<SecretUrl>,
    pub webhook_url_file: String,
    pub title: String,
    pub summary: String,
    pub text: String,
}

impl Default for MsteamsConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            webhook_url: None,
            webhook_url_file: String::new(),
            title: template!("msteams.default.title"),
            summary: template!("msteams.default.summary"),
            text: template!("msteams.default.text"),
        }
    }
}

impl Kind for MsteamsConfig {
    basics!("msteams", webhook_url_file);

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
        Ok(Box::new(Msteams { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Msteams {
    options: MsteamsConfig,
    caller: Caller,
}

impl Notifier for Msteams {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let o = &self.options;
            let url = secret(&o.webhook_url.clone().unwrap_or_default().0, &o.webhook_url_file).await?;
            let r = message.rendering();
            let card = json!({
                "@context": "http://schema.org/extensions",
                "type": "MessageCard",
                "title": r.text(&o.title)?,
                "summary": r.text(&o.summary)?,
                "text": r.text(&o.text)?,
                "themeColor": if message.is_firing() { RED } else { GREEN },
            });
            drop(r);
            Judge::PLAIN.check(&self.caller.post_json(url.expose(), &card).await?)
        })
    }
}
