//! The codec of log blocks: making blocks of 256 KiB, reading them as far as queries need, and
//! asking their filters. Throughput is in bytes of lines, for the probe in blocks.

#![allow(clippy::expect_used)] // a failure here is a failed bench

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilothouse_logs::block::{Encoded, Encoder, Head, Probe, Reader, Slab, SlabBuilder, Want};
use pilothouse_model::Labels;
use pilothouse_model::logs::{LineDemand, LineNeed, Literal, MetadataNeed};
use std::fmt::Write;
use std::hint::black_box;

const BLOCKS: usize = 64;
const BLOCK_BYTES: usize = 256 << 10;
const STREAMS: u32 = 5;
const LEVELS: [&str; 5] = ["info", "info", "debug", "warn", "error"];

/// Lines of four kinds over a vocabulary of which the first words are the most frequent.
struct Lines {
    seed: u64,
    words: Vec<String>,
}

impl Lines {
    fn new() -> Self {
        let parts = ["con", "nec", "tion", "time", "out", "re", "quest", "ser", "vice", "lo", "ad", "ing"];
        let mut lines = Self { seed: 7, words: Vec::new() };
        for _ in 0..4_000 {
            let n = 2 + lines.next(3);
            let word = (0..n).map(|_| parts[lines.next(parts.len())]).collect();
            lines.words.push(word);
        }
        lines
    }

    fn next(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below
    }

    fn message(&mut self, out: &mut String) {
        for _ in 0..4 + self.next(9) {
            // The square of a uniform number: low ranks are frequent.
            let rank = self.next(1_000) * self.next(1_000) * 4 / 1_000;
            out.push_str(&self.words[rank]);
            out.push(' ');
        }
    }

    fn line(&mut self, kind: usize, level: &str, out: &mut String) {
        let (id, status, took) =
            (self.next(2_000_000), [200, 200, 404, 500][self.next(4)], self.next(900_000));
        let trace = (self.next(1 << 31) as u64 * 0x9e37_79b9, self.next(1 << 31) as u64 * 0x85eb_ca6b);
        let clock = format!("2026-11-22T04:{:02}:{:02}.{:03}", id % 60, took % 60, took % 1_000);
        let mut message = String::new();
        self.message(&mut message);
        let _ = match kind {
            0 => write!(
                out,
                "{{\"ts\":\"{clock}Z\",\"level\":\"{level}\",\"caller\":\"orders/handler.go:{}\",\"msg\":\"{message}\",\"trace_id\":\"{:016x}{:016x}\",\"path\":\"/api/v1/orders/{id}\",\"status\":{status},\"duration_ms\":{}.{:03}}}",
                id % 90,
                trace.0,
                trace.1,
                took / 1000,
                took % 1000
            ),
            1 => write!(
                out,
                "ts={clock}Z level={level} caller=orders.go:{} msg=\"{message}\" traceID={:016x}{:016x} path=/api/v1/orders/{id} status={status} duration={}ms",
                id % 90,
                trace.0,
                trace.1,
                took / 1000
            ),
            2 => write!(
                out,
                "10.{}.{}.{} - - [{clock} +0000] \"GET /api/v1/orders/{id}?page={} HTTP/1.1\" {status} {took} \"-\" \"Mozilla/5.0 (X11; Linux x86_64; rv:{}.0)\" {:016x}{:016x}",
                id % 200,
                id / 7 % 250,
                id / 11 % 250,
                id % 40,
                110 + id % 30,
                trace.0,
                trace.1
            ),
            _ => write!(
                out,
                "{clock} {:5} [http-nio-8080-exec-{}] c.e.orders.Controller - {message}",
                level.to_uppercase(),
                id % 50
            ),
        };
        if kind == 3 && self.next(25) == 0 {
            out.push_str("\njava.lang.NullPointerException: Cannot invoke \"Object.toString()\"");
            for _ in 0..5 + self.next(20) {
                let (word, at) = (self.next(400), self.next(900));
                let _ = write!(
                    out,
                    "\n\tat com.example.{}.Service.invoke(Service.java:{})",
                    self.words[word], at
                );
            }
        }
    }
}

/// Entries of one block: stream, time, line, level.
type Entries = Vec<(u32, i64, String, usize)>;

fn blocks() -> Vec<Entries> {
    let mut lines = Lines::new();
    let block = |b: usize| {
        let (mut entries, mut bytes, mut t) =
            (Entries::new(), 0, 1_790_000_000_000_000_000 + b as i64 * 30_000_000_000);
        while bytes < BLOCK_BYTES {
            let (stream, level) = (lines.next(STREAMS as usize) as u32, lines.next(LEVELS.len()));
            t += 20_000_000 + lines.next(2_000_000) as i64;
            let mut line = String::new();
            lines.line(b % 4, LEVELS[level], &mut line);
            bytes += line.len();
            entries.push((stream, t, line, level));
        }
        entries.sort_by_key(|entry| (entry.0, entry.1));
        entries
    };
    (0..BLOCKS).map(block).collect()
}

fn encode(encoder: &mut Encoder, entries: &Entries, sets: &[Labels]) -> Encoded {
    let mut last = None;
    for (stream, t, line, level) in entries {
        if last.replace(*stream) != Some(*stream) {
            encoder.stream(*stream).expect("ascending");
        }
        encoder.push(*t, line, &sets[*level]).expect("sorted");
    }
    encoder.finish().expect("entries")
}

fn print_sizes(blocks: &[Encoded], slab: &[u8], raw: usize) {
    let share = |bytes: usize| bytes as f64 / raw as f64;
    let sum = |of: fn(&Encoded) -> usize| share(blocks.iter().map(of).sum());
    let (head, body, metadata) = (sum(|b| b.head.len()), sum(|b| b.body.len()), sum(|b| b.metadata.len()));
    println!(
        "bytes per byte of lines: head {head:.4}, body {body:.4}, metadata {metadata:.4}, slab {:.4}",
        share(slab.len())
    );
}

fn logs_block(c: &mut Criterion) {
    let blocks = blocks();
    let raw: usize = blocks.iter().flatten().map(|entry| entry.2.len()).sum();
    let sets: Vec<Labels> =
        LEVELS.iter().map(|level| Labels::from_pairs([("detected_level", *level)])).collect();
    let mut encoder = Encoder::new().expect("memory");
    let encoded: Vec<Encoded> = blocks.iter().map(|b| encode(&mut encoder, b, &sets)).collect();
    let build = || {
        let mut builder = SlabBuilder::default();
        for block in &encoded {
            builder.push(&block.filter);
        }
        builder.finish()
    };
    let slab_bytes = build();
    print_sizes(&encoded, &slab_bytes, raw);

    let mut group = c.benchmark_group("logs_block");
    group.sample_size(10).throughput(Throughput::Bytes(raw as u64));
    group.bench_function("encode", |b| {
        b.iter(|| blocks.iter().for_each(|block| drop(black_box(encode(&mut encoder, block, &sets)))));
    });
    group.bench_function("slab", |b| b.iter(build));
    let mut reader = Reader::new().expect("memory");
    for (name, lines, metadata) in [
        ("read times", LineNeed::Nothing, MetadataNeed::Nothing),
        ("read times and level", LineNeed::Nothing, MetadataNeed::All),
        ("read lengths", LineNeed::Length, MetadataNeed::Nothing),
        ("read lines", LineNeed::Text, MetadataNeed::Nothing),
        ("read all", LineNeed::Text, MetadataNeed::All),
    ] {
        let want =
            Want { streams: &|_| true, start_ns: i64::MIN, end_ns: i64::MAX, lines, metadata: &metadata };
        group.bench_function(name, |b| {
            b.iter(|| {
                for block in &encoded {
                    let head = Head::decode(&block.head).expect("head");
                    reader.read(&head, &block.body, &block.metadata, &want).expect("block");
                    black_box(reader.streams().map(|part| part.times_ns.len()).sum::<usize>());
                }
            });
        });
    }
    group.throughput(Throughput::Elements(BLOCKS as u64));
    group.bench_function("head", |b| {
        b.iter(|| encoded.iter().for_each(|block| drop(black_box(Head::decode(&block.head)))))
    });
    let slab = Slab::open(slab_bytes.as_slice(), slab_bytes.len() as u64).expect("slab");
    for needle in ["c0ffee4711deadbeefc0ffee4711dead", "NullPointerException", "panic", "10.3.77.201"] {
        let demand =
            LineDemand { alternatives: vec![vec![Literal { text: needle.to_owned(), fold_case: false }]] };
        let probe = Probe::new(&[demand]);
        println!("{needle}: {} of {BLOCKS} blocks", slab.probe(&probe, slab_bytes.as_slice()).len());
        group.bench_function(format!("probe {needle}"), |b| {
            b.iter(|| slab.probe(&probe, slab_bytes.as_slice()))
        });
    }
    group.finish();
}

criterion_group!(benches, logs_block);
criterion_main!(benches);
