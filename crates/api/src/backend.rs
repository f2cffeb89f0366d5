//! The data behind the server: two ports, and the little that is asked of a store beyond them.

use std::fmt;
use std::sync::Arc;

use pilothouse_model::{EntrySink, EntrySource, Matcher, SampleSink, SeriesSource, SourceError};
use pilothouse_remote::Peer;

use crate::telemetry::Family;

/// Figures of what is in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadFigures {
    pub chunks: u64,
    pub min_time_ms: i64,
    pub max_time_ms: i64,
}

/// What a store does besides taking and giving samples.
pub trait StoreAdmin: Send + Sync {
    fn head(&self) -> HeadFigures;
    /// Deletes samples between two times, both inclusive, of the series that match; returns
    /// when that is durable. Blocks.
    fn delete(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<(), SourceError>;
    /// The store's own metrics.
    fn families(&self) -> Vec<Family>;
    /// The system that keeps the data and answers queries, where it is not this server.
    fn remote(&self) -> Option<Arc<Peer>> {
        None
    }
}

#[derive(Clone)]
pub struct Backend {
    pub source: Arc<dyn SeriesSource>,
    pub sink: Arc<dyn SampleSink>,
    pub store: Arc<dyn StoreAdmin>,
}

/// What the store of logs does besides taking and giving entries.
pub trait LogsAdmin: Send + Sync {
    /// Hides entries at once and removes them later; the request's id. Durable when it returns.
    /// Blocks, as the next two do.
    fn delete(&self, deletion: &LogDeletion) -> Result<u64, DeletionError>;
    /// All requests that are known, the oldest first.
    fn deletions(&self) -> Vec<KnownDeletion>;
    /// Takes a request back; `false` if it is done already or not known.
    fn cancel_deletion(&self, id: u64) -> Result<bool, SourceError>;
    /// The store's own metrics.
    fn families(&self) -> Vec<Family>;
    /// As [`StoreAdmin::remote`].
    fn remote(&self) -> Option<Arc<Peer>> {
        None
    }
}

/// Entries to be deleted: of matching streams, with `start <= t < end`, that pass the filter.
#[derive(Debug, Clone)]
pub struct LogDeletion {
    pub matchers: Vec<Matcher>,
    pub start_ns: i64,
    pub end_ns: i64,
    /// The stages behind the selector as text (`|= "x" | json`); empty for all entries.
    pub filter: String,
    /// The request as the client wrote it.
    pub query: String,
}

/// A request to delete, as the list shows it.
#[derive(Debug, Clone)]
pub struct KnownDeletion {
    pub id: u64,
    pub created_ms: i64,
    pub start_ns: i64,
    pub end_ns: i64,
    pub query: String,
    /// Whether the entries are gone for good.
    pub done: bool,
}

/// Why a request to delete was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeletionError {
    /// It makes no sense; the text is for the client.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// The logs side: two ports and the rest.
#[derive(Clone)]
pub struct LogsBackend {
    pub source: Arc<dyn EntrySource>,
    pub sink: Arc<dyn EntrySink>,
    pub admin: Arc<dyn LogsAdmin>,
}

impl fmt::Debug for LogsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogsBackend")
    }
}

impl Backend {
    /// All three sides of one store.
    pub fn of<S: SeriesSource + SampleSink + StoreAdmin + 'static>(store: Arc<S>) -> Self {
        Self { source: Arc::clone(&store) as _, sink: Arc::clone(&store) as _, store }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}
