//! The list of a backup's copies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path};

const FORMAT: &str = "pilothouse-backup 1";

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name of its copy.
    pub(super) stored: String,
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
}

/// Entries by path in the data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) run: u64,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Manifest {
    pub(super) fn to_text(&self) -> String {
        let mut out = format!("{FORMAT}\nrun {}\n", self.run);
        for (path, entry) in &self.entries {
            // Writing to a String does not fail.
            let _ = writeln!(out, "{:08x} {} {}\t{path}", entry.crc32c, entry.bytes, entry.stored);
        }
        let _ = writeln!(out, "end {:08x}", crc32c::crc32c(out.as_bytes()));
        out
    }

    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let body_bytes = text.rfind("end ").ok_or("it has no end")?;
        let (body, end) = text.split_at(body_bytes);
        if end != format!("end {:08x}\n", crc32c::crc32c(body.as_bytes())) {
            return Err("its checksum is wrong");
        }
        let mut lines = body.lines();
        if lines.next() != Some(FORMAT) {
            return Err("it has another format");
        }
        let run = lines.next().and_then(|line| line.strip_prefix("run ")?.parse().ok());
        let entries = lines.map(parse_entry).collect::<Option<_>>();
        match (run, entries) {
            (Some(run), Some(entries)) => Ok(Self { run, entries }),
            _ => Err("a line cannot be read"),
        }
    }
}

fn parse_entry(line: &str) -> Option<(String, Entry)> {
    let (about, path) = line.split_once('\t')?;
    let mut words = about.splitn(3, ' ');
    let crc32c = u32::from_str_radix(words.next()?, 16).ok()?;
    let bytes = words.next()?.parse().ok()?;
    let stored = words.next()?.to_owned();
    // Nothing is ever written outside of the directory that it is restored into.
    let is_normal = |path: &str| Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    let inside = |path: &str| !path.is_empty() && is_normal(path);
    (inside(path) && inside(&stored)).then(|| (path.to_owned(), Entry { stored, bytes, crc32c }))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in "(pilothouse-backup 1\n)?(run [0-9]{1,3}\n)?([0-9a-f]{8} [0-9]{1,4} [a-z./]{0,9}\t[a-z./]{0,9}\n){0,3}.{0,20}") {
            let closed = format!("{text}end {:08x}\n", crc32c::crc32c(text.as_bytes()));
            for text in [text, closed] {
                if let Ok(manifest) = Manifest::parse(&text) {
                    proptest::prop_assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest));
                }
            }
        }
    }

    #[test]
    fn a_manifest_cannot_name_what_lies_outside() {
        for path in ["../x", "/etc/passwd", "a/../../x", ""] {
            let manifest = |path: &str, stored: &str| {
                let mut text = format!("{FORMAT}\nrun 1\n00000000 0 {stored}\t{path}\n");
                let crc = crc32c::crc32c(text.as_bytes());
                let _ = writeln!(text, "end {crc:08x}");
                Manifest::parse(&text)
            };
            assert!(manifest("fine", "fine").is_ok());
            assert!(manifest(path, "fine").is_err() && manifest("fine", path).is_err(), "{path}");
        }
    }
}
