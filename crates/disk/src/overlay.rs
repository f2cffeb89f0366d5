//! A file that is only read, under a database that writes: what it writes stays in memory.
//!
//! redb mends what it opens, and its check of a whole file goes back to an older commit where a
//! newer one is damaged. Neither must happen to a file that is merely looked at.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::os;

const BLOCK: u64 = 4096;

#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// As far as the file still shows through: it may have been cut and made longer again.
    shown: u64,
    /// Blocks by number that are no longer what the file says.
    written: HashMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self {
            file,
            path: path.to_owned(),
            state: Mutex::new(State { len, shown: len, written: HashMap::new() }),
        })
    }

    /// A block as the file has it, with zeros behind its end.
    fn load(&self, shown: u64, number: u64) -> io::Result<Box<[u8]>> {
        let mut block = vec![0; BLOCK as usize];
        let start = number * BLOCK;
        let there = shown.saturating_sub(start).min(BLOCK) as usize;
        if let Some(part) = block.get_mut(..there) {
            os::read_at(&self.file, &self.path, part, start)?;
        }
        Ok(block.into())
    }
}

/// The blocks that a range touches: number, place in the block, place in the range.
fn blocks(
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK) as usize;
        let count = (BLOCK as usize - within).min(len - done);
        let found = (at / BLOCK, within..within + count, done..done + count);
        done += count;
        Some(found)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset.saturating_add(out.len() as u64) > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in blocks(offset, out.len()) {
            let loaded;
            let block = match state.written.get(&number) {
                Some(written) => written,
                None => {
                    loaded = self.load(state.shown, number)?;
                    &loaded
                }
            };
            if let (Some(to), Some(from)) = (out.get_mut(part), block.get(within)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.len = len;
        state.shown = state.shown.min(len);
        // What lies behind the end reads as zeros when the file grows again.
        for (number, block) in &mut state.written {
            let kept = len.saturating_sub(number * BLOCK).min(BLOCK) as usize;
            block.iter_mut().skip(kept).for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        for (number, within, part) in blocks(offset, data.len()) {
            if !state.written.contains_key(&number) {
                let loaded = self.load(state.shown, number)?;
                state.written.insert(number, loaded);
            }
            let block = state.written.get_mut(&number);
            if let (Some(to), Some(from)) = (block.and_then(|b| b.get_mut(within)), data.get(part)) {
                to.copy_from_slice(from);
            }
        }
        state.len = state.len.max(offset.saturating_add(data.len() as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain vector; the file stays as it was.
        #[test]
        fn it_reads_as_if_it_had_been_written(
            content in proptest::collection::vec(any::<u8>(), 0..20_000),
            steps in proptest::collection::vec((0u64..25_000, 0usize..9_000, any::<bool>()), 0..12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            std::fs::write(&path, &content).unwrap();
            let overlay = Overlay::open(&path).unwrap();
            let mut model = content.clone();
            for (offset, len, cuts) in steps {
                if cuts {
                    model.resize(offset as usize, 0);
                    overlay.set_len(offset).unwrap();
                } else {
                    let data: Vec<u8> = (0..len).map(|i| (i as u64 + offset) as u8 | 1).collect();
                    let end = offset as usize + len;
                    if end > model.len() {
                        model.resize(end, 0);
                        overlay.set_len(end as u64).unwrap();
                    }
                    model[offset as usize..end].copy_from_slice(&data);
                    overlay.write(offset, &data).unwrap();
                }
                let mut found = vec![7; model.len()];
                overlay.read(0, &mut found).unwrap();
                prop_assert_eq!(&found, &model);
                prop_assert!(overlay.read(model.len() as u64, &mut [0]).is_err());
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }
}
