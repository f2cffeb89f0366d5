//! Calls to the other system, and what their outcomes mean for who waits here.
//!
//! A refusal of the call itself (400, 413, 422) is handed on as it is. What speaks of this server
//! instead, because its credentials or its address are wrong (401, 403, 404, 405, 407, a redirect),
//! is not the sender's fault: the sender is told to come again, so that nothing is lost until
//! somebody has mended the settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pilothouse_model::durations::{DurationCounts, Durations};
use pilothouse_model::limits::{Limits, REMOTE_READ_BYTES, REMOTE_TEXT_BYTES, UNBOOKED_BYTES};
use pilothouse_model::{Budget, BudgetError, Memory, RemoteError, SourceError};
use pilothouse_net::websocket::{ConnectError, WebSocket};
use pilothouse_net::{BuildError, CallError, Client, ClientSettings, HttpOptions, Request, Secret, Streamed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Settings;

/// When to come again where the other system does not say.
const RETRY_AFTER_S: u64 = 5;

/// A call that is handed on.
#[derive(Debug, Clone)]
pub struct Forwarded {
    pub method: Method,
    /// Behind the address for queries; begins with a slash.
    pub path_and_query: String,
    /// Of the client; only those that say what the answer shall be, never its credentials.
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer on its way; the place among the queries under way is given back with it.
#[derive(Debug)]
pub struct Answering {
    pub streamed: Streamed,
    pub place: OwnedSemaphorePermit,
}

/// The other system of one data source.
#[derive(Debug)]
pub struct Peer {
    /// Of the data source, for the log.
    name: String,
    settings: Settings,
    client: Client,
    max_answer_bytes: u64,
    max_tail_bytes: usize,
    memory: Arc<Memory>,
    /// For clients' queries under way at once. They take no processor here, so they wait for each
    /// other alone and never for queries of this server's own data.
    places: Arc<Semaphore>,
    query_timeout: Duration,
    is_down: AtomicBool,
    writes: Outcomes,
    queries: Outcomes,
}

#[derive(Debug, Default)]
struct Outcomes {
    good: AtomicU64,
    refused: AtomicU64,
    away: AtomicU64,
    seconds: Durations,
}

/// What became of calls so far.
#[derive(Debug, Clone)]
pub struct OutcomeFigures {
    pub good: u64,
    /// Refused for good.
    pub refused: u64,
    /// Not done now: no answer, too many calls, credentials that are not taken.
    pub away: u64,
    pub seconds: DurationCounts,
}

/// How calls went.
#[derive(Debug, Clone)]
pub struct PeerFigures {
    /// Whether the last call was answered by somebody who can work.
    pub is_up: bool,
    pub writes: OutcomeFigures,
    pub queries: OutcomeFigures,
}

impl Outcomes {
    fn add<T>(&self, outcome: &Result<T, RemoteError>, took: Duration) {
        self.seconds.add(took);
        match outcome {
            Ok(_) => self.good.fetch_add(1, Relaxed),
            Err(RemoteError::Refused { .. }) => self.refused.fetch_add(1, Relaxed),
            Err(_) => self.away.fetch_add(1, Relaxed),
        };
    }

    fn figures(&self) -> OutcomeFigures {
        OutcomeFigures {
            good: self.good.load(Relaxed),
            refused: self.refused.load(Relaxed),
            away: self.away.load(Relaxed),
            seconds: self.seconds.counts(),
        }
    }
}

impl Peer {
    /// `name` is the data source's. Reads files of certificates now. What comes is booked in `memory`:
    /// for a query, as its own.
    pub fn new(
        name: &str,
        settings: Settings,
        limits: &Limits,
        memory: &Arc<Memory>,
    ) -> Result<Self, BuildError> {
        let client_settings = ClientSettings {
            timeout: Duration::from_millis(limits.query_timeout_ms).max(settings.timeout),
            // Of answers to writes, of which little is told on; others are read by whom they are for.
            max_response_bytes: UNBOOKED_BYTES as usize,
            ..ClientSettings::booking(memory)
        };
        // Nobody is called who was not named.
        let options = HttpOptions { follow_redirects: false, ..settings.http_config.clone() };
        Ok(Self {
            name: name.to_owned(),
            client: Client::new(&options, client_settings)?,
            settings,
            max_answer_bytes: limits.max_remote_answer_bytes,
            max_tail_bytes: usize::try_from(limits.max_tail_bytes)
                .map_or(REMOTE_READ_BYTES, |bytes| bytes.min(REMOTE_READ_BYTES)),
            memory: Arc::clone(memory),
            places: Arc::new(Semaphore::new(
                usize::try_from(limits.max_concurrent_queries).map_or(Semaphore::MAX_PERMITS, |n| n.max(1)),
            )),
            query_timeout: Duration::from_millis(limits.query_timeout_ms),
            is_down: AtomicBool::new(false),
            writes: Outcomes::default(),
            queries: Outcomes::default(),
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account that its calls are booked in.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub fn figures(&self) -> PeerFigures {
        PeerFigures {
            is_up: !self.is_down.load(Relaxed),
            writes: self.writes.figures(),
            queries: self.queries.figures(),
        }
    }

    /// Sends a body; good once the other system has taken it.
    pub(crate) async fn write(
        &self,
        headers: &[(HeaderName, &'static str)],
        body: Bytes,
    ) -> Result<(), RemoteError> {
        let mut all = self.own_headers();
        for (name, value) in headers {
            all.insert(name, HeaderValue::from_static(value));
        }
        let url = Secret::new(self.settings.write_url.as_str());
        let request = Request { method: Method::POST, url, headers: all, body };
        let began = Instant::now();
        let sent = tokio::time::timeout(self.settings.timeout, self.client.send(request)).await;
        let outcome = match sent {
            Err(_) => Err(away(format!("no answer within {:?}", self.settings.timeout))),
            Ok(Err(e)) => Err(of_call(&e)),
            Ok(Ok(answer)) if answer.status.is_success() => Ok(()),
            Ok(Ok(answer)) => Err(of_status(answer.status, &answer.headers, &answer.body, Call::Write)),
        };
        self.writes.add(&outcome, began.elapsed());
        self.heed(outcome.as_ref().err());
        outcome
    }

    /// Asks for something that is taken apart here. A form goes by POST, since it may be long. The
    /// answer is the query's memory as it comes, and until it is dropped.
    pub(crate) async fn ask(
        &self,
        path: &str,
        form: &[(&str, &str)],
        budget: &Budget,
    ) -> Result<Bytes, SourceError> {
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(form);
        let mut headers = self.own_headers();
        let (method, target, body) = match path {
            // Prometheus takes these by GET alone.
            path if path.ends_with("/values") || path.ends_with("/metadata") => {
                (Method::GET, format!("{path}?{}", encoded.finish()), Bytes::new())
            }
            path => {
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(header::CONTENT_TYPE, form);
                (Method::POST, path.to_owned(), Bytes::from(encoded.finish()))
            }
        };
        let categorized = HeaderName::from_static("x-loki-response-encoding-flags");
        headers.insert(categorized, HeaderValue::from_static("categorize-labels"));
        self.fetch(method, &target, headers, body, budget).await
    }

    /// Asks for samples as they are kept, by remote read. Request and answer are blocks of snappy.
    pub(crate) async fn read(&self, request: Bytes, budget: &Budget) -> Result<Bytes, SourceError> {
        let mut headers = self.own_headers();
        for (name, value) in [
            (header::CONTENT_TYPE, "application/x-protobuf"),
            (header::CONTENT_ENCODING, "snappy"),
            (HeaderName::from_static("x-prometheus-remote-read-version"), "0.1.0"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        self.fetch(Method::POST, "/api/v1/read", headers, request, budget).await
    }

    async fn fetch(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
        budget: &Budget,
    ) -> Result<Bytes, SourceError> {
        let url = Secret::new(format!("{}{target}", self.settings.query_url));
        let began = Instant::now();
        let request = Request { method, url, headers, body };
        let outcome = match self.client.open(request, REMOTE_READ_BYTES as u64).await {
            Err(e) => Err(of_call(&e)),
            Ok(answer) if answer.status.is_success() => whole(answer, budget).await,
            Ok(answer) => Err(refusal(answer).await),
        };
        self.queries.add(&outcome, began.elapsed());
        self.heed(outcome.as_ref().err());
        Ok(outcome??)
    }

    /// Hands a client's query on, and gives the answer as it comes, a refusal of it too.
    pub async fn forward(&self, call: Forwarded) -> Result<Answering, RemoteError> {
        let place = Arc::clone(&self.places).acquire_owned();
        let busy = || RemoteError::Busy {
            why: "too many queries of this data source are under way".into(),
            retry_after_s: Some(RETRY_AFTER_S),
        };
        let place = tokio::time::timeout(self.query_timeout, place).await.map_err(|_| busy())?;
        let place = place.map_err(|_| busy())?;
        let Forwarded { method, path_and_query, mut headers, body } = call;
        headers.extend(self.own_headers());
        let url = Secret::new(format!("{}{path_and_query}", self.settings.query_url));
        let began = Instant::now();
        let sent = self.client.open(Request { method, url, headers, body }, self.max_answer_bytes).await;
        let outcome = match sent {
            Err(e) => Err(of_call(&e)),
            // What is said there is about this server's credentials, and not for its clients.
            Ok(answer) if speaks_of_us(answer.status, Call::Forwarded) => {
                Err(of_status(answer.status, &answer.headers, b"", Call::Forwarded))
            }
            Ok(answer) => Ok(answer),
        };
        self.queries.add(&outcome, began.elapsed());
        self.heed(outcome.as_ref().err());
        Ok(Answering { streamed: outcome?, place })
    }

    /// Opens a WebSocket where lines are followed, for a client's query. Of `headers` the same holds
    /// as in [`Forwarded`]. A message may be as long as what may wait for a follower of lines kept here.
    pub async fn follow(
        &self,
        path_and_query: &str,
        mut headers: HeaderMap,
    ) -> Result<WebSocket, RemoteError> {
        headers.extend(self.own_headers());
        let url = Secret::new(format!("{}{path_and_query}", self.settings.query_url));
        let request = Request { method: Method::GET, url, headers, body: Bytes::new() };
        let began = Instant::now();
        let outcome = match self.client.follow(request, self.max_tail_bytes).await {
            Ok(socket) => Ok(socket),
            Err(ConnectError::Call(e)) => Err(of_call(&e)),
            Err(ConnectError::Refused { status, text }) => {
                Err(of_status(status, &HeaderMap::new(), text.as_bytes(), Call::Forwarded))
            }
        };
        self.queries.add(&outcome, began.elapsed());
        self.heed(outcome.as_ref().err());
        outcome
    }

    fn own_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let tenant = self.settings.tenant.as_str();
        if let Some(tenant) = HeaderValue::from_str(tenant).ok().filter(|t| !t.is_empty()) {
            headers.insert(HeaderName::from_static("x-scope-orgid"), tenant);
        }
        headers
    }

    /// Tells when the other system goes and when it is back.
    fn heed(&self, failed: Option<&RemoteError>) {
        let (source, host) = (self.name.as_str(), self.settings.host());
        let is_away = matches!(failed, Some(RemoteError::Away { .. }));
        match (self.is_down.swap(is_away, Relaxed), failed) {
            (false, Some(cause @ RemoteError::Away { .. })) => {
                tracing::error!(source, host, "{cause}; writes to this data source are answered 503");
            }
            (true, _) if !is_away => tracing::info!(source, host, "the remote store works again"),
            _ => {}
        }
    }
}

/// An answer to its end. That this server has no room for it says nothing of the other system.
async fn whole(answer: Streamed, budget: &Budget) -> Result<Result<Bytes, BudgetError>, RemoteError> {
    let (mut body, mut taken, mut from) = (BytesMut::new(), budget.taking(), answer.body);
    while let Some(data) = from.next().await {
        let data = data.map_err(|e| of_call(&e))?;
        if let Err(e) = taken.grow(data.len() as u64) {
            return Ok(Err(e));
        }
        body.extend_from_slice(&data);
    }
    Ok(Ok(taken.attached_to(body)))
}

/// What is told on of an answer that is none.
async fn refusal(answer: Streamed) -> RemoteError {
    let (mut body, mut from) = (BytesMut::new(), answer.body);
    while body.len() < REMOTE_TEXT_BYTES
        && let Some(Ok(data)) = from.next().await
    {
        body.extend_from_slice(&data);
    }
    of_status(answer.status, &answer.headers, &body, Call::Query)
}

/// What a status is the answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Write,
    Query,
    Forwarded,
}

/// Whether a status is about this server's settings rather than about the call.
fn speaks_of_us(status: StatusCode, call: Call) -> bool {
    match status.as_u16() {
        300..=399 => status != StatusCode::NOT_MODIFIED,
        401 | 403 | 407 => true,
        // Not every system has every path for queries; a path for writes is what the settings say.
        404 | 405 => call == Call::Write,
        _ => false,
    }
}

fn away(why: impl Into<Arc<str>>) -> RemoteError {
    RemoteError::Away { why: why.into(), retry_after_s: Some(RETRY_AFTER_S) }
}

fn of_call(error: &CallError) -> RemoteError {
    match error {
        CallError::TooLong { limit_bytes } => {
            let text = format!("the remote store's answer is longer than {limit_bytes} bytes");
            RemoteError::Refused { status: 422, text: text.into() }
        }
        error => away(error.to_string()),
    }
}

fn of_status(status: StatusCode, headers: &HeaderMap, body: &[u8], call: Call) -> RemoteError {
    let text = String::from_utf8_lossy(body.get(..body.len().min(REMOTE_TEXT_BYTES)).unwrap_or(body));
    let text = text.trim();
    let asked = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
    let retry_after_s = asked.or(Some(RETRY_AFTER_S));
    if speaks_of_us(status, call) {
        let why = format!("it answers {} to the address or the credentials of this server", status.as_u16());
        return RemoteError::Away { why: why.into(), retry_after_s };
    }
    let why = || Arc::from(format!("it answers {}: {text}", status.as_u16()));
    match status {
        StatusCode::TOO_MANY_REQUESTS => RemoteError::Busy { why: why(), retry_after_s },
        status if status.is_server_error() => RemoteError::Away { why: why(), retry_after_s },
        status => RemoteError::Refused { status: status.as_u16(), text: text.into() },
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_model::budget::Ceilings;
    use pilothouse_model::memory::Part;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::settings::Kind;

    /// A system that answers whatever it is asked with so many bytes.
    async fn talkative(status: &'static str, bytes: usize, memory: &Arc<Memory>) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4_096]).await;
                let head =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; bytes]].concat()).await;
            }
        });
        let settings = serde_json::json!({"write_url": url, "query_url": url});
        let settings = Settings::read(Kind::Metrics, &settings).unwrap();
        Peer::new("far", settings, &Limits::default(), memory).unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_the_memory_of_the_query_that_reads_it() {
        let memory = Arc::new(Memory::limited(64 << 20));
        let peer = talkative("200 OK", 8 << 20, &memory).await;
        let budget = Budget::drawing_on(&memory, Ceilings::NONE);
        let answer = peer.ask("/x", &[], &budget).await.unwrap();
        assert_eq!((answer.len(), memory.held_bytes(Part::Queries)), (8 << 20, 8 << 20));
        drop(answer);
        assert_eq!(memory.held_bytes(Part::Queries), 0);
        // The other system is up, whether there is room here or not.
        memory.set(&[], 60 << 20);
        let refused = peer.ask("/x", &[], &budget).await.unwrap_err();
        assert!(matches!(&refused, SourceError::Budget(BudgetError::NoMemory(_))), "{refused}");
        let figures = peer.figures();
        assert_eq!((figures.is_up, figures.queries.good, figures.queries.away), (true, 2, 0));
        let small = Budget::new(Ceilings { memory_bytes: 1 << 20, ..Ceilings::NONE });
        let refused = peer.ask("/x", &[], &small).await.unwrap_err();
        assert!(matches!(&refused, SourceError::Budget(BudgetError::Memory { .. })), "{refused}");
        drop(budget);
        assert_eq!(memory.held_bytes(Part::Queries), 0);
    }

    /// Of a refusal, and of what a write is answered, no more is read than is told on.
    #[tokio::test]
    async fn what_is_not_wanted_takes_no_memory() {
        let memory = Arc::new(Memory::limited(64 << 20));
        memory.set(&[], 60 << 20);
        let peer = talkative("400 Bad Request", 8 << 20, &memory).await;
        let budget = Budget::drawing_on(&memory, Ceilings::NONE);
        for refused in [
            peer.ask("/x", &[], &budget).await.unwrap_err().to_string(),
            peer.write(&[], Bytes::new()).await.unwrap_err().to_string(),
        ] {
            assert_eq!(refused, "x".repeat(REMOTE_TEXT_BYTES));
        }
        assert_eq!(memory.held_bytes(Part::Queries) + memory.held_bytes(Part::Requests), 0);
    }

    #[test]
    fn only_a_refusal_of_the_call_itself_is_final() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        for (status, call, expected) in [
            (400, Call::Write, "refused 400"),
            (413, Call::Write, "refused 413"),
            (422, Call::Query, "refused 422"),
            (404, Call::Query, "refused 404"),
            (404, Call::Write, "away"),
            (401, Call::Query, "away"),
            (403, Call::Write, "away"),
            (301, Call::Write, "away"),
            (500, Call::Write, "away"),
            (503, Call::Write, "away"),
            (429, Call::Write, "busy"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let got = match of_status(status, &headers, b"out of order\n", call) {
                RemoteError::Refused { status, text } => {
                    assert_eq!(&*text, "out of order");
                    format!("refused {status}")
                }
                RemoteError::Away { retry_after_s, .. } => {
                    assert_eq!(retry_after_s, Some(7));
                    "away".to_owned()
                }
                RemoteError::Busy { retry_after_s, .. } => {
                    assert_eq!(retry_after_s, Some(7));
                    "busy".to_owned()
                }
            };
            assert_eq!(got, expected, "{status} {call:?}");
        }
    }
}
