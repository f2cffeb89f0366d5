//! Deletions: durable, applied when reading, made real when a day is rewritten.
//!
//! A deletion takes what it meets in the open head at once. For what is on the disk, or on its
//! way there, a row stays: which series, which times, up to which flush. Later writes are in
//! later flushes and stay visible.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::{Mutex, RwLock};
use pilothouse_index::{RoaringBitmap, resolve};
use pilothouse_model::{Budget, Matcher, SourceError};

use crate::error::Error;
use crate::head::{group_of, slot_of};
use crate::record::Deletion;
use crate::store::{Inner, Store};

/// Deletions that are not made real everywhere yet, by id.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    list: RwLock<Arc<Vec<Deletion>>>,
    /// When the last one was made.
    newest_ms: AtomicI64,
    /// What the catalog does not have yet; whoever holds the flusher's lock changes it.
    unsaved: Mutex<Vec<Deletion>>,
}

impl Deletions {
    pub(crate) fn new(list: Vec<Deletion>) -> Self {
        Self { list: RwLock::new(Arc::new(list)), newest_ms: AtomicI64::new(i64::MIN), ..Self::default() }
    }

    pub(crate) fn all(&self) -> Arc<Vec<Deletion>> {
        self.list.read().clone()
    }

    pub(crate) fn newest_ms(&self) -> i64 {
        self.newest_ms.load(Relaxed)
    }

    fn add(&self, deletion: Deletion, now_ms: i64) {
        self.newest_ms.store(now_ms, Relaxed);
        self.unsaved.lock().push(deletion.clone());
        Arc::make_mut(&mut self.list.write()).push(deletion);
    }

    fn first_unsaved(&self) -> Option<Deletion> {
        self.unsaved.lock().first().cloned()
    }

    fn set_saved(&self, id: u32) {
        self.unsaved.lock().retain(|d| d.id != id);
    }

    pub(crate) fn remove(&self, ids: &[u32]) {
        self.unsaved.lock().retain(|d| !ids.contains(&d.id));
        Arc::make_mut(&mut self.list.write()).retain(|d| !ids.contains(&d.id));
    }

    /// Those that touch a range of time.
    pub(crate) fn within(&self, start_ms: i64, end_ms: i64) -> Vec<Deletion> {
        let all = self.list.read();
        all.iter().filter(|d| d.start_ms <= end_ms && d.end_ms >= start_ms).cloned().collect()
    }
}

impl Store {
    /// Deletes the samples of the series that any of the matcher sets selects between two times,
    /// both inclusive. What is written later is not touched, whatever its time. Durable when it
    /// returns. Exemplars of the series in the range go too.
    pub fn delete_series(
        &self,
        matcher_sets: &[Vec<Matcher>],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<(), SourceError> {
        Ok(self.inner.delete(matcher_sets, start_ms, end_ms)?)
    }
}

impl Inner {
    fn delete(&self, matcher_sets: &[Vec<Matcher>], start_ms: i64, end_ms: i64) -> Result<(), Error> {
        if matcher_sets.is_empty() || start_ms > end_ms {
            return Ok(());
        }
        // No flush is under way while the deletion takes its place among them.
        let _unfinished = self.flusher.unfinished.lock();
        let position = {
            let mut appender = self.appender.lock();
            if appender.closed {
                return Err(SourceError::NotWritable("the store is closed".into()).into());
            }
            let deletion = Deletion {
                id: self.next_deletion.fetch_add(1, Relaxed),
                upto_flush: self.last_flush(),
                start_ms,
                end_ms,
                matcher_sets: matcher_sets.to_vec(),
            };
            let logged = appender.log_one(&self.wal, |record| record.delete(&deletion));
            let position = logged.map_err(|e| Error::Source(e.into()))?;
            self.deletions.add(deletion.clone(), self.now_ms());
            self.delete_from_head(&deletion)?;
            position
        };
        self.wal.wait(position)?;
        self.crash_point("delete: logged");
        self.save_deletions()?;
        self.crash_point("delete: saved");
        Ok(())
    }

    /// Brings deletions into the catalog that hold already and are in the log only. A flush does
    /// it again for one that could not be saved, before the log is trimmed.
    pub(crate) fn save_deletions(&self) -> Result<(), Error> {
        while let Some(deletion) = self.deletions.first_unsaved() {
            self.catalog.save_deletions(std::slice::from_ref(&deletion), 0)?;
            self.deletions.set_saved(deletion.id);
        }
        Ok(())
    }

    /// Takes the samples out of the open head, and the exemplars out of the ring.
    fn delete_from_head(&self, deletion: &Deletion) -> Result<(), Error> {
        let ids = {
            let registry = self.registry.read();
            matching(&registry.index, deletion, &Budget::unlimited())?
        };
        for id in &ids {
            let Some(group) = self.head.group(group_of(id)) else { continue };
            let mut group = group.write();
            let before = group.heap_bytes as u64;
            let newest = group.slot(slot_of(id)).last_t();
            group.change(slot_of(id), |s| s.delete(deletion.start_ms, deletion.end_ms));
            // The head no longer knows which sample is the series' newest: the disk may.
            if let Some(newest) = newest {
                self.floor_ms.fetch_max(newest, Relaxed);
            }
            self.head.heap_bytes.fetch_add((group.heap_bytes as u64).wrapping_sub(before), Relaxed);
        }
        let within = deletion.start_ms..=deletion.end_ms;
        self.exemplars.lock().retain(|id, e| !(ids.contains(id) && within.contains(&e.t_ms)));
        Ok(())
    }
}

/// The series that a deletion is about.
pub(crate) fn matching<S: pilothouse_index::PostingsSource>(
    source: &S,
    deletion: &Deletion,
    budget: &Budget,
) -> Result<RoaringBitmap, Error> {
    let mut all = RoaringBitmap::new();
    for set in &deletion.matcher_sets {
        all |= resolve(source, set, budget)?;
    }
    Ok(all)
}
