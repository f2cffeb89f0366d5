use std::sync::Arc;

use pilothouse_model::Span;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
enum Said {
    Series(u32, Labels),
    Sample(u32, i64, u64),
    Histogram(u32, i64, Box<Histogram>),
    Exemplar(u32, Exemplar),
    Metadata(MetadataEntry),
    Delete(Deletion),
}

#[derive(Default)]
struct Heard(Vec<Said>);

impl RecordSink for Heard {
    fn series(&mut self, id: u32, labels: Labels) {
        self.0.push(Said::Series(id, labels));
    }
    fn sample(&mut self, id: u32, t_ms: i64, value: f64) {
        self.0.push(Said::Sample(id, t_ms, value.to_bits()));
    }
    fn histogram(&mut self, id: u32, t_ms: i64, histogram: Histogram) {
        self.0.push(Said::Histogram(id, t_ms, Box::new(histogram)));
    }
    fn exemplar(&mut self, id: u32, exemplar: Exemplar) {
        self.0.push(Said::Exemplar(id, exemplar));
    }
    fn metadata(&mut self, entry: MetadataEntry) {
        self.0.push(Said::Metadata(entry));
    }
    fn delete(&mut self, deletion: Deletion) {
        self.0.push(Said::Delete(deletion));
    }
}

fn heard(record: &[u8]) -> Result<Vec<Said>, Malformed> {
    let mut sink = Heard::default();
    read_record(record, &mut sink)?;
    Ok(sink.0)
}

#[test]
fn a_record_says_what_was_put_in() {
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]);
    let histogram = Histogram {
        schema: 3,
        integer: true,
        count: 7.0,
        sum: f64::from_bits(pilothouse_model::sample::STALE_NAN_BITS).abs() + 1.0,
        positive_spans: vec![Span { offset: -3, length: 2 }],
        positive_counts: vec![3.0, 4.0],
        custom_bounds: Arc::from([0.5, 1.0]),
        ..Histogram::default()
    };
    let histogram = Histogram { sum: 1.5, ..histogram };
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace", "x")]), value: 0.25, t_ms: 5 };
    let metadata = MetadataEntry {
        family: "up".into(),
        metric_type: MetricType::Gauge,
        help: "h".into(),
        unit: String::new(),
    };
    let deletion = Deletion {
        id: 3,
        upto_flush: 9,
        start_ms: i64::MIN,
        end_ms: i64::MAX,
        matcher_sets: vec![vec![
            Matcher::equal("a", "b"),
            Matcher::new(MatchOp::NotRegex, "c", "d.*").unwrap(),
        ]],
    };
    let mut writer = RecordWriter::default();
    for _ in 0..2 {
        writer.clear();
        writer.series(17, &labels);
        writer.sample(17, 1000, 1.0);
        writer.histogram(17, -4, &histogram);
        writer.exemplar(17, &exemplar);
        writer.metadata(&metadata);
        writer.delete(&deletion);
        let said = heard(writer.finish()).unwrap();
        assert_eq!(
            said,
            [
                Said::Series(17, labels.clone()),
                Said::Sample(17, 1000, 1.0f64.to_bits()),
                Said::Histogram(17, -4, Box::new(histogram.clone())),
                Said::Exemplar(17, exemplar.clone()),
                Said::Metadata(metadata.clone()),
                Said::Delete(deletion.clone()),
            ]
        );
    }
}

#[test]
fn a_usual_sample_takes_at_most_six_bytes() {
    let mut writer = RecordWriter::default();
    for i in 0..2000u32 {
        writer.sample(i, 1_700_000_000_000 + i64::from(i / 100), f64::from(i * 37));
    }
    assert!(writer.finish().len() <= 2000 * 6, "{}", writer.finish().len());
}

proptest! {
    #[test]
    fn samples_go_through_bit_by_bit(samples in prop::collection::vec((any::<u32>(), any::<i64>(), any::<u64>()), 0..50)) {
        let mut writer = RecordWriter::default();
        for (id, t, bits) in &samples {
            writer.sample(*id, *t, f64::from_bits(*bits));
        }
        let expected: Vec<Said> = samples.iter().map(|(id, t, bits)| Said::Sample(*id, *t, *bits)).collect();
        prop_assert_eq!(heard(writer.finish()).unwrap(), expected);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = heard(&bytes);
    }
}
