//! Requests as a sender makes them, in either version.

use std::collections::HashMap;

use pilothouse_model::Labels;
use pilothouse_model::write::{BatchExemplar, FloatSample, HistogramSample, MetadataEntry, MetricType};

use super::{Message, histogram};
use crate::labels;
use crate::proto::{push_bytes, push_double, push_int, push_message, push_text, push_uint, push_varint};

/// What a request says of one series.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeriesParts<'a> {
    pub floats: &'a [FloatSample],
    pub histograms: &'a [HistogramSample],
    pub exemplars: &'a [BatchExemplar],
    /// Goes along in version 2.0; in 1.0 it is an entry of its own, see
    /// [`RequestWriter::metadata`].
    pub metadata: Option<&'a MetadataEntry>,
}

/// Puts a request together, series by series.
#[derive(Debug)]
pub struct RequestWriter {
    out: Vec<u8>,
    /// Of version 2.0.
    symbols: Option<Symbols>,
}

/// Every text once; the empty one is number 0.
#[derive(Debug, Default)]
struct Symbols {
    numbers: HashMap<String, u32>,
    table: Vec<u8>,
}

impl Symbols {
    fn new() -> Self {
        let mut symbols = Self::default();
        symbols.number("");
        symbols
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        push_bytes(&mut self.table, 4, text.as_bytes());
        number
    }

    /// References to names and values in turn.
    fn push_refs<'a>(&mut self, out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut refs = Vec::new();
        for (name, value) in pairs {
            push_varint(&mut refs, self.number(name).into());
            push_varint(&mut refs, self.number(value).into());
        }
        if !refs.is_empty() {
            push_bytes(out, 1, &refs);
        }
    }
}

impl RequestWriter {
    pub fn new(message: Message) -> Self {
        Self { out: Vec::new(), symbols: (message == Message::V2).then(Symbols::new) }
    }

    pub fn series(&mut self, labels: &Labels, parts: &SeriesParts<'_>) {
        match &mut self.symbols {
            None => push_message(&mut self.out, 1, |out| push_v1(out, labels, parts)),
            Some(symbols) => push_message(&mut self.out, 5, |out| push_v2(out, symbols, labels, parts)),
        }
    }

    /// What is known of a family. Version 2.0 has no place for it but beside series.
    pub fn metadata(&mut self, entry: &MetadataEntry) {
        if self.symbols.is_none() {
            push_message(&mut self.out, 3, |out| {
                push_uint(out, 1, type_number(entry.metric_type));
                push_text(out, 2, &entry.family);
                push_text(out, 4, &entry.help);
                push_text(out, 5, &entry.unit);
            });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The message, not compressed.
    pub fn finish(self) -> Vec<u8> {
        match self.symbols {
            None => self.out,
            Some(Symbols { mut table, .. }) => {
                table.extend_from_slice(&self.out);
                table
            }
        }
    }
}

fn push_v1(out: &mut Vec<u8>, labels: &Labels, parts: &SeriesParts<'_>) {
    for (name, value) in labels {
        labels::push_pair(out, name.as_bytes(), value.as_bytes());
    }
    push_samples(out, 2, parts.floats);
    for exemplar in parts.exemplars {
        push_message(out, 3, |out| {
            for (name, value) in &exemplar.labels {
                labels::push_pair(out, name.as_bytes(), value.as_bytes());
            }
            push_double(out, 2, exemplar.value);
            push_int(out, 3, exemplar.t_ms);
        });
    }
    push_histograms(out, 4, parts.histograms);
}

fn push_v2(out: &mut Vec<u8>, symbols: &mut Symbols, labels: &Labels, parts: &SeriesParts<'_>) {
    symbols.push_refs(out, labels.iter());
    push_samples(out, 2, parts.floats);
    push_histograms(out, 3, parts.histograms);
    for exemplar in parts.exemplars {
        push_message(out, 4, |out| {
            symbols.push_refs(out, exemplar.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            push_double(out, 2, exemplar.value);
            push_int(out, 3, exemplar.t_ms);
        });
    }
    if let Some(metadata) = parts.metadata {
        push_message(out, 5, |out| {
            push_uint(out, 1, type_number(metadata.metric_type));
            push_uint(out, 3, symbols.number(&metadata.help).into());
            push_uint(out, 4, symbols.number(&metadata.unit).into());
        });
    }
}

fn push_samples(out: &mut Vec<u8>, field: u32, floats: &[FloatSample]) {
    for sample in floats {
        push_message(out, field, |out| {
            push_double(out, 1, sample.value);
            push_int(out, 2, sample.t_ms);
        });
    }
}

fn push_histograms(out: &mut Vec<u8>, field: u32, histograms: &[HistogramSample]) {
    for sample in histograms {
        push_message(out, field, |out| histogram::write(out, sample.t_ms, &sample.histogram));
    }
}

fn type_number(metric_type: MetricType) -> u64 {
    MetricType::ALL.iter().position(|t| *t == metric_type).unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use pilothouse_model::Histogram;
    use pilothouse_model::limits::Limits;
    use pilothouse_model::write::RawPair;

    use super::super::decode;
    use super::*;

    /// All parts of a series come back, whichever version carries them.
    #[test]
    fn what_is_sent_is_what_a_receiver_reads() {
        let labels = Labels::from_pairs([("__name__", "requests_total"), ("é", "x y")]);
        let exemplar = BatchExemplar { t_ms: 5, value: 0.5, labels: vec![("id".into(), "7".into())] };
        let floats = [FloatSample { t_ms: -1, value: 0.0 }, FloatSample { t_ms: 2, value: f64::INFINITY }];
        let histogram = Histogram { count: 3.0, zero_count: 3.0, integer: true, ..Histogram::default() };
        let histograms = [HistogramSample { t_ms: 9, histogram }];
        let metadata = MetadataEntry {
            family: "requests_total".to_owned(),
            metric_type: MetricType::Counter,
            help: "How many.".to_owned(),
            unit: "1".to_owned(),
        };
        for message in [Message::V1, Message::V2] {
            let mut writer = RequestWriter::new(message);
            assert!(writer.is_empty());
            let parts = SeriesParts {
                floats: &floats,
                histograms: &histograms,
                exemplars: std::slice::from_ref(&exemplar),
                metadata: Some(&metadata),
            };
            writer.series(&labels, &parts);
            writer.metadata(&metadata);
            let batch = decode(message, writer.finish(), &Limits::default()).unwrap().batch;
            let mut pairs: Vec<RawPair<'_>> = Vec::new();
            (batch.read_labels)(batch.raw_labels(&batch.series[0]), &mut pairs).unwrap();
            let texts = pairs.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v)));
            assert_eq!(Labels::from_pairs(texts), labels);
            assert_eq!(batch.floats, floats);
            assert_eq!(batch.histograms, histograms);
            assert_eq!(batch.exemplars, std::slice::from_ref(&exemplar));
            let known = &batch.metadata[0];
            assert_eq!(
                (known.metric_type, &known.help, &known.unit),
                (metadata.metric_type, &metadata.help, &metadata.unit)
            );
        }
    }
}
