//! The store stops at every place where it changes the disk, is opened again, and has lost
//! nothing and doubled nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::DeletionRequest;

const POINTS: [&str; 9] = [
    "flush: encoded",
    "commit: begun",
    "commit: log synced",
    "commit: catalog saved",
    "day: filters written",
    "day: committed",
    "commit: day committed",
    "commit: day written",
    "commit: trimmed",
];

/// Two groups, two days.
fn round(i: i64) -> Vec<Entry> {
    let mut entries = Vec::new();
    for app in ["a", "b"] {
        for k in 0..300 {
            let day_ns = 86_400_000_000_000 * (k % 2);
            let t_ns = NOON_NS - day_ns + i * MINUTE_NS + k * 1_000;
            entries.push(line(app, t_ns, &format!("round {i} entry {k} of {app}")));
        }
    }
    entries
}

fn stop_at(store: &Store, point: &str, nth: usize) {
    *store.inner.crash_points.lock() =
        Some(CrashPoints { at: point.to_owned(), left: Arc::new(Mutex::new(nth)) });
}

#[test]
fn nothing_is_lost_and_nothing_doubled_at_any_point() {
    for point in POINTS {
        for nth in 1..=2 {
            let dir = tempfile::tempdir().unwrap();
            let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
            let mut model = Model::default();
            for i in 0..3 {
                let store = open(dir.path(), &clock);
                check_same(&all(&store), &model.entries(), point);
                let entries = round(i);
                push(&store, &entries);
                model.add(&entries);
                stop_at(&store, point, nth);
                // Some points are reached once in a flush only.
                let _ = catch_unwind(AssertUnwindSafe(|| store.flush()));
                check_same(&all(&store), &model.entries(), point);
                let late = [line("a", NOON_NS + i * MINUTE_NS + 77, "late")];
                push(&store, &late);
                model.add(&late);
                // What was sent before the kill is sent again after it.
                drop(store);
                let store = open(dir.path(), &clock);
                check_same(&all(&store), &model.entries(), point);
                assert_eq!(push(&store, &entries).duplicates, entries.len() as u64, "{point}");
                stop_at(&store, point, nth);
                let _ = catch_unwind(AssertUnwindSafe(|| store.close()));
            }
            let store = open(dir.path(), &clock);
            store.flush().unwrap();
            check_same(&all(&store), &model.entries(), point);
            assert_eq!(store.stats().corruptions, 0, "{point}");
        }
    }
}

#[test]
fn a_flush_that_was_stopped_is_taken_up_again_in_the_same_process() {
    for point in POINTS {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
        let store = open(dir.path(), &clock);
        let mut model = Model::default();
        for i in 0..3 {
            push(&store, &round(i));
            model.add(&round(i));
            stop_at(&store, point, 1);
            let _ = catch_unwind(AssertUnwindSafe(|| store.flush()));
        }
        store.close().unwrap();
        check_same(&all(&store), &model.entries(), point);
        drop(store);
        check_same(&all(&open(dir.path(), &clock)), &model.entries(), point);
    }
}

#[test]
fn a_day_that_is_being_removed_is_gone_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let with_retention = || StoreOptions { retention_ms: 86_400_000, ..options(&clock) };
    let store = Store::open(dir.path(), with_retention()).unwrap();
    push(&store, &[line("a", NOON_NS, "x")]);
    store.flush().unwrap();
    clock.advance(3 * 86_400_000);
    stop_at(&store, "retention: day removed", 1);
    assert!(catch_unwind(AssertUnwindSafe(|| store.maintain())).is_err());
    drop(store);
    let store = Store::open(dir.path(), with_retention()).unwrap();
    store.maintain().unwrap();
    assert_eq!((all(&store).len(), store.stats().streams, store.stats().days), (0, 0, 0));
}

#[test]
fn a_deletion_survives_a_crash_anywhere() {
    for point in ["delete: logged", "delete: saved", "delete: blocks rewritten", "day: committed"] {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
        let store = open(dir.path(), &clock);
        let mut model = Model::default();
        push(&store, &round(0));
        model.add(&round(0));
        store.flush().unwrap();
        push(&store, &round(1));
        model.add(&round(1));
        let request = DeletionRequest {
            matchers: vec![Matcher::equal("app", "a")],
            start_ns: NOON_NS - MINUTE_NS,
            end_ns: NOON_NS + 90 * MINUTE_NS,
            ..DeletionRequest::default()
        };
        stop_at(&store, point, 1);
        let _ = catch_unwind(AssertUnwindSafe(|| store.delete(&request)));
        model.0.retain(|(l, t, _), _| *l != labels("a") || *t < request.start_ns || *t >= request.end_ns);
        // The same line at the same time, written after it, stays.
        let again = [round(0)[0].clone()];
        assert_eq!(push(&store, &again).entries, 1, "{point}");
        model.add(&again);
        check_same(&all(&store), &model.entries(), point);
        drop(store);
        let store = open(dir.path(), &clock);
        check_same(&all(&store), &model.entries(), point);
        clock.advance(25 * 3_600_000);
        store.flush().unwrap();
        stop_at(&store, point, 1);
        let _ = catch_unwind(AssertUnwindSafe(|| store.maintain()));
        check_same(&all(&store), &model.entries(), point);
        drop(store);
        let store = open(dir.path(), &clock);
        store.maintain().unwrap();
        check_same(&all(&store), &model.entries(), point);
        assert!(store.deletions().iter().all(|d| d.done), "{point}");
    }
}
