//! What the API shows: alerts and groups with their state as of now.
//!
//! Whoever looks takes the list first and asks about each alert then, slice by slice, since a look
//! at all of them may take long.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_model::matcher::Pattern;
use pilothouse_model::{Labels, Matcher};

use super::flush::told;
use super::groups::MemberState;
use super::{Engine, Setup};
use crate::alert::{Held, order_of_sets};
use crate::matchers::match_all;
use crate::nflog::Reason;
use crate::receivers::{Message, Receiver};
use crate::silence::SilenceState;
use crate::telemetry::Gauges;
use crate::work::Slice;

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
    pub route_labels: BTreeMap<String, String>,
    pub receiver: String,
    pub alerts: Vec<AlertView>,
}

/// Which alerts are wanted.
#[derive(Debug, Clone)]
pub struct AlertFilter {
    pub matchers: Vec<Matcher>,
    pub receiver: Option<Pattern>,
    /// On labels of receivers.
    pub receiver_matchers: Vec<Matcher>,
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
            receiver_matchers: Vec::new(),
            active: true,
            silenced: true,
            inhibited: true,
            muted: true,
        }
    }
}

/// Someone who looks at alerts: what he wants, and the receivers that he means.
#[derive(Debug)]
pub(crate) struct Viewer<'f> {
    filter: &'f AlertFilter,
    /// By name and by labels; `None` where he means all.
    named: Option<HashSet<String>>,
    labelled: Option<HashSet<String>>,
}

impl Viewer<'_> {
    /// Any of several receivers may be the one of that name, and any the one with those labels.
    fn takes_receivers(&self, receivers: &[String]) -> bool {
        let wanted = [&self.named, &self.labelled].into_iter().flatten();
        wanted.into_iter().all(|wanted| receivers.iter().any(|name| wanted.contains(name)))
    }

    fn takes(&self, view: &AlertView) -> bool {
        (self.filter.active || view.state != AlertState::Active)
            && (self.filter.silenced || view.silenced_by.is_empty())
            && (self.filter.inhibited || view.inhibited_by.is_empty())
    }

    /// An alert as it is shown, if it is wanted.
    pub(crate) fn view(
        &self,
        engine: &mut Engine,
        alert: &Arc<Held>,
        now_ms: i64,
        slice: &mut Slice,
    ) -> Option<AlertView> {
        slice.spend(1 + self.filter.matchers.len());
        if !match_all(&self.filter.matchers, &alert.labels) {
            return None;
        }
        let receivers = engine.receivers_of(&alert.labels, slice);
        let wanted = self.takes_receivers(&receivers);
        wanted.then(|| engine.view(alert, receivers, now_ms, slice)).filter(|view| self.takes(view))
    }

    /// The same in a group that intervals may mute.
    pub(crate) fn view_in(
        &self,
        engine: &mut Engine,
        group: &Pending,
        alert: &Arc<Held>,
        now_ms: i64,
        slice: &mut Slice,
    ) -> Option<AlertView> {
        slice.spend(1 + self.filter.matchers.len());
        if !match_all(&self.filter.matchers, &alert.labels) {
            return None;
        }
        let mut receivers = engine.receivers_of(&alert.labels, slice);
        receivers.sort();
        let view = engine.view(alert, receivers, now_ms, slice);
        self.takes(&view).then(|| view.in_group(&group.muted_by))
    }
}

impl AlertView {
    fn in_group(mut self, muted_by: &[String]) -> Self {
        self.muted_by = muted_by.to_vec();
        if !muted_by.is_empty() {
            self.state = AlertState::Suppressed;
        }
        self
    }
}

/// A group that may be shown.
#[derive(Debug)]
pub(crate) struct Pending {
    view: GroupView,
    muted_by: Vec<String>,
    pub(crate) alerts: Vec<Arc<Held>>,
}

impl Pending {
    /// The group with those of its alerts that are shown. Labels of its route may be templates.
    pub(crate) fn shown(self, alerts: Vec<AlertView>, setup: &Setup, now_ms: i64) -> GroupView {
        let mut view = GroupView { alerts, ..self.view };
        if view.route_labels.values().any(|label| label.contains("{{")) {
            let message = Message {
                receiver: view.receiver.clone(),
                group_key: Arc::from(""),
                group_labels: view.labels.clone(),
                route_labels: std::mem::take(&mut view.route_labels),
                alerts: told(&self.alerts, true, now_ms),
                reason: Reason::First,
                templates: Arc::clone(&setup.templates),
                external_url: Arc::clone(&setup.external_url),
                now_ms,
                notes: Mutex::default(),
            };
            view.route_labels = message.rendering().data.route_labels;
        }
        view
    }
}

impl Engine {
    fn view(
        &mut self,
        alert: &Arc<Held>,
        receivers: Vec<String>,
        now_ms: i64,
        slice: &mut Slice,
    ) -> AlertView {
        let silences = self.silences.holding(&alert.labels, now_ms, slice);
        let silenced_by: Vec<String> = silences.map(|s| s.id.clone()).collect();
        let inhibiting = self.inhibitor.inhibiting(&alert.labels, &self.alerts, now_ms, slice);
        let inhibited_by: Vec<String> = inhibiting.map(|fp| format!("{fp:016x}")).into_iter().collect();
        let quiet = !silenced_by.is_empty() || !inhibited_by.is_empty();
        let state = if quiet { AlertState::Suppressed } else { AlertState::Active };
        AlertView {
            alert: Arc::clone(alert),
            receivers,
            state,
            silenced_by,
            inhibited_by,
            muted_by: Vec::new(),
        }
    }

    fn receivers_of(&self, labels: &Labels, slice: &mut Slice) -> Vec<String> {
        let Some(setup) = &self.setup else { return Vec::new() };
        let routes = setup.tree.matching(labels, slice);
        routes.into_iter().filter_map(|i| setup.tree.get(i)).map(|r| r.receiver.clone()).collect()
    }

    pub(crate) fn viewer<'f>(&self, filter: &'f AlertFilter) -> Viewer<'f> {
        let receivers = || self.setup.iter().flat_map(|setup| &setup.config.receivers);
        let names = |wanted: &dyn Fn(&Receiver) -> bool| -> HashSet<String> {
            receivers().filter(|r| wanted(r)).map(|r| r.name.clone()).collect()
        };
        let labelled = |r: &Receiver| r.has_labels(&filter.receiver_matchers);
        Viewer {
            filter,
            named: filter.receiver.as_ref().map(|pattern| names(&|r| pattern.is_match(&r.name))),
            labelled: (!filter.receiver_matchers.is_empty()).then(|| names(&labelled)),
        }
    }

    /// Alerts that are not over, by fingerprint.
    pub(crate) fn pending(&self, now_ms: i64) -> Vec<Arc<Held>> {
        let pending = self.alerts.iter().filter(|a| !a.resolved_at(now_ms));
        let mut pending: Vec<Arc<Held>> = pending.cloned().collect();
        pending.sort_by_key(|alert| alert.fingerprint);
        pending
    }

    /// Groups with alerts that are not over, by labels and receiver.
    pub(crate) fn pending_groups(&self, viewer: &Viewer<'_>, now_ms: i64) -> Vec<Pending> {
        let Some(setup) = &self.setup else { return Vec::new() };
        let pending = self.groups.values().filter_map(|group| {
            let route = setup.tree.get(group.route)?;
            let is_wanted = viewer.takes_receivers(std::slice::from_ref(&route.receiver))
                && (viewer.filter.muted || group.muted_by.is_empty());
            let view = GroupView {
                labels: group.labels.clone(),
                route_labels: route.labels.clone(),
                receiver: route.receiver.clone(),
                alerts: Vec::new(),
            };
            let alerts = group.alerts.values().map(|member| &member.alert);
            let alerts = alerts.filter(|a| !a.resolved_at(now_ms)).cloned().collect();
            is_wanted.then(|| Pending { view, muted_by: group.muted_by.clone(), alerts })
        });
        let mut pending: Vec<Pending> = pending.collect();
        pending.sort_by(|a, b| {
            let by_labels = order_of_sets(&a.view.labels, &b.view.labels);
            by_labels.then_with(|| a.view.receiver.cmp(&b.view.receiver))
        });
        pending
    }

    /// How many alerts the last looks at their groups found active, suppressed, and not yet: of
    /// several groups the one that mutes counts, as in Alertmanager.
    fn states(&self, now_ms: i64) -> [usize; 3] {
        let mut states: HashMap<u64, MemberState> = HashMap::new();
        let members = self.groups.values().flat_map(|group| group.alerts.values());
        for member in members.filter(|m| !m.alert.resolved_at(now_ms)) {
            let state = states.entry(member.alert.fingerprint).or_insert(member.state);
            *state = member.state.max(*state);
        }
        let of = |state| states.values().filter(|s| **s == state).count();
        [MemberState::Active, MemberState::Suppressed, MemberState::Unprocessed].map(of)
    }

    pub(super) fn gauges(&self, now_ms: i64) -> Gauges {
        let of = |state| self.silences.iter().filter(|s| s.state(now_ms) == state).count();
        let receivers = self.setup.as_ref().map(|s| &s.receivers);
        Gauges {
            alerts: self.states(now_ms),
            groups: self.groups.len(),
            silences: (of(SilenceState::Active), of(SilenceState::Pending), of(SilenceState::Expired)),
            nflog_entries: self.nflog.len(),
            receivers: receivers.map_or(0, std::collections::BTreeMap::len),
            integrations: receivers.map_or(0, |r| r.values().map(Vec::len).sum()),
            inhibition_rules: self.setup.as_ref().map_or(0, |s| s.config.inhibit_rules.len()),
        }
    }
}
