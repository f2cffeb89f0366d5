//! `format_query`: a query printed well.

use http::StatusCode;
use pilothouse_logql as logql;

use crate::error::ApiError;
use crate::json::push_string;
use crate::logs::answer::JSON;
use crate::offload;
use crate::reply::Reply;
use crate::service::Call;

/// Unlike all other paths it wraps what is wrong with a query in JSON.
pub(crate) async fn format_query(call: Call) -> Result<Reply, ApiError> {
    let printed =
        offload::short(move || logql::parse(call.params.text("query")).map(|expr| logql::pretty(&expr)));
    let (status, head, text) = match printed.await? {
        Ok(text) => (StatusCode::OK, "{\"status\":\"success\",\"data\":", text),
        Err(e) => (StatusCode::BAD_REQUEST, "{\"status\":\"invalid-query\",\"error\":", e.to_string()),
    };
    let mut out = String::from(head);
    push_string(&mut out, &text);
    out.push('}');
    Ok(Reply::new(status, JSON, out))
}
