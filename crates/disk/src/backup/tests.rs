//! Runs, restores and damage, in a directory and in a place that is far away.

use std::fs::File;
use std::io::Write;

use parking_lot::Mutex;

use super::*;
use crate::faults::Disk;

const CLOSED: &str = "metrics/a/day/2026-11-22.000003.l1.redb";

fn put(directory: &Path, path: &str, bytes: &[u8]) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn run_into(data: &Path, place: &mut dyn Place) -> Result<Summary, BackupError> {
    let mut run = Backup::begin(data, place, Arc::default())?;
    run.add_closed(data)?;
    run.add_all(data)?;
    run.finish()
}

fn run(data: &Path, backup: &Path) -> Summary {
    run_into(data, &mut Directory::new(backup)).unwrap()
}

/// Where the copy of a file lies.
fn copy_in(backup: &Path, path: &str) -> PathBuf {
    let names = list_files(&backup.join("data")).unwrap();
    backup.join("data").join(names.iter().find(|name| path_of(name) == path).unwrap())
}

fn verify_in(place: &mut dyn Place) -> Result<Summary, BackupError> {
    let (summary, damaged) = verify(place, &Progress::default())?;
    damaged.into_iter().next().map_or(Ok(summary), Err)
}

fn verify_at(backup: &Path) -> Result<Summary, BackupError> {
    verify_in(&mut Directory::new(backup))
}

fn restore_at(backup: &Path, data: &Path) -> Result<Summary, BackupError> {
    restore(&mut Directory::new(backup), data, &Progress::default())
}

#[test]
fn what_is_restored_is_what_was_there_and_closed_files_are_copied_once() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, CLOSED, b"over");
    put(&data, "metrics/a/series.redb", b"one");
    put(&data, "metrics/a/LOCK", b"");
    put(&data, "metrics/a/day/x.tmp", b"half");
    assert_eq!(run(&data, &backup), Summary { files: 2, bytes: 7, copied_files: 2, copied_bytes: 7 });
    put(&data, "metrics/a/series.redb", b"three");
    put(&data, "control.redb", b"c");
    assert_eq!(run(&data, &backup), Summary { files: 3, bytes: 10, copied_files: 2, copied_bytes: 6 });
    let restored = dir.path().join("restored");
    assert_eq!(restore_at(&backup, &restored).unwrap().files, 3);
    assert_eq!(list_files(&restored).unwrap(), ["control.redb", CLOSED, "metrics/a/series.redb"]);
    assert_eq!(fs::read(restored.join("metrics/a/series.redb")).unwrap(), b"three");
    assert!(matches!(restore_at(&backup, &restored), Err(BackupError::NotEmpty { .. })));
    // The earlier run's copies are gone, and a day that is gone from the data goes too.
    fs::remove_file(data.join(CLOSED)).unwrap();
    assert_eq!(run(&data, &backup).files, 2);
    assert_eq!(list_files(&backup.join("data")).unwrap().len(), 2);
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, CLOSED, b"over");
    put(&data, "control.redb", b"state");
    run(&data, &backup);
    verify_at(&backup).unwrap();
    for path in list_files(&backup).unwrap() {
        let path = backup.join(path);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert!(verify_at(&backup).is_err(), "{} at {at}", path.display());
            assert!(restore_at(&backup, &dir.path().join(format!("r{at}"))).is_err());
            let _ = fs::remove_dir_all(dir.path().join(format!("r{at}")));
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(verify_at(&backup).is_err());
        fs::write(&path, whole).unwrap();
    }
    verify_at(&backup).unwrap();
}

#[test]
fn a_directory_of_somebody_elses_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "letters/to-my-aunt", b"dear aunt");
    let begun = run_into(dir.path(), &mut Directory::new(dir.path()));
    assert!(matches!(begun, Err(BackupError::NotEmpty { .. })));
    assert!(matches!(restore_at(dir.path(), &dir.path().join("x")), Err(BackupError::Manifest { .. })));
}

#[test]
fn closed_files_are_linked_where_that_is_asked_for_and_others_never() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, CLOSED, b"over");
    put(&data, "control.redb", b"state");
    let links = |path: PathBuf| fs::metadata(path).unwrap().nlink();
    run_into(&data, &mut Directory::new(&backup).with_links()).unwrap();
    assert_eq!((links(data.join(CLOSED)), links(data.join("control.redb"))), (2, 1));
    // What is restored shares nothing with the backup.
    restore_at(&backup, &dir.path().join("restored")).unwrap();
    assert_eq!(links(dir.path().join("restored").join(CLOSED)), 1);
    // A day that takes its place is no copy over the link.
    fs::remove_file(data.join(CLOSED)).unwrap();
    put(&data, CLOSED, b"written anew");
    run(&data, &backup);
    restore_at(&backup, &dir.path().join("again")).unwrap();
    assert_eq!(fs::read(dir.path().join("again").join(CLOSED)).unwrap(), b"written anew");
}

#[derive(Debug, Default)]
struct Objects {
    copies: BTreeMap<String, Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

/// A place in memory that breaks after so many writes.
#[derive(Debug)]
struct Far {
    objects: Arc<Mutex<Objects>>,
    /// Only this manifest is replaced, if the place knows conditions.
    read: Option<Vec<u8>>,
    knows_conditions: bool,
    writes_left: usize,
    /// A copy that somebody puts there as soon as a run is the one that counts.
    comes_after: Option<String>,
}

impl Default for Far {
    fn default() -> Self {
        Self::of(&Arc::default(), true)
    }
}

impl Far {
    fn of(objects: &Arc<Mutex<Objects>>, knows_conditions: bool) -> Self {
        let objects = Arc::clone(objects);
        Self { objects, read: None, knows_conditions, writes_left: usize::MAX, comes_after: None }
    }

    fn write(&mut self) -> Result<(), BackupError> {
        let broken = || BackupError::Far { at: self.shown(), reason: "it is broken".to_owned() };
        self.writes_left = self.writes_left.checked_sub(1).ok_or_else(broken)?;
        Ok(())
    }
}

impl Place for Far {
    fn shown(&self) -> String {
        "far".to_owned()
    }

    fn is_far(&self) -> bool {
        true
    }

    fn begin(&mut self) -> Result<(), BackupError> {
        Ok(())
    }

    fn manifest(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        self.read = self.objects.lock().manifest.clone();
        Ok(self.read.clone())
    }

    fn copies(&mut self) -> Result<BTreeMap<String, u64>, BackupError> {
        Ok(self
            .objects
            .lock()
            .copies
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
            .collect())
    }

    fn put(&mut self, name: &str, from: &Path, _: &Progress) -> Result<Copied, BackupError> {
        self.write()?;
        let bytes = fs::read(from).map_err(Error::io("read", from))?;
        let mut copied = Copied::default();
        copied.add(&bytes);
        self.objects.lock().copies.insert(name.to_owned(), bytes);
        Ok(copied)
    }

    fn get(&mut self, name: &str, to: &mut dyn Write, _: &Progress) -> Result<Copied, BackupError> {
        let missing = BackupError::Damaged { at: name.to_owned(), reason: "it is not there" };
        let bytes = self.objects.lock().copies.get(name).cloned().ok_or(missing)?;
        let mut copied = Copied::default();
        copied.add(&bytes);
        to.write_all(&bytes).map_err(Error::io("write", name))?;
        Ok(copied)
    }

    fn permissions(&mut self, _: &str) -> Option<fs::Permissions> {
        None
    }

    fn commit(&mut self, manifest: &[u8]) -> Result<(), BackupError> {
        self.write()?;
        let mut objects = self.objects.lock();
        if self.knows_conditions && objects.manifest != self.read {
            return Err(BackupError::Far { at: self.shown(), reason: "it is another".to_owned() });
        }
        objects.manifest = Some(manifest.to_owned());
        objects.copies.extend(self.comes_after.take().map(|name| (name, Vec::new())));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), BackupError> {
        self.write()?;
        self.objects.lock().copies.remove(name);
        Ok(())
    }
}

#[test]
fn wherever_a_run_breaks_off_there_is_a_whole_backup() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    put(&data, CLOSED, b"over");
    put(&data, "control.redb", b"one");
    let mut far = Far::default();
    let first = run_into(&data, &mut far).unwrap();
    assert_eq!(first, Summary { files: 2, bytes: 7, copied_files: 2, copied_bytes: 7 });
    // The day was written anew under its old name, which happens where a run met it unfinished.
    put(&data, CLOSED, b"written anew");
    put(&data, "control.redb", b"two");
    put(&data, "series.redb", b"three");
    for writes in 0.. {
        far.writes_left = writes;
        let done = run_into(&data, &mut far);
        far.writes_left = usize::MAX;
        let whole = verify_in(&mut far).unwrap();
        let restored = dir.path().join(format!("restored-{writes}"));
        restore(&mut far, &restored, &Progress::default()).unwrap();
        let control = fs::read(restored.join("control.redb")).unwrap();
        let is_new = whole.files == 3;
        assert_eq!(control, if is_new { &b"two"[..] } else { b"one" }, "after {writes} writes");
        let mode = fs::metadata(restored.join("control.redb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        if done.is_ok() {
            assert!(is_new && far.objects.lock().copies.len() == 3 && writes > 4, "{writes}: {far:?}");
            break;
        }
    }
    assert!(!data.join(STAGING).exists());
    assert_eq!(list_files(&data).unwrap().len(), 3);
    // Where nobody waits, nothing is copied nearby.
    let mut run = Backup::begin(&data, &mut far, Arc::default()).unwrap().with_nobody_waiting();
    run.add_all(&data).unwrap();
    assert!(!data.join(STAGING).exists());
    run.finish().unwrap();
    assert_eq!(verify_in(&mut far).unwrap().files, 3);
}

/// Whoever puts an older backup back goes on with other files of the same names, and of the same lengths, since
/// redb's files grow in large steps.
#[test]
fn another_file_of_the_same_name_and_length_is_not_taken_for_the_one_that_was_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, CLOSED, b"this");
    run(&data, &backup);
    assert_eq!(run(&data, &backup).copied_files, 0);
    fs::remove_file(data.join(CLOSED)).unwrap();
    put(&data, CLOSED, b"that");
    let file = File::options().write(true).open(data.join(CLOSED)).unwrap();
    file.set_modified(UNIX_EPOCH + std::time::Duration::from_nanos(7)).unwrap();
    assert_eq!(run(&data, &backup).copied_files, 1);
    assert_eq!(run(&data, &backup).copied_files, 0);
    restore_at(&backup, &dir.path().join("restored")).unwrap();
    assert_eq!(fs::read(dir.path().join("restored").join(CLOSED)).unwrap(), b"that");
}

#[test]
fn all_that_is_damaged_is_told_and_copied_again_once_it_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    let other = "metrics/a/day/2026-11-23.000004.l1.redb";
    [CLOSED, other, "control.redb"].iter().for_each(|path| put(&data, path, path.as_bytes()));
    run(&data, &backup);
    let copies = [CLOSED, other].map(|path| copy_in(&backup, path));
    copies.iter().for_each(|copy| fs::write(copy, b"nonsense").unwrap());
    let (summary, damaged) = verify(&mut Directory::new(&backup), &Progress::default()).unwrap();
    assert_eq!((summary.files, damaged.len()), (3, 2));
    assert!(damaged[1].to_string().contains(other), "{damaged:?}");
    copies.iter().for_each(|copy| fs::remove_file(copy).unwrap());
    run(&data, &backup);
    verify_at(&backup).unwrap();
}

#[test]
fn a_restore_that_broke_off_is_known_as_such_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, CLOSED, b"over");
    put(&data, "control.redb", b"state");
    put(&data, "root-token", b"secret");
    run(&data, &backup);
    let copy = copy_in(&backup, "root-token");
    fs::write(&copy, b"sacred").unwrap();
    let restored = dir.path().join("restored");
    restore_at(&backup, &restored).unwrap_err();
    assert!(matches!(refuse_unfinished(&restored), Err(BackupError::Unfinished { .. })));
    // It is not backed up over the whole one.
    let begun = Backup::begin(&restored, &mut Directory::new(&backup), Arc::default()).map(|_| ());
    assert!(matches!(begun, Err(BackupError::Unfinished { .. })));
    // What came by then may be broken too.
    fs::write(restored.join("control.redb"), b"stale").unwrap();
    fs::write(&copy, b"secret").unwrap();
    let summary = restore_at(&backup, &restored).unwrap();
    assert_eq!((summary.files, summary.copied_files), (3, 2));
    assert_eq!(list_files(&restored).unwrap(), ["control.redb", CLOSED, "root-token"]);
    assert_eq!(fs::read(restored.join("control.redb")).unwrap(), b"state");
    refuse_unfinished(&restored).unwrap();
    // One of another backup is not mixed with it.
    let third = dir.path().join("third");
    fs::write(&copy, b"sacred").unwrap();
    restore_at(&backup, &third).unwrap_err();
    fs::write(&copy, b"secret").unwrap();
    put(&data, "control.redb", b"later");
    run(&data, &backup);
    assert!(matches!(restore_at(&backup, &third), Err(BackupError::Unfinished { .. })));
}

#[test]
fn two_runs_at_once_do_not_go_into_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, "control.redb", b"state");
    let (mut one, mut other) = (Directory::new(&backup), Directory::new(&backup));
    let run = Backup::begin(&data, &mut one, Arc::default()).unwrap();
    let refused = run_into(&data, &mut other);
    assert!(matches!(refused, Err(BackupError::Disk(Error::Locked { .. }))), "{refused:?}");
    drop(run);
    drop(one);
    run_into(&data, &mut other).unwrap();
}

/// What a run that the power was cut from leaves behind, whatever it was at, is a whole backup, and the next run goes on
/// from it; so does a restore.
#[test]
fn a_power_cut_leaves_a_whole_backup_and_a_restore_that_can_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, "metrics/a/day/2026-11-21.000001.l1.redb", b"never changes");
    put(&data, "control.redb", b"state 0");
    put(&data, CLOSED, b"over");
    run(&data, &backup);
    let disk = Disk::below(dir.path());
    for step in 0..60 {
        put(&data, "control.redb", format!("state {step}").as_bytes());
        put(&data, CLOSED, format!("over {step}").as_bytes());
        disk.cut_power_after(step);
        let made = run_into(&data, &mut Directory::new(&backup));
        disk.settle(step).unwrap();
        verify_at(&backup).unwrap_or_else(|e| panic!("after {step}: {e}"));
        let restored = dir.path().join(format!("restored-{step}"));
        disk.cut_power_after(step / 2);
        let back = restore_at(&backup, &restored);
        disk.settle(step).unwrap();
        if back.is_err() {
            match restore_at(&backup, &restored) {
                // Nothing was missing but its last word.
                Ok(_) | Err(BackupError::NotEmpty { .. }) => {}
                Err(error) => panic!("after {step}: {error}"),
            }
        }
        assert_eq!(list_files(&restored).unwrap(), list_files(&data).unwrap(), "after {step}");
        refuse_unfinished(&restored).unwrap();
        let state = fs::read_to_string(restored.join("control.redb")).unwrap();
        assert!(made.is_err() || state == format!("state {step}"), "after {step}: {state}");
    }
    assert!(run_into(&data, &mut Directory::new(&backup)).is_ok());
}

#[test]
fn a_full_disk_leaves_the_backup_before() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, "control.redb", &[7; 1000]);
    run(&data, &backup);
    put(&data, "root-token", &[8; 1000]);
    let disk = Disk::below(&backup);
    for room in (0..2_000).step_by(100) {
        disk.fill_after(room);
        let error = run_into(&data, &mut Directory::new(&backup)).unwrap_err();
        assert!(matches!(&error, BackupError::Disk(error) if error.is_no_space()), "{error}");
        assert!(error.to_string().contains("backup/"), "{error}");
        assert_eq!(verify_at(&backup).unwrap().files, 1);
    }
    disk.fill_after(u64::MAX);
    run(&data, &backup);
    assert_eq!(verify_at(&backup).unwrap().files, 2);
}

/// Two machines that back up to one place, of which neither sees a lock of the other.
#[test]
fn of_two_runs_at_once_into_a_place_without_locks_one_counts_and_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let data = ["a", "b"].map(|name| dir.path().join(name));
    for (i, knows_conditions) in [true, false].into_iter().enumerate() {
        let objects = Arc::default();
        data.iter().for_each(|data| put(data, "control.redb", b"before"));
        run_into(&data[0], &mut Far::of(&objects, knows_conditions)).unwrap();
        for data in &data {
            put(data, CLOSED, data.to_string_lossy().as_bytes());
            put(data, "control.redb", data.to_string_lossy().as_bytes());
        }
        let [mut far_a, mut far_b] = [0, 1].map(|_| Far::of(&objects, knows_conditions));
        let mut a = Backup::begin(&data[0], &mut far_a, Arc::default()).unwrap();
        let mut b = Backup::begin(&data[1], &mut far_b, Arc::default()).unwrap();
        a.add_closed(&data[0]).unwrap();
        b.add_all(&data[1]).unwrap();
        assert_eq!(b.finish().unwrap().files, 2);
        a.add_all(&data[0]).unwrap();
        let failed = a.finish().unwrap_err();
        assert!(matches!(failed, BackupError::Damaged { .. } | BackupError::Far { .. }), "{failed}");
        let restored = dir.path().join(format!("restored-{i}"));
        restore(&mut Far::of(&objects, true), &restored, &Progress::default()).unwrap();
        for path in [CLOSED, "control.redb"] {
            assert_eq!(fs::read(restored.join(path)).unwrap(), data[1].to_string_lossy().as_bytes());
        }
        data.iter().for_each(|data| fs::remove_file(data.join(CLOSED)).unwrap());
    }
}

#[test]
fn a_run_clears_away_nothing_that_came_after_it_was_done() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "control.redb", b"state");
    let mut far = Far::default();
    run_into(dir.path(), &mut far).unwrap();
    far.comes_after = Some("of a run that goes on from here".to_owned());
    run_into(dir.path(), &mut far).unwrap();
    assert_eq!(far.objects.lock().copies.len(), 2, "{far:?}");
    run_into(dir.path(), &mut far).unwrap();
    assert_eq!(far.objects.lock().copies.len(), 1, "{far:?}");
}

#[test]
fn all_copies_are_looked_at_though_one_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    let paths = [CLOSED, "control.redb", "root-token"];
    paths.iter().for_each(|path| put(&data, path, path.as_bytes()));
    run(&data, &backup);
    // A directory opens as a file does, and then fails to be read, as a bad block does.
    let unreadable = copy_in(&backup, "control.redb");
    fs::remove_file(&unreadable).unwrap();
    fs::create_dir(&unreadable).unwrap();
    fs::write(copy_in(&backup, "root-token"), b"nonsense").unwrap();
    let (summary, damaged) = verify(&mut Directory::new(&backup), &Progress::default()).unwrap();
    assert_eq!((summary.files, damaged.len()), (3, 2), "{damaged:?}");
    assert!(matches!(&damaged[0], BackupError::Disk(_)), "{damaged:?}");
    assert!(damaged[1].to_string().contains("root-token"), "{damaged:?}");
}

#[test]
fn two_restores_do_not_go_into_one_directory_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, "control.redb", b"state");
    run(&data, &backup);
    let restored = dir.path().join("restored");
    let lock = files::DirectoryLock::acquire(&restored).unwrap();
    let refused = restore_at(&backup, &restored);
    assert!(matches!(refused, Err(BackupError::Disk(Error::Locked { .. }))), "{refused:?}");
    assert_eq!(list_files(&restored).unwrap(), [""; 0]);
    drop(lock);
    restore_at(&backup, &restored).unwrap();
    // In a directory of somebody else's no lock is left.
    let other = dir.path().join("other");
    put(&other, "letter", b"dear aunt");
    assert!(matches!(restore_at(&backup, &other), Err(BackupError::NotEmpty { .. })));
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}
