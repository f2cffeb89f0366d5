//! The paths of rules, over a ruler whose clock stands still.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use pilothouse_control::{DataSource, SourceKind};
use pilothouse_model::state::MemoryState;
use pilothouse_model::{Alert, AlertSink, Clock, SourceError};
use pilothouse_rules::{Data, MemorySeries, Parts, RuleSource, Ruler};

use super::RuleConnector;
use crate::tests::Fixture;

#[derive(Debug)]
struct NoAlerts;

impl AlertSink for NoAlerts {
    fn send(&self, _: &[Alert]) -> Result<(), SourceError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Connector(Arc<MemorySeries>);

impl RuleConnector for Connector {
    fn connect(&self, source: &DataSource) -> Option<RuleSource> {
        let data = match source.kind {
            SourceKind::Metrics => Data::Metrics(Arc::clone(&self.0) as _),
            SourceKind::Logs => Data::Logs(Arc::new(pilothouse_logql::MemoryEntries::default())),
            _ => return None,
        };
        Some(RuleSource { data, sink: Arc::clone(&self.0) as _, written: Arc::clone(&self.0) as _ })
    }
}

fn fixture() -> (Fixture, Arc<Ruler>) {
    let fixture = Fixture::new();
    let ruler = Arc::new(Ruler::new(Parts {
        settings: pilothouse_rules::Settings::default(),
        clock: Arc::new(Stopped),
        store: Arc::new(MemoryState::default()),
        alerts: Arc::new(NoAlerts),
        observer: None,
    }));
    fixture.app().start_rules(Arc::clone(&ruler), Arc::new(Connector(Arc::default())));
    (fixture, ruler)
}

const GROUP: &str = "name: g 1\nrules:\n- record: a:b\n  expr: sum  (vector(1))\n  labels: {n: \"1\"}\n- alert: A\n  expr: vector(1)>0\n  for: 1m\n  labels: {n: \"2\"}\n";

async fn ask(fixture: &Fixture, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let (parts, body) = fixture.send(request).await;
    (parts.status.as_u16(), String::from_utf8(body).unwrap())
}

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000
    }
}

#[tokio::test]
async fn groups_are_set_read_and_deleted() {
    let (fixture, _ruler) = fixture();
    let base = "/prometheus/config/v1/rules";
    assert_eq!(ask(&fixture, "GET", base, "").await, (200, "{}\n".to_owned()));
    let accepted = r#"{"status":"success","data":null,"errorType":"","error":""}"#;
    assert_eq!(ask(&fixture, "POST", &format!("{base}/a%2Fb"), GROUP).await, (202, accepted.to_owned()));
    let printed = "name: g 1\nrules:\n    - record: a:b\n      expr: sum  (vector(1))\n      labels:\n        \"n\": \"1\"\n    - alert: A\n      expr: vector(1)>0\n      for: 1m\n      labels:\n        \"n\": \"2\"\n";
    assert_eq!(ask(&fixture, "GET", &format!("{base}/a%2Fb/g%201"), "").await, (200, printed.to_owned()));
    let (status, listed) = ask(&fixture, "GET", &format!("{base}/a%2Fb"), "").await;
    assert!(status == 200 && listed.starts_with("a/b:\n    - name: g 1\n"), "{listed}");
    for (method, path, expected) in [
        ("GET", "a%2Fb/nope", (404, "group does not exist\n")),
        ("DELETE", "a%2Fb/nope", (404, "group does not exist\n")),
        ("DELETE", "nope", (404, "group namespace does not exist\n")),
        ("DELETE", "a%2Fb/g%201", (202, accepted)),
        ("GET", "a%2Fb/g%201", (404, "group does not exist\n")),
    ] {
        let (status, text) = ask(&fixture, method, &format!("{base}/{path}"), "").await;
        assert_eq!((status, text.as_str()), expected, "{method} {path}");
    }
    let refused = ask(&fixture, "POST", &format!("{base}/ns"), "name: g").await;
    assert_eq!(refused, (400, "invalid rules configuration: rule group 'g' has no rules\n".to_owned()));
    let undecodable = ask(&fixture, "POST", &format!("{base}/ns"), "name: [").await;
    assert_eq!(undecodable, (400, "unable to decoded rule group\n".to_owned()));
}

#[tokio::test]
async fn rules_over_logs_have_the_manners_of_loki() {
    let (fixture, _ruler) = fixture();
    let group = "name: g\nrules:\n- alert: A\n  expr: sum(rate({a=\"b\"}[5m])) > 1\n";
    for base in ["/loki/api/v1/rules", "/api/prom/rules"] {
        assert_eq!(ask(&fixture, "GET", base, "").await, (404, "no rule groups found\n".to_owned()));
        assert_eq!(ask(&fixture, "POST", &format!("{base}/ns"), group).await.0, 202);
        assert_eq!(ask(&fixture, "GET", &format!("{base}/ns/g"), "").await.0, 200);
        assert_eq!(ask(&fixture, "DELETE", &format!("{base}/ns/other"), "").await.0, 202);
        assert_eq!(ask(&fixture, "DELETE", &format!("{base}/ns"), "").await.0, 202);
        let gone = ask(&fixture, "DELETE", &format!("{base}/ns"), "").await;
        assert_eq!(gone, (404, "group namespace does not exist\n".to_owned()));
        assert_eq!(
            ask(&fixture, "GET", &format!("{base}/ns"), "").await,
            (404, "no rule groups found\n".to_owned())
        );
        assert_eq!(ask(&fixture, "POST", &format!("{base}/..%2Fx"), group).await.0, 500);
        let (status, text) = ask(&fixture, "POST", &format!("{base}/ns"), "").await;
        assert_eq!((status, text.as_str()), (400, "group 0: Groupname must not be empty\n"));
    }
}

#[tokio::test]
async fn states_are_listed_filtered_and_paged() {
    let (fixture, _ruler) = fixture();
    let set = |path: &'static str, body: String| {
        let fixture = &fixture;
        async move { assert_eq!(ask(fixture, "POST", path, &body).await.0, 202) }
    };
    set("/prometheus/config/v1/rules/ns", GROUP.to_owned()).await;
    set("/prometheus/config/v1/rules/ns", GROUP.replace("g 1", "g2")).await;
    set(
        "/loki/api/v1/rules/logs",
        "name: l\nrules:\n- alert: L\n  expr: sum(rate({a=\"b\"}[5m]))>1\n".to_owned(),
    )
    .await;
    let get = |path: String| {
        let fixture = &fixture;
        async move {
            let (status, text) = ask(fixture, "GET", &format!("/prometheus/api/v1/rules{path}"), "").await;
            (status, serde_json::from_str::<serde_json::Value>(&text).unwrap())
        }
    };
    let (_, all) = get(String::new()).await;
    let names: Vec<_> =
        all["data"]["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["g 1", "g2", "l"]);
    let group = &all["data"]["groups"][0];
    assert_eq!(
        (group["file"].as_str(), group["interval"].as_f64(), group["limit"].as_i64()),
        (Some("ns"), Some(60.0), Some(0))
    );
    assert_eq!(group["lastEvaluation"], "0001-01-01T00:00:00Z");
    let rules = group["rules"].as_array().unwrap();
    assert_eq!(
        (rules[0]["query"].as_str(), rules[0]["type"].as_str(), rules[0]["health"].as_str()),
        (Some("sum(vector(1))"), Some("recording"), Some("unknown"))
    );
    assert_eq!(
        (rules[1]["state"].as_str(), rules[1]["duration"].as_f64(), rules[1]["query"].as_str()),
        (Some("inactive"), Some(60.0), Some("vector(1) > 0"))
    );
    for (query, groups, rules) in [
        ("?type=alert", 3, 3),
        ("?type=record", 2, 2),
        ("?rule_group[]=g2", 1, 2),
        ("?rule_group=l", 1, 1),
        ("?file[]=ns&rule_name[]=A", 2, 2),
        ("?match[]=%7Bn%3D%221%22%7D", 2, 2),
        ("?file[]=none", 0, 0),
    ] {
        let (_, found) = get(query.to_owned()).await;
        let found = found["data"]["groups"].as_array().unwrap().clone();
        let count: usize = found.iter().map(|g| g["rules"].as_array().unwrap().len()).sum();
        assert_eq!((found.len(), count), (groups, rules), "{query}");
    }
    let (_, first) = get("?group_limit=2".to_owned()).await;
    let token = first["data"]["groupNextToken"].as_str().unwrap().to_owned();
    let (_, second) = get(format!("?group_limit=2&group_next_token={token}")).await;
    assert_eq!(second["data"]["groups"][0]["name"], "l");
    assert!(second["data"]["groupNextToken"].is_null());
    for (query, error) in [
        ("?type=x", "invalid parameter \"type\": not supported value \"x\""),
        ("?group_limit=0", "invalid parameter \"group_limit\": group_limit needs to be greater than 0"),
        (
            "?group_next_token=x",
            "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups",
        ),
        (
            "?group_limit=1&group_next_token=x",
            "invalid parameter \"group_next_token\": invalid group_next_token 'x'. were rule groups changed?",
        ),
        (
            "?exclude_alerts=maybe",
            "invalid parameter \"exclude_alerts\": error converting exclude_alerts: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
    ] {
        let (status, refused) = get(query.to_owned()).await;
        assert_eq!((status, refused["error"].as_str()), (400, Some(error)), "{query}");
    }
}
