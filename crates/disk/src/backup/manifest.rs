//! The list of a backup's copies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path};

const FORMAT: &str = "pilothouse-backup";
/// Version 1 knew no times.
const VERSION: u32 = 2;
/// Stands for a time that is not known.
const UNKNOWN: &str = "-";

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name of its copy.
    pub(super) stored: String,
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
    /// When the file that was copied had been written to last, in nanoseconds since 1970.
    pub(super) modified_ns: Option<i128>,
}

/// Entries by path in the data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) run: u64,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Manifest {
    pub(super) fn to_text(&self) -> String {
        let mut out = format!("{FORMAT} {VERSION}\nrun {}\n", self.run);
        for (path, Entry { stored, bytes, crc32c, modified_ns }) in &self.entries {
            let modified = modified_ns.map_or_else(|| UNKNOWN.to_owned(), |ns| ns.to_string());
            // Writing to a String does not fail.
            let _ = writeln!(out, "{crc32c:08x} {bytes} {modified} {stored}\t{path}");
        }
        let _ = writeln!(out, "end {:08x}", crc32c::crc32c(out.as_bytes()));
        out
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Before anything else: of a later version nothing but this line may be as it is now.
        let version = version_of(text)?;
        let body_bytes = text.rfind("end ").ok_or("it has no end")?;
        let (body, end) = text.split_at(body_bytes);
        if end != format!("end {:08x}\n", crc32c::crc32c(body.as_bytes())) {
            return Err("its checksum is wrong".to_owned());
        }
        let mut lines = body.lines().skip(1);
        let run = lines.next().and_then(|line| line.strip_prefix("run ")?.parse().ok());
        let entries = lines.map(|line| parse_entry(line, version)).collect::<Option<_>>();
        match (run, entries) {
            (Some(run), Some(entries)) => Ok(Self { run, entries }),
            _ => Err("a line cannot be read".to_owned()),
        }
    }
}

fn version_of(text: &str) -> Result<u32, String> {
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix(FORMAT).and_then(|rest| rest.strip_prefix(' ')?.parse().ok()) {
        None => Err("it does not say which version it has".to_owned()),
        Some(found) if found > VERSION => Err(format!(
            "it has version {found}, written by a newer release; this one reads version {VERSION}"
        )),
        Some(found) => Ok(found),
    }
}

fn parse_entry(line: &str, version: u32) -> Option<(String, Entry)> {
    let (about, path) = line.split_once('\t')?;
    let (crc32c, about) = about.split_once(' ')?;
    let crc32c = u32::from_str_radix(crc32c, 16).ok()?;
    let (bytes, about) = about.split_once(' ')?;
    let bytes = bytes.parse().ok()?;
    let (modified, stored) = if version == 1 { (UNKNOWN, about) } else { about.split_once(' ')? };
    let modified_ns = if modified == UNKNOWN { None } else { Some(modified.parse().ok()?) };
    // Nothing is ever written outside of the directory that it is restored into.
    let is_normal = |path: &str| Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    let inside = |path: &str| !path.is_empty() && is_normal(path);
    let entry = || Entry { stored: stored.to_owned(), bytes, crc32c, modified_ns };
    (inside(path) && inside(stored)).then(|| (path.to_owned(), entry()))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in "(pilothouse-backup [0-3]\n)?(run [0-9]{1,3}\n)?([0-9a-f]{8} [0-9]{1,4} ([0-9]{1,20} |- )?[a-z./]{0,9}\t[a-z./]{0,9}\n){0,3}.{0,20}") {
            let closed = format!("{text}end {:08x}\n", crc32c::crc32c(text.as_bytes()));
            for text in [text, closed] {
                if let Ok(manifest) = Manifest::parse(&text) {
                    proptest::prop_assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest));
                }
            }
        }
    }

    fn parse_closed(mut text: String) -> Result<Manifest, String> {
        let crc = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "end {crc:08x}");
        Manifest::parse(&text)
    }

    #[test]
    fn versions_are_read_or_refused_by_their_number() {
        let first = parse_closed(format!("{FORMAT} 1\nrun 7\n000000ff 5 x.run-7\tx\n")).unwrap();
        let entry = Entry { stored: "x.run-7".to_owned(), bytes: 5, crc32c: 255, modified_ns: None };
        assert_eq!(first, Manifest { run: 7, entries: BTreeMap::from([("x".to_owned(), entry.clone())]) });
        let known = Entry { modified_ns: Some(-8), ..entry };
        let second = Manifest { run: 8, entries: BTreeMap::from([("x".to_owned(), known)]) };
        assert_eq!(Manifest::parse(&second.to_text()), Ok(second));
        let newer = Manifest::parse(&format!("{FORMAT} 3\nwhatever comes\n")).unwrap_err();
        assert!(newer.contains("version 3") && newer.contains("newer"), "{newer}");
        assert!(Manifest::parse("dear aunt\n").unwrap_err().contains("does not say"));
    }

    #[test]
    fn a_manifest_cannot_name_what_lies_outside() {
        for path in ["../x", "/etc/passwd", "a/../../x", ""] {
            let manifest = |path: &str, stored: &str| {
                parse_closed(format!("{FORMAT} 2\nrun 1\n00000000 0 - {stored}\t{path}\n"))
            };
            assert!(manifest("fine", "fine").is_ok());
            assert!(manifest(path, "fine").is_err() && manifest("fine", path).is_err(), "{path}");
        }
    }
}
