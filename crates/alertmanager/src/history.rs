//! What happened: alerts that waited, began and ended, notifications that went out or failed,
//! silences. The newest events, in bounded number.

use std::collections::VecDeque;

use pilothouse_model::{Labels, Matcher};
use serde::Serialize;

use crate::matchers::match_all;

/// The kinds of events, as they are named in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A rule's alert begins to wait.
    RulePending,
    /// A rule's alert begins to fire.
    RuleFiring,
    /// A rule's alert waits or fires no more.
    RuleInactive,
    AlertFiring,
    AlertResolved,
    NotificationSent,
    NotificationFailed,
    SilenceSet,
    SilenceExpired,
    ConfigurationLoaded,
}

impl EventKind {
    const ALL: [Self; 10] = [
        Self::RulePending,
        Self::RuleFiring,
        Self::RuleInactive,
        Self::AlertFiring,
        Self::AlertResolved,
        Self::NotificationSent,
        Self::NotificationFailed,
        Self::SilenceSet,
        Self::SilenceExpired,
        Self::ConfigurationLoaded,
    ];

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::RulePending => "rule_pending",
            Self::RuleFiring => "rule_firing",
            Self::RuleInactive => "rule_inactive",
            Self::AlertFiring => "alert_firing",
            Self::AlertResolved => "alert_resolved",
            Self::NotificationSent => "notification_sent",
            Self::NotificationFailed => "notification_failed",
            Self::SilenceSet => "silence_set",
            Self::SilenceExpired => "silence_expired",
            Self::ConfigurationLoaded => "configuration_loaded",
        }
    }
}

/// A change of an alert's state, as the ruler saw it: before routes, groups and silences.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleChange {
    pub at_ms: i64,
    pub kind: EventKind,
    /// Of the alert.
    pub labels: Labels,
    /// The id of the data source that the rule is about.
    pub data_source: String,
    /// Namespace and name of the rule's group, as metrics label it.
    pub group: String,
    /// What the rule's expression gave.
    pub value: String,
    /// The state before, in the ruler's word.
    pub was: &'static str,
}

/// One event. What does not belong to its kind is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Numbers go up by one; a gap is an event that was dropped.
    pub number: u64,
    pub t_ms: i64,
    pub kind: EventKind,
    /// Of the alert, or of the group that was told.
    pub labels: Labels,
    pub receiver: String,
    pub integration: String,
    /// How many alerts were told, or tries made.
    pub alerts: usize,
    pub attempts: u32,
    /// Why it was sent, why it failed, what was before.
    pub detail: String,
    pub data_source: String,
    pub group: String,
    pub value: String,
}

impl Event {
    /// What belongs to some kinds only, by name, where it is there.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [
            ("receiver", &self.receiver),
            ("integration", &self.integration),
            ("detail", &self.detail),
            ("data_source", &self.data_source),
            ("group", &self.group),
            ("value", &self.value),
        ];
        texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, text.as_str()))
    }

    /// The event as one line of JSON, for logs.
    pub fn to_json(&self) -> String {
        let labels: serde_json::Map<String, serde_json::Value> =
            self.labels.iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
        let mut line =
            serde_json::json!({ "event": self.kind.name(), "number": self.number, "labels": labels });
        for (name, text) in self.texts() {
            line[name] = text.into();
        }
        if self.attempts > 0 {
            line["alerts"] = self.alerts.into();
            line["attempts"] = self.attempts.into();
        }
        line.to_string()
    }

    /// The event of a line, which does not say when it was.
    pub fn from_json(line: &str, t_ms: i64) -> Option<Self> {
        let read: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| read[name].as_str().unwrap_or("").to_owned();
        let number = |name: &str| read[name].as_u64().unwrap_or(0);
        let labels = read["labels"].as_object()?.iter().filter_map(|(n, v)| Some((n, v.as_str()?)));
        Some(Self {
            number: read["number"].as_u64().filter(|number| *number < MAX_NUMBER)?,
            t_ms,
            kind: EventKind::from_name(read["event"].as_str()?)?,
            labels: Labels::from_pairs(labels),
            receiver: text("receiver"),
            integration: text("integration"),
            alerts: usize::try_from(number("alerts")).unwrap_or(usize::MAX),
            attempts: u32::try_from(number("attempts")).unwrap_or(u32::MAX),
            detail: text("detail"),
            data_source: text("data_source"),
            group: text("group"),
            value: text("value"),
        })
    }
}

/// Beyond what any server counts to, and far from where counting ends.
const MAX_NUMBER: u64 = 1 << 53;

/// The newest events.
#[derive(Debug)]
pub struct History {
    events: VecDeque<Event>,
    most: usize,
    next: u64,
}

impl History {
    pub fn new(most: usize) -> Self {
        Self { events: VecDeque::new(), most, next: 0 }
    }

    pub(crate) fn add(
        &mut self,
        t_ms: i64,
        kind: EventKind,
        labels: Labels,
        detail: impl Into<String>,
    ) -> &mut Event {
        let number = self.next;
        self.next += 1;
        while self.events.len() >= self.most.max(1) {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            number,
            t_ms,
            kind,
            labels,
            receiver: String::new(),
            integration: String::new(),
            alerts: 0,
            attempts: 0,
            detail: detail.into(),
            data_source: String::new(),
            group: String::new(),
            value: String::new(),
        });
        let last = self.events.len() - 1;
        &mut self.events[last]
    }

    pub(crate) fn add_rule_change(&mut self, change: RuleChange) {
        let detail = format!("was {}", change.was);
        let event = self.add(change.at_ms, change.kind, change.labels, detail);
        (event.data_source, event.group, event.value) = (change.data_source, change.group, change.value);
    }

    /// Puts what was written down before this process under what it has seen so far, and gives the
    /// number of the first event of its own: numbers go on where they ended.
    pub(crate) fn restore(&mut self, mut past: Vec<Event>) -> u64 {
        // Not by time: what a rule saw bears the time of its slot, which is over when it is told.
        past.sort_by_key(|event| event.number);
        let own = std::mem::take(&mut self.events);
        let mut next = 0;
        for mut event in past {
            event.number = event.number.max(next);
            next = event.number + 1;
            self.events.push_back(event);
        }
        let first_own = next;
        for event in own {
            self.events.push_back(Event { number: next, ..event });
            next += 1;
        }
        self.next = next;
        let surplus = self.events.len().saturating_sub(self.most);
        self.events.drain(..surplus);
        first_own
    }

    /// The most events that are held.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Events from `from` on whose labels match, newest first.
    pub fn newest<'a>(&'a self, matchers: &'a [Matcher], from: u64) -> impl Iterator<Item = &'a Event> {
        let wanted = move |e: &&Event| e.number >= from && match_all(matchers, &e.labels);
        self.events.iter().rev().filter(wanted)
    }

    /// Events from `from` on in their order, for those who pass them on.
    pub fn since(&self, from: u64) -> impl Iterator<Item = &Event> {
        self.events.range(self.events.partition_point(|event| event.number < from)..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_bring_events_back_under_those_of_this_process() {
        let mut before = History::new(10);
        for t_ms in 0..4 {
            let event =
                before.add(t_ms, EventKind::NotificationSent, Labels::from_pairs([("a", "b")]), "why");
            event.receiver = "r".to_owned();
            (event.alerts, event.attempts) = (2, 1);
        }
        let past: Vec<Event> = before.since(1).cloned().collect();
        let read = |event: &Event| Event::from_json(&event.to_json(), event.t_ms);
        assert_eq!(past.iter().filter_map(read).collect::<Vec<_>>(), past);
        let mut after = History::new(3);
        after.add(100, EventKind::ConfigurationLoaded, Labels::empty(), "");
        // In any order; the oldest go.
        assert_eq!(after.restore(past.into_iter().rev().collect()), 4);
        after.add(101, EventKind::AlertFiring, Labels::empty(), "");
        let times = |events: Vec<&Event>| events.iter().map(|e| (e.number, e.t_ms)).collect::<Vec<_>>();
        assert_eq!(times(after.since(0).collect()), [(3, 3), (4, 100), (5, 101)]);
        assert_eq!(times(after.newest(&[], 4).collect()), [(5, 101), (4, 100)]);
        assert_eq!(Event::from_json("{\"event\": \"else\"}", 0), None);
    }
}
