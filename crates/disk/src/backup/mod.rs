//! Copies of a data directory that can be checked and put back.
//!
//! A backup is a [`Place`], such as a [`Directory`], that holds copies by name and a manifest,
//! which lists each with its size and checksum. The manifest is replaced in one step when all
//! copies are there to stay, so what a broken-off run leaves is the backup before it and some
//! copies that the next run clears away.
//!
//! A file whose name says that it never changes (see [`is_closed`]) is copied once; a further run
//! into the same place takes it over, as long as its length and the time of its last change are those that were
//! noted: where an older backup was put back, files of other content get the same names again. All others are copied anew.
//!
//! Every copy has a name that no other run gives, not even one under way at the same time: nothing that a manifest
//! names is ever written to again. What a run clears away was there before it was the one that counts, so that
//! whoever goes on from it loses nothing.
//!
//! Whoever calls this sees to it that the files stand still, or are such as a crash would leave:
//! files are copied in the order of their paths, and a store's log comes last in that order. A
//! place that is far away gets what stands still by way of a copy nearby, so that nobody waits
//! for a network.

mod directory;
mod manifest;
mod place;
mod restore;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

pub use directory::Directory;
pub use place::{Copied, Place, Progress};
pub use restore::{refuse_unfinished, restore, verify};

use pilothouse_model::NoMemory;

use self::manifest::{Entry, Manifest};
use crate::Error;
use crate::files;

/// In the name of a copy between the file's path and the run that made it.
const RUN_MARK: &str = ".run-";
/// Of the copies nearby, in the data directory; the name keeps it out of every backup.
const STAGING: &str = "backup.tmp";

/// What can go wrong besides the disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    #[error(transparent)]
    Disk(#[from] Error),
    #[error("{at} is no backup, or its manifest is damaged: {reason}")]
    Manifest { at: String, reason: String },
    #[error("{at} is not what was backed up: {reason}")]
    Damaged { at: String, reason: &'static str },
    #[error("{at} is not empty")]
    NotEmpty { at: String },
    #[error(
        "a restore into {at} was broken off, so that it holds a part of a backup only: restore the same backup once more, \
         or empty it"
    )]
    Unfinished { at: String },
    /// It cannot be a place of a backup, whatever is tried.
    #[error("{at}: {reason}")]
    Unusable { at: String, reason: String },
    /// The server that makes it has no room for what it takes.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// Something between here and there.
    #[error("{at}: {reason}")]
    Far { at: String, reason: String },
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
pub struct Backup<'p> {
    place: &'p mut dyn Place,
    data_dir: PathBuf,
    previous: Manifest,
    /// What the names of this run's copies end with.
    mark: String,
    /// Lengths of what is there, also of what the manifest does not name.
    present: BTreeMap<String, u64>,
    manifest: Manifest,
    /// Whether what stands still goes by way of a copy nearby.
    stages: bool,
    /// Paths of which a copy lies nearby and waits to be sent.
    staged: Vec<String>,
    summary: Summary,
    progress: Arc<Progress>,
}

impl<'p> Backup<'p> {
    /// Begins a run that copies files of a data directory to a place, which is new, empty, or
    /// holds an earlier run.
    pub fn begin(
        data_dir: &Path,
        place: &'p mut dyn Place,
        progress: Arc<Progress>,
    ) -> Result<Self, BackupError> {
        refuse_unfinished(data_dir)?;
        place.begin()?;
        let previous = load(place)?.unwrap_or_default();
        let present = place.copies()?;
        let staging = data_dir.join(STAGING);
        if staging.exists() {
            files::remove_tree(&staging)?;
        }
        let manifest = Manifest { run: previous.run.saturating_add(1), entries: BTreeMap::new() };
        let run = Self {
            stages: place.is_far(),
            place,
            data_dir: data_dir.to_owned(),
            mark: mark_of(manifest.run),
            previous,
            present,
            manifest,
            staged: Vec::new(),
            summary: Summary::default(),
            progress,
        };
        run.progress.reset();
        for path in run.list(data_dir)? {
            run.progress.add_whole(run.length_of(&path).unwrap_or(0));
        }
        Ok(run)
    }

    /// Nobody waits for what stands still, so that it may be sent as it is.
    pub fn with_nobody_waiting(self) -> Self {
        Self { stages: false, ..self }
    }

    /// Copies what never changes below a directory of the data directory, without anything having
    /// to stand still. What goes away meanwhile is left out.
    pub fn add_closed(&mut self, below: &Path) -> Result<(), BackupError> {
        for path in self.list(below)? {
            if is_closed(&path) {
                self.add(&path, false)?;
            }
        }
        Ok(())
    }

    /// Copies everything below a directory, or one file, of the data directory, which stands still.
    /// To a place that is far away it goes with [`Backup::send`].
    pub fn add_all(&mut self, below: &Path) -> Result<(), BackupError> {
        let paths = self.list(below)?;
        let present: BTreeSet<&String> = paths.iter().collect();
        // What was copied before and has gone since is not part of this moment.
        let prefix = match self.relative(below) {
            all if all.is_empty() => all,
            directory => format!("{directory}/"),
        };
        self.manifest.entries.retain(|path, _| !path.starts_with(&prefix) || present.contains(path));
        let is_staged = self.stages;
        paths.iter().try_for_each(|path| self.add(path, is_staged))
    }

    /// Sends what lies nearby; nothing has to stand still for it.
    pub fn send(&mut self) -> Result<(), BackupError> {
        for path in std::mem::take(&mut self.staged) {
            let Some(entry) = self.manifest.entries.get(&path) else { continue };
            let nearby = self.data_dir.join(STAGING).join(&entry.stored);
            let sent = self.place.put(&entry.stored, &nearby, &self.progress)?;
            if sent != (Copied { bytes: entry.bytes, crc32c: entry.crc32c }) {
                let reason = "it has changed while it was sent";
                return Err(BackupError::Damaged { at: nearby.display().to_string(), reason });
            }
            files::remove(&nearby)?;
        }
        Ok(())
    }

    /// Makes the run the one that counts, and clears away what earlier ones leave.
    pub fn finish(mut self) -> Result<Summary, BackupError> {
        self.send()?;
        // Listed before the commit: copies that come later may be those of a run that goes on from this one.
        let mut there = self.place.copies()?;
        for entry in self.manifest.entries.values() {
            if there.remove(&entry.stored).is_none_or(|bytes| bytes != entry.bytes) {
                let at = format!("{}/{}", self.place.shown(), entry.stored);
                let reason = "it is gone before the backup was done; another one may have run meanwhile";
                return Err(BackupError::Damaged { at, reason });
            }
        }
        self.place.commit(self.manifest.to_text().as_bytes())?;
        let _ = files::remove_tree(&self.data_dir.join(STAGING));
        there.keys().try_for_each(|stored| self.place.remove(stored))?;
        self.summary.files = self.manifest.entries.len() as u64;
        self.summary.bytes = self.manifest.entries.values().map(|e| e.bytes).sum();
        Ok(self.summary)
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.data_dir).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn list(&self, below: &Path) -> Result<Vec<String>, BackupError> {
        if below.is_file() {
            let name = below.file_name().unwrap_or_default().to_string_lossy();
            return Ok(if is_left_out(&name) { Vec::new() } else { vec![self.relative(below)] });
        }
        let prefix = self.relative(below);
        let join = |name: String| if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        Ok(list_files(below)?.into_iter().map(join).collect())
    }

    fn length_of(&self, path: &str) -> Option<u64> {
        fs::metadata(self.data_dir.join(path)).ok().map(|m| m.len())
    }

    /// When a file was written to last.
    fn modified_ns(&self, path: &str) -> Option<i128> {
        let modified = fs::metadata(self.data_dir.join(path)).ok()?.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).map(|after| after.as_nanos() as i128);
        Some(since.unwrap_or_else(|before| -(before.duration().as_nanos() as i128)))
    }

    fn add(&mut self, path: &str, is_staged: bool) -> Result<(), BackupError> {
        let known = self.manifest.entries.get(path).or_else(|| self.previous.entries.get(path));
        if let Some(known) = known.filter(|known| is_closed(path) && self.is_copied(path, known)) {
            let known = known.clone();
            // It may have been counted by `add_closed` already.
            if !self.manifest.entries.contains_key(path) {
                self.progress.add_done(known.bytes);
            }
            self.manifest.entries.insert(path.to_owned(), known);
            return Ok(());
        }
        let stored = format!("{path}{}", self.mark);
        let source = self.data_dir.join(path);
        // Before it is read: what is written meanwhile makes it another file for the next run.
        let modified_ns = self.modified_ns(path);
        let copied = match is_staged {
            true => self.stage(&source, &stored),
            false => self.place.put(&stored, &source, &self.progress),
        };
        let copied = match copied {
            // Compacted or removed since it was listed.
            Err(BackupError::Disk(Error::Io { source, .. })) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            copied => copied?,
        };
        if is_staged {
            self.staged.push(path.to_owned());
        }
        self.summary.copied_files += 1;
        self.summary.copied_bytes += copied.bytes;
        let Copied { bytes, crc32c } = copied;
        self.present.insert(stored.clone(), bytes);
        self.manifest.entries.insert(path.to_owned(), Entry { stored, bytes, crc32c, modified_ns });
        Ok(())
    }

    fn stage(&self, source: &Path, stored: &str) -> Result<Copied, BackupError> {
        let nearby = self.data_dir.join(STAGING).join(stored);
        if let Some(directory) = nearby.parent() {
            files::create_directory(directory)?;
        }
        Ok(directory::copy(source, &nearby, &Progress::default())?.0)
    }

    /// Whether the copy of a file that never changes is there as a whole, and of this very file. One that
    /// was copied while it was being written is shorter than what it has become.
    fn is_copied(&self, path: &str, known: &Entry) -> bool {
        self.present.get(&known.stored) == Some(&known.bytes)
            && self.length_of(path) == Some(known.bytes)
            && known.modified_ns.is_some()
            && known.modified_ns == self.modified_ns(path)
    }
}

/// Counted, for people, and by chance, since runs that begin at the same time count alike.
fn mark_of(run: u64) -> String {
    format!("{RUN_MARK}{run}-{:016x}", RandomState::new().build_hasher().finish())
}

/// The path in the data directory that a copy's name was made of.
fn path_of(stored: &str) -> &str {
    stored.rsplit_once(RUN_MARK).map_or(stored, |(path, _)| path)
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

fn load(place: &mut dyn Place) -> Result<Option<Manifest>, BackupError> {
    let Some(bytes) = place.manifest()? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is no text".to_owned());
    let manifest = text.and_then(Manifest::parse);
    manifest.map(Some).map_err(|reason| BackupError::Manifest { at: place.shown(), reason })
}

#[cfg(test)]
mod tests;
