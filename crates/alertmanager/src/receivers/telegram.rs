//! Telegram: `sendMessage` of a bot.

use pilothouse_net::{Response, Secret};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{
    Caller, OwnHttp, check_http, inherit_http, inherit_secret, secret, shorten, without_empty,
};
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, at_most_one};
use crate::telemetry::FailureReason;

const MAX_MESSAGE_CHARS: usize = 4096;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelegramConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_url: Option<HttpUrl>,
    pub bot_token: Secret,
    pub bot_token_file: String,
    pub chat_id: i64,
    pub chat_id_file: String,
    pub message_thread_id: i64,
    pub message: String,
    pub disable_notifications: bool,
    pub parse_mode: String,
}

impl Default for TelegramConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            api_url: None,
            bot_token: Secret::default(),
            bot_token_file: String::new(),
            chat_id: 0,
            chat_id_file: String::new(),
            message_thread_id: 0,
            message: template!("telegram.default.message"),
            disable_notifications: false,
            parse_mode: "HTML".to_owned(),
        }
    }
}

impl Kind for TelegramConfig {
    basics!("telegram", bot_token_file, chat_id_file);

    fn check(&self) -> Result<(), String> {
        at_most_one(
            !self.bot_token.is_empty(),
            !self.bot_token_file.is_empty(),
            "bot_token & bot_token_file",
        )?;
        if self.chat_id == 0 && self.chat_id_file.is_empty() {
            return Err("missing chat_id or chat_id_file on telegram_config".to_owned());
        }
        at_most_one(self.chat_id != 0, !self.chat_id_file.is_empty(), "chat_id & chat_id_file")?;
        if !matches!(self.parse_mode.as_str(), "" | "Markdown" | "MarkdownV2" | "HTML") {
            return Err(
                "unknown parse_mode on telegram_config, must be Markdown, MarkdownV2, HTML or empty string"
                    .to_owned(),
            );
        }
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        self.api_url.get_or_insert_with(|| global.telegram_api_url.clone());
        let of_all = (&global.telegram_bot_token, &global.telegram_bot_token_file);
        inherit_secret((&mut self.bot_token, &mut self.bot_token_file), of_all)
            .ok_or("missing bot_token or bot_token_file on telegram_config")?;
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Telegram { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Telegram {
    options: TelegramConfig,
    caller: Caller,
}

impl Telegram {
    fn text(&self, message: &Message) -> Result<String, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        if o.parse_mode != "HTML" {
            return Ok(shorten(&r.text(&o.message)?, MAX_MESSAGE_CHARS));
        }
        let text = r.html(&o.message)?;
        // Cut HTML would not be HTML any more.
        let is_too_long = text.chars().count() > MAX_MESSAGE_CHARS;
        let instead = "Alertmanager notification could not be sent: message length exceeds Telegram limits.\n\t\t\t\
                       Please check the template used for producing the message content.";
        Ok(if is_too_long { instead.to_owned() } else { text })
    }

    fn body(&self, text: String, chat: &str) -> Json {
        let o = &self.options;
        // Numbers go as texts, which the service takes and other clients send.
        let thread = if o.message_thread_id == 0 { String::new() } else { o.message_thread_id.to_string() };
        let silent = if o.disable_notifications { "true" } else { "" };
        let mut body = without_empty(json!({
            "parse_mode": o.parse_mode,
            "message_thread_id": thread,
            "disable_notification": silent,
        }));
        body["chat_id"] = chat.into();
        body["text"] = text.into();
        body["disable_web_page_preview"] = "true".into();
        body
    }
}

impl Notifier for Telegram {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let o = &self.options;
            let token = secret(&o.bot_token, &o.bot_token_file).await?;
            let chat = secret(&Secret::new(o.chat_id.to_string()), &o.chat_id_file).await?;
            let base = o.api_url.clone().unwrap_or_default().0;
            let url = format!("{}/bot{}/sendMessage", base.trim_end_matches('/'), token.expose());
            let body = self.body(self.text(message)?, chat.expose());
            let answer = self.caller.post_json(&url, &body).await?;
            refusal(&answer)
        })
    }
}

/// What the service says counts, not its status, and whatever it refuses is tried again.
fn refusal(answer: &Response) -> Result<(), Failure> {
    let said: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    if said["ok"] == true {
        return Ok(());
    }
    let status = answer.status.as_u16();
    let code = said["error_code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(status);
    let body = String::from_utf8_lossy(&answer.body);
    let why = said["description"].as_str().unwrap_or(body.trim());
    let text = format!("telegram: {} ({code})", shorten(why, 1024));
    Err(Failure::retry(FailureReason::of_status(code), text))
}
