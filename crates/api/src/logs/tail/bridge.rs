//! Following the logs of a remote data source: what the other system tells goes on to the client,
//! as long as the client's token holds.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::IntoResponse as _;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, StatusCode};
use pilothouse_model::limits;
use pilothouse_model::memory::Reservation;
use pilothouse_net::websocket::{self, Message as FarMessage};
use pilothouse_remote::Peer;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::SCOPE;
use super::hub::Guest;
use super::session::{self, GOING_AWAY, INTERNAL, PING_EVERY, SEND_TIMEOUT};
use crate::App;
use crate::error::ApiError;
use crate::forward::{asked, behind};
use crate::reply::{Reply, ReplyBody};
use crate::service::Call;

/// Both ends of a tail.
struct Bridge {
    app: Arc<App>,
    far: websocket::WebSocket,
    /// Shown again and again, so that a token that is withdrawn ends the tail.
    headers: HeaderMap,
    _guest: Guest,
}

/// Follows there; what the other system has against it is said as a plain answer.
pub(crate) async fn bridge(app: &Arc<App>, peer: &Peer, mut call: Call) -> Result<Reply, ApiError> {
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut call.parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(refusal) => return Ok(Reply::text(refusal.into_response().status(), "Bad Request\n")),
    };
    let guest = app.logs.tails.guest().map_err(ApiError::bad_data)?;
    let path = behind(&call.parts.uri, &["/loki/api/v1/", "/api/prom/"])?;
    let far = peer.follow(&path, asked(&call.parts.headers)).await?;
    let bridge = Bridge { app: Arc::clone(app), far, headers: call.parts.headers, _guest: guest };
    let upgrade =
        upgrade.max_message_size(limits::TAIL_MESSAGE_BYTES).max_frame_size(limits::TAIL_MESSAGE_BYTES);
    let response = upgrade.on_upgrade(move |socket| bridge.run(socket));
    let headers = response.headers().clone();
    Ok(Reply::of(StatusCode::SWITCHING_PROTOCOLS, headers, ReplyBody::Made(Box::new(response))))
}

impl Bridge {
    async fn run(mut self, mut near: WebSocket) {
        if let Some((code, reason)) = self.carry(&mut near).await {
            session::close(&mut near, code, &reason).await;
        }
        // The other system may be gone.
        let _ = timeout(SEND_TIMEOUT, self.far.close(None)).await;
    }

    /// Until one of the two ends it; what the client is told then, if it is there.
    async fn carry(&mut self, near: &mut WebSocket) -> Option<(u16, String)> {
        let began = Instant::now();
        let mut ticks = interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                told = self.far.next() => match told {
                    Some(Ok(FarMessage::Text(text))) => Message::Text(text.as_str().into()),
                    Some(Ok(FarMessage::Close(frame))) => {
                        let told = frame.map(|f| (f.code.into(), f.reason.to_string()));
                        return Some(told.unwrap_or((GOING_AWAY, String::new())));
                    }
                    // A ping is answered with the next thing that is sent.
                    Some(Ok(_)) => {
                        let _ = timeout(SEND_TIMEOUT, self.far.flush()).await;
                        continue;
                    }
                    Some(Err(e)) => return Some((INTERNAL, format!("the remote store: {e}"))),
                    None => return Some((GOING_AWAY, "the remote store has ended it".to_owned())),
                },
                heard = near.recv() => match heard {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return None,
                    Some(Ok(_)) => continue,
                },
                _ = ticks.tick() => {
                    if let Some(ending) = session::reason_to_end(&self.app, SCOPE, &self.headers, began) {
                        return Some(ending);
                    }
                    Message::Ping(Bytes::new())
                }
            };
            let bytes = if let Message::Text(text) = &message { text.len() as u64 } else { 0 };
            let _held = Reservation::regardless(bytes, self.app.memory());
            session::send(near, message).await.ok()?;
        }
    }
}
