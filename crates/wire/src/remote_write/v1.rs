//! `prometheus.WriteRequest`.
//!
//! The decompressed body becomes the arena of the batch, and the labels of a series are a range
//! of it: the walk looks at labels only to find their end. A sender may put other fields between
//! labels; those series' labels are copied together behind the body.

use std::ops::Range;

use pilothouse_model::limits::Limits;
use pilothouse_model::write::{
    BatchExemplar, FloatSample, HistogramSample, MetadataEntry, MetricType, Reason, WriteBatch,
};

use super::histogram;
use crate::decoded::{Fault, Mark, Quota};
use crate::labels::{self, LABELS_KEY};
use crate::proto::{Cursor, ProtoError, bytes_key, fixed64_key, varint_key};
use crate::{DecodeError, Decoded};

const MESSAGE: &str = "prometheus.WriteRequest";

const TIMESERIES: u32 = bytes_key(1);
const METADATA: u32 = bytes_key(3);
const SAMPLES: u32 = bytes_key(2);
const EXEMPLARS: u32 = bytes_key(3);
const HISTOGRAMS: u32 = bytes_key(4);

pub(super) fn decode(body: Vec<u8>, limits: &Limits) -> Result<Decoded, DecodeError> {
    // Ranges into the arena are 32 bits wide, and labels may be copied once behind the body.
    if body.len() > (u32::MAX / 2) as usize {
        return Err(DecodeError::TooMany { what: "bytes", limit: u64::from(u32::MAX / 2) });
    }
    let mut walk = Walk::new(&body, limits);
    let mut request = Cursor::new(&body);
    walk.request(&mut request).map_err(|fault| fault.at(MESSAGE, request.at))?;
    let (mut decoded, spilled) = (walk.decoded, walk.spilled);
    let WriteBatch { arena, .. } = &mut decoded.batch;
    *arena = body;
    arena.extend_from_slice(&spilled);
    Ok(decoded)
}

struct Walk<'a> {
    body: &'a [u8],
    decoded: Decoded,
    quota: Quota,
    /// Labels that did not stand together, for the end of the arena.
    spilled: Vec<u8>,
    /// Histograms of the series at hand that were refused.
    refused: Vec<Reason>,
}

/// The labels of one series so far.
enum Run {
    /// Together in the body.
    Body(Range<usize>),
    /// Copied together, from here to the end of what is spilled.
    Spilled(usize),
}

impl<'a> Walk<'a> {
    fn new(body: &'a [u8], limits: &Limits) -> Self {
        let mut decoded = Decoded::new();
        // A guess from what lies here, not from a claim: an eighth of the body at most for each.
        decoded.batch.series.reserve(body.len() / 384);
        decoded.batch.floats.reserve(body.len() / 256);
        Self { body, decoded, quota: Quota::new(limits), spilled: Vec::new(), refused: Vec::new() }
    }

    fn request(&mut self, request: &mut Cursor<'a>) -> Result<(), Fault> {
        while let Some(key) = request.key()? {
            match key {
                TIMESERIES => self.series(request.message()?)?,
                METADATA => self.metadata(request.message()?)?,
                _ => match key >> 3 {
                    1 | 3 => return Err(ProtoError::WireType.into()),
                    _ => request.skip(key)?,
                },
            }
        }
        Ok(())
    }

    fn series(&mut self, mut series: Cursor<'a>) -> Result<(), Fault> {
        self.quota.take_series()?;
        let mark = self.decoded.mark();
        let mut run = Run::Body(series.at..series.at);
        loop {
            let start = series.at;
            let Some(key) = series.key()? else { break };
            match key {
                LABELS_KEY => {
                    labels::skip_pair(&mut series)?;
                    self.extend(&mut run, start..series.at);
                }
                SAMPLES => self.sample(series.message()?)?,
                EXEMPLARS => self.exemplar(series.message()?)?,
                HISTOGRAMS => self.histogram(series.message()?)?,
                _ => series.skip_unknown(key, 1..=4)?,
            }
        }
        self.close(mark, run);
        Ok(())
    }

    #[inline]
    fn extend(&mut self, run: &mut Run, field: Range<usize>) {
        match run {
            Run::Body(range) if range.end == field.start => range.end = field.end,
            Run::Body(range) if range.start == range.end => *range = field,
            Run::Body(range) => {
                let start = self.spilled.len();
                let parts = [range.clone(), field];
                parts.into_iter().for_each(|part| self.spill(part));
                *run = Run::Spilled(start);
            }
            Run::Spilled(_) => self.spill(field),
        }
    }

    fn spill(&mut self, part: Range<usize>) {
        self.spilled.extend_from_slice(self.body.get(part).unwrap_or(&[]));
    }

    fn close(&mut self, mark: Mark, run: Run) {
        let (raw, range) = match run {
            Run::Body(range) => (self.body.get(range.clone()).unwrap_or(&[]), range),
            Run::Spilled(start) => {
                let base = self.body.len();
                (self.spilled.get(start..).unwrap_or(&[]), base + start..base + self.spilled.len())
            }
        };
        for reason in self.refused.drain(..) {
            self.decoded.refuse(reason, || labels::series_text(raw));
        }
        self.decoded.close_series(mark, labels::key(raw), range.start as u32..range.end as u32);
    }

    #[inline]
    fn sample(&mut self, message: Cursor<'_>) -> Result<(), Fault> {
        self.quota.take_samples(1)?;
        self.decoded.batch.floats.push(read_sample(message)?);
        Ok(())
    }

    fn histogram(&mut self, message: Cursor<'_>) -> Result<(), Fault> {
        let wire = histogram::read(message, self.quota.max_buckets)?;
        self.quota.take_samples(wire.items + 1)?;
        match too_many_buckets(&wire, self.quota.max_buckets) {
            Some(reason) => self.refused.push(reason),
            None => self
                .decoded
                .batch
                .histograms
                .push(HistogramSample { t_ms: wire.t_ms, histogram: wire.histogram }),
        }
        Ok(())
    }

    fn exemplar(&mut self, mut message: Cursor<'_>) -> Result<(), Fault> {
        self.quota.take_samples(1)?;
        let mut exemplar = BatchExemplar { t_ms: 0, value: 0.0, labels: Vec::new() };
        while let Some(key) = message.key()? {
            match key {
                LABELS_KEY => {
                    self.quota.take_samples(1)?;
                    exemplar.labels.push(labels::lossy_pair(labels::read_pair(message.message()?)?));
                }
                VALUE_2 => exemplar.value = message.double()?,
                TIMESTAMP_3 => exemplar.t_ms = message.int64()?,
                _ => message.skip_unknown(key, 1..=3)?,
            }
        }
        self.decoded.batch.exemplars.push(exemplar);
        Ok(())
    }

    fn metadata(&mut self, mut message: Cursor<'_>) -> Result<(), Fault> {
        self.quota.take_series()?;
        let mut entry = MetadataEntry {
            family: String::new(),
            metric_type: MetricType::Unknown,
            help: String::new(),
            unit: String::new(),
        };
        while let Some(key) = message.key()? {
            match (key, key >> 3) {
                (TYPE_1, _) => entry.metric_type = MetricType::from_wire(message.int32()?),
                (key, 2) if key == bytes_key(2) => entry.family = message.text()?,
                (key, 4) if key == bytes_key(4) => entry.help = message.text()?,
                (key, 5) if key == bytes_key(5) => entry.unit = message.text()?,
                (_, 3) => message.skip(key)?,
                _ => message.skip_unknown(key, 1..=5)?,
            }
        }
        // Mimir's words for it.
        if entry.family.is_empty() {
            let why = "received a metric metadata with no metric name".to_owned();
            self.decoded.refuse(Reason::Undecodable { why }, String::new);
        } else {
            self.decoded.batch.metadata.push(entry);
        }
        Ok(())
    }
}

const VALUE_1: u32 = fixed64_key(1);
const TIMESTAMP_2: u32 = varint_key(2);
const VALUE_2: u32 = fixed64_key(2);
const TIMESTAMP_3: u32 = varint_key(3);
const TYPE_1: u32 = varint_key(1);

/// The message `Sample` of both versions; field 3 is the start timestamp of 2.0.
#[inline]
pub(super) fn read_sample(mut message: Cursor<'_>) -> Result<FloatSample, ProtoError> {
    let mut sample = FloatSample { t_ms: 0, value: 0.0 };
    while let Some(key) = message.key()? {
        match key {
            VALUE_1 => sample.value = message.double()?,
            TIMESTAMP_2 => sample.t_ms = message.int64()?,
            _ => message.skip_unknown(key, 1..=2)?,
        }
    }
    Ok(sample)
}

/// The reason to refuse a histogram that is larger than its bound.
pub(super) fn too_many_buckets(wire: &histogram::Wire, max: usize) -> Option<Reason> {
    (wire.items > max).then(|| Reason::InvalidHistogram {
        t_ms: wire.t_ms,
        why: format!("too many buckets and spans: {}, limit: {max}", wire.items),
    })
}
