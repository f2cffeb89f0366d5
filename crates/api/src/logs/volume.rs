//! How many bytes streams hold, by series or by label name, at once or in steps.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilothouse_logql::{self as logql, QueryStats};
use pilothouse_model::log_ports::StreamVolume;
use pilothouse_model::{Budget, EntrySource, Labels, MatchOp, Matcher, StreamQuery};
use pilothouse_wire::logs::SamplesWriter;

use crate::App;
use crate::error::ApiError;
use crate::json::{push_labels, push_list, push_seconds, push_string};
use crate::logs::answer::json;
use crate::logs::discover::ask;
use crate::logs::errors::from_source;
use crate::logs::params::{self, Span};
use crate::logs::protobuf;
use crate::logs::stats::stats_json;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

const DEFAULT_LIMIT: usize = 100;

/// What volumes are added up by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    /// Streams, shown with these labels only, or with all.
    Series(Option<Vec<String>>),
    /// Names of labels: these, or all there are.
    Names(Option<Vec<String>>),
}

struct Question {
    span: Span,
    /// Above zero for volumes in steps.
    step_ns: i64,
    matchers: Vec<Matcher>,
    by: By,
    limit: usize,
}

pub(crate) async fn instant(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    answered(app, call, false).await
}

pub(crate) async fn range(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    answered(app, call, true).await
}

async fn answered(app: &Arc<App>, call: Call, in_steps: bool) -> Result<Reply, ApiError> {
    let asked = ask(app, call.client, move |app, source, budget| {
        let began = Instant::now();
        let question = Question::read(app, &call.params, in_steps)?;
        let max = app.limits().max_volume_series;
        let sums = question.sums(source, budget, max)?;
        let exec_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let stats = QueryStats { exec_ns, ..QueryStats::default() };
        Ok(if protobuf::is_wanted(&call) {
            protobuf::reply(question.as_protobuf(&sums, &stats))
        } else {
            json(question.written(sums, &stats))
        })
    });
    asked.await
}

/// Bytes by bucket, ascending, of one series or label name.
type Sums = Vec<(Key, Vec<(i64, u64)>)>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Series(Labels),
    Name(String),
}

impl Question {
    fn read(app: &App, params: &Params, in_steps: bool) -> Result<Self, ApiError> {
        let limit = match params.text("limit") {
            "0" => DEFAULT_LIMIT,
            text => params::positive("limit", text, DEFAULT_LIMIT)?,
        };
        let span = Span::ordered(params, app.now_ns())?;
        params::direction(params)?;
        let step_ns = if in_steps { span.step_ns(params)? } else { 0 };
        if in_steps {
            // It means nothing here, and is checked all the same.
            params::interval_ns(params)?;
        }
        let by_series = match params.text("aggregateBy") {
            "" | "series" => true,
            "labels" => false,
            _ => return Err(ApiError::bad_data("invalid aggregation option")),
        };
        span.check_length(app.limits().max_log_query_range_ms)?;
        let targets = targets(params.text("targetLabels"));
        let mut matchers = match params.text("query") {
            "{}" => Vec::new(),
            text => logql::parse_matchers(text, true)?,
        };
        let by = match by_series {
            false => By::Names(targets.clone()),
            // Without targets, streams are told apart by the labels that the selector speaks of.
            true if targets.is_some() => By::Series(targets.clone()),
            true if matchers.is_empty() => By::Series(None),
            true => By::Series(Some(matchers.iter().map(|m| m.name.clone()).collect())),
        };
        require(&mut matchers, targets.as_deref().unwrap_or_default())?;
        Ok(Self { span, step_ns, matchers, by, limit })
    }

    fn sums(&self, source: &dyn EntrySource, budget: &Budget, max: u64) -> Result<Sums, ApiError> {
        let sets = if self.matchers.is_empty() { Vec::new() } else { vec![self.matchers.clone()] };
        let query =
            StreamQuery { matcher_sets: sets, start_ns: self.first_bucket_ns(), end_ns: self.span.end_ns };
        let volumes = source.volume(&query, self.step_ns, budget).map_err(from_source)?;
        let mut sums: HashMap<Key, HashMap<i64, u64>> = HashMap::new();
        for volume in &volumes {
            for key in self.keys(volume) {
                let buckets = sums.entry(key).or_default();
                for (bucket, bytes, _) in &volume.buckets {
                    *buckets.entry(*bucket).or_default() += bytes;
                }
            }
            if sums.len() as u64 > max {
                return Err(ApiError::bad_data(format!(
                    "the query hit the max number of series limit (limit: {max} series)"
                )));
            }
        }
        Ok(self.ranked(sums))
    }

    /// Buckets lie on multiples of the step.
    fn first_bucket_ns(&self) -> i64 {
        match self.step_ns {
            ..=0 => self.span.start_ns,
            step_ns => self.span.start_ns.saturating_sub(self.span.start_ns.rem_euclid(step_ns)),
        }
    }

    fn keys(&self, volume: &StreamVolume) -> Vec<Key> {
        let labels = &volume.labels;
        let kept = |names: &Option<Vec<String>>, name: &str| {
            names.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
        };
        match &self.by {
            By::Series(names) => vec![Key::Series(labels.filter(|name| kept(names, name)))],
            By::Names(names) => {
                let own = labels.iter().map(|(name, _)| name).filter(|name| kept(names, name));
                own.map(|name| Key::Name(name.to_owned())).collect()
            }
        }
    }

    /// The largest of every bucket, most first.
    fn ranked(&self, sums: HashMap<Key, HashMap<i64, u64>>) -> Sums {
        let mut by_bucket: HashMap<i64, Vec<(u64, Key)>> = HashMap::new();
        for (key, buckets) in sums {
            for (bucket, bytes) in buckets {
                by_bucket.entry(bucket).or_default().push((bytes, key.clone()));
            }
        }
        let mut kept: HashMap<Key, Vec<(i64, u64)>> = HashMap::new();
        for (bucket, mut volumes) in by_bucket {
            volumes.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            for (bytes, key) in volumes.into_iter().take(self.limit) {
                kept.entry(key).or_default().push((bucket, bytes));
            }
        }
        let mut all: Sums = kept.into_iter().collect();
        all.iter_mut().for_each(|(_, points)| points.sort_unstable());
        let first = |points: &[(i64, u64)]| points.first().map_or(0, |p| p.1);
        all.sort_unstable_by(|a, b| first(&b.1).cmp(&first(&a.1)).then_with(|| a.0.cmp(&b.0)));
        all
    }

    /// The time that stands for a bucket: the last millisecond that lies in it.
    fn time_ms(&self, bucket: i64) -> i64 {
        let end_ms = self.span.end_ns / 1_000_000;
        if self.step_ns <= 0 {
            return end_ms;
        }
        let next = bucket.saturating_add(1).saturating_mul(self.step_ns);
        let next_ns = self.first_bucket_ns().saturating_add(next);
        if next_ns >= self.span.end_ns { end_ms } else { next_ns / 1_000_000 - 1 }
    }

    /// Whether no series can have more than one point.
    fn is_one_bucket(&self) -> bool {
        self.step_ns <= 0 || self.first_bucket_ns().saturating_add(self.step_ns) >= self.span.end_ns
    }

    /// A vector where the range is one step, or nothing was found, as Loki answers. Loki does so too where it happens that
    /// every series has one point of many; clients that asked for a matrix do not expect that.
    fn written(&self, sums: Sums, stats: &QueryStats) -> String {
        let is_vector = self.is_one_bucket() || sums.is_empty();
        let (kind, name) = if is_vector { ("vector", "value") } else { ("matrix", "values") };
        let mut out = format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":");
        push_list(&mut out, &sums, |out, (key, points)| {
            out.push_str("{\"metric\":");
            push_key(out, key);
            let _ = write!(out, ",\"{name}\":");
            match points.first() {
                Some(point) if is_vector => self.push_point(out, point),
                _ => push_list(out, points, |out, point| self.push_point(out, point)),
            }
            out.push('}');
        });
        let _ = write!(out, ",\"stats\":{}}}}}", stats_json(stats, Duration::ZERO));
        out
    }

    fn as_protobuf(&self, sums: &Sums, stats: &QueryStats) -> Vec<u8> {
        let is_vector = self.is_one_bucket() || sums.is_empty();
        let mut writer = SamplesWriter::new(if is_vector { "vector" } else { "matrix" });
        for (key, points) in sums {
            let samples = points.iter().map(|(bucket, bytes)| (self.time_ms(*bucket), *bytes as f64));
            match key {
                Key::Series(labels) => writer.series(labels, samples),
                Key::Name(name) => writer.series([(name.as_str(), "")], samples),
            }
        }
        writer.finish(&protobuf::cost(stats, Duration::ZERO))
    }

    fn push_point(&self, out: &mut String, (bucket, bytes): &(i64, u64)) {
        out.push('[');
        push_seconds(out, self.time_ms(*bucket));
        let _ = write!(out, ",\"{bytes}\"]");
    }
}

fn push_key(out: &mut String, key: &Key) {
    match key {
        Key::Series(labels) => push_labels(out, labels),
        Key::Name(name) => {
            out.push('{');
            push_string(out, name);
            out.push_str(":\"\"}");
        }
    }
}

/// A list with commas; none where it is empty.
fn targets(text: &str) -> Option<Vec<String>> {
    (!text.is_empty()).then(|| text.split(',').map(str::to_owned).collect())
}

/// Streams without one of the labels asked for are not counted.
fn require(matchers: &mut Vec<Matcher>, names: &[String]) -> Result<(), ApiError> {
    for name in names {
        if !matchers.iter().any(|m| m.name == *name) {
            let present =
                Matcher::new(MatchOp::NotEqual, name, "").map_err(|e| ApiError::bad_data(e.to_string()))?;
            matchers.push(present);
        }
    }
    Ok(())
}
