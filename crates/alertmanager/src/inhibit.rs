//! Inhibition: alerts that mute others while they fire.
//!
//! Rules are found by what their sides ask for, so that an alert meets few of them. Each rule
//! knows all its sources by the labels that must be equal. Alertmanager's knows one for each set of
//! equal labels, the one that ends last, and misses the others where that one ends early or is a
//! target as well; here whatever fires mutes. Where places become scarce a few for each set of equal
//! labels suffice, and others are called when these are over.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::RangeInclusive;

use pilothouse_model::{Labels, Matcher};

use crate::alert::{Alerts, Held};
use crate::config;
use crate::matchers::match_all;
use crate::selector::Selector;
use crate::work::Slice;

/// What it takes to note a source, in lists of matchers that are asked.
const NOTING: usize = 4;
/// What one known source takes, about, and one that is left out.
const SOURCE_BYTES: u64 = 48;
const LEFT_OUT_BYTES: u64 = 16;
/// So many sources with the same equal labels suffice once half of all places are taken, and one when
/// all are. Of so many that mute an alert the one that ends last is shown.
const ENOUGH: usize = 8;

/// An alert that mutes others while it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    /// Stands for the labels that must be equal.
    key: u64,
    /// It is a target of its rule as well, and so mutes no other that is both.
    is_target: bool,
    fingerprint: u64,
}

impl Source {
    /// All with the same equal labels, that are targets as well or are not, as this one.
    fn alike(self) -> RangeInclusive<Self> {
        Self { fingerprint: 0, ..self }..=Self { fingerprint: u64::MAX, ..self }
    }
}

/// A rule, and the sources known to it. One that is over may be among them until it is met.
#[derive(Debug)]
struct Rule {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    equal: Vec<String>,
    sources: BTreeSet<Source>,
}

impl Rule {
    fn new(rule: &config::InhibitRule) -> Self {
        let (source, target) = (rule.source(), rule.target());
        Self { source, target, equal: rule.equal.clone(), sources: BTreeSet::new() }
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

    /// Notes a source where so many of `most` are known of all rules.
    fn note(&mut self, alert: &Held, known: u64, most: u64) -> Noted {
        let is_target = match_all(&self.target, &alert.labels);
        let source = Source { key: self.key(&alert.labels), is_target, fingerprint: alert.fingerprint };
        if self.sources.contains(&source) {
            return Noted::Known;
        }
        let enough = match known {
            _ if known < most / 2 => usize::MAX,
            _ if known < most => ENOUGH,
            _ => 1,
        };
        if enough < usize::MAX && self.sources.range(source.alike()).take(enough).count() == enough {
            return Noted::Spare;
        }
        if known >= most {
            return Noted::NoRoom;
        }
        self.sources.insert(source);
        Noted::New
    }

    /// The source that mutes a target of this rule.
    fn inhibiting(&mut self, labels: &Labels, asked: &mut Asked<'_>) -> Option<u64> {
        // What is a source as well is not muted by another that is both, so nothing mutes itself.
        let may_be_target = !match_all(&self.source, labels);
        let key = self.key(labels);
        [false, true].into_iter().filter(|is_target| may_be_target || !is_target).find_map(|is_target| {
            let alike = Source { key, is_target, fingerprint: 0 };
            self.firing(alike, labels, asked).or_else(|| self.call(alike, labels, asked))
        })
    }

    /// Of sources alike one that fires. Those that are over are forgotten, so that each is met once;
    /// they are noted again when they fire again.
    fn firing(&mut self, alike: Source, labels: &Labels, asked: &mut Asked<'_>) -> Option<u64> {
        let (mut firing, mut over) = (Vec::new(), Vec::new());
        for source in self.sources.range(alike.alike()) {
            asked.slice.spend(1);
            match asked.firing(source.fingerprint) {
                None => over.push(*source),
                // Two sets of labels may have one hash.
                Some(alert) if self.is_equal(&alert.labels, labels) => firing.push(alert),
                Some(_) => {}
            }
            if firing.len() == ENOUGH {
                break;
            }
        }
        asked.places = over.len();
        asked.freed += over.len() as u64;
        over.iter().for_each(|source| _ = self.sources.remove(source));
        firing.into_iter().max_by_key(|alert| alert.ends_at_ms).map(|alert| alert.fingerprint)
    }

    /// Takes sources that were left out into the places of those alike that were just found to be
    /// over, and gives one.
    fn call(&mut self, alike: Source, labels: &Labels, asked: &mut Asked<'_>) -> Option<u64> {
        let mut called = None;
        let mut places = asked.places.min(ENOUGH);
        for fingerprint in asked.left_out {
            if places == 0 {
                break;
            }
            asked.slice.spend(1);
            let Some(alert) = asked.firing(*fingerprint) else { continue };
            let is_alike = self.is_equal(&alert.labels, labels)
                && match_all(&self.source, &alert.labels)
                && match_all(&self.target, &alert.labels) == alike.is_target;
            if is_alike && self.sources.insert(Source { fingerprint: *fingerprint, ..alike }) {
                called = Some(*fingerprint);
                places -= 1;
                asked.freed -= 1;
            }
        }
        called
    }
}

/// What an answer about an alert needs to know of others.
struct Asked<'a> {
    alerts: &'a Alerts,
    left_out: &'a HashSet<u64>,
    now_ms: i64,
    slice: &'a mut Slice,
    /// Sources alike that were found to be over.
    places: usize,
    /// All of them, less those that were called in their place.
    freed: u64,
}

impl<'a> Asked<'a> {
    fn firing(&self, fingerprint: u64) -> Option<&'a Held> {
        let alert = self.alerts.get(fingerprint)?;
        (!alert.resolved_at(self.now_ms)).then_some(alert)
    }
}

enum Noted {
    New,
    Known,
    /// Enough with the same equal labels are known.
    Spare,
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
    /// Alerts that some rule does not know as its source. They are noted again whenever they are
    /// told, and when places became free.
    left_out: HashSet<u64>,
    /// Whether some did since.
    is_freed: bool,
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
            is_freed: false,
        }
    }

    /// Whether an alert that was noted once, and fires still, is to be noted again.
    pub(crate) fn misses(&self, fingerprint: u64) -> bool {
        self.left_out.contains(&fingerprint)
    }

    /// Notes an alert that may be a source, as long as fewer than `most` are known. Gives the number
    /// of rules that it is a source of and that have no room for it: for them it mutes nothing.
    pub(crate) fn put(&mut self, alert: &Held, most: u64, slice: &mut Slice) -> u64 {
        self.left_out.remove(&alert.fingerprint);
        let (mut without_room, mut is_left_out) = (0, false);
        let candidates = self.by_source.candidates(&alert.labels);
        slice.spend(candidates.len());
        for at in candidates {
            let Some(rule) = self.rules.get_mut(*at) else { continue };
            if !match_all(&rule.source, &alert.labels) {
                continue;
            }
            slice.spend(NOTING);
            match rule.note(alert, self.sources, most) {
                Noted::Known => {}
                Noted::New => self.sources += 1,
                Noted::Spare => is_left_out = true,
                Noted::NoRoom => without_room += 1,
            }
        }
        if is_left_out || without_room > 0 {
            self.left_out.insert(alert.fingerprint);
        }
        without_room
    }

    pub(crate) fn has_left_out(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// Forgets sources that are over or forgotten, and gives the alerts that places became free for
    /// and that are to be noted again before anything is asked.
    pub(crate) fn sweep(&mut self, alerts: &Alerts, now_ms: i64) -> Vec<u64> {
        let before = self.sources;
        let fires = |fp: u64| alerts.get(fp).is_some_and(|a| !a.resolved_at(now_ms));
        self.rules.iter_mut().for_each(|rule| rule.sources.retain(|s| fires(s.fingerprint)));
        self.left_out.retain(|fp| fires(*fp));
        self.sources = self.rules.iter().map(|rule| rule.sources.len() as u64).sum();
        let is_freed = std::mem::take(&mut self.is_freed) || self.sources < before;
        if is_freed { self.left_out.iter().copied().collect() } else { Vec::new() }
    }

    /// The alert that mutes a label set, by the first rule that has one.
    pub(crate) fn inhibiting(
        &mut self,
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
        for at in candidates {
            let rule = self.rules.get_mut(*at).filter(|rule| !rule.sources.is_empty());
            let Some(rule) = rule.filter(|rule| match_all(&rule.target, labels)) else { continue };
            let mut asked =
                Asked { alerts, left_out: &self.left_out, now_ms, slice: &mut *slice, places: 0, freed: 0 };
            let inhibiting = rule.inhibiting(labels, &mut asked);
            self.sources -= asked.freed;
            self.is_freed |= asked.freed > 0;
            if inhibiting.is_some() {
                return inhibiting;
            }
        }
        None
    }

    #[cfg(test)]
    pub(crate) fn sources(&self) -> u64 {
        self.sources
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.sources * SOURCE_BYTES + self.left_out.len() as u64 * LEFT_OUT_BYTES
    }
}
