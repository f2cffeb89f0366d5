//! One account of the memory that the process holds, and its ceiling.
//!
//! Two kinds of entries. What stores hold (heads, tails, indexes, caches) is read from them now
//! and then and [set](Memory::set). What comes and goes with a request or a query is
//! [reserved](Memory::reserve) before it is allocated. Beside both stands what the kernel says is
//! resident: the larger one counts, so that neither what nobody accounts for nor what an
//! allocator keeps goes unnoticed.
//!
//! Who gives way, in this order: caches shrink ([`Memory::is_tight`]), then queries (the
//! heaviest first) and new series where labels are what takes the memory
//! ([`Memory::is_crowded`]), then writes. Queries have a small share that nothing but other queries takes,
//! so that a server full of data can still be asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Parts of the limit, in percent: from where on caches shrink, queries are refused, writes are.
const TIGHT: u64 = 75;
const QUERIES_UP_TO: u64 = 85;
const WRITES_UP_TO: u64 = 92;
/// What labels may take before new series are refused, once memory is short.
const CROWDED: u64 = 25;
/// What queries may always take together.
const QUERIES_ALWAYS: u64 = 6;

/// Who holds memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Open samples, lines that are in no block yet, and what waits for remote data sources.
    Heads,
    /// Labels, symbols, postings, tables of blocks.
    Indexes,
    Caches,
    /// Alerts, silences and what is remembered of notifications.
    Alerts,
    /// Bodies of requests and what they become until it is stored; answers that are read of targets and
    /// other systems; entries that wait for who follows logs.
    Requests,
    /// Queries of clients and of rules.
    Queries,
}

impl Part {
    pub const ALL: [Self; 6] =
        [Self::Heads, Self::Indexes, Self::Caches, Self::Alerts, Self::Requests, Self::Queries];

    pub fn name(self) -> &'static str {
        match self {
            Self::Heads => "heads",
            Self::Indexes => "indexes",
            Self::Caches => "caches",
            Self::Alerts => "alerts",
            Self::Requests => "requests",
            Self::Queries => "queries",
        }
    }
}

/// There is no room below the ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is at its memory limit ({} MiB of {} MiB are in use); try again later", .used_bytes >> 20, .limit_bytes >> 20)]
pub struct NoMemory {
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

/// What one query holds; see [`crate::Budget`].
#[derive(Debug, Default)]
pub(crate) struct Load {
    bytes: AtomicU64,
    /// It must end, for the sake of others.
    evicted: AtomicBool,
    /// Others end for its sake, never it for theirs.
    goes_first: bool,
}

/// The account. Everything is atomic but the list of running queries.
#[derive(Debug)]
pub struct Memory {
    /// `u64::MAX` for none.
    limit_bytes: u64,
    held: [AtomicU64; Part::ALL.len()],
    resident_bytes: AtomicU64,
    /// What was used at the last look, reservations left out.
    base_bytes: AtomicU64,
    running: Mutex<Vec<Weak<Load>>>,
    refused_queries: AtomicU64,
    refused_writes: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::unlimited()
    }
}

impl Memory {
    pub fn unlimited() -> Self {
        Self::limited(u64::MAX)
    }

    pub fn limited(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            held: Default::default(),
            resident_bytes: AtomicU64::new(0),
            base_bytes: AtomicU64::new(0),
            running: Mutex::default(),
            refused_queries: AtomicU64::new(0),
            refused_writes: AtomicU64::new(0),
        }
    }

    /// `None` where there is no limit.
    pub fn limit_bytes(&self) -> Option<u64> {
        (self.limit_bytes != u64::MAX).then_some(self.limit_bytes)
    }

    fn of(&self, part: Part) -> &AtomicU64 {
        &self.held[part as usize]
    }

    pub fn held_bytes(&self, part: Part) -> u64 {
        self.of(part).load(Relaxed)
    }

    fn reserved_bytes(&self) -> u64 {
        self.held_bytes(Part::Requests) + self.held_bytes(Part::Queries)
    }

    /// What is in use now, as far as is known.
    pub fn used_bytes(&self) -> u64 {
        self.base_bytes.load(Relaxed).saturating_add(self.reserved_bytes())
    }

    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes.load(Relaxed)
    }

    /// Queries and writes that were refused, or ended, for want of memory.
    pub fn refusals(&self) -> (u64, u64) {
        (self.refused_queries.load(Relaxed), self.refused_writes.load(Relaxed))
    }

    /// A look: what the stores hold, and what the kernel says is resident (0 if it does not tell).
    pub fn set(&self, parts: &[(Part, u64)], resident_bytes: u64) {
        for (part, bytes) in parts {
            self.hold(*part, *bytes);
        }
        self.resident_bytes.store(resident_bytes, Relaxed);
        let stored =
            [Part::Heads, Part::Indexes, Part::Caches, Part::Alerts].map(|part| self.held_bytes(part));
        let unreserved = resident_bytes.saturating_sub(self.reserved_bytes());
        self.base_bytes.store(unreserved.max(stored.iter().sum()), Relaxed);
        self.make_room();
    }

    /// What one part holds, told by who holds it; it counts from the next look on.
    pub fn hold(&self, part: Part, bytes: u64) {
        self.of(part).store(bytes, Relaxed);
    }

    /// Where even writes find no room, the heaviest query ends though it asks for nothing more.
    fn make_room(&self) {
        let is_full = self.limit_bytes != u64::MAX && self.used_bytes() > self.share(WRITES_UP_TO);
        if is_full && self.held_bytes(Part::Queries) > self.share(QUERIES_ALWAYS) {
            self.evict_heaviest(&Load { goes_first: true, ..Load::default() });
        }
    }

    fn share(&self, percent: u64) -> u64 {
        (self.limit_bytes / 100).saturating_mul(percent)
    }

    /// Whether what can be had again from the disk should go.
    pub fn is_tight(&self) -> bool {
        self.limit_bytes != u64::MAX && self.used_bytes() > self.share(TIGHT)
    }

    /// Whether labels take so much that nothing else could give way for more of them.
    pub fn is_crowded(&self) -> bool {
        let indexes = self.held_bytes(Part::Indexes);
        self.limit_bytes != u64::MAX
            && self.used_bytes() > self.share(QUERIES_UP_TO)
            && indexes > self.share(CROWDED)
    }

    fn full(&self) -> NoMemory {
        NoMemory { used_bytes: self.used_bytes(), limit_bytes: self.limit_bytes }
    }

    /// Whether anything more may be taken in.
    pub fn check_write(&self) -> Result<(), NoMemory> {
        self.reserve_write_bytes(0)
    }

    /// Memory for a request that brings data in; given back when the answer is dropped.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, NoMemory> {
        self.reserve_write_bytes(bytes)?;
        Ok(Reservation { memory: Arc::clone(self), bytes, free_bytes: 0 })
    }

    fn reserve_write_bytes(&self, bytes: u64) -> Result<(), NoMemory> {
        if self.has_room_for(bytes) {
            self.of(Part::Requests).fetch_add(bytes, Relaxed);
            return Ok(());
        }
        self.refused_writes.fetch_add(1, Relaxed);
        Err(self.full())
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        self.limit_bytes == u64::MAX || self.used_bytes().saturating_add(bytes) <= self.share(WRITES_UP_TO)
    }

    // ---- queries ----

    pub(crate) fn register(&self, goes_first: bool) -> Arc<Load> {
        let load = Arc::new(Load { goes_first, ..Load::default() });
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|other| other.strong_count() > 0);
        running.push(Arc::downgrade(&load));
        load
    }

    /// Takes memory for a query. Short of it the heaviest query must go, which may be this one.
    pub(crate) fn grow(&self, load: &Load, bytes: u64) -> Result<(), NoMemory> {
        load.bytes.fetch_add(bytes, Relaxed);
        self.of(Part::Queries).fetch_add(bytes, Relaxed);
        if self.limit_bytes == u64::MAX {
            return Ok(());
        }
        let used = self.used_bytes();
        if load.evicted.load(Relaxed) {
            return Err(self.full());
        }
        if used <= self.share(QUERIES_UP_TO) || self.held_bytes(Part::Queries) <= self.share(QUERIES_ALWAYS) {
            return Ok(());
        }
        let gives_way = self.evict_heaviest(load);
        // Above the writes' bound there is nothing left to wait with.
        if (gives_way || load.goes_first) && used <= self.share(WRITES_UP_TO) {
            return Ok(());
        }
        self.refused_queries.fetch_add(1, Relaxed);
        Err(self.full())
    }

    /// Ends the query that holds most; `false` if that is the one that asks.
    fn evict_heaviest(&self, asking: &Load) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let others = running.iter().filter_map(Weak::upgrade).filter(|load| !load.goes_first);
        let Some(heaviest) = others.max_by_key(|load| load.bytes.load(Relaxed)) else { return false };
        if !asking.goes_first && heaviest.bytes.load(Relaxed) <= asking.bytes.load(Relaxed) {
            return false;
        }
        if !heaviest.evicted.swap(true, Relaxed) {
            self.refused_queries.fetch_add(1, Relaxed);
        }
        true
    }

    pub(crate) fn check(&self, load: &Load) -> Result<(), NoMemory> {
        if load.evicted.load(Relaxed) { Err(self.full()) } else { Ok(()) }
    }

    pub(crate) fn shrink(&self, load: &Load, bytes: u64) {
        let held = load.bytes.fetch_update(Relaxed, Relaxed, |held| Some(held.saturating_sub(bytes)));
        let given = held.unwrap_or_default().min(bytes);
        self.of(Part::Queries).fetch_sub(given, Relaxed);
    }

    pub(crate) fn release(&self, load: &Load) {
        self.shrink(load, u64::MAX);
    }
}

/// Memory of a request, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<Memory>,
    bytes: u64,
    /// What may still be taken without asking.
    free_bytes: u64,
}

impl Reservation {
    /// To begin with.
    pub fn nothing(memory: &Arc<Memory>) -> Self {
        Self::beyond(0, memory)
    }

    /// To begin with, where the first bytes are not asked for: what is small has to work even where
    /// memory is short, since it may be what tells of that.
    pub fn beyond(free_bytes: u64, memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0, free_bytes }
    }

    /// Takes more.
    pub fn grow(&mut self, bytes: u64) -> Result<(), NoMemory> {
        let free = self.free_bytes.min(bytes);
        self.free_bytes -= free;
        let bytes = bytes - free;
        if bytes == 0 {
            return Ok(());
        }
        self.memory.reserve_write_bytes(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes more if there is room; what is left out instead is no refused write.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        self.memory.has_room_for(bytes) && self.grow(bytes).is_ok()
    }

    /// Gives some of it back.
    pub fn shrink(&mut self, bytes: u64) {
        let given = self.bytes.min(bytes);
        self.bytes -= given;
        self.memory.of(Part::Requests).fetch_sub(given, Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.of(Part::Requests).fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, BudgetError, Ceilings};

    const MIB: u64 = 1 << 20;

    fn account() -> Arc<Memory> {
        Arc::new(Memory::limited(100 * MIB))
    }

    fn query(memory: &Arc<Memory>) -> Budget {
        Budget::drawing_on(memory, Ceilings::NONE)
    }

    fn is_refused<T>(asked: Result<T, BudgetError>) -> bool {
        matches!(asked, Err(BudgetError::NoMemory(_)))
    }

    #[test]
    fn the_larger_of_what_is_accounted_and_resident_counts() {
        let memory = account();
        memory.set(&[(Part::Heads, 30 * MIB), (Part::Caches, 10 * MIB)], 20 * MIB);
        assert_eq!((memory.used_bytes(), memory.is_tight()), (40 * MIB, false));
        memory.set(&[], 80 * MIB);
        assert_eq!((memory.used_bytes(), memory.is_tight()), (80 * MIB, true));
        // What is reserved is not counted twice once it is resident.
        let held = memory.reserve(10 * MIB).unwrap();
        memory.set(&[], 90 * MIB);
        assert_eq!(memory.used_bytes(), 90 * MIB);
        drop(held);
        assert_eq!(memory.used_bytes(), 80 * MIB);
    }

    #[test]
    fn labels_that_crowd_out_everything_are_told() {
        let memory = account();
        memory.set(&[(Part::Indexes, 30 * MIB)], 80 * MIB);
        assert!(!memory.is_crowded());
        memory.set(&[], 90 * MIB);
        assert!(memory.is_crowded());
        memory.set(&[(Part::Indexes, 20 * MIB)], 90 * MIB);
        assert!(!memory.is_crowded() && !Memory::unlimited().is_crowded());
    }

    #[test]
    fn writes_are_refused_at_the_ceiling_and_taken_below_it() {
        let memory = account();
        memory.set(&[], 60 * MIB);
        let mut held = memory.reserve(20 * MIB).unwrap();
        assert!(held.grow(10 * MIB).is_ok());
        assert_eq!(
            held.grow(10 * MIB).unwrap_err().to_string(),
            "the server is at its memory limit (90 MiB of 100 MiB are in use); try again later"
        );
        assert!(memory.check_write().is_ok());
        memory.set(&[], 95 * MIB);
        assert!(memory.check_write().is_err());
        drop(held);
        memory.set(&[], 60 * MIB);
        assert!(memory.reserve(30 * MIB).is_ok());
        assert_eq!(memory.refusals(), (0, 2));
    }

    #[test]
    fn the_heaviest_query_gives_way() {
        let memory = account();
        memory.set(&[], 40 * MIB);
        let (heavy, light) = (query(&memory), query(&memory));
        heavy.reserve_bytes(40 * MIB).unwrap();
        light.reserve_bytes(8 * MIB).unwrap();
        // The light one gets its memory, and the heavy one hears of it at its next step.
        assert!(light.reserve_bytes(MIB).is_ok());
        assert!(is_refused(heavy.check("a test")) && is_refused(heavy.reserve_bytes(1)));
        drop(heavy);
        assert_eq!(memory.held_bytes(Part::Queries), 9 * MIB);
        assert!(light.reserve_bytes(MIB).is_ok());
        assert!(is_refused(light.reserve_bytes(40 * MIB)));
        drop(light);
        assert_eq!((memory.held_bytes(Part::Queries), memory.refusals().0), (0, 2));
    }

    #[test]
    fn a_query_that_only_holds_gives_way_to_writes() {
        let memory = account();
        let (heavy, light) = (query(&memory), query(&memory));
        heavy.reserve_bytes(50 * MIB).unwrap();
        light.reserve_bytes(10 * MIB).unwrap();
        memory.set(&[], 90 * MIB);
        assert!(!heavy.is_evicted());
        memory.set(&[], 95 * MIB);
        assert!(heavy.is_evicted() && !light.is_evicted());
        // Little is held by queries: others have taken the rest.
        let memory = account();
        let small = query(&memory);
        small.reserve_bytes(5 * MIB).unwrap();
        memory.set(&[], 99 * MIB);
        assert!(!small.is_evicted());
    }

    #[test]
    fn rules_outlive_the_queries_of_clients() {
        let memory = account();
        memory.set(&[], 40 * MIB);
        let rule = Budget::drawing_first(&memory, Ceilings::NONE);
        let dashboard = query(&memory);
        dashboard.reserve_bytes(5 * MIB).unwrap();
        rule.reserve_bytes(38 * MIB).unwrap();
        assert!(rule.reserve_bytes(4 * MIB).is_ok() && is_refused(dashboard.check("a test")));
        assert!(is_refused(rule.reserve_bytes(40 * MIB)));
    }

    #[test]
    fn reservations_grow_and_shrink_and_small_ones_are_free() {
        let memory = account();
        let mut held = Reservation::beyond(MIB, &memory);
        memory.set(&[], 95 * MIB);
        assert!(held.grow(MIB).is_ok() && held.grow(1).is_err());
        memory.set(&[], 0);
        assert!(held.grow(3 * MIB).is_ok() && held.try_grow(2 * MIB) && !held.try_grow(90 * MIB));
        held.shrink(MIB);
        assert_eq!((memory.held_bytes(Part::Requests), memory.refusals()), (4 * MIB, (0, 1)));
        drop(held);
        assert_eq!(memory.held_bytes(Part::Requests), 0);
    }

    #[test]
    fn a_full_server_can_still_be_asked_small_questions() {
        let memory = account();
        memory.set(&[], 95 * MIB);
        let small = query(&memory);
        assert!(small.reserve_bytes(5 * MIB).is_ok());
        assert!(is_refused(small.reserve_bytes(5 * MIB)));
        small.release_bytes(7 * MIB);
        assert!(Memory::unlimited().check_write().is_ok());
    }
}
