//! What is there: series, label names, label values, metadata, exemplars.

use std::sync::Arc;

use pilothouse_model::labels::{quote, unescape_name};
use pilothouse_model::ports::{Exemplar, LabelQuery};
use pilothouse_model::sample::format_float;
use pilothouse_model::write::MetadataEntry;
use pilothouse_model::{Annotations, Budget, Labels, Matcher, SeriesSource, SourceError};

use crate::App;
use crate::admission::InTurn;
use crate::answer::success;
use crate::client::Client;
use crate::error::ApiError;
use crate::json::{push_labels, push_list, push_object, push_seconds, push_string};
use crate::metrics::language;
use crate::offload;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

pub(crate) const TRUNCATED: &str = "results truncated due to limit";

pub(crate) async fn series(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    if call.params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let query = label_query(app, &call.params)?;
    listed(
        app,
        call.client,
        query,
        |source, query, budget| source.series(query, budget),
        |out, labels| push_labels(out, &labels),
    )
    .await
}

pub(crate) async fn labels(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let query = label_query(app, &call.params)?;
    let ask =
        |source: &dyn SeriesSource, query: &LabelQuery, budget: &Budget| source.label_names(query, budget);
    listed(app, call.client, query, ask, |out, name| push_string(out, &name)).await
}

pub(crate) async fn label_values(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let name = unescape_name(call.segment("name")).into_owned();
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: {}", quote(&name))));
    }
    let query = label_query(app, &call.params)?;
    let ask = move |source: &dyn SeriesSource, query: &LabelQuery, budget: &Budget| {
        source.label_values(&name, query, budget)
    };
    listed(app, call.client, query, ask, |out, value| push_string(out, &value)).await
}

/// `match[]`, `start`, `end` and `limit`.
fn label_query(app: &App, params: &Params) -> Result<LabelQuery, ApiError> {
    let limit = params.limit()?;
    let (start_ms, end_ms) = params.range()?;
    let matcher_sets = matcher_sets(app, params)?;
    Ok(LabelQuery { matcher_sets, start_ms, end_ms, limit })
}

/// The selectors of `match[]`; each must hold a matcher that does not match the empty text.
pub(crate) fn matcher_sets(app: &App, params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    const EMPTY: &str = "match[] must contain at least one non-empty matcher";
    let limits = app.limits();
    let read = |text| match language::selector(text, &limits) {
        Ok(set) if set.iter().all(Matcher::matches_empty) => Err(ApiError::parameter("match[]", EMPTY)),
        Ok(set) => Ok(set),
        // The parser asks the same of selectors in queries, in other words.
        Err(e) if e.message.ends_with("must contain at least one non-empty matcher") => {
            Err(ApiError::parameter("match[]", EMPTY))
        }
        Err(e) => Err(ApiError::parameter("match[]", e)),
    };
    params.all("match[]").map(read).collect()
}

/// Asks for a list with one more entry than the limit, so that a cut shows, and writes it.
async fn listed<T: Send + 'static>(
    app: &Arc<App>,
    client: Client,
    mut query: LabelQuery,
    ask: impl FnOnce(&dyn SeriesSource, &LabelQuery, &Budget) -> Result<Vec<T>, SourceError> + Send + 'static,
    element: impl Fn(&mut String, T) + Send + 'static,
) -> Result<Reply, ApiError> {
    let source = Arc::clone(&app.backend()?.source);
    let limit = query.limit;
    query.limit = if limit == 0 { 0 } else { limit.saturating_add(1) };
    let work = move |_: &App, asked: &InTurn| {
        let mut items = ask(&*source, &query, &asked.budget)?;
        let mut annotations = Annotations::default();
        if limit > 0 && items.len() > limit {
            items.truncate(limit);
            annotations.warnings.insert(TRUNCATED.to_owned());
        }
        let reply = success(&annotations, |out| push_list(out, items, element));
        Ok(reply.holding(&asked.budget, 0)?)
    };
    app.in_turn(client, None, work).await
}

pub(crate) async fn metadata(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let number = |name: &str| {
        let error = |_| ApiError::bad_data(format!("{name} must be a number"));
        call.params.number(name).map_err(error)
    };
    // As Prometheus: a negative limit is none; 0 families is an empty answer, 0 per family none.
    let limit = number("limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let per_family = number("limit_per_metric")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let family = Some(call.params.text("metric").to_owned()).filter(|m| !m.is_empty());
    let source = Arc::clone(&app.backend()?.source);
    let budget = app.budget(None);
    let work = move || {
        let entries = source.metadata(family.as_deref(), &budget)?;
        budget.reserve_bytes(size_of_val(entries.as_slice()) as u64)?;
        let mut families: Vec<&[MetadataEntry]> = entries.chunk_by(|a, b| a.family == b.family).collect();
        families.truncate(limit);
        let reply = success(&Annotations::default(), |out| {
            push_metadata(out, &families, per_family.unwrap_or(usize::MAX))
        });
        Ok(reply.holding(&budget, 0)?)
    };
    offload::short(work).await?
}

fn push_metadata(out: &mut String, families: &[&[MetadataEntry]], per_family: usize) {
    push_object(out, |object| {
        for entries in families {
            let family = entries.first().map_or("", |e| e.family.as_str());
            object.list(family, entries.iter().take(per_family), |out, entry| {
                push_object(out, |object| {
                    object.texts([
                        ("type", entry.metric_type.as_str()),
                        ("help", &entry.help),
                        ("unit", &entry.unit),
                    ]);
                });
            });
        }
    });
}

pub(crate) async fn exemplars(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let (start_ms, end_ms) = call.params.range()?;
    if end_ms < start_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let source = Arc::clone(&app.backend()?.source);
    let work = {
        let app = Arc::clone(app);
        move || {
            let matcher_sets = language::selectors(call.params.text("query"), &app.limits())
                .map_err(|e| ApiError::bad_data(e.to_string()))?;
            if matcher_sets.is_empty() {
                return Ok(success(&Annotations::default(), |out| out.push_str("[]")));
            }
            let query = LabelQuery { matcher_sets, start_ms, end_ms, limit: 0 };
            let budget = app.budget(None);
            let found = source.exemplars(&query, &budget)?;
            let exemplars: usize = found.iter().map(|(_, exemplars)| exemplars.len()).sum();
            budget.reserve_bytes((exemplars * size_of::<Exemplar>()) as u64)?;
            let reply = success(&Annotations::default(), |out| push_list(out, found, push_exemplars));
            Ok(reply.holding(&budget, 0)?)
        }
    };
    offload::short(work).await?
}

fn push_exemplars(out: &mut String, (series, exemplars): (Labels, Vec<Exemplar>)) {
    push_object(out, |object| {
        object.labels("seriesLabels", &series);
        object.list("exemplars", exemplars, |out, exemplar| {
            push_object(out, |object| {
                object.labels("labels", &exemplar.labels);
                object.text("value", &format_float(exemplar.value));
                object.member("timestamp", |out| push_seconds(out, exemplar.t_ms));
            });
        });
    });
}
