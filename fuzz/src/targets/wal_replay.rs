//! Segments of the write-ahead log.
//!
//! Strategy: the first byte chooses between bytes laid down as segments, with a right header or
//! without, and a log of real segments some of whose bytes are changed, cut or dropped.
//! Invariants: never a panic, never without end; no record is read that was not written; reading
//! changes nothing; the log can be started and appended to, and then the same records and the new
//! one are read. One that was written and had lost its last bytes may come back then: where the mark
//! that closes its segment happens to begin with them, it is whole again, and its checksum says so.

use std::fs;
use std::path::{Path, PathBuf};

use pilothouse_disk::wal::{OnDamage, Options, Replayed};
use pilothouse_disk::{Position, Wal, WalError};
use tempfile::TempDir;

use crate::choices::Choices;

type Records = Vec<(Position, Vec<u8>)>;

pub fn run(data: &[u8]) {
    let directory = directory();
    let directory = directory.path();
    let mut choices = Choices::new(data);
    let written = match choices.byte() % 3 {
        0 => lay_down(directory, choices),
        _ => write_and_change(directory, choices),
    };
    let from = Position(0);
    let stopped = replay(directory, from, OnDamage::Stop);
    let Ok((records, _)) = replay(directory, from, OnDamage::Skip) else { return };
    assert!(records.iter().all(|record| written.contains(record)));
    if let Ok((all, _)) = stopped {
        assert_eq!(all, records);
    }
    append_one(directory, records, written);
}

/// In memory where there is such a place.
fn directory() -> TempDir {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("pilothouse-fuzz-").tempdir_in(base).expect("a directory")
}

fn replay(directory: &Path, from: Position, on_damage: OnDamage) -> Result<(Records, Replayed), WalError> {
    let mut records = Records::new();
    let replayed = Wal::open(directory, options())?.replay(from, on_damage, |position, payload| {
        records.push((position, payload.to_vec()));
        Ok::<_, WalError>(())
    })?;
    assert!(records.is_sorted_by(|a, b| a.0 < b.0));
    Ok((records, replayed))
}

fn options() -> Options {
    Options { segment_bytes: 200, ..Options::default() }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).expect("a list").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn lay_down(directory: &Path, mut choices: Choices<'_>) -> Records {
    let first = u64::from(choices.byte());
    let content = choices.rest();
    for (at, part) in [(first, &content[..content.len() / 2]), (first + 100, content)] {
        fs::write(directory.join(format!("{at:020}.wal")), part).expect("a segment");
    }
    Records::new()
}

fn write_and_change(directory: &Path, mut choices: Choices<'_>) -> Records {
    let wal = Wal::open(directory, options()).and_then(|r| r.start(Position(0))).expect("a new log");
    let mut written = Records::new();
    for i in 0..choices.below(12) {
        let payload = vec![i as u8; choices.below(90)];
        written.push((wal.append(&payload).expect("room"), payload));
        if choices.byte().is_multiple_of(2) {
            wal.sync().expect("a sync");
        }
    }
    drop(wal);
    while !choices.is_empty() {
        let paths = segments(directory);
        let Some(path) = paths.get(choices.below(paths.len())) else { break };
        let mut bytes = fs::read(path).expect("a segment");
        let at = choices.below(bytes.len());
        match choices.byte() % 8 {
            0 => bytes.truncate(at),
            1 if paths.len() > 1 => {
                fs::remove_file(path).expect("a segment");
                continue;
            }
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= choices.byte()),
        }
        fs::write(path, bytes).expect("a segment");
    }
    written
}

fn append_one(directory: &Path, mut records: Records, mut written: Records) {
    let mut recovery = Wal::open(directory, options()).expect("it opened before");
    let end = recovery
        .replay(Position(0), OnDamage::Skip, |_, _| Ok::<_, WalError>(()))
        .expect("it read before")
        .end;
    let wal = recovery.start(Position(0)).expect("a log that reads starts");
    let position = wal.append(b"after").expect("room");
    assert!(position >= end);
    wal.wait(position).expect("a sync");
    drop(wal);
    records.push((position, b"after".to_vec()));
    written.push((position, b"after".to_vec()));
    let (again, _) = replay(directory, Position(0), OnDamage::Skip).expect("it read before");
    assert!(records.iter().all(|record| again.contains(record)), "{records:?} {again:?}");
    assert!(again.iter().all(|record| written.contains(record)), "{written:?} {again:?}");
}
