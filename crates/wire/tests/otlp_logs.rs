//! OTLP logs: what a request means, in protobuf and in JSON alike.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

mod messages;

use messages::otlp::{AnyValue, KeyValue, Resource};
use messages::otlp_logs::*;
use pilothouse_model::limits::Limits;
use pilothouse_wire::logs::{Enricher, Enrichment, LogDecoded};
use pilothouse_wire::otlp::{OtlpFormat, decode_logs};
use proptest::prelude::*;
use prost::Message as _;

fn read(format: OtlpFormat, body: &[u8]) -> LogDecoded {
    decode_logs(format, body, &Enricher::default(), &Limits::default()).unwrap()
}

fn words(decoded: &LogDecoded) -> Vec<String> {
    let batch = &decoded.batch;
    let entries = batch.streams.iter().flat_map(|s| batch.entries_of(s).iter().map(move |e| (s, e)));
    entries.map(|(s, e)| format!("{} {} {:?} {}", s.labels, e.t_ns, batch.line_of(e), e.metadata)).collect()
}

#[track_caller]
fn check_json(body: &str, expected: &[&str]) {
    assert_eq!(words(&read(OtlpFormat::Json, body.as_bytes())), expected, "{body}");
}

fn request(resource: &str, scope: &str, records: &str) -> String {
    format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{resource}]}},"scopeLogs":[{{"scope":{scope},"logRecords":[{records}]}}]}}]}}"#
    )
}

fn attribute(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{value}}}"#)
}

fn string(key: &str, value: &str) -> String {
    attribute(key, &format!(r#"{{"stringValue":"{value}"}}"#))
}

#[test]
fn fields_of_a_record_become_metadata() {
    let attributes = [
        string("http.method", "GET"),
        attribute("n", r#"{"intValue":"5"}"#),
        attribute("f", r#"{"doubleValue":1.5}"#),
        attribute("b", r#"{"boolValue":true}"#),
        attribute("none", "{}"),
        attribute(
            "nested",
            r#"{"kvlistValue":{"values":[{"key":"a","value":{"stringValue":"x"}},{"key":"b.c","value":{"kvlistValue":{"values":[{"key":"d","value":{"intValue":2}}]}}}]}}"#,
        ),
        attribute("list", r#"{"arrayValue":{"values":[{"stringValue":"p"},{"stringValue":"q"}]}}"#),
        string("event_name", "attribute"),
    ];
    let record = format!(
        r#"{{"timeUnixNano":"1700000000000000001","observedTimeUnixNano":1700000000000000002,"severityNumber":9,
            "severityText":"INFO","body":{{"stringValue":"hello"}},"attributes":[{}],"droppedAttributesCount":3,
            "flags":1,"traceId":"0102030405060708090A0B0C0D0E0F10","spanId":"0102030405060708","eventName":"field"}}"#,
        attributes.join(",")
    );
    check_json(
        &request(&string("service.name", "shop"), "{}", &record),
        &[concat!(
            r#"{service_name="shop"} 1700000000000000001 "hello" {b="true", detected_level="info", "#,
            r#"dropped_attributes_count="3", event_name="field", f="1.5", flags="1", http_method="GET", "#,
            r#"list="[\"p\",\"q\"]", n="5", nested_a="x", nested_b_c_d="2", "#,
            r#"observed_timestamp="1700000000000000002", severity_number="9", severity_text="INFO", "#,
            r#"span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10"}"#
        )],
    );
}

#[test]
fn resource_and_scope_are_labels_and_metadata() {
    let resource = [
        string("service.name", "shop"),
        string("k8s.pod.name", "p-1"),
        string("k8s.node.name", "n-1"),
        string("deployment.environment.name", ""),
    ];
    let scope = r#"{"name":"lib","version":"1.2","attributes":[{"key":"s.a","value":{"stringValue":"sv"}}],"droppedAttributesCount":4}"#;
    check_json(
        &request(
            &resource.join(","),
            scope,
            r#"{"timeUnixNano":"1","body":{"stringValue":"x"}},{"timeUnixNano":"2"}"#,
        ),
        &[
            r#"{k8s_pod_name="p-1", service_name="shop"} 1 "x" {detected_level="unknown", k8s_node_name="n-1", s_a="sv", scope_dropped_attributes_count="4", scope_name="lib", scope_version="1.2"}"#,
            r#"{k8s_pod_name="p-1", service_name="shop"} 2 "" {detected_level="unknown", k8s_node_name="n-1", s_a="sv", scope_dropped_attributes_count="4", scope_name="lib", scope_version="1.2"}"#,
        ],
    );
    // Without a name of its own, a service gets that of what it runs in.
    for (resource, labels) in [
        (string("x.y", "z"), r#"{service_name="unknown_service"}"#),
        (string("k8s.container.name", "c"), r#"{k8s_container_name="c", service_name="c"}"#),
        (string("service.name", ""), r#"{service_name="unknown_service"}"#),
        (
            attribute(
                "k8s.job.name",
                r#"{"kvlistValue":{"values":[{"key":"a","value":{"stringValue":"b"}}]}}"#,
            ),
            r#"{k8s_job_name_a="b", service_name="unknown_service"}"#,
        ),
    ] {
        let decoded = read(OtlpFormat::Json, request(&resource, "{}", r#"{"timeUnixNano":"1"}"#).as_bytes());
        assert_eq!(decoded.batch.streams[0].labels.to_string(), labels, "{resource}");
    }
}

#[test]
fn the_body_becomes_a_line_and_the_severity_a_level() {
    for (record, line, metadata) in [
        (r#""body":{"intValue":"42"}"#, "42", r#"{detected_level="unknown"}"#),
        (r#""body":{"boolValue":false}"#, "false", r#"{detected_level="unknown"}"#),
        (r#""body":{"bytesValue":"aGk="}"#, "aGk=", r#"{detected_level="unknown"}"#),
        (
            r#""body":{"kvlistValue":{"values":[{"key":"level","value":{"stringValue":"warn"}},{"key":"a","value":{"arrayValue":{"values":[{"intValue":1}]}}}]}}"#,
            r#"{"a":[1],"level":"warn"}"#,
            r#"{detected_level="warn"}"#,
        ),
        (
            r#""body":{"stringValue":"level=warn something"}"#,
            "level=warn something",
            r#"{detected_level="warn"}"#,
        ),
        (
            r#""body":{"stringValue":"info"},"severityNumber":17"#,
            "info",
            r#"{detected_level="error", severity_number="17"}"#,
        ),
        (
            r#""severityNumber":"SEVERITY_NUMBER_WARN2""#,
            "",
            r#"{detected_level="warn", severity_number="14"}"#,
        ),
        (
            r#""severityNumber":1,"severityText":"Notice""#,
            "",
            r#"{detected_level="Notice", severity_number="1", severity_text="Notice"}"#,
        ),
    ] {
        let body = request("", "{}", &format!(r#"{{"timeUnixNano":"5",{record}}}"#));
        check_json(&body, &[&format!(r#"{{service_name="unknown_service"}} 5 {line:?} {metadata}"#)]);
    }
}

#[test]
fn a_record_without_a_time_gets_the_next_best() {
    let body = request("", "{}", r#"{"observedTimeUnixNano":"7"},{}"#);
    let decoded = read(OtlpFormat::Json, body.as_bytes());
    let entries = &decoded.batch.entries;
    assert_eq!(
        (entries[0].t_ns, entries[0].metadata.to_string().as_str()),
        (7, r#"{detected_level="unknown"}"#)
    );
    assert!(entries[1].t_ns > 1_700_000_000_000_000_000);
}

#[test]
fn no_records_are_no_streams() {
    for body in ["{}", r#"{"resourceLogs":[]}"#, &request(&string("service.name", "x"), "{}", "")] {
        assert_eq!(read(OtlpFormat::Json, body.as_bytes()).streams, 0, "{body}");
    }
    assert_eq!(read(OtlpFormat::Protobuf, b"").streams, 0);
}

#[test]
fn wrong_bodies_are_refused() {
    let enricher = Enricher::default();
    for (format, body) in [
        (OtlpFormat::Protobuf, b"\xff\xff\xff\xff".as_slice()),
        (OtlpFormat::Protobuf, b"\x08\x01"),
        (OtlpFormat::Json, b"[1]"),
        (
            OtlpFormat::Json,
            b"{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{\"traceId\":\"xyz\"}]}]}]}",
        ),
        (
            OtlpFormat::Json,
            b"{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{\"severityNumber\":\"x\"}]}]}]}",
        ),
    ] {
        assert!(decode_logs(format, body, &enricher, &Limits::default()).is_err(), "{body:?}");
    }
}

#[test]
fn what_a_resource_repeats_counts() {
    let limits = Limits { max_body_bytes: 1_000, ..Limits::default() };
    let resource = string("k", &"v".repeat(300));
    let records = ["{}"; 10].join(",");
    let body = request(&resource, "{}", &records);
    assert!(body.len() < 1_000);
    let error = decode_logs(OtlpFormat::Json, body.as_bytes(), &Enricher::default(), &limits).unwrap_err();
    assert!(error.is_too_large(), "{error}");
}

#[test]
fn the_attributes_of_streams_are_a_setting() {
    let settings = Enrichment { otlp_stream_attributes: vec!["x.y".to_owned()], ..Enrichment::default() };
    let body = request(&[string("x.y", "1"), string("service.name", "s")].join(","), "{}", "{}");
    let decoded =
        decode_logs(OtlpFormat::Json, body.as_bytes(), &Enricher::new(&settings), &Limits::default())
            .unwrap();
    let stream = &decoded.batch.streams[0];
    assert_eq!(stream.labels.to_string(), r#"{service_name="unknown_service", x_y="1"}"#);
    assert_eq!(decoded.batch.entries_of(stream)[0].metadata.get("service_name"), Some("s"));
}

fn value() -> impl Strategy<Value = (AnyValue, serde_json::Value)> {
    let of = AnyValue::default;
    prop_oneof![
        any::<String>().prop_map(move |t| {
            (AnyValue { text: Some(t.clone()), ..of() }, serde_json::json!({ "stringValue": t }))
        }),
        any::<i64>().prop_map(move |n| {
            (AnyValue { int: Some(n), ..of() }, serde_json::json!({ "intValue": n.to_string() }))
        }),
        any::<bool>().prop_map(move |b| {
            (AnyValue { boolean: Some(b), ..of() }, serde_json::json!({ "boolValue": b }))
        }),
    ]
}

fn attributes() -> impl Strategy<Value = (Vec<KeyValue>, Vec<serde_json::Value>)> {
    let pair = ("[a-z.]{1,6}", value()).prop_map(|(key, (value, json))| {
        let json = serde_json::json!({ "key": key, "value": json });
        (KeyValue { key, value: Some(value) }, json)
    });
    prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.into_iter().unzip())
}

proptest! {
    /// Both forms of one request make one batch.
    #[test]
    fn protobuf_and_json_agree(
        resource in attributes(),
        scope in attributes(),
        records in prop::collection::vec(
            (1u64..i64::MAX as u64, any::<u64>(), 0i32..30, any::<String>(), value(), attributes(), any::<u32>(), any::<[u8; 16]>()),
            0..4,
        ),
    ) {
        let json_records: Vec<_> = records.iter().map(|(t, observed, number, text, body, attributes, flags, id)| {
            let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
            serde_json::json!({
                "timeUnixNano": t.to_string(), "observedTimeUnixNano": observed.to_string(),
                "severityNumber": number, "severityText": text, "body": body.1,
                "attributes": attributes.1, "flags": flags, "traceId": id, "spanId": &id[..16],
            })
        }).collect();
        let json = serde_json::json!({ "resourceLogs": [{
            "resource": { "attributes": resource.1 },
            "scopeLogs": [{ "scope": { "name": "n", "attributes": scope.1 }, "logRecords": json_records }],
        }] });
        let records = records.into_iter().map(|(t, observed, number, text, body, attributes, flags, id)| Record {
            t_ns: t,
            observed_ns: observed,
            severity_number: number,
            severity_text: text,
            body: Some(body.0),
            attributes: attributes.0,
            flags,
            trace_id: id.to_vec(),
            span_id: id[..8].to_vec(),
            ..Record::default()
        });
        let scope = Scope { name: "n".to_owned(), attributes: scope.0, ..Scope::default() };
        let body = LogsRequest { resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes: resource.0 }),
            scope_logs: vec![ScopeLogs { scope: Some(scope), records: records.collect() }],
        }] };
        let proto = read(OtlpFormat::Protobuf, &body.encode_to_vec());
        let json = read(OtlpFormat::Json, json.to_string().as_bytes());
        prop_assert_eq!(words(&proto), words(&json));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [OtlpFormat::Protobuf, OtlpFormat::Json] {
            let _ = decode_logs(format, &bytes, &Enricher::default(), &Limits::default());
        }
    }
}
