//! The listener: connections in, connections out, and a drain at the end.
//!
//! HTTP/1 and HTTP/2 share one port: by ALPN with TLS, by prior knowledge without. Every wait for
//! the other end is bounded: for its handshake, for the head of a request, for its body (in
//! `service`), and for its reading the answer.

use pilothouse_model::limits;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::App;
use crate::auth::Peer;
use crate::conversation::{Answering, Conversation, Heads};
use crate::places::{Place, Places};
use crate::request_line::RequestLines;
use crate::service::router;
use crate::stall::Stalling;
use crate::tls::Tls;

/// Of an HTTP/2 connection that is silent it is asked whether it is still there, and how long that
/// may take to be answered.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection of HTTP/2 may be without a request for so many times what a head may take; one of
/// HTTP/1 for once.
const SILENCE: u32 = 10;
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
    let places = Places::new(listening.max_connections, app.memory());
    let following = listening.tls.clone().map(|tls| tokio::spawn(tls.follow()));
    let welcome = Welcome::new(&app, listening.tls);
    let (ending, ended) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (place, (stream, peer)) = tokio::select! {
            next = next(&places, &listener) => next,
            () = &mut stop => break,
        };
        let (welcome, ended) = (welcome.clone(), ended.clone());
        tokio::spawn(async move {
            let _place = place;
            welcome.receive(stream, peer, ended).await;
        });
    }
    drop((listener, ended));
    following.inspect(tokio::task::JoinHandle::abort);
    app.stop_tails();
    let _ = ending.send(());
    if tokio::time::timeout(DRAIN_TIMEOUT, ending.closed()).await.is_err() {
        tracing::warn!("requests were still running {DRAIN_TIMEOUT:?} after the signal to stop");
    }
}

/// The next connection, once there is a place for it.
async fn next(places: &Places, listener: &TcpListener) -> (Place, (TcpStream, Peer)) {
    let place = places.next().await;
    let accepted = accept(listener).await;
    (place.taken(), accepted)
}

/// What each connection is given.
#[derive(Clone)]
struct Welcome {
    service: TowerToHyperService<Router>,
    builder: Builder<TokioExecutor>,
    tls: Option<Arc<Tls>>,
    heads: Arc<Heads>,
    head_timeout: Duration,
    send_timeout: Duration,
}

impl Welcome {
    fn new(app: &Arc<App>, tls: Option<Arc<Tls>>) -> Self {
        let limits = app.limits();
        let head_timeout = Duration::from_millis(limits.header_timeout_ms);
        Self {
            service: TowerToHyperService::new(router(Arc::clone(app))),
            builder: protocols(head_timeout),
            tls,
            heads: Arc::new(Heads::new(Arc::clone(app.memory()))),
            head_timeout,
            send_timeout: Duration::from_millis(limits.send_timeout_ms),
        }
    }

    async fn receive(&self, stream: TcpStream, peer: Peer, ended: watch::Receiver<()>) {
        match &self.tls {
            None => self.converse(stream, peer, ended).await,
            Some(tls) => {
                if let Some(stream) = shake_hands(tls, self.bounded(stream), self.head_timeout).await {
                    // What is said inside the tunnel has a beginning of its own.
                    self.converse(stream, peer, ended).await;
                }
            }
        }
    }

    fn bounded<S>(&self, stream: S) -> Stalling<S> {
        Stalling::new(stream, self.send_timeout, self.head_timeout)
    }

    /// Answers until the other end goes, has been silent for too long, or the server ends.
    async fn converse<S>(&self, stream: S, peer: Peer, mut ended: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let conversation = Conversation::new(&self.heads);
        let stream = RequestLines::new(self.bounded(stream).telling(Arc::clone(&conversation)));
        let (service, asked) = (self.service.clone(), Arc::clone(&conversation));
        let answering = service_fn(move |mut request: Request<Incoming>| {
            let turn = asked.begin();
            request.extensions_mut().insert(peer);
            let answer = service.call(request);
            async move {
                let answer = answer.await?;
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    turn.hand_over();
                }
                Ok::<_, Infallible>(answer.map(|body| Answering::new(body, turn)))
            }
        });
        let mut connection =
            pin!(self.builder.serve_connection_with_upgrades(TokioIo::new(stream), answering));
        let served = tokio::select! {
            served = connection.as_mut() => Ok(served),
            () = conversation.silence(SILENCE * self.head_timeout) => Err(self.head_timeout),
            _ = ended.changed() => Err(DRAIN_TIMEOUT),
        };
        let served = match served {
            Ok(served) => served,
            // It is told to go, and so long it may take.
            Err(patience) => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(patience, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(e) = served {
            tracing::debug!("connection: {e}");
        }
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pilothouse_model::limits::Limits;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::Auth;
    use crate::tests::Fixture;

    /// Preface, settings, and a request for `/ready` as HPACK's literals.
    const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
        \0\0\x0a\x01\x05\0\0\0\x01\x82\x86\x04\x06/ready";

    /// As `curl -g` sends it.
    #[tokio::test]
    async fn a_query_may_stand_in_the_request_line_as_it_is() {
        let app = Fixture::with(Limits::default(), Auth::Off).app();
        let (listener, address) = bind("127.0.0.1:0").await.unwrap();
        let listening = Listening { max_connections: 10, tls: None };
        let serving = tokio::spawn(serve(app, listener, listening, std::future::pending()));
        let mut client = TcpStream::connect(address).await.unwrap();
        let line = r#"GET /prometheus/api/v1/query?query=up{job="x"} HTTP/1.1"#;
        client.write_all(format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("success"), "{said}");
        serving.abort();
    }

    #[tokio::test]
    async fn who_speaks_http2_and_asks_for_nothing_is_sent_away() {
        let limits = Limits { header_timeout_ms: 50, ..Limits::default() };
        let app = Fixture::with(limits, Auth::Off).app();
        let (listener, address) = bind("127.0.0.1:0").await.unwrap();
        let listening = Listening { max_connections: 10, tls: None };
        let serving = tokio::spawn(serve(app, listener, listening, std::future::pending()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(GREETING).await.unwrap();
        let (began, mut said) = (Instant::now(), Vec::new());
        let ended = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut said)).await;
        assert!(ended.is_ok_and(|read| read.is_ok()), "it is still open");
        assert!(began.elapsed() >= Duration::from_millis(50 * u64::from(SILENCE)), "not at once");
        let frames = said.windows(4).any(|kind| kind == [8, 7, 0, 0]);
        assert!(frames, "a frame GOAWAY of eight bytes: {said:?}");
        serving.abort();
    }
}
