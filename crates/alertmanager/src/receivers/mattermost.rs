//! Mattermost: an incoming webhook with attachments.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{Caller, Judge, OwnHttp, check_http, inherit_http, secret, shorten, without_empty};
use super::message::Rendering;
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, SecretUrl, at_most_one};

const MAX_TEXT_CHARS: usize = 16_383;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MattermostConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub webhook_url: Option<SecretUrl>,
    pub webhook_url_file: String,
    pub channel: String,
    pub username: String,
    pub text: String,
    pub fallback: String,
    pub color: String,
    pub pretext: String,
    pub author_name: String,
    pub author_link: String,
    pub author_icon: String,
    pub title: String,
    pub title_link: String,
    pub fields: Vec<Field>,
    pub thumb_url: String,
    pub footer: String,
    pub footer_icon: String,
    pub image_url: String,
    pub icon_url: String,
    pub icon_emoji: String,
    pub attachments: Vec<Attachment>,
    #[serde(rename = "type")]
    pub kind: String,
    pub props: Props,
    pub priority: Priority,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Attachment {
    pub fallback: String,
    pub color: String,
    pub pretext: String,
    pub text: String,
    pub author_name: String,
    pub author_link: String,
    pub author_icon: String,
    pub title: String,
    pub title_link: String,
    pub fields: Vec<Field>,
    pub thumb_url: String,
    pub footer: String,
    pub footer_icon: String,
    pub image_url: String,
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
pub(crate) struct Props {
    pub card: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Priority {
    pub priority: String,
    pub requested_ack: bool,
    pub persistent_notifications: bool,
}

impl Default for MattermostConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            webhook_url: None,
            webhook_url_file: String::new(),
            channel: String::new(),
            username: template!("mattermost.default.username"),
            text: template!("mattermost.default.text"),
            fallback: template!("mattermost.default.fallback"),
            color: template!("mattermost.default.color"),
            pretext: String::new(),
            author_name: String::new(),
            author_link: String::new(),
            author_icon: String::new(),
            title: template!("mattermost.default.title"),
            title_link: template!("mattermost.default.titlelink"),
            fields: Vec::new(),
            thumb_url: String::new(),
            footer: String::new(),
            footer_icon: String::new(),
            image_url: String::new(),
            icon_url: String::new(),
            icon_emoji: String::new(),
            attachments: Vec::new(),
            kind: String::new(),
            props: Props::default(),
            priority: Priority::default(),
        }
    }
}

impl Kind for MattermostConfig {
    basics!("mattermost", webhook_url_file);

    fn check(&self) -> Result<(), String> {
        at_most_one(
            self.webhook_url.is_some(),
            !self.webhook_url_file.is_empty(),
            "webhook_url & webhook_url_file",
        )?;
        let fields = self.fields.iter().chain(self.attachments.iter().flat_map(|a| &a.fields));
        for field in fields {
            if field.title.is_empty() {
                return Err("missing title in Mattermost field configuration".to_owned());
            }
            if field.value.is_empty() {
                return Err("missing value in Mattermost field configuration".to_owned());
            }
        }
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        if self.webhook_url.is_none() && self.webhook_url_file.is_empty() {
            self.webhook_url.clone_from(&global.mattermost_webhook_url);
            self.webhook_url_file.clone_from(&global.mattermost_webhook_url_file);
        }
        if self.webhook_url.is_none() && self.webhook_url_file.is_empty() {
            return Err("missing webhook_url or webhook_url_file on mattermost_config".to_owned());
        }
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Mattermost { options: self.clone(), caller }))
    }
}

impl Attachment {
    fn shown(&self, r: &Rendering<'_>) -> Result<Json, Failure> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let mut one =
                without_empty(json!({"title": r.text(&field.title)?, "value": r.text(&field.value)?}));
            if let Some(short) = field.short {
                one["short"] = short.into();
            }
            fields.push(one);
        }
        Ok(without_empty(json!({
            "fallback": r.text(&self.fallback)?,
            "color": r.text(&self.color)?,
            "pretext": r.text(&self.pretext)?,
            "text": r.text(&self.text)?,
            "author_name": r.text(&self.author_name)?,
            "author_link": r.text(&self.author_link)?,
            "author_icon": r.text(&self.author_icon)?,
            "title": r.text(&self.title)?,
            "title_link": r.text(&self.title_link)?,
            "fields": fields,
            "thumb_url": r.text(&self.thumb_url)?,
            "footer": r.text(&self.footer)?,
            "footer_icon": r.text(&self.footer_icon)?,
            "image_url": r.text(&self.image_url)?,
        })))
    }
}

#[derive(Debug)]
struct Mattermost {
    options: MattermostConfig,
    caller: Caller,
}

impl Mattermost {
    /// The one attachment that the plain options describe.
    fn plain(&self) -> Attachment {
        let o = self.options.clone();
        Attachment {
            fallback: o.fallback,
            color: o.color,
            pretext: o.pretext,
            text: o.text,
            author_name: o.author_name,
            author_link: o.author_link,
            author_icon: o.author_icon,
            title: o.title,
            title_link: o.title_link,
            fields: o.fields,
            thumb_url: o.thumb_url,
            footer: o.footer,
            footer_icon: o.footer_icon,
            image_url: o.image_url,
        }
    }

    fn priority(&self, r: &Rendering<'_>) -> Result<Json, Failure> {
        let wanted = &self.options.priority;
        if wanted.priority.is_empty() {
            return Ok(Json::Null);
        }
        let priority = match r.text(&wanted.priority)?.to_lowercase().as_str() {
            known @ ("urgent" | "important") => known.to_owned(),
            _ => "standard".to_owned(),
        };
        // The service refuses what a priority does not have.
        Ok(without_empty(json!({
            "requested_ack": wanted.requested_ack && priority != "standard",
            "persistent_notifications": wanted.persistent_notifications && priority == "urgent",
            "priority": priority,
        })))
    }

    fn body(&self, message: &Message) -> Result<Json, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let (text, attachments) = if o.attachments.is_empty() {
            (String::new(), vec![self.plain().shown(&r)?])
        } else {
            let attachments = o.attachments.iter().map(|a| a.shown(&r)).collect::<Result<Vec<_>, _>>()?;
            (shorten(&r.text(&o.text)?, MAX_TEXT_CHARS), attachments)
        };
        Ok(without_empty(json!({
            "text": text,
            "channel": r.text(&o.channel)?,
            "username": r.text(&o.username)?,
            "icon_url": r.text(&o.icon_url)?,
            "icon_emoji": r.text(&o.icon_emoji)?,
            "attachments": attachments,
            "type": r.text(&o.kind)?,
            "props": without_empty(json!({"card": r.text(&o.props.card)?})),
            "priority": self.priority(&r)?,
        })))
    }
}

impl Notifier for Mattermost {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let own = self.options.webhook_url.clone().unwrap_or_default();
            let url = secret(&own.0, &self.options.webhook_url_file).await?;
            let body = self.body(message)?;
            Judge::PLAIN.check(&self.caller.post_json(url.expose(), &body).await?)
        })
    }
}
