//! Following logs over a WebSocket.

use futures_util::StreamExt as _;
use http::HeaderMap;
use pilothouse_model::limits::CLIENT_TAIL_BYTES;
use pilothouse_net::websocket::{self, ConnectError, Message};

use super::client::{CommandError, Server, json};
use super::logs::entries;
use super::print;

/// Prints lines as they come until the server ends it, from `since_ms` on.
pub(super) async fn follow(
    server: &Server,
    path: &str,
    query: &str,
    since_ms: i64,
) -> Result<(), CommandError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("query", query).append_pair("start", &format!("{since_ms}000000"));
    let mut headers = HeaderMap::new();
    let token = server.token()?;
    if !token.is_empty() {
        let value = token.expose().try_into();
        let value =
            value.map_err(|_| CommandError::Usage("the token has characters that no token has".into()))?;
        headers.insert("x-token", value);
    }
    let url = format!("{}{path}?{}", server.url(), form.finish());
    let opened = websocket::connect(&url, headers, &server.tls(), CLIENT_TAIL_BYTES).await;
    let mut socket = opened.map_err(|e| refused(server.url(), e))?;
    while let Some(message) = socket.next().await {
        match message.map_err(|e| CommandError::Answer(e.to_string()))? {
            Message::Text(text) => show(&text)?,
            Message::Close(frame) => {
                let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                return Err(CommandError::Answer(format!("the server ended the connection: {reason}")));
            }
            _ => {}
        }
    }
    Err(CommandError::Answer("the connection ended".to_owned()))
}

/// What the server said instead of agreeing, where it said something.
fn refused(url: &str, error: ConnectError) -> CommandError {
    match error {
        ConnectError::Refused { status, text } => CommandError::Refused { status: status.as_u16(), text },
        ConnectError::Call(cause) => CommandError::Unreachable { url: url.to_owned(), cause },
    }
}

fn show(text: &str) -> Result<(), CommandError> {
    let message = json(text.as_bytes())?;
    entries(&message).iter().for_each(|entry| print(&entry.shown()));
    let dropped = message.get("dropped_entries").and_then(|list| list.as_array()).map_or(0, Vec::len);
    if dropped > 0 {
        eprintln!("{dropped} lines were left out: they come faster than they are read");
    }
    Ok(())
}
