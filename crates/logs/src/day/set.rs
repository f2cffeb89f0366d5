//! All days of a source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use pilothouse_disk::files;
use pilothouse_model::time;

use super::one::{Day, DayView};
use crate::error::Error;

#[derive(Debug)]
pub(crate) struct Days {
    directory: PathBuf,
    days: RwLock<BTreeMap<i32, Arc<Day>>>,
    /// Counts looks, for the order in which days were used.
    clock: AtomicU64,
    max_loaded: usize,
    /// Directories that were set aside.
    lost: u64,
    /// Files that were damaged and could be mended.
    mended: u64,
    /// Of some day, ids of blocks and numbers of cuts are not known for certain.
    is_unsure: bool,
}

impl Days {
    /// Opens the directory with all days in it. A day of which nothing can be read is set aside and
    /// counted; one of a newer release is an error.
    pub(crate) fn open(directory: &Path, max_loaded: u64) -> Result<Self, Error> {
        files::create_directory(directory)?;
        let mut days = BTreeMap::new();
        let (mut lost, mut mended, mut is_unsure) = (0, 0, false);
        for name in directory_names(directory)? {
            let path = directory.join(&name);
            if name.ends_with(".tmp") || name.ends_with(GONE) {
                files::remove_tree(&path)?;
                continue;
            }
            let Some(number) = time::parse_day(&name) else { continue };
            match Day::open(&path, number) {
                Ok((day, faults)) => {
                    for (path, fault) in &faults {
                        tracing::error!(path = %path.display(), fault, "a file of a day is damaged and was mended");
                    }
                    mended += faults.len() as u64;
                    is_unsure |= day.payload()?.unsure_upto.is_some();
                    days.insert(number, Arc::new(day));
                }
                Err(error) if error.is_damage() => {
                    let aside = files::set_aside(&path, "damaged")?;
                    tracing::error!(%error, aside = %aside.display(), "a day is damaged and was set aside");
                    lost += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            days: RwLock::new(days),
            clock: AtomicU64::new(0),
            max_loaded: (max_loaded as usize).max(1),
            lost,
            mended,
            is_unsure: is_unsure || lost > 0,
        })
    }

    /// Days that were set aside, parts of days that are left out, and what was mended.
    pub(crate) fn damaged(&self) -> u64 {
        let parts: usize = self.days.read().values().map(|d| d.damaged_segments().len()).sum();
        self.lost + self.mended + parts as u64
    }

    /// Whether some day was set aside, or lost the list of what it has.
    pub(crate) fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    pub(crate) fn all(&self) -> Vec<Arc<Day>> {
        self.days.read().values().cloned().collect()
    }

    pub(crate) fn get(&self, number: i32) -> Option<Arc<Day>> {
        self.days.read().get(&number).cloned()
    }

    /// The days from one to another, both inclusive.
    pub(crate) fn range(&self, first: i32, last: i32) -> Vec<Arc<Day>> {
        if first > last {
            return Vec::new();
        }
        self.days.read().range(first..=last).map(|(_, day)| day.clone()).collect()
    }

    pub(crate) fn get_or_create(&self, number: i32) -> Result<Arc<Day>, Error> {
        if let Some(day) = self.get(number) {
            return Ok(day);
        }
        let day = Arc::new(Day::create(&self.path_of(number), number)?);
        self.days.write().insert(number, day.clone());
        Ok(day)
    }

    fn path_of(&self, number: i32) -> PathBuf {
        self.directory.join(time::format_day(number))
    }

    /// The blocks of a day. Of days that are in memory, the one used least recently gives way.
    pub(crate) fn view(&self, day: &Day) -> Result<Arc<DayView>, Error> {
        day.used.store(self.clock.fetch_add(1, Relaxed) + 1, Relaxed);
        let is_new = !day.is_loaded();
        let view = day.view()?;
        if is_new {
            self.unload_some(day.number);
        }
        Ok(view)
    }

    fn unload_some(&self, but: i32) {
        let mut loaded: Vec<_> =
            self.all().into_iter().filter(|d| d.is_loaded() && d.number != but).collect();
        loaded.sort_unstable_by_key(|d| d.used.load(Relaxed));
        let excess = (loaded.len() + 1).saturating_sub(self.max_loaded);
        loaded.iter().take(excess).for_each(|d| d.unload());
    }

    /// Removes a day with all that is in it.
    pub(crate) fn remove(&self, number: i32) -> Result<(), Error> {
        let Some(day) = self.days.write().remove(&number) else { return Ok(()) };
        // In one step: half a day would be taken for a damaged one.
        let gone = self.directory.join(format!("{}{GONE}", time::format_day(number)));
        files::remove_tree(&gone)?;
        files::rename_durably(&day.path, &gone)?;
        Ok(files::remove_tree(&gone)?)
    }
}

/// Ending of days that are being removed.
const GONE: &str = ".gone";

pub(crate) fn directory_names(directory: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let entry = entry.map_err(Error::io("list", directory))?;
        if entry.file_type().is_ok_and(|t| t.is_dir())
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
