//! What only the root token may do.

use std::sync::Arc;

use http::StatusCode;

use crate::App;
use crate::error::ApiError;
use crate::metrics::discover::matcher_sets;
use crate::offload;
use crate::reply::Reply;
use crate::service::Call;

/// Deletes the samples of matching series between two times; 204 when that is durable.
pub(crate) async fn delete_series(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    if call.params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (start_ms, end_ms) = call.params.range()?;
    let sets = matcher_sets(app, &call.params)?;
    let store = Arc::clone(&app.backend()?.store);
    let work = move || sets.iter().try_for_each(|set| store.delete(set, start_ms, end_ms));
    offload::blocking(work).await??;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
