//! Entries that a Loki keeps.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, header};
use parking_lot::Mutex;
use pilothouse_logs::validate;
use pilothouse_model::budget::Taken;
use pilothouse_model::limits::{Limits, LiveLimits, REMOTE_PAGE_ENTRIES};
use pilothouse_model::log_ports::{EntryReason, EntryRejection, LogAppended, LogStats, StreamVolume};
use pilothouse_model::logs::{PushEntry, PushStream, ReadOrder};
use pilothouse_model::{
    ActiveLimit, Budget, Clock, EntryBatch, EntrySink, EntrySource, EntryVisitor, Evaluator, Flow, Labels,
    LogBatch, LogSelection, Matcher, QueryValue, ReadReport, SourceError, StreamQuery,
};
use pilothouse_wire::body::snappy;
use pilothouse_wire::logs::PushWriter;
use tokio::runtime::Handle;

use crate::answers::{self, Stream};
use crate::ask::{Asker, segment};
use crate::link::Link;
use crate::peer::Peer;
use crate::recent::Recent;

/// As in a store of this server's own.
const ACTIVE_MINUTES: u32 = 30;

static HEADERS: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/x-protobuf")];

/// A store of entries that is far away.
#[derive(Debug)]
pub struct RemoteLogs {
    link: Link,
}

impl RemoteLogs {
    /// `active` is the limit on active streams; calls are made on `runtime`.
    pub fn new(
        peer: Peer,
        limits: LiveLimits,
        active: Arc<ActiveLimit>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        Self { link: Link::new(peer, &HEADERS, limits, active, ACTIVE_MINUTES, clock, runtime) }
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Where this server writes what nobody would send again: it waits while the other system is
    /// away.
    pub fn queued(self: &Arc<Self>) -> Arc<dyn EntrySink> {
        Arc::new(Queued(Arc::clone(self)))
    }

    fn take(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> (Option<Bytes>, LogAppended) {
        let limits = self.link.limits();
        let newest_ms = self.link.now_ms().saturating_add_unsigned(limits.max_future_ms);
        let (plain, appended) = self.link.noting(|recent| {
            let mut taking = Taking {
                batch,
                newest_ns: newest_ms.saturating_mul(1_000_000),
                limits,
                recent,
                active: self.link.active_limit(),
                writer: PushWriter::default(),
                skipped,
                appended: LogAppended::default(),
            };
            batch.streams.iter().for_each(|stream| taking.stream(stream));
            (taking.writer.finish(), taking.appended)
        });
        ((!plain.is_empty()).then(|| Bytes::from(snappy(&plain))), appended)
    }
}

// ---- writing ----

impl EntrySink for RemoteLogs {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.append_noting(batch, &mut Vec::new())
    }

    /// What `durable` waits for is the other system's word; without that wait nothing is sent.
    fn append_noting(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> Result<LogAppended, SourceError> {
        let (body, mut appended) = self.take(batch, skipped);
        if let Some(body) = body {
            appended.durable = self.link.sent(body);
        }
        Ok(appended)
    }
}

/// See [`RemoteLogs::queued`].
struct Queued(Arc<RemoteLogs>);

impl EntrySink for Queued {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        let (body, appended) = self.0.take(batch, &mut Vec::new());
        if let Some(body) = body {
            self.0.link.push(body);
        }
        Ok(appended)
    }
}

/// A batch while it is checked and put into a push.
struct Taking<'a> {
    batch: &'a LogBatch,
    newest_ns: i64,
    limits: Arc<Limits>,
    recent: &'a mut Recent,
    active: &'a ActiveLimit,
    writer: PushWriter,
    skipped: &'a mut Vec<u32>,
    appended: LogAppended,
}

impl Taking<'_> {
    fn stream(&mut self, stream: &PushStream) {
        let batch = self.batch;
        if stream.entries.is_empty() {
            return;
        }
        if let Some(reason) = self.fault_of_stream(&stream.labels) {
            self.skipped.extend(stream.entries.clone());
            self.refuse(stream.entries.len() as u64, &stream.labels, reason);
            return;
        }
        self.writer.begin_stream(&stream.labels);
        for (place, entry) in stream.entries.clone().zip(batch.entries_of(stream)) {
            let line = batch.line_of(entry);
            match self.fault_of(entry, line) {
                Some(reason) => {
                    self.skipped.push(place);
                    self.refuse(1, &stream.labels, reason);
                }
                None => {
                    self.writer.entry(entry.t_ns, line, &entry.metadata);
                    self.appended.entries += 1;
                    self.appended.bytes += line.len() as u64;
                }
            }
        }
    }

    fn fault_of_stream(&mut self, labels: &Labels) -> Option<EntryReason> {
        if let Some(reason) = validate::labels(labels, &self.limits) {
            return Some(reason);
        }
        match self.recent.touch(labels.fingerprint(), self.active) {
            Ok(is_new) => {
                self.appended.created += u64::from(is_new);
                None
            }
            Err(limit) => Some(EntryReason::MaxStreams { limit }),
        }
    }

    /// What is too old the other system knows.
    fn fault_of(&self, entry: &PushEntry, line: &str) -> Option<EntryReason> {
        if entry.t_ns > self.newest_ns {
            return Some(EntryReason::TooNew { t_ns: entry.t_ns });
        }
        let (bytes, limit) = (line.len() as u64, validate::line_limit(&self.limits));
        if bytes > limit {
            return Some(EntryReason::LineTooLong { bytes, limit });
        }
        validate::metadata(&entry.metadata, &self.limits)
    }

    fn refuse(&mut self, entries: u64, labels: &Labels, reason: EntryReason) {
        self.appended.refuse(entries, || EntryRejection { reason, labels: labels.clone() });
    }
}

// ---- reading ----

impl Evaluator for RemoteLogs {
    fn instant(
        &self,
        expression: &str,
        t_ms: i64,
        budget: &Budget,
    ) -> Result<Option<QueryValue>, SourceError> {
        let time_ns = t_ms.saturating_mul(1_000_000).to_string();
        let form = [("query", expression), ("time", &time_ns)];
        let body = self.link.asker.ask("/loki/api/v1/query", &form, budget)?;
        budget.reserve_bytes(body.len() as u64)?;
        answers::query_value(&body)
    }
}

impl EntrySource for RemoteLogs {
    /// Page by page. More entries of one nanosecond than a page holds cannot be told apart from
    /// those that came already, and are an error.
    fn read(
        &self,
        selection: &LogSelection,
        visitor: &dyn EntryVisitor,
        budget: &Budget,
    ) -> Result<ReadReport, SourceError> {
        let mut report = ReadReport::default();
        let mut pages = Pages::new(selection);
        while let Some((page, _taken)) = pages.next(&self.link.asker, budget)? {
            report.blocks += 1;
            let streams = pages.unseen(page)?;
            for (number, stream) in streams {
                report.decompressed_bytes += stream.text.len() as u64;
                if visitor.batch(&stream.batch(number))? == Flow::Stop {
                    return Ok(report);
                }
            }
        }
        report.streams = pages.numbers.len() as u64;
        Ok(report)
    }

    fn label_names(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        self.list("/loki/api/v1/labels", query, budget)
    }

    fn label_values(
        &self,
        name: &str,
        query: &StreamQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        self.list(&format!("/loki/api/v1/label/{}/values", segment(name)), query, budget)
    }

    fn streams(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError> {
        let mut form: Vec<(&str, String)> =
            query.matcher_sets.iter().map(|set| ("match[]", selector(set))).collect();
        form.extend(bounds(query));
        answers::label_sets(&self.asked("/loki/api/v1/series", &form, budget)?)
    }

    fn stats(&self, query: &StreamQuery, budget: &Budget) -> Result<LogStats, SourceError> {
        let mut total = LogStats::default();
        for set in sets(query) {
            let mut form = vec![("query", selector(&set))];
            form.extend(bounds(query));
            let body = self.asked("/loki/api/v1/index/stats", &form, budget)?;
            let stats = answers::stats(&body)?;
            total.streams = total.streams.saturating_add(stats.streams);
            total.chunks = total.chunks.saturating_add(stats.chunks);
            total.bytes = total.bytes.saturating_add(stats.bytes);
            total.entries = total.entries.saturating_add(stats.entries);
        }
        Ok(total)
    }

    /// Counted by reading: what the other side tells of volumes has no entries in it.
    fn volume(
        &self,
        query: &StreamQuery,
        period_ns: i64,
        budget: &Budget,
    ) -> Result<Vec<StreamVolume>, SourceError> {
        let counting = Counting { start_ns: query.start_ns, period_ns, found: Mutex::default() };
        for set in sets(query) {
            let selection = LogSelection::all(set, query.start_ns, query.end_ns);
            self.read(&selection, &counting, budget)?;
        }
        let found = counting.found.into_inner().into_iter();
        Ok(found
            .map(|(labels, buckets)| StreamVolume {
                labels,
                buckets: buckets.into_iter().map(|(k, (bytes, entries))| (k, bytes, entries)).collect(),
            })
            .collect())
    }
}

impl RemoteLogs {
    fn list(&self, path: &str, query: &StreamQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        let mut texts: Vec<String> = Vec::new();
        for set in sets(query) {
            let mut form = bounds(query);
            if !query.matcher_sets.is_empty() {
                form.push(("query", selector(&set)));
            }
            texts.extend(answers::texts(&self.asked(path, &form, budget)?)?);
        }
        texts.sort_unstable();
        texts.dedup();
        Ok(texts)
    }

    fn asked(&self, path: &str, form: &[(&str, String)], budget: &Budget) -> Result<Bytes, SourceError> {
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let body = self.link.asker.ask(path, &form, budget)?;
        // What the answer becomes, beside the answer itself.
        budget.reserve_bytes(body.len() as u64)?;
        Ok(body)
    }
}

fn selector(matchers: &[Matcher]) -> String {
    let texts: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", texts.join(", "))
}

/// The sets that are asked about one by one; none stands for everything.
fn sets(query: &StreamQuery) -> Vec<Vec<Matcher>> {
    match query.matcher_sets.as_slice() {
        [] => vec![Vec::new()],
        sets => sets.to_vec(),
    }
}

fn bounds(query: &StreamQuery) -> Vec<(&'static str, String)> {
    vec![("start", query.start_ns.to_string()), ("end", query.end_ns.to_string())]
}

/// One stream's entries of a page, ascending.
#[derive(Debug, Default)]
struct Page {
    labels: Labels,
    times_ns: Vec<i64>,
    text: String,
    bounds: Vec<u32>,
    metadata: Vec<Labels>,
    metadata_numbers: Vec<u32>,
}

impl Page {
    fn new(labels: Labels) -> Self {
        Self { labels, bounds: vec![0], ..Self::default() }
    }

    fn push(&mut self, entry: &answers::Entry) {
        self.times_ns.push(entry.t_ns);
        self.text.push_str(&entry.line);
        self.bounds.push(self.text.len() as u32);
        self.metadata_numbers.push(self.metadata.len() as u32);
        self.metadata.push(entry.metadata.labels());
    }

    fn batch(&self, number: u64) -> EntryBatch<'_> {
        EntryBatch {
            labels: &self.labels,
            stream: number,
            times_ns: &self.times_ns,
            text: &self.text,
            bounds: &self.bounds,
            metadata_sets: &self.metadata,
            metadata: &self.metadata_numbers,
        }
    }
}

/// Goes through a range from one end to the other.
struct Pages {
    query: String,
    start_ns: i64,
    end_ns: i64,
    newest_first: bool,
    is_done: bool,
    /// What came already of the time at which the next page begins.
    border: HashSet<(Labels, String)>,
    numbers: BTreeMap<Labels, u64>,
}

impl Pages {
    fn new(selection: &LogSelection) -> Self {
        Self {
            query: selector(&selection.matchers),
            start_ns: selection.start_ns,
            end_ns: selection.end_ns,
            newest_first: selection.order == ReadOrder::Newest,
            is_done: selection.start_ns >= selection.end_ns,
            border: HashSet::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// The streams of a page, and their memory.
    fn next(&mut self, asker: &Asker, budget: &Budget) -> Result<Option<(Vec<Stream>, Taken)>, SourceError> {
        if self.is_done {
            return Ok(None);
        }
        // Nothing else ends a range whose other side has ever more lines of one time.
        budget.check("a query to the remote store")?;
        let (start, end, limit) =
            (self.start_ns.to_string(), self.end_ns.to_string(), REMOTE_PAGE_ENTRIES.to_string());
        let direction = if self.newest_first { "backward" } else { "forward" };
        let form = [
            ("query", self.query.as_str()),
            ("start", &start),
            ("end", &end),
            ("limit", &limit),
            ("direction", direction),
        ];
        let body = asker.ask("/loki/api/v1/query_range", &form, budget)?;
        let mut taken = budget.taking();
        // As it is read, and as it is handed on.
        taken.grow(2 * body.len() as u64)?;
        Ok(Some((answers::lines(&body)?, taken)))
    }

    /// The page without what came before or was not asked for, each stream ascending, and sets out for
    /// the next one.
    fn unseen(&mut self, mut streams: Vec<Stream>) -> Result<Vec<(u64, Page)>, SourceError> {
        let count: usize = streams.iter().map(|stream| stream.values.len()).sum();
        // With anything of another time the next page might begin before this one.
        let range = self.start_ns..self.end_ns;
        streams.iter_mut().for_each(|stream| stream.values.retain(|entry| range.contains(&entry.t_ns)));
        let times = streams.iter().flat_map(|stream| stream.values.iter().map(|entry| entry.t_ns));
        let last = if self.newest_first { times.min() } else { times.max() };
        let seen = std::mem::take(&mut self.border);
        let mut pages = Vec::new();
        let mut fresh = 0;
        for stream in streams {
            let labels = stream.stream.labels();
            let next = self.numbers.len() as u64;
            let number = *self.numbers.entry(labels.clone()).or_insert(next);
            let mut entries = stream.values;
            entries.sort_by_key(|entry| entry.t_ns);
            let mut page = Page::new(labels.clone());
            for entry in entries {
                let key = (labels.clone(), entry.line.clone());
                if !seen.contains(&key) || Some(entry.t_ns) != self.border_ns() {
                    fresh += 1;
                    page.push(&entry);
                }
                if Some(entry.t_ns) == last {
                    self.border.insert(key);
                }
            }
            pages.push((number, page));
        }
        if fresh == 0 && count >= REMOTE_PAGE_ENTRIES {
            return Err(answers::strange("more lines of one nanosecond than it gives at once"));
        }
        self.set_out(last, count);
        Ok(pages)
    }

    /// The time that the page at hand began with.
    fn border_ns(&self) -> Option<i64> {
        if self.newest_first { self.end_ns.checked_sub(1) } else { Some(self.start_ns) }
    }

    fn set_out(&mut self, last: Option<i64>, count: usize) {
        match last {
            Some(last) if count >= REMOTE_PAGE_ENTRIES && self.newest_first => {
                self.end_ns = last.saturating_add(1)
            }
            Some(last) if count >= REMOTE_PAGE_ENTRIES => self.start_ns = last,
            _ => self.is_done = true,
        }
    }
}

/// The times of each stream of an answer, as a range takes them from its first page; for the fuzzer.
#[doc(hidden)]
pub fn first_page(body: &[u8], range: &LogSelection) -> Result<Vec<Vec<i64>>, SourceError> {
    let pages = Pages::new(range).unseen(answers::lines(body)?)?;
    Ok(pages.into_iter().map(|(_, page)| page.times_ns).collect())
}

/// Bytes and entries by bucket.
type Buckets = BTreeMap<i64, (u64, u64)>;

/// What each stream holds.
struct Counting {
    start_ns: i64,
    period_ns: i64,
    found: Mutex<BTreeMap<Labels, Buckets>>,
}

impl EntryVisitor for Counting {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        let mut found = self.found.lock();
        let buckets = found.entry(batch.labels.clone()).or_default();
        for (i, t_ns) in batch.times_ns.iter().enumerate() {
            let since = t_ns.saturating_sub(self.start_ns);
            let bucket = if self.period_ns > 0 { since.div_euclid(self.period_ns) } else { 0 };
            let metadata = batch.metadata_of(i).map_or(0, |m| m.iter().map(|(n, v)| n.len() + v.len()).sum());
            let (bytes, entries) = buckets.entry(bucket).or_default();
            *bytes += (batch.line_bytes(i) + metadata) as u64;
            *entries += 1;
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(entries: &[(i64, &str)]) -> Stream {
        let values: Vec<_> =
            entries.iter().map(|(t, line)| serde_json::json!([t.to_string(), line])).collect();
        serde_json::from_value(serde_json::json!({"stream": {"app": "x"}, "values": values})).unwrap()
    }

    fn lines(pages: &[(u64, Page)]) -> Vec<String> {
        pages
            .iter()
            .flat_map(|(_, page)| (0..page.times_ns.len()).map(|i| page.batch(0).line(i).to_owned()))
            .collect()
    }

    /// What lies on the border of two pages comes once.
    #[test]
    fn pages_join_without_gap_or_repetition() {
        let mut pages = Pages::new(&LogSelection::all(vec![Matcher::equal("app", "x")], 0, 100));
        let full = REMOTE_PAGE_ENTRIES;
        let mut first: Vec<(i64, String)> = (0..full as i64 - 2).map(|i| (1, format!("{i}"))).collect();
        first.extend([(2, "a".to_owned()), (2, "b".to_owned())]);
        let first: Vec<(i64, &str)> = first.iter().map(|(t, l)| (*t, l.as_str())).collect();
        assert_eq!(lines(&pages.unseen(vec![stream(&first)]).unwrap()).len(), full);
        assert_eq!((pages.start_ns, pages.is_done), (2, false));
        let second = [(2, "a"), (2, "b"), (2, "c"), (3, "a"), (1, "before"), (100, "behind")];
        let second = pages.unseen(vec![stream(&second)]).unwrap();
        assert_eq!(lines(&second), ["c", "a"]);
        assert!(pages.is_done);
    }
}
