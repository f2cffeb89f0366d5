//! OTLP metrics: what a request means, in protobuf and in JSON alike.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

mod messages;
mod words;

use messages::otlp::*;
use pilothouse_model::limits::Limits;
use pilothouse_wire::Decoded;
use pilothouse_wire::otlp::{OtlpFormat, decode, response, status};
use proptest::prelude::*;
use prost::Message as _;
use words::{check, lines};

/// 2023-11-14T22:13:20Z.
const T_MS: i64 = 1_700_000_000_000;
const T_NS: u64 = T_MS as u64 * 1_000_000;

fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { text: Some(value.to_owned()), ..AnyValue::default() };
    KeyValue { key: key.to_owned(), value: Some(value) }
}

fn request(resource: Vec<KeyValue>, metrics: Vec<Metric>) -> Request {
    Request {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: resource }),
            scope_metrics: vec![ScopeMetrics { metrics, schema_url: "x".to_owned() }],
        }],
    }
}

fn protobuf(request: &Request) -> Decoded {
    decode(OtlpFormat::Protobuf, &request.encode_to_vec(), &Limits::default()).unwrap()
}

fn json(text: &str) -> Decoded {
    decode(OtlpFormat::Json, text.as_bytes(), &Limits::default()).unwrap()
}

fn gauge(name: &str, points: Vec<Number>) -> Metric {
    Metric {
        name: name.to_owned(),
        gauge: Some(Numbers { points, ..Numbers::default() }),
        ..Metric::default()
    }
}

fn number(value: f64, attributes: Vec<KeyValue>) -> Number {
    Number { t_ns: T_NS, as_double: Some(value), attributes, ..Number::default() }
}

fn service() -> Vec<KeyValue> {
    vec![text("service.name", "shop"), text("service.namespace", "eu"), text("service.instance.id", "i1")]
}

#[test]
fn numbers_become_series_of_their_resource() {
    let sum = Metric {
        name: "http.requests".to_owned(),
        description: "Requests.".to_owned(),
        unit: "{request}".to_owned(),
        sum: Some(Numbers {
            points: vec![Number {
                as_double: None,
                as_int: Some(-7),
                ..number(0.0, vec![text("code", "200")])
            }],
            temporality: 2,
            monotonic: true,
        }),
        ..Metric::default()
    };
    let gone = Number { flags: 1, ..number(1.0, vec![]) };
    let mut resource = service();
    resource.push(text("host.name", "h1"));
    let decoded =
        protobuf(&request(resource, vec![gauge("room.temp", vec![number(21.5, vec![]), gone]), sum]));
    check(
        &decoded,
        &[
            r#"# room_temp gauge "" """#,
            r#"# http_requests_total counter "Requests." """#,
            r#"# target_info gauge "Target metadata" """#,
            r#"room_temp{instance="i1", job="eu/shop"} 21.5 @1700000000000"#,
            r#"room_temp{instance="i1", job="eu/shop"} stale @1700000000000"#,
            r#"http_requests_total{code="200", instance="i1", job="eu/shop"} -7 @1700000000000"#,
            r#"target_info{host_name="h1", instance="i1", job="eu/shop"} 1 @1700000000000"#,
        ],
    );
}

#[test]
fn target_info_needs_an_identity_and_something_to_tell() {
    let of = |resource: Vec<KeyValue>| {
        lines(&protobuf(&request(resource, vec![gauge("a", vec![number(1.0, vec![])])])))
    };
    let told = |lines: &[String]| lines.iter().any(|l| l.starts_with("target_info"));
    assert!(!told(&of(service())));
    assert!(!told(&of(vec![text("host.name", "h")])));
    assert!(!told(&of(vec![text("service.namespace", "eu"), text("host.name", "h")])));
    assert!(told(&of(vec![text("service.name", "a"), text("host.name", "h")])));
    // Every half lookback from the first point to the last, and once where a resource is told twice.
    let late = Number { t_ns: T_NS + 400_000_000_000, ..number(1.0, vec![]) };
    let metrics = vec![gauge("a", vec![number(1.0, vec![]), late])];
    let mut request = request(vec![text("service.name", "a"), text("x", "y")], metrics);
    request.resource_metrics.push(request.resource_metrics[0].clone());
    let times: Vec<String> = lines(&protobuf(&request))
        .into_iter()
        .filter(|l| l.starts_with("target_info{"))
        .map(|l| l.rsplit('@').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(times, ["1700000000000", "1700000150000", "1700000300000", "1700000400000"]);
    // A point without a time does not stretch it back to 1970.
    request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.as_mut().unwrap().points[0].t_ns = 0;
    assert!(protobuf(&request).batch.floats.len() < 1100);
}

#[test]
fn an_explicit_histogram_is_a_classic_one() {
    let exemplar = |value: f64, trace: u8| Exemplar {
        t_ns: T_NS + 999_999,
        as_double: Some(value),
        trace_id: vec![trace; 16],
        span_id: vec![0; 8],
        attributes: vec![text("user", "u")],
    };
    let long = Exemplar { attributes: vec![text("user", &"u".repeat(100))], ..exemplar(9.0, 2) };
    let point = Histogram {
        t_ns: T_NS,
        count: 6,
        sum: Some(12.5),
        bucket_counts: vec![1, 2, 3],
        bounds: vec![0.5, 2.0],
        exemplars: vec![exemplar(0.1, 1), Exemplar { as_double: None, ..exemplar(0.2, 3) }, long],
        attributes: vec![text("op", "get")],
        flags: 0,
    };
    let metric = Metric {
        name: "latency".to_owned(),
        unit: "s".to_owned(),
        histogram: Some(Histograms {
            points: vec![point.clone(), Histogram { sum: None, flags: 1, ..point }],
            temporality: 2,
        }),
        ..Metric::default()
    };
    let decoded = protobuf(&request(vec![], vec![metric]));
    let short =
        r#"  exemplar [("trace_id", "01010101010101010101010101010101"), ("user", "u")] 0.1 @1700000000000"#;
    let bare = r#"  exemplar [("trace_id", "02020202020202020202020202020202")] 9 @1700000000000"#;
    check(
        &decoded,
        &[
            r#"# latency_seconds histogram "" "seconds""#,
            r#"latency_seconds_sum{op="get"} 12.5 @1700000000000"#,
            r#"latency_seconds_count{op="get"} 6 @1700000000000"#,
            r#"latency_seconds_bucket{le="0.5", op="get"} 1 @1700000000000"#,
            short,
            r#"latency_seconds_bucket{le="2", op="get"} 3 @1700000000000"#,
            r#"latency_seconds_bucket{le="+Inf", op="get"} 6 @1700000000000"#,
            bare,
            r#"latency_seconds_count{op="get"} stale @1700000000000"#,
            r#"latency_seconds_bucket{le="0.5", op="get"} stale @1700000000000"#,
            short,
            r#"latency_seconds_bucket{le="2", op="get"} stale @1700000000000"#,
            r#"latency_seconds_bucket{le="+Inf", op="get"} stale @1700000000000"#,
            bare,
        ],
    );
}

#[test]
fn exponential_histograms_and_summaries() {
    let point = Exponential {
        t_ns: T_NS,
        count: 10,
        sum: Some(3.5),
        scale: 9,
        zero_count: 1,
        positive: Some(Buckets { offset: 0, counts: vec![1, 2, 3, 3] }),
        ..Exponential::default()
    };
    let coarse = Exponential { scale: -5, ..point.clone() };
    let gone = Exponential { flags: 1, ..point.clone() };
    let exponential = Metric {
        name: "e".to_owned(),
        exponential: Some(Exponentials { points: vec![point, coarse, gone], temporality: 2 }),
        ..Metric::default()
    };
    let summary = Metric {
        name: "s".to_owned(),
        summary: Some(Summaries {
            points: vec![Summary {
                t_ns: T_NS,
                count: 4,
                sum: 2.0,
                quantiles: vec![Quantile { quantile: 0.99, value: 1.5 }],
                attributes: vec![],
            }],
        }),
        ..Metric::default()
    };
    check(
        &protobuf(&request(vec![], vec![exponential, summary])),
        &[
            r#"# e histogram "" """#,
            r#"# s summary "" """#,
            "e schema 8 count 10 sum 3.5 zero 1 [(1, 2)] [3.0, 6.0] @1700000000000",
            "e stale histogram @1700000000000",
            "s_sum 2 @1700000000000",
            "s_count 4 @1700000000000",
            r#"s{quantile="0.99"} 1.5 @1700000000000"#,
            r#"! InvalidHistogram { t_ms: 1700000000000, why: "cannot convert exponential to native histogram. Scale must be >= -4, was -5" } e"#,
        ],
    );
}

#[test]
fn what_has_no_place_is_refused_by_name_and_the_rest_kept() {
    let delta = Metric {
        name: "d.elta".to_owned(),
        sum: Some(Numbers { points: vec![number(1.0, vec![]); 3], temporality: 1, monotonic: true }),
        ..Metric::default()
    };
    let bad_label = number(2.0, vec![text("__", "x")]);
    let metrics = vec![
        delta,
        gauge("", vec![number(1.0, vec![])]),
        gauge("g", vec![bad_label, number(1.0, vec![])]),
        gauge("none", vec![]),
    ];
    let decoded = protobuf(&request(vec![], metrics));
    assert_eq!((decoded.rejected, decoded.rejections.len()), (5, 3));
    let lines = lines(&decoded);
    assert!(lines.contains(&"g 1 @1700000000000".to_owned()));
    for part in ["metric \"d.elta\"", "resulted in empty name", "label name \"__\""] {
        assert!(lines.iter().any(|l| l.starts_with('!') && l.contains(part)), "{part}: {lines:?}");
    }
}

#[test]
fn attributes_of_every_kind_become_text() {
    let value = |key: &str, value: AnyValue| KeyValue { key: key.to_owned(), value: Some(value) };
    let none = AnyValue::default;
    let list = List {
        values: vec![AnyValue { int: Some(1), ..none() }, AnyValue { text: Some("x".into()), ..none() }],
    };
    let attributes = vec![
        value("i", AnyValue { int: Some(-5), ..none() }),
        value("b", AnyValue { boolean: Some(true), ..none() }),
        value("d", AnyValue { double: Some(0.5), ..none() }),
        value("y", AnyValue { bytes: Some(b"hi".to_vec()), ..none() }),
        value("l", AnyValue { list: Some(list), ..none() }),
        value("m", AnyValue { map: Some(Map { values: vec![text("k", "v")] }), ..none() }),
        text("a.b", "1"),
        text("a_b", "2"),
        text("__name__", "ignored"),
        text("job", "kept"),
        text("empty", ""),
    ];
    check(
        &protobuf(&request(vec![], vec![gauge("g", vec![number(1.0, attributes)])])),
        &[
            r#"# g gauge "" """#,
            r#"g{a_b="1;2", b="true", d="0.5", i="-5", job="kept", l="[1,\"x\"]", m="{\"k\":\"v\"}", y="aGk="} 1 @1700000000000"#,
        ],
    );
    let mut deep = AnyValue { int: Some(1), ..none() };
    for _ in 0..40 {
        deep = AnyValue { list: Some(List { values: vec![deep] }), ..none() };
    }
    let deep = request(vec![], vec![gauge("g", vec![number(1.0, vec![value("x", deep)])])]).encode_to_vec();
    assert!(decode(OtlpFormat::Protobuf, &deep, &Limits::default()).is_err());
    assert!(decode(OtlpFormat::Json, "[".repeat(100_000).as_bytes(), &Limits::default()).is_err());
}

#[test]
fn json_means_the_same() {
    let text = r#"{"resourceMetrics":[{"scopeMetrics":[{"scope":{"name":"x"},"metrics":[
        {"name":"g","unit":"1","gauge":{"dataPoints":[
            {"timeUnixNano":"1700000000000000000","asInt":"-3","attributes":[
                {"key":"t","value":{"stringValue":"x"}},{"key":"b","value":{"boolValue":true}},
                {"key":"i","value":{"intValue":"9007199254740993"}},{"key":"d","value":{"doubleValue":0.25}},
                {"key":"l","value":{"arrayValue":{"values":[{"intValue":1},{}]}}},
                {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"bytesValue":"aGk="}}]}}}]},
            {"time_unix_nano":1700000000000000000,"as_double":"NaN","flags":0}]}},
        {"name":"c","sum":{"isMonotonic":true,"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[
            {"timeUnixNano":"1700000000000000000","asDouble":1.5,"exemplars":[
                {"timeUnixNano":"1700000000000000000","asDouble":2,"traceId":"0102","spanId":"0a","filteredAttributes":null}]}]}},
        {"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[
            {"timeUnixNano":"1700000000000000000","count":"3","sum":4.5,"bucketCounts":["1","2"],"explicitBounds":[0.5]}]}},
        {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
            {"timeUnixNano":"1700000000000000000","count":"3","scale":1,"zeroCount":1,
             "positive":{"offset":-1,"bucketCounts":["2"]}}]}},
        {"name":"s","summary":{"dataPoints":[
            {"timeUnixNano":"1700000000000000000","count":1,"sum":2,"quantileValues":[{"quantile":0.5,"value":2}]}]}},
        {"name":"d","sum":{"aggregationTemporality":1,"dataPoints":[{"asInt":"1"}]}},
        {"name":"u"}]}],
        "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"unknown":{"a":[1]}}]}"#;
    check(
        &json(text),
        &[
            r#"# g_ratio gauge "" """#,
            r#"# c_total counter "" """#,
            r#"# h histogram "" """#,
            r#"# e histogram "" """#,
            r#"# s summary "" """#,
            r#"g_ratio{b="true", d="0.25", i="9007199254740993", job="shop", l="[1,null]", m="{\"k\":\"aGk=\"}", t="x"} -3 @1700000000000"#,
            r#"g_ratio{job="shop"} NaN @1700000000000"#,
            r#"c_total{job="shop"} 1.5 @1700000000000"#,
            r#"  exemplar [("span_id", "0a"), ("trace_id", "0102")] 2 @1700000000000"#,
            r#"h_sum{job="shop"} 4.5 @1700000000000"#,
            r#"h_count{job="shop"} 3 @1700000000000"#,
            r#"h_bucket{job="shop", le="0.5"} 1 @1700000000000"#,
            r#"h_bucket{job="shop", le="+Inf"} 3 @1700000000000"#,
            r#"e{job="shop"} schema 1 count 3 sum 0 zero 1 [(0, 1)] [2.0] @1700000000000"#,
            r#"s_sum{job="shop"} 2 @1700000000000"#,
            r#"s_count{job="shop"} 1 @1700000000000"#,
            r#"s{job="shop", quantile="0.5"} 2 @1700000000000"#,
            r#"! invalid temporality and type combination for metric "d": only cumulative temporality is supported"#,
        ],
    );
}

#[test]
fn broken_requests_say_what_is_wrong() {
    for (format, body, part) in [
        (OtlpFormat::Protobuf, &b"\xff\xff\xff\xff\xff"[..], "ExportMetricsServiceRequest at byte 0"),
        (OtlpFormat::Json, b"{", "EOF"),
        (OtlpFormat::Json, b"\xff", "utf-8"),
        (OtlpFormat::Json, br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asInt":"x"}]}}]}]}]}"#, "not a whole number"),
        (OtlpFormat::Json, br#"{"resourceMetrics":7}"#, "invalid type"),
    ] {
        let error = decode(format, body, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let few = Limits { max_request_samples: 5, ..Limits::default() };
    let many = request(vec![], vec![gauge("g", vec![number(1.0, vec![]); 6])]).encode_to_vec();
    assert!(decode(OtlpFormat::Protobuf, &many, &few).is_err_and(|e| e.is_too_large()));
    assert!(json("{}").batch.series.is_empty());
}

#[test]
fn answers_tell_what_was_refused() {
    assert_eq!(response(OtlpFormat::Protobuf, 0, ""), b"");
    assert_eq!(response(OtlpFormat::Json, 0, ""), b"{}");
    let partial = Response::decode(response(OtlpFormat::Protobuf, 300, "why").as_slice()).unwrap();
    let expected = PartialSuccess { rejected_data_points: 300, error_message: "why".to_owned() };
    assert_eq!(partial.partial_success, Some(expected));
    assert_eq!(
        String::from_utf8(response(OtlpFormat::Json, 300, "\"why\"")).unwrap(),
        r#"{"partialSuccess":{"errorMessage":"\"why\"","rejectedDataPoints":"300"}}"#
    );
    let error = Status::decode(status(OtlpFormat::Protobuf, 3, "bad").as_slice()).unwrap();
    assert_eq!(error, Status { code: 3, message: "bad".to_owned() });
    assert_eq!(status(OtlpFormat::Json, 3, "bad"), br#"{"code":3,"message":"bad"}"#);
    for (value, format) in [
        ("application/json; charset=utf-8", Some(OtlpFormat::Json)),
        ("application/x-protobuf", Some(OtlpFormat::Protobuf)),
        ("text/plain", None),
    ] {
        assert_eq!(OtlpFormat::from_content_type(value), format);
    }
}

proptest! {
    #[test]
    fn protobuf_and_json_mean_the_same(
        name in "[a-z.]{1,8}",
        value in -1e6f64..1e6,
        pairs in prop::collection::vec(("[a-z.]{1,4}", "[ -~]{0,6}"), 0..4),
    ) {
        let attributes: Vec<KeyValue> = pairs.iter().map(|(k, v)| text(k, v)).collect();
        let request = request(service(), vec![gauge(&name, vec![number(value, attributes)])]);
        let shown = |pairs: &[(String, String)]| serde_json::Value::Array(
            pairs.iter().map(|(k, v)| serde_json::json!({"key": k, "value": {"stringValue": v}})).collect(),
        );
        let service: Vec<(String, String)> = [("service.name", "shop"), ("service.namespace", "eu"), ("service.instance.id", "i1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
        let text = serde_json::json!({"resourceMetrics": [{
            "resource": {"attributes": shown(&service)},
            "scopeMetrics": [{"metrics": [{"name": name, "gauge": {"dataPoints": [
                {"timeUnixNano": T_NS.to_string(), "asDouble": value, "attributes": shown(&pairs)},
            ]}}]}],
        }]});
        prop_assert_eq!(lines(&protobuf(&request)), lines(&json(&text.to_string())));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), text in "[ -~]{0,100}") {
        let _ = decode(OtlpFormat::Protobuf, &body, &Limits::default());
        let _ = decode(OtlpFormat::Json, text.as_bytes(), &Limits::default());
    }
}
