//! One job: its targets come and go as its discoveries say.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use pilothouse_model::Labels;
use pilothouse_model::memory::{Holding, Part};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Job;
use crate::cycle::{Leaving, Order, Owner, TargetState};
use crate::discovery::{self, Found, Group};
use crate::exchange::Exchange;
use crate::shared::Shared;
use crate::target::{Populated, Target, populate};

/// What a job's targets are now.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Sorted by address.
    pub(crate) active: Vec<Arc<TargetState>>,
    /// Labels before relabelling, as many as the job keeps.
    pub(crate) dropped: Vec<Labels>,
    pub(crate) dropped_count: usize,
}

/// What a target takes besides its labels: its task, its state, its place in lists.
const TARGET_BYTES: usize = 4 << 10;

impl Roster {
    /// About.
    fn held_bytes(&self) -> u64 {
        let labels = |labels: &Labels| labels.as_encoded().len();
        let active = self.active.iter().map(|state| {
            let Target { discovered, public, url, .. } = &state.target;
            TARGET_BYTES + labels(discovered) + labels(public) + url.len()
        });
        (active.sum::<usize>() + self.dropped.iter().map(labels).sum::<usize>()) as u64
    }
}

/// An owner of a target, and the way to end it.
#[derive(Debug)]
struct Running {
    state: Arc<TargetState>,
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

/// A job that is scraped.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) job: Arc<Job>,
    pub(crate) roster: Arc<Mutex<Roster>>,
    stop: watch::Sender<Order>,
    task: JoinHandle<Vec<Leaving>>,
    discoveries: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts a job's discoveries and owners on the runtime that this is called on.
    pub(crate) fn start(job: Job, shared: Arc<Shared>) -> Self {
        let job = Arc::new(job);
        let max_bytes = shared.limits.now().max_discovery_bytes;
        let (found, discoveries) = discovery::start(&job.discoveries, &job.name, max_bytes, &shared.memory);
        let (stop, stopped) = watch::channel(Order::Go);
        let roster = Arc::new(Mutex::new(Roster::default()));
        let mut keeper = Keeper::new(Arc::clone(&job), shared, Arc::clone(&roster), found);
        // What is fixed is there when this returns.
        keeper.sync();
        let task = tokio::spawn(keeper.run(stopped));
        Self { job, roster, stop, task, discoveries }
    }

    /// Ends the job. Owners that have to wait before they end their series are given back.
    pub(crate) async fn end(self, order: Order) -> Vec<Leaving> {
        self.discoveries.iter().for_each(JoinHandle::abort);
        let _ = self.stop.send(order);
        self.task.await.unwrap_or_default()
    }
}

/// Owns the targets of a job: nobody else starts or ends one.
struct Keeper {
    job: Arc<Job>,
    shared: Arc<Shared>,
    roster: Arc<Mutex<Roster>>,
    found: Arc<Found>,
    exchange: Arc<Exchange>,
    running: HashMap<u64, Running>,
    ending: Vec<Leaving>,
    /// Why no target is scraped.
    forced: watch::Sender<Option<String>>,
    /// The memory of the targets, without what they expose.
    held: Holding,
}

impl Keeper {
    fn new(job: Arc<Job>, shared: Arc<Shared>, roster: Arc<Mutex<Roster>>, found: Arc<Found>) -> Self {
        Self {
            exchange: Arc::new(Exchange::new(
                &job,
                shared.limits.now().max_scrape_body_bytes,
                Arc::clone(&shared.memory),
            )),
            held: shared.memory.holding(Part::Targets),
            job,
            shared,
            roster,
            found,
            running: HashMap::new(),
            ending: Vec::new(),
            forced: watch::channel(None).0,
        }
    }

    async fn run(mut self, mut stopped: watch::Receiver<Order>) -> Vec<Leaving> {
        loop {
            tokio::select! {
                () = self.found.changed.notified() => self.sync(),
                _ = stopped.changed() => break,
            }
        }
        let order = *stopped.borrow();
        let all: Vec<u64> = self.running.keys().copied().collect();
        all.into_iter().for_each(|id| self.dismiss(id, order));
        self.ending
    }

    /// Makes the targets what the discoveries say they are.
    fn sync(&mut self) {
        let mut roster = Roster::default();
        let mut wanted: HashMap<u64, Target> = HashMap::new();
        for list in self.found.groups() {
            for group in list.iter() {
                self.populate(group, &mut wanted, &mut roster);
            }
        }
        self.cut(&mut wanted);
        let gone: Vec<u64> = self.running.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
        gone.into_iter().for_each(|id| self.dismiss(id, Order::Leave));
        self.check_limit(wanted.len());
        for (id, target) in wanted {
            if !self.running.contains_key(&id) {
                self.engage(target);
            }
        }
        self.ending.retain(|(_, task)| !task.is_finished());
        roster.active = self.running.values().map(|running| Arc::clone(&running.state)).collect();
        roster.active.sort_by(|a, b| a.target.url.cmp(&b.target.url).then(a.target.id.cmp(&b.target.id)));
        self.held.set(roster.held_bytes());
        *self.roster.lock() = roster;
    }

    fn populate(&self, group: &Group, wanted: &mut HashMap<u64, Target>, roster: &mut Roster) {
        let most = self.shared.limits.now().max_scrape_targets;
        let keep = match self.job.keep_dropped_targets {
            0 => most,
            own => own.min(most),
        };
        for own in &group.targets {
            match populate(&self.job, group, own) {
                Ok(Populated::Target(target)) => drop(wanted.insert(target.id, *target)),
                Ok(Populated::Dropped(labels)) => {
                    roster.dropped_count += 1;
                    if (roster.dropped.len() as u64) < keep {
                        roster.dropped.push(labels);
                    }
                }
                Err(e) => {
                    self.shared.stats.bad_targets.fetch_add(1, Relaxed);
                    tracing::error!(job = self.job.name, labels = %own, "no target can be made: {e}");
                }
            }
        }
    }

    /// The bound of this process, whatever the job says; what runs stays.
    fn cut(&self, wanted: &mut HashMap<u64, Target>) {
        let of_others = self.shared.targets.load(Relaxed).saturating_sub(self.running.len());
        let limit = usize::try_from(self.shared.limits.now().max_scrape_targets).unwrap_or(usize::MAX);
        let limit = limit.saturating_sub(of_others);
        if wanted.len() <= limit {
            return;
        }
        let (found, job) = (wanted.len(), self.job.name.as_str());
        tracing::error!(
            job,
            found,
            limit,
            "more targets than max_scrape_targets; the others are not scraped"
        );
        let mut ids: Vec<u64> = wanted.keys().copied().collect();
        ids.sort_by_key(|id| (!self.running.contains_key(id), *id));
        ids.iter().skip(limit).for_each(|id| drop(wanted.remove(id)));
    }

    /// Above the job's own limit no target is scraped at all.
    fn check_limit(&self, targets: usize) {
        let limit = self.job.target_limit;
        let over = limit > 0 && targets as u64 > limit;
        let why = || format!("target_limit exceeded (number of targets: {targets}, limit: {limit})");
        self.forced.send_replace(over.then(why));
    }

    fn engage(&mut self, target: Target) {
        let id = target.id;
        let state = TargetState::new(target);
        self.shared.enter(&state);
        let (orders, received) = watch::channel(Order::Go);
        let owner = Owner {
            job: Arc::clone(&self.job),
            state: Arc::clone(&state),
            exchange: Arc::clone(&self.exchange),
            shared: Arc::clone(&self.shared),
            forced: self.forced.subscribe(),
            orders: received,
            held: self.shared.memory.holding(Part::Targets),
        };
        let task = tokio::spawn(owner.run());
        self.running.insert(id, Running { state, orders, task });
    }

    fn dismiss(&mut self, id: u64, order: Order) {
        if let Some(running) = self.running.remove(&id) {
            self.shared.exit(&running.state);
            let _ = running.orders.send(order);
            self.ending.push((running.orders, running.task));
        }
    }
}
