//! Remote read: requests and answers against an independent encoder, chunks against what a
//! Prometheus 2.42 wrote (`tests/data`: the streamed answers of one, and one answer of samples).

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

mod messages;

use std::sync::Arc;

use pilothouse_model::limits::Limits;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::{Histogram, Labels, MatchOp, ResetHint, SampleColumns, Span};
use pilothouse_wire::body::{self, Encoding};
use pilothouse_wire::chunk::{Chunk, ChunkEncoding, SAMPLES_PER_CHUNK, decode_chunk, encode_chunks};
use pilothouse_wire::remote_read::{
    ChunksWriter, FrameError, ReadSeries, ResponseType, SamplesWriter, decode_request, encode_request,
    read_frames, read_response,
};
use proptest::prelude::*;
use prost::Message as _;

/// Samples so that NaNs compare by their bits.
fn words(columns: &SampleColumns) -> (Vec<(i64, u64)>, String) {
    let floats = columns.times_ms.iter().zip(&columns.values).map(|(t, v)| (*t, v.to_bits())).collect();
    (floats, format!("{:?}", columns.histograms))
}

fn chunks(columns: &SampleColumns) -> Vec<Chunk> {
    let mut out = Vec::new();
    encode_chunks(columns, |chunk| out.push(chunk));
    out
}

fn decoded(chunks: &[Chunk]) -> SampleColumns {
    let mut out = SampleColumns::default();
    for chunk in chunks {
        decode_chunk(chunk.encoding, &chunk.data, &mut out).unwrap();
    }
    out
}

/// The chunks in a stream of frames, taken apart without the crate's own reader.
fn chunks_in(mut frames: &[u8]) -> Vec<messages::Chunk> {
    let mut out = Vec::new();
    while !frames.is_empty() {
        let length = prost::encoding::decode_varint(&mut frames).unwrap() as usize;
        let (message, rest) = frames[4..].split_at(length);
        let response = messages::ChunkedReadResponse::decode(message).unwrap();
        out.extend(response.chunked_series.into_iter().flat_map(|s| s.chunks));
        frames = rest;
    }
    out
}

#[test]
fn chunks_are_those_of_prometheus_bit_for_bit() {
    for (frames, encoding) in [
        (&include_bytes!("data/prometheus-2.42-a.frames")[..], ChunkEncoding::Xor),
        (include_bytes!("data/prometheus-2.42-b.frames"), ChunkEncoding::Xor),
        (include_bytes!("data/prometheus-2.42-c_total.frames"), ChunkEncoding::Xor),
        (include_bytes!("data/prometheus-2.42-hi.frames"), ChunkEncoding::Histogram),
        (include_bytes!("data/prometheus-2.42-hf.frames"), ChunkEncoding::FloatHistogram),
    ] {
        let theirs = chunks_in(frames);
        assert!(!theirs.is_empty());
        for chunk in theirs {
            let mut columns = SampleColumns::default();
            decode_chunk(encoding, &chunk.data, &mut columns).unwrap();
            let ours = &chunks(&columns)[0];
            assert_eq!((ours.encoding, ours.min_t_ms), (encoding, chunk.min_time_ms));
            let samples = usize::from(u16::from_be_bytes([chunk.data[0], chunk.data[1]]));
            if samples <= SAMPLES_PER_CHUNK {
                assert_eq!((&ours.data, ours.max_t_ms), (&chunk.data, chunk.max_time_ms));
            } else {
                // Prometheus cuts by time too; up to our end, its bytes are ours.
                let end = ours.data.len() - 1;
                assert_eq!(ours.data[2..end], chunk.data[2..end]);
            }
        }
    }
}

#[test]
fn streamed_chunks_and_samples_of_prometheus_are_the_same() {
    let frames = include_bytes!("data/prometheus-2.42-a.frames");
    let samples = include_bytes!("data/prometheus-2.42-a.samples");
    let mut streamed = SampleColumns::default();
    read_frames(frames, 1 << 20, |query, series| {
        assert_eq!((query, series.labels.to_string().as_str()), (0, r#"{__name__="a", x="1"}"#));
        streamed.times_ms.extend(series.samples.times_ms);
        streamed.values.extend(series.samples.values);
    })
    .unwrap();
    let body = body::decompress(Encoding::Snappy, samples, 1 << 20).unwrap();
    let results = read_response(&body, 100).unwrap();
    assert_eq!(results[0][0].samples.times_ms.len(), 300);
    assert_eq!(words(&results[0][0].samples), words(&streamed));
}

#[test]
fn our_frames_are_cut_and_carry_their_checksum() {
    let mut columns = SampleColumns::default();
    (0..10_000).for_each(|i| {
        columns.push_float(i * 1000, f64::from_bits((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    });
    let labels = Labels::from_pairs([("__name__", "wide"), ("pad", &"x".repeat(500))]);
    let (writer, mut out) = (ChunksWriter::new(4096), Vec::new());
    writer.series(1, &labels, &columns, &mut out);
    writer.series(2, &labels, &SampleColumns::default(), &mut out);
    let (mut back, mut frames) = (SampleColumns::default(), 0);
    read_frames(&out, 4096, |query, series| {
        assert_eq!((query, &series.labels), (1, &labels));
        back.times_ms.extend(series.samples.times_ms);
        back.values.extend(series.samples.values);
        frames += 1;
    })
    .unwrap();
    assert_eq!(words(&back), words(&columns));
    assert!(frames > 10);
    assert_eq!(chunks_in(&out).len(), 10_000usize.div_ceil(120));
    let ignore = |_: i64, _: ReadSeries| {};
    assert_eq!(read_frames(&out[..out.len() - 1], 4096, ignore), Err(FrameError::Truncated));
    assert_eq!(read_frames(&out, 100, ignore), Err(FrameError::TooLarge { limit: 100 }));
    let last = out.len() - 1;
    out[last] ^= 1;
    assert_eq!(read_frames(&out, 4096, ignore), Err(FrameError::Checksum));
}

#[test]
fn requests_are_read() {
    let matcher =
        |op, name: &str, value: &str| messages::LabelMatcher { op, name: name.into(), value: value.into() };
    let query = messages::Query {
        start_ms: -5,
        end_ms: 1_700_000_000_000,
        matchers: vec![
            matcher(0, "a", ""),
            matcher(1, "b", "x"),
            matcher(2, "c", "y|z"),
            matcher(3, "d", ".+"),
        ],
    };
    let request =
        messages::ReadRequest { queries: vec![query, messages::Query::default()], accepted: vec![7, 1, 0] };
    let limits = Limits::default();
    let read = decode_request(&request.encode_to_vec(), &limits).unwrap();
    assert_eq!((read.queries.len(), read.response), (2, ResponseType::StreamedXorChunks));
    assert_eq!((read.queries[0].start_ms, read.queries[0].end_ms), (-5, 1_700_000_000_000));
    let shown: Vec<String> = read.queries[0].matchers.iter().map(ToString::to_string).collect();
    assert_eq!(shown, [r#"a="""#, r#"b!="x""#, r#"c=~"y|z""#, r#"d!~".+""#]);
    assert_eq!(read.queries[0].matchers[2].op, MatchOp::Regex);
    let again = encode_request(&read.queries, &[ResponseType::StreamedXorChunks, ResponseType::Samples]);
    assert_eq!(decode_request(&again, &limits), Ok(read));
    assert_eq!(decode_request(b"", &limits).map(|r| r.response), Ok(ResponseType::Samples));
}

#[test]
fn bad_requests_are_refused_and_say_why() {
    let with = |op: i32, value: &str, accepted: Vec<i32>| {
        let matchers = vec![messages::LabelMatcher { op, name: "l".into(), value: value.into() }];
        let queries = vec![messages::Query { matchers, ..messages::Query::default() }];
        messages::ReadRequest { queries, accepted }.encode_to_vec()
    };
    for (body, part) in [
        (with(4, "", vec![]), "invalid matcher type 4"),
        (with(2, "(", vec![]), "matcher of label \"l\""),
        (with(0, "", vec![2, 3]), "does not support any of the requested response types"),
        (vec![0x0a, 0x05, 1], "unexpected end"),
    ] {
        let error = decode_request(&body, &Limits::default()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.is_too_large());
    }
    let few = Limits { max_read_matchers: 1, ..Limits::default() };
    assert!(decode_request(&with(0, "", vec![]), &few).is_err_and(|e| e.is_too_large()));
}

#[test]
fn answers_of_samples_are_read_by_others() {
    let mut columns = SampleColumns::default();
    columns.push_float(1000, 0.0);
    columns.push_float(2000, stale_nan());
    columns.histograms.push((3000, Arc::new(histogram(true, 3.0, &[1.0, 2.0]))));
    let labels = Labels::from_pairs([("__name__", "x"), ("a", "b")]);
    let mut writer = SamplesWriter::new();
    writer.begin_query();
    writer.series(&labels, &columns);
    writer.begin_query();
    assert!(writer.len_bytes() > 60);
    let body = writer.finish();
    let response = messages::ReadResponse::decode(body.as_slice()).unwrap();
    assert_eq!(response.results.len(), 2);
    let series = &response.results[0].timeseries[0];
    assert_eq!(series.labels, [messages::label("__name__", "x"), messages::label("a", "b")]);
    assert_eq!(
        (series.samples[1].timestamp, series.samples[1].value.to_bits()),
        (2000, stale_nan().to_bits())
    );
    let wire = &series.histograms[0];
    assert_eq!((wire.count_int, wire.timestamp), (Some(3), 3000));
    assert_eq!(wire.positive_deltas, [1, 1]);
    let back = read_response(&body, 100).unwrap();
    assert_eq!((back[0][0].labels.clone(), words(&back[0][0].samples)), (labels, words(&columns)));
    assert!(back[1].is_empty());
}

fn histogram(integer: bool, count: f64, positive: &[f64]) -> Histogram {
    Histogram {
        schema: 2,
        integer,
        count,
        sum: 1.5,
        zero_threshold: 0.001,
        positive_spans: vec![Span { offset: 0, length: positive.len() as u32 }],
        positive_counts: positive.to_vec(),
        ..Histogram::default()
    }
}

#[test]
fn histogram_chunks_end_where_a_reader_would_see_what_is_not_there() {
    let stale = Histogram { sum: stale_nan(), integer: true, ..Histogram::default() };
    let with = |hint| Histogram { reset_hint: hint, ..histogram(true, 9.0, &[9.0]) };
    let of = |list: Vec<Histogram>| {
        let histograms = list.into_iter().enumerate().map(|(i, h)| (i as i64, Arc::new(h))).collect();
        SampleColumns { histograms, ..SampleColumns::default() }
    };
    for (list, cut) in [
        (vec![histogram(true, 3.0, &[1.0, 2.0]), histogram(true, 4.0, &[2.0, 2.0])], 1),
        (vec![histogram(true, 3.0, &[1.0, 2.0]), histogram(true, 4.0, &[4.0, 0.0])], 2),
        (vec![histogram(true, 3.0, &[3.0]), histogram(false, 3.0, &[3.0])], 2),
        (vec![histogram(true, 3.0, &[3.0]), histogram(true, 4.0, &[3.0, 1.0])], 2),
        (vec![histogram(true, 3.0, &[3.0]), with(ResetHint::Reset)], 2),
        (vec![with(ResetHint::Gauge), Histogram { count: 1.0, ..with(ResetHint::Gauge) }], 1),
        (vec![with(ResetHint::Unknown), with(ResetHint::Gauge)], 2),
        (vec![histogram(true, 3.0, &[3.0]), stale.clone(), stale, histogram(true, 3.0, &[3.0])], 4),
    ] {
        assert_eq!(chunks(&of(list.clone())).len(), cut, "{list:?}");
    }
}

#[test]
fn floats_and_histograms_take_turns_in_time() {
    let mut columns = SampleColumns::default();
    [1, 2, 5, 9].into_iter().for_each(|t| columns.push_float(t, t as f64));
    for t in [3, 4, 6] {
        columns.histograms.push((t, Arc::new(histogram(false, t as f64, &[t as f64]))));
    }
    let spans: Vec<_> = chunks(&columns).iter().map(|c| (c.encoding, c.min_t_ms, c.max_t_ms)).collect();
    use ChunkEncoding::{FloatHistogram, Xor};
    assert_eq!(
        spans,
        [(Xor, 1, 2), (FloatHistogram, 3, 4), (Xor, 5, 5), (FloatHistogram, 6, 6), (Xor, 9, 9)]
    );
}

#[test]
fn a_chunk_that_lies_takes_no_memory() {
    // 65,535 histograms whose one span claims 4 billion buckets.
    let lies = [0xff, 0xff, 0, 0, 0b0100_0111, 0b1111_1100, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0];
    for encoding in [ChunkEncoding::Histogram, ChunkEncoding::FloatHistogram] {
        let mut out = SampleColumns::default();
        assert!(decode_chunk(encoding, &lies, &mut out).is_err());
        assert!(out.is_empty());
    }
}

fn any_floats() -> impl Strategy<Value = SampleColumns> {
    let step = prop_oneof![Just(15_000u64), 0u64..40_000, any::<u64>().prop_map(|n| n >> 24)];
    let value =
        prop_oneof![Just(1.0f64.to_bits()), any::<u32>().prop_map(|n| f64::from(n).to_bits()), any::<u64>()];
    (any::<i32>(), prop::collection::vec((step, value), 0..300)).prop_map(|(start, steps)| {
        let (mut t, mut columns) = (i64::from(start), SampleColumns::default());
        for (step, bits) in steps {
            t += 1 + step as i64;
            columns.push_float(t, f64::from_bits(bits));
        }
        columns
    })
}

fn any_histograms() -> impl Strategy<Value = SampleColumns> {
    let step = (0u32..100, prop::collection::vec(0u32..5, 5), any::<u8>());
    let bounds = prop::collection::vec(
        prop_oneof![(0u32..100_000).prop_map(|n| f64::from(n) / 1000.0), -10.0..1e6],
        0..4,
    );
    (any::<bool>(), any::<bool>(), bounds, prop::collection::vec(step, 0..200)).prop_map(
        |(integer, custom, bounds, steps)| {
            let mut columns = SampleColumns::default();
            let mut counts = [0u32; 5];
            for (i, (zero, added, change)) in steps.into_iter().enumerate() {
                if change < 10 {
                    counts = [0; 5];
                }
                counts.iter_mut().zip(added).for_each(|(c, a)| *c += a);
                let scale = if integer { 1.0 } else { 0.1 };
                let floats: Vec<f64> = counts.iter().map(|c| f64::from(*c) * scale).collect();
                let h = Histogram {
                    schema: if custom { -53 } else { 3 },
                    integer,
                    zero_threshold: if custom { 0.0 } else { [0.0, 0.001, 2f64.powi(-128)][i % 3 / 2] },
                    zero_count: f64::from(zero) * scale,
                    count: floats.iter().sum::<f64>() + f64::from(zero),
                    sum: f64::from(change).sqrt(),
                    positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 1, length: 1 }],
                    positive_counts: floats[..3].to_vec(),
                    negative_spans: vec![Span { offset: 9, length: 2 }],
                    negative_counts: floats[3..].to_vec(),
                    custom_bounds: if custom { Arc::from(bounds.as_slice()) } else { Arc::from([]) },
                    ..Histogram::default()
                };
                columns.histograms.push((i as i64 * 15_000 + i64::from(change), Arc::new(h)));
            }
            columns
        },
    )
}

/// Histograms without their hints, which a chunk sharpens: behind its first there is no reset.
fn without_hints(columns: &SampleColumns) -> String {
    let bare = |h: &Histogram| Histogram { reset_hint: ResetHint::Unknown, ..h.clone() };
    format!("{:?}", columns.histograms.iter().map(|(t, h)| (t, bare(h))).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn floats_go_through_chunks(columns in any_floats()) {
        let chunks = chunks(&columns);
        prop_assert_eq!(chunks.len(), columns.times_ms.len().div_ceil(120));
        prop_assert_eq!(words(&decoded(&chunks)), words(&columns));
    }

    #[test]
    fn histograms_go_through_chunks(columns in any_histograms()) {
        prop_assert_eq!(without_hints(&decoded(&chunks(&columns))), without_hints(&columns));
    }

    #[test]
    fn any_data_is_decoded_or_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in ChunkEncoding::ALL {
            let _ = decode_chunk(encoding, &data, &mut SampleColumns::default());
        }
        let _ = read_frames(&data, 1000, |_, _| {});
        let _ = read_response(&data, 100);
        let _ = decode_request(&data, &Limits::default());
    }
}
