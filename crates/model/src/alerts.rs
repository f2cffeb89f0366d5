//! Alerts on their way from a rule to an Alertmanager.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Labels, SourceError};

/// One alert as a ruler (or any client of an Alertmanager) sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub labels: Labels,
    /// May hold empty values, which labels may not.
    pub annotations: BTreeMap<String, String>,
    /// When it began to fire. 0: not said, so that the receiver takes its own time.
    pub starts_at_ms: i64,
    /// When it ends unless it is sent again, or ended. 0: not said, so that the receiver adds its
    /// `resolve_timeout`.
    pub ends_at_ms: i64,
    pub generator_url: String,
}

impl Alert {
    /// Whether it is over at a time.
    pub fn resolved_at(&self, now_ms: i64) -> bool {
        self.ends_at_ms != 0 && self.ends_at_ms <= now_ms
    }
}

/// Takes alerts: the embedded Alertmanager, a list in memory for tests, later a remote one.
pub trait AlertSink: Send + Sync + fmt::Debug {
    /// Takes all of them or fails as a whole. Must not wait for the network.
    fn send(&self, alerts: &[Alert]) -> Result<(), SourceError>;
}
