//! Data sources in the configuration: there from the start with the same addresses everywhere, changed
//! by a reload alone; and every kind of credential opens the door of the other system, for writes,
//! queries and those who follow lines.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Answer, Frame, Server, binary, escape, free_address, push_body, series};
use serde_json::{Value, json};

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";
/// Of the other system.
const FAR: &str = "7c1e4b0a-93d5-4f62-8a17-0b6d2e9f5c34";
const SOURCES: &str = "/cockpit/v1/regions/fr-par/data-sources";

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return found;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come");
}

// ---- the other system ----

/// One that speaks TLS with a certificate of its own making.
struct Far {
    child: Child,
    address: SocketAddr,
    cert: PathBuf,
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Far {
    fn start(directory: &Path) -> Self {
        let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let address = free_address();
        let child = Command::new(binary())
            .args(["serve", "--listen", &address.to_string(), "--auth", "required", "--root-token", FAR])
            .arg("--data-dir")
            .arg(directory.join("far"))
            .arg("--tls-cert")
            .arg(&cert)
            .arg("--tls-key")
            .arg(&key)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let far = Self { child, address, cert };
        let is_ready = || {
            let mut ready = Command::new(binary());
            let ready = ready.args(["ready", "--server", &far.url(), "--ca-file"]).arg(&far.cert);
            ready.output().unwrap().status.success()
        };
        until("the other system", || is_ready().then_some(()));
        far
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// A data source of each kind over there, in the configuration's own form.
    fn declared(&self, name: &str, http: Value, tenant: &str) -> [Value; 2] {
        let url = self.url();
        let remote = |write: &str, query: &str| {
            json!({"write_url": format!("{url}{write}"), "query_url": format!("{url}{query}"), "timeout": "5s",
                "tenant": tenant, "http_config": http})
        };
        [
            json!({"name": name, "type": "metrics", "remote": remote("/api/v1/push", "/prometheus")}),
            json!({"name": name, "type": "logs", "remote": remote("/loki/api/v1/push", "")}),
        ]
    }
}

/// Gives access tokens to who knows the client's secret, and remembers who asked.
struct Issuer {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|n| n > 0) {
                    let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                    if let Some(said) = line.strip_prefix("content-length:") {
                        length = said.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                told.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
                let text =
                    json!({"access_token": FAR, "token_type": "bearer", "expires_in": 3600}).to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    text.len()
                );
                (&stream).write_all(format!("{head}{text}").as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }
}

// ---- this side ----

fn write_config(path: &Path, sources: &[Value]) {
    // JSON is YAML too.
    std::fs::write(path, format!("data_sources: {}\nhost_metrics: false\n", Value::from(sources.to_vec())))
        .unwrap();
}

fn start(directory: &Path, config: &Path) -> Server {
    let flags = ["--auth", "required", "--root-token", ROOT, "--config", config.to_str().unwrap()];
    Server::start(&directory.join("near"), &flags)
}

fn manage(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    server.send(method, &format!("{SOURCES}{path}"), &[("X-Auth-Token", ROOT)], body.as_bytes())
}

/// Of every data source, default ones included.
fn listed(server: &Server) -> Vec<Value> {
    let answer = manage(server, "GET", "", &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data_sources"].as_array().unwrap().clone()
}

fn source(server: &Server, name: &str, kind: &str) -> Value {
    let all = listed(server);
    let found = all.iter().find(|source| source["name"] == name && source["type"] == kind);
    found.unwrap_or_else(|| panic!("no {name} of {kind} in {all:#?}")).clone()
}

fn root_of(server: &Server, name: &str, kind: &str) -> String {
    format!("/ds/{}", source(server, name, kind)["id"].as_str().unwrap())
}

fn push(server: &Server, root: &str, name: &str) -> Answer {
    let body = push_body(&[series(&[("__name__", name)], &[(now_ms(), 7.0)])]);
    let headers =
        [("X-Token", ROOT), ("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
    server.send("POST", &format!("{root}/api/v1/push"), &headers, &body)
}

fn push_line(server: &Server, root: &str, app: &str, line: &str) -> Answer {
    let values = json!([[(now_ms() * 1_000_000).to_string(), line]]);
    let body = json!({"streams": [{"stream": {"app": app}, "values": values}]}).to_string();
    let headers = [("X-Token", ROOT), ("Content-Type", "application/json")];
    server.send("POST", &format!("{root}/loki/api/v1/push"), &headers, body.as_bytes())
}

fn value(server: &Server, root: &str, query: &str) -> Option<String> {
    let path = format!("{root}/api/v1/query?query={}", escape(query));
    let answer = server.send("GET", &path, &[("X-Token", ROOT)], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
}

fn lines(server: &Server, root: &str, query: &str) -> usize {
    let path = format!("{root}/loki/api/v1/query_range?query={}", escape(query));
    let answer = server.send("GET", &path, &[("X-Token", ROOT)], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let streams = answer.json()["data"]["result"].as_array().unwrap().clone();
    streams.iter().map(|stream| stream["values"].as_array().unwrap().len()).sum()
}

/// Write, query and tail, of both kinds.
fn goes_through(server: &Server, name: &str) {
    let root = root_of(server, name, "metrics");
    let metric = format!("sold_{name}");
    let pushed = push(server, &root, &metric);
    assert_eq!(pushed.status, 200, "{name}: {}", pushed.text());
    assert_eq!(until(name, || value(server, &root, &metric)), "7", "{name}");
    let root = root_of(server, name, "logs");
    let query = format!("{{app=\"{name}\"}}");
    let mut tail = server.follow_logs_below(&root, &query, &[("X-Token", ROOT)]);
    let pushed = push_line(server, &root, name, "order 7");
    assert_eq!(pushed.status, 204, "{name}: {}", pushed.text());
    let followed = until(name, || match tail.read_frame() {
        Frame::Text(text) => Some(text),
        Frame::Close(code, reason) => panic!("{name}: {code}: {reason}"),
        Frame::Other => None,
    });
    assert!(followed.contains("order 7"), "{name}: {followed}");
    assert_eq!(lines(server, &root, &query), 1, "{name}");
}

#[test]
fn every_kind_of_credential_opens_the_other_door() {
    let directory = tempfile::tempdir().unwrap();
    let (far, issuer) = (Far::start(directory.path()), Issuer::start());
    std::fs::write(directory.path().join("far.secret"), format!("{FAR}\n")).unwrap();
    // Relative paths start where the configuration is.
    let with = |key: &str, value: Value| json!({"tls_config": {"ca_file": "cert.pem"}, key: value});
    let oauth2 = json!({"client_id": "shop", "client_secret": "hush", "token_url": issuer.url,
        "scopes": ["read", "write"], "endpoint_params": {"audience": "mimir"}});
    let sources: Vec<Value> = [
        far.declared(
            "basic",
            with("basic_auth", json!({"username": "x", "password_file": "far.secret"})),
            "",
        ),
        far.declared("bearer", with("authorization", json!({"credentials_file": "far.secret"})), ""),
        far.declared("oauth", with("oauth2", oauth2), ""),
        far.declared("header", with("http_headers", json!({"X-Token": {"secrets": [FAR]}})), ""),
        // The other system lets in who shows its token as the tenant.
        far.declared("tenant", with("enable_http2", json!(false)), FAR),
        far.declared("distrusted", json!({"authorization": {"credentials": FAR}}), ""),
        far.declared("stranger", with("authorization", json!({"credentials": "nonsense"})), ""),
    ]
    .concat();
    let config = directory.path().join("pilothouse.yaml");
    write_config(&config, &sources);
    let here = start(directory.path(), &config);
    for name in ["basic", "bearer", "oauth", "header", "tenant"] {
        goes_through(&here, name);
    }
    for (name, why) in [("distrusted", "certificate"), ("stranger", "credentials of this server")] {
        let refused = push(&here, &root_of(&here, name, "metrics"), "m");
        assert_eq!(refused.status, 503, "{name}: {}", refused.text());
        assert!(refused.text().to_lowercase().contains(why), "{name}: {}", refused.text());
    }
    // Asked once for each of the two data sources, with all that was configured.
    let asked = issuer.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:#?}");
    for expected in ["grant_type=client_credentials", "scope=read", "audience=mimir"] {
        assert!(asked[0].contains(expected), "{expected} in {}", asked[0]);
    }
    let shown = manage(&here, "GET", "", &Value::Null).text();
    let config = here.send("GET", "/api/v1/status/config", &[("X-Token", ROOT)], b"").text();
    assert!(config.contains("token_url"), "{config}");
    for secret in ["hush", "nonsense"] {
        assert!(!shown.contains(secret) && !config.contains(secret), "{secret} in {shown} {config}");
    }
}

#[test]
fn what_the_configuration_declares_is_changed_there_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("pilothouse.yaml");
    let address = free_address();
    let there = Server::start_at(address, &directory.path().join("far"), &[]);
    let remote = |queries: &str| {
        json!({"write_url": format!("http://{address}/api/v1/push"), "query_url": format!("http://{address}/prometheus"),
            "queries": queries})
    };
    let shop = |days: i64| json!({"name": "shop", "type": "logs", "retention_days": days});
    let default = |queries: &str| json!({"default": true, "type": "metrics", "remote": remote(queries)});
    write_config(&config, &[shop(7), default("remote")]);
    let here = start(directory.path(), &config);
    assert_eq!(push(&here, "", "sold").status, 200);
    assert_eq!(until("the sample over there", || value(&there, "", "sold")), "7");

    let declared = source(&here, "shop", "logs");
    assert_eq!((&declared["declared"], &declared["retention_days"]), (&json!(true), &json!(7)));
    let path = format!("/{}", declared["id"].as_str().unwrap());
    for (method, body) in [("PATCH", json!({"name": "other"})), ("DELETE", Value::Null)] {
        let refused = manage(&here, method, &path, &body);
        assert_eq!(refused.status, 412, "{}", refused.text());
        assert_eq!(refused.json()["help_message"], "the configuration declares it");
    }
    assert_eq!(push_line(&here, &format!("/ds{path}"), "a", "kept").status, 204);

    let reload = |here: &Server| here.send("POST", "/-/reload", &[("X-Token", ROOT)], b"");
    // What does not hold changes nothing, neither here nor in what stands beside it.
    write_config(&config, &[shop(9), shop(9), default("local")]);
    let refused = reload(&here);
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("shop of logs: is declared twice"), "{}", refused.text());
    assert_eq!(source(&here, "shop", "logs")["retention_days"], 7);

    write_config(&config, &[shop(9), default("local")]);
    assert_eq!(reload(&here).status, 200);
    assert_eq!(source(&here, "shop", "logs")["retention_days"], 9);
    // Both keep it now, and this server answers.
    assert_eq!(value(&here, "", "sold"), None);
    assert_eq!(push(&here, "", "both").status, 200);
    for server in [&here, &there] {
        assert_eq!(until("a sample in both", || value(server, "", "both")), "7");
    }

    // A line that went is no order to delete data.
    write_config(&config, &[]);
    assert_eq!(reload(&here).status, 200);
    assert_eq!(source(&here, "shop", "logs")["declared"], Value::Null);
    assert_eq!(source(&here, "Metrics", "metrics")["backend"], Value::Null);
    assert_eq!(lines(&here, &format!("/ds{path}"), "{app=\"a\"}"), 1);
    assert_eq!(manage(&here, "DELETE", &path, &Value::Null).status, 204);

    // Declared again it has the address of before, on this server as on any other.
    write_config(&config, &[shop(1)]);
    assert!(here.stop().success());
    let again = start(directory.path(), &config);
    assert_eq!(source(&again, "shop", "logs")["id"], declared["id"]);
    assert_eq!(lines(&again, &format!("/ds{path}"), "{app=\"a\"}"), 0);
}
