//! Opsgenie: alerts made, updated and closed by their alias.

use std::collections::BTreeMap;

use http::{Method, header};
use pilothouse_net::{Request, Secret};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{
    Caller, Judge, OwnHttp, check_http, headers, inherit_http, inherit_secret, json_request, secret, shorten,
    without_empty,
};
use super::message::Rendering;
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, at_most_one};

const MAX_MESSAGE_CHARS: usize = 130;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OpsgenieConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_key: Secret,
    pub api_key_file: String,
    pub api_url: Option<HttpUrl>,
    pub message: String,
    pub description: String,
    pub source: String,
    pub details: BTreeMap<String, String>,
    pub entity: String,
    pub responders: Vec<Responder>,
    pub actions: String,
    pub tags: String,
    pub note: String,
    pub priority: String,
    pub update_alerts: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Responder {
    pub id: String,
    pub name: String,
    pub username: String,
    #[serde(rename = "type")]
    pub kind: String,
}

impl Default for OpsgenieConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            api_key: Secret::default(),
            api_key_file: String::new(),
            api_url: None,
            message: template!("opsgenie.default.message"),
            description: template!("opsgenie.default.description"),
            source: template!("opsgenie.default.source"),
            details: BTreeMap::new(),
            entity: String::new(),
            responders: Vec::new(),
            actions: String::new(),
            tags: String::new(),
            note: String::new(),
            priority: String::new(),
            update_alerts: false,
        }
    }
}

const RESPONDER_KINDS: [&str; 5] = ["team", "teams", "user", "escalation", "schedule"];

impl Kind for OpsgenieConfig {
    basics!("opsgenie", api_key_file);

    fn check(&self) -> Result<(), String> {
        at_most_one(!self.api_key.is_empty(), !self.api_key_file.is_empty(), "api_key & api_key_file")?;
        for responder in &self.responders {
            let shown =
                format!("{{{} {} {} {}}}", responder.id, responder.name, responder.username, responder.kind);
            if responder.id.is_empty() && responder.name.is_empty() && responder.username.is_empty() {
                return Err(format!(
                    "opsGenieConfig responder {shown} has to have at least one of id, username or name specified"
                ));
            }
            let kind = responder.kind.to_lowercase();
            if !kind.contains("{{") && !RESPONDER_KINDS.contains(&kind.as_str()) {
                return Err(format!(
                    "opsGenieConfig responder {shown} type does not match valid options ^(team|teams|user|escalation|schedule)$"
                ));
            }
        }
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        self.api_url.get_or_insert_with(|| global.opsgenie_api_url.clone());
        let of_all = (&global.opsgenie_api_key, &global.opsgenie_api_key_file);
        inherit_secret((&mut self.api_key, &mut self.api_key_file), of_all)
            .ok_or("no global OpsGenie API Key set either inline or in a file")?;
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Opsgenie { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Opsgenie {
    options: OpsgenieConfig,
    caller: Caller,
}

/// Parts between commas, empty ones left out.
fn split(text: &str) -> Vec<&str> {
    text.trim().split(',').filter(|part| !part.is_empty()).collect()
}

impl Opsgenie {
    fn responders(&self, r: &Rendering<'_>) -> Result<Vec<Json>, Failure> {
        let mut all = Vec::new();
        for responder in &self.options.responders {
            let (id, name) = (r.text(&responder.id)?, r.text(&responder.name)?);
            let (username, kind) = (r.text(&responder.username)?, r.text(&responder.kind)?);
            if kind == "teams" {
                all.extend(split(&name).iter().map(|team| json!({"name": team, "type": "team"})));
            } else if ![&id, &name, &username, &kind].iter().all(|t| t.is_empty()) {
                let mut one = without_empty(json!({"id": id, "name": name, "username": username}));
                one["type"] = kind.into();
                all.push(one);
            }
        }
        Ok(all)
    }

    /// Method, path and body of each call.
    fn calls(&self, message: &Message) -> Result<Vec<(Method, String, Json)>, Failure> {
        let (r, o, alias) = (message.rendering(), &self.options, message.group_hash());
        let by_alias = |what: &str| format!("v2/alerts/{alias}/{what}?identifierType=alias");
        if !message.is_firing() {
            return Ok(vec![(Method::POST, by_alias("close"), json!({"source": r.text(&o.source)?}))]);
        }
        let text = shorten(&r.text(&o.message)?, MAX_MESSAGE_CHARS);
        let description = r.text(&o.description)?;
        let mut details: BTreeMap<String, String> = r.data.common_labels.clone();
        for (name, template) in &o.details {
            details.insert(name.clone(), r.text(template)?);
        }
        let mut body = without_empty(json!({
            "description": description,
            "responders": self.responders(&r)?,
            "tags": split(&r.text(&o.tags)?),
            "note": r.text(&o.note)?,
            "priority": r.text(&o.priority)?,
            "entity": r.text(&o.entity)?,
            "actions": split(&r.text(&o.actions)?),
        }));
        body["alias"] = alias.clone().into();
        body["message"] = text.clone().into();
        body["details"] = json!(details);
        body["source"] = r.text(&o.source)?.into();
        let mut calls = vec![(Method::POST, "v2/alerts".to_owned(), body)];
        if o.update_alerts {
            calls.push((Method::PUT, by_alias("message"), without_empty(json!({"message": text}))));
            let description = without_empty(json!({"description": description}));
            calls.push((Method::PUT, by_alias("description"), description));
        }
        Ok(calls)
    }

    fn request(&self, key: &str, method: Method, path: &str, body: &Json) -> Result<Request, Failure> {
        let base = self.options.api_url.clone().unwrap_or_default().with_slash();
        let headers = headers(&[(header::AUTHORIZATION, &format!("GenieKey {key}"))])?;
        Ok(json_request(method, &format!("{base}{path}"), body, headers))
    }
}

impl Notifier for Opsgenie {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let key = secret(&self.options.api_key, &self.options.api_key_file).await?;
            let key = message.rendering().text(key.expose())?;
            for (method, path, body) in self.calls(message)? {
                let answer = self.caller.send(self.request(&key, method, &path, &body)?).await?;
                Judge::retrying(&[429]).check(&answer)?;
            }
            Ok(())
        })
    }
}
