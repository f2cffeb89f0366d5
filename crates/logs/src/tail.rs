//! Lines that are not in a block yet: columns in memory, by group and stream.
//!
//! A group is open until it is cut. Then a new one takes its place and the old one never changes
//! again, so that whoever holds it can go on reading.

use hashbrown::{HashMap, HashSet};
use parking_lot::RwLock;
use pilothouse_disk::Position;
use pilothouse_model::Labels;
use rustc_hash::FxBuildHasher;
use xxhash_rust::xxh3::xxh3_64;

/// Runs of a stream before they are merged into one.
const MAX_RUNS: usize = 16;
/// Entries at one time before their hashes are kept to find duplicates by.
const FEW_AT_ONE_TIME: usize = 32;

/// Entries of one stream in ascending time.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) times_ns: Vec<i64>,
    pub(crate) text: String,
    /// Where lines end in the text.
    pub(crate) ends: Vec<u32>,
    /// Numbers of metadata sets; empty while no entry has any.
    pub(crate) metadata: Vec<u32>,
}

impl Run {
    fn with_capacity(entries: usize, bytes: usize) -> Self {
        Self {
            times_ns: Vec::with_capacity(entries),
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(entries),
            metadata: Vec::new(),
        }
    }

    #[inline]
    fn push(&mut self, t_ns: i64, line: &str, set: u32) {
        if set != 0 && self.metadata.is_empty() {
            self.metadata.resize(self.times_ns.len(), 0);
        }
        self.times_ns.push(t_ns);
        self.text.push_str(line);
        self.ends.push(self.text.len() as u32);
        if set != 0 || !self.metadata.is_empty() {
            self.metadata.push(set);
        }
    }

    pub(crate) fn start(&self, i: usize) -> u32 {
        i.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn line(&self, i: usize) -> &str {
        let end = self.ends.get(i).copied().unwrap_or(0);
        self.text.get(self.start(i) as usize..end as usize).unwrap_or("")
    }

    /// Some lines, one behind the other.
    pub(crate) fn lines(&self, entries: &std::ops::Range<usize>) -> &str {
        let bytes = self.start(entries.start) as usize..self.start(entries.end) as usize;
        self.text.get(bytes).unwrap_or("")
    }

    pub(crate) fn set(&self, i: usize) -> u32 {
        self.metadata.get(i).copied().unwrap_or(0)
    }

    fn last_ns(&self) -> i64 {
        self.times_ns.last().copied().unwrap_or(i64::MIN)
    }

    pub(crate) fn first_ns(&self) -> i64 {
        self.times_ns.first().copied().unwrap_or(i64::MAX)
    }

    /// The entries with `start <= t < end`.
    pub(crate) fn range(&self, start_ns: i64, end_ns: i64) -> std::ops::Range<usize> {
        // Most queries want all that is in memory, and a search looks at times all over it.
        let (first_ns, last_ns) = (self.first_ns(), self.last_ns());
        let before = |t_ns: i64| match t_ns {
            t_ns if t_ns <= first_ns => 0,
            t_ns if t_ns > last_ns => self.times_ns.len(),
            t_ns => self.times_ns.partition_point(|t| *t < t_ns),
        };
        let from = before(start_ns);
        from..before(end_ns).max(from)
    }

    /// The entries at one time.
    fn at(&self, t_ns: i64) -> std::ops::Range<usize> {
        if t_ns < self.first_ns() || t_ns > self.last_ns() {
            return 0..0;
        }
        let from = self.times_ns.partition_point(|t| *t < t_ns);
        from..from + self.times_ns[from..].partition_point(|t| *t == t_ns)
    }
}

/// Hashes of the lines at a time that has many.
#[derive(Debug)]
struct Crowd {
    t_ns: i64,
    hashes: HashSet<u64, FxBuildHasher>,
}

#[derive(Debug, Default)]
pub(crate) struct TailStream {
    pub(crate) id: u32,
    /// The first takes what comes in order; the others what comes late.
    pub(crate) runs: Vec<Run>,
    pub(crate) entries: usize,
    /// Bytes of lines and of metadata.
    pub(crate) bytes: usize,
    pub(crate) metadata_bytes: usize,
    /// The sum of [`metadata_volume`].
    pub(crate) metadata_volume: usize,
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
    crowd: Option<Crowd>,
}

impl TailStream {
    /// Whether the same line is here at the same time.
    pub(crate) fn contains(&mut self, t_ns: i64, line: &str) -> bool {
        let here = |run: &Run| run.at(t_ns).any(|i| run.line(i) == line);
        if self.entries == 0 || t_ns < self.first_ns || t_ns > self.last_ns {
            return false;
        }
        let crowd: usize = self.runs.iter().map(|run| run.at(t_ns).len()).sum();
        if crowd < FEW_AT_ONE_TIME {
            return self.runs.iter().any(here);
        }
        let Self { runs, crowd, .. } = self;
        if crowd.as_ref().is_none_or(|c| c.t_ns != t_ns) {
            let lines = runs.iter().flat_map(|run| run.at(t_ns).map(|i| xxh3_64(run.line(i).as_bytes())));
            *crowd = Some(Crowd { t_ns, hashes: lines.collect() });
        }
        let known = crowd.as_ref().is_some_and(|c| c.hashes.contains(&xxh3_64(line.as_bytes())));
        known && runs.iter().any(here)
    }

    #[inline]
    pub(crate) fn push(&mut self, t_ns: i64, line: &str, set: u32, (metadata_bytes, volume): (usize, usize)) {
        if self.entries == 0 {
            (self.first_ns, self.last_ns) = (t_ns, t_ns);
        }
        self.first_ns = self.first_ns.min(t_ns);
        self.last_ns = self.last_ns.max(t_ns);
        self.entries += 1;
        self.bytes += line.len() + metadata_bytes;
        self.metadata_bytes += metadata_bytes;
        self.metadata_volume += volume;
        if let Some(crowd) = self.crowd.as_mut().filter(|c| c.t_ns == t_ns) {
            crowd.hashes.insert(xxh3_64(line.as_bytes()));
        }
        match self.runs.iter_mut().find(|run| run.last_ns() <= t_ns) {
            Some(run) => run.push(t_ns, line, set),
            None => self.push_late(t_ns, line, set),
        }
    }

    #[cold]
    fn push_late(&mut self, t_ns: i64, line: &str, set: u32) {
        if self.runs.len() >= MAX_RUNS {
            self.runs = vec![self.merged()];
        }
        let mut run = Run::default();
        run.push(t_ns, line, set);
        self.runs.push(run);
    }

    /// All entries in ascending time, those of equal time in the order of the runs.
    fn merged(&self) -> Run {
        let mut merged = Run::with_capacity(self.entries, self.bytes - self.metadata_bytes);
        self.for_each(|t_ns, line, set| merged.push(t_ns, line, set));
        merged
    }

    /// The least time if there is no entry.
    pub(crate) fn newest_ns(&self) -> i64 {
        if self.entries == 0 { i64::MIN } else { self.last_ns }
    }

    /// Visits all entries in ascending time.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(i64, &str, u32)) {
        if let [run] = self.runs.as_slice() {
            for (i, t_ns) in run.times_ns.iter().enumerate() {
                visit(*t_ns, run.line(i), run.set(i));
            }
            return;
        }
        let places = self.runs.iter().enumerate();
        let mut order: Vec<(i64, u32, u32)> = places
            .flat_map(|(r, run)| run.times_ns.iter().enumerate().map(move |(i, t)| (*t, r as u32, i as u32)))
            .collect();
        order.sort_unstable();
        for (t_ns, r, i) in order {
            let run = &self.runs[r as usize];
            visit(t_ns, run.line(i as usize), run.set(i as usize));
        }
    }
}

/// What a stream held when its group was cut last: so much room the next one begins with.
pub(crate) type Sizes = HashMap<u32, (u32, u32), FxBuildHasher>;

/// The lines of one group.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) streams: Vec<TailStream>,
    by_id: HashMap<u32, u32, FxBuildHasher>,
    /// The first is empty.
    pub(crate) sets: Vec<Labels>,
    set_numbers: HashMap<Labels, u32, FxBuildHasher>,
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    /// From where on the log has entries of it, and when the first came.
    pub(crate) since: Option<(Position, i64)>,
    sizes: Sizes,
}

impl Tail {
    fn with_sizes(sizes: Sizes) -> Self {
        Self { sizes, ..Self::default() }
    }

    pub(crate) fn stream(&self, id: u32) -> Option<&TailStream> {
        self.streams.get(*self.by_id.get(&id)? as usize)
    }

    /// The place of a stream; made if it is not here yet.
    pub(crate) fn place(&mut self, id: u32) -> usize {
        if let Some(place) = self.by_id.get(&id) {
            return *place as usize;
        }
        let (entries, bytes) = self.sizes.get(&id).copied().unwrap_or((0, 0));
        let run = Run::with_capacity(entries as usize, bytes as usize);
        self.streams.push(TailStream { id, runs: vec![run], ..TailStream::default() });
        let place = self.streams.len() - 1;
        self.by_id.insert(id, place as u32);
        place
    }

    /// The metadata of the entry of a stream with this time and line.
    pub(crate) fn find(&mut self, id: u32, t_ns: i64, line: &str) -> Option<Option<Labels>> {
        let place = *self.by_id.get(&id)? as usize;
        let stream = self.streams.get_mut(place)?;
        if !stream.contains(t_ns, line) {
            return None;
        }
        let set = stream.runs.iter().find_map(|run| {
            let at = run.at(t_ns).find(|i| run.line(*i) == line)?;
            Some(run.set(at))
        });
        Some(set.filter(|set| *set != 0).and_then(|set| self.sets.get(set as usize).cloned()))
    }

    pub(crate) fn push(&mut self, place: usize, t_ns: i64, line: &str, metadata: &Labels) {
        let (set, metadata_bytes, volume) = match metadata.is_empty() {
            true => (0, 0, 0),
            false => (self.set_number(metadata), metadata_bytes(metadata), metadata_volume(metadata)),
        };
        let Some(stream) = self.streams.get_mut(place) else { return };
        stream.push(t_ns, line, set, (metadata_bytes, volume));
        self.entries += 1;
        self.bytes += line.len() + metadata_bytes;
    }

    fn set_number(&mut self, metadata: &Labels) -> u32 {
        if let Some(number) = self.set_numbers.get(metadata) {
            return *number;
        }
        if self.sets.is_empty() {
            self.sets.push(Labels::empty());
        }
        let number = self.sets.len() as u32;
        self.sets.push(metadata.clone());
        self.set_numbers.insert(metadata.clone(), number);
        number
    }

    /// Memory held, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes + self.entries * 16 + self.streams.len() * size_of::<TailStream>()
    }

    fn sizes(&self) -> Sizes {
        let room = |n: usize| u32::try_from(n + n / 8).unwrap_or(0);
        let of = |s: &TailStream| (s.id, (room(s.entries), room(s.bytes - s.metadata_bytes)));
        self.streams.iter().filter(|s| s.entries > 1).map(of).collect()
    }
}

/// What structured metadata adds to the volume of its stream, as Loki estimates it: two references
/// of four bytes for each pair, since a chunk holds the texts once.
pub(crate) fn metadata_volume(metadata: &Labels) -> usize {
    8 * metadata.len()
}

/// Bytes of structured metadata as Loki counts them against its limit.
pub(crate) fn metadata_bytes(metadata: &Labels) -> usize {
    metadata.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// A group that takes lines, or did until it was cut.
#[derive(Debug, Default)]
pub(crate) struct OpenGroup {
    pub(crate) tail: RwLock<Tail>,
}

impl OpenGroup {
    /// The one that takes the place of a group that is cut.
    pub(crate) fn after(cut: &Tail) -> Self {
        Self { tail: RwLock::new(Tail::with_sizes(cut.sizes())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    proptest::proptest! {
        #[test]
        fn a_tail_is_a_sorted_list(pushes in proptest::collection::vec((0u32..3, -50i64..50, 0u8..6, 0u8..3), 0..400)) {
            let mut tail = Tail::default();
            let mut model: BTreeMap<(u32, i64), Vec<String>> = BTreeMap::new();
            for (id, t_ns, line, set) in pushes {
                let line = format!("line {line}");
                let place = tail.place(id);
                let lines = model.entry((id, t_ns)).or_default();
                let known = lines.contains(&line);
                proptest::prop_assert_eq!(tail.streams[place].contains(t_ns, &line), known);
                if !known {
                    let labels = Labels::from_pairs((0..set).map(|i| (format!("m{i}"), "v")));
                    tail.push(place, t_ns, &line, &labels);
                    lines.push(line);
                }
            }
            for id in 0..3 {
                let mut found = Vec::new();
                if let Some(stream) = tail.stream(id) {
                    stream.for_each(|t_ns, line, _| found.push((t_ns, line.to_owned())));
                    proptest::prop_assert_eq!(stream.entries, found.len());
                }
                let mut expected: Vec<_> = model.range((id, i64::MIN)..=(id, i64::MAX))
                    .flat_map(|((_, t), lines)| lines.iter().map(|l| (*t, l.clone()))).collect();
                proptest::prop_assert!(found.windows(2).all(|w| w[0].0 <= w[1].0));
                found.sort();
                expected.sort();
                proptest::prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn many_lines_at_one_time_are_told_apart_without_looking_at_each() {
        let mut tail = Tail::default();
        let place = tail.place(1);
        for i in 0..20_000 {
            let line = format!("line {i}");
            assert!(!tail.streams[place].contains(7, &line));
            tail.push(place, 7, &line, &Labels::empty());
        }
        assert!(tail.streams[place].contains(7, "line 19999"));
        assert!(!tail.streams[place].contains(8, "line 19999"));
    }
}
