//! One account of the memory that the process holds, and its ceiling.
//!
//! Three kinds of entries. What stores hold (heads, tails, indexes, caches) is read from them now
//! and then and [set](Memory::set). What workers keep between two rounds (series of targets, states
//! of rules) is [told](Memory::holding) by them when it changes. What comes and goes with a request
//! or a query is [reserved](Memory::reserve) before it is allocated, and may be refused. Beside all
//! stands what the kernel says is resident: the larger one counts, so that neither what nobody
//! accounts for nor what an allocator keeps goes unnoticed.
//!
//! Who gives way, in this order: caches shrink ([`Memory::is_tight`]), then queries (the
//! heaviest first) and new series where labels are what takes the memory
//! ([`Memory::is_crowded`]), then writes. Queries have a small share that nothing but other queries takes,
//! so that a server full of data can still be asked.

mod booking;
mod leaving;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

pub(crate) use booking::attached;
pub use booking::{Holding, Reservation};
use leaving::Leaving;

/// Parts of the limit, in percent: from where on caches shrink, queries are refused, writes are.
const TIGHT: u64 = 75;
const QUERIES_UP_TO: u64 = 85;
const WRITES_UP_TO: u64 = 92;
/// How much may grow between two looks at what is resident.
const SLACK_BYTES: u64 = 16 << 20;
/// What labels may take before new series are refused, once memory is short.
const CROWDED: u64 = 25;
/// What queries may always take together; those that go first have as much of their own.
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
    /// What targets exposed last, and what discovery found.
    Targets,
    /// Alerts of rules, and the series that rules wrote last.
    Rules,
    /// Synthetic checks, what they measured last, and results that wait to be stored.
    Checks,
    /// Projects, data sources, tokens, and the book of who stored how much.
    Control,
    /// Open connections and streams, a fixed cost each.
    Connections,
    /// Bodies of requests and what they become until it is stored; answers that are read of targets and
    /// other systems; answers and notifications on their way; entries that wait for who follows logs; a backup under way.
    Requests,
    /// Queries of clients and of rules, and what they read of other systems.
    Queries,
}

impl Part {
    pub const ALL: [Self; 11] = [
        Self::Heads,
        Self::Indexes,
        Self::Caches,
        Self::Alerts,
        Self::Targets,
        Self::Rules,
        Self::Checks,
        Self::Control,
        Self::Connections,
        Self::Requests,
        Self::Queries,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Heads => "heads",
            Self::Indexes => "indexes",
            Self::Caches => "caches",
            Self::Alerts => "alerts",
            Self::Targets => "targets",
            Self::Rules => "rules",
            Self::Checks => "checks",
            Self::Control => "control",
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Queries => "queries",
        }
    }

    /// Whether it comes and goes too fast to be looked at now and then, and so counts at once.
    fn counts_at_once(self) -> bool {
        matches!(self, Self::Connections | Self::Requests | Self::Queries)
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
    /// Of it, what is left to what grows between two looks.
    slack_bytes: u64,
    held: [AtomicU64; Part::ALL.len()],
    resident_bytes: AtomicU64,
    /// What was used at the last look, without what counts at once.
    base_bytes: AtomicU64,
    /// The same without what queries that were ended have given back, as far as it is to leave yet.
    settled_bytes: AtomicU64,
    /// What such queries have given back since the last look.
    given_back_bytes: AtomicU64,
    leaving: Mutex<Leaving>,
    running: Mutex<Vec<Weak<Load>>>,
    /// Of the queries that go first, all together.
    first_bytes: AtomicU64,
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
            slack_bytes: 0,
            held: Default::default(),
            resident_bytes: AtomicU64::new(0),
            base_bytes: AtomicU64::new(0),
            settled_bytes: AtomicU64::new(0),
            given_back_bytes: AtomicU64::new(0),
            leaving: Mutex::default(),
            running: Mutex::default(),
            first_bytes: AtomicU64::new(0),
            refused_queries: AtomicU64::new(0),
            refused_writes: AtomicU64::new(0),
        }
    }

    /// As [`Memory::limited`], for a process that must not pass its limit even for a moment: what is
    /// resident is known some time after it has grown.
    pub fn never_above(limit_bytes: u64) -> Self {
        Self { slack_bytes: SLACK_BYTES.min(limit_bytes / 8), ..Self::limited(limit_bytes) }
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
        Part::ALL.into_iter().filter(|part| part.counts_at_once()).map(|part| self.held_bytes(part)).sum()
    }

    /// What is in use now, as far as is known.
    pub fn used_bytes(&self) -> u64 {
        self.base_bytes.load(Relaxed).saturating_add(self.reserved_bytes())
    }

    /// What will be in use once all that ended queries gave back has left. Whether another one has to end
    /// is asked of this; what may come in is not, as long as the memory is still taken.
    fn settled_bytes(&self) -> u64 {
        self.settled_bytes.load(Relaxed).saturating_add(self.reserved_bytes())
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
        self.set_at(parts, resident_bytes, Instant::now());
    }

    fn set_at(&self, parts: &[(Part, u64)], resident_bytes: u64, now: Instant) {
        for (part, bytes) in parts {
            self.hold(*part, *bytes);
        }
        self.resident_bytes.store(resident_bytes, Relaxed);
        let kept = Part::ALL.into_iter().filter(|part| !part.counts_at_once());
        let kept_bytes: u64 = kept.map(|part| self.held_bytes(part)).sum();
        let unreserved = resident_bytes.saturating_sub(self.reserved_bytes());
        self.base_bytes.store(unreserved.max(kept_bytes), Relaxed);
        let given_back = self.given_back_bytes.swap(0, Relaxed);
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let leaving_bytes = leaving.look(given_back, resident_bytes, now);
        self.settled_bytes.store(unreserved.saturating_sub(leaving_bytes).max(kept_bytes), Relaxed);
        drop(leaving);
        self.make_room();
    }

    /// What one part holds, told by the one who holds all of it; it counts from the next look on.
    pub fn hold(&self, part: Part, bytes: u64) {
        self.of(part).store(bytes, Relaxed);
    }

    /// A share of a part that many hold; nothing to begin with. Of such a part nobody tells the whole.
    pub fn holding(self: &Arc<Self>, part: Part) -> Holding {
        Holding::new(self, part)
    }

    /// Where even writes find no room, the heaviest query ends though it asks for nothing more.
    fn make_room(&self) {
        let is_full = self.limit_bytes != u64::MAX && self.settled_bytes() > self.share(WRITES_UP_TO);
        if is_full && self.held_bytes(Part::Queries) > self.share(QUERIES_ALWAYS) {
            self.evict_heaviest(&Load { goes_first: true, ..Load::default() });
        }
    }

    fn share(&self, percent: u64) -> u64 {
        ((self.limit_bytes - self.slack_bytes) / 100).saturating_mul(percent)
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
        self.ask_write(0)
    }

    /// Whether there is room for more, for who can wait until there is.
    pub fn has_room(&self) -> bool {
        self.has_room_for(0)
    }

    /// Memory for a request that brings data in; given back when the answer is dropped.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, NoMemory> {
        let mut held = Reservation::nothing(self);
        held.grow(bytes)?;
        Ok(held)
    }

    fn ask_write(&self, bytes: u64) -> Result<(), NoMemory> {
        if self.has_room_for(bytes) {
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
        if load.goes_first {
            self.first_bytes.fetch_add(bytes, Relaxed);
        }
        if self.limit_bytes == u64::MAX {
            return Ok(());
        }
        let used = self.used_bytes();
        if load.evicted.load(Relaxed) {
            return Err(self.full());
        }
        if used <= self.share(QUERIES_UP_TO) || self.bytes_like(load) <= self.share(QUERIES_ALWAYS) {
            return Ok(());
        }
        let gives_way = self.settled_bytes() <= self.share(QUERIES_UP_TO) || self.evict_heaviest(load);
        // Above the writes' bound there is nothing left to wait with.
        if (gives_way || load.goes_first) && used <= self.share(WRITES_UP_TO) {
            return Ok(());
        }
        self.refused_queries.fetch_add(1, Relaxed);
        Err(self.full())
    }

    /// What queries of its kind hold together.
    fn bytes_like(&self, load: &Load) -> u64 {
        let first_bytes = self.first_bytes.load(Relaxed);
        if load.goes_first { first_bytes } else { self.held_bytes(Part::Queries).saturating_sub(first_bytes) }
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
        if load.goes_first {
            self.first_bytes.fetch_sub(given, Relaxed);
        }
        if load.evicted.load(Relaxed) {
            self.given_back_bytes.fetch_add(given, Relaxed);
        }
    }

    pub(crate) fn release(&self, load: &Load) {
        self.shrink(load, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn a_process_that_must_not_pass_its_limit_keeps_some_of_it() {
        for (limit, writes) in [(80 * MIB, 64 * MIB), (200 * MIB, 169 * MIB), (2_016 * MIB, 1_840 * MIB)] {
            let memory = Arc::new(Memory::never_above(limit));
            memory.set(&[], writes - MIB);
            assert!(memory.reserve(0).is_ok() && memory.has_room(), "{limit}");
            memory.set(&[], writes + MIB);
            let full = memory.check_write().unwrap_err();
            assert_eq!(full.limit_bytes, limit);
        }
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

    /// What an ended query held stays resident until the allocator gives it back.
    #[test]
    fn one_query_ends_where_one_is_enough() {
        let begin = Instant::now();
        let at = |ms| begin + std::time::Duration::from_millis(ms);
        let memory = account();
        let queries: Vec<_> = (1..=4).map(|_| query(&memory)).collect();
        for (query, mib) in queries.iter().zip([40, 14, 12, 10]) {
            query.reserve_bytes(mib * MIB).unwrap();
        }
        let ended = |queries: &[Budget]| queries.iter().map(Budget::is_evicted).collect::<Vec<_>>();
        memory.set_at(&[], 95 * MIB, at(0));
        memory.set_at(&[], 95 * MIB, at(50));
        assert_eq!(ended(&queries), [true, false, false, false], "it has not heard of it yet");
        let [heavy, rest @ ..] = <[Budget; 4]>::try_from(queries).unwrap();
        drop(heavy);
        for ms in (100..5_000).step_by(50) {
            memory.set_at(&[], 95 * MIB, at(ms));
        }
        assert_eq!(ended(&rest), [false; 3]);
        assert!(memory.check_write().is_err(), "the memory is still taken");
        assert!(is_refused(rest[2].reserve_bytes(MIB)), "and nothing is left to take more of");
        assert_eq!(ended(&rest), [false; 3]);
        // It has left, and others have taken as much: that another one ends now helps.
        memory.set_at(&[], 55 * MIB, at(5_000));
        assert!(memory.check_write().is_ok());
        let _held = Reservation::regardless(40 * MIB, &memory);
        memory.set_at(&[], 95 * MIB, at(5_050));
        assert_eq!(ended(&rest), [true, false, false]);
        // One whose memory does not leave in time is made up for by others.
        let memory = account();
        let (heavy, light) = (query(&memory), query(&memory));
        heavy.reserve_bytes(40 * MIB).unwrap();
        light.reserve_bytes(10 * MIB).unwrap();
        memory.set_at(&[], 95 * MIB, at(0));
        drop(heavy);
        for (ms, expected) in [(50, false), (5_000, false), (8_000, true)] {
            memory.set_at(&[], 95 * MIB, at(ms));
            assert_eq!(light.is_evicted(), expected, "{ms}");
        }
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
    fn small_rules_go_on_whatever_others_hold() {
        let memory = account();
        let dashboard = query(&memory);
        dashboard.reserve_bytes(50 * MIB).unwrap();
        memory.set(&[], 99 * MIB);
        let (rule, other) =
            (Budget::drawing_first(&memory, Ceilings::NONE), Budget::drawing_first(&memory, Ceilings::NONE));
        assert!(rule.reserve_bytes(4 * MIB).is_ok() && other.reserve_bytes(2 * MIB).is_ok());
        assert!(is_refused(other.reserve_bytes(MIB)));
        drop(other);
        assert!(rule.reserve_bytes(2 * MIB).is_ok());
        drop(rule);
        assert_eq!(memory.first_bytes.load(Relaxed), 0);
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
        // What is taken without asking is counted all the same.
        assert_eq!((memory.held_bytes(Part::Requests), memory.refusals()), (5 * MIB, (0, 1)));
        let bytes = held.attached_to(vec![7; 3]);
        let part = bytes.slice(1..);
        drop(bytes);
        assert_eq!((memory.held_bytes(Part::Requests), &*part), (5 * MIB, &[7, 7][..]));
        drop(part);
        assert_eq!(memory.held_bytes(Part::Requests), 0);
    }

    #[test]
    fn what_workers_keep_counts_from_the_next_look_on_and_goes_with_them() {
        let memory = account();
        let (mut one, mut other) = (memory.holding(Part::Rules), memory.holding(Part::Rules));
        one.set(30 * MIB);
        other.set(50 * MIB);
        one.set(20 * MIB);
        memory.set(&[(Part::Heads, 10 * MIB)], 0);
        assert_eq!((memory.held_bytes(Part::Rules), memory.used_bytes()), (70 * MIB, 80 * MIB));
        drop(other);
        memory.set(&[], 0);
        assert_eq!((memory.held_bytes(Part::Rules), memory.used_bytes()), (20 * MIB, 30 * MIB));
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

    /// What somebody may do with the account; the number chooses whom it is done by.
    #[derive(Debug, Clone)]
    enum Deed {
        Reserve(u64, u64),
        Grow(usize, u64),
        Shrink(usize, u64),
        Attach(usize),
        Hold(usize, u64),
        Query(bool),
        Take(usize, u64),
        Release(usize, u64),
        Look(u64),
        Drop(usize),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let (whose, bytes) = (0..8usize, 0..40 * MIB);
        let deed = prop_oneof![
            (bytes.clone(), 0..MIB).prop_map(|(a, b)| Deed::Reserve(a, b)),
            (whose.clone(), bytes.clone()).prop_map(|(a, b)| Deed::Grow(a, b)),
            (whose.clone(), bytes.clone()).prop_map(|(a, b)| Deed::Shrink(a, b)),
            whose.clone().prop_map(Deed::Attach),
            (whose.clone(), bytes.clone()).prop_map(|(a, b)| Deed::Hold(a, b)),
            any::<bool>().prop_map(Deed::Query),
            (whose.clone(), bytes.clone()).prop_map(|(a, b)| Deed::Take(a, b)),
            (whose.clone(), bytes).prop_map(|(a, b)| Deed::Release(a, b)),
            (0..120 * MIB).prop_map(Deed::Look),
            whose.prop_map(Deed::Drop),
        ];
        proptest::collection::vec(deed, 0..60)
    }

    /// All that draws on an account.
    #[derive(Default)]
    struct Owners {
        reservations: Vec<Reservation>,
        attached: Vec<bytes::Bytes>,
        holdings: Vec<Holding>,
        budgets: Vec<(Budget, u64)>,
        taken: Vec<crate::budget::Taken>,
    }

    fn of<T>(all: &mut [T], number: usize) -> Option<&mut T> {
        let at = number % all.len().max(1);
        all.get_mut(at)
    }

    fn without<T>(all: &mut Vec<T>, number: usize) {
        if !all.is_empty() {
            all.swap_remove(number % all.len());
        }
    }

    impl Owners {
        fn perform(&mut self, memory: &Arc<Memory>, deed: &Deed) {
            match *deed {
                Deed::Reserve(bytes, free) => {
                    let mut held = Reservation::beyond(free, memory);
                    let _ = held.grow(bytes);
                    self.reservations.push(held);
                    self.reservations.push(Reservation::regardless(free, memory));
                }
                Deed::Grow(number, bytes) => {
                    let _ = of(&mut self.reservations, number).map(|held| held.grow(bytes));
                }
                Deed::Shrink(number, bytes) => {
                    let _ = of(&mut self.reservations, number).map(|held| held.shrink(bytes));
                }
                Deed::Attach(number) => {
                    let held = self.reservations.pop().map(|held| held.attached_to(vec![1, 2, 3]));
                    self.attached.extend(held.iter().map(|bytes| bytes.slice(number.min(3)..)));
                }
                Deed::Hold(number, bytes) => {
                    self.holdings.push(memory.holding([Part::Rules, Part::Connections][number % 2]));
                    let _ = of(&mut self.holdings, number).map(|held| held.set(bytes));
                }
                Deed::Query(first) => {
                    let draw = if first { Budget::drawing_first } else { Budget::drawing_on };
                    let budget = draw(memory, Ceilings { memory_bytes: 60 * MIB, ..Ceilings::NONE });
                    self.taken.push(budget.taking());
                    self.budgets.push((budget, 0));
                }
                Deed::Take(number, bytes) => {
                    let _ = of(&mut self.taken, number).map(|taken| taken.grow(bytes));
                    if let Some((budget, own)) = of(&mut self.budgets, number) {
                        let _ = budget.reserve_bytes(bytes);
                        *own += bytes;
                    }
                }
                Deed::Release(number, bytes) => {
                    if let Some((budget, own)) = of(&mut self.budgets, number) {
                        let given = bytes.min(*own);
                        budget.release_bytes(given);
                        *own -= given;
                    }
                }
                Deed::Look(resident) => memory.set(&[(Part::Heads, resident / 3)], resident),
                Deed::Drop(number) => {
                    without(&mut self.reservations, number);
                    without(&mut self.attached, number);
                    without(&mut self.holdings, number);
                    without(&mut self.taken, number);
                    without(&mut self.budgets, number);
                }
            }
        }
    }

    proptest! {
        /// Whatever was refused, ended or given back in whatever order: nothing stays in the account.
        #[test]
        fn the_account_is_empty_once_nobody_draws_on_it(deeds in deeds()) {
            let memory = account();
            let mut owners = Owners::default();
            for deed in &deeds {
                owners.perform(&memory, deed);
                prop_assert!(Part::ALL.iter().all(|part| memory.held_bytes(*part) < 1 << 40), "{deed:?}");
            }
            drop(owners);
            memory.set(&[(Part::Heads, 0)], 0);
            let left = Part::ALL.map(|part| memory.held_bytes(part));
            prop_assert_eq!((left, memory.first_bytes.load(Relaxed)), ([0; Part::ALL.len()], 0));
            prop_assert_eq!(memory.used_bytes(), 0);
        }
    }
}
