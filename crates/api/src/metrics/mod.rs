//! Series over HTTP: taking samples in, PromQL, and what Prometheus and Mimir say about a store.

mod admin;
mod census;
mod discover;
mod federate;
mod language;
mod otlp;
mod print;
mod push;
mod query;
mod read;
mod stats;
pub(crate) mod status;
pub(crate) mod targets;
mod texts;
mod tree;

use std::sync::Arc;

use pilothouse_control::SourceKind;

use crate::App;
use crate::census::Question;
use crate::error::ApiError;
use crate::forward::forward;
use crate::reply::Reply;
use crate::routes::Base::{Both, Plain, Root};
use crate::routes::Scope::{ReadMetrics, WriteMetrics};
use crate::routes::{self, Base, Methods, Route, Scope};
use crate::service::Call;

/// What a route of this subject does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Push,
    OtlpMetrics,
    ImportText,
    Query,
    QueryRange,
    QueryExemplars,
    Series,
    Labels,
    LabelValues,
    Metadata,
    RemoteRead,
    Federate,
    FormatQuery,
    ParseQuery,
    Targets,
    TargetsMetadata,
    ScrapePools,
    Alertmanagers,
    BuildInfo,
    RuntimeInfo,
    TsdbStatus,
    ConfigStatus,
    Flags,
    CardinalityNames,
    CardinalityValues,
    CardinalityActive,
    DeleteSeries,
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::OtlpMetrics => "otlp_metrics",
            Self::ImportText => "import_prometheus",
            Self::Query => "query",
            Self::QueryRange => "query_range",
            Self::QueryExemplars => "query_exemplars",
            Self::Series => "series",
            Self::Labels => "labels",
            Self::LabelValues => "label_values",
            Self::Metadata => "metadata",
            Self::RemoteRead => "read",
            Self::Federate => "federate",
            Self::FormatQuery => "format_query",
            Self::ParseQuery => "parse_query",
            Self::Targets => "targets",
            Self::TargetsMetadata => "targets_metadata",
            Self::ScrapePools => "scrape_pools",
            Self::Alertmanagers => "alertmanagers",
            Self::BuildInfo => "buildinfo",
            Self::RuntimeInfo => "runtimeinfo",
            Self::TsdbStatus => "tsdb_status",
            Self::ConfigStatus => "config_status",
            Self::Flags => "flags",
            Self::CardinalityNames => "cardinality_label_names",
            Self::CardinalityValues => "cardinality_label_values",
            Self::CardinalityActive => "cardinality_active_series",
            Self::DeleteSeries => "delete_series",
        }
    }

    /// Whether it has a meaning below the root of a source of this kind.
    pub(crate) fn serves(self, kind: SourceKind) -> bool {
        self != Self::Alertmanagers && kind == SourceKind::Metrics
    }

    /// Whether it is answered by who keeps the data, where that is not this server. The others are about
    /// this server or its language, are asked about few series, or are not on every other system.
    fn is_forwarded(self) -> bool {
        matches!(
            self,
            Self::DeleteSeries
                | Self::LabelValues
                | Self::Labels
                | Self::Metadata
                | Self::Query
                | Self::QueryExemplars
                | Self::QueryRange
                | Self::RemoteRead
                | Self::Series
        )
    }

    /// Errors are plain text: writers log them, and Mimir's cardinality paths have no envelope.
    fn speaks_text(self) -> bool {
        matches!(
            self,
            Self::CardinalityActive
                | Self::CardinalityNames
                | Self::CardinalityValues
                | Self::Federate
                | Self::ImportText
                | Self::OtlpMetrics
                | Self::Push
                | Self::RemoteRead
        )
    }
}

const GET: Methods = Methods::GET;
const GET_POST: Methods = Methods::GET_POST;
const POST: Methods = Methods::POST;

const fn route(base: Base, path: &'static str, methods: Methods, scope: Scope, endpoint: Endpoint) -> Route {
    Route { base, path, methods, scope, endpoint: routes::Endpoint::Metrics(endpoint) }
}

pub(crate) const ROUTES: &[Route] = &[
    // Taking samples in.
    route(Plain, "/push", POST, WriteMetrics, Endpoint::Push),
    route(Both, "/write", POST, WriteMetrics, Endpoint::Push),
    route(Root, "/otlp/v1/metrics", POST, WriteMetrics, Endpoint::OtlpMetrics),
    route(Plain, "/otlp/v1/metrics", POST, WriteMetrics, Endpoint::OtlpMetrics),
    route(Plain, "/import/prometheus", POST, WriteMetrics, Endpoint::ImportText),
    // Asking.
    route(Both, "/query", GET_POST, ReadMetrics, Endpoint::Query),
    route(Both, "/query_range", GET_POST, ReadMetrics, Endpoint::QueryRange),
    route(Both, "/query_exemplars", GET_POST, ReadMetrics, Endpoint::QueryExemplars),
    route(Both, "/series", GET_POST, ReadMetrics, Endpoint::Series),
    route(Both, "/labels", GET_POST, ReadMetrics, Endpoint::Labels),
    route(Both, "/label/{name}/values", GET, ReadMetrics, Endpoint::LabelValues),
    route(Both, "/metadata", GET, ReadMetrics, Endpoint::Metadata),
    route(Both, "/read", POST, ReadMetrics, Endpoint::RemoteRead),
    route(Both, "/format_query", GET_POST, ReadMetrics, Endpoint::FormatQuery),
    route(Both, "/parse_query", GET_POST, ReadMetrics, Endpoint::ParseQuery),
    route(Root, "/federate", GET, ReadMetrics, Endpoint::Federate),
    route(Root, "/prometheus/federate", GET, ReadMetrics, Endpoint::Federate),
    // What the server says of itself in Prometheus' words.
    route(Both, "/targets", GET, ReadMetrics, Endpoint::Targets),
    route(Both, "/targets/metadata", GET, ReadMetrics, Endpoint::TargetsMetadata),
    route(Both, "/scrape_pools", GET, ReadMetrics, Endpoint::ScrapePools),
    route(Both, "/alertmanagers", GET, ReadMetrics, Endpoint::Alertmanagers),
    route(Both, "/status/buildinfo", GET, ReadMetrics, Endpoint::BuildInfo),
    route(Root, "/alertmanager/api/v1/status/buildinfo", GET, ReadMetrics, Endpoint::BuildInfo),
    route(Both, "/status/runtimeinfo", GET, ReadMetrics, Endpoint::RuntimeInfo),
    route(Both, "/status/tsdb", GET, ReadMetrics, Endpoint::TsdbStatus),
    route(Both, "/status/config", GET, ReadMetrics, Endpoint::ConfigStatus),
    route(Plain, "/status/flags", GET, ReadMetrics, Endpoint::Flags),
    route(Both, "/cardinality/label_names", GET_POST, ReadMetrics, Endpoint::CardinalityNames),
    route(Both, "/cardinality/label_values", GET_POST, ReadMetrics, Endpoint::CardinalityValues),
    route(Both, "/cardinality/active_series", GET_POST, ReadMetrics, Endpoint::CardinalityActive),
    route(Both, "/admin/tsdb/delete_series", Methods::POST_PUT, Scope::Root, Endpoint::DeleteSeries),
];

pub(crate) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: Call) -> Result<Reply, ApiError> {
    if let Some(peer) = app.backend.get().and_then(|b| b.store.remote()).filter(|_| endpoint.is_forwarded()) {
        query::check_forwarded(app, &call, endpoint)?;
        return forward(peer, &call, &["/api/v1/"]).await;
    }
    match endpoint {
        Endpoint::Push => push::remote_write(app, call).await,
        Endpoint::Query => query::instant(app, call).await,
        Endpoint::QueryRange => query::range(app, call).await,
        Endpoint::QueryExemplars => discover::exemplars(app, call).await,
        Endpoint::Series => discover::series(app, call).await,
        Endpoint::Labels => discover::labels(app, call).await,
        Endpoint::LabelValues => discover::label_values(app, call).await,
        Endpoint::Metadata => discover::metadata(app, call).await,
        Endpoint::RemoteRead => read::remote_read(app, call).await,
        Endpoint::TsdbStatus => census::tsdb_status(app, call).await,
        Endpoint::CardinalityNames => census::cardinality(app, Question::names(&call.params)?, call).await,
        Endpoint::CardinalityValues => census::cardinality(app, Question::values(&call.params)?, call).await,
        Endpoint::CardinalityActive => census::cardinality(app, Question::sets(&call.params)?, call).await,
        Endpoint::DeleteSeries => admin::delete_series(app, call).await,
        Endpoint::ImportText => push::import_text(app, call).await,
        Endpoint::OtlpMetrics => otlp::metrics(app, call).await,
        Endpoint::Federate => federate::federate(app, call).await,
        Endpoint::FormatQuery => print::format_query(app, call).await,
        Endpoint::ParseQuery => print::parse_query(app, call).await,
        Endpoint::Targets => targets::targets(app, &call),
        Endpoint::TargetsMetadata => targets::metadata(app, &call),
        Endpoint::ScrapePools => Ok(targets::scrape_pools(app)),
        Endpoint::Alertmanagers => Ok(status::alertmanagers(app)),
        Endpoint::BuildInfo => Ok(status::build_info(app)),
        Endpoint::RuntimeInfo => Ok(status::runtime_info(app)),
        Endpoint::ConfigStatus => Ok(status::config(app)),
        Endpoint::Flags => Ok(status::flags()),
    }
}

pub(crate) fn refuse(endpoint: Endpoint, error: ApiError) -> Reply {
    if endpoint.speaks_text() { error.into_text() } else { error.into_json() }
}
