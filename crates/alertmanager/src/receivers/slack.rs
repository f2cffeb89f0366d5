//! Slack: incoming webhooks, and `chat.postMessage` with an app's token.

use bytes::Bytes;
use pilothouse_net::Secret;
use pilothouse_net::options::Authorization;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::call::{Caller, Judge, OwnHttp, check_http, secret, shorten, without_empty};
use super::message::Rendering;
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, SecretUrl, at_most_one};
use crate::nflog::Notes;
use crate::telemetry::FailureReason;

const MAX_TITLE_CHARS: usize = 1024;
/// Where messages are made that can be changed afterwards.
const POST_MESSAGE: &str = "https://slack.com/api/chat.postMessage";

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SlackConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_url: Option<SecretUrl>,
    pub api_url_file: String,
    pub app_token: Secret,
    pub app_token_file: String,
    pub app_url: Option<HttpUrl>,
    pub channel: String,
    pub username: String,
    pub color: String,
    pub title: String,
    pub title_link: String,
    pub pretext: String,
    pub text: String,
    pub message_text: String,
    pub fields: Vec<Field>,
    pub short_fields: bool,
    pub footer: String,
    pub fallback: String,
    pub callback_id: String,
    pub icon_emoji: String,
    pub icon_url: String,
    pub image_url: String,
    pub thumb_url: String,
    pub link_names: bool,
    pub mrkdwn_in: Vec<String>,
    pub actions: Vec<Action>,
    pub update_message: bool,
    pub timeout: GoMillis,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Field {
    pub title: String,
    pub value: String,
    pub short: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Action {
    #[serde(rename = "type")]
    pub kind: String,
    pub text: String,
    pub url: String,
    pub style: String,
    pub name: String,
    pub value: String,
    pub confirm: Option<Confirm>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Confirm {
    pub text: String,
    pub title: String,
    pub ok_text: String,
    pub dismiss_text: String,
}

impl Default for SlackConfig {
    fn default() -> Self {
        Self {
            send_resolved: false,
            http_config: None,
            api_url: None,
            api_url_file: String::new(),
            app_token: Secret::default(),
            app_token_file: String::new(),
            app_url: None,
            channel: String::new(),
            username: template!("slack.default.username"),
            color: template!("slack.default.color"),
            title: template!("slack.default.title"),
            title_link: template!("slack.default.titlelink"),
            pretext: template!("slack.default.pretext"),
            text: template!("slack.default.text"),
            message_text: String::new(),
            fields: Vec::new(),
            short_fields: false,
            footer: template!("slack.default.footer"),
            fallback: template!("slack.default.fallback"),
            callback_id: template!("slack.default.callbackid"),
            icon_emoji: template!("slack.default.iconemoji"),
            icon_url: template!("slack.default.iconurl"),
            image_url: String::new(),
            thumb_url: String::new(),
            link_names: false,
            mrkdwn_in: Vec::new(),
            actions: Vec::new(),
            update_message: false,
            timeout: GoMillis(0),
        }
    }
}

impl SlackConfig {
    fn has_url(&self) -> bool {
        self.api_url.is_some() || !self.api_url_file.is_empty()
    }

    fn has_token(&self) -> bool {
        !self.app_token.is_empty() || !self.app_token_file.is_empty()
    }

    /// Incoming webhooks cannot change what they said.
    fn check_update(&self) -> Result<(), String> {
        let can_update = self.api_url.as_ref().is_some_and(|url| url.0.expose() == POST_MESSAGE);
        match self.update_message && !can_update {
            true => Err(format!(
                "update_message can only be used with bot tokens. api_url must be set to {POST_MESSAGE}"
            )),
            false => Ok(()),
        }
    }
}

impl Kind for SlackConfig {
    basics!("slack", api_url_file, app_token_file);

    fn check(&self) -> Result<(), String> {
        at_most_one(self.api_url.is_some(), !self.api_url_file.is_empty(), "api_url & api_url_file")?;
        at_most_one(
            !self.app_token.is_empty(),
            !self.app_token_file.is_empty(),
            "app_token & app_token_file",
        )?;
        at_most_one(self.has_url(), self.has_token(), "api_url/api_url_file & app_token/app_token_file")?;
        for field in &self.fields {
            field.check()?;
        }
        for action in &self.actions {
            action.check()?;
        }
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        let app_url = self.app_url.get_or_insert_with(|| global.slack_app_url.clone()).clone();
        let authorized = self.http_config.as_ref().is_some_and(|h| h.authorization.is_some());
        if !self.has_token() && !authorized && self.api_url.is_none() {
            self.app_token = global.slack_app_token.clone();
            self.app_token_file.clone_from(&global.slack_app_token_file);
        }
        if !self.has_url() {
            self.api_url.clone_from(&global.slack_api_url);
            self.api_url_file.clone_from(&global.slack_api_url_file);
        }
        if !self.has_url() && !self.has_token() {
            return Err("no global Slack API URL set either inline or in a file: no Slack API URL nor App token set either inline or in a file".to_owned());
        }
        let http = self.http_config.get_or_insert_with(|| global.http_config.clone());
        if self.app_token.is_empty() && self.app_token_file.is_empty() {
            return self.check_update();
        }
        if http.authorization.is_some() {
            return Err("http authorization can't be set when using Slack App tokens".to_owned());
        }
        http.authorization = Some(Authorization {
            credentials: self.app_token.clone(),
            credentials_file: self.app_token_file.clone(),
            ..Authorization::default()
        });
        self.api_url = Some(SecretUrl(Secret::new(app_url.0)));
        self.check_update()
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, self.timeout)?;
        Ok(Box::new(Slack { options: self.clone(), caller }))
    }
}

impl Field {
    fn check(&self) -> Result<(), String> {
        match (self.title.is_empty(), self.value.is_empty()) {
            (true, _) => Err("missing title in Slack field configuration".to_owned()),
            (_, true) => Err("missing value in Slack field configuration".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Action {
    fn check(&self) -> Result<(), String> {
        let missing = |what: &str| Err(format!("missing {what} in Slack action configuration"));
        if self.kind.is_empty() {
            return missing("type");
        }
        if self.text.is_empty() {
            return missing("text");
        }
        if self.url.is_empty() && self.name.is_empty() {
            return missing("name or url");
        }
        match &self.confirm {
            Some(confirm) if confirm.text.is_empty() => {
                Err("missing text in Slack confirmation configuration".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn shown(&self, r: &Rendering<'_>) -> Result<Json, Failure> {
        // A link is a link alone.
        let (name, value, confirm) = match (&self.url, &self.confirm) {
            (url, _) if !url.is_empty() => (String::new(), String::new(), None),
            (_, confirm) => (r.text(&self.name)?, r.text(&self.value)?, confirm.as_ref()),
        };
        let confirm = match confirm {
            None => Json::Null,
            Some(c) => without_empty(json!({
                "title": r.text(&c.title)?,
                "text": r.text(&c.text)?,
                "ok_text": r.text(&c.ok_text)?,
                "dismiss_text": r.text(&c.dismiss_text)?,
            })),
        };
        Ok(without_empty(json!({
            "type": r.text(&self.kind)?,
            "text": r.text(&self.text)?,
            "url": r.text(&self.url)?,
            "style": r.text(&self.style)?,
            "name": name,
            "value": value,
            "confirm": confirm,
        })))
    }
}

#[derive(Debug)]
struct Slack {
    options: SlackConfig,
    caller: Caller,
}

impl Slack {
    fn attachment(&self, r: &Rendering<'_>) -> Result<Json, Failure> {
        let o = &self.options;
        let mut fields = Vec::with_capacity(o.fields.len());
        for field in &o.fields {
            let mut one =
                without_empty(json!({"title": r.text(&field.title)?, "value": r.text(&field.value)?}));
            one["short"] = field.short.unwrap_or(o.short_fields).into();
            fields.push(one);
        }
        let actions = o.actions.iter().map(|a| a.shown(r)).collect::<Result<Vec<_>, _>>()?;
        let markdown_in = match o.mrkdwn_in.as_slice() {
            [] => json!(["fallback", "pretext", "text"]),
            given => json!(given),
        };
        let mut attachment = without_empty(json!({
            "title": shorten(&r.text(&o.title)?, MAX_TITLE_CHARS),
            "title_link": r.text(&o.title_link)?,
            "pretext": r.text(&o.pretext)?,
            "fields": fields,
            "actions": actions,
            "image_url": r.text(&o.image_url)?,
            "thumb_url": r.text(&o.thumb_url)?,
            "color": r.text(&o.color)?,
            "mrkdwn_in": markdown_in,
        }));
        // These are there even where they are empty.
        for (name, template) in [
            ("text", &o.text),
            ("fallback", &o.fallback),
            ("callback_id", &o.callback_id),
            ("footer", &o.footer),
        ] {
            attachment[name] = r.text(template)?.into();
        }
        Ok(attachment)
    }

    fn body(&self, message: &Message) -> Result<(String, Json), Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let channel = r.text(&o.channel)?;
        let mut body = without_empty(json!({
            "channel": channel,
            "username": r.text(&o.username)?,
            "icon_emoji": r.text(&o.icon_emoji)?,
            "icon_url": r.text(&o.icon_url)?,
            "link_names": o.link_names,
            "text": r.text(&o.message_text)?,
        }));
        body["attachments"] = json!([self.attachment(&r)?]);
        Ok((channel, body))
    }
}

impl Notifier for Slack {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let own = self.options.api_url.clone().unwrap_or_default();
            let url = secret(&own.0, &self.options.api_url_file).await?;
            let (channel, mut body) = self.body(message)?;
            let earlier =
                self.options.update_message.then(|| Posted::from_notes(&message.notes.lock())).flatten();
            let mut url = url.expose().to_owned();
            if let Some(posted) = earlier {
                url = url.replace("chat.postMessage", "chat.update");
                body["ts"] = posted.ts.into();
                body["channel"] = posted.channel.into();
            }
            let answer = self.caller.post_json(&url, &body).await?;
            let kind =
                answer.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
            let judged = Judge::PLAIN.check(&answer).and_then(|()| refusal(kind, &answer.body));
            if judged.is_ok()
                && self.options.update_message
                && let Some(posted) = Posted::from_answer(&answer.body)
            {
                posted.note(&mut message.notes.lock());
            }
            judged.map_err(|failure| Failure {
                text: format!("channel {channel:?}: {}", failure.text),
                ..failure
            })
        })
    }
}

/// A message that Slack shows and that can be changed.
struct Posted {
    ts: String,
    channel: String,
}

impl Posted {
    const TS: &str = "ts";
    const CHANNEL: &str = "channel";

    fn from_notes(notes: &Notes) -> Option<Self> {
        Some(Self { ts: notes.get(Self::TS)?.clone(), channel: notes.get(Self::CHANNEL)?.clone() })
    }

    fn from_answer(body: &Bytes) -> Option<Self> {
        let answer: Json = serde_json::from_slice(body).ok()?;
        let text = |name: &str| answer[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Self { ts: text(Self::TS)?, channel: text(Self::CHANNEL)? })
    }

    fn note(self, notes: &mut Notes) {
        notes.insert(Self::TS.to_owned(), self.ts);
        notes.insert(Self::CHANNEL.to_owned(), self.channel);
    }
}

/// Slack says no with a 200, too.
fn refusal(content_type: &str, body: &Bytes) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(body);
    let refused = |text: String| Err(Failure::last(FailureReason::ClientError, text));
    if !content_type.starts_with("application/json") {
        return if text == "ok" {
            Ok(())
        } else {
            refused(format!("received an error response from Slack: {}", shorten(&text, 1024)))
        };
    }
    match serde_json::from_str::<Json>(&text) {
        Ok(answer) if answer["ok"] == true => Ok(()),
        Ok(answer) => {
            refused(format!("error response from Slack: {}", answer["error"].as_str().unwrap_or_default()))
        }
        Err(error) => Err(Failure::retry(
            FailureReason::ClientError,
            format!("could not unmarshal JSON response: {error}"),
        )),
    }
}
