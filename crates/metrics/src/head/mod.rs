//! Fresh samples, in memory.
//!
//! Series are held in groups of consecutive ids, each behind its own lock. A writer holds the
//! lock for a run of samples of one group, a reader for the decoding of one series' open chunk;
//! neither waits for the disk under it. A group is sealed as a whole: its samples are swapped
//! out as a [`Sealing`], which readers still see, and dropped once the disk has them.

mod series;
mod slots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{RwLock, RwLockReadGuard};
use pilothouse_disk::Position;
use pilothouse_model::{SampleColumns, SampleValue};

use crate::merge::Merge;
pub(crate) use series::{HeadSeries, Open, Taken};
pub(crate) use slots::Slots;

pub(crate) const GROUP_BITS: u32 = 12;
pub(crate) const GROUP_SERIES: usize = 1 << GROUP_BITS;

pub(crate) fn group_of(id: u32) -> u32 {
    id >> GROUP_BITS
}

pub(crate) fn slot_of(id: u32) -> usize {
    id as usize & (GROUP_SERIES - 1)
}

/// Samples of a group on their way to the disk; no longer changed.
#[derive(Debug)]
pub(crate) struct Sealing {
    /// The flush that they are part of.
    pub(crate) flush: u32,
    /// By slot, ascending.
    pub(crate) series: Vec<(u16, Open)>,
    pub(crate) samples: u64,
    pub(crate) heap_bytes: usize,
    /// Where in the log its oldest sample is at the earliest.
    pub(crate) since: Position,
}

impl Sealing {
    pub(crate) fn of(&self, slot: usize) -> Option<&Open> {
        let at = self.series.binary_search_by_key(&slot, |s| usize::from(s.0)).ok()?;
        Some(&self.series[at].1)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) series: Slots,
    /// Oldest first.
    pub(crate) sealing: Vec<Arc<Sealing>>,
    /// Open samples, and how many series have any.
    pub(crate) samples: u64,
    pub(crate) live: u32,
    /// Bytes of open samples beside the structs.
    pub(crate) heap_bytes: usize,
    /// Where in the log the oldest open sample is at the earliest, and since when.
    pub(crate) since: Option<(Position, i64)>,
    /// Sealed at this many samples a series.
    pub(crate) threshold: u64,
    /// Waiting to be sealed.
    pub(crate) queued: bool,
}

impl Group {
    /// The series of a slot, made if it is not there.
    #[inline]
    pub(crate) fn slot(&mut self, slot: usize) -> &mut HeadSeries {
        self.series.get_or_new(slot)
    }

    /// Runs a change of one series and keeps the group's sums.
    #[inline]
    pub(crate) fn change<T>(&mut self, slot: usize, change: impl FnOnce(&mut HeadSeries) -> T) -> T {
        let series = self.slot(slot);
        let (samples, bytes) = (series.open.len(), series.open.heap_bytes());
        let result = change(series);
        let (samples_now, bytes_now) = (series.open.len(), series.open.heap_bytes());
        self.samples = (self.samples + samples_now as u64).saturating_sub(samples as u64);
        self.heap_bytes = (self.heap_bytes + bytes_now).saturating_sub(bytes);
        match (samples, samples_now) {
            (0, 1..) => self.live += 1,
            (1.., 0) => self.live -= 1,
            _ => {}
        }
        result
    }

    pub(crate) fn is_due(&self) -> bool {
        self.samples >= self.threshold * u64::from(self.live.max(1))
    }

    /// Swaps the open samples out: everything of the group that lies before `position` in the
    /// log. `None` if there are none.
    pub(crate) fn seal(&mut self, flush: u32, position: Position) -> Option<Arc<Sealing>> {
        let since = self.since.take().map_or(position, |s| s.0);
        self.queued = false;
        self.threshold = SAMPLES_PER_CHUNK;
        if self.samples == 0 {
            return None;
        }
        let mut series = Vec::with_capacity(self.live as usize);
        self.series.for_each(|slot, of| {
            if !of.open.is_empty() {
                series.push((slot as u16, std::mem::take(&mut of.open)));
            }
        });
        let (samples, heap_bytes) = (self.samples, self.heap_bytes);
        let sealing = Arc::new(Sealing { flush, series, samples, heap_bytes, since });
        (self.samples, self.live, self.heap_bytes) = (0, 0, 0);
        self.sealing.push(sealing.clone());
        Some(sealing)
    }
}

/// Samples a series has when its group is sealed, on average.
pub(crate) const SAMPLES_PER_CHUNK: u64 = 120;

/// The first thresholds are spread, so that groups filled at the same pace are not all sealed at
/// the same moment.
fn first_threshold(number: usize) -> u64 {
    30 + number as u64 * 37 % 91
}

/// All groups. The list only grows; a group whose series are all gone is left as an empty shell.
#[derive(Debug, Default)]
pub(crate) struct Head {
    groups: RwLock<Vec<Arc<RwLock<Group>>>>,
    /// Bytes held in all groups, open and sealing.
    pub(crate) heap_bytes: AtomicU64,
}

impl Head {
    /// The head as it was recovered.
    pub(crate) fn from_groups(groups: Vec<Group>) -> Self {
        let bytes: usize = groups.iter().map(|g| g.heap_bytes).sum();
        let groups = groups.into_iter().enumerate();
        let groups = groups.map(|(n, group)| Group { threshold: first_threshold(n), ..group });
        Self {
            groups: RwLock::new(groups.map(|g| Arc::new(RwLock::new(g))).collect()),
            heap_bytes: AtomicU64::new(bytes as u64),
        }
    }

    pub(crate) fn group(&self, number: u32) -> Option<Arc<RwLock<Group>>> {
        self.groups.read().get(number as usize).cloned()
    }

    /// The group, made if it is not there.
    pub(crate) fn group_or_new(&self, number: u32) -> Arc<RwLock<Group>> {
        if let Some(group) = self.group(number) {
            return group;
        }
        let mut groups = self.groups.write();
        while groups.len() <= number as usize {
            let group = Group { threshold: first_threshold(groups.len()), ..Group::default() };
            groups.push(Arc::new(RwLock::new(group)));
        }
        groups[number as usize].clone()
    }

    pub(crate) fn len(&self) -> u32 {
        self.groups.read().len() as u32
    }

    /// All groups, for a walk.
    pub(crate) fn all(&self) -> Vec<Arc<RwLock<Group>>> {
        self.groups.read().clone()
    }

    /// Drops what the disk has now.
    pub(crate) fn forget(&self, number: u32, flush: u32) {
        if let Some(group) = self.group(number) {
            group.write().sealing.retain(|s| s.flush != flush);
        }
    }

    pub(crate) fn heap_bytes(&self) -> u64 {
        self.heap_bytes.load(Relaxed)
    }
}

/// Deletions that hide samples of a flush: `(up to and including this flush, start, end)`.
pub(crate) type Hidden = (u32, i64, i64);

/// Reads one series of a group: what is being sealed, then what is open.
pub(crate) fn read_series(
    group: &RwLockReadGuard<'_, Group>,
    slot: usize,
    hidden: &[Hidden],
    range: (i64, i64),
    merge: &mut Merge<'_>,
) {
    for sealing in &group.sealing {
        let Some(open) = sealing.of(slot) else { continue };
        merge.run(|c| {
            if hidden.iter().all(|h| h.0 < sealing.flush) {
                return open.read(range.0, range.1, c);
            }
            read_but(open, sealing.flush, hidden, range, c);
        });
    }
    if let Some(series) = group.series.get(slot) {
        merge.run(|c| series.open.read(range.0, range.1, c));
    }
}

#[cold]
fn read_but(open: &Open, flush: u32, hidden: &[Hidden], range: (i64, i64), out: &mut SampleColumns) {
    let mut own = SampleColumns::default();
    open.read(range.0, range.1, &mut own);
    for (_, start, end) in hidden.iter().filter(|h| h.0 >= flush) {
        crate::merge::remove_range(&mut own, *start, *end);
    }
    out.times_ms.append(&mut own.times_ms);
    out.values.append(&mut own.values);
    out.histograms.append(&mut own.histograms);
}

/// The newest sample of a series that is known without decoding.
pub(crate) fn newest(group: &RwLockReadGuard<'_, Group>, slot: usize) -> Option<(i64, SampleValue)> {
    group.series.get(slot)?.last()
}
