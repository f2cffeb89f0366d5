//! What one server keeps is carried to another one, directly and by files, and gives the same
//! answers there.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Flaky, Server, binary, series};
use serde_json::{Value, json};

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    let url = format!("http://{}", server.address);
    Command::new(binary()).args(arguments).env("PILOTHOUSE_URL", url).output().unwrap()
}

fn good(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Series of two days, one of them stale at its end, and lines of which thousands share a time.
fn fill(server: &Server, now: i64) {
    for base in [now - 60, now - 2 * 86_400] {
        let all: Vec<_> = (0..20)
            .map(|i| {
                let samples: Vec<(i64, f64)> =
                    (0..100).map(|n| ((base - 15 * n) * 1000 + i, (i * n) as f64 / 3.0)).rev().collect();
                let name = if i % 2 == 0 { "even" } else { "odd_total" };
                series(&[("__name__", name), ("i", &i.to_string()), ("text", "a \"b\"\n\\c")], &samples)
            })
            .collect();
        assert!(matches!(server.push(&all).status, 200 | 204));
    }
    let at = (now - 900) * 1_000_000_000;
    let line = |i: i64| (at + (i / 1_500) * 7, format!("line {i}"));
    let entries: Vec<(i64, String)> = (0..4_000).map(line).collect();
    assert_eq!(server.push_logs(&json!({"app": "shop"}), &entries).status, 204);
    let old = json!({"streams": [{"stream": {"app": "bank"}, "values": [
        [((now - 2 * 86_400) * 1_000_000_000).to_string(), "old", {"trace": "t1"}],
        [(at + 7).to_string(), "with \"quotes\"", {"trace": "t2"}],
    ]}]});
    let headers = [("Content-Type", "application/json")];
    let answer = server.send("POST", "/loki/api/v1/push", &headers, old.to_string().as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn sorted(mut result: Value) -> Value {
    result.as_array_mut().unwrap().sort_by_key(|one| one["metric"].to_string());
    result
}

fn metrics(server: &Server, now: i64) -> Vec<Value> {
    let of = |t: i64| sorted(server.query("{i=~\".+\"}[1h]", t));
    vec![of(now), of(now - 2 * 86_400)]
}

fn logs(server: &Server) -> (Vec<u64>, Value) {
    let counts = ["{app=\"shop\"}", "{app=\"bank\"} | trace=\"t2\"", "{trace=\"t2\"}"];
    let counts = counts.iter().map(|query| server.count_logs(query)).collect();
    (counts, server.query_logs("{app=~\".+\"} |~ \"quotes|line 1[0-9]$\"", "&limit=1000&direction=forward"))
}

#[test]
fn metrics_are_carried_to_another_server_and_through_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let now = now_s();
    let (from, to) = (Server::start(&at("from"), &[]), Server::start(&at("to"), &[]));
    fill(&from, now);
    let expected = metrics(&from, now);
    assert_eq!(expected[1].as_array().unwrap().len(), 20);

    let push = format!("http://{}/api/v1/push", to.address);
    let select = ["export", "metrics", "--match", "{i=~\".+\"}"];
    let carried = good(&from, &[&select[..], &["--remote-write", &push]].concat());
    assert_eq!(carried, "carried 4000 samples\n");
    assert_eq!(metrics(&to, now), expected);

    let import = ["import", "prometheus", "--match", "{i=~\".+\"}", "--since", "1h", "--url"];
    let third = Server::start(&at("third"), &[]);
    let prometheus = format!("http://{}/prometheus", from.address);
    good(&third, &[&import[..], &[&prometheus]].concat());
    assert_eq!(metrics(&third, now)[0], expected[0]);

    let file = at("all.txt");
    let file = file.to_str().unwrap();
    let to_file = [&select[..], &["--openmetrics", file]].concat();
    good(&from, &to_file);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.starts_with("# TYPE even unknown\neven{i=\"0\",") && text.ends_with("\n# EOF\n"));
    assert_eq!(text.matches("# TYPE").count(), 2);
    assert!(refused(&from, &to_file).contains("is there already"));
    let fourth = Server::start(&at("fourth"), &[]);
    good(&fourth, &["import", "openmetrics", file]);
    assert_eq!(metrics(&fourth, now), expected);
    assert!(!Path::new(&format!("{file}.state")).exists());
}

#[test]
fn lines_are_carried_whole_once_and_with_their_metadata() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let now = now_s();
    let (from, to) = (Server::start(&at("from"), &[]), Server::start(&at("to"), &[]));
    fill(&from, now);
    let expected = logs(&from);
    assert_eq!(expected.0, [4_000, 1, 0]);

    let loki = format!("http://{}", to.address);
    let select = ["export", "logs", "--query", "{app=~\".+\"}", "--since", "7d"];
    let carried = good(&from, &[&select[..], &["--loki", &loki]].concat());
    assert_eq!(carried, "carried 4002 lines\n");
    assert_eq!(logs(&to), expected);
    let import = ["import", "loki", "--query", "{app=~\".+\"}", "--since", "7d", "--url"];
    let third = Server::start(&at("third"), &[]);
    assert_eq!(good(&third, &[&import[..], &[&loki]].concat()), "carried 4002 lines\n");
    assert_eq!(logs(&third), expected);

    let file = at("all.jsonl");
    let to_file = [&select[..], &["--jsonl", file.to_str().unwrap()]].concat();
    good(&from, &to_file);
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4_002);
    assert_eq!((&lines[0]["line"], &lines[0]["metadata"]["trace"]), (&json!("old"), &json!("t1")));
}

#[test]
fn a_move_that_broke_off_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let now = now_s();
    let from = Server::start(&at("from"), &[]);
    fill(&from, now);
    // A server that takes the older of two days and refuses the younger one's length of labels.
    let to = Server::start(&at("to"), &["--limit", "max_label_value_bytes=10"]);
    let long =
        series(&[("__name__", "even"), ("i", "99"), ("long", "12345678901")], &[((now - 30) * 1000, 1.0)]);
    assert!(matches!(from.push(&[long]).status, 200 | 204));
    let (push, state) = (format!("http://{}/api/v1/push", to.address), at("state"));
    let arguments = ["export", "metrics", "--match", "{i=~\".+\"}", "--since", "3d"];
    let arguments = [&arguments[..], &["--remote-write", &push, "--state", state.to_str().unwrap()]].concat();
    let said = refused(&from, &arguments);
    assert!(said.contains("answered 400") && said.contains("go on"), "{said}");
    let left: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(left["place"]["items"], 2_000, "{left}");
    assert!(
        refused(&from, &["export", "metrics", "--remote-write", &push, "--state", state.to_str().unwrap()])
            .contains("another move")
    );
    let output = run(&from, &[&arguments[..], &["--skip-refused"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("refused at least in part: 1 batches"), "{said}");
    assert_eq!(output.stdout, b"carried 4001 samples\n");
    assert!(!state.exists());
    let answers = metrics(&to, now);
    assert_eq!(answers[0].as_array().unwrap().len(), 20, "the good part of the batch is stored");
}

#[test]
fn a_busy_server_is_asked_again_when_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let now = now_s();
    let (from, to) = (Server::start(&at("from"), &[]), Server::start(&at("to"), &[]));
    fill(&from, now);
    let busy = Flaky::start(to.address, &[429, 503]);
    let push = format!("http://{}/api/v1/push", busy.address);
    let export = ["export", "metrics", "--match", "{i=~\".+\"}", "--since", "1h", "--remote-write", &push];
    let begun = Instant::now();
    let output = run(&from, &export);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("answered 429; trying again"), "{said}");
    assert!(said.contains("answered 503") && begun.elapsed() >= Duration::from_secs(2), "{said}");
    let seen = busy.seen();
    assert_eq!(seen.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [429, 503, 200]);
    assert!(seen.iter().all(|(_, body)| *body == seen[0].1), "the same batch each time");
    assert_eq!(metrics(&to, now)[0], metrics(&from, now)[0]);

    // The same where it is read from.
    let third = Server::start(&at("third"), &[]);
    let busy = Flaky::start(from.address, &[500, 429]);
    let url = format!("http://{}", busy.address);
    let import = ["import", "loki", "--query", "{app=~\".+\"}", "--since", "7d", "--url", &url];
    assert_eq!(good(&third, &import), "carried 4002 lines\n");
    assert_eq!(logs(&third), logs(&from));

    // What will not change by waiting is told at once.
    let refusing = Flaky::start(to.address, &[400]);
    let push = format!("http://{}/api/v1/push", refusing.address);
    let export = ["export", "metrics", "--match", "{i=~\".+\"}", "--since", "1h", "--remote-write", &push];
    assert!(refused(&from, &export).contains("answered 400: not now"));
    assert_eq!(refusing.seen().len(), 1);
}

#[test]
fn metrics_and_lines_are_written_as_parquet() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let server = Server::start(&at("data"), &[]);
    fill(&server, now_s());
    let (samples, lines) = (at("samples"), at("lines"));
    let metrics = ["export", "metrics", "--match", "{i=~\".+\"}", "--since", "3d", "--parquet"];
    let metrics = [&metrics[..], &[samples.to_str().unwrap()]].concat();
    assert_eq!(good(&server, &metrics), "carried 4000 samples\n");
    let logs = ["export", "logs", "--query", "{app=~\".+\"}", "--since", "7d", "--parquet"];
    assert_eq!(good(&server, &[&logs[..], &[lines.to_str().unwrap()]].concat()), "carried 4002 lines\n");
    // What is in them is compared where they are written; here, that they are whole.
    for directory in [&samples, &lines] {
        let bytes = std::fs::read(directory.join("part-000001.parquet")).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 1);
    }
    assert!(!at("samples.state").exists());
    assert!(refused(&server, &metrics).contains("is not empty"));
}

/// Blocks that `promtool` made of OpenMetrics, one that a Prometheus made of native histograms, and
/// a deletion in the first; and what that Prometheus answered.
fn blocks() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/prometheus-blocks")
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_directory(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Keeps for ever, since the blocks are from 2023.
fn keeper(data_dir: &Path) -> Server {
    Server::start(data_dir, &["--retention", "0"])
}

fn as_prometheus_answered(server: &Server) {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(blocks().join("answers.json")).unwrap()).unwrap();
    for row in expected.as_array().unwrap() {
        let (query, time) = (row["query"].as_str().unwrap(), row["time"].as_i64().unwrap());
        assert_eq!(sorted(server.query(query, time)), row["result"], "{query}");
    }
}

#[test]
fn blocks_of_a_prometheus_answer_here_as_they_did_there() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let server = keeper(&at("all"));
    let blocks = blocks();
    let import = ["import", "tsdb", blocks.to_str().unwrap()];
    assert_eq!(good(&server, &import), "carried 930 samples\n");
    as_prometheus_answered(&server);
    // Taken twice, and from blocks that overlap, samples are there once.
    copy_directory(&blocks, &at("doubled"));
    let one = blocks.join("01M81QEHVATDT80454Y9BNHTPR");
    copy_directory(&one, &at("doubled/01M81QEHVATDT80454Y9BNHTPX"));
    let doubled = at("doubled");
    good(&server, &["import", "tsdb", doubled.to_str().unwrap()]);
    as_prometheus_answered(&server);

    let some = keeper(&at("some"));
    let one = ["import", "tsdb", one.to_str().unwrap(), "--match", "{shop=~\"a|b\"}"];
    assert_eq!(good(&some, &one), "carried 240 samples\n");
    let counted = some.query("count_over_time({__name__=~\".+\"}[4h])", 1_700_014_500);
    assert_eq!(counted.as_array().unwrap().len(), 2);
}

#[test]
fn an_import_of_blocks_goes_on_at_the_day_where_it_broke_off() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // Takes the first day, and refuses the histograms of the second.
    let server = Server::start(&at("data"), &["--retention", "0", "--limit", "max_histogram_buckets=3"]);
    let (blocks, state) = (blocks(), at("state"));
    let import = ["import", "tsdb", blocks.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let said = refused(&server, &import);
    assert!(said.contains("answered 400") && said.contains("go on"), "{said}");
    let left: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let place = &left["place"];
    assert_eq!((&place["lane"], &place["items"]), (&json!("2023-11-14T00:00:00Z"), &json!(450)), "{left}");
    assert_eq!(good(&server, &[&import[..], &["--skip-refused"]].concat()), "carried 930 samples\n");
    assert!(!state.exists());
    let floats = server.query("count_over_time(fix_total[4h])", 1_700_014_500);
    assert!(floats.as_array().unwrap().iter().all(|one| one["value"][1] == "240"), "{floats}");
}

#[test]
fn a_damaged_chunk_is_named_and_the_rest_comes_in() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    copy_directory(&blocks(), &at("blocks"));
    // The last chunk of the first block's only segment, and the whole index of another.
    let segment = at("blocks/01M81QEHVATDT80454Y9BNHTPR/chunks/000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let index = at("blocks/01M81QFFXXRA4B6RB0N6C8PE28/index");
    std::fs::write(&index, b"nothing of the kind").unwrap();
    let server = keeper(&at("data"));
    let output = run(&server, &["import", "tsdb", at("blocks").to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("000001: its checksum is wrong; left out at ") && said.contains("odd"), "{said}");
    assert!(said.contains(index.to_str().unwrap()) && said.contains("2 parts could not be read"), "{said}");
    assert_eq!(output.stdout, b"carried 800 samples\n");
    let empty = run(&server, &["import", "tsdb", at("data").to_str().unwrap()]);
    assert_eq!(empty.status.code(), Some(1));
}

/// Data directories of a Prometheus that was stopped with some hours in its log: one as releases write it, one
/// of its main branch with start times, zstd and the newer chunks. There are a block, a checkpoint, segments
/// behind it, full chunks, samples out of order, a deletion and exemplars; `samples.json` is what it had.
fn stopped(which: &str, to: &Path) -> std::path::PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/prometheus-stopped");
    let packed = std::fs::File::open(fixtures.join(which).with_extension("tar.zst")).unwrap();
    let bytes = zstd::decode_all(packed).unwrap();
    let directory = to.join("stopped").join(which);
    tar::Archive::new(bytes.as_slice()).unpack(&directory).unwrap();
    directory
}

fn as_it_had(server: &Server, stopped: &Path) {
    let which = stopped.display();
    let expected = std::fs::read(stopped.join("samples.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_slice(&expected).unwrap();
    assert_eq!(expected.len(), 6);
    for series in expected {
        let (selector, samples) = (series["labels"].as_str().unwrap(), series["samples"].as_array().unwrap());
        let found = server.query(&format!("{selector}[6h]"), 1_700_024_400);
        assert_eq!(found.as_array().unwrap().len(), 1, "{which}: {selector}");
        let (floats, histograms) = (&found[0]["values"], &found[0]["histograms"]);
        let found = if floats.is_null() { histograms } else { floats }.as_array().unwrap();
        let shown = |sample: &Value| {
            let time = (sample[0].as_f64().unwrap() * 1000.0).round() as i64;
            let number = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
            match &sample[1] {
                Value::Object(histogram) => {
                    json!([time, number(&histogram["count"]), number(&histogram["sum"])])
                }
                value => json!([time, number(value)]),
            }
        };
        let number = |value: &Value| json!(value.as_f64().unwrap());
        let wanted = |sample: &Value| {
            let numbers = sample.as_array().unwrap();
            Value::Array(std::iter::once(numbers[0].clone()).chain(numbers[1..].iter().map(number)).collect())
        };
        let found: Vec<Value> = found.iter().map(shown).collect();
        let wanted: Vec<Value> = samples.iter().map(wanted).collect();
        assert_eq!(found, wanted, "{which}: {selector}");
    }
}

#[test]
fn what_a_stopped_prometheus_has_in_its_log_comes_along() {
    let directory = tempfile::tempdir().unwrap();
    for which in ["release", "main"] {
        let server = keeper(&directory.path().join(which));
        let stopped = stopped(which, directory.path());
        let import = ["import", "tsdb", stopped.to_str().unwrap()];
        let carried = good(&server, &import);
        as_it_had(&server, &stopped);
        let path = "/prometheus/api/v1/query_exemplars?query=log_total&start=1700006400&end=1700024400";
        let exemplars = server.send("GET", path, &[], b"").json();
        let found = exemplars["data"][0]["exemplars"].as_array().map_or(0, Vec::len);
        assert!(found >= 2, "{which}: {exemplars}");
        // Once more: what is there is there once.
        assert_eq!(good(&server, &import), carried);
        as_it_had(&server, &stopped);
    }
}

/// The newest segment of a log.
fn newest_segment(directory: &Path) -> std::path::PathBuf {
    let segments = std::fs::read_dir(directory.join("wal")).unwrap().flatten().map(|entry| entry.path());
    segments.filter(|path| path.is_file() && path.metadata().unwrap().len() > 0).max().unwrap()
}

#[test]
fn a_log_that_broke_off_is_no_damage_and_a_flipped_byte_in_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let copy = stopped("release", directory.path());
    let import = ["import", "tsdb", copy.to_str().unwrap()];
    let whole = good(&keeper(&at("whole")), &import);
    let newest = newest_segment(&copy);
    let bytes = std::fs::read(&newest).unwrap();
    // Without the zeros that its last page was filled with, and some bytes less.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(&newest, &bytes[..end - 20]).unwrap();
    let server = keeper(&at("killed"));
    let carried = good(&server, &import);
    assert!(carried < whole, "{carried} of {whole}");
    let newest_minute = server.query("count(log_total)", 1_700_006_400 + 296 * 60);
    assert_eq!(newest_minute[0]["value"][1], "3", "{newest_minute}");

    std::fs::write(&newest, &bytes).unwrap();
    let mut oldest: Vec<_> =
        std::fs::read_dir(copy.join("wal")).unwrap().flatten().map(|e| e.path()).collect();
    oldest.retain(|path| path.is_file());
    let damaged = oldest.iter().min().unwrap();
    let mut bytes = std::fs::read(damaged).unwrap();
    bytes[100] ^= 1;
    std::fs::write(damaged, bytes).unwrap();
    let output = run(&keeper(&at("damaged")), &import);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let name = damaged.to_str().unwrap();
    assert!(said.contains(&format!("{name}: its checksum is wrong; records are left out")), "{said}");
}
