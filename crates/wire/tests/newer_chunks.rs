//! Chunks that the main branch of Prometheus wrote of known samples, in the encodings that it writes where
//! it is asked to: a line with the number of the encoding, a name and the bytes, then one with times and the bits
//! of values, or of sums of histograms.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use pilothouse_model::SampleColumns;
use pilothouse_wire::chunk::{ChunkEncoding, decode_chunk};

const CHUNKS: &str = include_str!("data/prometheus-main-chunks.txt");

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn sample(text: &str) -> (i64, u64) {
    let (time, bits) = text.split_once(':').unwrap();
    (time.parse().unwrap(), u64::from_str_radix(bits, 16).unwrap())
}

#[test]
fn newer_chunks_are_read_as_they_were_written() {
    let lines: Vec<&str> = CHUNKS.lines().collect();
    assert_eq!(lines.len(), 12);
    for pair in lines.chunks(2) {
        let mut words = pair[0].split(' ');
        let encoding = ChunkEncoding::from_wire(words.next().unwrap().parse().unwrap()).unwrap();
        let (name, data) = (words.next().unwrap(), bytes(words.next().unwrap()));
        let expected: Vec<(i64, u64)> =
            pair[1].trim_start_matches("= ").split_whitespace().map(sample).collect();
        let mut columns = SampleColumns::default();
        decode_chunk(encoding, &data, &mut columns).unwrap();
        let floats = columns.times_ms.iter().zip(&columns.values).map(|(t, v)| (*t, v.to_bits()));
        let histograms = columns.histograms.iter().map(|(t, h)| (*t, h.sum.to_bits()));
        assert_eq!(floats.chain(histograms).collect::<Vec<_>>(), expected, "{encoding:?} {name}");
        for end in 0..data.len() {
            let mut some = SampleColumns::default();
            let cut = decode_chunk(encoding, &data[..end], &mut some);
            assert!(cut.is_err() && some.len() <= expected.len(), "{encoding:?} {name}, {end}");
        }
    }
}
