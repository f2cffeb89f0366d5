//! Families of metrics into text.

use std::fmt::Write as _;

use pilothouse_model::Labels;
use pilothouse_model::labels::{METRIC_NAME, is_legacy_metric_name};
use pilothouse_model::sample::push_float;
use pilothouse_model::write::MetricType;

use super::{TextFormat, openmetrics_float};

/// Writes families one after the other, each with its samples behind it.
///
/// Counters are named with their `_total` in both formats; OpenMetrics leaves it out of the
/// family's name, and that is done here.
#[derive(Debug)]
pub struct TextWriter {
    format: TextFormat,
    out: String,
    /// Of the family at hand, without `_total` for a counter in OpenMetrics.
    family: String,
    /// What every plain sample of the family has behind that name.
    plain_suffix: &'static str,
}

impl TextWriter {
    pub fn new(format: TextFormat) -> Self {
        Self { format, out: String::with_capacity(16 << 10), family: String::new(), plain_suffix: "" }
    }

    /// Starts a family. The unit, where there is one, is also the end of its name.
    pub fn family(&mut self, name: &str, metric_type: MetricType, help: &str, unit: &str) {
        let open_metrics = self.format == TextFormat::OpenMetrics;
        let counter = open_metrics && metric_type == MetricType::Counter;
        self.plain_suffix = if counter { "_total" } else { "" };
        let family = if counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        family.clone_into(&mut self.family);
        let shown = quoted_name(family);
        let kind = match (metric_type, open_metrics) {
            (MetricType::Unknown, false) => "untyped",
            // The older format knows five types; the others are gauges there.
            (MetricType::Info | MetricType::StateSet | MetricType::GaugeHistogram, false) => "gauge",
            _ => metric_type.as_str(),
        };
        if !help.is_empty() {
            let _ = writeln!(self.out, "# HELP {shown} {}", escape(help, open_metrics));
        }
        let _ = writeln!(self.out, "# TYPE {shown} {kind}");
        if open_metrics && !unit.is_empty() {
            let _ = writeln!(self.out, "# UNIT {shown} {unit}");
        }
    }

    /// A sample of the family at hand; `suffix` is empty, or what the type appends (`_sum`).
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let suffix = if suffix.is_empty() { self.plain_suffix } else { suffix };
        let name = [self.family.as_str(), suffix].concat();
        push_series(&mut self.out, &name, labels.iter().copied());
        self.out.push(' ');
        push_float(&mut self.out, value);
        self.out.push('\n');
    }

    /// A classic histogram. `cumulative_counts` has one entry a bound and one more, for `+Inf`,
    /// which is also the count.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        upper_bounds: &[f64],
        cumulative_counts: &[u64],
        sum: f64,
    ) {
        for (bound, count) in upper_bounds.iter().chain(&[f64::INFINITY]).zip(cumulative_counts) {
            let le = openmetrics_float(*bound);
            let with_le: Vec<(&str, &str)> = labels.iter().copied().chain([("le", le.as_str())]).collect();
            self.sample("_bucket", &with_le, *count as f64);
        }
        self.sample("_sum", labels, sum);
        self.sample("_count", labels, cumulative_counts.last().copied().unwrap_or(0) as f64);
    }

    /// The whole text, with the end mark that OpenMetrics asks for.
    pub fn finish(mut self) -> String {
        if self.format == TextFormat::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// The line that begins a family of which only the name is known, which then is the name of its
/// samples too.
pub fn push_unknown_family(out: &mut String, name: &str) {
    let _ = writeln!(out, "# TYPE {} unknown", quoted_name(name));
}

/// A sample with its time in milliseconds as a line of OpenMetrics, which has seconds.
pub fn push_open_metrics_sample(out: &mut String, labels: &Labels, t_ms: i64, value: f64) {
    let others = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    push_series(out, labels.metric_name().unwrap_or_default(), others);
    out.push(' ');
    push_float(out, value);
    let sign = if t_ms < 0 { "-" } else { "" };
    let (seconds, ms) = (t_ms.unsigned_abs() / 1_000, t_ms.unsigned_abs() % 1_000);
    let _ = writeln!(out, " {sign}{seconds}.{ms:03}");
}

/// `name{a="b"}`, or `{"a name",a="b"}` where the name needs quotes.
pub(super) fn push_series<'a>(
    out: &mut String,
    name: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let legacy = is_legacy_metric_name(name);
    let mut separator = "{";
    if legacy {
        out.push_str(name);
    } else {
        let _ = write!(out, "{{\"{}\"", escape(name, true));
        separator = ",";
    }
    for (label, value) in labels {
        out.push_str(separator);
        if pilothouse_model::labels::is_legacy_label_name(label) {
            out.push_str(label);
        } else {
            let _ = write!(out, "\"{}\"", escape(label, true));
        }
        let _ = write!(out, "=\"{}\"", escape(value, true));
        separator = ",";
    }
    if !legacy || separator == "," {
        out.push('}');
    }
}

/// A name for a `# TYPE` line, in quotes where it needs them.
pub(super) fn quoted_name(name: &str) -> String {
    if is_legacy_metric_name(name) { name.to_owned() } else { format!("\"{}\"", escape(name, true)) }
}

fn escape(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}
