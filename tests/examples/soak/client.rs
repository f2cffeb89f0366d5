//! One connection that is used again and again.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(crate) struct Client {
    address: SocketAddr,
    timeout: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    pub(crate) fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self { address, timeout, connection: None }
    }

    /// The status, the answer read to its end and thrown away. 0 where there was none.
    pub(crate) async fn status(&mut self, path: &str, headers: &[(&str, &str)], body: Option<Bytes>) -> u16 {
        self.request(path, headers, body, false).await.map_or(0, |(status, _)| status)
    }

    pub(crate) async fn text(&mut self, path: &str) -> (u16, String) {
        self.request(path, &[], None, true).await.unwrap_or_else(|e| (0, e.to_string()))
    }

    async fn request(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
        keeps: bool,
    ) -> Result<(u16, String), Failure> {
        let (address, timeout) = (self.address, self.timeout);
        // A connection of which the answer is not read to its end is of no more use.
        let connection = self.connection.take();
        let exchange = async {
            let mut connection = match connection.filter(|c| !c.is_closed()) {
                Some(connection) => connection,
                None => connect(address).await?,
            };
            let method = if body.is_some() { "POST" } else { "GET" };
            let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            connection.ready().await?;
            let response =
                connection.send_request(request.body(Full::new(body.unwrap_or_default()))?).await?;
            let status = response.status().as_u16();
            let mut body = response.into_body();
            let mut kept = Vec::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data()
                    && keeps
                {
                    kept.extend_from_slice(&data);
                }
            }
            Ok::<_, Failure>((connection, status, String::from_utf8_lossy(&kept).into_owned()))
        };
        let (connection, status, text) = tokio::time::timeout(timeout, exchange).await??;
        self.connection = Some(connection);
        Ok((status, text))
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
