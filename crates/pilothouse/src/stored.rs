//! A data source by name: its store is found when something is asked of it, so that who holds this
//! goes on after the store was closed for being idle, and after the data went to another system or
//! came back.

use std::fmt;
use std::sync::Arc;

use pilothouse_api::{
    Backend, DeletionError, Family, HeadFigures, KnownDeletion, LogDeletion, LogsAdmin, LogsBackend,
    SourceBackend, Sources as _, StoreAdmin,
};
use pilothouse_control::{DataSource, SourceKind};
use pilothouse_model::log_ports::{LogAppended, LogStats, StreamVolume};
use pilothouse_model::ports::{Exemplar, LabelQuery};
use pilothouse_model::write::{Appended, MetadataEntry, WriteBatch};
use pilothouse_model::{
    Budget, EntrySink, EntrySource, EntryVisitor, Evaluator, Labels, LogBatch, LogSelection, Matcher,
    ReadReport, SampleSink, SelectedSeries, Selection, SeriesSource, SourceError, StreamQuery,
};
use pilothouse_remote::Peer;

use crate::remotes::{Both, BothLogs, Remote};
use crate::sources::{Opened, Stores};

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// Somebody who waits for the answer and comes again where it is a refusal.
    Client,
    /// This server, for its users: nobody comes again with what is refused.
    Worker,
    /// This server, about itself: what does not count towards limits.
    Own,
}

#[derive(Clone)]
pub(crate) struct Stored {
    stores: Arc<Stores>,
    source: DataSource,
    writer: Writer,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stored").field(&self.source.id).field(&self.writer).finish()
    }
}

impl Stored {
    pub(crate) fn new(stores: &Arc<Stores>, source: DataSource, writer: Writer) -> Self {
        Self { stores: Arc::clone(stores), source, writer }
    }

    /// The source behind the shared root.
    pub(crate) fn default_metrics(stores: &Arc<Stores>, writer: Writer) -> Result<Self, SourceError> {
        Ok(Self::new(stores, stores.default_source(SourceKind::Metrics)?, writer))
    }

    /// The source behind the shared root.
    pub(crate) fn default_logs(stores: &Arc<Stores>, writer: Writer) -> Result<Self, SourceError> {
        Ok(Self::new(stores, stores.default_source(SourceKind::Logs)?, writer))
    }

    /// As the API knows a source of metrics.
    pub(crate) fn metrics_backend(self) -> Backend {
        let this = Arc::new(self);
        Backend { source: Arc::clone(&this) as _, sink: Arc::clone(&this) as _, store: this }
    }

    /// As the API knows a source of logs.
    pub(crate) fn logs_backend(self) -> LogsBackend {
        let this = Arc::new(self);
        LogsBackend { source: Arc::clone(&this) as _, sink: Arc::clone(&this) as _, admin: this }
    }

    fn metrics(&self) -> Result<Backend, SourceError> {
        match self.stores.open(&self.source)? {
            SourceBackend::Metrics(backend) => Ok(backend),
            SourceBackend::Logs(_) => Err(holds_no("series")),
        }
    }

    fn logs(&self) -> Result<LogsBackend, SourceError> {
        match self.stores.open(&self.source)? {
            SourceBackend::Logs(backend) => Ok(backend),
            SourceBackend::Metrics(_) => Err(holds_no("entries")),
        }
    }

    fn remote(&self) -> Result<Option<Remote>, SourceError> {
        self.stores.remotes().of(self.source.id)
    }

    /// The system that answers, if it is not this server.
    fn answering(&self) -> Option<Remote> {
        self.remote().ok()?.filter(|remote| !remote.is_copy())
    }

    fn peer(&self) -> Option<Arc<Peer>> {
        Some(Arc::clone(self.answering()?.peer()))
    }

    /// Where samples go, by who writes them.
    fn samples(&self) -> Result<Arc<dyn SampleSink>, SourceError> {
        let there: Arc<dyn SampleSink> = match (self.remote()?, self.writer) {
            (None, _) => return self.samples_here(),
            (Some(Remote::Logs(_)), _) => return Err(holds_no("series")),
            (Some(Remote::Metrics(remote)), Writer::Client) => remote,
            (Some(Remote::Metrics(remote)), _) => remote.queued(),
        };
        Ok(match self.answering() {
            Some(_) => there,
            None => Arc::new(Both { here: self.samples_here()?, there }),
        })
    }

    fn samples_here(&self) -> Result<Arc<dyn SampleSink>, SourceError> {
        match self.stores.opened(&self.source)? {
            Opened::Metrics(store, _) if self.writer == Writer::Own => Ok(Arc::new(store.internal_sink())),
            Opened::Metrics(store, _) => Ok(Arc::new(store)),
            Opened::Logs(..) => Err(holds_no("series")),
        }
    }

    /// Where entries go.
    fn entries(&self) -> Result<Arc<dyn EntrySink>, SourceError> {
        let there: Arc<dyn EntrySink> = match (self.remote()?, self.writer) {
            (None, _) => return self.entries_here(),
            (Some(Remote::Metrics(_)), _) => return Err(holds_no("entries")),
            (Some(Remote::Logs(remote)), Writer::Client) => remote,
            (Some(Remote::Logs(remote)), _) => remote.queued(),
        };
        Ok(match self.answering() {
            Some(_) => there,
            None => Arc::new(BothLogs { here: self.entries_here()?, there }),
        })
    }

    fn entries_here(&self) -> Result<Arc<dyn EntrySink>, SourceError> {
        match self.stores.opened(&self.source)? {
            Opened::Logs(store, _) => Ok(Arc::new(store)),
            Opened::Metrics(..) => Err(holds_no("entries")),
        }
    }
}

fn holds_no(what: &str) -> SourceError {
    SourceError::storage(format!("the data source is of another type and holds no {what}"))
}

// ---- series ----

impl SampleSink for Stored {
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        self.samples()?.append(batch)
    }
}

impl SeriesSource for Stored {
    fn select(&self, selection: &Selection, budget: &Budget) -> Result<Vec<SelectedSeries>, SourceError> {
        self.metrics()?.source.select(selection, budget)
    }

    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        self.metrics()?.source.label_names(query, budget)
    }

    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        self.metrics()?.source.label_values(name, query, budget)
    }

    fn series(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError> {
        self.metrics()?.source.series(query, budget)
    }

    fn exemplars(
        &self,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        self.metrics()?.source.exemplars(query, budget)
    }

    fn metadata(&self, family: Option<&str>, budget: &Budget) -> Result<Vec<MetadataEntry>, SourceError> {
        self.metrics()?.source.metadata(family, budget)
    }

    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        match self.answering()? {
            Remote::Metrics(remote) => Some(remote),
            Remote::Logs(_) => None,
        }
    }
}

impl StoreAdmin for Stored {
    fn head(&self) -> HeadFigures {
        self.metrics().map(|backend| backend.store.head()).unwrap_or_default()
    }

    fn delete(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<(), SourceError> {
        self.metrics()?.store.delete(matchers, start_ms, end_ms)
    }

    fn families(&self) -> Vec<Family> {
        self.metrics().map(|backend| backend.store.families()).unwrap_or_default()
    }

    fn remote(&self) -> Option<Arc<Peer>> {
        self.peer()
    }
}

// ---- entries ----

impl EntrySink for Stored {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.append_noting(batch, &mut Vec::new())
    }

    fn append_noting(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> Result<LogAppended, SourceError> {
        self.entries()?.append_noting(batch, skipped)
    }
}

impl EntrySource for Stored {
    fn read(
        &self,
        selection: &LogSelection,
        visitor: &dyn EntryVisitor,
        budget: &Budget,
    ) -> Result<ReadReport, SourceError> {
        self.logs()?.source.read(selection, visitor, budget)
    }

    fn label_names(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        self.logs()?.source.label_names(query, budget)
    }

    fn label_values(
        &self,
        name: &str,
        query: &StreamQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        self.logs()?.source.label_values(name, query, budget)
    }

    fn streams(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError> {
        self.logs()?.source.streams(query, budget)
    }

    fn stats(&self, query: &StreamQuery, budget: &Budget) -> Result<LogStats, SourceError> {
        self.logs()?.source.stats(query, budget)
    }

    fn volume(
        &self,
        query: &StreamQuery,
        period_ns: i64,
        budget: &Budget,
    ) -> Result<Vec<StreamVolume>, SourceError> {
        self.logs()?.source.volume(query, period_ns, budget)
    }

    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        match self.answering()? {
            Remote::Logs(remote) => Some(remote),
            Remote::Metrics(_) => None,
        }
    }
}

impl LogsAdmin for Stored {
    fn delete(&self, deletion: &LogDeletion) -> Result<u64, DeletionError> {
        self.logs()?.admin.delete(deletion)
    }

    fn deletions(&self) -> Vec<KnownDeletion> {
        self.logs().map(|backend| backend.admin.deletions()).unwrap_or_default()
    }

    fn cancel_deletion(&self, id: u64) -> Result<bool, SourceError> {
        self.logs()?.admin.cancel_deletion(id)
    }

    fn families(&self) -> Vec<Family> {
        self.logs().map(|backend| backend.admin.families()).unwrap_or_default()
    }

    fn remote(&self) -> Option<Arc<Peer>> {
        self.peer()
    }
}
