//! The protobuf exposition.
//!
//! Invariants: no body makes the reader panic; what it gives is within the limits; without native
//! histograms wanted, none is given; the labels of every series can be read.

use pilothouse_model::limits::Limits;
use pilothouse_wire::exposition::protobuf::{HistogramForms, parse};

pub fn run(data: &[u8]) {
    let limits = Limits { max_request_samples: 10_000, max_histogram_buckets: 500, ..Limits::default() };
    for (native, classic_too) in [(false, false), (true, false), (true, true)] {
        let Ok(decoded) = parse(data, 0, HistogramForms { native, classic_too }, &limits) else { continue };
        let batch = &decoded.batch;
        assert!(batch.floats.len() + batch.histograms.len() <= 10_000);
        assert!(native || batch.histograms.is_empty());
        for series in &batch.series {
            let mut pairs = Vec::new();
            assert!((batch.read_labels)(batch.raw_labels(series), &mut pairs).is_ok());
            assert!(pairs.is_sorted_by(|a, b| a.0 <= b.0));
        }
    }
}
