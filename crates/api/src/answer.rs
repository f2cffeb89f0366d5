//! A query's result as JSON, piece by piece.
//!
//! Hand-written because it is hot: a dashboard's answer is millions of points, and each is
//! written once into the piece that goes out. Large results are never whole in memory twice.

use std::sync::Arc;

use pilothouse_model::sample::{format_float_plain, push_float};
use pilothouse_model::{Annotations, Histogram, MatrixSeries, QueryValue, SampleValue, VectorSample};
use pilothouse_query::histogram::{Bucket, populated_buckets};

use crate::json::{Object, push_labels, push_list, push_object, push_seconds, push_string};
use crate::reply::{BrokenBody, PIECE_BYTES, Pieces, Reply, ReplyBody};

/// How the values of samples are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Very small and very large ones with an exponent, as Prometheus prints them.
    Short,
    /// Never with an exponent, as Loki prints them.
    Plain,
}

/// The answer of `query` and `query_range`. `stats` is a JSON object or empty.
pub(crate) fn query_reply(
    value: QueryValue,
    annotations: &Annotations,
    stats: &str,
    numbers: Numbers,
) -> Reply {
    let mut tail = String::new();
    if !stats.is_empty() {
        tail.push_str(",\"stats\":");
        tail.push_str(stats);
    }
    tail.push('}');
    push_annotations(&mut tail, annotations);
    tail.push('}');
    let mut encoder = Encoder::new(value, tail, numbers);
    let first = encoder.piece();
    let body = if encoder.done() {
        ReplyBody::Whole(first.into_bytes())
    } else {
        ReplyBody::Pieces(first.into_bytes(), Box::new(encoder) as Pieces)
    };
    Reply::with_body(http::StatusCode::OK, "application/json", body)
}

/// `{"status":"success","data":DATA}` with annotations, `data` being written by the caller.
pub(crate) fn success(annotations: &Annotations, data: impl FnOnce(&mut String)) -> Reply {
    let mut out = String::from("{\"status\":\"success\",\"data\":");
    data(&mut out);
    push_annotations(&mut out, annotations);
    out.push('}');
    Reply::json(out)
}

/// The same of an object, with no annotations.
pub(crate) fn success_object(members: impl FnOnce(&mut Object<'_>)) -> Reply {
    success(&Annotations::default(), |out| push_object(out, members))
}

fn push_annotations(out: &mut String, annotations: &Annotations) {
    for (name, texts) in [("warnings", &annotations.warnings), ("infos", &annotations.infos)] {
        if !texts.is_empty() {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            push_list(out, texts, |out, text| push_string(out, text));
        }
    }
}

enum Elements {
    /// Already written into the head.
    None,
    Vector(std::vec::IntoIter<VectorSample>),
    Matrix(std::vec::IntoIter<MatrixSeries>),
}

struct Encoder {
    head: String,
    elements: Elements,
    /// The series that is half written.
    open: Option<OpenSeries>,
    first: bool,
    tail: Option<String>,
    numbers: Numbers,
}

/// A series of a matrix and how far it is written.
struct OpenSeries {
    series: MatrixSeries,
    floats: usize,
    histograms: usize,
}

impl Encoder {
    fn new(value: QueryValue, tail: String, numbers: Numbers) -> Self {
        let mut head = String::from("{\"status\":\"success\",\"data\":{\"resultType\":\"");
        let (elements, close) = match value {
            QueryValue::Scalar { t_ms, value } => {
                head.push_str("scalar\",\"result\":");
                push_point(&mut head, t_ms, value, numbers);
                (Elements::None, "")
            }
            QueryValue::String { t_ms, text } => {
                head.push_str("string\",\"result\":[");
                push_seconds(&mut head, t_ms);
                head.push(',');
                push_string(&mut head, &text);
                head.push(']');
                (Elements::None, "")
            }
            QueryValue::Vector(samples) => {
                head.push_str("vector\",\"result\":[");
                (Elements::Vector(samples.into_iter()), "]")
            }
            QueryValue::Matrix(series) => {
                head.push_str("matrix\",\"result\":[");
                (Elements::Matrix(series.into_iter()), "]")
            }
        };
        Self { head, elements, open: None, first: true, tail: Some(close.to_owned() + &tail), numbers }
    }

    fn done(&self) -> bool {
        self.tail.is_none()
    }

    /// About [`PIECE_BYTES`] of the answer.
    fn piece(&mut self) -> String {
        let mut out = std::mem::take(&mut self.head);
        while out.len() < PIECE_BYTES {
            if !self.step(&mut out) {
                out.push_str(&self.tail.take().unwrap_or_default());
                break;
            }
        }
        out
    }

    /// Writes one element, or a part of one; `false` when there is none left.
    fn step(&mut self, out: &mut String) -> bool {
        if let Some(open) = &mut self.open {
            if open.write(out, self.numbers) {
                self.open = None;
            }
            return true;
        }
        match &mut self.elements {
            Elements::None => false,
            Elements::Vector(samples) => {
                let Some(sample) = samples.next() else { return false };
                separate(out, &mut self.first);
                push_vector_sample(out, &sample, self.numbers);
                true
            }
            Elements::Matrix(all) => {
                let Some(series) = all.next() else { return false };
                separate(out, &mut self.first);
                out.push_str("{\"metric\":");
                push_labels(out, &series.labels);
                self.open = Some(OpenSeries { series, floats: 0, histograms: 0 });
                true
            }
        }
    }
}

impl Iterator for Encoder {
    type Item = Result<Vec<u8>, BrokenBody>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done() {
            return None;
        }
        Some(Ok(self.piece().into_bytes()))
    }
}

impl OpenSeries {
    /// Writes on until the series is whole (`true`) or the piece is full.
    fn write(&mut self, out: &mut String, numbers: Numbers) -> bool {
        let floats = &self.series.floats;
        while let Some((t_ms, value)) = floats.get(self.floats) {
            out.push_str(if self.floats == 0 { ",\"values\":[" } else { "," });
            push_point(out, *t_ms, *value, numbers);
            self.floats += 1;
            if self.floats == floats.len() {
                out.push(']');
            } else if out.len() >= PIECE_BYTES {
                return false;
            }
        }
        let histograms = &self.series.histograms;
        while let Some((t_ms, histogram)) = histograms.get(self.histograms) {
            out.push_str(if self.histograms == 0 { ",\"histograms\":[" } else { "," });
            push_histogram_point(out, *t_ms, histogram);
            self.histograms += 1;
            if self.histograms == histograms.len() {
                out.push(']');
            } else if out.len() >= PIECE_BYTES {
                return false;
            }
        }
        out.push('}');
        true
    }
}

fn separate(out: &mut String, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

fn push_vector_sample(out: &mut String, sample: &VectorSample, numbers: Numbers) {
    out.push_str("{\"metric\":");
    push_labels(out, &sample.labels);
    match &sample.value {
        SampleValue::Float(value) => {
            out.push_str(",\"value\":");
            push_point(out, sample.t_ms, *value, numbers);
        }
        SampleValue::Histogram(histogram) => {
            out.push_str(",\"histogram\":");
            push_histogram_point(out, sample.t_ms, histogram);
        }
    }
    out.push('}');
}

/// `[t,"v"]`.
fn push_point(out: &mut String, t_ms: i64, value: f64, numbers: Numbers) {
    out.push('[');
    push_seconds(out, t_ms);
    out.push_str(",\"");
    match numbers {
        Numbers::Short => push_float(out, value),
        Numbers::Plain => out.push_str(&format_float_plain(value)),
    }
    out.push_str("\"]");
}

fn push_quoted(out: &mut String, value: f64) {
    out.push('"');
    push_float(out, value);
    out.push('"');
}

/// `[t,{"count":…,"sum":…,"buckets":[…]}]`; buckets ascend, empty ones are left out.
fn push_histogram_point(out: &mut String, t_ms: i64, histogram: &Arc<Histogram>) {
    out.push('[');
    push_seconds(out, t_ms);
    out.push_str(",{\"count\":");
    push_quoted(out, histogram.count);
    out.push_str(",\"sum\":");
    push_quoted(out, histogram.sum);
    let mut buckets = populated_buckets(histogram).peekable();
    if buckets.peek().is_some() {
        out.push_str(",\"buckets\":");
        push_list(out, buckets, |out, bucket| push_bucket(out, &bucket));
    }
    out.push_str("}]");
}

/// `[rule,"low","high","count"]`; the rule says which bounds belong to the bucket.
fn push_bucket(out: &mut String, bucket: &Bucket) {
    out.push('[');
    out.push(char::from(b'0' + bucket.boundaries as u8));
    for number in [bucket.lower, bucket.upper, bucket.count] {
        out.push(',');
        push_quoted(out, number);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use pilothouse_model::{Labels, Span};

    use super::*;

    fn text(value: QueryValue, annotations: &Annotations, stats: &str) -> String {
        let bytes = match query_reply(value, annotations, stats, Numbers::Short).body {
            ReplyBody::Whole(bytes) => bytes,
            ReplyBody::Pieces(mut first, rest) => {
                rest.for_each(|piece| first.extend(piece.unwrap()));
                first
            }
            ReplyBody::Made(_) => Vec::new(),
        };
        String::from_utf8(bytes).unwrap()
    }

    fn check(value: QueryValue, expected: &str) {
        let none = Annotations::default();
        assert_eq!(text(value, &none, ""), format!("{{\"status\":\"success\",\"data\":{expected}}}"));
    }

    fn histogram() -> Arc<Histogram> {
        Arc::new(Histogram {
            schema: 0,
            count: 6.0,
            sum: 18.5,
            zero_count: 1.0,
            zero_threshold: 0.5,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_counts: vec![3.0, 0.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_counts: vec![2.0],
            ..Histogram::default()
        })
    }

    #[test]
    fn every_kind_of_value() {
        check(
            QueryValue::Scalar { t_ms: 1_500, value: 1.0 / 3.0 },
            r#"{"resultType":"scalar","result":[1.5,"0.3333333333333333"]}"#,
        );
        check(
            QueryValue::String { t_ms: 0, text: "a\"b".into() },
            r#"{"resultType":"string","result":[0,"a\"b"]}"#,
        );
        check(QueryValue::Vector(vec![]), r#"{"resultType":"vector","result":[]}"#);
        check(QueryValue::Matrix(vec![]), r#"{"resultType":"matrix","result":[]}"#);
        let labels = Labels::from_pairs([("a", "1"), ("b", "2")]);
        check(
            QueryValue::Vector(vec![
                VectorSample {
                    labels: labels.clone(),
                    t_ms: 1_000,
                    value: SampleValue::Float(f64::INFINITY),
                },
                VectorSample {
                    labels: Labels::empty(),
                    t_ms: 1_000,
                    value: SampleValue::Histogram(histogram()),
                },
            ]),
            concat!(
                r#"{"resultType":"vector","result":[{"metric":{"a":"1","b":"2"},"value":[1,"+Inf"]},{"metric":{},"#,
                r#""histogram":[1,{"count":"6","sum":"18.5","buckets":[[1,"-2","-1","2"],[3,"-0.5","0.5","1"],"#,
                r#"[0,"0.5","1","3"]]}]}]}"#
            ),
        );
        check(
            QueryValue::Matrix(vec![
                MatrixSeries { labels, floats: vec![(0, 1.0), (15_000, 1e-9)], histograms: vec![] },
                MatrixSeries {
                    labels: Labels::empty(),
                    floats: vec![],
                    histograms: vec![(0, Arc::new(Histogram::default()))],
                },
            ]),
            concat!(
                r#"{"resultType":"matrix","result":[{"metric":{"a":"1","b":"2"},"values":[[0,"1"],[15,"1e-09"]]},"#,
                r#"{"metric":{},"histograms":[[0,{"count":"0","sum":"0"}]]}]}"#
            ),
        );
    }

    #[test]
    fn annotations_and_statistics_follow_the_result() {
        let mut annotations = Annotations::default();
        annotations.warnings.insert("w".into());
        annotations.infos.insert("i".into());
        let got = text(QueryValue::Vector(vec![]), &annotations, "{\"x\":1}");
        let expected = r#"{"status":"success","data":{"resultType":"vector","result":[],"stats":{"x":1}},"warnings":["w"],"infos":["i"]}"#;
        assert_eq!(got, expected);
    }

    #[test]
    fn a_large_matrix_comes_in_pieces_and_reads_back() {
        let series = |i: i64| MatrixSeries {
            labels: Labels::from_pairs([("i", i.to_string())]),
            floats: (0..3_000).map(|k| (k * 1000 + i, k as f64 * 0.1)).collect(),
            histograms: (0..50).map(|k| (k, histogram())).collect(),
        };
        let got = text(QueryValue::Matrix((0..20).map(series).collect()), &Annotations::default(), "");
        assert!(got.len() > 4 * PIECE_BYTES);
        let read: serde_json::Value = serde_json::from_str(&got).unwrap();
        let result = read["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 20);
        assert!(result.iter().all(|s| s["values"].as_array().unwrap().len() == 3_000));
        assert!(result.iter().all(|s| s["histograms"].as_array().unwrap().len() == 50));
    }
}
