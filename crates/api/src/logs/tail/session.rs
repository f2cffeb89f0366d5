//! One follower's connection from the upgrade to its end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use http::HeaderMap;
use pilothouse_logql::{
    self as logql, Direction, Expr, LogExpr, LogPipeline, LogqlValue, Processed, RangeQuery,
};
use pilothouse_model::Budget;
use pilothouse_model::limits::{TAIL_FRAME_ENTRIES, TAIL_SECONDS, TAIL_SEND_SECONDS};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::frame::{Outgoing, frame};
use super::hub::{Arrived, Place};
use super::{SCOPE, Wish};
use crate::App;
use crate::admission::InTurn;
use crate::client::Client;
use crate::error::ApiError;
use crate::logs::answer::Shape;
use crate::offload;
use crate::routes::Scope;

/// As Loki: a client that is gone is noticed this fast.
pub(super) const PING_EVERY: Duration = Duration::from_secs(1);
/// A client that takes longer than this for one message is given up.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(TAIL_SEND_SECONDS);
/// Bytes that the reason of a closing frame may have.
const MAX_REASON_BYTES: usize = 123;

/// Codes of closing frames.
pub(super) const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;
pub(super) const INTERNAL: u16 = 1011;

pub(crate) struct Session {
    app: Arc<App>,
    wish: Wish,
    /// Shown again and again, so that a token that is withdrawn ends the tail.
    headers: HeaderMap,
    client: Client,
}

/// Why the server closes a connection.
struct Closing {
    code: u16,
    reason: String,
}

impl Closing {
    fn internal(reason: impl Into<String>) -> Self {
        Self { code: INTERNAL, reason: reason.into() }
    }
}

/// The connection ended, by us (with a reason to be told) or by the client.
enum End {
    Told(Closing),
    Gone,
}

impl Session {
    pub(crate) fn new(app: &Arc<App>, wish: Wish, headers: HeaderMap, client: Client) -> Self {
        Self { app: Arc::clone(app), wish, headers, client }
    }

    pub(crate) async fn run(self, mut socket: WebSocket) {
        if let End::Told(Closing { code, reason }) = self.follow(&mut socket).await {
            close(&mut socket, code, &reason).await;
        }
    }

    async fn follow(&self, socket: &mut WebSocket) -> End {
        let Expr::Log(log) = &self.wish.expr else {
            return End::Told(Closing::internal("only log selector is supported"));
        };
        let place = match self.app.logs.tails.follow(log.matchers.clone()) {
            Ok(place) => place,
            Err(reason) => return End::Told(Closing::internal(reason)),
        };
        // The follower is there before the history is read: nothing falls between the two.
        let mut feed = match self.begin(log, &place).await {
            Ok(feed) => feed,
            Err(e) => return End::Told(Closing::internal(e.text)),
        };
        let began = Instant::now();
        let mut ticks = interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(end) = self.send_due(socket, &mut feed, &place).await {
                return end;
            }
            if let Err(end) = self.check(began) {
                return end;
            }
            let due = feed.next_due(self.wish.delay, self.app.now_ns()).unwrap_or(PING_EVERY);
            tokio::select! {
                received = socket.recv() => match received {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return End::Gone,
                    Some(Ok(_)) => {}
                },
                () = place.follower.bell.notified() => {
                    if let Err(e) = feed.refill(&place).await {
                        return End::Told(Closing::internal(e.text));
                    }
                }
                () = tokio::time::sleep(due) => {}
                _ = ticks.tick() => {
                    if send(socket, Message::Ping(Bytes::new())).await.is_err() {
                        return End::Gone;
                    }
                }
            }
        }
    }

    fn check(&self, began: Instant) -> Result<(), End> {
        match reason_to_end(&self.app, SCOPE, &self.headers, began) {
            Some((code, reason)) => Err(End::Told(Closing { code, reason })),
            None => Ok(()),
        }
    }

    /// Reads the history on the pool, as any other query does.
    async fn begin(&self, log: &LogExpr, place: &Place) -> Result<Feed, ApiError> {
        let (log, shape) = (log.clone(), self.wish.shape);
        let (start_ns, limit, max) = (self.wish.start_ns, self.wish.limit, self.max_pending());
        let work = move |app: &App, asked: &InTurn| {
            let history = history(app, &log, start_ns, limit, &asked.budget)?;
            Ok((history, LogPipeline::new(&log)?, shape, max))
        };
        let (history, pipeline, shape, max) = self.app.in_turn(self.client, None, work).await?;
        let mut feed = Feed::new(pipeline, shape, max);
        // What came in while the history was read may be part of it.
        let known: HashSet<(i64, String, logql::LabelPairs)> =
            history.iter().map(|(t_ns, p)| (*t_ns, p.line.clone(), p.merged())).collect();
        history.into_iter().for_each(|(t_ns, processed)| feed.push(t_ns, processed));
        for (t_ns, processed) in feed.process(place).await? {
            if !known.contains(&(t_ns, processed.line.clone(), processed.merged())) {
                feed.push(t_ns, processed);
            }
        }
        Ok(feed)
    }

    fn max_pending(&self) -> usize {
        let entries = usize::try_from(self.app.limits().max_tail_entries).unwrap_or(usize::MAX);
        entries.max(self.wish.limit).max(1)
    }

    /// Sends all that is due, a frame at a time.
    async fn send_due(&self, socket: &mut WebSocket, feed: &mut Feed, place: &Place) -> Result<(), End> {
        loop {
            let due = feed.take_due(self.wish.delay, self.app.now_ns());
            if due.is_empty() {
                return Ok(());
            }
            let lost = place.follower.take_lost();
            let text = frame(&due, &lost, self.wish.shape);
            self.app.logs.telemetry.tailed_entries.add(due.len() as u64);
            send(socket, Message::Text(text.into())).await.map_err(|()| End::Gone)?;
            let refilled = feed.refill(place).await;
            refilled.map_err(|e| End::Told(Closing::internal(e.text)))?;
        }
    }
}

/// Why a tail that began then must end now: the code and the reason of the closing frame.
pub(super) fn reason_to_end(
    app: &App,
    scope: Scope,
    headers: &HeaderMap,
    began: Instant,
) -> Option<(u16, String)> {
    let told = |code, reason: &str| Some((code, reason.to_owned()));
    if app.logs.tails.is_stopping() {
        return told(GOING_AWAY, "the server is stopping");
    }
    if began.elapsed() >= Duration::from_secs(TAIL_SECONDS) {
        return told(INTERNAL, "reached tail max duration limit");
    }
    if !app.settings.auth.permits(scope, headers) {
        return told(POLICY, "the token is no longer valid");
    }
    None
}

/// Closes a connection with as much of the reason as fits.
pub(super) async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let mut cut = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    let reason = reason.get(..cut).unwrap_or("").to_owned();
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // The client may be gone already.
    let _ = timeout(SEND_TIMEOUT, socket.send(close)).await;
}

pub(super) async fn send(socket: &mut WebSocket, message: Message) -> Result<(), ()> {
    match timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}

/// The newest entries since a time, oldest first.
fn history(
    app: &App,
    log: &LogExpr,
    start_ns: i64,
    limit: usize,
    budget: &Budget,
) -> Result<Vec<(i64, Processed)>, ApiError> {
    let query = RangeQuery {
        start_ns,
        end_ns: app.now_ns().saturating_add(1),
        step_ns: 1,
        limit,
        direction: Direction::Backward,
        interval_ns: 0,
        categorize: true,
        max_series: usize::MAX,
    };
    let source = &*app.logs_backend()?.source;
    let result = logql::query_range(source, &Expr::Log(log.clone()), &query, budget)?;
    let LogqlValue::Streams(streams) = result.value else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for stream in streams {
        for entry in stream.entries.into_iter().rev() {
            let processed = Processed {
                line: entry.line,
                stream: stream.labels.clone(),
                metadata: entry.metadata,
                parsed: entry.parsed,
            };
            entries.push((entry.t_ns, processed));
        }
    }
    entries.sort_by_key(|(t_ns, _)| *t_ns);
    Ok(entries)
}

/// What is on its way to one follower, sorted by time.
struct Feed {
    /// `None` while it runs on the pool, and after it panicked there.
    pipeline: Option<LogPipeline>,
    pending: BinaryHeap<Reverse<Pending>>,
    next: u64,
    shape: Shape,
    max_pending: usize,
}

struct Pending {
    /// Time, and the order of coming for equal ones.
    rank: (i64, u64),
    outgoing: Outgoing,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl Feed {
    fn new(pipeline: LogPipeline, shape: Shape, max_pending: usize) -> Self {
        Self { pipeline: Some(pipeline), pending: BinaryHeap::new(), next: 0, shape, max_pending }
    }

    fn push(&mut self, t_ns: i64, processed: Processed) {
        let outgoing = Outgoing::new(t_ns, processed, self.shape);
        self.pending.push(Reverse(Pending { rank: (t_ns, self.next), outgoing }));
        self.next += 1;
    }

    /// Takes over what waits, as far as there is room; the rest stays in the follower's queue.
    async fn refill(&mut self, place: &Place) -> Result<(), ApiError> {
        for (t_ns, processed) in self.process(place).await? {
            self.push(t_ns, processed);
        }
        Ok(())
    }

    /// Runs the query's stages over what waits.
    async fn process(&mut self, place: &Place) -> Result<Vec<(i64, Processed)>, ApiError> {
        let arrived = place.follower.take(self.max_pending.saturating_sub(self.pending.len()));
        if arrived.is_empty() {
            return Ok(Vec::new());
        }
        let Some(mut pipeline) = self.pipeline.take() else { return Ok(Vec::new()) };
        let work = move || {
            let mut run = |a: Arrived| {
                let processed = pipeline.process(&a.labels, a.t_ns, &a.line, &a.metadata)?;
                Some((a.t_ns, processed))
            };
            let passed: Vec<_> = arrived.into_iter().filter_map(&mut run).collect();
            (passed, pipeline)
        };
        let (passed, pipeline) = offload::short(work).await?;
        self.pipeline = Some(pipeline);
        Ok(passed)
    }

    /// Up to a frame of what has been held back long enough.
    fn take_due(&mut self, delay: Duration, now_ns: i64) -> Vec<Outgoing> {
        let until = now_ns.saturating_sub(i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX));
        let mut due = Vec::new();
        while due.len() < TAIL_FRAME_ENTRIES && self.pending.peek().is_some_and(|p| p.0.rank.0 <= until) {
            due.extend(self.pending.pop().map(|Reverse(pending)| pending.outgoing));
        }
        due
    }

    /// How long until the next entry is due, a second at most.
    fn next_due(&self, delay: Duration, now_ns: i64) -> Option<Duration> {
        let Reverse(next) = self.pending.peek()?;
        let at = i128::from(next.rank.0) + delay.as_nanos() as i128;
        let wait = u64::try_from((at - i128::from(now_ns)).max(0)).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(wait).clamp(Duration::from_millis(1), PING_EVERY))
    }
}
