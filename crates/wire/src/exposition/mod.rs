//! The text formats: Prometheus 0.0.4 and OpenMetrics 1.0, read and written.
//!
//! Syntax and meaning as in Prometheus' `textparse`: quoted UTF-8 names, `le` and `quantile`
//! normalised as OpenMetrics writes them. Differences, all on the generous side: blanks may be
//! tabs or several in both formats, and `_created` samples are samples like others.

mod federation;
mod parse;
mod write;

pub use federation::federate;
pub use parse::{import, parse};
pub use write::TextWriter;

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

    /// From an `Accept` header: OpenMetrics where it is accepted no less than plain text.
    pub fn negotiate(accept: &str) -> Self {
        let (mut open_metrics, mut plain) = (0.0f32, 0.0f32);
        for part in accept.split(',') {
            let mut parameters = part.split(';').map(str::trim);
            let kind = parameters.next().unwrap_or("").to_ascii_lowercase();
            let weight = parameters.find_map(|p| p.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            let slot = match kind.as_str() {
                "application/openmetrics-text" => &mut open_metrics,
                "text/plain" | "text/*" => &mut plain,
                _ => continue,
            };
            *slot = slot.max(weight.unwrap_or(0.0));
        }
        if open_metrics > 0.0 && open_metrics >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The number of a `le` or `quantile` label as OpenMetrics writes it: `1.0`, `0.25`, `1e+06`, `+Inf`.
fn openmetrics_float(value: f64) -> String {
    let mut text = pilothouse_model::sample::format_float_general(value);
    if value.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}
