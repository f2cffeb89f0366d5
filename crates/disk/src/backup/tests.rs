//! Runs, restores and damage, in a directory and in a place that is far away.

use super::*;

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

fn verify_at(backup: &Path) -> Result<Summary, BackupError> {
    verify(&mut Directory::new(backup), &Progress::default())
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

/// A place in memory that breaks after so many writes.
#[derive(Debug, Default)]
struct Far {
    copies: BTreeMap<String, Vec<u8>>,
    manifest: Option<Vec<u8>>,
    writes_left: usize,
}

impl Far {
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
        Ok(self.manifest.clone())
    }

    fn copies(&mut self) -> Result<BTreeMap<String, u64>, BackupError> {
        Ok(self.copies.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    fn put(&mut self, name: &str, from: &Path, _: &Progress) -> Result<Copied, BackupError> {
        self.write()?;
        let bytes = fs::read(from).map_err(Error::io("read", from))?;
        let mut copied = Copied::default();
        copied.add(&bytes);
        self.copies.insert(name.to_owned(), bytes);
        Ok(copied)
    }

    fn get(&mut self, name: &str, to: &mut dyn Write, _: &Progress) -> Result<Copied, BackupError> {
        let missing = BackupError::Damaged { at: name.to_owned(), reason: "it is not there" };
        let bytes = self.copies.get(name).ok_or(missing)?;
        let mut copied = Copied::default();
        copied.add(bytes);
        to.write_all(bytes).map_err(Error::io("write", name))?;
        Ok(copied)
    }

    fn permissions(&mut self, _: &str) -> Option<fs::Permissions> {
        None
    }

    fn commit(&mut self, manifest: &[u8]) -> Result<(), BackupError> {
        self.write()?;
        self.manifest = Some(manifest.to_owned());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), BackupError> {
        self.write()?;
        self.copies.remove(name);
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
    let mut far = Far { writes_left: usize::MAX, ..Far::default() };
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
        let whole = verify(&mut far, &Progress::default()).unwrap();
        let restored = dir.path().join(format!("restored-{writes}"));
        restore(&mut far, &restored, &Progress::default()).unwrap();
        let control = fs::read(restored.join("control.redb")).unwrap();
        let is_new = whole.files == 3;
        assert_eq!(control, if is_new { &b"two"[..] } else { b"one" }, "after {writes} writes");
        let mode = fs::metadata(restored.join("control.redb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        if done.is_ok() {
            assert!(is_new && far.copies.len() == 3 && writes > 4, "{writes}: {:?}", far.copies);
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
    assert_eq!(verify(&mut far, &Progress::default()).unwrap().files, 3);
}
