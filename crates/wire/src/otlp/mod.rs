//! OTLP in protobuf and in JSON.
//!
//! Logs become entries ([`decode_logs`]). Metrics become a batch as Prometheus' receiver makes it by
//! default (`storage/remote/otlptranslator/prometheusremotewrite`): names with underscores and
//! suffixes, `job` and `instance` from the resource, `target_info`, explicit histograms as
//! classic ones, exponential histograms as native ones. Delta temporality is refused, naming the
//! metric; scope attributes and start times are dropped.
//!
//! All readers hand over one point or record at a time, so that memory does not grow with a
//! request of many small parts.

mod exponential;
mod json;
mod logs;
mod names;
mod protobuf;
mod translate;
mod value_json;
mod value_protobuf;
mod words;

use pilothouse_model::limits::Limits;

pub use logs::decode_logs;

use crate::{DecodeError, Decoded, proto};

const MESSAGE: &str = "ExportMetricsServiceRequest";

/// How a request is written, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpFormat {
    Protobuf,
    Json,
}

impl OtlpFormat {
    /// From a `Content-Type`; `None` for what OTLP does not know.
    pub fn from_content_type(value: &str) -> Option<Self> {
        let kind = value.split(';').next().unwrap_or("").trim();
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        if is("application/x-protobuf") || is("application/protobuf") {
            Some(Self::Protobuf)
        } else if is("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// Takes a decompressed `ExportMetricsServiceRequest` apart. What is refused counts data points.
pub fn decode(format: OtlpFormat, body: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    match format {
        OtlpFormat::Protobuf => protobuf::decode(body, limits),
        OtlpFormat::Json => json::decode(body, limits),
    }
}

/// The body of a 2xx answer; it speaks of a partial success only where something was refused.
pub fn response(format: OtlpFormat, rejected_points: u64, message: &str) -> Vec<u8> {
    let nothing = rejected_points == 0 && message.is_empty();
    match format {
        OtlpFormat::Protobuf if nothing => Vec::new(),
        OtlpFormat::Protobuf => {
            let mut out = Vec::new();
            proto::push_message(&mut out, 1, |out| {
                proto::push_uint(out, 1, rejected_points);
                proto::push_text(out, 2, message);
            });
            out
        }
        OtlpFormat::Json if nothing => b"{}".to_vec(),
        // A 64-bit number is a string in this JSON.
        OtlpFormat::Json => serde_json::json!({
            "partialSuccess": { "rejectedDataPoints": rejected_points.to_string(), "errorMessage": message }
        })
        .to_string()
        .into_bytes(),
    }
}

/// The body of an error: a `google.rpc.Status`.
pub fn status(format: OtlpFormat, code: i32, message: &str) -> Vec<u8> {
    match format {
        OtlpFormat::Protobuf => {
            let mut out = Vec::new();
            proto::push_int(&mut out, 1, i64::from(code));
            proto::push_text(&mut out, 2, message);
            out
        }
        OtlpFormat::Json => serde_json::json!({ "code": code, "message": message }).to_string().into_bytes(),
    }
}
