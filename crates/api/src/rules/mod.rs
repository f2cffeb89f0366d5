//! Rules over HTTP: their configuration on Mimir's and Loki's paths, their state on Prometheus'.
//!
//! The configuration is YAML both ways, its refusals are plain text. The state is JSON in
//! Prometheus' shapes; on the shared root it is that of the default sources, as far as the
//! token reaches.

mod config;
mod figures;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use pilothouse_control::{DataSource, SourceKind};
use pilothouse_rules::{RuleSource, Ruler};

use crate::error::{ApiError, Kind};
use crate::reply::Reply;
use crate::routes::Base::{Both, Prefixed, Root};
use crate::routes::Scope::{LogsRules, MetricsRules, ReadRules};
use crate::routes::{self, Base, Methods, Route, Scope};
use crate::service::Call;
use crate::{App, own};

pub(crate) use figures::families;

/// How the ruler reaches what is around it.
pub trait RuleConnector: Send + Sync + fmt::Debug {
    /// Where the rules of a data source read and write; `None` for kinds that have no rules.
    fn connect(&self, source: &DataSource) -> Option<RuleSource>;
}

/// The ruler, once it is there; the same below every root.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rulers(Arc<OnceLock<Connected>>);

/// The ruler, and how it reaches what is around it.
type Connected = (Arc<Ruler>, Arc<dyn RuleConnector>);

impl Rulers {
    fn get(&self) -> Result<&Connected, ApiError> {
        self.0.get().ok_or_else(own::starting)
    }

    pub(crate) fn ruler(&self) -> Option<&Arc<Ruler>> {
        self.0.get().map(|(ruler, _)| ruler)
    }
}

impl App {
    /// Hands over the ruler. A second call changes nothing.
    pub fn start_rules(&self, ruler: Arc<Ruler>, connector: Arc<dyn RuleConnector>) {
        let _ = self.rulers.0.set((ruler, connector));
    }
}

/// What a route of this subject does. The first word of each says whose rules it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    MetricsNamespaces,
    MetricsNamespace,
    MetricsGroup,
    MetricsSetGroup,
    MetricsDeleteNamespace,
    MetricsDeleteGroup,
    LogsNamespaces,
    LogsNamespace,
    LogsGroup,
    LogsSetGroup,
    LogsDeleteNamespace,
    LogsDeleteGroup,
    Rules,
    Alerts,
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MetricsNamespaces => "rule_namespaces",
            Self::MetricsNamespace => "rule_namespace",
            Self::MetricsGroup => "rule_group",
            Self::MetricsSetGroup => "set_rule_group",
            Self::MetricsDeleteNamespace => "delete_rule_namespace",
            Self::MetricsDeleteGroup => "delete_rule_group",
            Self::LogsNamespaces => "logs_rule_namespaces",
            Self::LogsNamespace => "logs_rule_namespace",
            Self::LogsGroup => "logs_rule_group",
            Self::LogsSetGroup => "logs_set_rule_group",
            Self::LogsDeleteNamespace => "logs_delete_rule_namespace",
            Self::LogsDeleteGroup => "logs_delete_rule_group",
            Self::Rules => "rules",
            Self::Alerts => "alerts",
        }
    }

    /// The kind of source whose rules it is about, where it is about one.
    fn kind(self) -> Option<SourceKind> {
        match self {
            Self::Rules | Self::Alerts => None,
            Self::MetricsNamespaces
            | Self::MetricsNamespace
            | Self::MetricsGroup
            | Self::MetricsSetGroup
            | Self::MetricsDeleteNamespace
            | Self::MetricsDeleteGroup => Some(SourceKind::Metrics),
            _ => Some(SourceKind::Logs),
        }
    }

    pub(crate) fn is_of_logs(self) -> bool {
        self.kind() == Some(SourceKind::Logs)
    }

    /// The state of rules is asked for on the same paths whatever a source holds.
    pub(crate) fn serves(self, kind: SourceKind) -> bool {
        match self {
            Self::Rules | Self::Alerts => matches!(kind, SourceKind::Metrics | SourceKind::Logs),
            _ => self.kind() == Some(kind),
        }
    }
}

const GET: Methods = Methods::GET;
const POST: Methods = Methods::POST;
const DELETE: Methods = Methods::DELETE;

const fn route(base: Base, path: &'static str, methods: Methods, scope: Scope, endpoint: Endpoint) -> Route {
    Route { base, path, methods, scope, endpoint: routes::Endpoint::Rules(endpoint) }
}

const fn metrics(path: &'static str, methods: Methods, endpoint: Endpoint) -> Route {
    route(Root, path, methods, MetricsRules, endpoint)
}

const fn logs(path: &'static str, methods: Methods, endpoint: Endpoint) -> Route {
    route(Root, path, methods, LogsRules, endpoint)
}

pub(crate) const ROUTES: &[Route] = &[
    metrics("/prometheus/config/v1/rules", GET, Endpoint::MetricsNamespaces),
    metrics("/prometheus/config/v1/rules/{namespace}", GET, Endpoint::MetricsNamespace),
    metrics("/prometheus/config/v1/rules/{namespace}", POST, Endpoint::MetricsSetGroup),
    metrics("/prometheus/config/v1/rules/{namespace}", DELETE, Endpoint::MetricsDeleteNamespace),
    metrics("/prometheus/config/v1/rules/{namespace}/{group}", GET, Endpoint::MetricsGroup),
    metrics("/prometheus/config/v1/rules/{namespace}/{group}", DELETE, Endpoint::MetricsDeleteGroup),
    // Where Grafana looks when it does not know what it talks to.
    metrics("/prometheus/rules", GET, Endpoint::MetricsNamespaces),
    metrics("/prometheus/rules/{namespace}", GET, Endpoint::MetricsNamespace),
    metrics("/prometheus/rules/{namespace}", POST, Endpoint::MetricsSetGroup),
    metrics("/prometheus/rules/{namespace}", DELETE, Endpoint::MetricsDeleteNamespace),
    metrics("/prometheus/rules/{namespace}/{group}", GET, Endpoint::MetricsGroup),
    metrics("/prometheus/rules/{namespace}/{group}", DELETE, Endpoint::MetricsDeleteGroup),
    logs("/loki/api/v1/rules", GET, Endpoint::LogsNamespaces),
    logs("/loki/api/v1/rules/{namespace}", GET, Endpoint::LogsNamespace),
    logs("/loki/api/v1/rules/{namespace}", POST, Endpoint::LogsSetGroup),
    logs("/loki/api/v1/rules/{namespace}", DELETE, Endpoint::LogsDeleteNamespace),
    logs("/loki/api/v1/rules/{namespace}/{group}", GET, Endpoint::LogsGroup),
    logs("/loki/api/v1/rules/{namespace}/{group}", DELETE, Endpoint::LogsDeleteGroup),
    logs("/api/prom/rules", GET, Endpoint::LogsNamespaces),
    logs("/api/prom/rules/{namespace}", GET, Endpoint::LogsNamespace),
    logs("/api/prom/rules/{namespace}", POST, Endpoint::LogsSetGroup),
    logs("/api/prom/rules/{namespace}", DELETE, Endpoint::LogsDeleteNamespace),
    logs("/api/prom/rules/{namespace}/{group}", GET, Endpoint::LogsGroup),
    logs("/api/prom/rules/{namespace}/{group}", DELETE, Endpoint::LogsDeleteGroup),
    route(Both, "/rules", GET, ReadRules, Endpoint::Rules),
    route(Prefixed, "/alerts", GET, ReadRules, Endpoint::Alerts),
];

pub(crate) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: Call) -> Result<Reply, ApiError> {
    match endpoint {
        Endpoint::Rules => state::rules(app, &call).await,
        Endpoint::Alerts => state::alerts(app, &call).await,
        _ => config::dispatch(app, endpoint, &call).await,
    }
}

/// Who writes rules reads plain text, who lists them an envelope.
pub(crate) fn refuse(endpoint: Endpoint, error: ApiError) -> Reply {
    match endpoint {
        Endpoint::Rules | Endpoint::Alerts => error.into_json(),
        _ => error.into_text(),
    }
}

/// Runs work that waits for the disk or for an evaluation, which itself needs the queries' pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| ApiError::new(Kind::Internal, e.to_string()))
}

/// The source that a request is about: that of its root, or the default one of a kind.
fn source_of(app: &App, call: &Call, kind: SourceKind) -> Result<DataSource, ApiError> {
    let control = &app.settings.control;
    let named = call.segment("ds").parse().ok().and_then(|id| control.source(id));
    named
        .or_else(|| control.default_source(kind))
        .ok_or_else(|| ApiError::new(Kind::NotFound, format!("there is no data source of {}", kind.as_str())))
}
