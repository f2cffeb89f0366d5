//! Entries in a list: a source for tests, and the measure that a store's answers are held to.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::RwLock;
use pilothouse_model::log_ports::{
    EntrySink, EntrySource, LogAppended, LogStats, StreamVolume, beyond_horizon,
};
use pilothouse_model::logs::{EntryBatch, LineNeed, LogBatch, LogSelection, ReadOrder};
use pilothouse_model::{Budget, EntryVisitor, Flow, Labels, Matcher, ReadReport, SourceError, StreamQuery};

/// Entries that one batch holds.
const BATCH_ENTRIES: usize = 512;

/// Entries by stream, sorted by time and then by the order they came.
#[derive(Debug, Default)]
pub struct MemoryEntries {
    streams: RwLock<BTreeMap<Labels, Vec<Stored>>>,
}

#[derive(Debug, Clone)]
struct Stored {
    t_ns: i64,
    line: String,
    metadata: Labels,
}

impl MemoryEntries {
    /// Adds one entry; `false` if it is there already.
    pub fn add(&self, labels: &Labels, t_ns: i64, line: &str, metadata: &Labels) -> bool {
        let mut streams = self.streams.write();
        let entries = streams.entry(labels.clone()).or_default();
        let after = entries.partition_point(|e| e.t_ns <= t_ns);
        let known = entries[..after].iter().rev().take_while(|e| e.t_ns == t_ns).any(|e| e.line == line);
        if !known {
            entries.insert(after, Stored { t_ns, line: line.to_owned(), metadata: metadata.clone() });
        }
        !known
    }

    fn matching(&self, sets: &[Vec<Matcher>], start_ns: i64, end_ns: i64) -> Vec<(Labels, Vec<Stored>)> {
        let wanted = |labels: &Labels| sets.is_empty() || sets.iter().any(|set| fits(set, labels));
        let inside = |e: &&Stored| start_ns <= e.t_ns && e.t_ns < end_ns;
        let streams = self.streams.read();
        let found = streams.iter().filter(|(labels, _)| wanted(labels));
        let cut = found.map(|(labels, all)| (labels.clone(), all.iter().filter(inside).cloned().collect()));
        cut.filter(|(_, entries): &(Labels, Vec<Stored>)| !entries.is_empty()).collect()
    }

    fn of_query(&self, query: &StreamQuery) -> Vec<(Labels, Vec<Stored>)> {
        self.matching(&query.matcher_sets, query.start_ns, query.end_ns)
    }
}

fn fits(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.value(&matcher.name)))
}

fn visit(
    labels: &Labels,
    stream: u64,
    entries: &[Stored],
    need: LineNeed,
    visitor: &dyn EntryVisitor,
) -> Result<Flow, SourceError> {
    let (mut text, mut bounds, mut times_ns) = (String::new(), vec![0], Vec::new());
    let (mut sets, mut metadata): (Vec<Labels>, Vec<u32>) = (Vec::new(), Vec::new());
    for entry in entries {
        times_ns.push(entry.t_ns);
        text.push_str(&entry.line);
        bounds.push(text.len() as u32);
        let set = sets.iter().position(|set| *set == entry.metadata).unwrap_or_else(|| {
            sets.push(entry.metadata.clone());
            sets.len() - 1
        });
        metadata.push(set as u32);
    }
    // What was not asked for is not given, so that whoever looks at it all the same is found out.
    visitor.batch(&EntryBatch {
        labels,
        stream,
        times_ns: &times_ns,
        text: if need == LineNeed::Text { &text } else { "" },
        bounds: if need == LineNeed::Nothing { &[] } else { &bounds },
        metadata_sets: &sets,
        metadata: &metadata,
    })
}

impl EntrySource for MemoryEntries {
    fn read(
        &self,
        selection: &LogSelection,
        visitor: &dyn EntryVisitor,
        budget: &Budget,
    ) -> Result<ReadReport, SourceError> {
        let sets = [selection.matchers.clone()];
        let streams = self.matching(&sets, selection.start_ns, selection.end_ns);
        let mut report = ReadReport { streams: streams.len() as u64, ..ReadReport::default() };
        let mut blocks: Vec<(u64, &Labels, &[Stored])> = Vec::new();
        for (number, (labels, entries)) in streams.iter().enumerate() {
            blocks.extend(entries.chunks(BATCH_ENTRIES).map(|chunk| (number as u64, labels, chunk)));
        }
        let span = |chunk: &[Stored]| {
            (chunk.first().map_or(i64::MAX, |e| e.t_ns), chunk.last().map_or(i64::MIN, |e| e.t_ns))
        };
        match selection.order {
            ReadOrder::Any => {}
            ReadOrder::Newest => blocks.sort_by_key(|(_, _, chunk)| std::cmp::Reverse(span(chunk).1)),
            ReadOrder::Oldest => blocks.sort_by_key(|(_, _, chunk)| span(chunk).0),
        }
        report.blocks = blocks.len() as u64;
        for (stream, labels, chunk) in blocks {
            budget.check("read")?;
            let (oldest, newest) = span(chunk);
            if beyond_horizon(selection.order, visitor.horizon_ns(), oldest, newest) {
                report.blocks_pruned += 1;
            } else if visit(labels, stream, chunk, selection.lines, visitor)? == Flow::Stop {
                break;
            }
        }
        Ok(report)
    }

    fn label_names(&self, query: &StreamQuery, _budget: &Budget) -> Result<Vec<String>, SourceError> {
        let names: BTreeSet<String> = self
            .of_query(query)
            .iter()
            .flat_map(|(labels, _)| labels.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
            .collect();
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        query: &StreamQuery,
        _budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        let values: BTreeSet<String> = self
            .of_query(query)
            .iter()
            .filter_map(|(labels, _)| labels.get(name).map(str::to_owned))
            .collect();
        Ok(values.into_iter().collect())
    }

    fn streams(&self, query: &StreamQuery, _budget: &Budget) -> Result<Vec<Labels>, SourceError> {
        Ok(self.of_query(query).into_iter().map(|(labels, _)| labels).collect())
    }

    fn stats(&self, query: &StreamQuery, _budget: &Budget) -> Result<LogStats, SourceError> {
        let mut stats = LogStats::default();
        for (_, entries) in self.of_query(query) {
            stats.streams += 1;
            stats.chunks += entries.len().div_ceil(BATCH_ENTRIES) as u64;
            stats.entries += entries.len() as u64;
            stats.bytes += entries.iter().map(|e| e.line.len() as u64).sum::<u64>();
        }
        Ok(stats)
    }

    fn volume(
        &self,
        query: &StreamQuery,
        period_ns: i64,
        _budget: &Budget,
    ) -> Result<Vec<StreamVolume>, SourceError> {
        let bucket = |t_ns: i64| match period_ns {
            ..=0 => 0,
            _ => t_ns.saturating_sub(query.start_ns) / period_ns,
        };
        Ok(self
            .of_query(query)
            .into_iter()
            .map(|(labels, entries)| {
                let mut buckets: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
                for entry in entries {
                    let metadata: usize = entry.metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
                    let sum = buckets.entry(bucket(entry.t_ns)).or_default();
                    sum.0 += (entry.line.len() + metadata) as u64;
                    sum.1 += 1;
                }
                let buckets = buckets.into_iter().map(|(k, (bytes, n))| (k, bytes, n)).collect();
                StreamVolume { labels, buckets }
            })
            .collect())
    }
}

impl EntrySink for MemoryEntries {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.append_noting(batch, &mut Vec::new())
    }

    fn append_noting(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> Result<LogAppended, SourceError> {
        let mut appended = LogAppended::default();
        for stream in &batch.streams {
            for (place, entry) in stream.entries.clone().zip(batch.entries_of(stream)) {
                let line = batch.line_of(entry);
                if self.add(&stream.labels, entry.t_ns, line, &entry.metadata) {
                    appended.entries += 1;
                    appended.bytes += line.len() as u64;
                } else {
                    appended.duplicates += 1;
                    skipped.push(place);
                }
            }
        }
        Ok(appended)
    }
}
