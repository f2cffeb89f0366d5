//! One client that asks for far too much at once leaves the others their turns, and what nobody
//! waits for any more ends.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Server, escape, series};

const HEAVY_QUERIES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Five minutes of 300 series.
fn fill(server: &Server) {
    for n in 0..20 {
        let t_ms = (now_s() - 300 + n * 15) * 1_000;
        let batch: Vec<_> = (0..300)
            .map(|i| series(&[("__name__", "m"), ("i", &i.to_string())], &[(t_ms, (i * n) as f64)]))
            .collect();
        assert!(matches!(server.push(&batch).status, 200 | 204));
    }
}

/// Sends a request that takes long, and does not wait for its answer.
fn begin_heavy(server: &Server) -> TcpStream {
    let query = escape("max_over_time(sum by(i)(rate(m[5m]))[1h:1s])");
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "GET /prometheus/api/v1/query?query={query} HTTP/1.1\r\nHost: a\r\nUser-Agent: Grafana/12.0.0\r\n\
         X-Dashboard-Uid: heavy\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The sum of a metric's series.
fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").text();
    let of_name =
        |line: &&str| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{"));
    let value = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
    text.lines().filter(of_name).filter_map(value).sum()
}

fn eventually(what: &str, condition: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

/// Everything is asked while the heavy client's queries still wait, however fast the machine is.
#[test]
fn a_heavy_dashboard_leaves_others_their_turns() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    fill(&server);
    let group = "name: g\ninterval: 1s\nrules: [{record: r, expr: sum(m)}]\n";
    let headers = [("Content-Type", "application/yaml")];
    let set = server.send("POST", "/prometheus/config/v1/rules/n", &headers, group.as_bytes());
    assert_eq!(set.status, 202, "{}", set.text());
    let evaluations = || metric(&server, "prometheus_rule_evaluations_total");
    eventually("the rule is not evaluated", || evaluations() > 0.0);

    let heavy: Vec<TcpStream> = (0..HEAVY_QUERIES).map(|_| begin_heavy(&server)).collect();
    let waiting = || metric(&server, "pilothouse_queries_queued");
    eventually("nobody waits", || waiting() > HEAVY_QUERIES as f64 / 2.0);

    let before = evaluations();
    for _ in 0..10 {
        assert_eq!(server.query("count(m)", now_s())[0]["value"][1], "300");
        let entry = [(now_s() * 1_000_000_000, "line".to_owned())];
        assert_eq!(server.push_logs(&serde_json::json!({"a": "b"}), &entry).status, 204);
        assert!(server.count_logs("{a=\"b\"}") >= 1);
        assert!(matches!(
            server.push(&[series(&[("__name__", "n")], &[(now_s() * 1_000, 1.0)])]).status,
            200 | 204
        ));
    }
    assert!(waiting() > 0.0, "the light client was only answered when the heavy one was done");
    eventually("the rule is not evaluated any more", || evaluations() >= before + 2.0);
    assert!(waiting() > 0.0, "the rule was only evaluated when the heavy client was done");

    // Nobody waits for them any more: neither those that wait nor those that run go on.
    drop(heavy);
    let took = eventually("what nobody waits for goes on", || {
        waiting() == 0.0 && metric(&server, "pilothouse_queries_running") == 0.0
    });
    println!("what nobody waited for ended after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(server.stop().success());
}

/// Beyond the bound of one client its queries are refused, and another's are not.
#[test]
fn one_client_cannot_fill_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let flags = [["--limit", "max_queued_queries=40"], ["--limit", "max_queued_queries_of_client=10"]];
    let server = Server::start(directory.path(), &flags.concat());
    fill(&server);
    let heavy: Vec<TcpStream> = (0..60).map(|_| begin_heavy(&server)).collect();
    eventually("nobody is refused", || metric(&server, "pilothouse_queries_refused_total") > 10.0);
    let by_kind = server.get("/metrics").text();
    assert!(by_kind.contains("pilothouse_queries_refused_total{client=\"grafana\"}"), "{by_kind}");
    // The same address is the same caller, but another program of it has a lane left.
    let answer = server.get("/prometheus/api/v1/query?query=1");
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(heavy);
    eventually("it does not get well", || server.get("/prometheus/api/v1/query?query=1").status == 200);
}
