//! Whose query runs next, and where.
//!
//! Queries run in lanes, each with threads of its own for every core. A client's queries share one
//! lane, and a caller's clients never take all of them. So beside a dashboard that keeps its lane
//! busy for minutes another client's query begins at once in a lane that is free, and it is the
//! kernel that shares out the cores. A lane takes few queries at a time; all others wait here,
//! where their order can still change: the next is of the caller, then of the client, that has
//! fewest queries running, and among equals of the one that has waited longest since its last turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilothouse_model::durations::Durations;
use tokio::sync::oneshot;

use crate::client::{Client, Kind};

/// Threads are started when their lane is first needed, which one client alone never does.
pub(crate) const LANES: usize = 3;
/// Queries in a lane for each of its threads: the second one begins without a pause.
const PER_THREAD: usize = 2;

/// What the limits say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    /// Of one caller.
    pub(crate) waiting_of_one: usize,
}

/// Too many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    OfAll,
    OfCaller,
}

#[derive(Debug)]
pub(crate) struct Queue {
    /// Queries that a lane takes at a time.
    lane_places: usize,
    state: Mutex<State>,
    figures: [Figures; Kind::ALL.len()],
}

/// How one kind of clients fared.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) waits: Durations,
    pub(crate) refused: crate::telemetry::Counter,
}

#[derive(Debug, Default)]
struct State {
    lanes: [usize; LANES],
    places: usize,
    callers: HashMap<u64, Account>,
    clients: HashMap<u64, Account>,
    waiting: Vec<Waiter>,
    /// Counts turns, and those who come.
    now: u64,
}

/// What a caller or a client has here; forgotten when that is nothing.
#[derive(Debug, Default, Clone, Copy)]
struct Account {
    running: [usize; LANES],
    waiting: usize,
    last_turn: u64,
}

impl Account {
    fn running(&self) -> usize {
        self.running.iter().sum()
    }

    fn lanes_used(&self) -> usize {
        self.running.iter().filter(|running| **running > 0).count()
    }
}

#[derive(Debug)]
struct Waiter {
    client: Client,
    came: u64,
    called: oneshot::Sender<Turn>,
}

/// A query's place in a lane; others get it when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) lane: usize,
    /// What was waited for it.
    pub(crate) waited: Duration,
    client: Client,
    queue: Arc<Queue>,
}

impl Queue {
    /// `threads` is of each lane.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            lane_places: threads.max(1) * PER_THREAD,
            state: Mutex::default(),
            figures: Default::default(),
        }
    }

    /// Waits for a turn. Whoever does not wait for it any more gives it up.
    pub(crate) async fn turn(self: &Arc<Self>, client: Client, bounds: Bounds) -> Result<Turn, Full> {
        let began = Instant::now();
        let mut turn = match self.come(client, bounds)? {
            Come::At(turn) => turn,
            Come::Waits(place) => place.called().await,
        };
        turn.waited = began.elapsed();
        self.of(client.kind).waits.add(turn.waited);
        Ok(turn)
    }

    fn come(self: &Arc<Self>, client: Client, bounds: Bounds) -> Result<Come, Full> {
        let mut state = self.state.lock();
        state.places = bounds.running.max(1);
        // Were there a turn that another could take, he had it by now.
        if let Some(lane) = state.lane_for(client, self.lane_places) {
            state.begin(client, lane);
            drop(state);
            return Ok(Come::At(self.turn_in(client, lane)));
        }
        if let Err(full) = state.check(client, bounds) {
            drop(state);
            self.of(client.kind).refused.add(1);
            return Err(full);
        }
        let (called, hears) = oneshot::channel();
        let came = state.wait(client, called);
        drop(state);
        Ok(Come::Waits(Place { queue: Arc::clone(self), client, came, hears }))
    }

    fn turn_in(self: &Arc<Self>, client: Client, lane: usize) -> Turn {
        Turn { lane, waited: Duration::ZERO, client, queue: Arc::clone(self) }
    }

    /// Gives back a place and calls who can have one now.
    fn end(self: &Arc<Self>, client: Client, lane: usize) {
        let mut called = Vec::new();
        {
            let mut state = self.state.lock();
            state.end(client, lane);
            while let Some((waiter, lane)) = state.next(self.lane_places) {
                called.push((waiter, lane));
            }
        }
        // Outside the lock: a turn that nobody takes is given back at once.
        for (waiter, lane) in called {
            let turn = self.turn_in(waiter.client, lane);
            drop(waiter.called.send(turn));
        }
    }

    fn leave(&self, client: Client, came: u64) {
        let mut state = self.state.lock();
        if let Some(at) = state.waiting.iter().position(|waiter| waiter.came == came) {
            state.waiting.swap_remove(at);
            state.waits_no_more(client);
        }
    }

    pub(crate) fn of(&self, kind: Kind) -> &Figures {
        &self.figures[kind as usize]
    }

    pub(crate) fn running(&self) -> usize {
        self.state.lock().lanes.iter().sum()
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// How many wait of each kind.
    pub(crate) fn waiting_by_kind(&self) -> [usize; Kind::ALL.len()] {
        let mut counts = [0; Kind::ALL.len()];
        for waiter in &self.state.lock().waiting {
            counts[waiter.client.kind as usize] += 1;
        }
        counts
    }
}

enum Come {
    At(Turn),
    Waits(Place),
}

/// A place among those who wait.
struct Place {
    queue: Arc<Queue>,
    client: Client,
    came: u64,
    hears: oneshot::Receiver<Turn>,
}

impl Place {
    async fn called(mut self) -> Turn {
        loop {
            if let Ok(turn) = (&mut self.hears).await {
                return turn;
            }
            // Nobody is taken from the queue without being called.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.leave(self.client, self.came);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.end(self.client, self.lane);
    }
}

impl State {
    /// The lane in which a client's query may begin now.
    fn lane_for(&self, client: Client, lane_places: usize) -> Option<usize> {
        let caller = self.callers.get(&client.caller).copied().unwrap_or_default();
        let own = self.clients.get(&client.id).copied().unwrap_or_default();
        let running: usize = self.lanes.iter().sum();
        // One place is always left for somebody else.
        let of_caller = self.places.saturating_sub(1).max(1);
        if running >= self.places || caller.running() >= of_caller {
            return None;
        }
        let is_his = |lane: &usize| match own.lanes_used() {
            0 => caller.running[*lane] > 0 || caller.lanes_used() < LANES - 1,
            _ => own.running[*lane] > 0,
        };
        let open = (0..LANES).filter(|lane| self.lanes[*lane] < lane_places);
        open.filter(is_his).min_by_key(|lane| self.lanes[*lane])
    }

    fn check(&self, client: Client, bounds: Bounds) -> Result<(), Full> {
        let of_caller = self.callers.get(&client.caller).map_or(0, |caller| caller.waiting);
        if of_caller >= bounds.waiting_of_one {
            return Err(Full::OfCaller);
        }
        if self.waiting.len() >= bounds.waiting { Err(Full::OfAll) } else { Ok(()) }
    }

    fn wait(&mut self, client: Client, called: oneshot::Sender<Turn>) -> u64 {
        self.now += 1;
        self.each_account(client, |account| account.waiting += 1);
        self.waiting.push(Waiter { client, came: self.now, called });
        self.now
    }

    fn waits_no_more(&mut self, client: Client) {
        self.each_account(client, |account| account.waiting = account.waiting.saturating_sub(1));
    }

    fn begin(&mut self, client: Client, lane: usize) {
        self.now += 1;
        let now = self.now;
        self.lanes[lane] += 1;
        self.each_account(client, |account| {
            account.running[lane] += 1;
            account.last_turn = now;
        });
    }

    fn end(&mut self, client: Client, lane: usize) {
        self.lanes[lane] = self.lanes[lane].saturating_sub(1);
        self.each_account(client, |account| {
            account.running[lane] = account.running[lane].saturating_sub(1);
        });
    }

    /// Changes the accounts of a client and of its caller.
    fn each_account(&mut self, client: Client, change: impl Fn(&mut Account)) {
        for (accounts, id) in [(&mut self.callers, client.caller), (&mut self.clients, client.id)] {
            let account = accounts.entry(id).or_default();
            change(account);
            if account.waiting == 0 && account.running() == 0 {
                accounts.remove(&id);
            }
        }
    }

    /// Takes the next one out, and gives it its lane.
    fn next(&mut self, lane_places: usize) -> Option<(Waiter, usize)> {
        let rank = |waiter: &Waiter| {
            let caller = self.callers.get(&waiter.client.caller).copied().unwrap_or_default();
            let own = self.clients.get(&waiter.client.id).copied().unwrap_or_default();
            (caller.running(), caller.last_turn, own.running(), own.last_turn, waiter.came)
        };
        let may = |(at, waiter): (usize, &Waiter)| {
            Some((rank(waiter), at, self.lane_for(waiter.client, lane_places)?))
        };
        let (_, at, lane) = self.waiting.iter().enumerate().filter_map(may).min()?;
        let waiter = self.waiting.swap_remove(at);
        self.waits_no_more(waiter.client);
        self.begin(waiter.client, lane);
        Some((waiter, lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { running: 20, waiting: 200, waiting_of_one: 150 };

    fn client(caller: u64, id: u64) -> Client {
        Client { caller, id, kind: Kind::Other }
    }

    /// Comes, and waits in a task of its own where it must.
    async fn come(queue: &Arc<Queue>, client: Client) -> tokio::task::JoinHandle<Result<Turn, Full>> {
        let before = queue.waiting() + queue.running();
        let coming = tokio::spawn({
            let queue = Arc::clone(queue);
            async move { queue.turn(client, BOUNDS).await }
        });
        while queue.waiting() + queue.running() == before && !coming.is_finished() {
            tokio::task::yield_now().await;
        }
        coming
    }

    async fn at_once(queue: &Arc<Queue>, client: Client) -> Turn {
        let coming = come(queue, client).await;
        assert_eq!(queue.waiting(), 0, "it waits");
        coming.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_light_client_begins_beside_a_heavy_one() {
        let queue = Arc::new(Queue::new(1));
        let mut heavy = Vec::new();
        for _ in 0..100 {
            heavy.push(come(&queue, client(1, 1)).await);
        }
        assert_eq!((queue.running(), queue.waiting()), (2, 98));
        let light = queue.turn(client(2, 2), BOUNDS).await.unwrap();
        assert_ne!(light.lane, heavy.remove(0).await.unwrap().unwrap().lane);
        heavy.iter().for_each(tokio::task::JoinHandle::abort);
        for one in heavy {
            let _ = one.await;
        }
        drop(light);
        assert_eq!((queue.running(), queue.waiting()), (0, 0));
        assert!(queue.state.lock().callers.is_empty() && queue.state.lock().clients.is_empty());
    }

    #[tokio::test]
    async fn a_caller_of_many_names_leaves_a_lane_to_others() {
        let queue = Arc::new(Queue::new(1));
        let mut many = Vec::new();
        for id in 0..20 {
            many.push(come(&queue, client(1, id)).await);
        }
        assert_eq!(queue.running(), 2 * PER_THREAD);
        let other = queue.turn(client(2, 100), BOUNDS).await.unwrap();
        assert_eq!(queue.running(), 2 * PER_THREAD + 1);
        drop(other);
        many.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn clients_take_turns() {
        let queue = Arc::new(Queue::new(1));
        // All lanes are full, and a place goes to who has fewest running and waited longest.
        let mut running = Vec::new();
        for lane in 0..LANES as u64 {
            running.push(at_once(&queue, client(10 + lane, 10 + lane)).await);
            running.push(at_once(&queue, client(10 + lane, 10 + lane)).await);
        }
        let mut waiting = Vec::new();
        for id in [1, 1, 1, 2, 3, 2] {
            waiting.push((id, come(&queue, client(id, id)).await));
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(running.remove(0));
            tokio::task::yield_now().await;
            while let Some(at) = waiting.iter().position(|(_, task)| task.is_finished()) {
                let (id, task) = waiting.remove(at);
                order.push(id);
                running.push(task.await.unwrap().unwrap());
            }
        }
        assert_eq!(order[..3], [1, 2, 3], "{order:?}");
        assert_eq!(order.len(), 6);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_for_one_and_for_all() {
        let queue = Arc::new(Queue::new(1));
        let bounds = Bounds { running: 1, waiting: 3, waiting_of_one: 2 };
        let first = queue.turn(client(1, 1), bounds).await.unwrap();
        let wait = |id| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.turn(client(id, id), bounds).await.map(drop) })
        };
        let mut tasks = Vec::new();
        for id in [1, 1, 2] {
            let before = queue.waiting();
            tasks.push(wait(id));
            while queue.waiting() == before {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(wait(1).await.unwrap(), Err(Full::OfCaller));
        assert_eq!(wait(2).await.unwrap(), Err(Full::OfAll));
        assert_eq!(queue.of(Kind::Other).refused.get(), 2);
        assert_eq!(queue.waiting_by_kind()[Kind::Other as usize], 3);
        drop(first);
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert_eq!((queue.running(), queue.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn who_goes_away_takes_nothing_along() {
        let queue = Arc::new(Queue::new(1));
        let bounds = Bounds { running: 1, ..BOUNDS };
        let first = queue.turn(client(1, 1), bounds).await.unwrap();
        // Called, but gone before it heard of it.
        let mut place = Box::pin(queue.turn(client(2, 2), bounds));
        assert!(futures_poll(&mut place).await.is_none());
        assert_eq!(queue.waiting(), 1);
        drop(first);
        assert_eq!((queue.running(), queue.waiting()), (1, 0));
        drop(place);
        assert_eq!((queue.running(), queue.waiting()), (0, 0));
        drop(queue.turn(client(1, 1), bounds).await.unwrap());
    }

    /// Polls once.
    async fn futures_poll<F: std::future::Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
