//! Alerts as they are held: merged, with an end, and known by the fingerprint of their labels.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use pilothouse_model::{Alert, Labels};

/// FNV-1a over sorted names and values, as Prometheus' `LabelSet.Fingerprint`.
pub fn fingerprint(labels: &Labels) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for (name, value) in labels {
        for text in [name, value] {
            text.bytes().for_each(&mut add);
            add(0xff);
        }
    }
    hash
}

/// What an alert takes beside its texts: itself, and its places where it is found.
const HELD_BYTES: usize = 300;
/// What an annotation takes beside its texts.
const ANNOTATION_BYTES: usize = 64;

/// An alert with its times known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub fingerprint: u64,
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub updated_at_ms: i64,
    pub generator_url: String,
    /// The end was not said but follows from `resolve_timeout`.
    pub timeout: bool,
}

impl Held {
    /// Fills in the times that were not said.
    pub fn from_alert(alert: &Alert, now_ms: i64, resolve_timeout_ms: i64) -> Self {
        let timeout = alert.ends_at_ms == 0;
        let ends_at_ms = if timeout { now_ms.saturating_add(resolve_timeout_ms) } else { alert.ends_at_ms };
        let starts_at_ms = match (alert.starts_at_ms, timeout) {
            (0, true) => now_ms,
            (0, false) => alert.ends_at_ms,
            (given, _) => given,
        };
        Self {
            fingerprint: fingerprint(&alert.labels),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at_ms,
            ends_at_ms,
            updated_at_ms: now_ms,
            generator_url: alert.generator_url.clone(),
            timeout,
        }
    }

    pub fn resolved_at(&self, now_ms: i64) -> bool {
        self.ends_at_ms <= now_ms
    }

    /// Alertmanager's checks and words.
    pub fn check(&self) -> Result<(), String> {
        if self.ends_at_ms < self.starts_at_ms {
            return Err("start time must be before end time".to_owned());
        }
        if self.labels.is_empty() {
            return Err("at least one label pair required".to_owned());
        }
        if self.labels.iter().any(|(name, _)| name.is_empty()) {
            return Err("invalid label set: invalid name \"\"".to_owned());
        }
        if self.annotations.contains_key("") {
            return Err("invalid annotations: invalid name \"\"".to_owned());
        }
        Ok(())
    }

    pub fn name(&self) -> &str {
        self.labels.value("alertname")
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> u64 {
        let annotations = self.annotations.iter().map(|(n, v)| n.len() + v.len() + ANNOTATION_BYTES);
        let texts = self.labels.as_encoded().len() + self.generator_url.len() + annotations.sum::<usize>();
        (texts + HELD_BYTES) as u64
    }

    /// Whether the two were active at a common time.
    fn overlaps(&self, older: &Self) -> bool {
        let inside = |t: i64| older.starts_at_ms < t && t < older.ends_at_ms;
        inside(self.ends_at_ms) || inside(self.starts_at_ms)
    }

    /// The younger of two sayings about one alert, with the earliest start; an end that follows
    /// from a timeout yields to one that was said.
    fn merged(older: &Self, younger: Self, now_ms: i64) -> Self {
        let keeps_end = older.ends_at_ms > younger.ends_at_ms
            && if younger.resolved_at(now_ms) { older.resolved_at(now_ms) } else { !older.timeout };
        Self {
            starts_at_ms: older.starts_at_ms.min(younger.starts_at_ms),
            ends_at_ms: if keeps_end { older.ends_at_ms } else { younger.ends_at_ms },
            ..younger
        }
    }
}

/// The order of alerts in notifications: by job, instance, then label sets, shorter ones first.
pub fn order(a: &Labels, b: &Labels) -> Ordering {
    let by_label = |name: &str| match (a.get(name), b.get(name)) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    by_label("job").then_with(|| by_label("instance")).then_with(|| order_of_sets(a, b))
}

/// Prometheus' order of label sets of the older kind: by size, then by the first difference.
pub fn order_of_sets(a: &Labels, b: &Labels) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| {
        for ((name_a, value_a), (name_b, value_b)) in a.iter().zip(b.iter()) {
            // A set that lacks the smaller name comes first.
            let order = name_b.cmp(name_a).then_with(|| value_a.cmp(value_b));
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    })
}

/// All alerts that came in and are not forgotten yet.
#[derive(Debug, Default)]
pub(crate) struct Alerts {
    by_fingerprint: HashMap<u64, Arc<Held>>,
    /// What all of them take, about.
    bytes: u64,
}

impl Alerts {
    /// Takes an alert, merged with what is known of it. Gives it back as it is held now, and
    /// what was held before.
    pub(crate) fn put(&mut self, alert: Held, now_ms: i64) -> (Arc<Held>, Option<Arc<Held>>) {
        let before = self.by_fingerprint.get(&alert.fingerprint).cloned();
        let held = match &before {
            Some(older) if alert.overlaps(older) => Held::merged(older, alert, now_ms),
            _ => alert,
        };
        let held = Arc::new(held);
        self.bytes += held.bytes();
        if let Some(older) = self.by_fingerprint.insert(held.fingerprint, Arc::clone(&held)) {
            self.bytes -= older.bytes();
        }
        (held, before)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.by_fingerprint.values()
    }

    pub(crate) fn get(&self, fingerprint: u64) -> Option<&Arc<Held>> {
        self.by_fingerprint.get(&fingerprint)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_fingerprint.len()
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets the alerts that are over and not `needed` any more, and gives them back.
    pub(crate) fn forget_resolved(&mut self, needed: &HashSet<u64>, now_ms: i64) -> Vec<Arc<Held>> {
        let is_over = |a: &&Arc<Held>| a.resolved_at(now_ms) && !needed.contains(&a.fingerprint);
        let over: Vec<Arc<Held>> = self.by_fingerprint.values().filter(is_over).cloned().collect();
        for alert in &over {
            self.by_fingerprint.remove(&alert.fingerprint);
            self.bytes -= alert.bytes();
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(start: i64, end: i64, timeout: bool) -> Held {
        let alert = Alert {
            labels: Labels::from_pairs([("alertname", "a")]),
            annotations: BTreeMap::new(),
            starts_at_ms: start,
            ends_at_ms: end,
            generator_url: String::new(),
        };
        Held { timeout, ..Held::from_alert(&alert, 100, 50) }
    }

    #[test]
    fn fingerprints_are_those_of_prometheus() {
        assert_eq!(format!("{:016x}", fingerprint(&Labels::empty())), "cbf29ce484222325");
        let labels = Labels::from_pairs([("alertname", "HighLoad")]);
        assert_eq!(fingerprint(&labels), fingerprint(&labels.clone()));
    }

    #[test]
    fn overlapping_alerts_are_merged() {
        // (older, younger, start and end)
        for (older, younger, expected) in [
            ((10, 150, false), (50, 140, false), (10, 150)),
            ((10, 150, true), (50, 140, false), (10, 140)),
            ((10, 150, true), (50, 90, false), (10, 90)),
            ((10, 95, false), (50, 90, false), (10, 95)),
            ((10, 40, false), (50, 90, false), (50, 90)),
        ] {
            let mut alerts = Alerts::default();
            alerts.put(held(older.0, older.1, older.2), 100);
            let (now, _) = alerts.put(held(younger.0, younger.1, younger.2), 100);
            assert_eq!((now.starts_at_ms, now.ends_at_ms), expected, "{older:?} {younger:?}");
        }
    }
}
