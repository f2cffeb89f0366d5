//! Files of which the disk does not give every part, as with a bad sector.
//!
//! A disk that gives nothing at all is away, and may come back; where it gives the rest of a file, what is missing is
//! lost, and the file is damaged as by bytes that are wrong.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::is_unreadable;
use crate::files::{self, NewFile, ReadFile};
use crate::{Error, os};

const BLOCK: usize = 4096;
/// So many at the start of a file that cannot be read are no bad sectors.
const MAX_BAD: u32 = 64;

/// Whether the disk gives some of a file, and does not give another part.
pub fn is_bad_in_part(path: &Path) -> bool {
    let Ok(file) = ReadFile::open(path) else { return false };
    let mut block = [0; BLOCK];
    let (mut is_read, mut bad) = (false, 0);
    for start in (0..file.bytes()).step_by(BLOCK) {
        match read_block(&file, &mut block, start) {
            Ok(_) => is_read = true,
            Err(e) if is_unreadable(&e) => bad += 1,
            Err(_) => return false,
        }
        if bad > 0 && is_read || bad >= MAX_BAD {
            return is_read;
        }
    }
    false
}

/// Puts a copy in the place of a file that is bad in part, with zeros where the disk gives nothing: whoever reads it
/// meets damage like any other. The file itself is kept aside. Whether that was done; nobody may have it open.
pub fn read_around(path: &Path) -> Result<bool, Error> {
    if !is_bad_in_part(path) {
        return Ok(false);
    }
    let unfinished = files::unfinished_path(path);
    files::remove(&unfinished)?;
    let bad_blocks = copy_readable(path, &unfinished)?;
    let aside = files::keep_aside(path, "damaged")?;
    files::rename_durably(&unfinished, path)?;
    let (file, aside) = (path.display(), aside.display());
    tracing::error!(%file, %aside, bad_blocks, "the disk does not give every part of a file; the rest was copied");
    Ok(true)
}

/// Copies a file, with zeros for each block that the disk does not give. How many these are. The content is durable
/// when it returns, the name is not.
pub(crate) fn copy_readable(from: &Path, to: &Path) -> Result<u64, Error> {
    files::require_space(to, files::allocated_bytes(from)?)?;
    let copied = (|| {
        let file = ReadFile::open(from)?;
        let mut copy = NewFile::create_private(to)?;
        copy.set_permissions(fs::metadata(from)?.permissions())?;
        let (mut block, mut bad) = ([0; BLOCK], 0);
        for start in (0..file.bytes()).step_by(BLOCK) {
            let length = match read_block(&file, &mut block, start) {
                Err(e) if is_unreadable(&e) => {
                    bad += 1;
                    block.fill(0);
                    block_bytes(&file, start)
                }
                read => read?,
            };
            copy.write_all(block.get(..length).unwrap_or(&[]))?;
        }
        copy.sync()?;
        Ok(bad)
    })();
    copied.map_err(Error::io("copy", from))
}

/// Reads from a file that is bad in part, with zeros for what the disk does not give.
pub(crate) fn read_around_at(file: &fs::File, path: &Path, out: &mut [u8], offset: u64) -> io::Result<()> {
    for (part, start) in out.chunks_mut(BLOCK).zip((offset..).step_by(BLOCK)) {
        match os::read_at(file, path, part, start) {
            Err(e) if is_unreadable(&e) => part.fill(0),
            read => read?,
        }
    }
    Ok(())
}

fn block_bytes(file: &ReadFile, start: u64) -> usize {
    file.bytes().saturating_sub(start).min(BLOCK as u64) as usize
}

fn read_block(file: &ReadFile, block: &mut [u8; BLOCK], start: u64) -> io::Result<usize> {
    let length = block_bytes(file, start);
    file.read_at(block.get_mut(..length).unwrap_or(&mut []), start)?;
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Disk;

    #[test]
    fn a_file_that_is_bad_in_part_is_read_around_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::below(dir.path());
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8 | 1).collect();
        fs::write(&path, &bytes).unwrap();
        assert!(!read_around(&path).unwrap());
        disk.fail_reads(true);
        assert!(!is_bad_in_part(&path) && !read_around(&path).unwrap(), "the disk is away");
        disk.fail_reads(false);
        // In the second block, and in the last, which is a short one.
        disk.spoil(&path, 5_000..5_001);
        disk.spoil(&path, 19_000..19_500);
        assert!(read_around(&path).unwrap() && !is_bad_in_part(&path));
        let mut expected = bytes.clone();
        expected[4096..8192].fill(0);
        expected[16_384..].fill(0);
        assert!(fs::read(&path).unwrap() == expected);
        assert_eq!(files::file_names(dir.path()).unwrap(), ["file", "file.damaged-1"]);
        assert!(is_bad_in_part(&dir.path().join("file.damaged-1")));
    }

    #[test]
    fn what_cannot_be_linked_is_copied() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::below(dir.path());
        let path = dir.path().join("file");
        fs::write(&path, "content").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        for (refuses, links) in [(false, 2), (true, 1)] {
            disk.refuse_links(refuses);
            let aside = files::keep_aside(&path, "damaged").unwrap();
            let metadata = fs::metadata(&aside).unwrap();
            assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (links, 0o640));
            assert_eq!(fs::read_to_string(aside).unwrap(), "content");
        }
        assert_eq!(files::file_names(dir.path()).unwrap(), ["file", "file.damaged-1", "file.damaged-2"]);
        disk.fail_writes(true);
        assert!(files::keep_aside(&path, "damaged").is_err(), "a disk that fails is not one without links");
    }
}
