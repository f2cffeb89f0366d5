//! The ports to entries: what LogQL and the log API may ask of a store.
//!
//! Three implementers: the store of tantivy blocks, a remote system, and a list in memory for
//! tests. Calls block and belong on rayon or a blocking thread.
//!
//! # Reading
//!
//! [`EntrySource::read`] hands the selected entries to a [`EntryVisitor`], a batch at a time.
//! What the store owes:
//!
//! - every entry of every stream that matches, with `start_ns <= t < end_ns`, exactly once
//!   (exact duplicates in stream, time and line are one entry), in as many batches as suits its
//!   blocks; an entry is visible from the moment its append was accepted;
//! - a batch holds entries of one stream in ascending time, whatever the order of reading.
//!   Batches of one stream may overlap in time and come in any order;
//! - batches are visited from any thread, several at once: the visitor is `Sync`;
//! - before each block it asks [`EntryVisitor::horizon_ns`] and leaves out blocks that lie wholly
//!   beyond it (all times below it for [`ReadOrder::Newest`], above it for
//!   [`ReadOrder::Oldest`]; never those at it). So a store sorts its blocks by their newest
//!   (oldest) time first, lets its threads take them one by one in that order (not by halves of
//!   the list), and a limit query ends after a few of them;
//! - when a visit answers [`Flow::Stop`] it starts no further block, and answers `Ok`;
//! - it checks the budget at least once a block, and reserves what it decompresses.
//!
//! What it may do: leave out lines that do not meet a demand (as an index tells, without looking
//! at them), leave text and metadata unread where the selection does not need them, and answer
//! whole blocks by [`EntryVisitor::run`] where buckets are given.

use std::fmt;
use std::sync::Arc;

use crate::logs::{EntryBatch, EntryRun, LogBatch, LogSelection, ReadOrder};
use crate::ports::Evaluator;
use crate::write::Durable;
use crate::{Budget, Labels, Matcher, SourceError};

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Stop,
}

/// Takes what a source reads. See the module for the order of calls.
pub trait EntryVisitor: Sync {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError>;

    /// Entries that were only counted; called only where the selection has buckets.
    fn run(&self, run: &EntryRun<'_>) -> Result<Flow, SourceError> {
        let _ = run;
        Ok(Flow::Continue)
    }

    /// The time beyond which no entry can matter any more. It only ever moves towards the end
    /// of time that is read first.
    fn horizon_ns(&self) -> Option<i64> {
        None
    }
}

/// What a read cost, for the statistics of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadReport {
    pub streams: u64,
    /// Blocks in reach by stream and time, and those of them that an index, the horizon or a
    /// stop left out.
    pub blocks: u64,
    pub blocks_pruned: u64,
    pub decompressed_bytes: u64,
}

/// Streams asked for by matcher sets (a union; none means all) that have entries in a range of
/// time, start inclusive, end exclusive. Answers may include what lies just outside the range.
#[derive(Debug, Clone)]
pub struct StreamQuery {
    pub matcher_sets: Vec<Vec<Matcher>>,
    pub start_ns: i64,
    pub end_ns: i64,
}

/// Totals over matching streams; approximate, as Loki's `index/stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStats {
    pub streams: u64,
    /// Blocks, whole or in the making.
    pub chunks: u64,
    pub bytes: u64,
    pub entries: u64,
}

/// How much one stream holds: `(bucket, bytes, entries)` in ascending order of buckets, without
/// empty ones. Bytes count lines and structured metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamVolume {
    pub labels: Labels,
    pub buckets: Vec<(i64, u64, u64)>,
}

/// A source of entries: the store, a remote system, a list in memory.
pub trait EntrySource: Send + Sync {
    fn read(
        &self,
        selection: &LogSelection,
        visitor: &dyn EntryVisitor,
        budget: &Budget,
    ) -> Result<ReadReport, SourceError>;
    /// Names of stream labels, sorted. Structured metadata is not among them.
    fn label_names(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<String>, SourceError>;
    /// Sorted.
    fn label_values(
        &self,
        name: &str,
        query: &StreamQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError>;
    /// Sorted by labels.
    fn streams(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError>;
    fn stats(&self, query: &StreamQuery, budget: &Budget) -> Result<LogStats, SourceError>;
    /// Per stream and bucket; `period_ns` of zero or less makes one bucket, number 0. Bucket `k`
    /// holds `start_ns + k*period_ns <= t < start_ns + (k+1)*period_ns`. Blocks that straddle a
    /// border may be counted in proportion. In any order of streams.
    fn volume(
        &self,
        query: &StreamQuery,
        period_ns: i64,
        budget: &Budget,
    ) -> Result<Vec<StreamVolume>, SourceError>;

    /// As [`crate::SeriesSource::evaluator`].
    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        None
    }
}

/// Why a stream or an entry was not taken. The texts that callers see are made at the edge.
#[derive(Debug, Clone, PartialEq)]
pub enum EntryReason {
    TooManyLabels {
        actual: u64,
        limit: u64,
    },
    LabelNameTooLong {
        name: String,
        limit: u64,
    },
    LabelValueTooLong {
        value: String,
        limit: u64,
    },
    LineTooLong {
        bytes: u64,
        limit: u64,
    },
    TooNew {
        t_ns: i64,
    },
    TooOld {
        t_ns: i64,
        oldest_ns: i64,
    },
    TooMuchMetadata {
        actual: u64,
        limit: u64,
    },
    MetadataTooLarge {
        bytes: u64,
        limit: u64,
    },
    MaxStreams {
        limit: u64,
    },
    /// A part of the request that makes no sense in itself; `why` is fit for the client.
    Undecodable {
        why: String,
    },
}

/// One refusal: why, and of which stream.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryRejection {
    pub reason: EntryReason,
    pub labels: Labels,
}

/// What became of a push. The good part is stored.
pub struct LogAppended {
    pub entries: u64,
    pub bytes: u64,
    /// Exact duplicates of stored entries: accepted, and not stored again.
    pub duplicates: u64,
    /// Streams that were not known before.
    pub created: u64,
    /// The first refusals, at most [`crate::write::Appended::MAX_REJECTIONS`]; `rejected` counts
    /// all entries that were refused.
    pub rejections: Vec<EntryRejection>,
    pub rejected: u64,
    pub durable: Durable,
}

impl LogAppended {
    /// Counts so many refused entries, and tells of one as long as few are told.
    pub fn refuse(&mut self, count: u64, rejection: impl FnOnce() -> EntryRejection) {
        self.rejected += count;
        if self.rejections.len() < crate::write::Appended::MAX_REJECTIONS {
            self.rejections.push(rejection());
        }
    }
}

/// Nothing was taken, and there is nothing to wait for.
impl Default for LogAppended {
    fn default() -> Self {
        Self {
            entries: 0,
            bytes: 0,
            duplicates: 0,
            created: 0,
            rejections: Vec::new(),
            rejected: 0,
            durable: Box::pin(std::future::ready(Ok(()))),
        }
    }
}

impl fmt::Debug for LogAppended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogAppended")
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .field("duplicates", &self.duplicates)
            .field("created", &self.created)
            .field("rejected", &self.rejected)
            .field("rejections", &self.rejections)
            .finish_non_exhaustive()
    }
}

/// A sink of entries. `append` does not wait for the disk: the answer's `durable` does.
pub trait EntrySink: Send + Sync {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError>;

    /// As [`EntrySink::append`], and adds to `skipped`, ascending, the places in the batch of the
    /// entries that were not stored anew: refused ones and duplicates. Who follows logs as they
    /// come in must not see those. A sink that cannot tell adds nothing.
    fn append_noting(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> Result<LogAppended, SourceError> {
        let _ = skipped;
        self.append(batch)
    }
}

/// Whether a span of times lies wholly beyond the visitor's horizon, so that it need not be read.
pub fn beyond_horizon(order: ReadOrder, horizon_ns: Option<i64>, oldest_ns: i64, newest_ns: i64) -> bool {
    match (order, horizon_ns) {
        (ReadOrder::Newest, Some(horizon)) => newest_ns < horizon,
        (ReadOrder::Oldest, Some(horizon)) => oldest_ns > horizon,
        _ => false,
    }
}
