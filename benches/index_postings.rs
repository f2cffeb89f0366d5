//! The index with 250,000 series of twelve labels: 250 instances of a thousand series each.
#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pilothouse_index::{Index, Page, PageWriter, label_names, label_values, resolve};
use pilothouse_model::{Budget, Labels, MatchOp, Matcher};

const INSTANCES: u32 = 250;
const METRICS: u32 = 100;
const CHILDREN: u32 = 10;
const SERIES: u32 = INSTANCES * METRICS * CHILDREN;

fn labels(id: u32) -> Labels {
    let (instance, metric, child) = (id / (METRICS * CHILDREN), id / CHILDREN % METRICS, id % CHILDREN);
    Labels::from_pairs([
        ("__name__", format!("node_subsystem_metric_{metric}_total")),
        ("instance", format!("10.20.{}.{}:9100", instance / 50, instance % 50)),
        ("job", format!("job-{}", instance % 10)),
        ("cluster", "production-eu-west".to_owned()),
        ("namespace", format!("namespace-{}", instance % 20)),
        ("pod", format!("workload-{}-{:08x}", instance % 30, instance * 2_654_435_761_u64 as u32)),
        ("container", format!("container-{}", instance % 5)),
        ("region", format!("fr-par-{}", instance % 3)),
        ("device", format!("device{child}")),
        ("mode", ["user", "system", "idle", "iowait"][child as usize % 4].to_owned()),
        ("team", format!("team-{}", metric % 12)),
        ("version", format!("1.{}.0", instance % 4)),
    ])
}

fn filled() -> (Index, Vec<Labels>) {
    let mut index = Index::new();
    let all: Vec<Labels> = (0..SERIES).map(labels).collect();
    for (id, labels) in (0..).zip(&all) {
        index.insert(id, labels).unwrap();
    }
    (index, all)
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).unwrap()
}

fn pages(all: &[Labels], series_per_page: usize) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    for (chunk, series) in (0u32..).zip(all.chunks(series_per_page)) {
        let mut page = PageWriter::new();
        for (i, labels) in (0u32..).zip(series) {
            page.push(chunk * series_per_page as u32 + i, 20_000, labels).unwrap();
        }
        pages.push(page.finish());
    }
    pages
}

fn load(pages: &[Vec<u8>]) -> Index {
    let mut index = Index::new();
    for page in pages {
        index.insert_page(&Page::decode(page).unwrap());
    }
    index
}

fn matching(c: &mut Criterion, index: &mut Index) {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let budget = Budget::unlimited();
    let name = || matcher(Equal, "__name__", "node_subsystem_metric_7_total");
    let cases = [
        ("two equal", vec![name(), matcher(Equal, "instance", "10.20.3.7:9100")]),
        ("set of 2 among 250", vec![matcher(Regex, "instance", "10.20.3.7:9100|10.20.1.1:9100")]),
        ("prefix", vec![matcher(Regex, "instance", "10.20.3.*")]),
        ("regex over 250 values", vec![matcher(Regex, "instance", ".*[37]:91.0")]),
        ("union of 250k series", vec![matcher(Regex, "instance", ".*:9...")]),
        ("name and regex", vec![name(), matcher(Regex, "pod", "workload-(1|2)-.*")]),
        ("negative", vec![name(), matcher(NotEqual, "mode", "idle"), matcher(NotRegex, "job", "job-[12]")]),
        ("missing label", vec![name(), matcher(Equal, "absent", "")]),
    ];
    for (label, set) in &cases {
        c.bench_function(&format!("resolve {label}, warm"), |b| {
            b.iter(|| resolve(black_box(&*index), set, &budget).unwrap().len())
        });
    }
    // A value that comes and goes makes the kept answers wrong, so each try is the first.
    let churn = Labels::from_pairs([("instance", "x"), ("pod", "x"), ("job", "x")]);
    for (label, set) in &cases {
        c.bench_function(&format!("resolve {label}, after a change"), |b| {
            b.iter_custom(|rounds| {
                let mut took = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    index.insert(SERIES, &churn).unwrap();
                    index.remove(SERIES);
                    let started = std::time::Instant::now();
                    black_box(resolve(&*index, set, &budget).unwrap().len());
                    took += started.elapsed();
                }
                took
            })
        });
    }
}

fn reading(c: &mut Criterion, index: &Index, all: &[Labels]) {
    let budget = Budget::unlimited();
    c.bench_function("label names within a selection", |b| {
        let set = vec![vec![matcher(MatchOp::Equal, "job", "job-3")]];
        b.iter(|| label_names(index, &set, &budget).unwrap().len())
    });
    c.bench_function("250 label values within a selection", |b| {
        let set = vec![vec![matcher(MatchOp::Equal, "mode", "idle")]];
        b.iter(|| label_values(index, "instance", &set, &budget).unwrap().len())
    });
    c.bench_function("labels of 250k series cut to 2", |b| {
        b.iter(|| {
            let mut projection = index.projection(&["job", "mode"]);
            index.ids().iter().filter_map(|id| projection.labels(id)).count()
        })
    });
    c.bench_function("labels of 10k series", |b| {
        b.iter(|| (0..10_000).filter_map(|id| index.labels(id * 25)).count())
    });
    c.bench_function("find 10k series by labels", |b| {
        b.iter(|| all.iter().step_by(25).filter_map(|labels| index.get(labels)).count())
    });
    c.bench_function("cardinality", |b| b.iter(|| index.cardinality(10).label_pairs));
}

fn benches(c: &mut Criterion) {
    let (mut index, all) = filled();
    println!("memory: {} bytes a series", index.memory_bytes() / SERIES as usize);
    for size in [64, 128, 256, 1024, 4096] {
        let bytes: usize = pages(&all, size).iter().map(Vec::len).sum();
        println!("pages of {size}: {:.1} bytes a series", bytes as f64 / f64::from(SERIES));
    }
    matching(c, &mut index);
    reading(c, &index, &all);
    let stored = pages(&all, 1024);
    c.bench_function("load 250k series from pages", |b| b.iter(|| load(&stored).len()));
    c.bench_function("insert 250k series", |b| {
        b.iter(|| {
            let mut index = Index::new();
            for (id, labels) in (0..).zip(&all) {
                index.insert(id, labels).unwrap();
            }
            index.len()
        })
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = benches
}
criterion_main!(all);
