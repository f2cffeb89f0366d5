//! Notifications under way: tried until they went out, cannot go out, or their time is over.

use std::sync::Arc;

use pilothouse_model::Labels;

use super::Engine;
use super::groups::GroupId;
use crate::history::EventKind;
use crate::nflog::Fingerprints;
use crate::receivers::{Failure, Integration, Message};
use crate::telemetry::FailureReason;

/// A notification under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(super) u64);

/// One try that is to be made now.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub job: JobId,
    pub integration: Arc<Integration>,
    pub message: Arc<Message>,
    /// How long the try may take.
    pub patience_ms: i64,
}

#[derive(Debug)]
pub(super) struct Job {
    group: GroupId,
    pub(super) key: String,
    integration: Arc<Integration>,
    message: Arc<Message>,
    firing: Fingerprints,
    resolved: Fingerprints,
    repeat_ms: i64,
    /// What it takes in memory, about.
    pub(super) bytes: u64,
    /// When it is given up.
    pub(super) deadline_ms: i64,
    attempts: u32,
    /// `None` while a try is being made.
    next_ms: Option<i64>,
    last_failure: Option<Failure>,
}

/// The wait before the second try; each further one is half as long again, up to a minute.
const FIRST_WAIT_MS: i64 = 500;
const LONGEST_WAIT_MS: i64 = 60_000;

impl Job {
    #[allow(clippy::too_many_arguments)] // one place makes it, with all of what it is
    pub(super) fn new(
        group: GroupId,
        key: String,
        integration: &Arc<Integration>,
        message: Message,
        (firing, resolved): (Fingerprints, Fingerprints),
        repeat_ms: i64,
        bytes: u64,
        now_ms: i64,
        patience_ms: i64,
    ) -> Self {
        Self {
            group,
            key,
            integration: Arc::clone(integration),
            message: Arc::new(message),
            firing,
            resolved,
            repeat_ms,
            bytes,
            deadline_ms: now_ms.saturating_add(patience_ms),
            attempts: 1,
            next_ms: None,
            last_failure: None,
        }
    }

    pub(super) fn attempt(&self, job: JobId, now_ms: i64) -> Attempt {
        Attempt {
            job,
            integration: Arc::clone(&self.integration),
            message: Arc::clone(&self.message),
            patience_ms: self.deadline_ms.saturating_sub(now_ms).max(1),
        }
    }

    pub(super) fn shift(&mut self, by_ms: i64) {
        self.deadline_ms = self.deadline_ms.saturating_sub(by_ms);
        self.next_ms = self.next_ms.map(|at| at.saturating_sub(by_ms));
    }

    /// The wait after so many tries, scattered by half so that many jobs do not knock together.
    fn wait_ms(&self, id: JobId) -> i64 {
        let mut wait = FIRST_WAIT_MS;
        for _ in 1..self.attempts {
            wait = (wait * 3 / 2).min(LONGEST_WAIT_MS);
        }
        let scatter =
            (id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).wrapping_add(u64::from(self.attempts) * 977);
        wait / 2 + i64::try_from(scatter % 1000).unwrap_or(0) * wait / 1000
    }
}

impl Engine {
    /// A job whose time to look at has come: the next try, or the end of patience.
    pub(super) fn retry(&mut self, id: JobId, now_ms: i64) -> Option<Attempt> {
        let job = self.jobs.get_mut(&id)?;
        match job.next_ms {
            Some(at) if at <= now_ms && now_ms < job.deadline_ms => {
                job.next_ms = None;
                job.attempts += 1;
                let attempt = job.attempt(id, now_ms);
                self.due_jobs.set(id, job.deadline_ms);
                Some(attempt)
            }
            _ if now_ms >= job.deadline_ms => {
                let late =
                    Failure::retry(FailureReason::ContextDeadlineExceeded, "context deadline exceeded");
                let failure = job.last_failure.take().unwrap_or(late);
                self.end(id, Err(failure), now_ms);
                None
            }
            _ => None,
        }
    }

    /// Takes how a try went. What is not known any more was given up before.
    pub fn finished(&mut self, id: JobId, outcome: Result<(), Failure>, took_ms: u64, now_ms: i64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.counters.request(job.integration.kind, took_ms, outcome.is_err());
        match outcome {
            Err(failure) if failure.retry && now_ms < job.deadline_ms => {
                let wait_ms = job.wait_ms(id);
                let at = now_ms.saturating_add(wait_ms).min(job.deadline_ms);
                if job.last_failure.as_ref().is_none_or(|f| f.text != failure.text) {
                    tracing::warn!(
                        receiver = %job.message.receiver,
                        integration = %job.integration.name,
                        attempts = job.attempts,
                        error = %failure.text,
                        "notification failed, will be tried again"
                    );
                }
                job.last_failure = Some(failure);
                job.next_ms = Some(at);
                self.due_jobs.set(id, at);
            }
            outcome => self.end(id, outcome, now_ms),
        }
    }

    fn end(&mut self, id: JobId, outcome: Result<(), Failure>, now_ms: i64) {
        let Some(job) = self.jobs.remove(&id) else { return };
        self.under_way.remove(&job.key);
        self.job_bytes = self.job_bytes.saturating_sub(job.bytes);
        self.due_jobs.remove(id);
        let failed = outcome.is_err();
        let (kind, detail) = match &outcome {
            Ok(()) => (EventKind::NotificationSent, job.message.reason.text().to_owned()),
            Err(failure) => (EventKind::NotificationFailed, failure.text.clone()),
        };
        let labels: Labels = job.message.group_labels.clone();
        let event = self.history.add(now_ms, kind, labels, detail);
        event.receiver.clone_from(&job.message.receiver);
        event.integration.clone_from(&job.integration.name);
        event.alerts = job.message.alerts.len();
        event.attempts = job.attempts;
        match outcome {
            Ok(()) => {
                let notes = std::mem::take(&mut *job.message.notes.lock());
                let change = self.nflog.set(job.key, job.firing, job.resolved, notes, job.repeat_ms, now_ms);
                self.changes.push(change);
            }
            Err(failure) => {
                self.counters.notification_failed(job.integration.kind, failure.reason);
                tracing::error!(
                    receiver = %job.message.receiver,
                    integration = %job.integration.name,
                    group = %job.message.group_key,
                    attempts = job.attempts,
                    error = %failure.text,
                    "notification failed"
                );
            }
        }
        self.landed(job.group, failed, now_ms);
    }

    /// One of a group's notifications ended; after the last the group goes on.
    fn landed(&mut self, id: GroupId, failed: bool, now_ms: i64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(flight) = &mut group.flight else { return };
        flight.jobs_left = flight.jobs_left.saturating_sub(1);
        flight.failed |= failed;
        if flight.jobs_left > 0 {
            return;
        }
        let Some(flight) = group.flight.take() else { return };
        // A look that came due meanwhile is made up for at once.
        if !self.due_groups.contains(id) {
            self.due_groups.set(id, now_ms);
        }
        if flight.failed {
            self.settle_but_owed(id, &flight.resolved, now_ms);
        } else {
            self.settle(id, &flight.resolved, now_ms);
        }
    }
}
