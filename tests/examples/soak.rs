//! Overload for a while, under a ceiling of memory: more writers than the server keeps up with,
//! and queries that nobody should ask. At the end everything acknowledged must be there.
//!
//! ```text
//! PILOTHOUSE_BIN=target/release/pilothouse cargo run -p pilothouse-tests --example soak -- \
//!     --seconds 1800 --memory 512 --writers 8 --queries 4
//! ```
//!
//! `--memory` is the ceiling in MiB. The resident size is watched; where the environment names a
//! control group (`PILOTHOUSE_SOAK_CGROUP=/sys/fs/cgroup/some/group`), one is made below it and the
//! kernel enforces the ceiling. The server is told a part of it, `--share` in percent, 75 unless
//! said otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure here is a failed run

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Series, Server, request, series};
use serde_json::json;

const SERIES: i64 = 2_000;
const LINES: i64 = 1_000;

/// Asked in turn, `NOW` is the time in seconds.
const QUERIES: [&str; 12] = [
    "/prometheus/api/v1/query_range?query=sum%20by(i)(rate(soak[5m]))&start=BEGIN&end=NOW&step=1",
    "/prometheus/api/v1/query_range?query=soak&start=BEGIN&end=NOW&step=1",
    "/prometheus/api/v1/query?query=max_over_time(sum(soak)[1h:1s])&time=NOW",
    "/prometheus/api/v1/query?query=soak*on(i,w)group_left()soak&time=NOW",
    "/prometheus/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D%5B1h%5D&time=NOW",
    "/prometheus/api/v1/query?query=%7B__name__%3D~%22((a%7B1000%7D)%7B1000%7D)%7B1000%7D%22%7D&time=NOW",
    "/prometheus/api/v1/series?match[]=%7B__name__!%3D%22%22%7D",
    "/loki/api/v1/query_range?query=%7Bapp%3D%22soak%22%7D%7C~%22(a%7Cb%7Cc)%2B.*%5B0-9%5D%2B%22&limit=5000&start=BEGINns&end=NOWns",
    "/loki/api/v1/query?query=sum%20by(line)(count_over_time(%7Bapp%3D%22soak%22%7D%7Cregexp%20%22(%3FP%3Cline%3E.*)%22%5B1h%5D))&time=NOWns",
    "/loki/api/v1/query_range?query=sum(rate(%7Bapp%3D%22soak%22%7D%5B1m%5D))&step=1&start=BEGINns&end=NOWns",
    "/loki/api/v1/patterns?query=%7Bapp%3D%22soak%22%7D&start=BEGINns&end=NOWns",
    "/prometheus/api/v1/status/tsdb",
];

/// What was asked for on the command line.
struct Asked(BTreeMap<String, u64>);

impl Asked {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let pair = |pair: &[String]| {
            let name = pair[0].strip_prefix("--").unwrap_or_else(|| panic!("{} is no flag", pair[0]));
            (
                name.to_owned(),
                pair.get(1)
                    .and_then(|v| v.parse().ok())
                    .unwrap_or_else(|| panic!("{name}: a number is wanted")),
            )
        };
        Self(words.chunks(2).map(pair).collect())
    }

    fn get(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(default)
    }
}

#[derive(Default)]
struct Tally {
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    answered: Mutex<BTreeMap<u16, u64>>,
    latencies_ms: Mutex<Vec<u32>>,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A control group with a ceiling, of either version; removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Below the group that the environment names, if it names one.
    fn make(process: u32, mib: u64) -> Option<Self> {
        let parent = PathBuf::from(std::env::var_os("PILOTHOUSE_SOAK_CGROUP")?);
        let path = parent.join(format!("pilothouse-soak-{process}"));
        fs::create_dir(&path).unwrap();
        let group = Self(path);
        let ceiling = ["memory.max", "memory.limit_in_bytes"].map(|name| group.0.join(name));
        let ceiling = ceiling.iter().find(|path| path.is_file()).expect("a control group that limits memory");
        fs::write(ceiling, (mib << 20).to_string()).unwrap();
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        fs::write(group.0.join("cgroup.procs"), process.to_string()).unwrap();
        Some(group)
    }

    fn kills(&self) -> u64 {
        let texts = ["memory.events", "memory.oom_control"].map(|name| fs::read_to_string(self.0.join(name)));
        let lines = texts.iter().flatten().flat_map(|text| text.lines());
        let counts = lines.filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
        counts.sum()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn resident_mib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// Sends one batch; whether it was acknowledged.
fn note(tally: &Tally, began: Instant, status: std::io::Result<u16>) -> bool {
    match status {
        Ok(200 | 204) => {
            tally.accepted.fetch_add(1, Relaxed);
            tally.latencies_ms.lock().unwrap().push(began.elapsed().as_millis() as u32);
            true
        }
        Ok(429 | 503) => {
            tally.refused.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(50));
            false
        }
        _ => {
            tally.failed.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(50));
            false
        }
    }
}

/// Batches of one time each; the times that were acknowledged.
fn write_samples(
    server: &Server,
    writer: u64,
    begin_ms: i64,
    tally: &Tally,
    over: &AtomicBool,
) -> (u64, u64) {
    let (mut acknowledged, mut sent) = (0, 0);
    let who = writer.to_string();
    while !over.load(Relaxed) {
        sent += 1;
        let t_ms = begin_ms + sent as i64 * 10;
        let batch: Vec<Series> = (0..SERIES)
            .map(|i| {
                let value = (t_ms.wrapping_mul(i + 7) % 10_007) as f64 / 7.0;
                series(&[("__name__", "soak"), ("w", &who), ("i", &i.to_string())], &[(t_ms, value)])
            })
            .collect();
        let headers = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
        let body = pilothouse_tests::push_body(&batch);
        let began = Instant::now();
        let answer = server.try_send("POST", "/api/v1/push", &headers, &body);
        acknowledged += u64::from(note(tally, began, answer.map(|a| a.status)));
    }
    (acknowledged, sent)
}

fn write_lines(server: &Server, writer: u64, begin_ms: i64, tally: &Tally, over: &AtomicBool) -> (u64, u64) {
    let (mut acknowledged, mut sent) = (0, 0);
    while !over.load(Relaxed) {
        sent += 1;
        let t_ms = begin_ms + sent as i64 * 10;
        let values: Vec<_> = (0..LINES)
            .map(|i| {
                let t_ns = t_ms * 1_000_000 + i;
                let id = t_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
                json!([
                    t_ns.to_string(),
                    format!(
                        "level=info writer={writer} id={id:016x} took={}ms something happened",
                        id & 1023
                    )
                ])
            })
            .collect();
        let body =
            json!({"streams": [{"stream": {"app": "soak", "w": writer.to_string()}, "values": values}]});
        let headers = [("Content-Type", "application/json")];
        let began = Instant::now();
        let answer = server.try_send("POST", "/loki/api/v1/push", &headers, body.to_string().as_bytes());
        acknowledged += u64::from(note(tally, began, answer.map(|a| a.status)));
    }
    (acknowledged, sent)
}

fn ask(server: &Server, from: usize, begin_s: i64, tally: &Tally, over: &AtomicBool) {
    for query in QUERIES.iter().cycle().skip(from) {
        if over.load(Relaxed) {
            return;
        }
        let (begin, now) = (begin_s.to_string(), (now_ms() / 1000).to_string());
        let path = query
            .replace("BEGINns", &format!("{begin}000000000"))
            .replace("NOWns", &format!("{now}000000000"))
            .replace("BEGIN", &begin)
            .replace("NOW", &now);
        let status = request(server.address, "GET", &path, &[], b"").map_or(0, |answer| answer.status);
        *tally.answered.lock().unwrap().entry(status).or_default() += 1;
    }
}

/// Acknowledged and sent by writer, compared with what a query finds; the number of misses.
fn compare(
    server: &Server,
    kind: &str,
    writers: &[(u64, u64)],
    each: u64,
    count: impl Fn(&Server, usize) -> u64,
) -> u64 {
    let mut wrong = 0;
    for (writer, (acknowledged, sent)) in writers.iter().enumerate() {
        let found = count(server, writer);
        if found < acknowledged * each || found > sent * each {
            println!(
                "{kind} of writer {writer}: {found}, acknowledged {}, sent {}",
                acknowledged * each,
                sent * each
            );
            wrong += 1;
        }
    }
    wrong
}

fn main() {
    // Apart, so that server, control group and directory are gone before the process ends.
    let bad = run(&Asked::read());
    std::process::exit(i32::from(bad > 0));
}

/// How many things were not as they must be.
fn run(asked: &Asked) -> u64 {
    let (seconds, mib) = (asked.get("seconds", 60), asked.get("memory", 512));
    let (writers, askers) = (asked.get("writers", 8), asked.get("queries", 4));
    let directory = tempfile::tempdir().unwrap();
    let limit = format!("{}MiB", mib * asked.get("share", 75) / 100);
    let flags =
        ["--memory-limit", &limit, "--limit", "max_active_series=0", "--limit", "query_timeout_ms=30000"];
    let server = Server::start(directory.path(), &flags);
    let group = Group::make(server.id(), mib);
    println!("ceiling {mib} MiB, {}", if group.is_some() { "enforced by the kernel" } else { "watched" });
    let (over, tally, queries) = (AtomicBool::new(false), Tally::default(), Tally::default());
    let begin_ms = now_ms() - 3_000_000;
    let mut largest = 0;
    let (samples, lines) = std::thread::scope(|scope| {
        let (server, tally, over) = (&server, &tally, &over);
        let of_samples: Vec<_> = (0..writers)
            .map(|w| scope.spawn(move || write_samples(server, w, begin_ms, tally, over)))
            .collect();
        let of_lines: Vec<_> = (0..writers / 2)
            .map(|w| scope.spawn(move || write_lines(server, w, begin_ms, tally, over)))
            .collect();
        for n in 0..askers {
            let queries = &queries;
            scope.spawn(move || ask(server, n as usize * 3, begin_ms / 1000, queries, over));
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(500));
            largest = largest.max(resident_mib(server.id()));
        }
        over.store(true, Relaxed);
        let join = |handles: Vec<std::thread::ScopedJoinHandle<'_, (u64, u64)>>| {
            handles.into_iter().map(|h| h.join().unwrap()).collect::<Vec<_>>()
        };
        (join(of_samples), join(of_lines))
    });
    let kills = group.as_ref().map_or(0, Group::kills);
    println!(
        "writes: {} taken, {} refused, {} failed",
        tally.accepted.load(Relaxed),
        tally.refused.load(Relaxed),
        tally.failed.load(Relaxed)
    );
    let mut latencies = std::mem::take(&mut *tally.latencies_ms.lock().unwrap());
    latencies.sort_unstable();
    let at = |permille: usize| latencies.get(latencies.len() * permille / 1000).copied().unwrap_or(0);
    println!(
        "taken writes, ms: p50 {}, p99 {}, p99.9 {}, max {}",
        at(500),
        at(990),
        at(999),
        latencies.last().unwrap_or(&0)
    );
    println!("queries by status (0: connection closed): {:?}", queries.answered.lock().unwrap());
    println!("largest resident size: {largest} MiB; killed for memory: {kills}");
    // What waits gets done first; and once more after a restart.
    std::thread::sleep(Duration::from_secs(5));
    let wrong = check(&server, begin_ms, &samples, &lines);
    server.kill();
    let server = Server::start(directory.path(), &["--limit", "query_timeout_ms=600000"]);
    let wrong_after = check(&server, begin_ms, &samples, &lines);
    println!(
        "writers whose data is not as acknowledged: {wrong} before, {wrong_after} after a kill and a restart"
    );
    wrong + wrong_after + kills + u64::from(largest > mib)
}

fn check(server: &Server, begin_ms: i64, samples: &[(u64, u64)], lines: &[(u64, u64)]) -> u64 {
    let now_s = now_ms() / 1000 + 1;
    let window = now_s - begin_ms / 1000 + 1;
    let of_samples = |server: &Server, writer: usize| {
        // A sample of each batch is enough to know the batch.
        let query = format!("count_over_time(soak{{w=\"{writer}\",i=\"7\"}}[{window}s])");
        server.query(&query, now_s)[0]["value"][1].as_str().unwrap_or("0").parse().unwrap()
    };
    let of_lines =
        |server: &Server, writer: usize| server.count_logs(&format!("{{app=\"soak\",w=\"{writer}\"}}"));
    compare(server, "samples", samples, 1, of_samples)
        + compare(server, "lines", lines, LINES as u64, of_lines)
}
