//! Alerting rules: each element of a result is an alert, which waits, fires and ends.
//!
//! This is arithmetic on states alone: times come in with every call, samples and alerts to
//! send go out. The rules are those of Prometheus.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::limits::RULE_TEXTS_BYTES;
use pilothouse_model::time::MINUTE_MS;
use pilothouse_model::{Alert, Labels, SampleValue};
use pilothouse_query::template::TemplateError;

use crate::expression::Element;
use crate::overlay::Overlay;
use crate::rule::RuleError;
use crate::template::{AlertData, AlertText, Surroundings};
use crate::written::Output;

pub(crate) const ALERTS: &str = "ALERTS";
pub(crate) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
pub(crate) const ALERT_NAME: &str = "alertname";
const ALERT_STATE: &str = "alertstate";
/// How long an alert that is over is kept, and told again, so that an Alertmanager that was away
/// gets to know.
const RESOLVED_RETENTION_MS: i64 = 15 * MINUTE_MS;

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    Inactive,
    Pending,
    Firing,
}

impl AlertState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert of a rule.
#[derive(Debug, Clone)]
pub struct ActiveAlert {
    pub labels: Labels,
    pub annotations: Arc<BTreeMap<String, String>>,
    pub state: AlertState,
    pub value: f64,
    pub active_at_ms: i64,
    pub fired_at_ms: Option<i64>,
    pub resolved_at_ms: Option<i64>,
    pub keep_firing_since_ms: Option<i64>,
    last_sent_ms: Option<i64>,
    /// When the Alertmanager may forget it unless it is told again.
    valid_until_ms: i64,
    series: Option<AlertSeries>,
}

/// The series of an alert in a state.
#[derive(Debug, Clone)]
struct AlertSeries {
    state: AlertState,
    alerts: Labels,
    for_state: Labels,
}

impl ActiveAlert {
    fn new(found: Found, ts_ms: i64) -> Self {
        Self {
            labels: found.labels,
            annotations: found.annotations,
            state: AlertState::Pending,
            value: found.value,
            active_at_ms: ts_ms,
            fired_at_ms: None,
            resolved_at_ms: None,
            keep_firing_since_ms: None,
            last_sent_ms: None,
            valid_until_ms: 0,
            series: None,
        }
    }

    /// Its labels, which its two series repeat, and its share of annotations that others have as well.
    fn text_bytes(&self) -> usize {
        let annotations: usize = self.annotations.iter().map(|(n, v)| n.len() + v.len()).sum();
        3 * self.labels.as_encoded().len() + annotations / Arc::strong_count(&self.annotations)
    }

    fn is_due(&self, ts_ms: i64, resend_delay_ms: i64) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(last_sent) = self.last_sent_ms else { return true };
        self.resolved_at_ms.is_some_and(|resolved| resolved > last_sent)
            || last_sent.saturating_add(resend_delay_ms) < ts_ms
    }

    fn outputs(&mut self, into: &mut Vec<Output>) {
        let series = match self.series.take() {
            Some(series) if series.state == self.state => series,
            _ => AlertSeries::new(&self.labels, self.state),
        };
        let float =
            |labels: &Labels, value| Output { labels: labels.clone(), value: SampleValue::Float(value) };
        into.push(float(&series.alerts, 1.0));
        into.push(float(&series.for_state, self.active_at_ms.div_euclid(1000) as f64));
        self.series = Some(series);
    }
}

impl AlertSeries {
    fn new(labels: &Labels, state: AlertState) -> Self {
        let pairs = |pairs: &[(&str, &str)]| {
            Overlay::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
        };
        Self {
            state,
            alerts: pairs(&[(METRIC_NAME, ALERTS), (ALERT_STATE, state.as_str())]).over(labels),
            for_state: pairs(&[(METRIC_NAME, ALERTS_FOR_STATE)]).over(labels),
        }
    }
}

/// An element of a result as an alert.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) labels: Labels,
    pub(crate) annotations: Arc<BTreeMap<String, String>>,
    pub(crate) value: f64,
}

/// What an alerting rule says, without any state.
#[derive(Debug)]
pub(crate) struct Alerting {
    pub(crate) hold_ms: i64,
    pub(crate) keep_firing_ms: i64,
    /// Labels whose texts are no templates, with the alert's name.
    plain: Overlay,
    templates: Vec<(String, AlertText)>,
    annotations: Vec<(String, AlertText)>,
    /// Annotations of which none is a template.
    plain_annotations: Option<Arc<BTreeMap<String, String>>>,
    /// The same labels and value always give the same alert.
    is_steady: bool,
    /// Matchers that all its series of state fulfil.
    pub(crate) fixed_labels: Vec<(String, String)>,
}

/// What the elements of the last result became, so that one that has not changed costs a look-up.
#[derive(Debug, Default)]
pub(crate) struct Remembered(FastMap<Labels, Found>);

impl Alerting {
    pub(crate) fn new(
        name: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
        (hold_ms, keep_firing_ms): (i64, i64),
    ) -> Result<Self, TemplateError> {
        let parse = |(key, text): (&String, &String)| Ok((key.clone(), AlertText::parse(name, text)?));
        let texts: Vec<(String, AlertText)> = labels.iter().map(parse).collect::<Result<_, _>>()?;
        let annotation_texts: Vec<_> = annotations.iter().map(parse).collect::<Result<_, TemplateError>>()?;
        let (plain, templates): (Vec<_>, Vec<_>) = texts.into_iter().partition(|(_, text)| text.is_plain());
        let mut over: BTreeMap<String, String> = plain
            .into_iter()
            .filter_map(|(key, _)| labels.get(&key).map(|value| (key, value.clone())))
            .collect();
        over.insert(ALERT_NAME.to_owned(), name.to_owned());
        let is_steady = templates.iter().chain(&annotation_texts).all(|(_, text)| text.is_steady());
        let all_plain = annotation_texts.iter().all(|(_, text)| text.is_plain());
        Ok(Self {
            hold_ms,
            keep_firing_ms,
            fixed_labels: over.iter().map(|(n, v)| (n.clone(), v.clone())).collect(),
            plain: Overlay::new(over),
            templates,
            annotations: annotation_texts,
            plain_annotations: all_plain.then(|| Arc::new(annotations.clone())),
            is_steady,
        })
    }

    /// The alerts of a result. `remembered` holds those of the last one and is replaced.
    pub(crate) fn found(
        &self,
        result: Vec<Element>,
        surroundings: &Rc<Surroundings>,
        remembered: &mut Remembered,
    ) -> Vec<Found> {
        let mut before = std::mem::take(&mut remembered.0);
        let mut all = Vec::with_capacity(result.len());
        let mut left_bytes = RULE_TEXTS_BYTES;
        for element in result {
            let value = element.float();
            let found = match before.remove(&element.labels) {
                Some(known) if self.is_steady && same(known.value, value, &element) => known,
                _ => self.expand(&element, value, surroundings, left_bytes),
            };
            left_bytes = left_bytes.saturating_sub(self.text_bytes(&found));
            if self.is_steady {
                remembered.0.insert(element.labels, found.clone());
            }
            all.push(found);
        }
        all
    }

    /// What the templates made of an alert.
    fn text_bytes(&self, found: &Found) -> usize {
        let labels = if self.templates.is_empty() { 0 } else { found.labels.as_encoded().len() };
        let made = self.plain_annotations.is_none();
        labels + if made { found.annotations.values().map(String::len).sum() } else { 0 }
    }

    fn expand(
        &self,
        element: &Element,
        value: f64,
        surroundings: &Rc<Surroundings>,
        left_bytes: usize,
    ) -> Found {
        let needs_data = !self.templates.is_empty() || self.plain_annotations.is_none();
        let data = needs_data.then(|| AlertData::new(element, surroundings));
        let mut labels = self.plain.over_without(&element.labels, METRIC_NAME);
        let annotations = match (&data, &self.plain_annotations) {
            (_, Some(plain)) => Arc::clone(plain),
            (Some(data), None) => {
                let expand = |(key, text): &(String, AlertText)| (key.clone(), text.expand(data, left_bytes));
                Arc::new(self.annotations.iter().map(expand).collect())
            }
            (None, None) => Arc::default(),
        };
        if let Some(data) = &data
            && !self.templates.is_empty()
        {
            let expand = |(key, text): &(String, AlertText)| (key.clone(), text.expand(data, left_bytes));
            let over: BTreeMap<String, String> =
                self.templates.iter().filter(|(key, _)| key != ALERT_NAME).map(expand).collect();
            labels = Overlay::new(over).over(&labels);
        }
        Found { labels, annotations, value }
    }
}

/// A histogram's value is 0 whatever it holds, so that it never is the same for certain.
fn same(before: f64, now: f64, element: &Element) -> bool {
    before.to_bits() == now.to_bits() && matches!(element.value, SampleValue::Float(_))
}

/// A change of an alert's state.
#[derive(Debug, Clone)]
pub struct Transition {
    pub labels: Labels,
    pub annotations: Arc<BTreeMap<String, String>>,
    pub from: AlertState,
    pub to: AlertState,
    pub value: f64,
    pub at_ms: i64,
}

/// The alerts of one rule.
#[derive(Debug)]
pub(crate) struct Alerts {
    active: FastMap<Labels, ActiveAlert>,
    /// Whether what was known before a restart has been read back; the series of state are only
    /// written from then on, since they would hide what is to be read.
    pub(crate) is_restored: bool,
}

impl Remembered {
    /// What it takes beside the alerts that it tells of, about.
    pub(crate) fn held_bytes(&self) -> usize {
        let labels: usize = self.0.keys().map(|labels| labels.as_encoded().len()).sum();
        self.0.capacity() * size_of::<(Labels, Found)>() + labels
    }
}

impl Alerts {
    pub(crate) fn new(is_restored: bool) -> Self {
        Self { active: FastMap::default(), is_restored }
    }

    /// With the series of each; about.
    pub(crate) fn held_bytes(&self) -> usize {
        self.active.capacity() * size_of::<(Labels, ActiveAlert)>()
            + self.active.values().map(ActiveAlert::text_bytes).sum::<usize>()
    }

    /// Takes the alerts of an evaluation at `ts_ms` and gives the series to write, and what has
    /// changed. After an error about the limit no alert is left, as in Prometheus.
    pub(crate) fn advance(
        &mut self,
        found: Vec<Found>,
        ts_ms: i64,
        rule: &Alerting,
        limit: i64,
    ) -> Result<(Vec<Output>, Vec<Transition>), RuleError> {
        let seen = self.take_in(found, ts_ms)?;
        let mut outputs = Vec::with_capacity(2 * seen.len());
        let (mut transitions, mut active) = (Vec::new(), 0usize);
        let is_restored = self.is_restored;
        self.active.retain(|labels, alert| {
            let from = if alert.series.is_none() && alert.active_at_ms == ts_ms {
                AlertState::Inactive
            } else {
                alert.state
            };
            let kept = step(alert, seen.contains_key(labels), ts_ms, rule);
            if kept.is_active {
                active += 1;
                if is_restored {
                    alert.outputs(&mut outputs);
                }
            }
            let to = if kept.stays { alert.state } else { AlertState::Inactive };
            if from != to {
                transitions.push(Transition {
                    labels: alert.labels.clone(),
                    annotations: Arc::clone(&alert.annotations),
                    from,
                    to,
                    value: alert.value,
                    at_ms: ts_ms,
                });
            }
            kept.stays
        });
        if limit > 0 && i64::try_from(active).is_ok_and(|n| n > limit) {
            self.active.clear();
            return Err(RuleError::TooManyAlerts { limit, alerts: active });
        }
        Ok((outputs, transitions))
    }

    /// Adds what is new, and refreshes what is known. Nothing changes if two have equal labels.
    fn take_in(&mut self, found: Vec<Found>, ts_ms: i64) -> Result<FastMap<Labels, ()>, RuleError> {
        let mut seen = FastMap::with_capacity_and_hasher(found.len(), Default::default());
        for one in &found {
            if seen.insert(one.labels.clone(), ()).is_some() {
                return Err(RuleError::DuplicateAlerts);
            }
        }
        for one in found {
            match self.active.get_mut(&one.labels) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.value = one.value;
                    alert.annotations = one.annotations;
                }
                _ => {
                    self.active.insert(one.labels.clone(), ActiveAlert::new(one, ts_ms));
                }
            }
        }
        Ok(seen)
    }

    /// Those that an Alertmanager must be told of now, marked as told.
    pub(crate) fn due(
        &mut self,
        ts_ms: i64,
        resend_delay_ms: i64,
        interval_ms: i64,
        generator_url: &str,
        external_labels: &Labels,
    ) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for alert in self.active.values_mut().filter(|alert| alert.is_due(ts_ms, resend_delay_ms)) {
            alert.last_sent_ms = Some(ts_ms);
            // Two evaluations, or two attempts to send, may fail.
            alert.valid_until_ms = ts_ms.saturating_add(4 * interval_ms.max(resend_delay_ms));
            alerts.push(Alert {
                labels: with_external(&alert.labels, external_labels),
                annotations: alert.annotations.as_ref().clone(),
                starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
                ends_at_ms: alert.resolved_at_ms.unwrap_or(alert.valid_until_ms),
                generator_url: generator_url.to_owned(),
            });
        }
        alerts
    }

    /// The highest state of any alert.
    pub(crate) fn state(&self) -> AlertState {
        self.active.values().map(|alert| alert.state).max().unwrap_or(AlertState::Inactive)
    }

    /// Those that wait or fire, by labels.
    pub(crate) fn active(&self) -> Vec<ActiveAlert> {
        let alive = self.active.values().filter(|alert| alert.resolved_at_ms.is_none());
        let mut alerts: Vec<ActiveAlert> = alive.cloned().collect();
        alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
        alerts
    }

    pub(crate) fn has_any(&self) -> bool {
        !self.active.is_empty()
    }

    /// Moves the alerts of another rule here, which this one takes the place of.
    pub(crate) fn take_over(&mut self, from: &mut Self) {
        self.active = std::mem::take(&mut from.active);
    }

    /// Gives alerts back the time since which they wait. `last` tells for the labels of an alert
    /// when its series of state was written last, and what it said: seconds since 1970.
    pub(crate) fn restore(
        &mut self,
        now_ms: i64,
        hold_ms: i64,
        grace_ms: i64,
        last: impl Fn(&Labels) -> Option<(i64, f64)>,
    ) {
        for alert in self.active.values_mut() {
            let Some((written_ms, value)) = last(&alert.labels) else { continue };
            // Prometheus counts in whole seconds here.
            let down_ms = written_ms.div_euclid(1000) * 1000;
            let mut active_ms = (value as i64).saturating_mul(1000);
            let remaining_ms = hold_ms.saturating_sub(down_ms.saturating_sub(active_ms));
            if remaining_ms <= 0 {
                // It fired when we went down, and fires again at the next evaluation.
            } else if remaining_ms < grace_ms {
                active_ms = now_ms.saturating_add(grace_ms).saturating_sub(hold_ms);
            } else {
                active_ms = active_ms.saturating_add(now_ms.saturating_sub(down_ms));
            }
            alert.active_at_ms = active_ms;
        }
        self.is_restored = true;
    }
}

struct Stepped {
    stays: bool,
    is_active: bool,
}

/// Moves one alert on by an evaluation.
fn step(alert: &mut ActiveAlert, is_seen: bool, ts_ms: i64, rule: &Alerting) -> Stepped {
    if is_seen {
        alert.keep_firing_since_ms = None;
    } else {
        let mut keeps_firing = false;
        if alert.state == AlertState::Firing && rule.keep_firing_ms > 0 {
            let since = *alert.keep_firing_since_ms.get_or_insert(ts_ms);
            keeps_firing = ts_ms.saturating_sub(since) < rule.keep_firing_ms;
        }
        let over_for_long =
            alert.resolved_at_ms.is_some_and(|at| ts_ms.saturating_sub(at) > RESOLVED_RETENTION_MS);
        let stays = alert.state != AlertState::Pending && !over_for_long;
        if alert.state != AlertState::Inactive && !keeps_firing {
            alert.state = AlertState::Inactive;
            alert.resolved_at_ms = Some(ts_ms);
        }
        if !keeps_firing {
            return Stepped { stays, is_active: false };
        }
    }
    let waited_ms = ts_ms.saturating_sub(alert.active_at_ms);
    if alert.state == AlertState::Pending && waited_ms >= rule.hold_ms {
        alert.state = AlertState::Firing;
        alert.fired_at_ms = Some(ts_ms);
    } else if alert.state == AlertState::Firing && waited_ms < rule.hold_ms {
        // The rule was replaced by one that waits longer.
        alert.state = AlertState::Pending;
        alert.fired_at_ms = None;
        alert.last_sent_ms = None;
        alert.keep_firing_since_ms = None;
    }
    Stepped { stays: true, is_active: true }
}

fn with_external(labels: &Labels, external: &Labels) -> Labels {
    if external.is_empty() {
        return labels.clone();
    }
    Overlay::new(labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()).over(external)
}
