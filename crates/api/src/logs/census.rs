//! Which names and values the active streams have: Mimir's `cardinality/…`, for streams.

use std::sync::Arc;

use pilothouse_logql as logql;
use pilothouse_model::StreamQuery;
use pilothouse_model::time::MINUTE_MS;

use crate::App;
use crate::census::Question;
use crate::error::ApiError;
use crate::logs::discover::ask;
use crate::logs::errors::from_source;
use crate::reply::Reply;
use crate::service::Call;

/// How far back a stream counts as active. Entries from ahead of the clock count too.
const ACTIVE_NS: i64 = 30 * MINUTE_MS * 1_000_000;

pub(crate) async fn cardinality(app: &Arc<App>, question: Question, call: Call) -> Result<Reply, ApiError> {
    let streams = ask(app, call.client, move |app, source, budget| {
        let matcher_sets = match call.params.text("selector") {
            "" => Vec::new(),
            text => vec![logql::parse_matchers(text, true)?],
        };
        let now_ns = app.now_ns();
        let (start_ns, end_ns) = (now_ns.saturating_sub(ACTIVE_NS), now_ns.saturating_add(ACTIVE_NS));
        let query = StreamQuery { matcher_sets, start_ns, end_ns };
        let streams = source.streams(&query, budget).map_err(from_source)?;
        Ok(question.answer(&streams))
    });
    streams.await
}
