//! Streams, label names and values, and how much there is of what: answered from the postings
//! and the tables of blocks, without a look at any block.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use pilothouse_index::{PostingsSource as _, RoaringBitmap, resolve};
use pilothouse_model::log_ports::{LogStats, StreamVolume};
use pilothouse_model::{Budget, Labels, Matcher, StreamQuery};
use rustc_hash::FxBuildHasher;

use crate::day::bounds_of;
use crate::day::day_of;
use crate::day::one::Day;
use crate::day::table::{Row, Span};
use crate::error::Error;
use crate::read::{bits_of, has_bit};
use crate::store::Inner;
use crate::tail::TailStream;

/// Buckets among which one span is shared out; one that is longer counts where it ends.
const MAX_SHARES: u64 = 10_000;

/// A range of time, start inclusive, end exclusive.
type Range = (i64, i64);

impl Inner {
    /// The streams that any of the sets selects; all if there is none.
    fn matching(&self, sets: &[Vec<Matcher>], budget: &Budget) -> Result<RoaringBitmap, Error> {
        let registry = self.registry.read();
        if sets.is_empty() {
            return Ok(registry.index.ids().clone());
        }
        let mut all = RoaringBitmap::new();
        for set in sets {
            all |= resolve(&registry.index, set, budget)?;
        }
        Ok(all)
    }

    fn range_of(&self, query: &StreamQuery) -> Range {
        (query.start_ns.max(self.oldest_ns(self.now_ms())), query.end_ns)
    }

    fn days_of(&self, (start_ns, end_ns): Range) -> Vec<Arc<Day>> {
        if start_ns >= end_ns { Vec::new() } else { self.days.range(day_of(start_ns), day_of(end_ns - 1)) }
    }

    /// Those of the matching streams that have entries in the range.
    fn present(&self, query: &StreamQuery, budget: &Budget) -> Result<RoaringBitmap, Error> {
        let matching = self.matching(&query.matcher_sets, budget)?;
        let range = self.range_of(query);
        let mut missing = matching.clone();
        self.each_tail(&matching, range, |stream| {
            missing.remove(stream.id);
        });
        for block in self.layers.read().fresh.iter().filter(|b| b.row.overlaps(range.0, range.1)) {
            block.spans.iter().filter(|s| s.overlaps(range.0, range.1)).for_each(|s| {
                missing.remove(s.stream);
            });
        }
        for day in self.days_of(range) {
            budget.check("listing streams")?;
            let (start_ns, end_ns) = bounds_of(day.number);
            let of_day = {
                let days = self.day_streams.read();
                let Some(of_day) = days.get(&day.number) else { continue };
                if range.0 <= start_ns && end_ns <= range.1 {
                    missing -= of_day;
                    continue;
                }
                of_day & &missing
            };
            if of_day.is_empty() {
                continue;
            }
            let view = self.days.view(&day)?;
            for segment in view.segments.iter().filter(|s| s.table.overlaps(range.0, range.1)) {
                remove_present(&mut missing, segment.table.blocks(), range);
            }
        }
        Ok(matching - missing)
    }

    /// Visits the matching streams in memory that have entries in a range.
    fn each_tail(&self, matching: &RoaringBitmap, range: Range, mut visit: impl FnMut(&TailStream)) {
        let layers = self.layers.read().clone();
        for group in layers.open.iter().chain(layers.cuts.iter().map(|c| &c.tail)) {
            for stream in &group.tail.read().streams {
                let inside = stream.entries > 0 && stream.first_ns < range.1 && stream.last_ns >= range.0;
                if inside && matching.contains(stream.id) {
                    visit(stream);
                }
            }
        }
    }

    pub(crate) fn label_names(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<String>, Error> {
        let present = self.present(query, budget)?;
        let registry = self.registry.read();
        let names = registry.index.names()?;
        Ok(pilothouse_index::resolve::names_within(&registry.index, names, &present)?)
    }

    pub(crate) fn label_values(
        &self,
        name: &str,
        query: &StreamQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, Error> {
        let present = self.present(query, budget)?;
        let registry = self.registry.read();
        Ok(pilothouse_index::resolve::values_within(&registry.index, name, Some(&present), budget)?)
    }

    pub(crate) fn streams(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<Labels>, Error> {
        let present = self.present(query, budget)?;
        let registry = self.registry.read();
        let mut streams: Vec<Labels> =
            present.iter().filter_map(|id| registry.get(id).map(|s| s.labels.clone())).collect();
        streams.sort_unstable();
        Ok(streams)
    }

    pub(crate) fn log_stats(&self, query: &StreamQuery, budget: &Budget) -> Result<LogStats, Error> {
        let mut sums = Sums::new(self.matching(&query.matcher_sets, budget)?, self.range_of(query), 0, 0);
        self.sum(&mut sums, budget)?;
        if sums.streams.is_empty() {
            return Ok(LogStats::default());
        }
        let mut stats =
            LogStats { streams: sums.streams.len() as u64, chunks: sums.chunks, ..LogStats::default() };
        for (bytes, entries) in sums.streams.values().flat_map(|buckets| buckets.values()) {
            stats.bytes += bytes;
            stats.entries += entries;
        }
        Ok(stats)
    }

    pub(crate) fn volume(
        &self,
        query: &StreamQuery,
        period_ns: i64,
        budget: &Budget,
    ) -> Result<Vec<StreamVolume>, Error> {
        let matching = self.matching(&query.matcher_sets, budget)?;
        let mut sums = Sums::new(matching, self.range_of(query), query.start_ns, period_ns);
        self.sum(&mut sums, budget)?;
        let registry = self.registry.read();
        let volumes = sums.streams.into_iter().filter_map(|(id, buckets)| {
            let labels = registry.get(id)?.labels.clone();
            let buckets = buckets.into_iter().map(|(k, (bytes, entries))| (k, bytes, entries)).collect();
            Some(StreamVolume { labels, buckets })
        });
        Ok(volumes.collect())
    }

    fn sum(&self, sums: &mut Sums, budget: &Budget) -> Result<(), Error> {
        let exclusion = {
            let layers = self.layers.read();
            for block in &layers.fresh {
                sums.block(&block.row, &block.spans);
            }
            layers.exclusion()
        };
        let (matching, range) = (sums.matching.clone(), sums.range);
        self.each_tail(&matching, range, |stream| sums.tail(stream));
        sums.chunks += self.layers.read().open.len() as u64;
        for day in self.days_of(range) {
            budget.check("summing up streams")?;
            let known = self.day_streams.read().get(&day.number).is_some_and(|s| !s.is_disjoint(&matching));
            if !known {
                continue;
            }
            let view = self.days.view(&day)?;
            for segment in view.segments.iter().filter(|s| s.table.overlaps(range.0, range.1)) {
                for (row, spans) in segment.table.blocks().filter(|(row, _)| !exclusion.excludes(row)) {
                    sums.block(row, spans);
                }
            }
        }
        Ok(())
    }
}

fn remove_present<'a>(
    missing: &mut RoaringBitmap,
    blocks: impl Iterator<Item = (&'a Row, &'a [Span])>,
    (start_ns, end_ns): Range,
) {
    let mut bits = bits_of(missing);
    for (row, spans) in blocks {
        if !row.overlaps(start_ns, end_ns) {
            continue;
        }
        for span in spans {
            if has_bit(&bits, span.stream) && span.overlaps(start_ns, end_ns) {
                missing.remove(span.stream);
                if let Some(word) = bits.get_mut(span.stream as usize / 64) {
                    *word &= !(1 << (span.stream % 64));
                }
            }
        }
    }
}

/// Bytes and entries by stream and bucket.
struct Sums {
    matching: RoaringBitmap,
    bits: Vec<u64>,
    range: Range,
    origin_ns: i64,
    period_ns: i64,
    streams: HashMap<u32, BTreeMap<i64, (u64, u64)>, FxBuildHasher>,
    chunks: u64,
}

impl Sums {
    fn new(matching: RoaringBitmap, range: Range, origin_ns: i64, period_ns: i64) -> Self {
        let bits = bits_of(&matching);
        Self { matching, bits, range, origin_ns, period_ns, streams: HashMap::default(), chunks: 0 }
    }

    fn bucket(&self, t_ns: i64) -> i64 {
        if self.period_ns <= 0 { 0 } else { t_ns.saturating_sub(self.origin_ns).div_euclid(self.period_ns) }
    }

    fn add(&mut self, stream: u32, bucket: i64, bytes: u64, entries: u64) {
        let sum = self.streams.entry(stream).or_default().entry(bucket).or_default();
        sum.0 += bytes;
        sum.1 += entries;
    }

    fn block(&mut self, row: &Row, spans: &[Span]) {
        if !row.overlaps(self.range.0, self.range.1) {
            return;
        }
        let mut any = false;
        for span in spans {
            if has_bit(&self.bits, span.stream) && span.overlaps(self.range.0, self.range.1) {
                any = true;
                self.span(span);
            }
        }
        self.chunks += u64::from(any);
    }

    /// A span that crosses a border is shared out by time, as if its entries lay evenly.
    fn span(&mut self, span: &Span) {
        let bytes = u64::from(span.bytes) + u64::from(span.metadata_bytes);
        let (first, last) = (self.bucket(span.min_ns), self.bucket(span.max_ns));
        if span.lies_within(self.range.0, self.range.1) && first == last {
            return self.add(span.stream, first, bytes, u64::from(span.entries));
        }
        if last.abs_diff(first) > MAX_SHARES {
            return self.add(
                span.stream,
                self.bucket(span.max_ns.min(self.range.1 - 1)),
                bytes,
                u64::from(span.entries),
            );
        }
        let (from, to) = (span.min_ns.max(self.range.0), span.max_ns.min(self.range.1 - 1));
        let length = (i128::from(span.max_ns) - i128::from(span.min_ns) + 1).max(1);
        let mut start = from;
        loop {
            let bucket = self.bucket(start);
            let end = match self.period_ns {
                ..=0 => to,
                period => (bucket + 1)
                    .saturating_mul(period)
                    .saturating_add(self.origin_ns.saturating_sub(1))
                    .min(to),
            };
            let share = |n: u64| {
                let part = i128::from(end) - i128::from(start) + 1;
                ((i128::from(n) * part + length / 2) / length) as u64
            };
            let (bytes, entries) = (share(bytes), share(u64::from(span.entries)));
            if bytes > 0 || entries > 0 {
                self.add(span.stream, bucket, bytes, entries);
            }
            if end >= to {
                return;
            }
            start = end + 1;
        }
    }

    fn tail(&mut self, stream: &TailStream) {
        let extra = (stream.metadata_volume / stream.entries.max(1)) as u64;
        for run in &stream.runs {
            let range = run.range(self.range.0, self.range.1);
            let mut at = range.start;
            while at < range.end {
                let Some(t_ns) = run.times_ns.get(at) else { return };
                let bucket = self.bucket(*t_ns);
                let rest = run.times_ns.get(at..range.end).unwrap_or(&[]);
                let entries = rest.partition_point(|t| self.bucket(*t) == bucket);
                let next = at + entries.max(1);
                let bytes = u64::from(run.start(next) - run.start(at)) + extra * entries as u64;
                self.add(stream.id, bucket, bytes, entries as u64);
                at = next;
            }
        }
    }
}
