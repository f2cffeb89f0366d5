//! What a power cut leaves of a file: what was synced, and of what was written since then any
//! part, torn anywhere. What it leaves of names is told in `names`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::names::{self, Names};

/// Where writes may be torn.
const SECTOR: usize = 512;

/// Follows what is written and not synced, once there is a cut to come.
#[derive(Debug, Default)]
pub(super) struct Power(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Changes and syncs that still succeed; `None` as long as no cut is to come.
    left: Option<u64>,
    /// By inode, since names change.
    unsynced: HashMap<u64, Vec<Change>>,
    names: Names,
}

/// A write, or a change of a length.
#[derive(Debug)]
struct Change {
    offset: u64,
    /// What was there, as far as the file went.
    old: Vec<u8>,
    old_len: u64,
    new: Vec<u8>,
    /// The length itself, where that is what changes.
    new_len: Option<u64>,
}

impl Inner {
    /// Uses up one success.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(io::Error::from_raw_os_error(Errno::IO.raw_os_error())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Power {
    pub(super) fn cut_after(&self, successes: u64) {
        *self.0.lock() = Inner { left: Some(successes), ..Inner::default() };
    }

    pub(super) fn is_out(&self) -> bool {
        self.0.lock().left == Some(0)
    }

    /// Of a write that is about to be made. One that fails may have reached the disk all the same.
    pub(super) fn writing(&self, path: &Path, offset: u64, new: &[u8]) -> io::Result<()> {
        let change = |file: &File, old_len: u64| {
            let there = old_len.saturating_sub(offset).min(new.len() as u64);
            let mut old = vec![0; there as usize];
            file.read_exact_at(&mut old, offset)?;
            Ok(Change { offset, old, old_len, new: new.to_vec(), new_len: None })
        };
        self.note(path, change)
    }

    pub(super) fn resizing(&self, path: &Path, new_len: u64) -> io::Result<()> {
        let change = |file: &File, old_len: u64| {
            let mut old = vec![0; old_len.saturating_sub(new_len) as usize];
            file.read_exact_at(&mut old, new_len)?;
            Ok(Change { offset: new_len, old, old_len, new: Vec::new(), new_len: Some(new_len) })
        };
        self.note(path, change)
    }

    fn note(&self, path: &Path, change: impl FnOnce(&File, u64) -> io::Result<Change>) -> io::Result<()> {
        let mut inner = self.0.lock();
        if inner.left.is_none() {
            return Ok(());
        }
        if inner.left != Some(0) {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            let change = change(&file, metadata.len())?;
            inner.unsynced.entry(metadata.ino()).or_default().push(change);
        }
        inner.step()
    }

    /// Of a sync that is about to be made.
    pub(super) fn syncing(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.step()?;
        if inner.left.is_some() {
            inner.unsynced.remove(&names::inode(path)?);
        }
        Ok(())
    }

    pub(super) fn syncing_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.step()?;
        if inner.left.is_some() {
            for inode in inner.names.synced(path)? {
                inner.unsynced.remove(&inode);
            }
        }
        Ok(())
    }

    /// Makes what may get a new name by it.
    pub(super) fn making<T>(&self, path: &Path, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.0.lock();
        if inner.left.is_none() || path.exists() {
            return make();
        }
        inner.step()?;
        let made = make()?;
        inner.names.made(path)?;
        Ok(made)
    }

    pub(super) fn rename(&self, root: &Path, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        if inner.left.is_none() {
            return fs::rename(from, to);
        }
        inner.step()?;
        inner.names.rename(root, from, to)
    }

    pub(super) fn remove(
        &self,
        root: &Path,
        path: &Path,
        remove: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut inner = self.0.lock();
        if inner.left.is_none() || !path.exists() {
            return remove();
        }
        inner.step()?;
        inner.names.remove(root, path)
    }

    /// Makes files and names what the cut leaves of them. Everything succeeds again from now on.
    pub(super) fn settle(&self, root: &Path, seed: u64) -> io::Result<()> {
        let Inner { unsynced, names, .. } = std::mem::take(&mut *self.0.lock());
        let mut dice = Dice(seed);
        names.settle(root, &mut dice)?;
        let paths = names::below(root)?;
        let mut files: Vec<_> =
            unsynced.into_iter().filter_map(|(inode, changes)| Some((paths.get(&inode)?, changes))).collect();
        files.sort_by(|a, b| a.0.cmp(b.0));
        for (path, changes) in files {
            let mut image = fs::read(path)?;
            changes.iter().rev().for_each(|change| change.undo(&mut image));
            for change in &changes {
                match dice.roll(4) {
                    0 => {}
                    1 => change.redo(
                        &mut image,
                        dice.roll(change.new.len() as u64 / SECTOR as u64 + 1) as usize * SECTOR,
                    ),
                    _ => change.redo(&mut image, usize::MAX),
                }
            }
            fs::write(path, image)?;
        }
        Ok(())
    }
}

impl Change {
    fn undo(&self, image: &mut Vec<u8>) {
        put(image, self.offset, &self.old);
        image.resize(self.old_len as usize, 0);
    }

    /// As far as so many of its bytes.
    fn redo(&self, image: &mut Vec<u8>, bytes: usize) {
        match self.new_len {
            Some(len) => image.resize(len as usize, 0),
            None => put(image, self.offset, self.new.get(..bytes).unwrap_or(&self.new)),
        }
    }
}

fn put(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    if image.len() < end {
        image.resize(end, 0);
    }
    if let Some(part) = image.get_mut(start..end) {
        part.copy_from_slice(bytes);
    }
}

/// Numbers that follow from a seed (splitmix64).
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }
}
