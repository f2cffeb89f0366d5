//! Log entries over HTTP, on the paths of Loki: push and OTLP, LogQL, what streams there are, and
//! following them as they grow.
//!
//! Successes are JSON in Loki's shapes; refusals are the bare text. Paths below `/api/prom` are
//! the first generation of the same interface, which old agents still use.

mod answer;
mod census;
mod deletes;
mod discover;
mod errors;
mod fields;
mod params;
mod patterns;
mod print;
mod protobuf;
mod push;
mod query;
mod rates;
mod state;
mod stats;
mod status;
mod tail;
#[cfg(test)]
mod tests;
mod texts;
mod volume;

use std::sync::Arc;

use http::StatusCode;

use crate::App;
use crate::census::Question;
use crate::error::{ApiError, Kind};
use crate::forward::forward;
use crate::reply::Reply;
use crate::routes::Scope::{ReadLogs, WriteLogs};
use crate::routes::{self, Base, Methods, Route, Scope};
use crate::service::{Call, too_large};
use answer::Shape;

pub(crate) use state::State;
pub(crate) use tail::Tee;

const V1: Shape = Shape::V1 { categorize: false };

/// What a route of this subject does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Push,
    Otlp,
    Query,
    QueryRange,
    Labels,
    LabelValues,
    Series,
    Tail,
    IndexStats,
    Volume,
    VolumeRange,
    FormatQuery,
    DetectedLabels,
    DetectedFields,
    DetectedFieldValues,
    Patterns,
    CardinalityNames,
    CardinalityValues,
    CardinalityActive,
    AddDeletion,
    Deletions,
    CancelDeletion,
    DrilldownLimits,
    BuildInfo,
    Configuration,
    Services,
    LegacyQuery,
    LegacyTail,
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Push => "logs_push",
            Self::Otlp => "logs_otlp",
            Self::Query => "logs_query",
            Self::QueryRange => "logs_query_range",
            Self::Labels => "logs_labels",
            Self::LabelValues => "logs_label_values",
            Self::Series => "logs_series",
            Self::Tail => "logs_tail",
            Self::IndexStats => "logs_index_stats",
            Self::Volume => "logs_volume",
            Self::VolumeRange => "logs_volume_range",
            Self::FormatQuery => "logs_format_query",
            Self::DetectedLabels => "logs_detected_labels",
            Self::DetectedFields => "logs_detected_fields",
            Self::DetectedFieldValues => "logs_detected_field_values",
            Self::Patterns => "logs_patterns",
            Self::CardinalityNames => "logs_cardinality_label_names",
            Self::CardinalityValues => "logs_cardinality_label_values",
            Self::CardinalityActive => "logs_cardinality_active_series",
            Self::AddDeletion => "logs_delete",
            Self::Deletions => "logs_deletions",
            Self::CancelDeletion => "logs_cancel_deletion",
            Self::DrilldownLimits => "logs_drilldown_limits",
            Self::BuildInfo => "logs_buildinfo",
            Self::Configuration => "logs_config",
            Self::Services => "logs_services",
            Self::LegacyQuery => "logs_legacy_query",
            Self::LegacyTail => "logs_legacy_tail",
        }
    }
}

impl Endpoint {
    /// Whether it asks for what is stored, in parameters that Loki reads as one form.
    fn is_question(self) -> bool {
        !matches!(
            self,
            Self::AddDeletion
                | Self::BuildInfo
                | Self::CancelDeletion
                | Self::Configuration
                | Self::Deletions
                | Self::DrilldownLimits
                | Self::FormatQuery
                | Self::Otlp
                | Self::Push
                | Self::Services
        )
    }

    /// Whether it is answered by who keeps the data, where that is not this server. The others take
    /// entries in, are about this server or its language, or are not on every other system; a tail
    /// is handed on otherwise.
    fn is_forwarded(self) -> bool {
        !matches!(
            self,
            Self::BuildInfo
                | Self::CardinalityActive
                | Self::CardinalityNames
                | Self::CardinalityValues
                | Self::Configuration
                | Self::DrilldownLimits
                | Self::FormatQuery
                | Self::LegacyTail
                | Self::Otlp
                | Self::Push
                | Self::Services
                | Self::Tail
        )
    }
}

const GET: Methods = Methods::GET;
const GET_POST: Methods = Methods::GET_POST;
const POST: Methods = Methods::POST;

const fn route(path: &'static str, methods: Methods, scope: Scope, endpoint: Endpoint) -> Route {
    Route { base: Base::Root, path, methods, scope, endpoint: routes::Endpoint::Logs(endpoint) }
}

pub(crate) const ROUTES: &[Route] = &[
    // Taking entries in.
    route("/loki/api/v1/push", POST, WriteLogs, Endpoint::Push),
    route("/api/prom/push", POST, WriteLogs, Endpoint::Push),
    route("/otlp/v1/logs", POST, WriteLogs, Endpoint::Otlp),
    route("/loki/api/v1/otlp/v1/logs", POST, WriteLogs, Endpoint::Otlp),
    // Asking.
    route("/loki/api/v1/query", GET_POST, ReadLogs, Endpoint::Query),
    route("/loki/api/v1/query_range", GET_POST, ReadLogs, Endpoint::QueryRange),
    route("/loki/api/v1/labels", GET_POST, ReadLogs, Endpoint::Labels),
    route("/loki/api/v1/label", GET_POST, ReadLogs, Endpoint::Labels),
    route("/loki/api/v1/label/{name}/values", GET_POST, ReadLogs, Endpoint::LabelValues),
    route("/loki/api/v1/series", GET_POST, ReadLogs, Endpoint::Series),
    route("/loki/api/v1/tail", GET_POST, ReadLogs, Endpoint::Tail),
    route("/loki/api/v1/index/stats", GET_POST, ReadLogs, Endpoint::IndexStats),
    route("/loki/api/v1/index/volume", GET_POST, ReadLogs, Endpoint::Volume),
    route("/loki/api/v1/index/volume_range", GET_POST, ReadLogs, Endpoint::VolumeRange),
    route("/loki/api/v1/format_query", GET_POST, ReadLogs, Endpoint::FormatQuery),
    route("/loki/api/v1/detected_labels", GET_POST, ReadLogs, Endpoint::DetectedLabels),
    route("/loki/api/v1/detected_fields", GET_POST, ReadLogs, Endpoint::DetectedFields),
    route("/loki/api/v1/detected_field/{name}/values", GET_POST, ReadLogs, Endpoint::DetectedFieldValues),
    route("/loki/api/v1/patterns", GET_POST, ReadLogs, Endpoint::Patterns),
    route("/loki/api/v1/cardinality/label_names", GET_POST, ReadLogs, Endpoint::CardinalityNames),
    route("/loki/api/v1/cardinality/label_values", GET_POST, ReadLogs, Endpoint::CardinalityValues),
    route("/loki/api/v1/cardinality/active_series", GET_POST, ReadLogs, Endpoint::CardinalityActive),
    route("/loki/api/v1/delete", Methods::POST_PUT, Scope::Root, Endpoint::AddDeletion),
    route("/loki/api/v1/delete", GET, Scope::Root, Endpoint::Deletions),
    route("/loki/api/v1/delete", Methods::DELETE, Scope::Root, Endpoint::CancelDeletion),
    route("/loki/api/v1/drilldown-limits", GET, ReadLogs, Endpoint::DrilldownLimits),
    route("/loki/api/v1/status/buildinfo", GET, ReadLogs, Endpoint::BuildInfo),
    route("/config", GET, ReadLogs, Endpoint::Configuration),
    route("/services", GET, ReadLogs, Endpoint::Services),
    // The first generation.
    route("/api/prom/query", GET_POST, ReadLogs, Endpoint::LegacyQuery),
    route("/api/prom/label", GET_POST, ReadLogs, Endpoint::Labels),
    route("/api/prom/label/{name}/values", GET_POST, ReadLogs, Endpoint::LabelValues),
    route("/api/prom/series", GET_POST, ReadLogs, Endpoint::Series),
    route("/api/prom/tail", GET_POST, ReadLogs, Endpoint::LegacyTail),
];

pub(crate) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: Call) -> Result<Reply, ApiError> {
    if let Some(peer) =
        app.logs_backend.get().and_then(|b| b.admin.remote()).filter(|_| endpoint.is_forwarded())
    {
        query::check_forwarded(app, &call.params, endpoint)?;
        return forward(peer, &call, &["/loki/api/v1/", "/api/prom/"]).await;
    }
    if endpoint.is_question() {
        call.params.check_whole()?;
    }
    match endpoint {
        Endpoint::Push => push::push(app, call).await,
        Endpoint::Otlp => push::otlp(app, call).await,
        Endpoint::Query => query::instant(app, call).await,
        Endpoint::QueryRange => query::range(app, call).await,
        Endpoint::Labels => discover::labels(app, call).await,
        Endpoint::LabelValues => discover::label_values(app, call).await,
        Endpoint::Series => discover::series(app, call).await,
        Endpoint::Tail => tail::tail(app, call, V1).await,
        Endpoint::IndexStats => discover::index_stats(app, call).await,
        Endpoint::Volume => volume::instant(app, call).await,
        Endpoint::VolumeRange => volume::range(app, call).await,
        Endpoint::FormatQuery => print::format_query(call).await,
        Endpoint::DetectedLabels => discover::detected_labels(app, call).await,
        Endpoint::DetectedFields => fields::fields(app, call).await,
        Endpoint::DetectedFieldValues => fields::values(app, call).await,
        Endpoint::Patterns => patterns::patterns(app, call).await,
        Endpoint::CardinalityNames => census::cardinality(app, Question::names(&call.params)?, call).await,
        Endpoint::CardinalityValues => census::cardinality(app, Question::values(&call.params)?, call).await,
        Endpoint::CardinalityActive => census::cardinality(app, Question::sets(&call.params)?, call).await,
        Endpoint::AddDeletion => deletes::add(app, call).await,
        Endpoint::Deletions => deletes::list(app, call).await,
        Endpoint::CancelDeletion => deletes::cancel(app, call).await,
        Endpoint::DrilldownLimits => Ok(status::drilldown_limits(app)),
        Endpoint::BuildInfo => Ok(status::build_info(app)),
        Endpoint::Configuration => Ok(Reply::text(StatusCode::OK, app.settings.configuration.yaml())),
        Endpoint::Services => Ok(status::services(app)),
        Endpoint::LegacyQuery => query::legacy(app, call).await,
        Endpoint::LegacyTail => tail::tail(app, call, Shape::Legacy).await,
    }
}

pub(crate) fn refuse(app: &App, endpoint: Endpoint, mut error: ApiError) -> Reply {
    // A body that was refused before it came here was refused in Mimir's words.
    let limit = app.limits().max_body_bytes;
    if error.kind == Kind::TooLarge && error.text == too_large(limit).text {
        error = push::too_large(limit);
    }
    match endpoint {
        Endpoint::Otlp => push::otlp_refusal(error),
        _ => errors::refuse(error),
    }
}
