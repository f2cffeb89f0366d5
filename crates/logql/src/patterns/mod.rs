//! Patterns: what lines have in common, and how often each kind of line was written.
//!
//! Lines are taken apart into tokens ([`tokens`]) and gathered in clusters of the same shape
//! ([`drain`], after the Drain algorithm as Loki's pattern ingester runs it); where the lines of a
//! cluster differ, the pattern shows `<_>`. Loki learns while lines come in and remembers three
//! hours; here lines are read when somebody asks, so that nothing is held in between and every
//! range can be asked for. What is read is bounded: beyond the bounds every n-th line counts n
//! times, and very large ranges are read in slices spread evenly over them.

mod drain;
mod tokens;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::Mutex;
use pilothouse_model::limits::{PATTERN_CLUSTERS, PATTERN_SAMPLES, PATTERNS};
use pilothouse_model::{
    Budget, EntryBatch, EntrySource, EntryVisitor, Flow, LogSelection, Matcher, SourceError, StreamQuery,
};
use rustc_hash::FxBuildHasher;

use crate::LogqlError;
use drain::Drain;
use tokens::Tokens;

/// What is asked for: streams, a range `[start, end)`, the steps to count in, and the bounds.
#[derive(Debug, Clone)]
pub struct PatternQuery {
    pub matchers: Vec<Matcher>,
    pub start_ns: i64,
    pub end_ns: i64,
    /// Steps shorter than 10 s are 10 s, as in Loki.
    pub step_ns: i64,
    /// Lines that are looked at.
    pub max_lines: u64,
    /// Bytes of lines that are read.
    pub max_read_bytes: u64,
}

/// One pattern at one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternSeries {
    /// Constant text with `<_>` for what differs; a filter `|> "…"` finds its lines.
    pub pattern: String,
    /// A level as Loki detects them, `unknown` among them.
    pub level: String,
    /// Seconds since 1970, whole steps, ascending without a gap; and lines in that step.
    pub samples: Vec<(i64, u64)>,
}

/// The finest step.
const MIN_STEP_NS: i64 = 10_000_000_000;
/// Patterns of fewer lines are left out, and of the others the most frequent are shown (as in
/// Loki).
const MIN_LINES: u64 = 30;
/// Slices of a range that is too large to be read whole.
const SLICES: i64 = 64;

/// The most frequent patterns, the most frequent first.
pub fn patterns(
    source: &dyn EntrySource,
    query: &PatternQuery,
    budget: &Budget,
) -> Result<Vec<PatternSeries>, LogqlError> {
    let streams = StreamQuery {
        matcher_sets: vec![query.matchers.clone()],
        start_ns: query.start_ns,
        end_ns: query.end_ns,
    };
    let stats = source.stats(&streams, budget)?;
    let slice_of = stats.bytes.div_ceil(query.max_read_bytes.max(1)).max(1);
    let lines = stats.entries / slice_of;
    let every = lines.div_ceil(query.max_lines.max(1)).max(1);
    let feed = Feed {
        miner: Mutex::new(Miner::new(query.step_ns)),
        seen: AtomicU64::new(0),
        every,
        weight: every * slice_of,
        budget,
    };
    for (start_ns, end_ns) in slices(query.start_ns, query.end_ns, slice_of) {
        let selection = LogSelection::all(query.matchers.clone(), start_ns, end_ns);
        source.read(&selection, &feed, budget)?;
    }
    Ok(feed.miner.into_inner().finish())
}

/// The whole range, or slices evenly spread that are one `n`-th of it together.
fn slices(start_ns: i64, end_ns: i64, n: u64) -> Vec<(i64, i64)> {
    let width = i128::from(end_ns) - i128::from(start_ns);
    if n <= 1 || width < i128::from(SLICES) * i128::from(n) {
        return vec![(start_ns, end_ns)];
    }
    let at = |part: i128| i64::try_from(i128::from(start_ns) + part).unwrap_or(end_ns);
    let slice = |k: i64| {
        let from = width * i128::from(k) / i128::from(SLICES);
        (at(from), at(from + width / i128::from(SLICES) / i128::from(n)))
    };
    (0..SLICES).map(slice).collect()
}

/// Hands every n-th line to the miner.
struct Feed<'b> {
    miner: Mutex<Miner>,
    seen: AtomicU64,
    every: u64,
    /// How many lines one that is looked at stands for.
    weight: u64,
    budget: &'b Budget,
}

impl EntryVisitor for Feed<'_> {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        self.budget.check("patterns")?;
        let before = self.seen.fetch_add(batch.len() as u64, Relaxed);
        let first = (self.every - before % self.every) % self.every;
        let step = usize::try_from(self.every).unwrap_or(usize::MAX);
        let mut miner = self.miner.lock();
        for i in (usize::try_from(first).unwrap_or(usize::MAX)..batch.len()).step_by(step) {
            let level = batch.metadata_of(i).map_or("", |metadata| metadata.value("detected_level"));
            let t_ns = batch.times_ns.get(i).copied().unwrap_or(0);
            miner.take(batch.stream, level, t_ns, batch.line(i), self.weight);
        }
        Ok(Flow::Continue)
    }
}

const LEVELS: [&str; 8] = ["critical", "fatal", "error", "warn", "info", "debug", "trace", "unknown"];

/// Clusters of all streams and levels.
struct Miner {
    step_s: i64,
    drains: HashMap<(u64, usize, tokens::Shape), Drain, FxBuildHasher>,
    clusters: usize,
}

impl Miner {
    fn new(step_ns: i64) -> Self {
        Self { step_s: step_ns.max(MIN_STEP_NS) / 1_000_000_000, drains: HashMap::default(), clusters: 0 }
    }

    fn take(&mut self, stream: u64, level: &str, t_ns: i64, line: &str, weight: u64) {
        let Some(tokens) = Tokens::of(line) else { return };
        let level = LEVELS.iter().position(|l| l.eq_ignore_ascii_case(level)).unwrap_or(LEVELS.len() - 1);
        let seconds = t_ns.div_euclid(1_000_000_000);
        let bucket = seconds - seconds.rem_euclid(self.step_s);
        let may_grow = self.clusters < PATTERN_CLUSTERS;
        let drain = self.drains.entry((stream, level, tokens.shape)).or_default();
        self.clusters += usize::from(drain.take(&tokens, bucket, weight, may_grow));
    }

    /// Adds up what several streams share.
    fn finish(self) -> Vec<PatternSeries> {
        let mut sums: BTreeMap<(String, usize), BTreeMap<i64, u64>> = BTreeMap::new();
        for ((_, level, shape), drain) in self.drains {
            for cluster in drain.into_clusters() {
                let pattern = tokens::joined(shape, &cluster.tokens);
                let sum = sums.entry((pattern, level)).or_default();
                for (bucket, lines) in cluster.samples {
                    *sum.entry(bucket).or_default() += lines;
                }
            }
        }
        let totals = sums.into_iter().map(|(key, sum)| (sum.values().sum::<u64>(), key, sum));
        let mut all: Vec<_> =
            totals.filter(|(total, (pattern, _), _)| *total >= MIN_LINES && !pattern.is_empty()).collect();
        // The order by text, in which they are, decides between equals.
        all.sort_by_key(|(total, ..)| std::cmp::Reverse(*total));
        all.truncate(PATTERNS);
        let series = |(_, (pattern, level), sum): (u64, (String, usize), BTreeMap<i64, u64>)| PatternSeries {
            pattern,
            level: LEVELS.get(level).copied().unwrap_or("unknown").to_owned(),
            samples: without_gaps(&sum, self.step_s),
        };
        all.into_iter().map(series).collect()
    }
}

/// Steps between the first and the last that have no lines get a zero, but not at the finest
/// step (as in Loki).
fn without_gaps(sum: &BTreeMap<i64, u64>, step_s: i64) -> Vec<(i64, u64)> {
    let (Some((first, _)), Some((last, _))) = (sum.first_key_value(), sum.last_key_value()) else {
        return Vec::new();
    };
    if step_s * 1_000_000_000 == MIN_STEP_NS || (last - first) / step_s > PATTERN_SAMPLES {
        return sum.iter().map(|(at, lines)| (*at, *lines)).collect();
    }
    let at = |k: i64| first + k * step_s;
    (0..=(last - first) / step_s).map(|k| (at(k), sum.get(&at(k)).copied().unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use pilothouse_model::{Labels, MatchOp};

    use super::*;
    use crate::MemoryEntries;

    fn query(step_s: i64) -> PatternQuery {
        PatternQuery {
            matchers: vec![Matcher::new(MatchOp::Equal, "app", "shop").unwrap()],
            start_ns: 0,
            end_ns: 3_600_000_000_000,
            step_ns: step_s * 1_000_000_000,
            max_lines: 100_000,
            max_read_bytes: 1 << 30,
        }
    }

    /// Two streams of 400 lines in an hour.
    fn entries() -> MemoryEntries {
        let entries = MemoryEntries::default();
        for i in 0..800i64 {
            let stream = Labels::from_pairs([("app", "shop"), ("pod", if i % 2 == 0 { "a" } else { "b" })]);
            let (line, level) = match i % 4 {
                0 | 1 => (format!("GET /api/items/{i} took {} ms by user u{}", i % 90, i % 7), "info"),
                2 => (format!("ts={i} level=warn msg=\"slow query\" took={}ms table=items", i % 90), "WARN"),
                _ => (
                    format!(
                        "{{\"level\":\"error\",\"msg\":\"cannot reach host {i} after {} tries\"}}",
                        i % 5
                    ),
                    "odd",
                ),
            };
            let metadata = Labels::from_pairs([("detected_level", level)]);
            entries.add(&stream, i * 4_500_000_000, &line, &metadata);
        }
        entries
    }

    fn mined(query: &PatternQuery) -> Vec<PatternSeries> {
        patterns(&entries(), query, &Budget::unlimited()).unwrap()
    }

    #[test]
    fn lines_of_all_shapes_become_patterns() {
        let found = mined(&query(600));
        let shown: Vec<_> = found.iter().map(|s| (s.pattern.as_str(), s.level.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("GET <_> took <_> ms by user <_>", "info"),
                ("<_>cannot reach host <_> after <_> tries<_>", "unknown"),
                ("ts=<_> level=warn msg=\"slow query\" took=<_> table=items", "warn"),
            ]
        );
        assert_eq!(found[0].samples.iter().map(|(_, n)| n).sum::<u64>(), 400);
        let times: Vec<_> = found[0].samples.iter().map(|(t, _)| *t).collect();
        assert_eq!(times, [0, 600, 1200, 1800, 2400, 3000]);
    }

    #[test]
    fn gaps_between_steps_are_zero_but_for_the_finest() {
        let coarse = mined(&query(17));
        assert!(coarse[2].samples.windows(2).all(|pair| pair[1].0 - pair[0].0 == 17));
        assert!(coarse[2].samples.iter().any(|(_, n)| *n == 0));
        let finest = mined(&query(1));
        assert!(finest[2].samples.iter().all(|(t, n)| t % 10 == 0 && *n > 0));
    }

    #[test]
    fn beyond_the_bounds_lines_stand_for_others() {
        let some = mined(&PatternQuery { max_lines: 200, ..query(600) });
        let lines: u64 = some.iter().flat_map(|s| &s.samples).map(|(_, n)| n).sum();
        assert!((700..=900).contains(&lines), "{lines}");
        let few = mined(&PatternQuery { max_read_bytes: 20_000, ..query(600) });
        let lines: u64 = few.iter().flat_map(|s| &s.samples).map(|(_, n)| n).sum();
        assert!((500..=1_200).contains(&lines), "{lines}");
    }

    #[test]
    fn what_is_rare_is_left_out() {
        let entries = MemoryEntries::default();
        let stream = Labels::from_pairs([("app", "shop")]);
        for i in 0..29 {
            entries.add(&stream, i, &format!("a rare line of text {i}"), &Labels::empty());
        }
        let found = |entries: &MemoryEntries| patterns(entries, &query(60), &Budget::unlimited()).unwrap();
        assert_eq!(found(&entries), []);
        entries.add(&stream, 29, "a rare line of text 29", &Labels::empty());
        assert_eq!(found(&entries).len(), 1);
    }

    #[test]
    fn slices_are_spread_over_the_range() {
        assert_eq!(slices(0, 1_000, 1), [(0, 1_000)]);
        let parts = slices(0, 6_400, 10);
        assert_eq!((parts.len(), parts[0], parts[63]), (64, (0, 10), (6_300, 6_310)));
        assert_eq!(slices(i64::MIN, i64::MAX, 2).len(), 64);
    }
}
