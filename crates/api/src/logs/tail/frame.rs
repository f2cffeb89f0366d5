//! One message to a follower.

use pilothouse_logql::{LabelPairs, Processed, StreamEntry, pairs_of};

use super::hub::Lost;
use crate::json::{push_integer, push_string};
use crate::logs::answer::{
    Shape, labels_text, push_entry, push_pairs, push_stream_head, separate, time_text,
};

/// An entry ready to be sent, with the labels that its stream is shown with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) labels: LabelPairs,
    pub(crate) entry: StreamEntry,
}

impl Outgoing {
    pub(crate) fn new(t_ns: i64, processed: Processed, shape: Shape) -> Self {
        if shape == (Shape::V1 { categorize: true }) {
            let Processed { line, stream, metadata, parsed } = processed;
            return Self { labels: stream, entry: StreamEntry { t_ns, line, metadata, parsed } };
        }
        let labels = processed.merged();
        // The older shape says twice what was parsed.
        let parsed = if shape == Shape::Legacy { processed.parsed } else { LabelPairs::new() };
        let entry = StreamEntry { t_ns, line: processed.line, metadata: LabelPairs::new(), parsed };
        Self { labels, entry }
    }
}

/// A JSON text. Neighbours with the same labels share a stream.
pub(crate) fn frame(entries: &[Outgoing], lost: &[Lost], shape: Shape) -> String {
    let mut out = String::from("{\"streams\":[");
    let mut first = true;
    for run in entries.chunk_by(|a, b| a.labels == b.labels) {
        separate(&mut out, &mut first);
        push_stream_head(&mut out, run.first().map_or(&Vec::new(), |o| &o.labels), shape);
        let mut first = true;
        for outgoing in run {
            separate(&mut out, &mut first);
            push_entry(&mut out, &outgoing.entry, shape);
        }
        out.push_str("]}");
    }
    out.push(']');
    push_lost(&mut out, lost, shape);
    if shape == (Shape::V1 { categorize: true }) {
        out.push_str(",\"encodingFlags\":[\"categorize-labels\"]");
    }
    out.push('}');
    out
}

fn push_lost(out: &mut String, lost: &[Lost], shape: Shape) {
    match shape {
        Shape::V1 { .. } if lost.is_empty() => return,
        Shape::Legacy if lost.is_empty() => return out.push_str(",\"dropped_entries\":null"),
        _ => out.push_str(",\"dropped_entries\":["),
    }
    let mut first = true;
    for Lost { labels, t_ns } in lost {
        separate(out, &mut first);
        let labels = pairs_of(labels);
        if shape == Shape::Legacy {
            out.push_str("{\"Timestamp\":");
            push_string(out, &time_text(*t_ns));
            out.push_str(",\"Labels\":");
            push_string(out, &labels_text(&labels));
        } else {
            out.push_str("{\"timestamp\":\"");
            push_integer(out, *t_ns);
            out.push_str("\",\"labels\":");
            push_pairs(out, &labels);
        }
        out.push('}');
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use pilothouse_model::Labels;

    use super::*;

    fn pairs(of: &[(&str, &str)]) -> LabelPairs {
        of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn processed(line: &str) -> Processed {
        Processed {
            line: line.to_owned(),
            stream: pairs(&[("app", "x")]),
            metadata: pairs(&[("level", "info")]),
            parsed: pairs(&[("k", "v")]),
        }
    }

    #[test]
    fn frames_take_each_shape() {
        let lost = [Lost { labels: Labels::from_pairs([("app", "x")]), t_ns: 7 }];
        let made = |shape: Shape, lost: &[Lost]| {
            let entries: Vec<_> = ["a", "b"].map(|l| Outgoing::new(1, processed(l), shape)).into();
            frame(&entries, lost, shape)
        };
        assert_eq!(
            made(Shape::V1 { categorize: false }, &[]),
            r#"{"streams":[{"stream":{"app":"x","k":"v","level":"info"},"values":[["1","a"],["1","b"]]}]}"#
        );
        assert_eq!(
            made(Shape::V1 { categorize: true }, &lost),
            r#"{"streams":[{"stream":{"app":"x"},"values":[["1","a",{"structuredMetadata":{"level":"info"},"parsed":{"k":"v"}}],["1","b",{"structuredMetadata":{"level":"info"},"parsed":{"k":"v"}}]]}],"dropped_entries":[{"timestamp":"7","labels":{"app":"x"}}],"encodingFlags":["categorize-labels"]}"#
        );
        assert_eq!(
            made(Shape::Legacy, &[]),
            r#"{"streams":[{"labels":"{app=\"x\", k=\"v\", level=\"info\"}","entries":[{"ts":"1970-01-01T00:00:00.000000001Z","line":"a","parsed":{"k":"v"}},{"ts":"1970-01-01T00:00:00.000000001Z","line":"b","parsed":{"k":"v"}}]}],"dropped_entries":null}"#
        );
    }
}
