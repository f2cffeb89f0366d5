//! `meta.json`, which says what the index of a day consists of: with a checksum behind it, and a copy
//! beside it.
//!
//! The copy is written when the file itself is durable. So the file is believed wherever it is
//! whole, and the copy is only read where it is damaged or gone.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use pilothouse_disk::files;

pub(crate) const FILE: &str = "meta.json";
pub(crate) const COPY: &str = "meta.copy.json";
/// Begins the last line; eight hexadecimal digits follow.
const SEAL: &[u8] = b"crc32c ";
const SEAL_BYTES: usize = SEAL.len() + 9;

/// One of the two files.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Whole(Vec<u8>),
    Damaged(&'static str),
}

fn seal(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.extend_from_slice(SEAL);
    bytes.extend_from_slice(format!("{:08x}\n", crc32c::crc32c(text)).as_bytes());
    bytes
}

fn unseal(mut bytes: Vec<u8>) -> Read {
    let at = bytes.len().saturating_sub(SEAL_BYTES);
    let (text, end) = bytes.split_at(at);
    match end.strip_prefix(SEAL) {
        Some(sum) if sum == format!("{:08x}\n", crc32c::crc32c(text)).as_bytes() => {
            bytes.truncate(at);
            Read::Whole(bytes)
        }
        Some(_) => Read::Damaged("its checksum is wrong"),
        None => Read::Damaged("it has no checksum"),
    }
}

fn read_one(directory: &Path, name: &str) -> io::Result<Read> {
    match files::read(&directory.join(name)) {
        Ok(bytes) => Ok(unseal(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Read::Damaged("it is gone")),
        Err(e) => Err(e),
    }
}

/// What is known of the two files together.
#[derive(Debug)]
pub(crate) struct Found {
    /// What holds; empty if neither can be read.
    text: Vec<u8>,
    /// What is wrong with the file itself.
    pub(crate) fault: Option<&'static str>,
    /// Both say the same.
    is_settled: bool,
}

impl Found {
    pub(crate) fn is_lost(&self) -> bool {
        self.text.is_empty()
    }
}

pub(crate) fn look(directory: &Path) -> io::Result<Found> {
    let copy = read_one(directory, COPY)?;
    let found = |text, fault, is_settled| Ok(Found { text, fault, is_settled });
    match (read_one(directory, FILE)?, copy) {
        (Read::Whole(text), copy) => {
            let is_settled = copy == Read::Whole(text.clone());
            found(text, None, is_settled)
        }
        (Read::Damaged(fault), Read::Whole(text)) => found(text, Some(fault), false),
        (Read::Damaged(fault), Read::Damaged(_)) => found(Vec::new(), Some(fault), false),
    }
}

/// The text that holds.
pub(crate) fn read(directory: &Path) -> io::Result<Vec<u8>> {
    if let Read::Whole(text) = read_one(directory, FILE)? {
        return Ok(text);
    }
    let found = look(directory)?;
    match found.fault {
        Some(_) if !directory.join(FILE).exists() && found.is_lost() => Err(io::ErrorKind::NotFound.into()),
        Some(fault) if found.is_lost() => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        _ => Ok(found.text),
    }
}

/// Replaces both; durable when it returns. An error means that the file may or may not have been.
pub(crate) fn write(directory: &Path, text: &[u8]) -> Result<(), pilothouse_disk::Error> {
    let bytes = seal(text);
    files::write_atomic(&directory.join(FILE), &bytes)?;
    if let Err(error) = files::write_atomic(&directory.join(COPY), &bytes) {
        // None is better than an old one; the next commit makes one.
        let _ = files::remove(&directory.join(COPY));
        tracing::warn!(%error, "a day has no copy of its list of segments");
    }
    Ok(())
}

/// Makes both what [`look`] has found to hold.
pub(crate) fn settle(directory: &Path, found: &Found) -> Result<(), pilothouse_disk::Error> {
    if found.is_settled || found.is_lost() { Ok(()) } else { write(directory, &found.text) }
}

/// The text without some segments.
pub(crate) fn without(text: &[u8], segments: &HashSet<String>) -> io::Result<Vec<u8>> {
    let mut meta: serde_json::Value = serde_json::from_slice(text)?;
    if let Some(listed) = meta.get_mut("segments").and_then(|s| s.as_array_mut()) {
        let id = |segment: &serde_json::Value| {
            segment.get("segment_id").and_then(|id| id.as_str()).unwrap_or_default().replace('-', "")
        };
        listed.retain(|segment| !segments.contains(&id(segment)));
    }
    Ok(serde_json::to_vec_pretty(&meta)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"{\"segments\": []}\n";

    #[test]
    fn any_changed_byte_is_seen() {
        let sealed = seal(TEXT);
        assert_eq!(unseal(sealed.clone()), Read::Whole(TEXT.to_vec()));
        assert!(matches!(unseal(TEXT.to_vec()), Read::Damaged(_)));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(matches!(unseal(changed), Read::Damaged(_)), "{at}");
            assert!(!matches!(unseal(sealed[..at].to_vec()), Read::Whole(_)), "{at}");
        }
    }

    #[test]
    fn the_copy_is_read_where_the_file_is_no_good() {
        let dir = tempfile::tempdir().unwrap();
        let (file, copy) = (dir.path().join(FILE), dir.path().join(COPY));
        write(dir.path(), TEXT).unwrap();
        assert!(look(dir.path()).unwrap().is_settled);
        for content in [None, Some(b"".as_slice()), Some(b"{}\n"), Some(&seal(TEXT)[1..])] {
            match content {
                None => std::fs::remove_file(&file).unwrap(),
                Some(content) => std::fs::write(&file, content).unwrap(),
            }
            assert_eq!(read(dir.path()).unwrap(), TEXT);
            let found = look(dir.path()).unwrap();
            assert!(found.fault.is_some() && !found.is_lost());
            settle(dir.path(), &found).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), seal(TEXT));
        }
        // A copy that is not the file's is none.
        std::fs::write(&copy, seal(b"{}\n")).unwrap();
        assert_eq!(read(dir.path()).unwrap(), TEXT);
        settle(dir.path(), &look(dir.path()).unwrap()).unwrap();
        assert_eq!(std::fs::read(&copy).unwrap(), seal(TEXT));
        std::fs::remove_file(&file).unwrap();
        std::fs::remove_file(&copy).unwrap();
        assert_eq!(read(dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn segments_are_left_out_by_their_ids() {
        let meta =
            br#"{"segments": [{"segment_id": "0a-b", "max_doc": 1}, {"segment_id": "0a-c"}], "opstamp": 7}"#;
        let left = without(meta, &HashSet::from(["0ab".to_owned()])).unwrap();
        let left: serde_json::Value = serde_json::from_slice(&left).unwrap();
        assert_eq!(left, serde_json::json!({"segments": [{"segment_id": "0a-c"}], "opstamp": 7}));
    }
}
