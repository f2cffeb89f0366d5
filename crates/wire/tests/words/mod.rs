//! A batch as lines of text, for tables of expectations.

use pilothouse_model::Labels;
use pilothouse_model::labels::SeriesText;
use pilothouse_model::sample::{format_float, is_stale};
use pilothouse_model::write::{Reason, WriteBatch};
use pilothouse_wire::Decoded;

/// Metadata, then series in order with their samples, then what was refused.
pub(crate) fn lines(decoded: &Decoded) -> Vec<String> {
    let batch = &decoded.batch;
    let mut out: Vec<String> = batch
        .metadata
        .iter()
        .map(|m| format!("# {} {} {:?} {:?}", m.family, m.metric_type.as_str(), m.help, m.unit))
        .collect();
    for series in &batch.series {
        let labels = labels_of(batch, batch.raw_labels(series));
        let name = SeriesText(&labels);
        for sample in batch.floats_of(series) {
            let value = if is_stale(sample.value) { "stale".to_owned() } else { format_float(sample.value) };
            out.push(format!("{name} {value} @{}", sample.t_ms));
        }
        for sample in batch.histograms_of(series) {
            let h = &sample.histogram;
            let shown = if h.is_stale() {
                "stale histogram".to_owned()
            } else {
                let spans: Vec<_> = h.positive_spans.iter().map(|s| (s.offset, s.length)).collect();
                let count = format!("count {} sum {} zero {}", h.count, h.sum, h.zero_count);
                format!("schema {} {count} {spans:?} {:?}", h.schema, h.positive_counts)
            };
            out.push(format!("{name} {shown} @{}", sample.t_ms));
        }
        for e in batch.exemplars_of(series) {
            out.push(format!("  exemplar {:?} {} @{}", e.labels, format_float(e.value), e.t_ms));
        }
    }
    for rejection in &decoded.rejections {
        out.push(match &rejection.reason {
            Reason::Undecodable { why } => format!("! {why}"),
            other => format!("! {other:?} {}", rejection.series),
        });
    }
    out
}

/// The labels behind raw bytes; they must be sorted, as only remote write 1.0 may leave them.
fn labels_of(batch: &WriteBatch, raw: &[u8]) -> Labels {
    let mut pairs = Vec::new();
    (batch.read_labels)(raw, &mut pairs).unwrap();
    assert!(pairs.is_sorted_by(|a, b| a.0 <= b.0), "{pairs:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Labels::from_pairs(pairs.into_iter().map(|(n, v)| (text(n), text(v))))
}

pub(crate) fn check(decoded: &Decoded, expected: &[&str]) {
    assert_eq!(lines(decoded), expected);
}
