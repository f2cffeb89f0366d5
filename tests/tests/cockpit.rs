//! Tokens, data sources and the audit trail of the running server, as an operator meets them.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Answer, Frame, Server, WebSocket, push_body, series};
use serde_json::{Value, json};

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";
const PROJECT: &str = "11111111-2222-4333-8444-555555555555";
const REGION: &str = "/cockpit/v1/regions/fr-par";

/// A server that wants tokens, and whoever asks it.
struct Cockpit(Server);

impl Cockpit {
    fn start(directory: &Path, flags: &[&str]) -> Self {
        let all = [&["--auth", "required", "--root-token", ROOT], flags].concat();
        Self(Server::start(directory, &all))
    }

    fn manage(&self, method: &str, path: &str, body: &Value) -> Answer {
        let path = if path.starts_with("/cockpit") || path.starts_with("/pilothouse") {
            path.to_owned()
        } else {
            format!("{REGION}{path}")
        };
        self.0.send(method, &path, &[("X-Auth-Token", ROOT)], body.to_string().as_bytes())
    }

    fn create(&self, path: &str, body: &Value) -> Value {
        let answer = self.manage("POST", path, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    fn token(&self, scopes: &[&str]) -> (String, String) {
        let made =
            self.create("/tokens", &json!({"project_id": PROJECT, "name": "t", "token_scopes": scopes}));
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("id"), text("secret_key"))
    }

    fn source(&self, kind: &str) -> Value {
        self.create("/data-sources", &json!({"project_id": PROJECT, "name": kind, "type": kind}))
    }

    fn get(&self, token: &str, path: &str) -> Answer {
        self.0.send("GET", path, &[("X-Token", token)], b"")
    }

    fn push(&self, token: &str, root: &str, name: &str, labels: &[(&str, &str)], value: f64) -> Answer {
        let labels = [&[("__name__", name)], labels].concat();
        let body = push_body(&[series(&labels, &[(now_ms(), value)])]);
        let headers =
            [("X-Token", token), ("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
        self.0.send("POST", &format!("{root}/api/v1/push"), &headers, &body)
    }

    fn push_line(&self, token: &str, root: &str, labels: &Value, line: &str) -> Answer {
        let at = (now_ms() * 1_000_000).to_string();
        let body = json!({"streams": [{"stream": labels, "values": [[at, line]]}]}).to_string();
        let headers = [("X-Token", token), ("Content-Type", "application/json")];
        self.0.send("POST", &format!("{root}/loki/api/v1/push"), &headers, body.as_bytes())
    }

    fn value(&self, token: &str, root: &str, query: &str) -> Option<String> {
        let answer = self.get(token, &format!("{root}/prometheus/api/v1/query?query={query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    }

    fn lines(&self, token: &str, root: &str, query: &str) -> Vec<String> {
        let start = (now_ms() - 1_800_000) * 1_000_000;
        let path = format!("{root}/loki/api/v1/query_range?query={query}&start={start}&limit=50");
        let answer = self.get(token, &path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let result = answer.json()["data"]["result"].clone();
        let streams = result.as_array().unwrap().iter();
        let values = streams.flat_map(|s| s["values"].as_array().unwrap().clone());
        values.map(|v| v[1].as_str().unwrap().to_owned()).collect()
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

/// What an operator's script does: a token for an hour of looking around, then its end.
#[test]
fn an_operator_looks_around_with_a_token_of_his_own() {
    let directory = tempfile::tempdir().unwrap();
    let server = Cockpit::start(directory.path(), &[]);
    let (_, writer) = server.token(&["write_only_logs", "write_only_metrics"]);
    let service = json!({"resource_name": "shop"});
    for word in ["hello", "again"] {
        let line = json!({"message": word, "level": "info"}).to_string();
        assert_eq!(server.push_line(&writer, "", &service, &line).status, 204);
    }
    let pushed = server.push(&writer, "", "requests_per_second", &[("resource_name", "shop")], 12.5);
    assert_eq!(pushed.status, 200);

    let (id, token) = server.token(&["read_only_logs", "read_only_metrics"]);
    let lines = server.lines(&token, "", "%7Bresource_name%3D%22shop%22%7D");
    let message = |line: &String| serde_json::from_str::<Value>(line).unwrap()["message"].clone();
    let mut messages: Vec<Value> = lines.iter().map(message).collect();
    messages.sort_by_key(Value::to_string);
    assert_eq!(messages, ["again", "hello"]);
    let labels = server.get(&token, "/loki/api/v1/labels").json()["data"].clone();
    assert!(texts(&labels).contains(&"resource_name".to_owned()));
    let values = server.get(&token, "/loki/api/v1/label/resource_name/values").json()["data"].clone();
    assert_eq!(texts(&values), ["shop"]);
    let query = "requests_per_second%7Bresource_name%3D%22shop%22%7D";
    assert_eq!(server.value(&token, "", query).as_deref(), Some("12.5"));
    let names = server.get(&token, "/prometheus/api/v1/label/__name__/values").json()["data"].clone();
    assert!(texts(&names).contains(&"requests_per_second".to_owned()));

    let sources = server.manage("GET", "/data-sources", &Value::Null).json();
    for source in sources["data_sources"].as_array().unwrap() {
        assert!(source["name"].is_string() && source["type"].is_string(), "{source}");
        assert_eq!(source["synchronized_with_grafana"], false);
    }
    // What he may not, and that it is over when he says so.
    assert_eq!(server.push(&token, "", "m", &[], 1.0).status, 403);
    assert_eq!(server.manage("DELETE", &format!("/tokens/{id}"), &json!({})).status, 204);
    assert_eq!(server.get(&token, "/loki/api/v1/labels").status, 401);
    let usage = server.manage("GET", &format!("/usage-overview?project_id={PROJECT}"), &Value::Null).json();
    assert_eq!(usage["external_metrics_usage"]["quantity_over_interval"], 1);
    assert!(usage["external_logs_usage"]["quantity_over_interval"].as_u64() > Some(0));
}

#[test]
fn data_of_two_sources_never_mixes_and_goes_with_its_source() {
    let directory = tempfile::tempdir().unwrap();
    let server = Cockpit::start(directory.path(), &[]);
    let (metrics, logs) = (server.source("metrics"), server.source("logs"));
    let id = |source: &Value| source["id"].as_str().unwrap().to_owned();
    let root = |source: &Value| format!("/ds/{}", id(source));
    assert!(metrics["url"].as_str().unwrap().ends_with(&root(&metrics)));
    let all = ["read_only_metrics", "write_only_metrics", "read_only_logs", "write_only_logs"];
    let (_, token) = server.token(&all);
    assert_eq!(server.push(&token, &root(&metrics), "own", &[], 3.0).status, 200);
    assert_eq!(server.push(&token, "", "shared", &[], 4.0).status, 200);
    assert_eq!(server.value(&token, &root(&metrics), "own").as_deref(), Some("3"));
    assert_eq!(server.value(&token, &root(&metrics), "shared"), None);
    assert_eq!(server.value(&token, "", "own"), None);
    assert_eq!(server.push_line(&token, &root(&logs), &json!({"app": "own"}), "line").status, 204);
    assert_eq!(server.lines(&token, &root(&logs), "%7Bapp%3D%22own%22%7D"), ["line"]);
    assert_eq!(server.lines(&token, "", "%7Bapp%3D%22own%22%7D"), [""; 0]);
    // A source has the paths of its type.
    assert_eq!(server.get(&token, &format!("{}/loki/api/v1/labels", root(&metrics))).status, 404);
    assert_eq!(server.push(&token, &root(&logs), "own", &[], 1.0).status, 404);

    let path = directory.path().join("metrics").join(id(&metrics));
    assert!(path.exists());
    assert_eq!(server.manage("DELETE", &format!("/data-sources/{}", id(&metrics)), &Value::Null).status, 204);
    assert!(!path.exists());
    assert_eq!(server.push(&token, &root(&metrics), "own", &[], 3.0).status, 404);
    assert!(server.0.stop().success());
    // What stays is there again.
    let server = Cockpit::start(directory.path(), &[]);
    assert_eq!(server.lines(&token, &root(&logs), "%7Bapp%3D%22own%22%7D"), ["line"]);
}

#[test]
fn the_servers_limits_count_all_sources_and_a_source_may_have_lower_ones() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--max-active-series", "6", "--max-log-streams", "4"];
    let server = Cockpit::start(directory.path(), &flags);
    let body = json!({"project_id": PROJECT, "name": "m", "type": "metrics", "max_active_series": 2});
    let metrics = server.create("/data-sources", &body);
    let logs = server.source("logs");
    let root = |source: &Value| format!("/ds/{}", source["id"].as_str().unwrap());
    let push = |root: &str, n: u32| server.push(ROOT, root, "m", &[("n", &n.to_string())], 1.0);
    let statuses = |root: &str, numbers: std::ops::Range<u32>| -> Vec<u16> {
        numbers.map(|n| push(root, n).status).collect()
    };
    assert_eq!(statuses(&root(&metrics), 0..3), [200, 200, 400]);
    assert!(push(&root(&metrics), 9).text().contains("per-user series limit of 2 exceeded"));
    assert_eq!(statuses("", 0..5), [200, 200, 200, 200, 400]);
    assert!(push("", 9).text().contains("err-mimir-max-series-per-user"));
    let line = |root: &str, n: u32| server.push_line(ROOT, root, &json!({"n": n.to_string()}), "x").status;
    assert_eq!([line(&root(&logs), 0), line(&root(&logs), 1)], [204, 204]);
    assert_eq!([line("", 0), line("", 1), line("", 2)], [204, 204, 429]);
    // Known ones go on.
    assert_eq!((push("", 0).status, line("", 0)), (200, 204));
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let directory = tempfile::tempdir().unwrap();
    let mut tokens: Vec<(String, String)> = Vec::new();
    let (mut deleted, mut sources): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for round in 0..4 {
        let server = Cockpit::start(directory.path(), &[]);
        for (id, secret) in &tokens {
            assert_eq!(server.manage("GET", &format!("/tokens/{id}"), &Value::Null).status, 200, "{round}");
            assert_eq!(server.get(secret, "/prometheus/api/v1/labels").status, 200);
        }
        for secret in &deleted {
            assert_eq!(server.get(secret, "/prometheus/api/v1/labels").status, 401);
        }
        for id in &sources {
            assert_eq!(server.manage("GET", &format!("/data-sources/{id}"), &Value::Null).status, 200);
        }
        let trail = server.manage("GET", "/pilothouse/v1/audit?page_size=100", &Value::Null).json();
        let count = |action: &str, resource: &str| {
            let entries = trail["entries"].as_array().unwrap().iter();
            entries.filter(|e| e["action"] == action && e["resource"] == resource).count()
        };
        assert_eq!(count("create", "token"), tokens.len() + deleted.len());
        assert_eq!(count("delete", "token"), deleted.len());
        for _ in 0..3 {
            tokens.push(server.token(&["read_only_metrics"]));
            sources.push(server.source("metrics")["id"].as_str().unwrap().to_owned());
        }
        let (id, secret) = tokens.remove(0);
        assert_eq!(server.manage("DELETE", &format!("/tokens/{id}"), &Value::Null).status, 204);
        deleted.push(secret);
        server.0.kill();
    }
}

#[test]
fn the_audit_trail_is_in_the_servers_own_logs() {
    let directory = tempfile::tempdir().unwrap();
    let server = Cockpit::start(directory.path(), &[]);
    let (id, _) = server.token(&[]);
    let list = server.manage("GET", "/data-sources?include_internal=true", &Value::Null).json();
    let all = list["data_sources"].as_array().unwrap();
    let internal = all.iter().find(|s| s["name"] == "pilothouse").unwrap();
    let root = format!("/ds/{}", internal["id"].as_str().unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    let told = |line: &String| {
        let entry: Value = serde_json::from_str(line).unwrap();
        entry["resource_id"] == id && entry["action"] == "create" && entry["actor"] == "root"
    };
    while !server.lines(ROOT, &root, "%7Bkind%3D%22audit%22%7D").iter().any(told) {
        assert!(Instant::now() < deadline, "no line tells of the token");
        sleep(Duration::from_millis(50));
    }
    let hidden = server.manage("GET", "/data-sources", &Value::Null).json();
    assert_eq!(hidden["total_count"], 2);
    assert_eq!(server.lines(ROOT, "", "%7Bkind%3D%22audit%22%7D"), [""; 0]);
    // Who follows it is told of what is changed from now on.
    let mut socket = server.0.follow_logs_below(&root, "{kind=\"audit\"}", &[("X-Token", ROOT)]);
    let (id, _) = server.token(&[]);
    while !socket.next_text().contains(&id) {}
}

/// The code and the reason that the server closes a connection with.
fn closing(mut socket: WebSocket) -> (u16, String) {
    loop {
        if let Frame::Close(code, reason) = socket.read_frame() {
            return (code, reason);
        }
    }
}

#[test]
fn open_tails_end_with_their_token() {
    let directory = tempfile::tempdir().unwrap();
    let server = Cockpit::start(directory.path(), &[]);
    let source = server.source("logs");
    let root = format!("/ds/{}", source["id"].as_str().unwrap());
    let (id, token) = server.token(&["read_only_logs"]);
    let (_, other) = server.token(&["read_only_logs", "write_only_logs"]);
    let basic = format!("Basic {}", base64(&format!("anybody:{token}")));
    let bearer = format!("Bearer {token}");
    let forms = [
        ("X-Token", token.as_str()),
        ("Authorization", bearer.as_str()),
        ("Authorization", basic.as_str()),
        ("X-Scope-OrgID", token.as_str()),
    ];
    let follow = |root: &str, form| server.0.follow_logs_below(root, "{app=\"x\"}", &[form]);
    let open: Vec<WebSocket> =
        forms.iter().flat_map(|form| [follow("", *form), follow(&root, *form)]).collect();
    let mut stays = follow("", ("X-Token", other.as_str()));
    assert_eq!(server.manage("DELETE", &format!("/tokens/{id}"), &Value::Null).status, 204);
    let began = Instant::now();
    for socket in open {
        assert_eq!(closing(socket).0, 1008);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(server.push_line(&other, "", &json!({"app": "x"}), "told").status, 204);
    assert!(stays.next_text().contains("told"));
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let group = chunk.iter().enumerate().fold(0u32, |g, (i, b)| g | u32::from(*b) << (16 - 8 * i));
        let digit = |i: usize| char::from(DIGITS[(group >> (18 - 6 * i)) as usize & 63]);
        (0..4).for_each(|i| out.push(if i <= chunk.len() { digit(i) } else { '=' }));
    }
    out
}

#[test]
fn it_can_be_told_who_made_series_and_streams() {
    let directory = tempfile::tempdir().unwrap();
    let server = Cockpit::start(directory.path(), &[]);
    let (many, writer) = server.token(&["write_only_logs", "write_only_metrics"]);
    let (few, other) = server.token(&["write_only_logs"]);
    for i in 0..5 {
        let (labels, pod) = (json!({"app": "x", "pod": format!("p{i}")}), format!("p{i}"));
        assert_eq!(server.push_line(&writer, "", &labels, "x").status, 204);
        assert_eq!(server.push_line(&other, "", &labels, "y").status, 204);
        assert_eq!(server.push(&writer, "", "m", &[("pod", &pod)], 1.0).status, 200);
        assert_eq!(server.push(&writer, "", "m", &[("pod", &pod)], 2.0).status, 200);
    }
    assert_eq!(server.push_line(&other, "", &json!({"app": "y"}), "y").status, 204);
    let uses = server.manage("GET", "/pilothouse/v1/tokens/usage", &Value::Null).json();
    let of = |id: &str| {
        let token = uses["tokens"].as_array().unwrap().iter().find(|t| t["id"] == id).unwrap().clone();
        (token["series_created"].as_u64().unwrap(), token["streams_created"].as_u64().unwrap())
    };
    assert_eq!((of(&many), of(&few)), ((5, 5), (0, 1)));

    let (_, reader) = server.token(&["read_only_logs"]);
    let root = "/loki/api/v1/cardinality";
    let names = server.get(&reader, &format!("{root}/label_names?limit=2")).json();
    assert_eq!(
        names,
        json!({
            "label_values_count_total": 9, "label_names_count": 3,
            "cardinality": [
                {"label_name": "pod", "label_values_count": 5},
                {"label_name": "app", "label_values_count": 2},
            ],
        })
    );
    let path = format!("{root}/label_values?label_names[]=app&selector=%7Bapp%3D~%22.%2B%22%7D");
    assert_eq!(
        server.get(&reader, &path).json(),
        json!({
            "series_count_total": 6,
            "labels": [{
                "label_name": "app", "label_values_count": 2, "series_count": 6,
                "cardinality": [
                    {"label_value": "x", "series_count": 5},
                    {"label_value": "y", "series_count": 1},
                ],
            }],
        })
    );
    let path = format!("{root}/active_series?selector=%7Bapp%3D%22y%22%7D");
    assert_eq!(server.get(&reader, &path).json(), json!({"data": [{"app": "y", "service_name": "y"}]}));
    assert_eq!(server.get(&reader, &format!("{root}/active_series")).status, 400);
    assert_eq!(server.get(&writer, &path).status, 403);
}
