//! What a template is given, and how its paths are walked.
//!
//! A structure is a map with its kind under a name that nobody can write; a map without one is a
//! set of names and values (Alertmanager's `KV`). Lists of pairs and of texts have methods, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{TemplateError, Value};
use pilothouse_model::Labels;
use pilothouse_model::sample::format_float_general;
use serde_json::{Map, json};

use super::time::{self, ZERO_MS};
use super::{Templates, duration};

const KIND: &str = "\u{1}kind";

/// The data of a notification, Alertmanager's `template.Data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    pub receiver: String,
    pub status: &'static str,
    pub alerts: Vec<AlertData>,
    pub notification_reason: &'static str,
    pub group_labels: BTreeMap<String, String>,
    pub common_labels: BTreeMap<String, String>,
    pub common_annotations: BTreeMap<String, String>,
    pub route_labels: BTreeMap<String, String>,
    pub external_url: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertData {
    pub resolved: bool,
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    pub starts_at_ms: i64,
    /// `None` while it fires.
    pub ends_at_ms: Option<i64>,
    pub generator_url: String,
    pub fingerprint: u64,
}

pub(super) fn text(text: &str) -> Value {
    Value::String(Arc::from(text))
}

pub(super) fn structure<const N: usize>(kind: &str, fields: [(&str, Value); N]) -> Value {
    let kind = [(Arc::from(KIND), text(kind))];
    Value::Map(Arc::new(fields.into_iter().map(|(n, v)| (Arc::from(n), v)).chain(kind).collect()))
}

/// The kind of a structure.
pub(super) fn kind_of(value: &Value) -> Option<&str> {
    match value.field(KIND) {
        Some(Value::String(kind)) => Some(kind),
        _ => None,
    }
}

fn kv<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Value {
    let pairs = pairs.into_iter().map(|(n, v)| (Arc::from(n.as_ref()), text(v.as_ref())));
    Value::Map(Arc::new(pairs.collect()))
}

impl AlertData {
    fn status(&self) -> &'static str {
        if self.resolved { "resolved" } else { "firing" }
    }

    fn to_value(&self) -> Value {
        structure(
            "alert",
            [
                ("Status", text(self.status())),
                ("Labels", kv(&self.labels)),
                ("Annotations", kv(&self.annotations)),
                ("StartsAt", time::to_value(&time::from_ms(self.starts_at_ms))),
                ("EndsAt", time::to_value(&time::from_ms(self.ends_at_ms.unwrap_or(ZERO_MS)))),
                ("GeneratorURL", text(&self.generator_url)),
                ("Fingerprint", text(&format!("{:016x}", self.fingerprint))),
            ],
        )
    }

    /// As payloads have it.
    pub fn to_json(&self) -> serde_json::Value {
        to_json(&self.to_value())
    }
}

impl Data {
    pub fn to_value(&self) -> Value {
        let alerts: Vec<Value> = self.alerts.iter().map(AlertData::to_value).collect();
        structure(
            "data",
            [
                ("Receiver", text(&self.receiver)),
                ("Status", text(self.status)),
                ("Alerts", Value::List(alerts.into())),
                ("NotificationReason", text(self.notification_reason)),
                ("GroupLabels", kv(&self.group_labels)),
                ("CommonLabels", kv(&self.common_labels)),
                ("CommonAnnotations", kv(&self.common_annotations)),
                ("RouteLabels", kv(&self.route_labels)),
                ("ExternalURL", text(&self.external_url)),
            ],
        )
    }

    /// Runs the templates among the labels of the route. One that fails is left out.
    pub fn render_route_labels(&mut self, templates: &Templates) {
        if self.route_labels.values().all(|v| !v.contains("{{")) {
            return;
        }
        let data = self.to_value();
        self.route_labels.retain(|name, value| match templates.text(value, &data) {
            Ok(rendered) => {
                *value = rendered;
                true
            }
            Err(error) => {
                tracing::warn!(label = %name, %error, "label of a route cannot be rendered");
                false
            }
        });
    }
}

/// One step of a path: a field or a method of a value.
pub(super) fn get(args: &[Value]) -> Result<Value, TemplateError> {
    let [value, Value::String(name), args @ ..] = args else {
        return Err(TemplateError::Exec("nil data; no entry for key".to_owned()));
    };
    let found = match value {
        Value::List(items) => of_list(items, name, args),
        Value::Map(map) => match kind_of(value) {
            Some("time") => time::from_value(value).and_then(|t| time::get(&t, name, args)),
            Some("duration") => duration::from_value(value).and_then(|ns| duration::get(ns, name)),
            Some(_) => map.get(&**name).cloned(),
            None => Some(of_kv(map, name, args)?),
        },
        Value::Nil => {
            return Err(TemplateError::Exec(format!("nil pointer evaluating interface {{}}.{name}")));
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let kind = kind_of(value).unwrap_or_else(|| value.type_name());
        TemplateError::Exec(format!("can't evaluate field {name} in type {kind}"))
    })
}

type Entries = BTreeMap<Arc<str>, Value>;

/// A set of names and values: methods first, as Go has it; a missing name is empty.
fn of_kv(map: &Entries, name: &str, args: &[Value]) -> Result<Value, TemplateError> {
    Ok(match (name, args) {
        ("SortedPairs", []) => sorted_pairs(map),
        ("Names", []) => column(&sorted_pairs(map), "Name"),
        ("Values", []) => column(&sorted_pairs(map), "Value"),
        ("Remove", [Value::List(names)]) => {
            let kept = map.iter().filter(|(key, _)| !names.contains(&Value::String(Arc::clone(key))));
            Value::Map(Arc::new(kept.map(|(k, v)| (Arc::clone(k), v.clone())).collect()))
        }
        ("Remove", _) => return Err(TemplateError::Exec("wrong number of args for Remove".to_owned())),
        ("String", []) if !map.contains_key("String") => text(&print_pairs(&sorted_pairs(map))),
        (name, []) => map.get(name).cloned().unwrap_or_else(|| text("")),
        _ => return Err(TemplateError::Exec(format!("{name} is not a method but has arguments"))),
    })
}

/// Pairs by name, `alertname` in front.
fn sorted_pairs(map: &Entries) -> Value {
    let pair = |(name, value): (&Arc<str>, &Value)| {
        structure("pair", [("Name", Value::String(Arc::clone(name))), ("Value", value.clone())])
    };
    let is_name = |name: &Arc<str>| &**name == "alertname";
    let first = map.iter().filter(|(name, _)| is_name(name));
    let rest = map.iter().filter(|(name, _)| !is_name(name));
    Value::List(first.chain(rest).map(pair).collect::<Vec<_>>().into())
}

fn column(pairs: &Value, name: &str) -> Value {
    let Value::List(pairs) = pairs else { return Value::List(Vec::new().into()) };
    Value::List(pairs.iter().filter_map(|p| p.field(name).cloned()).collect::<Vec<_>>().into())
}

fn of_list(items: &Arc<[Value]>, name: &str, args: &[Value]) -> Option<Value> {
    let with_status = |status: &str| {
        let kept = items.iter().filter(|a| a.field("Status") == Some(&text(status)));
        Value::List(kept.cloned().collect::<Vec<_>>().into())
    };
    Some(match (name, args) {
        ("Firing", []) => with_status("firing"),
        ("Resolved", []) => with_status("resolved"),
        ("Names", []) => column(&Value::List(Arc::clone(items)), "Name"),
        ("Values", []) => column(&Value::List(Arc::clone(items)), "Value"),
        ("String", []) => text(&print(&Value::List(Arc::clone(items)))),
        ("Join", [Value::String(separator)]) => text(&join(items, separator)),
        _ => return None,
    })
}

pub(super) fn join(items: &[Value], separator: &str) -> String {
    items.iter().map(print).collect::<Vec<_>>().join(separator)
}

fn print_pairs(pairs: &Value) -> String {
    let Value::List(pairs) = pairs else { return String::new() };
    let pair = |p: &Value| {
        let part = |name: &str| p.field(name).map(print).unwrap_or_default();
        format!("{}={}", part("Name"), part("Value"))
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
}

/// A value as Go prints it.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Nil => "<no value>".to_owned(),
        Value::String(text) => text.to_string(),
        Value::Float(f) => format_float_general(*f),
        Value::List(items) if items.first().and_then(kind_of) == Some("pair") => print_pairs(value),
        Value::List(items) => format!("[{}]", join(items, " ")),
        Value::Map(map) => match kind_of(value) {
            Some("time") => time::from_value(value).map(|t| t.to_string()).unwrap_or_default(),
            Some("duration") => duration::from_value(value)
                .map(pilothouse_query::units::format_go_duration)
                .unwrap_or_default(),
            Some(_) => {
                let fields = map.iter().filter(|(name, _)| &***name != KIND).map(|(_, v)| print(v));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(" "))
            }
            None => print_pairs(&sorted_pairs(map)),
        },
        other => other.to_string(),
    }
}

/// Names of fields in JSON, in the order of Alertmanager's structures.
const ALERT_FIELDS: [(&str, &str); 7] = [
    ("Status", "status"),
    ("Labels", "labels"),
    ("Annotations", "annotations"),
    ("StartsAt", "startsAt"),
    ("EndsAt", "endsAt"),
    ("GeneratorURL", "generatorURL"),
    ("Fingerprint", "fingerprint"),
];
const DATA_FIELDS: [(&str, &str); 9] = [
    ("Receiver", "receiver"),
    ("Status", "status"),
    ("Alerts", "alerts"),
    ("NotificationReason", "notification_reason"),
    ("GroupLabels", "groupLabels"),
    ("CommonLabels", "commonLabels"),
    ("CommonAnnotations", "commonAnnotations"),
    ("RouteLabels", "routeLabels"),
    ("ExternalURL", "externalURL"),
];

/// A value as Go's `encoding/json` would have it.
pub(super) fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(b) => json!(b),
        Value::Int(n) => json!(n),
        Value::Uint(n) => json!(n),
        Value::Float(f) => json!(f),
        Value::String(s) => json!(&**s),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(map) => match kind_of(value) {
            Some("alert") => fields(map, &ALERT_FIELDS),
            Some("data") => fields(map, &DATA_FIELDS),
            Some("pair") => fields(map, &[("Name", "Name"), ("Value", "Value")]),
            Some("time") => {
                time::from_value(value).map_or(serde_json::Value::Null, |t| json!(time::rfc3339(&t)))
            }
            Some("duration") => json!(duration::from_value(value)),
            _ => map.iter().map(|(k, v)| (k.to_string(), to_json(v))).collect::<Map<_, _>>().into(),
        },
        other => json!(other.to_string()),
    }
}

fn fields(map: &Entries, names: &[(&str, &str)]) -> serde_json::Value {
    let field = |(name, shown): &(&str, &str)| Some(((*shown).to_owned(), map.get(*name).map(to_json)?));
    names.iter().filter_map(field).collect::<Map<_, _>>().into()
}
