//! The pages about paths say what is served, no more and no less.

use std::collections::BTreeSet;

use http::Method;

use crate::routes::{self, Methods, Route, Scope};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{DOCS}/{name}")).unwrap()
}

/// What the column `needs` says.
fn needs(scope: Scope) -> &'static str {
    match scope {
        Scope::Open => "none",
        Scope::ReadMetrics => "read metrics",
        Scope::WriteMetrics => "write metrics",
        Scope::MetricsRules => "metrics rules",
        Scope::ReadLogs => "read logs",
        Scope::WriteLogs => "write logs",
        Scope::LogsRules => "logs rules",
        Scope::ReadRules => "read",
        Scope::Alertmanager => "alerts",
        Scope::Root => "root",
        Scope::Management => "management",
        Scope::Synthetic => "synthetic",
    }
}

fn methods(methods: Methods) -> Vec<&'static str> {
    let named = [("DELETE", Method::DELETE), ("GET", Method::GET), ("PATCH", Method::PATCH)];
    let more = [("POST", Method::POST), ("PUT", Method::PUT)];
    named.into_iter().chain(more).filter(|(_, method)| methods.accept(method)).map(|(name, _)| name).collect()
}

/// A line for each path: methods, path, what it needs.
fn served(route: &Route) -> impl Iterator<Item = String> + '_ {
    let methods = methods(route.methods).join(", ");
    route.paths().map(move |path| format!("{methods} {path} ({})", needs(route.scope)))
}

/// The same lines from the tables of the page.
fn told(page: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [methods, paths, needs, text] = cells.as_slice() else { continue };
        if !paths.starts_with('`') || methods.starts_with('-') {
            continue;
        }
        assert!(!text.is_empty(), "{row}");
        for path in paths.split(", ").map(|path| path.trim_matches('`')) {
            let both = path.strip_prefix("[/prometheus]");
            let paths = both.map_or(vec![path.to_owned()], |p| vec![p.to_owned(), format!("/prometheus{p}")]);
            lines.extend(paths.iter().map(|path| format!("{methods} {path} ({needs})")));
        }
    }
    lines
}

#[test]
fn every_route_is_documented() {
    let served: BTreeSet<String> = routes::all().flat_map(served).collect();
    let told = told(&page("api.md"));
    let missing: Vec<&String> = served.difference(&told).collect();
    let gone: Vec<&String> = told.difference(&served).collect();
    assert!(missing.is_empty() && gone.is_empty(), "docs/api.md lacks {missing:#?}\nand tells of {gone:#?}");
}

/// What is of this server alone, and so has no description elsewhere.
fn is_own(route: &Route) -> bool {
    matches!(route.endpoint, routes::Endpoint::Own(_))
        || route.paths().all(|p| p.starts_with("/pilothouse/") || p.starts_with("/status/"))
}

/// The paths of an OpenAPI description with their methods: two levels of keys below `paths`.
fn described(yaml: &str) -> BTreeSet<String> {
    let paths = yaml.split_once("\npaths:\n").map_or("", |(_, rest)| rest);
    let mut found = BTreeSet::new();
    let mut path = "";
    for line in paths.lines().take_while(|line| line.is_empty() || line.starts_with([' ', '#'])) {
        let key = line.trim_end().strip_suffix(':').unwrap_or("");
        if let Some(name) = key.strip_prefix("  ").filter(|name| name.starts_with('/')) {
            path = name;
        } else if let Some(name) = key.strip_prefix("    ").filter(|name| !name.starts_with(' ')) {
            found.insert(format!("{} {path}", name.to_ascii_uppercase()));
        }
    }
    found
}

#[test]
fn what_is_of_this_server_alone_has_an_openapi_description() {
    let pairs = |route: &'static Route| {
        route.paths().flat_map(|path| methods(route.methods).into_iter().map(move |m| format!("{m} {path}")))
    };
    let own: BTreeSet<String> = routes::all().filter(|route| is_own(route)).flat_map(pairs).collect();
    assert_eq!(described(&page("openapi.yaml")), own);
}
