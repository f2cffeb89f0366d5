//! Pushes of log entries: what a request means, in JSON and in protobuf alike.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

mod messages;

use messages::loki::*;
use pilothouse_model::limits::Limits;
use pilothouse_wire::DecodeError;
use pilothouse_wire::logs::{Enricher, Enrichment, LogDecoded, PushFormat, decode};
use proptest::prelude::*;
use prost::Message as _;

/// What was taken, a line per entry, then what was refused.
fn words(decoded: &LogDecoded) -> String {
    let mut out = String::new();
    for stream in &decoded.batch.streams {
        for entry in decoded.batch.entries_of(stream) {
            let line = decoded.batch.line_of(entry);
            out += &format!("{} {} {line:?} {}\n", stream.labels, entry.t_ns, entry.metadata);
        }
    }
    for rejection in &decoded.rejections {
        out += &format!("refused {} {:?}\n", rejection.labels, rejection.reason);
    }
    out
}

fn read(format: PushFormat, body: &[u8]) -> Result<LogDecoded, DecodeError> {
    decode(format, body, &Enricher::default(), &Limits::default())
}

#[track_caller]
fn check_json(body: &str, expected: &str) {
    let decoded = read(PushFormat::Json, body.as_bytes()).unwrap();
    assert_eq!(words(&decoded), expected, "{body}");
}

#[test]
fn json_is_read_as_loki_reads_it() {
    for (body, expected) in [
        (
            r#"{"streams":[{"stream":{"app":"x"},"values":[["1700000000000000000","line",{"trace_id":"abc"}],["2","a\nb"]]}]}"#,
            "{app=\"x\", service_name=\"x\"} 1700000000000000000 \"line\" {detected_level=\"unknown\", trace_id=\"abc\"}\n\
             {app=\"x\", service_name=\"x\"} 2 \"a\\nb\" {detected_level=\"unknown\"}\n",
        ),
        // Unknown keys at every level, values in front of their labels, more after the third.
        (
            r#"{"x":[{}],"Streams":[{"values":[["1","l",{},[1],2]],"y":{"z":1},"stream":{"a":"1"}}],"z":null} tail"#,
            "{a=\"1\", service_name=\"unknown_service\"} 1 \"l\" {detected_level=\"unknown\"}\n",
        ),
        // Labels of other kinds count as they are written; the last of a name stays.
        (
            r#"{"streams":[{"stream":{"a":1.50,"b":true,"c":null,"d":"","e":"x","e":"y"},"values":[["0","l"]]}]}"#,
            "{a=\"1.50\", b=\"true\", c=\"null\", e=\"y\", service_name=\"unknown_service\"} 0 \"l\" {detected_level=\"unknown\"}\n",
        ),
        // Nothing to store is no fault.
        (r#"{"streams":[{"stream":{"a":"1"},"values":[]},{"stream":{},"values":null},{"stream":{}}]}"#, ""),
        (r#"{"streams":null}"#, ""),
        ("{}", ""),
        (
            r#"{"streams":[{"stream":{"a":"1"},"values":[null,["-5"],["7","\ud83d\ude00 \ud800"]]}]}"#,
            "{a=\"1\", service_name=\"unknown_service\"} -5 \"\" {detected_level=\"unknown\"}\n\
             {a=\"1\", service_name=\"unknown_service\"} 7 \"😀 \u{fffd}\u{fffd}\u{fffd}\" {detected_level=\"unknown\"}\n",
        ),
        // The generation before, here with an unknown level that a label names.
        (
            r#"{"streams":[{"labels":"{job=\"j\", level=\"NOTICE\"}","entries":[{"ts":"1970-01-01T00:00:01.5+00:00","line":"error"},{"ts":"1970-01-01T01:00:00+01:00","line":"b","structuredMetadata":{"k":"v"}}]}]}"#,
            "{job=\"j\", level=\"NOTICE\", service_name=\"j\"} 1500000000 \"error\" {detected_level=\"NOTICE\"}\n\
             {job=\"j\", level=\"NOTICE\", service_name=\"j\"} 0 \"b\" {detected_level=\"NOTICE\", k=\"v\"}\n",
        ),
    ] {
        check_json(body, expected);
    }
}

#[test]
fn metadata_decides_the_level_before_the_line() {
    for (metadata, line, expected) in [
        (r#"{"detected_level":"WARNING"}"#, "info", r#"{detected_level="warn"}"#),
        (r#"{"detected_level":"Odd"}"#, "info", r#"{detected_level="Odd"}"#),
        (
            r#"{"Severity":"Err","lvl":"info"}"#,
            "x",
            r#"{Severity="Err", detected_level="error", lvl="info"}"#,
        ),
        (r#"{"severity_number":"13"}"#, "info", r#"{detected_level="warn", severity_number="13"}"#),
        (
            r#"{"severity_number":"1","level":"x"}"#,
            "info",
            r#"{detected_level="x", level="x", severity_number="1"}"#,
        ),
        // Names are made fit first, so that one with a dot is none of the list.
        (r#"{"log.level":"error"}"#, "info", r#"{detected_level="info", log_level="error"}"#),
        (r#"{"a.b":"1","e":"","z":"2\n"}"#, "debug", r#"{a_b="1", detected_level="debug", z="2\n"}"#),
        (r#"{"e":""}"#, "debug", r#"{detected_level="debug"}"#),
    ] {
        let body =
            format!(r#"{{"streams":[{{"stream":{{"a":"1"}},"values":[["1","{line}",{metadata}]]}}]}}"#);
        let head = "{a=\"1\", service_name=\"unknown_service\"} 1";
        check_json(&body, &format!("{head} {line:?} {expected}\n"));
    }
}

#[test]
fn a_wrong_body_is_refused_as_a_whole() {
    for (body, text) in [
        ("", "EOF"),
        ("[1,2]", "expect { or n, but found ["),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[[1,"x"]]}]}"#, "Value looks like Number"),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[["abc","x"]]}]}"#, "Value looks like Number"),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[["01","x"]]}]}"#, "Value looks like Number"),
        (
            r#"{"streams":[{"stream":{"a":"1"},"values":[["99999999999999999999","x"]]}]}"#,
            "looks like Number",
        ),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[["1",2]]}]}"#, "Value is string"),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[["1","x",{"n":{"a":"b"}}]]}]}"#, "Value is string"),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[["1","x",{"n":1}]]}]}"#, "Value is string"),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[["1","x",null]]}]}"#, "Value looks like object"),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[[]]}]}"#, "a timestamp"),
        (r#"{"streams":[null]}"#, "Value looks like object"),
        (r#"{"streams":[{"stream":{"a":"1"},"values":[["1","x"]}"#, "expect ] in the end, but found }"),
        (r#"{"streams":[{"stream":{"a-b":"1"}}]}"#, "couldn't parse labels: 1:3: parse error"),
        (r#"{"streams":[{"stream":{"1a":"1"}}]}"#, "couldn't parse labels: 1:2: parse error"),
        (r#"{"streams":[{"labels":"{a=","entries":[]}]}"#, "couldn't parse labels: 1:4: parse error"),
        (r#"{"streams":[{"labels":"{}","entries":[{"ts":"yesterday"}]}]}"#, "not an RFC 3339 time"),
    ] {
        let error = read(PushFormat::Json, body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(text) && !error.is_too_large(), "{body}: {error}");
    }
}

#[test]
fn text_that_is_no_utf_8_is_replaced() {
    let mut body = br#"{"streams":[{"stream":{"a":"1"},"values":[["1","x?y",{"k":"v?"}]]}]}"#.to_vec();
    body.iter_mut().filter(|b| **b == b'?').for_each(|b| *b = 0xff);
    let expected = "{a=\"1\", service_name=\"unknown_service\"} 1 \"x\u{fffd}y\" {detected_level=\"unknown\", k=\"v \"}\n";
    assert_eq!(words(&read(PushFormat::Json, &body).unwrap()), expected);

    let entry = RawEntry {
        timestamp: Some(Timestamp { seconds: 0, nanos: 1 }),
        line: b"x\xffy".to_vec(),
        metadata: vec![RawPair { name: b"k".to_vec(), value: b"v\xff".to_vec() }],
    };
    let stream = RawStream { labels: b"{a=\"1\"}".to_vec(), entries: vec![entry] };
    let body = RawRequest { streams: vec![stream] }.encode_to_vec();
    assert_eq!(words(&read(PushFormat::Protobuf, &body).unwrap()), expected);

    let stream = RawStream { labels: b"{a=\"\xff\"}".to_vec(), entries: Vec::new() };
    let body = RawRequest { streams: vec![stream] }.encode_to_vec();
    assert!(matches!(read(PushFormat::Protobuf, &body), Err(DecodeError::Labels { .. })));
}

fn entry(t_ns: i64, line: &str, metadata: &[(&str, &str)]) -> Entry {
    let pair = |(name, value): &(&str, &str)| Pair { name: (*name).to_owned(), value: (*value).to_owned() };
    Entry {
        timestamp: Some(Timestamp {
            seconds: t_ns.div_euclid(1_000_000_000),
            nanos: t_ns.rem_euclid(1_000_000_000) as i32,
        }),
        line: line.to_owned(),
        metadata: metadata.iter().map(pair).collect(),
        parsed: Vec::new(),
    }
}

fn stream(labels: &str, entries: Vec<Entry>) -> Stream {
    Stream { labels: labels.to_owned(), entries, hash: 7 }
}

fn request(streams: Vec<Stream>) -> Vec<u8> {
    Request { streams, format: "x".to_owned() }.encode_to_vec()
}

#[test]
fn protobuf_says_the_same() {
    let body = request(vec![
        stream(
            r#"{zeta="1", app="x"}"#,
            vec![entry(1_700_000_000_000_000_001, "level=warn", &[]), entry(-1, "", &[("t.id", "7")])],
        ),
        stream(r#"{app="x",zeta="1"}"#, vec![entry(2, "two", &[])]),
        stream(r#"{app="none"}"#, Vec::new()),
    ]);
    let decoded = read(PushFormat::Protobuf, &body).unwrap();
    let labels = r#"{app="x", service_name="x", zeta="1"}"#;
    assert_eq!(
        words(&decoded),
        format!(
            "{labels} 1700000000000000001 \"level=warn\" {{detected_level=\"warn\"}}\n\
             {labels} -1 \"\" {{detected_level=\"unknown\", t_id=\"7\"}}\n\
             {labels} 2 \"two\" {{detected_level=\"unknown\"}}\n"
        )
    );
    assert_eq!((decoded.streams, decoded.batch.streams.len()), (3, 2));
}

#[test]
fn one_bad_stream_or_entry_leaves_the_rest() {
    let many: Vec<_> = (0..129).map(|i| (format!("n{i}"), "v".to_owned())).collect();
    let many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let large = "v".repeat(65_536);
    let mut timeless = entry(0, "never", &[]);
    timeless.timestamp = None;
    let body = request(vec![
        stream(r#"{a="1", a="2"}"#, vec![entry(1, "lost", &[])]),
        stream(
            r#"{b="1"}"#,
            vec![
                entry(2, "kept", &[]),
                entry(3, "lost", &many),
                entry(4, "lost", &[("k", &large)]),
                timeless,
            ],
        ),
        stream(r#"{c="1"}"#, vec![entry(5, "kept", &many[..128])]),
    ]);
    let decoded = read(PushFormat::Protobuf, &body).unwrap();
    assert_eq!((decoded.batch.entries.len(), decoded.rejected), (2, 4));
    let text = words(&decoded);
    for part in [
        r#"stream '{a=\"1\", a=\"2\", service_name=\"unknown_service\"}' has duplicate label name: 'a'"#,
        "TooMuchMetadata { actual: 129, limit: 128 }",
        "MetadataTooLarge { bytes: 65537, limit: 65536 }",
        "an entry has no timestamp",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(decoded.batch.entries[1].metadata.len(), 129);
}

#[test]
fn wrong_protobuf_is_refused_as_a_whole() {
    let out_of_range = Timestamp { seconds: 0, nanos: -1 };
    let mut bad_time = entry(0, "x", &[]);
    bad_time.timestamp = Some(out_of_range);
    for (body, text) in [
        (b"\x0a\xff\xff\xff\x7fxy".to_vec(), "unexpected EOF"),
        (b"\x08\x01".to_vec(), "proto: wrong wireType = 0 for field Streams"),
        (request(vec![stream("{", Vec::new())]), "couldn't parse labels: 1:2: parse error"),
        (request(vec![stream("{}", vec![bad_time])]), "a timestamp is out of range"),
    ] {
        let error = read(PushFormat::Protobuf, &body).unwrap_err();
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
}

#[test]
fn times_beyond_the_reach_of_nanoseconds_are_its_ends() {
    let at = |seconds| Entry { timestamp: Some(Timestamp { seconds, nanos: 5 }), ..entry(0, "", &[]) };
    let body = request(vec![stream("{}", vec![at(253_402_300_799), at(-62_135_596_800)])]);
    let batch = read(PushFormat::Protobuf, &body).unwrap().batch;
    let times: Vec<_> = batch.entries.iter().map(|e| e.t_ns).collect();
    assert_eq!(times, [i64::MAX, i64::MIN]);
    let body = request(vec![stream("{}", vec![entry(i64::MIN, "", &[]), entry(i64::MAX, "", &[])])]);
    let batch = read(PushFormat::Protobuf, &body).unwrap().batch;
    assert_eq!(batch.entries.iter().map(|e| e.t_ns).collect::<Vec<_>>(), [i64::MIN, i64::MAX]);
}

#[test]
fn bounds_of_a_request_hold() {
    let limits = Limits { max_request_series: 2, max_request_samples: 5, ..Limits::default() };
    let many_streams = request((0..3).map(|_| stream("{}", Vec::new())).collect());
    let many_entries = request(vec![stream("{}", (0..6).map(|i| entry(i, "", &[])).collect())]);
    let json =
        r#"{"streams":[{"stream":{},"values":[["1","a",{"a":"1","b":"2"}],["1","a",{"a":"1","b":"2"}]]}]}"#;
    for (format, body) in [
        (PushFormat::Protobuf, many_streams),
        (PushFormat::Protobuf, many_entries),
        (PushFormat::Json, json.as_bytes().to_vec()),
    ] {
        assert!(decode(format, &body, &Enricher::default(), &limits).unwrap_err().is_too_large());
    }
}

#[test]
fn nothing_is_added_where_that_is_off() {
    let body =
        r#"{"streams":[{"stream":{"app":"x"},"values":[["1","error"]]},{"stream":{},"values":[["2","x"]]}]}"#;
    let enricher = Enricher::new(&Enrichment::off());
    let decoded = decode(PushFormat::Json, body.as_bytes(), &enricher, &Limits::default()).unwrap();
    let text = words(&decoded);
    assert!(text.starts_with("{app=\"x\"} 1 \"error\" {}\nrefused {}"), "{text}");
    assert!(text.contains("error at least one label pair is required per stream"));
    let settings = Enrichment {
        service_names: vec!["pod".to_owned(), "app".to_owned()],
        level_fields: vec!["sev".to_owned()],
        ..Enrichment::default()
    };
    let body = r#"{"streams":[{"stream":{"app":"x"},"values":[["1","level=error sev=info"]]}]}"#;
    let decoded = decode(PushFormat::Json, body.as_bytes(), &Enricher::new(&settings), &Limits::default());
    assert_eq!(
        words(&decoded.unwrap()),
        "{app=\"x\", service_name=\"x\"} 1 \"level=error sev=info\" {detected_level=\"info\"}\n"
    );
}

proptest! {
    /// Both forms of one push make one batch.
    #[test]
    fn json_and_protobuf_agree(
        streams in prop::collection::vec(
            (
                prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,8}", 0..4),
                prop::collection::vec(
                    (any::<i64>(), any::<String>(), prop::collection::btree_map("[a-z.]{1,5}", any::<String>(), 0..3)),
                    0..4,
                ),
            ),
            0..4,
        )
    ) {
        let json = serde_json::json!({ "streams": streams.iter().map(|(labels, entries)| serde_json::json!({
            "stream": labels,
            "values": entries.iter().map(|(t, line, m)| serde_json::json!([t.to_string(), line, m])).collect::<Vec<_>>(),
        })).collect::<Vec<_>>() });
        let body = request(streams.iter().map(|(labels, entries)| {
            let labels: Vec<_> = labels.iter().map(|(n, v)| format!("{n}={}", pilothouse_model::labels::quote(v))).collect();
            let of = |(t, line, m): &(i64, String, std::collections::BTreeMap<String, String>)| {
                entry(*t, line, &m.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>())
            };
            stream(&format!("{{{}}}", labels.join(",")), entries.iter().map(of).collect())
        }).collect());
        let json = read(PushFormat::Json, json.to_string().as_bytes()).unwrap();
        let proto = read(PushFormat::Protobuf, &body).unwrap();
        prop_assert_eq!(words(&json), words(&proto));
        prop_assert_eq!(json.streams, proto.streams);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(PushFormat::Protobuf, &bytes);
        let _ = read(PushFormat::Json, &bytes);
    }
}
