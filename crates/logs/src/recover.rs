//! Opening a store: the catalog, the days, then the log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use pilothouse_disk::files::{self, DirectoryLock};
use pilothouse_disk::wal::{OnDamage, Options, Replayed, SyncMode};
use pilothouse_disk::{Position, Wal, WalError};
use pilothouse_index::RoaringBitmap;
use pilothouse_model::active::minute_of;
use pilothouse_model::{ActiveLimit, Labels};
use rustc_hash::FxBuildHasher;

use crate::append::{Appender, Known};
use crate::catalog::{Catalog, Loaded, Save, read_copy};
use crate::day::day_of;
use crate::day::one::{Day, Payload, guarded};
use crate::day::set::Days;
use crate::delete::{Deletions, Predicates};
use crate::error::Error;
use crate::flush::Flusher;
use crate::layers::{Cut, Layers};
use crate::options::{FilterCompiler, StoreOptions, Sync};
use crate::record::{Deletion, RecordSink, read_record};
use crate::registry::{MAX_GROUPS, Registry};
use crate::seen::{Seen, Sought, is_on_disk};
use crate::stats::Counters;
use crate::store::{Inner, oldest_ns};
use crate::tail::{OpenGroup, Tail};

/// Block ids and cuts given since the store was opened begin this far behind those on the disk
/// when some day could not be read, or lost its list: its own are not known.
const GAP: u64 = 1 << 32;

pub(crate) fn open(directory: &Path, options: StoreOptions) -> Result<Inner, Error> {
    let lock = DirectoryLock::acquire(directory)?;
    let began = Instant::now();
    let limits = options.limits.now();
    files::remove_unfinished(directory)?;
    let (catalog, mut registry, mut loaded, is_whole) = find_catalog(&directory.join("streams.redb"))?;
    let days = Days::open(&directory.join("day"), limits.max_open_log_days)?;
    let regain =
        Regain { days: &days, catalog: &catalog, registry: &mut registry, loaded: &mut loaded, is_whole };
    let regained = regain.run()?;
    let counters = Counters::default();
    counters.corruptions.fetch_add(u64::from(!is_whole || regained), Relaxed);
    for (_, streams) in &loaded.days {
        // An id that any day uses is never given to another stream.
        registry.set_next_id(streams.max().map_or(0, |id| id.saturating_add(1)));
    }
    let now_ms = options.clock.now_ms();
    let mut recovery = Wal::open(&directory.join("wal"), wal_options(options.sync))?;
    let from = loaded.log_start.max(recovery.first());
    forget_dropped(&catalog, &mut loaded, from);
    let times = (now_ms, oldest_ns(options.retention_ms, now_ms));
    let mut replay = Replay::new(registry, loaded, &days, times, &options.filters)?;
    let replayed = recovery.replay(from, OnDamage::Skip, |position, payload| {
        replay.position = position;
        if read_record(payload, &mut replay).is_err() {
            counters.corruptions.fetch_add(1, Relaxed);
        }
        Ok::<(), WalError>(())
    })?;
    replay.failed.take().map_or(Ok(()), Err)?;
    // Before a commit the log is synced, so that it never ends before what a day says of it.
    let is_cut_off = replayed.end < replay.least_start();
    counters.corruptions.fetch_add(replayed.damages + u64::from(is_cut_off), Relaxed);
    replay.tell(&replayed);
    if is_cut_off {
        let (end, known) = (replayed.end.0, replay.least_start().0);
        tracing::error!(end, known, "the log, or its end, is gone; what was only in it is lost");
    }
    counters.replayed_records.store(replayed.records, Relaxed);
    catalog.save_deletions(&replay.new_deletions)?;
    if !replay.canceled.is_empty() {
        catalog.remove_deletions(&replay.canceled)?;
    }
    let wal = recovery.start(replay.least_start())?;
    replay.unsure.values().for_each(|day| day.log_ends(wal.next()));
    counters.replay_ms.store(began.elapsed().as_millis() as u64, Relaxed);
    let appender = replay.appender(now_ms);
    let own = || Arc::new(ActiveLimit::alone(limits.max_log_streams));
    let active_limit = options.active.unwrap_or_else(own);
    active_limit.report(appender.active.total());
    let waiting_bytes = replay.layers.cuts.iter().map(|c| c.bytes).sum();
    Ok(Inner {
        limits: options.limits,
        clock: options.clock,
        retention_ms: options.retention_ms.into(),
        active_limit,
        deletions: Deletions::new(replay.deletions, replay.next_deletion, &options.filters),
        filters: options.filters,
        wal,
        appender: Mutex::new(appender),
        registry: RwLock::new(replay.registry),
        layers: RwLock::new(replay.layers),
        days,
        day_streams: RwLock::new(replay.day_streams),
        dropped: RwLock::new(replay.dropped),
        catalog,
        flusher: Flusher::default(),
        seen: Mutex::default(),
        counters,
        waiting_bytes: AtomicUsize::new(waiting_bytes),
        stopping: AtomicBool::new(false),
        #[cfg(test)]
        crash_points: Mutex::default(),
        _lock: lock,
    })
}

/// Forgets what was noted of dropped days that the log, read from a position on, has nothing of.
fn forget_dropped(catalog: &Catalog, loaded: &mut Loaded, from: Position) {
    let over = loaded.dropped.iter().filter(|(_, upto)| **upto <= from);
    let over: Vec<i32> = over.map(|(day, _)| *day).collect();
    match catalog.forget_dropped(&over) {
        Ok(()) => loaded.dropped.retain(|_, upto| *upto > from),
        // It can wait.
        Err(error) => tracing::warn!(%error, "notes of dropped days stay in the catalog"),
    }
}

/// The catalog with what it holds, and whether that is all. Damaged, it is set aside and begun anew.
fn find_catalog(path: &Path) -> Result<(Catalog, Registry, Loaded, bool), Error> {
    let mut registry = Registry::default();
    // redb trusts its file, and panics over some damage.
    let opened = guarded(path, || {
        let (catalog, is_whole) = Catalog::open(path)?;
        Ok((catalog.load(&mut registry)?, catalog, is_whole))
    });
    match opened {
        Ok((loaded, catalog, is_whole)) => Ok((catalog, registry, loaded, is_whole)),
        Err(error) if error.is_damage() => {
            let aside = files::set_aside(path, "damaged")?;
            let aside = aside.display();
            tracing::error!(%error, %aside, "the catalog of streams is damaged; it is set aside and begun anew");
            Ok((Catalog::open(path)?.0, Registry::default(), Loaded::default(), false))
        }
        Err(error) => Err(error),
    }
}

/// What a catalog does not know is taken from the days' own lists of streams, and from the copy of
/// the deletions. A catalog that is whole may yet be a new one, in the place of one that is gone.
struct Regain<'a> {
    days: &'a Days,
    catalog: &'a Catalog,
    registry: &'a mut Registry,
    loaded: &'a mut Loaded,
    is_whole: bool,
}

impl Regain<'_> {
    /// Whether streams had been missing.
    fn run(mut self) -> Result<bool, Error> {
        let mut saved = Vec::new();
        let mut grown = Vec::new();
        for day in self.days.all() {
            if self.is_known(&day)? {
                continue;
            }
            let listed = day.streams.read()?;
            let mut ids: RoaringBitmap = listed.streams.iter().map(|s| s.0).collect();
            if !listed.is_whole {
                ids |= streams_of_blocks(&day)?;
            }
            for (id, group, labels) in listed.streams {
                if self.registry.insert_as(id, group, &labels) {
                    saved.push((id, group, labels));
                }
            }
            grown.push((day.number, self.add_day(day.number, ids)));
        }
        if !grown.is_empty() {
            self.tell(saved.len(), &grown);
            let next_stream = self.registry.next_id();
            self.catalog.save(&Save { streams: &saved, days: &grown, next_stream })?;
        }
        self.deletions()?;
        Ok(!grown.is_empty())
    }

    /// Whether the catalog has all streams of a day. The day gets its list if it has none yet.
    fn is_known(&self, day: &Day) -> Result<bool, Error> {
        if !self.is_whole {
            return Ok(false);
        }
        match self.loaded.days.iter().find(|(number, _)| *number == day.number) {
            Some((_, ids)) if !day.streams.is_there() => {
                day.streams.add(&[], || self.registry.rows(ids))?;
                Ok(true)
            }
            Some(_) => Ok(true),
            // Without a block nothing refers to its streams: a crash came before the first commit.
            None => Ok(day.payload()?.next_block == 0),
        }
    }

    fn add_day(&mut self, number: i32, ids: RoaringBitmap) -> RoaringBitmap {
        match self.loaded.days.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => {
                *known |= ids;
                known.clone()
            }
            None => {
                self.loaded.days.push((number, ids.clone()));
                ids
            }
        }
    }

    fn tell(&self, regained: usize, days: &[(i32, RoaringBitmap)]) {
        let all = days.iter().fold(RoaringBitmap::new(), |all, (_, ids)| all | ids);
        let lost = all.iter().filter(|id| self.registry.get(*id).is_none()).count();
        tracing::error!(
            regained,
            lost,
            "streams were missing in the catalog; those that their days list are shown"
        );
    }

    /// Takes deletions from the copy, where the catalog lost some or never heard of any.
    fn deletions(&mut self) -> Result<(), Error> {
        if self.is_whole && self.loaded.next_deletion > 0 {
            return Ok(());
        }
        match read_copy(self.catalog.path()) {
            Ok(None) => Ok(()),
            Ok(Some(deletions)) => {
                self.catalog.save_deletions(&deletions)?;
                self.loaded.deletions = deletions;
                Ok(())
            }
            Err(error) if error.is_damage() => {
                tracing::error!(%error, "the copy of the deletions is damaged");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The streams that the blocks of a day refer to, whosever they are.
fn streams_of_blocks(day: &Day) -> Result<RoaringBitmap, Error> {
    let view = day.view()?;
    day.unload();
    let spans = view.segments.iter().flat_map(|s| s.table.blocks()).flat_map(|(_, spans)| spans);
    Ok(spans.map(|s| s.stream).collect())
}

fn wal_options(sync: Sync) -> Options {
    let sync = match sync {
        Sync::Ack => SyncMode::Ack,
        Sync::Interval(every) => SyncMode::Interval(every),
    };
    Options { sync, ..Options::default() }
}

/// The state that the log is replayed into.
struct Replay {
    registry: Registry,
    layers: Layers,
    day_streams: BTreeMap<i32, RoaringBitmap>,
    payloads: BTreeMap<i32, Payload>,
    dropped: BTreeMap<i32, Position>,
    deletions: Vec<Deletion>,
    new_deletions: Vec<Deletion>,
    canceled: Vec<u64>,
    next_deletion: u64,
    position: Position,
    now_ms: i64,
    /// What is older is beyond retention.
    oldest_ns: i64,
    new_streams: Vec<u32>,
    unsaved_since: Option<Position>,
    /// Newest entries of streams, where the log has some.
    newest_ns: HashMap<u32, i64, FxBuildHasher>,
    /// Ids of streams that had been forgotten and met again before the catalog heard of it.
    aliases: HashMap<u32, u32, FxBuildHasher>,
    /// Days of which blocks alone tell what they have of the log.
    unsure: BTreeMap<i32, Arc<Day>>,
    seen: Seen,
    predicates: Predicates,
    /// Ids of deletions that stand in the log before where it is read now.
    passed: Vec<u64>,
    /// What kept a day from telling.
    failed: Option<Error>,
    /// Where the entries that follow go: stream, and group with the place in it.
    part: Option<(u32, u32)>,
    unknown: u64,
}

impl Replay {
    fn new(
        registry: Registry,
        loaded: Loaded,
        days: &Days,
        (now_ms, oldest_ns): (i64, i64),
        filters: &FilterCompiler,
    ) -> Result<Self, Error> {
        let mut payloads = BTreeMap::new();
        let mut unsure = BTreeMap::new();
        for day in days.all() {
            let payload = day.payload()?;
            if payload.unsure_upto.is_some() {
                unsure.insert(day.number, Arc::clone(&day));
            }
            payloads.insert(day.number, payload);
        }
        let opened_ns = payloads.values().map(|p| p.newest_ns).max().unwrap_or(i64::MIN);
        let damaged = if days.is_unsure() { GAP } else { 0 };
        let of_days = payloads.values().map(|p| p.last_cut).max().unwrap_or(0);
        let of_deletions = loaded.deletions.iter().map(|d| d.upto_cut).max().unwrap_or(0);
        let last_cut = of_days.max(of_deletions) + damaged;
        let next_block = payloads.values().map(|p| p.next_block).max().unwrap_or(0) + damaged;
        let known = loaded.deletions.iter().map(|d| d.id + 1).max().unwrap_or(0);
        Ok(Self {
            registry,
            layers: Layers::new((last_cut, next_block), opened_ns),
            day_streams: loaded.days.into_iter().collect(),
            payloads,
            dropped: loaded.dropped,
            next_deletion: loaded.next_deletion.max(known),
            deletions: loaded.deletions,
            new_deletions: Vec::new(),
            canceled: Vec::new(),
            position: Position(0),
            now_ms,
            oldest_ns,
            new_streams: Vec::new(),
            unsaved_since: None,
            newest_ns: HashMap::default(),
            aliases: HashMap::default(),
            unsure,
            seen: Seen::default(),
            predicates: Predicates::new(filters),
            passed: Vec::new(),
            failed: None,
            part: None,
            unknown: 0,
        })
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
            tracing::error!(entries = self.unknown, "entries in the log belong to streams without labels");
        }
    }

    /// The log must go on behind every position that a day takes for done, or for dropped.
    fn least_start(&self) -> Position {
        let positions = self.payloads.values().flat_map(|p| p.positions.iter().map(|(_, p)| *p));
        positions.chain(self.dropped.values().copied()).max().unwrap_or_default()
    }

    fn appender(&mut self, now_ms: i64) -> Appender {
        let mut appender = Appender::new(minute_of(now_ms));
        for id in self.registry.index.ids() {
            let Some(stream) = self.registry.get(id) else { continue };
            let newest = self.newest_ns.get(&id).copied();
            // Streams of the log count as active: when they came is not known any more.
            let minute = if newest.is_some() { appender.active.touch(0) } else { 0 };
            let newest_ns = newest.unwrap_or(i64::MIN).max(self.layers.opened_ns);
            let known = Known { id, group: stream.group, newest_ns, minute };
            appender.known.insert(stream.labels.fingerprint(), known);
        }
        appender.unsaved_streams = std::mem::take(&mut self.new_streams);
        appender.unsaved_since = self.unsaved_since;
        while self.layers.open.len() < self.registry.group_count() {
            self.layers.open.push(Arc::new(OpenGroup::default()));
        }
        appender
    }

    fn is_on_disk(&mut self, stream: u32, t_ns: i64, line: &str) -> bool {
        let Some(day) = self.unsure.get(&day_of(t_ns)) else { return false };
        let Some(known) = self.registry.get(stream) else { return false };
        let sought = Sought { group: known.group, stream, labels: &known.labels, t_ns, line };
        let mut hiding = None;
        // One that may still be taken back hides nothing that was written before it; of what came again behind it, it
        // must not show the first again.
        let is_hidden = |cut: u64, metadata: Option<&Labels>| {
            let mut hides = |d: &&Deletion| {
                (d.is_final || self.passed.contains(&d.id))
                    && self.predicates.hides(d, &sought, cut, metadata)
            };
            let found = self.deletions.iter().find(|d| hides(d)).map(|d| d.id);
            hiding = hiding.or(found);
            found.is_some()
        };
        let is_there = is_on_disk(&mut self.seen, day, (stream, t_ns, line), is_hidden);
        let is_there = is_there.unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            false
        });
        if !is_there {
            hiding.into_iter().for_each(|id| self.make_final(id));
        }
        is_there
    }

    fn make_final(&mut self, id: u64) {
        if let Some(known) = self.deletions.iter_mut().find(|d| d.id == id && !d.is_final) {
            known.is_final = true;
            self.new_deletions.retain(|d| d.id != id);
            self.new_deletions.push(known.clone());
        }
    }

    /// Whether what a deletion means may have come back from the log, because a day does not know that it had it.
    fn may_be_undone(&self, deletion: &Deletion) -> bool {
        let days = day_of(deletion.start_ns)..=day_of(deletion.end_ns);
        self.unsure.range(days).next().is_some()
    }

    /// Cuts all groups where a deletion stands in the log, as was done then.
    fn cut_all(&mut self, number: u64) {
        let mut cuts = Vec::new();
        for (group, open) in self.layers.open.iter_mut().enumerate() {
            let (since, bytes) = {
                let tail = open.tail.read();
                let Some((since, _)) = tail.since else { continue };
                (since, tail.heap_bytes())
            };
            let tail = std::mem::take(open);
            let group = group as u32;
            cuts.push(Arc::new(Cut { number, group, since, upto: self.position, bytes, tail }));
        }
        for cut in cuts {
            let newest = cut.tail.tail.read().streams.iter().map(|s| s.newest_ns()).max();
            self.layers.settle(cut.group, newest.unwrap_or(i64::MIN));
            self.layers.cuts.push(cut);
        }
        self.layers.last_cut = self.layers.last_cut.max(number);
    }

    fn with_tail(&mut self, group: u32, then: impl FnOnce(&mut Tail)) {
        while self.layers.open.len() <= group as usize && self.layers.open.len() < MAX_GROUPS {
            self.layers.open.push(Arc::new(OpenGroup::default()));
        }
        if let Some(open) = self.layers.open.get(group as usize) {
            then(&mut open.tail.write());
        }
    }
}

impl RecordSink for Replay {
    fn stream(&mut self, id: u32, group: u32, labels: Labels) {
        if let Some(known) = self.registry.id_of(labels.fingerprint()) {
            if known != id {
                self.aliases.insert(id, known);
                self.registry.set_next_id(id.saturating_add(1));
            }
            return;
        }
        if self.registry.insert_as(id, group, &labels) {
            self.new_streams.push(id);
            self.unsaved_since.get_or_insert(self.position);
        }
    }

    fn part(&mut self, id: u32) {
        let id = self.aliases.get(&id).copied().unwrap_or(id);
        self.part = self.registry.get(id).map(|stream| (id, stream.group));
    }

    fn entry(&mut self, t_ns: i64, line: &str, metadata: &Labels) {
        let Some((id, group)) = self.part else {
            self.unknown += 1;
            return;
        };
        if t_ns < self.oldest_ns {
            // Its day may be gone already, and must not come back.
            return;
        }
        if self.dropped.get(&day_of(t_ns)).is_some_and(|upto| self.position < *upto) {
            return;
        }
        let newest = self.newest_ns.entry(id).or_insert(t_ns);
        *newest = t_ns.max(*newest);
        let payload = self.payloads.get(&day_of(t_ns));
        if payload.and_then(|p| p.position_of(group)).is_some_and(|done| self.position < done) {
            return;
        }
        let is_unsure = payload.and_then(|p| p.unsure_upto).is_some_and(|upto| self.position < upto);
        if is_unsure && self.is_on_disk(id, t_ns, line) {
            return;
        }
        let since = (self.position, self.now_ms);
        self.with_tail(group, |tail| {
            let place = tail.place(id);
            tail.push(place, t_ns, line, metadata);
            tail.since.get_or_insert(since);
        });
    }

    fn deletion(&mut self, deletion: Deletion) {
        self.cut_all(deletion.upto_cut);
        self.next_deletion = self.next_deletion.max(deletion.id + 1);
        let may_be_undone = self.may_be_undone(&deletion);
        self.passed.push(deletion.id);
        match self.deletions.iter_mut().find(|known| known.id == deletion.id) {
            None => {
                self.new_deletions.push(deletion.clone());
                self.deletions.push(deletion);
            }
            Some(known) if known.done && may_be_undone => {
                known.done = false;
                self.new_deletions.push(known.clone());
            }
            Some(_) => {}
        }
    }

    fn cancel(&mut self, deletion: u64) {
        self.deletions.retain(|d| d.id != deletion);
        self.new_deletions.retain(|d| d.id != deletion);
        self.canceled.push(deletion);
    }
}
