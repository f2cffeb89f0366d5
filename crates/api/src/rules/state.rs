//! The state of rules and their alerts, in Prometheus' shapes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use pilothouse_control::{Scope as Of, SourceKind};
use pilothouse_model::Matcher;
use pilothouse_model::labels::quote;
use pilothouse_promql::{ParseContext, parse_selector};
use pilothouse_rules::{ActiveAlert, GroupView, RuleKind, RuleView, Ruler};

use super::{blocking, source_of};
use crate::App;
use crate::answer::success_object;
use crate::error::ApiError;
use crate::json::{Object, push_object};
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

pub(super) async fn rules(app: &Arc<App>, call: &Call) -> Result<Reply, ApiError> {
    let filter = Filter::read(&call.params)?;
    let page = Page::read(&call.params)?;
    let (views, app) = (views(app, call)?, Arc::clone(app));
    blocking(move || page_of(&app, views(), &filter, &page)).await?
}

pub(super) async fn alerts(app: &Arc<App>, call: &Call) -> Result<Reply, ApiError> {
    let (views, app) = (views(app, call)?, Arc::clone(app));
    let work = move || {
        let rules = views().into_iter().flat_map(|group| group.rules);
        let alerts = rules.flat_map(|rule| match rule.kind {
            RuleKind::Alerting { alerts, .. } => alerts,
            RuleKind::Recording => Vec::new(),
        });
        let alerts: Vec<ActiveAlert> = alerts.collect();
        let show = || success_object(|object| object.list("alerts", &alerts, push_alert));
        app.listing(alerts.len() * ALERT_BYTES, show)
    };
    blocking(work).await?
}

/// What an alert, or a rule without its alerts, takes in an answer.
const ALERT_BYTES: usize = 1 << 10;
const RULE_BYTES: usize = 2 << 10;

fn bytes_of(rule: &RuleView) -> usize {
    let alerts = match &rule.kind {
        RuleKind::Alerting { alerts, .. } => alerts.len(),
        RuleKind::Recording => 0,
    };
    RULE_BYTES + rule.query.len() + alerts * ALERT_BYTES
}

/// The groups that a request may see: those of its root's source, or on the shared root those of
/// the default sources as far as the token's scopes reach, series first.
fn views(app: &App, call: &Call) -> Result<impl FnOnce() -> Vec<GroupView> + Send + 'static, ApiError> {
    let ruler: Arc<Ruler> = Arc::clone(&app.rulers.get()?.0);
    let mut sources = Vec::new();
    if call.segment("ds").is_empty() {
        for kind in [SourceKind::Metrics, SourceKind::Logs] {
            if may_see(call, kind)
                && let Ok(source) = source_of(app, call, kind)
            {
                sources.push(source.id.to_string());
            }
        }
    } else {
        sources.push(source_of(app, call, SourceKind::Metrics)?.id.to_string());
    }
    Ok(move || sources.iter().flat_map(|source| ruler.views(source)).collect())
}

fn may_see(call: &Call, kind: SourceKind) -> bool {
    let Some(grant) = call.caller.grant() else { return true };
    let scopes: [Of; 2] = match kind {
        SourceKind::Logs => [Of::ReadLogs, Of::LogsRules],
        _ => [Of::ReadMetrics, Of::MetricsRules],
    };
    grant.scopes().intersects(scopes.into_iter().collect())
}

/// Which rules to list, and how.
struct Filter {
    names: HashSet<String>,
    groups: HashSet<String>,
    files: HashSet<String>,
    matcher_sets: Vec<Vec<Matcher>>,
    alerting: bool,
    recording: bool,
    exclude_alerts: bool,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, ApiError> {
        // Prometheus' clients write brackets, Loki's and older ones of Grafana do not.
        let set = |name: &str| -> HashSet<String> {
            let bracketed = format!("{name}[]");
            params.all(name).chain(params.all(&bracketed)).map(str::to_owned).collect()
        };
        let kind = params.text("type").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(ApiError::parameter("type", format!("not supported value {}", quote(&kind))));
        }
        let context = ParseContext::default();
        let selectors = params
            .all("match[]")
            .map(|text| parse_selector(text, &context).map_err(|e| ApiError::parameter("match[]", e)));
        Ok(Self {
            names: set("rule_name"),
            groups: set("rule_group"),
            files: set("file"),
            matcher_sets: selectors.collect::<Result<_, _>>()?,
            alerting: kind != "record",
            recording: kind != "alert",
            exclude_alerts: flag(params, "exclude_alerts")?,
        })
    }

    fn takes_group(&self, group: &GroupView) -> bool {
        let within = |set: &HashSet<String>, name: &str| set.is_empty() || set.contains(name);
        within(&self.groups, &group.key.name) && within(&self.files, &group.key.namespace)
    }

    fn takes(&self, rule: &RuleView) -> bool {
        let of_kind = match rule.kind {
            RuleKind::Alerting { .. } => self.alerting,
            RuleKind::Recording => self.recording,
        };
        let value = |name: &str| rule.labels.get(name).map_or("", String::as_str);
        let holds = |set: &Vec<Matcher>| set.iter().all(|m| m.matches(value(&m.name)));
        of_kind
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.matcher_sets.is_empty() || self.matcher_sets.iter().any(holds))
    }
}

/// As Go reads a boolean.
fn flag(params: &Params, name: &str) -> Result<bool, ApiError> {
    match params.text(name).to_lowercase().as_str() {
        "" | "0" | "f" | "false" => Ok(false),
        "1" | "t" | "true" => Ok(true),
        other => Err(ApiError::parameter(
            name,
            format!("error converting {name}: strconv.ParseBool: parsing {}: invalid syntax", quote(other)),
        )),
    }
}

/// How many groups to list, and from which on.
struct Page {
    limit: Option<usize>,
    token: String,
}

impl Page {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let (limit, token) = (params.text("group_limit"), params.text("group_next_token"));
        if limit.is_empty() {
            if !token.is_empty() {
                let why = "group_limit needs to be present in order to paginate over the groups";
                return Err(ApiError::parameter("group_next_token", why));
            }
            return Ok(Self { limit: None, token: String::new() });
        }
        let number: i32 = limit.parse().map_err(|_| {
            let why = format!("strconv.ParseInt: parsing {}: invalid syntax", quote(limit));
            ApiError::parameter("group_limit", format!("group_limit needs to be a valid number: {why}"))
        })?;
        match usize::try_from(number) {
            Ok(limit) if limit > 0 => Ok(Self { limit: Some(limit), token: token.to_owned() }),
            _ => Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0")),
        }
    }
}

/// What stands for a group in a request for the next page.
fn token_of(group: &GroupView) -> String {
    let key = &group.key;
    let parts = [("file", key.namespace.as_str()), ("name", &key.name), ("source", &key.source)];
    format!("{:032x}", pilothouse_model::Labels::from_pairs(parts).fingerprint())
}

fn page_of(app: &App, groups: Vec<GroupView>, filter: &Filter, page: &Page) -> Result<Reply, ApiError> {
    let mut from = 0;
    if !page.token.is_empty() {
        from = groups.iter().position(|group| token_of(group) == page.token).ok_or_else(|| {
            let token = &page.token;
            let why = format!("invalid group_next_token '{token}'. were rule groups changed?");
            ApiError::parameter("group_next_token", why)
        })?;
    }
    let (mut shown, mut next) = (Vec::new(), None);
    for mut group in groups.into_iter().skip(from).filter(|group| filter.takes_group(group)) {
        group.rules.retain(|rule| filter.takes(rule));
        if group.rules.is_empty() {
            continue;
        }
        if page.limit == Some(shown.len()) {
            next = Some(token_of(&group));
            break;
        }
        shown.push(group);
    }
    let show = || {
        success_object(|object| {
            object.list("groups", &shown, |out, group| push_group(out, group, filter.exclude_alerts));
            if let Some(token) = &next {
                object.text("groupNextToken", token);
            }
        })
    };
    app.listing(shown.iter().flat_map(|group| &group.rules).map(bytes_of).sum(), show)
}

// ---- shapes ----

fn put_seconds(object: &mut Object<'_>, name: &str, ms: i64) {
    object.float(name, ms as f64 / 1000.0);
}

fn put_texts(object: &mut Object<'_>, name: &str, texts: &BTreeMap<String, String>) {
    object
        .object(name, |object| object.texts(texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))));
}

fn push_group(out: &mut String, group: &GroupView, exclude_alerts: bool) {
    push_object(out, |object| {
        object.text("name", &group.key.name);
        object.text("file", &group.key.namespace);
        object.list("rules", &group.rules, |out, rule| push_rule(out, rule, exclude_alerts));
        put_seconds(object, "interval", group.interval_ms);
        object.integer("limit", group.limit);
        if let Some(offset_ms) = group.query_offset_ms {
            put_seconds(object, "queryOffset", offset_ms);
        }
        object.float("evaluationTime", group.evaluation_seconds);
        object.time("lastEvaluation", group.last_evaluation_ms);
    });
}

fn push_rule(out: &mut String, rule: &RuleView, exclude_alerts: bool) {
    push_object(out, |object| {
        if let RuleKind::Alerting { state, .. } = &rule.kind {
            object.text("state", state.as_str());
        }
        object.text("name", &rule.name);
        object.text("query", &rule.query);
        if let RuleKind::Alerting { for_ms, keep_firing_for_ms, .. } = &rule.kind {
            put_seconds(object, "duration", *for_ms);
            put_seconds(object, "keepFiringFor", *keep_firing_for_ms);
        }
        put_texts(object, "labels", &rule.labels);
        if let RuleKind::Alerting { annotations, alerts, .. } = &rule.kind {
            put_texts(object, "annotations", annotations);
            let shown = if exclude_alerts { &[] } else { alerts.as_slice() };
            object.list("alerts", shown, push_alert);
        }
        object.text("health", rule.health.as_str());
        if let Some(error) = &rule.last_error {
            object.text("lastError", error);
        }
        object.float("evaluationTime", rule.evaluation_seconds);
        object.time("lastEvaluation", rule.last_evaluation_ms);
        let is_recording = matches!(rule.kind, RuleKind::Recording);
        object.text("type", if is_recording { "recording" } else { "alerting" });
    });
}

fn push_alert(out: &mut String, alert: &ActiveAlert) {
    push_object(out, |object| {
        object.labels("labels", &alert.labels);
        put_texts(object, "annotations", &alert.annotations);
        object.text("state", alert.state.as_str());
        object.time("activeAt", Some(alert.active_at_ms));
        if alert.keep_firing_since_ms.is_some() {
            object.time("keepFiringSince", alert.keep_firing_since_ms);
        }
        object.text("value", &exponent_form(alert.value));
    });
}

/// As Go's `strconv.FormatFloat(f, 'e', -1, 64)`: always an exponent, of two digits at least.
fn exponent_form(value: f64) -> String {
    if !value.is_finite() {
        return pilothouse_model::sample::format_float(value);
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_always_have_an_exponent() {
        for (value, expected) in [
            (1.0, "1e+00"),
            (1.5, "1.5e+00"),
            (0.0, "0e+00"),
            (-0.025, "-2.5e-02"),
            (123456789.0, "1.23456789e+08"),
            (1e-100, "1e-100"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(exponent_form(value), expected);
        }
    }
}
