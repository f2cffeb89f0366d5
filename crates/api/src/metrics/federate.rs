//! `/federate`: the newest sample of each matching series as text.

use std::sync::Arc;

use http::StatusCode;
use pilothouse_model::sample::is_stale;
use pilothouse_model::time::MINUTE_MS;
use pilothouse_model::{
    Budget, LabelNeeds, Labels, Matcher, SampleValue, Selection, SeriesSource, SourceError,
};
use pilothouse_wire::exposition::{TextFormat, federate as as_text};

use crate::App;
use crate::admission::InTurn;
use crate::error::ApiError;
use crate::metrics::discover::matcher_sets;
use crate::reply::Reply;
use crate::service::Call;

const LOOKBACK_MS: i64 = 5 * MINUTE_MS;

pub(crate) async fn federate(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let sets = matcher_sets(app, &call.params)?;
    let source = Arc::clone(&app.backend()?.source);
    let now_ms = app.now_ms();
    let work = move |_: &App, asked: &InTurn| {
        let text = as_text(&newest(&*source, &sets, now_ms, &asked.budget)?);
        let reply = Reply::new(StatusCode::OK, TextFormat::Prometheus.content_type(), text);
        Ok(reply.holding(&asked.budget, 0)?)
    };
    app.in_turn(call.client, None, work).await
}

/// The newest float of each series within the lookback, each series once. Series that ended
/// are left out, and so are histograms, which the text format cannot hold.
fn newest(
    source: &dyn SeriesSource,
    sets: &[Vec<Matcher>],
    now_ms: i64,
    budget: &Budget,
) -> Result<Vec<(Labels, i64, f64)>, SourceError> {
    let start_ms = now_ms.saturating_sub(LOOKBACK_MS);
    let mut found = Vec::new();
    for matchers in sets {
        let selection =
            Selection { matchers: matchers.clone(), start_ms, end_ms: now_ms, needs: LabelNeeds::All };
        for series in source.select(&selection, budget)? {
            budget.check("federation")?;
            let newest = series.samples.latest(start_ms, now_ms)?;
            if let Some((t_ms, SampleValue::Float(value))) = newest.filter(|(_, v)| !ended(v)) {
                found.push((series.labels, t_ms, value));
            }
        }
    }
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    found.dedup_by(|a, b| a.0 == b.0);
    Ok(found)
}

fn ended(value: &SampleValue) -> bool {
    matches!(value, SampleValue::Float(value) if is_stale(*value))
}
