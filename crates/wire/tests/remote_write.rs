//! Both versions of remote write against an independent encoder, and by hand where senders do
//! what no encoder would.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

mod messages;

use messages::*;
use pilothouse_model::limits::Limits;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::write::{MetricType, Reason};
use pilothouse_model::{ResetHint, Span as ModelSpan};
use pilothouse_wire::remote_write::{Message, decode};
use pilothouse_wire::{DecodeError, Decoded};
use proptest::prelude::*;
use prost::Message as _;

type Pairs = Vec<(String, String)>;

/// Labels of every series of a batch, as its own reader reads them.
fn labels_of(decoded: &Decoded) -> Vec<Pairs> {
    let batch = &decoded.batch;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    batch
        .series
        .iter()
        .map(|series| {
            let mut pairs = Vec::new();
            (batch.read_labels)(batch.raw_labels(series), &mut pairs).unwrap();
            pairs.into_iter().map(|(n, v)| (text(n), text(v))).collect()
        })
        .collect()
}

fn pairs(labels: &[Label]) -> Pairs {
    labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect()
}

fn one(series: TimeSeries) -> WriteRequest {
    WriteRequest { timeseries: vec![series], ..WriteRequest::default() }
}

fn v1(body: Vec<u8>) -> Decoded {
    decode(Message::V1, body, &Limits::default()).unwrap()
}

fn v2(request: &Request2) -> Decoded {
    decode(Message::V2, request.encode_to_vec(), &Limits::default()).unwrap()
}

#[test]
fn a_request_of_everything() {
    let series = TimeSeries {
        labels: vec![label("__name__", "up"), label("job", "a")],
        samples: vec![sample(1000, 1.5), sample(0, 0.0), sample(-3, stale_nan())],
        exemplars: vec![Exemplar { labels: vec![label("trace_id", "x")], value: 2.0, timestamp: 7 }],
        histograms: vec![Histogram {
            count_int: Some(12),
            sum: 18.4,
            schema: 1,
            zero_threshold: 0.001,
            zero_int: Some(2),
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 2 }],
            positive_deltas: vec![1, 1, -1, 0],
            negative_spans: vec![Span { offset: -5, length: 1 }],
            negative_deltas: vec![6],
            reset_hint: 2,
            timestamp: 2000,
            ..Histogram::default()
        }],
    };
    let metadata =
        Metadata { metric_type: 2, family: "up".into(), help: "Is it.".into(), unit: "bool".into() };
    let request = WriteRequest { timeseries: vec![series.clone()], source: 1, metadata: vec![metadata] };
    let decoded = v1(request.encode_to_vec());
    let batch = &decoded.batch;
    assert_eq!((decoded.rejected, labels_of(&decoded)), (0, vec![pairs(&series.labels)]));
    let floats: Vec<_> = batch.floats.iter().map(|s| (s.t_ms, s.value.to_bits())).collect();
    assert_eq!(floats, [(1000, 1.5f64.to_bits()), (0, 0), (-3, stale_nan().to_bits())]);
    let h = &batch.histograms[0];
    assert_eq!((h.t_ms, h.histogram.schema, h.histogram.integer), (2000, 1, true));
    assert_eq!((h.histogram.count, h.histogram.zero_count, h.histogram.sum), (12.0, 2.0, 18.4));
    assert_eq!(h.histogram.positive_counts, [1.0, 2.0, 1.0, 1.0]);
    assert_eq!(h.histogram.negative_spans, [ModelSpan { offset: -5, length: 1 }]);
    assert_eq!(h.histogram.reset_hint, ResetHint::NotReset);
    let exemplar = &batch.exemplars_of(&batch.series[0])[0];
    assert_eq!((exemplar.t_ms, exemplar.value), (7, 2.0));
    assert_eq!(exemplar.labels, [("trace_id".to_owned(), "x".to_owned())]);
    let entry = &batch.metadata[0];
    assert_eq!((entry.family.as_str(), entry.metric_type), ("up", MetricType::Gauge));
    assert_eq!((entry.help.as_str(), entry.unit.as_str()), ("Is it.", "bool"));
}

#[test]
fn labels_that_do_not_stand_together_are_put_together() {
    let part =
        |labels: Vec<Label>, samples: Vec<Sample>| TimeSeries { labels, samples, ..TimeSeries::default() };
    let parts = [
        part(vec![label("__name__", "a"), label("x", "1")], vec![sample(1, 1.0)]),
        part(vec![label("y", "2")], vec![sample(2, 2.0)]),
        part(vec![label("z", "3")], vec![]),
    ];
    // Messages one behind the other are one message; another series follows in the usual form.
    let apart: Vec<u8> = parts.iter().flat_map(|p| p.encode_to_vec()).collect();
    let together = part(parts.iter().flat_map(|p| p.labels.clone()).collect(), vec![sample(3, 3.0)]);
    let mut body = Vec::new();
    for series in [apart, together.encode_to_vec()] {
        body.push(0x0a);
        prost::encoding::encode_varint(series.len() as u64, &mut body);
        body.extend(series);
    }
    let decoded = v1(body);
    let labels = labels_of(&decoded);
    assert_eq!(labels[0], pairs(&together.labels));
    assert_eq!(labels[0], labels[1]);
    assert_eq!(decoded.batch.series[0].key, decoded.batch.series[1].key);
    assert_eq!(decoded.batch.floats_of(&decoded.batch.series[0]).len(), 2);
}

#[test]
fn unknown_fields_groups_and_unpacked_numbers_are_taken() {
    let mut series =
        TimeSeries { labels: vec![label("__name__", "a")], ..TimeSeries::default() }.encode_to_vec();
    // Field 100 as varint, fixed 64, bytes, fixed 32, and a group within a group.
    series.extend([0xa0, 0x06, 0x01, 0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 0xa2, 0x06, 0x02, 9, 9]);
    series.extend([0xa5, 0x06, 1, 2, 3, 4, 0xa3, 0x06, 0xab, 0x06, 0x08, 0x01, 0xac, 0x06, 0xa4, 0x06]);
    // A histogram whose two deltas come one by one (zigzag 1, 2 → -1, 1), and a float count.
    series.extend([0x22, 0x06, 0x60, 0x01, 0x60, 0x02, 0x08, 0x03]);
    let mut body = vec![0x0a, series.len() as u8];
    body.extend(series);
    let decoded = v1(body);
    assert_eq!(decoded.batch.histograms[0].histogram.positive_counts, [-1.0, 0.0]);
    assert_eq!(decoded.batch.histograms[0].histogram.count, 3.0);
}

#[test]
fn float_histograms_keep_their_counts() {
    let histogram = Histogram {
        count_float: Some(2.5),
        zero_float: Some(0.5),
        positive_counts: vec![0.25, 1.75],
        positive_spans: vec![Span { offset: 3, length: 2 }],
        schema: -53,
        custom_values: vec![1.0, 2.0],
        reset_hint: 3,
        ..Histogram::default()
    };
    let decoded =
        v1(one(TimeSeries { histograms: vec![histogram], ..TimeSeries::default() }).encode_to_vec());
    let h = &decoded.batch.histograms[0].histogram;
    assert_eq!((h.integer, h.count, h.zero_count), (false, 2.5, 0.5));
    assert_eq!((h.positive_counts.as_slice(), &*h.custom_bounds), (&[0.25, 1.75][..], &[1.0, 2.0][..]));
    assert_eq!(h.reset_hint, ResetHint::Gauge);
}

#[test]
fn broken_bodies_are_refused_as_a_whole() {
    let good = one(TimeSeries {
        labels: vec![label("__name__", "a_metric"), label("b", "c")],
        samples: vec![sample(1_700_000_000_000, 1.0)],
        ..TimeSeries::default()
    })
    .encode_to_vec();
    for cut in 1..good.len() {
        let body = good[..cut].to_vec();
        assert!(matches!(
            decode(Message::V1, body, &Limits::default()),
            Err(DecodeError::Protobuf { message: "prometheus.WriteRequest", .. })
        ));
    }
    for body in
        [&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], b"\x08\x01", b"\x00", b"\x0b\x0a", b"\x0e"]
    {
        assert!(decode(Message::V1, body.to_vec(), &Limits::default()).is_err(), "{body:?}");
        assert!(decode(Message::V2, [&b"\x2a\x01"[..], body].concat(), &Limits::default()).is_err());
    }
    assert_eq!(v1(Vec::new()).batch.series.len(), 0);
}

#[test]
fn counts_are_bounded() {
    let limits = Limits {
        max_request_series: 2,
        max_request_samples: 3,
        max_histogram_buckets: 4,
        ..Limits::default()
    };
    let with = |series: usize, samples: usize| WriteRequest {
        timeseries: vec![
            TimeSeries { samples: vec![sample(1, 1.0); samples], ..TimeSeries::default() };
            series
        ],
        ..WriteRequest::default()
    };
    let try_decode = |request: WriteRequest| decode(Message::V1, request.encode_to_vec(), &limits);
    assert!(try_decode(with(2, 1)).is_ok());
    assert!(try_decode(with(3, 0)).is_err_and(|e| e.is_too_large()));
    assert!(try_decode(with(1, 4)).is_err_and(|e| e.is_too_large()));
    let wide = Histogram { positive_deltas: vec![1; 5], timestamp: 9, ..Histogram::default() };
    let series = TimeSeries {
        labels: vec![label("b", "x"), label("__name__", "wide")],
        histograms: vec![wide],
        samples: vec![sample(1, 1.0)],
        ..TimeSeries::default()
    };
    let limits = Limits { max_histogram_buckets: 4, ..Limits::default() };
    let decoded = decode(Message::V1, one(series).encode_to_vec(), &limits).unwrap();
    assert_eq!((decoded.rejected, decoded.batch.floats.len(), decoded.batch.histograms.len()), (1, 1, 0));
    assert_eq!(decoded.rejections[0].series, r#"wide{b="x"}"#);
    assert!(matches!(decoded.rejections[0].reason, Reason::InvalidHistogram { t_ms: 9, .. }));
}

#[test]
fn bytes_that_are_no_text_are_kept_for_labels_and_replaced_elsewhere() {
    // labels { name: "a", value: FF }, exemplars { labels { name: "b", value: FE } }
    let series = b"\x0a\x06\x0a\x01a\x12\x01\xff\x1a\x08\x0a\x06\x0a\x01b\x12\x01\xfe";
    let mut body = vec![0x0a, series.len() as u8];
    body.extend(series);
    let decoded = v1(body);
    let mut read = Vec::new();
    let raw = decoded.batch.raw_labels(&decoded.batch.series[0]);
    (decoded.batch.read_labels)(raw, &mut read).unwrap();
    assert_eq!(read, [(&b"a"[..], &b"\xff"[..])]);
    assert_eq!(decoded.batch.exemplars[0].labels, [("b".to_owned(), "\u{fffd}".to_owned())]);
}

fn symbols(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

#[test]
fn version_two_has_the_same_keys_as_version_one_however_symbols_are_numbered() {
    let first = Request2 {
        symbols: symbols(&["", "__name__", "up", "job", "a"]),
        timeseries: vec![TimeSeries2 {
            labels_refs: vec![1, 2, 3, 4],
            samples: vec![Sample { value: 1.0, timestamp: 5, start_timestamp: 4 }],
            ..TimeSeries2::default()
        }],
    };
    let mut second = first.clone();
    second.symbols = symbols(&["", "a", "job", "unused", "up", "__name__"]);
    second.timeseries[0].labels_refs = vec![5, 4, 2, 1];
    let old = one(TimeSeries {
        labels: vec![label("__name__", "up"), label("job", "a")],
        samples: vec![sample(5, 1.0)],
        ..TimeSeries::default()
    });
    let decoded = [v2(&first), v2(&second), v1(old.encode_to_vec())];
    let keys: Vec<u128> = decoded.iter().map(|d| d.batch.series[0].key).collect();
    assert!(keys.windows(2).all(|w| w[0] == w[1]));
    assert_eq!(labels_of(&decoded[0]), labels_of(&decoded[2]));
    assert_eq!(decoded[0].batch.floats, decoded[2].batch.floats);
}

#[test]
fn version_two_refuses_a_bad_series_and_keeps_the_others() {
    let good =
        TimeSeries2 { labels_refs: vec![1, 2], samples: vec![sample(1, 1.0)], ..TimeSeries2::default() };
    let odd = TimeSeries2 { labels_refs: vec![1, 2, 3], ..good.clone() };
    let outside = TimeSeries2 { labels_refs: vec![1, 9], ..good.clone() };
    let empty = TimeSeries2 { samples: vec![], ..good.clone() };
    let bad_exemplar = TimeSeries2 {
        exemplars: vec![Exemplar2 { labels_refs: vec![1], value: 1.0, timestamp: 1 }],
        ..good.clone()
    };
    let request = Request2 {
        symbols: symbols(&["", "__name__", "up", "x"]),
        timeseries: vec![odd, good.clone(), outside, empty, bad_exemplar],
    };
    let decoded = v2(&request);
    assert_eq!((decoded.batch.series.len(), decoded.batch.floats.len(), decoded.rejected), (2, 2, 4));
    let reasons: Vec<String> = decoded
        .rejections
        .iter()
        .map(|r| match &r.reason {
            Reason::Undecodable { why } => why.clone(),
            other => format!("{other:?} {}", r.series),
        })
        .collect();
    assert_eq!(
        reasons,
        [
            "parsing labels for series [1, 2, 3]: invalid labelRefs length 3",
            "parsing labels for series [1, 9]: labelRefs 1 (name) = 9 (value) outside of symbols table (size 4)",
            "NoSamples up",
            "parsing exemplar for series up: invalid labelRefs length 1",
        ]
    );
    let unnamed = Request2 { symbols: symbols(&["x"]), timeseries: vec![good] };
    assert!(decode(Message::V2, unnamed.encode_to_vec(), &Limits::default()).is_err());
}

#[test]
fn version_two_cannot_say_a_text_too_often() {
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let long = "x".repeat(100_000);
    let with = |series: TimeSeries2| Request2 {
        symbols: symbols(&["", "__name__", "up", &long]),
        timeseries: vec![TimeSeries2 { samples: vec![sample(1, 1.0)], ..series }; 30],
    };
    let labels = TimeSeries2 { labels_refs: vec![1, 3], ..TimeSeries2::default() };
    let exemplars = vec![Exemplar2 { labels_refs: vec![1, 3], ..Exemplar2::default() }];
    let exemplars = TimeSeries2 { labels_refs: vec![1, 2], exemplars, ..TimeSeries2::default() };
    for request in [with(labels), with(exemplars)] {
        let decoded = decode(Message::V2, request.encode_to_vec(), &limits);
        assert!(decoded.is_err_and(|e| e.is_too_large()));
    }
    let mut told = with(TimeSeries2 { labels_refs: vec![1, 2], ..TimeSeries2::default() });
    for (i, series) in (0..).zip(&mut told.timeseries) {
        // A family of its own each, all with the one long help.
        told.symbols.push(format!("m{i}"));
        series.labels_refs = vec![1, 4 + i];
        series.metadata = Some(Metadata2 { metric_type: 1, help_ref: 3, unit_ref: 0 });
    }
    assert!(decode(Message::V2, told.encode_to_vec(), &limits).is_err_and(|e| e.is_too_large()));
}

#[test]
fn version_two_metadata_is_of_the_family() {
    let of = |name: u32, metric_type: i32, help_ref: u32| TimeSeries2 {
        labels_refs: vec![1, name],
        samples: vec![sample(1, 1.0)],
        metadata: Some(Metadata2 { metric_type, help_ref, unit_ref: 0 }),
        ..TimeSeries2::default()
    };
    let request = Request2 {
        symbols: symbols(&["", "__name__", "h_bucket", "h_sum", "c_total", "Help.", "s_count"]),
        timeseries: vec![of(2, 3, 5), of(3, 3, 5), of(4, 1, 5), of(6, 5, 0), of(4, 0, 0), of(4, 1, 77)],
    };
    let decoded = v2(&request);
    let metadata: Vec<_> =
        decoded.batch.metadata.iter().map(|m| (m.family.as_str(), m.metric_type, m.help.as_str())).collect();
    assert_eq!(
        metadata,
        [
            ("h", MetricType::Histogram, "Help."),
            ("c_total", MetricType::Counter, "Help."),
            ("s", MetricType::Summary, "")
        ]
    );
    assert_eq!((decoded.batch.series.len(), decoded.rejected), (6, 1));
}

fn any_labels() -> impl Strategy<Value = Vec<Label>> {
    prop::collection::vec(("[a-z_]{0,12}", ".{0,200}"), 0..15)
        .prop_map(|pairs| pairs.into_iter().map(|(name, value)| Label { name, value }).collect())
}

fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    let any_sample = (any::<u64>(), any::<i64>()).prop_map(|(bits, t)| sample(t, f64::from_bits(bits)));
    prop::collection::vec(any_sample, 0..4)
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let spans = || {
        prop::collection::vec((any::<i32>(), any::<u32>()), 0..4)
            .prop_map(|s| s.into_iter().map(|(offset, length)| Span { offset, length }).collect::<Vec<_>>())
    };
    let counts = || prop::collection::vec(-1000i64..1000, 0..6);
    (any::<bool>(), spans(), spans(), counts(), counts(), any::<i32>(), any::<i64>(), 0..5).prop_map(
        |(integer, positive_spans, negative_spans, positive, negative, schema, timestamp, reset_hint)| {
            let floats = |counts: &[i64]| counts.iter().map(|c| *c as f64 / 8.0).collect::<Vec<_>>();
            let mut histogram = Histogram {
                sum: 1.25,
                schema,
                timestamp,
                reset_hint,
                positive_spans,
                negative_spans,
                custom_values: floats(&positive),
                ..Histogram::default()
            };
            if integer {
                histogram.count_int = Some(timestamp as u64);
                histogram.zero_int = Some(3);
                histogram.positive_deltas = positive;
                histogram.negative_deltas = negative;
            } else {
                histogram.count_float = Some(0.0);
                histogram.zero_float = Some(0.125);
                histogram.positive_counts = floats(&positive);
                histogram.negative_counts = floats(&negative);
            }
            histogram
        },
    )
}

/// What the message means, computed apart from the decoder.
fn check_histogram(wire: &Histogram, decoded: &pilothouse_model::Histogram) {
    let sums = |deltas: &[i64]| {
        deltas
            .iter()
            .scan(0, |sum, d| {
                *sum += d;
                Some(*sum as f64)
            })
            .collect::<Vec<_>>()
    };
    let spans = |spans: &[Span]| {
        spans.iter().map(|s| ModelSpan { offset: s.offset, length: s.length }).collect::<Vec<_>>()
    };
    assert_eq!(decoded.integer, wire.count_int.is_some());
    assert_eq!(decoded.schema, wire.schema);
    assert_eq!(decoded.positive_spans, spans(&wire.positive_spans));
    assert_eq!(decoded.negative_spans, spans(&wire.negative_spans));
    assert_eq!(&*decoded.custom_bounds, wire.custom_values.as_slice());
    if decoded.integer {
        assert_eq!(decoded.count, wire.count_int.unwrap() as f64);
        assert_eq!(decoded.positive_counts, sums(&wire.positive_deltas));
        assert_eq!(decoded.negative_counts, sums(&wire.negative_deltas));
    } else {
        assert_eq!((decoded.count, decoded.zero_count), (0.0, 0.125));
        assert_eq!(decoded.positive_counts, wire.positive_counts);
        assert_eq!(decoded.negative_counts, wire.negative_counts);
    }
}

proptest! {
    #[test]
    fn version_one_reads_what_an_encoder_writes(
        series in prop::collection::vec((any_labels(), any_samples(), prop::collection::vec(any_histogram(), 0..2)), 0..6)
    ) {
        let timeseries: Vec<TimeSeries> = series
            .into_iter()
            .map(|(labels, samples, histograms)| TimeSeries { labels, samples, histograms, exemplars: vec![] })
            .collect();
        let request = WriteRequest { timeseries: timeseries.clone(), ..WriteRequest::default() };
        let decoded = v1(request.encode_to_vec());
        let expected: Vec<Pairs> = timeseries.iter().map(|s| pairs(&s.labels)).collect();
        prop_assert_eq!(labels_of(&decoded), expected);
        for (wire, series) in timeseries.iter().zip(&decoded.batch.series) {
            let bits = |t: i64, v: f64| (t, v.to_bits());
            let got: Vec<_> = decoded.batch.floats_of(series).iter().map(|s| bits(s.t_ms, s.value)).collect();
            let sent: Vec<_> = wire.samples.iter().map(|s| bits(s.timestamp, s.value)).collect();
            prop_assert_eq!(got, sent);
            let got = decoded.batch.histograms_of(series);
            prop_assert_eq!(got.len(), wire.histograms.len());
            for (wire, got) in wire.histograms.iter().zip(got) {
                prop_assert_eq!(got.t_ms, wire.timestamp);
                check_histogram(wire, &got.histogram);
            }
        }
    }

    #[test]
    fn version_two_reads_as_version_one(series in prop::collection::vec((any_labels(), any_samples()), 0..6)) {
        let mut symbols = vec![String::new()];
        let mut refer = |text: &str| match symbols.iter().position(|s| s == text) {
            Some(at) => at as u32,
            None => {
                symbols.push(text.to_owned());
                symbols.len() as u32 - 1
            }
        };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (labels, mut samples) in series {
            samples.push(sample(1, 1.0));
            let labels_refs = labels.iter().flat_map(|l| [refer(&l.name), refer(&l.value)]).collect();
            new.push(TimeSeries2 { labels_refs, samples: samples.clone(), ..TimeSeries2::default() });
            old.push(TimeSeries { labels, samples, ..TimeSeries::default() });
        }
        let old = v1(WriteRequest { timeseries: old, ..WriteRequest::default() }.encode_to_vec());
        let new = v2(&Request2 { symbols, timeseries: new });
        prop_assert_eq!(labels_of(&old), labels_of(&new));
        let bits = |d: &Decoded| d.batch.floats.iter().map(|s| (s.t_ms, s.value.to_bits())).collect::<Vec<_>>();
        prop_assert_eq!(bits(&old), bits(&new));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for message in [Message::V1, Message::V2] {
            if let Ok(decoded) = decode(message, body.clone(), &Limits::default()) {
                labels_of(&decoded);
            }
        }
    }
}
