//! One request over a connection of its own, its phases measured.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use cookie_store::CookieStore;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilothouse_model::limits::UNBOOKED_BYTES;
use pilothouse_model::memory::Reservation;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

pub(in crate::probe) use super::request::Sent;
use super::request::read_line;
use super::{HttpError, Phases, request_target};
use crate::probe::clock::Watch;
use crate::probe::connect::{dial, resolve};
use crate::probe::driven::Driven;
use crate::probe::{LocalProber, tls};
use crate::run::Recorder;
use crate::words::{HttpSettings, IpVersion};

/// An answer, read to its end.
#[derive(Debug)]
pub(in crate::probe) struct Answer {
    pub(in crate::probe) status: StatusCode,
    pub(in crate::probe) version: Version,
    pub(in crate::probe) headers: HeaderMap,
    /// As it came, coded or not.
    pub(in crate::probe) body: Bytes,
    /// The memory of the body.
    pub(in crate::probe) held: Reservation,
    pub(in crate::probe) encrypted: bool,
}

pub(in crate::probe) struct Hop<'a> {
    pub(in crate::probe) prober: &'a LocalProber,
    pub(in crate::probe) settings: &'a HttpSettings,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection ready for a request.
struct Ready {
    stream: Box<dyn Stream>,
    http2: bool,
    encrypted: bool,
    /// Requests carry the whole address.
    through_proxy: bool,
}

impl Hop<'_> {
    pub(in crate::probe) async fn send(
        &self,
        url: &Url,
        sent: &Sent,
        cookies: &CookieStore,
        phases: &mut Phases,
        recorder: &mut Recorder,
    ) -> Result<Answer, HttpError> {
        let before = *phases;
        let ready = self.connect(url, phases, recorder).await?;
        let (encrypted, http2) = (ready.encrypted, ready.http2);
        let request = build(url, sent, cookies, &ready)?;
        let mut watch = Watch::start();
        let response = exchange(ready.stream, http2, request).await;
        phases.processing += watch.lap();
        // The connection is driven until the body is read.
        let (response, _driven) = response?;
        let (parts, incoming) = response.into_parts();
        let read = self.read(incoming).await;
        phases.transfer += watch.lap();
        let status = parts.status.as_u16();
        recorder.info("Received HTTP response", &[("status_code", &status)]);
        phases.since(&before).say(recorder);
        let (body, held) = read?;
        let http::response::Parts { status, version, headers, .. } = parts;
        Ok(Answer { status, version, headers, body, held, encrypted })
    }

    async fn read(&self, body: Incoming) -> Result<(Bytes, Reservation), HttpError> {
        let most = self.prober.limits.now().max_probe_body_bytes;
        let mut body = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
        let mut held = Reservation::beyond(UNBOOKED_BYTES, &self.prober.memory);
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| match e.is::<http_body_util::LengthLimitError>() {
                true => HttpError::BodyTooLong(most),
                false => HttpError::Request(e.to_string()),
            })?;
            let Ok(data) = frame.into_data() else { continue };
            held.grow(data.len() as u64)?;
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), held))
    }

    async fn connect(
        &self,
        url: &Url,
        phases: &mut Phases,
        recorder: &mut Recorder,
    ) -> Result<Ready, HttpError> {
        let secure = url.scheme() == "https";
        let proxy = self.proxy()?;
        let near = proxy.as_ref().unwrap_or(url);
        let mut stream: Box<dyn Stream> = Box::new(self.dial(near, phases, recorder).await?);
        if let Some(proxy) = &proxy {
            if proxy.scheme() == "https" {
                stream = Box::new(self.encrypt(proxy, stream, &[], phases).await?);
            }
            if secure {
                stream = self.tunnel(url, stream).await?;
            }
        }
        let through_proxy = proxy.is_some() && !secure;
        if !secure {
            return Ok(Ready { stream, http2: false, encrypted: false, through_proxy });
        }
        let stream = self.encrypt(url, stream, &[b"h2", b"http/1.1"], phases).await?;
        let connection = stream.get_ref().1;
        let unverified = self.settings.tls_config.as_ref().is_some_and(|t| t.insecure_skip_verify);
        tls::take_down(connection, !unverified, recorder);
        let http2 = connection.alpn_protocol() == Some(b"h2");
        Ok(Ready { stream: Box::new(stream), http2, encrypted: true, through_proxy })
    }

    fn proxy(&self) -> Result<Option<Url>, HttpError> {
        match self.settings.proxy_url.as_str() {
            "" => Ok(None),
            text => Url::parse(text).map(Some).map_err(|e| HttpError::Request(e.to_string())),
        }
    }

    /// To the address of a host; the rules hold for proxies as well.
    async fn dial(
        &self,
        url: &Url,
        phases: &mut Phases,
        recorder: &mut Recorder,
    ) -> Result<tokio::net::TcpStream, HttpError> {
        let host = url.host_str().ok_or_else(|| HttpError::Request("no host".to_owned()))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let version = IpVersion::try_from(self.settings.ip_version).unwrap_or_default();
        let (address, took) = resolve(host, version, &self.prober.rules, recorder).await?;
        phases.resolve += took;
        let mut watch = Watch::start();
        let dialed = dial(SocketAddr::new(address, port), "").await;
        phases.connect += watch.lap();
        Ok(dialed?)
    }

    async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        url: &Url,
        stream: S,
        protocols: &[&[u8]],
        phases: &mut Phases,
    ) -> Result<tokio_rustls::client::TlsStream<S>, HttpError> {
        let own = self.settings.tls_config.as_ref();
        let config = self.prober.tls.client(own, protocols)?;
        let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
        let mut watch = Watch::start();
        let stream = tls::handshake(config, own, host, stream).await;
        phases.tls += watch.lap();
        Ok(stream?)
    }

    /// Asks a proxy for a way through.
    async fn tunnel(&self, url: &Url, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, HttpError> {
        let place =
            format!("{}:{}", url.host_str().unwrap_or(""), url.port_or_known_default().unwrap_or(443));
        let mut request = Request::builder().method(Method::CONNECT).uri(&place).header(header::HOST, &place);
        for line in &self.settings.proxy_connect_headers {
            let (name, value) = read_line(line)?;
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|e| HttpError::Request(e.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let _driven = Driven::spawn(connection.with_upgrades());
        let answer = sender.send_request(request).await?;
        if !answer.status().is_success() {
            return Err(HttpError::Proxy(answer.status()));
        }
        Ok(Box::new(TokioIo::new(hyper::upgrade::on(answer).await?)))
    }
}

fn build(
    url: &Url,
    sent: &Sent,
    cookies: &CookieStore,
    ready: &Ready,
) -> Result<Request<Full<Bytes>>, HttpError> {
    let wrong = |e: http::Error| HttpError::Request(e.to_string());
    let mut builder = Request::builder().method(sent.method.clone());
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    builder = if ready.http2 || ready.through_proxy {
        builder.uri(&url[..url::Position::AfterQuery])
    } else {
        builder.uri(request_target(url)?)
    };
    let mut request = builder.body(Full::new(sent.body.clone())).map_err(wrong)?;
    *request.headers_mut() = sent.headers.clone();
    let headers = request.headers_mut();
    if !ready.http2 && !headers.contains_key(header::HOST) {
        let host = HeaderValue::from_str(authority).map_err(|e| HttpError::Request(e.to_string()))?;
        headers.insert(header::HOST, host);
    }
    let pairs: Vec<String> = cookies.get_request_values(url).map(|(n, v)| format!("{n}={v}")).collect();
    if !pairs.is_empty()
        && let Ok(value) = HeaderValue::from_str(&pairs.join("; "))
    {
        headers.append(header::COOKIE, value);
    }
    Ok(request)
}

/// Sends, and gives the head of the answer and what reads its body: nothing is kept alive.
async fn exchange(
    stream: Box<dyn Stream>,
    http2: bool,
    request: Request<Full<Bytes>>,
) -> Result<(http::Response<Incoming>, Driven), HttpError> {
    let io = TokioIo::new(stream);
    if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        let driven = Driven::spawn(connection);
        return Ok((sender.send_request(request).await?, driven));
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let driven = Driven::spawn(connection);
    Ok((sender.send_request(request).await?, driven))
}
