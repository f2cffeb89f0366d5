//! Answers about logs in protobuf, read back with the shapes of Loki's own messages.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

use pilothouse_wire::logs::{
    Cost, FieldAnswer, SamplesWriter, StreamsWriter, fields_answer, patterns_answer,
};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    status: Option<Empty>,
    #[prost(message, optional, tag = "5")]
    prom: Option<Prom>,
    #[prost(message, optional, tag = "6")]
    streams: Option<Streams>,
    #[prost(message, optional, tag = "11")]
    fields: Option<Fields>,
    #[prost(message, optional, tag = "12")]
    patterns: Option<Patterns>,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Prom {
    #[prost(message, optional, tag = "1")]
    response: Option<PromResponse>,
    #[prost(message, optional, tag = "2")]
    statistics: Option<Statistics>,
}

#[derive(Clone, PartialEq, Message)]
struct PromResponse {
    #[prost(string, tag = "1")]
    status: String,
    #[prost(message, optional, tag = "2")]
    data: Option<PromData>,
}

#[derive(Clone, PartialEq, Message)]
struct PromData {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, repeated, tag = "2")]
    result: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Pair>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Statistics {
    #[prost(message, optional, tag = "1")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(int64, tag = "1")]
    bytes_per_second: i64,
    #[prost(int64, tag = "4")]
    lines: i64,
    #[prost(double, tag = "5")]
    exec_seconds: f64,
    #[prost(int64, tag = "8")]
    entries_returned: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Streams {
    #[prost(string, tag = "1")]
    status: String,
    #[prost(message, optional, tag = "2")]
    data: Option<StreamsData>,
    #[prost(int32, tag = "5")]
    direction: i32,
    #[prost(uint32, tag = "6")]
    limit: u32,
    #[prost(message, optional, tag = "8")]
    statistics: Option<Statistics>,
}

#[derive(Clone, PartialEq, Message)]
struct StreamsData {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, repeated, tag = "2")]
    result: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    time: Option<Time>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
    #[prost(message, repeated, tag = "4")]
    parsed: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(message, optional, tag = "1")]
    response: Option<FieldsResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldsResponse {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Field>,
    #[prost(uint32, tag = "2")]
    limit: u32,
    #[prost(string, repeated, tag = "3")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, tag = "1")]
    label: String,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(uint64, tag = "3")]
    cardinality: u64,
    #[prost(string, repeated, tag = "4")]
    parsers: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    json_path: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Patterns {
    #[prost(message, optional, tag = "1")]
    response: Option<PatternsResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct PatternsResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Pattern>,
}

#[derive(Clone, PartialEq, Message)]
struct Pattern {
    #[prost(string, tag = "1")]
    pattern: String,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<PatternSample>,
    #[prost(string, tag = "3")]
    level: String,
}

#[derive(Clone, PartialEq, Message)]
struct PatternSample {
    #[prost(int64, tag = "1")]
    timestamp_ms: i64,
    #[prost(int64, tag = "2")]
    value: i64,
}

fn read(body: &[u8]) -> Answer {
    let answer = Answer::decode(body).unwrap();
    assert!(answer.status.is_some());
    answer
}

fn pair(name: &str, value: &str) -> Pair {
    Pair { name: name.to_owned(), value: value.to_owned() }
}

const COST: Cost = Cost {
    lines: 10,
    bytes: 1_000,
    lines_after_filter: 4,
    entries_returned: 2,
    exec_seconds: 0.5,
    queue_seconds: 0.0,
    blocks: 3,
    blocks_read: 2,
    decompressed_bytes: 900,
    streams: 1,
};

fn summary(statistics: Option<Statistics>) -> (i64, i64, f64, i64) {
    let summary = statistics.and_then(|s| s.summary).unwrap();
    (summary.bytes_per_second, summary.lines, summary.exec_seconds, summary.entries_returned)
}

#[test]
fn samples_go_back() {
    let mut writer = SamplesWriter::new("matrix");
    writer.series([("a", "1"), ("b", "")], [(-5, 1.5), (1_700_000_000_000, 0.0)]);
    writer.series([], [(0, f64::INFINITY)]);
    let prom = read(&writer.finish(&COST)).prom.unwrap();
    let response = prom.response.unwrap();
    let data = response.data.unwrap();
    assert_eq!((response.status.as_str(), data.kind.as_str()), ("success", "matrix"));
    let sample = |timestamp_ms, value| Sample { value, timestamp_ms };
    assert_eq!(
        data.result,
        [
            Series {
                labels: vec![pair("a", "1"), pair("b", "")],
                samples: vec![sample(-5, 1.5), sample(1_700_000_000_000, 0.0)],
            },
            Series { labels: Vec::new(), samples: vec![sample(0, f64::INFINITY)] },
        ]
    );
    assert_eq!(summary(prom.statistics), (2_000, 10, 0.5, 2));
}

#[test]
fn streams_go_back() {
    let pairs = |of: &[(&str, &str)]| -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let mut writer = StreamsWriter::default();
    writer.begin_stream(r#"{a="1"}"#);
    writer.entry(-1, "before", &pairs(&[("m", "n")]), &[]);
    writer.entry(1_700_000_000_000_000_007, "", &[], &pairs(&[("p", "")]));
    writer.begin_stream("{}");
    let streams = read(&writer.finish(1, 100, &COST)).streams.unwrap();
    assert_eq!((streams.status.as_str(), streams.direction, streams.limit), ("success", 1, 100));
    assert_eq!(summary(streams.statistics), (2_000, 10, 0.5, 2));
    let data = streams.data.unwrap();
    assert_eq!(data.kind, "streams");
    let entry = |seconds, nanos, line: &str, metadata, parsed| Entry {
        time: Some(Time { seconds, nanos }),
        line: line.to_owned(),
        metadata,
        parsed,
    };
    let entries = vec![
        entry(-1, 999_999_999, "before", vec![pair("m", "n")], Vec::new()),
        entry(1_700_000_000, 7, "", Vec::new(), vec![pair("p", "")]),
    ];
    assert_eq!(
        data.result,
        [
            Stream { labels: r#"{a="1"}"#.to_owned(), entries },
            Stream { labels: "{}".to_owned(), entries: Vec::new() },
        ]
    );
}

#[test]
fn fields_and_patterns_go_back() {
    let field = FieldAnswer {
        label: "n",
        kind: "int",
        cardinality: 3,
        parsers: &["json"],
        json_path: &["req".to_owned(), "n".to_owned()],
    };
    let fields =
        read(&fields_answer([field], &["x".to_owned()], 1_000)).fields.and_then(|f| f.response).unwrap();
    assert_eq!((fields.limit, fields.values.as_slice()), (1_000, &["x".to_owned()][..]));
    assert_eq!(
        fields.fields,
        [Field {
            label: "n".to_owned(),
            kind: "int".to_owned(),
            cardinality: 3,
            parsers: vec!["json".to_owned()],
            json_path: vec!["req".to_owned(), "n".to_owned()],
        }]
    );
    let body = patterns_answer([("<_> ok", "info", &[(1_700_000_000, 2), (1_700_000_010, 0)][..])]);
    let series = read(&body).patterns.and_then(|p| p.response).unwrap().series;
    let sample = |timestamp_ms, value| PatternSample { timestamp_ms, value };
    assert_eq!(
        series,
        [Pattern {
            pattern: "<_> ok".to_owned(),
            samples: vec![sample(1_700_000_000_000, 2), sample(1_700_000_010_000, 0)],
            level: "info".to_owned(),
        }]
    );
}
