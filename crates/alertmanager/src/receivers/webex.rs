//! Webex: a message to a room.

use serde::Deserialize;
use serde_json::json;

use super::call::{Caller, Judge, OwnHttp, check_http, shorten_bytes, without_empty};
use super::{Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl};

const MAX_MESSAGE_BYTES: usize = 7439;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebexConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_url: Option<HttpUrl>,
    pub message: String,
    pub room_id: String,
}

impl Default for WebexConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            api_url: None,
            message: template!("webex.default.message"),
            room_id: String::new(),
        }
    }
}

impl Kind for WebexConfig {
    basics!("webex");

    fn check(&self) -> Result<(), String> {
        if self.room_id.is_empty() {
            return Err("missing room_id on webex_config".to_owned());
        }
        check_http(&self.http_config)?;
        match self.http_config.as_ref().and_then(pilothouse_net::HttpOptions::effective_authorization) {
            Some(_) => Ok(()),
            None => Err("missing webex_configs.http_config.authorization".to_owned()),
        }
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        self.api_url.get_or_insert_with(|| global.webex_api_url.clone());
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Webex { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Webex {
    options: WebexConfig,
    caller: Caller,
}

impl Notifier for Webex {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let o = &self.options;
            let r = message.rendering();
            let mut body = without_empty(json!({"roomId": r.text(&o.room_id)?}));
            body["markdown"] = shorten_bytes(&r.text(&o.message)?, MAX_MESSAGE_BYTES).into();
            drop(r);
            let url = o.api_url.clone().unwrap_or_default().0;
            Judge::PLAIN.check(&self.caller.post_json(&url, &body).await?)
        })
    }
}
