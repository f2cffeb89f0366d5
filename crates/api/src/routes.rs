//! Every path that is served: one table per subject, and what a row says.
//!
//! The router is built from the tables, the check of tokens reads the scope from them, and tests
//! walk them. Several rows may share a path when they take different methods.
//! What is absent is absent on purpose: there is no catch-all and no page under an API
//! prefix, no `/api/v2/…` without `/alertmanager` (Grafana would take the server for a bare
//! Alertmanager), no `/prometheus/api/v1/status/flags` (Grafana would take it for Thanos).

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use pilothouse_control::{Scopes, SourceKind};

use crate::error::ApiError;
use crate::reply::Reply;
use crate::service::Call;
use crate::{App, alertmanager, cockpit, logs, metrics, own, rules, synthetic};

/// What a token must be allowed to do to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// No token at all.
    Open,
    ReadMetrics,
    WriteMetrics,
    MetricsRules,
    ReadLogs,
    WriteLogs,
    LogsRules,
    /// Reading the state of rules: any scope that reads metrics, logs, or rules of either.
    ReadRules,
    Alertmanager,
    /// The root token, in any form.
    Root,
    /// The root token as `X-Auth-Token`: the management API.
    Management,
    /// A token of Synthetic Monitoring, which the handler asks for: it names the tenant.
    Synthetic,
}

impl Scope {
    /// Whether what it is for takes room: samples and entries that come in.
    pub(crate) fn stores(self) -> bool {
        matches!(self, Self::WriteMetrics | Self::WriteLogs)
    }

    /// The scopes of tokens of which any one will do; none where only the root token does.
    pub(crate) fn granted_by(self) -> Scopes {
        use pilothouse_control::Scope as Of;
        let scopes: &[Of] = match self {
            Self::Open | Self::Root | Self::Management | Self::Synthetic => &[],
            Self::ReadMetrics => &[Of::ReadMetrics],
            Self::WriteMetrics => &[Of::WriteMetrics],
            Self::MetricsRules => &[Of::MetricsRules],
            Self::ReadLogs => &[Of::ReadLogs],
            Self::WriteLogs => &[Of::WriteLogs],
            Self::LogsRules => &[Of::LogsRules],
            Self::ReadRules => &[Of::ReadMetrics, Of::MetricsRules, Of::ReadLogs, Of::LogsRules],
            Self::Alertmanager => &[Of::AlertManager],
        };
        scopes.iter().copied().collect()
    }
}

/// A set of methods. `OPTIONS` is answered everywhere; for `HEAD` see [`Route::takes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Methods(u8);

impl Methods {
    pub const GET: Self = Self(1);
    pub const POST: Self = Self(2);
    pub const PUT: Self = Self(4);
    pub const DELETE: Self = Self(8);
    pub const PATCH: Self = Self(16);
    pub const GET_POST: Self = Self::GET.or(Self::POST);
    pub const POST_PUT: Self = Self::POST.or(Self::PUT);

    /// In the order in which the header `Allow` lists them.
    const NAMES: [(Self, &'static str); 6] = [
        (Self::DELETE, "DELETE"),
        (Self::GET, "GET"),
        (Self(32), "OPTIONS"),
        (Self::PATCH, "PATCH"),
        (Self::POST, "POST"),
        (Self::PUT, "PUT"),
    ];

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The text of the header `Allow`.
    pub fn allow(self) -> String {
        let all = self.or(Self(32));
        let names = Self::NAMES.iter().filter(|(one, _)| all.0 & one.0 != 0).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(", ")
    }

    pub fn accept(self, method: &Method) -> bool {
        Self::NAMES.iter().any(|(one, name)| *name == method.as_str() && self.0 & one.0 != 0)
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

/// What a route does: a subject, and an endpoint of that subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Metrics(metrics::Endpoint),
    Logs(logs::Endpoint),
    Rules(rules::Endpoint),
    Alertmanager(alertmanager::Endpoint),
    Cockpit(cockpit::Endpoint),
    Own(own::Endpoint),
    Synthetic(synthetic::Endpoint),
}

/// The tables of all subjects.
const TABLES: &[&[Route]] = &[
    metrics::ROUTES,
    logs::ROUTES,
    rules::ROUTES,
    alertmanager::ROUTES,
    cockpit::ROUTES,
    own::ROUTES,
    synthetic::ROUTES,
];

impl Endpoint {
    /// The label `handler` of the server's own metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics(endpoint) => endpoint.name(),
            Self::Logs(endpoint) => endpoint.name(),
            Self::Rules(endpoint) => endpoint.name(),
            Self::Alertmanager(endpoint) => endpoint.name(),
            Self::Cockpit(endpoint) => endpoint.name(),
            Self::Own(endpoint) => endpoint.name(),
            Self::Synthetic(endpoint) => endpoint.name(),
        }
    }

    /// Whether the endpoint has a meaning below the root of a data source of this kind.
    pub(crate) fn serves(self, kind: SourceKind) -> bool {
        match self {
            Self::Metrics(endpoint) => endpoint.serves(kind),
            Self::Logs(_) => kind == SourceKind::Logs,
            Self::Rules(endpoint) => endpoint.serves(kind),
            Self::Alertmanager(_) | Self::Cockpit(_) | Self::Own(_) | Self::Synthetic(_) => false,
        }
    }

    /// Whether it has a meaning below the root of some data source.
    pub(crate) fn is_of_sources(self) -> bool {
        self.serves(SourceKind::Metrics) || self.serves(SourceKind::Logs)
    }

    pub(crate) async fn answer(self, app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
        match self {
            Self::Metrics(endpoint) => metrics::dispatch(app, endpoint, call).await,
            Self::Logs(endpoint) => logs::dispatch(app, endpoint, call).await,
            Self::Rules(endpoint) => rules::dispatch(app, endpoint, call).await,
            Self::Alertmanager(endpoint) => alertmanager::dispatch(app, endpoint, call).await,
            Self::Cockpit(endpoint) => cockpit::dispatch(app, endpoint, call).await,
            Self::Own(endpoint) => own::dispatch(app, endpoint, call).await,
            Self::Synthetic(endpoint) => synthetic::dispatch(app, endpoint, call).await,
        }
    }

    /// What a path gets by a method that it has not.
    pub(crate) fn refuse_method(self) -> Reply {
        match self {
            Self::Synthetic(_) => synthetic::wrong_method(),
            Self::Logs(_) => Reply::empty(StatusCode::METHOD_NOT_ALLOWED),
            Self::Rules(endpoint) if endpoint.is_of_logs() => Reply::empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => Reply::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"),
        }
    }

    /// An error in the shape that the clients of this endpoint read.
    pub(crate) fn refuse(self, app: &App, error: ApiError) -> Reply {
        match self {
            Self::Metrics(endpoint) => metrics::refuse(endpoint, error),
            Self::Logs(endpoint) => logs::refuse(app, endpoint, error),
            Self::Rules(endpoint) => rules::refuse(endpoint, error),
            Self::Alertmanager(endpoint) => alertmanager::refuse(endpoint, error),
            Self::Cockpit(_) => cockpit::refuse(&error),
            Self::Own(_) => error.into_text(),
            Self::Synthetic(_) => synthetic::refuse(error),
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
    /// Whether the route answers the method. `HEAD` is as `GET` where the interface is Pilothouse's own, and
    /// where the Alertmanager is asked for its health; Loki, Mimir, Prometheus and the rest of the
    /// Alertmanager take it for a wrong method.
    pub fn takes(&self, method: &Method) -> bool {
        let takes_head = matches!(
            self.endpoint,
            Endpoint::Own(_)
                | Endpoint::Cockpit(_)
                | Endpoint::Synthetic(_)
                | Endpoint::Alertmanager(alertmanager::Endpoint::Healthy)
        );
        let method = if method == Method::HEAD && takes_head { &Method::GET } else { method };
        self.methods.accept(method)
    }

    /// The full paths of the route.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        self.base.roots().iter().map(|root| format!("{root}{}", self.path))
    }
}

/// Every row of every table.
pub fn all() -> impl Iterator<Item = &'static Route> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// The rows by full path.
pub(crate) fn by_path() -> BTreeMap<String, Vec<&'static Route>> {
    let mut rows: BTreeMap<String, Vec<&'static Route>> = BTreeMap::new();
    for route in all() {
        for path in route.paths() {
            rows.entry(path).or_default().push(route);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_of_a_path_has_one_row_and_no_path_is_forbidden() {
        let rows = by_path();
        for (path, routes) in &rows {
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let takers = routes.iter().filter(|r| r.methods.accept(&method)).count();
                assert!(takers <= 1, "{method} {path}");
            }
        }
        for absent in ["/prometheus/api/v1/status/flags", "/api/v2/status", "/"] {
            assert!(!rows.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn only_the_ready_path_and_status_pages_are_open() {
        let open: Vec<String> = all().filter(|r| r.scope == Scope::Open).flat_map(Route::paths).collect();
        // Those pages ask for a token themselves where they are not public.
        assert_eq!(open, ["/ready", "/status/{name}"]);
        let writes = |scope| matches!(scope, Scope::WriteMetrics | Scope::WriteLogs);
        assert!(all().all(|r| !writes(r.scope) || !r.methods.accept(&Method::GET)));
    }

    #[test]
    fn only_paths_of_our_own_take_head() {
        let takes = |path: &str| all().any(|r| r.paths().any(|p| p == path) && r.takes(&Method::HEAD));
        for (path, expected) in [
            ("/ready", true),
            ("/metrics", true),
            ("/alertmanager/-/healthy", true),
            ("/alertmanager/-/ready", true),
            ("/alertmanager/api/v2/status", false),
            ("/loki/api/v1/query", false),
            ("/loki/api/v1/status/buildinfo", false),
            ("/prometheus/api/v1/query", false),
            ("/prometheus/api/v1/rules", false),
        ] {
            assert_eq!(takes(path), expected, "{path}");
        }
    }

    #[test]
    fn methods_are_listed_in_order() {
        assert_eq!(Methods::GET_POST.allow(), "GET, OPTIONS, POST");
        assert_eq!(Methods::POST_PUT.or(Methods::DELETE).allow(), "DELETE, OPTIONS, POST, PUT");
        assert!(Methods::GET.accept(&Method::GET) && !Methods::GET.accept(&Method::POST));
    }
}
