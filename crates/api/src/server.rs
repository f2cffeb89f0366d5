//! The listener: connections in, connections out, and a drain at the end.
//!
//! HTTP/1 and HTTP/2 share one port: by ALPN with TLS, by prior knowledge without. Every wait for
//! the other end is bounded: for its handshake, for the head of a request, for its body (in
//! `service`), and for its reading the answer.

use pilothouse_model::limits;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::App;
use crate::auth::Peer;
use crate::places::Places;
use crate::service::router;
use crate::stall::Stalling;
use crate::tls::Tls;

/// Of an HTTP/2 connection that is silent it is asked whether it is still there, and how long that
/// may take to be answered.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests may go on after the signal to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How the listener treats its clients.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Open at once; more wait in the listener's own queue.
    pub max_connections: usize,
    /// Without it, what is said can be read on the way.
    pub tls: Option<Arc<Tls>>,
}

/// Serves until `stop` ends, then lets running requests finish, up to a bound.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    listening: Listening,
    stop: impl Future<Output = ()>,
) {
    let limits = app.limits();
    let head_timeout = Duration::from_millis(limits.header_timeout_ms);
    let send_timeout = Duration::from_millis(limits.send_timeout_ms);
    let builder = protocols(head_timeout);
    let service = TowerToHyperService::new(router(Arc::clone(&app)));
    let graceful = GracefulShutdown::new();
    let places = Places::new(listening.max_connections, app.memory());
    let following = listening.tls.clone().map(|tls| tokio::spawn(tls.follow()));
    let mut stop = std::pin::pin!(stop);
    loop {
        let place = tokio::select! {
            place = places.next() => place,
            () = &mut stop => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut stop => break,
        };
        let service = service.clone();
        let with_peer = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            service.call(request)
        });
        let (builder, watcher, tls) = (builder.clone(), graceful.watcher(), listening.tls.clone());
        tokio::spawn(async move {
            let _place = place;
            let stream = Stalling::new(stream, send_timeout, head_timeout);
            let served = match tls {
                None => {
                    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), with_peer);
                    watcher.watch(connection.into_owned()).await
                }
                Some(tls) => {
                    let Some(stream) = shake_hands(&tls, stream, head_timeout).await else { return };
                    // What is said inside the tunnel has a beginning of its own.
                    let stream = Stalling::new(stream, send_timeout, head_timeout);
                    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), with_peer);
                    watcher.watch(connection.into_owned()).await
                }
            };
            if let Err(e) = served {
                tracing::debug!("connection: {e}");
            }
        });
    }
    drop(listener);
    following.inspect(tokio::task::JoinHandle::abort);
    app.stop_tails();
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running {DRAIN_TIMEOUT:?} after the signal to stop");
    }
}

fn protocols(head_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(limits::HEADERS)
        .max_buf_size(limits::HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(limits::HEAD_BYTES as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn shake_hands(
    tls: &Tls,
    stream: Stalling<TcpStream>,
    timeout: Duration,
) -> Option<TlsStream<Stalling<TcpStream>>> {
    let accepting = TlsAcceptor::from(tls.current()).accept(stream);
    match tokio::time::timeout(timeout, accepting).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(e)) => {
            tracing::debug!("TLS: {e}");
            None
        }
        Err(_) => None,
    }
}

/// The next connection. Failures to accept (no file descriptors left) are waited out.
async fn accept(listener: &TcpListener) -> (TcpStream, Peer) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Small answers must not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                return (stream, Peer(address));
            }
            Err(e) => {
                tracing::warn!("cannot accept a connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Binds the address that is to be served.
pub async fn bind(address: &str) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}
