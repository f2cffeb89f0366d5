//! A log and a database as the stores use them, under power cuts at any moment: what was
//! acknowledged is there, once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use redb::{ReadableTable as _, TableDefinition};

use super::{Dice, Disk};
use crate::wal::{OnDamage, Options};
use crate::{Database, Error, Position, Wal, WalError, files, os};

const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");
const FLUSHED: TableDefinition<(), u64> = TableDefinition::new("flushed");
/// How many lives are tried.
const SEEDS: u64 = 1_000;

struct Pair {
    wal: Wal,
    database: Database,
    /// Records that the log alone has.
    open: BTreeMap<u64, Vec<u8>>,
}

fn fault(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Pair {
    fn open(directory: &Path) -> Result<Self, String> {
        let database = Database::open(&directory.join("rows.redb"), "rows", 1, 0).map_err(fault)?;
        let flushed = Position(flushed(&database)?);
        let options = Options { segment_bytes: 2_000, ..Options::default() };
        let mut recovery = Wal::open(&directory.join("wal"), options).map_err(fault)?;
        let mut open = BTreeMap::new();
        let replay = recovery.replay(flushed, OnDamage::Stop, |position, payload| {
            if position >= flushed {
                let twice = open.insert(id_of(payload), payload.to_vec());
                assert!(twice.is_none(), "the log has a record twice");
            }
            Ok::<(), WalError>(())
        });
        replay.map_err(fault)?;
        let wal = recovery.start(flushed).map_err(fault)?;
        Ok(Self { wal, database, open })
    }

    fn push(&mut self, id: u64, dice: &mut Dice) -> Result<(), String> {
        let mut payload = id.to_le_bytes().to_vec();
        payload.resize(8 + dice.roll(700) as usize, id as u8);
        let position = self.wal.append(&payload).map_err(fault)?;
        self.open.insert(id, payload);
        self.wal.wait(position).map_err(fault)
    }

    /// Log, then database with the position in the same transaction, then trimming: as stores do.
    fn flush(&mut self) -> Result<(), String> {
        self.wal.sync().map_err(fault)?;
        let upto = self.wal.next();
        let write = self.database.write(|transaction| -> Result<(), Error> {
            let named = |e: redb::Error| Error::database(self.database.path())(e);
            let mut rows = transaction.open_table(ROWS).map_err(|e| named(e.into()))?;
            for (id, payload) in &self.open {
                rows.insert(id, payload.as_slice()).map_err(|e| named(e.into()))?;
            }
            let mut flushed = transaction.open_table(FLUSHED).map_err(|e| named(e.into()))?;
            flushed.insert((), upto.0).map_err(|e| named(e.into()))?;
            Ok(())
        });
        write.map_err(fault)?;
        self.open.clear();
        self.wal.trim(upto).map_err(fault)?;
        Ok(())
    }

    /// Everything that is there; panics over a record that is there twice.
    fn all(&self) -> BTreeSet<u64> {
        let mut all: BTreeSet<u64> = self.open.keys().copied().collect();
        let Ok(rows) = self.database.read().unwrap().open_table(ROWS) else { return all };
        for row in rows.iter().unwrap() {
            let (id, payload) = row.unwrap();
            assert_eq!(id_of(payload.value()), id.value());
            assert!(all.insert(id.value()), "record {} is in the log and in the database", id.value());
        }
        all
    }
}

fn id_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

fn flushed(database: &Database) -> Result<u64, String> {
    let read = database.read().map_err(fault)?;
    let Ok(table) = read.open_table(FLUSHED) else { return Ok(0) };
    Ok(table.get(()).map_err(fault)?.map_or(0, |position| position.value()))
}

/// Several lives on one disk, each ended by a cut.
fn lives(seed: u64, directory: &Path) {
    let mut dice = Dice(seed);
    let disk = Disk::below(directory);
    let (mut sent, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    for life in 0..3 {
        disk.cut_power_after(dice.roll(90));
        if let Ok(mut pair) = Pair::open(directory) {
            while !disk.is_power_out() {
                if dice.roll(8) == 0 {
                    if pair.flush().is_err() {
                        break;
                    }
                    continue;
                }
                let id = sent.len() as u64;
                sent.insert(id);
                if pair.push(id, &mut dice).is_err() {
                    break;
                }
                acknowledged.insert(id);
            }
        }
        disk.settle(dice.roll(u64::MAX)).unwrap();
        let pair = Pair::open(directory).unwrap_or_else(|e| panic!("seed {seed}, life {life}: {e}"));
        let all = pair.all();
        assert!(acknowledged.is_subset(&all), "seed {seed}, life {life}: {:?} lost", &acknowledged - &all);
        assert!(all.is_subset(&sent), "seed {seed}, life {life}: {:?} invented", &all - &sent);
        // What came back is there from now on, acknowledged or not.
        acknowledged = all;
    }
}

/// In memory where that can be had, so that syncs cost nothing.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn power_cuts_at_any_moment_lose_nothing_and_double_nothing() {
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for seed in (part..SEEDS).step_by(4) {
                    let directory = directory();
                    lives(seed, directory.path());
                }
            });
        }
    });
}

/// What a cut leaves of three files when two are renamed, one over the other, and one is removed.
fn left_of_names(seed: u64, syncs: bool) -> BTreeMap<String, Vec<u8>> {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    ["a", "b", "c"].iter().for_each(|name| files::write_atomic(&path(name), name.as_bytes()).unwrap());
    let disk = Disk::below(directory.path());
    disk.cut_power_after(u64::MAX);
    os::rename(&path("a"), &path("b")).unwrap();
    os::remove_file(&path("c")).unwrap();
    files::create_directory(&path("d")).unwrap();
    std::io::Write::write_all(&mut files::NewFile::create(&path("d/e")).unwrap(), b"e").unwrap();
    if syncs {
        files::sync_directory(directory.path()).unwrap();
        files::sync_directory(&path("d")).unwrap();
    }
    disk.settle(seed).unwrap();
    let names = files::file_names(directory.path()).unwrap();
    let mut left: BTreeMap<String, Vec<u8>> =
        names.into_iter().map(|name| (name.clone(), std::fs::read(path(&name)).unwrap())).collect();
    if path("d/e").exists() {
        left.insert("d/e".to_owned(), Vec::new());
    }
    left
}

#[test]
fn names_are_durable_when_their_directory_is_synced() {
    let content = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let last = BTreeMap::from([content("b", b"a"), content("d/e", b"")]);
    let lost_file = BTreeMap::from([content("b", b"a")]);
    let outcomes = |syncs| (0..100).map(|seed| left_of_names(seed, syncs)).collect::<BTreeSet<_>>();
    assert_eq!(outcomes(true), BTreeSet::from([last.clone()]));
    // Making `d` has synced what was before it: only what is in it may be lost.
    assert_eq!(outcomes(false), BTreeSet::from([last, lost_file]));
}

/// Any number of the first changes, in their order.
#[test]
fn names_that_were_not_synced_are_as_they_were_at_some_time() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        ["a", "b"].iter().for_each(|name| files::write_atomic(&path(name), name.as_bytes()).unwrap());
        let disk = Disk::below(directory.path());
        disk.cut_power_after(u64::MAX);
        os::rename(&path("a"), &path("b")).unwrap();
        os::remove_file(&path("b")).unwrap();
        disk.settle(seed).unwrap();
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap_or_default();
        outcomes.insert((read("a"), read("b")));
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            files::file_names(directory.path()).unwrap().len()
        );
    }
    let told = [("a", "b"), ("", "a"), ("", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(outcomes, BTreeSet::from(told));
}
