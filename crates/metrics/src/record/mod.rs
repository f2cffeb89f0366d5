//! What a record of the write-ahead log says.
//!
//! A record holds what was *accepted* of one request, so that replay needs no rule of its own:
//! it does again what was done. It is a row of sections, each a tag, a length and its entries;
//! the bytes are told in `docs/formats/metrics.md`. Sections of unknown tags are an error, for
//! a record that is half understood is half lost.

mod histogram;
mod samples;

use pilothouse_model::ports::Exemplar;
use pilothouse_model::write::{MetadataEntry, MetricType};
use pilothouse_model::{Histogram, Labels, MatchOp, Matcher};

use pilothouse_model::bytes::{Malformed, Reader, push_f64, push_signed, push_slice, push_varint};
use samples::{SampleWriter, read_samples};

pub(crate) use histogram::{push_histogram, read_histogram};

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const HISTOGRAMS: u8 = 3;
const EXEMPLARS: u8 = 4;
const METADATA: u8 = 5;
const DELETE: u8 = 6;

/// A deletion: samples of matching series between two times, both inclusive, in everything
/// that was stored up to and including the flush `upto_flush`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deletion {
    pub(crate) id: u32,
    pub(crate) upto_flush: u32,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// A union of conjunctions.
    pub(crate) matcher_sets: Vec<Vec<Matcher>>,
}

/// Takes what a record says, in order.
pub(crate) trait RecordSink {
    fn series(&mut self, id: u32, labels: Labels);
    fn sample(&mut self, id: u32, t_ms: i64, value: f64);
    fn histogram(&mut self, id: u32, t_ms: i64, histogram: Histogram);
    fn exemplar(&mut self, id: u32, exemplar: Exemplar);
    fn metadata(&mut self, entry: MetadataEntry);
    fn delete(&mut self, deletion: Deletion);
}

/// Collects one record. Reused from request to request.
#[derive(Debug, Default)]
pub(crate) struct RecordWriter {
    series: Vec<u8>,
    samples: SampleWriter,
    histograms: Vec<u8>,
    exemplars: Vec<u8>,
    metadata: Vec<u8>,
    deletions: Vec<u8>,
    record: Vec<u8>,
}

impl RecordWriter {
    pub(crate) fn clear(&mut self) {
        for section in [
            &mut self.series,
            &mut self.histograms,
            &mut self.exemplars,
            &mut self.metadata,
            &mut self.deletions,
            &mut self.record,
        ] {
            section.clear();
            // One large request must not hold its memory for ever.
            section.shrink_to(1 << 20);
        }
        self.samples.clear();
    }

    /// Bytes collected, without the few that the sections' heads take.
    pub(crate) fn len(&self) -> usize {
        let rest = [&self.series, &self.histograms, &self.exemplars, &self.metadata, &self.deletions];
        self.samples.bytes().len() + rest.iter().map(|s| s.len()).sum::<usize>()
    }

    pub(crate) fn series(&mut self, id: u32, labels: &Labels) {
        push_varint(&mut self.series, u64::from(id));
        push_slice(&mut self.series, labels.as_encoded().as_bytes());
    }

    #[inline]
    pub(crate) fn sample(&mut self, id: u32, t_ms: i64, value: f64) {
        self.samples.push(id, t_ms, value);
    }

    pub(crate) fn histogram(&mut self, id: u32, t_ms: i64, histogram: &Histogram) {
        push_varint(&mut self.histograms, u64::from(id));
        push_signed(&mut self.histograms, t_ms);
        push_histogram(&mut self.histograms, histogram);
    }

    pub(crate) fn exemplar(&mut self, id: u32, exemplar: &Exemplar) {
        push_exemplar(&mut self.exemplars, id, exemplar);
    }

    pub(crate) fn metadata(&mut self, entry: &MetadataEntry) {
        push_metadata(&mut self.metadata, entry);
    }

    pub(crate) fn delete(&mut self, deletion: &Deletion) {
        push_deletion(&mut self.deletions, deletion);
    }

    /// The whole record; empty if nothing was put in.
    pub(crate) fn finish(&mut self) -> &[u8] {
        let sections: [(u8, &[u8]); 6] = [
            (SERIES, &self.series),
            (SAMPLES, self.samples.bytes()),
            (HISTOGRAMS, &self.histograms),
            (EXEMPLARS, &self.exemplars),
            (METADATA, &self.metadata),
            (DELETE, &self.deletions),
        ];
        for (tag, bytes) in sections {
            if !bytes.is_empty() {
                self.record.push(tag);
                push_slice(&mut self.record, bytes);
            }
        }
        &self.record
    }
}

/// Reads a record into a sink. After an error the sink has what came before it.
pub(crate) fn read_record(record: &[u8], sink: &mut impl RecordSink) -> Result<(), Malformed> {
    let mut record = Reader(record);
    while !record.is_empty() {
        let tag = record.byte()?;
        let mut section = Reader(record.slice()?);
        match tag {
            SAMPLES => read_samples(section, sink)?,
            _ => {
                while !section.is_empty() {
                    read_entry(tag, &mut section, sink)?;
                }
            }
        }
    }
    Ok(())
}

fn read_entry(tag: u8, from: &mut Reader<'_>, sink: &mut impl RecordSink) -> Result<(), Malformed> {
    match tag {
        SERIES => {
            let id = from.u32()?;
            sink.series(id, Labels::from_encoded(from.text()?).ok_or(Malformed("labels"))?);
        }
        HISTOGRAMS => {
            let (id, t_ms) = (from.u32()?, from.signed()?);
            sink.histogram(id, t_ms, read_histogram(from)?);
        }
        EXEMPLARS => {
            let (id, exemplar) = read_exemplar(from)?;
            sink.exemplar(id, exemplar);
        }
        METADATA => sink.metadata(read_metadata(from)?),
        DELETE => sink.delete(read_deletion(from)?),
        _ => return Err(Malformed("section")),
    }
    Ok(())
}

pub(crate) fn push_exemplar(out: &mut Vec<u8>, id: u32, exemplar: &Exemplar) {
    push_varint(out, u64::from(id));
    push_signed(out, exemplar.t_ms);
    push_f64(out, exemplar.value);
    push_slice(out, exemplar.labels.as_encoded().as_bytes());
}

pub(crate) fn read_exemplar(from: &mut Reader<'_>) -> Result<(u32, Exemplar), Malformed> {
    let (id, t_ms, value) = (from.u32()?, from.signed()?, from.f64()?);
    let labels = Labels::from_encoded(from.text()?).ok_or(Malformed("labels"))?;
    Ok((id, Exemplar { labels, value, t_ms }))
}

pub(crate) fn push_metadata(out: &mut Vec<u8>, entry: &MetadataEntry) {
    let number = MetricType::ALL.iter().position(|t| *t == entry.metric_type).unwrap_or(0);
    out.push(number as u8);
    for text in [&entry.family, &entry.help, &entry.unit] {
        push_slice(out, text.as_bytes());
    }
}

pub(crate) fn read_metadata(from: &mut Reader<'_>) -> Result<MetadataEntry, Malformed> {
    let metric_type = MetricType::from_wire(i32::from(from.byte()?));
    let mut text = || from.text().map(str::to_owned);
    Ok(MetadataEntry { metric_type, family: text()?, help: text()?, unit: text()? })
}

pub(crate) fn push_deletion(out: &mut Vec<u8>, deletion: &Deletion) {
    push_varint(out, u64::from(deletion.id));
    push_varint(out, u64::from(deletion.upto_flush));
    push_signed(out, deletion.start_ms);
    push_signed(out, deletion.end_ms);
    push_varint(out, deletion.matcher_sets.len() as u64);
    for set in &deletion.matcher_sets {
        push_varint(out, set.len() as u64);
        for matcher in set {
            out.push(matcher.op as u8);
            push_slice(out, matcher.name.as_bytes());
            push_slice(out, matcher.value.as_bytes());
        }
    }
}

pub(crate) fn read_deletion(from: &mut Reader<'_>) -> Result<Deletion, Malformed> {
    let (id, upto_flush) = (from.u32()?, from.u32()?);
    let (start_ms, end_ms) = (from.signed()?, from.signed()?);
    let sets = (0..from.count()?).map(|_| read_matchers(from)).collect::<Result<_, _>>()?;
    Ok(Deletion { id, upto_flush, start_ms, end_ms, matcher_sets: sets })
}

fn read_matchers(from: &mut Reader<'_>) -> Result<Vec<Matcher>, Malformed> {
    (0..from.count()?)
        .map(|_| {
            let op = match from.byte()? {
                0 => MatchOp::Equal,
                1 => MatchOp::NotEqual,
                2 => MatchOp::Regex,
                3 => MatchOp::NotRegex,
                _ => return Err(Malformed("matcher")),
            };
            let (name, value) = (from.text()?, from.text()?);
            Matcher::new(op, name, value).map_err(|_| Malformed("regex"))
        })
        .collect()
}

/// Decodes any bytes as a record, for the fuzzer; answers whether they are one.
#[doc(hidden)]
pub fn is_record(bytes: &[u8]) -> bool {
    struct Nothing;
    impl RecordSink for Nothing {
        fn series(&mut self, _: u32, _: Labels) {}
        fn sample(&mut self, _: u32, _: i64, _: f64) {}
        fn histogram(&mut self, _: u32, _: i64, _: Histogram) {}
        fn exemplar(&mut self, _: u32, _: Exemplar) {}
        fn metadata(&mut self, _: MetadataEntry) {}
        fn delete(&mut self, _: Deletion) {}
    }
    read_record(bytes, &mut Nothing).is_ok()
}

#[cfg(test)]
mod tests;
