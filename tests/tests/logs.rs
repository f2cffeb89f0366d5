//! An entry's way from a push to a query, to those who follow, and through a crash.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Frame, Server, request};
use serde_json::{Value, json};

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

fn lines(result: &Value) -> Vec<String> {
    let values = result.as_array().unwrap().iter().flat_map(|s| s["values"].as_array().unwrap());
    values.map(|v| v[1].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_next_query_sees_what_was_pushed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for i in 0..50 {
        let answer = server.push_logs(&json!({ "app": "x" }), &[(now_ns(), format!("line {i}"))]);
        assert_eq!(answer.status, 204, "{}", answer.text());
        assert_eq!(lines(&server.query_logs("{app=\"x\"}", "&limit=1")), [format!("line {i}")]);
    }
    assert_eq!(server.count_logs("{app=\"x\"}"), 50);
    assert_eq!(server.count_logs("{app=\"x\"} |= \"ine 4\""), 11);
    assert_eq!(
        server.get("/loki/api/v1/label/service_name/values").json(),
        json!({ "status": "success", "data": ["x"] })
    );
}

#[test]
fn followers_are_told_what_comes_and_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let app = json!({ "app": "x" });
    let old = [(now_ns(), "old".to_owned())];
    server.push_logs(&app, &old);
    let mut socket = server.follow_logs("{app=\"x\"} != \"quiet\"");
    let told = |text: String| lines(&serde_json::from_str::<Value>(&text).unwrap()["streams"]);
    assert_eq!(told(socket.next_text()), ["old"]);
    let new = [(now_ns(), "quiet".to_owned()), (now_ns(), "new".to_owned())];
    assert_eq!(server.push_logs(&app, &new).status, 204);
    assert_eq!(told(socket.next_text()), ["new"]);
    // A sender that did not see the answer comes again.
    assert_eq!(server.push_logs(&app, &new).status, 204);
    server.push_logs(&app, &[(now_ns(), "last".to_owned())]);
    assert_eq!(told(socket.next_text()), ["last"]);
    assert!(server.stop().success());
    loop {
        match socket.read_frame() {
            Frame::Close(code, _) => return assert_eq!(code, 1001),
            Frame::Text(text) => panic!("{text}"),
            Frame::Other => {}
        }
    }
}

#[test]
fn a_crash_loses_nothing_and_a_repeat_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let start = now_ns() - 60_000_000_000;
    let batch = |n: i64| -> Vec<(i64, String)> {
        (0..500).map(|i| (start + (n * 500 + i) * 1_000_000, format!("batch {n} line {i}"))).collect()
    };
    let app = json!({ "app": "x" });
    let server = Server::start(directory.path(), &[]);
    for n in 0..20 {
        assert_eq!(server.push_logs(&app, &batch(n)).status, 204);
    }
    server.kill();

    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.count_logs("{app=\"x\"}"), 10_000);
    // The last request again, since its sender may not have seen the answer.
    assert_eq!(server.push_logs(&app, &batch(19)).status, 204);
    assert_eq!(server.count_logs("{app=\"x\"}"), 10_000);
    assert_eq!(server.push_logs(&app, &batch(20)).status, 204);
    assert!(server.stop().success());

    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.count_logs("{app=\"x\"}"), 10_500);
    assert_eq!(server.push_logs(&app, &batch(3)).status, 204);
    assert_eq!(server.count_logs("{app=\"x\"}"), 10_500);
    assert_eq!(server.count_logs("{app=\"x\"} |= \"batch 7 line 77\""), 1);
}

/// A sender pushes without a pause until the server is killed, and sends what was not answered again:
/// everything that was answered is there, and everything is there once.
#[test]
fn the_request_that_a_kill_cut_off_is_stored_once_when_it_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let start = now_ns() - 600_000_000_000;
    let body = |n: i64| {
        // Every third batch is late, and each has two streams.
        let first = start + (n - n % 3 * 2) * 1_000_000_000;
        let values = |pod: &str| -> Vec<Value> {
            (0..100)
                .map(|i| json!([(first + i * 1_000).to_string(), format!("batch {n} line {i} of {pod}")]))
                .collect()
        };
        let stream = |pod: &str| json!({ "stream": { "app": "x", "pod": pod }, "values": values(pod) });
        json!({ "streams": [stream("a"), stream("b")] }).to_string()
    };
    let mut sent = 0;
    for round in 0..5 {
        let server = Server::start(directory.path(), &[]);
        assert_eq!(server.count_logs("{app=\"x\"}"), 200 * sent, "round {round}");
        let address = server.address;
        let push = |n: u64| {
            let headers = [("Content-Type", "application/json")];
            request(address, "POST", "/loki/api/v1/push", &headers, body(n as i64).as_bytes())
        };
        let next = AtomicU64::new(sent);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while push(next.load(Relaxed)).is_ok_and(|answer| answer.status == 204) {
                    next.fetch_add(1, Relaxed);
                }
            });
            // However slow the machine is, something has been answered by then.
            let patience = Instant::now() + Duration::from_secs(30);
            while next.load(Relaxed) == sent && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(120 + 70 * round));
            server.kill();
        });
        let sender = next.into_inner();
        assert!(sender > sent, "nothing was answered in round {round}");
        let server = Server::start(directory.path(), &[]);
        let before = server.count_logs("{app=\"x\"}");
        assert!(
            [200 * sender, 200 * sender + 200].contains(&before),
            "{before} of {sender} in round {round}"
        );
        // What was not answered, and what was answered last.
        for n in [sender, sender - 1] {
            let headers = [("Content-Type", "application/json")];
            let answer = server.send("POST", "/loki/api/v1/push", &headers, body(n as i64).as_bytes());
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
        sent = sender + 1;
        assert_eq!(server.count_logs("{app=\"x\"}"), 200 * sent, "round {round}");
        match round % 2 {
            0 => server.kill(),
            _ => assert!(server.stop().success()),
        }
    }
}

#[test]
fn new_streams_beyond_the_limit_are_refused_and_known_ones_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--max-log-streams", "2"]);
    for app in ["a", "b"] {
        assert_eq!(server.push_logs(&json!({ "app": app }), &[(now_ns(), "x".to_owned())]).status, 204);
    }
    let answer = server.push_logs(&json!({ "app": "c" }), &[(now_ns(), "x".to_owned())]);
    assert_eq!(answer.status, 429);
    let start =
        "Maximum active stream limit exceeded when trying to create stream {app=\"c\", service_name=\"c\"}, ";
    assert!(answer.text().starts_with(start), "{}", answer.text());
    assert_eq!(server.push_logs(&json!({ "app": "a" }), &[(now_ns(), "y".to_owned())]).status, 204);
    assert_eq!(server.count_logs("{app=~\".+\"}"), 3);
}

#[test]
fn what_is_deleted_is_gone_at_once_and_comes_back_when_the_request_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let t_ns = now_ns() - 5_000_000_000;
    let entries: Vec<_> = (0..10).map(|i| (t_ns + i, format!("line {i}"))).collect();
    server.push_logs(&json!({ "app": "x" }), &entries);
    let start = t_ns / 1_000_000_000 - 60;
    let path =
        format!("/loki/api/v1/delete?query=%7Bapp%3D%22x%22%7D%20%7C%3D%20%22line%203%22&start={start}");
    let answer = server.send("POST", &path, &[], b"");
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(server.count_logs("{app=\"x\"}"), 9);
    let list = server.get("/loki/api/v1/delete").json();
    assert_eq!(
        (&list[0]["query"], &list[0]["status"]),
        (&json!("{app=\"x\"} |= \"line 3\""), &json!("received"))
    );
    let id = list[0]["request_id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("x-delete-request-id"), Some(id.as_str()));
    let cancel =
        |id: &str| server.send("DELETE", &format!("/loki/api/v1/delete?request_id={id}"), &[], b"").status;
    assert_eq!((cancel(&id), cancel(&id)), (204, 404));
    assert_eq!(server.count_logs("{app=\"x\"}"), 10);
}
