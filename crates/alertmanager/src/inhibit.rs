//! Inhibition: alerts that mute others while they fire.
//!
//! Rules are found by what their sides ask for, so that an alert meets few of them. Each rule
//! knows its sources by the labels that must be equal, as Alertmanager's does; but where that
//! keeps the source that ends last, here a few are kept, so that one which ends early hands over
//! to the next.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use pilothouse_model::limits::INHIBITION_SOURCES_ALIKE;
use pilothouse_model::{Labels, Matcher};

use crate::alert::{Alerts, Held};
use crate::config;
use crate::matchers::match_all;
use crate::selector::Selector;
use crate::work::Slice;

/// What it takes to note a source, in lists of matchers that are asked.
const NOTING: usize = 4;
/// What one known source takes, about.
const SOURCE_BYTES: u64 = 80;

/// An alert that mutes others while it fires.
#[derive(Debug, Clone, Copy)]
struct Source {
    fingerprint: u64,
    /// It is a target of its rule as well, and so mutes no other that is both.
    is_target: bool,
}

/// A rule, and the sources known to it by the hash of the labels that must be equal.
#[derive(Debug)]
struct Rule {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    equal: Vec<String>,
    sources: HashMap<u64, Vec<Source>>,
}

impl Rule {
    fn new(rule: &config::InhibitRule) -> Self {
        let (source, target) = (rule.source(), rule.target());
        Self { source, target, equal: rule.equal.clone(), sources: HashMap::new() }
    }

    /// Stands for the labels that must be equal; one that is missing on both sides is equal.
    fn key(&self, labels: &Labels) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.equal.iter().for_each(|name| labels.value(name).hash(&mut hasher));
        hasher.finish()
    }

    fn is_equal(&self, a: &Labels, b: &Labels) -> bool {
        self.equal.iter().all(|name| a.value(name) == b.value(name))
    }

    /// Notes a source.
    fn note(&mut self, alert: &Held, alerts: &Alerts, has_room: bool) -> Noted {
        let fingerprint = alert.fingerprint;
        let new = Source { fingerprint, is_target: match_all(&self.target, &alert.labels) };
        let known = self.sources.get_mut(&self.key(&alert.labels));
        let alike = known.as_ref().map_or(&[][..], |alike| alike.as_slice());
        if alike.iter().any(|s| s.fingerprint == fingerprint) {
            return Noted::Known;
        }
        if alike.iter().filter(|s| s.is_target == new.is_target).count() < INHIBITION_SOURCES_ALIKE {
            return self.add(alert, new, has_room);
        }
        let end = |s: &Source| alerts.get(s.fingerprint).map_or(i64::MIN, |a| a.ends_at_ms);
        let same = known.into_iter().flatten().filter(|s| s.is_target == new.is_target);
        match same.min_by_key(|s| end(s)).filter(|s| end(s) <= alert.ends_at_ms) {
            Some(first) => Noted::InsteadOf(std::mem::replace(first, new).fingerprint),
            None => Noted::LeftOut,
        }
    }

    fn add(&mut self, alert: &Held, new: Source, has_room: bool) -> Noted {
        if !has_room {
            return Noted::NoRoom;
        }
        // Most have no other like them.
        let key = self.key(&alert.labels);
        self.sources.entry(key).or_insert_with(|| Vec::with_capacity(1)).push(new);
        Noted::New
    }

    /// The source that mutes a target of this rule; of several the one that ends last.
    fn inhibiting(&self, labels: &Labels, alerts: &Alerts, now_ms: i64) -> Option<u64> {
        let alike = self.sources.get(&self.key(labels))?;
        let is_source = match_all(&self.source, labels);
        let may = alike.iter().filter(|s| !(is_source && s.is_target));
        let firing = may.filter_map(|s| alerts.get(s.fingerprint)).filter(|alert| {
            // Two sets of labels may have one hash.
            !alert.resolved_at(now_ms) && self.is_equal(&alert.labels, labels)
        });
        firing.max_by_key(|alert| alert.ends_at_ms).map(|alert| alert.fingerprint)
    }
}

enum Noted {
    New,
    Known,
    /// Another with the same equal labels was forgotten for it.
    InsteadOf(u64),
    /// Others with the same equal labels end later.
    LeftOut,
    /// Too many sources are known.
    NoRoom,
}

#[derive(Debug, Default)]
pub(crate) struct Inhibitor {
    rules: Vec<Rule>,
    by_source: Selector<usize>,
    by_target: Selector<usize>,
    /// Of all rules together.
    sources: u64,
    /// Alerts that some rule does not know as its source for want of room. They are noted again
    /// whenever they are told, for there may be room then.
    left_out: HashSet<u64>,
}

impl Inhibitor {
    pub(crate) fn new(rules: &[config::InhibitRule]) -> Self {
        let rules: Vec<Rule> = rules.iter().map(Rule::new).collect();
        let numbered = || rules.iter().enumerate();
        Self {
            by_source: Selector::of(numbered().map(|(i, rule)| (i, rule.source.as_slice()))),
            by_target: Selector::of(numbered().map(|(i, rule)| (i, rule.target.as_slice()))),
            rules,
            sources: 0,
            left_out: HashSet::new(),
        }
    }

    /// Whether an alert that was noted once, and fires still, is to be noted again.
    pub(crate) fn misses(&self, fingerprint: u64) -> bool {
        self.left_out.contains(&fingerprint)
    }

    /// Notes an alert that may be a source. Gives the number of rules that it is a source of and
    /// that have no room for it: for them it mutes nothing.
    pub(crate) fn put(&mut self, alert: &Held, alerts: &Alerts, most: u64, slice: &mut Slice) -> u64 {
        self.left_out.remove(&alert.fingerprint);
        let mut without_room = 0;
        let candidates = self.by_source.candidates(&alert.labels);
        slice.spend(candidates.len());
        for at in candidates {
            let Some(rule) = self.rules.get_mut(*at) else { continue };
            if !match_all(&rule.source, &alert.labels) {
                continue;
            }
            slice.spend(NOTING);
            let left_out = match rule.note(alert, alerts, self.sources < most) {
                Noted::Known => continue,
                Noted::New => {
                    self.sources += 1;
                    continue;
                }
                Noted::NoRoom => {
                    without_room += 1;
                    alert.fingerprint
                }
                Noted::LeftOut => alert.fingerprint,
                Noted::InsteadOf(other) => other,
            };
            self.left_out.insert(left_out);
        }
        without_room
    }

    /// Forgets sources that are over or forgotten.
    pub(crate) fn sweep(&mut self, alerts: &Alerts, now_ms: i64) {
        let fires = |s: &Source| alerts.get(s.fingerprint).is_some_and(|a| !a.resolved_at(now_ms));
        for rule in &mut self.rules {
            rule.sources.retain(|_, alike| {
                alike.retain(fires);
                !alike.is_empty()
            });
        }
        self.left_out.retain(|fp| alerts.get(*fp).is_some_and(|a| !a.resolved_at(now_ms)));
        let known = self.rules.iter().flat_map(|rule| rule.sources.values());
        self.sources = known.map(|alike| alike.len() as u64).sum();
    }

    /// The alert that mutes a label set, by the first rule that has one. What is a source as well
    /// is not muted by another that is both, so that nothing mutes itself.
    pub(crate) fn inhibiting(
        &self,
        labels: &Labels,
        alerts: &Alerts,
        now_ms: i64,
        slice: &mut Slice,
    ) -> Option<u64> {
        if self.sources == 0 {
            return None;
        }
        let candidates = self.by_target.candidates(labels);
        slice.spend(candidates.len());
        let rules = candidates.into_iter().filter_map(|at| self.rules.get(*at));
        let live = rules.filter(|rule| !rule.sources.is_empty() && match_all(&rule.target, labels));
        live.filter_map(|rule| rule.inhibiting(labels, alerts, now_ms)).next()
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.sources * SOURCE_BYTES
    }
}
