//! Disks that are full or broken for a while: nothing acknowledged is lost, and what was refused
//! is taken when the disk is well again.

use pilothouse_disk::backup::Progress;
use pilothouse_disk::faults::Disk;
use pilothouse_model::ports::LabelQuery;

use super::*;

fn open() -> (tempfile::TempDir, Disk, Arc<Stepped>, Store) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let disk = Disk::below(dir.path());
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    (dir, disk, clock, store)
}

/// Appends one sample to each of some series; whether that was acknowledged.
fn push(store: &Store, clock: &Stepped) -> bool {
    clock.step(1000);
    let now = clock.now_ms();
    let push = (0..50).fold(Push::new(), |push, i| push.floats(&series("a", i), &[(now, i as f64)]));
    match store.append(&push.0) {
        Ok(appended) => wait(appended.durable).is_ok(),
        Err(SourceError::NotWritable(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn samples(content: &Content) -> usize {
    content.values().map(BTreeMap::len).sum()
}

fn eventually(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "it never came");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn writes_are_refused_before_the_disk_is_full_and_taken_when_there_is_room() {
    let (dir, disk, clock, store) = open();
    assert!(push(&store, &clock));
    disk.tell_room(80 << 20);
    eventually(|| store.append(&Push::new().0).is_err());
    let refused = store.append(&Push::new().0).unwrap_err().to_string();
    assert!(refused.contains("no space left on the disk"), "{refused}");
    // What is in memory still gets to the disk.
    store.seal_all().unwrap();
    // A compaction is not begun that cannot end.
    disk.tell_room((64 << 20) + 1);
    assert!(store.inner.compact_days(true).is_err());
    assert_eq!((store.stats().open_day_files, store.stats().closed_day_files), (1, 0));
    disk.tell_room(u64::MAX);
    eventually(|| push(&store, &clock));
    let content = read_all(&store);
    drop(store);
    assert_eq!(read_all(&Store::open(dir.path(), options(&clock)).unwrap()), content);
}

/// The store is driven while the disk lets fewer and fewer bytes through, at every stage of a
/// flush and a compaction, and compared with what was acknowledged.
#[test]
fn a_disk_that_fills_up_anywhere_loses_nothing() {
    let (dir, disk, clock, store) = open();
    let mut acknowledged = 0;
    for room in [0, 1, 100, 5_000, 20_000, 50_000, 100_000, 200_000, 400_000] {
        acknowledged += 50 * usize::from(push(&store, &clock));
        // What is told of the room stays as it was: others may have filled the disk since.
        disk.fill_after(room);
        let taken = push(&store, &clock);
        let flushed = store.seal_all().and_then(|()| store.compact_now());
        assert!(flushed.is_err() || room > 100_000, "{room}");
        disk.fill_after(u64::MAX);
        eventually(|| store.inner.wal.fault().is_none());
        // A record that met the full disk waits in the buffer and is written after all.
        acknowledged += 50 * usize::from(taken);
        let held = samples(&read_all(&store));
        assert!(held == acknowledged || held == acknowledged + 50, "{room}: {held} of {acknowledged}");
        acknowledged = held;
        store.compact_now().unwrap();
        assert_eq!(samples(&read_all(&store)), acknowledged);
    }
    let content = read_all(&store);
    drop(store);
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!((read_all(&store), store.stats().corruptions), (content, 0));
}

#[test]
fn reads_that_the_disk_failed_succeed_when_it_is_well() {
    let (dir, disk, clock, store) = open();
    // Some pages of noise, so that the file is more than what opening it reads.
    let noise = |i: usize| (0..400).map(move |t| (NOON + t, ((i as i64 * 400 + t) as f64).sin()));
    for i in 0..50 {
        Push::new().floats(&series("a", i), &noise(i).collect::<Vec<_>>()).to(&store);
    }
    let content = read_all(&store);
    store.close().unwrap();
    drop(store);
    for closed in [false, true] {
        // Anew, so that nothing is cached. A closed day is opened while the disk is well.
        let store = Store::open(dir.path(), options(&clock)).unwrap();
        if closed {
            let all = LabelQuery { matcher_sets: Vec::new(), start_ms: 0, end_ms: i64::MAX, limit: 0 };
            store.label_names(&all, &Budget::unlimited()).unwrap();
        }
        disk.fail_reads(true);
        assert!(is_unreadable(&store), "closed: {closed}");
        disk.fail_reads(false);
        eventually(|| !is_unreadable(&store));
        assert_eq!(read_all(&store), content, "closed: {closed}");
        // The file that was opened anew is also written to again.
        assert!(push(&store, &clock) && store.seal_all().is_ok());
        store.delete_series(&[vec![Matcher::equal("__name__", "a")]], clock.now_ms(), i64::MAX).unwrap();
        store.compact_now().unwrap();
        assert_eq!(read_all(&store), content);
    }
}

/// Whether any of the series cannot be read.
fn is_unreadable(store: &Store) -> bool {
    let matchers = vec![Matcher::equal("__name__", "a")];
    let selection = Selection { matchers, start_ms: i64::MIN, end_ms: i64::MAX, needs: LabelNeeds::All };
    let Ok(selected) = store.select(&selection, &Budget::unlimited()) else { return true };
    let mut columns = SampleColumns::default();
    selected.iter().any(|s| s.samples.read(i64::MIN, i64::MAX, &mut columns).is_err())
}

#[test]
fn a_broken_disk_keeps_what_was_acknowledged() {
    let (dir, disk, clock, store) = open();
    assert!(push(&store, &clock));
    let content = read_all(&store);
    disk.fail_writes(true);
    assert!(!push(&store, &clock));
    assert!(store.seal_all().is_err());
    disk.fail_writes(false);
    // The log cannot know what a failed sync has left, and ends for this process.
    assert!(!push(&store, &clock));
    drop(store);
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!((read_all(&store), store.stats().corruptions), (content, 0));
    assert!(push(&store, &clock));
}

/// A store of one young and one closed day; what it held.
fn two_days(path: &std::path::Path, clock: &Arc<Stepped>) -> Content {
    let store = Store::open(path, options(clock)).unwrap();
    let noise = |i: usize, day: i64| {
        (0..300)
            .map(move |t| (NOON + day * DAY_MS + t, ((i as i64 * 300 + t) as f64).sin()))
            .collect::<Vec<_>>()
    };
    for day in [-1, 0] {
        (0..60).for_each(|i| drop(Push::new().floats(&series("a", i), &noise(i, day)).to(&store)));
        if day < 0 {
            store.compact_now().unwrap();
        }
    }
    store.seal_all().unwrap();
    let content = read_all(&store);
    store.close().unwrap();
    content
}

fn files_below(directory: &std::path::Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

/// A bad sector costs what is in it, as bytes that are wrong do: a look tells of it, the store opens, and a repair
/// leaves one that can be read from end to end.
#[test]
fn a_bad_sector_anywhere_keeps_neither_a_start_nor_a_repair_from_the_rest() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let content = two_days(dir.path(), &clock);
    let mut partly = 0;
    for (below, ending) in [("", "series.redb"), ("day", ".l0.redb"), ("day", ".l1.redb"), ("wal", ".wal")] {
        let file = files_below(&dir.path().join(below), ending).remove(0);
        let pages = std::fs::metadata(&file).unwrap().len() / 4096;
        // A segment whose header is bad is told of until it is trimmed.
        let first = u64::from(ending == ".wal");
        for page in (first..pages).step_by(pages as usize / 8 + 1) {
            let name = format!("{ending}, page {page}");
            let copy = tempfile::tempdir().unwrap();
            copy_directory(dir.path(), copy.path());
            let disk = Disk::below(copy.path());
            let file = copy.path().join(file.strip_prefix(dir.path()).unwrap());
            disk.spoil(&file, page * 4096 + 100..page * 4096 + 612);
            let found = crate::check(copy.path(), &Progress::default()).unwrap().findings;
            drop(Store::open(copy.path(), options(&clock)).unwrap());
            crate::repair(copy.path(), options(&clock), &Progress::default()).unwrap();
            let again = crate::check(copy.path(), &Progress::default()).unwrap().findings;
            assert_eq!(again, [], "{name}");
            let store = Store::open(copy.path(), options(&clock)).unwrap();
            let held = read_all(&store);
            for (labels, samples) in &held {
                let known = &content[labels];
                assert!(samples.iter().all(|(t, value)| known.get(t) == Some(value)), "{name}: {labels:?}");
            }
            let is_whole = held == content;
            assert!(is_whole || !found.is_empty(), "{name}");
            partly += u32::from(!is_whole && !held.is_empty());
            assert!(push(&store, &clock), "{name}");
        }
    }
    assert!(partly > 4, "{partly}");
}

/// What is only in the log, some of which cannot be read.
#[test]
fn a_bad_sector_in_the_log_costs_what_is_in_it() {
    let (dir, disk, clock, store) = open();
    (0..200).for_each(|_| assert!(push(&store, &clock)));
    let content = read_all(&store);
    drop(store);
    let segment = files_below(&dir.path().join("wal"), ".wal").remove(0);
    let written = std::fs::read(&segment).unwrap();
    let bytes = written.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    assert!(bytes > 5 * 4096, "{bytes}");
    disk.spoil(&segment, bytes / 2..bytes / 2 + 512);
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    let held = read_all(&store);
    assert!(samples(&held) > samples(&content) / 2 && held != content && store.stats().corruptions > 0);
    assert!(push(&store, &clock));
}

#[test]
fn a_disk_that_gives_nothing_is_waited_for() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let content = two_days(dir.path(), &clock);
    let disk = Disk::below(dir.path());
    disk.fail_reads(true);
    assert!(Store::open(dir.path(), options(&clock)).is_err());
    disk.fail_reads(false);
    for below in ["", "day", "wal"] {
        assert!(files_below(&dir.path().join(below), "-1").is_empty());
    }
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!((read_all(&store), store.stats().corruptions), (content, 0));
}

/// The damaged catalog is kept as a copy.
#[test]
fn a_catalog_is_salvaged_where_files_cannot_be_linked() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let content = two_days(dir.path(), &clock);
    let disk = Disk::below(dir.path());
    let catalog = dir.path().join("series.redb");
    let pages = std::fs::metadata(&catalog).unwrap().len() / 4096;
    disk.refuse_links(true);
    for page in 1..pages {
        disk.spoil(&catalog, page * 4096..page * 4096 + 512);
        let store = Store::open(dir.path(), options(&clock)).unwrap();
        assert_eq!(read_all(&store), content);
        store.close().unwrap();
        if !files_below(dir.path(), ".damaged-1").is_empty() {
            return;
        }
    }
    panic!("no page of the catalog was read");
}
