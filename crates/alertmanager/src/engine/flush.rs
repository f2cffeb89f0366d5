//! A look at a group: what is muted, who has to be told, and what then happens to the group.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::groups::{Flight, GroupId, MemberState};
use super::jobs::{Attempt, Job};
use super::{Engine, JobId, Setup};
use crate::alert::{Held, order};
use crate::nflog::{self, Fingerprints, Notes, Reason};
use crate::receivers::{Integration, Message, Told};
use crate::route::Route;
use crate::work::Slice;

/// What it takes to look at a group, and to begin a notification, in lists of matchers that are
/// asked.
const LOOKING: usize = 20;
const TELLING: usize = 100;
/// What a notification under way takes beside what it tells.
const JOB_BYTES: u64 = 2_000;
/// The least time that a notification is tried for.
const MIN_PATIENCE_MS: i64 = 10_000;

/// A look at a group, as far as it has come.
#[derive(Debug)]
pub(super) struct Look {
    alerts: Vec<Arc<Held>>,
    /// How many of them were asked about.
    asked: usize,
    unmuted: Vec<Arc<Held>>,
    muted: Muted,
}

/// Why alerts of a look are not told.
#[derive(Debug, Default)]
struct Muted {
    /// Why intervals mute the group, and which.
    by_intervals: Option<(&'static str, Vec<String>)>,
    intervals: usize,
    inhibited: BTreeSet<u64>,
    silenced: BTreeSet<u64>,
}

impl Engine {
    /// Looks at a group that is due, or goes on with that. While notifications of the last look
    /// are under way it waits for them.
    pub(super) fn flush(&mut self, id: GroupId, slice: &mut Slice, now_ms: i64) -> Vec<Attempt> {
        let Some(setup) = self.setup.clone() else { return Vec::new() };
        let Some(group) = self.groups.get_mut(&id) else { return Vec::new() };
        let Some(route) = setup.tree.get(group.route) else { return Vec::new() };
        if group.flight.is_some() {
            return Vec::new();
        }
        let begun = group.look.take();
        slice.spend(LOOKING);
        let mut look = begun.unwrap_or_else(|| self.begin_look(id, route, &setup, now_ms));
        self.ask(&mut look, slice, now_ms);
        let Some(group) = self.groups.get_mut(&id) else { return Vec::new() };
        if look.asked < look.alerts.len() {
            group.look = Some(look);
            // It goes on before others begin, so that few looks are held at once.
            self.due_groups.set(id, i64::MIN);
            return Vec::new();
        }
        self.due_groups.set(id, now_ms.saturating_add(route.group_interval_ms));
        let over = look.alerts.iter().filter(|a| a.resolved_at(now_ms));
        let resolved = over.map(|a| (a.fingerprint, a.updated_at_ms)).collect();
        let told = self.end_look(id, look);
        let (attempts, flight) = self.notify(id, route, &setup, &told, resolved, now_ms);
        slice.spend(attempts.len() * TELLING);
        if flight.jobs_left > 0 {
            if let Some(group) = self.groups.get_mut(&id) {
                group.flight = Some(flight);
            }
        } else if !flight.failed {
            self.settle(id, &flight.resolved, now_ms);
        }
        attempts
    }

    fn begin_look(&self, id: GroupId, route: &Route, setup: &Setup, now_ms: i64) -> Look {
        let members = self.groups.get(&id).into_iter().flat_map(|group| group.alerts.values());
        let alerts = members.map(|member| Arc::clone(&member.alert)).collect();
        let muted = Muted { by_intervals: muting(route, setup, now_ms), ..Muted::default() };
        Look { alerts, asked: 0, unmuted: Vec::new(), muted }
    }

    /// Asks which alerts are muted, in Alertmanager's order: inhibition, intervals, silences.
    fn ask(&mut self, look: &mut Look, slice: &mut Slice, now_ms: i64) {
        while let Some(alert) = look.alerts.get(look.asked).filter(|_| !slice.is_over()) {
            look.asked += 1;
            slice.spend(1);
            if self.inhibitor.inhibiting(&alert.labels, &self.alerts, now_ms, slice).is_some() {
                look.muted.inhibited.insert(alert.fingerprint);
            } else if look.muted.by_intervals.is_some() {
                look.muted.intervals += 1;
            } else if self.silences.holding(&alert.labels, now_ms, slice).next().is_some() {
                look.muted.silenced.insert(alert.fingerprint);
            } else {
                look.unmuted.push(Arc::clone(alert));
            }
        }
    }

    /// Notes what a look found, and gives the alerts that nothing mutes.
    fn end_look(&mut self, id: GroupId, look: Look) -> Vec<Arc<Held>> {
        let Look { muted, unmuted, alerts, .. } = look;
        self.counters.suppressed("inhibition", muted.inhibited.len());
        self.counters.suppressed("silence", muted.silenced.len());
        if let Some((reason, _)) = &muted.by_intervals {
            self.counters.suppressed(reason, muted.intervals);
        }
        let Some(group) = self.groups.get_mut(&id) else { return unmuted };
        for alert in alerts {
            let Some(member) = group.alerts.get_mut(&alert.fingerprint) else { continue };
            let is_quiet = [&muted.inhibited, &muted.silenced].iter().any(|s| s.contains(&alert.fingerprint));
            member.state = if is_quiet { MemberState::Suppressed } else { MemberState::Active };
        }
        group.muted_by = muted.by_intervals.map(|(_, names)| names).unwrap_or_default();
        unmuted
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
        let firing: Fingerprints = Arc::new(firing.iter().map(|a| a.fingerprint).collect());
        let over: Fingerprints = Arc::new(over.iter().map(|a| a.fingerprint).collect());
        // For those who are not told of ends, and for those who are.
        let mut shown: [Option<Arc<[Told]>>; 2] = [None, None];
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
                let (firing, over) = (Arc::clone(&firing), Arc::clone(&over));
                let change = self.nflog.set(key, firing, over, Notes::new(), repeat_ms, now_ms);
                self.changes.push(change);
                continue;
            }
            let notes = match reason {
                Reason::First => Notes::new(),
                _ => entry.map(|entry| entry.notes.clone()).unwrap_or_default(),
            };
            let shown = &mut shown[usize::from(integration.send_resolved)];
            let bytes = JOB_BYTES + if shown.is_some() { 0 } else { alerts.iter().map(|a| a.bytes()).sum() };
            let message = Message {
                receiver: route.receiver.clone(),
                group_key: Arc::clone(&group_key),
                group_labels: group_labels.clone(),
                route_labels: route.labels.clone(),
                alerts: Arc::clone(
                    shown.get_or_insert_with(|| told(alerts, integration.send_resolved, now_ms)),
                ),
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
                (Arc::clone(&firing), Arc::clone(&over)),
                repeat_ms,
                bytes,
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
        self.due_jobs.set(id, job.deadline_ms);
        self.under_way.insert(job.key.clone());
        self.job_bytes += job.bytes;
        self.jobs.insert(id, job);
        attempt
    }
}

/// Why intervals mute a route now, and which.
fn muting(route: &Route, setup: &Setup, now_ms: i64) -> Option<(&'static str, Vec<String>)> {
    if !route.active.is_empty() && setup.intervals_at(&route.active, now_ms).is_empty() {
        return Some(("active_time_interval", route.active.clone()));
    }
    let muting = setup.intervals_at(&route.mute, now_ms);
    (!muting.is_empty()).then_some(("mute_time_interval", muting))
}

/// Alerts as they are told, in the order of notifications. Most looks tell nothing, and need none.
pub(super) fn told(alerts: &[Arc<Held>], with_resolved: bool, now_ms: i64) -> Arc<[Told]> {
    let told = alerts.iter().map(|a| Told { resolved: a.resolved_at(now_ms), alert: Arc::clone(a) });
    let mut told: Vec<Told> = told.filter(|a| with_resolved || !a.resolved).collect();
    told.sort_by(|a, b| order(&a.alert.labels, &b.alert.labels));
    told.into()
}
