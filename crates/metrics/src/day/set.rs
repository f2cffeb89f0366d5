//! Which days there are, and which files of each stand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use pilothouse_disk::files::{self, Generation};
use pilothouse_disk::sectors::read_around;
use pilothouse_model::time::{format_day, parse_day};

use super::l0::L0;
use super::l1::{L1, OpenL1};
use crate::error::Error;

const L0_KIND: &str = "l0.redb";
const L1_KIND: &str = "l1.redb";

/// The files of one day.
#[derive(Debug, Clone, Default)]
pub(crate) struct Day {
    /// By generation. All but the last may be frozen; see [`Days::freeze`].
    pub(crate) l0: Vec<Arc<L0>>,
    pub(crate) l1: Option<Arc<L1>>,
    /// Up to and including this generation nothing more is written.
    frozen: Option<u64>,
}

impl Day {
    fn open_l0(&self) -> Option<&Arc<L0>> {
        self.l0.last().filter(|l0| self.frozen.is_none_or(|frozen| l0.generation > frozen))
    }

    fn last_generation(&self) -> u64 {
        let l0 = self.l0.last().map_or(0, |l0| l0.generation);
        l0.max(self.l1.as_ref().map_or(0, |l1| l1.generation)).max(self.frozen.unwrap_or(0))
    }
}

/// One version of all days; a reader keeps the one it began with.
pub(crate) type DaySet = BTreeMap<i32, Day>;

/// The day files of a store.
#[derive(Debug)]
pub(crate) struct Days {
    directory: PathBuf,
    set: RwLock<Arc<DaySet>>,
    /// Counts versions, so that a reader can see for little whether its own is the last.
    version: AtomicU64,
    next_uid: AtomicU64,
    /// Held while files are made, exchanged or removed.
    changing: Mutex<()>,
    max_open: u64,
    uses: AtomicU64,
    damaged: AtomicU64,
}

impl Days {
    /// Opens what is there and clears away what a crash left: unfinished files, and files that a
    /// finished one has taken in.
    pub(crate) fn open(directory: &Path, max_open: u64) -> Result<Self, Error> {
        files::create_directory(directory)?;
        files::remove_unfinished(directory)?;
        let days = Self {
            directory: directory.to_owned(),
            set: RwLock::default(),
            version: AtomicU64::new(0),
            next_uid: AtomicU64::new(1),
            changing: Mutex::new(()),
            max_open,
            uses: AtomicU64::new(1),
            damaged: AtomicU64::new(0),
        };
        let mut set = DaySet::new();
        let mut l0s = Vec::new();
        for name in files::file_names(directory)? {
            let Some(generation) = Generation::parse(&name) else { continue };
            let Some(day) = parse_day(&generation.stem) else { continue };
            match generation.kind.as_str() {
                L1_KIND => days.meet_l1(&mut set, day, generation.number, &name)?,
                L0_KIND => l0s.push((day, generation.number, name)),
                _ => {}
            }
        }
        for (day, number, name) in l0s {
            let path = directory.join(name);
            let entry = set.entry(day).or_default();
            if entry.l1.as_ref().is_some_and(|l1| l1.generation > number) {
                files::remove(&path)?;
                continue;
            }
            match days.found_l0(&path, number) {
                Ok(l0) => {
                    if l0.is_damaged() {
                        tracing::error!(file = %path.display(), "a part of a day file is damaged and left out");
                        days.damaged.fetch_add(1, Relaxed);
                        // Nothing more is written to it.
                        entry.frozen = entry.frozen.max(Some(number));
                    }
                    entry.l0.push(Arc::new(l0));
                }
                Err(error) if error.is_damage() => days.set_aside(&path, &error)?,
                Err(error) => return Err(error),
            }
        }
        set.retain(|_, day| !day.l0.is_empty() || day.l1.is_some());
        set.values_mut().for_each(|day| day.l0.sort_by_key(|l0| l0.generation));
        *days.set.write() = Arc::new(set);
        Ok(days)
    }

    /// Opens a file that is there.
    fn found_l0(&self, path: &Path, number: u64) -> Result<L0, Error> {
        match L0::open(path, number, self.uid()) {
            Err(error) if error.is_unreadable() && self.read_around(path)? => {
                L0::open(path, number, self.uid())
            }
            opened => opened,
        }
    }

    fn found_l1(&self, l1: &L1) -> Result<Arc<OpenL1>, Error> {
        let now = self.uses.fetch_add(1, Relaxed);
        match l1.get(now) {
            Err(error) if error.is_unreadable() && self.read_around(l1.path())? => l1.get(now),
            opened => opened,
        }
    }

    fn read_around(&self, path: &Path) -> Result<bool, Error> {
        let _changing = self.changing.lock();
        let is_copied = read_around(path)?;
        self.damaged.fetch_add(u64::from(is_copied), Relaxed);
        Ok(is_copied)
    }

    /// One damaged file must not keep everything else from being read.
    fn set_aside(&self, path: &Path, error: &Error) -> Result<(), Error> {
        let aside = files::set_aside(path, "damaged")?;
        self.damaged.fetch_add(1, Relaxed);
        tracing::error!(%error, aside = %aside.display(), "a damaged day file was set aside");
        Ok(())
    }

    /// Files that were found damaged when the days were opened.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Relaxed)
    }

    /// An `l1` file has taken in all files of the day with smaller generations.
    fn meet_l1(&self, set: &mut DaySet, day: i32, number: u64, name: &str) -> Result<(), Error> {
        let entry = set.entry(day).or_default();
        let path = self.directory.join(name);
        match &entry.l1 {
            Some(l1) if l1.generation > number => files::remove(&path)?,
            older => {
                if let Some(older) = older {
                    files::remove(older.path())?;
                }
                entry.l1 = Some(Arc::new(L1::new(path, number, self.uid())));
            }
        }
        Ok(())
    }

    pub(crate) fn uid(&self) -> u64 {
        self.next_uid.fetch_add(1, Relaxed)
    }

    /// Opens a closed day's file, and closes the one that was not asked for the longest when
    /// too many are open.
    pub(crate) fn open_l1(&self, l1: &L1) -> Result<Arc<OpenL1>, Error> {
        let open = match self.found_l1(l1) {
            Err(error) if error.is_damage() => {
                self.quarantine(l1, &error)?;
                return Err(error);
            }
            open => open?,
        };
        let (set, _) = self.snapshot();
        let mut others: Vec<&Arc<L1>> =
            set.values().filter_map(|d| d.l1.as_ref()).filter(|o| o.is_open()).collect();
        others.sort_by_key(|o| std::cmp::Reverse(o.used()));
        others.iter().skip(self.max_open.max(1) as usize).for_each(|o| o.close());
        Ok(open)
    }

    /// Takes a file that cannot be opened out of the days, so that it fails one query and no more.
    fn quarantine(&self, damaged: &L1, error: &Error) -> Result<(), Error> {
        let _changing = self.changing.lock();
        if !damaged.path().exists() {
            return Ok(());
        }
        self.set_aside(damaged.path(), error)?;
        self.change(|set| {
            for day in set.values_mut() {
                day.l1.take_if(|l1| l1.uid == damaged.uid);
            }
            set.retain(|_, day| !day.l0.is_empty() || day.l1.is_some());
        });
        Ok(())
    }

    /// Closes the files of closed days; who reads them goes on.
    pub(crate) fn close_closed(&self) {
        self.snapshot().0.values().filter_map(|day| day.l1.as_ref()).for_each(|l1| l1.close());
    }

    /// The largest id of a series in any file that still takes flushes.
    pub(crate) fn largest_id(&self) -> Option<u32> {
        let (set, _) = self.snapshot();
        set.values().flat_map(|d| &d.l0).filter_map(|l0| l0.largest_id()).max()
    }

    /// Every deletion below this may be done in some closed day already. Opens them all.
    pub(crate) fn deletions_below(&self) -> Result<u32, Error> {
        let (set, _) = self.snapshot();
        let mut below = 0;
        for l1 in set.values().filter_map(|d| d.l1.as_ref()) {
            match self.open_l1(l1) {
                // It was set aside.
                Err(error) if error.is_damage() => {}
                open => below = below.max(open?.about.deletions_below),
            }
        }
        Ok(below)
    }

    /// The newest flush in any file that still takes flushes.
    pub(crate) fn newest_flush(&self) -> u32 {
        let (set, _) = self.snapshot();
        set.values().flat_map(|d| &d.l0).filter_map(|l0| l0.flushes()).map(|f| f.1).max().unwrap_or(0)
    }

    pub(crate) fn snapshot(&self) -> (Arc<DaySet>, u64) {
        let set = self.set.read();
        (set.clone(), self.version.load(Relaxed))
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut DaySet)) {
        let mut set = self.set.write();
        change(Arc::make_mut(&mut set));
        // Under the lock: whoever sees the new number finds the new set.
        self.version.fetch_add(1, Relaxed);
    }

    /// The file that takes the flushes of a day, made if need be.
    pub(crate) fn open_l0(&self, day: i32) -> Result<Arc<L0>, Error> {
        let _changing = self.changing.lock();
        let (set, _) = self.snapshot();
        let known = set.get(&day).cloned().unwrap_or_default();
        if let Some(l0) = known.open_l0() {
            return Ok(l0.clone());
        }
        let number = known.last_generation() + 1;
        let path = self.path(day, number, L0_KIND);
        let l0 = Arc::new(L0::open(&path, number, self.uid())?);
        files::sync_directory(&self.directory)?;
        self.change(|set| set.entry(day).or_default().l0.push(l0.clone()));
        Ok(l0)
    }

    /// Lets nothing more be written to the present `l0` files of a day and returns them, with
    /// the generation of the file that will replace them.
    pub(crate) fn freeze(&self, day: i32) -> (Day, u64) {
        let _changing = self.changing.lock();
        let last = self.snapshot().0.get(&day).map_or(0, Day::last_generation);
        // The number between is the compacted file's: flushes from now on are behind it.
        self.change(|set| set.entry(day).or_default().frozen = Some(last + 1));
        (self.snapshot().0.get(&day).cloned().unwrap_or_default(), last + 1)
    }

    pub(crate) fn l1_path(&self, day: i32, number: u64) -> PathBuf {
        self.path(day, number, L1_KIND)
    }

    /// A finished file under its name, not yet among the days.
    pub(crate) fn new_l1(&self, path: PathBuf, number: u64) -> Arc<L1> {
        Arc::new(L1::new(path, number, self.uid()))
    }

    /// Puts a finished `l1` file, or nothing if the day has become empty, in the place of what
    /// it has taken in. Young files that hold series nobody has labels for are set aside.
    pub(crate) fn replace(
        &self,
        day: i32,
        number: u64,
        l1: Option<Arc<L1>>,
        has_labels: impl Fn(u32) -> bool,
    ) -> Result<(), Error> {
        let _changing = self.changing.lock();
        let mut gone: Vec<PathBuf> = Vec::new();
        for l0 in self.snapshot().0.get(&day).iter().flat_map(|d| &d.l0) {
            if l0.generation < number && l0.path().exists() && !l0.ids().iter().all(&has_labels) {
                let aside = files::set_aside(l0.path(), "orphan")?;
                tracing::error!(file = %aside.display(), "a day file holds series whose labels are lost; it was set aside");
            }
        }
        self.change(|set| {
            let Some(entry) = set.get_mut(&day) else { return };
            let (old, kept) =
                std::mem::take(&mut entry.l0).into_iter().partition(|l0| l0.generation < number);
            let old: Vec<Arc<L0>> = old;
            gone.extend(old.iter().map(|l0| l0.path().to_owned()));
            gone.extend(entry.l1.as_ref().map(|l1| l1.path().to_owned()));
            entry.l0 = kept;
            entry.l1 = l1;
            if entry.l0.is_empty() && entry.l1.is_none() {
                set.remove(&day);
            }
        });
        self.unlink(&gone)
    }

    /// Removes whole days; readers that have begun keep their files until they are done.
    pub(crate) fn remove_before(&self, first_kept: i32) -> Result<usize, Error> {
        let _changing = self.changing.lock();
        let mut gone = Vec::new();
        let mut removed = 0;
        if self.snapshot().0.range(..first_kept).next().is_none() {
            return Ok(0);
        }
        self.change(|set| {
            let kept = set.split_off(&first_kept);
            for day in std::mem::replace(set, kept).into_values() {
                removed += 1;
                gone.extend(day.l0.iter().map(|l0| l0.path().to_owned()));
                gone.extend(day.l1.iter().map(|l1| l1.path().to_owned()));
            }
        });
        self.unlink(&gone)?;
        Ok(removed)
    }

    fn unlink(&self, paths: &[PathBuf]) -> Result<(), Error> {
        for path in paths {
            files::remove(path)?;
        }
        Ok(files::sync_directory(&self.directory)?)
    }

    fn path(&self, day: i32, number: u64, kind: &str) -> PathBuf {
        self.directory.join(Generation::new(format_day(day), number, kind).file_name())
    }
}

/// Sets aside the young files of all days: without the catalog nobody knows whose samples they
/// hold, and their ids will be given to others.
pub(crate) fn set_aside_young(directory: &Path) -> Result<u64, Error> {
    files::create_directory(directory)?;
    let mut count = 0;
    for name in files::file_names(directory)? {
        if Generation::parse(&name).is_some_and(|g| g.kind == L0_KIND) {
            files::set_aside(&directory.join(name), "orphan")?;
            count += 1;
        }
    }
    Ok(count)
}
