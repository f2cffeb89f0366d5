//! Decoding a push of 5,000 lines in 10 streams, with what is added to each entry: bytes of plain
//! body per second. The marks: 500 MB/s for protobuf, 300 MB/s for JSON, 1 GB/s for the level of
//! lines that name it near their front.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilothouse_model::limits::Limits;
use pilothouse_wire::logs::{Enricher, PushFormat, decode};

const STREAMS: usize = 10;
const LINES: usize = 500;

fn logfmt(i: usize) -> String {
    let level = ["info", "debug", "warn", "error"][i % 4];
    format!(
        "ts=2026-08-01T10:{:02}:{:02}Z level={level} caller=handler.go:{} method=GET path=/api/v1/items/{} status={} duration={}ms user=u{} msg=\"request served\"",
        i / 60 % 60,
        i % 60,
        i % 400,
        i * 7919 % 100_000,
        200 + i % 5,
        i % 900,
        i % 50
    )
}

fn json(i: usize) -> String {
    let level = ["info", "debug", "warn", "error"][i % 4];
    format!(
        r#"{{"time":"2026-08-01T10:00:{:02}Z","level":"{level}","logger":"http","request":{{"method":"GET","path":"/api/v1/items/{}","id":"{:016x}"}},"status":{},"took_ms":{},"msg":"request served"}}"#,
        i % 60,
        i * 7919 % 100_000,
        i * 0x9e37_79b9,
        200 + i % 5,
        i % 900
    )
}

fn plain(i: usize) -> String {
    format!(
        "Aug 01 10:00:{:02} host-{} sshd[{}]: Accepted publickey for deploy from 10.0.{}.{} port {} ssh2: key {:016x} and nothing more to see here",
        i % 60,
        i % 9,
        1000 + i,
        i % 200,
        i % 250,
        40_000 + i,
        i * 0x9e37_79b9
    )
}

fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    let mut n = bytes.len();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend_from_slice(bytes);
}

fn as_protobuf(line: fn(usize) -> String) -> Vec<u8> {
    let mut body = Vec::new();
    for s in 0..STREAMS {
        let mut stream = Vec::new();
        push_bytes(
            &mut stream,
            1,
            format!("{{app=\"shop-{s}\", cluster=\"eu-1\", namespace=\"prod\", pod=\"p-{s}\"}}").as_bytes(),
        );
        for i in 0..LINES {
            let mut entry = Vec::new();
            push_bytes(&mut entry, 1, &[0x08, 0x80, 0xe2, 0xcf, 0xaa, 0x06, 0x10, i as u8 & 0x7f]);
            push_bytes(&mut entry, 2, line(s * LINES + i).as_bytes());
            push_bytes(&mut stream, 2, &entry);
        }
        push_bytes(&mut body, 1, &stream);
    }
    body
}

fn as_json(line: fn(usize) -> String) -> Vec<u8> {
    let streams: Vec<String> = (0..STREAMS)
        .map(|s| {
            let values: Vec<String> = (0..LINES)
                .map(|i| {
                    let line = line(s * LINES + i).replace('\\', "\\\\").replace('"', "\\\"");
                    format!("[\"17000000000000{i:05}\",\"{line}\"]")
                })
                .collect();
            format!(
                "{{\"stream\":{{\"app\":\"shop-{s}\",\"namespace\":\"prod\"}},\"values\":[{}]}}",
                values.join(",")
            )
        })
        .collect();
    format!("{{\"streams\":[{}]}}", streams.join(",")).into_bytes()
}

/// A name, and what makes its lines.
type Kind = (&'static str, fn(usize) -> String);

fn decoding(c: &mut Criterion) {
    let (enricher, limits) = (Enricher::default(), Limits::default());
    let mut group = c.benchmark_group("loki_push");
    let kinds: [Kind; 3] = [("logfmt", logfmt), ("json", json), ("plain", plain)];
    for (kind, line) in kinds {
        for (name, format, body) in
            [("protobuf", PushFormat::Protobuf, as_protobuf(line)), ("json", PushFormat::Json, as_json(line))]
        {
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(format!("{name}/{kind} lines"), |b| {
                b.iter(|| decode(format, &body, &enricher, &limits).map(|d| d.batch.entries.len()));
            });
        }
    }
    group.finish();
}

fn levels(c: &mut Criterion) {
    let enricher = Enricher::default();
    let mut group = c.benchmark_group("line_level");
    let kinds: [Kind; 3] = [("logfmt", logfmt), ("json", json), ("plain", plain)];
    for (kind, line) in kinds {
        let lines: Vec<String> = (0..LINES).map(line).collect();
        group.throughput(Throughput::Bytes(lines.iter().map(|l| l.len() as u64).sum()));
        group.bench_function(kind, |b| {
            b.iter(|| lines.iter().map(|line| enricher.line_level(line) as u64).sum::<u64>());
        });
    }
    group.finish();
}

criterion_group!(benches, decoding, levels);
criterion_main!(benches);
