//! Many HTTP checks on the real binary, of which a tenth meets targets that hang: what it costs,
//! how late runs begin, and whether any check starves or overlaps itself.
//!
//! ```sh
//! cargo bench -p pilothouse-benches --bench synthetic_load
//! ```
//!
//! `CHECKS` and `SECONDS` of the environment set the size; the defaults are 2,000 checks every
//! ten seconds, watched for a minute.

#![allow(clippy::unwrap_used)] // a failure here is a failed bench

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pilothouse_tests::Server;
use serde_json::{Value, json};

const FREQUENCY: Duration = Duration::from_secs(10);
const TIMEOUT_MS: u64 = 5_000;
/// One of so many targets never answers.
const HANGING: usize = 10;

fn main() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (checks, seconds) = (number("CHECKS", 2_000), number("SECONDS", 60) as u64);
    let targets = Targets::start();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let started = Instant::now();
    add_checks(&server, targets.address, checks);
    println!("{checks} checks added in {:.1} s", started.elapsed().as_secs_f64());
    // Every check has run at least once then.
    sleep(FREQUENCY + Duration::from_millis(TIMEOUT_MS));
    let before = Figures::of(&server);
    sleep(Duration::from_secs(seconds));
    let after = Figures::of(&server);
    report(&server, &before, &after, checks, seconds);
    println!("most connections of one check at once: {}", targets.most_at_once.load(Relaxed));
}

/// Answers what is asked below `/good`, and never what is asked below `/hang`.
struct Targets {
    address: SocketAddr,
    most_at_once: Arc<AtomicUsize>,
}

type Open = Arc<Mutex<HashMap<String, usize>>>;

impl Targets {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let most_at_once = Arc::new(AtomicUsize::new(0));
        let (open, most) = (Open::default(), Arc::clone(&most_at_once));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (open, most) = (Arc::clone(&open), Arc::clone(&most));
                std::thread::spawn(move || serve(stream, &open, &most));
            }
        });
        Self { address, most_at_once }
    }
}

fn serve(mut stream: TcpStream, open: &Open, most: &AtomicUsize) {
    let mut bytes = [0; 4_096];
    let read = stream.read(&mut bytes).unwrap_or(0);
    let head = String::from_utf8_lossy(bytes.get(..read).unwrap_or(&[])).into_owned();
    let path = head.split(' ').nth(1).unwrap_or("").to_owned();
    {
        let mut open = open.lock().unwrap();
        let count = open.entry(path.clone()).or_default();
        *count += 1;
        most.fetch_max(*count, Relaxed);
    }
    if path.starts_with("/good") {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    // Until the other side has enough.
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
    if let Some(count) = open.lock().unwrap().get_mut(&path) {
        *count -= 1;
    }
}

fn add_checks(server: &Server, targets: SocketAddr, checks: usize) {
    let send = |token: &str, path: &str, body: &Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let answer = server.send("POST", &format!("/api/v1{path}"), &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let ids = json!({"stackId": 1, "metricsInstanceId": 2, "logsInstanceId": 3});
    let token = send("any", "/register/install", &ids)["accessToken"].as_str().unwrap().to_owned();
    for number in 0..checks {
        let kind = if number % HANGING == 0 { "hang" } else { "good" };
        let check = json!({
            "job": kind, "target": format!("http://{targets}/{kind}/{number}"),
            "frequency": FREQUENCY.as_millis() as u64, "timeout": TIMEOUT_MS, "enabled": true,
            "basicMetricsOnly": true, "probes": [1], "labels": [], "settings": {"http": {"ipVersion": "V4"}},
        });
        send(&token, "/check/add", &check);
    }
}

/// What the server and the kernel say of the process at one time.
struct Figures {
    metrics: String,
    cpu_ticks: u64,
    rss_kib: u64,
}

impl Figures {
    fn of(server: &Server) -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", server.pid())).unwrap();
        let stat = read("stat");
        // What follows the name, which may hold blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        let status = read("status");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            metrics: server.get("/metrics").text(),
            cpu_ticks: ticks(11) + ticks(12),
            rss_kib: rss.trim().trim_end_matches(" kB").parse().unwrap(),
        }
    }

    fn value(&self, name: &str) -> f64 {
        let line =
            self.metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
    }

    /// Upper bounds of the lateness with the counts up to each.
    fn lateness(&self) -> Vec<(String, f64)> {
        let prefix = "pilothouse_synthetic_run_lateness_seconds_bucket{le=\"";
        let lines = self.metrics.lines().filter_map(|line| line.strip_prefix(prefix));
        lines
            .filter_map(|line| line.split_once("\"} "))
            .map(|(bound, count)| (bound.to_owned(), count.parse().unwrap()))
            .collect()
    }
}

fn report(server: &Server, before: &Figures, after: &Figures, checks: usize, seconds: u64) {
    let grown = |name: &str| after.value(name) - before.value(name);
    let runs = |result: &str| grown(&format!("pilothouse_synthetic_runs_total{{result=\"{result}\"}}"));
    let window = seconds as f64;
    // The kernel counts a hundred ticks a second.
    let cpu = (after.cpu_ticks - before.cpu_ticks) as f64 / window;
    println!(
        "runs a second: {:.1} good, {:.1} failed, wanted {:.1}",
        runs("good") / window,
        runs("failed") / window,
        checks as f64 / FREQUENCY.as_secs_f64()
    );
    println!("processor: {cpu:.1} % of one, memory: {} MiB", after.rss_kib / 1024);
    println!("skipped: {}", grown("pilothouse_synthetic_runs_skipped_total"));
    println!("results dropped: {}", grown("pilothouse_synthetic_results_total{result=\"dropped\"}"));
    let late: Vec<(String, f64)> = before
        .lateness()
        .into_iter()
        .zip(after.lateness())
        .map(|((bound, before), (_, after))| (bound, after - before))
        .collect();
    let all = late.last().map_or(0.0, |(_, count)| *count);
    for share in [0.5, 0.99, 0.999] {
        let bound =
            late.iter().find(|(_, count)| *count >= share * all).map_or("?", |(bound, _)| bound.as_str());
        println!("late by at most {bound} s: {} % of runs", share * 100.0);
    }
    let query = format!("min by (job) (count_over_time(probe_success[{seconds}s]))");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let least = server.query(&query, i64::try_from(now).unwrap());
    for series in least.as_array().unwrap() {
        println!(
            "fewest runs of one check: {} of {}, {}",
            series["value"][1],
            seconds / FREQUENCY.as_secs(),
            series["metric"]["job"]
        );
    }
}
