//! Fills a store with lines of four kinds and asks it what dashboards ask; prints what it cost.
//!
//! `cargo run --profile quick -p pilothouse-logs --example measure -- [megabytes] [streams]`

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use pilothouse_logs::{Store, StoreOptions};
use pilothouse_model::logs::{
    EntryRun, LineDemand, LineNeed, Literal, LogBatch, LogSelection, MetadataNeed, ReadOrder, TimeBuckets,
};
use pilothouse_model::{
    Budget, EntryBatch, EntrySink as _, EntrySource as _, EntryVisitor, Flow, Labels, Matcher, SourceError,
    StreamQuery,
};

type Failure = Box<dyn std::error::Error>;

const LINES: usize = 1_000;
const NEEDLE: &str = "f00dfacecafe0123456789abcdef4242";

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Low ranks are frequent.
    fn rank(&mut self, n: u64) -> usize {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((n as f64).powf(unit) - 1.0) as usize
    }
}

struct Corpus {
    numbers: Numbers,
    words: Vec<String>,
    streams: Vec<Labels>,
    apps: u64,
}

impl Corpus {
    fn new(streams: u64) -> Self {
        let mut numbers = Numbers(1);
        let letters = b"etaoinshrdlucmfwypvbgkjqxz";
        let mut words: Vec<String> =
            ["connection", "timeout", "request", "failed", "user"].map(String::from).into();
        for _ in 0..8_000 {
            let n = 3 + numbers.below(8);
            words.push((0..n).map(|_| char::from(letters[numbers.rank(26)])).collect());
        }
        let apps = (streams / 5).clamp(6, 60);
        let streams = (0..streams).map(|i| {
            let (app, pod) = (format!("app-{}", i % apps), format!("app-{}-{:05x}", i % apps, i * 7919));
            Labels::from_pairs([("app", &*app), ("cluster", "prod"), ("pod", &*pod), ("namespace", "team")])
        });
        let streams = streams.collect();
        Self { numbers, words, streams, apps }
    }

    fn message(&mut self, out: &mut String) {
        for _ in 0..4 + self.numbers.below(9) {
            let rank = self.numbers.rank(self.words.len() as u64);
            out.push_str(&self.words[rank]);
            out.push(' ');
        }
    }

    fn line(&mut self, app: u64, t_ns: i64, out: &mut String) {
        let (trace, other) = (self.numbers.next(), self.numbers.next());
        let (id, took) = (self.numbers.below(2_000_000), self.numbers.below(2_000_000));
        let status = [200, 200, 200, 201, 404, 500][self.numbers.below(6) as usize];
        let level = ["info", "info", "info", "debug", "warn", "error"][self.numbers.below(6) as usize];
        let clock = t_ns / 1_000_000;
        let _ = match app % 3 {
            0 => write!(
                out,
                "{{\"ts\":{clock},\"level\":\"{level}\",\"status\":{status},\"duration_ms\":{}.{:03},\"path\":\"/api/v1/items/{id}\",\"trace_id\":\"{trace:016x}{other:016x}\",\"msg\":\"",
                took / 1000,
                took % 1000
            ),
            1 => write!(
                out,
                "ts={clock} level={level} caller=server.go:{} status={status} duration={took}us trace={trace:016x}{other:016x} msg=\"",
                id % 400
            ),
            _ => write!(
                out,
                "10.{}.{}.{} - - [{clock}] \"GET /api/v1/items/{id}?page={} HTTP/1.1\" {status} {took} \"Mozilla/5.0 (X11; Linux x86_64)\" {trace:016x}{other:016x} \"",
                id % 250,
                took % 250,
                id % 200,
                id % 40
            ),
        };
        self.message(out);
        out.push('"');
    }

    /// The lines of one shipper, in time order.
    fn batch(&mut self, group: u64, start_ns: i64, gap_ns: i64, needle: bool) -> LogBatch {
        let mut lines: Vec<(u64, i64, String)> = Vec::with_capacity(LINES);
        let members = self.streams.len() as u64 / 16;
        for i in 0..LINES {
            let stream = group + 16 * self.numbers.rank(members) as u64;
            let t_ns = start_ns + i as i64 * gap_ns;
            let mut text = String::new();
            self.line(stream % self.apps, t_ns, &mut text);
            if needle && i == 500 {
                text.push_str(NEEDLE);
            }
            lines.push((stream, t_ns, text));
        }
        lines.sort_by_key(|l| l.0);
        let mut batch = LogBatch::default();
        for part in lines.chunk_by(|a, b| a.0 == b.0) {
            batch.begin_stream(self.streams[part[0].0 as usize].clone());
            for (_, t_ns, text) in part {
                batch.push(*t_ns, text, Labels::empty());
            }
        }
        batch
    }
}

/// Seconds of processor time that this process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn disk_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|e| if e.path().is_dir() { disk_bytes(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) })
        .sum()
}

/// Counts lines that contain a text, as a line filter would find them.
struct Counter {
    needle: Option<memchr::memmem::Finder<'static>>,
    entries: AtomicU64,
    buckets: bool,
}

impl EntryVisitor for Counter {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        let n = match &self.needle {
            None => batch.len() as u64,
            Some(finder) => {
                let (mut n, mut from) = (0, 0usize);
                let bytes = batch.text.as_bytes();
                while let Some(at) = bytes.get(from..).and_then(|b| finder.find(b)) {
                    let line = batch.bounds.partition_point(|b| *b as usize <= from + at);
                    n += 1;
                    from = batch.bounds.get(line).map_or(bytes.len(), |b| *b as usize);
                }
                n
            }
        };
        self.entries.fetch_add(n, Relaxed);
        Ok(Flow::Continue)
    }

    fn run(&self, run: &EntryRun<'_>) -> Result<Flow, SourceError> {
        assert!(self.buckets);
        self.entries.fetch_add(run.entries, Relaxed);
        Ok(Flow::Continue)
    }
}

fn ask(
    store: &Store,
    name: &str,
    selection: &LogSelection,
    needle: Option<&'static str>,
) -> Result<(), Failure> {
    let mut best = f64::MAX;
    let mut told = String::new();
    let cpu = cpu_seconds();
    for _ in 0..5 {
        let needle = needle.map(memchr::memmem::Finder::new);
        let counter = Counter { needle, entries: AtomicU64::new(0), buckets: selection.buckets.is_some() };
        let began = Instant::now();
        let report = store.read(selection, &counter, &Budget::unlimited())?;
        best = best.min(began.elapsed().as_secs_f64() * 1e3);
        told = format!(
            "{} found, {} of {} blocks read, {} MB decompressed",
            counter.entries.load(Relaxed),
            report.blocks - report.blocks_pruned,
            report.blocks,
            report.decompressed_bytes >> 20
        );
    }
    println!("{name:24} {best:9.2} ms wall, {:7.1} ms cpu   {told}", (cpu_seconds() - cpu) * 200.0);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let megabytes: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(300);
    let streams: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(320);
    let dir = std::env::temp_dir().join(format!("pilothouse-logs-measure-{}", std::process::id()));
    let store = Store::open(&dir, StoreOptions::default())?;
    let mut corpus = Corpus::new(streams);
    let now_ns = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as i64;
    let (start_ns, span_ns) = (now_ns - 3_700_000_000_000, 3_600_000_000_000);
    let rounds = (megabytes << 20) / (16 * LINES as u64 * 240);
    let slice_ns = span_ns / rounds.max(1) as i64;
    let (mut spent, mut raw, mut entries) = (0.0, 0u64, 0u64);
    let began = Instant::now();
    for round in 0..rounds {
        for group in 0..16 {
            let needle = round == rounds / 2 && group == 7;
            let batch =
                corpus.batch(group, start_ns + round as i64 * slice_ns, slice_ns / LINES as i64, needle);
            let cpu = Instant::now();
            let appended = store.append(&batch)?;
            spent += cpu.elapsed().as_secs_f64();
            raw += appended.bytes;
            entries += appended.entries;
        }
    }
    println!(
        "{entries} entries, {} MB raw, {:.1} s with the generator",
        raw >> 20,
        began.elapsed().as_secs_f64()
    );
    println!("append calls: {:.2} s wall", spent);
    let cpu = cpu_seconds();
    std::thread::sleep(std::time::Duration::from_secs(3));
    println!("cpu so far {cpu:.1} s (with the generator), then {:.1} s in 3 s of rest", cpu_seconds() - cpu);
    let stats = store.stats();
    println!(
        "tail {} MB, fresh {} blocks, {} committed; blocks {:.4} of raw; rss {} MB anon {} MB",
        stats.tail_bytes >> 20,
        stats.fresh_blocks,
        stats.committed_blocks,
        stats.committed_bytes as f64 / stats.committed_raw_bytes.max(1) as f64,
        memory("VmRSS"),
        memory("RssAnon"),
    );
    queries(&store, start_ns, now_ns)?;
    println!("rss {} MB anon {} MB", memory("VmRSS"), memory("RssAnon"));
    store.close()?;
    let days = disk_bytes(&dir.join("day"));
    println!(
        "disk {:.4} of raw, {:.4} with log and catalog",
        days as f64 / raw as f64,
        disk_bytes(&dir) as f64 / raw as f64
    );
    drop(store);
    let began = Instant::now();
    let store = Store::open(&dir, StoreOptions::default())?;
    println!("open {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    queries(&store, start_ns, now_ns)?;
    drop(store);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn queries(store: &Store, start_ns: i64, end_ns: i64) -> Result<(), Failure> {
    let all = || LogSelection::all(vec![Matcher::equal("cluster", "prod")], start_ns, end_ns);
    let demand = |text: &str| {
        vec![LineDemand { alternatives: vec![vec![Literal { text: text.to_owned(), fold_case: false }]] }]
    };
    let filtered =
        |text: &str| LogSelection { demands: demand(text), metadata: MetadataNeed::Nothing, ..all() };
    ask(store, "needle", &filtered(NEEDLE), Some(NEEDLE))?;
    ask(store, "needle, substring", &filtered(&NEEDLE[1..]), Some(&NEEDLE[1..]))?;
    ask(
        store,
        "absent",
        &filtered("0123456789abcdef0123456789abcdee"),
        Some("0123456789abcdef0123456789abcdee"),
    )?;
    ask(store, "frequent word", &filtered("connection"), Some("connection"))?;
    ask(
        store,
        "scan of all",
        &LogSelection { metadata: MetadataNeed::Nothing, ..all() },
        Some("zzzzqqqqzzzz"),
    )?;
    let buckets = TimeBuckets { origin_ns: start_ns, period_ns: 300_000_000_000 };
    let counted = LogSelection {
        lines: LineNeed::Nothing,
        metadata: MetadataNeed::Nothing,
        buckets: Some(buckets),
        ..all()
    };
    ask(store, "count by 5m", &counted, None)?;
    let fine = LogSelection { buckets: Some(TimeBuckets { period_ns: 5_000_000_000, ..buckets }), ..counted };
    ask(store, "count by 5s", &fine, None)?;
    let pod =
        LogSelection { matchers: vec![Matcher::equal("app", "app-3")], order: ReadOrder::Newest, ..all() };
    ask(store, "one app", &pod, None)?;
    let query = StreamQuery { matcher_sets: Vec::new(), start_ns, end_ns };
    let began = Instant::now();
    let values = store.label_values("pod", &query, &Budget::unlimited())?;
    println!("label values {:.2} ms ({})", began.elapsed().as_secs_f64() * 1e3, values.len());
    let began = Instant::now();
    let volume = store.volume(&query, 0, &Budget::unlimited())?;
    println!("volume {:.2} ms ({})", began.elapsed().as_secs_f64() * 1e3, volume.len());
    Ok(())
}
