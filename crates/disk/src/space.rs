//! Room on the disk: looked at by one thread, asked by everybody who takes something in.
//!
//! What comes from outside is refused while there is still room for what was acknowledged before
//! to reach its place, for the state of alerts and for results of probes: a [`Guard`] closes at a
//! floor above what [`crate::files::Space::reserved_bytes`] keeps for the log. It opens again by
//! itself, a little above the floor, so that it does not flutter.
//!
//! What is done about a full disk beyond refusing (dropping old days) is for the caller of
//! [`Guard::look`]: this module knows no days.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::Error;
use crate::files::{self, Space};

/// Unsaid, this share of the file system stays free, but not more than the second,
const FLOOR_SHARE: u64 = 20;
const MAX_FLOOR_BYTES: u64 = 1 << 30;
/// and not less than this, or a quarter of a small disk: what is in memory must still be brought to
/// its place, and a commit asks for room beside what the log keeps for itself.
const MIN_FLOOR_BYTES: u64 = 192 << 20;
const MIN_FLOOR_PART: u64 = 4;
/// It opens again when this part of the floor, or of the limit, is free beyond it.
const SLACK_PART: u64 = 16;
/// Adding up a directory costs a call a file. With little room left it is done at every look, and what the file
/// system has lost since counts as ours until it is added up.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// How much the data may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Bytes that all files together may take; 0 for no limit.
    pub limit_bytes: u64,
    /// Bytes of the file system that stay free; unsaid, a twentieth of it, at most 1 GiB.
    pub min_free_bytes: Option<u64>,
}

/// What was found at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    pub free_bytes: u64,
    /// Bytes that must stay free.
    pub floor_bytes: u64,
    /// What the data takes, some seconds old.
    pub used_bytes: u64,
    /// What it may take; 0 for no limit.
    pub limit_bytes: u64,
}

/// Why nothing is taken in; fit for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full(Found);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { free_bytes, floor_bytes, used_bytes, limit_bytes } = self.0;
        let mib = |bytes: u64| bytes >> 20;
        if free_bytes < floor_bytes + floor_bytes / SLACK_PART {
            write!(
                f,
                "the disk is nearly full: {} MiB are free and {} MiB stay free",
                mib(free_bytes),
                mib(floor_bytes)
            )?;
        } else {
            write!(
                f,
                "the data takes {} MiB of the {} MiB that it may take",
                mib(used_bytes),
                mib(limit_bytes)
            )?;
        }
        f.write_str("; writes are refused until there is room, what is stored can be read")
    }
}

/// Watches the room of one data directory.
#[derive(Debug)]
pub struct Guard {
    /// `None` watches nothing.
    directory: Option<PathBuf>,
    bounds: Mutex<Bounds>,
    is_full: AtomicBool,
    times_full: AtomicU64,
    found: Mutex<Found>,
    counted: Mutex<Option<Count>>,
}

/// The last time that all files were added up.
#[derive(Debug, Clone, Copy)]
struct Count {
    at: Instant,
    used_bytes: u64,
    free_bytes: u64,
}

impl Guard {
    pub fn new(directory: &Path, bounds: Bounds) -> Self {
        Self { directory: Some(directory.to_owned()), bounds: Mutex::new(bounds), ..Self::unbounded() }
    }

    /// One that never refuses, for data that is not on a disk.
    pub fn unbounded() -> Self {
        Self {
            directory: None,
            bounds: Mutex::default(),
            is_full: AtomicBool::new(false),
            times_full: AtomicU64::new(0),
            found: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    /// Holds from the next look on.
    pub fn set_bounds(&self, bounds: Bounds) {
        *self.bounds.lock() = bounds;
    }

    /// Why nothing is to be taken in, if so. Costs an atomic read.
    pub fn refusal(&self) -> Option<Full> {
        self.is_full.load(Relaxed).then(|| Full(*self.found.lock()))
    }

    pub fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
    }

    /// How often it has closed.
    pub fn times_full(&self) -> u64 {
        self.times_full.load(Relaxed)
    }

    pub fn found(&self) -> Found {
        *self.found.lock()
    }

    /// Looks at the disk and opens or closes; tells the log of the process when that changes.
    /// Returns whether it is closed.
    pub fn look(&self) -> Result<bool, Error> {
        let Some(directory) = &self.directory else { return Ok(false) };
        let (space, bounds) = (files::space(directory)?, *self.bounds.lock());
        let floor_bytes = bounds.min_free_bytes.unwrap_or_else(|| default_floor(space));
        let used_bytes = self.used_bytes(directory, space.free_bytes)?;
        let found =
            Found { free_bytes: space.free_bytes, floor_bytes, used_bytes, limit_bytes: bounds.limit_bytes };
        *self.found.lock() = found;
        let was_full = self.is_full.load(Relaxed);
        let full = is_full(&found, was_full);
        self.is_full.store(full, Relaxed);
        match (was_full, full) {
            (false, true) => {
                self.times_full.fetch_add(1, Relaxed);
                tracing::error!("{}", Full(found));
            }
            (true, false) => {
                tracing::warn!(free_bytes = found.free_bytes, "the disk has room again; writes are taken")
            }
            _ => {}
        }
        Ok(full)
    }

    /// What the data takes, added up anew when that was long ago or little may be left.
    fn used_bytes(&self, directory: &Path, free_bytes: u64) -> Result<u64, Error> {
        let limit = self.bounds.lock().limit_bytes;
        let mut counted = self.counted.lock();
        if let Some(count) = &*counted {
            let grown = count.free_bytes.saturating_sub(free_bytes);
            let is_near = limit > 0 && count.used_bytes.saturating_add(grown) >= limit - limit / 8;
            if !is_near && count.at.elapsed() < COUNT_EVERY {
                return Ok(count.used_bytes);
            }
        }
        let used_bytes = files_bytes(directory)?;
        *counted = Some(Count { at: Instant::now(), used_bytes, free_bytes });
        Ok(used_bytes)
    }
}

fn default_floor(space: Space) -> u64 {
    let least = (space.total_bytes / MIN_FLOOR_PART).min(MIN_FLOOR_BYTES);
    (space.total_bytes / FLOOR_SHARE).min(MAX_FLOOR_BYTES).max(least)
}

/// Once closed, it opens only when there is some room beyond the bounds.
fn is_full(found: &Found, was_full: bool) -> bool {
    let slack = |bytes: u64| if was_full { bytes / SLACK_PART } else { 0 };
    let Found { free_bytes, floor_bytes, used_bytes, limit_bytes } = *found;
    let low = free_bytes < floor_bytes.saturating_add(slack(floor_bytes));
    let over = limit_bytes > 0 && used_bytes > limit_bytes.saturating_sub(slack(limit_bytes));
    low || over
}

/// Disk blocks of all files below a directory. Files may come and go meanwhile.
pub fn files_bytes(directory: &Path) -> Result<u64, Error> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("list", &directory)(e)),
        };
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &directory))?;
            // Links are not followed: what they point at is somebody else's.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                bytes += metadata.blocks() * 512;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Disk;

    #[test]
    fn it_closes_at_the_floor_and_opens_a_little_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::below(dir.path());
        let guard = Guard::new(dir.path(), Bounds { limit_bytes: 0, min_free_bytes: Some(160 << 20) });
        for (free_mib, full) in
            [(500, false), (159, true), (165, true), (171, false), (161, false), (10, true)]
        {
            disk.tell_room(free_mib << 20);
            assert_eq!(guard.look().unwrap(), full, "{free_mib}");
            assert_eq!(guard.refusal().is_some(), full, "{free_mib}");
        }
        assert_eq!(guard.times_full(), 2);
        let text = guard.refusal().unwrap().to_string();
        assert!(
            text.starts_with("the disk is nearly full: 10 MiB are free and 160 MiB stay free;"),
            "{text}"
        );
        assert!(!Guard::unbounded().look().unwrap());
    }

    #[test]
    fn the_data_has_a_limit_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Guard::new(dir.path(), Bounds { limit_bytes: 1 << 20, min_free_bytes: Some(0) });
        assert!(!guard.look().unwrap());
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), vec![1; 2 << 20]).unwrap();
        // It was added up a moment ago.
        *guard.counted.lock() = None;
        assert!(guard.look().unwrap());
        let text = guard.refusal().unwrap().to_string();
        assert!(text.starts_with("the data takes 2 MiB of the 1 MiB that it may take;"), "{text}");
        fs::remove_file(deep.join("file")).unwrap();
        assert!(!guard.look().unwrap());
    }

    #[test]
    fn what_the_file_system_has_lost_is_looked_for_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::below(dir.path());
        disk.tell_room(1 << 40);
        let guard = Guard::new(dir.path(), Bounds { limit_bytes: 8 << 20, min_free_bytes: Some(0) });
        assert!(!guard.look().unwrap());
        fs::write(dir.path().join("file"), vec![1; 9 << 20]).unwrap();
        // As long as it may be somebody else's, nothing is added up.
        assert!(!guard.look().unwrap());
        disk.tell_room((1 << 40) - (9 << 20));
        assert!(guard.look().unwrap());
        assert_eq!(guard.found().used_bytes >> 20, 9);
    }

    #[test]
    fn the_floor_follows_the_size_of_the_disk() {
        let floor = |total_bytes: u64| default_floor(Space { free_bytes: 0, total_bytes });
        assert_eq!(floor(64 << 20), 16 << 20);
        assert_eq!(floor(2 << 30), 192 << 20);
        assert_eq!(floor(10 << 30), 512 << 20);
        assert_eq!(floor(1 << 40), 1 << 30);
    }
}
