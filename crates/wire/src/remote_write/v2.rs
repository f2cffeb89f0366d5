//! `io.prometheus.write.v2.Request`: label texts once in a table of symbols, series as references.
//!
//! References are resolved while decoding, and the labels written into the arena in the form of
//! version 1.0: the raw bytes then do not depend on how a sender numbers its symbols. Faults of
//! one series refuse that series; the texts are those of Prometheus' receiver.

use std::collections::HashSet;

use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::limits::Limits;
use pilothouse_model::write::{BatchExemplar, HistogramSample, MetadataEntry, MetricType, Reason};

use super::histogram;
use super::v1::{read_sample, too_many_buckets};
use crate::decoded::{Fault, Mark, Quota};
use crate::labels;
use crate::proto::{Cursor, ProtoError, bytes_key, fixed64_key, varint_key};
use crate::{DecodeError, Decoded};

const MESSAGE: &str = "io.prometheus.write.v2.Request";

const SYMBOLS: u32 = bytes_key(4);
const TIMESERIES: u32 = bytes_key(5);

pub(super) fn decode(body: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let mut quota = Quota::new(limits);
    let mut request = Cursor::new(body);
    let symbols = read_symbols(&mut request, &mut quota).map_err(|f| f.at(MESSAGE, request.at))?;
    let mut walk = Walk::new(symbols, body.len(), &mut quota);
    let mut request = Cursor::new(body);
    walk.request(&mut request).map_err(|f| f.at(MESSAGE, request.at))?;
    Ok(walk.decoded)
}

/// A text of the table, with the length in front of it as it stands in the body: that is also
/// how it stands in a label.
#[derive(Debug, Clone, Copy)]
struct Symbol<'a> {
    sized: &'a [u8],
    text: &'a [u8],
}

/// The table may stand behind the series that use it, so it is read first, in a walk of its own.
/// A symbol takes 2 bytes of the body or more, and 32 here.
fn read_symbols<'a>(request: &mut Cursor<'a>, quota: &mut Quota) -> Result<Vec<Symbol<'a>>, Fault> {
    let mut symbols = Vec::new();
    while let Some(key) = request.key()? {
        match key {
            SYMBOLS => {
                quota.take_samples(1)?;
                let start = request.at;
                let text = request.bytes()?;
                symbols.push(Symbol { sized: request.slice(start, request.at), text });
            }
            _ if key >> 3 == 4 => return Err(ProtoError::WireType.into()),
            _ => request.skip(key)?,
        }
    }
    match symbols.first() {
        Some(Symbol { text: [], .. }) | None => Ok(symbols),
        Some(_) => Err(DecodeError::malformed(MESSAGE, "the first symbol must be the empty text").into()),
    }
}

struct Walk<'a, 'q> {
    symbols: Vec<Symbol<'a>>,
    decoded: Decoded,
    quota: &'q mut Quota,
    /// The parts of the series at hand.
    refs: Vec<u32>,
    exemplars: Vec<WireExemplar>,
    metadata: WireMetadata,
    refused: Vec<Reason>,
    /// Families whose metadata was taken, so that each is taken once a request.
    seen: HashSet<(&'a [u8], WireMetadata)>,
}

struct WireExemplar {
    refs: Vec<u32>,
    value: f64,
    t_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct WireMetadata {
    metric_type: i32,
    help: u32,
    unit: u32,
}

impl<'a, 'q> Walk<'a, 'q> {
    fn new(symbols: Vec<Symbol<'a>>, body_len: usize, quota: &'q mut Quota) -> Self {
        let mut decoded = Decoded::new();
        // Guesses from what lies here, not from a claim; texts are written out about twice.
        decoded.batch.arena.reserve(body_len * 2);
        decoded.batch.series.reserve(body_len / 128);
        decoded.batch.floats.reserve(body_len / 128);
        Self {
            symbols,
            decoded,
            quota,
            refs: Vec::new(),
            exemplars: Vec::new(),
            metadata: WireMetadata::default(),
            refused: Vec::new(),
            seen: HashSet::new(),
        }
    }

    fn request(&mut self, request: &mut Cursor<'a>) -> Result<(), Fault> {
        while let Some(key) = request.key()? {
            match key {
                TIMESERIES => self.series(request.message()?)?,
                _ if key >> 3 == 5 => return Err(ProtoError::WireType.into()),
                _ => request.skip(key)?,
            }
        }
        Ok(())
    }

    fn series(&mut self, message: Cursor<'a>) -> Result<(), Fault> {
        self.quota.take_series()?;
        let (mark, start) = (self.decoded.mark(), self.decoded.batch.arena.len());
        self.read_parts(message)?;
        if let Err(why) = self.write_labels()? {
            // Without labels there is no name for what else may be wrong with it.
            self.drop_series(mark, start);
            self.decoded.refuse(Reason::Undecodable { why }, String::new);
            return Ok(());
        }
        let end = self.decoded.batch.arena.len();
        let now = self.decoded.mark();
        let sampled = now.floats > mark.floats || now.histograms > mark.histograms;
        if !sampled && self.refused.is_empty() {
            self.refused.push(Reason::NoSamples);
        }
        self.refuse_parts(start);
        if !sampled {
            self.drop_series(mark, start);
            return Ok(());
        }
        self.take_exemplars(start)?;
        self.take_metadata()?;
        let key = labels::key(self.decoded.batch.arena.get(start..end).unwrap_or(&[]));
        self.decoded.close_series(mark, key, start as u32..end as u32);
        Ok(())
    }

    /// Takes back all that was read of the series at hand.
    fn drop_series(&mut self, mark: Mark, labels_start: usize) {
        self.decoded.rewind(mark);
        self.decoded.batch.arena.truncate(labels_start);
        self.exemplars.clear();
        self.refused.clear();
    }

    fn read_parts(&mut self, mut series: Cursor<'a>) -> Result<(), Fault> {
        self.refs.clear();
        self.metadata = WireMetadata::default();
        while let Some(key) = series.key()? {
            match key {
                SERIES_SAMPLES => {
                    self.quota.take_samples(1)?;
                    self.decoded.batch.floats.push(read_sample(series.message()?)?);
                }
                SERIES_HISTOGRAMS => self.histogram(series.message()?)?,
                SERIES_EXEMPLARS => {
                    let exemplar = read_exemplar(series.message()?)?;
                    self.quota.take_samples(1 + exemplar.refs.len())?;
                    self.exemplars.push(exemplar);
                }
                SERIES_METADATA => self.metadata = read_metadata(series.message()?)?,
                _ if key >> 3 == 1 => read_refs(&mut series, key, &mut self.refs)?,
                _ => series.skip_unknown(key, 1..=5)?,
            }
        }
        Ok(())
    }

    fn histogram(&mut self, message: Cursor<'_>) -> Result<(), Fault> {
        let wire = histogram::read(message, self.quota.max_buckets)?;
        self.quota.take_samples(wire.items + 1)?;
        match too_many_buckets(&wire, self.quota.max_buckets) {
            Some(reason) => self.refused.push(reason),
            None => {
                let sample = HistogramSample { t_ms: wire.t_ms, histogram: wire.histogram };
                self.decoded.batch.histograms.push(sample);
            }
        }
        Ok(())
    }

    /// Resolves the references of the series into the arena, or says in Prometheus' words why not.
    fn write_labels(&mut self) -> Result<Result<(), String>, DecodeError> {
        let (pairs, odd) = self.refs.as_chunks::<2>();
        if !odd.is_empty() {
            return Ok(Err(self.about(&format!("invalid labelRefs length {}", self.refs.len()))));
        }
        for [name, value] in pairs {
            let (Some(n), Some(v)) = (self.symbols.get(*name as usize), self.symbols.get(*value as usize))
            else {
                return Ok(Err(self.about(&outside(*name, *value, self.symbols.len()))));
            };
            self.quota.take_bytes(n.sized.len() + v.sized.len() + 4)?;
            labels::push_sized_pair(&mut self.decoded.batch.arena, n.sized, v.sized);
        }
        Ok(Ok(()))
    }

    /// The references are all there is to name such a series by; a hostile list is cut.
    fn about(&self, why: &str) -> String {
        let shown = self.refs.get(..64).unwrap_or(&self.refs);
        format!("parsing labels for series {shown:?}: {why}")
    }

    /// Turns what was found wrong with parts of the series into refusals that name it.
    fn refuse_parts(&mut self, labels_start: usize) {
        for reason in std::mem::take(&mut self.refused) {
            let series = labels::series_text(self.decoded.batch.arena.get(labels_start..).unwrap_or(&[]));
            self.decoded.refuse(reason, || series);
        }
    }

    fn take_exemplars(&mut self, labels_start: usize) -> Result<(), DecodeError> {
        for exemplar in std::mem::take(&mut self.exemplars) {
            match resolve_exemplar(&self.symbols, &exemplar, self.quota)? {
                Ok(exemplar) => self.decoded.batch.exemplars.push(exemplar),
                Err(why) => {
                    let raw = self.decoded.batch.arena.get(labels_start..).unwrap_or(&[]);
                    let series = labels::series_text(raw);
                    let why = format!("parsing exemplar for series {series}: {why}");
                    self.decoded.refuse(Reason::Undecodable { why }, || series);
                }
            }
        }
        Ok(())
    }

    /// Metadata comes with every series; its family is the series' metric name without what its
    /// type appends to it.
    fn take_metadata(&mut self) -> Result<(), DecodeError> {
        let metadata = self.metadata;
        let metric_type = MetricType::from_wire(metadata.metric_type);
        let family = metric_name(&self.symbols, &self.refs).map(|n| family_of(n, metric_type));
        let Some(family) = family.filter(|_| metadata != WireMetadata::default()) else { return Ok(()) };
        let mut texts = [&[][..]; 2];
        let fields = [("unit_ref", metadata.unit), ("help_ref", metadata.help)];
        for (text, (field, index)) in texts.iter_mut().zip(fields) {
            let Some(symbol) = self.symbols.get(index as usize) else {
                let size = self.symbols.len();
                let what = format!("metadata {field} {index} outside of symbols table (size {size})");
                let why = self.about(&what).replacen("labels", "metadata", 1);
                self.decoded.refuse(Reason::Undecodable { why }, String::new);
                return Ok(());
            };
            *text = symbol.text;
        }
        if self.seen.insert((family, metadata)) {
            let [unit, help] = texts.map(|t| String::from_utf8_lossy(t).into_owned());
            let family = String::from_utf8_lossy(family).into_owned();
            self.quota.take_bytes(family.len() + unit.len() + help.len())?;
            self.decoded.batch.metadata.push(MetadataEntry { family, metric_type, help, unit });
        }
        Ok(())
    }
}

fn outside(name: u32, value: u32, size: usize) -> String {
    format!("labelRefs {name} (name) = {value} (value) outside of symbols table (size {size})")
}

fn metric_name<'a>(symbols: &[Symbol<'a>], refs: &[u32]) -> Option<&'a [u8]> {
    let (pairs, _) = refs.as_chunks::<2>();
    let name = pairs
        .iter()
        .find(|[name, _]| symbols.get(*name as usize).is_some_and(|n| n.text == METRIC_NAME.as_bytes()));
    name.and_then(|[_, value]| symbols.get(*value as usize).map(|s| s.text))
}

fn family_of(metric_name: &[u8], metric_type: MetricType) -> &[u8] {
    let suffixes: &[&[u8]] = match metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram => &[b"_bucket", b"_count", b"_sum"],
        MetricType::Summary => &[b"_count", b"_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| metric_name.strip_suffix(*suffix)).unwrap_or(metric_name)
}

fn resolve_exemplar(
    symbols: &[Symbol<'_>],
    wire: &WireExemplar,
    quota: &mut Quota,
) -> Result<Result<BatchExemplar, String>, DecodeError> {
    let (pairs, odd) = wire.refs.as_chunks::<2>();
    if !odd.is_empty() {
        return Ok(Err(format!("invalid labelRefs length {}", wire.refs.len())));
    }
    let mut labels = Vec::with_capacity(pairs.len());
    for [name, value] in pairs {
        let (Some(n), Some(v)) = (symbols.get(*name as usize), symbols.get(*value as usize)) else {
            return Ok(Err(outside(*name, *value, symbols.len())));
        };
        quota.take_bytes(n.text.len() + v.text.len())?;
        labels.push(labels::lossy_pair((n.text, v.text)));
    }
    Ok(Ok(BatchExemplar { t_ms: wire.t_ms, value: wire.value, labels }))
}

fn read_exemplar(mut message: Cursor<'_>) -> Result<WireExemplar, ProtoError> {
    let mut exemplar = WireExemplar { refs: Vec::new(), value: 0.0, t_ms: 0 };
    while let Some(key) = message.key()? {
        match key {
            EXEMPLAR_VALUE => exemplar.value = message.double()?,
            EXEMPLAR_TIMESTAMP => exemplar.t_ms = message.int64()?,
            _ if key >> 3 == 1 => read_refs(&mut message, key, &mut exemplar.refs)?,
            _ => message.skip_unknown(key, 1..=3)?,
        }
    }
    Ok(exemplar)
}

fn read_metadata(mut message: Cursor<'_>) -> Result<WireMetadata, ProtoError> {
    let mut metadata = WireMetadata::default();
    while let Some(key) = message.key()? {
        match key {
            METADATA_TYPE => metadata.metric_type = message.int32()?,
            METADATA_HELP => metadata.help = message.varint()? as u32,
            METADATA_UNIT => metadata.unit = message.varint()? as u32,
            _ if key >> 3 == 2 => message.skip(key)?,
            _ => message.skip_unknown(key, 1..=4)?,
        }
    }
    Ok(metadata)
}

/// References, packed or one by one.
fn read_refs(message: &mut Cursor<'_>, key: u32, refs: &mut Vec<u32>) -> Result<(), ProtoError> {
    match key & 7 {
        0 => refs.push(message.varint()? as u32),
        2 => {
            let mut packed = message.message()?;
            while !packed.is_at_end() {
                refs.push(packed.varint()? as u32);
            }
        }
        _ => return Err(ProtoError::WireType),
    }
    Ok(())
}

const SERIES_SAMPLES: u32 = bytes_key(2);
const SERIES_HISTOGRAMS: u32 = bytes_key(3);
const SERIES_EXEMPLARS: u32 = bytes_key(4);
const SERIES_METADATA: u32 = bytes_key(5);
const EXEMPLAR_VALUE: u32 = fixed64_key(2);
const EXEMPLAR_TIMESTAMP: u32 = varint_key(3);
const METADATA_TYPE: u32 = varint_key(1);
const METADATA_HELP: u32 = varint_key(3);
const METADATA_UNIT: u32 = varint_key(4);
