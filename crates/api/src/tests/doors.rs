//! Every route, every scope, every header form: who is let in, and that nothing is stored for
//! who is not.
//!
//! The table below is the contract's, not the router's: a route without a row here, and a row
//! without a route, fails the test.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pilothouse_control::{
    Actor, NewSource, NewToken, ProjectId, Region, Scope, Scopes, SourceKind, SourceLimits,
};

use super::Fixture;
use crate::routes;

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";
const UNKNOWN: &str = "0e7c1f9a-0000-4000-8000-000000000000";

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Everybody,
    /// Tokens with any of these, and the root token.
    AnyOf(&'static [Scope]),
    RootToken,
    /// The root token as `X-Auth-Token` alone.
    ManagementKey,
    /// The root token as a bearer: it registers tenants of Synthetic Monitoring.
    Publisher,
    /// A token of Synthetic Monitoring, which none of the visitors has.
    AccessToken,
}

use Door::{AccessToken, AnyOf, Everybody, ManagementKey, Publisher, RootToken};

const READ_METRICS: Door = AnyOf(&[Scope::ReadMetrics]);
const WRITE_METRICS: Door = AnyOf(&[Scope::WriteMetrics]);
const READ_LOGS: Door = AnyOf(&[Scope::ReadLogs]);
const WRITE_LOGS: Door = AnyOf(&[Scope::WriteLogs]);
const METRICS_RULES: Door = AnyOf(&[Scope::MetricsRules]);
const LOGS_RULES: Door = AnyOf(&[Scope::LogsRules]);
const ALERTS: Door = AnyOf(&[Scope::AlertManager]);
const STATE_OF_RULES: Door =
    AnyOf(&[Scope::ReadMetrics, Scope::MetricsRules, Scope::ReadLogs, Scope::LogsRules]);

/// Paths with and without the prefix `/prometheus`, below `/api/v1`.
const BOTH: &[(Door, &[&str])] = &[
    (
        READ_METRICS,
        &[
            "query",
            "query_range",
            "query_exemplars",
            "series",
            "labels",
            "label/{name}/values",
            "metadata",
            "read",
            "format_query",
            "parse_query",
            "targets",
            "targets/metadata",
            "scrape_pools",
            "alertmanagers",
            "status/buildinfo",
            "status/runtimeinfo",
            "status/tsdb",
            "status/config",
            "cardinality/label_names",
            "cardinality/label_values",
            "cardinality/active_series",
        ],
    ),
    (WRITE_METRICS, &["write"]),
    (STATE_OF_RULES, &["rules"]),
    (RootToken, &["admin/tsdb/delete_series"]),
];

const PATHS: &[(Door, &[&str])] = &[
    (Everybody, &["/ready"]),
    (
        READ_METRICS,
        &[
            "/federate",
            "/prometheus/federate",
            "/api/v1/status/flags",
            "/alertmanager/api/v1/status/buildinfo",
            "/-/ready",
            "/-/healthy",
            "/prometheus/-/ready",
            "/prometheus/-/healthy",
            "/metrics",
            "/api/iacp/v3/metrics",
            // Pages that are public by the configuration apart; here there are none.
            "/status/{name}",
        ],
    ),
    (
        WRITE_METRICS,
        &["/api/v1/push", "/otlp/v1/metrics", "/api/v1/otlp/v1/metrics", "/api/v1/import/prometheus"],
    ),
    (STATE_OF_RULES, &["/prometheus/api/v1/alerts"]),
    (WRITE_LOGS, &["/loki/api/v1/push", "/api/prom/push", "/otlp/v1/logs", "/loki/api/v1/otlp/v1/logs"]),
    (
        READ_LOGS,
        &[
            "/loki/api/v1/query",
            "/loki/api/v1/query_range",
            "/loki/api/v1/labels",
            "/loki/api/v1/label",
            "/loki/api/v1/label/{name}/values",
            "/loki/api/v1/series",
            "/loki/api/v1/tail",
            "/loki/api/v1/index/stats",
            "/loki/api/v1/index/volume",
            "/loki/api/v1/index/volume_range",
            "/loki/api/v1/format_query",
            "/loki/api/v1/patterns",
            "/loki/api/v1/detected_labels",
            "/loki/api/v1/detected_fields",
            "/loki/api/v1/detected_field/{name}/values",
            "/loki/api/v1/cardinality/label_names",
            "/loki/api/v1/cardinality/label_values",
            "/loki/api/v1/cardinality/active_series",
            "/loki/api/v1/drilldown-limits",
            "/loki/api/v1/status/buildinfo",
            "/config",
            "/services",
            "/api/prom/query",
            "/api/prom/label",
            "/api/prom/label/{name}/values",
            "/api/prom/series",
            "/api/prom/tail",
        ],
    ),
    (Publisher, &["/api/v1/register/install"]),
    (ALERTS, &["/api/v1/alerts", "/alertmanager"]),
    (RootToken, &["/-/reload", "/-/backup"]),
    (
        RootToken,
        &[
            "/loki/api/v1/delete",
            "/pilothouse/v1/audit",
            "/pilothouse/v1/tokens/usage",
            "/pilothouse/v1/data-sources/usage",
        ],
    ),
];

/// Below these everything is behind one door.
const PREFIXES: &[(Door, &str)] = &[
    (ManagementKey, "/cockpit/"),
    (ALERTS, "/alertmanager/"),
    (METRICS_RULES, "/prometheus/config/v1/rules"),
    (METRICS_RULES, "/prometheus/rules"),
    (LOGS_RULES, "/loki/api/v1/rules"),
    (LOGS_RULES, "/api/prom/rules"),
    (AccessToken, "/api/v1/token/"),
    (AccessToken, "/api/v1/check"),
    (AccessToken, "/api/v1/probe"),
    (AccessToken, "/api/v1/tenant"),
    // Who is refused here learns it from the status of gRPC, not of HTTP.
    (Everybody, "/synthetic_monitoring."),
];

fn contract() -> BTreeMap<String, Door> {
    let mut doors = BTreeMap::new();
    for (door, paths) in BOTH {
        for path in *paths {
            doors.insert(format!("/api/v1/{path}"), *door);
            doors.insert(format!("/prometheus/api/v1/{path}"), *door);
        }
    }
    for (door, paths) in PATHS {
        doors.extend(paths.iter().map(|path| ((*path).to_owned(), *door)));
    }
    doors
}

fn door_of(doors: &BTreeMap<String, Door>, path: &str) -> Option<Door> {
    let by_prefix = || PREFIXES.iter().find(|(_, prefix)| path.starts_with(prefix)).map(|(door, _)| *door);
    doors.get(path).copied().or_else(by_prefix)
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let (doors, routes) = (contract(), routes::by_path());
    let without_row: Vec<&String> = routes.keys().filter(|p| door_of(&doors, p).is_none()).collect();
    assert!(without_row.is_empty(), "say in `doors` who may use {without_row:?}");
    let without_route: Vec<&String> = doors.keys().filter(|p| !routes.contains_key(*p)).collect();
    assert!(without_route.is_empty(), "not served: {without_route:?}");
}

/// A token of a caller, and what it may do; `None` for the scopes of who has no valid token.
struct Visitor {
    name: String,
    secret: Option<String>,
    scopes: Option<Scopes>,
    is_root: bool,
}

fn visitors(fixture: &Fixture, project: ProjectId) -> Vec<Visitor> {
    let visitor = |name: &str, secret: Option<&str>, scopes, is_root| Visitor {
        name: name.to_owned(),
        secret: secret.map(str::to_owned),
        scopes,
        is_root,
    };
    let mut visitors = vec![
        visitor("nobody", None, None, false),
        visitor("an unknown token", Some(UNKNOWN), None, false),
        visitor("the root token", Some(ROOT), None, true),
    ];
    let single = Scope::ALL.into_iter().map(|scope| Scopes::from_iter([scope]));
    for scopes in single.chain([Scopes::NONE]) {
        let name = scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(",");
        let new = NewToken { project, region: Region::FrPar, name: format!("of {name}"), scopes };
        let (token, secret) = fixture.app().settings.control.create_token(&Actor::server(), new).unwrap();
        visitors.push(visitor(&token.name, Some(secret.reveal()), Some(scopes), false));
    }
    visitors
}

const FORMS: [&str; 5] = ["X-Token", "Bearer", "Basic", "X-Scope-OrgID", "X-Auth-Token"];

fn with_form(request: http::request::Builder, form: &str, secret: &str) -> http::request::Builder {
    match form {
        "Bearer" => request.header("Authorization", format!("Bearer {secret}")),
        "Basic" => request.header("Authorization", format!("Basic {}", base64(&format!("who:{secret}")))),
        name => request.header(name, secret),
    }
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |group: u32, i: u32| char::from(DIGITS[(group >> (18 - 6 * i)) as usize & 63]);
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let group = chunk.iter().enumerate().fold(0u32, |g, (i, b)| g | u32::from(*b) << (16 - 8 * i));
        (0..4).for_each(|i| out.push(if i as usize <= chunk.len() { digit(group, i) } else { '=' }));
    }
    out
}

/// The status that refuses a visitor; `None` where he is let in.
fn refusal(door: Door, visitor: &Visitor, form: &str) -> Option<u16> {
    let is_key = form == "X-Auth-Token";
    // That header carries the root token and no other.
    let is_known = visitor.is_root || (visitor.scopes.is_some() && !is_key);
    match door {
        Everybody => None,
        ManagementKey => (!(visitor.is_root && is_key)).then_some(401),
        Publisher => (!(visitor.is_root && form == "Bearer")).then_some(401),
        AccessToken => Some(401),
        _ if !is_known => Some(401),
        _ if visitor.is_root => None,
        RootToken => Some(403),
        AnyOf(scopes) => {
            let may = visitor.scopes.is_some_and(|s| scopes.iter().any(|scope| s.contains(*scope)));
            (!may).then_some(403)
        }
    }
}

/// A path with something for each of its segments that has a name.
fn filled(path: &str) -> String {
    let names =
        [("{name}", "x"), ("{region}", "fr-par"), ("{id}", UNKNOWN), ("{namespace}", "n"), ("{group}", "g")];
    names.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
}

#[tokio::test]
async fn doors_open_for_those_whom_the_contract_names() {
    let fixture = Fixture::locked(ROOT);
    let visitors = visitors(&fixture, ProjectId::DEFAULT);
    let doors = contract();
    let service = TowerToHyperService::new(crate::service::router(fixture.app()));
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let mut wrong = Vec::new();
    for (path, rows) in routes::by_path() {
        let Some(door) = door_of(&doors, &path) else { continue };
        let uri = filled(&path);
        for method in methods.iter().filter(|m| rows.iter().any(|row| row.methods.accept(m))) {
            for visitor in &visitors {
                for form in FORMS {
                    let mut request = Request::builder().method(method.clone()).uri(&uri);
                    if let Some(secret) = &visitor.secret {
                        request = with_form(request, form, secret);
                    }
                    let expected = refusal(door, visitor, form);
                    // What a writer would send: it must not be stored for who is refused.
                    let body =
                        if expected.is_some() { Body::from("stored_by_mistake 1\n") } else { Body::empty() };
                    let reply = service.call(request.body(body).unwrap()).await.unwrap();
                    let status = reply.status().as_u16();
                    let fits = match expected {
                        Some(refused) => status == refused,
                        None => status != 401 && status != 403,
                    };
                    if !fits {
                        wrong.push(format!(
                            "{method} {path}, {} in {form}: {status}, not {expected:?}",
                            visitor.name
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong, the first: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    assert_eq!(fixture.memory.len(), 0, "something was stored for who was refused");
}

fn new_source(project: ProjectId, kind: SourceKind) -> NewSource {
    NewSource {
        project,
        region: Region::FrPar,
        name: "s".to_owned(),
        kind,
        retention_days: None,
        limits: SourceLimits::default(),
        remote: None,
    }
}

/// Below `/ds/<id>` a path asks for the same scopes, and for a token of the source's project too;
/// paths of the other type are not there.
#[tokio::test]
async fn below_the_root_of_a_source_the_doors_are_the_same() {
    let fixture = Fixture::locked(ROOT);
    let control = Arc::clone(&fixture.app().settings.control);
    let project = ProjectId::random();
    let source = |kind| control.create_source(&Actor::server(), new_source(project, kind)).unwrap().id;
    let sources = [SourceKind::Metrics, SourceKind::Logs].map(|kind| (kind, source(kind)));
    let mut visitors: Vec<_> = visitors(&fixture, project).into_iter().map(|v| (v, false)).collect();
    let foreign = self::visitors(&fixture, ProjectId::random());
    visitors.extend(foreign.into_iter().filter(|v| !v.is_root).map(|v| (v, true)));
    let doors = contract();
    let service = TowerToHyperService::new(crate::service::router(fixture.app()));
    let mut wrong = Vec::new();
    for (path, rows) in routes::by_path() {
        let Some(door) = door_of(&doors, &path) else { continue };
        for row in rows.iter().filter(|row| row.endpoint.is_of_sources()) {
            let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
            let Some(method) = methods.into_iter().find(|m| row.methods.accept(m)) else { continue };
            for (kind, id) in &sources {
                for (visitor, is_foreign) in &visitors {
                    let expected = match refusal(door, visitor, "X-Token") {
                        None if !row.endpoint.serves(*kind) => Some(404),
                        None if *is_foreign => Some(403),
                        refused => refused,
                    };
                    let mut request =
                        Request::builder().method(method.clone()).uri(format!("/ds/{id}{}", filled(&path)));
                    if let Some(secret) = &visitor.secret {
                        request = with_form(request, "X-Token", secret);
                    }
                    let body = if expected.is_some() { "stored_by_mistake 1\n" } else { "" };
                    let reply = service.call(request.body(Body::from(body)).unwrap()).await.unwrap();
                    let status = reply.status().as_u16();
                    if !expected.map_or(status != 401 && status != 403, |refused| status == refused) {
                        let who = &visitor.name;
                        wrong.push(format!("{method} {path} of {kind:?}, {who}, foreign {is_foreign}: {status}, not {expected:?}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong, the first: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    assert_eq!(fixture.memory.len(), 0, "something was stored for who was refused");
}

#[tokio::test]
async fn the_root_of_a_source_is_closed_to_other_projects_and_kinds() {
    let fixture = Fixture::locked(ROOT);
    let app = fixture.app();
    let control = Arc::clone(&app.settings.control);
    let project = ProjectId::random();
    let source = control.create_source(&Actor::server(), new_source(project, SourceKind::Metrics)).unwrap();
    let token = |project| {
        let scopes = Scopes::from_iter([Scope::ReadMetrics, Scope::ReadLogs]);
        let new = NewToken { project, region: Region::FrPar, name: "t".to_owned(), scopes };
        control.create_token(&Actor::server(), new).unwrap().1.reveal().to_owned()
    };
    let (own, foreign) = (token(project), token(ProjectId::random()));
    let shared = control.default_source(SourceKind::Metrics).unwrap().id;
    let internal = control.internal_source().unwrap().id;
    let service = TowerToHyperService::new(crate::service::router(app));
    let query = "prometheus/api/v1/query?query=1";
    for (secret, path, status) in [
        (own.as_str(), format!("/ds/{}/{query}", source.id), 200),
        (ROOT, format!("/ds/{}/{query}", source.id), 200),
        (foreign.as_str(), format!("/ds/{}/{query}", source.id), 403),
        (UNKNOWN, format!("/ds/{}/{query}", source.id), 401),
        (ROOT, format!("/ds/{shared}/{query}"), 200),
        (own.as_str(), format!("/ds/{}/loki/api/v1/labels", source.id), 404),
        (own.as_str(), format!("/ds/{UNKNOWN}/{query}"), 404),
        (own.as_str(), format!("/ds/nonsense/{query}"), 404),
        (own.as_str(), format!("/ds/{internal}/loki/api/v1/labels"), 403),
        (ROOT, format!("/ds/{}/cockpit/v1/plans", source.id), 404),
        (ROOT, format!("/ds/{}/metrics", source.id), 404),
        (ROOT, format!("/ds/{}", source.id), 404),
    ] {
        let request = Request::get(&path).header("X-Token", secret).body(Body::empty()).unwrap();
        let reply = service.call(request).await.unwrap();
        assert_eq!(reply.status().as_u16(), status, "{path}");
    }
}
