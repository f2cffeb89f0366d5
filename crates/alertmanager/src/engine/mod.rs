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

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use pilothouse_model::limits::LiveLimits;
use pilothouse_model::{Alert, Labels, SourceError, StateChange, StateStore};

pub use jobs::{Attempt, JobId};
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
use groups::{Group, GroupId};
use jobs::Job;

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
    alerts: Alerts,
    keeper: Keeper,
    inhibitor: Inhibitor,
    silences: Silences,
    nflog: Nflog,
    groups: BTreeMap<GroupId, Group>,
    group_of: BTreeMap<(usize, Labels), GroupId>,
    next_group: u64,
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
            alerts,
            keeper,
            inhibitor: Inhibitor::default(),
            silences,
            nflog,
            groups: BTreeMap::new(),
            group_of: BTreeMap::new(),
            next_group: 0,
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

    // Configuration.

    /// Takes a configuration; all alerts are routed anew. Notifications under way go on, and
    /// what they achieve is remembered.
    pub fn configure(&mut self, setup: Arc<Setup>, now_ms: i64) {
        self.inhibitor = Inhibitor::new(&setup.config.inhibit_rules, &self.alerts);
        self.groups.clear();
        self.group_of.clear();
        self.due.retain(|(_, due)| matches!(due, Due::Job(_)));
        self.setup = Some(setup);
        // What is over goes along as long as somebody believes that it fires.
        let believed = self.nflog.firing();
        let is_open = |a: &&Arc<Held>| !a.resolved_at(now_ms) || believed.contains(&a.fingerprint);
        let mut pending: Vec<Arc<Held>> = self.alerts.iter().filter(is_open).cloned().collect();
        pending.sort_by_key(|a| (a.starts_at_ms, a.fingerprint));
        for alert in pending {
            self.route(&alert, now_ms);
        }
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

    // Alerts.

    /// Takes alerts. Good ones are kept even where others are bad; the errors are Alertmanager's
    /// words, one for each bad one.
    pub fn put(&mut self, alerts: &[Alert], teller: Teller, now_ms: i64) -> Vec<String> {
        let resolve_timeout_ms =
            self.setup.as_ref().map_or(5 * 60_000, |s| s.config.global.resolve_timeout.0);
        let mut errors = Vec::new();
        for alert in alerts {
            let held = Held::from_alert(alert, now_ms, resolve_timeout_ms);
            let count = if held.resolved_at(now_ms) {
                &mut self.counters.received_resolved
            } else {
                &mut self.counters.received_firing
            };
            *count += 1;
            if let Err(why) = held.check().and_then(|()| self.has_room(&held)) {
                self.counters.received_invalid += 1;
                errors.push(why);
                continue;
            }
            self.take(held, teller, now_ms);
        }
        errors
    }

    fn has_room(&mut self, alert: &Held) -> Result<(), String> {
        let most = self.limits.now().max_alerts;
        if self.alerts.get(alert.fingerprint).is_some() || (self.alerts.len() as u64) < most {
            return Ok(());
        }
        self.counters.alerts_limited += 1;
        Err(format!("too many alerts, limit: {most}"))
    }

    fn take(&mut self, alert: Held, teller: Teller, now_ms: i64) {
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
        self.inhibitor.put(&held);
        self.route(&held, now_ms);
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

    /// Does what is due and gives out the attempts to make now.
    pub fn step(&mut self, now_ms: i64) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        while let Some((_, due)) = self.due.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.due.pop_first();
            match due {
                Due::Job(job) => attempts.extend(self.retry(job, now_ms)),
                Due::Group(group) => attempts.extend(self.flush(group, now_ms)),
            }
        }
        if self.forget_at_ms <= now_ms {
            self.forget(now_ms);
            self.forget_at_ms = now_ms.saturating_add(FORGET_EVERY_MS);
        }
        attempts
    }

    /// When [`Engine::step`] has something to do next.
    pub fn next_due_ms(&self) -> i64 {
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
        for alert in self.alerts.forget_resolved(&believed, now_ms) {
            self.inhibitor.forget(&alert);
            self.changes.extend(self.keeper.forget(alert.fingerprint));
        }
        let silences = self.silences.forget(now_ms);
        let entries = self.nflog.forget(now_ms);
        self.changes.extend(silences.into_iter().chain(entries));
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
