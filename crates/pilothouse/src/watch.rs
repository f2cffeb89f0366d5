//! The thread that watches memory and disk, and has given back what can be had again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pilothouse_api::on_all_threads;
use pilothouse_model::{Memory, SourceError};
use tokio::runtime::Handle;

use crate::allocator;
use crate::machine;
use crate::room::DiskRoom;
use crate::sources::Stores;

const TICK: Duration = Duration::from_millis(250);
/// While memory is tight: what is resident grows by much in little time.
const TIGHT_TICK: Duration = Duration::from_millis(50);
/// Asking the stores takes their locks for a moment.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// What was let go needs some time to be seen.
const RELIEVE_EVERY: Duration = Duration::from_secs(5);
/// Of the memory limit: what samples and lines may take that could go to the disk.
const HEADS_PART: u64 = 4;

/// What is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) stores: Arc<Stores>,
    pub(crate) disk: DiskRoom,
    pub(crate) memory: Arc<Memory>,
    /// Whose threads hold freed memory too.
    pub(crate) runtime: Handle,
}

/// The thread; ends when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(watched: Watched) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut round = Round::new(watched);
            loop {
                round.go();
                let mut stopping = stopped.0.lock();
                if !*stopping {
                    stopped.1.wait_for(&mut stopping, round.pause());
                }
                if *stopping {
                    break;
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // One that has panicked has nothing more to lose.
            let _ = thread.join();
        }
    }
}

struct Round {
    watched: Watched,
    asked: Option<Instant>,
    relieved: Option<Instant>,
    dropped: Option<Instant>,
    disk_looked: Option<Instant>,
    /// Samples and lines are on their way to the disk for the sake of memory.
    is_flushing: Arc<AtomicBool>,
    /// The disk could not be looked at; told once.
    is_blind: bool,
}

fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

impl Round {
    fn new(watched: Watched) -> Self {
        Self {
            watched,
            asked: None,
            relieved: None,
            dropped: None,
            disk_looked: None,
            is_flushing: Arc::default(),
            is_blind: false,
        }
    }

    fn go(&mut self) {
        self.look_at_memory();
        if is_due(&mut self.disk_looked, TICK) {
            self.look_at_disk();
        }
    }

    fn pause(&self) -> Duration {
        if self.watched.memory.is_tight() { TIGHT_TICK } else { TICK }
    }

    fn look_at_memory(&mut self) {
        let Watched { stores, memory, .. } = &self.watched;
        let parts = if is_due(&mut self.asked, ASK_EVERY) { stores.memory() } else { Vec::new() };
        memory.set(&parts, machine::resident_bytes());
        stores.close_for_new(memory.is_crowded());
        if memory.is_tight() && is_due(&mut self.relieved, RELIEVE_EVERY) {
            stores.shrink_caches();
            give_back_everywhere(&self.watched.runtime);
        }
        let heads = memory.held_bytes(pilothouse_model::memory::Part::Heads);
        let limit = memory.limit_bytes().unwrap_or(u64::MAX);
        if heads > limit / HEADS_PART || (memory.is_tight() && heads > limit / 16) {
            self.flush_heads();
        }
    }

    /// Apart, since the disk may be slow and memory is to be watched meanwhile.
    fn flush_heads(&self) {
        if self.is_flushing.swap(true, Relaxed) {
            return;
        }
        let (stores, flag) = (Arc::clone(&self.watched.stores), Arc::clone(&self.is_flushing));
        let spawned = thread::Builder::new().name("relief".to_owned()).spawn(move || {
            if let Err(error) = stores.flush_largest() {
                tracing::warn!(%error, "memory is short, and what it holds cannot be brought to the disk");
                thread::sleep(RELIEVE_EVERY);
            }
            flag.store(false, Relaxed);
        });
        if spawned.is_err() {
            self.is_flushing.store(false, Relaxed);
        }
    }

    fn look_at_disk(&mut self) {
        let full = match self.watched.disk.guard.look() {
            Ok(full) => full,
            Err(error) => {
                if !std::mem::replace(&mut self.is_blind, true) {
                    tracing::warn!(%error, "the room on the disk is not known");
                }
                return;
            }
        };
        self.is_blind = false;
        let drops = full && self.watched.disk.drops_oldest();
        // Readers may hold what is removed for a moment, and the next look shall see what it gave.
        if drops && is_due(&mut self.dropped, ASK_EVERY) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&self) {
        match self.watched.stores.drop_oldest_day() {
            Ok(true) => self.watched.stores.shrink_caches(),
            Ok(false) => tracing::debug!("the disk is full and there is no day that could go"),
            Err(error) => log_drop(&error),
        }
    }
}

/// What was freed counts as resident until the thread that allocated it gives it back. On each
/// thread of the runtime, as far as chance goes.
fn give_back_everywhere(runtime: &Handle) {
    allocator::give_back_freed();
    on_all_threads(allocator::give_back_freed);
    for _ in 0..2 * runtime.metrics().num_workers() {
        runtime.spawn(async { allocator::give_back_freed() });
    }
}

fn log_drop(error: &SourceError) {
    tracing::error!(%error, "the oldest day could not be removed");
}
