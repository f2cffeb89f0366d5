//! How runs and their results went, counted for whoever watches the server.

use std::sync::atomic::AtomicU64;

use pilothouse_model::durations::Durations;

/// How runs went, counted since the start.
#[derive(Debug, Default)]
pub struct ScheduleStats {
    /// Checks that have a place in the schedule now.
    pub checks: AtomicU64,
    /// Runs that are under way now.
    pub running: AtomicU64,
    pub good_runs: AtomicU64,
    pub failed_runs: AtomicU64,
    /// Runs whose answer found no room in memory; of their targets nothing is said.
    pub left_out_runs: AtomicU64,
    /// Slots that passed while the run before was not over.
    pub skipped: AtomicU64,
    /// Time between slots and the runs that began at them.
    pub lateness: Durations,
}

/// How results went.
#[derive(Debug, Default)]
pub struct PublisherStats {
    pub published: AtomicU64,
    /// Refused by a sink.
    pub failed: AtomicU64,
    /// Came while the queue was full, or after its end.
    pub dropped: AtomicU64,
}
