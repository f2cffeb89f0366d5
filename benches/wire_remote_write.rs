//! Decoding a request of 2,000 series with 12 labels and one sample each, as an agent sends them:
//! time per series. The mark is 150 ns for version 1.0.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pilothouse_model::limits::Limits;
use pilothouse_wire::body::{self, Encoding};
use pilothouse_wire::remote_write::{Message, decode};

const SERIES: usize = 2_000;

fn push_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn push_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn labels(series: usize) -> Vec<(String, String)> {
    [
        ("__name__", format!("container_network_receive_packets_{}_total", series % 40)),
        ("cluster", "production-eu-west-1".to_owned()),
        ("container", format!("sidecar-{}", series % 7)),
        ("endpoint", "https-metrics".to_owned()),
        ("id", format!("/kubepods/burstable/pod{:032x}", series as u128 * 0x9e37_79b9_7f4a_7c15)),
        ("image", "registry.example.com/team/service:v1.42.7".to_owned()),
        ("instance", format!("10.2.{}.{}:10250", series / 250 % 250, series % 250)),
        ("job", "kubelet".to_owned()),
        ("metrics_path", "/metrics/cadvisor".to_owned()),
        ("namespace", format!("team-{}", series % 13)),
        ("node", format!("ip-10-2-{}-{}.eu-west-1.compute.internal", series / 250 % 250, series % 250)),
        ("pod", format!("service-{:08x}-{:05x}", series * 7919, series)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn sample(series: usize) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend_from_slice(&(series as f64 * 1.5).to_le_bytes());
    out.push(0x10);
    push_varint(&mut out, 1_764_000_000_000 + series as u64 % 15_000);
    out
}

fn version_1() -> Vec<u8> {
    let mut body = Vec::new();
    for series in 0..SERIES {
        let mut message = Vec::new();
        for (name, value) in labels(series) {
            let mut label = Vec::new();
            push_field(&mut label, 1, name.as_bytes());
            push_field(&mut label, 2, value.as_bytes());
            push_field(&mut message, 1, &label);
        }
        push_field(&mut message, 2, &sample(series));
        push_field(&mut body, 1, &message);
    }
    body
}

fn version_2() -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut places = std::collections::HashMap::new();
    let mut all = Vec::new();
    for series in 0..SERIES {
        let (mut refs, mut message) = (Vec::new(), Vec::new());
        for text in labels(series).into_iter().flat_map(|(name, value)| [name, value]) {
            let place = *places.entry(text.clone()).or_insert_with(|| {
                symbols.push(text);
                symbols.len() - 1
            });
            push_varint(&mut refs, place as u64);
        }
        push_field(&mut message, 1, &refs);
        push_field(&mut message, 2, &sample(series));
        push_field(&mut all, 5, &message);
    }
    let mut body = Vec::new();
    symbols.iter().for_each(|symbol| push_field(&mut body, 4, symbol.as_bytes()));
    body.extend(all);
    body
}

fn decoding(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("remote_write");
    group.throughput(Throughput::Elements(SERIES as u64));
    for (name, message, plain) in [("v1", Message::V1, version_1()), ("v2", Message::V2, version_2())] {
        let compressed = body::snappy(&plain);
        group.bench_function(format!("{name}/decode"), |b| {
            b.iter_batched(
                || plain.clone(),
                |body| decode(message, body, &limits).map(|d| d.batch.series.len()),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("{name}/snappy and decode"), |b| {
            b.iter(|| {
                let body = body::decompress(Encoding::Snappy, &compressed, 100 << 20).unwrap_or_default();
                decode(message, body, &limits).map(|d| d.batch.series.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decoding);
criterion_main!(benches);
