//! The roots below which data is served: the shared one, and `/ds/<id>` of each data source.
//!
//! A handler does not know which root it serves: it is given an [`App`] whose data is that of the
//! root. The one of a source is made when the source is first used and forgotten when it is idle.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::RwLock;
use pilothouse_control::{DataSource, Origin, SourceId, SourceKind};
use pilothouse_model::{EntrySink, SourceError};

use crate::auth::Caller;
use crate::error::{ApiError, Kind};
use crate::logs::Tee;
use crate::routes::{Endpoint, Scope};
use crate::telemetry::Family;
use crate::{App, Backend, LogsBackend, own};

/// What is behind the root of a data source.
#[derive(Debug)]
pub enum SourceBackend {
    Metrics(Backend),
    Logs(LogsBackend),
}

/// Figures of one source, for lists and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceFigures {
    pub active_series: u64,
    pub active_streams: u64,
    pub disk_bytes: u64,
}

/// The stores of all data sources by id.
pub trait Sources: Send + Sync + fmt::Debug {
    /// The store of a source, opened if it is not open. Blocks.
    fn open(&self, source: &DataSource) -> Result<SourceBackend, SourceError>;
    /// Retention or limits of a source have changed, or where its data is kept: puts in force what the
    /// control plane says of it now.
    fn update(&self, id: SourceId);
    /// Removes the data of sources that were deleted. Blocks.
    fn remove_deleted(&self) -> Result<(), SourceError>;
    /// What all sources have together that counts towards the server's limits.
    fn totals(&self) -> SourceFigures;
    /// Of the sources that are open, the default ones among them.
    fn figures(&self) -> Vec<(SourceId, SourceFigures)>;
    /// How calls to remote stores went.
    fn families(&self) -> Vec<Family> {
        Vec::new()
    }
}

/// The roots of data sources that are in use.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    open: RwLock<HashMap<SourceId, Root>>,
}

#[derive(Debug)]
struct Root {
    app: Arc<App>,
    used_ms: AtomicI64,
}

impl Roots {
    fn get(&self, id: SourceId, now_ms: i64) -> Option<Arc<App>> {
        let open = self.open.read();
        let root = open.get(&id)?;
        root.used_ms.fetch_max(now_ms, Relaxed);
        Some(Arc::clone(&root.app))
    }
}

impl App {
    /// Hands over the stores of the data sources. A second call changes nothing.
    pub fn start_sources(&self, sources: Arc<dyn Sources>) {
        let _ = self.sources.set(sources);
    }

    /// Sources whose roots nobody used since a time, nor follows.
    pub fn idle_roots(&self, since_ms: i64) -> Vec<SourceId> {
        let open = self.roots.open.read();
        let is_idle = |root: &Root| root.used_ms.load(Relaxed) < since_ms && !root.app.is_held();
        open.iter().filter(|(_, root)| is_idle(root)).map(|(id, _)| *id).collect()
    }

    /// Whether a root stays though nobody asks it: the server itself writes to the internal one, and
    /// who follows logs asks once only.
    fn is_held(&self) -> bool {
        self.source.as_ref().is_some_and(|s| s.internal) || self.logs.tails.count() > 0
    }

    /// A sink for entries of the server's own in a data source: who follows the source is told of
    /// them. To be asked for with each write, since roots come and go.
    pub fn telling(&self, source: SourceId, sink: Arc<dyn EntrySink>) -> Arc<dyn EntrySink> {
        let control = &self.settings.control;
        let is_shared = control.default_source(SourceKind::Logs).is_some_and(|shared| shared.id == source);
        let tails = match self.roots.open.read().get(&source) {
            _ if is_shared => Arc::clone(&self.logs.tails),
            Some(root) => Arc::clone(&root.app.logs.tails),
            None => return sink,
        };
        Arc::new(Tee { tails, sink })
    }

    /// Whether what a scope writes below this root goes to another system alone.
    pub(crate) fn is_kept_elsewhere(&self, scope: Scope) -> bool {
        match scope {
            Scope::WriteMetrics => self.backend.get().is_some_and(|b| b.store.remote().is_some()),
            Scope::WriteLogs => self.logs_backend.get().is_some_and(|b| b.admin.remote().is_some()),
            _ => false,
        }
    }

    /// Makes nothing answer for a source until it is asked for again.
    pub fn forget_root(&self, id: SourceId) {
        self.roots.open.write().remove(&id);
    }

    pub(crate) fn open_roots(&self) -> usize {
        self.roots.open.read().len()
    }

    /// Ends all that follows logs, below every root.
    pub(crate) fn stop_tails(&self) {
        self.logs.tails.stop();
        self.roots.open.read().values().for_each(|root| root.app.logs.tails.stop());
    }

    pub(crate) fn sources(&self) -> Result<&Arc<dyn Sources>, ApiError> {
        self.sources.get().ok_or_else(own::starting)
    }

    /// The root that a request below `/ds/<id>` is for.
    pub(crate) async fn root_of(
        self: &Arc<Self>,
        id: &str,
        endpoint: Endpoint,
        caller: &Caller,
    ) -> Result<Arc<Self>, ApiError> {
        let absent =
            || ApiError::new(Kind::NotFound, format!("there is no data source {id} with such a path"));
        let id: SourceId = id.parse().map_err(|_| absent())?;
        let source = self.settings.control.source(id).ok_or_else(absent)?;
        if !endpoint.serves(source.kind) {
            return Err(absent());
        }
        let is_foreign =
            caller.grant().is_some_and(|grant| grant.project() != source.project || source.internal);
        if is_foreign {
            return Err(ApiError::new(Kind::Forbidden, "the data source belongs to another project"));
        }
        // The shared root is the one of the default sources: what follows its logs follows them here.
        if source.origin == Origin::Scaleway && !source.internal {
            return Ok(Arc::clone(self));
        }
        match self.roots.get(id, self.now_ms()) {
            Some(root) => Ok(root),
            None => self.open_root(source).await,
        }
    }

    async fn open_root(self: &Arc<Self>, source: DataSource) -> Result<Arc<Self>, ApiError> {
        let sources = Arc::clone(self.sources()?);
        let opened = tokio::task::spawn_blocking(move || (sources.open(&source), source)).await;
        let (backend, source) = opened.map_err(|e| ApiError::new(Kind::Internal, e.to_string()))?;
        let backend = backend?;
        let id = source.id;
        let mut open = self.roots.open.write();
        let root = open.entry(id).or_insert_with(|| Root {
            app: Arc::new(self.below(source, backend)),
            used_ms: AtomicI64::new(self.now_ms()),
        });
        Ok(Arc::clone(&root.app))
    }

    /// Counts what a request stored, for its caller and its source.
    pub(crate) fn account(&self, caller: &Caller, stored: pilothouse_control::Amounts) {
        let control = &self.settings.control;
        let kind = if stored.entries > 0 { SourceKind::Logs } else { SourceKind::Metrics };
        let source = match &self.source {
            Some(source) => Some(source.clone()),
            None => control.default_source(kind),
        };
        if let Some(source) = source {
            control.count_use(&source, caller.grant(), stored);
        }
    }
}
