//! What the API shows: alerts and groups with their state as of now.

use std::sync::Arc;

use pilothouse_model::matcher::Pattern;
use pilothouse_model::{Labels, Matcher};

use super::Engine;
use crate::alert::{Held, order, order_of_sets};
use crate::matchers::match_all;
use crate::silence::SilenceState;
use crate::telemetry::Gauges;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    Active,
    Suppressed,
}

impl AlertState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suppressed => "suppressed",
        }
    }
}

/// An alert and what mutes it.
#[derive(Debug, Clone)]
pub struct AlertView {
    pub alert: Arc<Held>,
    pub receivers: Vec<String>,
    pub state: AlertState,
    pub silenced_by: Vec<String>,
    pub inhibited_by: Vec<String>,
    pub muted_by: Vec<String>,
}

/// A group as it is shown.
#[derive(Debug, Clone)]
pub struct GroupView {
    pub labels: Labels,
    pub receiver: String,
    pub alerts: Vec<AlertView>,
}

/// Which alerts are wanted.
#[derive(Debug, Clone)]
pub struct AlertFilter {
    pub matchers: Vec<Matcher>,
    pub receiver: Option<Pattern>,
    pub active: bool,
    pub silenced: bool,
    pub inhibited: bool,
    /// Groups that intervals mute.
    pub muted: bool,
}

impl Default for AlertFilter {
    fn default() -> Self {
        Self {
            matchers: Vec::new(),
            receiver: None,
            active: true,
            silenced: true,
            inhibited: true,
            muted: true,
        }
    }
}

impl AlertFilter {
    fn takes_receiver(&self, name: &str) -> bool {
        self.receiver.as_ref().is_none_or(|p| p.is_match(name))
    }

    fn takes(&self, view: &AlertView) -> bool {
        (self.active || view.state != AlertState::Active)
            && (self.silenced || view.silenced_by.is_empty())
            && (self.inhibited || view.inhibited_by.is_empty())
    }
}

impl Engine {
    fn view(
        &self,
        alert: &Arc<Held>,
        receivers: Vec<String>,
        muted_by: Vec<String>,
        now_ms: i64,
    ) -> AlertView {
        let silenced_by = self.silences.silencing(&alert.labels, now_ms);
        let inhibiting = self.inhibitor.inhibiting(&alert.labels, &self.alerts, now_ms);
        let inhibited_by: Vec<String> = inhibiting.map(|fp| format!("{fp:016x}")).into_iter().collect();
        let quiet = !silenced_by.is_empty() || !inhibited_by.is_empty() || !muted_by.is_empty();
        let state = if quiet { AlertState::Suppressed } else { AlertState::Active };
        AlertView { alert: Arc::clone(alert), receivers, state, silenced_by, inhibited_by, muted_by }
    }

    fn receivers_of(&self, labels: &Labels) -> Vec<String> {
        let Some(setup) = &self.setup else { return Vec::new() };
        let routes = setup.tree.matching(labels);
        routes.into_iter().filter_map(|i| setup.tree.get(i)).map(|r| r.receiver.clone()).collect()
    }

    /// Alerts that are not over, by fingerprint.
    pub fn alerts(&self, filter: &AlertFilter, now_ms: i64) -> Vec<AlertView> {
        let pending = self.alerts.iter().filter(|a| !a.resolved_at(now_ms));
        let matching = pending.filter(|a| match_all(&filter.matchers, &a.labels));
        let mut views: Vec<AlertView> = matching
            .filter_map(|alert| {
                let receivers = self.receivers_of(&alert.labels);
                let wanted = receivers.iter().any(|name| filter.takes_receiver(name));
                let view = wanted.then(|| self.view(alert, receivers, Vec::new(), now_ms))?;
                filter.takes(&view).then_some(view)
            })
            .collect();
        views.sort_by_key(|view| format!("{:016x}", view.alert.fingerprint));
        views
    }

    /// Groups with alerts that are not over, by labels and receiver.
    pub fn groups(&self, filter: &AlertFilter, now_ms: i64) -> Vec<GroupView> {
        let Some(setup) = &self.setup else { return Vec::new() };
        let mut views = Vec::new();
        for group in self.groups.values() {
            let Some(route) = setup.tree.get(group.route) else { continue };
            let muted = !group.muted_by.is_empty();
            if !filter.takes_receiver(&route.receiver) || (muted && !filter.muted) {
                continue;
            }
            let pending = group.alerts.values().filter(|a| !a.resolved_at(now_ms));
            let matching = pending.filter(|a| match_all(&filter.matchers, &a.labels));
            let view = |alert: &Arc<Held>| {
                let mut receivers = self.receivers_of(&alert.labels);
                receivers.sort();
                self.view(alert, receivers, group.muted_by.clone(), now_ms)
            };
            let mut alerts: Vec<AlertView> = matching.map(view).filter(|v| filter.takes(v)).collect();
            if alerts.is_empty() {
                continue;
            }
            alerts.sort_by(|a, b| order(&a.alert.labels, &b.alert.labels));
            views.push(GroupView { labels: group.labels.clone(), receiver: route.receiver.clone(), alerts });
        }
        views.sort_by(|a, b| order_of_sets(&a.labels, &b.labels).then_with(|| a.receiver.cmp(&b.receiver)));
        views
    }

    pub(super) fn gauges(&self, now_ms: i64) -> Gauges {
        let all = self.alerts(&AlertFilter::default(), now_ms);
        let active = all.iter().filter(|v| v.state == AlertState::Active).count();
        let of = |state| self.silences.iter().filter(|s| s.state(now_ms) == state).count();
        let receivers = self.setup.as_ref().map(|s| &s.receivers);
        Gauges {
            alerts: (active, all.len() - active),
            groups: self.groups.len(),
            silences: (of(SilenceState::Active), of(SilenceState::Pending), of(SilenceState::Expired)),
            nflog_entries: self.nflog.len(),
            receivers: receivers.map_or(0, std::collections::BTreeMap::len),
            integrations: receivers.map_or(0, |r| r.values().map(Vec::len).sum()),
            inhibition_rules: self.setup.as_ref().map_or(0, |s| s.config.inhibit_rules.len()),
        }
    }
}
