//! Pushover: a message to a user's devices.

use pilothouse_net::Secret;
use serde::Deserialize;

use super::call::{Caller, Judge, OwnHttp, check_http, form_request, inherit_http, secret, shorten};
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, at_most_one};

const URL: &str = "https://api.pushover.net/1/messages.json";
const MAX_TITLE_CHARS: usize = 250;
const MAX_MESSAGE_CHARS: usize = 1024;
const MAX_URL_CHARS: usize = 512;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PushoverConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub user_key: Secret,
    pub user_key_file: String,
    pub token: Secret,
    pub token_file: String,
    pub title: String,
    pub message: String,
    pub url: String,
    pub url_title: String,
    pub device: String,
    pub sound: String,
    pub priority: String,
    pub retry: GoMillis,
    pub expire: GoMillis,
    pub ttl: GoMillis,
    pub html: bool,
    pub monospace: bool,
}

impl Default for PushoverConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            user_key: Secret::default(),
            user_key_file: String::new(),
            token: Secret::default(),
            token_file: String::new(),
            title: template!("pushover.default.title"),
            message: template!("pushover.default.message"),
            url: template!("pushover.default.url"),
            url_title: String::new(),
            device: String::new(),
            sound: String::new(),
            priority: "{{ if eq .Status \"firing\" }}2{{ else }}0{{ end }}".to_owned(),
            retry: GoMillis(60_000),
            expire: GoMillis(3_600_000),
            ttl: GoMillis(0),
            html: false,
            monospace: false,
        }
    }
}

fn one_of(secret: &Secret, file: &str, name: &str) -> Result<(), String> {
    if secret.is_empty() && file.is_empty() {
        return Err(format!("one of {name} or {name}_file must be configured"));
    }
    at_most_one(!secret.is_empty(), !file.is_empty(), &format!("{name} & {name}_file"))
}

impl Kind for PushoverConfig {
    basics!("pushover", user_key_file, token_file);

    fn check(&self) -> Result<(), String> {
        one_of(&self.user_key, &self.user_key_file, "user_key")?;
        one_of(&self.token, &self.token_file, "token")?;
        at_most_one(self.html, self.monospace, "monospace & html")?;
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Pushover { options: self.clone(), caller, url: URL.to_owned() }))
    }
}

#[derive(Debug)]
pub(super) struct Pushover {
    pub(super) options: PushoverConfig,
    pub(super) caller: Caller,
    /// The service has one address; tests have another.
    pub(super) url: String,
}

impl Pushover {
    fn form(
        &self,
        message: &Message,
        token: &Secret,
        user: &Secret,
    ) -> Result<Vec<(&'static str, String)>, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let text = if o.html { r.html(&o.message)? } else { r.text(&o.message)? };
        let text = shorten(&text, MAX_MESSAGE_CHARS);
        let text = match text.trim() {
            "" => "(no details)",
            text => text,
        };
        let mut form = vec![
            ("token", r.text(token.expose())?),
            ("user", r.text(user.expose())?),
            ("title", shorten(&r.text(&o.title)?, MAX_TITLE_CHARS)),
            ("message", text.to_owned()),
            ("url", shorten(&r.text(&o.url)?, MAX_URL_CHARS)),
            ("url_title", r.text(&o.url_title)?),
            ("priority", r.text(&o.priority)?),
            ("retry", (o.retry.0 / 1000).to_string()),
            ("expire", (o.expire.0 / 1000).to_string()),
            ("device", r.text(&o.device)?),
            ("sound", r.text(&o.sound)?),
        ];
        if o.ttl.0 >= 1000 {
            form.push(("ttl", (o.ttl.0 / 1000).to_string()));
        }
        for (name, set) in [("html", o.html), ("monospace", o.monospace)] {
            if set {
                form.push((name, "1".to_owned()));
            }
        }
        Ok(form)
    }
}

impl Notifier for Pushover {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let token = secret(&self.options.token, &self.options.token_file).await?;
            let user = secret(&self.options.user_key, &self.options.user_key_file).await?;
            let form = self.form(message, &token, &user)?;
            let pairs: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let answer = self.caller.send(form_request(&self.url, &pairs)).await?;
            Judge::PLAIN.check(&answer)
        })
    }
}
