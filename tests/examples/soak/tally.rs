use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::work::Signal;

/// What became of batches.
#[derive(Default)]
pub(crate) struct Tally {
    /// Answers by status; 0 stands for none.
    statuses: BTreeMap<u16, u64>,
    /// Batches that were not sent, since no connection was free in time.
    pub(crate) late: u64,
    /// From sending to the answer, of what was acknowledged.
    latencies_us: Vec<u32>,
}

pub(crate) fn is_acknowledged(status: u16) -> bool {
    matches!(status, 200 | 204)
}

impl Tally {
    pub(crate) fn note(&mut self, status: u16, took_us: u128) {
        *self.statuses.entry(status).or_default() += 1;
        if is_acknowledged(status) {
            self.latencies_us.push(u32::try_from(took_us).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.late += other.late;
        self.latencies_us.extend(other.latencies_us);
        self.latencies_us.sort_unstable();
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.latencies_us.len() as u64
    }

    fn refused(&self) -> u64 {
        self.statuses.iter().filter(|(status, _)| matches!(status, 400..)).map(|(_, count)| count).sum()
    }

    fn unanswered(&self) -> u64 {
        self.statuses.get(&0).copied().unwrap_or(0)
    }

    fn offered(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.late
    }

    /// The latencies in milliseconds that 50, 99 and 99.9 percent are not above, and the longest.
    fn latencies_ms(&self) -> [f64; 4] {
        let sorted = &self.latencies_us;
        let last = sorted.len().saturating_sub(1);
        [500, 990, 999, 1_000].map(|permille| {
            let at = (sorted.len() * permille / 1_000).min(last);
            f64::from(sorted.get(at).copied().unwrap_or(0) / 100) / 10.0
        })
    }

    pub(crate) fn line(&self, signal: Signal, seconds: u64) -> String {
        let [p50, p99, p999, longest] = self.latencies_ms();
        format!(
            "{} batches offered, {} taken ({}/s), {} refused, {} unanswered, {} turned away by the client; \
             taken, ms: p50 {p50}, p99 {p99}, p99.9 {p999}, max {longest}; by status {:?}",
            self.offered(),
            self.acknowledged(),
            self.acknowledged() * signal.per_batch() / seconds.max(1),
            self.refused(),
            self.unanswered(),
            self.late,
            self.statuses
        )
    }

    pub(crate) fn json(&self, signal: Signal, seconds: u64) -> Value {
        let [p50, p99, p999, longest] = self.latencies_ms();
        json!({
            "offered": self.offered(), "taken": self.acknowledged(), "refused": self.refused(),
            "unanswered": self.unanswered(), "turned_away_by_client": self.late,
            "taken_per_second": self.acknowledged() * signal.per_batch() / seconds.max(1),
            "ms": {"p50": p50, "p99": p99, "p99.9": p999, "max": longest},
        })
    }
}

/// What queries were answered.
#[derive(Default)]
pub(crate) struct Answers {
    statuses: BTreeMap<u16, u64>,
    longest_ms: u128,
}

impl Answers {
    pub(crate) fn note(&mut self, status: u16, took_ms: u128) {
        *self.statuses.entry(status).or_default() += 1;
        self.longest_ms = self.longest_ms.max(took_ms);
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.longest_ms = self.longest_ms.max(other.longest_ms);
    }

    pub(crate) fn json(&self) -> Value {
        let statuses: BTreeMap<String, u64> =
            self.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect();
        json!({"by_status": statuses, "longest_ms": self.longest_ms as u64})
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by status (0: none) {:?}, the longest took {} ms", self.statuses, self.longest_ms)
    }
}
