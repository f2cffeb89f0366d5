//! Full disks and full memory: what is refused is told, what was acknowledged stays, what is
//! there can be read, and all goes on by itself when there is room.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Answer, Series, Server, series};
use serde_json::json;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Samples that do not compress; each batch is of one time.
fn batch(t_ms: i64) -> Vec<Series> {
    let noise =
        |i: i64| f64::from_bits((t_ms * 1000 + i).unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
    (0..500).map(|i| series(&[("__name__", "m"), ("i", &i.to_string())], &[(t_ms, noise(i))])).collect()
}

fn is_taken(answer: &Answer) -> bool {
    matches!(answer.status, 200 | 204)
}

/// Pushes until a push is refused; times of what was taken, and the refusal.
fn fill(server: &Server, t_ms: &mut i64) -> (Vec<i64>, Answer) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut taken = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "nothing was refused");
        *t_ms += 1;
        let answer = server.push(&batch(*t_ms));
        if !is_taken(&answer) {
            return (taken, answer);
        }
        taken.push(*t_ms);
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// How many samples of one series there are up to now.
fn count(server: &Server) -> usize {
    let found = server.query("count_over_time(m{i=\"7\"}[1h])", now_ms() / 1000 + 1);
    found[0]["value"][1].as_str().unwrap_or("0").parse().unwrap()
}

/// Fills, observes, makes room, observes, starts anew, observes.
fn fill_and_free(data_dir: &Path, flags: &[&str], ballast: &Path) {
    let mut t_ms = now_ms() - 1_800_000;
    let server = Server::start(data_dir, flags);
    let (taken, refusal) = fill(&server, &mut t_ms);
    assert_eq!(refusal.status, 503, "{}", refusal.text());
    assert!(refusal.header("retry-after").is_some());
    let text = refusal.text();
    assert!(text.contains("the disk is nearly full") || text.contains("of the"), "{text}");
    // Logs are refused for the same reason, reads and probes go on.
    let entry = [(now_ms() * 1_000_000, "line".to_owned())];
    let logs = server.push_logs(&json!({"a": "b"}), &entry);
    assert_eq!(logs.status, 503, "{}", logs.text());
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!(count(&server), taken.len());
    assert_eq!(
        (metric(&server, "pilothouse_disk_full"), metric(&server, "pilothouse_disk_fills_total")),
        (1.0, 1.0)
    );
    std::fs::remove_file(ballast).unwrap();
    eventually("writes are not taken again", || is_taken(&server.push(&batch(now_ms()))));
    assert_eq!(server.push_logs(&json!({"a": "b"}), &entry).status, 204);
    assert!(metric(&server, "pilothouse_disk_full") == 0.0);
    let before = count(&server);
    assert!(before > taken.len());
    server.kill();
    let server = Server::start(data_dir, flags);
    assert_eq!((count(&server), server.count_logs("{a=\"b\"}")), (before, 1));
    assert_eq!(metric(&server, "pilothouse_store_corruptions_total"), 0.0);
}

#[test]
fn data_has_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    // Something in the data directory that is not ours counts too.
    let ballast = directory.path().join("ballast");
    std::fs::write(&ballast, vec![1; 30 << 20]).unwrap();
    fill_and_free(directory.path(), &["--disk-limit", "34MiB"], &ballast);
}

/// A file system of its own, gone with the value; `None` where mounting is not permitted.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Where mounting is not permitted, the limit above and the tests of the stores say the same.
#[test]
fn a_small_disk_fills_up_and_gets_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::new(&directory.path().join("disk"), "96m") else { return };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 60 << 20]).unwrap();
    fill_and_free(&disk.0.join("data"), &[], &ballast);
}

#[test]
fn the_oldest_day_goes_first_where_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let ballast = directory.path().join("ballast");
    let flags = ["--disk-limit", "34MiB", "--disk-full-policy", "drop-oldest"];
    let server = Server::start(directory.path(), &flags);
    let day_ms = 86_400_000;
    for day in [3, 2, 1] {
        assert!(is_taken(&server.push(&batch(now_ms() - day * day_ms))));
    }
    assert!(server.stop().success());
    let server = Server::start(directory.path(), &flags);
    let at = |day: i64| {
        let found = server.query("count(m)", (now_ms() - day * day_ms) / 1000 + 60);
        found[0]["value"][1].as_str().unwrap_or("0").parse::<u64>().unwrap()
    };
    assert_eq!((at(3), at(2), at(1)), (500, 500, 500));
    std::fs::write(&ballast, vec![1; 34 << 20]).unwrap();
    eventually("the oldest day stays", || at(3) == 0);
    std::fs::remove_file(&ballast).unwrap();
    eventually("writes are not taken", || is_taken(&server.push(&batch(now_ms()))));
    assert_eq!(at(0), 500);
}

#[test]
fn a_query_that_memory_does_not_bear_is_refused_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--memory-limit", "160MiB", "--limit", "max_query_memory_bytes=10000000000"];
    let server = Server::start(directory.path(), &flags);
    let now = now_ms();
    for n in 0..20 {
        assert!(is_taken(&server.push(&batch(now - 300_000 + n * 15_000))));
    }
    // Every series at every step of a long range: far more than there is.
    let heavy = format!(
        "/prometheus/api/v1/query_range?query=label_replace(m*on(i)group_left()m,%22x%22,%22$1%22,%22i%22,%22(.*)%22)\
         &start={}&end={}&step=1",
        now / 1000 - 10_000,
        now / 1000
    );
    let answer = server.get(&heavy);
    assert!(matches!(answer.status, 200 | 422 | 503), "{}: {}", answer.status, answer.text());
    if answer.status == 503 {
        assert!(answer.text().contains("memory limit"), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
    eventually("writes are not taken", || is_taken(&server.push(&batch(now_ms()))));
    assert_eq!(server.query("count(m)", now / 1000)[0]["value"][1], "500");
    assert_eq!(metric(&server, "pilothouse_memory_limit_bytes"), f64::from(160u32 << 20));
}
