//! Logs written here page by page, read back whole and damaged.

use std::io::Cursor;

use pilothouse_model::write::BatchExemplar;
use pilothouse_model::{Histogram, Labels, ResetHint, Span};
use proptest::prelude::*;

use super::super::{HeadChunks, LogEntry, LogSegment, TsdbError, is_of_series, read_record};
use super::{push_crc, uvarint, varint};
use crate::body::snappy;

const PAGE: usize = 32 << 10;

/// Puts records into pages as a Prometheus does: a page that has no room for a header is filled
/// with zeros.
fn segment(records: &[Vec<u8>], flags: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let record = match flags {
            8 => snappy(record),
            16 => zstd::bulk::compress(record, 3).unwrap(),
            _ => record.clone(),
        };
        let (mut rest, mut is_first) = (&record[..], true);
        loop {
            let room = PAGE - out.len() % PAGE;
            if room <= 7 {
                out.resize(out.len() + room, 0);
                continue;
            }
            let (piece, after) = rest.split_at(rest.len().min(room - 7));
            let kind = match (is_first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            out.push(kind | flags);
            out.extend((piece.len() as u16).to_be_bytes());
            out.extend(crc32c::crc32c(piece).to_be_bytes());
            out.extend(piece);
            (rest, is_first) = (after, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    out
}

/// What can be read, and how many errors there were.
fn read(segment: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let mut segment = LogSegment::new(segment);
    let (mut records, mut errors) = (Vec::new(), 0);
    loop {
        match segment.next_record() {
            Ok(Some(record)) => records.push(record.to_vec()),
            Ok(None) => return (records, errors),
            Err(_) => errors += 1,
        }
    }
}

/// Of all lengths around that of a page, each with its number in front.
fn records() -> Vec<Vec<u8>> {
    let lengths = [1, 100, PAGE - 7 - 115, 9, PAGE - 8, PAGE - 7, PAGE, 3 * PAGE + 5, 70, 30];
    let bytes = |n: usize, length: usize| {
        (0..length as u32).map(|i| (i.wrapping_mul(i) >> 3) as u8 ^ n as u8).collect()
    };
    lengths.into_iter().enumerate().map(|(n, length)| bytes(n, length)).collect()
}

#[test]
fn records_are_put_together_from_their_pieces() {
    for flags in [0, 8, 16] {
        let bytes = segment(&records(), flags);
        assert_eq!(read(&bytes), (records(), 0), "{flags}");
        // As a file ends whose writer fills its last page.
        let filled = [&bytes[..], &vec![0; PAGE - bytes.len() % PAGE]].concat();
        assert_eq!(read(&filled), (records(), 0), "{flags}");
    }
    assert_eq!(read(&[]), (Vec::new(), 0));
}

#[test]
fn a_log_that_breaks_off_gives_what_is_whole() {
    let bytes = segment(&records(), 0);
    let mut last = 0;
    for end in (0..bytes.len()).step_by(3001) {
        let (found, errors) = read(&bytes[..end]);
        assert_eq!(found, records()[..found.len()], "{end}");
        assert!(errors <= 1 && found.len() >= last, "{end}");
        last = found.len();
    }
    assert!(last >= records().len() - 3);
}

#[test]
fn a_flipped_byte_costs_the_records_of_its_page() {
    let bytes = segment(&records(), 0);
    for at in (0..bytes.len()).step_by(4099) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        let (found, errors) = read(&damaged);
        assert!(errors > 0 && found.len() < records().len(), "{at}");
        assert!(found.iter().all(|record| records().contains(record)), "{at}");
        let behind = at / PAGE < bytes.len() / PAGE - 4;
        assert!(!behind || found.ends_with(&records()[8..]), "{at}");
    }
}

fn entries(record: &[u8]) -> Result<Vec<LogEntry>, TsdbError> {
    let mut entries = Vec::new();
    read_record(record, |entry| entries.push(entry))?;
    Ok(entries)
}

fn text(out: &mut Vec<u8>, text: &str) {
    uvarint(out, text.len() as u64);
    out.extend(text.as_bytes());
}

fn float(out: &mut Vec<u8>, value: f64) {
    out.extend(value.to_bits().to_be_bytes());
}

/// The layout of `tsdb/record`: hint, schema, zero bucket, counts, spans, buckets, bounds.
fn push_histogram(out: &mut Vec<u8>, h: &Histogram) {
    out.push(3);
    varint(out, i64::from(h.schema));
    float(out, h.zero_threshold);
    for count in [h.zero_count, h.count] {
        match h.integer {
            true => uvarint(out, count as u64),
            false => float(out, count),
        }
    }
    float(out, h.sum);
    for spans in [&h.positive_spans, &h.negative_spans] {
        uvarint(out, spans.len() as u64);
        for span in spans {
            varint(out, i64::from(span.offset));
            uvarint(out, u64::from(span.length));
        }
    }
    for counts in [&h.positive_counts, &h.negative_counts] {
        uvarint(out, counts.len() as u64);
        let mut last = 0;
        for count in counts {
            match h.integer {
                true => varint(out, *count as i64 - std::mem::replace(&mut last, *count as i64)),
                false => float(out, *count),
            }
        }
    }
    if h.has_custom_buckets() {
        uvarint(out, h.custom_bounds.len() as u64);
        h.custom_bounds.iter().for_each(|bound| float(out, *bound));
    }
}

fn histogram(integer: bool, schema: i32) -> Histogram {
    Histogram {
        schema,
        reset_hint: ResetHint::Gauge,
        integer,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: 12.0,
        sum: -0.5,
        positive_spans: vec![Span { offset: -1, length: 2 }],
        positive_counts: vec![7.0, 3.0],
        negative_spans: Vec::new(),
        negative_counts: Vec::new(),
        custom_bounds: if schema == -53 { [0.5, 2.0].into() } else { [].into() },
    }
}

/// Every kind of record, with what it says.
fn all() -> Vec<(Vec<u8>, Vec<LogEntry>)> {
    let mut series = vec![1];
    series.extend(9u64.to_be_bytes());
    uvarint(&mut series, 2);
    ["__name__", "up", "job", "ä"].iter().for_each(|t| text(&mut series, t));
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "ä")]);

    let mut deleted = vec![3];
    deleted.extend(9u64.to_be_bytes());
    varint(&mut deleted, -4);
    varint(&mut deleted, i64::MAX);

    let mut exemplars = vec![4];
    exemplars.extend([9u64.to_be_bytes(), 1_000i64.to_be_bytes()].concat());
    varint(&mut exemplars, 0);
    varint(&mut exemplars, 5);
    float(&mut exemplars, 0.25);
    uvarint(&mut exemplars, 1);
    ["trace", "7"].iter().for_each(|t| text(&mut exemplars, t));
    let exemplar = BatchExemplar { t_ms: 1_005, value: 0.25, labels: vec![("trace".into(), "7".into())] };

    let mut samples = vec![2];
    samples.extend([9u64.to_be_bytes(), (-1_000i64).to_be_bytes()].concat());
    let mut newer = vec![11];
    [9, -1_000, 77].iter().for_each(|n| varint(&mut newer, *n));
    float(&mut newer, 1.5);
    for (n, id) in [(0, 0i64), (1, -2), (2, 11), (3, 0)] {
        // From the base, and from the one before.
        if n > 0 {
            varint(&mut samples, id);
            varint(&mut samples, n * 10);
            float(&mut samples, 1.5 * n as f64);
        }
        if n > 1 {
            varint(&mut newer, id);
            varint(&mut newer, n * 10);
            newer.push(n as u8 - 1);
            if n == 3 {
                varint(&mut newer, -5);
            }
            float(&mut newer, 1.5 * n as f64);
        }
    }
    let one = |id: u64, t_ms: i64, value: f64| LogEntry::Float { id, t_ms, value };
    let mut all = vec![
        (series, vec![LogEntry::Series { id: 9, labels }]),
        (deleted, vec![LogEntry::Deleted { id: 9, from_ms: -4, to_ms: i64::MAX }]),
        (exemplars, vec![LogEntry::Exemplar { id: 9, exemplar }]),
        (samples, vec![one(7, -990, 1.5), one(20, -980, 3.0), one(9, -970, 4.5)]),
        (newer, vec![one(9, -1_000, 1.5), one(20, -980, 3.0), one(20, -970, 4.5)]),
        (vec![2], Vec::new()),
        (vec![11], Vec::new()),
        (vec![5, 1, 2, 3], Vec::new()),
        (vec![6, 1, 2, 3], Vec::new()),
    ];
    for (kind, integer, schema) in
        [(7, true, 3), (8, false, 3), (9, true, -53), (10, false, -53), (12, true, 0), (13, false, -53)]
    {
        let histogram = histogram(integer, schema);
        let mut record = vec![kind];
        if kind < 11 {
            record.extend([9u64.to_be_bytes(), 100u64.to_be_bytes()].concat());
            varint(&mut record, 0);
            varint(&mut record, 0);
        } else {
            [9, 100, 0].iter().for_each(|n| varint(&mut record, *n));
        }
        push_histogram(&mut record, &histogram);
        varint(&mut record, 0);
        varint(&mut record, 3);
        if kind > 10 {
            record.push(0);
        }
        push_histogram(&mut record, &histogram);

        let of = |t_ms: i64| LogEntry::Histogram { id: 9, t_ms, histogram: histogram.clone() };
        all.push((record, vec![of(100), of(103)]));
    }
    all
}

#[test]
fn every_kind_of_record_is_read() {
    for (record, expected) in all() {
        assert_eq!(entries(&record).unwrap(), expected, "kind {}", record[0]);
        assert_eq!(is_of_series(&record), matches!(record[0], 1 | 3));
        for end in 1..record.len() {
            if let Ok(found) = entries(&record[..end]) {
                assert!(expected.starts_with(&found), "kind {}, {end}", record[0]);
            }
        }
    }
    assert!(matches!(entries(&[14]), Err(TsdbError::Record(14))));
    assert!(matches!(entries(&[]), Err(TsdbError::Truncated)));
}

/// A file of chunks behind series 3 and 4, with zeros behind them.
fn head_chunks() -> Vec<u8> {
    let mut out = vec![0x01, 0x30, 0xbc, 0x91, 1, 0, 0, 0];
    for (id, encoding) in [(3u64, 1u8), (4, 0x82)] {
        let from = out.len();
        out.extend([id.to_be_bytes(), (-5i64).to_be_bytes(), 700i64.to_be_bytes()].concat());
        out.push(encoding);
        uvarint(&mut out, 200);
        out.extend((0..200).map(|n| n as u8 ^ encoding));
        push_crc(&mut out, from);
    }
    out.resize(out.len() + 100, 0);
    out
}

/// The series of a chunk, whether it came out of order, and its encoding.
type Shown = (u64, bool, u8);

/// What can be read, and how many errors there were.
fn read_chunks(bytes: &[u8]) -> Result<(Vec<Shown>, usize), TsdbError> {
    let mut chunks = HeadChunks::open(Cursor::new(bytes))?;
    let (mut found, mut errors) = (Vec::new(), 0);
    loop {
        match chunks.next_chunk() {
            Ok(Some(chunk)) => {
                assert_eq!((chunk.min_t_ms, chunk.max_t_ms, chunk.chunk.data.len()), (-5, 700, 200));
                found.push((chunk.id, chunk.is_out_of_order, chunk.chunk.encoding));
            }
            Ok(None) => return Ok((found, errors)),
            Err(_) => errors += 1,
        }
    }
}

#[test]
fn chunks_of_the_head_are_read_up_to_the_zeros() {
    let bytes = head_chunks();
    let both = vec![(3, false, 1), (4, true, 2)];
    assert_eq!(read_chunks(&bytes).unwrap(), (both.clone(), 0));
    for end in 8..bytes.len() {
        let (found, errors) = read_chunks(&bytes[..end]).unwrap();
        assert!(both.starts_with(&found) && errors <= 1, "{end}");
    }
    let mut damaged = bytes.clone();
    damaged[100] ^= 1;
    assert_eq!(read_chunks(&damaged).unwrap(), (vec![(4, true, 2)], 1));
    for at in 0..5 {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(read_chunks(&other).is_err(), "{at}");
    }
}

proptest! {
    /// Whatever is flipped or cut: nothing but what was written is read.
    #[test]
    fn damage_never_shows_as_a_record(
        lengths in prop::collection::vec(1usize..9_000, 1..20),
        flags in prop::sample::select(vec![0u8, 8, 16]),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let written: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(n, length)| vec![n as u8; *length]).collect();
        let mut bytes = segment(&written, flags);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (found, _) = read(&bytes);
        // What a piece is and how it is compressed is under no checksum: one record may be taken for
        // another then.
        let others = found.iter().filter(|record| !written.contains(record)).count();
        prop_assert!(others == 0 || others == 1 && flip & 31 != 0);
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
        let _ = entries(&bytes);
        let _ = read_chunks(&[&head_chunks()[..8], &[0; 3], &bytes].concat()).is_ok();
    }
}
