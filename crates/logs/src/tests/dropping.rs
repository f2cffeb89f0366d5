//! Days that go to make room on the disk do not come back, neither from memory nor from the log.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pilothouse_disk::faults::Disk;

use super::*;

const DAY_NS: i64 = 86_400_000_000_000;

fn today() -> i32 {
    crate::day::day_of(NOON_NS)
}

/// Lines of yesterday and today, of two groups.
fn lines(from: i64) -> Vec<Entry> {
    let of = |i: i64, app: &str| line(app, NOON_NS - DAY_NS * (i % 2) + i, &format!("line {i}"));
    (from..from + 50).flat_map(|i| [of(i, "a"), of(i, "b")]).collect()
}

fn of_today(entries: &[Entry]) -> Vec<Entry> {
    let mut kept: Vec<Entry> = entries.iter().filter(|e| e.1 >= NOON_NS - DAY_NS / 2).cloned().collect();
    kept.sort();
    kept
}

/// What was there of a day, on the disk, on its way there and in the tail, is gone, also after a
/// kill and a clean end; what came later is there.
fn check(drop_day: impl Fn(&Store, &Disk)) {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let disk = Disk::below(dir.path());
    let store = open(dir.path(), &clock);
    push(&store, &lines(0));
    store.flush().unwrap();
    push(&store, &lines(100));
    clock.advance(20 * 60_000);
    push(&store, &lines(200));
    drop_day(&store, &disk);
    store.maintain().unwrap();
    let mut expected = of_today(&[lines(0), lines(100), lines(200)].concat());
    check_same(&all(&store), &expected, "dropped");
    let late = line("a", NOON_NS - DAY_NS + 7, "late");
    push(&store, std::slice::from_ref(&late));
    push(&store, &[lines(0)[2].clone()]);
    expected.extend([late, lines(0)[2].clone()]);
    expected.sort();
    drop(store);
    let store = open(dir.path(), &clock);
    check_same(&all(&store), &expected, "killed");
    store.close().unwrap();
    drop(store);
    let store = open(dir.path(), &clock);
    check_same(&all(&store), &expected, "ended");
    // The log has nothing of it any more, and the note of it is gone.
    assert!(store.inner.dropped.read().is_empty());
    assert_eq!((store.stats().days, store.stats().corruptions), (2, 0));
}

#[test]
fn a_dropped_day_does_not_come_back() {
    check(|store, _| store.drop_day(today() - 1).unwrap());
}

#[test]
fn a_crash_in_the_middle_changes_nothing() {
    check(|store, _| {
        *store.inner.crash_points.lock() =
            Some(CrashPoints { at: "drop: day removed".to_owned(), left: Arc::new(Mutex::new(1)) });
        assert!(catch_unwind(AssertUnwindSafe(|| store.drop_day(today() - 1))).is_err());
    });
}

/// The disk may have no room for the note until the day is gone.
#[test]
fn a_full_disk_does_not_keep_a_day_from_being_dropped() {
    check(|store, disk| {
        disk.tell_room(1 << 20);
        assert!(store.drop_day(today() - 1).is_err());
        disk.tell_room(u64::MAX);
        // It is asked again, since that was not enough.
        store.drop_day(today() - 1).unwrap();
    });
}
