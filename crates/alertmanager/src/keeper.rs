//! Alerts over a restart: which of them are written down, and how they come back.
//!
//! Senders tell their alerts again and again, but not at once, and some (a script, a probe) only
//! once. So an alert is written down when it begins, when it ends and when it stays for longer
//! than was written, not each time that it is told: ten thousand alerts that fire cost the disk
//! nothing. What a restart brings back may therefore have texts that are some minutes old.

use std::collections::{BTreeMap, HashMap};

use pilothouse_model::time::{HOUR_MS, MINUTE_MS};
use pilothouse_model::{Labels, StateChange};
use serde::{Deserialize, Serialize};

use crate::alert::{Held, fingerprint};

/// Where alerts are kept.
pub(crate) const TABLE: &str = "alertmanager_alerts";
const VERSION: u8 = 1;
/// How far the end of an alert may move before it is written again.
const END_SLACK_MS: i64 = 15 * MINUTE_MS;
/// How long a change of texts may wait.
const TEXT_SLACK_MS: i64 = 5 * MINUTE_MS;
/// How long a restored alert waits for its sender, beside the time for which it was told: a rule
/// that was restarted with us may have to wait that long before it says that it still fires. The
/// grace period of rulers.
const SENDER_GRACE_MS: i64 = 10 * MINUTE_MS;
/// An alert that nobody told of for longer is over, whatever was said of its end.
const OUTAGE_TOLERANCE_MS: i64 = HOUR_MS;

/// Who tells of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// Somebody who may never speak of it again: the end that he gives holds.
    Anybody,
    /// A ruler, which goes on telling as long as it is so.
    Ruler,
}

#[derive(Serialize, Deserialize)]
struct Record {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at_ms: i64,
    ends_at_ms: i64,
    /// When it was written, by the clock of the alerts.
    at_ms: i64,
    generator_url: String,
    /// Its end moves on as long as it fires.
    is_renewed: bool,
}

/// What is written of an alert.
#[derive(Debug, Clone, Copy)]
struct Written {
    ends_at_ms: i64,
    at_ms: i64,
    is_over: bool,
    is_renewed: bool,
    /// Its texts have changed since.
    is_stale: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Keeper {
    written: HashMap<u64, Written>,
}

impl Keeper {
    /// Reads what was written down, with ends that give senders the time to speak again. The
    /// number says how many records cannot be read.
    pub(crate) fn load(records: Vec<(String, Vec<u8>)>, now_ms: i64) -> (Self, Vec<Held>, usize) {
        let (mut keeper, mut alerts, mut unreadable) = (Self::default(), Vec::new(), 0);
        for (_, bytes) in records {
            match bytes.split_first() {
                Some((&VERSION, json)) if let Ok(record) = serde_json::from_slice::<Record>(json) => {
                    let alert = restored(record, now_ms, &mut keeper);
                    alerts.push(alert);
                }
                _ => unreadable += 1,
            }
        }
        (keeper, alerts, unreadable)
    }

    /// Takes what was told of an alert; what is returned has to be written.
    pub(crate) fn told(
        &mut self,
        alert: &Held,
        before: Option<&Held>,
        teller: Teller,
        now_ms: i64,
    ) -> Option<StateChange> {
        let is_over = alert.resolved_at(now_ms);
        let known = self.written.get_mut(&alert.fingerprint);
        let mut is_renewed = teller == Teller::Ruler || alert.timeout;
        if let Some(known) = known {
            is_renewed |= known.is_renewed || alert.ends_at_ms > known.ends_at_ms;
            known.is_stale |= before.is_none_or(|before| has_other_texts(before, alert));
            let is_due = is_over != known.is_over
                || is_renewed != known.is_renewed
                || alert.ends_at_ms.abs_diff(known.ends_at_ms) > END_SLACK_MS.unsigned_abs()
                || known.is_stale && now_ms.saturating_sub(known.at_ms) > TEXT_SLACK_MS;
            if !is_due {
                return None;
            }
        } else if is_over {
            // Nobody was told that it began.
            return None;
        }
        Some(self.write(alert, is_renewed, now_ms))
    }

    /// Takes that an alert is over because nobody told of it any more.
    pub(crate) fn ended(&mut self, alert: &Held, now_ms: i64) -> Option<StateChange> {
        let known = self.written.get(&alert.fingerprint)?;
        (!known.is_over).then_some(known.is_renewed).map(|renewed| self.write(alert, renewed, now_ms))
    }

    pub(crate) fn forget(&mut self, fingerprint: u64) -> Option<StateChange> {
        self.written.remove(&fingerprint)?;
        Some(StateChange { table: TABLE, key: key(fingerprint), value: None })
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.written.len()
    }

    fn write(&mut self, alert: &Held, is_renewed: bool, now_ms: i64) -> StateChange {
        let record = Record {
            labels: alert.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            annotations: alert.annotations.clone(),
            starts_at_ms: alert.starts_at_ms,
            ends_at_ms: alert.ends_at_ms,
            at_ms: now_ms,
            generator_url: alert.generator_url.clone(),
            is_renewed,
        };
        let mut bytes = vec![VERSION];
        // Texts and numbers; writing to memory does not fail.
        let _ = serde_json::to_writer(&mut bytes, &record);
        self.written.insert(alert.fingerprint, written(&record));
        StateChange { table: TABLE, key: key(alert.fingerprint), value: Some(bytes) }
    }
}

fn key(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

fn written(record: &Record) -> Written {
    Written {
        ends_at_ms: record.ends_at_ms,
        at_ms: record.at_ms,
        is_over: record.ends_at_ms <= record.at_ms,
        is_renewed: record.is_renewed,
        is_stale: false,
    }
}

fn has_other_texts(before: &Held, alert: &Held) -> bool {
    before.annotations != alert.annotations
        || before.generator_url != alert.generator_url
        || before.starts_at_ms != alert.starts_at_ms
}

fn restored(record: Record, now_ms: i64, keeper: &mut Keeper) -> Held {
    let labels = Labels::from_pairs(&record.labels);
    let known = written(&record);
    let silent_ms = now_ms.saturating_sub(record.at_ms.max(record.ends_at_ms));
    let waits = record.is_renewed && !known.is_over && silent_ms <= OUTAGE_TOLERANCE_MS;
    let told_for_ms = record.ends_at_ms.saturating_sub(record.at_ms).clamp(0, OUTAGE_TOLERANCE_MS);
    let waits_until_ms = now_ms.saturating_add(SENDER_GRACE_MS + told_for_ms);
    let held = Held {
        fingerprint: fingerprint(&labels),
        labels,
        annotations: record.annotations,
        starts_at_ms: record.starts_at_ms,
        ends_at_ms: match waits {
            true => record.ends_at_ms.max(waits_until_ms),
            false => record.ends_at_ms,
        },
        updated_at_ms: record.at_ms,
        generator_url: record.generator_url,
        // Whatever its sender says of the end from now on is better known.
        timeout: waits,
    };
    keeper.written.insert(held.fingerprint, known);
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000;

    fn held(ends_at_ms: i64, text: &str) -> Held {
        let labels = Labels::from_pairs([("alertname", "a")]);
        Held {
            fingerprint: fingerprint(&labels),
            labels,
            annotations: BTreeMap::from([("text".to_owned(), text.to_owned())]),
            starts_at_ms: 0,
            ends_at_ms,
            updated_at_ms: 0,
            generator_url: String::new(),
            timeout: false,
        }
    }

    /// What comes back of what a change says, and whether its end is no more than a guess.
    fn back(change: Option<StateChange>, now_ms: i64) -> (i64, bool) {
        let records = vec![("k".to_owned(), change.unwrap().value.unwrap())];
        let (_, alerts, unreadable) = Keeper::load(records, now_ms);
        assert_eq!(unreadable, 0);
        (alerts[0].ends_at_ms, alerts[0].timeout)
    }

    #[test]
    fn an_alert_that_is_told_again_and_again_is_written_rarely() {
        let mut keeper = Keeper::default();
        let mut writes = 0;
        let mut before = None;
        for minute in 0..120 {
            let now_ms = minute * MINUTE_MS;
            let alert = held(now_ms + 4 * MINUTE_MS, "same");
            writes += usize::from(keeper.told(&alert, before.as_ref(), Teller::Ruler, now_ms).is_some());
            before = Some(alert);
        }
        assert_eq!(writes, 8, "at its begin and every quarter of an hour");
    }

    #[test]
    fn texts_that_change_are_written_though_not_each_time() {
        let mut keeper = Keeper::default();
        let told = |keeper: &mut Keeper, before: &str, text: &str, now_ms: i64| {
            let before = held(HOUR_MS, before);
            keeper.told(&held(HOUR_MS, text), Some(&before), Teller::Anybody, now_ms).is_some()
        };
        assert!(told(&mut keeper, "a", "a", 0));
        assert!(!told(&mut keeper, "a", "b", MINUTE_MS));
        assert!(!told(&mut keeper, "b", "b", TEXT_SLACK_MS), "not late yet");
        assert!(told(&mut keeper, "b", "b", TEXT_SLACK_MS + 1), "though it did not change just now");
    }

    #[test]
    fn a_restart_waits_for_senders_but_not_for_ever() {
        let told = |ends: i64, teller| Keeper::default().told(&held(ends, ""), None, teller, 0);
        // Said by somebody who gave an end.
        assert_eq!(back(told(30 * S, Teller::Anybody), 10 * S), (30 * S, false));
        assert_eq!(back(told(30 * S, Teller::Anybody), 40 * S), (30 * S, false));
        // Said by a ruler, which was restarted as well.
        let waits = 100 * S + SENDER_GRACE_MS + 30 * S;
        assert_eq!(back(told(30 * S, Teller::Ruler), 100 * S), (waits, true));
        assert_eq!(back(told(2 * HOUR_MS, Teller::Ruler), 100 * S), (2 * HOUR_MS, true));
        let late = 30 * S + OUTAGE_TOLERANCE_MS + 1;
        assert_eq!(back(told(30 * S, Teller::Ruler), late), (30 * S, false));
    }

    #[test]
    fn what_is_over_stays_over() {
        let mut keeper = Keeper::default();
        assert!(keeper.told(&held(-S, ""), None, Teller::Ruler, 0).is_none(), "it never began");
        assert!(keeper.told(&held(4 * MINUTE_MS, ""), None, Teller::Ruler, 0).is_some());
        let over = keeper.told(&held(60 * S, ""), None, Teller::Ruler, 60 * S);
        assert_eq!(back(over, 70 * S), (60 * S, false));
        assert!(keeper.ended(&held(60 * S, ""), 80 * S).is_none(), "that is written");
        // One that nobody told of any more.
        let mut keeper = Keeper::default();
        assert!(keeper.told(&held(30 * S, ""), None, Teller::Ruler, 0).is_some());
        let over = keeper.ended(&held(30 * S, ""), 40 * S);
        assert_eq!(back(over, 50 * S), (30 * S, false));
        assert!(keeper.forget(held(0, "").fingerprint).is_some());
        assert!(keeper.forget(held(0, "").fingerprint).is_none());
    }
}
