//! Which names, values and pairs the recent series have: `status/tsdb` and Mimir's `cardinality/…`.

use std::sync::Arc;

use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::limits::TSDB_STATUS_ENTRIES;
use pilothouse_model::ports::LabelQuery;
use pilothouse_model::{Labels, MatchOp, Matcher};

use crate::App;
use crate::answer::success_object;
use crate::census::{Census, Question, push_pair, top};
use crate::client::Client;
use crate::error::ApiError;
use crate::json::Object;
use crate::metrics::language;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

/// How far back a series counts as one of the head, in milliseconds. Samples from ahead of the
/// clock count too.
const RECENT_MS: i64 = 3 * pilothouse_model::time::HOUR_MS;

pub(crate) async fn tsdb_status(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let limit = match call.params.text("limit") {
        "" => 10,
        text => text
            .parse::<usize>()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?,
    };
    if limit > TSDB_STATUS_ENTRIES {
        return Err(ApiError::bad_data(format!("limit must not exceed {TSDB_STATUS_ENTRIES}")));
    }
    let store = Arc::clone(&app.backend()?.store);
    recent(app, call.client, any_series(), move |series| {
        let head = store.head();
        let census = Census::of(&series);
        success_object(|object| {
            object.object("headStats", |stats| {
                stats.count("numSeries", census.series);
                stats.count("numLabelPairs", census.pair_count());
                stats.natural("chunkCount", head.chunks);
                stats.integer("minTime", head.min_time_ms);
                stats.integer("maxTime", head.max_time_ms);
            });
            put_stats(object, "seriesCountByMetricName", top(census.values(METRIC_NAME), limit));
            put_stats(object, "labelValueCountByLabelName", top(census.value_counts(), limit));
            put_stats(object, "memoryInBytesByLabelName", top(census.value_bytes(), limit));
            put_stats(object, "seriesCountByLabelValuePair", top(census.pairs(), limit));
        })
    })
    .await
}

fn put_stats<S: AsRef<str>>(object: &mut Object<'_>, list: &str, counts: Vec<(S, usize)>) {
    object.list(list, counts, |out, (name, count)| push_pair(out, ("name", name.as_ref()), ("value", count)));
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
