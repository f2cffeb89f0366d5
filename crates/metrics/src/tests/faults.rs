//! Disks that are full or broken for a while: nothing acknowledged is lost, and what was refused
//! is taken when the disk is well again.

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
