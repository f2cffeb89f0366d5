//! What a power cut leaves of the names in directories: those that were synced, and of what was
//! changed since then any number of the first changes, each directory by itself. A removed file
//! may therefore be back, a renamed one have its old name, a new one be gone, and a replaced one be
//! the one before.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Dice;

/// Holds what was removed, below the directory of the disk.
const KEPT: &str = ".kept";

/// A change of a name in a directory.
#[derive(Debug)]
enum Change {
    Made(OsString),
    Gone { name: OsString, kept: PathBuf },
    Moved { from: OsString, to: OsString, replaced: Option<PathBuf> },
}

/// Changes that are not synced, by the inode of their directory, which may itself be renamed.
#[derive(Debug, Default)]
pub(super) struct Names {
    changes: HashMap<u64, Vec<Change>>,
    kept: u64,
}

pub(super) fn inode(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| metadata.ino())
}

fn parts(path: &Path) -> io::Result<(&Path, &OsStr)> {
    path.parent().zip(path.file_name()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl Names {
    fn note(&mut self, path: &Path, change: impl FnOnce(OsString) -> Change) -> io::Result<()> {
        let (directory, name) = parts(path)?;
        self.changes.entry(inode(directory)?).or_default().push(change(name.to_owned()));
        Ok(())
    }

    pub(super) fn made(&mut self, path: &Path) -> io::Result<()> {
        self.note(path, Change::Made)
    }

    fn next_kept(&mut self, root: &Path) -> io::Result<PathBuf> {
        let directory = root.join(KEPT);
        fs::create_dir_all(&directory)?;
        self.kept += 1;
        Ok(directory.join(self.kept.to_string()))
    }

    pub(super) fn remove(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        fs::symlink_metadata(path)?;
        let kept = self.next_kept(root)?;
        fs::rename(path, &kept)?;
        self.note(path, |name| Change::Gone { name, kept })
    }

    /// Both names are in one directory: no store moves a file to another.
    pub(super) fn rename(&mut self, root: &Path, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent());
        let replaced = match to.is_file() {
            true => {
                let kept = self.next_kept(root)?;
                fs::hard_link(to, &kept)?;
                Some(kept)
            }
            false => None,
        };
        fs::rename(from, to)?;
        let (_, from) = parts(from)?;
        let from = from.to_owned();
        self.note(to, |to| Change::Moved { from, to, replaced })
    }

    /// Lets go what can no longer come back; returns the inodes that go with it.
    pub(super) fn synced(&mut self, directory: &Path) -> io::Result<Vec<u64>> {
        let changes = self.changes.remove(&inode(directory)?).unwrap_or_default();
        let mut gone = Vec::new();
        for change in changes {
            let (Change::Gone { kept, .. } | Change::Moved { replaced: Some(kept), .. }) = change else {
                continue;
            };
            gone.extend(below(&kept)?.into_keys());
            if kept.is_dir() { fs::remove_dir_all(&kept)? } else { fs::remove_file(&kept)? }
        }
        for inode in &gone {
            self.changes.remove(inode);
        }
        Ok(gone)
    }

    /// Undoes what the cut takes away.
    pub(super) fn settle(self, root: &Path, dice: &mut Dice) -> io::Result<()> {
        let paths = below(root)?;
        let mut all: Vec<_> = self.changes.into_iter().collect();
        all.sort_by(|a, b| paths.get(&a.0).cmp(&paths.get(&b.0)));
        for (inode, mut changes) in all {
            // Most of the time nothing is lost or all of it.
            let survive = match dice.roll(4) {
                0 => changes.len(),
                1 => 0,
                _ => dice.roll(changes.len() as u64 + 1) as usize,
            };
            // Its own path may have been undone meanwhile.
            let Some(directory) = below(root)?.remove(&inode) else { continue };
            while changes.len() > survive
                && let Some(change) = changes.pop()
            {
                change.undo(&directory)?;
            }
        }
        match fs::remove_dir_all(root.join(KEPT)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Change {
    fn undo(self, directory: &Path) -> io::Result<()> {
        match self {
            Self::Made(name) => {
                let path = directory.join(name);
                match if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
                    // It could not be made after all.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    removed => removed,
                }
            }
            Self::Gone { name, kept } => fs::rename(kept, directory.join(name)),
            Self::Moved { from, to, replaced } => {
                let to = directory.join(to);
                fs::rename(&to, directory.join(from))?;
                replaced.map_or(Ok(()), |kept| fs::rename(kept, to))
            }
        }
    }
}

/// Everything from a path on, by inode.
pub(super) fn below(path: &Path) -> io::Result<HashMap<u64, PathBuf>> {
    let mut found = HashMap::from([(inode(path)?, path.to_owned())]);
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            found.extend(below(&entry?.path())?);
        }
    }
    Ok(found)
}
