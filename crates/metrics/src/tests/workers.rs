//! The threads in the background: that they end when they are told to.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn nobody_waits_for_a_store_that_is_being_stopped() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    let (flusher, stopping) = (&store.inner.flusher, &store.inner.stopping);
    flusher.stop(stopping);
    let began = Instant::now();
    // The signal has been given before the waits begin.
    flusher.pause(Duration::from_secs(20), stopping);
    assert!(flusher.wait(Duration::from_secs(20), stopping).is_empty());
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_panic_ends_the_round_but_not_the_thread() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    // So that nobody waits for the next round.
    store.inner.flusher.stop(&store.inner.stopping);
    crate::store::work_once(&store.inner, "test", |_| panic!("on purpose"));
    assert_eq!(store.stats().worker_panics, 1);
}
