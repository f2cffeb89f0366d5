//! PagerDuty: events of version 2, and of version 1 where a service key is given.

use std::collections::BTreeMap;

use bytes::Bytes;
use pilothouse_net::Secret;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::call::{Caller, Judge, OwnHttp, check_http, inherit_http, secret, shorten, without_empty};
use super::message::Rendering;
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, at_most_one};

const V1_URL: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";
const MAX_EVENT_BYTES: usize = 512_000;
const MAX_SUMMARY_CHARS: usize = 1024;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PagerdutyConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub service_key: Secret,
    pub service_key_file: String,
    pub routing_key: Secret,
    pub routing_key_file: String,
    pub url: Option<HttpUrl>,
    pub client: String,
    pub client_url: String,
    pub description: String,
    pub details: BTreeMap<String, Json>,
    pub images: Vec<Image>,
    pub links: Vec<Link>,
    pub source: String,
    pub severity: String,
    pub class: String,
    pub component: String,
    pub group: String,
    pub timeout: GoMillis,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Image {
    pub src: String,
    pub alt: String,
    pub href: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Link {
    pub href: String,
    pub text: String,
}

impl Default for PagerdutyConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            service_key: Secret::default(),
            service_key_file: String::new(),
            routing_key: Secret::default(),
            routing_key_file: String::new(),
            url: None,
            client: template!("pagerduty.default.client"),
            client_url: template!("pagerduty.default.clientURL"),
            description: template!("pagerduty.default.description"),
            details: BTreeMap::new(),
            images: Vec::new(),
            links: Vec::new(),
            source: String::new(),
            severity: String::new(),
            class: String::new(),
            component: String::new(),
            group: String::new(),
            timeout: GoMillis(0),
        }
    }
}

const DEFAULT_DETAILS: [(&str, &str); 4] = [
    ("firing", "{{ .Alerts.Firing | toJson }}"),
    ("resolved", "{{ .Alerts.Resolved | toJson }}"),
    ("num_firing", "{{ .Alerts.Firing | len }}"),
    ("num_resolved", "{{ .Alerts.Resolved | len }}"),
];

impl PagerdutyConfig {
    fn is_v1(&self) -> bool {
        !self.service_key.is_empty() || !self.service_key_file.is_empty()
    }
}

impl Kind for PagerdutyConfig {
    basics!("pagerduty", service_key_file, routing_key_file);

    fn check(&self) -> Result<(), String> {
        let routing = (!self.routing_key.is_empty(), !self.routing_key_file.is_empty());
        let service = (!self.service_key.is_empty(), !self.service_key_file.is_empty());
        if (routing, service) == ((false, false), (false, false)) {
            return Err("missing service or routing key in PagerDuty config".to_owned());
        }
        at_most_one(routing.0, routing.1, "routing_key & routing_key_file")?;
        at_most_one(service.0, service.1, "service_key & service_key_file")?;
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        self.url.get_or_insert_with(|| global.pagerduty_url.clone());
        if self.source.is_empty() {
            self.source.clone_from(&self.client);
        }
        for (name, template) in DEFAULT_DETAILS {
            self.details.entry(name.to_owned()).or_insert_with(|| template.into());
        }
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, self.timeout)?;
        Ok(Box::new(Pagerduty { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Pagerduty {
    options: PagerdutyConfig,
    caller: Caller,
}

impl Pagerduty {
    fn details(&self, r: &Rendering<'_>) -> Result<Json, Failure> {
        let rendered = self.options.details.iter().map(|(name, value)| Ok((name.clone(), r.deep(value)?)));
        rendered.collect::<Result<Map<_, _>, _>>().map(Json::Object)
    }

    fn v1(&self, message: &Message, key: &Secret) -> Result<Json, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let of_trigger = |template: &str| match message.is_firing() {
            true => r.text(template),
            false => Ok(String::new()),
        };
        let mut event = without_empty(json!({
            "service_key": key.expose(),
            "incident_key": message.group_hash(),
            "event_type": action(message),
            "description": shorten(&r.text(&o.description)?, MAX_SUMMARY_CHARS),
            "client": of_trigger(&o.client)?,
            "client_url": of_trigger(&o.client_url)?,
            "details": self.details(&r)?,
        }));
        // What belongs to version 2 is there, empty.
        event["event_action"] = "".into();
        event["payload"] = Json::Null;
        Ok(fitting(event, &["details"]))
    }

    fn v2(&self, message: &Message, key: &Secret) -> Result<Json, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let severity = if o.severity.is_empty() { "error" } else { o.severity.as_str() };
        let mut payload = without_empty(json!({
            "class": r.text(&o.class)?,
            "component": r.text(&o.component)?,
            "group": r.text(&o.group)?,
            "custom_details": self.details(&r)?,
        }));
        payload["summary"] = shorten(&r.text(&o.description)?, MAX_SUMMARY_CHARS).into();
        payload["source"] = r.text(&o.source)?.into();
        payload["severity"] = r.text(severity)?.into();
        let mut event = without_empty(json!({
            "client": r.text(&o.client)?,
            "client_url": r.text(&o.client_url)?,
            "routing_key": key.expose(),
            "dedup_key": message.group_hash(),
            "images": self.images(&r)?,
            "links": self.links(&r)?,
        }));
        event["event_action"] = action(message).into();
        event["payload"] = payload;
        Ok(fitting(event, &["payload", "custom_details"]))
    }

    /// Those without an address are left out, which a template may leave empty.
    fn images(&self, r: &Rendering<'_>) -> Result<Vec<Json>, Failure> {
        let mut all = Vec::new();
        for image in &self.options.images {
            let src = r.text(&image.src)?;
            if !src.is_empty() {
                all.push(json!({"src": src, "alt": r.text(&image.alt)?, "href": r.text(&image.href)?}));
            }
        }
        Ok(all)
    }

    fn links(&self, r: &Rendering<'_>) -> Result<Vec<Json>, Failure> {
        let mut all = Vec::new();
        for link in &self.options.links {
            let href = r.text(&link.href)?;
            if !href.is_empty() {
                all.push(json!({"href": href, "text": r.text(&link.text)?}));
            }
        }
        Ok(all)
    }
}

/// A key may be a template, and has to print something.
fn printed_key(message: &Message, key: &Secret, which: &str) -> Result<Secret, Failure> {
    let key = message.rendering().text(key.expose())?;
    if key.is_empty() {
        return Err(Failure::invalid(format!("{which} key cannot be empty")));
    }
    Ok(Secret::new(key))
}

fn action(message: &Message) -> &'static str {
    if message.is_firing() { "trigger" } else { "resolve" }
}

/// An event that is too large loses its details.
fn fitting(mut event: Json, path: &[&str]) -> Json {
    if event.to_string().len() > MAX_EVENT_BYTES {
        let slot = path.iter().try_fold(&mut event, |value, name| value.get_mut(*name));
        if let Some(details) = slot {
            *details = json!({
                "error": "Custom details have been removed because the original event exceeds the maximum size of 512KB"
            });
        }
    }
    event
}

/// PagerDuty explains what it refuses.
fn explanation(body: &Bytes) -> String {
    let Ok(answer) = serde_json::from_slice::<Json>(body) else { return String::new() };
    let errors: Vec<&str> =
        answer["errors"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let message = answer["message"].as_str().unwrap_or_default();
    if message.is_empty() && errors.is_empty() {
        String::new()
    } else {
        format!("{message}: {}", errors.join(","))
    }
}

impl Notifier for Pagerduty {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let o = &self.options;
            let (url, event, retry): (String, Json, &'static [u16]) = if o.is_v1() {
                let key = secret(&o.service_key, &o.service_key_file).await?;
                (V1_URL.to_owned(), self.v1(message, &printed_key(message, &key, "service")?)?, &[403])
            } else {
                let key = secret(&o.routing_key, &o.routing_key_file).await?;
                let url = o.url.clone().unwrap_or_default().0;
                (url, self.v2(message, &printed_key(message, &key, "routing")?)?, &[429])
            };
            let answer = self.caller.post_json(&url, &event).await?;
            Judge { retry, detail: Some(explanation) }.check(&answer)
        })
    }
}
