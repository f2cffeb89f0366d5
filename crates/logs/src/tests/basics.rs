//! What is pushed is read back, wherever it lies; what must not be taken is refused by name.

use pilothouse_model::log_ports::EntryReason;
use pilothouse_model::logs::{EntryRun, LineNeed, LogSelection, MetadataNeed, ReadOrder, TimeBuckets};
use pilothouse_model::{ReadReport, StreamQuery};

use super::*;

fn many(n: usize) -> Vec<Entry> {
    let app = |i: usize| labels(&format!("app-{}", i % 7));
    let set = |i: usize| match i % 5 {
        0 => Labels::from_pairs([("trace", &*format!("{:x}", i * 7919)), ("level", "info")]),
        1 => Labels::from_pairs([("level", "warn")]),
        _ => Labels::empty(),
    };
    let text = |i: usize| format!("line {i} of some text about connections {}", "x".repeat(i % 90));
    let mut entries: Vec<Entry> =
        (0..n).map(|i| (app(i), NOON_NS + i as i64 * 1_000_003, text(i), set(i))).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

#[test]
fn entries_are_read_back_from_memory_from_blocks_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let entries = many(20_000);
    let mut model = Model::default();
    for part in entries.chunks(997) {
        let appended = push(&store, part);
        assert_eq!((appended.entries, appended.rejected, appended.duplicates), (part.len() as u64, 0, 0));
        model.add(part);
    }
    let expected = model.entries();
    check_same(&all(&store), &expected, "in memory");
    store.maintain().unwrap();
    check_same(&all(&store), &expected, "partly in blocks");
    store.flush().unwrap();
    check_same(&all(&store), &expected, "on the disk");
    assert_eq!(store.stats().tail_entries, 0);
    for part in entries.chunks(1009) {
        assert_eq!(push(&store, part).duplicates, part.len() as u64);
    }
    check_same(&all(&store), &expected, "after a repeat");
    store.close().unwrap();
    drop(store);
    assert_eq!(std::fs::read_dir(dir.path().join("wal")).unwrap().count(), 0);
    let store = open(dir.path(), &clock);
    check_same(&all(&store), &expected, "after a restart");
    assert_eq!(push(&store, &entries[..500]).duplicates, 500);
    assert_eq!(store.stats().corruptions, 0);
}

#[test]
fn a_killed_store_finds_its_entries_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let entries = many(9_000);
    let mut model = Model::default();
    for (i, part) in entries.chunks(500).enumerate() {
        // Never closed: what is in memory is lost with it.
        let store = open(dir.path(), &clock);
        check_same(&all(&store), &model.entries(), "after the kill");
        push(&store, part);
        model.add(part);
        if i % 3 == 0 {
            store.maintain().unwrap();
        }
        if i % 7 == 0 {
            store.flush().unwrap();
        }
        check_same(&all(&store), &model.entries(), "before the kill");
    }
}

#[test]
fn ranges_and_needs_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let entries = many(6_000);
    push(&store, &entries);
    store.flush().unwrap();
    push(&store, &[line("app-1", NOON_NS + 5, "late"), line("app-9", NOON_NS + 7, "new")]);
    let (start_ns, end_ns) = (NOON_NS + 5, NOON_NS + 3_000 * 1_000_003);
    for matcher in ["app-1", "app-9", "app-[13]"] {
        let matchers = vec![Matcher::new(MatchOp::Regex, "app", matcher).unwrap()];
        let mut expected: Vec<Entry> = entries
            .iter()
            .cloned()
            .chain([line("app-1", NOON_NS + 5, "late"), line("app-9", NOON_NS + 7, "new")])
            .filter(|e| e.1 >= start_ns && e.1 < end_ns && matchers[0].matches(e.0.value("app")))
            .collect();
        expected.sort();
        let selection = LogSelection::all(matchers, start_ns, end_ns);
        check_same(&select(&store, &selection), &expected, matcher);
    }
}

#[derive(Default)]
struct Count {
    entries: Mutex<HashMap<(Labels, i64), (u64, u64)>>,
    runs: Mutex<u64>,
    buckets: Option<TimeBuckets>,
}

impl EntryVisitor for Count {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        assert!(batch.text.is_empty() && batch.metadata.is_empty());
        for (i, t_ns) in batch.times_ns.iter().enumerate() {
            let bucket = self.buckets.unwrap().of(*t_ns);
            let mut entries = self.entries.lock();
            let sum = entries.entry((batch.labels.clone(), bucket)).or_default();
            sum.0 += 1;
            sum.1 += batch.line_bytes(i) as u64;
        }
        Ok(Flow::Continue)
    }

    fn run(&self, run: &EntryRun<'_>) -> Result<Flow, SourceError> {
        *self.runs.lock() += 1;
        let mut entries = self.entries.lock();
        let sum = entries.entry((run.labels.clone(), self.buckets.unwrap().of(run.t_ns))).or_default();
        sum.0 += run.entries;
        sum.1 += run.bytes;
        Ok(Flow::Continue)
    }
}

#[test]
fn whole_blocks_are_counted_without_a_look() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let entries = many(30_000);
    push(&store, &entries[..25_000]);
    store.flush().unwrap();
    push(&store, &entries[25_000..]);
    for period_ns in [3_600_000_000_000, 700_000_000] {
        let buckets = TimeBuckets { origin_ns: NOON_NS - 1, period_ns };
        let count = Count { buckets: Some(buckets), ..Count::default() };
        let selection = LogSelection {
            lines: LineNeed::Length,
            metadata: MetadataNeed::Nothing,
            buckets: Some(buckets),
            ..LogSelection::all(every_stream(), NOON_NS + 77, NOON_NS + 20_000 * 1_000_003)
        };
        let report = store.read(&selection, &count, &Budget::unlimited()).unwrap();
        assert!(report.streams == 7 && report.blocks > 0, "{report:?}");
        let mut expected: HashMap<(Labels, i64), (u64, u64)> = HashMap::new();
        for (labels, t_ns, line, _) in &entries {
            if *t_ns >= selection.start_ns && *t_ns < selection.end_ns {
                let sum = expected.entry((labels.clone(), buckets.of(*t_ns))).or_default();
                sum.0 += 1;
                sum.1 += line.len() as u64;
            }
        }
        assert_eq!(*count.entries.lock(), expected);
        assert_eq!(*count.runs.lock() > 0, period_ns > 1_000_000_000);
    }
}

/// Keeps the newest or oldest times, as a query with a limit does.
struct Best {
    order: ReadOrder,
    limit: usize,
    times: Mutex<Vec<i64>>,
}

impl EntryVisitor for Best {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        let mut times = self.times.lock();
        times.extend_from_slice(batch.times_ns);
        times.sort_unstable();
        if self.order == ReadOrder::Newest {
            times.reverse();
        }
        times.truncate(self.limit);
        Ok(Flow::Continue)
    }

    fn horizon_ns(&self) -> Option<i64> {
        let times = self.times.lock();
        if times.len() < self.limit { None } else { times.last().copied() }
    }
}

#[test]
fn a_limit_ends_the_reading_early_at_either_end() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let mut entries = many(60_000);
    entries.sort_by_key(|e| e.1);
    for part in entries.chunks(2_000) {
        push(&store, part);
        store.maintain().unwrap();
    }
    let read = |order: ReadOrder| -> (Vec<i64>, ReadReport) {
        let best = Best { order, limit: 50, times: Mutex::default() };
        let selection = LogSelection { order, ..LogSelection::all(every_stream(), i64::MIN, i64::MAX) };
        let report = store.read(&selection, &best, &Budget::unlimited()).unwrap();
        (best.times.into_inner(), report)
    };
    let times: Vec<i64> = entries.iter().map(|e| e.1).collect();
    let (oldest, report) = read(ReadOrder::Oldest);
    assert_eq!(oldest, times[..50]);
    assert!(report.blocks > 10 && report.blocks_pruned + 9 > report.blocks / 2, "{report:?}");
    let (newest, report) = read(ReadOrder::Newest);
    assert_eq!(newest, times[59_950..].iter().rev().copied().collect::<Vec<_>>());
    assert!(report.blocks_pruned > report.blocks / 2, "{report:?}");
}

#[test]
fn what_must_not_be_taken_is_refused_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS);
    let mut options = limited(&clock, |l| {
        (l.max_line_bytes, l.max_labels_per_stream, l.max_log_streams) = (20, 2, 3);
        (l.max_label_name_bytes, l.max_label_value_bytes) = (8, 8);
        (l.max_entry_metadata_pairs, l.max_entry_metadata_bytes) = (2, 30);
    });
    options.retention_ms = 3 * 86_400_000;
    let store = Store::open(dir.path(), options).unwrap();
    let named = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
    let with = |n: usize, value: &str| Labels::from_pairs((0..n).map(|i| (format!("m{i}"), value)));
    let old_ns = NOON_NS - 4 * 86_400_000_000_000;
    let cases: [(Entry, Option<EntryReason>); 10] = [
        (line("a", NOON_NS, "fine"), None),
        (
            line("a", NOON_NS, "longer than it may be"),
            Some(EntryReason::LineTooLong { bytes: 21, limit: 20 }),
        ),
        (
            line("a", old_ns, "old"),
            Some(EntryReason::TooOld { t_ns: old_ns, oldest_ns: NOON_NS - 3 * 86_400_000_000_000 }),
        ),
        (
            line("a", NOON_NS + 11 * MINUTE_NS, "new"),
            Some(EntryReason::TooNew { t_ns: NOON_NS + 11 * MINUTE_NS }),
        ),
        (
            (named(&[("a", "1"), ("b", "2"), ("c", "3")]), NOON_NS, "x".into(), Labels::empty()),
            Some(EntryReason::TooManyLabels { actual: 3, limit: 2 }),
        ),
        (
            (named(&[("app", "1"), ("b", "2"), ("service_name", "s")]), NOON_NS, "x".into(), Labels::empty()),
            Some(EntryReason::LabelNameTooLong { name: "service_name".into(), limit: 8 }),
        ),
        (
            line("value too long", NOON_NS, "x"),
            Some(EntryReason::LabelValueTooLong { value: "value too long".into(), limit: 8 }),
        ),
        (
            (labels("a"), NOON_NS, "m".into(), with(3, "v")),
            Some(EntryReason::TooMuchMetadata { actual: 3, limit: 2 }),
        ),
        (
            (labels("a"), NOON_NS, "m".into(), with(1, &"v".repeat(40))),
            Some(EntryReason::MetadataTooLarge { bytes: 42, limit: 30 }),
        ),
        ((labels("a"), NOON_NS, "m".into(), with(2, "v")), None),
    ];
    for (entry, expected) in cases {
        let appended = push(&store, std::slice::from_ref(&entry));
        let reason = appended.rejections.first().map(|r| r.reason.clone());
        assert_eq!(reason, expected, "{entry:?}");
        assert_eq!(
            (appended.entries, appended.rejected),
            (u64::from(expected.is_none()), u64::from(expected.is_some()))
        );
    }
    let more =
        [line("b", NOON_NS, "1"), line("c", NOON_NS, "1"), line("d", NOON_NS, "1"), line("a", NOON_NS, "2")];
    let appended = push(&store, &more);
    assert_eq!((appended.entries, appended.rejected), (3, 1));
    assert_eq!(appended.rejections[0].reason, EntryReason::MaxStreams { limit: 3 });
    assert_eq!(appended.rejections[0].labels, labels("d"));
    clock.advance(32 * 60_000);
    assert_eq!(push(&store, &more[2..3]).entries, 1);
    assert_eq!(store.stats().active_streams, 1);
    assert_eq!(store.append_internal(&batch(&[line("own", NOON_NS, "1")])).unwrap().entries, 1);
    assert_eq!(store.stats().active_streams, 1);
}

#[test]
fn labels_and_volumes_are_those_of_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let day_ns = 86_400_000_000_000;
    let meta = Labels::from_pairs([("k", "vv")]);
    push(
        &store,
        &[
            line("old", NOON_NS - day_ns, "12345"),
            line("a", NOON_NS, "12"),
            line("a", NOON_NS + MINUTE_NS, "1234"),
        ],
    );
    store.flush().unwrap();
    push(&store, &[(labels("b"), NOON_NS + 2 * MINUTE_NS, "123".into(), meta)]);
    let query = |start_ns: i64, end_ns: i64| StreamQuery { matcher_sets: Vec::new(), start_ns, end_ns };
    let budget = Budget::unlimited();
    let values = |start, end| store.label_values("app", &query(start, end), &budget).unwrap();
    assert_eq!(values(i64::MIN, i64::MAX), ["a", "b", "old"]);
    assert_eq!(values(NOON_NS, i64::MAX), ["a", "b"]);
    assert_eq!(values(NOON_NS - day_ns, NOON_NS), ["old"]);
    assert_eq!(values(NOON_NS + MINUTE_NS, NOON_NS + 2 * MINUTE_NS), ["a"]);
    assert_eq!(store.label_names(&query(NOON_NS, i64::MAX), &budget).unwrap(), ["app"]);
    assert_eq!(store.streams(&query(NOON_NS, i64::MAX), &budget).unwrap(), [labels("a"), labels("b")]);
    let one = StreamQuery { matcher_sets: vec![vec![Matcher::equal("app", "b")]], ..query(0, i64::MAX) };
    assert_eq!(store.streams(&one, &budget).unwrap(), [labels("b")]);
    let stats = store.stats_of(&query(NOON_NS, i64::MAX));
    assert_eq!((stats.streams, stats.entries, stats.bytes), (2, 3, 17));
    let mut volume = store.volume(&query(NOON_NS, NOON_NS + 60 * MINUTE_NS), MINUTE_NS, &budget).unwrap();
    volume.sort_by(|a, b| a.labels.cmp(&b.labels));
    let buckets: Vec<_> = volume.iter().map(|v| (v.labels.value("app"), v.buckets.clone())).collect();
    // Shared out evenly over the minute that the block spans.
    assert_eq!(buckets, [("a", vec![(0, 6, 2)]), ("b", vec![(2, 11, 1)])]);
}

impl Store {
    fn stats_of(&self, query: &StreamQuery) -> pilothouse_model::log_ports::LogStats {
        pilothouse_model::EntrySource::stats(self, query, &Budget::unlimited()).unwrap()
    }
}

#[test]
fn a_retention_removes_days_and_the_streams_that_were_only_there() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS);
    let day_ms = 86_400_000;
    let with_retention = || StoreOptions { retention_ms: 2 * day_ms, ..options(&clock) };
    let store = Store::open(dir.path(), with_retention()).unwrap();
    push(&store, &[line("old", NOON_NS, "x"), line("stays", NOON_NS, "x")]);
    store.flush().unwrap();
    clock.advance(2 * day_ms);
    push(&store, &[line("stays", NOON_NS + 2 * day_ms * 1_000_000, "y")]);
    store.maintain().unwrap();
    assert_eq!(store.stats().streams, 2);
    clock.advance(day_ms);
    // Not shown, though the day is still there.
    assert_eq!(all(&store).len(), 1);
    store.maintain().unwrap();
    let stats = store.stats();
    assert_eq!((stats.days_removed, stats.streams, stats.streams_removed), (1, 1, 1));
    store.close().unwrap();
    drop(store);
    let store = Store::open(dir.path(), with_retention()).unwrap();
    assert_eq!((all(&store).len(), store.stats().streams), (1, 1));
    // The stream that was forgotten may come again.
    push(&store, &[line("old", NOON_NS + 2 * day_ms * 1_000_000, "z")]);
    assert_eq!(all(&store).len(), 2);
}
