//! Damaged files take away what they held and nothing else, and are counted.

use std::fs;
use std::path::PathBuf;

use super::*;

const DAY_NS: i64 = 86_400_000_000_000;

/// Two days with two commits each.
fn filled(dir: &Path, clock: &Arc<TestClock>) -> Vec<Entry> {
    let store = open(dir, clock);
    let mut entries = Vec::new();
    for commit in 0..2 {
        for day in 0..2 {
            let of_day: Vec<Entry> = (0..200)
                .map(|i| {
                    line(
                        "a",
                        NOON_NS - day * DAY_NS + commit * MINUTE_NS + i,
                        &format!("{day} {commit} needle{i}"),
                    )
                })
                .collect();
            push(&store, &of_day);
            entries.extend(of_day);
        }
        store.flush().unwrap();
    }
    store.close().unwrap();
    entries.sort();
    entries
}

fn files_of(day: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(day)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}

fn check(break_it: impl Fn(&Path), lost: impl Fn(usize) -> bool, counted: bool) {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let entries = filled(dir.path(), &clock);
    break_it(&dir.path().join("day/2026-11-21"));
    let store = open(dir.path(), &clock);
    let found = all(&store);
    assert!(found.iter().all(|e| entries.contains(e)));
    assert!(lost(entries.len() - found.len()), "{} of {} found", found.len(), entries.len());
    assert_eq!(store.stats().corruptions > 0, counted);
    // It goes on: the day that was broken takes new entries.
    let more =
        [line("a", NOON_NS - DAY_NS + 5 * MINUTE_NS, "more"), line("b", NOON_NS + 5 * MINUTE_NS, "more")];
    assert_eq!(push(&store, &more).entries, 2);
    store.flush().unwrap();
    assert_eq!(all(&store).len(), found.len() + 2);
    store.close().unwrap();
    drop(store);
    assert_eq!(all(&open(dir.path(), &clock)).len(), found.len() + 2);
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_day_without_its_index_is_set_aside() {
    check(|day| fs::remove_file(day.join("meta.json")).unwrap(), |lost| lost == 400, true);
    check(|day| fs::write(day.join("meta.json"), "{}").unwrap(), |lost| lost == 400, true);
    check(|day| fs::remove_file(day.join("FORMAT")).unwrap(), |lost| lost == 400, true);
}

#[test]
fn a_part_of_a_day_is_left_out() {
    check(|day| fs::remove_file(&files_of(day, ".fast")[0]).unwrap(), |lost| lost == 200, true);
    check(|day| fs::write(&files_of(day, ".store")[0], "").unwrap(), |lost| lost == 200, true);
}

#[test]
fn a_block_that_cannot_be_decoded_is_left_out() {
    check(|day| flip(&files_of(day, ".store")[0], |n| n / 3), |lost| lost > 0 && lost <= 200, true);
}

#[test]
fn filters_that_are_damaged_or_gone_prune_nothing() {
    check(|day| fs::remove_file(day.join("filters.bin")).unwrap(), |lost| lost == 0, false);
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    filled(dir.path(), &clock);
    let path = dir.path().join("day/2026-11-22/filters.bin");
    let size = fs::metadata(&path).unwrap().len() as usize;
    for at in [0, 3, 10, 40, size / 2, size - 1] {
        flip(&path, |_| at);
        let store = open(dir.path(), &clock);
        assert_eq!(pruning::with(&store, "needle77").len(), 4, "{at}");
        drop(store);
        flip(&path, |_| at);
    }
}

#[test]
fn a_damaged_catalog_is_set_aside_and_the_start_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    filled(dir.path(), &clock);
    fs::write(dir.path().join("streams.redb"), "no database at all").unwrap();
    let store = open(dir.path(), &clock);
    assert!(store.stats().corruptions > 0);
    push(&store, &[line("a", NOON_NS + 9 * MINUTE_NS, "new")]);
    assert_eq!(all(&store).len(), 1);
}

#[test]
fn a_day_of_a_newer_release_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    filled(dir.path(), &clock);
    fs::write(dir.path().join("day/2026-11-22/FORMAT"), "pilothouse-logs-day 2\n").unwrap();
    let error = Store::open(dir.path(), options(&clock)).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("newer"), "{error}");
}
