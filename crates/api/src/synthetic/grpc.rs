//! The services that private probes call: one request, an answer or a stream of answers.
//!
//! gRPC is HTTP/2 with length-prefixed messages and a status in the trailers; five calls with
//! one message each way need no framework.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use pilothouse_model::Memory;
use pilothouse_model::limits::{PROBE_MESSAGES, PROBE_STREAM_BYTES};
use pilothouse_model::memory::Reservation;
use pilothouse_probes::messages::{
    AdHocRequest, Changes, EntityRef, PingRequest, Pong, ProbeInfo, ProbeState, RegisterAnswer, Status,
    StatusAnswer, StatusCode, TenantInfo,
};
use pilothouse_probes::registry::Registry;
use pilothouse_probes::words::{Check, Probe, Tenant};
use prost::Message;
use tokio::sync::{mpsc, watch};

use super::Synthetic;
use crate::offload;
use crate::reply::{Reply, ReplyBody};
use crate::service::Call;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    RegisterProbe,
    GetChanges,
    Ping,
    RegisterAdHoc,
    GetAdHocChecks,
    GetTenant,
    PushTelemetry,
    RegisterK6Version,
}

/// Numbers of gRPC's own statuses.
#[derive(Debug, Clone, Copy)]
enum Code {
    Ok = 0,
    InvalidArgument = 3,
    NotFound = 5,
    PermissionDenied = 7,
    Aborted = 10,
    Internal = 13,
    Unavailable = 14,
}

struct Failed(Code, &'static str);

pub(super) async fn answer(memory: &Arc<Memory>, synthetic: Synthetic, method: Method, call: Call) -> Reply {
    match serve(memory, synthetic, method, &call).await {
        Ok(body) => reply(Body::new(body)),
        Err(failed) => reply(Body::new(Messages::ended(failed.0, failed.1))),
    }
}

fn reply(body: Body) -> Reply {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    Reply::of(http::StatusCode::OK, HeaderMap::new(), ReplyBody::Made(Box::new(response)))
}

async fn serve(
    memory: &Arc<Memory>,
    synthetic: Synthetic,
    method: Method,
    call: &Call,
) -> Result<Messages, Failed> {
    let Synthetic { registry, .. } = synthetic;
    let token =
        super::bearer(call).ok_or(Failed(Code::InvalidArgument, "missing or malformed authorization"))?;
    let probe = registry.probe_by_token(token);
    let registers = matches!(method, Method::RegisterProbe | Method::RegisterAdHoc);
    let probe = match probe {
        Some(probe) => probe,
        None if registers => return Ok(one(&not_authorized())),
        None => return Err(Failed(Code::PermissionDenied, "unknown probe")),
    };
    match method {
        Method::RegisterProbe => register(registry, probe, read(&call.body)?).await,
        Method::RegisterAdHoc => Ok(one(&registered(probe))),
        Method::Ping => {
            let ping: PingRequest = read(&call.body)?;
            Ok(one(&Pong { sequence: ping.sequence }))
        }
        Method::GetChanges => {
            let state: ProbeState = read(&call.body)?;
            let place = Place::new(memory, PROBE_STREAM_BYTES + Known::bytes_of(&state))?;
            Ok(changes(registry, probe, state, place))
        }
        Method::GetAdHocChecks => Ok(adhoc(registry, &probe, Place::new(memory, PROBE_STREAM_BYTES)?)),
        Method::GetTenant => {
            let wanted: TenantInfo = read(&call.body)?;
            let tenant = registry.tenant(wanted.id).filter(|t| t.id == probe.tenant_id);
            tenant.map(|t| one(&t)).ok_or(Failed(Code::NotFound, "tenant not found"))
        }
        Method::PushTelemetry | Method::RegisterK6Version => {
            Ok(one(&StatusAnswer { status: Some(Status::default()) }))
        }
    }
}

/// The one message of a request: not compressed, its length, its bytes.
fn read<M: Message + Default>(body: &Bytes) -> Result<M, Failed> {
    let wrong = Failed(Code::InvalidArgument, "the message does not read");
    match body.split_first_chunk::<5>() {
        Some(([0, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => {
            M::decode(message).map_err(|_| wrong)
        }
        _ => Err(wrong),
    }
}

fn not_authorized() -> RegisterAnswer {
    let status = Status { code: StatusCode::NotAuthorized as i32, message: "not authorized".to_owned() };
    RegisterAnswer { probe: None, status: Some(status) }
}

fn registered(probe: Probe) -> RegisterAnswer {
    RegisterAnswer { probe: Some(probe), status: Some(Status::default()) }
}

async fn register(registry: Arc<Registry>, probe: Probe, info: ProbeInfo) -> Result<Messages, Failed> {
    let stored = offload::write(move || {
        registry.probe_registered(probe.id, &info.version, &info.commit, &info.buildstamp)
    });
    match stored.await {
        Ok(Ok(probe)) => Ok(one(&registered(probe))),
        _ => Err(Failed(Code::Internal, "cannot store the probe")),
    }
}

/// Room for a stream as long as it lasts, and for what waits in it.
struct Place {
    memory: Arc<Memory>,
    _held: Reservation,
}

impl Place {
    fn new(memory: &Arc<Memory>, bytes: u64) -> Result<Self, Failed> {
        let held = memory.reserve(bytes);
        let held = held.map_err(|_| Failed(Code::Unavailable, "the server is at its memory limit"))?;
        Ok(Self { memory: Arc::clone(memory), _held: held })
    }

    fn message<M: Message>(&self, message: &M) -> Piece {
        let frame = framed(message);
        let held = Reservation::regardless(frame.len() as u64, &self.memory);
        Piece::Message(held.attached_to(frame))
    }
}

/// How often a stream that nothing goes over looks whether its probe is still wanted.
const LOOK: Duration = Duration::from_secs(30);

/// Follows the registry for one probe. While the stream is open the probe is online; a second
/// stream of the same probe ends the first.
fn changes(registry: Arc<Registry>, probe: Probe, state: ProbeState, place: Place) -> Messages {
    let (sender, messages) = Messages::stream();
    tokio::spawn(async move {
        let connection = registry.connect_probe(probe.id);
        set_online(&registry, probe.id, true).await;
        let code = follow((&registry, &probe), state, (&sender, &place), connection.replaced()).await;
        if connection.is_last() {
            set_online(&registry, probe.id, false).await;
        }
        let _ = sender.send(Piece::End(code)).await;
    });
    messages
}

async fn set_online(registry: &Arc<Registry>, probe: i64, online: bool) {
    let registry = Arc::clone(registry);
    let stored = offload::write(move || registry.set_online(probe, online)).await;
    if !matches!(stored, Ok(Ok(()))) {
        tracing::debug!(probe, online, "the state of a probe was not stored");
    }
}

async fn follow(
    (registry, probe): (&Arc<Registry>, &Probe),
    state: ProbeState,
    (sender, place): (&mpsc::Sender<Piece>, &Place),
    mut replaced: watch::Receiver<u64>,
) -> Code {
    let mut generations = registry.changes();
    let mut known = Known::of(state);
    loop {
        generations.mark_unchanged();
        if registry.probe(probe.tenant_id, probe.id).is_err() {
            return Code::PermissionDenied;
        }
        let tenant = registry.tenant(probe.tenant_id);
        if let Some(changes) = known.changes(registry.assignments(probe.id), tenant)
            && sender.send(place.message(&changes)).await.is_err()
        {
            return Code::Ok;
        }
        tokio::select! {
            changed = generations.changed() => if changed.is_err() { return Code::Aborted },
            _ = replaced.changed() => return Code::Aborted,
            () = sender.closed() => return Code::Ok,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What a probe runs: checks with their time of change, and its tenant's.
struct Known {
    checks: HashMap<i64, f64>,
    tenant_modified: Option<f64>,
    /// The first message says whether it builds on what the probe had.
    first: bool,
    had_checks: bool,
}

impl Known {
    /// Of what a probe says that it has.
    fn bytes_of(state: &ProbeState) -> u64 {
        2 * size_of_val(state.checks.as_slice()) as u64
    }

    fn of(state: ProbeState) -> Self {
        let pair = |entity: &EntityRef| (entity.id, entity.last_modified);
        let checks: HashMap<i64, f64> = state.checks.iter().map(pair).collect();
        Self { had_checks: !checks.is_empty(), checks, tenant_modified: None, first: true }
    }

    /// The way from what the probe has to what it shall have; `None` where that is nothing.
    fn changes(&mut self, wanted: Vec<Arc<Check>>, tenant: Option<Tenant>) -> Option<Changes> {
        let mut changes = Changes::default();
        let mut gone: HashMap<i64, f64> = std::mem::take(&mut self.checks);
        for check in wanted {
            let before = gone.remove(&check.id);
            self.checks.insert(check.id, check.modified);
            if before != Some(check.modified) {
                changes.push(Check::clone(&check), before.is_some());
            }
        }
        gone.into_keys().for_each(|id| changes.push_gone(id));
        let modified = tenant.as_ref().map(|t| t.modified);
        if let Some(tenant) = tenant.filter(|_| !self.first && self.tenant_modified != modified) {
            changes.tenants.push(tenant);
        }
        self.tenant_modified = modified;
        changes.is_delta_first_batch = std::mem::take(&mut self.first) && self.had_checks;
        let empty = changes.checks.is_empty() && changes.tenants.is_empty();
        (!empty || changes.is_delta_first_batch).then_some(changes)
    }
}

/// Hands on checks that run once.
fn adhoc(registry: Arc<Registry>, probe: &Probe, place: Place) -> Messages {
    let (sender, messages) = Messages::stream();
    let mut offered = registry.adhoc_offers();
    let (id, tenant_id) = (probe.id, probe.tenant_id);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                offer = offered.recv() => match offer {
                    Ok(check) if check.tenant_id == tenant_id && check.probes.contains(&id) => {
                        let request = AdHocRequest { check: Some(check), tenant: registry.tenant(tenant_id) };
                        if sender.send(place.message(&request)).await.is_err() {
                            return;
                        }
                    }
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    });
    messages
}

fn framed<M: Message>(message: &M) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.encoded_len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.encoded_len() as u32);
    // BytesMut grows.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

enum Piece {
    Message(Bytes),
    End(Code),
}

/// The body of an answer: messages, then the status as trailers.
struct Messages {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

fn one<M: Message>(message: &M) -> Messages {
    let (sender, messages) = Messages::stream();
    // There is room for two.
    let _ = sender.try_send(Piece::Message(framed(message)));
    let _ = sender.try_send(Piece::End(Code::Ok));
    messages
}

impl Messages {
    fn stream() -> (mpsc::Sender<Piece>, Self) {
        let (sender, pieces) = mpsc::channel(PROBE_MESSAGES);
        (sender, Self { pieces, ended: false })
    }

    fn ended(code: Code, message: &'static str) -> Self {
        tracing::debug!(message, "a private probe was refused");
        let (sender, messages) = Self::stream();
        let _ = sender.try_send(Piece::End(code));
        messages
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(Piece::Message(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End(code)) => {
                self.ended = true;
                Some(Ok(Frame::trailers(status(code))))
            }
            // The other side was dropped without a word.
            None => {
                self.ended = true;
                Some(Ok(Frame::trailers(status(Code::Aborted))))
            }
        })
    }
}

fn status(code: Code) -> HeaderMap {
    let number = HeaderValue::from(code as u16);
    HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), number)])
}
