//! The protobuf exposition: messages as client libraries make them, and what they mean.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

mod words;

use pilothouse_model::limits::Limits;
use pilothouse_model::write::MetricType;
use pilothouse_wire::exposition::protobuf::{HistogramForms, parse};
use pilothouse_wire::exposition::{ProtobufWriter, UNTIMED};
use pilothouse_wire::{DecodeError, Decoded};
use prost::Message;
use words::check;

const NOW: i64 = 1000;

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Number>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "4")]
    sample_count_float: f64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(double, tag = "8")]
    zero_count_float: f64,
    #[prost(message, repeated, tag = "9")]
    negative_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "10")]
    negative_delta: Vec<i64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(double, repeated, tag = "14")]
    positive_count: Vec<f64>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "4")]
    cumulative_count_float: f64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(n, v)| Label { name: (*n).into(), value: (*v).into() }).collect()
}

fn exemplar(value: f64, at: Option<(i64, i32)>) -> Exemplar {
    let timestamp = at.map(|(seconds, nanos)| Timestamp { seconds, nanos });
    Exemplar { label: labels(&[("trace", "x")]), value, timestamp }
}

fn family(name: &str, kind: i32, metric: Vec<Metric>) -> Family {
    Family { name: name.into(), kind, metric, ..Family::default() }
}

fn body(families: &[Family]) -> Vec<u8> {
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

const CLASSIC: HistogramForms = HistogramForms { native: false, classic_too: false };
const NATIVE: HistogramForms = HistogramForms { native: true, classic_too: false };
const BOTH: HistogramForms = HistogramForms { native: true, classic_too: true };

fn try_read(families: &[Family], forms: HistogramForms) -> Result<Decoded, DecodeError> {
    parse(&body(families), NOW, forms, &Limits::default())
}

fn read(families: &[Family], forms: HistogramForms) -> Decoded {
    try_read(families, forms).unwrap()
}

fn classic_buckets() -> Vec<Bucket> {
    [(1u64, 0.5, Some(exemplar(0.4, Some((2, 500_000_000))))), (3, 10.0, Some(exemplar(7.0, None)))]
        .into_iter()
        .map(|(cumulative_count, upper_bound, exemplar)| Bucket {
            cumulative_count,
            upper_bound,
            exemplar,
            ..Bucket::default()
        })
        .collect()
}

#[test]
fn numbers_of_each_type() {
    let number = |value| Some(Number { value, exemplar: None });
    let counter = Number { value: 5.0, exemplar: Some(exemplar(1.5, Some((3, 4_000_000)))) };
    let families = [
        Family {
            help: "Counts.".into(),
            unit: "bytes".into(),
            ..family(
                "sent_bytes_total",
                0,
                vec![
                    Metric {
                        label: labels(&[("b", "2"), ("a", "1")]),
                        counter: Some(counter),
                        ..Metric::default()
                    },
                    Metric { counter: number(7.0), timestamp_ms: 42, ..Metric::default() },
                ],
            )
        },
        family("temperature", 1, vec![Metric { gauge: number(-1.5), ..Metric::default() }]),
        family("any.thing", 3, vec![Metric { untyped: number(f64::INFINITY), ..Metric::default() }]),
        // A metric without a value has the value zero; a family without metrics is none.
        family("bare", 1, vec![Metric::default()]),
        family("empty", 1, vec![]),
    ];
    check(
        &read(&families, CLASSIC),
        &[
            r#"# sent_bytes_total counter "Counts." "bytes""#,
            r#"# temperature gauge "" """#,
            r#"# any.thing unknown "" """#,
            r#"# bare gauge "" """#,
            r#"sent_bytes_total{a="1", b="2"} 5 @1000"#,
            r#"  exemplar [("trace", "x")] 1.5 @3004"#,
            "sent_bytes_total 7 @42",
            "temperature -1.5 @1000",
            r#"{__name__="any.thing"} +Inf @1000"#,
            "bare 0 @1000",
        ],
    );
}

#[test]
fn summaries_and_classic_histograms_are_the_series_of_their_text() {
    let quantile = |quantile, value| Quantile { quantile, value };
    let summary = Summary {
        sample_count: 4,
        sample_sum: 9.5,
        quantile: vec![quantile(0.5, 2.0), quantile(0.99, f64::NAN)],
    };
    let histogram =
        Histogram { sample_count: 4, sample_sum: 20.0, bucket: classic_buckets(), ..Histogram::default() };
    let explicit = Histogram {
        sample_count: 1,
        bucket: vec![Bucket { cumulative_count: 1, upper_bound: f64::INFINITY, ..Bucket::default() }],
        ..Histogram::default()
    };
    let families = [
        family("s", 2, vec![Metric { summary: Some(summary), ..Metric::default() }]),
        family("h", 4, vec![Metric { histogram: Some(histogram), ..Metric::default() }]),
        family("g", 5, vec![Metric { histogram: Some(explicit), ..Metric::default() }]),
    ];
    for forms in [CLASSIC, NATIVE] {
        check(
            &read(&families, forms),
            &[
                r#"# s summary "" """#,
                r#"# h histogram "" """#,
                r#"# g gaugehistogram "" """#,
                "s_count 4 @1000",
                "s_sum 9.5 @1000",
                r#"s{quantile="0.5"} 2 @1000"#,
                r#"s{quantile="0.99"} NaN @1000"#,
                "h_count 4 @1000",
                "h_sum 20 @1000",
                r#"h_bucket{le="0.5"} 1 @1000"#,
                r#"  exemplar [("trace", "x")] 0.4 @2500"#,
                r#"h_bucket{le="10.0"} 3 @1000"#,
                r#"  exemplar [("trace", "x")] 7 @1000"#,
                r#"h_bucket{le="+Inf"} 4 @1000"#,
                "g_count 1 @1000",
                "g_sum 0 @1000",
                r#"g_bucket{le="+Inf"} 1 @1000"#,
            ],
        );
    }
}

fn native() -> Histogram {
    Histogram {
        sample_count: 7,
        sample_sum: 3.5,
        schema: 2,
        zero_threshold: 0.001,
        zero_count: 2,
        positive_span: vec![Span { offset: -1, length: 2 }, Span { offset: 3, length: 1 }],
        positive_delta: vec![1, 1, -1],
        negative_span: vec![Span { offset: 0, length: 1 }],
        negative_delta: vec![1],
        ..Histogram::default()
    }
}

fn of(kind: i32, histogram: Histogram) -> Family {
    family("h", kind, vec![Metric { histogram: Some(histogram), ..Metric::default() }])
}

#[test]
fn native_histograms() {
    let decoded = read(&[of(4, native())], NATIVE);
    let line = "h schema 2 count 7 sum 3.5 zero 2 [(-1, 2), (3, 1)] [1.0, 2.0, 1.0] @1000";
    check(&decoded, &[r#"# h histogram "" """#, line]);
    let histogram = &decoded.batch.histograms[0].histogram;
    assert!(histogram.integer && histogram.negative_counts == [1.0]);
    // Floats win where they are above zero.
    let float = Histogram {
        sample_count_float: 2.5,
        zero_count_float: 0.5,
        positive_span: vec![Span { offset: 0, length: 1 }],
        positive_count: vec![2.0],
        ..Histogram::default()
    };
    let decoded = read(&[of(5, float)], NATIVE);
    let line = "h schema 0 count 2.5 sum 0 zero 0.5 [(0, 1)] [2.0] @1000";
    check(&decoded, &[r#"# h gaugehistogram "" """#, line]);
    assert!(!decoded.batch.histograms[0].histogram.integer);
    // A span of no buckets says that a histogram is a native one.
    let empty = Histogram { positive_span: vec![Span::default()], ..Histogram::default() };
    assert_eq!(read(&[of(4, empty)], NATIVE).batch.histograms.len(), 1);
}

#[test]
fn of_two_forms_the_wanted_ones_are_read() {
    let histogram = Histogram { bucket: classic_buckets(), ..native() };
    let families = [of(4, histogram)];
    let counts = |forms| {
        let batch = read(&families, forms).batch;
        (batch.histograms.len(), batch.floats.len(), batch.exemplars.len())
    };
    // Without exemplars of its own a native histogram has those of the buckets that say a time.
    assert_eq!(counts(NATIVE), (1, 0, 1));
    assert_eq!(counts(CLASSIC), (0, 5, 2));
    assert_eq!(counts(BOTH), (1, 5, 3));
    let own = Histogram {
        exemplars: vec![exemplar(1.0, Some((1, 0))), exemplar(2.0, None)],
        bucket: classic_buckets(),
        ..native()
    };
    let batch = read(&[of(4, own)], NATIVE).batch;
    assert_eq!(batch.exemplars.iter().map(|e| (e.t_ms, e.value)).collect::<Vec<_>>(), [(1000, 1.0)]);
}

#[test]
fn what_is_refused() {
    let gap = Histogram { positive_delta: vec![1], ..native() };
    for (families, why) in [
        (vec![family("", 0, vec![Metric::default()])], "invalid metric name: "),
        (vec![family("a", 9, vec![Metric::default()])], "unknown metric type for metric \"a\": 9"),
        (vec![of(4, gap)], "histogram \"h\": positive side: spans require 3 buckets, have 1"),
    ] {
        let error = try_read(&families, NATIVE).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot decode MetricFamily: {why}"));
    }
    let whole = body(&[family("a", 0, vec![Metric::default()])]);
    let cut = parse(&whole[..whole.len() - 1], NOW, CLASSIC, &Limits::default()).unwrap_err();
    assert_eq!(cut.to_string(), "cannot decode MetricFamily at byte 0: unexpected end");
    let few = Limits { max_histogram_buckets: 3, ..Limits::default() };
    assert!(parse(&body(&[of(4, native())]), NOW, NATIVE, &few).unwrap_err().is_too_large());
    assert!(read(&[], CLASSIC).batch.series.is_empty());
}

#[test]
fn samples_without_a_time_can_be_told() {
    let gauge = |timestamp_ms| Metric { timestamp_ms, ..Metric::default() };
    let families = [family("a", 1, vec![gauge(0), gauge(5)])];
    let decoded = parse(&body(&families), UNTIMED, CLASSIC, &Limits::default()).unwrap();
    assert_eq!(decoded.batch.floats.iter().map(|f| f.t_ms).collect::<Vec<_>>(), [UNTIMED, 5]);
}

#[test]
fn what_is_written_reads_back() {
    let mut writer = ProtobufWriter::new();
    writer.family("requests_total", MetricType::Counter, "Requests.", "");
    writer.sample(&[("code", "200")], 3.0);
    writer.family("heap_bytes", MetricType::Gauge, "", "bytes");
    writer.sample(&[], 0.0);
    writer.family("odd name", MetricType::Unknown, "", "");
    writer.sample(&[], 1.0);
    writer.family("latency_seconds", MetricType::Histogram, "Time.", "seconds");
    writer.histogram(&[("op", "x")], &[0.005, 1.0], &[1, 2, 5], 7.5);
    let decoded = parse(&writer.finish(), NOW, CLASSIC, &Limits::default()).unwrap();
    check(
        &decoded,
        &[
            r#"# requests_total counter "Requests." """#,
            r#"# heap_bytes gauge "" "bytes""#,
            r#"# odd name unknown "" """#,
            r#"# latency_seconds histogram "Time." "seconds""#,
            r#"requests_total{code="200"} 3 @1000"#,
            "heap_bytes 0 @1000",
            r#"{__name__="odd name"} 1 @1000"#,
            r#"latency_seconds_count{op="x"} 5 @1000"#,
            r#"latency_seconds_sum{op="x"} 7.5 @1000"#,
            r#"latency_seconds_bucket{le="0.005", op="x"} 1 @1000"#,
            r#"latency_seconds_bucket{le="1.0", op="x"} 2 @1000"#,
            r#"latency_seconds_bucket{le="+Inf", op="x"} 5 @1000"#,
        ],
    );
    assert!(ProtobufWriter::new().finish().is_empty());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0u8..32, 0..80)) {
        for forms in [CLASSIC, BOTH] {
            let _ = parse(&bytes, NOW, forms, &Limits::default());
        }
    }
}
