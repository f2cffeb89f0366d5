//! Work that takes the processor or the disk leaves the async workers here.
//!
//! Two pools, so that a storm of queries never delays a write: queries run in rayon's global
//! pool, which the evaluator and the store spread over as well; decoding and appending of
//! writes has a pool of its own. A panic in the work ends that request alone, as an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use tokio::sync::oneshot;

/// The work panicked; the request is lost, the process is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("internal error: the request's work panicked")]
pub(crate) struct Panicked;

/// `None` when the threads could not be started; the work then shares the queries' pool.
static WRITES: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| {
    let built = rayon::ThreadPoolBuilder::new().thread_name(|i| format!("write-{i}")).build();
    built.inspect_err(|e| tracing::warn!("no pool for writes: {e}")).ok()
});

/// Stack of each thread that works for queries. A query may nest `max_query_depth` levels, and
/// reading, planning and evaluating walk it by recursion, some kilobytes a level. The kernel
/// gives pages only to what is used.
const QUERY_STACK_BYTES: usize = 64 << 20;

/// Starts the queries' pool. Where a pool is running already, as in tests, that one is used.
pub(crate) fn start() {
    let built = rayon::ThreadPoolBuilder::new()
        .thread_name(|i| format!("query-{i}"))
        .stack_size(QUERY_STACK_BYTES)
        .build_global();
    if let Err(e) = built {
        tracing::debug!("the pool for queries is not ours: {e}");
    }
}

/// Runs something once on every thread of both pools, each when it is free. Does not wait.
pub fn on_all_threads(work: fn()) {
    rayon::spawn_broadcast(move |_| work());
    if let Some(pool) = &*WRITES {
        pool.spawn_broadcast(move |_| work());
    }
}

/// Runs work that answers a query.
pub(crate) async fn query<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (task, answer) = task(work);
    rayon::spawn(task);
    answer.await.map_err(|_| Panicked)
}

/// Runs work that takes samples in.
pub(crate) async fn write<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (task, answer) = task(work);
    match &*WRITES {
        Some(pool) => pool.spawn(task),
        None => rayon::spawn(task),
    }
    answer.await.map_err(|_| Panicked)
}

/// Runs work that mostly waits, for the disk or for a lock: on a thread of its own, since it would
/// hold one of few that writes or queries need.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Panicked)
}

/// A panic drops the sender, which is what the waiting side sees.
fn task<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> (impl FnOnce() + Send + 'static, oneshot::Receiver<T>) {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        if let Ok(value) = catch_unwind(AssertUnwindSafe(work)) {
            // The request may be gone; then nobody wants the value.
            let _ = sender.send(value);
        }
    };
    (run, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_pool_goes_on() {
        assert_eq!(query(|| -> i32 { panic!("on purpose") }).await, Err(Panicked));
        assert_eq!(write(|| -> i32 { panic!("on purpose") }).await, Err(Panicked));
        assert_eq!(blocking(|| -> i32 { panic!("on purpose") }).await, Err(Panicked));
        assert_eq!(query(|| 7).await, Ok(7));
        assert_eq!(blocking(|| 9).await, Ok(9));
        assert_eq!(write(|| 8).await, Ok(8));
    }
}
