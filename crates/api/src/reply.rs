//! What a handler answers, before it becomes bytes on a connection.
//!
//! A body is either whole or a producer of pieces. A producer runs on the pool for short work, one
//! piece at a time and at most two ahead of the client, so an answer of any size takes little
//! memory and none of the async workers' time, and stops as soon as the client is gone.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use pilothouse_control::Amounts;
use pilothouse_model::memory::Reservation;
use pilothouse_model::{Budget, BudgetError, Memory};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::offload;

/// Bodies below this are compressed on the spot, larger ones on the pool.
const INLINE_BYTES: usize = 32 << 10;
/// What a producer should give at once.
pub(crate) const PIECE_BYTES: usize = 128 << 10;

/// Why a body ends before its end. The connection is cut, so that nobody takes half an answer
/// for a whole one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BrokenBody(pub String);

pub(crate) type Pieces = Box<dyn Iterator<Item = Result<Vec<u8>, BrokenBody>> + Send>;

pub(crate) enum ReplyBody {
    Whole(Vec<u8>),
    /// A first piece, already there, and the rest.
    Pieces(Vec<u8>, Pieces),
    /// Made whole elsewhere: the connection goes over to another protocol, or the body has
    /// trailers. It stands as it is.
    Made(Box<Response<Body>>),
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Boxed, since answers travel as errors too.
    pub(crate) headers: Box<HeaderMap>,
    pub(crate) body: ReplyBody,
    /// What the request brought and was stored, for the accounts of its caller and its source.
    pub(crate) stored: Amounts,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self::with_body(status, content_type, ReplyBody::Whole(body.into()))
    }

    pub(crate) fn with_body(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self::of(status, headers, body)
    }

    pub(crate) fn of(status: StatusCode, headers: HeaderMap, body: ReplyBody) -> Self {
        Self { status, headers: Box::new(headers), body, stored: Amounts::default() }
    }

    pub(crate) fn storing(mut self, stored: Amounts) -> Self {
        self.stored = stored;
        self
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self::of(status, HeaderMap::new(), ReplyBody::Whole(Vec::new()))
    }

    pub(crate) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::new(StatusCode::OK, "application/json", body)
    }

    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text.into())
    }

    pub(crate) fn content_type(mut self, value: &'static str) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.insert(name, value);
        }
        self
    }

    /// Keeps the budget of the query that made it, and takes from it what the body holds, until it is
    /// sent: a client that reads slowly holds memory meanwhile. `held_bytes` is of what pieces are made
    /// from. Where others need that memory more, the answer breaks off.
    pub(crate) fn holding(mut self, budget: &Budget, held_bytes: u64) -> Result<Self, BudgetError> {
        let (first, rest): (_, Pieces) = match self.body {
            ReplyBody::Pieces(first, rest) => {
                budget.reserve_bytes(held_bytes)?;
                (first, rest)
            }
            ReplyBody::Whole(bytes) if bytes.len() > PIECE_BYTES => {
                budget.reserve_bytes(bytes.len() as u64)?;
                (Vec::new(), slices(bytes))
            }
            _ => return Ok(self),
        };
        self.body = ReplyBody::Pieces(first, Box::new(Held { budget: budget.clone(), rest }));
        Ok(self)
    }

    /// Makes the response, compressed where `gzip` is asked for and the body is not coded yet. A client
    /// that takes nothing of a long body for `patience` gets no more of it. A long body is counted in
    /// `memory` until it is sent.
    pub(crate) async fn into_response(
        mut self,
        gzip: bool,
        patience: Duration,
        memory: &Arc<Memory>,
    ) -> Response<Body> {
        if let ReplyBody::Made(response) = self.body {
            return *response;
        }
        guard_page(&mut self.headers);
        let bytes = match &self.body {
            ReplyBody::Whole(bytes) if bytes.len() > INLINE_BYTES => bytes.len() as u64,
            _ => 0,
        };
        let held = Reservation::regardless(bytes, memory);
        let empty = matches!(&self.body, ReplyBody::Whole(b) if b.is_empty());
        if gzip && !empty && !self.headers.contains_key(header::CONTENT_ENCODING) {
            self.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            self.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            self.body = compress(self.body);
        }
        // Until the last piece is made.
        let counted = |rest: Pieces| Box::new(rest.inspect(move |_| _ = &held));
        let body = match self.body {
            ReplyBody::Whole(bytes) if bytes.len() <= INLINE_BYTES => Body::from(bytes),
            ReplyBody::Whole(bytes) => {
                let length = bytes.len() as u64;
                stream(Vec::new(), counted(slices(bytes)), Some(length), patience)
            }
            ReplyBody::Pieces(first, rest) => stream(first, counted(rest), None, patience),
            ReplyBody::Made(response) => return *response,
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        response
    }
}

/// What a browser is told of a page that says nothing of it itself: to run, load and send nothing,
/// and to show it in no frame.
const PAGE_HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];

fn guard_page(headers: &mut HeaderMap) {
    let is_page = headers.get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
    if is_page {
        for (name, value) in PAGE_HEADERS {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
    }
}

struct Held {
    budget: Budget,
    rest: Pieces,
}

impl Iterator for Held {
    type Item = Result<Vec<u8>, BrokenBody>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.budget.is_evicted() {
            return Some(Err(BrokenBody("the answer was given up for want of memory".to_owned())));
        }
        self.rest.next()
    }
}

/// A body that is whole, piece by piece.
struct Slices {
    bytes: Vec<u8>,
    at: usize,
}

impl Iterator for Slices {
    type Item = Result<Vec<u8>, BrokenBody>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let piece = rest.get(..PIECE_BYTES).unwrap_or(rest);
        self.at += piece.len();
        (!piece.is_empty()).then(|| Ok(piece.to_vec()))
    }
}

fn slices(bytes: Vec<u8>) -> Pieces {
    Box::new(Slices { bytes, at: 0 })
}

fn compress(body: ReplyBody) -> ReplyBody {
    match body {
        ReplyBody::Whole(bytes) if bytes.len() <= INLINE_BYTES => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::fast());
            // Writing to a Vec does not fail.
            let _ = encoder.write_all(&bytes);
            ReplyBody::Whole(encoder.finish().unwrap_or_default())
        }
        ReplyBody::Whole(bytes) => gzip_pieces(slices(bytes)),
        ReplyBody::Pieces(first, rest) => gzip_pieces(Box::new(std::iter::once(Ok(first)).chain(rest))),
        made @ ReplyBody::Made(_) => made,
    }
}

fn gzip_pieces(pieces: Pieces) -> ReplyBody {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    ReplyBody::Pieces(Vec::new(), Box::new(GzipPieces { encoder: Some(encoder), pieces }))
}

struct GzipPieces {
    /// `None` once finished.
    encoder: Option<GzEncoder<Vec<u8>>>,
    pieces: Pieces,
}

impl Iterator for GzipPieces {
    type Item = Result<Vec<u8>, BrokenBody>;

    fn next(&mut self) -> Option<Self::Item> {
        let broken = |e: std::io::Error| BrokenBody(e.to_string());
        loop {
            let encoder = self.encoder.as_mut()?;
            match self.pieces.next() {
                Some(Ok(piece)) => {
                    if let Err(e) = encoder.write_all(&piece) {
                        return Some(Err(broken(e)));
                    }
                    let ready = std::mem::take(encoder.get_mut());
                    if !ready.is_empty() {
                        return Some(Ok(ready));
                    }
                }
                Some(Err(e)) => return Some(Err(e)),
                None => return self.encoder.take().map(|e| e.finish().map_err(broken)),
            }
        }
    }
}

/// Drives a producer from a task of its own; the task ends with the client, or with its patience. The
/// connection's own clock runs only while something waits to be written, and a client of HTTP/2 may
/// allow nothing to be written. `length` is of all pieces together, where it is known.
fn stream(first: Vec<u8>, mut rest: Pieces, length: Option<u64>, patience: Duration) -> Body {
    let (sender, pieces) = mpsc::channel(1);
    let is_whole = Arc::new(AtomicBool::new(false));
    let body = PieceBody { pieces, is_whole: Arc::clone(&is_whole), left_bytes: length };
    tokio::spawn(async move {
        let mut outlet = Outlet { sender, waiting: Piece::default(), patience };
        if !first.is_empty() && !outlet.send(Ok(Bytes::from(first))).await {
            return;
        }
        while let Ok((piece, pieces)) = offload::short(move || (rest.next(), rest)).await {
            rest = pieces;
            let Some(piece) = piece else {
                is_whole.store(true, Relaxed);
                drop(rest);
                outlet.finish().await;
                return;
            };
            let broken = piece.is_err();
            if !outlet.send(piece.map(Bytes::from)).await || broken {
                return;
            }
        }
    });
    Body::new(body)
}

/// A piece on its way; nothing once it is taken, or taken back.
type Piece = Arc<Mutex<Option<Result<Bytes, BrokenBody>>>>;

/// Where a producer's pieces go.
struct Outlet {
    sender: mpsc::Sender<Piece>,
    /// The one that was sent last.
    waiting: Piece,
    patience: Duration,
}

impl Outlet {
    /// Waits for a place; `false` where the client has gone or has no right to wait for more.
    async fn send(&mut self, piece: Result<Bytes, BrokenBody>) -> bool {
        match timeout(self.patience, self.sender.reserve()).await {
            Ok(Ok(place)) => {
                self.waiting = Arc::new(Mutex::new(Some(piece)));
                place.send(Arc::clone(&self.waiting));
                true
            }
            Ok(Err(_)) => false,
            Err(_) => {
                self.take_back();
                false
            }
        }
    }

    /// After the last piece: waits until it is taken.
    async fn finish(self) {
        if timeout(self.patience, self.sender.reserve()).await.is_err() {
            self.take_back();
        }
    }

    /// The body may never be asked again, and what it was to give would stay as long as it.
    fn take_back(&self) {
        *self.waiting.lock() = None;
    }
}

struct PieceBody {
    pieces: mpsc::Receiver<Piece>,
    /// Whether the producer came to its end before its pieces did.
    is_whole: Arc<AtomicBool>,
    left_bytes: Option<u64>,
}

impl http_body::Body for PieceBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BrokenBody>>> {
        let broken = |why: &str| Some(Err(BrokenBody(why.to_owned())));
        let piece = match ready!(self.pieces.poll_recv(cx)) {
            None if !self.is_whole.load(Relaxed) => broken("the answer's producer ended before its end"),
            None => None,
            Some(piece) => piece.lock().take().or_else(|| broken("nobody took the answer for too long")),
        };
        if let (Some(left), Some(Ok(piece))) = (&mut self.left_bytes, &piece) {
            *left = left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(http_body::Frame::data)))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.left_bytes.map(http_body::SizeHint::with_exact).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;
    use pilothouse_model::budget::Ceilings;
    use pilothouse_model::memory::Part;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn bytes_of(response: Response<Body>) -> Vec<u8> {
        response.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn pages_run_and_load_nothing_unless_they_say_so() {
        let page = || Reply::new(StatusCode::OK, "text/html; charset=utf-8", "<p>");
        let policy =
            |response: Response<Body>| response.headers().get(header::CONTENT_SECURITY_POLICY).cloned();
        let guarded = page().into_response(false, PATIENCE, &Arc::default()).await;
        assert_eq!(guarded.headers()[header::X_FRAME_OPTIONS], "DENY");
        assert!(policy(guarded).unwrap().to_str().unwrap().starts_with("default-src 'none'"));
        let own = page().header(header::CONTENT_SECURITY_POLICY, "default-src 'self'");
        assert_eq!(
            policy(own.into_response(false, PATIENCE, &Arc::default()).await).unwrap(),
            "default-src 'self'"
        );
        assert_eq!(policy(Reply::json("{}").into_response(false, PATIENCE, &Arc::default()).await), None);
    }

    #[tokio::test]
    async fn pieces_arrive_whole_with_and_without_gzip() {
        for gzip in [false, true] {
            let rest: Pieces = Box::new((1..4u8).map(|i| Ok(vec![i; 100_000])));
            let reply = Reply::with_body(StatusCode::OK, "x/y", ReplyBody::Pieces(vec![0; 10], rest));
            let mut got = bytes_of(reply.into_response(gzip, PATIENCE, &Arc::default()).await).await;
            if gzip {
                let coded = std::mem::take(&mut got);
                flate2::read::GzDecoder::new(coded.as_slice()).read_to_end(&mut got).unwrap();
            }
            assert_eq!(got.len(), 300_010);
            assert_eq!(got.last(), Some(&3));
        }
    }

    #[tokio::test]
    async fn an_answer_on_its_way_is_booked_until_it_is_sent_and_gives_way() {
        let memory = Arc::new(Memory::limited(100 << 20));
        let answer = |bytes: usize| {
            let budget = Budget::drawing_on(&memory, Ceilings::NONE);
            Reply::json(vec![b'x'; bytes]).holding(&budget, 0).unwrap()
        };
        let sent = answer(8 << 20).into_response(false, PATIENCE, &Arc::default()).await;
        assert_eq!(memory.held_bytes(Part::Queries), 8 << 20);
        assert_eq!(bytes_of(sent).await.len(), 8 << 20);
        assert_eq!(memory.held_bytes(Part::Queries), 0);
        // One that nobody reads gives way.
        let unread = answer(20 << 20).into_response(false, PATIENCE, &Arc::default()).await;
        memory.set(&[], 99 << 20);
        assert!(unread.into_body().collect().await.is_err());
        // And so it does after a while, whether others need the memory or not.
        memory.set(&[], 0);
        let _unread = answer(20 << 20).into_response(false, Duration::from_millis(1), &Arc::default()).await;
        let began = tokio::time::Instant::now();
        while memory.held_bytes(Part::Queries) > 0 {
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let budget = Budget::drawing_on(&memory, Ceilings { memory_bytes: 1 << 20, ..Ceilings::NONE });
        assert!(Reply::json(vec![0; 2 << 20]).holding(&budget, 0).is_err());
        assert!(Reply::json("{}").holding(&budget, 0).is_ok());
    }

    #[tokio::test]
    async fn a_long_answer_of_no_query_is_counted_until_it_is_sent() {
        for gzip in [false, true] {
            let memory = Arc::new(Memory::limited(1 << 20));
            let made = Reply::json(vec![b'x'; 2 << 20]).into_response(gzip, PATIENCE, &memory).await;
            assert_eq!(memory.held_bytes(Part::Requests), 2 << 20);
            drop(made.into_body().collect().await.unwrap());
            let began = tokio::time::Instant::now();
            while memory.held_bytes(Part::Requests) > 0 {
                assert!(began.elapsed() < PATIENCE);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// As a client of HTTP/2 may do that allows nothing to be written.
    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_up_with_all_it_holds() {
        for (gzip, bytes) in [(false, 2 << 20), (true, 2 << 20), (false, INLINE_BYTES + 1)] {
            let memory = Arc::new(Memory::limited(1 << 20));
            let noise: Vec<u8> = (0..bytes as u64).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
            let reply = Reply::json(noise);
            let mut unread = reply.into_response(gzip, Duration::from_millis(1), &memory).await.into_body();
            let began = tokio::time::Instant::now();
            while memory.held_bytes(Part::Requests) > 0 {
                assert!(began.elapsed() < PATIENCE, "{bytes} of {gzip}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(
                unread.frame().await.unwrap().is_err(),
                "no half of an answer is left: {bytes} of {gzip}"
            );
        }
    }

    #[tokio::test]
    async fn the_length_of_a_whole_answer_is_told() {
        for bytes in [10, INLINE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 7] {
            let reply = Reply::json(vec![b'x'; bytes]);
            let body = reply.into_response(false, PATIENCE, &Arc::default()).await.into_body();
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some(bytes as u64));
            assert_eq!(body.collect().await.unwrap().to_bytes().len(), bytes);
        }
    }

    #[tokio::test]
    async fn a_broken_producer_breaks_the_body() {
        let rest: Pieces = Box::new([Ok(vec![1]), Err(BrokenBody("gone".into()))].into_iter());
        let reply = Reply::with_body(StatusCode::OK, "x/y", ReplyBody::Pieces(vec![0], rest));
        assert!(
            reply.into_response(false, PATIENCE, &Arc::default()).await.into_body().collect().await.is_err()
        );
    }
}
