//! Refusals as Loki words them: the bare text, with the status that its clients act on.

use http::{HeaderName, HeaderValue, StatusCode};
use pilothouse_logql::LogqlError;
use pilothouse_model::{BudgetError, SourceError};

use crate::error::{ApiError, Kind};
use crate::reply::Reply;

const CANCELED: &str = "the request was cancelled by the client";
const TIMED_OUT: &str = "request timed out, decrease the duration of the request or add more label matchers (prefer \
                         exact match over regex match) to reduce the amount of data processed";

impl From<LogqlError> for ApiError {
    fn from(e: LogqlError) -> Self {
        match e {
            LogqlError::Source(e) => from_source(e),
            LogqlError::ApproxTopkOff => Self::new(Kind::Internal, e.to_string()),
            e => Self::bad_data(e.to_string()),
        }
    }
}

/// An error of a source under a query: limits are the client's business, the rest is not.
pub(crate) fn from_source(e: SourceError) -> ApiError {
    match e {
        SourceError::Budget(
            e @ (BudgetError::Samples(_) | BudgetError::Series { .. } | BudgetError::Memory { .. }),
        ) => ApiError::bad_data(e.to_string()),
        e => e.into(),
    }
}

/// The bare text. Browsers are told not to guess what it is.
pub(crate) fn refuse(error: ApiError) -> Reply {
    let text = match error.kind {
        Kind::Canceled => CANCELED,
        Kind::Timeout => TIMED_OUT,
        _ => &error.text,
    };
    let reply = Reply::text(status(error.kind), text)
        .header(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    error.with_retry(reply)
}

pub(crate) fn status(kind: Kind) -> StatusCode {
    if kind == Kind::Timeout { StatusCode::GATEWAY_TIMEOUT } else { kind.status() }
}
