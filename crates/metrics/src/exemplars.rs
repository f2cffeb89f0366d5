//! The newest exemplars of a data source, in a ring.

use std::collections::{HashMap, VecDeque};

use pilothouse_model::ports::Exemplar;
use pilothouse_model::write::{BatchExemplar, Reason};
use pilothouse_model::{Labels, LabelsBuilder};

/// What became of an exemplar.
#[derive(Debug, PartialEq)]
pub(crate) enum Kept {
    Stored(Exemplar),
    Same,
    Refused(Reason),
}

/// Exemplars in the order of their arrival; the oldest goes when there are too many.
#[derive(Debug)]
pub(crate) struct Exemplars {
    capacity: usize,
    /// Number of the first in the ring, counted since ever.
    first: u64,
    ring: VecDeque<(u32, Exemplar)>,
    /// By series, the numbers of its exemplars, ascending.
    series: HashMap<u32, VecDeque<u64>, foldhash::fast::RandomState>,
    /// All below this number are saved.
    saved: u64,
}

impl Exemplars {
    pub(crate) fn new(capacity: usize, first: u64) -> Self {
        Self { capacity, first, ring: VecDeque::new(), series: HashMap::default(), saved: first }
    }

    /// Those of the disk, by number. Where numbers are missing between them, all are numbered anew behind the
    /// last, and must be saved again: the next ones would write over them else.
    pub(crate) fn of_disk(capacity: usize, rows: Vec<(u64, u32, Exemplar)>) -> Self {
        let (first, next) = (rows.first().map_or(0, |row| row.0), rows.last().map_or(0, |row| row.0 + 1));
        let is_whole = next - first == rows.len() as u64;
        let mut exemplars = Self::new(capacity, if is_whole { first } else { next });
        rows.into_iter().for_each(|(_, id, exemplar)| exemplars.push(id, exemplar));
        if is_whole {
            exemplars.set_saved(next);
        }
        exemplars
    }

    /// Checks and keeps one. As in Prometheus an exemplar older than the newest of its series is
    /// refused, and the very same one again changes nothing.
    pub(crate) fn offer(&mut self, id: u32, exemplar: &BatchExemplar, max_chars: u64) -> Kept {
        let t_ms = exemplar.t_ms;
        let chars = |text: &str| text.chars().count() as u64;
        let length: u64 = exemplar.labels.iter().map(|(n, v)| chars(n) + chars(v)).sum();
        if exemplar.labels.is_empty() {
            return Kept::Refused(Reason::ExemplarLabelsMissing { t_ms });
        }
        if length > max_chars {
            return Kept::Refused(Reason::ExemplarLabelsTooLong { t_ms, limit: max_chars });
        }
        let labels = exemplar_labels(&exemplar.labels);
        if let Some(newest) = self.newest(id) {
            let same_value = newest.value.to_bits() == exemplar.value.to_bits();
            if newest.t_ms == t_ms && same_value && newest.labels == labels {
                return Kept::Same;
            }
            if t_ms < newest.t_ms {
                return Kept::Refused(Reason::ExemplarOutOfOrder { t_ms });
            }
        }
        let kept = Exemplar { labels, value: exemplar.value, t_ms };
        self.push(id, kept.clone());
        Kept::Stored(kept)
    }

    fn newest(&self, id: u32) -> Option<&Exemplar> {
        let number = *self.series.get(&id)?.back()?;
        self.ring.get((number - self.first) as usize).map(|(_, e)| e)
    }

    /// Keeps one without a check: it was accepted before.
    pub(crate) fn push(&mut self, id: u32, exemplar: Exemplar) {
        if self.capacity == 0 {
            return;
        }
        while self.ring.len() >= self.capacity {
            self.drop_oldest();
        }
        let number = self.first + self.ring.len() as u64;
        self.ring.push_back((id, exemplar));
        self.series.entry(id).or_default().push_back(number);
    }

    fn drop_oldest(&mut self) {
        let Some((id, _)) = self.ring.pop_front() else { return };
        self.first += 1;
        if let Some(numbers) = self.series.get_mut(&id) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.series.remove(&id);
            }
        }
    }

    /// Of one series, between two times, ascending.
    pub(crate) fn of(&self, id: u32, start_ms: i64, end_ms: i64) -> Vec<Exemplar> {
        let Some(numbers) = self.series.get(&id) else { return Vec::new() };
        let held = numbers.iter().filter_map(|n| self.ring.get((n - self.first) as usize));
        held.map(|(_, e)| e).filter(|e| (start_ms..=end_ms).contains(&e.t_ms)).cloned().collect()
    }

    /// Series that have any.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.series.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Number of the oldest that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// What is not saved yet, with its numbers.
    pub(crate) fn unsaved(&self) -> Vec<(u64, u32, Exemplar)> {
        let from = self.saved.saturating_sub(self.first) as usize;
        let numbered = self.ring.iter().enumerate().skip(from);
        numbered.map(|(i, (id, e))| (self.first + i as u64, *id, e.clone())).collect()
    }

    /// Everything below a number is saved.
    pub(crate) fn set_saved(&mut self, below: u64) {
        self.saved = self.saved.max(below);
    }

    /// The number that the next one gets.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Takes out those of a series between two times, or of a series that is gone. What stays is
    /// numbered anew and must be saved again.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u32, &Exemplar) -> bool) {
        let before = self.ring.len();
        let next = self.next();
        let kept: Vec<(u32, Exemplar)> = self.ring.drain(..).filter(|(id, e)| keep(*id, e)).collect();
        let all = kept.len() == before;
        self.series.clear();
        self.first = if all { self.first } else { next };
        kept.into_iter().for_each(|(id, e)| self.push(id, e));
    }
}

/// Labels of an exemplar, sorted; an empty value is dropped as in any label set.
fn exemplar_labels(pairs: &[(String, String)]) -> Labels {
    let mut builder = LabelsBuilder::default();
    for (name, value) in pairs {
        builder.set(name, value);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(t_ms: i64, trace: &str) -> BatchExemplar {
        BatchExemplar { t_ms, value: 1.0, labels: vec![("trace_id".into(), trace.into())] }
    }

    #[test]
    fn exemplars_of_a_disk_that_lost_some_are_saved_again_and_new_ones_with_them() {
        let kept = |t_ms| Exemplar { labels: exemplar_labels(&exemplar(0, "a").labels), value: 1.0, t_ms };
        let numbers = |ring: &Exemplars| ring.unsaved().iter().map(|u| u.0).collect::<Vec<_>>();
        for (rows, first, unsaved) in
            [(vec![], 0, vec![0]), (vec![7, 8, 9], 7, vec![10]), (vec![3, 4, 9], 10, vec![10, 11, 12, 13])]
        {
            let rows: Vec<_> = rows.into_iter().map(|number| (number, 1, kept(number as i64))).collect();
            let count = rows.len();
            let mut ring = Exemplars::of_disk(10, rows);
            assert!(matches!(ring.offer(1, &exemplar(20, "b"), 128), Kept::Stored(_)));
            assert_eq!((ring.first(), ring.len(), numbers(&ring)), (first, count + 1, unsaved));
            ring.set_saved(ring.next());
            assert!(numbers(&ring).is_empty() && ring.of(1, 0, 100).is_sorted_by_key(|e| e.t_ms));
        }
    }

    #[test]
    fn the_ring_keeps_the_newest_and_checks_each() {
        let mut ring = Exemplars::new(3, 10);
        assert!(matches!(ring.offer(1, &exemplar(5, "a"), 128), Kept::Stored(_)));
        assert_eq!(ring.offer(1, &exemplar(5, "a"), 128), Kept::Same);
        assert_eq!(
            ring.offer(1, &exemplar(4, "b"), 128),
            Kept::Refused(Reason::ExemplarOutOfOrder { t_ms: 4 })
        );
        assert_eq!(
            ring.offer(1, &exemplar(6, "long"), 8),
            Kept::Refused(Reason::ExemplarLabelsTooLong { t_ms: 6, limit: 8 })
        );
        assert!(matches!(ring.offer(2, &exemplar(1, "c"), 128), Kept::Stored(_)));
        assert!(matches!(ring.offer(1, &exemplar(7, "d"), 128), Kept::Stored(_)));
        assert!(matches!(ring.offer(2, &exemplar(8, "e"), 128), Kept::Stored(_)));
        assert_eq!(ring.of(1, 0, 100).iter().map(|e| e.t_ms).collect::<Vec<_>>(), [7]);
        assert_eq!((ring.len(), ring.first(), ring.next()), (3, 11, 14));
        assert_eq!(ring.unsaved().iter().map(|u| u.0).collect::<Vec<_>>(), [11, 12, 13]);
        ring.set_saved(13);
        assert_eq!(ring.unsaved().len(), 1);
        ring.retain(|id, _| id != 1);
        assert_eq!((ring.len(), ring.of(1, 0, 100).len(), ring.unsaved().len()), (2, 0, 2));
    }
}
