//! When each of many things is to be looked at next.
//!
//! Each has one time or none: whoever says another takes the one before back, so that nothing is
//! looked at twice, and nothing that is due has to be put aside and sorted in again.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Schedule<K> {
    times: HashMap<K, i64>,
    by_time: BTreeSet<(i64, K)>,
    /// Times that were said or taken, so that tests can count the work.
    #[cfg(test)]
    pub(super) moves: u64,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            times: HashMap::new(),
            by_time: BTreeSet::new(),
            #[cfg(test)]
            moves: 0,
        }
    }
}

impl<K: Ord + Hash + Copy> Schedule<K> {
    /// Says when, in place of what was said before.
    pub(super) fn set(&mut self, key: K, at_ms: i64) {
        self.note_move();
        if let Some(before_ms) = self.times.insert(key, at_ms) {
            self.by_time.remove(&(before_ms, key));
        }
        self.by_time.insert((at_ms, key));
    }

    pub(super) fn remove(&mut self, key: K) {
        self.note_move();
        if let Some(at_ms) = self.times.remove(&key) {
            self.by_time.remove(&(at_ms, key));
        }
    }

    pub(super) fn contains(&self, key: K) -> bool {
        self.times.contains_key(&key)
    }

    /// The earliest time.
    pub(super) fn first_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes what is due first, if something is.
    pub(super) fn pop_due(&mut self, now_ms: i64) -> Option<K> {
        let (_, key) = self.by_time.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms)?;
        self.remove(key);
        Some(key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.times.len(), self.by_time.len());
        self.times.len()
    }

    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.by_time.clear();
    }

    /// Brings all times forward.
    pub(super) fn advance(&mut self, by_ms: i64) {
        self.times.values_mut().for_each(|at_ms| *at_ms = at_ms.saturating_sub(by_ms));
        self.by_time = self.times.iter().map(|(key, at_ms)| (*at_ms, *key)).collect();
    }

    fn note_move(&mut self) {
        #[cfg(test)]
        {
            self.moves += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Set(u8, i64),
        Remove(u8),
        Pop(i64),
        Advance(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..8, -50i64..50).prop_map(|(key, at)| Step::Set(key, at)),
            1 => (0u8..8).prop_map(Step::Remove),
            3 => (-50i64..50).prop_map(Step::Pop),
            1 => (0i64..20).prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// Against a plain list of pairs.
        #[test]
        fn each_has_the_time_that_was_said_last(steps in prop::collection::vec(step(), 0..60)) {
            let mut schedule = Schedule::default();
            let mut plain: Vec<(i64, u8)> = Vec::new();
            for step in steps {
                match step {
                    Step::Set(key, at) => {
                        schedule.set(key, at);
                        plain.retain(|(_, k)| *k != key);
                        plain.push((at, key));
                    }
                    Step::Remove(key) => {
                        schedule.remove(key);
                        plain.retain(|(_, k)| *k != key);
                    }
                    Step::Pop(now) => {
                        let first = plain.iter().copied().filter(|(at, _)| *at <= now).min();
                        prop_assert_eq!(schedule.pop_due(now), first.map(|(_, key)| key));
                        plain.retain(|p| Some(*p) != first);
                    }
                    Step::Advance(by) => {
                        schedule.advance(by);
                        plain.iter_mut().for_each(|(at, _)| *at -= by);
                    }
                }
                prop_assert_eq!(schedule.first_ms(), plain.iter().map(|(at, _)| *at).min());
                for key in 0..8 {
                    prop_assert_eq!(schedule.contains(key), plain.iter().any(|(_, k)| *k == key));
                }
            }
        }
    }
}
