use std::sync::Arc;
use std::time::Duration;

use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::{ActiveLimit, Clock};

/// When a write counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// When it is on stable storage: neither `kill -9` nor a power cut loses it.
    Ack,
    /// When it is written: `kill -9` loses nothing, a power cut at most this long and one sync.
    Interval(Duration),
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub limits: LiveLimits,
    /// Samples older than this are refused, not shown, and removed day by day; 0 for ever.
    pub retention_ms: i64,
    /// How many active series there may be; unsaid, as many as `limits` say.
    pub active: Option<Arc<ActiveLimit>>,
    pub clock: Arc<dyn Clock>,
    pub sync: Sync,
    /// Whether threads of the store's own seal, flush, compact and drop old days. Without them
    /// the owner calls [`crate::Store::maintain`]; tests do.
    pub background: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            limits: LiveLimits::default(),
            retention_ms: 0,
            active: None,
            clock: Arc::new(SystemClock),
            sync: Sync::Ack,
            background: true,
        }
    }
}
