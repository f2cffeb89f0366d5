//! One target's life: when it is scraped, what becomes of it, how it ends.
//!
//! A target has one owner, a task that scrapes and waits in turn, so that no scrape begins before
//! the one before it is written. Slots lie at the target's phase in every interval of the clock on
//! the wall; those that pass while a scrape takes long are left out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilothouse_model::memory::Holding;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::write::{MetadataEntry, WriteBatch};
use pilothouse_model::{Clock as _, Labels};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cache::SeriesCache;
use crate::config::Job;
use crate::exchange::{Exchange, Exposed, Fetched, ScrapeError};
use crate::ingest::{Counts, Ingest, Ingested};
use crate::report::Report;
use crate::shared::{AppendResult, Shared};
use crate::target::Target;

/// What an owner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Go,
    /// The target is gone: end its series, unless somebody else goes on with them.
    Leave,
    /// The process ends: write nothing more. After the next start the series go on.
    Halt,
}

/// An owner that is told to end, and the way to hurry it.
pub(crate) type Leaving = (watch::Sender<Order>, JoinHandle<()>);

/// How the last scrape went.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    /// `None` before the first scrape.
    pub(crate) at_ms: Option<i64>,
    pub(crate) duration_s: f64,
    pub(crate) error: Option<String>,
}

/// A target and what others may see of it.
#[derive(Debug)]
pub(crate) struct TargetState {
    pub(crate) target: Target,
    pub(crate) outcome: Mutex<Outcome>,
    /// Sorted by family; entries are shared between targets that say the same.
    pub(crate) metadata: Mutex<Vec<Arc<MetadataEntry>>>,
    /// Series of an owner that ended, whose labels this target carries on.
    inbox: Mutex<Vec<Labels>>,
}

impl TargetState {
    pub(crate) fn new(target: Target) -> Arc<Self> {
        Arc::new(Self {
            target,
            outcome: Mutex::default(),
            metadata: Mutex::default(),
            inbox: Mutex::default(),
        })
    }

    /// Hands series over to this target's owner, who ends what is exposed no more.
    pub(crate) fn hand_over(&self, series: Vec<Labels>) {
        self.inbox.lock().extend(series);
    }
}

/// How exact a slot is kept: a scrape that begins this much late carries the slot's time, so that
/// times of samples stay regular and take little room.
const TOLERANCE_MS: i64 = 2;

pub(crate) struct Owner {
    pub(crate) job: Arc<Job>,
    pub(crate) state: Arc<TargetState>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) shared: Arc<Shared>,
    /// Why no target of the job is scraped.
    pub(crate) forced: watch::Receiver<Option<String>>,
    pub(crate) orders: watch::Receiver<Order>,
    /// The memory of what the target exposed last.
    pub(crate) held: Holding,
}

impl Owner {
    /// Scrapes until it is told to leave or halt.
    pub(crate) async fn run(mut self) {
        let mut cache = SeriesCache::default();
        let mut last_ms = None;
        loop {
            let slot_ms = self.next_slot(last_ms);
            tokio::select! {
                () = sleep_until_ms(slot_ms) => {}
                _ = self.orders.changed() => break,
            }
            cache = self.scrape(cache, slot_ms).await;
            self.held.set(cache.held_bytes());
            last_ms = Some(slot_ms);
            if *self.orders.borrow() != Order::Go {
                break;
            }
        }
        if last_ms.is_some() {
            let shared = Arc::clone(&self.shared);
            self.leave(cache).await;
            shared.tidy();
        }
    }

    /// The first slot that is still to come, and not the one that was.
    fn next_slot(&self, last_ms: Option<i64>) -> i64 {
        let (interval, phase) = (self.state.target.interval_ms.max(1), self.state.target.phase_ms());
        let now_ms = SystemClock.now_ms();
        // A timer may fire a moment before its time. Where the clock was set back, the last slot
        // lies in the future and is forgotten.
        let after_ms = match last_ms {
            Some(last) if last <= now_ms.saturating_add(interval) => now_ms.max(last + interval / 2),
            _ => now_ms,
        };
        let into = (after_ms - phase).rem_euclid(interval);
        after_ms + (interval - into)
    }

    /// One scrape; given up where the process ends meanwhile.
    async fn scrape(&self, mut cache: SeriesCache, slot_ms: i64) -> SeriesCache {
        let mut orders = self.orders.clone();
        // The semaphore is never closed.
        let _place = tokio::select! {
            place = self.shared.places.acquire() => place,
            () = halted(&mut orders) => return cache,
        };
        let now_ms = SystemClock.now_ms();
        let tolerance = TOLERANCE_MS.min(self.state.target.interval_ms / 100);
        let t_ms = if (0..=tolerance).contains(&(now_ms - slot_ms)) { slot_ms } else { now_ms };
        let started = Instant::now();
        cache.inherit(std::mem::take(&mut *self.state.inbox.lock()));
        // Reading takes a processor and some memory, so that few read at once.
        let fetched = tokio::select! {
            fetched = async { (self.fetch().await, self.shared.readers.acquire().await) } => fetched,
            () = halted(&mut orders) => return cache,
        };
        let (fetched, reader) = fetched;
        let work = {
            let (job, state, shared) =
                (Arc::clone(&self.job), Arc::clone(&self.state), Arc::clone(&self.shared));
            move || {
                let scrape = Scrape { job: &job, state: &state, shared: &shared, t_ms, started };
                let appended = scrape.take(&mut cache, fetched);
                (cache, appended)
            }
        };
        let taken = tokio::task::spawn_blocking(work).await;
        // Waiting for the disk takes neither.
        drop(reader);
        match taken {
            Ok((cache, Some(appended))) => {
                self.shared.confirm(&self.job.name, appended).await;
                cache
            }
            Ok((cache, None)) => cache,
            Err(e) => {
                tracing::error!(
                    job = self.job.name,
                    url = self.state.target.url,
                    "a scrape was not taken: {e}"
                );
                SeriesCache::default()
            }
        }
    }

    async fn fetch(&self) -> Result<Fetched, ScrapeError> {
        let forced = self.forced.borrow().clone();
        match forced {
            Some(why) => Err(ScrapeError::Forced(why)),
            None => self.exchange.fetch(&self.state.target.url, self.timeout()).await,
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.state.target.timeout_ms).unwrap_or(0))
    }

    /// The end of a target that is gone. It may come back, or another job may have it now: then
    /// who scrapes it goes on with its series. So two more slots pass before they are ended, as of
    /// the first of them.
    async fn leave(mut self, cache: SeriesCache) {
        let end_ms = self.next_slot(None);
        let interval = self.state.target.interval_ms;
        let patience_ms = end_ms.saturating_add(interval).saturating_add(interval / 10);
        tokio::select! {
            () = halted(&mut self.orders) => return,
            () = sleep_until_ms(patience_ms) => {}
        }
        if let Some(heir) = self.shared.heir(&self.state) {
            heir.hand_over(cache.into_live());
            return;
        }
        let work = move || {
            let Target { public, histograms, .. } = &self.state.target;
            let (histograms, limits) = (*histograms, &*self.shared.limits.now());
            let ingest = Ingest { job: &self.job, public, histograms, limits, t_ms: end_ms };
            let mut batch = WriteBatch::of_labels();
            for labels in cache.into_live() {
                batch.push_float(&labels, end_ms, stale_nan());
            }
            Report::end(ingest, &mut batch);
            let appended = self.shared.append(&batch);
            (self, appended)
        };
        if let Ok((owner, appended)) = tokio::task::spawn_blocking(work).await {
            owner.shared.confirm(&owner.job.name, appended).await;
        }
    }
}

async fn halted(orders: &mut watch::Receiver<Order>) {
    // Who gave the orders is gone only when the process ends.
    let _ = orders.wait_for(|order| *order == Order::Halt).await;
}

/// One scrape from the answer on; runs on a thread that may block.
struct Scrape<'a> {
    job: &'a Job,
    state: &'a TargetState,
    shared: &'a Shared,
    t_ms: i64,
    started: Instant,
}

impl Scrape<'_> {
    /// `None` where this server had no room for the body: it is as if the slot had passed, since
    /// nothing is known of the target, and least of all that it is down.
    fn take(&self, cache: &mut SeriesCache, fetched: Result<Fetched, ScrapeError>) -> Option<AppendResult> {
        let body = fetched.and_then(Fetched::expose);
        if let Err(e @ ScrapeError::NoMemory(_)) = &body {
            self.leave_out(e);
            return None;
        }
        let Target { public, histograms, .. } = &self.state.target;
        let (histograms, limits) = (*histograms, &*self.shared.limits.now());
        let ingest = Ingest { job: self.job, public, histograms, limits, t_ms: self.t_ms };
        let (mut ingested, bytes) = read(ingest, cache, body);
        let duration_s = self.started.elapsed().as_secs_f64();
        let report =
            Report { up: ingested.result.is_ok(), duration_s, counts: ingested.counts, body_bytes: bytes };
        report.add(ingest, self.state.target.timeout_ms, &mut ingested.batch);
        self.shared.stats.scraped(&ingested.counts, ingested.result.is_ok());
        ingested.batch.metadata = self.shared.learn(self.state, ingested.metadata);
        *self.state.outcome.lock() = Outcome {
            at_ms: Some(self.t_ms),
            duration_s,
            error: ingested.result.as_ref().err().map(ToString::to_string),
        };
        self.tell(&ingested.counts, &ingested.result);
        Some(self.shared.append(&ingested.batch))
    }

    fn leave_out(&self, why: &ScrapeError) {
        self.shared.stats.left_out.fetch_add(1, Relaxed);
        self.state.outcome.lock().error = Some(why.to_string());
        tracing::debug!(job = self.job.name, url = self.state.target.url, "a scrape was left out: {why}");
    }

    fn tell(&self, counts: &Counts, result: &Result<(), ScrapeError>) {
        let (job, url) = (self.job.name.as_str(), self.state.target.url.as_str());
        if let Err(e) = result {
            tracing::debug!(job, url, "scrape failed: {e}");
        }
        if counts.duplicates > 0 {
            tracing::debug!(job, url, duplicates = counts.duplicates, "samples of one series and time");
        }
    }
}

/// The body of a scrape into a batch, and its length: -1 where it is too long, 0 where there is none.
fn read(ingest: Ingest<'_>, cache: &mut SeriesCache, body: Result<Exposed, ScrapeError>) -> (Ingested, f64) {
    match body {
        Ok(body) => (ingest.body(cache, &body.bytes, body.form), body.bytes.len() as f64),
        Err(e) => {
            let bytes = if e == ScrapeError::TooLong { -1.0 } else { 0.0 };
            (ingest.nothing(cache, e), bytes)
        }
    }
}

/// Waits until the clock on the wall says so.
async fn sleep_until_ms(t_ms: i64) {
    let wait = t_ms.saturating_sub(SystemClock.now_ms());
    tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
}
