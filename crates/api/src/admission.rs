//! Who waits and who is turned away: requests in flight, queries at once, samples per second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilothouse_model::limits::Limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Kind};

#[derive(Debug)]
pub(crate) struct Admission {
    requests: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    queued: AtomicU64,
    max_queued: u64,
    rate: Option<Mutex<Bucket>>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        let at_least_one = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            requests: Arc::new(Semaphore::new(at_least_one(limits.max_requests_in_flight))),
            queries: Arc::new(Semaphore::new(at_least_one(limits.max_concurrent_queries))),
            queued: AtomicU64::new(0),
            max_queued: limits.max_queued_queries,
            rate: Bucket::new(limits.max_samples_per_second, limits.max_samples_burst).map(Mutex::new),
        }
    }

    /// A place among the requests in flight, or 503.
    pub(crate) fn request(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| ApiError::new(Kind::Unavailable, "too many requests in flight").retry_after(1))
    }

    /// A place among the running queries; waits its turn unless too many wait already.
    pub(crate) async fn query(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(permit) = Arc::clone(&self.queries).try_acquire_owned() {
            return Ok(permit);
        }
        let _place = Place::take(&self.queued, self.max_queued)?;
        Arc::clone(&self.queries)
            .acquire_owned()
            .await
            .map_err(|_| ApiError::new(Kind::Unavailable, "the server is stopping"))
    }

    /// Takes samples from the rate, all or none; 429 with the seconds to wait.
    pub(crate) fn samples(&self, count: u64) -> Result<(), ApiError> {
        let Some(bucket) = &self.rate else { return Ok(()) };
        let mut bucket = bucket.lock();
        bucket.take(count as f64, Instant::now()).map_err(|wait| {
            let text = format!(
                "the request has been rejected because the tenant exceeded the ingestion rate limit, set to {} \
                 items/s with a maximum allowed burst of {}. This limit is applied on the total number of samples, \
                 exemplars and metadata received across all distributors (err-mimir-tenant-max-ingestion-rate). To \
                 adjust the related per-tenant limits, configure -distributor.ingestion-rate-limit and \
                 -distributor.ingestion-burst-size, or contact your service administrator.",
                bucket.per_second, bucket.burst
            );
            ApiError::new(Kind::TooManyRequests, text).retry_after(wait.as_secs().max(1))
        })
    }

    pub(crate) fn queued_queries(&self) -> u64 {
        self.queued.load(Relaxed)
    }

    pub(crate) fn running_queries(&self, limits: &Limits) -> u64 {
        limits.max_concurrent_queries.saturating_sub(self.queries.available_permits() as u64)
    }
}

/// A place in the queue; leaving it, by turn or by the client going away, gives it back.
struct Place<'a>(&'a AtomicU64);

impl<'a> Place<'a> {
    fn take(queued: &'a AtomicU64, max: u64) -> Result<Self, ApiError> {
        let place = Self(queued);
        if queued.fetch_add(1, Relaxed) >= max {
            let text = "too many outstanding requests (err-mimir-tenant-too-many-requests)";
            return Err(ApiError::new(Kind::TooManyRequests, text).retry_after(1));
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A token bucket. A request larger than the burst passes when the bucket is full, so that no
/// sender is stuck for ever.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) per_second: u64,
    burst: u64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full one; none where the rate is 0, which stands for no limit.
    pub(crate) fn new(per_second: u64, burst: u64) -> Option<Self> {
        let burst = burst.max(1);
        (per_second > 0).then(|| Self { per_second, burst, tokens: burst as f64, at: Instant::now() })
    }

    /// Whether it has been left alone for so long that it is full again.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens + since * self.per_second as f64 >= self.burst as f64
    }

    /// Takes all or nothing; else the time to wait.
    pub(crate) fn take(&mut self, count: f64, now: Instant) -> Result<(), Duration> {
        let (rate, burst) = (self.per_second as f64, self.burst as f64);
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

    #[test]
    fn the_rate_refills_and_never_starves_a_big_request() {
        let mut bucket = Bucket::new(10, 100).unwrap();
        let start = bucket.at;
        assert!(bucket.take(100.0, start).is_ok());
        assert_eq!(bucket.take(20.0, start), Err(Duration::from_secs(2)));
        assert!(bucket.take(20.0, start + Duration::from_secs(2)).is_ok());
        assert!(bucket.take(500.0, start + Duration::from_secs(100)).is_ok());
        assert!(bucket.take(1.0, start + Duration::from_secs(101)).is_err());
        assert!(Bucket::new(0, 100).is_none());
        assert!(!bucket.is_full(start + Duration::from_secs(102)));
        assert!(bucket.is_full(start + Duration::from_secs(200)));
    }

    #[tokio::test]
    async fn queries_queue_up_to_a_bound() {
        let limits = Limits { max_concurrent_queries: 1, max_queued_queries: 1, ..Limits::default() };
        let admission = Arc::new(Admission::new(&limits));
        let first = admission.query().await.unwrap();
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.query().await.map(drop) }
        });
        while admission.queued_queries() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(admission.query().await.err().map(|e| e.kind), Some(Kind::TooManyRequests));
        drop(first);
        assert!(waiting.await.unwrap().is_ok());
        assert_eq!(admission.queued_queries(), 0);
    }
}
