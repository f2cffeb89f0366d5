//! What is taken, what is refused, and why.

use pilothouse_model::write::Reason;

use super::*;

fn open(limits: Limits) -> (tempfile::TempDir, Arc<Stepped>, Store) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), limited(&clock, limits)).unwrap();
    (dir, clock, store)
}

fn reasons(appended: &Appended) -> Vec<Reason> {
    appended.rejections.iter().map(|r| r.reason.clone()).collect()
}

#[test]
fn the_good_part_of_a_batch_is_kept_and_each_refusal_has_its_reason() {
    let (_dir, clock, store) = open(Limits { out_of_order_window_ms: 60_000, ..Limits::default() });
    let (a, b) = (series("a", 1), series("b", 1));
    let t = NOON;
    assert_eq!(Push::new().floats(&a, &[(t, 1.0)]).to(&store).floats, 1);
    let appended = Push::new()
        .floats(&a, &[(t, 1.0), (t, 2.0), (t - 10, 3.0), (t - 70_000, 4.0), (t + 700_000, 5.0)])
        .floats(&Labels::from_pairs([("job", "x")]), &[(t, 1.0), (t + 1, 1.0)])
        .floats(&b, &[(t, 7.0)])
        .to(&store);
    assert_eq!((appended.floats, appended.rejected), (3, 5));
    assert_eq!(
        reasons(&appended),
        [
            Reason::DuplicateTimestamp { t_ms: t },
            Reason::OutOfOrder { t_ms: t - 70_000 },
            Reason::TooFarInFuture { t_ms: t + 700_000 },
            Reason::MissingMetricName,
        ]
    );
    assert_eq!(appended.rejections[0].series, r#"a{i="1"}"#);
    assert_eq!(read_all(&store)[&a].len(), 2);
    clock.step(1000);
    assert_eq!(read_all(&store)[&b].len(), 1);
}

#[test]
fn samples_older_than_retention_are_refused_and_not_shown() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let retention = StoreOptions { retention_ms: 2 * DAY_MS, ..options(&clock) };
    let store = Store::open(dir.path(), retention).unwrap();
    let a = series("a", 1);
    let old = NOON - 2 * DAY_MS - 1;
    let appended = Push::new().floats(&a, &[(old, 1.0), (old + 1, 2.0), (NOON, 3.0)]).to(&store);
    assert_eq!(reasons(&appended), [Reason::TooOld { t_ms: old, oldest_ms: old + 1 }]);
    assert_eq!(read_all(&store)[&a].len(), 2);
    clock.step(10);
    assert_eq!(read_all(&store)[&a].len(), 1);
    store.seal_all().unwrap();
    assert_eq!(store.stats().days, 2);
    clock.step(DAY_MS);
    store.maintain().unwrap();
    assert_eq!(store.stats().days, 1);
    assert_eq!(store.stats().days_removed, 1);
}

#[test]
fn beyond_the_limit_new_series_are_refused_and_known_ones_go_on() {
    let (dir, clock, store) = open(Limits { max_active_series: 2, ..Limits::default() });
    let push = |store: &Store, i: usize, t: i64| Push::new().floats(&series("a", i), &[(t, 1.0)]).to(store);
    assert_eq!(push(&store, 1, NOON).rejected + push(&store, 2, NOON).rejected, 0);
    assert_eq!(reasons(&push(&store, 3, NOON)), [Reason::MaxSeries { limit: 2 }]);
    assert_eq!(push(&store, 1, NOON + 1).floats, 1);
    assert_eq!(
        store.append_internal(&Push::new().floats(&series("own", 1), &[(NOON, 1.0)]).0).unwrap().floats,
        1
    );
    assert_eq!((store.stats().active_series, store.stats().series), (2, 3));
    store.close().unwrap();
    drop(store);
    let store =
        Store::open(dir.path(), limited(&clock, Limits { max_active_series: 2, ..Limits::default() }))
            .unwrap();
    assert_eq!(store.stats().active_series, 2);
    assert_eq!(push(&store, 3, NOON).rejected, 1);
    clock.step(21 * 60_000);
    assert_eq!(store.stats().active_series, 0);
    assert_eq!(push(&store, 3, NOON + 21 * 60_000).floats, 1);
}

#[test]
fn a_deletion_that_the_log_does_not_take_never_happened() {
    let (dir, clock, store) = open(Limits::default());
    let push = |i: usize, t: i64| Push::new().floats(&series("a", i), &[(t, 1.0)]).to(&store).floats;
    assert_eq!(push(1, NOON), 1);
    let endless = Matcher::equal("x", "x".repeat(pilothouse_model::limits::WAL_RECORD_BYTES));
    assert!(store.delete_series(&[vec![Matcher::equal("i", "1")], vec![endless]], 0, NOON).is_err());
    // Neither is it in the way of what comes next.
    assert_eq!(push(2, NOON), 1);
    assert_eq!(read_all(&store).len(), 2);
    drop(store);
    assert_eq!(read_all(&Store::open(dir.path(), options(&clock)).unwrap()).len(), 2);
}

#[test]
fn series_that_come_and_go_do_not_fill_the_memory() {
    let (_dir, clock, store) = open(Limits { max_series_in_memory: 3, ..Limits::default() });
    let push = |i: usize| {
        let now = clock.now_ms();
        Push::new().floats(&series("a", i), &[(now, 1.0)]).to(&store)
    };
    for i in 0..3 {
        assert_eq!(push(i).rejected, 0);
        clock.step(30 * 60_000);
    }
    assert_eq!(store.stats().active_series, 0);
    assert_eq!(reasons(&push(3)), [Reason::MaxSeries { limit: 3 }]);
    assert_eq!(push(1).rejected, 0);
    clock.step(2 * DAY_MS);
    store.compact_now().unwrap();
    assert_eq!((push(3).rejected, store.stats().series), (0, 1));
}

#[test]
fn a_clock_that_jumps_ahead_removes_nothing_at_once() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let retention = StoreOptions { retention_ms: 5 * DAY_MS, ..options(&clock) };
    let store = Store::open(dir.path(), retention).unwrap();
    let samples: Vec<(i64, f64)> = (0..5).rev().map(|d| (NOON - d * DAY_MS, 1.0)).collect();
    assert_eq!(Push::new().floats(&series("a", 1), &samples).to(&store).floats, 5);
    store.seal_all().unwrap();
    clock.step(1000 * DAY_MS);
    // Even if the jump has brought a sample with it.
    Push::new().floats(&series("a", 1), &[(clock.now_ms(), 1.0)]).to(&store);
    store.seal_all().unwrap();
    store.maintain().unwrap();
    clock.step(-1000 * DAY_MS);
    assert_eq!(read_all(&store)[&series("a", 1)].len(), 6);
}

#[test]
fn times_that_no_day_has_a_name_for_are_refused() {
    let (dir, clock, store) = open(Limits { max_future_ms: u64::MAX, ..Limits::default() });
    let (first, last) = ((i64::from(i32::MIN) + 1) * DAY_MS, i64::from(i32::MAX) * DAY_MS);
    let times = [i64::MIN, i64::MIN + 1, first - 1, first, 0, last, last + 1, i64::MAX];
    let samples: Vec<(i64, f64)> = times.iter().map(|t| (*t, 1.0)).collect();
    let appended = Push::new().floats(&series("a", 1), &samples).to(&store);
    assert_eq!((appended.floats, appended.rejected), (3, 5));
    assert_eq!(reasons(&appended)[0], Reason::TooOld { t_ms: i64::MIN, oldest_ms: first });
    store.close().unwrap();
    drop(store);
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!(read_all(&store)[&series("a", 1)].len(), 3);
}

#[test]
fn a_large_batch_is_logged_in_parts() {
    let (dir, clock, store) = open(Limits::default());
    let push = (0..3000).fold(Push::new(), |push, i| push.floats(&series("a", i), &[(NOON, i as f64)]));
    assert_eq!(push.to(&store).floats, 3000);
    let parts = store.stats().wal.appended_records;
    assert!(parts > 1, "{parts}");
    let content = read_all(&store);
    drop(store);
    assert_eq!(read_all(&Store::open(dir.path(), options(&clock)).unwrap()), content);
}
