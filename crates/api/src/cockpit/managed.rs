//! The rules that are shipped: about the server itself, over its own metrics.

/// One alert that may be switched on by project and region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManagedRule {
    /// A UUID, as clients expect ids to be.
    pub id: &'static str,
    /// The `alertname`.
    pub name: &'static str,
    pub expr: &'static str,
    /// How long it must hold, in Prometheus' form.
    pub hold: &'static str,
    pub severity: &'static str,
    pub title: &'static str,
    pub description: &'static str,
}

pub const MANAGED_RULES: &[ManagedRule] = &[
    ManagedRule {
        id: "b4a9f0e2-7c11-4d3a-9a55-0e6c3f5d1001",
        name: "PilothouseActiveSeriesNearLimit",
        expr: "pilothouse_active_series > 0.9 * pilothouse_active_series_limit and pilothouse_active_series_limit > 0",
        hold: "10m",
        severity: "warning",
        title: "Active series near their limit",
        description: "More than nine tenths of the active series that are allowed are in use; beyond the limit new series are refused.",
    },
    ManagedRule {
        id: "b4a9f0e2-7c11-4d3a-9a55-0e6c3f5d1002",
        name: "PilothouseSamplesRefused",
        expr: "sum(rate(pilothouse_ingest_refused_samples_total[5m])) > 0",
        hold: "10m",
        severity: "warning",
        title: "Samples are refused",
        description: "Samples have been refused for ten minutes; the answers to their senders say why.",
    },
    ManagedRule {
        id: "b4a9f0e2-7c11-4d3a-9a55-0e6c3f5d1003",
        name: "PilothouseLogEntriesRefused",
        expr: "sum(rate(pilothouse_logs_refused_entries_total[5m])) > 0",
        hold: "10m",
        severity: "warning",
        title: "Log entries are refused",
        description: "Log entries have been refused for ten minutes; the answers to their senders say why.",
    },
    ManagedRule {
        id: "b4a9f0e2-7c11-4d3a-9a55-0e6c3f5d1004",
        name: "PilothouseFlushFails",
        expr: "increase(pilothouse_store_flush_failures_total[10m]) > 0",
        hold: "0s",
        severity: "critical",
        title: "Samples do not reach the disk",
        description: "Writing to the disk has failed; samples stay in memory and in the log until it works again.",
    },
    ManagedRule {
        id: "b4a9f0e2-7c11-4d3a-9a55-0e6c3f5d1005",
        name: "PilothouseQueriesFail",
        expr: "sum(rate(pilothouse_query_failures_total[5m])) > 0.1",
        hold: "10m",
        severity: "warning",
        title: "Queries fail",
        description: "More than six queries a minute have failed for ten minutes.",
    },
    ManagedRule {
        id: "b4a9f0e2-7c11-4d3a-9a55-0e6c3f5d1006",
        name: "PilothouseTokensGuessed",
        expr: "rate(pilothouse_auth_failures_total[5m]) > 1",
        hold: "5m",
        severity: "warning",
        title: "Requests without a valid token",
        description: "More than one request a second comes without a valid token: a forgotten client, or somebody who guesses.",
    },
];
