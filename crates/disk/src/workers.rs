//! Threads of a store's own, which work in rounds until the store is stopped.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

/// What a thread works on.
pub trait Rounds: Send + Sync + 'static {
    fn is_stopping(&self) -> bool;

    /// Raises the flag of [`Rounds::is_stopping`], and wakes who waits.
    fn stop(&self);

    /// After a round has panicked: counts it, and waits for a minute unless the store is stopped.
    fn after_panic(&self);
}

/// The threads of one store. What they work on outlives them.
#[derive(Debug)]
pub struct Workers<S: Rounds> {
    state: Arc<S>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<S: Rounds> Workers<S> {
    pub fn of(state: &Arc<S>) -> Self {
        Self { state: Arc::clone(state), threads: Mutex::default() }
    }

    /// Starts a thread that works round by round, each of which waits for what there is to do.
    pub fn start(&self, name: &'static str, round: fn(&S)) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let work = move || {
            while !state.is_stopping() {
                guarded(&*state, name, round);
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Ends the threads, and waits for them.
    pub fn stop(&self) {
        self.state.stop();
        for thread in self.threads.lock().drain(..) {
            // A thread that has panicked has nothing more to lose.
            let _ = thread.join();
        }
    }
}

impl<S: Rounds> Drop for Workers<S> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One round. A panic is a fault of this program, but a store whose thread is gone fills its memory in
/// silence: what was under way is taken up again after a while.
fn guarded<S: Rounds>(state: &S, thread: &'static str, round: fn(&S)) {
    if catch_unwind(AssertUnwindSafe(|| round(state))).is_err() {
        tracing::error!(thread, "work in the background has panicked; it is tried again in a minute");
        state.after_panic();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

    use super::*;

    #[derive(Debug, Default)]
    struct State {
        stopping: AtomicBool,
        rounds: AtomicU32,
        panics: AtomicU32,
    }

    impl Rounds for State {
        fn is_stopping(&self) -> bool {
            self.stopping.load(Relaxed)
        }

        fn stop(&self) {
            self.stopping.store(true, Relaxed);
        }

        fn after_panic(&self) {
            self.panics.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_panic_ends_a_round_and_no_thread() {
        let state = Arc::new(State::default());
        let workers = Workers::of(&state);
        let round = |state: &State| {
            if state.rounds.fetch_add(1, Relaxed) == 0 {
                panic!("on purpose");
            }
            if state.rounds.load(Relaxed) > 10 {
                state.stop();
            }
        };
        workers.start("test", round).unwrap();
        for thread in std::mem::take(&mut *workers.threads.lock()) {
            thread.join().unwrap();
        }
        assert_eq!((state.panics.load(Relaxed), state.rounds.load(Relaxed)), (1, 11));
        drop(workers);
        assert!(state.is_stopping());
    }
}
