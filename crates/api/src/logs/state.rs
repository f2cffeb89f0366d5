//! What the logs side holds besides the data: who follows, how fast entries may come, counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pilothouse_model::Memory;
use pilothouse_model::durations::Durations;
use pilothouse_model::limits::LiveLimits;
use pilothouse_wire::logs::{Enricher, Enrichment};

use crate::logs::rates::Rates;
use crate::logs::tail::Tails;
use crate::telemetry::{Counter, Family};

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tails: Arc<Tails>,
    pub(crate) rates: Rates,
    /// What is added to entries on their way in.
    pub(crate) enricher: Arc<Enricher>,
    pub(crate) telemetry: Arc<Telemetry>,
}

#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    pub(crate) received_bytes: Counter,
    pub(crate) received_entries: Counter,
    pub(crate) stored_entries: Counter,
    pub(crate) stored_bytes: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) refused: Counter,
    pub(crate) durable_seconds: Durations,
    pub(crate) query_lines: Counter,
    pub(crate) query_bytes: Counter,
    pub(crate) query_failures: Counter,
    pub(crate) query_seconds: Durations,
    pub(crate) tailed_entries: Counter,
    /// Entries that followers were too slow for.
    pub(crate) tail_dropped: Counter,
    pub(crate) tails: AtomicU64,
}

impl State {
    pub(crate) fn new(limits: LiveLimits, memory: Arc<Memory>, enrichment: &Enrichment) -> Self {
        Self::with(limits, memory, Arc::new(Enricher::new(enrichment)), Arc::default())
    }

    /// That of the root of a data source: it has followers and rates of its own.
    pub(crate) fn below(&self) -> Self {
        let Tails { limits, memory, .. } = &*self.tails;
        Self::with(
            limits.clone(),
            Arc::clone(memory),
            Arc::clone(&self.enricher),
            Arc::clone(&self.telemetry),
        )
    }

    fn with(
        limits: LiveLimits,
        memory: Arc<Memory>,
        enricher: Arc<Enricher>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let tails = Arc::new(Tails::new(limits.clone(), Arc::clone(&telemetry), memory));
        Self { tails, rates: Rates::new(limits), enricher, telemetry }
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let t = &self.telemetry;
        let mut families: Vec<Family> = [
            (
                "pilothouse_logs_received_bytes_total",
                "Bytes of pushes, as they came over the network.",
                &t.received_bytes,
            ),
            (
                "pilothouse_logs_received_entries_total",
                "Entries that came in, stored or not.",
                &t.received_entries,
            ),
            ("pilothouse_logs_stored_entries_total", "Entries that were stored.", &t.stored_entries),
            ("pilothouse_logs_stored_bytes_total", "Bytes of their lines.", &t.stored_bytes),
            ("pilothouse_logs_duplicate_entries_total", "Entries that were stored already.", &t.duplicates),
            ("pilothouse_logs_refused_entries_total", "Entries that were refused.", &t.refused),
            ("pilothouse_logs_query_lines_total", "Lines that queries have looked at.", &t.query_lines),
            ("pilothouse_logs_query_bytes_total", "Bytes of those lines.", &t.query_bytes),
            (
                "pilothouse_logs_query_failures_total",
                "Log queries that ended with an error.",
                &t.query_failures,
            ),
            (
                "pilothouse_logs_tailed_entries_total",
                "Entries sent to clients that follow.",
                &t.tailed_entries,
            ),
        ]
        .map(|(name, help, counter)| Family::counter(name, help).value(counter.get() as f64))
        .into();
        families.extend([
            Family::counter(
                "pilothouse_logs_tail_dropped_entries_total",
                "Entries that clients which follow were too slow for.",
            )
            .value(t.tail_dropped.get() as f64),
            Family::gauge("pilothouse_logs_tails", "Clients that follow.")
                .value(t.tails.load(Relaxed) as f64),
            Family::histogram("pilothouse_logs_query_duration_seconds", "Time to evaluate a log query.")
                .distribution(&[], t.query_seconds.counts().into()),
            Family::histogram("pilothouse_logs_durable_duration_seconds", "Time a push waited for the disk.")
                .distribution(&[], t.durable_seconds.counts().into()),
        ]);
        families
    }
}
