//! Blocks written here byte by byte, read back whole and damaged.

mod log;

use std::io::Cursor;
use std::sync::Arc;

use pilothouse_model::{Histogram, Labels, SampleColumns, Span};
use proptest::prelude::*;

use super::{BlockMeta, Index, Segment, Tombstones, TsdbError};
use crate::chunk::{Chunk, encode_chunks};

/// The bytes of a block's files.
struct Block {
    index: Vec<u8>,
    /// Where each series stands in the index.
    places: Vec<usize>,
    segment: Vec<u8>,
}

fn uvarint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn varint(out: &mut Vec<u8>, n: i64) {
    uvarint(out, (n << 1 ^ n >> 63) as u64);
}

fn push_crc(out: &mut Vec<u8>, of: usize) {
    let crc = crc32c::crc32c(&out[of..]);
    out.extend(crc.to_be_bytes());
}

type Series = (Labels, SampleColumns);

fn block(version: u8, all: &[Series]) -> Block {
    let mut segment = vec![0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];
    let mut index = vec![0xba, 0xaa, 0xd7, 0, version];
    let mut texts: Vec<&str> =
        all.iter().flat_map(|(labels, _)| labels.iter()).flat_map(|(n, v)| [n, v]).collect();
    texts.sort_unstable();
    texts.dedup();
    let symbols_at = index.len();
    let mut table = (texts.len() as u32).to_be_bytes().to_vec();
    let mut numbers = Vec::new();
    for (ordinal, text) in texts.iter().enumerate() {
        numbers.push(if version == 1 { symbols_at + 4 + table.len() } else { ordinal } as u64);
        uvarint(&mut table, text.len() as u64);
        table.extend(text.as_bytes());
    }
    index.extend((table.len() as u32).to_be_bytes());
    let from = index.len();
    index.extend(table);
    push_crc(&mut index, from);
    let number = |text: &str| numbers[texts.binary_search(&text).unwrap()];

    let mut places = Vec::new();
    let mut series_at = 0;
    for (labels, samples) in all {
        while version > 1 && index.len() % 16 > 0 {
            index.push(0);
        }
        places.push(index.len());
        series_at = places[0];
        let mut entry = Vec::new();
        uvarint(&mut entry, labels.len() as u64);
        for (name, value) in labels {
            uvarint(&mut entry, number(name));
            uvarint(&mut entry, number(value));
        }
        let mut chunks: Vec<(u64, Chunk)> = Vec::new();
        encode_chunks(samples, |chunk| {
            chunks.push((segment.len() as u64, chunk.clone()));
            uvarint(&mut segment, chunk.data.len() as u64);
            let from = segment.len();
            segment.push(chunk.encoding as u8);
            segment.extend(&chunk.data);
            push_crc(&mut segment, from);
        });
        uvarint(&mut entry, chunks.len() as u64);
        let (mut last_t, mut last_place) = (0, 0);
        for (n, (place, chunk)) in chunks.iter().enumerate() {
            match n {
                0 => varint(&mut entry, chunk.min_t_ms),
                _ => uvarint(&mut entry, (chunk.min_t_ms - last_t) as u64),
            }
            uvarint(&mut entry, (chunk.max_t_ms - chunk.min_t_ms) as u64);
            match n {
                0 => uvarint(&mut entry, *place),
                _ => varint(&mut entry, *place as i64 - last_place),
            }
            (last_t, last_place) = (chunk.max_t_ms, *place as i64);
        }
        uvarint(&mut index, entry.len() as u64);
        let from = index.len();
        index.extend(entry);
        push_crc(&mut index, from);
    }
    let postings_at = index.len();
    index.extend([0; 12]);
    let toc = index.len();
    for place in [symbols_at, series_at, 0, postings_at, 0, postings_at] {
        index.extend((place as u64).to_be_bytes());
    }
    push_crc(&mut index, toc);
    Block { index, places, segment }
}

/// A few series of floats, one of histograms, and one that has both.
fn all() -> Vec<Series> {
    let histogram = |n: i64| {
        let n = n as f64;
        Arc::new(Histogram {
            schema: 2,
            integer: true,
            zero_threshold: 0.001,
            zero_count: n,
            count: 4.0 * n,
            sum: 0.5 * n,
            positive_spans: vec![Span { offset: -1, length: 2 }],
            positive_counts: vec![n, 2.0 * n],
            ..Histogram::default()
        })
    };
    let mut all: Vec<Series> = (0..50)
        .map(|i| {
            let mut samples = SampleColumns::default();
            (0..300).for_each(|n| samples.push_float(-7_000_000 + n * 15_000 + i, (n * i) as f64 / 7.0));
            let i = format!("{i:02}");
            (Labels::from_pairs([("__name__", "floats"), ("i", i.as_str()), ("text", "ä \"\n")]), samples)
        })
        .collect();
    let histograms = (0..130).map(|n| (n * 1_000, histogram(n))).collect();
    let mut samples = SampleColumns { histograms, ..SampleColumns::default() };
    all.push((Labels::from_pairs([("__name__", "histograms")]), samples.clone()));
    samples.push_float(500, 1.0);
    samples.push_float(200_000, f64::NAN);
    all.push((Labels::from_pairs([("__name__", "mixed")]), samples));
    all
}

/// What can be read, and how many errors there were.
fn read(index: &[u8], segment: &[u8]) -> Result<(Vec<Series>, usize), TsdbError> {
    let mut index = Index::open(Cursor::new(index), Cursor::new(index))?;
    let mut segment = Segment::open(Cursor::new(segment))?;
    let (mut found, mut errors) = (Vec::new(), 0);
    loop {
        let series = match index.next_series() {
            Ok(Some(series)) => series,
            Ok(None) => return Ok((found, errors)),
            Err(_) => {
                errors += 1;
                continue;
            }
        };
        let mut samples = SampleColumns::default();
        for place in &series.chunks {
            assert_eq!(place.segment, 0);
            let read = segment.chunk(place.offset).and_then(|chunk| chunk.decode(&mut samples));
            errors += usize::from(read.is_err());
        }
        match index.labels(&series) {
            Ok(labels) => found.push((labels, samples)),
            Err(_) => errors += 1,
        }
    }
}

fn shown(all: &[Series]) -> Vec<String> {
    let bits = |samples: &SampleColumns| samples.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let counts = |samples: &SampleColumns| {
        samples.histograms.iter().map(|(t, h)| (*t, h.sum, h.positive_counts.clone())).collect::<Vec<_>>()
    };
    let one = |(l, s): &Series| format!("{l} {:?} {:?} {:?}", s.times_ms, bits(s), counts(s));
    all.iter().map(one).collect()
}

#[test]
fn a_block_is_read_as_it_was_written() {
    for version in [1, 2, 3] {
        let block = block(version, &all());
        let (found, errors) = read(&block.index, &block.segment).unwrap();
        assert_eq!((shown(&found), errors), (shown(&all()), 0), "version {version}");
    }
    let empty = block(2, &[]);
    assert_eq!(read(&empty.index, &empty.segment).unwrap().0.len(), 0);
}

#[test]
fn other_kinds_and_versions_are_refused() {
    let block = block(2, &all()[..1]);
    let at = |bytes: &[u8], at: usize, byte: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = byte;
        bytes
    };
    let refused = [
        read(&at(&block.index, 0, 0), &block.segment),
        read(&at(&block.index, 4, 4), &block.segment),
        read(&block.index, &at(&block.segment, 1, 0)),
        read(&block.index, &at(&block.segment, 4, 2)),
        read(&[], &block.segment),
        read(&block.index, &[]),
    ];
    for (n, read) in refused.into_iter().enumerate() {
        let error = read.err().unwrap_or_else(|| panic!("{n}"));
        assert!(!error.is_io(), "{n}: {error}");
    }
}

#[test]
fn a_damaged_series_or_chunk_costs_itself_alone() {
    let whole = all();
    for version in [1, 2] {
        let mut block = block(version, &whole);
        let third = block.places[2];
        block.index[third + 9] ^= 0x10;
        block.segment[8 + 40] ^= 1;
        let (found, errors) = read(&block.index, &block.segment).unwrap();
        assert_eq!(errors, 2);
        assert_eq!((found.len(), found[0].1.len()), (whole.len() - 1, 180));
        let (rest, expected) = (shown(&found[1..]), shown(&[&whole[1..2], &whole[3..]].concat()));
        assert_eq!(rest, expected, "version {version}");
    }
}

#[test]
fn tombstones_are_read_and_compared() {
    let mut entries = Vec::new();
    for (series, from, to) in [(3u64, -5i64, 10i64), (3, 20, i64::MAX), (7, i64::MIN, 0)] {
        uvarint(&mut entries, series);
        varint(&mut entries, from);
        varint(&mut entries, to);
    }
    let mut file = vec![0x01, 0x30, 0xba, 0x30, 1];
    file.extend(&entries);
    push_crc(&mut file, 5);
    let found = Tombstones::parse(&file).unwrap();
    assert_eq!(found.of(3), [(-5, 10), (20, i64::MAX)]);
    assert_eq!((found.of(7), found.of(8)), (&[(i64::MIN, 0)][..], &[][..]));
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 4;
        assert!(Tombstones::parse(&damaged).is_err(), "{at}");
        assert!(Tombstones::parse(&file[..at]).is_err(), "{at}");
    }
}

#[test]
fn a_description_has_times_and_a_version() {
    let meta = |text: &str| BlockMeta::parse(text.as_bytes());
    let whole =
        meta(r#"{"ulid":"01H","minTime":-1,"maxTime":5,"version":1,"stats":{"numSamples":9},"thanos":{}}"#)
            .unwrap();
    assert_eq!((whole.min_time, whole.max_time, whole.samples()), (-1, 5, 9));
    assert_eq!(meta(r#"{"ulid":"","minTime":0,"maxTime":0,"version":1}"#).unwrap().samples(), 0);
    assert!(matches!(meta(r#"{"ulid":"","minTime":0,"maxTime":0,"version":2}"#), Err(TsdbError::Version(2))));
    assert!(matches!(meta(r#"{"ulid":"","minTime":1,"maxTime":0,"version":1}"#), Err(TsdbError::Numbers)));
    assert!(matches!(meta("{"), Err(TsdbError::Meta(_))));
}

proptest! {
    /// Whatever is flipped, cut or put in: nothing but what was written is ever read, and all of
    /// it that does not hang on the damage.
    #[test]
    fn damage_never_shows_as_data(
        version in 1u8..=2,
        in_index in any::<bool>(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let whole = all();
        let Block { mut index, mut segment, .. } = block(version, &whole);
        let damaged = if in_index { &mut index } else { &mut segment };
        let at = at.index(damaged.len());
        damaged[at] ^= flip;
        if let Some(cut) = cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        let written: std::collections::HashSet<i64> =
            whole.iter().flat_map(|(_, s)| s.times_ms.iter().copied().chain(s.histograms.iter().map(|h| h.0))).collect();
        let labels: std::collections::HashSet<Labels> = whole.iter().map(|(l, _)| l.clone()).collect();
        if let Ok((found, _)) = read(&index, &segment) {
            prop_assert!(cut.is_some() || found.len() + 1 >= whole.len(), "one flipped byte costs one series at most");
            for (l, s) in &found {
                prop_assert!(labels.contains(l));
                prop_assert!(s.times_ms.iter().all(|t| written.contains(t)));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
        let mut index = if head { vec![0xba, 0xaa, 0xd7, 0, 2] } else { Vec::new() };
        index.extend(&bytes);
        let _ = read(&index, &[0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0]);
        let _ = Tombstones::parse(&bytes);
        let _ = BlockMeta::parse(&bytes);
    }
}
