//! `prometheus.ReadResponse`: all samples of all series in one message.

use std::sync::Arc;

use pilothouse_model::{Labels, SampleColumns};

use super::{ReadSeries, read_labels};
use crate::DecodeError;
use crate::labels::{self, LABELS_KEY};
use crate::proto::{self, Cursor, ProtoError, bytes_key, varint_key};
use crate::remote_write::histogram;

const MESSAGE: &str = "prometheus.ReadResponse";

/// Puts an answer together, query by query in the order of the request.
#[derive(Debug, Default)]
pub struct SamplesWriter {
    out: Vec<u8>,
    /// The result of the query at hand; `None` before the first.
    result: Option<Vec<u8>>,
}

impl SamplesWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the result of the next query; a query without series has an empty one.
    pub fn begin_query(&mut self) {
        self.end_query();
        self.result = Some(Vec::new());
    }

    /// Adds a series to the query at hand. Callers add them sorted by labels.
    pub fn series(&mut self, labels: &Labels, samples: &SampleColumns) {
        let result = self.result.get_or_insert_default();
        proto::push_message(result, 1, |out| push_series(out, labels, samples));
    }

    /// Bytes written so far, before compression.
    pub fn len_bytes(&self) -> usize {
        self.out.len() + self.result.as_ref().map_or(0, Vec::len)
    }

    /// The message, not compressed.
    pub fn finish(mut self) -> Vec<u8> {
        self.end_query();
        self.out
    }

    fn end_query(&mut self) {
        if let Some(result) = self.result.take() {
            proto::push_bytes(&mut self.out, 1, &result);
        }
    }
}

/// The fields of a `prometheus.TimeSeries`.
pub(crate) fn push_series(out: &mut Vec<u8>, labels: &Labels, samples: &SampleColumns) {
    for (name, value) in labels {
        labels::push_pair(out, name.as_bytes(), value.as_bytes());
    }
    for (t_ms, value) in samples.times_ms.iter().zip(&samples.values) {
        proto::push_message(out, 2, |out| {
            proto::push_double(out, 1, *value);
            proto::push_int(out, 2, *t_ms);
        });
    }
    for (t_ms, histogram) in &samples.histograms {
        proto::push_message(out, 4, |out| histogram::write(out, *t_ms, histogram));
    }
}

/// Takes an answer apart: the series of each query. A histogram keeps at most `max_buckets`.
pub fn read_response(body: &[u8], max_buckets: usize) -> Result<Vec<Vec<ReadSeries>>, DecodeError> {
    let mut cursor = Cursor::new(body);
    let mut results = Vec::new();
    let read = |cursor: &mut Cursor<'_>, results: &mut Vec<_>| -> Result<(), ProtoError> {
        while let Some(key) = cursor.key()? {
            match key {
                RESULTS => results.push(read_result(cursor.message()?, max_buckets)?),
                _ => cursor.skip_unknown(key, 1..=1)?,
            }
        }
        Ok(())
    };
    read(&mut cursor, &mut results).map_err(|cause| DecodeError::Protobuf {
        message: MESSAGE,
        at: cursor.at,
        cause,
    })?;
    Ok(results)
}

const RESULTS: u32 = bytes_key(1);
const TIMESERIES: u32 = bytes_key(1);
const SAMPLES: u32 = bytes_key(2);
const HISTOGRAMS: u32 = bytes_key(4);
const SAMPLE_VALUE: u32 = proto::fixed64_key(1);
const SAMPLE_TIME: u32 = varint_key(2);

fn read_result(mut result: Cursor<'_>, max_buckets: usize) -> Result<Vec<ReadSeries>, ProtoError> {
    let mut series = Vec::new();
    while let Some(key) = result.key()? {
        match key {
            TIMESERIES => series.push(read_series(result.message()?, max_buckets)?),
            _ => result.skip_unknown(key, 1..=1)?,
        }
    }
    Ok(series)
}

fn read_series(mut series: Cursor<'_>, max_buckets: usize) -> Result<ReadSeries, ProtoError> {
    let (mut pairs, mut samples) = (Vec::new(), SampleColumns::default());
    while let Some(key) = series.key()? {
        match key {
            LABELS_KEY => pairs.push(labels::read_pair(series.message()?)?),
            SAMPLES => {
                let (t_ms, value) = read_sample(series.message()?)?;
                samples.push_float(t_ms, value);
            }
            HISTOGRAMS => {
                let wire = histogram::read(series.message()?, max_buckets)?;
                samples.histograms.push((wire.t_ms, Arc::new(wire.histogram)));
            }
            _ => series.skip(key)?,
        }
    }
    Ok(ReadSeries { labels: read_labels(&pairs), samples })
}

fn read_sample(mut sample: Cursor<'_>) -> Result<(i64, f64), ProtoError> {
    let (mut t_ms, mut value) = (0, 0.0);
    while let Some(key) = sample.key()? {
        match key {
            SAMPLE_VALUE => value = sample.double()?,
            SAMPLE_TIME => t_ms = sample.int64()?,
            _ => sample.skip_unknown(key, 1..=2)?,
        }
    }
    Ok((t_ms, value))
}
