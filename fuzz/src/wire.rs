//! What the targets of the crate `wire` share: a batch put back into a request.

use std::sync::Arc;

use pilothouse_model::{Labels, SampleColumns};
use pilothouse_wire::Decoded;
use pilothouse_wire::remote_read::SamplesWriter;

/// A remote write 1.0 request with the labels, samples and histograms of a batch.
///
/// The answer of a remote read holds the same `TimeSeries` message: each series is written as
/// one without labels, taken out, and its raw labels put in front.
pub(crate) fn as_version_1(decoded: &Decoded) -> Vec<u8> {
    let mut body = Vec::new();
    for series in &decoded.batch.series {
        let mut columns = SampleColumns::default();
        decoded.batch.floats_of(series).iter().for_each(|s| columns.push_float(s.t_ms, s.value));
        for sample in decoded.batch.histograms_of(series) {
            columns.histograms.push((sample.t_ms, Arc::new(sample.histogram.clone())));
        }
        let mut writer = SamplesWriter::new();
        writer.series(&Labels::empty(), &columns);
        let answer = writer.finish();
        let bare = unwrap_message(unwrap_message(&answer));
        let raw = decoded.batch.raw_labels(series);
        body.push(0x0a);
        push_varint(&mut body, raw.len() + bare.len());
        body.extend_from_slice(raw);
        body.extend_from_slice(bare);
    }
    body
}

fn unwrap_message(bytes: &[u8]) -> &[u8] {
    let end = bytes[1..].iter().position(|b| *b < 0x80).expect("a length that ends") + 2;
    &bytes[end..]
}

fn push_varint(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Key, floats by their bits, and histograms of each series, as text.
pub(crate) fn words(decoded: &Decoded) -> Vec<String> {
    let batch = &decoded.batch;
    let one = |series| {
        let batch_floats = batch.floats_of(series);
        let floats: Vec<_> = batch_floats.iter().map(|s| (s.t_ms, s.value.to_bits())).collect();
        format!("{floats:?} {:?}", batch.histograms_of(series))
    };
    batch.series.iter().map(|series| format!("{:x} {}", series.key, one(series))).collect()
}

/// Reads the labels of every series; a batch whose own reader fails is broken.
pub(crate) fn read_all_labels(decoded: &Decoded) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let batch = &decoded.batch;
    let one = |series| {
        let mut pairs = Vec::new();
        (batch.read_labels)(batch.raw_labels(series), &mut pairs).expect("a batch reads its labels");
        pairs.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    };
    batch.series.iter().map(one).collect()
}
