//! A store of full size, measured once: how fast it takes samples, what it holds in memory, what
//! it takes on the disk, how fast it answers and starts again.
//!
//! `cargo bench -p pilothouse-metrics --bench large -- [series] [steps] [days]`; 250,000 series,
//! two hours of 15 s and no closed days unless told.

// A measurement that cannot be made may end with a panic.
#![allow(clippy::expect_used)]

#[allow(dead_code)]
#[path = "../crates/metrics/src/codec/hard_mix.rs"]
mod hard_mix;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pilothouse_metrics::{Store, StoreOptions};
use pilothouse_model::limits::Limits;
use pilothouse_model::time::DAY_MS;
use pilothouse_model::write::{BatchSeries, FloatSample, MalformedLabels, RawPair, WriteBatch};
use pilothouse_model::{
    Budget, Clock, LabelNeeds, MatchOp, Matcher, SampleColumns, SampleSink as _, Selection, SeriesSource as _,
};
use rayon::prelude::*;

#[derive(Debug)]
struct Manual(AtomicI64);

impl Clock for Manual {
    fn now_ms(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

const PER_TARGET: usize = 500;
const PER_BATCH: usize = 2_000;
const KINDS: usize = 2_000;
const STEP_MS: i64 = 15_000;

fn read_labels<'a>(raw: &'a [u8], pairs: &mut Vec<RawPair<'a>>) -> Result<(), MalformedLabels> {
    for line in raw.split(|b| *b == 0).filter(|l| !l.is_empty()) {
        let at = line.iter().position(|b| *b == b'=').ok_or(MalformedLabels)?;
        pairs.push((&line[..at], &line[at + 1..]));
    }
    Ok(())
}

fn raw_labels(series: usize, generation: usize) -> String {
    let (target, metric) = (series / PER_TARGET, series % PER_TARGET);
    format!(
        "__name__=metric_{}_total\0cluster=prod-eu-west-1\0container=main\0endpoint=http\0\
         handler=/api/v1/items/{}\0instance=10.{}.{}.{}:8080\0job=service-{}\0namespace=team-{}\0\
         node=ip-10-0-{}.internal\0pod=service-{}-{generation}-{target}\0region=eu\0zone={}\0",
        metric / 10,
        metric % 10,
        target % 7,
        target / 250,
        target % 250,
        target % 40,
        target % 12,
        target % 30,
        target % 40,
        target % 3,
    )
}

fn batches(series: usize, generation: usize) -> Vec<WriteBatch> {
    (0..series)
        .step_by(PER_BATCH)
        .map(|first| {
            let mut batch = WriteBatch::new(read_labels);
            for i in first..(first + PER_BATCH).min(series) {
                let start = batch.arena.len() as u32;
                batch.arena.extend_from_slice(raw_labels(i, generation).as_bytes());
                let labels = start..batch.arena.len() as u32;
                let key = xxhash_rust::xxh3::xxh3_128(&batch.arena[start as usize..]);
                let at = batch.floats.len() as u32;
                batch.floats.push(FloatSample { t_ms: 0, value: 0.0 });
                let (floats, none) = (at..at + 1, 0..0);
                batch.series.push(BatchSeries {
                    key,
                    labels,
                    floats,
                    histograms: none.clone(),
                    exemplars: none,
                });
            }
            batch
        })
        .collect()
}

fn status_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Time that this thread was on a processor.
fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

struct Load {
    clock: Arc<Manual>,
    values: Vec<Vec<f64>>,
}

impl Load {
    /// Pushes some steps of all batches; answers the processor time spent in `append`.
    fn push(&self, store: &Store, batches: &mut [WriteBatch], steps: std::ops::Range<usize>) -> Duration {
        let mut spent = Duration::ZERO;
        for step in steps {
            let t = self.clock.0.fetch_add(STEP_MS, Relaxed);
            for (b, batch) in batches.iter_mut().enumerate() {
                for (i, sample) in batch.floats.iter_mut().enumerate() {
                    let series = b * PER_BATCH + i;
                    sample.t_ms = t + (series / PER_TARGET) as i64 % 14_000;
                    sample.value = self.values[series % KINDS][step % self.values[0].len()];
                }
                let began = thread_cpu();
                let appended = store.append(batch).expect("append");
                spent += thread_cpu().saturating_sub(began);
                assert_eq!(appended.rejected, 0, "{appended:?}");
            }
        }
        spent
    }
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (began, cpu) = (Instant::now(), cpu_s());
    let result = work();
    println!(
        "{what:<44} {:>9.1} ms wall {:>8.0} ms cpu",
        began.elapsed().as_secs_f64() * 1e3,
        (cpu_s() - cpu) * 1e3
    );
    result
}

fn select(
    store: &Store,
    matchers: Vec<Matcher>,
    range: (i64, i64),
    needs: LabelNeeds,
) -> Vec<pilothouse_model::SelectedSeries> {
    let selection = Selection { matchers, start_ms: range.0, end_ms: range.1, needs };
    store.select(&selection, &Budget::unlimited()).expect("select")
}

fn queries(store: &Store, now: i64) {
    let any = || vec![Matcher::new(MatchOp::Regex, "__name__", ".+").expect("regex")];
    let none = || LabelNeeds::Only(Arc::from([]));
    for (name, at) in [("now", now), ("10 min ago", now - 600_000)] {
        let range = (at - 300_000, at);
        let selected =
            timed(&format!("select everything, no labels, {name}"), || select(store, any(), range, none()));
        let found: usize = timed(&format!("  latest of {} series", selected.len()), || {
            selected
                .par_iter()
                .filter(|s| s.samples.latest(range.0, range.1).expect("latest").is_some())
                .count()
        });
        println!("  {found} found");
    }
    timed("select everything with labels", || {
        select(store, any(), (now - 300_000, now), LabelNeeds::All).len()
    });
    let one = || vec![Matcher::equal("__name__", "metric_7_total")];
    for hours in [1, 2, 24, 48] {
        let range = (now - hours * 3_600_000, now);
        let selected = select(store, one(), range, LabelNeeds::All);
        for again in ["", " again"] {
            let samples: usize =
                timed(&format!("read {} series over {hours} h{again}", selected.len()), || {
                    selected
                        .par_iter()
                        .map_init(SampleColumns::default, |columns, s| {
                            s.samples.read(range.0, range.1, columns).expect("read");
                            columns.len()
                        })
                        .sum()
                });
            println!("  {samples} samples");
        }
    }
}

fn disk_bytes(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => disk_bytes(&e.path()),
            Ok(m) => m.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

fn report(store: &Store, path: &std::path::Path) {
    let stats = store.stats();
    let wal = disk_bytes(&path.join("wal"));
    let samples = stats.appended_floats.max(1) as f64;
    println!(
        "rss {:.0} MB (peak {:.0}), head {:.0} MB in {} samples, index {:.0} MB, page cache {:.0} MB",
        status_mb("VmRSS"),
        status_mb("VmHWM"),
        stats.head_bytes as f64 / 1e6,
        stats.head_samples,
        stats.index_bytes as f64 / 1e6,
        stats.page_cache.bytes as f64 / 1e6,
    );
    println!(
        "disk {:.1} MB ({:.3} B a flushed sample), log {:.1} MB ({:.2} B a sample written), {} flushes",
        stats.disk_bytes as f64 / 1e6,
        stats.disk_bytes as f64 / stats.flushed_samples.max(1) as f64,
        wal as f64 / 1e6,
        stats.wal.appended_bytes as f64 / samples,
        stats.flushes,
    );
}

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let series = args.first().copied().unwrap_or(250_000);
    let steps = args.get(1).copied().unwrap_or(480);
    let days = args.get(2).copied().unwrap_or(0);
    let dir = tempfile::tempdir().expect("directory");
    let start = 20_000 * DAY_MS + 3_600_000;
    let clock = Arc::new(Manual(AtomicI64::new(start)));
    let options = || StoreOptions {
        clock: clock.clone(),
        limits: Limits { max_active_series: 0, ..Limits::default() }.into(),
        ..StoreOptions::default()
    };
    let values = (0..KINDS).map(|i| hard_mix::values(i, 5_760)).collect();
    let load = Load { clock: clock.clone(), values };
    let store = timed("open empty", || Store::open(dir.path(), options()).expect("open"));
    for day in 0..days {
        let mut batches = batches(series, day);
        timed(&format!("a day of {steps} steps"), || load.push(&store, &mut batches, 0..steps));
        clock.0.fetch_max(start + (day as i64 + 1) * DAY_MS, Relaxed);
        timed("  compact", || store.compact_now().expect("compact"));
        report(&store, dir.path());
    }
    let mut batches = batches(series, days);
    let before = status_mb("VmRSS");
    let spent = timed("first step: every series new", || load.push(&store, &mut batches, 0..1));
    println!(
        "  {:.0} ns a series, {:.0} bytes of memory each",
        spent.as_nanos() as f64 / series as f64,
        (status_mb("VmRSS") - before) * 1024.0 * 1024.0 / series as f64
    );
    let cpu = cpu_s();
    let spent = timed(&format!("{} steps", steps - 1), || load.push(&store, &mut batches, 1..steps));
    let samples = (series * (steps - 1)) as f64;
    println!(
        "  append {:.0} ns a sample; process {:.0} ns cpu a sample",
        spent.as_nanos() as f64 / samples,
        (cpu_s() - cpu) * 1e9 / samples
    );
    std::thread::sleep(Duration::from_secs(3));
    report(&store, dir.path());
    let now = clock.0.load(Relaxed);
    queries(&store, now);
    report(&store, dir.path());
    // As after kill -9: nothing is sealed.
    let copy = tempfile::tempdir().expect("directory");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(dir.path()).arg(copy.path().join("s")).status();
    assert!(copied.is_ok_and(|s| s.success()));
    timed("close", || store.close().expect("close"));
    drop(store);
    let store = timed("open after a clean end", || Store::open(dir.path(), options()).expect("open"));
    report(&store, dir.path());
    drop(store);
    let store = timed("open after a crash", || Store::open(&copy.path().join("s"), options()).expect("open"));
    println!("  {} records replayed", store.stats().replayed_records);
    queries(&store, now);
    timed("compact the day", || store.compact_now().expect("compact"));
    report(&store, &copy.path().join("s"));
    queries(&store, now);
}
