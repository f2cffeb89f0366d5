//! A notification before it takes the shape of a service.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use gotmpl::Value;
use parking_lot::Mutex;
use pilothouse_model::Labels;
use pilothouse_model::yaml::{is_too_deep, repeats_too_much};
use sha2::{Digest as _, Sha256};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::Failure;
use crate::alert::Held;
use crate::nflog::{Notes, Reason};
use crate::templates::{AlertData, Data, TemplateError, Templates};

/// An alert of a message, as it was when its group was looked at. Messages may wait for long, so
/// they hold no copies.
#[derive(Debug, Clone)]
pub struct Told {
    pub alert: Arc<Held>,
    /// Whether it was over then.
    pub resolved: bool,
}

impl Told {
    /// As templates see it. What does not end yet has no end.
    fn data(&self) -> AlertData {
        let (alert, resolved) = (&self.alert, self.resolved);
        AlertData {
            resolved,
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at_ms: alert.starts_at_ms,
            ends_at_ms: resolved.then_some(alert.ends_at_ms),
            generator_url: alert.generator_url.clone(),
            fingerprint: alert.fingerprint,
        }
    }
}

/// What is to be told to one integration.
#[derive(Debug)]
pub struct Message {
    pub receiver: String,
    pub group_key: Arc<str>,
    pub group_labels: Labels,
    pub route_labels: BTreeMap<String, String>,
    /// All integrations of a receiver are told of the same.
    pub alerts: Arc<[Told]>,
    pub reason: Reason,
    pub templates: Arc<Templates>,
    pub external_url: Arc<str>,
    pub now_ms: i64,
    /// What the integration noted when it told this group last; what it leaves here is kept if
    /// the message goes out.
    pub(crate) notes: Mutex<Notes>,
}

/// The parts of a message that templates see, made once per try.
pub(crate) struct Rendering<'a> {
    templates: &'a Templates,
    pub(crate) data: Data,
    value: OnceLock<Value>,
}

impl Message {
    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(|a| !a.resolved)
    }

    /// What its alerts take in memory, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.alerts.iter().map(|told| told.alert.bytes()).sum()
    }

    /// The name of the group where names are limited: SHA-256 of its key, in hexadecimal.
    pub(crate) fn group_hash(&self) -> String {
        Sha256::digest(self.group_key.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
    }

    pub(crate) fn rendering(&self) -> Rendering<'_> {
        self.rendering_first(0).0
    }

    /// Of so many alerts alone, all of them with 0: what they have in common and whether they fire
    /// is then said of these. Beside it, how many were left out.
    pub(crate) fn rendering_first(&self, most: usize) -> (Rendering<'_>, usize) {
        let kept = if most == 0 { self.alerts.len() } else { most.min(self.alerts.len()) };
        let alerts = self.alerts.get(..kept).unwrap_or_default();
        let data = apart(|| {
            let mut data = self.data(alerts);
            data.render_route_labels(&self.templates);
            data
        });
        let rendering = Rendering { templates: &self.templates, data, value: OnceLock::new() };
        (rendering, self.alerts.len() - kept)
    }

    fn data(&self, alerts: &[Told]) -> Data {
        let alerts: Vec<AlertData> = alerts.iter().map(Told::data).collect();
        Data {
            receiver: quote_meta(&self.receiver),
            status: if alerts.iter().any(|a| !a.resolved) { "firing" } else { "resolved" },
            notification_reason: self.reason.text(),
            group_labels: pairs(&self.group_labels),
            common_labels: common(alerts.iter().map(|a| pairs(&a.labels))),
            common_annotations: common(alerts.iter().map(|a| a.annotations.clone())),
            alerts,
            route_labels: self.route_labels.clone(),
            external_url: self.external_url.to_string(),
        }
    }
}

impl Rendering<'_> {
    fn value(&self) -> &Value {
        self.value.get_or_init(|| apart(|| self.data.to_value()))
    }

    /// What a template prints, as it is.
    pub(crate) fn text(&self, template: &str) -> Result<String, Failure> {
        if is_plain(template) {
            return Ok(template.to_owned());
        }
        let value = self.value();
        apart(|| self.templates.text(template, value)).map_err(unprintable)
    }

    /// What a template prints, as HTML.
    pub(crate) fn html(&self, template: &str) -> Result<String, Failure> {
        let value = self.value();
        apart(|| self.templates.html(template, value)).map_err(unprintable)
    }

    /// Every text within a structure as a template. A result that reads as YAML of another kind
    /// than a text becomes what it reads as, as Alertmanager does with details and payloads.
    pub(crate) fn deep(&self, value: &serde_json::Value) -> Result<serde_json::Value, Failure> {
        use serde_json::Value as Json;
        Ok(match value {
            Json::String(template) => structured(self.text(template)?),
            Json::Array(items) => {
                Json::Array(items.iter().map(|item| self.deep(item)).collect::<Result<_, _>>()?)
            }
            Json::Object(map) => {
                let pair = |(name, value): (&String, &Json)| Ok((self.text(name)?, self.deep(value)?));
                Json::Object(map.iter().map(pair).collect::<Result<_, Failure>>()?)
            }
            other => other.clone(),
        })
    }
}

/// A text that asks for nothing; what templates see of very many alerts takes much memory.
fn is_plain(template: &str) -> bool {
    !template.contains("{{")
}

/// Printing may take long: a group may have very many alerts, and a template a million rounds. The
/// other tasks of this worker go on elsewhere meanwhile.
fn apart<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn unprintable(error: TemplateError) -> Failure {
    Failure::invalid(error)
}

fn structured(text: String) -> serde_json::Value {
    if is_too_deep(text.as_bytes()) || repeats_too_much(text.as_bytes()) {
        return text.into();
    }
    match serde_norway::from_str::<serde_json::Value>(&text) {
        Ok(serde_json::Value::String(_) | serde_json::Value::Null) | Err(_) => text.into(),
        Ok(other) => other,
    }
}

fn pairs(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// The pairs that all sets have.
fn common(mut sets: impl Iterator<Item = BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let mut left = sets.next().unwrap_or_default();
    for set in sets {
        left.retain(|name, value| set.get(name) == Some(value));
    }
    left
}

/// A name as an expression that matches it alone: it goes into an address of the page.
fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
