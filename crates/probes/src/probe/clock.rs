//! A watch for the phases of a run, and the end of its time.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

/// What a future gives in time; afterwards an error of its own kind, so that a run which hangs
/// tells as much as one that fails.
pub(super) async fn in_time<T, E: From<io::Error>>(
    timeout: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let ended = tokio::time::timeout(timeout, work).await;
    ended.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the run did not end in time").into())
    })
}

/// Measures one stretch after the other.
#[derive(Debug)]
pub(super) struct Watch(Instant);

impl Watch {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start or the last call.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.0;
        self.0 = now;
        lap
    }
}
