//! OTLP metrics: its content types, its partial success, its errors as `google.rpc.Status`.

use std::sync::Arc;

use http::{StatusCode, header};
use pilothouse_model::limits::Limits;
use pilothouse_wire::body::Encoding;
use pilothouse_wire::otlp::{OtlpFormat, decode, response, status};

use crate::App;
use crate::error::{ApiError, Kind};
use crate::metrics::push::{Stored, body_error, store};
use crate::metrics::texts;
use crate::reply::Reply;
use crate::service::Call;

pub(crate) async fn metrics(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let content_type = call.header(header::CONTENT_TYPE);
    let Some(format) = OtlpFormat::from_content_type(content_type) else {
        let text = format!(
            "unsupported content type {content_type:?}, supported: [application/json, application/x-protobuf]"
        );
        return Err(ApiError::new(Kind::UnsupportedMediaType, text));
    };
    Ok(match take(app, call, format).await {
        Ok(stored) => answer(format, &stored),
        Err(e) => refusal(format, e),
    })
}

async fn take(app: &Arc<App>, call: Call, format: OtlpFormat) -> Result<Stored, ApiError> {
    let encoding =
        Encoding::from_header(call.header(header::CONTENT_ENCODING)).map_err(|e| body_error(&e))?;
    store(app, call.body, encoding, move |body: Vec<u8>, limits: &Limits| decode(format, &body, limits)).await
}

/// 200 with what was refused as a partial success; 400 where nothing at all was stored, since
/// senders look at the status first.
fn answer(format: OtlpFormat, stored: &Stored) -> Reply {
    let message = texts::of_all(&stored.rejections, stored.rejected);
    let message = message.trim_end();
    if stored.rejected > 0 && stored.floats + stored.histograms == 0 {
        return refusal(format, ApiError::bad_data(message));
    }
    let reply = Reply::new(StatusCode::OK, format.content_type(), response(format, stored.rejected, message));
    reply.storing(stored.amounts())
}

fn refusal(format: OtlpFormat, e: ApiError) -> Reply {
    // Codes of gRPC: invalid argument, resource exhausted, unavailable, internal.
    let code = match e.kind {
        Kind::BadData | Kind::UnsupportedMediaType | Kind::Passed(_) => 3,
        Kind::TooManyRequests | Kind::TooLarge => 8,
        Kind::Unavailable => 14,
        _ => 13,
    };
    let body = status(format, code, &e.text);
    e.with_retry(Reply::new(e.kind.status(), format.content_type(), body))
}
