//! Parsing, the line filter, and whole queries over blocks of lines as a store would hand them
//! out. Throughput is in lines (queries) or bytes (filter).

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilothouse_logql::{Direction, RangeQuery, parse, query_instant, query_range};
use pilothouse_model::log_ports::{EntrySource, LogStats, StreamVolume, beyond_horizon};
use pilothouse_model::logs::{EntryBatch, LogSelection, ReadOrder};
use pilothouse_model::{Budget, EntryVisitor, Labels, ReadReport, SourceError, StreamQuery};
use rayon::prelude::*;
use std::hint::black_box;

const LINES: usize = 200_000;
const BLOCK_LINES: usize = 800;
const SECOND: i64 = 1_000_000_000;

/// Blocks of one stream each, read in parallel as a store reads them.
struct Blocks {
    labels: Vec<Labels>,
    sets: Vec<Labels>,
    blocks: Vec<Block>,
}

struct Block {
    stream: usize,
    times_ns: Vec<i64>,
    text: String,
    bounds: Vec<u32>,
    metadata: Vec<u32>,
}

fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn line(format: &str, seed: &mut u64) -> String {
    let level = ["info", "info", "warn", "error", "debug"][next(seed) as usize % 5];
    let (id, status, took) =
        (next(seed) % 90_000, [200, 201, 404, 500][next(seed) as usize % 4], next(seed) % 900_000);
    let trace = format!("{:016x}{:016x}", next(seed) * 0x9e37_79b9, next(seed) * 0x85eb_ca6b);
    if format == "json" {
        format!(
            "{{\"ts\":\"2026-11-22T04:53:07.123456Z\",\"level\":\"{level}\",\"caller\":\"orders/handler.go:{}\",\"msg\":\"request completed after {id} steps on behalf of tenant {}\",\"trace_id\":\"{trace}\",\"method\":\"GET\",\"path\":\"/api/v1/orders/{id}\",\"status\":{status},\"duration_ms\":{}.{:03},\"bytes\":{}}}",
            id % 90,
            id % 77,
            took / 1000,
            took % 1000,
            id % 60_000
        )
    } else {
        format!(
            "ts=2026-11-22T04:53:07.123456Z level={level} caller=orders.go:{} component=orders msg=\"request completed after {id} steps\" trace_id={trace} status={status} duration={}ms",
            id % 90,
            took / 1000
        )
    }
}

impl Blocks {
    fn new(format: &str) -> Self {
        let labels = (0..8)
            .map(|i| {
                Labels::from_pairs([("app", "orders"), ("cluster", "prod"), ("pod", &format!("orders-{i}"))])
            })
            .collect();
        let sets = ["info", "warn", "error", "debug"]
            .iter()
            .map(|l| Labels::from_pairs([("detected_level", *l)]))
            .collect();
        let mut seed = 7;
        let blocks = (0..LINES / BLOCK_LINES)
            .map(|b| {
                let (mut text, mut bounds, mut times_ns, mut metadata) =
                    (String::new(), vec![0], Vec::new(), Vec::new());
                for i in 0..BLOCK_LINES {
                    text.push_str(&line(format, &mut seed));
                    bounds.push(text.len() as u32);
                    times_ns.push((b * BLOCK_LINES + i) as i64 * SECOND / 100);
                    metadata.push((next(&mut seed) % 4) as u32);
                }
                Block { stream: b % 8, times_ns, text, bounds, metadata }
            })
            .collect();
        Self { labels, sets, blocks }
    }
}

impl EntrySource for Blocks {
    fn read(
        &self,
        selection: &LogSelection,
        visitor: &dyn EntryVisitor,
        _: &Budget,
    ) -> Result<ReadReport, SourceError> {
        // Blocks ascend in time; threads take them one by one in the wanted order.
        let mut blocks: Vec<&Block> = self.blocks.iter().collect();
        if selection.order == ReadOrder::Newest {
            blocks.reverse();
        }
        blocks.into_iter().par_bridge().try_for_each(|block| {
            let (oldest, newest) = (block.times_ns[0], block.times_ns[BLOCK_LINES - 1]);
            if beyond_horizon(selection.order, visitor.horizon_ns(), oldest, newest) {
                return Ok(());
            }
            visitor
                .batch(&EntryBatch {
                    labels: &self.labels[block.stream],
                    stream: block.stream as u64,
                    times_ns: &block.times_ns,
                    text: &block.text,
                    bounds: &block.bounds,
                    metadata_sets: &self.sets,
                    metadata: &block.metadata,
                })
                .map(drop)
        })?;
        Ok(ReadReport::default())
    }
    fn label_names(&self, _: &StreamQuery, _: &Budget) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }
    fn label_values(&self, _: &str, _: &StreamQuery, _: &Budget) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }
    fn streams(&self, _: &StreamQuery, _: &Budget) -> Result<Vec<Labels>, SourceError> {
        Ok(Vec::new())
    }
    fn stats(&self, _: &StreamQuery, _: &Budget) -> Result<LogStats, SourceError> {
        Ok(LogStats::default())
    }
    fn volume(&self, _: &StreamQuery, _: i64, _: &Budget) -> Result<Vec<StreamVolume>, SourceError> {
        Ok(Vec::new())
    }
}

fn parsing(c: &mut Criterion) {
    let text = r#"sum by (level) (rate({app="orders", env=~"prod|dev"} |= "error" != "timeout" | json a="b.c[0]", d | a > 5 and d = "x" or e <= 10ms | line_format "{{.msg}}" [5m])) / on (level) group_left () sum(count_over_time({app="orders"}[1h] offset 5m))"#;
    c.bench_function("parse", |b| b.iter(|| parse(black_box(text)).map(drop)));
}

fn queries(c: &mut Criterion) {
    let budget = Budget::unlimited();
    let end = LINES as i64 * SECOND / 100;
    let span = end / SECOND + 1;
    let (json, logfmt) = (Blocks::new("json"), Blocks::new("logfmt"));
    let mut group = c.benchmark_group("200k_lines");
    group.sample_size(10).throughput(Throughput::Elements(LINES as u64));
    for (name, source, text) in [
        (
            "contains_frequent",
            &json,
            format!(r#"sum(count_over_time({{app="orders"}} |= "completed" [{span}s]))"#),
        ),
        (
            "contains_absent",
            &json,
            format!(r#"sum(count_over_time({{app="orders"}} |= "nowhere" [{span}s]))"#),
        ),
        (
            "regex_wide",
            &json,
            format!(r#"sum(count_over_time({{app="orders"}} |~ "[0-9][aeiou]+[0-9]" [{span}s]))"#),
        ),
        (
            "json_filter",
            &json,
            format!(r#"sum(count_over_time({{app="orders"}} | json | status >= 500 [{span}s]))"#),
        ),
        (
            "logfmt_filter",
            &logfmt,
            format!(r#"sum(count_over_time({{app="orders"}} | logfmt | level = "error" [{span}s]))"#),
        ),
        ("count_all", &json, format!(r#"count_over_time({{app="orders"}}[{span}s])"#)),
        (
            "unwrap_quantile",
            &json,
            format!(
                r#"quantile_over_time(0.95, {{app="orders"}} | json | unwrap duration_ms [{span}s]) by (app)"#
            ),
        ),
        (
            "json_every_line_a_series",
            &json,
            format!(
                r#"sum(count_over_time({{app="orders"}} | json | drop x | level="info" or status="nothing" [{span}s]) * 0)"#
            ),
        ),
    ] {
        let expr = parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        group.bench_function(name, |b| b.iter(|| query_instant(source, &expr, end, 500, &budget).map(drop)));
    }
    let expr = parse(r#"{app="orders"} | json | status >= 500"#).unwrap_or_else(|e| panic!("{e}"));
    let query = RangeQuery {
        start_ns: 0,
        end_ns: end,
        step_ns: SECOND,
        limit: 100,
        direction: Direction::Backward,
        interval_ns: 0,
        categorize: false,
        max_series: 500,
    };
    group.bench_function("json_filter_limit", |b| {
        b.iter(|| query_range(&json, &expr, &query, &budget).map(drop))
    });
    group.finish();
}

criterion_group!(benches, parsing, queries);
criterion_main!(benches);
