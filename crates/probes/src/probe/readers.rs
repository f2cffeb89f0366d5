//! Long answers are read off the async workers, few at once.

use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Who reads holds a place until it is done, even if the run that it reads for is over by then. One core
/// is left to everything else.
#[derive(Debug)]
pub(super) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::of(cores.saturating_sub(1).max(1))
    }
}

impl Readers {
    fn of(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Runs what may block, once there is a place. A panic of it is an error.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // It is never closed.
        let place = Arc::clone(&self.0).acquire_owned().await.ok();
        spawn_blocking(move || {
            let read = read();
            drop(place);
            read
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A run that gives up leaves its reader behind, which keeps its place.
    #[tokio::test]
    async fn who_is_left_behind_keeps_its_place() {
        let readers = Readers::of(1);
        let (go, waits) = channel::<()>();
        let abandoned = timeout(Duration::from_millis(10), readers.run(move || waits.recv())).await;
        assert!(abandoned.is_err());
        let crowded = timeout(Duration::from_millis(10), readers.run(|| 1)).await;
        assert!(crowded.is_err());
        go.send(()).unwrap();
        assert_eq!(readers.run(|| 2).await.unwrap(), 2);
        assert!(readers.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(readers.run(|| 3).await.unwrap(), 3);
    }
}
