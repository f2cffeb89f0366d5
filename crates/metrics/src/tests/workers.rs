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
