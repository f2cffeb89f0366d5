//! What all targets share: the sink, the places for scrapes, and what was learned of families.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::memory::{Holding, Part};
use pilothouse_model::write::{Appended, MetadataEntry, WriteBatch};
use pilothouse_model::{Labels, Memory, SampleSink, SourceError};
use tokio::sync::Semaphore;

use crate::cycle::TargetState;
use crate::ingest::Counts;

pub(crate) type AppendResult = Result<Appended, SourceError>;

/// How scraping goes, since the start.
#[derive(Debug, Default)]
pub struct Stats {
    pub scrapes: AtomicU64,
    pub failed_scrapes: AtomicU64,
    /// Scrapes whose body found no room in memory; of their targets nothing is said.
    pub left_out: AtomicU64,
    pub samples: AtomicU64,
    /// Samples of one series and time in one body.
    pub duplicate_samples: AtomicU64,
    /// Samples that the store refused.
    pub refused_samples: AtomicU64,
    /// Batches that the store could not take.
    pub failed_appends: AtomicU64,
    /// Discovered targets that could not be made targets.
    pub bad_targets: AtomicU64,
}

impl Stats {
    pub(crate) fn scraped(&self, counts: &Counts, good: bool) {
        self.scrapes.fetch_add(1, Relaxed);
        self.failed_scrapes.fetch_add(u64::from(!good), Relaxed);
        self.samples.fetch_add(counts.scraped, Relaxed);
        self.duplicate_samples.fetch_add(counts.duplicates, Relaxed);
    }
}

pub(crate) struct Shared {
    sink: Arc<dyn SampleSink>,
    pub(crate) limits: LiveLimits,
    pub(crate) places: Semaphore,
    /// For reading what came.
    pub(crate) readers: Semaphore,
    pub(crate) memory: Arc<Memory>,
    /// Targets with an owner, of all jobs.
    pub(crate) targets: AtomicUsize,
    pub(crate) stats: Stats,
    /// Who carries which labels, for who comes after somebody that left.
    carriers: Mutex<HashMap<Labels, Vec<Weak<TargetState>>>>,
    families: Mutex<Families>,
}

/// What was said of families, each once.
struct Families {
    entries: HashSet<Arc<MetadataEntry>>,
    held: Holding,
}

impl Families {
    /// Forgets what nobody says any more.
    fn tidy(&mut self) {
        self.entries.retain(|entry| Arc::strong_count(entry) > 1);
        let of = |e: &Arc<MetadataEntry>| size_of::<MetadataEntry>() + e.family.len() + e.help.len();
        self.held.set(self.entries.iter().map(of).sum::<usize>() as u64);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(sink: Arc<dyn SampleSink>, limits: LiveLimits, memory: Arc<Memory>) -> Self {
        let families = Families { entries: HashSet::new(), held: memory.holding(Part::Targets) };
        let places = usize::try_from(limits.now().max_concurrent_scrapes).unwrap_or(usize::MAX);
        Self {
            sink,
            places: Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)),
            readers: Semaphore::new(std::thread::available_parallelism().map_or(2, NonZero::get)),
            memory,
            targets: AtomicUsize::new(0),
            limits,
            stats: Stats::default(),
            carriers: Mutex::default(),
            families: Mutex::new(families),
        }
    }

    pub(crate) fn append(&self, batch: &WriteBatch) -> AppendResult {
        self.sink.append(batch)
    }

    /// Waits for the disk, and tells what was not stored.
    pub(crate) async fn confirm(&self, job: &str, appended: AppendResult) {
        let stored = match appended {
            Ok(appended) => {
                if appended.rejected > 0 {
                    self.stats.refused_samples.fetch_add(appended.rejected, Relaxed);
                    let first = appended.rejections.first();
                    tracing::warn!(job, rejected = appended.rejected, "scraped samples refused: {first:?}");
                }
                appended.durable.await
            }
            Err(e) => Err(e),
        };
        if let Err(e) = stored {
            self.stats.failed_appends.fetch_add(1, Relaxed);
            tracing::warn!(job, "scraped samples were not stored: {e}");
        }
    }

    // ---- who goes on with whose series ----

    pub(crate) fn enter(&self, state: &Arc<TargetState>) {
        self.targets.fetch_add(1, Relaxed);
        let mut carriers = self.carriers.lock();
        carriers.entry(state.target.public.clone()).or_default().push(Arc::downgrade(state));
    }

    /// Of targets that are scraped no more, before they are let go.
    pub(crate) fn exit(&self, state: &Arc<TargetState>) {
        self.targets.fetch_sub(1, Relaxed);
        let mut carriers = self.carriers.lock();
        if let Some(list) = carriers.get_mut(&state.target.public) {
            list.retain(|one| one.strong_count() > 0 && !std::ptr::eq(one.as_ptr(), Arc::as_ptr(state)));
            if list.is_empty() {
                carriers.remove(&state.target.public);
            }
        }
    }

    /// Another target that carries the same labels.
    pub(crate) fn heir(&self, state: &Arc<TargetState>) -> Option<Arc<TargetState>> {
        let carriers = self.carriers.lock();
        let others = carriers.get(&state.target.public)?.iter().filter_map(Weak::upgrade);
        others.into_iter().find(|other| !Arc::ptr_eq(other, state))
    }

    // ---- metadata ----

    /// Takes down what a target says of its families. Gives what is new, for the store.
    pub(crate) fn learn(&self, state: &TargetState, entries: Vec<MetadataEntry>) -> Vec<MetadataEntry> {
        if entries.is_empty() {
            return entries;
        }
        let mut known = state.metadata.lock();
        let same = |entry: &MetadataEntry| {
            let at = known.binary_search_by(|k| k.family.cmp(&entry.family)).ok()?;
            known.get(at).filter(|k| ***k == *entry)
        };
        let new: Vec<MetadataEntry> = entries.iter().filter(|entry| same(entry).is_none()).cloned().collect();
        if new.is_empty() && entries.len() == known.len() {
            return new;
        }
        let mut families = self.families.lock();
        let mut shared: Vec<Arc<MetadataEntry>> =
            entries.into_iter().map(|e| intern(&mut families.entries, e)).collect();
        shared.sort_by(|a, b| a.family.cmp(&b.family));
        shared.dedup_by(|a, b| a.family == b.family);
        *known = shared;
        families.tidy();
        new
    }

    /// Forgets what only targets said that are gone.
    pub(crate) fn tidy(&self) {
        self.families.lock().tidy();
    }
}

fn intern(families: &mut HashSet<Arc<MetadataEntry>>, entry: MetadataEntry) -> Arc<MetadataEntry> {
    if let Some(known) = families.get(&entry) {
        return Arc::clone(known);
    }
    let entry = Arc::new(entry);
    families.insert(Arc::clone(&entry));
    entry
}
