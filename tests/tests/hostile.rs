//! What a hostile or broken client may send: each entry of the list is answered as it says, and the
//! server is well after it.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

#[path = "hostile/http2.rs"]
mod http2;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Server, series};
use serde_json::Value;

const LIST: &str = include_str!("../scenarios/hostile.json");
/// The server must stay below it, whatever comes.
const MEMORY_LIMIT: &str = "512MiB";
const MEMORY_LIMIT_BYTES: f64 = (512 << 20) as f64;
/// An answer must have come by then.
const PATIENCE: Duration = Duration::from_secs(45);
/// How the statuses of raw entries tell that the connection was closed without an answer, and
/// that HTTP/2 was spoken.
const CLOSED: i64 = 0;
const HTTP2: i64 = -1;

/// The list is dealt out to so many servers.
const SERVERS: usize = 4;

#[test]
fn every_entry_is_answered_and_the_server_is_well_after_it() {
    assert!(entries().len() >= 350);
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..SERVERS).map(|share| scope.spawn(move || answered(share))).collect();
        let wrong: Vec<String> = shares.into_iter().flat_map(|share| share.join().unwrap()).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

fn entries() -> Vec<Value> {
    serde_json::from_str(LIST).unwrap()
}

/// What was wrong with one server and its share of the list.
fn answered(share: usize) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let flags = [
        ["--memory-limit", MEMORY_LIMIT],
        ["--limit", "header_timeout_ms=1000"],
        ["--limit", "body_timeout_ms=1500"],
        ["--limit", "send_timeout_ms=1500"],
        ["--limit", "query_timeout_ms=10000"],
    ];
    let server = Server::start(directory.path(), &flags.concat());
    let list = entries();
    let only = std::env::var("HOSTILE_ONLY").ok();
    let mut wrong = Vec::new();
    // What is resident after each entry, to tell which one made it grow.
    let mut grown = Vec::new();
    let mut resident = resident_bytes(&server.get("/metrics").text());
    for entry in list.iter().skip(share).step_by(SERVERS) {
        let name = entry["name"].as_str().unwrap();
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        wrong.extend(prepared(&server, entry).map(|why| format!("{name}: {why}")));
        let began = Instant::now();
        let status = if entry["raw"].is_array() { raw(&server, entry) } else { call(&server, entry) };
        let took = began.elapsed();
        let expected: Vec<i64> =
            entry["expect"].as_array().unwrap().iter().filter_map(Value::as_i64).collect();
        match status {
            Ok(status) if expected.contains(&status) => {}
            Ok(status) => wrong.push(format!("{name}: {status}, not one of {expected:?}, after {took:?}")),
            Err(e) => wrong.push(format!("{name}: {e}, after {took:?}")),
        }
        if took > PATIENCE {
            wrong.push(format!("{name}: it took {took:?}"));
        }
        if let Some(ill) = illness(&server) {
            wrong.push(format!("after {name}: {ill}"));
        }
        let before = std::mem::replace(&mut resident, resident_bytes(&server.get("/metrics").text()));
        grown.push((((resident - before) / 1e6) as i64, name));
    }
    grown.sort_unstable_by_key(|(mb, _)| -mb);
    grown.truncate(8);
    if !wrong.is_empty() {
        wrong.push(format!("MB more resident: {grown:?}"));
    }
    if !server.stop().success() {
        wrong.push("the server did not end well".to_owned());
    }
    wrong
}

/// What goes before an entry, where it needs something to meet; why that failed, if it did.
fn prepared(server: &Server, entry: &Value) -> Option<String> {
    entry["before"].as_array()?.iter().find_map(|before| match call(server, before) {
        Ok(200..=499) => None,
        other => Some(format!("{:?} before it: {other:?}", before["path"])),
    })
}

/// What is wrong with the server, if anything is.
fn illness(server: &Server) -> Option<String> {
    let began = Instant::now();
    let ready = server.try_get("/ready");
    if !ready.as_ref().is_ok_and(|answer| answer.status == 200) {
        return Some(format!("not ready: {ready:?}"));
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let pushed = server.push(&[series(&[("__name__", "heartbeat")], &[(now_ms, 1.0)])]);
    if !matches!(pushed.status, 200 | 204) {
        return Some(format!("a push was answered {}: {}", pushed.status, pushed.text()));
    }
    let asked = server.get("/prometheus/api/v1/query?query=heartbeat");
    if asked.status != 200 || !asked.text().contains("heartbeat") {
        return Some(format!("a query was answered {}: {}", asked.status, asked.text()));
    }
    let resident = resident_bytes(&server.get("/metrics").text());
    if resident > MEMORY_LIMIT_BYTES {
        return Some(format!("{resident} bytes are resident"));
    }
    let took = began.elapsed();
    (took > Duration::from_secs(10)).then(|| format!("it took {took:?} to say that all is well"))
}

fn resident_bytes(metrics: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    line.and_then(|number| number.parse().ok()).unwrap()
}

/// A whole request; its status.
fn call(server: &Server, entry: &Value) -> Result<i64, String> {
    let method = entry["method"].as_str().unwrap_or("GET");
    let path = String::from_utf8(parts(&entry["path"])).unwrap();
    let body = coded(&parts(&entry["body"]), entry["coding"].as_str());
    let pairs = entry["headers"].as_array().cloned().unwrap_or_default();
    let headers: Vec<(&str, &str)> =
        pairs.iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect();
    let answer = server.try_send(method, &path, &headers, &body).map_err(|e| e.to_string())?;
    Ok(i64::from(answer.status))
}

/// Further connections that say the same and stay; told is where the server grew by more than it may
/// for them.
fn crowd(server: &Server, entry: &Value) -> Result<Vec<TcpStream>, String> {
    let Some(connections) = entry["crowd"].as_u64() else { return Ok(Vec::new()) };
    let resident = || resident_bytes(&server.get("/metrics").text());
    let (before, said) = (resident(), parts(&entry["raw"]));
    let mut crowd = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(server.address).map_err(|e| e.to_string())?;
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        // Some are cut off, which is what is wanted.
        let _ = stream.write_all(&said);
        crowd.push(stream);
    }
    let grown_mb = (resident() - before) / 1e6;
    let allowed = entry["grows_mb"].as_f64().unwrap();
    if grown_mb > allowed { Err(format!("{grown_mb} MB for {connections} connections")) } else { Ok(crowd) }
}

/// Bytes as they are; the status of the first answer.
fn raw(server: &Server, entry: &Value) -> Result<i64, String> {
    let _crowd = crowd(server, entry)?;
    let mut stream = TcpStream::connect(server.address).map_err(|e| e.to_string())?;
    let patience = if entry["single"].as_bool() == Some(true) { Duration::from_secs(3) } else { PATIENCE };
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // The server may hang up before it has taken everything.
    let mut sent = stream.write_all(&parts(&entry["raw"]));
    if let Some(drip) = entry["drip"].as_array() {
        for _ in 0..drip[2].as_u64().unwrap() {
            std::thread::sleep(Duration::from_millis(drip[1].as_u64().unwrap()));
            sent = sent.and_then(|()| stream.write_all(drip[0].as_str().unwrap().as_bytes()));
        }
    }
    if entry["unread"].as_bool() == Some(true) {
        std::thread::sleep(Duration::from_secs(4));
    }
    let mut answer = Vec::new();
    let mut piece = [0; 64 << 10];
    // Of what must be one request, more than one answer would be the second half of a smuggling.
    let is_single = entry["single"].as_bool() == Some(true);
    while answer.len() < 16 || is_single {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                if is_single && answer.len() >= 16 {
                    break;
                }
                return Err("the connection stays open without an answer".to_owned());
            }
            Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let answers = text.matches("HTTP/1.").count();
    if is_single && answers > 1 {
        return Err(format!("{answers} answers"));
    }
    if !answer.is_empty() && !text.starts_with("HTTP/1.") {
        return Ok(HTTP2);
    }
    Ok(text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(CLOSED))
}

/// The bytes that parts stand for: texts as they are, and objects that say how to make them.
fn parts(parts: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts.as_array().into_iter().flatten() {
        match part {
            Value::String(text) => out.extend_from_slice(text.as_bytes()),
            part => made(part, &mut out),
        }
    }
    out
}

fn made(part: &Value, out: &mut Vec<u8>) {
    let times = |of: &Value| of[1].as_u64().unwrap() as usize;
    if part["repeat"].is_array() {
        out.extend(part["repeat"][0].as_str().unwrap().repeat(times(&part["repeat"])).into_bytes());
    } else if part["count"].is_array() {
        // The text with the number of the repetition for each `#`.
        let text = part["count"][0].as_str().unwrap();
        (0..times(&part["count"])).for_each(|n| out.extend(text.replace('#', &n.to_string()).into_bytes()));
    } else if part["hexrepeat"].is_array() {
        out.extend(unhex(part["hexrepeat"][0].as_str().unwrap()).repeat(times(&part["hexrepeat"])));
    } else if let Some(zeros) = part["zeros"].as_u64() {
        out.resize(out.len() + zeros as usize, 0);
    } else if part["wrapped"].is_array() {
        out.extend(wrapped(&part["wrapped"]));
    } else if part["h2"].is_object() {
        out.extend(http2::conversation(&part["h2"], &parts(&part["h2"]["body"])));
    } else if part["coded"].is_array() {
        out.extend(coded(&parts(&part["coded"][1]), part["coded"][0].as_str()));
    } else {
        out.extend(unhex(part["hex"].as_str().unwrap()));
    }
}

/// Parts within messages within messages: fields of Protobuf, the outermost first, so many times.
fn wrapped(of: &Value) -> Vec<u8> {
    let fields: Vec<u8> = of[0].as_array().unwrap().iter().flat_map(|f| unhex(f.as_str().unwrap())).collect();
    // Backwards, since each length is known once what it is of is there.
    let mut back: Vec<u8> = parts(&of[2]).into_iter().rev().collect();
    for _ in 0..of[1].as_u64().unwrap() {
        for field in fields.iter().rev() {
            let mut length = back.len();
            let mut varint = Vec::new();
            while length >= 0x80 {
                varint.push(length as u8 | 0x80);
                length >>= 7;
            }
            varint.push(length as u8);
            back.extend(varint.into_iter().rev());
            back.push(*field);
        }
    }
    back.reverse();
    back
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn coded(body: &[u8], coding: Option<&str>) -> Vec<u8> {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    match coding {
        None => body.to_vec(),
        Some("snappy") => snap::raw::Encoder::new().compress_vec(body).unwrap(),
        Some("zstd") => zstd::bulk::compress(body, 1).unwrap(),
        Some("gzip") => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        Some("deflate") => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        Some(other) => panic!("{other}"),
    }
}
