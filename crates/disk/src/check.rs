//! Looking a stopped data directory over: what is damaged, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::backup::Progress;
use crate::remains::guarded;
use crate::wal::{OnDamage, Options};
use crate::{Error, Position, Wal, WalError, database, files, space};

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub path: PathBuf,
    /// The part of the file, where that is known: `page 7`, `positions 10 to 20`.
    pub place: String,
    pub what: String,
}

impl Finding {
    pub fn new(path: &Path, place: impl Into<String>, what: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), place: place.into(), what: what.to_string() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.what)
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    pub files: u64,
    /// Pages, blocks and records.
    pub parts: u64,
    pub findings: Vec<Finding>,
}

impl Checked {
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.parts += other.parts;
        self.findings.extend(other.findings);
    }

    pub fn found(&mut self, path: &Path, place: impl Into<String>, what: impl fmt::Display) {
        self.findings.push(Finding::new(path, place, what));
    }
}

/// A file was looked at: what it takes on the disk is done.
pub fn done_with(file: &Path, progress: &Progress) {
    progress.add_done(files::allocated_bytes(file).unwrap_or(0));
}

/// As [`done_with`], of all files in a directory.
pub fn done_with_all(directory: &Path, progress: &Progress) {
    progress.add_done(space::files_bytes(directory).unwrap_or(0));
}

/// Compares the checksums of a database, which must not be open for writing; the file stays as it
/// is. Whether it is whole; what is not is among the findings. A file of another release is an
/// error.
pub fn database(path: &Path, kind: &'static str, version: u32, checked: &mut Checked) -> Result<bool, Error> {
    checked.files += 1;
    match guarded(path, || database::verify_untouched(path, kind, version)) {
        Ok(true) => Ok(true),
        Ok(false) => {
            checked.found(path, "", "a checksum of the database is wrong");
            Ok(false)
        }
        Err(error) if error.is_damage() || error.is_unreadable() => {
            checked.found(path, "", error);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Reads a log through, as a start would, and gives its records to `take`, which says what is
/// wrong with one. A torn end, which nobody was promised, is no finding.
pub fn log(
    directory: &Path,
    from: Position,
    checked: &mut Checked,
    take: impl Fn(&[u8]) -> Result<(), String>,
) -> Result<(), WalError> {
    if !directory.is_dir() {
        return Ok(());
    }
    let mut recovery = Wal::open(directory, Options::default())?;
    let mut bad = Vec::new();
    let replayed = recovery.replay(from, OnDamage::Skip, |position, payload| {
        if let Err(what) = take(payload) {
            bad.push(Finding::new(directory, format!("position {position}"), what));
        }
        Ok::<(), WalError>(())
    })?;
    checked.files += files::file_names(directory)?.len() as u64;
    checked.parts += replayed.records;
    checked.findings.extend(bad);
    for damage in &replayed.damage {
        checked.found(directory, format!("positions {} to {}", damage.from, damage.to), damage.reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_to_a_log_is_found_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        for payload in [b"one", b"two"] {
            let mut recovery = Wal::open(&path, Options::default()).unwrap();
            recovery.replay(Position(0), OnDamage::Stop, |_, _| Ok::<(), WalError>(())).unwrap();
            let wal = recovery.start(Position(0)).unwrap();
            let position = wal.append(payload).unwrap();
            wal.wait(position).unwrap();
        }
        let look = || {
            let mut checked = Checked::default();
            let good =
                |payload: &[u8]| if payload == b"one" { Ok(()) } else { Err("is no record".to_owned()) };
            log(&path, Position(0), &mut checked, good).unwrap();
            checked
        };
        let checked = look();
        assert_eq!((checked.files, checked.parts, checked.findings.len()), (2, 2, 1));
        assert!(checked.findings[0].to_string().ends_with(": is no record"), "{:?}", checked.findings);
        let segment = path.join(files::file_names(&path).unwrap().remove(0));
        let mut bytes = std::fs::read(&segment).unwrap();
        let at = bytes.windows(3).position(|w| w == b"one").unwrap();
        bytes[at] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let findings = look().findings;
        assert!(findings.iter().any(|f| f.what.contains("checksum")), "{findings:?}");
    }
}
