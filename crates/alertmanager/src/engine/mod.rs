//! All state, and how it changes: alerts come in, time passes, notifications end.
//!
//! Nothing here waits, reads a clock or touches the network or a disk. Each call is told the
//! time; [`Engine::step`] gives out the attempts to make, [`Engine::finished`] takes how one
//! went, and [`Engine::take_changes`] what has to be written down.

mod flush;
mod groups;
mod jobs;
mod query;
mod setup;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use pilothouse_model::limits::LiveLimits;
use pilothouse_model::memory::NoMemory;
use pilothouse_model::{Alert, Labels, Memory, SourceError, StateChange, StateStore};

pub use jobs::{Attempt, JobId};
#[cfg(test)]
pub(crate) use query::Pending;
pub use query::{AlertFilter, AlertState, AlertView, GroupView};
pub use setup::Setup;

use crate::alert::{Alerts, Held};
use crate::history::{Event, EventKind, History, RuleChange};
use crate::inhibit::Inhibitor;
use crate::keeper::{self, Keeper, Teller};
use crate::nflog::{self, Nflog};
use crate::receivers::Integration;
use crate::silence::{self, Changed, SilenceError, Silences, Wanted};
use crate::telemetry::{Counters, Family};
use crate::work::Slice;
use groups::{Group, GroupId};
use jobs::Job;

/// What a group takes in memory, and a place in one, about.
const GROUP_BYTES: u64 = 600;
const MEMBER_BYTES: u64 = 48;
/// How often what is over is forgotten.
const FORGET_EVERY_MS: i64 = 15 * 60_000;

/// Alerts, silences and notification log as they were written down.
#[derive(Debug, Default)]
pub struct Kept {
    alerts: Vec<(String, Vec<u8>)>,
    silences: Vec<(String, Vec<u8>)>,
    nflog: Vec<(String, Vec<u8>)>,
}

impl Kept {
    /// Reads all of it. Waits for the disk.
    pub fn load(store: &dyn StateStore) -> Result<Self, SourceError> {
        Ok(Self {
            alerts: store.load(keeper::TABLE)?,
            silences: store.load(silence::TABLE)?,
            nflog: store.load(nflog::TABLE)?,
        })
    }
}

/// An Alertmanager without clock, network and disk.
#[derive(Debug)]
pub struct Engine {
    setup: Option<Arc<Setup>>,
    limits: LiveLimits,
    memory: Arc<Memory>,
    alerts: Alerts,
    keeper: Keeper,
    inhibitor: Inhibitor,
    silences: Silences,
    nflog: Nflog,
    groups: BTreeMap<GroupId, Group>,
    group_of: BTreeMap<(usize, Labels), GroupId>,
    next_group: u64,
    /// Alerts of all groups together.
    grouped: u64,
    /// Alerts that the configuration in force has not seen yet, by fingerprint. No group is looked
    /// at before it has: what mutes others may be among them.
    unseen: VecDeque<u64>,
    jobs: BTreeMap<JobId, Job>,
    next_job: u64,
    /// The keys of the jobs in the notification log.
    under_way: HashSet<String>,
    /// When which group or job wants to be looked at.
    due: BTreeSet<(i64, Due)>,
    forget_at_ms: i64,
    changes: Vec<StateChange>,
    history: History,
    counters: Counters,
}

/// Alerts on their way in, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Taking {
    /// The next one.
    pub(crate) next: usize,
    /// Alertmanager's words, one for each that was refused.
    pub(crate) errors: Vec<String>,
    /// Why some were refused, where that was for want of memory.
    pub(crate) no_memory: Option<NoMemory>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Job(JobId),
    Group(GroupId),
}

impl Engine {
    /// An engine that remembers, without a configuration. The number says how many records could
    /// not be read.
    pub fn new(kept: Kept, limits: LiveLimits, now_ms: i64) -> (Self, usize) {
        let (keeper, held, unread_alerts) = Keeper::load(kept.alerts, now_ms);
        let mut alerts = Alerts::default();
        for alert in held {
            alerts.put(alert, now_ms);
        }
        let (silences, unread_silences) = Silences::load(kept.silences);
        let (nflog, unread_entries) = Nflog::load(kept.nflog);
        let most_events = usize::try_from(limits.now().max_alert_events).unwrap_or(usize::MAX);
        let engine = Self {
            setup: None,
            limits,
            memory: Arc::default(),
            alerts,
            keeper,
            inhibitor: Inhibitor::default(),
            silences,
            nflog,
            groups: BTreeMap::new(),
            group_of: BTreeMap::new(),
            next_group: 0,
            grouped: 0,
            unseen: VecDeque::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            under_way: HashSet::new(),
            due: BTreeSet::new(),
            forget_at_ms: now_ms.saturating_add(FORGET_EVERY_MS),
            changes: Vec::new(),
            history: History::new(most_events),
            counters: Counters::default(),
        };
        (engine, unread_alerts + unread_silences + unread_entries)
    }

    /// The same, taking new alerts only where an account of memory has room.
    #[must_use]
    pub fn within(mut self, memory: Arc<Memory>) -> Self {
        self.memory = memory;
        self
    }

    // Configuration.

    /// Takes a configuration; all alerts are routed anew. Notifications under way go on, and
    /// what they achieve is remembered.
    pub fn configure(&mut self, setup: Arc<Setup>, now_ms: i64) {
        self.inhibitor = Inhibitor::new(&setup.config.inhibit_rules);
        self.groups.clear();
        self.group_of.clear();
        self.grouped = 0;
        self.due.retain(|(_, due)| matches!(due, Due::Job(_)));
        self.setup = Some(setup);
        // What is over goes along as long as somebody believes that it fires.
        let believed = self.nflog.firing();
        let is_open = |a: &&Arc<Held>| !a.resolved_at(now_ms) || believed.contains(&a.fingerprint);
        let mut pending: Vec<&Arc<Held>> = self.alerts.iter().filter(is_open).collect();
        pending.sort_by_key(|a| (a.starts_at_ms, a.fingerprint));
        self.unseen = pending.into_iter().map(|a| a.fingerprint).collect();
        self.see(&mut Slice::new(), now_ms);
        self.counters.config_success = true;
        self.counters.config_success_at_ms = now_ms;
        self.history.add(now_ms, EventKind::ConfigurationLoaded, Labels::empty(), "");
    }

    /// Takes the same configuration with other contact points; groups and routes stay as they are.
    pub(crate) fn replace_contacts(&mut self, contacts: Vec<Arc<Integration>>) {
        if let Some(setup) = &mut self.setup {
            *setup = Arc::new(Setup::clone(setup).with_contacts(contacts));
        }
    }

    /// Notes that a configuration was refused, or could not be read.
    pub fn configuration_failed(&mut self) {
        self.counters.config_success = false;
    }

    pub fn setup(&self) -> Option<&Arc<Setup>> {
        self.setup.as_ref()
    }

    /// Shows alerts to the configuration, as many as fit into the slice.
    fn see(&mut self, slice: &mut Slice, now_ms: i64) {
        while let Some(fingerprint) = (!slice.is_over()).then(|| self.unseen.pop_front()).flatten() {
            if let Some(alert) = self.alerts.get(fingerprint).cloned() {
                self.place(&alert, slice, now_ms);
            }
        }
    }

    /// Notes an alert as a source of inhibition, and puts it into its groups.
    fn place(&mut self, alert: &Arc<Held>, slice: &mut Slice, now_ms: i64) {
        let most = self.limits.now().max_inhibition_sources;
        self.counters.sources_limited += self.inhibitor.put(alert, &self.alerts, most, slice);
        slice.spend(1);
        self.route(alert, slice, now_ms);
    }

    // Alerts.

    /// Takes alerts. Good ones are kept even where others are bad; the errors are Alertmanager's
    /// words, one for each bad one.
    pub fn put(&mut self, alerts: &[Alert], teller: Teller, now_ms: i64) -> Vec<String> {
        let mut taking = Taking::default();
        while taking.next < alerts.len() {
            self.put_some(alerts, &mut taking, teller, now_ms);
        }
        taking.errors
    }

    /// The same with the alerts from `taking.next` on, as many as fit into a slice.
    pub(crate) fn put_some(&mut self, alerts: &[Alert], taking: &mut Taking, teller: Teller, now_ms: i64) {
        let mut slice = Slice::new();
        let resolve_timeout_ms =
            self.setup.as_ref().map_or(5 * 60_000, |s| s.config.global.resolve_timeout.0);
        while let Some(alert) = alerts.get(taking.next).filter(|_| !slice.is_over()) {
            taking.next += 1;
            let held = Held::from_alert(alert, now_ms, resolve_timeout_ms);
            let count = if held.resolved_at(now_ms) {
                &mut self.counters.received_resolved
            } else {
                &mut self.counters.received_firing
            };
            *count += 1;
            if let Err(why) = held.check().and_then(|()| self.has_room(&held, taking)) {
                self.counters.received_invalid += 1;
                taking.errors.push(why);
                continue;
            }
            self.take(held, teller, &mut slice, now_ms);
        }
    }

    /// What is known already always finds room: it may be about to end.
    fn has_room(&mut self, alert: &Held, taking: &mut Taking) -> Result<(), String> {
        if self.alerts.get(alert.fingerprint).is_some() {
            return Ok(());
        }
        let limits = self.limits.now();
        let why = if self.alerts.len() as u64 >= limits.max_alerts {
            format!("too many alerts, limit: {}", limits.max_alerts)
        } else if self.alerts.held_bytes().saturating_add(alert.bytes()) > limits.max_alerts_bytes {
            format!("alerts too big, total size limit: {} bytes", limits.max_alerts_bytes)
        } else if let Err(full) = self.memory.check_write() {
            taking.no_memory = Some(full);
            full.to_string()
        } else {
            return Ok(());
        };
        self.counters.alerts_limited += 1;
        Err(why)
    }

    fn take(&mut self, alert: Held, teller: Teller, slice: &mut Slice, now_ms: i64) {
        let (held, before) = self.alerts.put(alert, now_ms);
        self.changes.extend(self.keeper.told(&held, before.as_deref(), teller, now_ms));
        let was_firing = before.is_some_and(|b| !b.resolved_at(now_ms));
        let kind = match (was_firing, held.resolved_at(now_ms)) {
            (false, false) => Some(EventKind::AlertFiring),
            (true, true) => Some(EventKind::AlertResolved),
            _ => None,
        };
        if let Some(kind) = kind {
            self.history.add(now_ms, kind, held.labels.clone(), "");
        }
        if was_firing && !self.inhibitor.misses(held.fingerprint) {
            // As a source it is known, or waits to be seen.
            slice.spend(1);
            self.route(&held, slice, now_ms);
        } else {
            self.place(&held, slice, now_ms);
        }
    }

    // Silences.

    /// Makes or changes a silence; the caller writes [`Engine::silence_records`] down, or takes
    /// the change back.
    pub fn set_silence(
        &mut self,
        wanted: Wanted,
        new_id: String,
        now_ms: i64,
    ) -> Result<Changed, SilenceError> {
        let changed = self.silences.set(wanted, new_id, now_ms, &self.limits.now())?;
        let id = changed.id.clone();
        self.history.add(now_ms, EventKind::SilenceSet, Labels::empty(), id);
        Ok(changed)
    }

    pub fn expire_silence(&mut self, id: &str, now_ms: i64) -> Result<Changed, SilenceError> {
        let changed = self.silences.expire(id, now_ms)?;
        self.history.add(now_ms, EventKind::SilenceExpired, Labels::empty(), id);
        Ok(changed)
    }

    pub fn silence_records(&self, changed: &Changed) -> Vec<StateChange> {
        self.silences.records(changed)
    }

    pub fn revert_silence(&mut self, changed: Changed) {
        self.silences.revert(changed);
    }

    pub fn silences(&self) -> &Silences {
        &self.silences
    }

    // Time.

    /// Does what is due, as much as fits into a slice, and gives out the attempts to make now.
    pub fn step(&mut self, now_ms: i64) -> Vec<Attempt> {
        let mut slice = Slice::new();
        self.see(&mut slice, now_ms);
        let mut attempts = Vec::new();
        // What is left of this step and due at its time is left to the next one.
        let mut left: Vec<GroupId> = Vec::new();
        while let Some((_, due)) = self.due.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.due.pop_first();
            match due {
                Due::Job(job) => attempts.extend(self.retry(job, now_ms)),
                Due::Group(group) if slice.is_over() || !self.unseen.is_empty() => left.push(group),
                Due::Group(group) => attempts.extend(self.flush(group, &mut slice, now_ms)),
            }
        }
        self.due.extend(left.into_iter().map(|group| (now_ms, Due::Group(group))));
        if self.forget_at_ms <= now_ms {
            self.forget(now_ms);
            self.forget_at_ms = now_ms.saturating_add(FORGET_EVERY_MS);
        }
        attempts
    }

    /// When [`Engine::step`] has something to do next.
    pub fn next_due_ms(&self) -> i64 {
        if !self.unseen.is_empty() {
            return i64::MIN;
        }
        self.due.first().map_or(self.forget_at_ms, |(at, _)| (*at).min(self.forget_at_ms))
    }

    /// After the clock was set back: nothing waits longer than it would have from now on.
    pub fn clock_went_back(&mut self, by_ms: i64) {
        let due = std::mem::take(&mut self.due);
        self.due = due.into_iter().map(|(at, due)| (at.saturating_sub(by_ms), due)).collect();
        for group in self.groups.values_mut() {
            group.next_ms = group.next_ms.saturating_sub(by_ms);
        }
        for job in self.jobs.values_mut() {
            job.shift(by_ms);
        }
        self.forget_at_ms = self.forget_at_ms.saturating_sub(by_ms);
    }

    fn forget(&mut self, now_ms: i64) {
        // An end that is still to be told outlives a restart.
        let believed = self.nflog.firing();
        self.inhibitor.sweep(&self.alerts, now_ms);
        for alert in self.alerts.forget_resolved(&believed, now_ms) {
            self.changes.extend(self.keeper.forget(alert.fingerprint));
        }
        let silences = self.silences.forget(now_ms);
        let entries = self.nflog.forget(now_ms);
        self.changes.extend(silences.into_iter().chain(entries));
    }

    /// What alerts, silences, groups and the notification log take in memory, about.
    pub fn held_bytes(&self) -> u64 {
        let members = self.grouped * MEMBER_BYTES + self.groups.len() as u64 * GROUP_BYTES;
        let held = [self.alerts.held_bytes(), self.silences.held_bytes(), self.nflog.held_bytes()];
        held.iter().sum::<u64>() + members + self.inhibitor.held_bytes()
    }

    // What others keep and show.

    /// What has to be written down since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<StateChange> {
        std::mem::take(&mut self.changes)
    }

    /// Notes that changes could not be written; they are tried again with the next ones.
    pub fn changes_failed(&mut self, changes: Vec<StateChange>) {
        self.counters.state_failures += 1;
        let newer = std::mem::replace(&mut self.changes, changes);
        self.changes.extend(newer);
        // Of several changes of one record the last counts: a disk that is full for long shall not
        // take the memory as well.
        let mut seen = HashSet::new();
        let mut newest_first = std::mem::take(&mut self.changes);
        newest_first.reverse();
        newest_first.retain(|change| seen.insert((change.table, change.key.clone())));
        newest_first.reverse();
        self.changes = newest_first;
    }

    /// Adds what rulers saw to the history.
    pub fn note(&mut self, changes: impl IntoIterator<Item = RuleChange>) {
        changes.into_iter().for_each(|change| self.history.add_rule_change(change));
    }

    /// Puts what was written down of the history before this process under what it has seen so
    /// far, and gives the number of the first event of its own.
    pub fn recall(&mut self, past: Vec<Event>) -> u64 {
        self.history.restore(past)
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn families(&self, now_ms: i64) -> Vec<Family> {
        self.counters.families(&crate::receivers::KINDS, &self.gauges(now_ms))
    }
}
