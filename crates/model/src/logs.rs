//! Log entries: what is pushed, what is read back in batches, and what a reader needs of them.
//!
//! A line is text. Decoders replace bytes that are no UTF-8 before an entry gets here, so that
//! every later stage works on `str` without a look at each byte.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::{Labels, Matcher};

/// One entry as a push carries it. The line is a range of the batch's text.
#[derive(Debug, Clone)]
pub struct PushEntry {
    pub t_ns: i64,
    pub line: Range<u32>,
    /// Structured metadata, names already sanitised. Never part of the stream's identity.
    pub metadata: Labels,
}

/// The entries of one stream within a push; a stream may occur more than once.
#[derive(Debug, Clone)]
pub struct PushStream {
    pub labels: Labels,
    pub entries: Range<u32>,
}

/// Many streams with their entries, decoded from one request. All lines share one text.
#[derive(Clone, Default)]
pub struct LogBatch {
    pub text: String,
    pub streams: Vec<PushStream>,
    pub entries: Vec<PushEntry>,
}

impl LogBatch {
    /// Memory held, about.
    pub fn held_bytes(&self) -> usize {
        let labels: usize = self.streams.iter().map(|stream| stream.labels.as_encoded().len()).sum();
        self.text.capacity()
            + labels
            + size_of_val(self.streams.as_slice())
            + size_of_val(self.entries.as_slice())
    }

    /// Begins a stream; entries pushed from now on are its own.
    pub fn begin_stream(&mut self, labels: Labels) {
        let at = self.entries.len() as u32;
        self.streams.push(PushStream { labels, entries: at..at });
    }

    /// Adds an entry to the stream begun last; `false` where there is none, or where the text
    /// of the batch would pass 4 GiB.
    pub fn push(&mut self, t_ns: i64, line: &str, metadata: Labels) -> bool {
        let (Some(stream), Ok(start), Ok(end)) = (
            self.streams.last_mut(),
            u32::try_from(self.text.len()),
            u32::try_from(self.text.len() + line.len()),
        ) else {
            return false;
        };
        self.text.push_str(line);
        self.entries.push(PushEntry { t_ns, line: start..end, metadata });
        stream.entries.end = self.entries.len() as u32;
        true
    }

    pub fn entries_of(&self, stream: &PushStream) -> &[PushEntry] {
        self.entries.get(stream.entries.start as usize..stream.entries.end as usize).unwrap_or(&[])
    }

    pub fn line_of(&self, entry: &PushEntry) -> &str {
        self.text.get(entry.line.start as usize..entry.line.end as usize).unwrap_or("")
    }
}

impl fmt::Debug for LogBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBatch")
            .field("streams", &self.streams.len())
            .field("entries", &self.entries.len())
            .field("text_bytes", &self.text.len())
            .finish()
    }
}

/// A text that a line must contain for some filter to let it pass. `fold_case`: ASCII letters
/// match in either case, and other letters may match by Unicode's simple folding, so that a
/// block with bytes above 127 can only be pruned if the literal itself is exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    pub text: String,
    pub fold_case: bool,
}

/// What one line filter demands of a line: at least one of the alternatives, each of which
/// wants all of its literals somewhere in the line, in any order. An alternative without
/// literals demands nothing, and then the filter prunes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineDemand {
    pub alternatives: Vec<Vec<Literal>>,
}

impl LineDemand {
    /// Whether an index may use this at all.
    pub fn prunes(&self) -> bool {
        !self.alternatives.is_empty() && self.alternatives.iter().all(|a| !a.is_empty())
    }
}

/// How much of each line the reader looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LineNeed {
    /// Nothing: batches may come without text and bounds.
    Nothing,
    /// Its length in bytes: batches may come without text, but with bounds.
    Length,
    #[default]
    Text,
}

/// Whether the reader looks at structured metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MetadataNeed {
    /// No: batches may come without it, and entries that differ in it need not be kept apart.
    Nothing,
    /// Only at pairs of these names, sorted. Others may be there or not.
    Named(Arc<[String]>),
    #[default]
    All,
}

/// Which end of the time range the reader wants first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadOrder {
    /// All of it will be read, in any order.
    #[default]
    Any,
    /// The reader will stop early; the newest entries should come first.
    Newest,
    /// The reader will stop early; the oldest entries should come first.
    Oldest,
}

/// Points that cut the time line into equal buckets, open on the left and closed on the
/// right: `(origin + k*period, origin + (k+1)*period]`. A reader that gives them wants nothing
/// of an entry but its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBuckets {
    pub origin_ns: i64,
    /// Above zero.
    pub period_ns: i64,
}

impl TimeBuckets {
    /// The number of the bucket that holds a time.
    #[inline]
    pub fn of(&self, t_ns: i64) -> i64 {
        // Division of 128 bits costs ten times as much, and only far-fetched times need it.
        match t_ns.checked_sub(self.origin_ns).and_then(|since| since.checked_sub(1)) {
            Some(since) => since.div_euclid(self.period_ns),
            None => {
                let since = i128::from(t_ns) - i128::from(self.origin_ns) - 1;
                since.div_euclid(i128::from(self.period_ns)) as i64
            }
        }
    }

    /// The last time of the bucket that holds a time.
    pub fn end_of(&self, t_ns: i64) -> i64 {
        let end = (i128::from(self.of(t_ns)) + 1) * i128::from(self.period_ns) + i128::from(self.origin_ns);
        i64::try_from(end).unwrap_or(i64::MAX)
    }

    pub fn same(&self, a_ns: i64, b_ns: i64) -> bool {
        self.of(a_ns) == self.of(b_ns)
    }
}

/// A selection of entries: streams by labels, and a range of time, start inclusive, end
/// exclusive. Everything below the range of time is advice that lets a store read less; a
/// store that ignores all of it still answers right.
#[derive(Debug, Clone)]
pub struct LogSelection {
    /// All must hold of the stream's labels. At least one must not match the empty text; the
    /// caller has checked that.
    pub matchers: Vec<Matcher>,
    pub start_ns: i64,
    pub end_ns: i64,
    pub order: ReadOrder,
    /// Demands of the line filters, all of which must be met. Lines that do not meet them may be
    /// left out, block by block or line by line; the reader tests every line it gets.
    pub demands: Vec<LineDemand>,
    pub lines: LineNeed,
    pub metadata: MetadataNeed,
    /// Where given, a run of entries of one stream whose times lie in one bucket may come as a
    /// [`EntryRun`], if none of them has metadata that the reader needs. Never given together
    /// with demands, [`LineNeed::Text`] or [`MetadataNeed::All`].
    pub buckets: Option<TimeBuckets>,
}

impl LogSelection {
    /// All entries of the matching streams in a range, in any order and with all their parts.
    pub fn all(matchers: Vec<Matcher>, start_ns: i64, end_ns: i64) -> Self {
        Self {
            matchers,
            start_ns,
            end_ns,
            order: ReadOrder::Any,
            demands: Vec::new(),
            lines: LineNeed::Text,
            metadata: MetadataNeed::All,
            buckets: None,
        }
    }
}

/// Entries of one stream, borrowed for the time of one call.
///
/// `times_ns` ascends (equal times in the order they came). Line `i` is
/// `text[bounds[i]..bounds[i + 1]]`: the lines lie one behind the other without anything
/// between, so that a reader may search the whole text at once.
#[derive(Debug, Clone, Copy)]
pub struct EntryBatch<'a> {
    pub labels: &'a Labels,
    /// A number that stands for the stream within one read: equal exactly where labels are.
    pub stream: u64,
    pub times_ns: &'a [i64],
    /// Empty unless the selection wanted [`LineNeed::Text`].
    pub text: &'a str,
    /// One more than times; empty if the selection wanted [`LineNeed::Nothing`].
    pub bounds: &'a [u32],
    /// The distinct sets of structured metadata that occur in this batch.
    pub metadata_sets: &'a [Labels],
    /// For each entry its set. Empty: no entry has metadata, or none was wanted.
    pub metadata: &'a [u32],
}

impl<'a> EntryBatch<'a> {
    pub fn len(&self) -> usize {
        self.times_ns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times_ns.is_empty()
    }

    #[inline]
    pub fn line(&self, i: usize) -> &'a str {
        match (self.bounds.get(i), self.bounds.get(i + 1)) {
            (Some(start), Some(end)) => self.text.get(*start as usize..*end as usize).unwrap_or(""),
            _ => "",
        }
    }

    /// Bytes of a line; 0 where lengths were not asked for.
    #[inline]
    pub fn line_bytes(&self, i: usize) -> usize {
        match (self.bounds.get(i), self.bounds.get(i + 1)) {
            (Some(start), Some(end)) => end.saturating_sub(*start) as usize,
            _ => 0,
        }
    }

    /// The structured metadata of an entry, if it has any.
    #[inline]
    pub fn metadata_of(&self, i: usize) -> Option<&'a Labels> {
        self.metadata_sets.get(*self.metadata.get(i)? as usize)
    }

    /// Bytes of all lines together.
    pub fn text_bytes(&self) -> usize {
        match (self.bounds.first(), self.bounds.last()) {
            (Some(first), Some(last)) => last.saturating_sub(*first) as usize,
            _ => 0,
        }
    }
}

/// Entries of one stream that all lie in one bucket, counted but not shown.
#[derive(Debug, Clone, Copy)]
pub struct EntryRun<'a> {
    pub labels: &'a Labels,
    pub stream: u64,
    /// Any time of the run; all lie in the same bucket.
    pub t_ns: i64,
    pub entries: u64,
    pub bytes: u64,
}
