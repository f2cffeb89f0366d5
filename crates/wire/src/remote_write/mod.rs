//! Remote write: the messages `prometheus.WriteRequest` (1.0) and `io.prometheus.write.v2.Request`.
//!
//! Sources: the protobuf definitions of Prometheus' `prompb` and the two published
//! specifications. Start timestamps (2.0) and Cortex' `source` (1.0) are accepted and dropped.

mod encode;
pub(crate) mod histogram;
mod v1;
mod v2;

use pilothouse_model::limits::Limits;
use pilothouse_model::{Labels, SampleColumns};

use crate::{DecodeError, Decoded, proto, remote_read};

pub use encode::{RequestWriter, SeriesParts};

/// Which message a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    V1,
    V2,
}

impl Message {
    /// From a `Content-Type`: `application/x-protobuf` with or without the name of the message
    /// (1.0 when there is none, and for an empty header). `None` for anything else.
    pub fn from_content_type(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        match parts.next() {
            Some("") => {}
            Some(kind) if kind.eq_ignore_ascii_case("application/x-protobuf") => {}
            _ => return None,
        }
        let parameter = |part: &str| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"').to_owned())
        };
        match parts.find_map(parameter).as_deref() {
            None | Some("prometheus.WriteRequest") => Some(Self::V1),
            Some("io.prometheus.write.v2.Request") => Some(Self::V2),
            Some(_) => None,
        }
    }
}

/// Takes a decompressed body apart. The batch of a 1.0 request keeps the body itself.
pub fn decode(message: Message, body: Vec<u8>, limits: &Limits) -> Result<Decoded, DecodeError> {
    match message {
        Message::V1 => v1::decode(body, limits),
        Message::V2 => v2::decode(&body, limits),
    }
}

/// Appends a series to a `prometheus.WriteRequest`, which is nothing but its series one behind the
/// other; not compressed.
pub fn push_series(out: &mut Vec<u8>, labels: &Labels, samples: &SampleColumns) {
    proto::push_message(out, 1, |out| remote_read::push_series(out, labels, samples));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pilothouse_model::Histogram;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut samples = SampleColumns::default();
        [(1, 0.0), (2, f64::INFINITY), (-3, -1.5)].iter().for_each(|(t, v)| samples.push_float(*t, *v));
        let histogram = Histogram { count: 3.0, zero_count: 3.0, sum: 2.5, ..Histogram::default() };
        samples.histograms.push((9, Arc::new(histogram.clone())));
        let mut body = Vec::new();
        for name in ["a", "b"] {
            push_series(&mut body, &Labels::from_pairs([("__name__", name)]), &samples);
        }
        let batch = decode(Message::V1, body, &Limits::default()).unwrap().batch;
        assert_eq!((batch.series.len(), batch.floats.len(), batch.histograms.len()), (2, 6, 2));
        let floats: Vec<(i64, f64)> = batch.floats.iter().take(3).map(|s| (s.t_ms, s.value)).collect();
        assert_eq!(floats, [(1, 0.0), (2, f64::INFINITY), (-3, -1.5)]);
        assert_eq!((batch.histograms[1].t_ms, &batch.histograms[1].histogram), (9, &histogram));
    }

    #[test]
    fn the_content_type_names_the_message() {
        for (value, message) in [
            ("", Some(Message::V1)),
            ("application/x-protobuf", Some(Message::V1)),
            ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Message::V1)),
            ("application/x-protobuf; proto=io.prometheus.write.v2.Request", Some(Message::V2)),
            ("Application/X-Protobuf ; PROTO = \"io.prometheus.write.v2.Request\"", Some(Message::V2)),
            ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
            ("application/json", None),
            ("text/plain", None),
        ] {
            assert_eq!(Message::from_content_type(value), message, "{value}");
        }
    }
}
