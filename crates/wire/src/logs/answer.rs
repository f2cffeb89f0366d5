//! Answers to questions about logs as Loki gives them to who accepts `application/vnd.google.protobuf`:
//! `queryrange.QueryResponse`, with an empty `google.rpc.Status` in front.
//!
//! Members that only a distributed Loki fills are left out: hashes of streams, sketches of
//! cardinalities, headers of caches, and all statistics but those of [`Cost`].

use crate::proto::{push_bytes, push_double, push_int, push_message, push_text, push_uint};

/// The media type of these answers, which has to be asked for exactly.
pub const ANSWER_TYPE: &str = "application/vnd.google.protobuf";

/// What a query cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub lines: u64,
    pub bytes: u64,
    pub lines_after_filter: u64,
    pub entries_returned: u64,
    pub exec_seconds: f64,
    pub queue_seconds: f64,
    pub blocks: u64,
    pub blocks_read: u64,
    pub decompressed_bytes: u64,
    pub streams: u64,
}

impl Cost {
    fn push(&self, out: &mut Vec<u8>, field: u32) {
        let per_second =
            |n: u64| if self.exec_seconds > 0.0 { (n as f64 / self.exec_seconds) as u64 } else { 0 };
        push_message(out, field, |out| {
            push_message(out, 1, |out| {
                push_uint(out, 1, per_second(self.bytes));
                push_uint(out, 2, per_second(self.lines));
                push_uint(out, 3, self.bytes);
                push_uint(out, 4, self.lines);
                push_double(out, 5, self.exec_seconds);
                push_double(out, 6, self.queue_seconds);
                push_uint(out, 8, self.entries_returned);
                push_uint(out, 11, self.lines_after_filter);
            });
            push_message(out, 2, |out| {
                push_message(out, 1, |out| self.push_store(out));
                push_double(out, 2, self.exec_seconds);
            });
            push_message(out, 5, |out| {
                push_uint(out, 1, self.blocks);
                push_uint(out, 2, self.blocks_read);
                push_uint(out, 5, self.streams);
            });
        });
    }

    fn push_store(&self, out: &mut Vec<u8>) {
        push_uint(out, 1, self.blocks);
        push_uint(out, 2, self.blocks_read);
        push_message(out, 4, |out| {
            push_uint(out, 6, self.decompressed_bytes);
            push_uint(out, 7, self.lines);
            push_uint(out, 10, self.lines_after_filter);
        });
    }
}

/// A whole answer; `field` says of which kind.
fn answer(field: u32, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    push_message(&mut out, 1, |_| {});
    push_message(&mut out, field, write);
    out
}

fn push_success(out: &mut Vec<u8>) {
    push_text(out, 1, "success");
}

fn push_pair(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    push_message(out, field, |out| {
        push_bytes(out, 1, name.as_bytes());
        push_text(out, 2, value);
    });
}

/// Names or values of labels.
pub fn labels_answer(texts: &[String]) -> Vec<u8> {
    answer(3, |out| {
        push_success(out);
        texts.iter().for_each(|text| push_bytes(out, 2, text.as_bytes()));
    })
}

/// Sets of labels.
pub fn series_answer<'a, P>(sets: impl IntoIterator<Item = P>) -> Vec<u8>
where
    P: IntoIterator<Item = (&'a str, &'a str)>,
{
    answer(2, |out| {
        push_success(out);
        for set in sets {
            push_message(out, 2, |out| {
                set.into_iter().for_each(|(name, value)| push_pair(out, 1, name, value))
            });
        }
    })
}

/// Streams, chunks, bytes and entries.
pub fn index_stats_answer(amounts: [u64; 4]) -> Vec<u8> {
    answer(4, |out| {
        push_message(out, 1, |out| (1..).zip(amounts).for_each(|(field, n)| push_uint(out, field, n)));
    })
}

/// A vector, a matrix or a scalar, series by series.
#[derive(Debug)]
pub struct SamplesWriter {
    data: Vec<u8>,
}

impl SamplesWriter {
    /// `kind` is `vector`, `matrix` or `scalar`.
    pub fn new(kind: &str) -> Self {
        let mut data = Vec::new();
        push_text(&mut data, 1, kind);
        Self { data }
    }

    /// Adds a series; times are milliseconds since 1970.
    pub fn series<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        samples: impl IntoIterator<Item = (i64, f64)>,
    ) {
        push_message(&mut self.data, 2, |out| {
            labels.into_iter().for_each(|(name, value)| push_pair(out, 1, name, value));
            for (t_ms, value) in samples {
                push_message(out, 2, |out| {
                    push_double(out, 1, value);
                    push_int(out, 2, t_ms);
                });
            }
        });
    }

    pub fn finish(self, cost: &Cost) -> Vec<u8> {
        answer(5, |out| {
            push_message(out, 1, |out| {
                push_success(out);
                push_bytes(out, 2, &self.data);
            });
            cost.push(out, 2);
        })
    }
}

/// Streams, entry by entry.
#[derive(Debug, Default)]
pub struct StreamsWriter {
    streams: Vec<u8>,
    stream: Vec<u8>,
}

impl StreamsWriter {
    /// Begins a stream with its labels as text.
    pub fn begin_stream(&mut self, labels: &str) {
        self.end_stream();
        push_text(&mut self.stream, 1, labels);
    }

    /// Adds an entry to the stream begun last, its labels by where they come from.
    pub fn entry(
        &mut self,
        t_ns: i64,
        line: &str,
        metadata: &[(String, String)],
        parsed: &[(String, String)],
    ) {
        push_message(&mut self.stream, 2, |out| {
            push_message(out, 1, |out| {
                push_int(out, 1, t_ns.div_euclid(1_000_000_000));
                push_int(out, 2, t_ns.rem_euclid(1_000_000_000));
            });
            push_text(out, 2, line);
            for (field, pairs) in [(3, metadata), (4, parsed)] {
                pairs.iter().for_each(|(name, value)| push_pair(out, field, name, value));
            }
        });
    }

    fn end_stream(&mut self) {
        if !self.stream.is_empty() {
            push_bytes(&mut self.streams, 2, &self.stream);
            self.stream.clear();
        }
    }

    /// With the direction (0 forward, 1 backward) and the limit that were asked for.
    pub fn finish(mut self, direction: u64, limit: usize, cost: &Cost) -> Vec<u8> {
        self.end_stream();
        answer(6, |out| {
            push_success(out);
            push_message(out, 2, |out| {
                push_text(out, 1, "streams");
                out.extend_from_slice(&self.streams);
            });
            push_uint(out, 5, direction);
            push_uint(out, 6, limit as u64);
            push_uint(out, 7, 1);
            cost.push(out, 8);
        })
    }
}

/// A field of log lines: what [`fields_answer`] says of it.
#[derive(Debug)]
pub struct FieldAnswer<'a> {
    pub label: &'a str,
    pub kind: &'a str,
    pub cardinality: u64,
    pub parsers: &'a [&'a str],
    pub json_path: &'a [String],
}

/// Fields, or the values of one.
pub fn fields_answer<'a>(
    fields: impl IntoIterator<Item = FieldAnswer<'a>>,
    values: &[String],
    limit: usize,
) -> Vec<u8> {
    answer(11, |out| {
        push_message(out, 1, |out| {
            for field in fields {
                push_message(out, 1, |out| {
                    push_text(out, 1, field.label);
                    push_text(out, 2, field.kind);
                    push_uint(out, 3, field.cardinality);
                    field.parsers.iter().for_each(|parser| push_bytes(out, 4, parser.as_bytes()));
                    field.json_path.iter().for_each(|key| push_bytes(out, 6, key.as_bytes()));
                });
            }
            push_uint(out, 2, limit as u64);
            values.iter().for_each(|value| push_bytes(out, 3, value.as_bytes()));
        });
    })
}

/// Patterns with their levels, and lines by second.
pub fn patterns_answer<'a>(
    series: impl IntoIterator<Item = (&'a str, &'a str, &'a [(i64, u64)])>,
) -> Vec<u8> {
    answer(12, |out| {
        push_message(out, 1, |out| {
            for (pattern, level, samples) in series {
                push_message(out, 1, |out| {
                    push_text(out, 1, pattern);
                    for (seconds, lines) in samples {
                        push_message(out, 2, |out| {
                            push_int(out, 1, seconds.saturating_mul(1_000));
                            push_uint(out, 2, *lines);
                        });
                    }
                    push_text(out, 3, level);
                });
            }
        });
    })
}

/// Labels worth showing to a person, and how many values each has.
pub fn detected_labels_answer<'a>(labels: impl IntoIterator<Item = (&'a str, usize)>) -> Vec<u8> {
    answer(13, |out| {
        push_message(out, 1, |out| {
            for (label, cardinality) in labels {
                push_message(out, 1, |out| {
                    push_text(out, 1, label);
                    push_uint(out, 2, cardinality as u64);
                });
            }
        });
    })
}
