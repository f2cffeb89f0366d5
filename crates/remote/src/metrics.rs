//! Series that another system keeps: written by remote write, asked by Prometheus' query API.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, header};
use pilothouse_metrics::validate;
use pilothouse_model::labels::{METRIC_NAME, SeriesText};
use pilothouse_model::limits::{Limits, LiveLimits};
use pilothouse_model::ports::{Exemplar, LabelQuery, SeriesSamples};
use pilothouse_model::write::{
    Appended, BatchExemplar, BatchSeries, MetadataEntry, RawPair, Reason, Rejection, WriteBatch,
};
use pilothouse_model::{
    ActiveLimit, Budget, Clock, Evaluator, Labels, Matcher, QueryValue, SampleColumns, SampleSink,
    SelectedSeries, Selection, SeriesSource, SourceError,
};
use pilothouse_wire::body::snappy;
use pilothouse_wire::remote_read::{ReadQuery, ResponseType, encode_request};
use pilothouse_wire::remote_write::{Message, RequestWriter, SeriesParts};
use tokio::runtime::Handle;

use crate::answers;
use crate::ask::segment;
use crate::link::{Headers, Link};
use crate::peer::Peer;
use crate::recent::Recent;

/// As in a store of this server's own.
const ACTIVE_MINUTES: u32 = 20;
/// Times beyond this are no bounds that anybody means, and not every system can read them.
const MOST_MS: i64 = 1 << 50;
/// What a series' name may have behind that of its family.
const SUFFIXES: [&str; 6] = ["_total", "_bucket", "_count", "_sum", "_info", "_created"];

/// A store of series that is far away.
#[derive(Debug)]
pub struct RemoteMetrics {
    link: Link,
}

/// A batch as it is sent.
struct Taken {
    /// `None` where nothing of it is good.
    body: Option<Bytes>,
    appended: Appended,
}

impl RemoteMetrics {
    /// `active` is the limit on active series; calls are made on `runtime`.
    pub fn new(
        peer: Peer,
        limits: LiveLimits,
        active: Arc<ActiveLimit>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        let headers = headers(peer.settings().protocol);
        Self { link: Link::new(peer, headers, limits, active, ACTIVE_MINUTES, clock, runtime) }
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Where this server writes what nobody would send again: it waits while the other system is
    /// away.
    pub fn queued(self: &Arc<Self>) -> Arc<dyn SampleSink> {
        Arc::new(Queued(Arc::clone(self)))
    }

    fn take(&self, batch: &WriteBatch) -> Result<Taken, SourceError> {
        self.link.noting(|recent| {
            let mut taking = Taking::new(&self.link, recent, batch);
            for series in &batch.series {
                taking.series(series)?;
            }
            Ok(taking.finish())
        })
    }
}

fn headers(protocol: Message) -> Headers {
    const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
    static V1: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "application/x-protobuf"),
        (header::CONTENT_ENCODING, "snappy"),
        (VERSION, "0.1.0"),
    ];
    static V2: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        (header::CONTENT_ENCODING, "snappy"),
        (VERSION, "2.0.0"),
    ];
    match protocol {
        Message::V1 => &V1,
        Message::V2 => &V2,
    }
}

// ---- writing ----

impl SampleSink for RemoteMetrics {
    /// What `durable` waits for is the other system's word; without that wait nothing is sent.
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        let Taken { body, mut appended } = self.take(batch)?;
        if let Some(body) = body {
            appended.durable = self.link.sent(body);
        }
        Ok(appended)
    }
}

/// See [`RemoteMetrics::queued`].
struct Queued(Arc<RemoteMetrics>);

impl SampleSink for Queued {
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        let Taken { body, appended } = self.0.take(batch)?;
        if let Some(body) = body {
            self.0.link.push(body);
        }
        Ok(appended)
    }
}

/// A batch while it is checked and put into a request.
struct Taking<'a> {
    batch: &'a WriteBatch,
    limits: Arc<Limits>,
    newest_ms: i64,
    recent: &'a mut Recent,
    active: &'a ActiveLimit,
    writer: RequestWriter,
    /// Of version 2.0, where it goes with each series.
    families: HashMap<&'a str, &'a MetadataEntry>,
    appended: Appended,
}

impl<'a> Taking<'a> {
    fn new(link: &'a Link, recent: &'a mut Recent, batch: &'a WriteBatch) -> Self {
        let limits = link.limits();
        let protocol = link.peer().settings().protocol;
        let mut writer = RequestWriter::new(protocol);
        let mut families = HashMap::new();
        match protocol {
            Message::V1 => batch.metadata.iter().for_each(|entry| writer.metadata(entry)),
            Message::V2 => families.extend(batch.metadata.iter().map(|entry| (entry.family.as_str(), entry))),
        }
        Self {
            newest_ms: link.now_ms().saturating_add_unsigned(limits.max_future_ms),
            active: link.active_limit(),
            batch,
            limits,
            recent,
            writer,
            families,
            appended: Appended::default(),
        }
    }

    fn series(&mut self, series: &BatchSeries) -> Result<(), SourceError> {
        let batch = self.batch;
        let mut pairs: Vec<RawPair<'_>> = Vec::new();
        (batch.read_labels)(batch.raw_labels(series), &mut pairs).map_err(SourceError::storage)?;
        let samples = (series.floats.len() + series.histograms.len()) as u64;
        let labels = match validate::canonical(&mut pairs, &self.limits) {
            Ok(labels) => labels,
            Err(rejection) => {
                self.appended.refuse(samples.max(1), || rejection);
                return Ok(());
            }
        };
        match self.recent.touch(labels.fingerprint(), self.active) {
            Ok(is_new) => self.appended.created += u64::from(is_new),
            Err(limit) => {
                self.appended.refuse(samples.max(1), || refused(&labels, Reason::MaxSeries { limit }));
                return Ok(());
            }
        }
        self.parts(&labels, series);
        Ok(())
    }

    fn parts(&mut self, labels: &Labels, series: &BatchSeries) {
        let (batch, newest_ms) = (self.batch, self.newest_ms);
        let mut floats = batch.floats_of(series).to_vec();
        let mut late = Vec::new();
        floats.retain(|sample| {
            let fits = sample.t_ms <= newest_ms;
            late.extend((!fits).then_some(Reason::TooFarInFuture { t_ms: sample.t_ms }));
            fits
        });
        let mut histograms = Vec::new();
        for sample in batch.histograms_of(series) {
            let t_ms = sample.t_ms;
            match validate::histogram(sample) {
                _ if t_ms > newest_ms => late.push(Reason::TooFarInFuture { t_ms }),
                Ok(histogram) => {
                    let histogram = histogram.into_owned();
                    histograms.push(pilothouse_model::write::HistogramSample { t_ms, histogram });
                }
                Err(reason) => late.push(reason),
            }
        }
        late.into_iter().for_each(|reason| self.appended.refuse(1, || refused(labels, reason)));
        let exemplars = self.exemplars(batch.exemplars_of(series));
        if floats.is_empty() && histograms.is_empty() && exemplars.is_empty() {
            return;
        }
        self.appended.floats += floats.len() as u64;
        self.appended.histograms += histograms.len() as u64;
        self.appended.exemplars += exemplars.len() as u64;
        let metadata = self.family_of(labels);
        let parts = SeriesParts { floats: &floats, histograms: &histograms, exemplars: &exemplars, metadata };
        self.writer.series(labels, &parts);
    }

    /// Those whose labels are not too long; the others are left out, and their series stays.
    fn exemplars(&self, exemplars: &[BatchExemplar]) -> Vec<BatchExemplar> {
        let limit = self.limits.max_exemplar_label_chars;
        let chars = |e: &BatchExemplar| -> usize {
            e.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum()
        };
        exemplars.iter().filter(|e| chars(e) as u64 <= limit).cloned().collect()
    }

    fn family_of(&self, labels: &Labels) -> Option<&'a MetadataEntry> {
        let name = labels.metric_name()?;
        let shorter = || SUFFIXES.iter().find_map(|s| self.families.get(name.strip_suffix(s)?));
        self.families.get(name).or_else(shorter).copied()
    }

    fn finish(self) -> Taken {
        let body = (!self.writer.is_empty()).then(|| Bytes::from(snappy(&self.writer.finish())));
        Taken { body, appended: self.appended }
    }
}

fn refused(labels: &Labels, reason: Reason) -> Rejection {
    Rejection { reason, series: SeriesText(labels).to_string() }
}

// ---- reading ----

impl Evaluator for RemoteMetrics {
    fn instant(
        &self,
        expression: &str,
        t_ms: i64,
        budget: &Budget,
    ) -> Result<Option<QueryValue>, SourceError> {
        let form = [("query", expression), ("time", &seconds(t_ms))];
        let body = self.link.asker.ask("/api/v1/query", &form, budget)?;
        budget.reserve_bytes(body.len() as u64)?;
        answers::query_value(&body)
    }
}

/// Samples that were brought here.
struct Brought(SampleColumns);

impl SeriesSamples for Brought {
    fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) -> Result<(), SourceError> {
        *out = SampleColumns::default();
        let all = self.0.times_ms.iter().zip(&self.0.values);
        let within = all.filter(|(t, _)| (start_ms..=end_ms).contains(*t));
        within.for_each(|(t, value)| out.push_float(*t, *value));
        let histograms = self.0.histograms.iter().filter(|(t, _)| (start_ms..=end_ms).contains(t));
        out.histograms.extend(histograms.cloned());
        Ok(())
    }
}

impl SeriesSource for RemoteMetrics {
    /// By the query API, which tells no stale markers; native histograms have no schema there, so
    /// where there are any all of it comes by remote read.
    fn select(&self, selection: &Selection, budget: &Budget) -> Result<Vec<SelectedSeries>, SourceError> {
        let Selection { matchers, start_ms, end_ms, .. } = selection;
        let (start_ms, end_ms) = ((*start_ms).max(0), (*end_ms).min(MOST_MS));
        if start_ms > end_ms {
            return Ok(Vec::new());
        }
        // A range is open at its left end.
        let query = format!("{}[{}ms]", selector(matchers), end_ms - start_ms + 1);
        let form = [("query", query.as_str()), ("time", &seconds(end_ms))];
        let body = self.link.asker.ask("/api/v1/query", &form, budget)?;
        // What the answer becomes, beside the answer itself.
        budget.reserve_bytes(body.len() as u64)?;
        let series = match answers::raw_series(&body)? {
            Some(series) => series,
            None => {
                drop(body);
                self.read(ReadQuery { start_ms, end_ms, matchers: matchers.clone() }, budget)?
            }
        };
        budget.add_series(series.len() as u64)?;
        let mut selected = Vec::with_capacity(series.len());
        for (labels, samples) in series {
            budget.add_samples(samples.len() as u64)?;
            selected.push(SelectedSeries { labels, samples: Box::new(Brought(samples)) });
        }
        Ok(selected)
    }

    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        self.list("/api/v1/labels", query, budget)
    }

    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        self.list(&format!("/api/v1/label/{}/values", segment(name)), query, budget)
    }

    fn series(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError> {
        let mut query = query.clone();
        if query.matcher_sets.is_empty() {
            let every = Matcher::new(pilothouse_model::MatchOp::NotEqual, METRIC_NAME, "");
            query.matcher_sets.extend(every.map(|matcher| vec![matcher]));
        }
        let mut series = answers::label_sets(&self.listed("/api/v1/series", &query, budget)?)?;
        budget.add_series(series.len() as u64)?;
        cut(&mut series, query.limit);
        Ok(series)
    }

    fn exemplars(
        &self,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        let mut found = Vec::new();
        for matchers in &query.matcher_sets {
            let mut form = vec![("query", selector(matchers))];
            form.extend(bounds(query));
            let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let body = self.link.asker.ask("/api/v1/query_exemplars", &form, budget)?;
            budget.reserve_bytes(body.len() as u64)?;
            found.extend(answers::exemplars(&body)?);
        }
        Ok(found)
    }

    fn metadata(&self, family: Option<&str>, budget: &Budget) -> Result<Vec<MetadataEntry>, SourceError> {
        let form: Vec<(&str, &str)> = family.map(|family| ("metric", family)).into_iter().collect();
        let body = self.link.asker.ask("/api/v1/metadata", &form, budget)?;
        budget.reserve_bytes(body.len() as u64)?;
        answers::metadata(&body)
    }
}

impl RemoteMetrics {
    /// Samples as they are kept.
    fn read(&self, query: ReadQuery, budget: &Budget) -> Result<Vec<(Labels, SampleColumns)>, SourceError> {
        let request = Bytes::from(snappy(&encode_request(&[query], &[ResponseType::Samples])));
        let body = self.link.asker.read(request, budget)?;
        let limit = self.link.limits().max_histogram_buckets;
        let series = answers::read_series(&body, usize::try_from(limit).unwrap_or(usize::MAX), budget)?;
        Ok(series.into_iter().map(|series| (series.labels, series.samples)).collect())
    }

    fn list(&self, path: &str, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        let mut texts = answers::texts(&self.listed(path, query, budget)?)?;
        texts.sort_unstable();
        cut(&mut texts, query.limit);
        Ok(texts)
    }

    fn listed(&self, path: &str, query: &LabelQuery, budget: &Budget) -> Result<Bytes, SourceError> {
        let mut form: Vec<(&str, String)> =
            query.matcher_sets.iter().map(|set| ("match[]", selector(set))).collect();
        form.extend(bounds(query));
        if query.limit > 0 {
            form.push(("limit", query.limit.to_string()));
        }
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let body = self.link.asker.ask(path, &form, budget)?;
        budget.reserve_bytes(body.len() as u64)?;
        Ok(body)
    }
}

/// Not every system knows the limit.
fn cut<T>(list: &mut Vec<T>, limit: usize) {
    if limit > 0 {
        list.truncate(limit);
    }
}

fn selector(matchers: &[Matcher]) -> String {
    let texts: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

/// As a parameter: seconds with a fraction.
fn seconds(t_ms: i64) -> String {
    (t_ms as f64 / 1000.0).to_string()
}

/// Ends of a range that are meant as such.
fn bounds(query: &LabelQuery) -> Vec<(&'static str, String)> {
    let ends = [("start", query.start_ms), ("end", query.end_ms)];
    ends.into_iter().filter(|(_, t)| t.abs() < MOST_MS).map(|(name, t)| (name, seconds(t))).collect()
}
