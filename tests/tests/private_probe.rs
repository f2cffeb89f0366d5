//! A private probe's life, by a client that was written from the published protocol: its own
//! messages, its own framing, a connection of HTTP/2 with prior knowledge.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilothouse_tests::{Answer, Server, push_body, series};
use prost::Message;
use serde_json::{Value, json};

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";

/// What the tests look at, by the field numbers of the protocol.
mod protocol {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ProbeInfo {
        #[prost(string, tag = "1")]
        pub(crate) version: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct RegisterProbeResult {
        #[prost(message, optional, tag = "1")]
        pub(crate) probe: Option<Probe>,
        #[prost(message, optional, tag = "2")]
        pub(crate) status: Option<Status>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Status {
        #[prost(int32, tag = "1")]
        pub(crate) code: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Probe {
        #[prost(int64, tag = "1")]
        pub(crate) id: i64,
        #[prost(int64, tag = "2")]
        pub(crate) tenant_id: i64,
        #[prost(string, tag = "11")]
        pub(crate) version: String,
        #[prost(message, optional, tag = "102")]
        pub(crate) capabilities: Option<Capabilities>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Capabilities {
        #[prost(bool, tag = "1")]
        pub(crate) disable_scripted_checks: bool,
        #[prost(bool, tag = "2")]
        pub(crate) disable_browser_checks: bool,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ProbeState {
        #[prost(message, repeated, tag = "1")]
        pub(crate) checks: Vec<EntityRef>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct EntityRef {
        #[prost(int64, tag = "1")]
        pub(crate) id: i64,
        #[prost(double, tag = "2")]
        pub(crate) last_modified: f64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Changes {
        #[prost(message, repeated, tag = "1")]
        pub(crate) checks: Vec<CheckChange>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) tenants: Vec<Tenant>,
        #[prost(bool, tag = "3")]
        pub(crate) is_delta_first_batch: bool,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct CheckChange {
        #[prost(int32, tag = "1")]
        pub(crate) operation: i32,
        #[prost(message, optional, tag = "2")]
        pub(crate) check: Option<Check>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Check {
        #[prost(int64, tag = "1")]
        pub(crate) id: i64,
        #[prost(int64, tag = "3")]
        pub(crate) frequency: i64,
        #[prost(string, tag = "11")]
        pub(crate) job: String,
        #[prost(double, tag = "101")]
        pub(crate) modified: f64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Tenant {
        #[prost(int64, tag = "1")]
        pub(crate) id: i64,
        #[prost(message, optional, tag = "3")]
        pub(crate) metrics_remote: Option<Remote>,
        #[prost(message, optional, tag = "4")]
        pub(crate) events_remote: Option<Remote>,
        #[prost(int32, tag = "6")]
        pub(crate) status: i32,
        #[prost(bytes = "vec", optional, tag = "8")]
        pub(crate) limits: Option<Vec<u8>>,
        #[prost(double, tag = "101")]
        pub(crate) modified: f64,
        #[prost(bytes = "vec", optional, tag = "102")]
        pub(crate) secret_store: Option<Vec<u8>>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Remote {
        #[prost(string, tag = "2")]
        pub(crate) url: String,
        #[prost(string, tag = "3")]
        pub(crate) username: String,
        #[prost(string, tag = "4")]
        pub(crate) password: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Id {
        #[prost(int64, tag = "1")]
        pub(crate) id: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct AdHocRequest {
        #[prost(message, optional, tag = "1")]
        pub(crate) check: Option<AdHocCheck>,
        #[prost(message, optional, tag = "2")]
        pub(crate) tenant: Option<Tenant>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct AdHocCheck {
        #[prost(string, tag = "1")]
        pub(crate) id: String,
        #[prost(string, tag = "6")]
        pub(crate) target: String,
    }
}
use protocol::{AdHocRequest, Changes, EntityRef, Id, ProbeInfo, ProbeState, RegisterProbeResult, Tenant};

const ADD: i32 = 0;
const UPDATE: i32 = 1;
const DELETE: i32 = 2;
const PERMISSION_DENIED: i32 = 7;
const ABORTED: i32 = 10;

/// A connection of a probe with its token.
struct Channel {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    token: String,
}

impl Channel {
    async fn open(address: SocketAddr, token: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self { sender, address, token: token.to_owned() }
    }

    async fn start(&mut self, path: &str, message: &impl Message) -> Stream {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(message.encoded_len() as u32);
        message.encode(&mut frame).unwrap();
        let request = hyper::Request::post(format!("http://{}/synthetic_monitoring.{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(frame.freeze()))
            .unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc");
        Stream { body: response.into_body(), bytes: BytesMut::new() }
    }

    async fn unary<M: Message + Default>(&mut self, path: &str, message: &impl Message) -> M {
        let mut stream = self.start(path, message).await;
        let answer = stream.next().await.unwrap();
        assert_eq!(stream.next::<M>().await.err(), Some(0));
        answer
    }
}

struct Stream {
    body: Incoming,
    bytes: BytesMut,
}

impl Stream {
    /// The next message, or the status that the stream ends with.
    async fn next<M: Message + Default>(&mut self) -> Result<M, i32> {
        loop {
            if self.bytes.len() >= 5 {
                let length = u32::from_be_bytes(self.bytes[1..5].try_into().unwrap()) as usize;
                if self.bytes.len() >= 5 + length {
                    let frame = self.bytes.split_to(5 + length);
                    return Ok(M::decode(&frame[5..]).unwrap());
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.unwrap();
            let frame = frame.unwrap_or_else(|| panic!("an end without a status")).unwrap();
            match frame.into_data() {
                Ok(data) => self.bytes.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    return Err(trailers["grpc-status"].to_str().unwrap().parse().unwrap());
                }
            }
        }
    }

    async fn changes(&mut self) -> Vec<(i32, i64)> {
        let changes: Changes = self.next().await.unwrap();
        operations(&changes)
    }
}

fn operations(changes: &Changes) -> Vec<(i32, i64)> {
    let mut all: Vec<(i32, i64)> =
        changes.checks.iter().map(|change| (change.operation, change.check.as_ref().unwrap().id)).collect();
    all.sort();
    all
}

/// The HTTP side, with a tenant's token.
struct Api<'a> {
    server: &'a Server,
    token: String,
}

impl Api<'_> {
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let path = format!("/api/v1{path}");
        self.server.send(method, &path, &[("Authorization", &bearer)], body.to_string().as_bytes())
    }

    fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(method, path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    fn add(&self, job: &str, probe: i64) -> Value {
        self.ok(
            "POST",
            "/check/add",
            json!({
                "job": job, "target": "http://127.0.0.1:1/", "frequency": 60_000, "timeout": 1_000, "enabled": true,
                "probes": [probe], "labels": [], "settings": {"http": {}},
            }),
        )
    }
}

fn install(server: &Server) -> Api<'_> {
    let mut api = Api { server, token: ROOT.to_owned() };
    let ids = json!({"stackId": 1, "metricsInstanceId": 2, "logsInstanceId": 3});
    let installed = api.ok("POST", "/register/install", ids);
    api.token = installed["accessToken"].as_str().unwrap().to_owned();
    api
}

fn known(checks: &[&Value]) -> ProbeState {
    let entity = |c: &&Value| EntityRef {
        id: c["id"].as_i64().unwrap(),
        last_modified: c["modified"].as_f64().unwrap(),
    };
    ProbeState { checks: checks.iter().map(entity).collect() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_probe_registers_follows_changes_reconnects_and_pushes() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--auth", "required", "--root-token", ROOT]);
    let api = install(&server);
    let made = api.ok("POST", "/probe/add", json!({"name": "private", "latitude": 1, "longitude": 2}));
    let (id, token) = (made["probe"]["id"].as_i64().unwrap(), made["token"].as_str().unwrap().to_owned());
    let online = || api.ok("GET", &format!("/probe/{id}"), Value::Null)["online"].clone();
    let first = api.add("first", id);
    let id_of = |check: &Value| check["id"].as_i64().unwrap();

    // It registers and is told what it may do; that alone does not make it online.
    let mut channel = Channel::open(server.address, &token).await;
    let info = ProbeInfo { version: "v0.62.0".into() };
    let result: RegisterProbeResult = channel.unary("Checks/RegisterProbe", &info).await;
    let probe = result.probe.unwrap();
    assert_eq!((result.status.unwrap().code, probe.id, probe.version.as_str()), (0, id, "v0.62.0"));
    let capabilities = probe.capabilities.unwrap();
    assert!(capabilities.disable_scripted_checks && capabilities.disable_browser_checks);
    assert_eq!(online(), json!(false));
    let pong: Id = channel.unary("Checks/Ping", &Id { id: 7 }).await;
    assert_eq!(pong.id, 7);

    // It knows nothing: all that is its own comes, then each change as it is made.
    let mut stream = channel.start("Checks/GetChanges", &ProbeState::default()).await;
    let batch: Changes = stream.next().await.unwrap();
    let check = batch.checks[0].check.clone().unwrap();
    assert_eq!((operations(&batch), batch.is_delta_first_batch), (vec![(ADD, id_of(&first))], false));
    assert_eq!((check.job.as_str(), check.modified), ("first", first["modified"].as_f64().unwrap()));
    assert_eq!(online(), json!(true));
    let mut changed = first.clone();
    changed["frequency"] = json!(30_000);
    let changed = api.ok("POST", "/check/update", changed);
    let batch: Changes = stream.next().await.unwrap();
    assert_eq!(operations(&batch), [(UPDATE, id_of(&first))]);
    assert_eq!(batch.checks[0].check.as_ref().unwrap().frequency, 30_000);
    let second = api.add("second", id);
    assert_eq!(stream.changes().await, [(ADD, id_of(&second))]);
    api.add("elsewhere", 1);
    let mut disabled = second.clone();
    disabled["enabled"] = json!(false);
    api.ok("POST", "/check/update", disabled);
    assert_eq!(stream.changes().await, [(DELETE, id_of(&second))]);

    // Its tenant, with the real secrets; a change of it comes over the stream, with its checks.
    let tenant: Tenant = channel.unary("Tenants/GetTenant", &Id { id: probe.tenant_id }).await;
    assert_eq!((&tenant.limits, &tenant.secret_store), (&None, &None), "zeros would stop its runs");
    let pause = json!({"status": {"code": 1, "reason": "pause"}});
    api.ok("POST", "/tenant/update", pause);
    let batch: Changes = stream.next().await.unwrap();
    assert_eq!(operations(&batch), [(DELETE, id_of(&first))]);
    assert!(batch.tenants[0].status == 1 && batch.tenants[0].modified > tenant.modified);
    api.ok("POST", "/tenant/update", json!({"status": 0}));
    assert_eq!(stream.changes().await, [(ADD, id_of(&first))]);

    // It pushes where its tenant says, with that secret and no other.
    push(&server, &tenant);

    // A check that runs once goes over a stream of its own.
    let registered: RegisterProbeResult = channel.unary("AdHocChecks/RegisterProbe", &info).await;
    assert_eq!(registered.status.unwrap().code, 0);
    let mut once = channel.start("AdHocChecks/GetAdHocChecks", &ProbeState::default()).await;
    let target = "http://127.0.0.1:1/once";
    let wanted = json!({"target": target, "timeout": 1_000, "probes": [id], "settings": {"http": {}}});
    let run = api.ok("POST", "/check/adhoc", wanted);
    let request: AdHocRequest = once.next().await.unwrap();
    let check = request.check.unwrap();
    assert_eq!((check.id.as_str(), check.target.as_str()), (run["id"].as_str().unwrap(), target));
    assert_eq!(request.tenant.unwrap().id, tenant.id);

    // It comes again while the old stream is open: that one ends, and only differences come.
    let third = api.add("third", id);
    assert_eq!(stream.changes().await, [(ADD, id_of(&third))]);
    let mut again = Channel::open(server.address, &token).await;
    let _: RegisterProbeResult = again.unary("Checks/RegisterProbe", &info).await;
    let gone = json!({"id": 99, "modified": 1.5});
    let mut next = again.start("Checks/GetChanges", &known(&[&changed, &first_of(&third, 1.0), &gone])).await;
    let batch: Changes = next.next().await.unwrap();
    assert!(batch.is_delta_first_batch);
    assert_eq!(operations(&batch), [(UPDATE, id_of(&third)), (DELETE, 99)]);
    assert_eq!(stream.next::<Changes>().await.unwrap_err(), ABORTED);
    assert_eq!(online(), json!(true), "the end of the old stream is not the end of the new one");

    // What is equal is left out, and the first message says so all the same.
    let mut same = again.start("Checks/GetChanges", &known(&[&changed, &third])).await;
    let batch: Changes = same.next().await.unwrap();
    assert_eq!((operations(&batch), batch.is_delta_first_batch), (Vec::new(), true));

    // A token that was reset is worth nothing.
    let reset = json!({"id": id, "name": "private"});
    api.ok("POST", "/probe/update?reset-token", reset);
    let mut stranger = Channel::open(server.address, &token).await;
    let refused: RegisterProbeResult = stranger.unary("Checks/RegisterProbe", &info).await;
    assert_eq!((refused.probe, refused.status.unwrap().code), (None, 5));
    let mut refused = stranger.start("Checks/GetChanges", &ProbeState::default()).await;
    assert_eq!(refused.next::<Changes>().await.unwrap_err(), PERMISSION_DENIED);
}

fn first_of(check: &Value, modified: f64) -> Value {
    json!({"id": check["id"], "modified": modified})
}

/// Series as the probe pushes them, at the address that the tenant's remote names.
fn push(server: &Server, tenant: &Tenant) {
    let remote = tenant.metrics_remote.as_ref().unwrap();
    let path = remote.url.strip_prefix(&format!("http://{}", server.address)).unwrap();
    assert_eq!(path, "/api/v1");
    let now_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let body = push_body(&[series(&[("__name__", "probe_success"), ("probe", "private")], &[(now_ms, 1.0)])]);
    let send = |password: &str| {
        let basic = format!("Basic {}", base64(&format!("{}:{password}", remote.username)));
        let headers = [("Authorization", basic.as_str()), ("Content-Encoding", "snappy")];
        server.send("POST", &format!("{path}/push"), &headers, &body).status
    };
    assert!((200..300).contains(&send(&remote.password)));
    assert_eq!(send("wrong"), 401);
    let events = tenant.events_remote.as_ref().unwrap();
    assert!(events.url.ends_with("/loki/api/v1") && events.password != remote.password);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
