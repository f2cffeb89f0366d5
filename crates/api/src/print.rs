//! `format_query` and `parse_query`: a query printed well, and a query as a tree.

use pilothouse_model::Annotations;
use pilothouse_promql::printer::format;

use crate::App;
use crate::answer::success;
use crate::error::ApiError;
use crate::json::push_string;
use crate::language;
use crate::reply::Reply;
use crate::service::Call;
use crate::tree::push_node;

pub(crate) fn format_query(app: &App, call: &Call) -> Result<Reply, ApiError> {
    let expr = language::query(call.params.text("query"), &app.settings.limits)?;
    Ok(success(&Annotations::default(), |out| push_string(out, &format(&expr))))
}

pub(crate) fn parse_query(app: &App, call: &Call) -> Result<Reply, ApiError> {
    let expr = language::query(call.params.text("query"), &app.settings.limits)?;
    Ok(success(&Annotations::default(), |out| push_node(out, expr.root())))
}
