//! The health service of gRPC.

use pilothouse_model::limits;
use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::clock::{Watch, in_time};
use super::connect::{ConnectError, dial, resolve, split_target};
use super::driven::Driven;
use super::{LocalProber, tls};
use crate::run::{Recorder, Target};
use crate::words::{GrpcSettings, IpVersion};

const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// gRPC's own number for a call that took too long.
const DEADLINE_EXCEEDED: i32 = 4;
/// For one that met no server.
const UNAVAILABLE: i32 = 14;
/// And for a call whose status is not known.
const UNKNOWN: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthAnswer {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Debug, thiserror::Error)]
enum GrpcError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Tls(#[from] pilothouse_net::BuildError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(String),
}

/// Status of the call, and of the service if the call succeeded.
struct Health {
    code: i32,
    serving: Option<i32>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) async fn probe(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &GrpcSettings,
    recorder: &mut Recorder,
) -> bool {
    phase(recorder, "resolve", 0.0);
    phase(recorder, "check", 0.0);
    let called = in_time(target.timeout, call(prober, target, settings, recorder)).await;
    let health = called.unwrap_or_else(|e| {
        recorder.error("can't connect grpc server:", &[("err", &e)]);
        let late = matches!(&e, GrpcError::Io(e) if e.kind() == std::io::ErrorKind::TimedOut);
        Health { code: if late { DEADLINE_EXCEEDED } else { UNAVAILABLE }, serving: None }
    });
    let help = "Response gRPC status code";
    recorder.gauge("probe_grpc_status_code", help, &[], f64::from(health.code));
    let encrypted = settings.tls && ![UNAVAILABLE, DEADLINE_EXCEEDED].contains(&health.code);
    recorder.gauge(
        "probe_grpc_ssl",
        "Indicates if SSL was used for the connection",
        &[],
        f64::from(u8::from(encrypted)),
    );
    for (number, state) in STATES.iter().enumerate() {
        let is = health.serving.is_some_and(|serving| usize::try_from(serving) == Ok(number));
        let help = "Response HealthCheck response";
        recorder.gauge(
            "probe_grpc_healthcheck_response",
            help,
            &[("serving_status", state)],
            f64::from(u8::from(is)),
        );
    }
    health.code == 0 && health.serving == Some(1)
}

fn phase(recorder: &mut Recorder, phase: &str, seconds: f64) {
    let help = "Duration of gRPC request by phase";
    recorder.gauge("probe_grpc_duration_seconds", help, &[("phase", phase)], seconds);
}

async fn call(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &GrpcSettings,
    recorder: &mut Recorder,
) -> Result<Health, GrpcError> {
    let (host, port) = split_target(target.target)
        .ok_or_else(|| GrpcError::Request("target is not host:port".to_owned()))?;
    let version = IpVersion::try_from(settings.ip_version).unwrap_or_default();
    let (address, took) = resolve(host, version, &prober.rules, recorder).await?;
    phase(recorder, "resolve", took.as_secs_f64());
    let mut watch = Watch::start();
    let stream = dial(SocketAddr::new(address, port), "").await?;
    let stream: Box<dyn Stream> = if settings.tls {
        let own = settings.tls_config.as_ref();
        let stream = tls::handshake(prober.tls.client(own, &[b"h2"])?, own, host, stream).await?;
        tls::take_down(stream.get_ref().1, !own.is_some_and(|t| t.insecure_skip_verify), recorder);
        Box::new(stream)
    } else {
        Box::new(stream)
    };
    let health = ask(stream, target.target, settings).await;
    phase(recorder, "check", watch.lap().as_secs_f64());
    let health = health?;
    recorder.info(
        "Got response",
        &[("status_code", &health.code), ("serving_status", &health.serving.unwrap_or(0))],
    );
    Ok(health)
}

async fn ask(stream: Box<dyn Stream>, authority: &str, settings: &GrpcSettings) -> Result<Health, GrpcError> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let _driven = Driven::spawn(connection);
    let scheme = if settings.tls { "https" } else { "http" };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(&HealthRequest { service: settings.service.clone() })))
        .map_err(|e| GrpcError::Request(e.to_string()))?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let whole = Limited::new(body, limits::CHECK_GRPC_ANSWER_BYTES).collect().await;
    let whole = whole.map_err(|e| GrpcError::Request(e.to_string()))?;
    let trailers = whole.trailers().cloned().unwrap_or_default();
    let code = status_of(&trailers).or_else(|| status_of(&parts.headers));
    let code = match code {
        Some(code) => code,
        None if parts.status == StatusCode::OK => UNKNOWN,
        None => UNAVAILABLE,
    };
    let message = whole.to_bytes();
    let answer = message.get(5..).and_then(|bytes| HealthAnswer::decode(bytes).ok());
    Ok(Health { code, serving: answer.filter(|_| code == 0).map(|a| a.status) })
}

fn status_of(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A message as a call carries it: not compressed, its length, its bytes.
fn framed(message: &HealthRequest) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(bytes.len() + 5);
    frame.put_u8(0);
    frame.put_u32(bytes.len() as u32);
    frame.put_slice(&bytes);
    frame.freeze()
}
