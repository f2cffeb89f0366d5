//! Whether rules keep up beside ingest, and what they cost: the same work for Pilothouse and, if
//! one is named, for a Prometheus.
//!
//! ```sh
//! PILOTHOUSE_BIN=target/release/pilothouse cargo run --release -p pilothouse-tests --bin rules_load -- \
//!     peer=/usr/bin/prometheus
//! ```
//!
//! Words `NAME=VALUE` change what is done: `groups` (500) of 10 rules, each over 100 series, every
//! `interval` (15) seconds; `rate` (16000) samples a second for `settle` (60) seconds without
//! rules, then `seconds` (120) with them; `shape=full` has every rule give 100 series, which is
//! the worst case, where `shape=mixed` resembles what people write; `peer` is a Prometheus that does the
//! same afterwards; `alerts` (10000) are posted at the end and have to be told.
//!
//! Printed are processor seconds per second without and with rules, evaluations, and slots that
//! were missed. The processor's time comes from `/proc`, everything else from `/metrics`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a tool for developers

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Receiver, Series, Server, push_body, request, series};
use serde_json::json;

const RULES: u64 = 10;
const SERIES: u64 = 100;
/// Groups that the alerts at the end fall into.
const GROUPS_OF_ALERTS: u64 = 100;
/// Series in one request.
const BATCH: usize = 2_000;

struct Plan {
    groups: u64,
    interval_s: u64,
    rate: u64,
    settle_s: u64,
    seconds: u64,
    is_full: bool,
    peer: Option<String>,
    alerts: u64,
}

impl Plan {
    fn from_args() -> Self {
        let words: HashMap<String, String> = std::env::args()
            .skip(1)
            .map(|word| {
                let (name, value) = word.split_once('=').expect("NAME=VALUE");
                (name.to_owned(), value.to_owned())
            })
            .collect();
        let number =
            |name: &str, usual| words.get(name).map_or(usual, |text| text.parse().expect("a whole number"));
        Self {
            groups: number("groups", 500),
            interval_s: number("interval", 15),
            rate: number("rate", 16_000),
            settle_s: number("settle", 60),
            seconds: number("seconds", 120),
            is_full: words.get("shape").is_some_and(|shape| shape == "full"),
            peer: words.get("peer").cloned(),
            alerts: number("alerts", 10_000),
        }
    }

    /// All series; each gets a sample an interval. Those of the rules come first.
    fn all_series(&self) -> Vec<Series> {
        let of_rules = self.groups * SERIES;
        let all = (self.rate * self.interval_s).max(of_rules);
        let one = |i: u64| {
            let (name, at) = match i < of_rules {
                true => (format!("metric_{}", i / SERIES), i % SERIES),
                false => (format!("other_{}", i % 1000), i),
            };
            let (host, zone) = (format!("host-{at}.example.org:9100"), format!("z{}", at % 4));
            series(&[("__name__", &name), ("instance", &host), ("job", "node"), ("zone", &zone)], &[(0, 0.0)])
        };
        (0..all).map(one).collect()
    }

    fn group(&self, number: u64) -> String {
        let mut text = format!("name: g{number}\ninterval: {}s\nrules:\n", self.interval_s);
        for rule in 0..RULES {
            let _ = match (rule % 2, self.is_full) {
                (0, true) => writeln!(
                    text,
                    "- record: r{rule}:metric_{number}\n  expr: metric_{number} * {}",
                    rule + 1
                ),
                (0, false) => writeln!(
                    text,
                    "- record: zone:metric_{number}:rate{rule}\n  expr: sum by (zone) (rate(metric_{number}[5m])) * {}",
                    rule + 1
                ),
                // All alerts fire in the one shape, two hosts of a hundred in the other.
                (_, is_full) => writeln!(
                    text,
                    "- alert: A{rule}\n  expr: metric_{number}{{job=\"node\"}} >= {}\n  labels: {{severity: page, group: g{number}}}\n  \
                     annotations: {{summary: '{{{{ $labels.instance }}}} is at {{{{ humanize $value }}}}'}}",
                    if is_full { 0 } else { 98 }
                ),
            };
        }
        text
    }
}

/// A server under test.
struct Subject {
    name: &'static str,
    pid: u32,
    address: SocketAddr,
    push_path: &'static str,
    metrics_path: &'static str,
}

impl Subject {
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |i: usize| fields[i].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    }

    fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// The sum of a family's samples.
    fn metric(&self, name: &str) -> f64 {
        let answer = request(self.address, "GET", self.metrics_path, &[], b"").unwrap();
        let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let text = answer.text();
        text.lines().filter(is_of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// Pushes at a steady pace until it is told to stop.
struct Pushing {
    stop: Arc<AtomicBool>,
    slowest_ms: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Pushing {
    fn start(plan: &Plan, subject: &Subject) -> Self {
        let mut all = plan.all_series();
        let interval = Duration::from_secs(plan.interval_s);
        let (address, path) = (subject.address, subject.push_path);
        let (stop, slowest_ms, refused) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stopped, slowest, refusals) = (Arc::clone(&stop), Arc::clone(&slowest_ms), Arc::clone(&refused));
        let thread = std::thread::spawn(move || {
            let batches = all.len().div_ceil(BATCH) as u32;
            let mut due = Instant::now();
            for round in 0_u64.. {
                for chunk in all.chunks_mut(BATCH) {
                    if stopped.load(Relaxed) {
                        return;
                    }
                    let t_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
                    for (i, one) in chunk.iter_mut().enumerate() {
                        let at = i as u64 % SERIES;
                        one.samples[0] = (t_ms, at as f64 + 0.1 * (round % 2) as f64);
                    }
                    let body = push_body(chunk);
                    let headers =
                        [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
                    let began = Instant::now();
                    let answer = request(address, "POST", path, &headers, &body).unwrap();
                    slowest.fetch_max(began.elapsed().as_millis() as u64, Relaxed);
                    refusals.fetch_add(u64::from(answer.status >= 300), Relaxed);
                    due += interval / batches;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
        });
        Self { stop, slowest_ms, refused, thread }
    }

    /// The longest wait for an answer in milliseconds, and refused requests.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap();
        (self.slowest_ms.load(Relaxed), self.refused.load(Relaxed))
    }
}

fn wait(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// Processor seconds per second over some time.
fn load(subject: &Subject, seconds: u64) -> f64 {
    let (began, cpu) = (Instant::now(), subject.cpu_seconds());
    wait(seconds);
    (subject.cpu_seconds() - cpu) / began.elapsed().as_secs_f64()
}

fn measure(plan: &Plan, subject: &Subject, set_rules: impl FnOnce()) {
    const EVALUATIONS: &str = "prometheus_rule_evaluations_total";
    const FAILURES: &str = "prometheus_rule_evaluation_failures_total";
    const ITERATIONS: &str = "prometheus_rule_group_iterations_total";
    const MISSED: &str = "prometheus_rule_group_iterations_missed_total";
    let pushing = Pushing::start(plan, subject);
    // Two rounds make all series known.
    wait(2 * plan.interval_s);
    let without = load(subject, plan.settle_s);
    set_rules();
    // And two more what rules make of them.
    wait(2 * plan.interval_s + 1);
    let names = [EVALUATIONS, FAILURES, ITERATIONS, MISSED];
    let before = names.map(|name| subject.metric(name));
    let with = load(subject, plan.seconds);
    let after = names.map(|name| subject.metric(name));
    let missed_ever = after[3];
    let [evaluations, failures, iterations, _] = std::array::from_fn(|i| after[i] - before[i]);
    let (slowest_ms, refused) = pushing.stop();
    let of_rules = with - without;
    println!(
        "{}: {without:.3} s/s without rules, {with:.3} with: {of_rules:.3} for {:.0} evaluations/s, {:.0} us each; \
         {iterations:.0} slots, {missed_ever:.0} missed since the start, {failures:.0} failures; \
         slowest push {slowest_ms} ms, {refused} refused; {} MiB",
        subject.name,
        evaluations / plan.seconds as f64,
        of_rules * plan.seconds as f64 / evaluations * 1e6,
        subject.memory_mib(),
    );
}

fn pilothouse(plan: &Plan, directory: &Path) {
    let server = Server::start(directory, &["--max-active-series", "0", "--limit", "max_alerts=1000000"]);
    let subject = Subject {
        name: "pilothouse",
        pid: server.pid(),
        address: server.address,
        push_path: "/api/v1/push",
        metrics_path: "/metrics",
    };
    if plan.alerts > 0 {
        route(plan, &server);
    }
    measure(plan, &subject, || {
        let began = Instant::now();
        for number in 0..plan.groups {
            let answer =
                server.send("POST", "/prometheus/config/v1/rules/load", &[], plan.group(number).as_bytes());
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
        println!("{} groups set in {:.1} s", plan.groups, began.elapsed().as_secs_f64());
    });
    assert!(server.stop().success());
}

/// Posts alerts and waits until a receiver was told of all of them.
fn route(plan: &Plan, server: &Server) {
    let receiver = Receiver::start();
    let config = format!(
        "route: {{receiver: none, routes: [{{receiver: hook, matchers: [many=yes], group_by: [group], group_wait: 0s}}]}}\n\
         receivers: [{{name: none}}, {{name: hook, webhook_configs: [{{url: 'http://{}/'}}]}}]\n",
        receiver.address
    );
    let body = json!({ "alertmanager_config": config }).to_string();
    assert_eq!(server.send("POST", "/api/v1/alerts", &[], body.as_bytes()).status, 201);
    let alert = |i: u64| {
        json!({"labels": {"alertname": "Many", "many": "yes", "group": format!("g{}", i % GROUPS_OF_ALERTS), "i": i.to_string()},
               "annotations": {"summary": "one of many"}})
    };
    let body = (0..plan.alerts).map(alert).collect::<serde_json::Value>().to_string();
    let began = Instant::now();
    let json_type = [("Content-Type", "application/json")];
    let answer = server.send("POST", "/alertmanager/api/v2/alerts", &json_type, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answered = began.elapsed();
    // All of a group are there when it is looked at, since they came together.
    while receiver.count() < GROUPS_OF_ALERTS as usize {
        assert!(began.elapsed() < Duration::from_secs(60), "{} groups told", receiver.count());
        std::thread::sleep(Duration::from_millis(1));
    }
    let told_after = began.elapsed();
    let heard = receiver.heard();
    let told: usize = heard.iter().filter_map(|body| body["alerts"].as_array()).map(Vec::len).sum();
    assert_eq!(told as u64, plan.alerts);
    println!(
        "{} alerts: answered after {} ms, told in {} notifications after {} ms",
        plan.alerts,
        answered.as_millis(),
        heard.len(),
        told_after.as_millis()
    );
}

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn prometheus(plan: &Plan, binary: &str, directory: &Path) {
    let (config, rules) = (directory.join("prometheus.yml"), directory.join("rules.yml"));
    std::fs::write(&rules, "groups: []\n").unwrap();
    std::fs::write(&config, format!("rule_files: [{}]\n", rules.display())).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Command::new(binary)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .args(["--web.enable-remote-write-receiver", "--web.enable-lifecycle", "--log.level=error"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    let subject = Subject {
        name: "prometheus",
        pid: running.0.id(),
        address,
        push_path: "/api/v1/write",
        metrics_path: "/metrics",
    };
    while !request(address, "GET", "/-/ready", &[], b"").is_ok_and(|answer| answer.status == 200) {
        std::thread::sleep(Duration::from_millis(50));
    }
    measure(plan, &subject, || {
        let mut text = "groups:\n".to_owned();
        for number in 0..plan.groups {
            // A group is an element of the file's list: its lines go in by two.
            let group = plan.group(number);
            let _ = writeln!(text, "- {}", group.trim_end().replace('\n', "\n  "));
        }
        std::fs::write(&rules, text).unwrap();
        assert_eq!(request(address, "POST", "/-/reload", &[], b"").unwrap().status, 200);
    });
}

fn main() {
    let plan = Plan::from_args();
    println!(
        "{} groups of {RULES} rules over {SERIES} series every {} s, {} samples/s, {}",
        plan.groups,
        plan.interval_s,
        plan.rate,
        if plan.is_full { "each gives a series for each" } else { "as people write them" }
    );
    let directory = tempfile::tempdir().unwrap();
    pilothouse(&plan, directory.path());
    if let Some(binary) = &plan.peer {
        let directory = tempfile::tempdir().unwrap();
        prometheus(&plan, binary, directory.path());
    }
}
