//! The data directory of a Prometheus, from the disk to this server: blocks, then what is in none
//! yet ([`log`]).
//!
//! Blocks may be many, long, and overlap, so they are gone through day by day, and within a day
//! series by series, all blocks of that day at once: series stand in the order of their labels in
//! each, so that what several blocks have of one series meets. Of a block only the chunks of the
//! day are read, and of the whole nothing is held but one series of one day.

mod block;
mod damage;
mod head;
mod log;

use std::fs;
use std::path::{Path, PathBuf};

use pilothouse_model::{Labels, Matcher, SampleColumns};
use pilothouse_wire::tsdb::{BlockMeta, TsdbError};

use self::block::OpenBlock;
use self::damage::Damage;
use self::head::Head;
use self::log::Log;
use super::super::client::CommandError;
use super::super::when::{self, Bounds};
use super::ledger::{Ledger, Place};
use super::metrics::{keep_within, matchers};
use super::pusher::Pusher;
use super::{Carriage, Counts, settle};

const DAY_MS: i64 = 86_400_000;
/// How far the state is at most behind what is done: pushes are sent, and the place noted, after
/// this many series or samples.
const NOTE_SERIES: u64 = 2_000;
const NOTE_SAMPLES: u64 = 200_000;

pub(super) async fn import(
    directory: &Path,
    selector: &str,
    carriage: &Carriage,
) -> Result<(), CommandError> {
    let matchers = matchers(selector)?;
    let mut damage = Damage::default();
    let found = find(directory, &mut damage)?;
    let in_blocks_ms = found.iter().filter(|found| found.meta.is_in_order()).map(|found| found.meta.max_time);
    let head = Head::new(matchers.clone(), in_blocks_ms.max().unwrap_or(i64::MIN));
    let log = Log::find(directory, head)?;
    if found.is_empty() && log.is_none() {
        let shown = directory.display();
        return Err(CommandError::Usage(format!("{shown} has neither a block that can be read nor a log")));
    }
    let pusher = Pusher::new(carriage.here()?, "/api/v1/push", carriage.skip_refused);
    let what = format!("blocks {selector} of {}", directory.display());
    let mut ledger = carriage.ledger(&what, None)?;
    let mut walk = Walk { found, open: Vec::new(), matchers, pusher, damage, share: (0, 1) };
    let done = walk.carry_all(log, &mut ledger).await;
    settle(done, ledger, "samples")?;
    match walk.damage.count() {
        0 => Ok(()),
        parts => Err(CommandError::Damaged { parts }),
    }
}

/// A block that may be opened.
#[derive(Debug)]
struct Found {
    directory: PathBuf,
    meta: BlockMeta,
}

/// The blocks of a directory, which may be one itself, by their first time.
fn find(directory: &Path, damage: &mut Damage) -> Result<Vec<Found>, CommandError> {
    let mut found = Vec::new();
    let mut candidates = vec![directory.to_owned()];
    for entry in fs::read_dir(directory)? {
        candidates.push(entry?.path());
    }
    for directory in candidates {
        // What is being written or removed has an ending behind its name, and is no block.
        if directory.extension().is_some() && directory.file_stem().is_some_and(|stem| stem.len() == 26) {
            continue;
        }
        let path = directory.join("meta.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(_) if !path.exists() => continue,
            Err(e) => {
                damage.tell(&path, "", &TsdbError::from(e));
                continue;
            }
        };
        match BlockMeta::parse(&text) {
            Ok(meta) => found.push(Found { directory, meta }),
            Err(e) => damage.tell(&path, "the block is left out", &e),
        }
    }
    found.sort_by(|a, b| {
        (a.meta.min_time, a.meta.max_time, &a.meta.ulid).cmp(&(
            b.meta.min_time,
            b.meta.max_time,
            &b.meta.ulid,
        ))
    });
    Ok(found)
}

struct Walk {
    /// Not opened yet, the oldest first.
    found: Vec<Found>,
    open: Vec<OpenBlock>,
    matchers: Vec<Matcher>,
    pusher: Pusher,
    damage: Damage,
    /// Of the time that is carried, what is done.
    share: (u64, u64),
}

impl Walk {
    async fn carry_all(&mut self, log: Option<Log>, ledger: &mut Ledger) -> Result<Counts, CommandError> {
        self.carry_blocks(ledger).await?;
        if let Some(mut log) = log {
            log.carry(ledger.bounds(), &mut self.pusher, &mut self.damage, ledger).await?;
        }
        Ok(self.pusher.take_counts())
    }

    async fn carry_blocks(&mut self, ledger: &mut Ledger) -> Result<(), CommandError> {
        let reached = ledger.place().cloned();
        let mut items = reached.as_ref().map_or(0, |place| place.items);
        let Some(whole) = self.bounds(ledger.bounds()) else { return Ok(()) };
        let mut day_ms = whole.start_ms.div_euclid(DAY_MS).saturating_mul(DAY_MS);
        while day_ms <= whole.end_ms {
            let window = Bounds {
                start_ms: day_ms.max(whole.start_ms),
                end_ms: day_ms.saturating_add(DAY_MS - 1).min(whole.end_ms),
            };
            let lane = when::shown(day_ms);
            self.share = whole.share(day_ms).unwrap_or((0, 1));
            day_ms = day_ms.saturating_add(DAY_MS);
            let skipped = match &reached {
                Some(place) if lane < place.lane => continue,
                Some(place) if lane == place.lane => place.next.unsigned_abs(),
                _ => 0,
            };
            let mut place = Place { lane, items, ..Place::default() };
            self.carry_day(window, skipped, &mut place, ledger).await?;
            items = place.items;
        }
        Ok(())
    }

    /// What is asked for and there; `None` if that is nothing.
    fn bounds(&self, asked: Bounds) -> Option<Bounds> {
        let start_ms = self.found.iter().map(|found| found.meta.min_time).min()?.max(asked.start_ms);
        let end_ms = self.found.iter().map(|found| found.meta.max_time - 1).max()?.min(asked.end_ms);
        (start_ms <= end_ms).then_some(Bounds { start_ms, end_ms })
    }

    async fn carry_day(
        &mut self,
        window: Bounds,
        skipped: u64,
        place: &mut Place,
        ledger: &mut Ledger,
    ) -> Result<(), CommandError> {
        self.open_blocks(window);
        let (mut done, mut noted) = (0, (0, place.items));
        let mut samples = SampleColumns::default();
        while let Some(labels) = self.next_labels() {
            samples.clear();
            let is_done = done < skipped;
            self.gather(&labels, window, is_done, &mut samples);
            done += 1;
            if is_done {
                continue;
            }
            place.items += self.pusher.take(&labels, &samples).await?;
            if done - noted.0 >= NOTE_SERIES || place.items - noted.1 >= NOTE_SAMPLES {
                noted = (done, place.items);
                self.note(done, place, ledger).await?;
            }
        }
        self.note(done.max(skipped), place, ledger).await
    }

    async fn note(&mut self, done: u64, place: &mut Place, ledger: &mut Ledger) -> Result<(), CommandError> {
        self.pusher.flush().await?;
        place.next = i64::try_from(done).unwrap_or(i64::MAX);
        let day = place.lane.get(..10).unwrap_or_default().to_owned();
        let items = place.items;
        ledger.advance(Some(place.clone()), Some(self.share), || {
            format!("{items} carried, {day}, series {done}")
        })
    }

    /// Opens the blocks that begin up to the end of a window, drops those that are over before it,
    /// and sets all to their first series.
    fn open_blocks(&mut self, window: Bounds) {
        self.open.retain(|block| block.meta().max_time > window.start_ms);
        let later = self.found.iter().position(|found| found.meta.min_time > window.end_ms);
        for Found { directory, meta } in self.found.drain(..later.unwrap_or(self.found.len())) {
            if meta.max_time <= window.start_ms {
                continue;
            }
            match OpenBlock::open(directory.clone(), meta, &mut self.damage) {
                Ok(block) => self.open.push(block),
                Err(e) => self.damage.tell(&directory.join("index"), "the block is left out", &e),
            }
        }
        for block in &mut self.open {
            block.begin(window, &self.matchers, &mut self.damage);
        }
    }

    /// The first in order of what the blocks stand at.
    fn next_labels(&self) -> Option<Labels> {
        self.open.iter().filter_map(OpenBlock::labels).min().cloned()
    }

    /// The samples of a series from all blocks that stand at it, which go on to their next.
    fn gather(&mut self, labels: &Labels, window: Bounds, is_done: bool, samples: &mut SampleColumns) {
        for block in &mut self.open {
            if block.labels() != Some(labels) {
                continue;
            }
            if !is_done {
                block.read(window, samples, &mut self.damage);
            }
            block.advance(window, &self.matchers, &mut self.damage);
        }
        keep_within(samples, window.start_ms, window.end_ms);
    }
}
