//! WebSockets, opened with what the options of a client ask for. Proxies are not for them.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, Uri};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::options::TlsOptions;
use crate::{CallError, tls};

pub use tokio_tungstenite::tungstenite::{Error, Message};

/// A connection of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection.
pub type WebSocket = WebSocketStream<Box<dyn Stream>>;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// The other side does not want to.
    #[error("{text}")]
    Refused { status: StatusCode, text: String },
}

/// Opens a WebSocket at an address that begins with `http` or `https`, with these headers.
pub async fn connect(
    url: &str,
    headers: HeaderMap,
    options: &TlsOptions,
    max_message_bytes: usize,
) -> Result<WebSocket, ConnectError> {
    let uri: Uri = url.parse().map_err(|e| CallError::Invalid(format!("no address: {e}")))?;
    let mut request = url.replacen("http", "ws", 1).into_client_request().map_err(refused)?;
    request.headers_mut().extend(headers);
    let stream = dial(&uri, options).await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes));
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    Ok(opened.map_err(refused)?.0)
}

async fn dial(uri: &Uri, options: &TlsOptions) -> Result<Box<dyn Stream>, CallError> {
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().ok_or_else(|| CallError::Invalid("the address has no host".to_owned()))?;
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let plain_host = host.trim_start_matches('[').trim_end_matches(']');
    let unreachable = |e: std::io::Error| CallError::Transport(e.to_string());
    let stream = TcpStream::connect((plain_host, port)).await.map_err(unreachable)?;
    if !is_tls {
        return Ok(Box::new(stream));
    }
    let mut config = tls::client_config(options).map_err(|e| CallError::Invalid(e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(plain_host.to_owned())
        .map_err(|_| CallError::Invalid(format!("{plain_host:?} is no name of a host")))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    Ok(Box::new(connected.map_err(unreachable)?))
}

/// What the other side said instead of agreeing, where it said something.
fn refused(error: Error) -> ConnectError {
    match error {
        Error::Http(answer) => {
            let text = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            ConnectError::Refused { status: answer.status(), text: text.trim().to_owned() }
        }
        other => CallError::Transport(other.to_string()).into(),
    }
}
