//! Blocks of log entries and slabs of their filters.
//!
//! Strategy: the first byte chooses between bytes read as a head, a body and metadata whose
//! checksums were made to fit, bytes read as a slab, and a block built from the bytes.
//! Invariants: never a panic, nor more memory than a block may take; what reads is in order and
//! its lines make up its text; a block that was built reads back as it was, and its filter does
//! not exclude a text that was cut out of one of its lines.

use pilothouse_logs::block::{Encoder, Head, Probe, Reader, Slab, SlabBuilder, Want};
use pilothouse_model::Labels;
use pilothouse_model::logs::{LineDemand, LineNeed, Literal, MetadataNeed};

use crate::choices::Choices;

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    match choices.byte() % 4 {
        0 => read_any(choices),
        1 => read_slab(choices),
        _ => build(choices),
    }
}

const ALL: Want<'static> = Want {
    streams: &|_| true,
    start_ns: i64::MIN,
    end_ns: i64::MAX,
    lines: LineNeed::Text,
    metadata: &MetadataNeed::All,
};

fn sealed(content: &[u8]) -> Vec<u8> {
    [&crc32c::crc32c(content).to_le_bytes(), content].concat()
}

fn read_any(mut choices: Choices<'_>) {
    let (head, body) = (1 + choices.below(200), choices.below(200));
    let rest = choices.rest();
    let (head, rest) = rest.split_at(head.min(rest.len()));
    let (body, metadata) = rest.split_at(body.min(rest.len()));
    let (head, body, metadata) = (sealed(head), sealed(body), sealed(metadata));
    let Ok(head) = Head::decode(&head) else { return };
    let mut reader = Reader::new().expect("memory");
    if reader.read(&head, &body, &metadata, &ALL).is_ok() {
        for part in reader.streams() {
            assert!(part.times_ns.is_sorted());
            assert_eq!(part.bounds.len(), part.times_ns.len() + 1);
            assert!(part.bounds.iter().all(|at| part.text.is_char_boundary(*at as usize)));
        }
    }
}

fn read_slab(mut choices: Choices<'_>) {
    let probe = probe(&choices.below(9).to_string().repeat(5));
    let rest = choices.rest();
    let (header, rest) = rest.split_at(rest.len().min(40));
    let header = sealed(header);
    let bytes = [&(header.len() as u32).to_le_bytes(), header.as_slice(), rest].concat();
    if let Ok(slab) = Slab::open(bytes.as_slice(), bytes.len() as u64) {
        assert!(slab.probe(&probe, bytes.as_slice()).len() <= slab.blocks());
    }
}

fn probe(text: &str) -> Probe {
    let literal = Literal { text: text.to_owned(), fold_case: false };
    Probe::new(&[LineDemand { alternatives: vec![vec![literal]] }])
}

fn build(mut choices: Choices<'_>) {
    let mut encoder = Encoder::new().expect("memory");
    let (mut put, mut stream, mut t) = (Vec::new(), 0u32, 0i64);
    encoder.stream(stream).expect("the first one");
    while !choices.is_empty() && put.len() < 300 {
        let choice = choices.byte();
        if choice & 3 == 0 {
            stream = stream.saturating_add(1 + choices.below(1 << 20) as u32);
            t = i64::from_le_bytes(choices.array());
            encoder.stream(stream).expect("ascending");
        }
        t = t.saturating_add(
            choices.below(1 << 30) as i64 * [1, 1_000, 1_000_000][usize::from(choice >> 2) % 3],
        );
        // The end of a range is exclusive, so nobody can ask for the last time of all.
        t = t.min(i64::MAX - 1);
        let length = choices.below(40);
        let line: String = (0..length).map(|_| char::from(choices.byte())).collect();
        let metadata = match choice >> 5 {
            0 => Labels::from_pairs([("trace", put.len().to_string())]),
            n => Labels::from_pairs([("level", "x".repeat(usize::from(n) / 2))]),
        };
        encoder.push(t, &line, &metadata).expect("sorted");
        put.push((stream, t, line, metadata));
    }
    let Ok(block) = encoder.finish() else { return };
    let head = Head::decode(&block.head).expect("a head that was built");
    let mut reader = Reader::new().expect("memory");
    reader.read(&head, &block.body, &block.metadata, &ALL).expect("a block that was built");
    let (labels, mut read) = (Labels::empty(), Vec::new());
    for part in reader.streams() {
        let batch = part.batch(&labels, 0);
        for (i, t) in batch.times_ns.iter().enumerate() {
            read.push((
                part.number,
                *t,
                batch.line(i).to_owned(),
                batch.metadata_of(i).cloned().unwrap_or_default(),
            ));
        }
    }
    assert_eq!(read, put);
    let mut builder = SlabBuilder::default();
    builder.push(&block.filter);
    let bytes = builder.finish();
    let slab = Slab::open(bytes.as_slice(), bytes.len() as u64).expect("a slab that was built");
    for (_, _, line, _) in &put {
        let inside: String = line.chars().skip(line.len() % 5).take(12).collect();
        assert!(slab.probe(&probe(&inside), bytes.as_slice()).contains(0));
    }
}
