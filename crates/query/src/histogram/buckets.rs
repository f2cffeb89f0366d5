//! The buckets of one sign: a run of counts whose indexes the spans tell.

use std::fmt::Debug;
use std::iter;

use pilothouse_model::{Histogram, Span};

use crate::kahan::Sum;

/// What a bucket can hold: a plain count, or one with its rounding error beside it.
pub(super) trait Tally: Copy + Debug + PartialEq {
    fn of(count: f64) -> Self;
    fn absorb(&mut self, other: Self);
    fn is_zero(self) -> bool;
    fn scaled(self, factor: f64) -> Self;
    fn total(self) -> f64;
}

impl Tally for f64 {
    fn of(count: f64) -> Self {
        count
    }

    fn absorb(&mut self, other: Self) {
        *self += other;
    }

    fn is_zero(self) -> bool {
        self == 0.0
    }

    fn scaled(self, factor: f64) -> Self {
        self * factor
    }

    fn total(self) -> f64 {
        self
    }
}

impl Tally for Sum {
    fn of(count: f64) -> Self {
        Sum::new(count)
    }

    fn absorb(&mut self, other: Self) {
        Sum::absorb(self, other);
    }

    fn is_zero(self) -> bool {
        self.value() == 0.0 && self.compensation() == 0.0
    }

    fn scaled(self, factor: f64) -> Self {
        Sum::scaled(self, factor)
    }

    fn total(self) -> f64 {
        Sum::total(self)
    }
}

/// The index that a bucket has after `steps` halvings of the resolution.
pub(super) fn coarse_index(index: i64, steps: u32) -> i64 {
    ((index - 1) >> steps.min(63)) + 1
}

/// A run of buckets in the order of their indexes, after `steps` halvings of the resolution.
pub(super) fn coarse_run(
    mut fine: impl Iterator<Item = (i64, f64)>,
    steps: u32,
) -> impl Iterator<Item = (i64, f64)> {
    let mut held: Option<(i64, f64)> = None;
    iter::from_fn(move || {
        for (index, count) in fine.by_ref() {
            let index = if steps == 0 { index } else { coarse_index(index, steps) };
            match &mut held {
                Some((same, total)) if *same == index => *total += count,
                _ => {
                    if let Some(done) = held.replace((index, count)) {
                        return Some(done);
                    }
                }
            }
        }
        held.take()
    })
}

/// Buckets of one sign, away from zero.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Buckets<T> {
    pub(super) spans: Vec<Span>,
    pub(super) counts: Vec<T>,
}

impl<T: Tally> Buckets<T> {
    pub(super) fn from_counts(spans: &[Span], counts: &[f64]) -> Self {
        Self { spans: spans.to_vec(), counts: counts.iter().map(|c| T::of(*c)).collect() }
    }

    pub(super) fn iter(&self) -> Indexed<'_, T> {
        Indexed::new(&self.spans, &self.counts)
    }

    pub(super) fn for_each_count(&mut self, change: impl Fn(T) -> T) {
        for count in &mut self.counts {
            *count = change(*count);
        }
    }

    /// Drops the buckets for which `keep` does not hold.
    pub(super) fn retain(&mut self, keep: impl Fn(i64, T) -> bool) {
        let mut kept = Builder::with_capacity(self.counts.len());
        self.iter().filter(|(i, c)| keep(*i, *c)).for_each(|(i, c)| kept.add(i, c));
        *self = kept.finish();
    }

    /// Drops empty buckets and leaves the shortest list of spans.
    pub(super) fn compact(&mut self) {
        if !self.is_compact() {
            self.retain(|_, count| !count.is_zero());
        }
    }

    fn is_compact(&self) -> bool {
        let tight = |(i, span): (usize, &Span)| span.length > 0 && (i == 0 || span.offset > 0);
        let spanned = self.spans.iter().map(|s| u64::from(s.length)).sum::<u64>();
        self.spans.iter().enumerate().all(tight)
            && spanned == self.counts.len() as u64
            && !self.counts.iter().any(|c| c.is_zero())
    }

    /// Halves the resolution `steps` times.
    pub(super) fn coarsen(&mut self, steps: u32) {
        if steps == 0 {
            return;
        }
        let mut merged = Builder::with_capacity(self.counts.len());
        self.iter().for_each(|(i, c)| merged.add(coarse_index(i, steps), c));
        *self = merged.finish();
    }

    /// Adds buckets that come in ascending order of their index.
    pub(super) fn merge(&mut self, incoming: impl Iterator<Item = (i64, T)>) {
        let mut merged = Builder::with_capacity(self.counts.len() + incoming.size_hint().0);
        let (mut own, mut incoming) = (self.iter().peekable(), incoming.peekable());
        while let Some((theirs, _)) = incoming.peek() {
            let next = match own.next_if(|(ours, _)| ours <= theirs) {
                Some(bucket) => Some(bucket),
                None => incoming.next(),
            };
            if let Some((index, count)) = next {
                merged.add(index, count);
            }
        }
        own.for_each(|(i, c)| merged.add(i, c));
        *self = merged.finish();
    }
}

/// Makes spans of ascending indexes. An index that comes again adds to the bucket it has.
#[derive(Debug)]
pub(super) struct Builder<T> {
    buckets: Buckets<T>,
    /// One behind the last index.
    end: i64,
}

impl<T: Tally> Builder<T> {
    pub(super) fn with_capacity(counts: usize) -> Self {
        Self { buckets: Buckets { spans: Vec::new(), counts: Vec::with_capacity(counts) }, end: 0 }
    }

    pub(super) fn add(&mut self, index: i64, count: T) {
        let gap = index.saturating_sub(self.end);
        match (self.buckets.spans.last_mut(), self.buckets.counts.last_mut()) {
            (Some(_), Some(last)) if gap < 0 => return last.absorb(count),
            (Some(span), _) if gap == 0 && span.length < u32::MAX => span.length += 1,
            _ => {
                // Buckets further apart than that lie beyond every float.
                let offset = gap.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
                self.buckets.spans.push(Span { offset, length: 1 });
            }
        }
        self.buckets.counts.push(count);
        self.end = index.saturating_add(1);
    }

    pub(super) fn finish(self) -> Buckets<T> {
        self.buckets
    }
}

/// The positive buckets of a histogram, or all of one with custom buckets.
pub(super) fn positive_run(h: &Histogram) -> Indexed<'_, f64> {
    Indexed::new(&h.positive_spans, &h.positive_counts)
}

/// The negative buckets of a histogram.
pub(super) fn negative_run(h: &Histogram) -> Indexed<'_, f64> {
    Indexed::new(&h.negative_spans, &h.negative_counts)
}

/// Walks buckets with their indexes, from both ends.
#[derive(Debug, Clone)]
pub(super) struct Indexed<'a, T> {
    spans: &'a [Span],
    counts: &'a [T],
    front: Cursor,
    back: Cursor,
}

/// A place between two buckets.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    span: usize,
    in_span: u32,
    /// Index of the bucket behind this place.
    index: i64,
    /// Number of buckets before this place.
    at: usize,
}

impl<'a, T: Copy> Indexed<'a, T> {
    pub(super) fn new(spans: &'a [Span], counts: &'a [T]) -> Self {
        let index = spans.first().map_or(0, |s| i64::from(s.offset));
        let front = Cursor { index, ..Cursor::default() };
        // The back end stands where the spans or the counts end, whichever is first.
        let mut back = Cursor::default();
        for (i, span) in spans.iter().enumerate() {
            let room = (counts.len() - back.at).min(span.length as usize);
            back.span = i;
            back.in_span = room as u32;
            back.index = back.index.saturating_add(i64::from(span.offset)).saturating_add(room as i64);
            back.at += room;
            if back.at == counts.len() && room < span.length as usize {
                break;
            }
        }
        Self { spans, counts, front, back }
    }
}

impl<'a, T: Copy> Indexed<'a, T> {
    /// The counts of two runs beside each other, if neither has been walked and both have the
    /// very same buckets, as the samples of one series mostly do.
    pub(super) fn side_by_side(&self, other: &Self) -> Option<impl Iterator<Item = (T, T)> + use<'a, T>> {
        let whole = |run: &Self| run.front.at == 0 && run.back.at == run.counts.len();
        let same = self.spans == other.spans && self.counts.len() == other.counts.len();
        (same && whole(self) && whole(other))
            .then(|| self.counts.iter().copied().zip(other.counts.iter().copied()))
    }
}

impl<T: Copy> Iterator for Indexed<'_, T> {
    type Item = (i64, T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.front.at >= self.back.at {
            return None;
        }
        while self.front.in_span >= self.spans[self.front.span].length {
            self.front.span += 1;
            self.front.in_span = 0;
            self.front.index = self.front.index.saturating_add(i64::from(self.spans[self.front.span].offset));
        }
        let found = (self.front.index, self.counts[self.front.at]);
        self.front.in_span += 1;
        self.front.index = self.front.index.saturating_add(1);
        self.front.at += 1;
        Some(found)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.back.at - self.front.at;
        (left, Some(left))
    }
}

impl<T: Copy> DoubleEndedIterator for Indexed<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front.at >= self.back.at {
            return None;
        }
        while self.back.in_span == 0 {
            self.back.index = self.back.index.saturating_sub(i64::from(self.spans[self.back.span].offset));
            self.back.span -= 1;
            self.back.in_span = self.spans[self.back.span].length;
        }
        self.back.in_span -= 1;
        self.back.index = self.back.index.saturating_sub(1);
        self.back.at -= 1;
        Some((self.back.index, self.counts[self.back.at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    fn walk(spans: &[Span], counts: &[f64]) -> Vec<(i64, f64)> {
        let forward: Vec<_> = Indexed::new(spans, counts).collect();
        let mut backward: Vec<_> = Indexed::new(spans, counts).rev().collect();
        backward.reverse();
        assert_eq!(forward, backward);
        forward
    }

    #[test]
    fn buckets_are_walked_from_both_ends() {
        assert_eq!(walk(&[], &[]), []);
        assert_eq!(walk(&[span(-2, 1), span(1, 2)], &[1.0, 2.0, 3.0]), [(-2, 1.0), (0, 2.0), (1, 3.0)]);
        // Spans of length zero only move the index.
        let spans = [span(1, 0), span(2, 1), span(3, 0), span(0, 0), span(1, 1), span(7, 0)];
        assert_eq!(walk(&spans, &[1.0, 2.0]), [(3, 1.0), (8, 2.0)]);
        // What does not fit is ignored.
        assert_eq!(walk(&[span(0, 3), span(2, 2)], &[1.0, 2.0]), [(0, 1.0), (1, 2.0)]);
        assert_eq!(walk(&[span(0, 1)], &[1.0, 2.0]), [(0, 1.0)]);
        assert_eq!(walk(&[], &[1.0]), []);
        assert_eq!(walk(&[span(0, 2)], &[]), []);
    }

    #[test]
    fn the_two_ends_meet() {
        let spans = [span(0, 2), span(1, 2)];
        let mut walk = Indexed::new(&spans, &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(walk.next(), Some((0, 1.0)));
        assert_eq!(walk.next_back(), Some((4, 4.0)));
        assert_eq!(walk.next_back(), Some((3, 3.0)));
        assert_eq!(walk.next(), Some((1, 2.0)));
        assert_eq!((walk.next(), walk.next_back()), (None, None));
    }

    #[test]
    fn compacting_drops_empty_buckets() {
        let mut buckets = Buckets {
            spans: vec![span(0, 3), span(0, 2), span(4, 1), span(0, 0)],
            counts: vec![0.0, 1.0, 0.0, 0.0, 2.0, 0.0],
        };
        buckets.compact();
        assert_eq!(buckets, Buckets { spans: vec![span(1, 1), span(2, 1)], counts: vec![1.0, 2.0] });
        let mut touching = Buckets { spans: vec![span(0, 1), span(0, 1)], counts: vec![1.0, 2.0] };
        touching.compact();
        assert_eq!(touching, Buckets { spans: vec![span(0, 2)], counts: vec![1.0, 2.0] });
    }

    #[test]
    fn coarser_buckets_take_the_finer_ones_in() {
        let mut buckets = Buckets { spans: vec![span(-1, 4)], counts: vec![1.0, 2.0, 4.0, 8.0] };
        buckets.coarsen(1);
        assert_eq!(buckets, Buckets { spans: vec![span(0, 2)], counts: vec![3.0, 12.0] });
        assert_eq!([-3, -2, -1, 0, 1, 2, 3, 4, 5].map(|i| coarse_index(i, 2)), [0, 0, 0, 0, 1, 1, 1, 1, 2]);
    }

    #[test]
    fn merging_keeps_every_bucket() {
        let mut buckets = Buckets { spans: vec![span(1, 2), span(3, 1)], counts: vec![1.0, 2.0, 3.0] };
        buckets.merge([(0, 10.0), (2, 10.0), (3, 10.0), (9, 0.0)].into_iter());
        assert_eq!(
            walk(&buckets.spans, &buckets.counts),
            [(0, 10.0), (1, 1.0), (2, 12.0), (3, 10.0), (6, 3.0), (9, 0.0)]
        );
        assert_eq!(buckets.spans, [span(0, 4), span(2, 1), span(2, 1)]);
    }
}
