//! Results of log queries as JSON, in Loki's shapes, piece by piece.
//!
//! Streams are written here; vectors and matrices have the shape that PromQL's have, and only
//! their numbers differ: Loki never writes an exponent.

use http::StatusCode;
use pilothouse_logql::{LabelPairs, LogqlValue, QueryResult, ResultStream, StreamEntry};
use pilothouse_model::labels::quote;
use pilothouse_model::{Annotations, QueryValue};

use crate::answer::{Numbers, query_reply};
use crate::json::{push_integer, push_list, push_string};
use crate::reply::{BrokenBody, PIECE_BYTES, Pieces, Reply, ReplyBody};

pub(crate) const JSON: &str = "application/json; charset=UTF-8";

/// Which of Loki's two shapes an answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `categorize`: labels of entries by where they come from.
    V1 { categorize: bool },
    /// Paths below `/api/prom`: labels as text, times as RFC 3339.
    Legacy,
}

/// The answer to a query. `stats` is a JSON object.
pub(crate) fn reply(result: QueryResult, shape: Shape, stats: &str) -> Reply {
    let value = match result.value {
        LogqlValue::Streams(streams) => return streams_reply(streams, shape, stats),
        LogqlValue::Vector(samples) => QueryValue::Vector(samples),
        LogqlValue::Matrix(series) => QueryValue::Matrix(series),
        LogqlValue::Scalar { t_ms, value } => QueryValue::Scalar { t_ms, value },
    };
    query_reply(value, &Annotations::default(), stats, Numbers::Plain).content_type(JSON)
}

fn streams_reply(streams: Vec<ResultStream>, shape: Shape, stats: &str) -> Reply {
    let (head, tail) = match shape {
        Shape::Legacy => ("{\"streams\":[".to_owned(), format!("],\"stats\":{stats}}}")),
        Shape::V1 { categorize } => {
            let flags = if categorize { "\"encodingFlags\":[\"categorize-labels\"]," } else { "" };
            let head =
                format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"streams\",{flags}\"result\":[");
            (head, format!("],\"stats\":{stats}}}}}"))
        }
    };
    let mut writer =
        Writer { head, tail: Some(tail), streams: streams.into_iter(), open: None, first: true, shape };
    let first = writer.piece();
    let body = match writer.tail {
        None => ReplyBody::Whole(first),
        Some(_) => ReplyBody::Pieces(first, Box::new(writer) as Pieces),
    };
    Reply::with_body(StatusCode::OK, JSON, body)
}

struct Writer {
    head: String,
    /// `None` once it is written.
    tail: Option<String>,
    streams: std::vec::IntoIter<ResultStream>,
    /// The entries of the stream that is half written.
    open: Option<(std::vec::IntoIter<StreamEntry>, bool)>,
    first: bool,
    shape: Shape,
}

impl Writer {
    /// About [`PIECE_BYTES`] of the answer.
    fn piece(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.head);
        while out.len() < PIECE_BYTES {
            if !self.step(&mut out) {
                out.push_str(&self.tail.take().unwrap_or_default());
                break;
            }
        }
        out.into_bytes()
    }

    /// Writes one entry, or the frame of a stream; `false` when there is none left.
    fn step(&mut self, out: &mut String) -> bool {
        if let Some((entries, first)) = &mut self.open {
            match entries.next() {
                Some(entry) => {
                    separate(out, first);
                    push_entry(out, &entry, self.shape);
                }
                None => {
                    out.push_str("]}");
                    self.open = None;
                }
            }
            return true;
        }
        let Some(stream) = self.streams.next() else { return false };
        separate(out, &mut self.first);
        push_stream_head(out, &stream.labels, self.shape);
        self.open = Some((stream.entries.into_iter(), true));
        true
    }
}

impl Iterator for Writer {
    type Item = Result<Vec<u8>, BrokenBody>;

    fn next(&mut self) -> Option<Self::Item> {
        self.tail.is_some().then(|| Ok(self.piece()))
    }
}

pub(crate) fn separate(out: &mut String, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

/// The beginning of a stream up to its entries, which `]}` closes.
pub(crate) fn push_stream_head(out: &mut String, labels: &LabelPairs, shape: Shape) {
    match shape {
        Shape::V1 { .. } => {
            out.push_str("{\"stream\":");
            push_pairs(out, labels);
            out.push_str(",\"values\":[");
        }
        Shape::Legacy => {
            out.push_str("{\"labels\":");
            push_string(out, &labels_text(labels));
            out.push_str(",\"entries\":[");
        }
    }
}

pub(crate) fn push_entry(out: &mut String, entry: &StreamEntry, shape: Shape) {
    match shape {
        Shape::V1 { categorize } => {
            out.push_str("[\"");
            push_integer(out, entry.t_ns);
            out.push_str("\",");
            push_string(out, &entry.line);
            if categorize {
                out.push_str(",{");
                push_layers(out, entry);
                out.push('}');
            }
            out.push(']');
        }
        Shape::Legacy => {
            out.push_str("{\"ts\":");
            push_string(out, &time_text(entry.t_ns));
            out.push_str(",\"line\":");
            push_string(out, &entry.line);
            if !entry.parsed.is_empty() {
                out.push_str(",\"parsed\":");
                push_pairs(out, &entry.parsed);
            }
            out.push('}');
        }
    }
}

fn push_layers(out: &mut String, entry: &StreamEntry) {
    let mut first = true;
    for (name, pairs) in [("structuredMetadata", &entry.metadata), ("parsed", &entry.parsed)] {
        if !pairs.is_empty() {
            separate(out, &mut first);
            push_string(out, name);
            out.push(':');
            push_pairs(out, pairs);
        }
    }
}

/// An object of label pairs, empty values included.
pub(crate) fn push_pairs(out: &mut String, pairs: &LabelPairs) {
    out.push('{');
    let mut first = true;
    for (name, value) in pairs {
        separate(out, &mut first);
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

/// `{a="b", c="d"}`, as Loki prints the labels of a stream.
pub(crate) fn labels_text(pairs: &LabelPairs) -> String {
    let texts: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    format!("{{{}}}", texts.join(", "))
}

/// RFC 3339 with as many decimals as it takes.
pub(crate) fn time_text(t_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(t_ns)).map_or_else(|_| t_ns.to_string(), |t| t.to_string())
}

/// `{"status":"success","data":[…]}`; an empty list of texts leaves `data` out.
pub(crate) fn texts_reply(texts: &[String]) -> Reply {
    let mut out = String::from("{\"status\":\"success\"");
    if !texts.is_empty() {
        out.push_str(",\"data\":");
        push_list(&mut out, texts, |out, text| push_string(out, text));
    }
    out.push('}');
    json(out)
}

pub(crate) fn json(body: String) -> Reply {
    Reply::new(StatusCode::OK, JSON, body)
}

#[cfg(test)]
mod tests {
    use pilothouse_logql::QueryStats;

    use super::*;

    fn pairs(of: &[(&str, &str)]) -> LabelPairs {
        of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn written(streams: Vec<ResultStream>, shape: Shape) -> String {
        let result = QueryResult { value: LogqlValue::Streams(streams), stats: QueryStats::default() };
        let mut bytes = Vec::new();
        match reply(result, shape, "{}").body {
            ReplyBody::Whole(whole) => bytes = whole,
            ReplyBody::Pieces(first, rest) => {
                bytes.extend(first);
                rest.for_each(|piece| bytes.extend(piece.unwrap()));
            }
            ReplyBody::Made(_) => {}
        }
        String::from_utf8(bytes).unwrap()
    }

    fn stream(metadata: &[(&str, &str)], parsed: &[(&str, &str)]) -> ResultStream {
        let entry = StreamEntry {
            t_ns: 1_700_000_000_000_000_001,
            line: "a \"b\"".to_owned(),
            metadata: pairs(metadata),
            parsed: pairs(parsed),
        };
        ResultStream { labels: pairs(&[("app", "x"), ("y", "")]), entries: vec![entry.clone(), entry] }
    }

    #[test]
    fn streams_take_each_shape() {
        let plain = written(vec![stream(&[], &[])], Shape::V1 { categorize: false });
        let value = r#"["1700000000000000001","a \"b\""]"#;
        assert_eq!(
            plain,
            format!(
                r#"{{"status":"success","data":{{"resultType":"streams","result":[{{"stream":{{"app":"x","y":""}},"values":[{value},{value}]}}],"stats":{{}}}}}}"#
            )
        );
        let sorted =
            written(vec![stream(&[("t", "1")], &[]), stream(&[], &[])], Shape::V1 { categorize: true });
        assert!(
            sorted.contains(r#""resultType":"streams","encodingFlags":["categorize-labels"],"#),
            "{sorted}"
        );
        assert!(
            sorted.contains(r#"{"structuredMetadata":{"t":"1"}}]"#) && sorted.contains(",{}]"),
            "{sorted}"
        );
        let legacy = written(vec![stream(&[], &[])], Shape::Legacy);
        assert!(
            legacy.starts_with(
                r#"{"streams":[{"labels":"{app=\"x\", y=\"\"}","entries":[{"ts":"2023-11-14T22:13:20.000000001Z","line":"a \"b\""}"#
            ),
            "{legacy}"
        );
        assert_eq!(
            written(Vec::new(), Shape::V1 { categorize: false }),
            r#"{"status":"success","data":{"resultType":"streams","result":[],"stats":{}}}"#
        );
    }

    #[test]
    fn a_large_answer_comes_in_pieces_and_is_whole() {
        let mut big = stream(&[], &[]);
        let entry = big.entries[0].clone();
        big.entries = vec![entry; 20_000];
        let text = written(vec![big.clone(), big], Shape::V1 { categorize: false });
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let result = parsed["data"]["result"].as_array().unwrap();
        assert_eq!(result.iter().map(|s| s["values"].as_array().unwrap().len()).sum::<usize>(), 40_000);
    }

    #[test]
    fn an_empty_list_has_no_data() {
        let body = |texts: &[String]| match texts_reply(texts).body {
            ReplyBody::Whole(bytes) => String::from_utf8(bytes).unwrap(),
            _ => String::new(),
        };
        assert_eq!(body(&[]), r#"{"status":"success"}"#);
        assert_eq!(body(&["a".to_owned()]), r#"{"status":"success","data":["a"]}"#);
    }
}
