//! Opening a store: the catalog, the day files, then the log.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use pilothouse_disk::files::{self, DirectoryLock};
use pilothouse_disk::remains::guarded;
use pilothouse_disk::wal::{OnDamage, Options, Replayed, SyncMode};
use pilothouse_disk::{Position, Wal, WalError};
use pilothouse_model::active::{ActiveCount, minute_of};
use pilothouse_model::limits::Limits;
use pilothouse_model::ports::Exemplar;
use pilothouse_model::time::DAY_MS;
use pilothouse_model::write::MetadataEntry;
use pilothouse_model::{ActiveLimit, Budget, Histogram, Labels};

use crate::append::{ACTIVE_MINUTES, Appender};
use crate::catalog::{Catalog, GroupRow, Loaded, has_copy, read_copy, salvage};
use crate::day::set::{Days, set_aside_young};
use crate::delete::{Deletions, matching};
use crate::error::Error;
use crate::exemplars::Exemplars;
use crate::flush::Flusher;
use crate::head::{Group, Head, group_of, slot_of};
use crate::loaded::Cache;
use crate::metadata::Metadata;
use crate::options::{StoreOptions, Sync};
use crate::record::{Deletion, RecordSink, push_exemplar, read_record};
use crate::registry::Registry;
use crate::room::Room;
use crate::stats::Counters;
use crate::store::Inner;

pub(crate) fn open(directory: &Path, options: StoreOptions) -> Result<Inner, Error> {
    let lock = DirectoryLock::acquire(directory)?;
    let began = Instant::now();
    let limits = options.limits.now();
    files::remove_unfinished(directory)?;
    let found = find_catalog(&directory.join("series.redb"), &directory.join("day"))?;
    let (catalog, mut registry, mut loaded, lost) = found;
    let days = Days::open(&directory.join("day"), limits.max_open_days)?;
    // An id that any file uses is never given to another series.
    registry.set_next_id(days.largest_id().map_or(0, |id| id.saturating_add(1)));
    if lost {
        regain_deletions(&catalog, &mut loaded, &days)?;
    }
    copy_deletions(&catalog, &loaded);
    let now_ms = options.clock.now_ms();
    let mut recovery = Wal::open(&directory.join("wal"), wal_options(options.sync))?;
    let from = loaded.log_start;
    let log_is_gone = recovery.is_empty() && from > Position(0);
    let mut replay = Replay::new(registry, loaded, &options, now_ms);
    let counters = Counters::default();
    counters.corruptions.fetch_add(u64::from(lost), Relaxed);
    let replayed = recovery.replay(from, OnDamage::Skip, |position, payload| {
        replay.position = position;
        if read_record(payload, &mut replay).is_err() {
            counters.corruptions.fetch_add(1, Relaxed);
        }
        Ok::<(), WalError>(())
    })?;
    counters.corruptions.fetch_add(replayed.damages + u64::from(log_is_gone), Relaxed);
    replay.tell(&replayed);
    if log_is_gone {
        tracing::error!(from = from.0, "the log is gone; what was only in it is lost");
    }
    counters.replayed_records.store(replayed.records, Relaxed);
    if !replay.new_deletions.is_empty() {
        catalog.save_deletions(&replay.new_deletions, 0)?;
    }
    let wal = recovery.start(replay.least_start().max(from))?;
    let floor_ms = disk_floor_ms(&days).max(replay.floor_ms);
    let newest_flush =
        days.newest_flush().max(replay.deletions.iter().map(|d| d.upto_flush).max().unwrap_or(0));
    let mut appender = Appender::new(minute_of(now_ms));
    appender.active = replay.count_active(now_ms);
    appender.unsaved_series = std::mem::take(&mut replay.new_series);
    appender.unsaved_since = replay.unsaved_since;
    counters.replay_ms.store(began.elapsed().as_millis() as u64, Relaxed);
    let next_flush = replay.next_flush.max(newest_flush + 1);
    let head = Head::from_groups(replay.groups);
    let cache = limits.block_cache_bytes;
    let own = || Arc::new(ActiveLimit::alone(limits.max_active_series));
    let active_limit = options.active.unwrap_or_else(own);
    active_limit.report(appender.active.total());
    Ok(Inner {
        limits: options.limits,
        clock: options.clock,
        retention_ms: options.retention_ms.into(),
        active_limit,
        wal,
        appender: Mutex::new(appender),
        registry: RwLock::new(replay.registry),
        head,
        days,
        catalog,
        exemplars: Mutex::new(replay.exemplars),
        metadata: Mutex::new(replay.metadata),
        next_deletion: AtomicU32::new(replay.next_deletion),
        deletions: Deletions::new(replay.deletions),
        flusher: Flusher::default(),
        pages: Cache::new(cache - cache / 4),
        times: Cache::new(cache / 4),
        counters,
        next_flush: AtomicU32::new(next_flush),
        floor_ms: AtomicI64::new(floor_ms),
        room: Room::new(directory),
        compacting: Mutex::default(),
        stopping: AtomicBool::new(false),
        #[cfg(test)]
        crash_points: Mutex::default(),
        _lock: lock,
    })
}

/// The catalog with what it holds, and whether something of it was lost. Damaged, it is written anew with all that is
/// certain; what the log still knows of the rest comes back. Where nothing is certain, it is set aside and begun anew,
/// and young day files, which say nothing without it, go too.
fn find_catalog(path: &Path, days: &Path) -> Result<(Catalog, Registry, Loaded, bool), Error> {
    let is_new = files::is_absent_or_empty(path)?;
    if !is_new {
        match read_catalog(path) {
            Ok((catalog, registry, loaded)) => return Ok((catalog, registry, loaded, false)),
            Err(error) if error.is_lost(path) => {
                tracing::error!(%error, "the catalog of series is damaged; it is set aside and written anew");
            }
            Err(error) => return Err(error),
        }
        if let Some(found) = salvaged_catalog(path)? {
            return Ok(found);
        }
    }
    // Before there is a new catalog: a start that ends here is begun again in the same way.
    let orphans = set_aside_young(days)?;
    if orphans > 0 {
        tracing::error!(orphans, "day files whose series are unknown without the catalog were set aside");
    }
    if !is_new {
        files::set_aside(path, "damaged")?;
    }
    let is_lost = !is_new || orphans > 0 || has_copy(path);
    Ok((Catalog::open(path)?, Registry::default(), Loaded::default(), is_lost))
}

/// Takes deletions from their copy, where the catalog may have lost some, and sees to it that no id is given
/// again that a closed day may have done.
fn regain_deletions(catalog: &Catalog, loaded: &mut Loaded, days: &Days) -> Result<(), Error> {
    let copy = match read_copy(catalog.path()) {
        Err(error) if error.is_damage() || error.is_unreadable() => {
            tracing::error!(%error, "the copy of the deletions is damaged");
            None
        }
        read => read?,
    };
    for deletion in copy.unwrap_or_default() {
        if loaded.deletions.iter().all(|known| known.id != deletion.id) {
            loaded.deletions.push(deletion);
        }
    }
    loaded.deletions.sort_by_key(|deletion| deletion.id);
    loaded.next_deletion = loaded.next_deletion.max(days.deletions_below()?);
    if loaded.deletions.is_empty() && loaded.next_deletion == 0 {
        return Ok(());
    }
    catalog.save_deletions(&loaded.deletions, loaded.next_deletion)
}

/// A store of before there was a copy gets one.
fn copy_deletions(catalog: &Catalog, loaded: &Loaded) {
    if loaded.deletions.is_empty() || has_copy(catalog.path()) {
        return;
    }
    if let Err(error) = catalog.save_deletions(&loaded.deletions, 0) {
        tracing::warn!(%error, "the deletions cannot be copied now");
    }
}

/// redb believes its file, and panics over some damage.
fn read_catalog(path: &Path) -> Result<(Catalog, Registry, Loaded), Error> {
    guarded(path, || {
        let catalog = Catalog::open(path)?;
        let mut registry = Registry::default();
        let loaded = catalog.load(&mut registry)?;
        Ok((catalog, registry, loaded))
    })
}

/// `None` where there is nothing to save.
fn salvaged_catalog(path: &Path) -> Result<Option<(Catalog, Registry, Loaded, bool)>, Error> {
    let lacking = match salvage(path) {
        Ok(Some(lacking)) => lacking,
        Ok(None) => return Ok(None),
        Err(error) if error.is_damage() => return Ok(None),
        Err(error) => return Err(error),
    };
    let (catalog, registry, loaded) = read_catalog(path)?;
    if !lacking.is_empty() {
        let tables = lacking.join(", ");
        tracing::error!(tables, "rows of the catalog are lost, unless the log or a copy still has them");
    }
    Ok(Some((catalog, registry, loaded, true)))
}

fn wal_options(sync: Sync) -> Options {
    let sync = match sync {
        Sync::Ack => SyncMode::Ack,
        Sync::Interval(every) => SyncMode::Interval(every),
    };
    Options { sync, ..Options::default() }
}

/// No sample on the disk is newer. For closed days the end of the day will do.
fn disk_floor_ms(days: &Days) -> i64 {
    let (set, _) = days.snapshot();
    let of_day = |(day, files): (&i32, &crate::day::set::Day)| {
        let closed = files.l1.as_ref().map(|_| (i64::from(*day) + 1) * DAY_MS - 1);
        files.l0.iter().filter_map(|l0| l0.span()).map(|s| s.1).chain(closed).max()
    };
    set.iter().filter_map(of_day).max().unwrap_or(i64::MIN)
}

fn exemplar_hash(id: u32, exemplar: &Exemplar) -> u128 {
    let mut bytes = Vec::new();
    push_exemplar(&mut bytes, id, exemplar);
    xxhash_rust::xxh3::xxh3_128(&bytes)
}

/// The state that the log is replayed into.
struct Replay {
    registry: Registry,
    groups: Vec<Group>,
    rows: Vec<Option<GroupRow>>,
    exemplars: Exemplars,
    /// Those that the catalog had and the log has not brought again yet.
    saved_exemplars: HashSet<u128, foldhash::fast::FixedState>,
    metadata: Metadata,
    deletions: Vec<Deletion>,
    limits: Arc<Limits>,
    next_flush: u32,
    next_deletion: u32,
    position: Position,
    now_ms: i64,
    floor_ms: i64,
    new_series: Vec<u32>,
    /// Ids of series that had been forgotten and met again, in the log but not in the catalog:
    /// both stand for the first of them.
    aliases: HashMap<u32, u32, foldhash::fast::FixedState>,
    new_deletions: Vec<Deletion>,
    unsaved_since: Option<Position>,
    /// Samples of ids that neither the catalog nor the log has labels for.
    unknown: u64,
}

impl Replay {
    fn new(registry: Registry, loaded: Loaded, options: &StoreOptions, now_ms: i64) -> Self {
        let limits = options.limits.now();
        let saved_exemplars = loaded.exemplars.iter().map(|(_, id, e)| exemplar_hash(*id, e)).collect();
        let exemplars = Exemplars::of_disk(limits.max_exemplars as usize, loaded.exemplars);
        let mut metadata = Metadata::default();
        for entry in &loaded.metadata {
            metadata.insert(entry, limits.max_metadata_families, limits.max_metadata_text_bytes);
        }
        metadata.take_unsaved();
        let known = loaded.deletions.iter().map(|d| d.id + 1).max().unwrap_or(0);
        let next_deletion = loaded.next_deletion.max(known);
        let mut rows = Vec::new();
        for (number, row) in loaded.groups {
            rows.resize_with(rows.len().max(number as usize + 1), || None);
            rows[number as usize] = Some(row);
        }
        Self {
            registry,
            groups: Vec::new(),
            rows,
            exemplars,
            saved_exemplars,
            metadata,
            deletions: loaded.deletions,
            limits,
            next_flush: loaded.next_flush,
            next_deletion,
            position: Position(0),
            now_ms,
            floor_ms: i64::MIN,
            new_series: Vec::new(),
            aliases: HashMap::default(),
            new_deletions: Vec::new(),
            unsaved_since: None,
            unknown: 0,
        }
    }

    /// Tells the operator what could not be read; the store is opened all the same.
    fn tell(&self, replayed: &Replayed) {
        for damage in &replayed.damage {
            let (from, to) = (damage.from.0, damage.to.0);
            tracing::error!(from, to, reason = damage.reason, "a stretch of the log is lost");
        }
        if replayed.cut_bytes > 0 {
            tracing::warn!(bytes = replayed.cut_bytes, "the log had a torn end, which nobody was promised");
        }
        if self.unknown > 0 {
            tracing::error!(samples = self.unknown, "samples in the log belong to series without labels");
        }
    }

    /// The log must go on behind every position that a group takes for done.
    fn least_start(&self) -> Position {
        self.rows.iter().flatten().map(|r| r.position).max().unwrap_or_default()
    }

    /// Group and slot of a series, unless what the record says of it is on the disk.
    #[inline]
    fn place(&mut self, id: u32) -> Option<(&mut Group, usize)> {
        let row = self.rows.get(group_of(id) as usize).and_then(Option::as_ref);
        let done = row.is_some_and(|r| self.position < r.position);
        let id = if self.aliases.is_empty() { id } else { self.aliases.get(&id).copied().unwrap_or(id) };
        if done {
            return None;
        }
        if !self.registry.index.contains(id) {
            self.unknown += 1;
            self.registry.set_next_id(id.saturating_add(1));
            return None;
        }
        let number = group_of(id) as usize;
        if number >= self.groups.len() {
            self.groups.resize_with(number + 1, Group::default);
        }
        let (position, now_ms) = (self.position, self.now_ms);
        let group = &mut self.groups[number];
        group.since.get_or_insert((position, now_ms));
        Some((group, slot_of(id)))
    }

    /// Counts active series: by the time of the newest sample that was replayed, and by what the
    /// groups said when they were last sealed.
    fn count_active(&mut self, now_ms: i64) -> ActiveCount {
        let mut active = ActiveCount::new(minute_of(now_ms), ACTIVE_MINUTES);
        for (number, row) in self.rows.iter().enumerate() {
            let Some(row) = row else { continue };
            self.groups.resize_with(self.groups.len().max(number + 1), Group::default);
            let group = &mut self.groups[number];
            for slot in &row.active {
                let known = self.registry.index.contains((number as u32) << crate::head::GROUP_BITS | slot);
                if known && row.minute <= active.now() {
                    let series = group.slot(slot as usize);
                    series.minute = series.minute.max(row.minute);
                }
            }
        }
        for (number, group) in self.groups.iter_mut().enumerate() {
            let first = (number as u32) << crate::head::GROUP_BITS;
            group.series.retain(|slot| self.registry.index.contains(first | slot as u32));
            group.series.for_each(|_, series| {
                if let Some(t) = series.last_t() {
                    series.minute = series.minute.max(minute_of(t.min(now_ms)));
                }
                active.enter(series.minute);
            });
        }
        active
    }
}

impl RecordSink for Replay {
    fn series(&mut self, id: u32, labels: Labels) {
        let fingerprint = labels.fingerprint();
        match self.registry.id_of(fingerprint) {
            Some(known) if known != id => {
                self.aliases.insert(id, known);
            }
            Some(_) => {}
            None => {
                if self.registry.insert_as(id, &labels, fingerprint) {
                    self.new_series.push(id);
                    self.unsaved_since.get_or_insert(self.position);
                } else if let Some(fresh) = self.registry.insert(&labels, fingerprint) {
                    tracing::error!(id, "two series have one id; the later one gets another");
                    self.aliases.insert(id, fresh);
                    self.new_series.push(fresh);
                    self.unsaved_since.get_or_insert(self.position);
                }
            }
        }
        // An id that the log has given is never given again.
        self.registry.set_next_id(id.saturating_add(1));
    }

    fn sample(&mut self, id: u32, t_ms: i64, value: f64) {
        if let Some((group, slot)) = self.place(id) {
            group.change(slot, |s| s.replay(t_ms, value));
        }
    }

    fn histogram(&mut self, id: u32, t_ms: i64, histogram: Histogram) {
        if let Some((group, slot)) = self.place(id) {
            group.change(slot, |s| s.replay_histogram(t_ms, &histogram));
        }
    }

    fn exemplar(&mut self, id: u32, exemplar: Exemplar) {
        let id = self.aliases.get(&id).copied().unwrap_or(id);
        self.registry.set_next_id(id.saturating_add(1));
        // Once only: after a deletion the same may have been taken again.
        if self.saved_exemplars.remove(&exemplar_hash(id, &exemplar)) {
            return;
        }
        self.exemplars.push(id, exemplar);
        self.unsaved_since.get_or_insert(self.position);
    }

    fn metadata(&mut self, entry: MetadataEntry) {
        let limits = &self.limits;
        if self.metadata.insert(&entry, limits.max_metadata_families, limits.max_metadata_text_bytes) {
            self.unsaved_since.get_or_insert(self.position);
        }
    }

    fn delete(&mut self, deletion: Deletion) {
        let ids = matching(&self.registry.index, &deletion, &Budget::unlimited()).unwrap_or_default();
        for id in &ids {
            let Some(group) = self.groups.get_mut(group_of(id) as usize) else { continue };
            self.floor_ms = self.floor_ms.max(group.slot(slot_of(id)).last_t().unwrap_or(i64::MIN));
            group.change(slot_of(id), |s| s.delete(deletion.start_ms, deletion.end_ms));
        }
        let within = deletion.start_ms..=deletion.end_ms;
        self.exemplars.retain(|id, e| !(ids.contains(id) && within.contains(&e.t_ms)));
        self.next_deletion = self.next_deletion.max(deletion.id + 1);
        if self.deletions.iter().all(|d| d.id != deletion.id) {
            self.new_deletions.push(deletion.clone());
            self.deletions.push(deletion);
        }
    }
}
