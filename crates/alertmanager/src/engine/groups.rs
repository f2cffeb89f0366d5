//! Groups of alerts: one for each route and set of group labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilothouse_model::Labels;

use super::Engine;
use super::flush::Look;
use crate::alert::Held;
use crate::nflog::{self, Fingerprints};
use crate::route::Route;
use crate::work::Slice;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Group {
    pub(super) route: usize,
    pub(super) labels: Labels,
    pub(super) key: Arc<str>,
    pub(super) alerts: BTreeMap<u64, Member>,
    /// A look that takes more than one slice.
    pub(super) look: Option<Look>,
    /// The notifications of the last look, as long as one is under way.
    pub(super) flight: Option<Flight>,
    /// The intervals that muted it at the last look.
    pub(super) muted_by: Vec<String>,
}

/// An alert in a group, and what the last look said of it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) alert: Arc<Held>,
    pub(super) state: MemberState,
}

/// The later one counts where groups differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MemberState {
    Unprocessed,
    Active,
    Suppressed,
}

impl Group {
    /// What its texts take: its labels, which also stand where it is found, and its key.
    pub(super) fn bytes(&self) -> u64 {
        (self.labels.as_encoded().len() + self.key.len()) as u64
    }
}

/// Notifications of one look at a group.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) jobs_left: usize,
    pub(super) failed: bool,
    /// Alerts that were over, with when they were last heard of.
    pub(super) resolved: Vec<(u64, i64)>,
}

impl Engine {
    /// Puts an alert into its groups.
    pub(super) fn route(&mut self, alert: &Arc<Held>, slice: &mut Slice, now_ms: i64) {
        let Some(setup) = self.setup.clone() else { return };
        for index in setup.tree.matching(&alert.labels, slice) {
            let Some(route) = setup.tree.get(index) else { continue };
            let labels = route.group_labels(&alert.labels);
            let known = self.group_of.get(&(index, labels.clone())).copied();
            if let Some(member) =
                known.and_then(|id| self.groups.get_mut(&id)?.alerts.get_mut(&alert.fingerprint))
            {
                member.alert = Arc::clone(alert);
                continue;
            }
            let limits = self.limits.now();
            if self.grouped >= limits.max_grouped_alerts
                || known.is_none() && self.groups.len() as u64 >= limits.max_alert_groups
            {
                self.counters.groups_limited += 1;
                continue;
            }
            let id = known.unwrap_or_else(|| self.add_group(index, route, labels, alert, now_ms));
            if let Some(group) = self.groups.get_mut(&id) {
                let member = Member { alert: Arc::clone(alert), state: MemberState::Unprocessed };
                group.alerts.insert(alert.fingerprint, member);
                self.grouped += 1;
            }
        }
    }

    /// Makes a group for its first alert.
    fn add_group(
        &mut self,
        index: usize,
        route: &Route,
        labels: Labels,
        first: &Held,
        now_ms: i64,
    ) -> GroupId {
        // An alert that has been firing for that long already has waited enough.
        let waited = first.starts_at_ms.saturating_add(route.group_wait_ms) < now_ms;
        let next_ms = if waited { now_ms } else { now_ms.saturating_add(route.group_wait_ms) };
        let id = GroupId(self.next_group);
        self.next_group += 1;
        let group = Group {
            route: index,
            key: Arc::from(route.group_key(&labels)),
            labels: labels.clone(),
            alerts: BTreeMap::new(),
            look: None,
            flight: None,
            muted_by: Vec::new(),
        };
        self.group_bytes += group.bytes();
        self.groups.insert(id, group);
        self.group_of.insert((index, labels), id);
        self.due_groups.set(id, next_ms);
        id
    }

    /// The same where some integration was not told: an end that it is owed waits for the next look.
    /// Others do not, so that what nobody hears of does not pile up.
    pub(super) fn settle_but_owed(&mut self, id: GroupId, resolved: &[(u64, i64)], now_ms: i64) {
        let (Some(group), Some(setup)) = (self.groups.get(&id), self.setup.clone()) else { return };
        let Some(route) = setup.tree.get(group.route) else { return };
        let keys = setup.integrations_of(&route.receiver).filter(|i| i.send_resolved);
        let keys = keys.map(|i| nflog::key(&group.key, &route.receiver, &i.name));
        let owed: Vec<Fingerprints> =
            keys.filter_map(|key| Some(Arc::clone(&self.nflog.get(&key)?.firing))).collect();
        let is_owed = |fp: &u64| owed.iter().any(|firing| firing.contains(fp));
        let rest: Vec<(u64, i64)> = resolved.iter().filter(|(fp, _)| !is_owed(fp)).copied().collect();
        self.settle(id, &rest, now_ms);
    }

    /// Takes alerts that were over out of a group, unless they were heard of since; an empty
    /// group goes.
    pub(super) fn settle(&mut self, id: GroupId, resolved: &[(u64, i64)], now_ms: i64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        for (fingerprint, updated_at_ms) in resolved {
            let is_same = |m: &Member| m.alert.updated_at_ms == *updated_at_ms;
            if group.alerts.get(fingerprint).is_some_and(is_same)
                && let Some(member) = group.alerts.remove(fingerprint)
            {
                self.grouped = self.grouped.saturating_sub(1);
                self.changes.extend(self.keeper.ended(&member.alert, now_ms));
            }
        }
        if group.alerts.is_empty() {
            let key = (group.route, group.labels.clone());
            self.group_bytes = self.group_bytes.saturating_sub(group.bytes());
            self.due_groups.remove(id);
            self.groups.remove(&id);
            self.group_of.remove(&key);
        }
    }
}
