//! Which forms of a histogram are taken of those that a target offers, by what its job asks for.

use pilothouse_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};
use pilothouse_model::limits::Limits;
use prost::Message;

use super::{Target, lines};
use crate::exchange::{Form, ScrapeError};
use crate::ingest::{Ingest, Ingested};

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Exposed>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Exposed {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative: u64,
    #[prost(double, tag = "2")]
    bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
    #[prost(double, tag = "4")]
    cumulative_float: f64,
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
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    at: Option<Time>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

const HISTOGRAM: i32 = 4;
const GAUGE_HISTOGRAM: i32 = 5;

fn buckets(of: &[(f64, u64)]) -> Vec<Bucket> {
    of.iter().map(|&(bound, cumulative)| Bucket { cumulative, bound, ..Bucket::default() }).collect()
}

fn classic() -> Exposed {
    Exposed { count: 7, sum: 20.5, bucket: buckets(&[(0.5, 2), (1.0, 2), (5.0, 4)]), ..Exposed::default() }
}

fn exponential() -> Exposed {
    let positive_span = vec![Span { offset: 0, length: 2 }];
    Exposed {
        count: 7,
        sum: 20.5,
        schema: 3,
        positive_span,
        positive_delta: vec![3, 1],
        ..Exposed::default()
    }
}

fn both() -> Exposed {
    Exposed { bucket: classic().bucket, ..exponential() }
}

fn family(kind: i32, all: Vec<(&str, Exposed)>) -> Vec<u8> {
    let metric = |(value, histogram): (&str, Exposed)| Metric {
        label: vec![Label { name: "a".to_owned(), value: value.to_owned() }],
        histogram: Some(histogram),
        ..Metric::default()
    };
    let metric = all.into_iter().map(metric).collect();
    Family { name: "h".to_owned(), kind, metric }.encode_length_delimited_to_vec()
}

fn taken(target: &mut Target, body: &[u8], form: Form) -> Ingested {
    target.t_ms += 1000;
    let ingest = Ingest {
        job: &target.job,
        public: &target.public,
        histograms: target.job.histograms,
        limits: &Limits::default(),
        t_ms: target.t_ms,
    };
    ingest.body(&mut target.cache, body, form)
}

fn histograms(done: &Ingested) -> Vec<&Histogram> {
    done.batch.histograms.iter().map(|sample| &sample.histogram).collect()
}

/// What is exposed (in the classic form, in both, in the exponential one alone); then, by what the job
/// asks for, whether the classic series, the exponential histogram and one with custom buckets are
/// written: letters for each that is.
#[test]
fn which_forms_are_taken() {
    const ASKED: [(&str, [&str; 3]); 8] = [
        // Native histograms are not asked for, so there are none, whatever a target sends.
        ("", ["c", "c", "c"]),
        ("always", ["c", "c", "c"]),
        ("convert", ["n", "n", "n"]),
        ("always convert", ["cn", "cn", "cn"]),
        ("native", ["c", "e", "e"]),
        ("native always", ["c", "ce", "e"]),
        ("native convert", ["n", "e", "e"]),
        ("native always convert", ["cn", "ce", "e"]),
    ];
    for (asked, expected) in ASKED {
        let fields = format!(
            "scrape_native_histograms: {}, always_scrape_classic_histograms: {}, convert_classic_histograms_to_nhcb: {}",
            asked.contains("native"),
            asked.contains("always"),
            asked.contains("convert"),
        );
        for (i, exposed) in [classic(), both(), exponential()].into_iter().enumerate() {
            let body = family(HISTOGRAM, vec![("1", exposed)]);
            let done = taken(&mut Target::new(&fields), &body, Form::Protobuf);
            assert_eq!(done.result, Ok(()), "{asked} {i}");
            let mut found = String::new();
            if !done.batch.floats.is_empty() {
                found.push('c');
                // Of the exponential form alone what is classic is its count, sum and last bucket.
                assert_eq!(done.batch.floats.len(), if i == 2 { 3 } else { 6 }, "{asked} {i}");
            }
            for histogram in histograms(&done) {
                found.push(if histogram.schema == CUSTOM_BUCKETS_SCHEMA { 'n' } else { 'e' });
                assert_eq!((histogram.count, histogram.sum), (7.0, 20.5), "{asked} {i}");
            }
            assert_eq!(found, expected[i], "{asked} {i}");
        }
    }
}

const CONVERT: &str = "scrape_native_histograms: true, convert_classic_histograms_to_nhcb: true";

#[test]
fn a_family_of_several() {
    let first = Exposed { count: 5, sum: 12.1, bucket: buckets(&[(1.1, 2), (2.2, 3)]), ..Exposed::default() };
    let second =
        Exposed { count: 6, sum: 13.1, bucket: buckets(&[(1.1, 1), (2.2, 5)]), ..Exposed::default() };
    let body = family(HISTOGRAM, vec![("1", first), ("2", both()), ("3", second)]);
    let done = taken(&mut Target::new(CONVERT), &body, Form::Protobuf);
    let found: Vec<(i32, f64, Vec<f64>)> =
        histograms(&done).iter().map(|h| (h.schema, h.count, h.positive_counts.clone())).collect();
    let custom = CUSTOM_BUCKETS_SCHEMA;
    // What is converted comes behind.
    assert_eq!(
        found,
        [(3, 7.0, vec![3.0, 4.0]), (custom, 5.0, vec![2.0, 1.0, 2.0]), (custom, 6.0, vec![1.0, 4.0, 1.0])]
    );
    assert!(histograms(&done)[1].custom_bounds[..] == [1.1, 2.2] && histograms(&done)[1].integer);
}

#[test]
fn floats_gauges_and_times() {
    let float = |cumulative_float, bound| Bucket { cumulative_float, bound, ..Bucket::default() };
    let floats = Exposed { count_float: 2.5, bucket: vec![float(0.5, 1.0)], ..Exposed::default() };
    let body = family(GAUGE_HISTOGRAM, vec![("1", floats)]);
    let done = taken(&mut Target::new(CONVERT), &body, Form::Protobuf);
    let made = histograms(&done)[0];
    assert_eq!((made.integer, made.reset_hint), (false, ResetHint::Gauge));
    assert_eq!(made.positive_counts, [0.5, 2.0]);

    let metric = Metric { timestamp_ms: 77, histogram: Some(classic()), ..Metric::default() };
    let family = Family { name: "h".to_owned(), kind: HISTOGRAM, metric: vec![metric] };
    let done = taken(&mut Target::new(CONVERT), &family.encode_length_delimited_to_vec(), Form::Protobuf);
    assert_eq!(done.batch.histograms[0].t_ms, 77);
}

/// Those of the buckets stand in where a native histogram has none of its own; none without a time.
#[test]
fn exemplars_of_histograms_have_a_time() {
    let at = |seconds| Some(Time { seconds });
    let exemplar = |value, at| Some(Exemplar { value, at });
    let mut exposed = classic();
    exposed.bucket[0].exemplar = exemplar(0.1, at(1));
    exposed.bucket[1].exemplar = exemplar(0.7, None);
    exposed.bucket[2].exemplar = exemplar(4.0, at(3));
    let mut own = exponential();
    own.bucket = exposed.bucket.clone();
    own.exemplars = [exemplar(2.0, None), exemplar(3.0, at(5))].into_iter().flatten().collect();
    let mut of_buckets = own.clone();
    of_buckets.exemplars.clear();
    for (exposed, expected) in [
        (exposed, &[(0.1, 1_000), (4.0, 3_000)][..]),
        (own, &[(3.0, 5_000)]),
        (of_buckets, &[(0.1, 1_000), (4.0, 3_000)]),
    ] {
        let body = family(HISTOGRAM, vec![("1", exposed)]);
        let done = taken(&mut Target::new(CONVERT), &body, Form::Protobuf);
        let found: Vec<(f64, i64)> = done.batch.exemplars.iter().map(|e| (e.value, e.t_ms)).collect();
        assert_eq!(found, expected);
    }
}

/// In protobuf a classic histogram that contradicts itself fails the scrape, where it is converted.
#[test]
fn what_contradicts_itself() {
    for (of, count, why) in [
        (&[(0.5, 4), (1.0, 2)][..], 4, "count is not cumulative: 2 < 4"),
        (&[(0.5, 4), (f64::INFINITY, 5)], 4, "count mismatch: count=4 != le=+Inf count=5"),
        (&[(0.5, 1_000_000)], 4, "count is not cumulative: 4 < 1e+06"),
    ] {
        let exposed = Exposed { count, bucket: buckets(of), ..Exposed::default() };
        let body = family(HISTOGRAM, vec![("1", classic()), ("2", exposed)]);
        let done = taken(&mut Target::new(CONVERT), &body, Form::Protobuf);
        assert_eq!(done.result, Err(ScrapeError::Body(why.to_owned())));
        assert!(done.batch.series.is_empty());
        let done = taken(&mut Target::new(""), &body, Form::Protobuf);
        assert!(done.result.is_ok() && lines(&done.batch).len() > 8);
    }
}
