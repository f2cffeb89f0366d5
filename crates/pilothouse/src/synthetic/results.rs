//! Where results of checks are stored: the default data sources, or those of this server that a
//! tenant's remotes name.

use std::sync::{Arc, Weak};

use pilothouse_api::App;
use pilothouse_control::{Control, DataSource, Scope, SourceId, SourceKind};
use pilothouse_model::write::WriteBatch;
use pilothouse_model::{EntrySink, Labels, LogBatch, SampleSink, SourceError};
use pilothouse_probes::registry::Registry;
use pilothouse_probes::run::ResultSink;
use pilothouse_probes::words::Remote;
use pilothouse_wire::logs::Enricher;

use crate::config::{AuthMode, Config};
use crate::sources::Stores;
use crate::stored::{Stored, Writer};

/// Results go where a push of the tenant would go.
#[derive(Debug)]
pub(super) struct Sink {
    stores: Arc<Stores>,
    control: Arc<Control>,
    registry: Arc<Registry>,
    /// Which holds whoever runs checks, and so this.
    app: Weak<App>,
    enricher: Enricher,
    /// Whether a remote's token is asked what it may do.
    tokens_are_required: bool,
}

impl Sink {
    pub(super) fn new(
        config: &Config,
        app: &Arc<App>,
        control: &Arc<Control>,
        stores: &Arc<Stores>,
        registry: &Arc<Registry>,
    ) -> Self {
        Self {
            stores: Arc::clone(stores),
            control: Arc::clone(control),
            registry: Arc::clone(registry),
            app: Arc::downgrade(app),
            enricher: Enricher::new(&config.enrichment),
            tokens_are_required: config.auth == AuthMode::Required,
        }
    }

    /// The data source of this server that a remote names and its token may write to. A remote
    /// that is another server is for private probes: what runs here is stored here.
    fn named(&self, remote: Option<&Remote>, kind: SourceKind, scope: Scope) -> Option<DataSource> {
        let remote = remote?;
        let source = self.control.source(source_in(&remote.url)?).filter(|source| source.kind == kind)?;
        let may_write = || {
            let grant = self.control.grant(&remote.password);
            grant.is_some_and(|grant| grant.may(scope) && grant.project() == source.project)
        };
        (!self.tokens_are_required || may_write()).then_some(source)
    }
}

/// The id in `http://host/ds/<id>/...`.
fn source_in(url: &str) -> Option<SourceId> {
    let (_, rest) = url.split_once("/ds/")?;
    rest.split(['/', '?']).next()?.parse().ok()
}

impl ResultSink for Sink {
    fn series(&self, tenant: i64, samples: &[(Labels, i64, f64)]) -> Result<(), SourceError> {
        let mut batch = WriteBatch::of_labels();
        samples.iter().for_each(|(labels, t_ms, value)| batch.push_float(labels, *t_ms, *value));
        let tenant = self.registry.tenant(tenant);
        let remote = tenant.as_ref().and_then(|tenant| tenant.metrics_remote.as_ref());
        let sink = match self.named(remote, SourceKind::Metrics, Scope::WriteMetrics) {
            Some(source) => Stored::new(&self.stores, source, Writer::Worker),
            None => Stored::default_metrics(&self.stores, Writer::Worker)?,
        };
        let appended = SampleSink::append(&sink, &batch)?;
        if appended.rejected > 0 {
            let first = appended.rejections.first();
            tracing::warn!(rejected = appended.rejected, "samples of checks were refused: {first:?}");
        }
        Ok(())
    }

    fn entries(&self, tenant: i64, entries: &[LogBatch]) -> Result<(), SourceError> {
        let tenant = self.registry.tenant(tenant);
        let remote = tenant.as_ref().and_then(|tenant| tenant.events_remote.as_ref());
        let batch = enriched(&self.enricher, entries);
        let source = match self.named(remote, SourceKind::Logs, Scope::WriteLogs) {
            Some(source) => source,
            None => self.stores.default_source(SourceKind::Logs)?,
        };
        // Who follows the source sees them.
        let (id, sink) = (source.id, Stored::new(&self.stores, source, Writer::Worker));
        let sink: Arc<dyn EntrySink> = Arc::new(sink);
        let sink = match self.app.upgrade() {
            Some(app) => app.telling(id, sink),
            None => sink,
        };
        sink.append(&batch).map(drop)
    }
}

/// The entries of all batches as one, with what a push adds: the name of the service, and the
/// level of the line.
fn enriched(enricher: &Enricher, batches: &[LogBatch]) -> LogBatch {
    let mut whole = LogBatch::default();
    for (entries, stream) in batches.iter().flat_map(|b| b.streams.iter().map(move |s| (b, s))) {
        let service = Some(stream.labels.value("job")).filter(|job| !job.is_empty());
        let added = [("service_name", service.unwrap_or("unknown_service"))];
        whole.begin_stream(Labels::from_pairs(stream.labels.iter().chain(added)));
        for entry in entries.entries_of(stream) {
            let line = entries.line_of(entry);
            let level = [("detected_level", enricher.line_level(line).as_str())];
            whole.push(entry.t_ns, line, Labels::from_pairs(entry.metadata.iter().chain(level)));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_may_name_a_root_of_a_data_source() {
        let id = "6f1c8a54-2d0e-4b7a-9c35-1e8f7d2a4b60";
        let of = |url: String| source_in(&url).map(|id| id.to_string());
        assert_eq!(of(format!("http://h:9009/ds/{id}/api/v1")).as_deref(), Some(id));
        assert_eq!(of(format!("http://h/prefix/ds/{id}")).as_deref(), Some(id));
        assert_eq!(of("http://h/api/v1".to_owned()), None);
        assert_eq!(of("http://h/ds/x/api/v1".to_owned()), None);
    }
}
