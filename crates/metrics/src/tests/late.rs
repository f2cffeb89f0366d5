//! Days that are over, and what comes late: when it is compacted, forgotten and removed.

use pilothouse_model::time::MINUTE_MS;
use pilothouse_model::write::BatchExemplar;

use super::*;

fn open(retention_ms: i64) -> (tempfile::TempDir, Arc<Stepped>, Store) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), StoreOptions { retention_ms, ..options(&clock) }).unwrap();
    (dir, clock, store)
}

fn push(store: &Store, i: usize, samples: &[(i64, f64)]) {
    assert_eq!(Push::new().floats(&series("a", i), samples).to(store).rejected, 0);
}

#[test]
fn late_samples_that_do_not_end_are_compacted_but_not_all_the_time() {
    let (_dir, clock, store) = open(0);
    let day: Vec<(i64, f64)> = (1..=4000).map(|i| (NOON - i * 1000, (i as f64).sin())).collect();
    for i in 0..40 {
        push(&store, i, &day);
    }
    clock.step(2 * DAY_MS);
    store.compact_now().unwrap();
    assert_eq!(store.stats().compactions, 1);
    let mut at = Vec::new();
    for minute in (0..20 * 60).step_by(5) {
        push(&store, 1, &[(NOON - 7 - minute, 1.0)]);
        store.seal_all().unwrap();
        let before = store.stats().compactions;
        store.maintain().unwrap();
        if store.stats().compactions > before {
            at.push(minute);
        }
        clock.step(5 * MINUTE_MS);
    }
    // It never was quiet for ten minutes, and the file is much larger than what came.
    assert_eq!(at.len(), 3, "{at:?}");
    assert!(at[0] >= 360 && at.windows(2).all(|w| w[1] - w[0] >= 360), "{at:?}");
    assert_eq!(read_all(&store)[&series("a", 1)].len(), 4000 + 240);
}

#[test]
fn a_source_that_nothing_comes_to_still_drops_its_days() {
    let (_dir, clock, store) = open(2 * DAY_MS);
    push(&store, 1, &[(NOON, 1.0)]);
    store.seal_all().unwrap();
    clock.step(10 * DAY_MS);
    // The clock may have leapt.
    store.maintain().unwrap();
    assert_eq!(store.stats().days, 1);
    store.inner.compacting.lock().pretend_steady(clock.now_ms());
    clock.step(2 * DAY_MS);
    store.maintain().unwrap();
    assert_eq!(store.stats().days, 1);
    store.inner.compacting.lock().pretend_steady(clock.now_ms());
    store.maintain().unwrap();
    assert_eq!(store.stats().days, 0);
}

#[test]
fn forgetting_many_series_lets_others_in_between_and_frees_their_slots() {
    let (dir, clock, store) = open(0);
    *store.inner.crash_points.lock() =
        Some(CrashPoints { directory: dir.path().join("wal"), copies: Mutex::default() });
    let all = (0..6000).fold(Push::new(), |p, i| p.floats(&series("a", i), &[(NOON, i as f64)]));
    all.to(&store);
    clock.step(2 * DAY_MS);
    let now = clock.now_ms();
    let some = (0..6000).step_by(100).fold(Push::new(), |p, i| p.floats(&series("a", i), &[(now, 1.0)]));
    some.to(&store);
    store.compact_now().unwrap();
    let points = store.inner.crash_points.lock().take().unwrap();
    let parts = points.copies.into_inner().iter().filter(|c| c.0 == "forget: part").count();
    assert!(parts >= 6, "{parts}");
    let slots = |store: &Store| {
        store.inner.head.all().iter().map(|g| g.read().series.iter().count()).collect::<Vec<_>>()
    };
    assert_eq!((store.stats().series, slots(&store)), (60, vec![41, 19]));
    // Known keys and labels of a series that was forgotten make a new one.
    clock.step(1000);
    Push::new().floats(&series("a", 7), &[(clock.now_ms(), 7.0)]).to(&store);
    store.seal_all().unwrap();
    Push::new().floats(&series("a", 100), &[(clock.now_ms(), 7.0)]).to(&store);
    let content = read_all(&store);
    assert_eq!(
        (content.len(), content[&series("a", 7)].len(), content[&series("a", 100)].len()),
        (6000, 2, 3)
    );
    drop(store);
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert!(read_all(&store) == content);
    assert_eq!(store.stats().series, 61);
    assert_eq!(slots(&store).iter().sum::<usize>(), 61);
}

#[test]
fn a_late_sample_of_a_series_that_was_forgotten_is_not_its_newest() {
    let (_dir, clock, store) = open(0);
    push(&store, 1, &[(NOON, 1.0)]);
    clock.step(2 * DAY_MS);
    store.compact_now().unwrap();
    assert_eq!(store.stats().series, 0);
    push(&store, 1, &[(NOON - HOUR_MS, 2.0)]);
    let (start_ms, end_ms) = (NOON - 2 * HOUR_MS, NOON + HOUR_MS);
    let matchers = vec![Matcher::equal("__name__", "a")];
    let selection = Selection { matchers, start_ms, end_ms, needs: LabelNeeds::All };
    let selected = store.select(&selection, &Budget::unlimited()).unwrap();
    let newest = selected[0].samples.latest(start_ms, end_ms).unwrap().unwrap();
    assert_eq!((selected.len(), newest.0), (1, NOON));
}

#[test]
fn a_row_of_a_series_that_was_forgotten_does_no_harm() {
    let (dir, clock, store) = open(0);
    push(&store, 1, &[(NOON, 1.0)]);
    clock.step(2 * DAY_MS);
    store.compact_now().unwrap();
    push(&store, 1, &[(clock.now_ms(), 2.0)]);
    store.seal_all().unwrap();
    // As if the catalog could not have been written when the first one was forgotten.
    let save = crate::catalog::Save {
        series: &[(0, series("a", 1))],
        groups: &[],
        exemplars: &[],
        exemplars_first: 0,
        metadata: None,
        next_series: 2,
        next_flush: 100,
        log_start: pilothouse_disk::Position(0),
    };
    store.inner.catalog.save(&save).unwrap();
    let content = read_all(&store);
    store.close().unwrap();
    drop(store);
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!((read_all(&store), store.stats().series), (content, 1));
}

#[test]
fn exemplars_are_replayed_in_no_more_than_the_time_they_take() {
    const COUNT: usize = 60_000;
    let (dir, clock, store) = open(0);
    let mut batch = Push::new().floats(&series("a", 1), &[(NOON, 1.0)]);
    batch.0.series[0].exemplars = 0..COUNT as u32;
    batch.0.exemplars = (0..COUNT)
        .map(|i| BatchExemplar { t_ms: NOON, value: i as f64, labels: vec![("id".into(), i.to_string())] })
        .collect();
    assert_eq!(batch.to(&store).exemplars, COUNT as u64);
    drop(store);
    let began = std::time::Instant::now();
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!(store.stats().exemplars, COUNT as u64);
    assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
    // What the catalog has and the log repeats is there once.
    store.inner.flush(&[]).unwrap();
    drop(store);
    assert_eq!(Store::open(dir.path(), options(&clock)).unwrap().stats().exemplars, COUNT as u64);
}

/// Forgetting writes what is left of a group, the series included that no flush has saved yet; the
/// flush then saves them again.
#[test]
fn a_series_that_was_written_twice_is_there_once() {
    let (dir, clock, store) = open(0);
    push(&store, 0, &[(clock.now_ms(), 1.0)]);
    store.compact_now().unwrap();
    clock.step(3 * HOUR_MS);
    for i in 1..4 {
        push(&store, i, &[(clock.now_ms(), 1.0)]);
    }
    store.inner.forget_series().unwrap();
    assert_eq!(store.stats().series_removed, 1);
    push(&store, 4, &[(clock.now_ms(), 1.0)]);
    store.seal_all().unwrap();
    let content = read_all(&store);
    assert_eq!(content.len(), 5);
    let copy = tempfile::tempdir().unwrap();
    copy_directory(dir.path(), copy.path());
    for _ in 0..2 {
        let opened = Store::open(copy.path(), options(&clock)).unwrap();
        assert_eq!((read_all(&opened), opened.stats().series), (content.clone(), 4));
    }
}
