//! What a Prometheus has in no block yet: full chunks beside the log, the log itself, and that of
//! samples which came out of order.
//!
//! A log is in the order of time, so it is pushed as it is read, some hundred thousand samples at a
//! time. It is walked twice: first for the series and for what was deleted of them, which stands
//! behind the samples it is about, and to name damage; then for samples.
//!
//! As where a Prometheus starts: what the blocks cover is passed over, chunks come first, and of the
//! log only what is newer than a series' last chunk, so that samples come once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use pilothouse_wire::tsdb::{HeadChunks, LogSegment, TsdbError, is_of_series, read_record};

use super::super::super::when::Bounds;
use super::super::CommandError;
use super::super::ledger::{Ledger, Place};
use super::super::pusher::Pusher;
use super::damage::Damage;
use super::head::{Head, Origin};

/// What is read of a file, in the order in which it is.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    origin: Origin,
    /// Lanes are gone through in the order of their names, behind those of days.
    lane: String,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Log {
    files: Vec<LogFile>,
    head: Head,
}

impl Log {
    /// `None` where a directory has no log.
    pub(super) fn find(directory: &Path, head: Head) -> Result<Option<Self>, CommandError> {
        let mut files = Vec::new();
        for (n, path) in numbered(&directory.join("chunks_head"))? {
            files.push(LogFile::new(path, Origin::Chunks, format!("chunks {n:010}")));
        }
        let wal = directory.join("wal");
        let checkpoint = last_checkpoint(&wal)?;
        if let Some((last, path)) = &checkpoint {
            for (n, path) in numbered(path)? {
                let lane = format!("log {last:010} checkpoint {n:010}");
                files.push(LogFile::new(path, Origin::InOrder, lane));
            }
        }
        for (n, path) in numbered(&wal)? {
            // Up to there the checkpoint holds what was worth keeping.
            if checkpoint.as_ref().is_none_or(|(last, _)| n > *last) {
                files.push(LogFile::new(path, Origin::InOrder, format!("log {n:010}")));
            }
        }
        for (n, path) in numbered(&directory.join("wbl"))? {
            files.push(LogFile::new(path, Origin::OutOfOrder, format!("out of order {n:010}")));
        }
        Ok((!files.is_empty()).then_some(Self { files, head }))
    }

    /// Carries what lies behind the blocks.
    pub(super) async fn carry(
        &mut self,
        window: Bounds,
        pusher: &mut Pusher,
        damage: &mut Damage,
        ledger: &mut Ledger,
    ) -> Result<(), CommandError> {
        self.learn(damage);
        let reached = ledger.place().cloned();
        let mut items = reached.as_ref().map_or(0, |place| place.items);
        let whole = self.files.iter().map(|file| file.bytes).sum();
        let mut done_bytes = 0;
        for file in &self.files {
            let skipped = match &reached {
                Some(place) if file.lane < place.lane => u64::MAX,
                Some(place) if file.lane == place.lane => place.next.unsigned_abs(),
                _ => 0,
            };
            let place = Place { lane: file.lane.clone(), items, ..Place::default() };
            let mut turn = Turn { window, skipped, place, done_bytes, whole, pusher, damage, ledger };
            match file.origin {
                Origin::Chunks => turn.carry_chunks(file, &mut self.head).await?,
                _ => turn.carry_segment(file, &mut self.head).await?,
            }
            items = turn.place.items;
            done_bytes += file.bytes;
        }
        self.head.tell(damage, self.files.last().map_or(Path::new(""), |file| &file.path));
        Ok(())
    }

    /// Reads which series there are and what was deleted. The end of a log that was being written when
    /// its writer was killed is no damage: nothing that counts stands there.
    fn learn(&mut self, damage: &mut Damage) {
        let mut at_end: Option<(Origin, &Path, u64, TsdbError)> = None;
        for file in self.files.iter().filter(|file| file.origin != Origin::Chunks) {
            let mut segment = match File::open(&file.path) {
                Ok(from) => LogSegment::new(from),
                Err(e) => {
                    damage.tell(&file.path, "the segment is left out", &e.into());
                    continue;
                }
            };
            at_end = at_end.take_if(|(origin, ..)| *origin == file.origin);
            loop {
                let found = match segment.next_record() {
                    Ok(None) => break,
                    Ok(Some(record)) => {
                        if is_of_series(record) {
                            // Told by the walk that reads all of it.
                            let _ = read_record(record, |entry| self.head.learn(entry));
                        }
                        None
                    }
                    Err(e) if e.is_io() => {
                        damage.tell(&file.path, "the rest of the segment is left out", &e);
                        break;
                    }
                    Err(e) => Some(e),
                };
                if let Some((_, path, at, e)) = at_end.take() {
                    damage.tell(path, &format!("records are left out before {at}"), &e);
                }
                at_end = found.map(|e| (file.origin, file.path.as_path(), segment.read_bytes(), e));
            }
        }
    }
}

impl LogFile {
    fn new(path: PathBuf, origin: Origin, lane: String) -> Self {
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self { path, origin, lane, bytes }
    }
}

/// Files whose names are numbers, in their order; none where there is no such directory.
fn numbered(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for path in entries(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(n) = number(name).filter(|_| path.is_file()) {
            found.push((n, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The newest, and the segment that it reaches to.
fn last_checkpoint(wal: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let of = |path: PathBuf| {
        let n = number(path.file_name()?.to_str()?.strip_prefix("checkpoint.")?)?;
        path.is_dir().then_some((n, path))
    };
    Ok(entries(wal)?.into_iter().filter_map(of).max())
}

fn number(name: &str) -> Option<u64> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    listed.map(|entry| Ok(entry?.path())).collect()
}

/// The walk over one file.
struct Turn<'a> {
    window: Bounds,
    /// Records or chunks that an earlier run pushed.
    skipped: u64,
    place: Place,
    /// Of the files before, and of all.
    done_bytes: u64,
    whole: u64,
    pusher: &'a mut Pusher,
    damage: &'a mut Damage,
    ledger: &'a mut Ledger,
}

impl Turn<'_> {
    async fn carry_segment(&mut self, file: &LogFile, head: &mut Head) -> Result<(), CommandError> {
        // What cannot be opened or read was told by the walk before.
        let Ok(from) = File::open(&file.path) else { return Ok(()) };
        let mut segment = LogSegment::new(from);
        let mut done = 0;
        loop {
            let record = match segment.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(e) if e.is_io() => break,
                Err(_) => continue,
            };
            let is_done = done < self.skipped;
            let take = |entry| head.take(entry, file.origin, self.window, is_done);
            if let Err(e) = read_record(record, take) {
                self.damage.tell(&file.path, &format!("record {done} is left out from there on"), &e);
            }
            done += 1;
            if head.is_full() {
                self.push(head, done, segment.read_bytes()).await?;
            }
        }
        self.push(head, done, file.bytes).await
    }

    async fn carry_chunks(&mut self, file: &LogFile, head: &mut Head) -> Result<(), CommandError> {
        let mut chunks = match File::open(&file.path).map_err(TsdbError::from).and_then(HeadChunks::open) {
            Ok(chunks) => chunks,
            Err(e) => {
                head.distrust_chunks();
                self.damage.tell(&file.path, "what the log has of it is read there", &e);
                return Ok(());
            }
        };
        let mut done = 0;
        loop {
            let taken = match chunks.next_chunk() {
                Ok(None) => break,
                Ok(Some(chunk)) => head.take_chunk(&chunk, self.window, done < self.skipped),
                Err(e) => Err(e),
            };
            match taken {
                Ok(()) => {}
                // Its writer was killed, and the log has the chunk.
                Err(TsdbError::Truncated) => break,
                Err(e) => {
                    head.distrust_chunks();
                    self.damage.tell(&file.path, "what the log has of a chunk is read there", &e);
                    if e.is_io() {
                        break;
                    }
                }
            }
            done += 1;
            if head.is_full() {
                self.push(head, done, 0).await?;
            }
        }
        self.push(head, done, file.bytes).await
    }

    /// Pushes what was taken, and notes that so many records or chunks of the file are done.
    async fn push(&mut self, head: &mut Head, done: u64, bytes: u64) -> Result<(), CommandError> {
        if done < self.skipped {
            return Ok(());
        }
        self.place.items += head.push(self.window, self.pusher).await?;
        self.pusher.flush().await?;
        self.place.next = i64::try_from(done).unwrap_or(i64::MAX);
        let share = Some((self.done_bytes + bytes, self.whole));
        let (items, lane) = (self.place.items, self.place.lane.clone());
        self.ledger.advance(Some(self.place.clone()), share, || format!("{items} carried, {lane}"))
    }
}
