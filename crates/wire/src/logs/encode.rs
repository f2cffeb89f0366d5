//! Pushes as a sender makes them: `logproto.PushRequest`.

use pilothouse_model::Labels;

use crate::proto::{push_bytes, push_int, push_message, push_text};

/// Puts a push together, stream by stream.
#[derive(Debug, Default)]
pub struct PushWriter {
    out: Vec<u8>,
    /// The stream at hand, which has no entry yet where nothing but its labels is in it.
    stream: Vec<u8>,
    has_entries: bool,
}

impl PushWriter {
    /// Begins a stream; one that gets no entries is left out.
    pub fn begin_stream(&mut self, labels: &Labels) {
        self.end_stream();
        push_text(&mut self.stream, 1, &labels.to_string());
    }

    /// Adds an entry to the stream begun last.
    pub fn entry(&mut self, t_ns: i64, line: &str, metadata: &Labels) {
        self.has_entries = true;
        push_message(&mut self.stream, 2, |out| {
            push_message(out, 1, |out| {
                push_int(out, 1, t_ns.div_euclid(1_000_000_000));
                push_int(out, 2, t_ns.rem_euclid(1_000_000_000));
            });
            push_text(out, 2, line);
            for (name, value) in metadata {
                push_message(out, 3, |out| {
                    push_bytes(out, 1, name.as_bytes());
                    push_bytes(out, 2, value.as_bytes());
                });
            }
        });
    }

    fn end_stream(&mut self) {
        if std::mem::take(&mut self.has_entries) {
            push_bytes(&mut self.out, 1, &self.stream);
        }
        self.stream.clear();
    }

    /// The message, not compressed; empty where no stream had an entry.
    pub fn finish(mut self) -> Vec<u8> {
        self.end_stream();
        self.out
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_model::limits::Limits;

    use super::super::{Enricher, Enrichment, PushFormat, decode};
    use super::*;

    #[test]
    fn what_is_sent_is_what_a_receiver_reads() {
        let app = Labels::from_pairs([("app", "a \"b\"\n"), ("service_name", "a")]);
        let metadata = Labels::from_pairs([("detected_level", "info"), ("trace", "7")]);
        let mut writer = PushWriter::default();
        writer.begin_stream(&Labels::from_pairs([("none", "here")]));
        writer.begin_stream(&app);
        writer.entry(-1, "before \u{e9}", &metadata);
        writer.entry(1_700_000_000_000_000_007, "", &metadata);
        let enricher = Enricher::new(&Enrichment::default());
        let body = writer.finish();
        let batch = decode(PushFormat::Protobuf, &body, &enricher, &Limits::default()).unwrap().batch;
        assert_eq!(batch.streams.len(), 1);
        assert_eq!(batch.streams[0].labels, app);
        let read: Vec<(i64, &str, &Labels)> =
            batch.entries.iter().map(|e| (e.t_ns, batch.line_of(e), &e.metadata)).collect();
        let second = 1_700_000_000_000_000_007;
        assert_eq!(read, [(-1, "before \u{e9}", &metadata), (second, "", &metadata)]);
        assert!(PushWriter::default().finish().is_empty());
    }
}
