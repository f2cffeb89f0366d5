//! Backups of a server that runs: which files stand still when.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_api::Backups;
use pilothouse_control::{Control, SourceKind};
use pilothouse_disk::backup::{Backup, BackupError, Directory, Place, Progress, Summary};
use pilothouse_disk::files;
use pilothouse_model::Memory;
use pilothouse_model::limits::{BUCKET_ANSWER_BYTES, BUCKET_PART_BYTES, BUCKET_PARTS_IN_FLIGHT};

use crate::bucket::{Address, Bucket, BucketOptions};
use crate::sources::{Opened, Stores};

/// Makes backups, one at a time.
#[derive(Debug)]
pub(crate) struct Archive {
    stores: Arc<Stores>,
    control: Arc<Control>,
    memory: Arc<Memory>,
    buckets: BucketOptions,
    running: Mutex<()>,
    progress: Arc<Progress>,
}

impl Archive {
    pub(crate) fn new(
        stores: Arc<Stores>,
        control: Arc<Control>,
        memory: Arc<Memory>,
        buckets: BucketOptions,
    ) -> Self {
        Self { stores, control, memory, buckets, running: Mutex::new(()), progress: Arc::default() }
    }

    /// What never changes is copied while everything goes on; then one store after the other
    /// stands still for its few open files, and at last the control plane. What was acknowledged
    /// before the call is in it, of what comes meanwhile some. What stood still is sent to a place
    /// far away before the next store does, so that little lies nearby at once.
    fn copy_all(&self, to: &mut dyn Place) -> Result<Summary, BackupError> {
        let data_dir = self.stores.data_dir();
        let mut backup = Backup::begin(data_dir, to, Arc::clone(&self.progress))?;
        backup.add_closed(data_dir)?;
        for source in self.stores.with_data() {
            let directory = self.stores.directory(source.kind, &source.directory());
            match self.stores.opened(&source) {
                Ok(opened) => copy_store(&mut backup, &opened, &directory)?,
                // It was deleted since, or cannot be opened; its files say more than nothing.
                Err(error) => {
                    tracing::warn!(%error, source = %source.id, "backed up as it lies on the disk");
                    backup.add_all(&directory)?;
                }
            }
            backup.send()?;
        }
        let control = data_dir.join(CONTROL);
        self.control.standing_still(|| backup.add_all(&control)).map_err(BackupError::Disk)??;
        for name in files::file_names(data_dir)? {
            if name != CONTROL {
                backup.add_all(&data_dir.join(name))?;
            }
        }
        backup.finish()
    }
}

/// What a backup takes in memory: lists of files and what is read at once; and for a bucket the parts
/// that are under way and one answer.
const NEAR_BYTES: u64 = 1 << 20;
const FAR_BYTES: u64 =
    NEAR_BYTES + BUCKET_PARTS_IN_FLIGHT as u64 * BUCKET_PART_BYTES + BUCKET_ANSWER_BYTES as u64;

/// The control plane's file.
pub(crate) const CONTROL: &str = "control.redb";

fn copy_store(backup: &mut Backup<'_>, opened: &Opened, directory: &Path) -> Result<(), BackupError> {
    match opened {
        Opened::Metrics(store, _) => {
            // A short log is quickly copied. What cannot be flushed is in the log.
            if let Err(error) = store.seal_all() {
                tracing::warn!(%error, "samples in memory are backed up in the log only");
            }
            store.standing_still(|| backup.add_all(directory))
        }
        Opened::Logs(store, _) => {
            if let Err(error) = store.flush() {
                tracing::warn!(%error, "lines in memory are backed up in the log only");
            }
            let still = store.standing_still(|| backup.add_all(directory));
            still.unwrap_or_else(|error| {
                tracing::warn!(%error, "backed up as it lies on the disk");
                backup.add_all(directory)
            })
        }
    }
}

impl Backups for Archive {
    fn back_up(&self, to: &str, links: bool) -> Result<Option<Summary>, BackupError> {
        let Some(_running) = self.running.try_lock() else { return Ok(None) };
        let mut place = place(to, links, &self.buckets)?;
        if Address::parse(to).is_none() {
            if !Path::new(to).is_absolute() {
                let reason = "an absolute path on the server's machine is wanted".to_owned();
                return Err(BackupError::Unusable { at: to.to_owned(), reason });
            }
            refuse_inside(self.stores.data_dir(), Path::new(to))?;
        }
        // At once for all of it, so that one that has begun ends.
        let _held = self.memory.reserve(if place.is_far() { FAR_BYTES } else { NEAR_BYTES })?;
        self.copy_all(&mut *place).map(Some)
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let is_running = self.running.is_locked();
        is_running.then(|| (self.progress.done_bytes(), self.progress.whole_bytes()))
    }
}

/// Where a backup is said to lie: `s3://BUCKET/PREFIX`, or a directory.
pub(crate) fn place(text: &str, links: bool, buckets: &BucketOptions) -> Result<Box<dyn Place>, BackupError> {
    let directory = || Directory::new(Path::new(text));
    Ok(match Address::parse(text) {
        Some(address) => Box::new(Bucket::open(address, buckets)?),
        None if links => Box::new(directory().with_links()),
        None => Box::new(directory()),
    })
}

/// A backup within the data would contain itself.
pub(crate) fn refuse_inside(data_dir: &Path, to: &Path) -> Result<(), BackupError> {
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    // The directory itself may not be there yet.
    let known = to.ancestors().find_map(|part| part.canonicalize().ok());
    if known.is_some_and(|known| known.starts_with(&data_dir)) {
        let reason = "it lies within the data directory".to_owned();
        return Err(BackupError::Unusable { at: to.display().to_string(), reason });
    }
    Ok(())
}

/// The directories of stores below a data directory, by kind.
pub(crate) fn store_directories(data_dir: &Path) -> Vec<(SourceKind, std::path::PathBuf)> {
    let mut found = Vec::new();
    for kind in [SourceKind::Metrics, SourceKind::Logs] {
        let Ok(entries) = std::fs::read_dir(data_dir.join(kind.as_str())) else { continue };
        let directories = entries.flatten().map(|e| e.path()).filter(|path| path.is_dir());
        found.extend(directories.map(|path| (kind, path)));
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}
