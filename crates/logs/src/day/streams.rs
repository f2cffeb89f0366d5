//! Which streams a day has, with their labels: blocks know streams by number only, and without the
//! catalog nobody else knows whose numbers they are.
//!
//! A file of batches, one behind the other. Each is written before the catalog says that the day
//! has its streams, and so before a commit that refers to them. It is read only when the catalog
//! does not know of the day, and at the first change after a start.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use pilothouse_disk::files;
use pilothouse_model::Labels;
use pilothouse_model::bytes::{Malformed, Reader, push_slice, push_varint};

use crate::error::Error;

const FILE: &str = "streams.bin";
/// Length and checksum of a batch.
const FRAME_BYTES: usize = 8;

/// Id, group and labels.
pub(crate) type StreamRow = (u32, u32, Labels);

/// What the file of a day says.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) streams: Vec<StreamRow>,
    /// Up to where the file makes sense.
    end: u64,
    /// Nothing of it is damaged. A file that is not there is not whole.
    pub(crate) is_whole: bool,
}

#[derive(Debug)]
pub(crate) struct StreamFile {
    path: PathBuf,
    /// Where the next batch goes; unknown before the first one, and after a failure.
    end: Mutex<Option<u64>>,
}

impl StreamFile {
    pub(crate) fn of(directory: &Path) -> Self {
        Self { path: directory.join(FILE), end: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_there(&self) -> bool {
        self.path.exists()
    }

    pub(crate) fn read(&self) -> Result<Listed, Error> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(parse(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Listed::default()),
            Err(e) => Err(Error::io("read", &self.path)(e)),
        }
    }

    /// Adds streams. If what is there is damaged, the file is written anew with `all` of the day.
    pub(crate) fn add(&self, new: &[StreamRow], all: impl FnOnce() -> Vec<StreamRow>) -> Result<(), Error> {
        let mut end = self.end.lock();
        let known = match end.take() {
            Some(known) => Some(known),
            None => Some(self.read()?).filter(|listed| listed.is_whole).map(|listed| listed.end),
        };
        let written = match known {
            Some(start) if new.is_empty() => start,
            Some(start) => {
                let batch = batch(new);
                files::write_from(&self.path, start, &batch)?;
                start + batch.len() as u64
            }
            None => {
                let batch = batch(&all());
                files::write_atomic(&self.path, &batch)?;
                batch.len() as u64
            }
        };
        *end = Some(written);
        Ok(())
    }
}

fn batch(streams: &[StreamRow]) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_BYTES];
    push_varint(&mut bytes, streams.len() as u64);
    for (id, group, labels) in streams {
        push_varint(&mut bytes, u64::from(*id));
        push_varint(&mut bytes, u64::from(*group));
        push_slice(&mut bytes, labels.as_encoded().as_bytes());
    }
    let (frame, content) = bytes.split_at_mut(FRAME_BYTES);
    let (length, sum) = frame.split_at_mut(4);
    length.copy_from_slice(&(content.len() as u32).to_le_bytes());
    sum.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Listed {
    let mut listed = Listed::default();
    let mut rest = Reader(bytes);
    while !rest.is_empty() {
        let Ok(streams) = parse_batch(&mut rest) else { return listed };
        listed.streams.extend(streams);
        listed.end = (bytes.len() - rest.0.len()) as u64;
    }
    listed.is_whole = !listed.streams.is_empty();
    listed
}

fn parse_batch(from: &mut Reader<'_>) -> Result<Vec<StreamRow>, Malformed> {
    let mut number = || -> Result<u32, Malformed> {
        let bytes = from.take(4)?.try_into().map_err(|_| Malformed::END)?;
        Ok(u32::from_le_bytes(bytes))
    };
    let (length, sum) = (number()?, number()?);
    let content = from.take(usize::try_from(length).map_err(|_| Malformed("length"))?)?;
    if crc32c::crc32c(content) != sum {
        return Err(Malformed("checksum"));
    }
    let mut content = Reader(content);
    let mut streams = Vec::with_capacity(content.count()?);
    while !content.is_empty() {
        let (id, group) = (content.u32()?, content.u32()?);
        streams.push((id, group, Labels::from_encoded(content.text()?).ok_or(Malformed("labels"))?));
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u32) -> StreamRow {
        (id, id % 3, Labels::from_pairs([("app", &*format!("app-{id}"))]))
    }

    fn ids(listed: &Listed) -> Vec<u32> {
        listed.streams.iter().map(|s| s.0).collect()
    }

    #[test]
    fn batches_read_back_and_a_torn_one_is_mended_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let file = StreamFile::of(dir.path());
        assert!(!file.is_there() && !file.read().unwrap().is_whole);
        file.add(&[], || vec![row(1), row(2)]).unwrap();
        file.add(&[row(3)], || unreachable!("what is there is known")).unwrap();
        let listed = file.read().unwrap();
        assert_eq!((listed.streams.as_slice(), listed.is_whole), ([row(1), row(2), row(3)].as_slice(), true));

        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for cut in [0, 1, 7, 8, whole.len() / 2, whole.len() - 1] {
            std::fs::write(dir.path().join(FILE), &whole[..cut]).unwrap();
            let file = StreamFile::of(dir.path());
            assert!(!file.read().unwrap().is_whole, "{cut}");
            file.add(&[row(4)], || (1..=4).map(row).collect()).unwrap();
            assert_eq!(ids(&file.read().unwrap()), [1, 2, 3, 4], "{cut}");
        }
        let again = StreamFile::of(dir.path());
        again.add(&[row(5)], || unreachable!("what is there is whole")).unwrap();
        assert_eq!(ids(&again.read().unwrap()), [1, 2, 3, 4, 5]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0u8.., 0..200)) {
            parse(&bytes);
        }

        #[test]
        fn a_changed_byte_makes_up_no_stream(at in 0usize..80, by in 1u8..) {
            let mut bytes = [batch(&[row(1), row(2)]), batch(&[row(3)])].concat();
            let at = at % bytes.len();
            bytes[at] ^= by;
            let found = parse(&bytes).streams;
            proptest::prop_assert!([row(1), row(2), row(3)].starts_with(&found));
        }
    }
}
