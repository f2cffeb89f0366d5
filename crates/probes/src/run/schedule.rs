//! Which checks run now, and when each runs next.
//!
//! One task per check: it sleeps, runs, publishes. A check therefore never overlaps itself, and
//! none delays another; a run that is late is skipped, not made up for. The number of runs at
//! once is bounded, so that many targets that hang do not take all sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::Rng as _;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::publisher::Publisher;
use super::runner::{Prober, Runner, run_adhoc};
use crate::registry::{BUILTIN_PROBE, Registry};
use crate::words::{AdHocCheck, Check, Probe};

/// Rarer checks publish their last values again this often.
const REPUBLISH: Duration = Duration::from_secs(120);
/// Not so close before a run.
const REPUBLISH_GAP: Duration = Duration::from_secs(10);
/// A first run is at most so far away.
const MAX_FIRST: Duration = Duration::from_secs(120);

/// How runs went.
#[derive(Debug, Default)]
pub struct ScheduleStats {
    pub checks: AtomicU64,
    pub runs: AtomicU64,
    /// Slots that passed while the run before was not over, or no place was free.
    pub skipped: AtomicU64,
    /// Time between slots and the runs that began at them, added up.
    pub late_us: AtomicU64,
}

/// Runs the checks of the built-in probe.
#[derive(Debug)]
pub struct Schedule {
    registry: Arc<Registry>,
    prober: Arc<dyn Prober>,
    publisher: Publisher,
    places: Arc<Semaphore>,
    stats: Arc<ScheduleStats>,
    /// Where checks that run once are put: they are asked for from threads of all kinds.
    runtime: Handle,
}

/// A check that runs, and how to end it.
struct Running {
    check: Check,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Schedule {
    pub fn new(
        registry: Arc<Registry>,
        prober: Arc<dyn Prober>,
        publisher: Publisher,
        max_runs_at_once: usize,
        runtime: Handle,
    ) -> Self {
        let places = Arc::new(Semaphore::new(max_runs_at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Self { registry, prober, publisher, places, stats: Arc::default(), runtime }
    }

    pub fn stats(&self) -> Arc<ScheduleStats> {
        Arc::clone(&self.stats)
    }

    /// Follows the registry until `stop` says so. Series do not end with the server.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut changes = self.registry.changes();
        let mut running: HashMap<i64, Running> = HashMap::new();
        loop {
            changes.mark_unchanged();
            self.follow(&mut running).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                _ = stop.changed() => break,
            }
        }
        running.into_values().for_each(|runner| runner.task.abort());
    }

    /// Ends what is gone or changed, starts what is new or changed.
    async fn follow(&self, running: &mut HashMap<i64, Running>) {
        let assigned = self.registry.assignments(BUILTIN_PROBE);
        let wanted: HashMap<i64, &Check> = assigned.iter().map(|check| (check.id, check)).collect();
        let over: Vec<i64> =
            running.iter().filter(|(id, r)| wanted.get(id) != Some(&&r.check)).map(|(id, _)| *id).collect();
        let mut ending = JoinSet::new();
        for runner in over.iter().filter_map(|id| running.remove(id)) {
            let _ = runner.stop.send(true);
            ending.spawn(runner.task);
        }
        // A changed check begins anew only after its old series have ended.
        while ending.join_next().await.is_some() {}
        let probe = Arc::new(self.registry.builtin_probe());
        for check in assigned {
            running.entry(check.id).or_insert_with(|| self.start(check, &probe));
        }
        self.stats.checks.store(running.len() as u64, Relaxed);
    }

    fn start(&self, check: Check, probe: &Arc<Probe>) -> Running {
        let (stop, stopped) = watch::channel(false);
        let runner =
            Runner::new(check.clone(), Arc::clone(probe), Arc::clone(&self.prober), self.publisher.clone());
        let task = tokio::spawn(live(runner, stopped, Arc::clone(&self.places), Arc::clone(&self.stats)));
        Running { check, stop, task }
    }

    /// Runs a check once if it names the built-in probe.
    pub fn run_adhoc(&self, check: AdHocCheck) {
        if check.probes.contains(&BUILTIN_PROBE) {
            let probe = Arc::new(self.registry.builtin_probe());
            self.runtime.spawn(run_adhoc(check, probe, Arc::clone(&self.prober), self.publisher.clone()));
        }
    }
}

/// The life of one check.
async fn live(
    mut runner: Runner,
    mut stopped: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    stats: Arc<ScheduleStats>,
) {
    let every =
        Duration::from_millis(u64::try_from(runner.check.frequency).unwrap_or(0)).max(Duration::from_secs(1));
    let mut next = Instant::now() + first_wait(&runner.check, every);
    let mut again = None;
    loop {
        let due = again.map_or(next, |again: Instant| again.min(next));
        tokio::select! {
            () = sleep_until(due) => {}
            _ = stopped.changed() => break,
        }
        if due < next {
            runner.publish_again();
        } else {
            tokio::select! {
                () = run_in_place(&mut runner, &places, &stats, due) => {}
                _ = stopped.changed() => break,
            }
            next = next_slot(due, every, &stats);
        }
        let candidate = Instant::now() + REPUBLISH;
        again = (candidate + REPUBLISH_GAP < next).then_some(candidate);
    }
    runner.end();
}

async fn run_in_place(runner: &mut Runner, places: &Semaphore, stats: &ScheduleStats, due: Instant) {
    // The semaphore is never closed.
    let _place = places.acquire().await;
    let late = Instant::now().saturating_duration_since(due);
    stats.late_us.fetch_add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Relaxed);
    stats.runs.fetch_add(1, Relaxed);
    runner.run().await;
}

/// After `offset` where there is one; else at a random time, so that a restart is no burst.
fn first_wait(check: &Check, every: Duration) -> Duration {
    match u64::try_from(check.offset) {
        Ok(offset_ms) if offset_ms > 0 => Duration::from_millis(offset_ms),
        _ => every.min(MAX_FIRST).mul_f64(rand::rng().random()),
    }
}

/// The first slot after now; those that passed meanwhile are skipped.
fn next_slot(due: Instant, every: Duration, stats: &ScheduleStats) -> Instant {
    let mut next = due + every;
    let now = Instant::now();
    if next < now {
        let missed = (now - next).as_nanos() / every.as_nanos().max(1) + 1;
        stats.skipped.fetch_add(u64::try_from(missed).unwrap_or(u64::MAX), Relaxed);
        next += every.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
    }
    next
}
