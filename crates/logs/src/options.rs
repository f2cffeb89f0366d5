use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::{ActiveLimit, Clock, Labels};

/// When a write counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// When it is on stable storage: neither `kill -9` nor a power cut loses it.
    Ack,
    /// When it is written: `kill -9` loses nothing, a power cut at most this long and one sync.
    Interval(Duration),
}

/// Tells whether a deletion's line filter means an entry: its stream, line and structured metadata.
pub type LinePredicate = Arc<dyn Fn(&Labels, &str, Option<&Labels>) -> bool + Send + std::marker::Sync>;

/// Makes a predicate of the text of a line filter (`|= "x" != "y"`). The store knows no query
/// language; whoever opens it does. The error is fit for the client.
#[derive(Clone)]
pub struct FilterCompiler(pub Arc<CompileFilter>);

type CompileFilter = dyn Fn(&str) -> Result<LinePredicate, String> + Send + std::marker::Sync;

impl Default for FilterCompiler {
    /// Knows no filter.
    fn default() -> Self {
        Self(Arc::new(|_| Err("line filters are not supported here".to_owned())))
    }
}

impl fmt::Debug for FilterCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilterCompiler")
    }
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub limits: LiveLimits,
    /// Entries older than this are refused, not shown, and removed day by day; 0 for ever.
    pub retention_ms: i64,
    /// How many active streams there may be; unsaid, as many as `limits` say.
    pub active: Option<Arc<ActiveLimit>>,
    pub clock: Arc<dyn Clock>,
    pub sync: Sync,
    /// Whether a thread of the store's own cuts, writes and drops. Without it the owner calls
    /// [`crate::Store::maintain`]; tests do.
    pub background: bool,
    /// Judges the line filters of deletions.
    pub filters: FilterCompiler,
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
            filters: FilterCompiler::default(),
        }
    }
}
