//! Rocket.Chat: `chat.postMessage` with a personal token.

use http::{HeaderName, Method};
use pilothouse_net::Secret;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{
    Caller, Judge, OwnHttp, check_http, headers, inherit_http, inherit_secret, json_request, secret, shorten,
    without_empty,
};
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, at_most_one};
use crate::telemetry::FailureReason;

const MAX_TITLE_CHARS: usize = 1024;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RocketchatConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_url: Option<HttpUrl>,
    pub token_id: Secret,
    pub token_id_file: String,
    pub token: Secret,
    pub token_file: String,
    pub channel: String,
    pub color: String,
    pub title: String,
    pub title_link: String,
    pub text: String,
    pub fields: Vec<Field>,
    pub short_fields: bool,
    pub emoji: String,
    pub icon_url: String,
    pub image_url: String,
    pub thumb_url: String,
    pub link_names: bool,
    pub actions: Vec<Action>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Field {
    pub short: Option<bool>,
    pub title: String,
    pub value: String,
}

/// A button. What Alertmanager reads and never sends is read here, too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Action {
    #[serde(rename = "type")]
    pub kind: String,
    pub text: String,
    pub url: String,
    pub msg: String,
    pub image_url: String,
    pub is_webview: bool,
    pub webview_height_ratio: String,
    pub msg_in_chat_window: bool,
    pub msg_processing_type: String,
}

impl Default for RocketchatConfig {
    fn default() -> Self {
        Self {
            send_resolved: false,
            http_config: None,
            api_url: None,
            token_id: Secret::default(),
            token_id_file: String::new(),
            token: Secret::default(),
            token_file: String::new(),
            channel: String::new(),
            color: "{{ if eq .Status \"firing\" }}red{{ else }}green{{ end }}".to_owned(),
            title: template!("rocketchat.default.title"),
            title_link: template!("rocketchat.default.titlelink"),
            text: template!("rocketchat.default.text"),
            fields: Vec::new(),
            short_fields: false,
            emoji: template!("rocketchat.default.emoji"),
            icon_url: template!("rocketchat.default.iconurl"),
            image_url: String::new(),
            thumb_url: String::new(),
            link_names: false,
            actions: Vec::new(),
        }
    }
}

impl Kind for RocketchatConfig {
    basics!("rocketchat", token_id_file, token_file);

    fn check(&self) -> Result<(), String> {
        at_most_one(!self.token.is_empty(), !self.token_file.is_empty(), "token & token_file")?;
        at_most_one(!self.token_id.is_empty(), !self.token_id_file.is_empty(), "token_id & token_id_file")?;
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        self.api_url.get_or_insert_with(|| global.rocketchat_api_url.clone());
        let of_all = (&global.rocketchat_token_id, &global.rocketchat_token_id_file);
        inherit_secret((&mut self.token_id, &mut self.token_id_file), of_all)
            .ok_or("no global Rocketchat TokenID set either inline or in a file")?;
        let of_all = (&global.rocketchat_token, &global.rocketchat_token_file);
        inherit_secret((&mut self.token, &mut self.token_file), of_all)
            .ok_or("no global Rocketchat Token set either inline or in a file")?;
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Rocketchat { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Rocketchat {
    options: RocketchatConfig,
    caller: Caller,
}

impl Rocketchat {
    fn body(&self, message: &Message) -> Result<(String, Json), Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let mut fields = Vec::with_capacity(o.fields.len());
        for field in &o.fields {
            let short = field.short.unwrap_or(o.short_fields);
            let mut one =
                without_empty(json!({"title": r.text(&field.title)?, "value": r.text(&field.value)?}));
            one["short"] = short.into();
            fields.push(one);
        }
        let mut actions = Vec::with_capacity(o.actions.len());
        for action in &o.actions {
            let mut one = without_empty(json!({
                "type": "button",
                "text": r.text(&action.text)?,
                "url": r.text(&action.url)?,
                "msg": r.text(&action.msg)?,
            }));
            one["is_webview"] = false.into();
            one["msg_in_chat_window"] = false.into();
            actions.push(one);
        }
        let attachment = without_empty(json!({
            "title": shorten(&r.text(&o.title)?, MAX_TITLE_CHARS),
            "title_link": r.text(&o.title_link)?,
            "text": r.text(&o.text)?,
            "image_url": r.text(&o.image_url)?,
            "thumb_url": r.text(&o.thumb_url)?,
            "color": r.text(&o.color)?,
            "fields": fields,
            "actions": actions,
        }));
        let channel = r.text(&o.channel)?;
        let body = without_empty(json!({
            "channel": channel,
            "emoji": r.text(&o.emoji)?,
            "avatar": r.text(&o.icon_url)?,
            "attachments": [attachment],
        }));
        Ok((channel, body))
    }
}

impl Notifier for Rocketchat {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let o = &self.options;
            let token = secret(&o.token, &o.token_file).await?;
            let id = secret(&o.token_id, &o.token_id_file).await?;
            let headers = headers(&[
                (HeaderName::from_static("x-auth-token"), token.expose()),
                (HeaderName::from_static("x-user-id"), id.expose()),
            ])?;
            let url =
                format!("{}api/v1/chat.postMessage", o.api_url.clone().unwrap_or_default().with_slash());
            let (channel, body) = self.body(message)?;
            let answer = self.caller.send(json_request(Method::POST, &url, &body, headers)).await?;
            let judged = Judge::PLAIN.check(&answer).and_then(|()| refusal(&answer.body));
            judged.map_err(|failure| Failure {
                text: format!("channel {channel:?}: {}", failure.text),
                ..failure
            })
        })
    }
}

/// The service says no with a 200, too.
fn refusal(body: &[u8]) -> Result<(), Failure> {
    match serde_json::from_slice::<Json>(body) {
        Ok(answer) if answer["success"] == true => Ok(()),
        Ok(answer) => {
            let text = answer["error"].as_str().unwrap_or_default();
            Err(Failure::last(FailureReason::ClientError, format!("error response from Rocketchat: {text}")))
        }
        Err(e) => {
            Err(Failure::retry(FailureReason::ClientError, format!("could not unmarshal JSON response: {e}")))
        }
    }
}
