//! Files of a Prometheus' block, and of its log.
//!
//! Strategy: the first byte picks the file. An index and a segment are put together around the
//! input with right checksums, since a fuzzer does not find those: the input is what stands in the
//! entry of a series, the data of a chunk, a piece of a log, and a record.
//! Invariants: no panic; a series of the index has its chunks in order of time; the walk ends.

use std::io::Cursor;

use pilothouse_model::SampleColumns;
use pilothouse_wire::tsdb::{BlockMeta, HeadChunks, Index, LogSegment, Segment, Tombstones, read_record};

pub fn run(data: &[u8]) {
    let Some((pick, data)) = data.split_first() else { return };
    match pick % 9 {
        0 => walk(data),
        1 => walk(&index_of(data)),
        2 => chunk(data),
        3 => {
            let mut file = vec![0x01, 0x30, 0xba, 0x30, 1];
            file.extend(data);
            file.extend(crc32c::crc32c(data).to_be_bytes());
            let _ = Tombstones::parse(&file);
        }
        4 => drop(BlockMeta::parse(data)),
        5 => drop(read_record(data, drop)),
        6 => log(data),
        7 => log(&log_of(data)),
        _ => head_chunks(data),
    }
}

fn walk(bytes: &[u8]) {
    let Ok(mut index) = Index::open(Cursor::new(bytes), Cursor::new(bytes)) else { return };
    for _ in 0..=bytes.len() {
        match index.next_series() {
            Ok(None) => return,
            Ok(Some(series)) => {
                assert!(series.chunks.is_sorted_by(|a, b| a.max_t_ms <= b.min_t_ms));
                let _ = index.labels(&series);
            }
            Err(_) => {}
        }
    }
    panic!("the walk does not end");
}

fn index_of(entry: &[u8]) -> Vec<u8> {
    let mut index = vec![0xba, 0xaa, 0xd7, 0, 2];
    let table = [0, 0, 0, 3, 1, b'a', 1, b'b', 0];
    index.extend((table.len() as u32).to_be_bytes());
    index.extend(table);
    index.extend(crc32c::crc32c(&table).to_be_bytes());
    index.resize(index.len().next_multiple_of(16), 0);
    let series = index.len() as u64;
    push_uvarint(&mut index, entry.len() as u64);
    index.extend(entry);
    index.extend(crc32c::crc32c(entry).to_be_bytes());
    let toc: Vec<u8> = [5, series, 0, 0, 0, 0].iter().flat_map(|n: &u64| n.to_be_bytes()).collect();
    index.extend(&toc);
    index.extend(crc32c::crc32c(&toc).to_be_bytes());
    index
}

fn log(bytes: &[u8]) {
    let mut segment = LogSegment::new(bytes);
    for _ in 0..=bytes.len() {
        match segment.next_record() {
            Ok(None) => return,
            Ok(Some(record)) => drop(read_record(record, drop)),
            Err(_) => {}
        }
    }
    panic!("the walk does not end");
}

/// Pieces of a byte that says what they are, one for their length, and so many more.
fn log_of(mut data: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    while let [kind, length, rest @ ..] = data {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        segment.push(*kind);
        segment.extend((piece.len() as u16).to_be_bytes());
        segment.extend(crc32c::crc32c(piece).to_be_bytes());
        segment.extend(piece);
        data = rest;
    }
    segment
}

fn head_chunks(data: &[u8]) {
    let mut file = vec![0x01, 0x30, 0xbc, 0x91, 1, 0, 0, 0];
    file.extend(data);
    let mut chunks = HeadChunks::open(Cursor::new(&file)).expect("the head is right");
    for _ in 0..=data.len() {
        if let Ok(None) = chunks.next_chunk() {
            return;
        }
    }
    panic!("the walk does not end");
}

/// The first byte is the encoding.
fn chunk(data: &[u8]) {
    let mut file = vec![0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];
    push_uvarint(&mut file, data.len().saturating_sub(1) as u64);
    file.extend(data);
    file.extend(crc32c::crc32c(data).to_be_bytes());
    let mut segment = Segment::open(Cursor::new(&file)).expect("the head is right");
    let mut samples = SampleColumns::default();
    if let Ok(chunk) = segment.chunk(8) {
        let _ = chunk.decode(&mut samples);
    }
}

fn push_uvarint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
