//! The store stopped at every point where it commits something, opened again, and compared with
//! what had been acknowledged.

use pilothouse_model::time::MINUTE_MS;

use super::*;

/// Does some work with the points armed; returns what must be there at the end, and the copies.
fn run(
    store: &Store,
    directory: &std::path::Path,
    work: impl FnOnce(&Store),
) -> Vec<(String, tempfile::TempDir)> {
    let points = CrashPoints { directory: directory.to_owned(), copies: Mutex::default() };
    *store.inner.crash_points.lock() = Some(points);
    work(store);
    let points = store.inner.crash_points.lock().take().unwrap();
    points.copies.into_inner()
}

fn fill(store: &Store, clock: &Stepped, minutes: i64) {
    for _ in 0..minutes {
        let now = clock.now_ms();
        let push = (0..20).fold(Push::new(), |push, i| {
            push.floats(&series("a", i), &[(now, now as f64), (now - 40 * MINUTE_MS + 7, 1.0)])
        });
        assert_eq!(push.to(store).rejected, 0);
        clock.step(MINUTE_MS);
    }
}

/// Opens each copy, compares, and once more after the opened one has been closed.
fn check(
    copies: &[(String, tempfile::TempDir)],
    clock: &Arc<Stepped>,
    expected: impl Fn(&str) -> Vec<Content>,
) {
    assert!(!copies.is_empty());
    for (name, copy) in copies {
        for again in [false, true] {
            let store = Store::open(copy.path(), options(clock)).unwrap();
            let found = read_all(&store);
            assert!(expected(name).contains(&found), "{name}, again: {again}");
            assert_eq!(store.stats().corruptions, 0, "{name}");
            if again {
                store.compact_now().unwrap();
                assert!(expected(name).contains(&read_all(&store)), "{name}, compacted");
            }
            store.close().unwrap();
        }
    }
}

fn open() -> (tempfile::TempDir, Arc<Stepped>, Store) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON + 11 * HOUR_MS));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    (dir, clock, store)
}

#[test]
fn a_crash_while_flushing_loses_nothing() {
    let (dir, clock, store) = open();
    // Over midnight, so that a flush writes two days.
    fill(&store, &clock, 90);
    let before = read_all(&store);
    let copies = run(&store, dir.path(), |store| store.seal_all().unwrap());
    let names: Vec<&str> = copies.iter().map(|c| c.0.as_str()).collect();
    for name in ["flush: sealed", "flush: log synced", "flush: day written", "flush: catalog saved"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(names.iter().filter(|n| **n == "flush: day written").count() >= 2);
    check(&copies, &clock, |_| vec![before.clone()]);
}

#[test]
fn a_crash_while_compacting_loses_nothing() {
    let (dir, clock, store) = open();
    fill(&store, &clock, 90);
    store.compact_now().unwrap();
    fill(&store, &clock, 30);
    store.seal_all().unwrap();
    fill(&store, &clock, 5);
    let before = read_all(&store);
    let copies = run(&store, dir.path(), |store| store.compact_now().unwrap());
    let names: Vec<&str> = copies.iter().map(|c| c.0.as_str()).collect();
    for name in ["compact: frozen", "compact: written", "compact: named", "compact: replaced"] {
        assert!(names.contains(&name), "{names:?}");
    }
    check(&copies, &clock, |_| vec![before.clone()]);
}

#[test]
fn a_deletion_that_was_acknowledged_holds_after_a_crash() {
    let (dir, clock, store) = open();
    fill(&store, &clock, 60);
    store.compact_now().unwrap();
    fill(&store, &clock, 30);
    store.seal_all().unwrap();
    fill(&store, &clock, 10);
    let (start, end) = (NOON + 11 * HOUR_MS, clock.now_ms() - 5 * MINUTE_MS);
    let sets = vec![vec![Matcher::equal("i", "7")]];
    let mut after = read_all(&store);
    after.get_mut(&series("a", 7)).unwrap().retain(|t, _| !(start..=end).contains(t));
    let copies = run(&store, dir.path(), |store| {
        store.delete_series(&sets, start, end).unwrap();
        assert_eq!(read_all(store), after);
        store.seal_all().unwrap();
        store.compact_now().unwrap();
    });
    assert!(copies.iter().any(|c| c.0 == "delete: logged"));
    assert!(copies.iter().any(|c| c.0 == "delete: saved"));
    check(&copies, &clock, |_| vec![after.clone()]);
    assert_eq!((read_all(&store), store.stats().deletions), (after, 0));
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_at_any_moment() {
    let (dir, clock, store) = open();
    for round in 0..12 {
        fill(&store, &clock, 3);
        if round % 4 == 2 {
            store.seal_all().unwrap();
        }
        let copy = tempfile::tempdir().unwrap();
        copy_directory(dir.path(), copy.path());
        let opened = Store::open(copy.path(), options(&clock)).unwrap();
        assert_eq!(read_all(&opened), read_all(&store), "round {round}");
        assert_eq!(opened.stats().series, store.stats().series);
        assert_eq!(opened.stats().active_series, store.stats().active_series);
    }
}

#[test]
fn a_damaged_page_harms_nobody_else() {
    let (dir, clock, store) = open();
    for i in 0..600 {
        let samples: Vec<(i64, f64)> =
            (0..120).map(|k| (NOON + k * 1000 + i, ((i * 7919 + k * 104_729) % 1000) as f64 / 7.0)).collect();
        Push::new().floats(&series("a", i as usize), &samples).to(&store);
    }
    let before = read_all(&store);
    store.close().unwrap();
    drop(store);
    let day = std::fs::read_dir(dir.path().join("day")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&day).unwrap();
    // The value of one sample, found by its exact bits, is somewhere in the middle of a page.
    let middle = bytes.len() / 2;
    let at = (middle..bytes.len()).find(|i| bytes[*i..].starts_with(&[0x24, 0x49, 0x92])).unwrap_or(middle);
    bytes[at] ^= 0xff;
    std::fs::write(&day, bytes).unwrap();
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    let (mut right, mut failed) = (0, 0);
    for (labels, samples) in &before {
        let matcher = Matcher::equal("i", labels.value("i"));
        let needs = LabelNeeds::All;
        let selection = Selection { matchers: vec![matcher], start_ms: i64::MIN, end_ms: i64::MAX, needs };
        let mut columns = SampleColumns::default();
        for found in store.select(&selection, &Budget::unlimited()).unwrap() {
            found.samples.read(i64::MIN, i64::MAX, &mut columns).unwrap();
            // What is damaged is left out as a whole.
            if columns.is_empty() {
                failed += 1;
                continue;
            }
            let times: Vec<i64> = samples.keys().copied().collect();
            assert_eq!(columns.times_ms, times);
            right += 1;
        }
    }
    assert!(right > 300, "{right} right, {failed} failed");
    assert_eq!(store.stats().corruptions > 0, failed > 0);
    store.compact_now().unwrap();
    let names = pilothouse_disk::files::file_names(&dir.path().join("day")).unwrap();
    assert_eq!(names.iter().any(|name| name.contains("damaged")), failed > 0, "{names:?}");
}

#[test]
fn what_a_panic_left_in_memory_is_logged_before_it_counts_as_stored() {
    let (dir, clock, store) = open();
    let good = Push::new().floats(&series("a", 1), &[(clock.now_ms(), 1.0)]);
    let mut bad = Push::new().floats(&series("a", 1), &[(clock.now_ms(), 1.0)]);
    bad.0.series.push(bad.0.series[0].clone());
    bad.0.series[1].key ^= 1;
    bad.0.read_labels = |raw, pairs| {
        static CALLS: AtomicI64 = AtomicI64::new(0);
        assert!(CALLS.fetch_add(1, Relaxed) == 0, "on purpose");
        read_encoded(raw, pairs)
    };
    let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.append(&bad.0)));
    assert!(appended.is_err());
    // The same again finds the sample in memory.
    assert_eq!(good.to(&store).floats, 1);
    let copy = tempfile::tempdir().unwrap();
    copy_directory(dir.path(), copy.path());
    let opened = Store::open(copy.path(), options(&clock)).unwrap();
    assert_eq!(read_all(&opened).len(), 1);
    assert_eq!(read_all(&opened), read_all(&store));
    store.seal_all().unwrap();
    assert_eq!(store.stats().head_bytes, 0);
}
