//! One error of a request: its kind decides status and shape.

use std::fmt;

use http::{HeaderValue, StatusCode, header};
use pilothouse_disk::space::Full;
use pilothouse_model::{BudgetError, NoMemory, RemoteError, SourceError};

use crate::auth::Refusal;
use crate::backend::DeletionError;
use crate::json::push_string;
use crate::offload::Panicked;
use crate::reply::Reply;

/// When to come again with what was refused because something is full: memory is had again soon, room
/// on the disk takes a hand, or the end of a day.
pub(crate) const SOON_S: u64 = 2;
const LATER_S: u64 = 30;

/// Kinds as Prometheus' HTTP API names them, and those that Mimir adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unauthorized,
    Forbidden,
    NotFound,
    BadData,
    Execution,
    Canceled,
    Timeout,
    Internal,
    Unavailable,
    TooManyRequests,
    TooLarge,
    UnsupportedMediaType,
    /// What a remote store refuses, with its own status.
    Passed(u16),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::TooManyRequests => "too_many_requests",
            Self::TooLarge => "too_large",
            Self::Passed(422) => "execution",
            Self::UnsupportedMediaType | Self::Passed(_) => "bad_data",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            Self::Timeout | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Passed(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// Seconds after which the client may try again.
    pub(crate) retry_after_s: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), retry_after_s: None }
    }

    pub(crate) fn bad_data(text: impl Into<String>) -> Self {
        Self::new(Kind::BadData, text)
    }

    /// `invalid parameter "NAME": REASON`.
    pub(crate) fn parameter(name: &str, reason: impl fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The JSON envelope of Prometheus' API.
    pub(crate) fn into_json(self) -> Reply {
        let mut body = String::with_capacity(self.text.len() + 64);
        body.push_str("{\"status\":\"error\",\"errorType\":\"");
        body.push_str(self.kind.name());
        body.push_str("\",\"error\":");
        push_string(&mut body, &self.text);
        body.push('}');
        let reply = Reply::new(self.kind.status(), "application/json", body);
        self.with_retry(reply)
    }

    /// The text alone, as the push paths and Mimir's cardinality paths answer.
    pub(crate) fn into_text(self) -> Reply {
        let reply = Reply::text(self.kind.status(), format!("{}\n", self.text));
        self.with_retry(reply)
    }

    pub(crate) fn with_retry(&self, reply: Reply) -> Reply {
        match self.retry_after_s {
            Some(seconds) => reply.header(header::RETRY_AFTER, HeaderValue::from(seconds)),
            None => reply,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthorized => Self::new(Kind::Unauthorized, "missing or invalid token"),
            Refusal::Forbidden => Self::new(Kind::Forbidden, "the token lacks the scope for this"),
        }
    }
}

impl From<Panicked> for ApiError {
    fn from(panicked: Panicked) -> Self {
        Self::new(Kind::Internal, panicked.to_string())
    }
}

impl From<BudgetError> for ApiError {
    fn from(e: BudgetError) -> Self {
        let kind = match e {
            BudgetError::Timeout(_) => Kind::Timeout,
            BudgetError::Canceled(_) => Kind::Canceled,
            BudgetError::Series { .. } => {
                return Self::query_limit(&e, "max-series-per-query", "max-fetched-series-per-query");
            }
            BudgetError::Memory { .. } => {
                let name = "max-estimated-memory-consumption-per-query";
                return Self::query_limit(&e, name, name);
            }
            BudgetError::NoMemory(e) => return e.into(),
            BudgetError::Samples(_) => Kind::Execution,
        };
        Self::new(kind, e.to_string())
    }
}

impl ApiError {
    /// As Mimir refuses a query, so that its runbooks are of use.
    fn query_limit(e: &BudgetError, name: &str, flag: &str) -> Self {
        let text = format!(
            "{e} (err-mimir-{name}). Consider reducing the time range and/or number of series selected \
             by the query. One way to reduce the number of selected series is to add more label matchers to the query. \
             Otherwise, to adjust the related per-tenant limit, configure -querier.{flag}, or \
             contact your service administrator."
        );
        Self::new(Kind::Execution, text)
    }
}

impl From<NoMemory> for ApiError {
    fn from(e: NoMemory) -> Self {
        Self::new(Kind::Unavailable, e.to_string()).retry_after(SOON_S)
    }
}

impl From<Full> for ApiError {
    fn from(e: Full) -> Self {
        Self::new(Kind::Unavailable, e.to_string()).retry_after(LATER_S)
    }
}

impl From<DeletionError> for ApiError {
    fn from(e: DeletionError) -> Self {
        match e {
            DeletionError::Refused(text) => Self::bad_data(text),
            DeletionError::Source(e) => e.into(),
        }
    }
}

impl From<SourceError> for ApiError {
    fn from(e: SourceError) -> Self {
        match e {
            SourceError::Budget(e) => e.into(),
            SourceError::Storage(_) => {
                tracing::error!("{e}");
                Self::new(Kind::Internal, e.to_string())
            }
            SourceError::NotWritable(_) => Self::new(Kind::Unavailable, e.to_string()).retry_after(SOON_S),
            SourceError::Remote(e) => e.into(),
        }
    }
}

impl From<RemoteError> for ApiError {
    fn from(e: RemoteError) -> Self {
        let text = e.to_string();
        let (kind, retry_after_s) = match e {
            RemoteError::Away { retry_after_s, .. } => (Kind::Unavailable, retry_after_s),
            RemoteError::Busy { retry_after_s, .. } => (Kind::TooManyRequests, retry_after_s),
            RemoteError::Refused { status, .. } => return Self::new(Kind::Passed(status), text),
        };
        Self::new(kind, text).retry_after(retry_after_s.unwrap_or(SOON_S))
    }
}
