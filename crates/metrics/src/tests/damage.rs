//! Files that are damaged or gone: the store opens without them and takes nothing for another's.

use std::path::{Path, PathBuf};

use pilothouse_disk::backup::Progress;

use super::*;

fn fill(store: &Store, name: &str, t_ms: i64) {
    (0..20).fold(Push::new(), |push, i| push.floats(&series(name, i), &[(t_ms, i as f64)])).to(store);
}

/// A store with one day flushed, closed again; what it held.
fn flushed() -> (tempfile::TempDir, Arc<Stepped>, Content) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    fill(&store, "before", NOON);
    let content = read_all(&store);
    store.close().unwrap();
    (dir, clock, content)
}

fn names(directory: &Path, with: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    entries.filter(|p| p.to_str().unwrap().contains(with)).collect()
}

/// After damage the store must open, take new series, and show nothing but them, again and again.
fn check_new_series_alone(directory: &Path, clock: &Arc<Stepped>) {
    let store = Store::open(directory, options(clock)).unwrap();
    assert!(store.stats().corruptions > 0);
    assert!(read_all(&store).is_empty());
    fill(&store, "after", NOON + 1000);
    store.compact_now().unwrap();
    let content = read_all(&store);
    assert_eq!(content.len(), 20);
    assert!(
        content.iter().all(|(labels, samples)| labels.value("__name__") == "after" && samples.len() == 1)
    );
    store.close().unwrap();
    drop(store);
    let store = Store::open(directory, options(clock)).unwrap();
    assert_eq!((read_all(&store), store.stats().corruptions), (content, 0));
}

#[test]
fn a_damaged_day_file_is_set_aside() {
    for content in [vec![], vec![0; 1 << 16], b"no database".to_vec()] {
        let (dir, clock, _) = flushed();
        let file = names(&dir.path().join("day"), ".l0.redb").remove(0);
        std::fs::write(&file, &content).unwrap();
        if content.is_empty() {
            // Nothing was ever in it.
            let store = Store::open(dir.path(), options(&clock)).unwrap();
            assert!(read_all(&store).is_empty());
            continue;
        }
        check_new_series_alone(dir.path(), &clock);
        assert_eq!(names(&dir.path().join("day"), ".damaged-1").len(), 1);
    }
}

#[test]
fn without_the_catalog_no_sample_gets_the_labels_of_another_series() {
    for damage in [None, Some(vec![]), Some(vec![0; 1 << 16])] {
        let (dir, clock, _) = flushed();
        let catalog = dir.path().join("series.redb");
        match &damage {
            None => std::fs::remove_file(&catalog).unwrap(),
            Some(content) => std::fs::write(&catalog, content).unwrap(),
        }
        for segment in names(&dir.path().join("wal"), ".wal") {
            std::fs::remove_file(segment).unwrap();
        }
        check_new_series_alone(dir.path(), &clock);
        assert_eq!(names(&dir.path().join("day"), ".orphan-1").len(), 1);
        let aside = usize::from(damage.is_some_and(|d| !d.is_empty()));
        assert_eq!(names(dir.path(), ".damaged-1").len(), aside);
    }
}

#[test]
fn the_log_brings_back_what_it_still_has_without_the_catalog() {
    let (dir, clock, content) = flushed();
    std::fs::write(dir.path().join("series.redb"), [0; 1 << 16]).unwrap();
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!(read_all(&store), content);
}

#[test]
fn a_file_of_a_newer_release_still_refuses_the_start() {
    let (dir, clock, _) = flushed();
    let catalog = dir.path().join("series.redb");
    std::fs::remove_file(&catalog).unwrap();
    drop(pilothouse_disk::Database::open(&catalog, "metrics-series", 99, 1 << 20).unwrap());
    assert!(Store::open(dir.path(), options(&clock)).is_err());
    assert!(names(dir.path(), ".damaged").is_empty());
}

#[test]
fn a_missing_part_of_the_log_is_noticed() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let life = |name: &str, flush: bool| {
        let store = Store::open(dir.path(), options(&clock)).unwrap();
        let corruptions = store.stats().corruptions;
        clock.step(1000);
        fill(&store, name, clock.now_ms());
        if flush {
            store.seal_all().unwrap();
        }
        (corruptions, read_all(&store).len())
    };
    let log = dir.path().join("wal");
    assert_eq!(life("first", false), (0, 20));
    // Trims the segment of the life before.
    assert_eq!(life("second", true), (0, 40));
    assert_eq!(names(&log, ".wal").len(), 1);
    assert_eq!(life("third", false), (0, 60));
    assert_eq!(life("fourth", false), (0, 80));
    let mut segments = names(&log, ".wal");
    segments.sort();
    // The oldest that is needed.
    std::fs::remove_file(&segments[segments.len() - 2]).unwrap();
    let (corruptions, series) = life("fifth", true);
    assert!(corruptions > 0 && series == 80, "{corruptions} {series}");
    assert_eq!(life("sixth", false), (0, 100));
    names(&log, ".wal").iter().for_each(|segment| std::fs::remove_file(segment).unwrap());
    let (corruptions, series) = life("seventh", true);
    assert!(corruptions > 0 && series == 100, "{corruptions} {series}");
    assert_eq!(life("eighth", true), (0, 120));
}

/// A store of three closed days, two of which are then damaged while nobody has it open: the
/// one in a page of samples, the other in the header of its file.
fn damaged() -> (tempfile::TempDir, Arc<Stepped>, Content) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    let day_ms = 24 * HOUR_MS;
    for day in 0..3 {
        let noise =
            |i: usize| (0..300).map(move |t| (NOON - day * day_ms + t, ((i as i64 * 300 + t) as f64).sin()));
        for i in 0..50 {
            Push::new().floats(&series("a", i), &noise(i).collect::<Vec<_>>()).to(&store);
        }
    }
    store.compact_now().unwrap();
    let content = read_all(&store);
    store.close().unwrap();
    drop(store);
    let mut files = names(&dir.path().join("day"), ".l1.redb");
    files.sort();
    assert_eq!(files.len(), 3);
    let mut bytes = std::fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle..middle + 64].iter_mut().for_each(|b| *b ^= 0x55);
    std::fs::write(&files[0], bytes).unwrap();
    let mut bytes = std::fs::read(&files[1]).unwrap();
    bytes[..512].fill(0xaa);
    std::fs::write(&files[1], bytes).unwrap();
    (dir, clock, content)
}

fn newest_day(content: &Content) -> Content {
    let mut newest = content.clone();
    newest.values_mut().for_each(|samples| samples.retain(|t, _| *t >= NOON));
    newest
}

#[test]
fn what_is_damaged_is_left_out_and_the_rest_is_read() {
    let (dir, clock, content) = damaged();
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    let all = Selection {
        matchers: vec![Matcher::equal("__name__", "a")],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
        needs: LabelNeeds::All,
    };
    // The file that cannot be opened may fail the first to ask for it, and is out of the way then.
    let _ = store.select(&all, &Budget::unlimited());
    let found = read_all(&store);
    assert_eq!(newest_day(&found), newest_day(&content));
    assert!(store.stats().corruptions >= 1);
    assert_eq!(names(&dir.path().join("day"), ".damaged-1").len(), 1);
}

#[test]
fn a_look_names_what_is_damaged_and_a_repair_cuts_it_out() {
    let (dir, clock, content) = damaged();
    let before: Vec<_> =
        names(&dir.path().join("day"), ".l1.redb").iter().map(|p| std::fs::read(p).unwrap()).collect();
    let checked = crate::check(dir.path(), &Progress::default()).unwrap();
    let shown: Vec<String> = checked.findings.iter().map(ToString::to_string).collect();
    assert!(checked.findings.len() >= 2 && shown.iter().all(|f| f.contains(".l1.redb")), "{shown:?}");
    let after: Vec<_> =
        names(&dir.path().join("day"), ".l1.redb").iter().map(|p| std::fs::read(p).unwrap()).collect();
    assert!(before == after, "a look changes no closed day");
    let found = crate::repair(dir.path(), options(&clock), &Progress::default()).unwrap();
    assert_eq!(found.findings.len(), checked.findings.len());
    assert_eq!(crate::check(dir.path(), &Progress::default()).unwrap().findings, []);
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!(newest_day(&read_all(&store)), newest_day(&content));
    assert_eq!(store.stats().corruptions, 0);
}

#[test]
fn a_whole_store_has_no_findings() {
    let (dir, _, content) = flushed();
    let checked = crate::check(dir.path(), &Progress::default()).unwrap();
    assert_eq!(checked.findings, []);
    assert!(checked.files >= 2 && checked.parts >= 1 && !content.is_empty());
    let store = Store::open(dir.path(), options(&Stepped::new(NOON))).unwrap();
    assert!(crate::check(dir.path(), &Progress::default()).is_err());
    drop(store);
}

/// Two groups of series in two flushes, without a log; what it held.
fn grouped() -> (tempfile::TempDir, Arc<Stepped>, Content) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    for flush in 0..2 {
        let t_ms = NOON + flush * 1000;
        let push = (0..4_500).fold(Push::new(), |push, i| push.floats(&series("m", i), &[(t_ms, i as f64)]));
        push.to(&store);
        store.seal_all().unwrap();
    }
    let content = read_all(&store);
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    (dir, clock, content)
}

/// Changes a file here and there. Each time the store opens and shows nothing but what was there, under the labels
/// that it had; a compaction changes nothing about that. How often something was lost, and not all.
fn check_flips(ending: &str, steps: usize) -> u32 {
    let (dir, clock, content) = grouped();
    let whole = dir.path().join("whole");
    let file = if ending == "series.redb" {
        dir.path().join(ending)
    } else {
        names(&dir.path().join("day"), ending).remove(0)
    };
    std::fs::copy(&file, &whole).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    let said: Vec<usize> = (320..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut partly = 0;
    for (n, at) in said.iter().step_by(said.len() / steps).enumerate() {
        let copy = tempfile::tempdir().unwrap();
        for name in ["series.redb", "day"] {
            let from = dir.path().join(name);
            let files = if from.is_dir() { names(&from, "") } else { vec![from] };
            for from in files {
                let to = copy.path().join(from.strip_prefix(dir.path()).unwrap());
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(&from, to).unwrap();
            }
        }
        let mut bytes = bytes.clone();
        let end = (*at + if n % 2 == 0 { 1 } else { 600 }).min(bytes.len());
        bytes[*at..end].iter_mut().for_each(|byte| *byte ^= 0x11);
        std::fs::write(copy.path().join(file.strip_prefix(dir.path()).unwrap()), bytes).unwrap();
        let checked = crate::check(copy.path(), &Progress::default()).unwrap();
        let store = Store::open(copy.path(), options(&clock)).unwrap();
        for compacted in [false, true] {
            if compacted {
                store.compact_now().unwrap();
            }
            let found = read_all(&store);
            for (labels, samples) in &found {
                let held = content.get(labels).unwrap_or_else(|| panic!("{at}: {labels:?} is invented"));
                assert!(samples.iter().all(|(t, value)| held.get(t) == Some(value)), "{at}: {labels:?}");
            }
            let is_whole = found == content;
            assert!(is_whole || store.stats().corruptions > 0 && !checked.findings.is_empty(), "{at}");
            partly += u32::from(!is_whole && !found.is_empty() && !compacted);
        }
        store.close().unwrap();
    }
    partly
}

#[test]
fn a_damaged_catalog_keeps_the_series_that_are_certain() {
    assert!(check_flips("series.redb", 24) > 5);
}

#[test]
fn a_damaged_young_file_keeps_what_is_certain() {
    assert!(check_flips(".l0.redb", 24) > 5);
}

#[test]
fn young_files_and_catalogs_that_are_cut_off_keep_no_store_from_opening() {
    for (file, part) in
        [("series.redb", 2), ("series.redb", 3), (".l0.redb", 2), (".l0.redb", 3), (".l0.redb", 5)]
    {
        let (dir, clock, _) = flushed();
        let path = match file {
            "series.redb" => dir.path().join(file),
            _ => names(&dir.path().join("day"), file).remove(0),
        };
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(length / part).unwrap();
        assert!(
            !crate::check(dir.path(), &Progress::default()).unwrap().findings.is_empty(),
            "{file} {part}"
        );
        let store = Store::open(dir.path(), options(&clock)).unwrap();
        fill(&store, "after", NOON + 1000);
        assert!(read_all(&store).len() >= 20 && store.stats().corruptions > 0, "{file} {part}");
    }
}

/// What a look at a store leaves behind is what was there, after a kill too.
#[test]
fn a_look_changes_no_byte() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    fill(&store, "before", NOON);
    store.seal_all().unwrap();
    fill(&store, "before", NOON + 1000);
    let copy = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for part in ["", "day", "wal"] {
        std::fs::create_dir_all(copy.path().join(part)).unwrap();
        for from in names(&dir.path().join(part), "").into_iter().filter(|from| from.is_file()) {
            let to = copy.path().join(from.strip_prefix(dir.path()).unwrap());
            std::fs::copy(&from, &to).unwrap();
            all.push((std::fs::read(&from).unwrap(), to));
        }
    }
    assert_eq!(crate::check(copy.path(), &Progress::default()).unwrap().findings, []);
    assert!(all.len() >= 4 && all.iter().all(|(bytes, path)| std::fs::read(path).unwrap() == *bytes));
}

#[test]
fn a_log_that_is_damaged_where_nobody_needs_it_is_no_finding() {
    let (dir, clock, content) = flushed();
    let segment = names(&dir.path().join("wal"), ".wal").remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(crate::check(dir.path(), &Progress::default()).unwrap().findings, []);
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    assert_eq!((read_all(&store), store.stats().corruptions), (content, 0));
}

/// Damages every page of the catalog in turn, some at least, where the log still has everything. What it brings
/// back stays, though the process is killed before any of it is in the catalog.
#[test]
fn what_the_log_brings_back_of_a_damaged_catalog_outlives_a_kill() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    let push = (0..3_000).fold(Push::new(), |push, i| push.floats(&series("m", i), &[(NOON, i as f64)]));
    push.to(&store);
    let content = read_all(&store);
    store.close().unwrap();
    drop(store);
    let bytes = std::fs::read(dir.path().join("series.redb")).unwrap();
    let mut regained = 0;
    for page in (1..bytes.len() / 4096).step_by(bytes.len() / 4096 / 16) {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(dir.path(), copy.path());
        let mut bytes = bytes.clone();
        bytes[page * 4096..page * 4096 + 64].iter_mut().for_each(|byte| *byte ^= 0x11);
        std::fs::write(copy.path().join("series.redb"), bytes).unwrap();
        let store = Store::open(copy.path(), options(&clock)).unwrap();
        regained += store.stats().corruptions;
        assert_eq!(read_all(&store), content, "page {page}");
        drop(store);
        let store = Store::open(copy.path(), options(&clock)).unwrap();
        assert_eq!((read_all(&store), store.stats().corruptions), (content.clone(), 0), "page {page}");
        store.close().unwrap();
        drop(store);
        let store = Store::open(copy.path(), options(&clock)).unwrap();
        assert_eq!(read_all(&store), content, "page {page}");
        assert!(store.stats().replayed_records <= 1, "page {page}: the log is not read again");
    }
    assert!(regained > 5, "{regained}");
}

/// A deletion that no file has taken in yet, and the page of the catalog that holds it.
#[test]
fn a_deletion_that_the_catalog_lost_holds_by_the_copy_or_the_log() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    fill(&store, "kept", NOON);
    fill(&store, "deleted", NOON);
    store.compact_now().unwrap();
    let delete = |store: &Store, name: &str| {
        store.delete_series(&[vec![Matcher::equal("__name__", name)]], NOON, i64::MAX).unwrap();
    };
    delete(&store, "deleted");
    let content = read_all(&store);
    assert_eq!(content.len(), 20);
    store.close().unwrap();
    drop(store);
    let catalog = dir.path().join("series.redb");
    let mut bytes = std::fs::read(&catalog).unwrap();
    let said = b"\x08__name__\x07deleted";
    let places: Vec<usize> =
        (0..bytes.len() - said.len()).filter(|at| bytes[*at..].starts_with(said)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at + 12] ^= 1);
    std::fs::write(&catalog, bytes).unwrap();
    assert!(!crate::check(dir.path(), &Progress::default()).unwrap().findings.is_empty());
    for (copy_stays, log_stays) in [(true, true), (true, false), (false, true), (false, false)] {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(dir.path(), copy.path());
        if !copy_stays {
            std::fs::write(copy.path().join("deletions.bin"), b"no longer what was written").unwrap();
        }
        if !log_stays {
            std::fs::remove_dir_all(copy.path().join("wal")).unwrap();
        }
        let holds = copy_stays || log_stays;
        for start in 0..2 {
            let store = Store::open(copy.path(), options(&clock)).unwrap();
            assert_eq!(
                read_all(&store).len(),
                if holds { 20 } else { 40 },
                "{copy_stays} {log_stays} {start}"
            );
            assert_eq!(store.stats().corruptions > 0, start == 0);
        }
        // Another is not taken for one that is done.
        let store = Store::open(copy.path(), options(&clock)).unwrap();
        delete(&store, "deleted");
        delete(&store, "kept");
        store.compact_now().unwrap();
        assert!(read_all(&store).is_empty(), "{copy_stays} {log_stays}");
        store.close().unwrap();
        drop(store);
        let found = crate::check(copy.path(), &Progress::default()).unwrap().findings;
        assert_eq!(found, [], "{copy_stays} {log_stays}");
    }
}

/// The copy is compared and made anew too.
#[test]
fn a_damaged_copy_of_the_deletions_is_found_and_mended() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    fill(&store, "deleted", NOON);
    store.compact_now().unwrap();
    store.delete_series(&[vec![Matcher::equal("__name__", "deleted")]], NOON, i64::MAX).unwrap();
    store.close().unwrap();
    drop(store);
    let copy = dir.path().join("deletions.bin");
    let whole = std::fs::read(&copy).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    // One that says another version, and has its checksum.
    let mut rest = whole[16..].to_vec();
    rest[0] ^= 1;
    let other = [xxhash_rust::xxh3::xxh3_128(&rest).to_le_bytes().as_slice(), &rest].concat();
    for bytes in [damaged, other] {
        std::fs::write(&copy, bytes).unwrap();
        assert_eq!(crate::check(dir.path(), &Progress::default()).unwrap().findings.len(), 1);
        crate::repair(dir.path(), options(&clock), &Progress::default()).unwrap();
        assert_eq!(crate::check(dir.path(), &Progress::default()).unwrap().findings, []);
        assert!(std::fs::read(&copy).unwrap() == whole);
    }
    assert!(read_all(&Store::open(dir.path(), options(&clock)).unwrap()).is_empty());
}
