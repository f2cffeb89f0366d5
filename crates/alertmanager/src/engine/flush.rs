//! A look at a group: what is muted, who has to be told, and what then happens to the group.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::groups::{Flight, GroupId};
use super::jobs::{Attempt, Job};
use super::{Due, Engine, JobId, Setup};
use crate::alert::{Held, order};
use crate::nflog::{self, Notes, Reason};
use crate::receivers::{Integration, Message};
use crate::route::Route;
use crate::templates::AlertData;

/// The least time that a notification is tried for.
const MIN_PATIENCE_MS: i64 = 10_000;

impl Engine {
    /// Looks at a group that is due. While notifications of the last look are under way it
    /// waits for them.
    pub(super) fn flush(&mut self, id: GroupId, now_ms: i64) -> Vec<Attempt> {
        let Some(setup) = self.setup.clone() else { return Vec::new() };
        let Some(group) = self.groups.get_mut(&id) else { return Vec::new() };
        let Some(route) = setup.tree.get(group.route) else { return Vec::new() };
        if group.flight.is_some() {
            return Vec::new();
        }
        group.next_ms = now_ms.saturating_add(route.group_interval_ms);
        self.due.insert((group.next_ms, Due::Group(id)));
        let mut alerts: Vec<Arc<Held>> = group.alerts.values().cloned().collect();
        alerts.sort_by(|a, b| order(&a.labels, &b.labels));
        let over = alerts.iter().filter(|a| a.resolved_at(now_ms));
        let resolved = over.map(|a| (a.fingerprint, a.updated_at_ms)).collect();
        let told = self.unmuted(id, route, &setup, alerts, now_ms);
        let (attempts, flight) = self.notify(id, route, &setup, &told, resolved, now_ms);
        if flight.jobs_left > 0 {
            if let Some(group) = self.groups.get_mut(&id) {
                group.flight = Some(flight);
            }
        } else if !flight.failed {
            self.settle(id, &flight.resolved, now_ms);
        }
        attempts
    }

    /// The alerts of a group that nothing mutes now.
    fn unmuted(
        &mut self,
        id: GroupId,
        route: &Route,
        setup: &Setup,
        alerts: Vec<Arc<Held>>,
        now_ms: i64,
    ) -> Vec<Arc<Held>> {
        let before = alerts.len();
        let mut left: Vec<Arc<Held>> = alerts
            .into_iter()
            .filter(|a| self.inhibitor.inhibiting(&a.labels, &self.alerts, now_ms).is_none())
            .collect();
        self.counters.suppressed("inhibition", before - left.len());
        let muted_by = self.muting(route, setup, now_ms);
        if let Some((reason, _)) = &muted_by {
            self.counters.suppressed(reason, left.len());
            left.clear();
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.muted_by = muted_by.map(|(_, names)| names).unwrap_or_default();
        }
        let before = left.len();
        left.retain(|a| self.silences.silencing(&a.labels, now_ms).is_empty());
        self.counters.suppressed("silence", before - left.len());
        left
    }

    /// Why intervals mute a route now, and which.
    fn muting(&self, route: &Route, setup: &Setup, now_ms: i64) -> Option<(&'static str, Vec<String>)> {
        if !route.active.is_empty() && setup.intervals_at(&route.active, now_ms).is_empty() {
            return Some(("active_time_interval", route.active.clone()));
        }
        let muting = setup.intervals_at(&route.mute, now_ms);
        (!muting.is_empty()).then_some(("mute_time_interval", muting))
    }

    /// Compares with the notification log, integration by integration.
    fn notify(
        &mut self,
        id: GroupId,
        route: &Route,
        setup: &Arc<Setup>,
        alerts: &[Arc<Held>],
        resolved: Vec<(u64, i64)>,
        now_ms: i64,
    ) -> (Vec<Attempt>, Flight) {
        let mut flight = Flight { jobs_left: 0, failed: false, resolved };
        let mut attempts = Vec::new();
        if alerts.is_empty() {
            return (attempts, flight);
        }
        let Some(group) = self.groups.get(&id) else { return (attempts, flight) };
        let (group_key, group_labels) = (Arc::clone(&group.key), group.labels.clone());
        let (over, firing): (Vec<&Arc<Held>>, Vec<&Arc<Held>>) =
            alerts.iter().partition(|a| a.resolved_at(now_ms));
        let firing: BTreeSet<u64> = firing.iter().map(|a| a.fingerprint).collect();
        let over: BTreeSet<u64> = over.iter().map(|a| a.fingerprint).collect();
        for integration in setup.integrations_of(&route.receiver) {
            let key = nflog::key(&group_key, &route.receiver, &integration.name);
            if self.under_way.contains(&key) {
                // From before the configuration changed; it will be compared with next time.
                flight.failed = true;
                continue;
            }
            let entry = self.nflog.get(&key);
            let repeat_ms = route.repeat_interval_ms;
            let Some(reason) =
                nflog::reason(entry, &firing, &over, integration.send_resolved, repeat_ms, now_ms)
            else {
                continue;
            };
            if firing.is_empty() && !integration.send_resolved {
                let (firing, over) = (firing.clone(), over.clone());
                let change = self.nflog.set(key, firing, over, Notes::new(), repeat_ms, now_ms);
                self.changes.push(change);
                continue;
            }
            let notes = match reason {
                Reason::First => Notes::new(),
                _ => entry.map(|entry| entry.notes.clone()).unwrap_or_default(),
            };
            let message = Message {
                receiver: route.receiver.clone(),
                group_key: Arc::clone(&group_key),
                group_labels: group_labels.clone(),
                route_labels: route.labels.clone(),
                alerts: told(alerts, integration.send_resolved, now_ms),
                reason,
                templates: Arc::clone(&setup.templates),
                external_url: Arc::clone(&setup.external_url),
                now_ms,
                notes: Mutex::new(notes),
            };
            let patience_ms = route.group_interval_ms.max(MIN_PATIENCE_MS);
            let job = Job::new(
                id,
                key,
                integration,
                message,
                (firing.clone(), over.clone()),
                repeat_ms,
                now_ms,
                patience_ms,
            );
            flight.jobs_left += 1;
            attempts.push(self.start(job, integration, now_ms));
        }
        (attempts, flight)
    }

    fn start(&mut self, job: Job, integration: &Arc<Integration>, now_ms: i64) -> Attempt {
        self.counters.notification(integration.kind);
        let id = JobId(self.next_job);
        self.next_job += 1;
        let attempt = job.attempt(id, now_ms);
        self.due.insert((job.deadline_ms, Due::Job(id)));
        self.under_way.insert(job.key.clone());
        self.jobs.insert(id, job);
        attempt
    }
}

/// Alerts as they are told. One that does not end yet has no end.
fn told(alerts: &[Arc<Held>], with_resolved: bool, now_ms: i64) -> Vec<AlertData> {
    let told = alerts.iter().map(|a| {
        let resolved = a.resolved_at(now_ms);
        AlertData {
            resolved,
            labels: a.labels.clone(),
            annotations: a.annotations.clone(),
            starts_at_ms: a.starts_at_ms,
            ends_at_ms: resolved.then_some(a.ends_at_ms),
            generator_url: a.generator_url.clone(),
            fingerprint: a.fingerprint,
        }
    });
    told.filter(|a| with_resolved || !a.resolved).collect()
}
