//! Jira: an issue per group, found again by a label, reopened and resolved by transitions.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use pilothouse_net::{Request, Secret};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json, json};

use super::call::{Caller, Judge, OwnHttp, check_http, inherit_http, json_request, shorten};
use super::message::Rendering;
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, Millis};
use crate::telemetry::FailureReason;

const MAX_SUMMARY_CHARS: usize = 255;
const MAX_DESCRIPTION_CHARS: usize = 32_767;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JiraConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_url: Option<HttpUrl>,
    pub api_type: String,
    pub project: String,
    pub summary: FieldTemplate,
    pub description: FieldTemplate,
    pub labels: Vec<String>,
    pub priority: String,
    pub issue_type: String,
    pub reopen_transition: String,
    pub resolve_transition: String,
    pub wont_fix_resolution: String,
    pub reopen_duration: Millis,
    pub fields: BTreeMap<String, Json>,
}

/// A template, and whether an issue that is there is changed by it.
#[derive(Debug, Clone)]
pub(crate) struct FieldTemplate {
    pub template: String,
    pub enable_update: bool,
}

impl<'de> Deserialize<'de> for FieldTemplate {
    /// A text, or the two by name.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Named {
            #[serde(default)]
            template: String,
            enable_update: Option<bool>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Named(Named),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(template) => Self { template, enable_update: true },
            Either::Named(n) => Self { template: n.template, enable_update: n.enable_update.unwrap_or(true) },
        })
    }
}

impl Default for JiraConfig {
    fn default() -> Self {
        let field = |template| FieldTemplate { template, enable_update: true };
        Self {
            send_resolved: true,
            http_config: None,
            api_url: None,
            api_type: "auto".to_owned(),
            project: String::new(),
            summary: field(template!("jira.default.summary")),
            description: field(template!("jira.default.description")),
            labels: Vec::new(),
            priority: template!("jira.default.priority"),
            issue_type: String::new(),
            reopen_transition: String::new(),
            resolve_transition: String::new(),
            wont_fix_resolution: String::new(),
            reopen_duration: Millis(0),
            fields: BTreeMap::new(),
        }
    }
}

impl Kind for JiraConfig {
    basics!("jira");

    fn check(&self) -> Result<(), String> {
        if self.project.is_empty() {
            return Err("missing project in jira_config".to_owned());
        }
        if self.issue_type.is_empty() {
            return Err("missing issue_type in jira_config".to_owned());
        }
        if !matches!(self.api_type.as_str(), "auto" | "cloud" | "datacenter") {
            return Err("unknown api_type on jira_config, must be auto, cloud or datacenter".to_owned());
        }
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        if self.api_url.is_none() {
            self.api_url.clone_from(&global.jira_api_url);
        }
        if self.api_url.is_none() {
            return Err("no global Jira Cloud URL set".to_owned());
        }
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Jira { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Jira {
    options: JiraConfig,
    caller: Caller,
}

impl Jira {
    fn base(&self) -> String {
        self.options.api_url.clone().unwrap_or_default().0.trim_end_matches('/').to_owned()
    }

    fn is_cloud(&self, base: &str) -> bool {
        let host =
            url::Url::parse(base).ok().and_then(|u| u.host_str().map(str::to_owned)).unwrap_or_default();
        match self.options.api_type.as_str() {
            "cloud" => true,
            "auto" => host.ends_with("atlassian.net"),
            _ => false,
        }
    }

    /// Jira's cloud has moved its search.
    fn search_url(&self) -> String {
        let base = self.base();
        if self.is_cloud(&base) {
            return format!("{base}/search/jql").replacen("/rest/api/2/", "/rest/api/3/", 1);
        }
        format!("{base}/search")
    }

    fn label(message: &Message) -> String {
        format!("ALERT{{{}}}", message.group_hash())
    }

    /// The query for issues of the group that are open, or closed not long ago.
    fn query(&self, message: &Message, project: &str) -> String {
        let o = &self.options;
        let mut query = String::new();
        if !o.wont_fix_resolution.is_empty() {
            query = format!("(resolution is EMPTY or resolution != {:?}) and ", o.wont_fix_resolution);
        }
        let minutes = o.reopen_duration.0 / 60_000;
        if message.is_firing() && !o.reopen_transition.is_empty() && minutes > 0 {
            query += &format!("(resolutiondate is EMPTY OR resolutiondate >= -{minutes}m) and ");
        } else {
            query += "statusCategory != Done and ";
        }
        format!(
            "{query}project={project:?} and labels={:?} order by status ASC,resolutiondate DESC",
            Self::label(message)
        )
    }

    /// Makes a call and gives the answer's body, which means something only where it is asked for.
    async fn call(&self, method: Method, url: &str, body: Option<&Json>) -> Result<Bytes, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("en"));
        let request = match body {
            Some(body) => json_request(method, url, body, headers),
            None => Request { method, url: Secret::new(url), headers, body: Bytes::new() },
        };
        let answer = self.caller.send(request).await?;
        Judge::retrying(&[429]).check(&answer)?;
        Ok(answer.body)
    }

    async fn existing(&self, message: &Message) -> Result<Option<Json>, Failure> {
        let project = message.rendering().text(&self.options.project)?;
        let search = json!({"jql": self.query(message, &project), "maxResults": 2, "fields": ["status"]});
        let found = self
            .call(Method::POST, &self.search_url(), Some(&search))
            .await
            .map_err(|f| Failure { text: format!("failed to look up existing issues: {}", f.text), ..f })?;
        let found = read(&found)?;
        Ok(found["issues"].as_array().and_then(|issues| issues.first()).cloned())
    }

    fn description(&self, r: &Rendering<'_>) -> Result<Json, Failure> {
        let text = shorten(&r.text(&self.options.description.template)?, MAX_DESCRIPTION_CHARS);
        if !self.base().ends_with("/3") {
            return Ok(text.into());
        }
        // Version 3 wants a document.
        match text.trim() {
            "" => Ok("".into()),
            text => serde_json::from_str(text)
                .map_err(|_| Failure::invalid("description template: invalid JSON for API v3")),
        }
    }

    fn issue(&self, message: &Message, is_new: bool) -> Result<Json, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let mut labels = o.labels.iter().map(|l| r.text(l)).collect::<Result<Vec<_>, _>>()?;
        labels.push(Self::label(message));
        labels.sort();
        let mut fields = Map::new();
        fields.insert("project".to_owned(), json!({"key": r.text(&o.project)?}));
        fields.insert("issuetype".to_owned(), json!({"name": r.text(&o.issue_type)?}));
        fields.insert("labels".to_owned(), json!(labels));
        if is_new || o.summary.enable_update {
            let summary = shorten(&r.text(&o.summary.template)?, MAX_SUMMARY_CHARS);
            fields.insert("summary".to_owned(), summary.into());
        }
        let description = self.description(&r)?;
        if description != "" && (is_new || o.description.enable_update) {
            fields.insert("description".to_owned(), description);
        }
        let priority = r.text(&o.priority)?;
        if !priority.is_empty() {
            fields.insert("priority".to_owned(), json!({"name": priority}));
        }
        for (name, value) in &o.fields {
            fields.insert(name.clone(), r.deep(value)?);
        }
        Ok(json!({ "fields": fields }))
    }

    /// Moves an issue where the group's state wants it.
    async fn transition(&self, issue: &Json, firing: bool) -> Result<(), Failure> {
        let done = issue["fields"]["status"]["statusCategory"]["key"] == "done";
        let wanted = match (firing, done) {
            (true, true) => &self.options.reopen_transition,
            (false, false) => &self.options.resolve_transition,
            _ => return Ok(()),
        };
        let key = issue["key"].as_str().unwrap_or_default();
        if wanted.is_empty() || key.is_empty() {
            return Ok(());
        }
        let url = format!("{}/issue/{key}/transitions", self.base());
        let known = read(&self.call(Method::GET, &url, None).await?)?;
        let found =
            known["transitions"].as_array().into_iter().flatten().find(|t| t["name"] == wanted.as_str());
        let Some(id) = found.and_then(|t| t["id"].as_str()) else {
            return Err(Failure::invalid(format!("can't find transition {wanted} for issue {key}")));
        };
        self.call(Method::POST, &url, Some(&json!({"transition": {"id": id}}))).await.map(drop)
    }
}

fn read(body: &Bytes) -> Result<Json, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::last(FailureReason::Other, e))
}

impl Notifier for Jira {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let Some(issue) = self.existing(message).await? else {
                if !message.is_firing() {
                    return Ok(());
                }
                let body = self.issue(message, true)?;
                return self
                    .call(Method::POST, &format!("{}/issue", self.base()), Some(&body))
                    .await
                    .map(drop);
            };
            let key = issue["key"].as_str().unwrap_or_default();
            let body = self.issue(message, false)?;
            self.call(Method::PUT, &format!("{}/issue/{key}", self.base()), Some(&body)).await?;
            self.transition(&issue, message.is_firing()).await
        })
    }
}
