//! VictorOps (Splunk On-Call): its generic REST endpoint.

use std::collections::BTreeMap;

use pilothouse_net::Secret;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::call::{
    Caller, Judge, OwnHttp, check_http, in_path, inherit_http, inherit_secret, secret, shorten,
};
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, at_most_one};

const MAX_MESSAGE_CHARS: usize = 20_480;
const RESERVED: [&str; 7] = [
    "routing_key",
    "message_type",
    "state_message",
    "entity_display_name",
    "monitoring_tool",
    "entity_id",
    "entity_state",
];

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct VictoropsConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_key: Secret,
    pub api_key_file: String,
    pub api_url: Option<HttpUrl>,
    pub routing_key: String,
    pub message_type: String,
    pub state_message: String,
    pub entity_display_name: String,
    pub monitoring_tool: String,
    pub custom_fields: BTreeMap<String, String>,
}

impl Default for VictoropsConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            api_key: Secret::default(),
            api_key_file: String::new(),
            api_url: None,
            routing_key: String::new(),
            message_type: "CRITICAL".to_owned(),
            state_message: template!("victorops.default.state_message"),
            entity_display_name: template!("victorops.default.entity_display_name"),
            monitoring_tool: template!("victorops.default.monitoring_tool"),
            custom_fields: BTreeMap::new(),
        }
    }
}

impl Kind for VictoropsConfig {
    basics!("victorops", api_key_file);

    fn check(&self) -> Result<(), String> {
        if self.routing_key.is_empty() {
            return Err("missing Routing key in VictorOps config".to_owned());
        }
        at_most_one(!self.api_key.is_empty(), !self.api_key_file.is_empty(), "api_key & api_key_file")?;
        if let Some(name) = RESERVED.iter().find(|name| self.custom_fields.contains_key(**name)) {
            return Err(format!(
                "victorOps config contains custom field {name} which cannot be used as it conflicts with the fixed/static fields"
            ));
        }
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        self.api_url.get_or_insert_with(|| global.victorops_api_url.clone());
        let of_all = (&global.victorops_api_key, &global.victorops_api_key_file);
        inherit_secret((&mut self.api_key, &mut self.api_key_file), of_all)
            .ok_or("no global VictorOps API Key set")?;
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Victorops { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Victorops {
    options: VictoropsConfig,
    caller: Caller,
}

impl Victorops {
    fn body(&self, message: &Message) -> Result<Json, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let wanted = r.text(&o.message_type)?;
        let kind = match wanted.as_str() {
            _ if !message.is_firing() => "RECOVERY",
            "INFO" | "WARNING" => wanted.as_str(),
            _ => "CRITICAL",
        };
        let mut body = json!({
            "message_type": kind,
            "entity_id": message.group_hash(),
            "entity_display_name": r.text(&o.entity_display_name)?,
            "state_message": shorten(&r.text(&o.state_message)?, MAX_MESSAGE_CHARS),
            "monitoring_tool": r.text(&o.monitoring_tool)?,
        });
        for (name, template) in &o.custom_fields {
            body[name] = r.text(template)?.into();
        }
        Ok(body)
    }
}

impl Notifier for Victorops {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let o = &self.options;
            let key = secret(&o.api_key, &o.api_key_file).await?;
            let routing = message.rendering().text(&o.routing_key)?;
            let base = o.api_url.clone().unwrap_or_default().with_slash();
            let url = format!("{base}{}/{}", in_path(key.expose()), in_path(&routing));
            let body = self.body(message)?;
            Judge::PLAIN.check(&self.caller.post_json(&url, &body).await?)
        })
    }
}
