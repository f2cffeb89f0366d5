//! Work that takes the processor or the disk leaves the async workers here.
//!
//! A storm of queries never delays a write, nor samples lines, nor one client's queries another's:
//! decoding and appending of each signal has a pool of its own, so have alerts, and so has each lane of queries (see
//! `queue`), which the evaluator and the store spread over as well. What is short and belongs to no query in
//! particular runs in rayon's global pool: reading parameters, printing, pieces of long answers.
//! A panic in the work ends that request alone, as an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, OnceLock};

use pilothouse_model::limits::QUERY_STACK_BYTES;
use tokio::sync::oneshot;

use crate::queue::LANES;

/// The work panicked; the request is lost, the process is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("internal error: the request's work panicked")]
pub(crate) struct Panicked;

/// `None` when the threads could not be started; the work then shares the pool for what is short.
static WRITES: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| writers("write"));

/// Lines that find their store full wait there for a while, holding their threads.
static LINES: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| writers("lines"));

fn writers(name: &'static str) -> Option<rayon::ThreadPool> {
    let built = rayon::ThreadPoolBuilder::new().thread_name(move |i| format!("{name}-{i}")).build();
    built.inspect_err(|e| tracing::warn!("no pool for writes: {e}")).ok()
}

/// What changes alerts, silences and their rules, and what looks at many of them: a hundred thousand
/// alerts may meet ten thousand rules.
static ALERTS: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| writers("alerts"));
static ALERT_VIEWS: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| writers("alert-views"));

/// The lanes of queries; each is started when it is first used. `None` as above.
static QUERIES: [OnceLock<Option<rayon::ThreadPool>>; LANES] = [const { OnceLock::new() }; LANES];

fn start_lane(lane: usize) -> Option<rayon::ThreadPool> {
    let builder = rayon::ThreadPoolBuilder::new().stack_size(QUERY_STACK_BYTES);
    let built = builder.thread_name(move |i| format!("query-{lane}-{i}")).build();
    built.inspect_err(|e| tracing::warn!("no pool for a lane of queries: {e}")).ok()
}

/// Threads of each lane of queries.
pub(crate) fn lane_threads() -> usize {
    rayon::current_num_threads()
}

/// Starts the pool for all that is short. Where a pool is running already, as in tests, that one is used.
pub(crate) fn start() {
    let built = rayon::ThreadPoolBuilder::new()
        .thread_name(|i| format!("short-{i}"))
        .stack_size(QUERY_STACK_BYTES)
        .build_global();
    if let Err(e) = built {
        tracing::debug!("the pool for short work is not ours: {e}");
    }
}

/// Runs something once on every thread of the pools that are there, each when it is free. Does not wait.
pub fn on_all_threads(work: fn()) {
    rayon::spawn_broadcast(move |_| work());
    let lanes = QUERIES.iter().filter_map(OnceLock::get);
    for pool in lanes.chain([&*WRITES, &*LINES, &*ALERTS, &*ALERT_VIEWS]).flatten() {
        pool.spawn_broadcast(move |_| work());
    }
}

/// Runs work that answers a query, in its lane.
pub(crate) async fn query<T: Send + 'static>(
    lane: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let pool = QUERIES.get(lane).and_then(|pool| pool.get_or_init(|| start_lane(lane)).as_ref());
    run(pool, work).await
}

async fn run<T: Send + 'static>(
    pool: Option<&rayon::ThreadPool>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (task, answer) = task(work);
    match pool {
        Some(pool) => pool.spawn(task),
        None => rayon::spawn(task),
    }
    answer.await.map_err(|_| Panicked)
}

/// Runs work that is short, on a thread with the stack for whatever may nest.
pub(crate) async fn short<T: Send + 'static>(
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
    run(WRITES.as_ref(), work).await
}

/// Runs work that takes lines in.
pub(crate) async fn write_lines<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    run(LINES.as_ref(), work).await
}

/// Runs work that changes alerts, silences or their configuration.
pub(crate) async fn alerts<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    run(ALERTS.as_ref(), work).await
}

/// Runs work that looks at many alerts.
pub(crate) async fn alert_views<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    run(ALERT_VIEWS.as_ref(), work).await
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
        for lane in 0..LANES {
            assert_eq!(query(lane, || -> i32 { panic!("on purpose") }).await, Err(Panicked));
            assert_eq!(query(lane, || 7).await, Ok(7));
        }
        assert_eq!(short(|| -> i32 { panic!("on purpose") }).await, Err(Panicked));
        assert_eq!(write(|| -> i32 { panic!("on purpose") }).await, Err(Panicked));
        assert_eq!(blocking(|| -> i32 { panic!("on purpose") }).await, Err(Panicked));
        assert_eq!(short(|| 7).await, Ok(7));
        assert_eq!(blocking(|| 9).await, Ok(9));
        assert_eq!(write(|| 8).await, Ok(8));
        assert_eq!(write_lines(|| 8).await, Ok(8));
        assert_eq!((alerts(|| 8).await, alert_views(|| 9).await), (Ok(8), Ok(9)));
    }
}
