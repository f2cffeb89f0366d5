//! Groups of alerts: one for each route and set of group labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilothouse_model::Labels;

use super::{Due, Engine};
use crate::alert::Held;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Group {
    pub(super) route: usize,
    pub(super) labels: Labels,
    pub(super) key: Arc<str>,
    pub(super) alerts: BTreeMap<u64, Arc<Held>>,
    /// When it is looked at next.
    pub(super) next_ms: i64,
    /// The notifications of the last look, as long as one is under way.
    pub(super) flight: Option<Flight>,
    /// The intervals that muted it at the last look.
    pub(super) muted_by: Vec<String>,
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
    pub(super) fn route(&mut self, alert: &Arc<Held>, now_ms: i64) {
        let Some(setup) = self.setup.clone() else { return };
        for index in setup.tree.matching(&alert.labels) {
            let Some(route) = setup.tree.get(index) else { continue };
            let labels = route.group_labels(&alert.labels);
            if let Some(id) = self.group_of.get(&(index, labels.clone()))
                && let Some(group) = self.groups.get_mut(id)
            {
                group.alerts.insert(alert.fingerprint, Arc::clone(alert));
                continue;
            }
            if self.groups.len() as u64 >= self.limits.now().max_alert_groups {
                self.counters.groups_limited += 1;
                continue;
            }
            // An alert that has been firing for that long already has waited enough.
            let waited = alert.starts_at_ms.saturating_add(route.group_wait_ms) < now_ms;
            let next_ms = if waited { now_ms } else { now_ms.saturating_add(route.group_wait_ms) };
            let id = GroupId(self.next_group);
            self.next_group += 1;
            self.groups.insert(
                id,
                Group {
                    route: index,
                    key: Arc::from(route.group_key(&labels)),
                    labels: labels.clone(),
                    alerts: BTreeMap::from([(alert.fingerprint, Arc::clone(alert))]),
                    next_ms,
                    flight: None,
                    muted_by: Vec::new(),
                },
            );
            self.group_of.insert((index, labels), id);
            self.due.insert((next_ms, Due::Group(id)));
        }
    }

    /// Takes alerts that were over out of a group, unless they were heard of since; an empty
    /// group goes.
    pub(super) fn settle(&mut self, id: GroupId, resolved: &[(u64, i64)], now_ms: i64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        for (fingerprint, updated_at_ms) in resolved {
            if group.alerts.get(fingerprint).is_some_and(|a| a.updated_at_ms == *updated_at_ms)
                && let Some(alert) = group.alerts.remove(fingerprint)
            {
                self.changes.extend(self.keeper.ended(&alert, now_ms));
            }
        }
        if group.alerts.is_empty() {
            let key = (group.route, group.labels.clone());
            self.due.remove(&(group.next_ms, Due::Group(id)));
            self.groups.remove(&id);
            self.group_of.remove(&key);
        }
    }
}
