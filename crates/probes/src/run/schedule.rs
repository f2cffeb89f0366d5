//! Which checks run now, and when each runs next.
//!
//! One task per check: it sleeps, runs, publishes. A check therefore never overlaps itself, and
//! none delays another; a slot that passed is skipped, not made up for. The number of runs at
//! once is bounded, so that many targets that hang do not take all sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pilothouse_model::memory::Part;
use rand::Rng as _;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::outcome::Verdict;
use super::publisher::Publisher;
use super::runner::{Prober, Runner, run_adhoc};
use super::stats::{PublisherStats, ScheduleStats};
use crate::registry::{BUILTIN_PROBE, Registry};
use crate::words::{AdHocCheck, Check, LabelMode, Probe};

/// Rarer checks publish their last values again this often.
const REPUBLISH: Duration = Duration::from_secs(120);
/// Not so close before a run.
const REPUBLISH_GAP: Duration = Duration::from_secs(10);
/// A first run is at most so far away.
const MAX_FIRST: Duration = Duration::from_secs(120);
/// A run that ended so much of an interval after the next slot begins it at once. One that hangs
/// until a timeout of the whole interval is always a little late.
const GRACE: f64 = 0.1;

/// Runs the checks of the built-in probe.
#[derive(Debug)]
pub struct Schedule {
    registry: Arc<Registry>,
    prober: Arc<dyn Prober>,
    publisher: Publisher,
    places: Arc<Semaphore>,
    stats: Arc<ScheduleStats>,
    /// Where in their interval first runs begin; each check is a step further than the last.
    phase: f64,
    /// Where checks that run once are put: they are asked for from threads of all kinds.
    runtime: Handle,
}

/// What a runner was started with; any change starts another.
#[derive(Debug, Clone)]
struct Assignment {
    check: Arc<Check>,
    labels: LabelMode,
}

impl Assignment {
    /// A check that changed is another one: no version is ever written over.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.check, &other.check) && self.labels == other.labels
    }
}

/// A check that runs, and how to end it.
struct Running {
    assignment: Assignment,
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
        let phase = rand::rng().random();
        Self { registry, prober, publisher, places, stats: Arc::default(), phase, runtime }
    }

    pub fn stats(&self) -> Arc<ScheduleStats> {
        Arc::clone(&self.stats)
    }

    /// How the results of the runs went.
    pub fn published(&self) -> &PublisherStats {
        self.publisher.stats()
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
        for mut runner in running.into_values() {
            runner.task.abort();
            // What a run has given is with the publisher once its task is gone.
            let _ = (&mut runner.task).await;
        }
    }

    /// Ends what is gone or changed, starts what is new or changed.
    async fn follow(&self, running: &mut HashMap<i64, Running>) {
        let assigned = self.registry.assignments(BUILTIN_PROBE).into_iter().map(|check| {
            let labels = self.registry.label_mode(check.tenant_id);
            (check.id, Assignment { check, labels })
        });
        let wanted: HashMap<i64, Assignment> = assigned.collect();
        let is_over = |(id, running): &(&i64, &Running)| {
            !wanted.get(id).is_some_and(|wanted| wanted.is(&running.assignment))
        };
        let over: Vec<i64> = running.iter().filter(is_over).map(|(id, _)| *id).collect();
        let mut ending = JoinSet::new();
        for runner in over.iter().filter_map(|id| running.remove(id)) {
            let _ = runner.stop.send(true);
            ending.spawn(runner.task);
        }
        // A changed check begins anew only after its old series have ended.
        while ending.join_next().await.is_some() {}
        let probe = Arc::new(self.registry.builtin_probe());
        for (id, assignment) in wanted {
            running.entry(id).or_insert_with(|| self.start(assignment, &probe));
        }
        self.stats.checks.store(running.len() as u64, Relaxed);
    }

    fn start(&self, assignment: Assignment, probe: &Arc<Probe>) -> Running {
        let (stop, stopped) = watch::channel(false);
        let runner = Runner::new(
            Arc::clone(&assignment.check),
            assignment.labels,
            Arc::clone(probe),
            Arc::clone(&self.prober),
            self.publisher.clone(),
            self.registry.settings().memory.holding(Part::Checks),
        );
        let life = Life {
            every: every(&assignment.check),
            first: Instant::now() + first_wait(&assignment.check, self.phase),
            places: Arc::clone(&self.places),
            stats: Arc::clone(&self.stats),
        };
        Running { assignment, stop, task: tokio::spawn(life.live(runner, stopped)) }
    }

    /// Runs a check once if it names the built-in probe.
    pub fn run_adhoc(&self, check: AdHocCheck) {
        if !check.probes.contains(&BUILTIN_PROBE) {
            return;
        }
        let probe = Arc::new(self.registry.builtin_probe());
        let (prober, publisher) = (Arc::clone(&self.prober), self.publisher.clone());
        let places = Arc::clone(&self.places);
        self.runtime.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire().await;
            run_adhoc(check, probe, prober, publisher).await;
        });
    }
}

/// When the runs of one check begin.
struct Life {
    every: Duration,
    first: Instant,
    places: Arc<Semaphore>,
    stats: Arc<ScheduleStats>,
}

impl Life {
    /// Runs until it is told to stop, then ends the series.
    async fn live(self, mut runner: Runner, mut stopped: watch::Receiver<bool>) {
        let mut next = self.first;
        let mut again: Option<Instant> = None;
        loop {
            let due = again.map_or(next, |again| again.min(next));
            tokio::select! {
                () = sleep_until(due) => {}
                _ = stopped.changed() => break,
            }
            if due < next {
                runner.publish_again();
            } else {
                tokio::select! {
                    () = self.run_in_place(&mut runner, due) => {}
                    _ = stopped.changed() => break,
                }
                next = self.slot_after(due);
            }
            let candidate = Instant::now() + REPUBLISH;
            again = (candidate + REPUBLISH_GAP < next).then_some(candidate);
        }
        runner.end();
    }

    async fn run_in_place(&self, runner: &mut Runner, due: Instant) {
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        self.stats.lateness.add(Instant::now().saturating_duration_since(due));
        let _under_way = UnderWay::of(&self.stats);
        let counter = match runner.run().await {
            Verdict::Good => &self.stats.good_runs,
            Verdict::Failed => &self.stats.failed_runs,
            Verdict::LeftOut => &self.stats.left_out_runs,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// The next slot; those that passed meanwhile are skipped.
    fn slot_after(&self, due: Instant) -> Instant {
        let next = due + self.every;
        let behind = Instant::now().saturating_duration_since(next);
        if behind <= self.every.mul_f64(GRACE) {
            return next;
        }
        let missed = behind.as_nanos() / self.every.as_nanos().max(1) + 1;
        self.stats.skipped.fetch_add(u64::try_from(missed).unwrap_or(u64::MAX), Relaxed);
        next + self.every.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX))
    }
}

/// Counts a run for as long as it lasts, however it ends.
struct UnderWay<'a>(&'a ScheduleStats);

impl<'a> UnderWay<'a> {
    fn of(stats: &'a ScheduleStats) -> Self {
        stats.running.fetch_add(1, Relaxed);
        Self(stats)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

fn every(check: &Check) -> Duration {
    Duration::from_millis(u64::try_from(check.frequency).unwrap_or(0)).max(Duration::from_secs(1))
}

/// After `offset` where there is one. Else at a place in the interval that no other check is
/// near: steps of the golden ratio fill it evenly, however many checks there are, and neither a
/// restart nor a change is a burst.
fn first_wait(check: &Check, phase: f64) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    match u64::try_from(check.offset) {
        Ok(offset_ms) if offset_ms > 0 => Duration::from_millis(offset_ms),
        _ => every(check).min(MAX_FIRST).mul_f64((check.id as f64 * GOLDEN + phase).fract()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_runs_fill_the_interval_evenly() {
        let wait = |id| first_wait(&Check { id, frequency: 10_000, ..Check::default() }, 0.3);
        let mut waits: Vec<Duration> = (1..=2_000).map(wait).collect();
        waits.sort();
        let widest = waits.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(waits.last().unwrap() < &Duration::from_secs(10));
        assert!(widest < Duration::from_millis(15), "{widest:?} without a run, of 10 s for 2,000");
        let offset = Check { offset: 7, frequency: 10_000, ..Check::default() };
        assert_eq!(first_wait(&offset, 0.3), Duration::from_millis(7));
    }

    #[tokio::test(start_paused = true)]
    async fn slots_that_passed_are_skipped_and_a_late_one_is_not() {
        let life = Life {
            every: Duration::from_secs(10),
            first: Instant::now(),
            places: Arc::new(Semaphore::new(1)),
            stats: Arc::default(),
        };
        let start = Instant::now();
        tokio::time::sleep(Duration::from_millis(10_900)).await;
        assert_eq!(life.slot_after(start) - start, Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(life.slot_after(start) - start, Duration::from_secs(20));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(life.slot_after(start) - start, Duration::from_secs(40));
        assert_eq!(life.stats.skipped.load(Relaxed), 1 + 3);
    }
}
