//! From a body to a batch: parse, relabel, compare with what was there before.

use pilothouse_model::labels::quote;
use pilothouse_model::limits::Limits;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::write::{BatchExemplar, BatchSeries, MetadataEntry, WriteBatch};
use pilothouse_model::{Histogram, Labels, LabelsBuilder};
use pilothouse_query::histogram::{compact, reduce_to};
use pilothouse_wire::exposition::protobuf::{self, HistogramForms};
use pilothouse_wire::exposition::{self, UNTIMED};
use pilothouse_wire::{DecodeError, Decoded};

use crate::cache::{Known, SeriesCache};
use crate::config::{Histograms, Job};
use crate::exchange::{Form, ScrapeError};
use crate::nhcb::{self, Converted};
use crate::relabel;

/// What the series about a scrape say of its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) scraped: u64,
    /// Left by metric relabelling.
    pub(crate) kept: u64,
    /// Series that the scrape before did not have.
    pub(crate) added: u64,
    /// Samples of one series and time in one body.
    pub(crate) duplicates: u64,
}

/// What becomes of a body.
#[derive(Debug)]
pub(crate) struct Ingested {
    pub(crate) batch: WriteBatch,
    pub(crate) counts: Counts,
    pub(crate) metadata: Vec<MetadataEntry>,
    pub(crate) result: Result<(), ScrapeError>,
}

/// What holds for one scrape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ingest<'a> {
    pub(crate) job: &'a Job,
    /// The target's labels.
    pub(crate) public: &'a Labels,
    pub(crate) histograms: Histograms,
    pub(crate) limits: &'a Limits,
    pub(crate) t_ms: i64,
}

impl Ingest<'_> {
    /// Takes a body. If anything of it is wrong nothing of it is written, and all series of the
    /// target end.
    pub(crate) fn body(self, cache: &mut SeriesCache, body: &[u8], form: Form) -> Ingested {
        cache.begin();
        let mut filling =
            Filling { ingest: self, batch: WriteBatch::of_labels(), counts: Counts::default(), over: None };
        let (decoded, fault) = self.decode(body, form);
        // What stands before a fault is counted, and nothing more.
        let filled = filling.all(cache, &decoded, form).and_then(|()| {
            let fault = fault.map(|e| ScrapeError::Body(e.to_string()));
            fault.or(filling.over.take()).map_or(Ok(decoded.batch.metadata), Err)
        });
        let counts = filling.counts;
        match filled {
            Ok(metadata) => {
                let mut batch = filling.batch;
                self.end(&mut batch, &cache.succeed());
                Ingested { batch, counts, metadata, result: Ok(()) }
            }
            Err(e) => Ingested { counts, ..self.failure(cache, e) },
        }
    }

    /// Takes it that there is no body: all series of the target end.
    pub(crate) fn nothing(self, cache: &mut SeriesCache, why: ScrapeError) -> Ingested {
        cache.begin();
        self.failure(cache, why)
    }

    fn failure(self, cache: &mut SeriesCache, why: ScrapeError) -> Ingested {
        let mut batch = WriteBatch::of_labels();
        self.end(&mut batch, &cache.fail());
        Ingested { batch, counts: Counts::default(), metadata: Vec::new(), result: Err(why) }
    }

    fn end(self, batch: &mut WriteBatch, series: &[Labels]) {
        series.iter().for_each(|labels| batch.push_float(labels, self.t_ms, stale_nan()));
    }

    fn decode(self, body: &[u8], form: Form) -> (Decoded, Option<DecodeError>) {
        match form {
            Form::Text(format) => exposition::parse_prefix(format, body, UNTIMED, self.limits),
            Form::Protobuf => {
                let Histograms { native, always_classic, .. } = self.histograms;
                let forms = HistogramForms { native, classic_too: always_classic };
                protobuf::parse_prefix(body, UNTIMED, forms, self.limits)
            }
        }
    }

    /// The labels that a series is stored with; `None` where it is dropped.
    fn labels_of(self, exposed: &Exposed) -> Result<Option<Labels>, ScrapeError> {
        let mut labels = LabelsBuilder::from(&exposed.labels);
        if self.job.honor_labels {
            add_missing(&mut labels, self.public, &exposed.blank);
        } else {
            add_over(&mut labels, self.public);
        }
        if !relabel::apply(&self.job.metric_relabel, &mut labels) {
            return Ok(None);
        }
        let labels = labels.build();
        if labels.is_empty() {
            return Ok(None);
        }
        self.check(&labels)?;
        Ok(Some(labels))
    }

    fn check(self, labels: &Labels) -> Result<(), ScrapeError> {
        let refuse = |why: String| Err(ScrapeError::Body(why));
        let names = self.job.names;
        let Some(name) = labels.metric_name() else {
            return refuse("missing metric name (__name__ label)".to_owned());
        };
        if !names.is_metric_name(name) || labels.iter().any(|(n, _)| !names.is_label_name(n)) {
            return refuse(format!("invalid metric name or label names: {labels}"));
        }
        self.check_limits(labels, name)
    }

    fn check_limits(self, labels: &Labels, metric: &str) -> Result<(), ScrapeError> {
        let job = self.job;
        let (metric, over) = (cut(metric), |limit: u64, actual: usize| limit > 0 && actual as u64 > limit);
        let (number, limit) = (labels.len(), job.label_limit);
        if over(limit, number) {
            return Err(ScrapeError::Body(format!(
                "label_limit exceeded (metric: {metric}, number of labels: {number}, limit: {limit})"
            )));
        }
        for (name, value) in labels {
            let (length, limit) = (name.len(), job.label_name_length_limit);
            let shown = cut(name);
            if over(limit, length) {
                return Err(ScrapeError::Body(format!(
                    "label_name_length_limit exceeded (metric: {metric}, label name: {shown}, length: {length}, limit: {limit})"
                )));
            }
            let (length, limit) = (value.len(), job.label_value_length_limit);
            if over(limit, length) {
                let value = quote(cut(value));
                return Err(ScrapeError::Body(format!(
                    "label_value_length_limit exceeded (metric: {metric}, label name: {shown}, value: {value}, length: {length}, limit: {limit})"
                )));
            }
        }
        Ok(())
    }
}

/// The batch of one body while it grows.
struct Filling<'a> {
    ingest: Ingest<'a>,
    batch: WriteBatch,
    counts: Counts,
    /// A limit of the job that was met; all is counted nevertheless.
    over: Option<ScrapeError>,
}

impl Filling<'_> {
    /// The series of a body in their order; what is converted comes behind.
    fn all(&mut self, cache: &mut SeriesCache, decoded: &Decoded, form: Form) -> Result<(), ScrapeError> {
        let histograms = self.ingest.histograms;
        let (told, made) = match histograms.convert_classic {
            true => nhcb::convert(decoded, form).map_err(ScrapeError::Body)?,
            false => Default::default(),
        };
        for series in &decoded.batch.series {
            if histograms.always_classic || !told.contains(&series.key) {
                self.series(cache, decoded, series)?;
            }
        }
        made.into_iter().try_for_each(|converted| self.converted(cache, converted))
    }

    fn series(
        &mut self,
        cache: &mut SeriesCache,
        decoded: &Decoded,
        series: &BatchSeries,
    ) -> Result<(), ScrapeError> {
        let (floats, histograms) = (decoded.batch.floats_of(series), decoded.batch.histograms_of(series));
        self.counts.scraped += (floats.len() + histograms.len()) as u64;
        let exposed = || exposed_labels(decoded.batch.raw_labels(series), decoded);
        let Some((labels, again, is_new)) = self.find(cache, series.key, exposed)? else { return Ok(()) };
        let before = self.batch.series.len();
        let mut turn = Turn { again, ends: false };
        for sample in floats {
            if let Some(t_ms) = self.time(sample.t_ms, &mut turn) {
                self.batch.push_float(&labels, t_ms, sample.value);
            }
        }
        for sample in histograms {
            if let Some(t_ms) = self.time(sample.t_ms, &mut turn)
                && let Some(histogram) = self.resized(sample.histogram.clone())
            {
                self.batch.push_histogram(&labels, t_ms, histogram);
            }
        }
        if turn.ends {
            cache.track(series.key);
        }
        if self.batch.series.len() > before {
            self.counts.added += u64::from(is_new && self.over.is_none());
            self.exemplars(decoded.batch.exemplars_of(series));
        }
        Ok(())
    }

    fn converted(&mut self, cache: &mut SeriesCache, made: Converted) -> Result<(), ScrapeError> {
        self.counts.scraped += 1;
        // No key of the wire's is one of these: it is a hash over another form of labels.
        let key = made.labels.fingerprint();
        let Some((labels, again, is_new)) =
            self.find(cache, key, || Ok(Exposed { labels: made.labels.clone(), blank: Vec::new() }))?
        else {
            return Ok(());
        };
        let mut turn = Turn { again, ends: false };
        if let Some(t_ms) = self.time(made.t_ms, &mut turn)
            && let Some(histogram) = self.resized(made.histogram)
        {
            self.batch.push_histogram(&labels, t_ms, histogram);
            self.counts.added += u64::from(is_new && self.over.is_none());
            self.exemplars(&made.exemplars);
        }
        if turn.ends {
            cache.track(key);
        }
        Ok(())
    }

    /// The final labels of a series, whether it was in this body before, and whether it is new;
    /// `None` for one that is dropped.
    fn find(
        &self,
        cache: &mut SeriesCache,
        key: u128,
        exposed: impl FnOnce() -> Result<Exposed, ScrapeError>,
    ) -> Result<Option<(Labels, bool, bool)>, ScrapeError> {
        match cache.look_up(key) {
            Known::Dropped => Ok(None),
            Known::Series { labels, again } => Ok(Some((labels, again, false))),
            Known::New => {
                let labels = self.ingest.labels_of(&exposed()?)?;
                cache.insert(key, labels.clone());
                Ok(labels.map(|labels| (labels, false, true)))
            }
        }
    }

    /// Of the series that was pushed last. Those without a time have the scrape's.
    fn exemplars(&mut self, exemplars: &[BatchExemplar]) {
        let scraped_ms = self.ingest.t_ms;
        let dated = |exemplar: &BatchExemplar| {
            let t_ms = if exemplar.t_ms == UNTIMED { scraped_ms } else { exemplar.t_ms };
            BatchExemplar { t_ms, ..exemplar.clone() }
        };
        let dated: Vec<BatchExemplar> = exemplars.iter().map(dated).collect();
        self.batch.push_exemplars(dated);
    }

    /// The time of a sample that is written; `None` for one that is counted alone.
    fn time(&mut self, exposed_ms: i64, turn: &mut Turn) -> Option<i64> {
        let job = self.ingest.job;
        let own = exposed_ms != UNTIMED && job.honor_timestamps;
        self.counts.kept += 1;
        if std::mem::replace(&mut turn.again, true) && !own {
            self.counts.duplicates += 1;
            return None;
        }
        if job.sample_limit > 0 && self.batch.series.len() as u64 >= job.sample_limit {
            self.over.get_or_insert(ScrapeError::SampleLimit);
            return None;
        }
        turn.ends |= !own || job.track_timestamps_staleness;
        Some(if own { exposed_ms } else { self.ingest.t_ms })
    }

    /// A native histogram within the job's bounds; `None` where it cannot be made to fit.
    fn resized(&mut self, mut histogram: Histogram) -> Option<Histogram> {
        let job = self.ingest.job;
        compact(&mut histogram);
        if job.min_bucket_factor > 1.0 {
            reduce_to(&mut histogram, finest_for(job.min_bucket_factor));
        }
        let buckets = |h: &Histogram| (h.positive_counts.len() + h.negative_counts.len()) as u64;
        while job.bucket_limit > 0 && buckets(&histogram) > job.bucket_limit {
            if histogram.has_custom_buckets() || histogram.schema <= COARSEST_SCHEMA {
                self.over.get_or_insert(ScrapeError::BucketLimit);
                return None;
            }
            let coarser = histogram.schema - 1;
            reduce_to(&mut histogram, coarser);
        }
        Some(histogram)
    }
}

/// Where the samples of one line, or of several that follow each other, stand.
struct Turn {
    /// A sample of the series came before in this body.
    again: bool,
    /// The series ends by a marker when it goes.
    ends: bool,
}

const COARSEST_SCHEMA: i32 = -4;
const FINEST_SCHEMA: i32 = 8;

/// The finest schema whose buckets grow by at least `factor`.
fn finest_for(factor: f64) -> i32 {
    let schema = (-factor.log2().log2()).floor();
    schema.clamp(f64::from(COARSEST_SCHEMA), f64::from(FINEST_SCHEMA)) as i32
}

/// The first fifty characters.
fn cut(text: &str) -> &str {
    text.char_indices().nth(50).map_or(text, |(at, _)| text.get(..at).unwrap_or(text))
}

/// Labels as a target exposes them.
struct Exposed {
    labels: Labels,
    /// Names of those without a value, which are no labels.
    blank: Vec<String>,
}

/// Raw labels as such. The reader sorts them by name, so that a name given twice stands beside
/// itself.
fn exposed_labels(raw: &[u8], decoded: &Decoded) -> Result<Exposed, ScrapeError> {
    let mut pairs = Vec::new();
    (decoded.batch.read_labels)(raw, &mut pairs).map_err(|e| ScrapeError::Body(e.to_string()))?;
    let mut texts = Vec::with_capacity(pairs.len());
    for (name, value) in &pairs {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            let shown = quote(&String::from_utf8_lossy(name));
            return Err(ScrapeError::Body(format!("label {shown} is not valid UTF-8")));
        };
        if texts.last().is_some_and(|(last, _)| *last == name) {
            return Err(ScrapeError::Body(format!(
                "label name {} is not unique: invalid sample",
                quote(name)
            )));
        }
        texts.push((name, value));
    }
    let blank =
        texts.iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| (*name).to_owned()).collect();
    Ok(Exposed { labels: Labels::from_pairs(texts), blank })
}

/// `honor_labels`: what is exposed wins, also a label that is exposed as blank. So a gateway says
/// that a series has no `instance`.
fn add_missing(labels: &mut LabelsBuilder, public: &Labels, blank: &[String]) {
    for (name, value) in public {
        if labels.get(name).is_none() && !blank.iter().any(|b| b == name) {
            labels.set(name, value);
        }
    }
}

/// What the target says wins; what is exposed under the same name gets `exported_` before it, as
/// often as it takes to be alone. Short names first, so that none takes the place of another.
fn add_over(labels: &mut LabelsBuilder, public: &Labels) {
    let mut displaced: Vec<(&str, String)> = Vec::new();
    for (name, value) in public {
        if let Some(exposed) = labels.get(name) {
            displaced.push((name, exposed.to_owned()));
        }
        labels.set(name, value);
    }
    displaced.sort_by_key(|(name, _)| name.len());
    for (name, value) in displaced {
        let mut name = format!("exported_{name}");
        while labels.get(&name).is_some() {
            name.insert_str(0, "exported_");
        }
        labels.set(&name, &value);
    }
}

#[cfg(test)]
mod tests;
