//! Who waits and who is turned away: requests in flight, queries at once, samples per second.
//! In which order queries run is `queue`'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilothouse_model::budget::CancelOnDrop;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::{Budget, BudgetError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::App;
use crate::client::Client;
use crate::error::{ApiError, Kind};
use crate::offload;
use crate::queue::{Bounds, Full, Queue, Turn};

#[derive(Debug)]
pub(crate) struct Admission {
    requests: Arc<Semaphore>,
    pub(crate) queries: Arc<Queue>,
    rate: Mutex<Bucket>,
    limits: LiveLimits,
}

impl Admission {
    /// How many requests there may be at once is settled here.
    pub(crate) fn new(live: LiveLimits) -> Self {
        let limits = live.now();
        let at_least_one = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            requests: Arc::new(Semaphore::new(at_least_one(limits.max_requests_in_flight))),
            queries: Arc::new(Queue::new(offload::lane_threads())),
            rate: Mutex::default(),
            limits: live,
        }
    }

    /// A place among the requests in flight, or 503.
    pub(crate) fn request(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| ApiError::new(Kind::Unavailable, "too many requests in flight").retry_after(1))
    }

    /// A query's turn; waits for it unless too many wait already, and no longer than a query may
    /// take.
    async fn turn(&self, client: Client, longest: Duration) -> Result<Turn, ApiError> {
        let limits = self.limits.now();
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bounds = Bounds {
            running: size(limits.max_concurrent_queries),
            waiting: size(limits.max_queued_queries),
            waiting_of_one: size(limits.max_queued_queries_of_client),
        };
        let turn = tokio::time::timeout(longest, self.queries.turn(client, bounds)).await;
        let turn = turn.map_err(|_| BudgetError::Timeout("query queue"))?;
        turn.map_err(|full| {
            let whose = match full {
                Full::OfAll => "",
                Full::OfCaller => " of this client",
            };
            let text = format!("too many outstanding requests{whose} (err-mimir-tenant-too-many-requests)");
            ApiError::new(Kind::TooManyRequests, text).retry_after(1)
        })
    }

    /// Takes samples from the rate, all or none; 429 with the seconds to wait.
    pub(crate) fn samples(&self, count: u64) -> Result<(), ApiError> {
        let limits = self.limits.now();
        let Some(rate) = Rate::of(limits.max_samples_per_second, limits.max_samples_burst) else {
            return Ok(());
        };
        self.rate.lock().take(count as f64, rate, Instant::now()).map_err(|wait| {
            let text = format!(
                "the request has been rejected because the tenant exceeded the ingestion rate limit, set to {} \
                 items/s with a maximum allowed burst of {}. This limit is applied on the total number of samples, \
                 exemplars and metadata received across all distributors (err-mimir-tenant-max-ingestion-rate). To \
                 adjust the related per-tenant limits, configure -distributor.ingestion-rate-limit and \
                 -distributor.ingestion-burst-size, or contact your service administrator.",
                rate.per_second, rate.burst
            );
            ApiError::new(Kind::TooManyRequests, text).retry_after(wait.as_secs().max(1))
        })
    }
}

/// What the work of a query is given.
pub(crate) struct InTurn {
    pub(crate) budget: Budget,
    /// How long it has waited.
    pub(crate) waited: Duration,
}

impl App {
    /// Runs the work of a query when it is its turn, within a budget. When nobody waits for the answer
    /// any more, the work ends at the next look at its budget. `timeout` may only shorten the
    /// limit's.
    pub(crate) async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        client: Client,
        timeout: Option<Duration>,
        work: impl FnOnce(&Self, &InTurn) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.admission.turn(client, self.query_timeout(timeout)).await?;
        let asked = InTurn { budget: self.budget(timeout), waited: turn.waited };
        let guard = CancelOnDrop::new(&asked.budget);
        let app = Arc::clone(self);
        let answer = offload::query(turn.lane, move || {
            let _turn = turn;
            work(&app, &asked)
        });
        let answer = answer.await?;
        guard.disarm();
        answer
    }
}

/// How fast something may come, and how much of it at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: u64,
    burst: u64,
}

impl Rate {
    /// None where it is 0, which stands for no limit.
    pub(crate) fn of(per_second: u64, burst: u64) -> Option<Self> {
        (per_second > 0).then(|| Self { per_second, burst: burst.max(1) })
    }
}

/// A token bucket, full at first. A request larger than the burst passes when the bucket is full,
/// so that no sender is stuck for ever.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { tokens: f64::INFINITY, at: Instant::now() }
    }
}

impl Bucket {
    /// Whether it has been left alone for so long that it is full again.
    pub(crate) fn is_full(&self, rate: Rate, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens + since * rate.per_second as f64 >= rate.burst as f64
    }

    /// Takes all or nothing; else the time to wait.
    pub(crate) fn take(&mut self, count: f64, rate: Rate, now: Instant) -> Result<(), Duration> {
        let (rate, burst) = (rate.per_second as f64, rate.burst as f64);
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * rate).min(burst);
        self.at = now;
        let wanted = count.min(burst);
        if self.tokens < wanted {
            return Err(Duration::from_secs_f64((wanted - self.tokens) / rate));
        }
        self.tokens -= count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilothouse_model::limits::Limits;

    #[test]
    fn the_rate_refills_and_never_starves_a_big_request() {
        let (mut bucket, rate) = (Bucket::default(), Rate::of(10, 100).unwrap());
        let start = bucket.at;
        let after = |s: u64| start + Duration::from_secs(s);
        assert!(bucket.take(100.0, rate, start).is_ok());
        assert_eq!(bucket.take(20.0, rate, start), Err(Duration::from_secs(2)));
        assert!(bucket.take(20.0, rate, after(2)).is_ok());
        assert!(bucket.take(500.0, rate, after(100)).is_ok());
        assert!(bucket.take(1.0, rate, after(101)).is_err());
        // Another rate, as of a reload.
        assert!(bucket.take(1.0, Rate::of(1_000, 5).unwrap(), after(102)).is_ok());
        assert!(Rate::of(0, 100).is_none());
        assert!(!bucket.is_full(rate, after(102)));
        assert!(bucket.is_full(rate, after(200)));
    }

    #[tokio::test]
    async fn who_waits_too_long_for_his_turn_is_told() {
        let limits = Limits { max_concurrent_queries: 1, max_queued_queries: 1, ..Limits::default() };
        let admission = Admission::new(limits.into());
        let (client, soon) = (Client::own("a"), Duration::from_millis(1));
        let _running = admission.turn(client, soon).await.unwrap();
        let late = admission.turn(client, soon).await.unwrap_err();
        assert_eq!((late.kind, late.text.as_str()), (Kind::Timeout, "query timed out in query queue"));
        let mut waiting = std::pin::pin!(admission.turn(client, Duration::from_secs(60)));
        let refused = tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is no place"),
            refused = admission.turn(client, soon) => refused.unwrap_err(),
        };
        assert_eq!((refused.kind, refused.retry_after_s), (Kind::TooManyRequests, Some(1)));
    }
}
