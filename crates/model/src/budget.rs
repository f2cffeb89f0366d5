//! The budget of one query: time, samples, series, bytes of memory, and cancellation.
//!
//! It stands on the lowest floor because the ports carry it: a store must be able to stop in
//! the middle of a selection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::memory::{Load, Memory, NoMemory, attached};

/// What a selected series takes in memory, as far as the account goes.
const SERIES_BYTES: u64 = 256;

/// Why a query may not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    #[error("query was canceled in {0}")]
    Canceled(&'static str),
    #[error("query processing would load too many samples into memory in {0}")]
    Samples(&'static str),
    #[error("the query exceeded the maximum number of series (limit: {limit} series)")]
    Series { limit: u64 },
    #[error(
        "the query exceeded the maximum allowed estimated amount of memory consumed by a single query (limit: {limit} bytes)"
    )]
    Memory { limit: u64 },
    /// The server as a whole has no more.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

/// Ceilings of one query; `u64::MAX` where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Ceilings {
    pub timeout: Duration,
    pub samples: u64,
    pub series: u64,
    pub memory_bytes: u64,
}

impl Ceilings {
    pub const NONE: Self = Self {
        timeout: Duration::from_secs(u32::MAX as u64),
        samples: u64::MAX,
        series: u64::MAX,
        memory_bytes: u64::MAX,
    };
}

#[derive(Debug)]
struct Inner {
    ceilings: Ceilings,
    deadline: Instant,
    canceled: AtomicBool,
    samples: AtomicU64,
    series: AtomicU64,
    memory_bytes: AtomicU64,
    memory_peak_bytes: AtomicU64,
    /// The server's account, and this query's place in it.
    account: Option<(Arc<Memory>, Arc<Load>)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((memory, load)) = &self.account {
            memory.release(load);
        }
    }
}

/// Shared by everything that works for one query; cloning is a reference count.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

impl Budget {
    pub fn new(ceilings: Ceilings) -> Self {
        Self::with(ceilings, None)
    }

    /// One whose memory is also the server's: others may be refused because of it, and it may be
    /// ended for the sake of others.
    pub fn drawing_on(memory: &Arc<Memory>, ceilings: Ceilings) -> Self {
        Self::with(ceilings, Some((Arc::clone(memory), memory.register(false))))
    }

    /// The same for what goes before the queries of clients: rules.
    pub fn drawing_first(memory: &Arc<Memory>, ceilings: Ceilings) -> Self {
        Self::with(ceilings, Some((Arc::clone(memory), memory.register(true))))
    }

    fn with(ceilings: Ceilings, account: Option<(Arc<Memory>, Arc<Load>)>) -> Self {
        Self(Arc::new(Inner {
            ceilings,
            deadline: Instant::now() + ceilings.timeout,
            canceled: AtomicBool::new(false),
            samples: AtomicU64::new(0),
            series: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            memory_peak_bytes: AtomicU64::new(0),
            account,
        }))
    }

    pub fn unlimited() -> Self {
        Self::new(Ceilings::NONE)
    }

    /// Stops the query at its next check; called when the client has gone.
    pub fn cancel(&self) {
        self.0.canceled.store(true, Relaxed);
    }

    /// Asks whether to go on; `stage` names the work for the message, as Prometheus does
    /// (`expression evaluation`). Cheap enough for once a series or a page, not for once a sample.
    pub fn check(&self, stage: &'static str) -> Result<(), BudgetError> {
        if self.0.canceled.load(Relaxed) {
            return Err(BudgetError::Canceled(stage));
        }
        if Instant::now() >= self.0.deadline {
            return Err(BudgetError::Timeout(stage));
        }
        if let Some((memory, load)) = &self.0.account {
            memory.check(load)?;
        }
        Ok(())
    }

    pub fn add_samples(&self, n: u64) -> Result<(), BudgetError> {
        let total = self.0.samples.fetch_add(n, Relaxed) + n;
        if total > self.0.ceilings.samples { Err(BudgetError::Samples("query execution")) } else { Ok(()) }
    }

    /// Of series that are selected: they count towards their limit, and their labels and what is
    /// needed to read them towards the memory.
    pub fn add_series(&self, n: u64) -> Result<(), BudgetError> {
        let limit = self.0.ceilings.series;
        let total = self.0.series.fetch_add(n, Relaxed) + n;
        if total > limit {
            return Err(BudgetError::Series { limit });
        }
        self.reserve_bytes(n.saturating_mul(SERIES_BYTES))
    }

    /// Takes memory; give it back with [`Budget::release_bytes`].
    pub fn reserve_bytes(&self, n: u64) -> Result<(), BudgetError> {
        let limit = self.0.ceilings.memory_bytes;
        let total = self.0.memory_bytes.fetch_add(n, Relaxed) + n;
        self.0.memory_peak_bytes.fetch_max(total, Relaxed);
        if total > limit {
            return Err(BudgetError::Memory { limit });
        }
        if let Some((memory, load)) = &self.0.account {
            memory.grow(load, n)?;
        }
        Ok(())
    }

    pub fn release_bytes(&self, n: u64) {
        if let Some((memory, load)) = &self.0.account {
            memory.shrink(load, n);
        }
        self.0.memory_bytes.fetch_sub(n, Relaxed);
    }

    /// A part of its memory that is given back before the query ends; nothing to begin with.
    pub fn taking(&self) -> Taken {
        Taken { budget: self.clone(), bytes: 0 }
    }

    /// Whether the query must end for the sake of others. What remains of it once it is evaluated,
    /// an answer on its way, asks this and not [`Budget::check`]: a client may take its time.
    pub fn is_evicted(&self) -> bool {
        self.0.account.as_ref().is_some_and(|(memory, load)| memory.check(load).is_err())
    }

    pub fn samples(&self) -> u64 {
        self.0.samples.load(Relaxed)
    }

    pub fn series(&self) -> u64 {
        self.0.series.load(Relaxed)
    }

    pub fn memory_peak_bytes(&self) -> u64 {
        self.0.memory_peak_bytes.load(Relaxed)
    }
}

/// Memory of a query, given back when dropped.
#[derive(Debug)]
pub struct Taken {
    budget: Budget,
    bytes: u64,
}

impl Taken {
    pub fn grow(&mut self, n: u64) -> Result<(), BudgetError> {
        // What is refused counts for the query as well, until it is dropped.
        self.bytes += n;
        self.budget.reserve_bytes(n)
    }

    /// The bytes that it was taken for, with it: given back when the last copy or slice of them is dropped.
    pub fn attached_to(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        attached(bytes, self)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.release_bytes(self.bytes);
    }
}

/// Cancels its budget when dropped before [`CancelOnDrop::disarm`]: hold it in the request's
/// future, and a client that goes away stops its query.
#[derive(Debug)]
pub struct CancelOnDrop(Option<Budget>);

impl CancelOnDrop {
    pub fn new(budget: &Budget) -> Self {
        Self(Some(budget.clone()))
    }

    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(budget) = &self.0 {
            budget.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ceiling_is_enforced() {
        let budget = Budget::new(Ceilings { samples: 10, memory_bytes: 100, ..Ceilings::NONE });
        assert_eq!(budget.add_samples(10), Ok(()));
        assert_eq!(budget.add_samples(1), Err(BudgetError::Samples("query execution")));
        let few = Budget::new(Ceilings { series: 2, memory_bytes: 3 * SERIES_BYTES, ..Ceilings::NONE });
        assert_eq!(few.add_series(2), Ok(()));
        assert_eq!(few.add_series(1), Err(BudgetError::Series { limit: 2 }));
        assert_eq!(few.reserve_bytes(SERIES_BYTES), Ok(()));
        assert_eq!(few.reserve_bytes(1), Err(BudgetError::Memory { limit: 3 * SERIES_BYTES }));
        assert_eq!(budget.reserve_bytes(100), Ok(()));
        budget.release_bytes(60);
        assert_eq!(budget.reserve_bytes(60), Ok(()));
        assert_eq!(budget.reserve_bytes(1), Err(BudgetError::Memory { limit: 100 }));
        assert_eq!(budget.check("a test"), Ok(()));
        drop(CancelOnDrop::new(&budget));
        assert_eq!(budget.check("a test"), Err(BudgetError::Canceled("a test")));
        let few = Budget::new(Ceilings { memory_bytes: 100, ..Ceilings::NONE });
        let mut taken = few.taking();
        assert_eq!(taken.grow(100), Ok(()));
        assert_eq!(few.reserve_bytes(1), Err(BudgetError::Memory { limit: 100 }));
        few.release_bytes(1);
        drop(taken.attached_to(vec![0; 100]));
        assert_eq!(few.reserve_bytes(100), Ok(()));
        let late = Budget::new(Ceilings { timeout: Duration::ZERO, ..Ceilings::NONE });
        assert_eq!(late.check("a test"), Err(BudgetError::Timeout("a test")));
    }
}
