//! Bodies as real clients send them, recorded from the packages at their latest versions
//! (`python-logging-loki` with both of its emitters, `winston-loki` as JSON and as protobuf), and
//! written after the sources of agents (Fluent Bit, Vector).

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

use pilothouse_model::limits::Limits;
use pilothouse_model::memory::Reservation;
use pilothouse_wire::body::BodyError;
use pilothouse_wire::logs::{Enricher, PushFormat, decode, open};

fn opened(format: PushFormat, body: &[u8], max_bytes: u64) -> Result<Vec<u8>, BodyError> {
    let mut held = Reservation::nothing(&Default::default());
    open(format, "", body, max_bytes, &mut held).map(|body| body.into_owned())
}

#[track_caller]
fn check(content_type: &str, body: &[u8], expected: &[&str]) {
    let limits = Limits::default();
    let format = PushFormat::from_content_type(content_type).unwrap();
    let plain = opened(format, body, limits.max_body_bytes).unwrap();
    let decoded = decode(format, &plain, &Enricher::default(), &limits).unwrap();
    assert_eq!(decoded.rejected, 0, "{:?}", decoded.rejections);
    let batch = decoded.batch;
    let entries = batch.streams.iter().flat_map(|s| batch.entries_of(s).iter().map(move |e| (s, e)));
    let words: Vec<String> = entries
        .map(|(s, e)| format!("{} {} {} {}", s.labels, e.t_ns, batch.line_of(e), e.metadata))
        .collect();
    assert_eq!(words, expected);
}

#[test]
fn python_logging_loki() {
    let labels = |n: u8| {
        format!(
            r#"{{application="my-app", logger="my-logger{n}", num="5", service="my-service", service_name="my-service", severity="error"}}"#
        )
    };
    let line = "Something \"happened\"\nčeš {detected_level=\"error\"}";
    check(
        "application/json",
        include_bytes!("data/push/python-logging-loki-0.json"),
        &[&format!("{} 1795332644308590000 {line}", labels(0))],
    );
    check(
        "application/json",
        include_bytes!("data/push/python-logging-loki-1.json"),
        &[&format!("{} 1795332644326110976 {line}", labels(1))],
    );
}

#[test]
fn winston_loki() {
    let lines = [
        r#"{job="winston", key="value", level="debug", service_name="winston"} T {"labels":{"key":"value"},"level":"debug","message":"test message \"quoted\""} {detected_level="debug", level="debug"}"#,
        r#"{job="winston", level="error", service_name="winston"} T {"level":"error","message":"boom\nč"} {detected_level="error", level="error"}"#,
        r#"{a="b", job="winston", level="info", service_name="winston"} T {"labels":{"a":"b"},"level":"info","message":"with metadata","traceId":"abc"} {detected_level="info", level="info", traceId="abc"}"#,
    ];
    let at = |times: [&str; 3]| -> Vec<String> {
        lines.iter().zip(times).map(|(line, t)| line.replacen('T', t, 1)).collect()
    };
    let json = at(["1795332644716000000", "1795332644719000000", "1795332644719000000"]);
    let json: Vec<&str> = json.iter().map(String::as_str).collect();
    check("application/json", include_bytes!("data/push/winston-loki.json"), &json);
    // Its protobuf leaves metadata out.
    let limits = Limits::default();
    let body = include_bytes!("data/push/winston-loki.snappy");
    let plain = opened(PushFormat::Protobuf, body, limits.max_body_bytes).unwrap();
    let decoded = decode(PushFormat::Protobuf, &plain, &Enricher::default(), &limits).unwrap();
    let batch = decoded.batch;
    assert_eq!((batch.streams.len(), batch.entries.len(), decoded.rejected), (3, 3, 0));
    for (stream, level) in batch.streams.iter().zip(["debug", "error", "info"]) {
        let entry = &batch.entries_of(stream)[0];
        assert_eq!(entry.metadata.to_string(), format!("{{detected_level=\"{level}\"}}"));
        assert!(entry.t_ns / 1_000_000_000 == 1_795_332_646 && batch.line_of(entry).contains(level));
    }
}

#[test]
fn fluent_bit_and_vector() {
    check(
        "application/json",
        br#"{"streams":[{"stream":{"job":"fluent-bit"},"values":[["1700000000123456789","{\"log\":\"a \\\"b\\\"\",\"level\":\"warn\"}",{"trace_id":"0242ac120002"}]]}]}"#,
        &[
            r#"{job="fluent-bit", service_name="fluent-bit"} 1700000000123456789 {"log":"a \"b\"","level":"warn"} {detected_level="warn", trace_id="0242ac120002"}"#,
        ],
    );
    check(
        "application/json",
        br#"{"streams":[{"values":[["1700000000123456789","{\"message\":\"x\",\"timestamp\":\"2023-11-14T22:13:20Z\"}"]],"stream":{"forwarder":"vector","host":"h-1"}}]}"#,
        &[
            r#"{forwarder="vector", host="h-1", service_name="unknown_service"} 1700000000123456789 {"message":"x","timestamp":"2023-11-14T22:13:20Z"} {detected_level="unknown"}"#,
        ],
    );
}
