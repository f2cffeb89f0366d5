//! The file of filters of a day: slabs, one behind the other, each synced before the commit that
//! refers to it. What lies behind the last one that was committed is nothing, and is written over.
//!
//! Without it every block is looked at: slower, and never wrong.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use parking_lot::Mutex;
use pilothouse_disk::files;

use crate::block::{BlockMask, Probe, ReadAt, Slab};
use crate::error::Error;

use super::schema::FilterPlace;

pub(crate) const FILE: &str = "filters.bin";

#[derive(Debug)]
pub(crate) struct Filters {
    path: PathBuf,
    /// Empty until it could be opened.
    file: OnceLock<File>,
    /// Opened headers by place; `None` for one that cannot be read.
    slabs: Mutex<HashMap<u64, Option<Arc<Slab>>>>,
}

/// A slab's place in the file.
struct Region<'a> {
    file: &'a File,
    start: u64,
    bytes: u64,
}

impl ReadAt for Region<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, self.start + offset)
    }
}

impl Filters {
    pub(crate) fn of(directory: &Path) -> Self {
        Self { path: directory.join(FILE), file: OnceLock::new(), slabs: Mutex::default() }
    }

    /// The file, opened when it is first asked for; one that is not there prunes nothing.
    fn file(&self) -> Option<&File> {
        if self.file.get().is_none()
            && let Ok(file) = File::open(&self.path)
        {
            let _ = self.file.set(file);
        }
        self.file.get()
    }

    /// Which blocks of a slab may have lines that meet the demands; `None` if it cannot be told.
    pub(crate) fn probe(&self, place: &FilterPlace, probe: &Probe) -> Option<BlockMask> {
        if place.slab_bytes == 0 {
            return None;
        }
        let region = Region { file: self.file()?, start: place.slab, bytes: place.slab_bytes };
        let slab = {
            let mut slabs = self.slabs.lock();
            slabs.entry(place.slab).or_insert_with(|| self.open_slab(&region)).clone()?
        };
        Some(slab.probe(probe, &region))
    }

    fn open_slab(&self, region: &Region<'_>) -> Option<Arc<Slab>> {
        match Slab::open(region, region.bytes) {
            Ok(slab) => Some(Arc::new(slab)),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, at = region.start, "a filter is damaged; its blocks are read one by one");
                None
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.slabs.lock().len() * 512
    }
}

/// Writes a slab behind the committed part of the file and syncs it.
pub(crate) fn append(directory: &Path, end: u64, slab: &[u8]) -> Result<(), Error> {
    Ok(files::write_from(&directory.join(FILE), end, slab)?)
}
