//! Inhibition: alerts that mute others while they fire.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pilothouse_model::{Labels, Matcher};

use crate::alert::{Alerts, Held};
use crate::config;
use crate::matchers::match_all;

/// A rule, and the sources known to it by the labels that must be equal.
#[derive(Debug)]
struct Rule {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    equal: Vec<String>,
    sources: HashMap<Labels, BTreeSet<u64>>,
}

impl Rule {
    /// The labels that must be equal; one that is missing on both sides is equal.
    fn equal_labels(&self, labels: &Labels) -> Labels {
        labels.filter(|name| self.equal.iter().any(|n| n == name))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inhibitor {
    rules: Vec<Rule>,
}

impl Inhibitor {
    pub(crate) fn new(rules: &[config::InhibitRule], alerts: &Alerts) -> Self {
        let rule = |r: &config::InhibitRule| Rule {
            source: r.source(),
            target: r.target(),
            equal: r.equal.clone(),
            sources: HashMap::new(),
        };
        let mut inhibitor = Self { rules: rules.iter().map(rule).collect() };
        for alert in alerts.iter() {
            inhibitor.put(alert);
        }
        inhibitor
    }

    /// Notes an alert that may be a source.
    pub(crate) fn put(&mut self, alert: &Arc<Held>) {
        for rule in self.rules.iter_mut().filter(|r| match_all(&r.source, &alert.labels)) {
            let equal = rule.equal_labels(&alert.labels);
            rule.sources.entry(equal).or_default().insert(alert.fingerprint);
        }
    }

    pub(crate) fn forget(&mut self, alert: &Held) {
        for rule in &mut self.rules {
            let equal = rule.equal_labels(&alert.labels);
            if let Some(sources) = rule.sources.get_mut(&equal) {
                sources.remove(&alert.fingerprint);
                if sources.is_empty() {
                    rule.sources.remove(&equal);
                }
            }
        }
    }

    /// The alert that mutes a label set. What is a source as well is not muted by another that
    /// is both, so that nothing mutes itself.
    pub(crate) fn inhibiting(&self, labels: &Labels, alerts: &Alerts, now_ms: i64) -> Option<u64> {
        self.rules.iter().filter(|rule| match_all(&rule.target, labels)).find_map(|rule| {
            let sources = rule.sources.get(&rule.equal_labels(labels))?;
            let is_source = match_all(&rule.source, labels);
            let holds = |source: &Held| {
                !(source.resolved_at(now_ms) || is_source && match_all(&rule.target, &source.labels))
            };
            sources.iter().copied().find(|fp| alerts.get(*fp).is_some_and(|source| holds(source)))
        })
    }
}
