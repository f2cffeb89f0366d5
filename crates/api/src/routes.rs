//! Every path that is served, as one table.
//!
//! The router is built from it, the check of tokens reads the scope from it, and a test walks
//! it. What is absent is absent on purpose: there is no catch-all and no page under an API
//! prefix, no `/api/v2/…` without `/alertmanager` (Grafana would take the server for a bare
//! Alertmanager), no `/prometheus/api/v1/status/flags` (Grafana would take it for Thanos), and
//! `/api/v1/alerts` is kept free for the Alertmanager's configuration.

/// What a token must be allowed to do to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// No token at all.
    Open,
    ReadMetrics,
    WriteMetrics,
    /// Reading rules: any scope that reads metrics or rules.
    ReadRules,
    Root,
}

impl Scope {
    /// The name as the management API spells it; `None` for what no token scope grants.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Open | Self::Root => None,
            Self::ReadMetrics => Some("read_only_metrics"),
            Self::WriteMetrics => Some("write_only_metrics"),
            Self::ReadRules => Some("full_access_metrics_rules"),
        }
    }
}

/// Which methods a route takes. `GET` includes `HEAD`; `OPTIONS` is answered everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Methods {
    Get,
    Post,
    GetPost,
    PostPut,
}

impl Methods {
    /// The text of the header `Allow`.
    pub fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, OPTIONS",
            Self::Post => "OPTIONS, POST",
            Self::GetPost => "GET, OPTIONS, POST",
            Self::PostPut => "OPTIONS, POST, PUT",
        }
    }

    pub fn accept(self, method: &http::Method) -> bool {
        let get = method == http::Method::GET || method == http::Method::HEAD;
        let post = method == http::Method::POST;
        match self {
            Self::Get => get,
            Self::Post => post,
            Self::GetPost => get || post,
            Self::PostPut => post || method == http::Method::PUT,
        }
    }
}

/// Under which roots a path hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// `/prometheus/api/v1` and `/api/v1`.
    Both,
    /// `/prometheus/api/v1` alone.
    Prefixed,
    /// `/api/v1` alone.
    Plain,
    /// The root of the server.
    Root,
}

impl Base {
    fn roots(self) -> &'static [&'static str] {
        match self {
            Self::Both => &["/prometheus/api/v1", "/api/v1"],
            Self::Prefixed => &["/prometheus/api/v1"],
            Self::Plain => &["/api/v1"],
            Self::Root => &[""],
        }
    }
}

/// What a route does.
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
    Rules,
    Alerts,
    Targets,
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
    Ready,
    Healthy,
    OwnMetrics,
}

impl Endpoint {
    /// The label `handler` of the server's own metrics.
    pub fn name(self) -> &'static str {
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
            Self::Rules => "rules",
            Self::Alerts => "alerts",
            Self::Targets => "targets",
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
            Self::Ready => "ready",
            Self::Healthy => "healthy",
            Self::OwnMetrics => "metrics",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub base: Base,
    /// As the router spells patterns: `{name}` is one segment.
    pub path: &'static str,
    pub methods: Methods,
    pub scope: Scope,
    pub endpoint: Endpoint,
}

impl Route {
    /// The full paths of the route.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        self.base.roots().iter().map(|root| format!("{root}{}", self.path))
    }
}

const fn route(base: Base, path: &'static str, methods: Methods, scope: Scope, endpoint: Endpoint) -> Route {
    Route { base, path, methods, scope, endpoint }
}

use Base::{Both, Plain, Prefixed, Root};
use Methods::{Get, GetPost, Post, PostPut};
use Scope::{Open, ReadMetrics, ReadRules, WriteMetrics};

pub const ROUTES: &[Route] = &[
    // Taking samples in.
    route(Plain, "/push", Post, WriteMetrics, Endpoint::Push),
    route(Both, "/write", Post, WriteMetrics, Endpoint::Push),
    route(Root, "/otlp/v1/metrics", Post, WriteMetrics, Endpoint::OtlpMetrics),
    route(Plain, "/otlp/v1/metrics", Post, WriteMetrics, Endpoint::OtlpMetrics),
    route(Plain, "/import/prometheus", Post, WriteMetrics, Endpoint::ImportText),
    // Asking.
    route(Both, "/query", GetPost, ReadMetrics, Endpoint::Query),
    route(Both, "/query_range", GetPost, ReadMetrics, Endpoint::QueryRange),
    route(Both, "/query_exemplars", GetPost, ReadMetrics, Endpoint::QueryExemplars),
    route(Both, "/series", GetPost, ReadMetrics, Endpoint::Series),
    route(Both, "/labels", GetPost, ReadMetrics, Endpoint::Labels),
    route(Both, "/label/{name}/values", Get, ReadMetrics, Endpoint::LabelValues),
    route(Both, "/metadata", Get, ReadMetrics, Endpoint::Metadata),
    route(Both, "/read", Post, ReadMetrics, Endpoint::RemoteRead),
    route(Both, "/format_query", GetPost, ReadMetrics, Endpoint::FormatQuery),
    route(Both, "/parse_query", GetPost, ReadMetrics, Endpoint::ParseQuery),
    route(Root, "/federate", Get, ReadMetrics, Endpoint::Federate),
    route(Root, "/prometheus/federate", Get, ReadMetrics, Endpoint::Federate),
    route(Both, "/rules", Get, ReadRules, Endpoint::Rules),
    route(Prefixed, "/alerts", Get, ReadRules, Endpoint::Alerts),
    // What the server says of itself.
    route(Both, "/targets", Get, ReadMetrics, Endpoint::Targets),
    route(Both, "/alertmanagers", Get, ReadMetrics, Endpoint::Alertmanagers),
    route(Both, "/status/buildinfo", Get, ReadMetrics, Endpoint::BuildInfo),
    route(Root, "/alertmanager/api/v1/status/buildinfo", Get, ReadMetrics, Endpoint::BuildInfo),
    route(Both, "/status/runtimeinfo", Get, ReadMetrics, Endpoint::RuntimeInfo),
    route(Both, "/status/tsdb", Get, ReadMetrics, Endpoint::TsdbStatus),
    route(Both, "/status/config", Get, ReadMetrics, Endpoint::ConfigStatus),
    route(Plain, "/status/flags", Get, ReadMetrics, Endpoint::Flags),
    route(Both, "/cardinality/label_names", GetPost, ReadMetrics, Endpoint::CardinalityNames),
    route(Both, "/cardinality/label_values", GetPost, ReadMetrics, Endpoint::CardinalityValues),
    route(Both, "/cardinality/active_series", GetPost, ReadMetrics, Endpoint::CardinalityActive),
    route(Both, "/admin/tsdb/delete_series", PostPut, Scope::Root, Endpoint::DeleteSeries),
    route(Root, "/ready", Get, Open, Endpoint::Ready),
    route(Root, "/-/ready", Get, ReadMetrics, Endpoint::Ready),
    route(Root, "/-/healthy", Get, ReadMetrics, Endpoint::Healthy),
    route(Root, "/prometheus/-/ready", Get, ReadMetrics, Endpoint::Ready),
    route(Root, "/prometheus/-/healthy", Get, ReadMetrics, Endpoint::Healthy),
    route(Root, "/metrics", Get, ReadMetrics, Endpoint::OwnMetrics),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn paths_are_unique_and_none_is_forbidden() {
        let mut seen = HashSet::new();
        for path in ROUTES.iter().flat_map(Route::paths) {
            assert!(seen.insert(path.clone()), "{path} twice");
        }
        for absent in ["/api/v1/alerts", "/prometheus/api/v1/status/flags", "/api/v2/status", "/"] {
            assert!(!seen.contains(absent), "{absent}");
        }
    }

    #[test]
    fn only_the_ready_path_is_open() {
        for route in ROUTES.iter().filter(|r| r.scope == Scope::Open) {
            assert_eq!(route.paths().collect::<Vec<_>>(), ["/ready"]);
        }
        assert!(
            ROUTES.iter().all(|r| r.scope != Scope::WriteMetrics || !r.methods.accept(&http::Method::GET))
        );
    }
}
