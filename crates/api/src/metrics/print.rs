//! `format_query` and `parse_query`: a query printed well, and a query as a tree.

use std::sync::Arc;

use pilothouse_model::Annotations;
use pilothouse_promql::Expr;
use pilothouse_promql::printer::format;

use crate::App;
use crate::answer::success;
use crate::error::ApiError;
use crate::json::push_string;
use crate::metrics::language;
use crate::metrics::tree::push_node;
use crate::offload;
use crate::reply::Reply;
use crate::service::Call;

pub(crate) async fn format_query(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    printed(app, call, |out, expr| push_string(out, &format(expr))).await
}

pub(crate) async fn parse_query(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    printed(app, call, |out, expr| push_node(out, expr.root())).await
}

/// Queries nest, and only the pool's threads have the stack for it.
async fn printed(
    app: &Arc<App>,
    call: Call,
    print: impl FnOnce(&mut String, &Expr) + Send + 'static,
) -> Result<Reply, ApiError> {
    let app = Arc::clone(app);
    let work = move || {
        let expr = language::query(call.params.text("query"), &app.limits())?;
        Ok(success(&Annotations::default(), |out| print(out, &expr)))
    };
    offload::short(work).await?
}
