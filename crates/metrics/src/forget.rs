//! Series that are nowhere any more leave the memory and the catalog.
//!
//! In pieces: a writer who wants the lock waits for some hundred series, not for a day's churn.

use std::sync::atomic::Ordering::Relaxed;

use parking_lot::MutexGuard;
use pilothouse_model::Labels;
use pilothouse_model::active::{ActiveCount, minute_of};
use roaring::RoaringBitmap;

use crate::error::Error;
use crate::head::{GROUP_BITS, GROUP_SERIES, group_of, slot_of};
use crate::store::Inner;

/// Series looked at under one lock.
const AT_ONCE: usize = 1024;

impl Inner {
    /// Forgets series that are neither active nor in the head nor in a young file.
    pub(crate) fn forget_series(&self) -> Result<(), Error> {
        // No flush may move samples of a series to a file that has been looked at already.
        let _unfinished = self.flusher.unfinished.lock();
        let mut in_files = RoaringBitmap::new();
        for files in self.days.snapshot().0.values() {
            files.l0.iter().for_each(|l0| in_files |= l0.ids());
        }
        self.appender.lock().active.advance(minute_of(self.now_ms()));
        let candidates: Vec<u32> = (self.registry.read().index.ids() - in_files).iter().collect();
        let mut gone = RoaringBitmap::new();
        for group in candidates.chunk_by(|a, b| group_of(*a) == group_of(*b)) {
            group.chunks(AT_ONCE).for_each(|ids| self.forget_some(ids, &mut gone));
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.counters.series_removed.fetch_add(gone.len(), Relaxed);
        self.exemplars.lock().retain(|id, _| !gone.contains(id));
        self.appender.lock().keys.shrink();
        self.registry.write().compact();
        let left = self.registry.read().index.ids().clone();
        let has_series =
            |group: u32| left.range_cardinality(group << GROUP_BITS..(group + 1) << GROUP_BITS) > 0;
        self.forget_orders(has_series);
        let mut groups: Vec<u32> = gone.iter().map(group_of).collect();
        groups.dedup();
        let groups: Vec<_> = groups.into_iter().map(|group| (group, self.series_of(group))).collect();
        self.catalog.rewrite_groups(&groups)
    }

    /// Forgets those of some series of one group that are nowhere, and adds them to `gone`.
    fn forget_some(&self, ids: &[u32], gone: &mut RoaringBitmap) {
        let mut appender = self.appender.lock();
        let going: RoaringBitmap =
            ids.iter().copied().filter(|id| !self.is_in_head(*id, &appender.active)).collect();
        if !going.is_empty() {
            appender.keys.retain(|id| !going.contains(id));
            appender.unsaved_series.retain(|id| !going.contains(*id));
            self.free_slots(&going);
            self.registry.write().remove(&going);
            *gone |= going;
        }
        MutexGuard::unlock_fair(appender);
        self.crash_point("forget: part");
    }

    fn is_in_head(&self, id: u32, active: &ActiveCount) -> bool {
        let Some(group) = self.head.group(group_of(id)) else { return false };
        let group = group.read();
        let series = group.series.get(slot_of(id));
        let open = series.is_some_and(|s| !s.open.is_empty() || active.is_active(s.minute));
        open || group.sealing.iter().any(|s| s.of(slot_of(id)).is_some())
    }

    /// Frees the slots of series that are gone. When one of them comes back the head will not
    /// know that the disk has newer samples of it: that is told by the floor.
    fn free_slots(&self, going: &RoaringBitmap) {
        let Some(number) = going.min().map(group_of) else { return };
        let Some(group) = self.head.group(number) else { return };
        let mut group = group.write();
        let newest = going.iter().filter_map(|id| group.series.get(slot_of(id))?.last_t()).max();
        self.floor_ms.fetch_max(newest.unwrap_or(i64::MIN), Relaxed);
        group.series.retain(|slot| !going.contains(number << GROUP_BITS | slot as u32));
    }

    /// The series of a group, by id.
    fn series_of(&self, group: u32) -> Vec<(u32, Labels)> {
        let registry = self.registry.read();
        let first = group << GROUP_BITS;
        let ids = registry.index.ids().range(first..=first + (GROUP_SERIES as u32 - 1));
        ids.filter_map(|id| Some((id, registry.index.labels(id)?))).collect()
    }
}
