//! One series of the head: its open chunk and whatever does not fit into it.

use std::sync::Arc;

use pilothouse_model::{Histogram, SampleColumns, SampleValue};

use crate::codec::HeadChunk;
use crate::merge::{Merge, remove_range};

/// A chunk is closed at this many samples, so that a look into it stays cheap when one series
/// gets far more samples than its group.
const CHUNK_SAMPLES: usize = 240;
/// Late samples kept as a sorted list before they become a chunk.
const LATE_SAMPLES: usize = 128;

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Stored,
    /// It is there already, bit for bit.
    Same,
    /// Another value is there.
    Duplicate,
    /// Older than the window for late samples.
    OutOfOrder,
}

/// The samples of a series that are in memory only.
#[derive(Debug, Default)]
pub(crate) struct Open {
    chunk: HeadChunk,
    rest: Option<Box<Rest>>,
}

/// What most series do not have.
#[derive(Debug, Default)]
struct Rest {
    /// Full chunks and chunks of late samples; their times may overlap.
    closed: Vec<HeadChunk>,
    /// Late samples in ascending time.
    late: Vec<(i64, f64)>,
    /// In ascending time.
    histograms: Vec<(i64, Arc<Histogram>)>,
    histogram_bytes: usize,
}

#[derive(Debug)]
enum Held {
    Float(u64),
    Histogram(Arc<Histogram>),
}

impl Open {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunk.is_empty() && self.rest.as_ref().is_none_or(|r| r.is_empty())
    }

    pub(crate) fn len(&self) -> usize {
        self.chunk.len() + self.rest.as_ref().map_or(0, |r| r.len())
    }

    pub(crate) fn chunks(&self) -> usize {
        usize::from(!self.chunk.is_empty())
            + self.rest.as_ref().map_or(0, |r| r.closed.len() + usize::from(!r.histograms.is_empty()))
    }

    /// Bytes allocated beside the struct itself.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.chunk.heap_bytes() + self.rest.as_ref().map_or(0, |r| r.heap_bytes())
    }

    /// First and last time; `None` while empty.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        let chunk = self.chunk.first_t().zip(self.chunk.last_t());
        let Some(rest) = &self.rest else { return chunk };
        let late = rest.late.first().zip(rest.late.last()).map(|(a, b)| (a.0, b.0));
        let histograms = rest.histograms.first().zip(rest.histograms.last()).map(|(a, b)| (a.0, b.0));
        let closed = rest.closed.iter().filter_map(|c| c.first_t().zip(c.last_t()));
        closed.chain(chunk).chain(late).chain(histograms).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Appends a sample newer than all others.
    #[inline]
    fn push(&mut self, t_ms: i64, value: f64) {
        if self.chunk.len() >= CHUNK_SAMPLES {
            let full = std::mem::take(&mut self.chunk);
            self.rest_mut().closed.push(full);
        }
        self.chunk.append(t_ms, value);
    }

    fn push_late(&mut self, t_ms: i64, value: f64) {
        let rest = self.rest_mut();
        let at = rest.late.partition_point(|(t, _)| *t < t_ms);
        rest.late.insert(at, (t_ms, value));
        if rest.late.len() >= LATE_SAMPLES {
            let mut chunk = HeadChunk::new();
            rest.late.drain(..).for_each(|(t, v)| chunk.append(t, v));
            rest.closed.push(chunk);
        }
    }

    fn push_histogram(&mut self, t_ms: i64, histogram: Histogram) {
        let rest = self.rest_mut();
        let at = rest.histograms.partition_point(|(t, _)| *t < t_ms);
        rest.histogram_bytes += histogram_bytes(&histogram);
        rest.histograms.insert(at, (t_ms, Arc::new(histogram)));
    }

    fn rest_mut(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// What is held at a time.
    fn at(&self, t_ms: i64) -> Option<Held> {
        let in_chunk = |chunk: &HeadChunk| {
            let within = chunk.first_t() <= Some(t_ms) && chunk.last_t() >= Some(t_ms);
            let found = within.then(|| chunk.iter().find(|(t, _)| *t >= t_ms)).flatten();
            found.filter(|(t, _)| *t == t_ms).map(|(_, v)| Held::Float(v.to_bits()))
        };
        if let Some(rest) = &self.rest {
            if let Ok(i) = rest.late.binary_search_by_key(&t_ms, |l| l.0) {
                return Some(Held::Float(rest.late[i].1.to_bits()));
            }
            if let Ok(i) = rest.histograms.binary_search_by_key(&t_ms, |h| h.0) {
                return Some(Held::Histogram(rest.histograms[i].1.clone()));
            }
            if let Some(held) = rest.closed.iter().rev().find_map(in_chunk) {
                return Some(held);
            }
        }
        in_chunk(&self.chunk)
    }

    /// Appends what lies between two times, both inclusive, in ascending order.
    pub(crate) fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) {
        let Some(rest) = &self.rest else { return self.chunk.read_range(start_ms, end_ms, out) };
        let mut own = SampleColumns::default();
        let mut merge = Merge::new(&mut own);
        self.read_runs(rest, start_ms, end_ms, &mut merge);
        merge.finish();
        out.times_ms.append(&mut own.times_ms);
        out.values.append(&mut own.values);
        out.histograms.append(&mut own.histograms);
    }

    fn read_runs(&self, rest: &Rest, start_ms: i64, end_ms: i64, merge: &mut Merge<'_>) {
        for chunk in rest.closed.iter().chain([&self.chunk]) {
            merge.run(|c| chunk.read_range(start_ms, end_ms, c));
        }
        let within = |t: i64| (start_ms..=end_ms).contains(&t);
        merge.run(|c| rest.late.iter().filter(|l| within(l.0)).for_each(|l| c.push_float(l.0, l.1)));
        merge.run(|c| c.histograms.extend(rest.histograms.iter().filter(|h| within(h.0)).cloned()));
    }

    /// Takes out what lies between two times, both inclusive; returns how many samples that were.
    pub(crate) fn remove(&mut self, start_ms: i64, end_ms: i64) -> usize {
        if self.span().is_none_or(|(first, last)| first > end_ms || last < start_ms) {
            return 0;
        }
        let before = self.len();
        let mut kept = SampleColumns::default();
        self.read(i64::MIN, i64::MAX, &mut kept);
        remove_range(&mut kept, start_ms, end_ms);
        *self = Self::default();
        for (t, v) in kept.times_ms.iter().zip(&kept.values) {
            self.push(*t, *v);
        }
        for (t, histogram) in kept.histograms {
            self.push_histogram(t, Arc::unwrap_or_clone(histogram));
        }
        before.saturating_sub(self.len())
    }
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.late.is_empty() && self.histograms.is_empty()
    }

    fn len(&self) -> usize {
        self.closed.iter().map(HeadChunk::len).sum::<usize>() + self.late.len() + self.histograms.len()
    }

    fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.closed.iter().map(|c| c.heap_bytes() + size_of::<HeadChunk>()).sum::<usize>()
            + self.late.capacity() * size_of::<(i64, f64)>()
            + self.histogram_bytes
    }
}

fn histogram_bytes(h: &Histogram) -> usize {
    size_of::<Histogram>()
        + 32
        + (h.positive_counts.len() + h.negative_counts.len() + h.custom_bounds.len()) * 8
        + (h.positive_spans.len() + h.negative_spans.len()) * 8
}

/// A series in the head: its open samples and what is known of its newest one.
#[derive(Debug)]
pub(crate) struct HeadSeries {
    pub(crate) open: Open,
    /// Newest time since the start of the process; `i64::MIN` if none.
    last_t: i64,
    last_bits: u64,
    /// Minute of the newest arrival, see [`pilothouse_model::active`].
    pub(crate) minute: u32,
    last_is_histogram: bool,
    /// Does not count towards the limit of active series.
    pub(crate) internal: bool,
}

impl Default for HeadSeries {
    fn default() -> Self {
        Self {
            open: Open::default(),
            last_t: i64::MIN,
            last_bits: 0,
            minute: 0,
            last_is_histogram: false,
            internal: false,
        }
    }
}

impl HeadSeries {
    /// Takes a float; `window_ms` is how much older than the newest sample it may be.
    #[inline]
    pub(crate) fn append(&mut self, t_ms: i64, value: f64, window_ms: u64) -> Taken {
        if t_ms > self.last_t {
            self.open.push(t_ms, value);
            (self.last_t, self.last_bits, self.last_is_histogram) = (t_ms, value.to_bits(), false);
            return Taken::Stored;
        }
        self.append_late(t_ms, value, window_ms)
    }

    #[cold]
    fn append_late(&mut self, t_ms: i64, value: f64, window_ms: u64) -> Taken {
        if t_ms == self.last_t && !self.last_is_histogram {
            return if value.to_bits() == self.last_bits { Taken::Same } else { Taken::Duplicate };
        }
        if self.last_t.abs_diff(t_ms) > window_ms {
            return Taken::OutOfOrder;
        }
        match self.open.at(t_ms) {
            Some(Held::Float(bits)) if bits == value.to_bits() => Taken::Same,
            Some(_) => Taken::Duplicate,
            None if t_ms == self.last_t => Taken::Duplicate,
            None => {
                self.open.push_late(t_ms, value);
                Taken::Stored
            }
        }
    }

    pub(crate) fn append_histogram(&mut self, t_ms: i64, histogram: &Histogram, window_ms: u64) -> Taken {
        if t_ms > self.last_t {
            self.open.push_histogram(t_ms, histogram.clone());
            (self.last_t, self.last_bits, self.last_is_histogram) = (t_ms, histogram.sum.to_bits(), true);
            return Taken::Stored;
        }
        if self.last_t.abs_diff(t_ms) > window_ms {
            return Taken::OutOfOrder;
        }
        match self.open.at(t_ms) {
            Some(Held::Histogram(held)) if same_histogram(&held, histogram) => Taken::Same,
            Some(_) => Taken::Duplicate,
            None => {
                self.open.push_histogram(t_ms, histogram.clone());
                Taken::Stored
            }
        }
    }

    /// Does again what was accepted before a restart: of equal times the later one stands.
    pub(crate) fn replay(&mut self, t_ms: i64, value: f64) {
        if self.append(t_ms, value, u64::MAX) == Taken::Duplicate {
            self.open.remove(t_ms, t_ms);
            self.open.push_late(t_ms, value);
            if t_ms == self.last_t {
                (self.last_bits, self.last_is_histogram) = (value.to_bits(), false);
            }
        }
    }

    pub(crate) fn replay_histogram(&mut self, t_ms: i64, histogram: &Histogram) {
        if self.append_histogram(t_ms, histogram, u64::MAX) == Taken::Duplicate {
            self.open.remove(t_ms, t_ms);
            self.open.push_histogram(t_ms, histogram.clone());
            if t_ms == self.last_t {
                (self.last_bits, self.last_is_histogram) = (histogram.sum.to_bits(), true);
            }
        }
    }

    /// Takes out the open samples between two times and forgets the newest sample if it is one
    /// of them.
    pub(crate) fn delete(&mut self, start_ms: i64, end_ms: i64) -> usize {
        if (start_ms..=end_ms).contains(&self.last_t) {
            self.last_t = i64::MIN;
        }
        let removed = self.open.remove(start_ms, end_ms);
        if self.last_t == i64::MIN
            && let Some((_, last)) = self.open.span()
        {
            self.relearn(last);
        }
        removed
    }

    fn relearn(&mut self, t_ms: i64) {
        match self.open.at(t_ms) {
            Some(Held::Float(bits)) => (self.last_bits, self.last_is_histogram) = (bits, false),
            Some(Held::Histogram(h)) => (self.last_bits, self.last_is_histogram) = (h.sum.to_bits(), true),
            None => return,
        }
        self.last_t = t_ms;
    }

    /// Newest time since the start of the process, if there was one.
    pub(crate) fn last_t(&self) -> Option<i64> {
        (self.last_t != i64::MIN).then_some(self.last_t)
    }

    /// The newest sample, if it is known without decoding.
    #[inline]
    pub(crate) fn last(&self) -> Option<(i64, SampleValue)> {
        let t = self.last_t()?;
        if !self.last_is_histogram {
            return Some((t, SampleValue::Float(f64::from_bits(self.last_bits))));
        }
        let (at, histogram) = self.open.rest.as_ref()?.histograms.last()?;
        (*at == t).then(|| (t, SampleValue::Histogram(histogram.clone())))
    }
}

/// Equal to the bit, as a repeated request would be. The reset hint is the sender's opinion and
/// does not make another sample.
fn same_histogram(a: &Histogram, b: &Histogram) -> bool {
    let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    (a.schema, &a.positive_spans, &a.negative_spans) == (b.schema, &b.positive_spans, &b.negative_spans)
        && bits(&[a.zero_threshold, a.zero_count, a.count, a.sum])
            == bits(&[b.zero_threshold, b.zero_count, b.count, b.sum])
        && bits(&a.positive_counts) == bits(&b.positive_counts)
        && bits(&a.negative_counts) == bits(&b.negative_counts)
        && bits(&a.custom_bounds) == bits(&b.custom_bounds)
}
