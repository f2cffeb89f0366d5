//! All jobs together: started, changed as a whole, drained; and what others may know of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::write::MetadataEntry;
use pilothouse_model::{Labels, Memory, SampleSink};

use crate::config::Job;
use crate::cycle::{Leaving, Order, TargetState};
use crate::pool::Pool;
use crate::shared::Shared;
pub use crate::shared::Stats;

/// Scrapes what it is told. Cloning gives another handle to the same.
#[derive(Debug, Clone)]
pub struct Scraper {
    shared: Arc<Shared>,
    pools: Arc<Mutex<BTreeMap<String, Pool>>>,
    /// Owners that are to leave once nobody goes on with their series.
    ending: Arc<Mutex<Vec<Leaving>>>,
    /// Held while jobs change, so that changes follow each other.
    changing: Arc<tokio::sync::Mutex<()>>,
}

/// A target that is scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetView {
    pub pool: String,
    /// Before relabelling.
    pub discovered: Labels,
    pub labels: Labels,
    pub url: String,
    /// `None` before the first scrape.
    pub last_scrape_ms: Option<i64>,
    pub last_duration_s: f64,
    pub last_error: Option<String>,
    /// As Prometheus writes durations.
    pub interval: String,
    pub timeout: String,
}

/// Targets that relabelling drops.
#[derive(Debug, Clone, PartialEq)]
pub struct DroppedView {
    pub pool: String,
    /// Labels before relabelling, as many as the job keeps; `count` counts all.
    pub discovered: Vec<Labels>,
    pub count: usize,
}

impl Scraper {
    /// Scrapes nothing yet.
    pub fn new(sink: Arc<dyn SampleSink>, limits: LiveLimits, memory: Arc<Memory>) -> Self {
        Self {
            shared: Arc::new(Shared::new(sink, limits, memory)),
            pools: Arc::default(),
            ending: Arc::default(),
            changing: Arc::default(),
        }
    }

    /// Makes these the jobs. One that is as it was goes on undisturbed; the targets of one that
    /// changed are scraped by new owners, at the same phases if their addresses stay, and what
    /// both expose has no gap. Runs on the runtime whose worker calls it.
    pub async fn apply(&self, jobs: Vec<Job>) {
        let _changing = self.changing.lock().await;
        let mut wanted: BTreeMap<String, Job> = jobs.into_iter().map(|job| (job.name.clone(), job)).collect();
        let gone: Vec<Pool> = {
            let mut pools = self.pools.lock();
            let stays = |pool: &Pool| wanted.get(&pool.job.name) == Some(&*pool.job);
            let leaving: Vec<String> =
                pools.iter().filter(|(_, pool)| !stays(pool)).map(|(name, _)| name.clone()).collect();
            wanted.retain(|name, _| leaving.contains(name) || !pools.contains_key(name));
            leaving.iter().filter_map(|name| pools.remove(name)).collect()
        };
        // First, so that their targets count no more.
        for pool in gone {
            let leaving = pool.end(Order::Leave).await;
            let mut ending = self.ending.lock();
            ending.retain(|(_, task)| !task.is_finished());
            ending.extend(leaving);
        }
        let mut pools = self.pools.lock();
        for (name, job) in wanted {
            pools.insert(name, Pool::start(job, Arc::clone(&self.shared)));
        }
    }

    /// Ends everything, and waits for scrapes that are under way. No series is ended by it: after
    /// the next start they go on.
    pub async fn drain(&self) {
        let _changing = self.changing.lock().await;
        let pools = std::mem::take(&mut *self.pools.lock());
        let mut ending = std::mem::take(&mut *self.ending.lock());
        for pool in pools.into_values() {
            ending.extend(pool.end(Order::Halt).await);
        }
        for (orders, _) in &ending {
            let _ = orders.send(Order::Halt);
        }
        for (_, task) in ending {
            let _ = task.await;
        }
    }

    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Names of the jobs, sorted.
    pub fn pools(&self) -> Vec<String> {
        self.pools.lock().keys().cloned().collect()
    }

    /// By job and address.
    pub fn active(&self) -> Vec<TargetView> {
        let view = |(pool, state): (String, Arc<TargetState>)| {
            let outcome = state.outcome.lock().clone();
            let target = &state.target;
            TargetView {
                pool,
                discovered: target.discovered.clone(),
                labels: target.public.clone(),
                url: target.url.clone(),
                last_scrape_ms: outcome.at_ms,
                last_duration_s: outcome.duration_s,
                last_error: outcome.error,
                interval: target.interval.clone(),
                timeout: target.timeout.clone(),
            }
        };
        self.states().into_iter().map(view).collect()
    }

    /// How many targets there are, and of how many the last scrape failed.
    pub fn counts(&self) -> (usize, usize) {
        let states = self.states();
        let down = states.iter().filter(|(_, state)| state.outcome.lock().error.is_some()).count();
        (states.len(), down)
    }

    pub fn dropped(&self) -> Vec<DroppedView> {
        let pools = self.pools.lock();
        let view = |(name, pool): (&String, &Pool)| {
            let roster = pool.roster.lock();
            DroppedView {
                pool: name.clone(),
                discovered: roster.dropped.clone(),
                count: roster.dropped_count,
            }
        };
        pools.iter().map(view).collect()
    }

    /// What the targets say of their families: labels of the target, and its families by name.
    pub fn metadata(&self) -> Vec<(Labels, Vec<Arc<MetadataEntry>>)> {
        let of = |state: Arc<TargetState>| (state.target.public.clone(), state.metadata.lock().clone());
        self.states().into_iter().map(|(_, state)| of(state)).collect()
    }

    fn states(&self) -> Vec<(String, Arc<TargetState>)> {
        let pools = self.pools.lock();
        let mut states = Vec::new();
        for (name, pool) in pools.iter() {
            let roster = pool.roster.lock();
            states.extend(roster.active.iter().map(|state| (name.clone(), Arc::clone(state))));
        }
        states
    }
}
