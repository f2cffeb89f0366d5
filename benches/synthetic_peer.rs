//! The built-in probe beside blackbox_exporter: the same targets on loopback, probed by both for
//! a while. Success and status must be equal, durations are printed side by side.
//!
//! ```sh
//! BLACKBOX_EXPORTER=/usr/bin/prometheus-blackbox-exporter \
//!     cargo bench -p pilothouse-benches --bench synthetic_peer
//! ```
//!
//! `SECONDS` says how long; the default is 30. ICMP needs sockets that the system permits to both.

#![allow(clippy::unwrap_used)] // a failure here is a failed bench

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Server, request};
use serde_json::{Value, json};

/// What the peer is told of each kind of probe; IPv4 alone, as the checks are.
const MODULES: &str = "modules:
  http: {prober: http, http: {preferred_ip_protocol: ip4, ip_protocol_fallback: false}}
  tcp: {prober: tcp, tcp: {preferred_ip_protocol: ip4}}
  banner: {prober: tcp, tcp: {preferred_ip_protocol: ip4, query_response: [{expect: '^220 (.*)'}]}}
  dns: {prober: dns, dns: {preferred_ip_protocol: ip4, query_name: a.example.org, query_type: A}}
  nxdomain: {prober: dns, dns: {preferred_ip_protocol: ip4, query_name: none.example.org, query_type: A}}
  icmp: {prober: icmp, icmp: {preferred_ip_protocol: ip4}}
";

/// One probe, as both sides are told of it.
struct Case {
    name: &'static str,
    module: &'static str,
    /// As the peer has it; a check of DNS names its server in the settings.
    peer_target: String,
    target: String,
    settings: Value,
    /// A series whose value must be equal on both sides.
    status: &'static str,
}

fn main() {
    let Ok(exporter) = std::env::var("BLACKBOX_EXPORTER") else {
        println!("BLACKBOX_EXPORTER does not name a program: nothing to compare with");
        return;
    };
    let seconds = std::env::var("SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30u64);
    let directory = tempfile::tempdir().unwrap();
    let cases = cases();
    let peer = Peer::start(&exporter, directory.path());
    let server = Server::start(&directory.path().join("data"), &[]);
    add_checks(&server, &cases);
    // Both probe at the same time, once a second each.
    let seen = peer.watch(&cases, Duration::from_secs(seconds));
    println!(
        "{:<12} {:>8} {:>8} {:>10} {:>10} {:>12} {:>12}",
        "target", "success", "peer", "status", "peer", "median ms", "peer ms"
    );
    let mut equal = true;
    for (case, (success, status, median_s)) in cases.iter().zip(seen) {
        let own = |query: &str| own_value(&server, query, case, seconds);
        let (own_success, own_status) =
            (own("min_over_time(probe_success"), own(&format!("max_over_time({}", case.status)));
        let own_median = own("quantile_over_time(0.5, probe_duration_seconds");
        equal &= (own_success, own_status) == (success, status);
        println!(
            "{:<12} {own_success:>8} {success:>8} {own_status:>10} {status:>10} {:>12.3} {:>12.3}",
            case.name,
            own_median * 1e3,
            median_s * 1e3
        );
    }
    println!("success and status are {}", if equal { "equal" } else { "NOT equal" });
}

fn cases() -> Vec<Case> {
    let (web, banner, dns) = (web(), banner(), dns());
    let http = |name, path: &str| {
        let target = format!("http://{web}{path}");
        Case {
            name,
            module: "http",
            peer_target: target.clone(),
            target,
            settings: json!({"http": {"ipVersion": "V4"}}),
            status: "probe_http_status_code",
        }
    };
    let tcp = |name, module, address: SocketAddr, settings| Case {
        name,
        module,
        peer_target: address.to_string(),
        target: address.to_string(),
        settings: json!({"tcp": settings}),
        status: "probe_ip_protocol",
    };
    let query = |name, module, asked: &str| Case {
        name,
        module,
        peer_target: dns.to_string(),
        target: asked.to_owned(),
        settings: json!({"dns": {"ipVersion": "V4", "server": "127.0.0.1", "port": dns.port(), "recordType": "A", "protocol": "UDP"}}),
        status: "probe_dns_answer_rrs",
    };
    vec![
        http("http 200", "/"),
        http("http 404", "/404"),
        http("redirect", "/redirect"),
        http("slow 50 ms", "/slow"),
        http("refused", "").refused(),
        tcp("tcp", "tcp", web, json!({"ipVersion": "V4"})),
        // `^220 (.*)` in base64.
        tcp(
            "tcp banner",
            "banner",
            banner,
            json!({"ipVersion": "V4", "queryResponse": [{"expect": "XjIyMCAoLiop"}]}),
        ),
        query("dns A", "dns", "a.example.org"),
        query("nxdomain", "nxdomain", "none.example.org"),
        Case {
            name: "icmp",
            module: "icmp",
            peer_target: "127.0.0.1".into(),
            target: "127.0.0.1".into(),
            settings: json!({"ping": {"ipVersion": "V4", "packetCount": 1}}),
            status: "probe_ip_protocol",
        },
    ]
}

impl Case {
    /// The same on a port where nobody listens.
    fn refused(self) -> Self {
        let target = "http://127.0.0.1:1/".to_owned();
        Self { peer_target: target.clone(), target, ..self }
    }
}

// ---- targets ----

fn web() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 4_096];
                let read = stream.read(&mut bytes).unwrap_or(0);
                let head = String::from_utf8_lossy(&bytes[..read]).into_owned();
                let (status, also) = match head.split(' ').nth(1).unwrap_or("") {
                    "/404" => ("404 Not Found", ""),
                    "/redirect" => ("302 Found", "Location: /\r\n"),
                    "/slow" => {
                        sleep(Duration::from_millis(50));
                        ("200 OK", "")
                    }
                    _ => ("200 OK", ""),
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\n{also}Content-Length: 2\r\nConnection: close\r\n\r\nok");
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

fn banner() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"220 ready\r\n");
        }
    });
    address
}

/// Knows names that begin with `a`, and no others.
fn dns() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((read, from)) = socket.recv_from(&mut bytes) {
            let question = &bytes[12..read];
            let end = question.iter().position(|b| *b == 0).unwrap() + 5;
            let known = question.get(1) == Some(&b'a');
            let mut answer = bytes[..2].to_vec();
            answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(known), 0, 0, 0, 0]);
            answer.extend(&question[..end]);
            if known {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

// ---- ours ----

fn add_checks(server: &Server, cases: &[Case]) {
    let send = |token: &str, path: &str, body: &Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let answer = server.send("POST", &format!("/api/v1{path}"), &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let ids = json!({"stackId": 1, "metricsInstanceId": 2, "logsInstanceId": 3});
    let token = send("any", "/register/install", &ids)["accessToken"].as_str().unwrap().to_owned();
    for case in cases {
        let check = json!({
            "job": case.name, "target": case.target, "frequency": 1_000, "timeout": 1_000, "enabled": true,
            "basicMetricsOnly": true, "probes": [1], "labels": [], "settings": case.settings,
        });
        send(&token, "/check/add", &check);
    }
}

/// One value over the runs of a check; `query` lacks its selector and its end.
fn own_value(server: &Server, query: &str, case: &Case, seconds: u64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let query = format!("{query}{{job=\"{}\"}}[{seconds}s])", case.name);
    let result = server.query(&query, i64::try_from(now).unwrap());
    result[0]["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

// ---- the peer ----

struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(exporter: &str, directory: &Path) -> Self {
        let config = directory.join("blackbox.yml");
        std::fs::write(&config, MODULES).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(exporter)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let peer = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(10);
        while request(address, "GET", "/-/healthy", &[], b"").is_err() {
            assert!(Instant::now() < deadline, "the peer does not answer");
            sleep(Duration::from_millis(50));
        }
        peer
    }

    /// Of each case: the least success, the highest status, the median duration in seconds.
    fn watch(&self, cases: &[Case], long: Duration) -> Vec<(f64, f64, f64)> {
        let mut seen: Vec<(f64, f64, Vec<f64>)> = vec![(1.0, 0.0, Vec::new()); cases.len()];
        let deadline = Instant::now() + long;
        while Instant::now() < deadline {
            let next = Instant::now() + Duration::from_secs(1);
            for (case, (success, status, durations)) in cases.iter().zip(&mut seen) {
                let path = format!("/probe?module={}&target={}", case.module, case.peer_target);
                let text = request(self.address, "GET", &path, &[], b"").unwrap().text();
                let value = |name: &str| {
                    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
                    line.and_then(|line| line.rsplit(' ').next())
                        .and_then(|n| n.parse().ok())
                        .unwrap_or(f64::NAN)
                };
                *success = success.min(value("probe_success"));
                *status = status.max(value(case.status));
                durations.push(value("probe_duration_seconds"));
            }
            sleep(next.saturating_duration_since(Instant::now()));
        }
        let median = |mut durations: Vec<f64>| {
            durations.sort_by(f64::total_cmp);
            durations.get(durations.len() / 2).copied().unwrap_or(f64::NAN)
        };
        seen.into_iter().map(|(success, status, durations)| (success, status, median(durations))).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
