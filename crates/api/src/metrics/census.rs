//! Which names, values and pairs the recent series have: `status/tsdb` and Mimir's
//! `cardinality/…`, all counted from one walk over label sets.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use pilothouse_model::budget::CancelOnDrop;
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::ports::LabelQuery;
use pilothouse_model::{Annotations, Labels, MatchOp, Matcher};

use crate::App;
use crate::answer::success;
use crate::error::ApiError;
use crate::json::{push_integer, push_labels, push_list, push_string};
use crate::metrics::language;
use crate::offload;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

/// How far back a series counts as one of the head, in milliseconds. Samples from ahead of the
/// clock count too.
const RECENT_MS: i64 = 3 * pilothouse_model::time::HOUR_MS;
/// Entries per list of `status/tsdb`, and of the cardinality paths, at most.
const MAX_TSDB_LIMIT: usize = 10_000;
const MAX_CARDINALITY_LIMIT: i64 = 500;

/// For each label name its values, for each value the number of series.
#[derive(Default)]
struct Census<'a> {
    series: usize,
    names: HashMap<&'a str, HashMap<&'a str, usize>>,
}

impl<'a> Census<'a> {
    fn of(series: &'a [Labels]) -> Self {
        let mut census = Self { series: series.len(), ..Self::default() };
        for (name, value) in series.iter().flat_map(Labels::iter) {
            *census.names.entry(name).or_default().entry(value).or_default() += 1;
        }
        census
    }

    fn values(&self, name: &str) -> Vec<(&'a str, usize)> {
        self.names.get(name).map_or(Vec::new(), |values| values.iter().map(|(v, n)| (*v, *n)).collect())
    }

    fn value_counts(&self) -> Vec<(&'a str, usize)> {
        self.names.iter().map(|(name, values)| (*name, values.len())).collect()
    }

    fn pair_count(&self) -> usize {
        self.names.values().map(HashMap::len).sum()
    }

    fn pairs(&self) -> Vec<(String, usize)> {
        let pair = |name: &str, values: &HashMap<&str, usize>| {
            values.iter().map(|(value, n)| (format!("{name}={value}"), *n)).collect::<Vec<_>>()
        };
        self.names.iter().flat_map(|(name, values)| pair(name, values)).collect()
    }

    /// Bytes of all values of each name, each counted once a series, as Prometheus counts them.
    fn value_bytes(&self) -> Vec<(&'a str, usize)> {
        let bytes = |values: &HashMap<&str, usize>| values.iter().map(|(v, n)| v.len() * n).sum();
        self.names.iter().map(|(name, values)| (*name, bytes(values))).collect()
    }
}

/// The largest first, equal ones by name.
fn top<S: Ord>(mut counts: Vec<(S, usize)>, limit: usize) -> Vec<(S, usize)> {
    counts.sort_unstable_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    counts.truncate(limit);
    counts
}

pub(crate) async fn tsdb_status(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let limit = match call.params.text("limit") {
        "" => 10,
        text => text
            .parse::<usize>()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?,
    };
    if limit > MAX_TSDB_LIMIT {
        return Err(ApiError::bad_data(format!("limit must not exceed {MAX_TSDB_LIMIT}")));
    }
    let store = Arc::clone(&app.backend()?.store);
    recent(app, any_series(), move |series| {
        let head = store.head();
        let census = Census::of(&series);
        success(&Annotations::default(), |out| {
            out.push_str("{\"headStats\":{\"numSeries\":");
            push_count(out, census.series);
            out.push_str(",\"numLabelPairs\":");
            push_count(out, census.pair_count());
            for (name, value) in [
                ("chunkCount", head.chunks as i64),
                ("minTime", head.min_time_ms),
                ("maxTime", head.max_time_ms),
            ] {
                out.push_str(&format!(",\"{name}\":"));
                push_integer(out, value);
            }
            out.push('}');
            push_stats(out, "seriesCountByMetricName", &top(census.values(METRIC_NAME), limit));
            push_stats(out, "labelValueCountByLabelName", &top(census.value_counts(), limit));
            push_stats(out, "memoryInBytesByLabelName", &top(census.value_bytes(), limit));
            push_stats(out, "seriesCountByLabelValuePair", &top(census.pairs(), limit));
            out.push('}');
        })
    })
    .await
}

fn push_stats<S: AsRef<str>>(out: &mut String, list: &str, counts: &[(S, usize)]) {
    out.push_str(&format!(",\"{list}\":"));
    push_list(out, counts, |out, (name, count)| push_pair(out, ("name", name.as_ref()), ("value", *count)));
}

/// `{"NAME":"text","COUNT":number}`.
fn push_pair(out: &mut String, (name, text): (&str, &str), (count_name, count): (&str, usize)) {
    out.push_str(&format!("{{\"{name}\":"));
    push_string(out, text);
    out.push_str(&format!(",\"{count_name}\":"));
    push_count(out, count);
    out.push('}');
}

fn push_count(out: &mut String, count: usize) {
    push_integer(out, i64::try_from(count).unwrap_or(i64::MAX));
}

pub(crate) async fn label_names(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let limit = cardinality_limit(&call.params)?;
    count_method(&call.params)?;
    recent(app, selector(app, &call.params)?, move |series| {
        let census = Census::of(&series);
        let mut out = String::from("{\"label_values_count_total\":");
        push_count(&mut out, census.pair_count());
        out.push_str(",\"label_names_count\":");
        push_count(&mut out, census.names.len());
        out.push_str(",\"cardinality\":");
        push_list(&mut out, top(census.value_counts(), limit), |out, (name, count)| {
            push_pair(out, ("label_name", name), ("label_values_count", count));
        });
        out.push('}');
        Reply::json(out)
    })
    .await
}

pub(crate) async fn label_values(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let names: Vec<String> = call.params.all("label_names[]").map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::bad_data("'label_names[]' param is required"));
    }
    if names.iter().any(String::is_empty) {
        return Err(ApiError::bad_data("invalid 'label_names[]' param ''"));
    }
    let limit = cardinality_limit(&call.params)?;
    count_method(&call.params)?;
    recent(app, selector(app, &call.params)?, move |series| {
        let census = Census::of(&series);
        let mut out = String::from("{\"series_count_total\":");
        push_count(&mut out, census.series);
        out.push_str(",\"labels\":");
        push_list(&mut out, &names, |out, name| push_label_values(out, &census, name, limit));
        out.push('}');
        Reply::json(out)
    })
    .await
}

fn push_label_values(out: &mut String, census: &Census<'_>, name: &str, limit: usize) {
    let values = census.values(name);
    out.push_str("{\"label_name\":");
    push_string(out, name);
    out.push_str(",\"label_values_count\":");
    push_count(out, values.len());
    out.push_str(",\"series_count\":");
    push_count(out, values.iter().map(|(_, n)| n).sum());
    out.push_str(",\"cardinality\":");
    push_list(out, top(values, limit), |out, (value, count)| {
        push_pair(out, ("label_value", value), ("series_count", count));
    });
    out.push('}');
}

pub(crate) async fn active_series(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    if call.params.text("selector").is_empty() {
        return Err(ApiError::bad_data("missing 'selector' parameter"));
    }
    recent(app, selector(app, &call.params)?, |series| {
        let mut out = String::from("{\"data\":");
        push_list(&mut out, &series, push_labels);
        out.push('}');
        Reply::json(out)
    })
    .await
}

fn any_series() -> Vec<Matcher> {
    Matcher::new(MatchOp::NotEqual, METRIC_NAME, "").into_iter().collect()
}

fn selector(app: &App, params: &Params) -> Result<Vec<Matcher>, ApiError> {
    match params.text("selector") {
        "" => Ok(any_series()),
        text => language::selector(text, &app.settings.limits)
            .map_err(|e| ApiError::bad_data(format!("failed to parse selector: {e}"))),
    }
}

fn cardinality_limit(params: &Params) -> Result<usize, ApiError> {
    let limit =
        params.number("limit").map_err(|e| ApiError::bad_data(format!("invalid 'limit' param: {e}")))?;
    let limit = limit.unwrap_or(20);
    if limit < 0 {
        return Err(ApiError::bad_data("'limit' param cannot be less than '0'"));
    }
    if limit > MAX_CARDINALITY_LIMIT {
        return Err(ApiError::bad_data(format!(
            "'limit' param cannot be greater than '{MAX_CARDINALITY_LIMIT}'"
        )));
    }
    Ok(usize::try_from(limit).unwrap_or(0))
}

/// Both methods that Mimir knows count the same series here.
fn count_method(params: &Params) -> Result<(), ApiError> {
    match params.text("count_method") {
        "" | "inmemory" | "active" => Ok(()),
        other => Err(ApiError::bad_data(format!(
            "invalid 'count_method' param '{other}'. valid options are: [active,inmemory]"
        ))),
    }
}

/// Lists recent series on the pool and makes an answer of them.
async fn recent(
    app: &Arc<App>,
    matchers: Vec<Matcher>,
    make: impl FnOnce(Vec<Labels>) -> Reply + Send + 'static,
) -> Result<Reply, ApiError> {
    let permit = app.admission.query().await?;
    let budget = app.budget(None);
    let guard = CancelOnDrop::new(&budget);
    let source = Arc::clone(&app.backend()?.source);
    let now = app.now_ms();
    let query = LabelQuery {
        matcher_sets: vec![matchers],
        start_ms: now.saturating_sub(RECENT_MS),
        end_ms: now.saturating_add(RECENT_MS),
        limit: 0,
    };
    let work = move || {
        let _permit = permit;
        source.series(&query, &budget).map(make)
    };
    let reply = offload::query(work).await??;
    guard.disarm();
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_census_counts_names_values_and_pairs() {
        let series: Vec<Labels> = [("a", "1"), ("a", "2"), ("b", "1")]
            .map(|(name, x)| Labels::from_pairs([(METRIC_NAME, name), ("x", x)]))
            .into();
        let census = Census::of(&series);
        assert_eq!(census.series, 3);
        assert_eq!(census.pair_count(), 4);
        assert_eq!(top(census.values(METRIC_NAME), 10), [("a", 2), ("b", 1)]);
        assert_eq!(top(census.value_counts(), 1), [(METRIC_NAME, 2)]);
        assert_eq!(top(census.pairs(), 2), [("__name__=a".to_owned(), 2), ("x=1".to_owned(), 2)]);
        assert_eq!(top(census.value_bytes(), 1), [(METRIC_NAME, 3)]);
    }
}
