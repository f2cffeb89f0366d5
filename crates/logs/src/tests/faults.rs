//! Disks that are full or broken for a while, and a process without file descriptors: nothing
//! acknowledged is lost, nothing is doubled, and what was refused is taken when all is well again.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pilothouse_disk::faults::Disk;

use super::*;

/// Two days, two streams, and one that is new in each round, so that the catalog has work too.
fn round(i: i64) -> Vec<Entry> {
    let mut entries = Vec::new();
    for app in ["a", "b", &format!("new-{i}")] {
        for k in 0..100 {
            let t_ns = NOON_NS - 86_400_000_000_000 * (k % 2) + i * MINUTE_NS + k * 1_000;
            entries.push(line(app, t_ns, &format!("round {i} entry {k} of {app} took {}ms", k * 7919 % 977)));
        }
    }
    entries
}

/// Whether a push was acknowledged.
fn is_taken(store: &Store, entries: &[Entry]) -> bool {
    let mut durable = match store.append(&batch(entries)) {
        Ok(appended) => {
            assert_eq!(appended.rejected, 0);
            appended.durable
        }
        Err(SourceError::NotWritable(_) | SourceError::Storage(_)) => return false,
        Err(other) => panic!("{other}"),
    };
    let mut context = Context::from_waker(Waker::noop());
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody ends the wait");
        if let Poll::Ready(result) = durable.as_mut().poll(&mut context) {
            return result.is_ok();
        }
        std::thread::yield_now();
    }
}

fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn clock() -> Arc<TestClock> {
    TestClock::at(NOON_NS + 24 * 60 * MINUTE_NS)
}

/// Entries that were acknowledged are all there, and no other than those that were sent.
fn check_between(store: &Store, acknowledged: &Model, sent: &Model, what: &str) {
    let found = all(store);
    assert!(found.windows(2).all(|w| w[0] != w[1]), "{what}: an entry twice");
    let has = |model: &Model, e: &Entry| model.0.contains_key(&(e.0.clone(), e.1, e.2.clone()));
    assert!(found.iter().all(|e| has(sent, e)), "{what}: an entry that nobody sent");
    let kept = found.iter().filter(|e| has(acknowledged, e)).count();
    assert_eq!(kept, acknowledged.0.len(), "{what}");
}

/// Drives a store while `hurt` does something to the disk, and has it repeat what was refused after
/// `mend`, as a sender would. Returns what was acknowledged, and how many flushes failed.
fn drive(store: &Store, rounds: i64, hurt: &dyn Fn(i64), mend: &dyn Fn()) -> (Model, i64) {
    let (mut acknowledged, mut sent) = (Model::default(), Model::default());
    let mut failed = 0;
    for i in 0..rounds {
        assert!(is_taken(store, &round(2 * i)), "{i}");
        acknowledged.add(&round(2 * i));
        sent.add(&round(2 * i));
        hurt(i);
        let second = round(2 * i + 1);
        sent.add(&second);
        if is_taken(store, &second) {
            acknowledged.add(&second);
        }
        failed += i64::from(store.flush().is_err());
        check_between(store, &acknowledged, &sent, &format!("round {i}, hurt"));
        mend();
        eventually(|| is_taken(store, &second));
        acknowledged.add(&second);
        check_same(&all(store), &acknowledged.entries(), &format!("round {i}, mended"));
        if i % 3 == 0 {
            store.flush().unwrap();
            check_same(&all(store), &acknowledged.entries(), &format!("round {i}, flushed"));
        }
    }
    (acknowledged, failed)
}

/// The store is killed, and closed, and each time it is the same.
fn check_reopened(store: Store, dir: &Path, clock: &Arc<TestClock>, model: &Model) {
    drop(store);
    let store = open(dir, clock);
    check_same(&all(&store), &model.entries(), "after a kill");
    store.close().unwrap();
    drop(store);
    let store = open(dir, clock);
    check_same(&all(&store), &model.entries(), "after a clean end");
    assert_eq!(store.stats().corruptions, 0);
}

#[test]
fn a_disk_that_fills_up_anywhere_loses_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let disk = Disk::below(dir.path());
    let store = open(dir.path(), &clock);
    // From the log's first byte to beyond the last of a commit.
    let hurt = |i: i64| disk.fill_after(i as u64 * i as u64 * 1_400);
    let (model, failed) = drive(&store, 15, &hurt, &|| disk.fill_after(u64::MAX));
    assert!((5..15).contains(&failed), "{failed}");
    check_reopened(store, dir.path(), &clock, &model);
}

#[test]
fn nothing_is_committed_when_there_is_too_little_room_to_begin() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let disk = Disk::below(dir.path());
    let store = open(dir.path(), &clock);
    let (model, failed) = drive(&store, 3, &|_| disk.tell_room(70 << 20), &|| disk.tell_room(u64::MAX));
    assert_eq!(failed, 3);
    check_reopened(store, dir.path(), &clock, &model);
}

#[test]
fn days_that_cannot_be_written_wait_in_memory_and_in_the_log() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let disk = Disk::below(&dir.path().join("day"));
    let store = open(dir.path(), &clock);
    let hurt = |i: i64| if i % 2 == 0 { disk.fail_writes(true) } else { disk.fail_opens(true) };
    let mend = || {
        disk.fail_writes(false);
        disk.fail_opens(false);
    };
    let (model, failed) = drive(&store, 6, &hurt, &mend);
    assert_eq!(failed, 6);
    check_reopened(store, dir.path(), &clock, &model);
}

#[test]
fn a_catalog_that_cannot_be_written_holds_commits_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let disk = Disk::below(&dir.path().join("streams.redb"));
    let store = open(dir.path(), &clock);
    let (model, failed) = drive(&store, 4, &|_| disk.fail_writes(true), &|| disk.fail_writes(false));
    assert_eq!(failed, 4);
    check_reopened(store, dir.path(), &clock, &model);
}

#[test]
fn a_log_that_failed_refuses_until_the_next_start_and_keeps_what_it_answered_for() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let disk = Disk::below(dir.path());
    let store = open(dir.path(), &clock);
    let mut model = Model::default();
    assert!(is_taken(&store, &round(0)));
    model.add(&round(0));
    disk.fail_writes(true);
    assert!(!is_taken(&store, &round(1)));
    assert!(store.flush().is_err());
    disk.fail_writes(false);
    // Nobody can tell what the failed sync has left.
    assert!(!is_taken(&store, &round(1)) && store.flush().is_err());
    drop(store);
    let store = open(dir.path(), &clock);
    check_same(&all(&store), &model.entries(), "after the failure");
    assert!(is_taken(&store, &round(1)));
    model.add(&round(1));
    check_reopened(store, dir.path(), &clock, &model);
}

/// What a query sees, or that it fails.
fn try_all(store: &Store) -> Result<Vec<Entry>, SourceError> {
    let collect = Collect::default();
    let selection = LogSelection::all(every_stream(), i64::MIN, i64::MAX);
    store.read(&selection, &collect, &Budget::unlimited())?;
    let mut found = collect.found.into_inner();
    found.sort();
    Ok(found)
}

#[test]
fn queries_fail_while_the_disk_does_and_see_everything_when_it_is_well() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let disk = Disk::below(dir.path());
    let mut model = Model::default();
    let store = open(dir.path(), &clock);
    for i in 0..4 {
        push(&store, &round(i));
        model.add(&round(i));
        store.flush().unwrap();
    }
    let expected = model.entries();
    for fail in [Disk::fail_reads as fn(&Disk, bool), Disk::fail_opens] {
        for unloaded in [true, false] {
            store.inner.days.all().iter().filter(|_| unloaded).for_each(|day| day.unload());
            fail(&disk, true);
            // Part of an answer would be taken for all of it.
            if let Ok(found) = try_all(&store) {
                check_same(&found, &expected, "while it fails");
            }
            // A late line is looked for, or refused; it is not stored twice.
            is_taken(&store, &round(1));
            fail(&disk, false);
            check_same(&all(&store), &expected, "when it is well");
            assert_eq!(push(&store, &round(2)).duplicates, round(2).len() as u64);
        }
    }
    assert_eq!(store.stats().corruptions, 0);
    check_reopened(store, dir.path(), &clock, &model);
}

#[test]
fn a_start_that_fails_for_want_of_descriptors_sets_nothing_aside() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open(dir.path(), &clock);
    let mut model = Model::default();
    push(&store, &round(0));
    model.add(&round(0));
    store.flush().unwrap();
    push(&store, &round(1));
    model.add(&round(1));
    drop(store);
    let disk = Disk::below(dir.path());
    for fail in [Disk::fail_opens as fn(&Disk, bool), Disk::fail_reads] {
        fail(&disk, true);
        if let Ok(store) = Store::open(dir.path(), options(&clock)) {
            drop(store);
        }
        fail(&disk, false);
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|n| !n.to_string_lossy().contains("damaged")), "{names:?}");
        let store = open(dir.path(), &clock);
        check_same(&all(&store), &model.entries(), "after the start");
        assert_eq!(store.stats().corruptions, 0);
    }
}
