//! Damaged files take away what they held and nothing else, and are counted.

use std::fs;
use std::path::PathBuf;

use pilothouse_disk::backup::Progress;

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
fn a_day_that_lost_what_it_says_of_itself_is_read_all_the_same() {
    check(|day| fs::remove_file(day.join("meta.json")).unwrap(), |lost| lost == 0, true);
    check(|day| fs::write(day.join("meta.json"), "{}").unwrap(), |lost| lost == 0, true);
    for at in [0, 1, 2, 4] {
        check(|day| flip(&day.join("meta.json"), |n| (n - 1) * at / 4), |lost| lost == 0, true);
    }
    check(|day| fs::remove_file(day.join("FORMAT")).unwrap(), |lost| lost == 0, true);
    check(|day| flip(&day.join("FORMAT"), |_| 3), |lost| lost == 0, true);
    check(|day| flip(&day.join("meta.copy.json"), |n| n / 2), |lost| lost == 0, false);
}

/// Takes both copies of the list of segments away.
fn lose_list(day: &Path) {
    fs::write(day.join("meta.json"), "{}").unwrap();
    flip(&day.join("meta.copy.json"), |n| n / 2);
}

#[test]
fn a_list_of_segments_that_is_lost_is_made_anew_from_them() {
    check(lose_list, |lost| lost == 0, true);
    let one_unreadable = |day: &Path| {
        lose_list(day);
        fs::write(&files_of(day, ".fast")[0], "").unwrap();
    };
    check(one_unreadable, |lost| lost == 200, true);
    check_repair(lose_list, |lost| lost == 0, "both lists");
    let none_readable = |day: &Path| {
        lose_list(day);
        files_of(day, ".fast").iter().for_each(|path| fs::write(path, "").unwrap());
    };
    check(none_readable, |lost| lost == 400, true);
}

/// Up to where the log is in a day is lost with its list: what the log has of it must not be there twice, nor
/// be missing, however often the store is killed afterwards.
#[test]
fn what_the_log_has_of_a_day_without_its_list_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let line_at = |i: i64| line(if i % 3 == 0 { "a" } else { "b" }, NOON_NS + i % 50, &format!("line {i}"));
    let mut entries = Vec::new();
    for part in 0..4 {
        let batch: Vec<Entry> = (part * 100..part * 100 + 100).map(line_at).collect();
        push(&store, &batch);
        entries.extend(batch);
        // The last part is in the log alone.
        if part < 3 {
            store.flush().unwrap();
        }
    }
    let request = crate::DeletionRequest {
        matchers: vec![Matcher::equal("app", "a")],
        start_ns: NOON_NS,
        end_ns: NOON_NS + 10,
        ..crate::DeletionRequest::default()
    };
    store.delete(&request).unwrap();
    clock.advance(25 * 3_600_000);
    store.maintain().unwrap();
    assert!(store.deletions().iter().all(|deletion| deletion.done));
    push(&store, &[line("a", NOON_NS + 5, "after the deletion")]);
    let mut left = all(&store);
    left.sort();
    drop(store);
    for life in 0..4 {
        if life % 2 == 0 {
            lose_list(&dir.path().join("day/2026-11-22"));
        }
        let store = open(dir.path(), &clock);
        check_same(&all(&store), &left, &format!("life {life}"));
        let again = push(&store, &entries[399..]);
        assert_eq!((again.entries, again.duplicates), (0, 1), "life {life}");
        if life == 2 {
            store.flush().unwrap();
            store.maintain().unwrap();
            assert!(store.deletions().iter().all(|deletion| deletion.done));
            check_same(&all(&store), &left, "flushed");
        }
    }
}

/// What was merged away, and is left because nobody had the time to remove it, is not there a second time.
#[test]
fn a_list_made_anew_names_each_block_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let day = dir.path().join("day/2026-11-22");
    let mut kept = std::collections::BTreeMap::new();
    let mut entries = Vec::new();
    for i in 0..12 {
        let entry = line("a", NOON_NS + i, &format!("line {i}"));
        push(&store, std::slice::from_ref(&entry));
        entries.push(entry);
        store.flush().unwrap();
        for path in files_of(&day, "") {
            kept.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    let segments = store.inner.days.all()[0].view().unwrap().segments.len();
    assert!(segments < 12, "{segments}");
    store.close().unwrap();
    drop(store);
    let own = |path: &Path| {
        crate::day::directory::segment_of(path.file_name().unwrap().to_str().unwrap()).is_some()
    };
    kept.iter().filter(|(path, _)| own(path)).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    lose_list(&day);
    let store = open(dir.path(), &clock);
    check_same(&all(&store), &entries, "merged");
    store.close().unwrap();
    drop(store);
    assert!(crate::check(dir.path(), &Progress::default()).unwrap().findings.is_empty());
}

#[test]
fn a_log_that_is_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let mut entries = filled(dir.path(), &clock);
    let forget = || fs::remove_dir_all(dir.path().join("wal")).unwrap();
    forget();
    // After a clean end nothing was in it.
    let store = open(dir.path(), &clock);
    assert_eq!(store.stats().corruptions, 0);
    let more = line("a", NOON_NS + 20 * MINUTE_NS, "more");
    push(&store, std::slice::from_ref(&more));
    entries.push(more);
    store.flush().unwrap();
    drop(store);
    forget();
    let store = open(dir.path(), &clock);
    check_same(&all(&store), &entries, "without a log");
    assert_eq!(store.stats().corruptions, 1);
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

/// Breaks the catalog, and expects that streams and entries are as they were.
fn check_catalog(break_it: impl Fn(&Path), counted: bool, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let mut entries = filled(dir.path(), &clock);
    break_it(&dir.path().join("streams.redb"));
    let store = open(dir.path(), &clock);
    assert_eq!(store.stats().corruptions > 0, counted, "{what}");
    check_same(&all(&store), &entries, what);
    assert_eq!(push(&store, &entries[..100]).duplicates, 100, "{what}");
    let new = [
        line("a", NOON_NS + 9 * MINUTE_NS, "new"),
        line("b", NOON_NS + 9 * MINUTE_NS, "new"),
        line("c", NOON_NS - DAY_NS, "new"),
    ];
    assert_eq!(push(&store, &new).entries, 3, "{what}");
    entries.extend(new);
    entries.sort();
    drop(store);
    // Killed at once, it has to be there after the next start too, and then after a clean end.
    let store = open(dir.path(), &clock);
    check_same(&all(&store), &entries, what);
    assert_eq!(store.stats().corruptions, 0, "{what}");
    store.close().unwrap();
    drop(store);
    let store = open(dir.path(), &clock);
    check_same(&all(&store), &entries, what);
    assert_eq!(store.stats().streams, 3, "{what}");
}

#[test]
fn a_lost_catalog_is_made_anew_from_the_days() {
    check_catalog(|_| {}, false, "whole");
    check_catalog(|path| fs::remove_file(path).unwrap(), true, "gone");
    check_catalog(|path| fs::write(path, "").unwrap(), true, "empty");
    check_catalog(|path| fs::write(path, "no database at all").unwrap(), true, "nonsense");
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    check_catalog(cut, true, "half");
}

#[test]
fn no_byte_of_the_catalog_that_changes_takes_an_entry_away() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let entries = filled(dir.path(), &clock);
    let path = dir.path().join("streams.redb");
    let whole = fs::read(&path).unwrap();
    let said: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    for at in said.iter().copied().step_by(said.len() / 30) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        fs::write(&path, bytes).unwrap();
        match Store::open(dir.path(), options(&clock)) {
            Ok(store) => check_same(&all(&store), &entries, &format!("byte {at}")),
            // A version that is not known must not be touched.
            Err(error) => assert!(error.to_string().contains("version"), "byte {at}: {error}"),
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_day_whose_list_of_streams_is_lost_too_loses_its_own_entries_only() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    push(&store, &[line("old", NOON_NS - DAY_NS, "x"), line("both", NOON_NS - DAY_NS, "x")]);
    store.flush().unwrap();
    push(&store, &[line("new", NOON_NS, "x"), line("both", NOON_NS, "x")]);
    store.close().unwrap();
    drop(store);
    fs::remove_file(dir.path().join("streams.redb")).unwrap();
    flip(&dir.path().join("day/2026-11-21/streams.bin"), |n| n / 2);
    let store = open(dir.path(), &clock);
    let found: Vec<String> = all(&store).iter().map(|e| e.0.value("app").to_owned()).collect();
    assert_eq!(found, ["both", "both", "new"]);
    assert!(store.stats().corruptions > 0);
    // The numbers of streams that nobody knows are not given again.
    push(&store, &[line("other", NOON_NS, "x")]);
    let other = LogSelection::all(vec![Matcher::equal("app", "other")], i64::MIN, i64::MAX);
    assert_eq!(select(&store, &other).len(), 1);
}

#[test]
fn deletions_outlive_the_catalog() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let entries = filled(dir.path(), &clock);
    let delete = |from_ns: i64| crate::DeletionRequest {
        matchers: vec![Matcher::equal("app", "a")],
        start_ns: from_ns,
        end_ns: from_ns + 100,
        ..crate::DeletionRequest::default()
    };
    let store = open(dir.path(), &clock);
    store.delete(&delete(NOON_NS)).unwrap();
    let canceled = store.delete(&delete(NOON_NS + 100)).unwrap();
    assert!(store.cancel_deletion(canceled).unwrap());
    assert_eq!(all(&store).len(), entries.len() - 100);
    store.close().unwrap();
    drop(store);
    for content in [None, Some("no database at all")] {
        match content {
            None => fs::remove_file(dir.path().join("streams.redb")).unwrap(),
            Some(content) => fs::write(dir.path().join("streams.redb"), content).unwrap(),
        }
        let store = open(dir.path(), &clock);
        assert_eq!((all(&store).len(), store.deletions().len()), (entries.len() - 100, 1));
        assert!(store.delete(&delete(NOON_NS + 50)).unwrap() > 0);
        assert!(store.cancel_deletion(store.deletions()[1].id).unwrap());
    }
}

#[test]
fn a_day_of_another_release_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    filled(dir.path(), &clock);
    for (version, which) in [(1, "no longer reads"), (3, "newer")] {
        let format = format!("pilothouse-logs-day {version}\n");
        fs::write(dir.path().join("day/2026-11-22/FORMAT"), format).unwrap();
        let error = Store::open(dir.path(), options(&clock)).unwrap_err().to_string();
        assert!(error.contains(&format!("version {version}")) && error.contains(which), "{error}");
    }
}

/// Breaks yesterday, and expects that a look finds it there, that a repair leaves nothing to be
/// found, and that no more is lost than said.
fn check_repair(break_it: impl Fn(&Path), lost: impl Fn(usize) -> bool, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let entries = filled(dir.path(), &clock);
    let progress = Progress::default();
    let whole = crate::check(dir.path(), &progress).unwrap();
    assert!(whole.findings.is_empty() && whole.parts >= 4, "{what}: {whole:?}");
    assert!(progress.done_bytes() > 0);
    let day = dir.path().join("day/2026-11-21");
    break_it(&day);
    let checked = crate::check(dir.path(), &Progress::default()).unwrap();
    assert!(!checked.findings.is_empty(), "{what}");
    assert!(checked.findings.iter().all(|f| f.path.starts_with(&day)), "{what}: {:?}", checked.findings);
    assert_eq!(
        crate::check(dir.path(), &Progress::default()).unwrap(),
        checked,
        "{what}: a look changes nothing"
    );
    let repaired = crate::repair(dir.path(), options(&clock), &Progress::default()).unwrap();
    assert_eq!(repaired.findings, checked.findings, "{what}");
    let again = crate::check(dir.path(), &Progress::default()).unwrap();
    assert!(again.findings.is_empty(), "{what}: {:?}", again.findings);
    let store = open(dir.path(), &clock);
    let found = all(&store);
    assert!(found.iter().all(|e| entries.contains(e)), "{what}");
    assert!(lost(entries.len() - found.len()), "{what}: {} are left", found.len());
    assert_eq!(store.stats().corruptions, 0, "{what}");
}

#[test]
fn a_look_names_what_is_damaged_and_a_repair_cuts_it_out() {
    let some = |lost: usize| lost > 0 && lost <= 200;
    check_repair(|day| flip(&files_of(day, ".store")[0], |n| n / 3), some, "a block");
    check_repair(|day| fs::write(&files_of(day, ".store")[0], "").unwrap(), |lost| lost == 200, "a segment");
    // All that is in a segment is in its store.
    for ending in [".fast", ".idx", ".fieldnorm", ".term"] {
        check_repair(|day| fs::remove_file(&files_of(day, ending)[0]).unwrap(), |lost| lost == 0, ending);
        check_repair(|day| fs::write(&files_of(day, ending)[0], "").unwrap(), |lost| lost == 0, ending);
    }
    // Behind all that is read of it, so that nothing but the checksum tells.
    check_repair(|day| flip(&files_of(day, ".term")[0], |n| n / 2), |lost| lost == 0, "unread");
    check_repair(|day| fs::remove_file(day.join("meta.json")).unwrap(), |lost| lost == 0, "meta.json");
    check_repair(|day| flip(&day.join("FORMAT"), |_| 0), |lost| lost == 0, "FORMAT");
}

/// A segment that cannot be read does not keep deletions from being made real, nor merges.
#[test]
fn work_on_a_day_goes_on_around_a_damaged_part() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    filled(dir.path(), &clock);
    let day = dir.path().join("day/2026-11-22");
    fs::write(&files_of(&day, ".fast")[0], "").unwrap();
    let store = open(dir.path(), &clock);
    let left = all(&store);
    for i in 0..10 {
        push(&store, &[line("a", NOON_NS + 10 * MINUTE_NS + i, "more")]);
        store.flush().unwrap();
    }
    let segments = store.inner.days.all()[1].view().unwrap().segments.len();
    assert!(segments < 10, "{segments}");
    let request = crate::DeletionRequest {
        matchers: vec![Matcher::equal("app", "a")],
        start_ns: NOON_NS,
        end_ns: NOON_NS + 5 * MINUTE_NS,
        ..crate::DeletionRequest::default()
    };
    store.delete(&request).unwrap();
    clock.advance(25 * 3_600_000);
    store.maintain().unwrap();
    assert!(store.deletions().iter().all(|d| d.done));
    assert_eq!(all(&store).len(), left.iter().filter(|e| e.1 < NOON_NS).count() + 10);
    assert!(!files_of(&day, ".damaged-1").is_empty());
    store.close().unwrap();
    drop(store);
    assert!(crate::check(dir.path(), &Progress::default()).unwrap().findings.is_empty());
}

#[test]
fn a_repair_writes_anew_what_is_held_twice() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    filled(dir.path(), &clock);
    let store = open(dir.path(), &clock);
    let request = crate::DeletionRequest {
        matchers: vec![Matcher::equal("app", "a")],
        start_ns: NOON_NS,
        end_ns: NOON_NS + 100,
        ..crate::DeletionRequest::default()
    };
    store.delete(&request).unwrap();
    let left = all(&store);
    store.close().unwrap();
    drop(store);
    for name in ["streams.redb", "deletions.bin", "day/2026-11-22/streams.bin"] {
        let path = dir.path().join(name);
        assert!(crate::check(dir.path(), &Progress::default()).unwrap().findings.is_empty(), "{name}");
        // Wherever the labels are: redb keeps pages that are not in use any more.
        let mut bytes = fs::read(&path).unwrap();
        let said: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"app")).collect();
        said.iter().for_each(|at| bytes[*at] ^= 0xff);
        assert!(!said.is_empty(), "{name}");
        fs::write(&path, bytes).unwrap();
        let findings = crate::repair(dir.path(), options(&clock), &Progress::default()).unwrap().findings;
        assert!(!findings.is_empty() && findings.iter().all(|f| f.path == path), "{findings:?}");
        let store = open(dir.path(), &clock);
        check_same(&all(&store), &left, name);
        assert_eq!((store.deletions().len(), store.stats().corruptions), (1, 0), "{name}");
        store.close().unwrap();
    }
}

/// While a segment cannot be read its lines are taken for new when they are sent again.
#[test]
fn what_was_sent_again_while_it_could_not_be_read_is_there_once_after_a_repair() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let entries = filled(dir.path(), &clock);
    let day = dir.path().join("day/2026-11-21");
    // Half of one, then of all that is left and of what came again.
    for (ending, again) in [(".idx", 0..100), (".fast", 50..400)] {
        let before = files_of(&day, ending);
        before.iter().for_each(|path| fs::write(path, "").unwrap());
        let store = open(dir.path(), &clock);
        let left = all(&store).len();
        assert!(left < entries.len(), "{ending}");
        let came = push(&store, &entries[again.clone()]).entries;
        assert_eq!(came as usize, again.len(), "{ending}");
        store.flush().unwrap();
        assert_eq!(all(&store).len(), left + again.len());
        store.close().unwrap();
        drop(store);
        crate::repair(dir.path(), options(&clock), &Progress::default()).unwrap();
        let store = open(dir.path(), &clock);
        check_same(&all(&store), &entries, ending);
        store.close().unwrap();
    }
}

#[test]
fn a_segment_of_many_blocks_is_cut_out_some_at_a_time() {
    for ending in ["", ".fast"] {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
        let store = open(dir.path(), &clock);
        let entries: Vec<Entry> = (0..8).map(|i| line("a", NOON_NS + i, &format!("line {i}"))).collect();
        for entry in &entries {
            push(&store, std::slice::from_ref(entry));
            store.flush().unwrap();
        }
        let day = || store.inner.days.all()[0].clone();
        let id = day().view().unwrap().segments[0].id();
        assert_eq!((day().view().unwrap().segments.len(), day().view().unwrap().block_count()), (1, 8));
        if !ending.is_empty() {
            let files = files_of(&dir.path().join("day/2026-11-22"), ending);
            files.iter().for_each(|path| fs::write(path, "").unwrap());
            store.inner.days.all()[0].unload();
            assert_eq!(day().view().unwrap().segments.len(), 0);
        }
        crate::check::cut_out(&store, &day(), id, 3).unwrap();
        store.inner.forget_seen();
        assert_eq!(day().view().unwrap().block_count(), 8, "{ending}");
        check_same(&all(&store), &entries, ending);
        store.close().unwrap();
        drop(store);
        assert!(crate::check(dir.path(), &Progress::default()).unwrap().findings.is_empty());
        check_same(&all(&open(dir.path(), &clock)), &entries, ending);
    }
}

/// What a deletion hides on the disk is no reason to forget what was written after it.
#[test]
fn a_line_that_came_again_after_its_deletion_outlives_a_lost_list() {
    for filter in ["", "|= line"] {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
        let options = super::deletions::with_filters(&clock);
        let open = || Store::open(dir.path(), options.clone()).unwrap();
        let store = open();
        let entries: Vec<Entry> = (0..10).map(|i| line("a", NOON_NS + i, &format!("line {i}"))).collect();
        push(&store, &entries);
        store.flush().unwrap();
        let request = crate::DeletionRequest {
            matchers: vec![Matcher::equal("app", "a")],
            start_ns: NOON_NS,
            end_ns: NOON_NS + 6,
            filter: filter.to_owned(),
            ..crate::DeletionRequest::default()
        };
        store.delete(&request).unwrap();
        assert_eq!(push(&store, &entries[3..]).entries, 3);
        check_same(&all(&store), &entries[3..], "before");
        drop(store);
        for life in 0..2 {
            lose_list(&dir.path().join("day/2026-11-22"));
            let store = open();
            check_same(&all(&store), &entries[3..], &format!("life {life} {filter}"));
        }
        let store = open();
        clock.advance(25 * 3_600_000);
        store.flush().unwrap();
        store.maintain().unwrap();
        assert!(store.deletions().iter().all(|deletion| deletion.done));
        check_same(&all(&store), &entries[3..], filter);
    }
}
