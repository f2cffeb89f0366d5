//! The expositions: Prometheus' text 0.0.4, OpenMetrics 1.0 and protobuf, read and written.
//!
//! Syntax and meaning as in Prometheus' `textparse`: quoted UTF-8 names, `le` and `quantile`
//! normalised as OpenMetrics writes them. `_created` samples are samples like others, as they are
//! there without a feature flag. What is imported is read with less severity than what is scraped.

mod federation;
mod native;
mod parse;
pub mod protobuf;
mod write;
mod write_protobuf;

pub use federation::federate;
pub use parse::{import, parse, parse_prefix};
pub use write::{TextWriter, push_open_metrics_sample, push_unknown_family};
pub use write_protobuf::ProtobufWriter;

/// A time that is none. Who hands it in as the time of samples without one can tell them from
/// the others: no sample is of that time.
pub const UNTIMED: i64 = i64::MIN;

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Times in milliseconds.
    Prometheus,
    /// Times in seconds; exemplars, units, and `# EOF` at the end.
    OpenMetrics,
}

impl TextFormat {
    /// From a `Content-Type`; whatever does not say OpenMetrics is the older format.
    pub fn from_content_type(value: &str) -> Self {
        let kind = value.split(';').next().unwrap_or("").trim();
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A form in which metrics are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    Text(TextFormat),
    Protobuf,
}

impl Exposition {
    /// From an `Accept` header: the one with the largest weight, of equal ones the richest; the
    /// older text where none of them is named.
    pub fn negotiate(accept: &str) -> Self {
        let (mut protobuf, mut open_metrics, mut plain) = (0.0f32, 0.0f32, 0.0f32);
        for part in accept.split(',') {
            let mut parameters = part.split(';').map(str::trim);
            let kind = parameters.next().unwrap_or("").to_ascii_lowercase();
            let slot = match kind.as_str() {
                "application/openmetrics-text" => &mut open_metrics,
                "text/plain" | "text/*" => &mut plain,
                "application/vnd.google.protobuf" if is_delimited_families(parameters.clone()) => {
                    &mut protobuf
                }
                _ => continue,
            };
            let weight = parameters.find_map(|p| p.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            *slot = slot.max(weight.unwrap_or(0.0));
        }
        if protobuf > 0.0 && protobuf >= open_metrics.max(plain) {
            Self::Protobuf
        } else if open_metrics > 0.0 && open_metrics >= plain {
            Self::Text(TextFormat::OpenMetrics)
        } else {
            Self::Text(TextFormat::Prometheus)
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text(format) => format.content_type(),
            Self::Protobuf => protobuf::CONTENT_TYPE,
        }
    }
}

/// Whether the parameters of a media type name the one message and framing that there is here.
fn is_delimited_families<'a>(parameters: impl Iterator<Item = &'a str> + Clone) -> bool {
    ["proto=io.prometheus.client.metricfamily", "encoding=delimited"]
        .iter()
        .all(|wanted| parameters.clone().any(|p| p.to_ascii_lowercase().replace('"', "") == **wanted))
}

/// The number of a `le` or `quantile` label as OpenMetrics writes it: `1.0`, `0.25`, `1e+06`, `+Inf`.
fn openmetrics_float(value: f64) -> String {
    let mut text = pilothouse_model::sample::format_float_general(value);
    if value.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}
