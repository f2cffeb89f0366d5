//! Families of metrics into the protobuf format.

use pilothouse_model::write::MetricType;

use crate::proto;

/// Writes families one after the other, each with its metrics behind it, as
/// [`super::TextWriter`] does.
#[derive(Debug, Default)]
pub struct ProtobufWriter {
    out: Vec<u8>,
    /// The family at hand, without the length before it.
    family: Vec<u8>,
    kind: i64,
}

impl ProtobufWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a family. Types that the format does not know are gauges, as in the older text.
    pub fn family(&mut self, name: &str, metric_type: MetricType, help: &str, unit: &str) {
        self.close();
        self.kind = match metric_type {
            MetricType::Counter => 0,
            MetricType::Summary => 2,
            MetricType::Unknown => 3,
            MetricType::Histogram => 4,
            MetricType::GaugeHistogram => 5,
            MetricType::Gauge | MetricType::Info | MetricType::StateSet => 1,
        };
        proto::push_text(&mut self.family, 1, name);
        proto::push_text(&mut self.family, 2, help);
        proto::push_int(&mut self.family, 3, self.kind);
        proto::push_text(&mut self.family, 5, unit);
    }

    /// A metric of the family at hand, which must have one number a metric.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let field = match self.kind {
            0 => 3,
            3 => 5,
            _ => 2,
        };
        proto::push_message(&mut self.family, 4, |out| {
            push_labels(out, labels);
            proto::push_message(out, field, |out| proto::push_double(out, 1, value));
        });
    }

    /// A classic histogram, its parts as in [`super::TextWriter::histogram`].
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        upper_bounds: &[f64],
        cumulative_counts: &[u64],
        sum: f64,
    ) {
        proto::push_message(&mut self.family, 4, |out| {
            push_labels(out, labels);
            proto::push_message(out, 7, |out| {
                proto::push_uint(out, 1, cumulative_counts.last().copied().unwrap_or(0));
                proto::push_double(out, 2, sum);
                for (bound, count) in upper_bounds.iter().zip(cumulative_counts) {
                    proto::push_message(out, 3, |out| {
                        proto::push_uint(out, 1, *count);
                        proto::push_double(out, 2, *bound);
                    });
                }
            });
        });
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.close();
        self.out
    }

    fn close(&mut self) {
        if !self.family.is_empty() {
            proto::push_varint(&mut self.out, self.family.len() as u64);
            self.out.append(&mut self.family);
        }
    }
}

fn push_labels(out: &mut Vec<u8>, labels: &[(&str, &str)]) {
    for (name, value) in labels {
        proto::push_message(out, 1, |out| {
            proto::push_text(out, 1, name);
            proto::push_text(out, 2, value);
        });
    }
}
