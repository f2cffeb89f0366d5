//! What the ruler and the Alertmanager tell the management API.

use std::collections::BTreeMap;
use std::fmt;

use pilothouse_control::SourceId;

/// An alerting rule as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRule {
    pub source: SourceId,
    pub name: String,
    pub expr: String,
    /// How long it must hold, in Prometheus' form.
    pub hold: String,
    /// `inactive`, `pending` or `firing`.
    pub state: &'static str,
    pub annotations: BTreeMap<String, String>,
}

/// The rules in force. Calls take no longer than a look at what is in memory.
pub trait RuleBook: Send + Sync + fmt::Debug {
    /// Alerting rules of users.
    fn alerts(&self) -> Vec<AlertRule>;
    /// Rules of users by data source.
    fn counts(&self) -> Vec<(SourceId, u64)>;
    /// The state of a shipped rule, by its `alertname`.
    fn state_of(&self, managed: &str) -> &'static str;
    /// Whether the Alertmanager's configuration has more receivers than the contact points.
    fn has_other_receivers(&self) -> bool;
}

/// No rules: as long as no ruler runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoRules;

impl RuleBook for NoRules {
    fn alerts(&self) -> Vec<AlertRule> {
        Vec::new()
    }

    fn counts(&self) -> Vec<(SourceId, u64)> {
        Vec::new()
    }

    fn state_of(&self, _: &str) -> &'static str {
        "inactive"
    }

    fn has_other_receivers(&self) -> bool {
        false
    }
}
