//! Whether rules keep up: 500 groups of 10 rules, each over 100 series, every 15 seconds.
//!
//! ```sh
//! cargo bench -p pilothouse-benches --bench rules_throughput --profile quick
//! ```
//!
//! A store on disk is filled with 50,000 series; the clock of the ruler is moved slot by slot, as
//! fast as the work goes. What is printed is the time that one interval of work takes: below
//! 15 seconds by as much as there shall be room for everything else. Half of the rules record,
//! half alert with labels and annotations that are templates; all alerts fire.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use pilothouse_metrics::{Store, StoreOptions};
use pilothouse_model::state::MemoryState;
use pilothouse_model::write::WriteBatch;
use pilothouse_model::{Alert, AlertSink, Clock, Labels, SampleSink as _, SourceError};
use pilothouse_rules::{Data, Parts, RuleSource, Ruler, Settings};

const GROUPS: usize = 500;
const RULES: usize = 10;
const SERIES: usize = 100;
const INTERVAL_MS: i64 = 15_000;
const ROUNDS: i64 = 4;

#[derive(Debug)]
struct Stepped(AtomicI64);

impl Clock for Stepped {
    fn now_ms(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl AlertSink for Counted {
    fn send(&self, alerts: &[Alert]) -> Result<(), SourceError> {
        self.0.fetch_add(alerts.len() as u64, Relaxed);
        Ok(())
    }
}

fn push(store: &Store, t_ms: i64, turn: i64) {
    let mut batch = WriteBatch::of_labels();
    for group in 0..GROUPS {
        for series in 0..SERIES {
            let labels = Labels::from_pairs([
                ("__name__", format!("metric_{group}")),
                ("instance", format!("host-{series}.example.org:9100")),
                ("job", "node".to_owned()),
                ("zone", format!("z{}", series % 4)),
            ]);
            batch.push_float(&labels, t_ms, (series as i64 + turn) as f64);
        }
    }
    store.append(&batch).unwrap();
}

fn group_text(group: usize) -> String {
    let mut text = format!("name: g{group}\ninterval: 15s\nrules:\n");
    for rule in 0..RULES {
        if rule % 2 == 0 {
            text.push_str(&format!(
                "- record: r{rule}:metric_{group}\n  expr: metric_{group} * {}\n",
                rule + 1
            ));
        } else {
            text.push_str(&format!(
                "- alert: A{rule}\n  expr: metric_{group} >= 0\n  for: 0s\n  labels: {{severity: page, group: g{group}}}\n  annotations:\n    summary: '{{{{ $labels.instance }}}} is at {{{{ humanize $value }}}}'\n    static: nothing special\n"
            ));
        }
    }
    text
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let start_ms = 1_700_000_000_000 / INTERVAL_MS * INTERVAL_MS;
    let clock = Arc::new(Stepped(AtomicI64::new(start_ms)));
    let options = StoreOptions { clock: Arc::clone(&clock) as _, ..StoreOptions::default() };
    let limits = pilothouse_model::limits::Limits { max_active_series: 0, ..Default::default() };
    let options = StoreOptions { limits: limits.into(), ..options };
    let store = Store::open(directory.path(), options).unwrap();
    let sent = Arc::new(Counted::default());
    let ruler = Ruler::new(Parts {
        settings: Settings { external_url: Arc::from("http://localhost"), ..Settings::default() },
        clock: Arc::clone(&clock) as _,
        store: Arc::new(MemoryState::default()),
        alerts: Arc::clone(&sent) as _,
        observer: None,
    });
    let source = RuleSource {
        data: Data::Metrics(Arc::new(store.clone())),
        sink: Arc::new(store.clone()),
        written: Arc::new(store.clone()),
    };
    ruler.add_source("m", source).unwrap();
    let began = Instant::now();
    for group in 0..GROUPS {
        ruler.set_group("m", "ns", &group_text(group)).unwrap();
    }
    println!("{GROUPS} groups of {RULES} rules set in {:?}", began.elapsed());
    for round in 0..ROUNDS {
        push(&store, start_ms + round * INTERVAL_MS, round);
        let (began, cpu) = (Instant::now(), cpu_seconds());
        clock.0.store(start_ms + (round + 1) * INTERVAL_MS - 1, Relaxed);
        ruler.step();
        let figures = ruler.figures();
        let evaluations: u64 = figures.groups.iter().map(|g| g.evaluations).sum();
        let failures: u64 = figures.groups.iter().map(|g| g.failures).sum();
        println!(
            "round {round}: {:.2} s in one thread, {:.2} s of processor, {evaluations} evaluations, {failures} failed, {} alerts sent",
            began.elapsed().as_secs_f64(),
            cpu_seconds() - cpu,
            sent.0.load(Relaxed)
        );
    }
}
