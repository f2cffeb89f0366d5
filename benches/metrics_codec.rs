//! The codecs on the hard mix: append to open chunks, encode and decode sealed ones.
//!
//! Times are per sample (throughput in elements). Sizes are printed once before the measures.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilothouse_metrics::codec::page::Times;
use pilothouse_metrics::codec::{
    Effort, HeadChunk, Page, PageBuilder, decode_times, decode_values, encode_times, encode_values,
};

#[path = "../crates/metrics/src/codec/hard_mix.rs"]
mod hard_mix;

/// Ten times over the shares of the mix.
const SERIES: usize = 1010;
/// One time in this many is some ms late.
const LATE_ONE_IN: u64 = 16;

fn population(n: usize) -> Vec<Vec<f64>> {
    (0..SERIES).map(|series| hard_mix::values(series, n)).collect()
}

fn blocks(population: &[Vec<f64>], effort: Effort) -> Vec<Vec<u8>> {
    let encode = |values: &Vec<f64>| {
        let mut block = Vec::new();
        encode_values(values, effort, &mut block);
        block
    };
    population.iter().map(encode).collect()
}

fn heads(population: &[Vec<f64>], times: &[i64]) -> Vec<HeadChunk> {
    let mut heads: Vec<HeadChunk> = population.iter().map(|_| HeadChunk::new()).collect();
    // As samples come: one of every series, then the next of every series.
    for (i, t) in times.iter().enumerate() {
        for (head, values) in heads.iter_mut().zip(population) {
            head.append(*t, values[i]);
        }
    }
    heads
}

fn per_sample(bytes: usize, n: usize) -> f64 {
    bytes as f64 / (SERIES * n) as f64
}

fn print_sizes() {
    println!("bytes per value or sample; XOR is what Prometheus' chunks would take for the values");
    for n in [120, 240, 480, 5760] {
        let all = population(n);
        let xor = all.iter().map(|v| hard_mix::gorilla_bytes(v)).sum::<f64>() / (SERIES * n) as f64;
        let size = |effort| per_sample(blocks(&all, effort).iter().map(Vec::len).sum(), n);
        let mut list = Vec::new();
        let times = hard_mix::times(1, n, LATE_ONE_IN);
        encode_times(&times, &mut list);
        let open = heads(&all, &times);
        println!(
            "  {n:>5}: flush {:.3}, compact {:.3}, open {:.3} (allocated {:.3}), XOR {xor:.3}, a list of times {} B",
            size(Effort::Flush),
            size(Effort::Compact),
            per_sample(open.iter().map(HeadChunk::bytes_len).sum(), n),
            per_sample(open.iter().map(HeadChunk::heap_bytes).sum(), n),
            list.len(),
        );
    }
}

fn measure(c: &mut Criterion) {
    print_sizes();
    let mut group = c.benchmark_group("codec");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let n = 120;
    let (all, times) = (population(n), hard_mix::times(1, n, LATE_ONE_IN));
    group.throughput(Throughput::Elements((SERIES * n) as u64));
    group.bench_function("append to open chunks, 120", |b| b.iter(|| black_box(heads(&all, &times))));
    let open = heads(&all, &times);
    let (mut t_out, mut v_out) = (Vec::new(), Vec::new());
    group.bench_function("read open chunks, 120", |b| {
        b.iter(|| {
            for head in &open {
                t_out.clear();
                v_out.clear();
                head.read_all(&mut t_out, &mut v_out);
            }
            black_box(v_out.len())
        })
    });
    for (n, effort) in
        [(120, Effort::Flush), (240, Effort::Flush), (5760, Effort::Flush), (5760, Effort::Compact)]
    {
        let all = population(n);
        group.throughput(Throughput::Elements((SERIES * n) as u64));
        group.bench_function(format!("encode values, {n}, {effort:?}"), |b| {
            b.iter(|| black_box(blocks(&all, effort)))
        });
        let encoded = blocks(&all, effort);
        group.bench_function(format!("decode values, {n}, {effort:?}"), |b| {
            b.iter(|| {
                for block in &encoded {
                    v_out.clear();
                    assert!(decode_values(block, n, &mut v_out).is_ok());
                }
                black_box(v_out.len())
            })
        });
    }
    group.finish();
    measure_lists(c);
}

fn measure_lists(c: &mut Criterion) {
    let mut group = c.benchmark_group("times and pages");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    let times = hard_mix::times(1, 120, LATE_ONE_IN);
    let mut list = Vec::new();
    encode_times(&times, &mut list);
    group.throughput(Throughput::Elements(120));
    group.bench_function("encode times, 120", |b| {
        b.iter(|| {
            let mut out = Vec::new();
            encode_times(black_box(&times), &mut out);
            out
        })
    });
    let mut out = Vec::new();
    group.bench_function("decode times, 120", |b| {
        b.iter(|| {
            out.clear();
            assert!(decode_times(black_box(&list), 120, &mut out).is_ok());
        })
    });
    let mut builder = PageBuilder::new(15);
    for (series, values) in (0u32..).zip(population(120)) {
        if builder.push_floats(series, Times::Own(&times), 0, &values, Effort::Flush) == 0 {
            break;
        }
    }
    let blocks = builder.len();
    let mut page = Vec::new();
    builder.finish(&mut page);
    println!("  a page of {} B holds {blocks} blocks of 120 values", page.len());
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("open a page of 32 KiB", |b| b.iter(|| Page::open(black_box(&page[..])).is_ok()));
    group.finish();
}

criterion_group!(benches, measure);
criterion_main!(benches);
