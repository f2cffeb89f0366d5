//! All state, and how it changes: alerts come in, time passes, notifications end.
//!
//! Nothing here waits, reads a clock or touches the network or a disk. Each call is told the
//! time; [`Engine::step`] gives out the attempts to make, [`Engine::finished`] takes how one
//! went, and [`Engine::take_changes`] what has to be written down.

mod flush;
mod groups;
mod jobs;
mod query;
mod schedule;
mod setup;
mod unwritten;

use std::collections::{BTreeMap, HashSet, VecDeque};
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
use schedule::Schedule;
use unwritten::OnDisk;

/// What a group takes in memory, and a place in one, about.
const GROUP_BYTES: u64 = 600;
const MEMBER_BYTES: u64 = 48;
/// What it takes to try a notification again or to give it up, in lists of matchers that are asked.
const RETRYING: usize = 20;
/// How soon places of inhibition that become free go to others.
const NOTE_AGAIN_EVERY_MS: i64 = 10_000;
/// How often what is over is forgotten, and how soon again where it stands in the way of new alerts.
const FORGET_EVERY_MS: i64 = 15 * 60_000;
const FORGET_AGAIN_MS: i64 = 10_000;

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
    /// What the texts of groups and of notifications under way take.
    group_bytes: u64,
    job_bytes: u64,
    /// Alerts that the configuration in force has not seen yet, by fingerprint. No group is looked
    /// at before it has: what mutes others may be among them.
    unseen: VecDeque<u64>,
    jobs: BTreeMap<JobId, Job>,
    next_job: u64,
    /// The keys of the jobs in the notification log.
    under_way: HashSet<String>,
    /// When jobs are tried again or given up.
    due_jobs: Schedule<JobId>,
    /// When groups are looked at; one whose notifications are under way may have no time.
    due_groups: Schedule<GroupId>,
    /// When alerts that inhibition had no room for are shown to it again.
    note_again_at_ms: i64,
    forget_at_ms: i64,
    forgot_at_ms: i64,
    changes: Vec<StateChange>,
    on_disk: OnDisk,
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

impl Engine {
    /// An engine that remembers, without a configuration. The number says how many records could
    /// not be read.
    pub fn new(kept: Kept, limits: LiveLimits, now_ms: i64) -> (Self, usize) {
        let on_disk = OnDisk::of([(keeper::TABLE, &kept.alerts), (nflog::TABLE, &kept.nflog)]);
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
            group_bytes: 0,
            job_bytes: 0,
            unseen: VecDeque::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            under_way: HashSet::new(),
            due_jobs: Schedule::default(),
            due_groups: Schedule::default(),
            note_again_at_ms: now_ms,
            forget_at_ms: now_ms.saturating_add(FORGET_EVERY_MS),
            forgot_at_ms: now_ms,
            changes: Vec::new(),
            on_disk,
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
        (self.grouped, self.group_bytes) = (0, 0);
        self.due_groups.clear();
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
        self.counters.sources_limited += self.inhibitor.put(alert, most, slice);
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
            if let Err(why) = held.check().and_then(|()| self.find_room(&held, taking, now_ms)) {
                self.counters.received_invalid += 1;
                taking.errors.push(why);
                continue;
            }
            self.take(held, teller, &mut slice, now_ms);
        }
    }

    /// As [`Engine::has_room`], once what is over has made room.
    fn find_room(&mut self, alert: &Held, taking: &mut Taking, now_ms: i64) -> Result<(), String> {
        let is_early = now_ms < self.forgot_at_ms.saturating_add(FORGET_AGAIN_MS);
        if !is_early && self.has_room(alert, &mut Taking::default()).is_err() {
            self.forget(now_ms);
        }
        let room = self.has_room(alert, taking);
        self.counters.alerts_limited += u64::from(room.is_err());
        room
    }

    /// What is known already always finds room: it may be about to end.
    fn has_room(&self, alert: &Held, taking: &mut Taking) -> Result<(), String> {
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
    /// What does not fit keeps its place: a step takes as long as its slice, whatever is due.
    pub fn step(&mut self, now_ms: i64) -> Vec<Attempt> {
        let mut slice = Slice::new();
        let mut attempts = Vec::new();
        while let Some(job) = slice.go_on(|| self.due_jobs.pop_due(now_ms)) {
            slice.spend(RETRYING);
            attempts.extend(self.retry(job, now_ms));
        }
        self.note_left_out_again(now_ms);
        self.see(&mut slice, now_ms);
        if self.unseen.is_empty() {
            while let Some(group) = slice.go_on(|| self.due_groups.pop_due(now_ms)) {
                slice.spend(1);
                attempts.extend(self.flush(group, &mut slice, now_ms));
            }
        }
        if self.forget_at_ms <= now_ms {
            self.forget(now_ms);
        }
        attempts
    }

    /// When [`Engine::step`] has something to do next.
    pub fn next_due_ms(&self) -> i64 {
        if !self.unseen.is_empty() {
            return i64::MIN;
        }
        let noting = self.inhibitor.has_left_out().then_some(self.note_again_at_ms);
        let due = [self.due_jobs.first_ms(), self.due_groups.first_ms(), noting];
        due.into_iter().flatten().fold(self.forget_at_ms, i64::min)
    }

    /// Where inhibition had no room, places that became free go to those that were left out.
    fn note_left_out_again(&mut self, now_ms: i64) {
        let is_due = self.note_again_at_ms <= now_ms && self.unseen.is_empty();
        if is_due && self.inhibitor.has_left_out() {
            self.unseen.extend(self.inhibitor.sweep(&self.alerts, now_ms));
            self.note_again_at_ms = now_ms.saturating_add(NOTE_AGAIN_EVERY_MS);
        }
    }

    /// After the clock was set back to a time: nothing waits longer than it would have from now
    /// on, and alerts that were over and are not any more are seen again.
    pub fn clock_went_back(&mut self, by_ms: i64, now_ms: i64) {
        self.due_jobs.advance(by_ms);
        self.due_groups.advance(by_ms);
        for job in self.jobs.values_mut() {
            job.shift(by_ms);
        }
        self.forget_at_ms = self.forget_at_ms.saturating_sub(by_ms);
        self.forgot_at_ms = self.forgot_at_ms.saturating_sub(by_ms);
        self.note_again_at_ms = self.note_again_at_ms.saturating_sub(by_ms);
        let was_over = |a: &&Arc<Held>| !a.resolved_at(now_ms) && a.resolved_at(now_ms.saturating_add(by_ms));
        let again: Vec<u64> = self.alerts.iter().filter(was_over).map(|a| a.fingerprint).collect();
        self.unseen.extend(again);
    }

    fn forget(&mut self, now_ms: i64) {
        (self.forgot_at_ms, self.forget_at_ms) = (now_ms, now_ms.saturating_add(FORGET_EVERY_MS));
        self.unseen.extend(self.inhibitor.sweep(&self.alerts, now_ms));
        for alert in self.alerts.forget_resolved(&self.owed_ends(now_ms), now_ms) {
            self.changes.extend(self.keeper.forget(alert.fingerprint));
        }
        let silences = self.silences.forget(now_ms);
        let entries = self.nflog.forget(now_ms);
        self.changes.extend(silences.into_iter().chain(entries));
    }

    /// Alerts that are over and whose end somebody is still to be told: that outlives a restart. What
    /// is in no group any more is told nobody, whoever believes that it fires.
    fn owed_ends(&self, now_ms: i64) -> HashSet<u64> {
        let believed = self.nflog.firing();
        let members = self.groups.values().flat_map(|group| group.alerts.values());
        let over = members.filter(|m| m.alert.resolved_at(now_ms)).map(|m| m.alert.fingerprint);
        over.chain(self.unseen.iter().copied()).filter(|fp| believed.contains(fp)).collect()
    }

    /// What alerts, silences, groups, notifications under way and the notification log take in
    /// memory, about.
    pub fn held_bytes(&self) -> u64 {
        let members = self.grouped * MEMBER_BYTES + self.groups.len() as u64 * GROUP_BYTES;
        let held = [
            self.alerts.held_bytes(),
            self.silences.held_bytes(),
            self.nflog.held_bytes(),
            self.inhibitor.held_bytes(),
            self.on_disk.held_bytes(),
            self.group_bytes,
            self.job_bytes,
        ];
        held.iter().sum::<u64>() + members
    }

    #[cfg(test)]
    pub(crate) fn inhibition_sources(&self) -> (u64, u64) {
        (self.inhibitor.sources(), self.counters.sources_limited)
    }

    /// How much is held of all that comes and goes.
    #[cfg(test)]
    pub(crate) fn remains(&self) -> Vec<(&'static str, u64)> {
        let sizes = [
            ("alerts", self.alerts.len()),
            ("written alerts", self.keeper.len()),
            ("groups", self.groups.len()),
            ("groups by labels", self.group_of.len()),
            ("times of groups", self.due_groups.len()),
            ("unseen", self.unseen.len()),
            ("jobs", self.jobs.len()),
            ("times of jobs", self.due_jobs.len()),
            ("under way", self.under_way.len()),
            ("notification log", self.nflog.len()),
        ];
        let bytes = [
            ("members", self.grouped),
            ("sources", self.inhibitor.sources()),
            ("bytes of groups", self.group_bytes),
            ("bytes of jobs", self.job_bytes),
            ("bytes", self.held_bytes()),
        ];
        let sizes = sizes.into_iter().map(|(name, size)| (name, size as u64));
        sizes.chain(bytes).filter(|(_, size)| *size > 0).collect()
    }

    /// Times of groups that were said or taken so far.
    #[cfg(test)]
    pub(crate) fn group_moves(&self) -> u64 {
        self.due_groups.moves
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
        self.changes = self.on_disk.needed(std::mem::take(&mut self.changes));
    }

    /// Notes that changes were written.
    pub fn changes_written(&mut self, changes: &[StateChange]) {
        self.on_disk.note(changes);
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
