use axum::body::Body;
use http::{Method, Request};
use pilothouse_model::limits::Limits;
use pilothouse_wire::exposition::protobuf;
use serde_json::{Value, json};

use super::{Fixture, NOW_S, send};
use crate::Auth;
use crate::routes::{self, Route};

/// Sends a GET and compares status and JSON; `null` in `expected` matches anything.
async fn check(fixture: &Fixture, path: &str, status: u16, expected: Value) {
    let (got_status, body) = fixture.get(path).await;
    let got: Value = serde_json::from_str(&body).unwrap_or_else(|_| Value::String(body.clone()));
    assert_eq!((got_status, &got), (status, &expected), "{path}");
}

fn bad_data(text: &str) -> Value {
    json!({"status": "error", "errorType": "bad_data", "error": text})
}

fn success(data: Value) -> Value {
    json!({"status": "success", "data": data})
}

fn filled() -> Fixture {
    let fixture = Fixture::new();
    let at = (NOW_S - 60) * 1000;
    fixture.memory.add(&[("__name__", "m"), ("a", "1")], [(at, 1.0)]);
    fixture.memory.add(&[("__name__", "m"), ("a", "2"), ("dotted.x", "y")], [(at, 2.0)]);
    fixture.memory.add(&[("__name__", "n")], [(at, 3.0)]);
    fixture
}

/// Tokens are what a page lacks; without them somebody else's may ask and push, and nothing more.
#[tokio::test]
async fn pages_of_others_change_nothing() {
    let open = Fixture::new();
    let locked = Fixture::locked("root");
    for (method, path, allowed) in [
        (Method::GET, "/prometheus/api/v1/query?query=1", true),
        (Method::POST, "/loki/api/v1/push", true),
        (Method::GET, "/alertmanager/api/v2/alerts", true),
        (Method::POST, "/alertmanager/api/v2/alerts", false),
        (Method::GET, "/api/v1/alerts", false),
        (Method::POST, "/-/reload", false),
        (Method::POST, "/prometheus/api/v1/admin/tsdb/delete_series", false),
        (Method::GET, "/cockpit/v1/regions/fr-par/tokens", false),
        (Method::POST, "/api/v1/check/add", false),
    ] {
        let request = |origin: &str| {
            let request = Request::builder().method(&method).uri(path).header("host", "here");
            request.header("origin", origin).body(Body::empty()).unwrap()
        };
        let is_refused = |status: http::StatusCode| status == http::StatusCode::FORBIDDEN;
        let (parts, _) = open.send(request("https://elsewhere.example")).await;
        assert_eq!(is_refused(parts.status), !allowed, "{method} {path}: {}", parts.status);
        let (parts, _) = open.send(request("http://here")).await;
        assert!(!is_refused(parts.status), "{method} {path} from its own page");
        let (parts, _) = locked.send(request("https://elsewhere.example")).await;
        assert!(!is_refused(parts.status), "{method} {path} is asked for a token");
    }
}

#[tokio::test]
async fn every_route_answers_options_and_refuses_other_methods() {
    let fixture = Fixture::new();
    for path in routes::all().flat_map(Route::paths) {
        let path = path.replace("{name}", "x");
        for (method, status) in [(Method::OPTIONS, 204), (Method::TRACE, 405)] {
            let request = Request::builder().method(method).uri(&path).header("Origin", "http://x");
            let (parts, _) = fixture.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(parts.status, status, "{path}");
            assert_eq!(parts.headers["access-control-allow-methods"], "GET, POST, OPTIONS", "{path}");
        }
    }
}

#[tokio::test]
async fn before_the_data_is_there_requests_are_told_to_come_back() {
    let app = Fixture::starting(Limits::default(), Auth::Off);
    for (path, status) in
        [("/ready", 503), ("/prometheus/api/v1/query?query=1", 503), ("/metrics", 200), ("/-/healthy", 200)]
    {
        let (parts, _) = send(&app, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(parts.status, status, "{path}");
    }
}

#[tokio::test]
async fn parameters_are_refused_with_the_words_of_prometheus() {
    let fixture = filled();
    for (path, text) in [
        ("query", "invalid parameter \"query\": 1:1: parse error: no expression found in input"),
        (
            "query?query=m&time=x",
            "invalid parameter \"time\": Invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        (
            "query?query=m&timeout=soon",
            "invalid parameter \"timeout\": cannot parse \"soon\" to a valid duration",
        ),
        ("query?query=m&limit=x", "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"),
        (
            "query_range?query=m&end=2&step=1",
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        (
            "query_range?query=m&start=2&end=1&step=1",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "query_range?query=m&start=1&end=2&step=0",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a \
             positive integer",
        ),
        (
            "query_range?query=m&start=0&end=11001&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
             (?step=XX)",
        ),
        (
            "query_range?query=m[5m]&start=1&end=2&step=1",
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar \
             or instant Vector",
        ),
        ("series", "no match[] parameter provided"),
        (
            "series?match[]={}",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        ("query_exemplars?query=m&start=2&end=1", "end timestamp must not be before start timestamp"),
        ("metadata?limit=x", "limit must be a number"),
        ("status/tsdb?limit=0", "limit must be a positive number"),
    ] {
        check(&fixture, &format!("/prometheus/api/v1/{path}"), 400, bad_data(text)).await;
    }
}

#[tokio::test]
async fn discovery_lists_what_is_there() {
    let fixture = filled();
    let m1 = json!({"__name__": "m", "a": "1"});
    for (path, data) in [
        ("series?match[]=m{a=\"1\"}", json!([m1])),
        ("series?match[]=m{a=\"1\"}&match[]=m{a!=\"2\"}", json!([m1])),
        ("labels", json!(["__name__", "a", "dotted.x"])),
        ("labels?match[]=n", json!(["__name__"])),
        ("label/a/values", json!(["1", "2"])),
        ("label/U__dotted_2e_x/values", json!(["y"])),
        ("label/dotted%2ex/values", json!(["y"])),
        ("label/none/values", json!([])),
        ("label/a/values?start=1&end=2", json!([])),
        ("metadata", json!({})),
        ("query_exemplars?query=m&start=1700000000000&end=1700000001000", json!([])),
        ("status/config", json!({"yaml": "listen: x\n"})),
    ] {
        for root in ["/prometheus/api/v1", "/api/v1"] {
            check(&fixture, &format!("{root}/{}", path.replace('"', "%22")), 200, success(data.clone()))
                .await;
        }
    }
}

#[tokio::test]
async fn a_cut_is_told() {
    let fixture = filled();
    let cut = json!({"status": "success", "data": ["1"], "warnings": ["results truncated due to limit"]});
    check(&fixture, "/api/v1/label/a/values?limit=1", 200, cut).await;
    check(&fixture, "/api/v1/label/a/values?limit=2", 200, success(json!(["1", "2"]))).await;
}

#[tokio::test]
async fn cardinality_has_no_envelope() {
    let fixture = filled();
    let names = json!({"label_values_count_total": 5, "label_names_count": 3, "cardinality":
        [{"label_name": "__name__", "label_values_count": 2}, {"label_name": "a", "label_values_count": 2}]});
    check(&fixture, "/api/v1/cardinality/label_names?limit=2", 200, names).await;
    let values = json!({"series_count_total": 3, "labels": [{"label_name": "a", "label_values_count": 2,
        "series_count": 2, "cardinality": [{"label_value": "1", "series_count": 1}]}]});
    check(&fixture, "/api/v1/cardinality/label_values?label_names[]=a&limit=1", 200, values).await;
    for (path, text) in [
        ("label_values", "'label_names[]' param is required\n"),
        ("label_names?limit=501", "'limit' param cannot be greater than '500'\n"),
        ("active_series", "missing 'selector' parameter\n"),
    ] {
        check(&fixture, &format!("/prometheus/api/v1/cardinality/{path}"), 400, json!(text)).await;
    }
}

#[tokio::test]
async fn pushes_are_sorted_by_what_is_wrong_with_them() {
    let fixture = Fixture::with(Limits { max_body_bytes: 1000, ..Limits::default() }, Auth::Off);
    let protobuf = "application/x-protobuf";
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    for (content_type, encoding, body, status) in [
        (protobuf, "snappy", vec![0], 200),
        (v2, "snappy", vec![0], 204),
        (protobuf, "snappy", vec![], 400),
        (protobuf, "snappy", b"nonsense".to_vec(), 400),
        ("text/plain", "snappy", vec![0], 415),
        (protobuf, "br", vec![0], 415),
        (protobuf, "snappy", vec![0; 1001], 413),
        (v2, "snappy", b"nonsense".to_vec(), 400),
    ] {
        let request = Request::post("/api/v1/push")
            .header("Content-Type", content_type)
            .header("Content-Encoding", encoding)
            .body(Body::from(body))
            .unwrap();
        let (parts, body) = fixture.send(request).await;
        assert_eq!(parts.status, status, "{content_type} {encoding}: {}", String::from_utf8_lossy(&body));
        let counted = parts.headers.contains_key("x-prometheus-remote-write-samples-written");
        assert_eq!(counted, content_type == v2, "{content_type} {status}");
    }
}

#[tokio::test]
async fn text_is_imported_line_by_line() {
    let fixture = Fixture::new();
    let text = "# TYPE t counter\nt{x=\"1\"} 5 1700000000000\nnot a line\n";
    let request = Request::post("/api/v1/import/prometheus").body(Body::from(text)).unwrap();
    let (parts, body) = fixture.send(request).await;
    assert_eq!(parts.status, 400);
    assert!(String::from_utf8(body).unwrap().starts_with("line 3: "));
    check(&fixture, "/api/v1/label/__name__/values", 200, success(json!(["t"]))).await;
}

#[tokio::test]
async fn answers_are_compressed_when_asked() {
    let fixture = filled();
    let request =
        Request::get("/api/v1/labels").header("Accept-Encoding", "gzip").body(Body::empty()).unwrap();
    let (parts, body) = fixture.send(request).await;
    assert_eq!(parts.headers["content-encoding"], "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(body.as_slice()), &mut text).unwrap();
    assert!(text.contains("dotted.x"));
}

#[tokio::test]
async fn federation_gives_the_newest_sample() {
    let fixture = filled();
    let (status, text) = fixture.get("/federate?match[]=n").await;
    assert_eq!((status, text), (200, format!("# TYPE n untyped\nn{{instance=\"\"}} 3 {}000\n", NOW_S - 60)));
    assert_eq!(fixture.get("/prometheus/federate?match[]=%7B").await.0, 400);
    assert_eq!(fixture.get("/federate").await, (200, String::new()));
}

#[tokio::test]
async fn deleting_needs_a_matcher() {
    let fixture = filled();
    let path = "/prometheus/api/v1/admin/tsdb/delete_series";
    let delete = |query: &str| Request::post(format!("{path}{query}")).body(Body::empty()).unwrap();
    assert_eq!(fixture.send(delete("")).await.0.status, 400);
    assert_eq!(fixture.send(delete("?match[]=n")).await.0.status, 204);
    check(&fixture, "/api/v1/label/__name__/values", 200, success(json!(["m"]))).await;
}

#[tokio::test]
async fn own_metrics_follow_the_accept_header() {
    let fixture = filled();
    let get = |accept: &str| Request::get("/metrics").header("Accept", accept).body(Body::empty()).unwrap();
    for (accept, content_type, line) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "pilothouse_memory_series 3"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF",
        ),
    ] {
        let (parts, body) = fixture.send(get(accept)).await;
        assert_eq!(parts.headers["content-type"], content_type);
        let text = String::from_utf8(body).unwrap();
        assert!(text.lines().any(|l| l == line), "{accept}");
        // In OpenMetrics the `_total` of a counter is not part of its family's name.
        let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
        let mut families: Vec<&str> = types.collect();
        families.sort_unstable();
        let doubled: Vec<_> = families.windows(2).filter(|w| w[0] == w[1]).collect();
        assert!(doubled.is_empty(), "{accept}: {doubled:?}");
    }
    let protobuf =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let (parts, body) = fixture.send(get(protobuf)).await;
    assert_eq!(parts.headers["content-type"], protobuf::CONTENT_TYPE);
    let read = protobuf::parse(&body, 0, protobuf::HistogramForms::default(), &Limits::default()).unwrap();
    let named = |name: &str| read.batch.metadata.iter().any(|m| m.family == name);
    assert!(named("pilothouse_memory_series") && named("pilothouse_query_duration_seconds"));
}

#[derive(Debug)]
struct Reloads(Result<Vec<String>, String>);

impl crate::Reload for Reloads {
    fn reload(&self) -> Result<Vec<String>, String> {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_reload_tells_what_waits_and_what_failed() {
    for (outcome, status, text) in [
        (Ok(vec![]), 200, ""),
        (Ok(vec!["listen".to_owned()]), 200, "reloaded; a restart is needed for: listen\n"),
        (
            Err("c.yaml:2: a: is not a key".to_owned()),
            500,
            "failed to reload config: c.yaml:2: a: is not a key\n",
        ),
    ] {
        let fixture = Fixture::new();
        fixture.app.start_reload(std::sync::Arc::new(Reloads(outcome)));
        let request = Request::builder().method(Method::POST).uri("/-/reload").body(Body::empty()).unwrap();
        let (parts, body) = fixture.send(request).await;
        assert_eq!((parts.status.as_u16(), String::from_utf8(body).unwrap().as_str()), (status, text));
    }
}
