//! Following logs over a WebSocket.

use std::sync::Arc;

use futures_util::StreamExt as _;
use http::Uri;
use pilothouse_net::tls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

use super::client::{CommandError, Server, json};
use super::logs::entries;
use super::print;

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Prints lines as they come until the server ends it, from `since_ms` on.
pub(super) async fn follow(
    server: &Server,
    path: &str,
    query: &str,
    since_ms: i64,
) -> Result<(), CommandError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("query", query).append_pair("start", &format!("{since_ms}000000"));
    let uri: Uri = format!("{}{path}?{}", server.url(), form.finish())
        .parse()
        .map_err(|e| CommandError::Usage(format!("{:?} is no address: {e}", server.url())))?;
    let websocket = uri.to_string().replacen("http", "ws", 1);
    let mut request = websocket.into_client_request().map_err(refused)?;
    let token = server.token()?;
    if !token.is_empty() {
        let value = token.expose().try_into();
        let value =
            value.map_err(|_| CommandError::Usage("the token has characters that no token has".into()))?;
        request.headers_mut().insert("x-token", value);
    }
    let stream = connect(server, &uri).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.map_err(refused)?;
    while let Some(message) = socket.next().await {
        match message.map_err(refused)? {
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

async fn connect(server: &Server, uri: &Uri) -> Result<Box<dyn Stream>, CommandError> {
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().ok_or_else(|| CommandError::Usage(format!("{:?} has no host", server.url())))?;
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let plain_host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((plain_host, port)).await?;
    if !is_tls {
        return Ok(Box::new(stream));
    }
    let mut config = tls::client_config(&server.tls())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(plain_host.to_owned())
        .map_err(|_| CommandError::Usage(format!("{plain_host:?} is no name of a host")))?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

/// What the server said instead of agreeing, where it said something.
fn refused(error: tungstenite::Error) -> CommandError {
    match error {
        tungstenite::Error::Http(answer) => {
            let text = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            CommandError::Refused { status: answer.status().as_u16(), text: text.trim().to_owned() }
        }
        other => CommandError::Answer(other.to_string()),
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
