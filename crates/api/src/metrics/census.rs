//! Which names, values and pairs the recent series have: `status/tsdb` and Mimir's `cardinality/…`.

use std::sync::Arc;

use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::ports::LabelQuery;
use pilothouse_model::{Annotations, Labels, MatchOp, Matcher};

use crate::App;
use crate::answer::success;
use crate::census::{Census, Question, push_count, push_pair, top};
use crate::client::Client;
use crate::error::ApiError;
use crate::json::{push_integer, push_list};
use crate::metrics::language;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

/// How far back a series counts as one of the head, in milliseconds. Samples from ahead of the
/// clock count too.
const RECENT_MS: i64 = 3 * pilothouse_model::time::HOUR_MS;
/// Entries per list of `status/tsdb`, at most.
const MAX_TSDB_LIMIT: usize = 10_000;

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
    recent(app, call.client, any_series(), move |series| {
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

pub(crate) async fn cardinality(app: &Arc<App>, question: Question, call: Call) -> Result<Reply, ApiError> {
    let matchers = selector(app, &call.params)?;
    recent(app, call.client, matchers, move |series| question.answer(&series)).await
}

fn any_series() -> Vec<Matcher> {
    Matcher::new(MatchOp::NotEqual, METRIC_NAME, "").into_iter().collect()
}

fn selector(app: &App, params: &Params) -> Result<Vec<Matcher>, ApiError> {
    match params.text("selector") {
        "" => Ok(any_series()),
        text => language::selector(text, &app.limits())
            .map_err(|e| ApiError::bad_data(format!("failed to parse selector: {e}"))),
    }
}

/// Lists recent series on the pool and makes an answer of them.
async fn recent(
    app: &Arc<App>,
    client: Client,
    matchers: Vec<Matcher>,
    make: impl FnOnce(Vec<Labels>) -> Reply + Send + 'static,
) -> Result<Reply, ApiError> {
    let source = Arc::clone(&app.backend()?.source);
    let now = app.now_ms();
    let query = LabelQuery {
        matcher_sets: vec![matchers],
        start_ms: now.saturating_sub(RECENT_MS),
        end_ms: now.saturating_add(RECENT_MS),
        limit: 0,
    };
    app.in_turn(client, None, move |_, asked| Ok(make(source.series(&query, &asked.budget)?))).await
}
