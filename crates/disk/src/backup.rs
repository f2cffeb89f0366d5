//! Copies of a data directory that can be checked and put back.
//!
//! A backup is a directory: the copies under `data/`, and a `MANIFEST` that lists each with its
//! size and checksum. The manifest is replaced in one step when all copies are on the disk, so
//! what a broken-off run leaves is the backup before it and some files that the next run clears
//! away.
//!
//! A file whose name says that it never changes (see [`is_closed`]) is copied once; a further run
//! into the same directory takes it over. All others are copied anew under a name of that run.
//! These are real copies, no links: damage to the one must not reach the other.
//!
//! Whoever calls this sees to it that the files stand still, or are such as a crash would leave:
//! files are copied in the order of their paths, and a store's log comes last in that order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use crate::Error;
use crate::files;

const MANIFEST: &str = "MANIFEST";
const FORMAT: &str = "pilothouse-backup 1";
const DATA: &str = "data";
const COPY_BYTES: usize = 1 << 20;
/// Of names that are copied again with each run.
const RUN_MARK: &str = ".run-";

/// What can go wrong besides the disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    #[error(transparent)]
    Disk(#[from] Error),
    #[error("{path} is no backup, or its manifest is damaged: {reason}", path = path.display())]
    Manifest { path: PathBuf, reason: &'static str },
    #[error("{path} is not what was backed up: {reason}", path = path.display())]
    Damaged { path: PathBuf, reason: &'static str },
    #[error("{path} is not empty", path = path.display())]
    NotEmpty { path: PathBuf },
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Below `data/`.
    stored: String,
    bytes: u64,
    crc32c: u32,
}

/// Entries by path in the data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Manifest {
    run: u64,
    entries: BTreeMap<String, Entry>,
}

/// Figures of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: u64,
    pub bytes: u64,
    /// Of these, what was copied now; the rest was there.
    pub copied_files: u64,
    pub copied_bytes: u64,
}

impl Manifest {
    fn to_text(&self) -> String {
        let mut out = format!("{FORMAT}\nrun {}\n", self.run);
        for (path, entry) in &self.entries {
            // Writing to a String does not fail.
            let _ = writeln!(out, "{:08x} {} {}\t{path}", entry.crc32c, entry.bytes, entry.stored);
        }
        let _ = writeln!(out, "end {:08x}", crc32c::crc32c(out.as_bytes()));
        out
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let body_bytes = text.rfind("end ").ok_or("it has no end")?;
        let (body, end) = text.split_at(body_bytes);
        if end != format!("end {:08x}\n", crc32c::crc32c(body.as_bytes())) {
            return Err("its checksum is wrong");
        }
        let mut lines = body.lines();
        if lines.next() != Some(FORMAT) {
            return Err("it has another format");
        }
        let run = lines.next().and_then(|line| line.strip_prefix("run ")?.parse().ok());
        let entries = lines.map(parse_entry).collect::<Option<_>>();
        match (run, entries) {
            (Some(run), Some(entries)) => Ok(Self { run, entries }),
            _ => Err("a line cannot be read"),
        }
    }

    fn load(backup: &Path) -> Result<Option<Self>, BackupError> {
        let path = backup.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(BackupError::Manifest { path, reason: "it is no text" });
            }
            Err(e) => return Err(Error::io("read", path)(e).into()),
        };
        Self::parse(&text).map(Some).map_err(|reason| BackupError::Manifest { path, reason })
    }
}

fn parse_entry(line: &str) -> Option<(String, Entry)> {
    let (about, path) = line.split_once('\t')?;
    let mut words = about.splitn(3, ' ');
    let crc32c = u32::from_str_radix(words.next()?, 16).ok()?;
    let bytes = words.next()?.parse().ok()?;
    let stored = words.next()?.to_owned();
    // Nothing is ever written outside of the directory that it is restored into.
    let is_normal = |path: &str| Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    let inside = |path: &str| !path.is_empty() && is_normal(path);
    (inside(path) && inside(&stored)).then(|| (path.to_owned(), Entry { stored, bytes, crc32c }))
}

/// Whether a file of this name is never written to again: days of series that are over, and
/// segments of tantivy's.
pub fn is_closed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_segment = || {
        let stem = name.split('.').next().unwrap_or("");
        path.contains("/day/") && stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit())
    };
    name.ends_with(".l1.redb") || is_segment()
}

/// Files that mean nothing elsewhere: locks, and what is not finished.
fn is_left_out(name: &str) -> bool {
    name == "LOCK" || name.ends_with(".lock") || name.ends_with(".tmp") || name.ends_with(".gone")
}

/// A run of a backup.
#[derive(Debug)]
pub struct Backup {
    backup: PathBuf,
    data_dir: PathBuf,
    previous: Manifest,
    manifest: Manifest,
    summary: Summary,
}

impl Backup {
    /// Begins a run that copies files of a data directory into a directory, which is new, empty,
    /// or holds an earlier run.
    pub fn begin(data_dir: &Path, backup: &Path) -> Result<Self, BackupError> {
        files::create_directory(&backup.join(DATA))?;
        let previous = match Manifest::load(backup)? {
            Some(previous) => previous,
            None if is_empty_but_data(backup)? => Manifest::default(),
            None => return Err(BackupError::NotEmpty { path: backup.to_owned() }),
        };
        let manifest = Manifest { run: previous.run + 1, entries: BTreeMap::new() };
        let (backup, data_dir) = (backup.to_owned(), data_dir.to_owned());
        Ok(Self { backup, data_dir, previous, manifest, summary: Summary::default() })
    }

    /// Copies what never changes below a directory of the data directory, without anything having
    /// to stand still. What goes away meanwhile is left out.
    pub fn add_closed(&mut self, below: &Path) -> Result<(), BackupError> {
        for path in self.list(below)? {
            if is_closed(&path) {
                self.add(&path)?;
            }
        }
        Ok(())
    }

    /// Copies everything below a directory, or one file, of the data directory, which stands still.
    pub fn add_all(&mut self, below: &Path) -> Result<(), BackupError> {
        let paths = self.list(below)?;
        let present: BTreeSet<&String> = paths.iter().collect();
        // What was copied before and has gone since is not part of this moment.
        let prefix = match self.relative(below) {
            all if all.is_empty() => all,
            directory => format!("{directory}/"),
        };
        self.manifest.entries.retain(|path, _| !path.starts_with(&prefix) || present.contains(path));
        paths.iter().try_for_each(|path| self.add(path))
    }

    /// Makes the run the one that counts, and clears away what earlier ones leave.
    pub fn finish(mut self) -> Result<Summary, BackupError> {
        sync_tree(&self.backup.join(DATA))?;
        files::write_atomic(&self.backup.join(MANIFEST), self.manifest.to_text().as_bytes())?;
        let used: BTreeSet<&str> = self.manifest.entries.values().map(|e| e.stored.as_str()).collect();
        for stored in list_files(&self.backup.join(DATA))? {
            if !used.contains(stored.as_str()) {
                files::remove(&self.backup.join(DATA).join(stored))?;
            }
        }
        self.summary.files = self.manifest.entries.len() as u64;
        self.summary.bytes = self.manifest.entries.values().map(|e| e.bytes).sum();
        Ok(self.summary)
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.data_dir).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn list(&self, below: &Path) -> Result<Vec<String>, BackupError> {
        if below.is_file() {
            return Ok(vec![self.relative(below)]);
        }
        let prefix = self.relative(below);
        let join = |name: String| if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        Ok(list_files(below)?.into_iter().map(join).collect())
    }

    fn add(&mut self, path: &str) -> Result<(), BackupError> {
        let source = self.data_dir.join(path);
        let known = self.manifest.entries.get(path).or_else(|| self.previous.entries.get(path));
        if is_closed(path)
            && let Some(known) = known.filter(|known| self.is_copied(known, &source))
        {
            let known = known.clone();
            self.manifest.entries.insert(path.to_owned(), known);
            return Ok(());
        }
        let stored =
            if is_closed(path) { path.to_owned() } else { format!("{path}{RUN_MARK}{}", self.manifest.run) };
        let copied = match copy(&source, &self.backup.join(DATA).join(&stored)) {
            // Compacted or removed since it was listed.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            copied => copied?,
        };
        self.summary.copied_files += 1;
        self.summary.copied_bytes += copied.bytes;
        self.manifest.entries.insert(path.to_owned(), Entry { stored, ..copied });
        Ok(())
    }

    /// Whether the copy of a file that never changes is there as a whole. One that was copied
    /// while it was being written is shorter than what it has become.
    fn is_copied(&self, known: &Entry, source: &Path) -> bool {
        let length = |path: &Path| fs::metadata(path).ok().map(|m| m.len());
        let stored = self.backup.join(DATA).join(&known.stored);
        length(&stored) == Some(known.bytes) && length(source) == Some(known.bytes)
    }
}

/// A directory that a first run may go into.
fn is_empty_but_data(backup: &Path) -> Result<bool, Error> {
    let failed = |e| Error::io("list", backup)(e);
    for entry in fs::read_dir(backup).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != DATA && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All plain files below a directory by path from there, sorted. Links are not followed.
fn list_files(directory: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut directories = vec![(directory.to_owned(), String::new())];
    while let Some((path, prefix)) = directories.pop() {
        let failed = |e| Error::io("list", &path)(e);
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            if is_left_out(&name) {
                continue;
            }
            if kind.is_dir() {
                directories.push((entry.path(), format!("{prefix}{name}/")));
            } else if kind.is_file() {
                found.push(format!("{prefix}{name}"));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Copies a file with its permissions; the entry has no name yet.
fn copy(from: &Path, to: &Path) -> Result<Entry, Error> {
    if let Some(directory) = to.parent() {
        files::create_directory(directory)?;
    }
    let mut source = File::open(from).map_err(Error::io("open", from))?;
    let mut target = File::create(to).map_err(Error::io("create", to))?;
    let (bytes, crc32c) = pour(&mut source, &mut target).map_err(|e| Error::io("copy", from)(e))?;
    let permissions = source.metadata().map_err(Error::io("stat", from))?.permissions();
    target.set_permissions(permissions).map_err(Error::io("set permissions of", to))?;
    target.sync_all().map_err(Error::io("sync", to))?;
    Ok(Entry { stored: String::new(), bytes, crc32c })
}

fn pour(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, u32)> {
    let mut buffer = vec![0; COPY_BYTES];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((bytes, crc)),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let part = buffer.get(..read).unwrap_or_default();
        crc = crc32c::crc32c_append(crc, part);
        bytes += read as u64;
        to.write_all(part)?;
    }
}

/// Makes the names of all copies durable.
fn sync_tree(directory: &Path) -> Result<(), Error> {
    let mut directories = vec![directory.to_owned()];
    while let Some(path) = directories.pop() {
        files::sync_directory(&path)?;
        let failed = |e| Error::io("list", &path)(e);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                directories.push(entry.path());
            }
        }
    }
    Ok(())
}

// ---- back ----

/// Reads all copies of a backup and compares; the first that is wrong is the error.
pub fn verify(backup: &Path) -> Result<Summary, BackupError> {
    let manifest = load(backup)?;
    let mut summary = Summary::default();
    for entry in manifest.entries.values() {
        check(backup, entry, &mut io::sink())?;
        summary.files += 1;
        summary.bytes += entry.bytes;
    }
    Ok(summary)
}

/// Puts a backup into a directory that is new or empty. Checks every copy while it is read; after
/// an error the directory is to be thrown away.
pub fn restore(backup: &Path, data_dir: &Path) -> Result<Summary, BackupError> {
    let manifest = load(backup)?;
    files::create_directory(data_dir)?;
    let mut present = fs::read_dir(data_dir).map_err(Error::io("list", data_dir))?;
    if present.any(|entry| entry.is_ok_and(|e| e.file_name() != "lost+found")) {
        return Err(BackupError::NotEmpty { path: data_dir.to_owned() });
    }
    let mut summary = Summary::default();
    for (path, entry) in &manifest.entries {
        let to = data_dir.join(path);
        if let Some(directory) = to.parent() {
            files::create_directory(directory)?;
        }
        let stored = backup.join(DATA).join(&entry.stored);
        let permissions = fs::metadata(&stored).map_err(Error::io("stat", &stored))?.permissions();
        let mut target = File::create(&to).map_err(Error::io("create", &to))?;
        target.set_permissions(permissions).map_err(Error::io("set permissions of", &to))?;
        check(backup, entry, &mut target)?;
        target.sync_all().map_err(Error::io("sync", &to))?;
        summary.files += 1;
        summary.bytes += entry.bytes;
    }
    sync_tree(data_dir)?;
    Ok(summary)
}

fn load(backup: &Path) -> Result<Manifest, BackupError> {
    let missing = || BackupError::Manifest { path: backup.join(MANIFEST), reason: "it is not there" };
    Manifest::load(backup)?.ok_or_else(missing)
}

/// Reads one copy through to somewhere and compares it with what was noted.
fn check(backup: &Path, entry: &Entry, to: &mut impl Write) -> Result<(), BackupError> {
    let path = backup.join(DATA).join(&entry.stored);
    let damaged = |reason| BackupError::Damaged { path: path.clone(), reason };
    let mut source = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(damaged("it is not there")),
        opened => opened.map_err(Error::io("open", &path))?,
    };
    let (bytes, crc32c) = pour(&mut source, to).map_err(Error::io("copy", &path))?;
    if bytes != entry.bytes {
        return Err(damaged("its length is another"));
    }
    if crc32c != entry.crc32c {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: &str = "metrics/a/day/2026-11-22.000003.l1.redb";

    fn put(directory: &Path, path: &str, bytes: &[u8]) {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn run(data: &Path, backup: &Path) -> Summary {
        let mut run = Backup::begin(data, backup).unwrap();
        run.add_closed(data).unwrap();
        run.add_all(data).unwrap();
        run.finish().unwrap()
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
        assert_eq!(restore(&backup, &restored).unwrap().files, 3);
        assert_eq!(list_files(&restored).unwrap(), ["control.redb", CLOSED, "metrics/a/series.redb"]);
        assert_eq!(fs::read(restored.join("metrics/a/series.redb")).unwrap(), b"three");
        assert!(matches!(restore(&backup, &restored), Err(BackupError::NotEmpty { .. })));
        // The earlier run's copies are gone, and a day that is gone from the data goes too.
        fs::remove_file(data.join(CLOSED)).unwrap();
        assert_eq!(run(&data, &backup).files, 2);
        assert_eq!(list_files(&backup.join(DATA)).unwrap().len(), 2);
    }

    #[test]
    fn a_flipped_byte_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
        put(&data, CLOSED, b"over");
        put(&data, "control.redb", b"state");
        run(&data, &backup);
        verify(&backup).unwrap();
        for path in list_files(&backup).unwrap() {
            let path = backup.join(path);
            let whole = fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                fs::write(&path, flipped).unwrap();
                assert!(verify(&backup).is_err(), "{} at {at}", path.display());
                assert!(restore(&backup, &dir.path().join(format!("r{at}"))).is_err());
                let _ = fs::remove_dir_all(dir.path().join(format!("r{at}")));
            }
            fs::write(&path, &whole[..whole.len() - 1]).unwrap();
            assert!(verify(&backup).is_err());
            fs::write(&path, whole).unwrap();
        }
        verify(&backup).unwrap();
    }

    #[test]
    fn a_directory_of_somebody_elses_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "letters/to-my-aunt", b"dear aunt");
        assert!(matches!(Backup::begin(dir.path(), dir.path()), Err(BackupError::NotEmpty { .. })));
        assert!(matches!(restore(dir.path(), &dir.path().join("x")), Err(BackupError::Manifest { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in "(pilothouse-backup 1\n)?(run [0-9]{1,3}\n)?([0-9a-f]{8} [0-9]{1,4} [a-z./]{0,9}\t[a-z./]{0,9}\n){0,3}.{0,20}") {
            let closed = format!("{text}end {:08x}\n", crc32c::crc32c(text.as_bytes()));
            for text in [text, closed] {
                if let Ok(manifest) = Manifest::parse(&text) {
                    proptest::prop_assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest));
                }
            }
        }
    }

    #[test]
    fn a_manifest_cannot_name_what_lies_outside() {
        for path in ["../x", "/etc/passwd", "a/../../x", ""] {
            let manifest = |path: &str, stored: &str| {
                let mut text = format!("{FORMAT}\nrun 1\n00000000 0 {stored}\t{path}\n");
                let crc = crc32c::crc32c(text.as_bytes());
                let _ = writeln!(text, "end {crc:08x}");
                Manifest::parse(&text)
            };
            assert!(manifest("fine", "fine").is_ok());
            assert!(manifest(path, "fine").is_err() && manifest("fine", path).is_err(), "{path}");
        }
    }
}
