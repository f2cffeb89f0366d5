//! Following logs as they come in, over a WebSocket.
//!
//! A push hands what it stored to the followers whose selectors match (`hub`), each with a
//! bounded queue of its own, so that a client which reads slowly loses entries and never holds
//! up a push. Filters and parsers run later, on the pool for short work, in the client's own session
//! (`session`); `frame` writes what it is told. Of a remote data source the other system tells
//! what comes in, and `bridge` hands it on.

mod bridge;
mod frame;
mod hub;
mod session;

use pilothouse_model::limits;
use pilothouse_model::limits::TAIL_DELAY_SECONDS;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pilothouse_logql::{self as logql, Expr};

use crate::App;
use crate::error::ApiError;
use crate::logs::answer::Shape;
use crate::logs::params::{self, Span};
use crate::logs::query::{categorizes, with_regexp};
use crate::offload;
use crate::reply::{Reply, ReplyBody};
use crate::routes::Scope;
use crate::service::Call;

pub(crate) use hub::{Tails, Tee};
use session::Session;

/// What a client asked to be told.
struct Wish {
    expr: Expr,
    /// Where its history begins, and how many entries of it are wanted.
    start_ns: i64,
    limit: usize,
    /// How long entries are held back so that late ones can be sorted in.
    delay: Duration,
    shape: Shape,
}

pub(crate) async fn tail(app: &Arc<App>, call: Call, shape: Shape) -> Result<Reply, ApiError> {
    if let Some(peer) = app.logs_backend()?.admin.remote() {
        return bridge::bridge(app, &peer, call).await;
    }
    let (mut call, wish) = read(app, call, shape).await?;
    app.logs_backend()?;
    if let Some(status) = handshake_fault(&call.parts.headers) {
        return Ok(no_upgrade(status));
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut call.parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(refusal) => return Ok(no_upgrade(refusal.into_response().status())),
    };
    let session = Session::new(app, wish, call.parts.headers, call.client);
    let upgrade =
        upgrade.max_message_size(limits::TAIL_MESSAGE_BYTES).max_frame_size(limits::TAIL_MESSAGE_BYTES);
    let response = upgrade.on_upgrade(move |socket| session.run(socket));
    let headers = response.headers().clone();
    Ok(Reply::of(StatusCode::SWITCHING_PROTOCOLS, headers, ReplyBody::Made(Box::new(response))))
}

/// What is wrong with the wish for another protocol, in the order in which Loki looks.
fn handshake_fault(headers: &HeaderMap) -> Option<StatusCode> {
    let has = |name: HeaderName, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    if !has(header::CONNECTION, "upgrade") {
        return Some(StatusCode::BAD_REQUEST);
    }
    if !has(header::UPGRADE, "websocket") {
        return Some(StatusCode::UPGRADE_REQUIRED);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let is_challenge = BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == CHALLENGE_BYTES);
    if !has(header::SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION) || !is_challenge {
        return Some(StatusCode::BAD_REQUEST);
    }
    None
}

const WEBSOCKET_VERSION: &str = "13";
const CHALLENGE_BYTES: usize = 16;

fn no_upgrade(status: StatusCode) -> Reply {
    let reply = Reply::text(status, format!("{}\n", status.canonical_reason().unwrap_or("Bad Request")));
    let reply = reply.header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(WEBSOCKET_VERSION));
    match status {
        StatusCode::UPGRADE_REQUIRED => reply.header(header::UPGRADE, HeaderValue::from_static("websocket")),
        _ => reply,
    }
}

/// What is wrong with the parameters is said before the upgrade, as a plain answer.
async fn read(app: &Arc<App>, call: Call, shape: Shape) -> Result<(Call, Wish), ApiError> {
    let shape = match shape {
        Shape::V1 { .. } => Shape::V1 { categorize: categorizes(&call) },
        Shape::Legacy => Shape::Legacy,
    };
    let app = Arc::clone(app);
    let work = move || {
        let params = &call.params;
        let expr = logql::parse(&with_regexp(params.text("query"), params.text("regexp")))?;
        let limit = params::limit(params)?;
        let span = Span::read(params, app.now_ns())?;
        let delay_s = delay_s(params.text("delay_for"))?;
        let wish = Wish {
            expr,
            start_ns: span.start_ns,
            limit: limit.min(usize::try_from(app.limits().max_log_query_entries).unwrap_or(usize::MAX)),
            delay: Duration::from_secs(delay_s),
            shape,
        };
        Ok::<_, ApiError>((call, wish))
    };
    offload::short(work).await?
}

fn delay_s(text: &str) -> Result<u64, ApiError> {
    let number = if text.is_empty() { 0 } else { params::whole(text)? };
    if !(0..=i64::from(u32::MAX)).contains(&number) {
        let text = format!("delay_for value {number} is out of range [0, {}]", u32::MAX);
        return Err(ApiError::bad_data(text));
    }
    if number > TAIL_DELAY_SECONDS {
        return Err(ApiError::bad_data(format!("delay_for can't be greater than {TAIL_DELAY_SECONDS}")));
    }
    Ok(number.unsigned_abs())
}

/// The scope that a follower needs, as long as it follows.
const SCOPE: Scope = Scope::ReadLogs;
