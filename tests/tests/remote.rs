//! Data sources whose data another system keeps: what is pushed here is there, what is asked here
//! is answered there, and tokens, limits, rules, alerts and checks are served here.
//!
//! The other system is a second server of our own. Where `PILOTHOUSE_TEST_PROMETHEUS`,
//! `PILOTHOUSE_TEST_VICTORIA_METRICS` or `PILOTHOUSE_TEST_LOKI` name a program, what goes through is
//! tried with that one too.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::any::Any;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{
    Answer, Frame, Receiver, Server, binary, escape, free_address, push_body, request, series,
};
use serde_json::{Value, json};

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";
const REGION: &str = "/cockpit/v1/regions/fr-par";
const LONGEST: Duration = Duration::from_secs(30);

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONGEST;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return found;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come");
}

// ---- the other system ----

/// A foreign program; killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whoever keeps the data.
struct Far {
    address: SocketAddr,
    /// Behind the address.
    write_path: &'static str,
    query_path: &'static str,
    /// What it lets in, if it asks for something.
    token: Option<String>,
    /// Ends when dropped.
    _running: Box<dyn Any>,
}

impl Far {
    fn own(directory: &Path, write_path: &'static str, query_path: &'static str) -> Self {
        let server = locked(free_address(), directory);
        let scopes = ["read_only_metrics", "write_only_metrics", "read_only_logs", "write_only_logs"];
        let token = token(&server, &scopes);
        Self {
            address: server.address,
            write_path,
            query_path,
            token: Some(token),
            _running: Box::new(server),
        }
    }

    fn metrics(directory: &Path) -> Self {
        Self::own(directory, "/api/v1/push", "/prometheus")
    }

    fn logs(directory: &Path) -> Self {
        Self::own(directory, "/loki/api/v1/push", "")
    }

    fn foreign(program: Command, address: SocketAddr, write_path: &'static str, ready: &str) -> Self {
        let mut program = program;
        let child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let running = Box::new(Program(child));
        let is_ready = || request(address, "GET", ready, &[], b"").is_ok_and(|a| a.status == 200);
        until("the other system", || is_ready().then_some(()));
        Self { address, write_path, query_path: "", token: None, _running: running }
    }

    fn prometheus(program: &str, directory: &Path) -> Self {
        let (address, config) = (free_address(), directory.join("prometheus.yml"));
        std::fs::write(&config, "global: {scrape_interval: 1h}\n").unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage"]);
        Self::foreign(command, address, "/api/v1/write", "/-/ready")
    }

    fn victoria_metrics(program: &str, directory: &Path) -> Self {
        let address = free_address();
        let mut command = Command::new(program);
        command
            .arg(format!("-storageDataPath={}", directory.display()))
            .arg(format!("-httpListenAddr={address}"))
            .args(["-search.latencyOffset=0s", "-inmemoryDataFlushInterval=1s"]);
        Self::foreign(command, address, "/api/v1/write", "/health")
    }

    fn loki(program: &str, directory: &Path) -> Self {
        let (address, config) = (free_address(), directory.join("loki.yaml"));
        let (port, grpc, at) = (address.port(), free_address().port(), directory.display());
        let text = format!(
            "auth_enabled: false\nserver: {{http_listen_address: 127.0.0.1, http_listen_port: {port}, grpc_listen_port: {grpc}}}\n\
             common: {{path_prefix: {at}, replication_factor: 1, ring: {{kvstore: {{store: inmemory}}, instance_addr: 127.0.0.1}}, \
             storage: {{filesystem: {{chunks_directory: {at}/chunks, rules_directory: {at}/rules}}}}}}\n\
             schema_config: {{configs: [{{from: 2020-01-01, store: tsdb, object_store: filesystem, schema: v13, \
             index: {{prefix: i_, period: 24h}}}}]}}\n\
             limits_config: {{volume_enabled: true, reject_old_samples: false}}\n\
             analytics: {{reporting_enabled: false}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg(format!("-config.file={}", config.display()));
        Self::foreign(command, address, "/loki/api/v1/push", "/ready")
    }

    fn settings(&self) -> Value {
        let address = self.address;
        let mut settings = json!({
            "write_url": format!("http://{address}{}", self.write_path),
            "query_url": format!("http://{address}{}", self.query_path),
            "timeout": "5s",
        });
        if let Some(token) = &self.token {
            settings["http_config"] = json!({"authorization": {"credentials": token}});
        }
        settings
    }

    /// Asks it directly.
    fn get(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token.as_deref().unwrap_or_default());
        request(self.address, "GET", path, &[("Authorization", &bearer)], b"").unwrap()
    }
}

// ---- this side ----

fn locked(address: SocketAddr, directory: &Path) -> Server {
    Server::start_at(address, directory, &["--auth", "required", "--root-token", ROOT])
}

fn manage(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    server.send(method, &format!("{REGION}{path}"), &[("X-Auth-Token", ROOT)], body.to_string().as_bytes())
}

fn good(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn token(server: &Server, scopes: &[&str]) -> String {
    let made = good(manage(server, "POST", "/tokens", &json!({"name": "t", "token_scopes": scopes})));
    made["secret_key"].as_str().unwrap().to_owned()
}

/// A new data source over there; its root here.
fn source(server: &Server, kind: &str, settings: &Value) -> String {
    let body = json!({"name": kind, "type": kind, "backend": "remote", "remote": settings});
    let made = good(manage(server, "POST", "/data-sources", &body));
    assert_eq!(made["backend"], "remote");
    format!("/ds/{}", made["id"].as_str().unwrap())
}

/// The data source behind the shared root.
fn default_source(server: &Server, kind: &str) -> String {
    let path = format!("/data-sources?origin=scaleway&types={kind}");
    let listed = good(manage(server, "GET", &path, &Value::Null));
    listed["data_sources"][0]["id"].as_str().unwrap().to_owned()
}

fn push(server: &Server, token: &str, root: &str, name: &str, samples: &[(i64, f64)]) -> Answer {
    let body = push_body(&[series(&[("__name__", name), ("job", "shop")], samples)]);
    let headers =
        [("X-Token", token), ("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
    server.send("POST", &format!("{root}/api/v1/push"), &headers, &body)
}

fn push_lines(server: &Server, token: &str, root: &str, entries: &[(i64, &str)]) -> Answer {
    let values: Vec<Value> =
        entries.iter().map(|(t, line)| json!([t.to_string(), line, {"trace": "t1"}])).collect();
    let body = json!({"streams": [{"stream": {"app": "shop"}, "values": values}]}).to_string();
    let headers = [("X-Token", token), ("Content-Type", "application/json")];
    server.send("POST", &format!("{root}/loki/api/v1/push"), &headers, body.as_bytes())
}

fn get(server: &Server, token: &str, path: &str) -> Answer {
    server.send("GET", path, &[("X-Token", token)], b"")
}

fn first_value(answer: &Answer) -> Option<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
}

// ---- scenarios ----

/// What is pushed here is there, and what is asked here is answered there, but limits and scopes
/// are this server's.
fn metrics_go_through(far: &Far) {
    let directory = tempfile::tempdir().unwrap();
    let here = locked(free_address(), directory.path());
    let reader = token(&here, &["read_only_metrics"]);
    let writer = token(&here, &["write_only_metrics"]);
    let mut settings = far.settings();
    settings["protocol"] = "1.0".into();
    let root = source(&here, "metrics", &settings);
    let now = now_ms();

    let pushed = push(&here, &writer, &root, "sold_total", &[(now - 2_000, 1.0), (now - 1_000, 7.5)]);
    assert_eq!((pushed.status, pushed.text()), (200, String::new()));
    let query = format!("query={}&time={}", escape("sum(sold_total)"), now / 1000);
    let value = until("the sample", || {
        first_value(&get(&here, &reader, &format!("{root}/prometheus/api/v1/query?{query}")))
    });
    assert_eq!(value, "7.5");
    assert_eq!(
        first_value(&far.get(&format!("{}/api/v1/query?{query}", far.query_path))).as_deref(),
        Some("7.5")
    );

    let form = format!("query={}&start={}&end={}&step=1", escape("sold_total"), now / 1000 - 60, now / 1000);
    let headers = [("X-Token", reader.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let ranged =
        here.send("POST", &format!("{root}/prometheus/api/v1/query_range"), &headers, form.as_bytes());
    assert_eq!(good(ranged)["data"]["result"][0]["metric"]["job"], "shop");
    let values = get(&here, &reader, &format!("{root}/api/v1/label/job/values?match[]=sold_total"));
    assert_eq!(good(values)["data"], json!(["shop"]));
    let listed = get(&here, &reader, &format!("{root}/api/v1/series?match[]=sold_total"));
    assert_eq!(good(listed)["data"][0]["__name__"], "sold_total");

    let refused = |answer: Answer, status: u16, text: &str| {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(text), "{}", answer.text());
    };
    refused(push(&here, &reader, &root, "m", &[(now, 1.0)]), 403, "lacks the scope");
    refused(get(&here, &writer, &format!("{root}/api/v1/labels")), 403, "lacks the scope");
    let many = format!("{root}/api/v1/query_range?query=m&start=0&end=90000&step=1");
    refused(get(&here, &reader, &many), 400, "exceeded maximum resolution");
    // A fault of the query is told in the words of who answers.
    let wrong = get(&here, &reader, &format!("{root}/api/v1/query?query={}", escape("sum(")));
    assert!(matches!(wrong.status, 400 | 422), "{}", wrong.text());
    assert_eq!(wrong.json()["status"], "error");
    // The good part goes there, the other is refused here.
    let long = "x".repeat(2_100);
    let all = [
        series(&[("__name__", "kept_total")], &[(now, 3.0)]),
        series(&[("__name__", "m"), ("long", &long)], &[(now, 1.0)]),
    ];
    let headers = [
        ("X-Token", writer.as_str()),
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
    ];
    let partly = here.send("POST", &format!("{root}/api/v1/push"), &headers, &push_body(&all));
    refused(partly, 400, "err-mimir-max-length-label-value");
    let kept = format!("{root}/api/v1/query?query=kept_total&time={}", now as f64 / 1000.0);
    assert_eq!(until("the good part", || first_value(&get(&here, &reader, &kept))), "3");
    // What few systems have is counted here.
    let census = get(&here, &reader, &format!("{root}/api/v1/cardinality/label_names"));
    assert!(good(census)["label_names_count"].as_u64().unwrap() >= 2);
    let federated = get(&here, &reader, &format!("{root}/federate?match[]=kept_total"));
    assert!(federated.text().contains("kept_total{"), "{}", federated.text());
}

/// The second form of remote write carries the same.
fn second_protocol(far: &Far) {
    let directory = tempfile::tempdir().unwrap();
    let here = locked(free_address(), directory.path());
    let mut settings = far.settings();
    settings["protocol"] = "2.0".into();
    let root = source(&here, "metrics", &settings);
    let text = "# TYPE sent_total counter\n# HELP sent_total How many.\nsent_total{job=\"shop\"} 4\n";
    let path = format!("{root}/api/v1/import/prometheus");
    let sent = here.send("POST", &path, &[("X-Token", ROOT)], text.as_bytes());
    assert_eq!(sent.status, 204, "{}", sent.text());
    let query = format!("{root}/api/v1/query?query=sent_total");
    assert_eq!(until("the sample", || first_value(&get(&here, ROOT, &query))), "4");
}

fn logs_go_through(far: &Far) {
    let directory = tempfile::tempdir().unwrap();
    let here = locked(free_address(), directory.path());
    let (reader, writer) = (token(&here, &["read_only_logs"]), token(&here, &["write_only_logs"]));
    let root = source(&here, "logs", &far.settings());
    let now = now_ms() * 1_000_000;
    let pushed = push_lines(&here, &writer, &root, &[(now - 2, "level=error first"), (now - 1, "second")]);
    assert_eq!(pushed.status, 204, "{}", pushed.text());
    assert_eq!(push_lines(&here, &reader, &root, &[(now, "x")]).status, 403);

    let query = format!("query={}&direction=forward", escape("{app=\"shop\"} |~ \"first|second\""));
    let lines = |answer: &Answer| -> Vec<String> {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let streams = answer.json()["data"]["result"].as_array().unwrap().clone();
        let mut entries: Vec<(String, String)> = streams
            .iter()
            .flat_map(|stream| stream["values"].as_array().unwrap())
            .map(|value| (value[0].to_string(), value[1].as_str().unwrap().to_owned()))
            .collect();
        entries.sort();
        entries.into_iter().map(|(_, line)| line).collect()
    };
    let path = format!("{root}/loki/api/v1/query_range?{query}");
    let read = until("both lines", || {
        let read = lines(&get(&here, &reader, &path));
        (read.len() == 2).then_some(read)
    });
    assert_eq!(read, ["level=error first", "second"]);
    assert_eq!(lines(&far.get(&format!("/loki/api/v1/query_range?{query}"))), read);
    // What is added here to a line is there: the level, and the name of the service.
    let level = escape(
        "sum(count_over_time({service_name=\"shop\"} | detected_level=\"error\" | trace=\"t1\" [1h]))",
    );
    let counted = first_value(&get(&here, &reader, &format!("{root}/loki/api/v1/query?query={level}")));
    assert_eq!(counted.as_deref(), Some("1"));
    let labels = good(get(&here, &reader, &format!("{root}/loki/api/v1/label/app/values")));
    assert_eq!(labels["data"], json!(["shop"]));
    for path in ["series?match[]={app=\"shop\"}", "index/stats?query={app=\"shop\"}", "detected_labels"] {
        let path = format!(
            "{root}/loki/api/v1/{}",
            path.replace('"', "%22").replace('{', "%7B").replace('}', "%7D")
        );
        assert_eq!(get(&here, &reader, &path).status, 200, "{path}");
    }
    let census = good(get(&here, &reader, &format!("{root}/loki/api/v1/cardinality/label_names")));
    assert!(census["label_names_count"].as_u64().unwrap() >= 2);
    assert_eq!(get(&here, &writer, &path).status, 403);
}

#[test]
fn metrics_are_kept_and_answered_by_another_server() {
    let directory = tempfile::tempdir().unwrap();
    metrics_go_through(&Far::metrics(directory.path()));
    second_protocol(&Far::metrics(&directory.path().join("second")));
}

#[test]
fn logs_are_kept_and_answered_by_another_server() {
    let directory = tempfile::tempdir().unwrap();
    logs_go_through(&Far::logs(directory.path()));
}

/// Those that are named by the environment; none elsewhere.
#[test]
fn foreign_systems_keep_and_answer_as_well() {
    let named = |name: &str| std::env::var(name).ok().filter(|program| !program.is_empty());
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let mut metrics = Vec::new();
    if let Some(program) = named("PILOTHOUSE_TEST_PROMETHEUS") {
        metrics.push(Far::prometheus(&program, &at("prometheus")));
    }
    if let Some(program) = named("PILOTHOUSE_TEST_VICTORIA_METRICS") {
        metrics.push(Far::victoria_metrics(&program, &at("victoria-metrics")));
    }
    metrics.iter().for_each(metrics_go_through);
    let Some(program) = named("PILOTHOUSE_TEST_LOKI") else { return };
    let logs = Far::loki(&program, &at("loki"));
    logs_go_through(&logs);
    a_tail_goes_through(&logs);
    metrics.iter().for_each(|metrics| what_is_written_here_goes_through(metrics, &logs));
}

/// While the other system is away a sender is told to come again, and loses nothing by it; this
/// server goes on.
#[test]
fn what_is_refused_for_now_comes_again_and_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let (near, far) = (directory.path().join("near"), directory.path().join("far"));
    let address = free_address();
    let there = Server::start_at(address, &far, &[]);
    let here = locked(free_address(), &near);
    let settings = |write: &str, query: &str| json!({"write_url": format!("http://{address}{write}"), "query_url": format!("http://{address}{query}"), "timeout": "5s"});
    let metrics = source(&here, "metrics", &settings("/api/v1/push", "/prometheus"));
    let logs = source(&here, "logs", &settings("/loki/api/v1/push", ""));
    let now = now_ms();
    let at = |i: i64| now - 10_000 + i;
    assert_eq!(push(&here, ROOT, &metrics, "m", &[(at(1), 1.0)]).status, 200);
    there.kill();

    let away = |answer: Answer| {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some_and(|s| s.parse::<u64>().unwrap() > 0));
        let text = answer.text();
        assert!(text.contains("the remote store cannot do this now"), "{text}");
        assert!(!text.contains(&address.port().to_string()), "it says where that is: {text}");
    };
    away(push(&here, ROOT, &metrics, "m", &[(at(2), 2.0)]));
    away(push_lines(&here, ROOT, &logs, &[(at(2) * 1_000_000, "late")]));
    away(get(&here, ROOT, &format!("{metrics}/api/v1/query?query=m")));
    away(get(&here, ROOT, &format!("{logs}/loki/api/v1/labels")));
    assert_eq!(here.get("/ready").status, 200);
    let up = |server: &Server| {
        let text = get(server, ROOT, "/metrics").text();
        let of = |value: &str| {
            text.lines().filter(|l| l.starts_with("pilothouse_remote_up{") && l.ends_with(value)).count()
        };
        (of(" 0"), of(" 1"))
    };
    assert_eq!(up(&here), (2, 0));

    let there = Server::start_at(address, &far, &[]);
    assert_eq!(push(&here, ROOT, &metrics, "m", &[(at(2), 2.0)]).status, 200);
    assert_eq!(push_lines(&here, ROOT, &logs, &[(at(2) * 1_000_000, "late")]).status, 204);
    // What is sent again though it was taken is there once.
    assert_eq!(push(&here, ROOT, &metrics, "m", &[(at(2), 2.0)]).status, 200);
    let counted = there.query("count_over_time(m[1m])", now / 1000);
    assert_eq!(counted[0]["value"][1], "2");
    assert_eq!(there.count_logs("{app=\"shop\"}"), 1);
    assert_eq!(up(&here), (0, 2));
}

/// What the other system lets in nobody here is shown, and who may what here is this server's word.
#[test]
fn credentials_stay_on_their_own_side() {
    let directory = tempfile::tempdir().unwrap();
    let far = Far::metrics(&directory.path().join("far"));
    let here = locked(free_address(), &directory.path().join("near"));
    let secret = far.token.clone().unwrap();
    let root = source(&here, "metrics", &far.settings());
    let reader = token(&here, &["read_only_metrics"]);
    let id = root.trim_start_matches("/ds/");

    let shown = good(manage(&here, "GET", &format!("/data-sources/{id}"), &Value::Null));
    assert_eq!(shown["remote"]["credentials"], "authorization");
    let told = [
        shown.to_string(),
        manage(&here, "GET", "/data-sources", &Value::Null).text(),
        here.send("GET", "/pilothouse/v1/audit", &[("X-Token", ROOT)], b"").text(),
        get(&here, ROOT, "/metrics").text(),
        get(&here, ROOT, "/api/v1/status/config").text(),
    ];
    told.iter().for_each(|text| assert!(!text.contains(&secret), "{text}"));
    // A token of the one side is none of the other.
    assert_eq!(get(&here, &secret, &format!("{root}/api/v1/labels")).status, 401);
    let bearer = format!("Bearer {reader}");
    let there = request(far.address, "GET", "/api/v1/labels", &[("Authorization", &bearer)], b"").unwrap();
    assert_eq!(there.status, 401);

    // Settings that are wrong are refused by their key, and nothing is made.
    for (settings, key) in [
        (json!({"query_url": "http://h"}), "remote.write_url"),
        (json!({"write_url": "http://u:p@h/x", "query_url": "http://h"}), "remote.write_url"),
        (json!({"write_url": "http://h/x", "query_url": "http://h", "protocol": "9"}), "remote.protocol"),
        (json!({"write_url": "http://h/x", "query_url": "http://h", "urls": []}), "remote"),
    ] {
        let body = json!({"name": "x", "type": "metrics", "backend": "remote", "remote": settings});
        let answer = manage(&here, "POST", "/data-sources", &body);
        assert_eq!((answer.status, &answer.json()["details"][0]["argument_name"]), (400, &json!(key)));
    }
    // Credentials that the other side does not take are nobody's fault who asks here.
    let mut wrong = far.settings();
    wrong["http_config"]["authorization"]["credentials"] = "nonsense".into();
    let changed = manage(&here, "PATCH", &format!("/data-sources/{id}"), &json!({"remote": wrong}));
    assert_eq!(changed.status, 200, "{}", changed.text());
    for answer in [
        get(&here, &reader, &format!("{root}/api/v1/labels")),
        push(&here, ROOT, &root, "m", &[(now_ms(), 1.0)]),
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("credentials of this server"), "{}", answer.text());
    }
    // And mended without a restart.
    let mended = manage(&here, "PATCH", &format!("/data-sources/{id}"), &json!({"remote": far.settings()}));
    assert_eq!(mended.status, 200);
    assert_eq!(get(&here, &reader, &format!("{root}/api/v1/labels")).status, 200);
}

/// Lines are followed here while they come in there.
fn a_tail_goes_through(far: &Far) {
    let directory = tempfile::tempdir().unwrap();
    let here = locked(free_address(), directory.path());
    let root = source(&here, "logs", &far.settings());
    let reader = token(&here, &["read_only_logs"]);
    let writer = token(&here, &["write_only_logs"]);
    let query = "{app=\"shop\"} |= \"order\"";
    let mut tail = here.follow_logs_below(&root, query, &[("X-Token", &reader)]);
    let now = now_ms() * 1_000_000;
    assert_eq!(push_lines(&here, &writer, &root, &[(now, "noise"), (now + 1, "order 7")]).status, 204);
    let line = until("the line", || match tail.read_frame() {
        Frame::Text(text) => {
            let frame: Value = serde_json::from_str(&text).unwrap();
            frame["streams"][0]["values"][0][1].as_str().map(str::to_owned)
        }
        Frame::Close(code, reason) => panic!("{code}: {reason}"),
        Frame::Other => None,
    });
    assert_eq!(line, "order 7");
    let wrong = get(&here, &reader, &format!("{root}/loki/api/v1/tail?query=x"));
    assert_eq!(wrong.status, 400);
}

/// Lets the data sources behind the shared root go to another system while the server runs.
fn send_away(here: &Server, metrics: &Far, logs: &Far) {
    for (kind, far) in [("metrics", metrics), ("logs", logs)] {
        let path = format!("/data-sources/{}", default_source(here, kind));
        good(manage(here, "PATCH", &path, &json!({"backend": "remote", "remote": far.settings()})));
    }
}

/// With one check that fails every second, and somebody who is told of alerts.
fn start_with_a_check(directory: &Path, receiver: &Receiver) -> Server {
    let config = directory.join("pilothouse.yaml");
    let check = "{job: front, target: \"127.0.0.1:1\", frequency: 1000, timeout: 1000, enabled: true, \
                 settings: {tcp: {ipVersion: V4}}}";
    std::fs::write(&config, format!("synthetic:\n  checks:\n    - {check}\n")).unwrap();
    let flags = ["--auth", "required", "--root-token", ROOT, "--config", config.to_str().unwrap()];
    let here = Server::start(&directory.join("data"), &flags);
    let alerting = format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: 1s}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://{}/'}}]}}]\n",
        receiver.address
    );
    let body = json!({ "alertmanager_config": alerting }).to_string();
    assert_eq!(here.send("POST", "/api/v1/alerts", &[("X-Token", ROOT)], body.as_bytes()).status, 201);
    here
}

const RULES: &str = r#"
name: g
interval: 1s
rules:
- {record: "shop:stock", expr: stock * 2}
- {alert: Full, expr: stock > 5, annotations: {much: '{{ with query "stock" }}{{ . | first | value }}{{ end }}'}}
"#;

const RULES_OF_LOGS: &str = r#"
name: l
interval: 1s
rules:
- {record: "shop:lines", expr: 'sum(count_over_time({app="shop"} |= "WORD" [5m]))'}
"#;

/// Rules, alerts, checks and the server's own metrics go where the data goes.
fn what_is_written_here_goes_through(metrics: &Far, logs: &Far) {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let here = start_with_a_check(directory.path(), &receiver);
    send_away(&here, metrics, logs);
    let root = [("X-Token", ROOT)];
    // The other systems may know lines of other scenarios.
    let word = format!("sold-{}", here.address.port());
    let of_logs = RULES_OF_LOGS.replace("WORD", &word);
    for (path, rules) in [("/prometheus/config/v1/rules/ns", RULES), ("/loki/api/v1/rules/ns", &of_logs)] {
        let answer = here.send("POST", path, &root, rules.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let now = now_ms();
    assert_eq!(push(&here, ROOT, "", "stock", &[(now, 7.0)]).status, 200);
    assert_eq!(push_lines(&here, ROOT, "", &[(now * 1_000_000, &word)]).status, 204);
    let told = receiver.wait_for(1, LONGEST);
    assert_eq!(told[0]["alerts"][0]["labels"]["alertname"], "Full");
    assert_eq!(told[0]["alerts"][0]["annotations"]["much"], "7");
    let own = format!("up{{job=\"pilothouse\",instance=\"{}\"}}", here.address);
    for (query, expected) in [
        ("shop:stock", "14"),
        ("shop:lines", "1"),
        ("ALERTS{alertname=\"Full\",alertstate=\"firing\"}", "1"),
        ("probe_success{job=\"front\"}", "0"),
        (&own, "1"),
    ] {
        let path = format!("{}/api/v1/query?query={}", metrics.query_path, escape(query));
        assert_eq!(until(query, || first_value(&metrics.get(&path))), expected, "{query}");
    }
    let lines = format!("/loki/api/v1/query?query={}", escape("sum(count_over_time({job=\"front\"}[1h]))"));
    until("lines of the check", || first_value(&logs.get(&lines)));
    // The list of rules is this server's, and so is its health.
    let listed = get(&here, ROOT, "/prometheus/api/v1/rules?type=record").json();
    assert_eq!(listed["data"]["groups"][0]["rules"][0]["health"], "ok", "{listed}");
}

#[test]
fn a_tail_goes_on_to_the_other_system_and_back() {
    let directory = tempfile::tempdir().unwrap();
    a_tail_goes_through(&Far::logs(directory.path()));
}

#[test]
fn rules_and_checks_go_where_the_data_goes() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    what_is_written_here_goes_through(&Far::metrics(&at("metrics")), &Far::logs(&at("logs")));
}

const RULES_OF_HISTOGRAMS: &str = r#"
name: h
interval: 1s
rules:
- {record: "shop:took", expr: sum(took_seconds)}
- {record: "shop:half", expr: 'histogram_quantile(0.5, shop:took)'}
"#;

/// The query API does not tell the schema of a native histogram, yet rules record them.
fn native_histograms_are_recorded(far: &Far) {
    let directory = tempfile::tempdir().unwrap();
    let here = locked(free_address(), directory.path());
    let path = format!("/data-sources/{}", default_source(&here, "metrics"));
    good(manage(&here, "PATCH", &path, &json!({"backend": "remote", "remote": far.settings()})));
    let answer = here.send(
        "POST",
        "/prometheus/config/v1/rules/ns",
        &[("X-Token", ROOT)],
        RULES_OF_HISTOGRAMS.as_bytes(),
    );
    assert_eq!(answer.status, 202, "{}", answer.text());
    let now = (now_ms() * 1_000_000).to_string();
    let point = json!({"startTimeUnixNano": now, "timeUnixNano": now, "count": "5", "sum": 3.5, "scale": 2, "zeroCount": "1",
        "positive": {"offset": 0, "bucketCounts": ["1", "3"]}});
    let took = json!({"name": "took", "unit": "s", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point]}});
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [took]}]}]}).to_string();
    let headers = [("X-Token", ROOT), ("Content-Type", "application/json")];
    let sent = here.send("POST", "/otlp/v1/metrics", &headers, body.as_bytes());
    assert_eq!(sent.status, 200, "{}", sent.text());
    let there = |query: &str| {
        first_value(&far.get(&format!("{}/api/v1/query?query={}", far.query_path, escape(query))))
    };
    assert_eq!(until("the histogram", || there("histogram_count(shop:took)")), "5");
    // With its schema: the same as of what it was made of.
    assert_eq!(
        until("its median", || there("shop:half")),
        there("histogram_quantile(0.5, took_seconds)").unwrap()
    );
    let listed = get(&here, ROOT, "/prometheus/api/v1/rules?type=record").json();
    assert_eq!(listed["data"]["groups"][0]["rules"][0]["health"], "ok", "{listed}");
}

#[test]
fn rules_record_native_histograms_over_there() {
    let directory = tempfile::tempdir().unwrap();
    native_histograms_are_recorded(&Far::metrics(directory.path()));
}

/// What this server writes by itself while the other system is away comes later; and a data source
/// that comes back shows what is here.
#[test]
fn what_is_written_meanwhile_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let (near, far) = (directory.path().join("near"), directory.path().join("far"));
    std::fs::create_dir(&near).unwrap();
    let address = free_address();
    let there = Server::start_at(address, &far, &[]);
    let here = start_with_a_check(&near, &Receiver::start());
    let settings = |write: &str, query: &str| json!({"write_url": format!("http://{address}{write}"), "query_url": format!("http://{address}{query}")});
    let path = format!("/data-sources/{}", default_source(&here, "metrics"));
    let remote = settings("/api/v1/push", "/prometheus");
    good(manage(&here, "PATCH", &path, &json!({"backend": "remote", "remote": remote})));
    let runs = |there: &Server, at_s: i64| {
        let query = format!("count_over_time(probe_success{{job=\"front\"}}[1s] @ {at_s})");
        there.query(&query, now_ms() / 1000)[0]["value"][1].as_str().map(str::to_owned)
    };
    until("the first run", || runs(&there, now_ms() / 1000));
    there.kill();
    sleep(Duration::from_secs(2));
    let away_s = now_ms() / 1000;
    let there = Server::start_at(address, &far, &[]);
    assert_eq!(until("a run that nobody took", || runs(&there, away_s)), "1");

    push(&here, ROOT, "", "sold_total", &[(now_ms(), 7.0)]);
    good(manage(&here, "PATCH", &path, &json!({"backend": "local"})));
    let sold = || first_value(&get(&here, ROOT, "/api/v1/query?query=sold_total"));
    assert_eq!(sold(), None);
    assert_eq!(push(&here, ROOT, "", "sold_total", &[(now_ms(), 1.0)]).status, 200);
    assert_eq!(sold().as_deref(), Some("1"));
}

/// As the guide has it: first both, then the history, then the other system alone.
#[test]
fn a_data_source_moves_without_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let far = Far::metrics(&directory.path().join("far"));
    let here = locked(free_address(), &directory.path().join("near"));
    let made = good(manage(&here, "POST", "/data-sources", &json!({"name": "shop", "type": "metrics"})));
    let id = made["id"].as_str().unwrap();
    let (root, path) = (format!("/ds/{id}"), format!("/data-sources/{id}"));
    let now = now_ms();
    let push =
        |at: i64| assert_eq!(push(&here, ROOT, &root, "sold_total", &[(now + at, at as f64)]).status, 200);
    let counted = |root: &str| {
        let query = escape(&format!("count_over_time(sold_total[1h] @ {})", now / 1000 + 60));
        first_value(&get(&here, ROOT, &format!("{root}/api/v1/query?query={query}")))
    };
    let there = || {
        let query = escape(&format!("count_over_time(sold_total[1h] @ {})", now / 1000 + 60));
        first_value(&far.get(&format!("/prometheus/api/v1/query?query={query}")))
    };
    push(-5_000);
    let mut both = far.settings();
    both["queries"] = "local".into();
    good(manage(&here, "PATCH", &path, &json!({"remote": both})));
    push(-4_000);
    assert_eq!((counted(&root).as_deref(), there().as_deref()), (Some("2"), Some("1")));
    let bearer = format!("Authorization: Bearer {}", far.token.as_deref().unwrap());
    let carried = Command::new(binary())
        .args(["export", "metrics", "--match", "sold_total", "--data-source", id, "--header", &bearer])
        .args(["--remote-write", &format!("http://{}/api/v1/push", far.address)])
        .env("PILOTHOUSE_URL", format!("http://{}", here.address))
        .env("PILOTHOUSE_TOKEN", ROOT)
        .output()
        .unwrap();
    assert!(carried.status.success(), "{}", String::from_utf8_lossy(&carried.stderr));
    push(-3_000);
    assert_eq!((counted(&root).as_deref(), there().as_deref()), (Some("3"), Some("3")));
    good(manage(&here, "PATCH", &path, &json!({"remote": {"queries": "remote"}})));
    push(-2_000);
    assert_eq!((counted(&root).as_deref(), there().as_deref()), (Some("4"), Some("4")));
    // What was kept here is here still.
    good(manage(&here, "PATCH", &path, &json!({"backend": "local"})));
    assert_eq!(counted(&root).as_deref(), Some("3"));
}

/// The time that an alert has waited is read back from where it was written.
#[test]
fn an_alert_keeps_its_time_over_a_crash_here() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (metrics, logs) = (Far::metrics(&at("metrics")), Far::logs(&at("logs")));
    let here = locked(free_address(), &at("near"));
    send_away(&here, &metrics, &logs);
    let rules = "name: g\ninterval: 1s\nrules:\n- {alert: Slow, expr: vector(1), for: 1h}\n";
    let set = here.send("POST", "/prometheus/config/v1/rules/ns", &[("X-Token", ROOT)], rules.as_bytes());
    assert_eq!(set.status, 202);
    let asked = |query: &str| {
        let path = format!("/prometheus/api/v1/query?query={}", escape(query));
        first_value(&metrics.get(&path)).and_then(|text| text.parse::<f64>().ok())
    };
    let since = until("the alert's state", || asked("ALERTS_FOR_STATE{alertname=\"Slow\"}"));
    // Longer than it is away.
    sleep(Duration::from_secs(8));
    here.kill();
    let stopped_s = now_ms() as f64 / 1000.0;
    let _here = locked(free_address(), &at("near"));
    let written = || asked("timestamp(ALERTS_FOR_STATE{alertname=\"Slow\"})").filter(|t| *t > stopped_s);
    until("the state again", written);
    let again = asked("ALERTS_FOR_STATE{alertname=\"Slow\"}").unwrap();
    // The time in between does not count as waiting, the time before it does.
    assert!(again < stopped_s, "{since} {again} {stopped_s}");
}
