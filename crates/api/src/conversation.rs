//! What is known of one connection: how many requests on it are being answered, since when there is
//! none, and how much it holds of a head that is not whole yet.
//!
//! Nobody has been asked for a token while a head comes, and a head may be long: some thousands of
//! halves would take more memory than the whole server may. So the first bytes of each are its own
//! and all others come from a fixed sum that all connections share; who finds it used up is cut off.
//! What follows a request on the same connection is its body or a head behind it, and is not counted
//! until the request is answered: there are no more of those than requests at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use pilothouse_model::Memory;
use pilothouse_model::limits::{HEAD_BYTES, HEADS_BYTES, OWN_HEAD_BYTES};
use pilothouse_model::memory::Reservation;
use tokio::time::Instant;

/// The sum that the heads of all connections share.
#[derive(Debug)]
pub(crate) struct Heads {
    left_bytes: AtomicU64,
    memory: Arc<Memory>,
}

impl Heads {
    pub(crate) fn new(memory: Arc<Memory>) -> Self {
        Self { left_bytes: AtomicU64::new(HEADS_BYTES), memory }
    }
}

/// What one connection has of it.
#[derive(Debug)]
struct Share {
    heads: Arc<Heads>,
    bytes: u64,
    held: Reservation,
}

impl Share {
    fn new(heads: &Arc<Heads>) -> Self {
        Self { heads: Arc::clone(heads), bytes: 0, held: Reservation::nothing(&heads.memory) }
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let taken = self.heads.left_bytes.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes));
        taken.map_err(|_| io::Error::other("heads of requests take all memory that is for them"))?;
        self.bytes += bytes;
        self.held.grow(bytes).map_err(io::Error::other)
    }

    fn clear(&mut self) {
        self.heads.left_bytes.fetch_add(self.bytes, Relaxed);
        self.held.shrink(self.bytes);
        self.bytes = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[derive(Debug)]
pub(crate) struct Conversation(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests whose answer has not been sent to its end.
    running: usize,
    silent_since: Instant,
    /// Read since the last request began.
    read_bytes: u64,
    share: Share,
    /// Another protocol goes on where this one ended: what comes is no head any more.
    is_handed_over: bool,
}

impl Conversation {
    pub(crate) fn new(heads: &Arc<Heads>) -> Arc<Self> {
        let silent_since = Instant::now();
        let share = Share::new(heads);
        Arc::new(Self(Mutex::new(State {
            running: 0,
            silent_since,
            read_bytes: 0,
            share,
            is_handed_over: false,
        })))
    }

    /// Before more is read: what was read before has not made a request. Fails where there is no
    /// room for it.
    pub(crate) fn before_reading(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.running > 0 || state.is_handed_over {
            return Ok(());
        }
        let due = state.read_bytes.saturating_sub(OWN_HEAD_BYTES).min(HEAD_BYTES as u64);
        let more = due.saturating_sub(state.share.bytes);
        state.share.grow(more)
    }

    pub(crate) fn has_read(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.read_bytes = state.read_bytes.saturating_add(bytes as u64);
    }

    /// A request has come; it lasts as long as what is returned.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn {
        let mut state = self.0.lock();
        state.running += 1;
        state.read_bytes = 0;
        state.share.clear();
        Turn(Arc::clone(self))
    }

    /// Ends when there was no request for so long.
    pub(crate) async fn silence(&self, patience: Duration) {
        loop {
            let until = {
                let state = self.0.lock();
                let since = if state.running > 0 { Instant::now() } else { state.silent_since };
                since + patience
            };
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Conversation>);

impl Turn {
    /// Its answer is that another protocol is spoken from here on.
    pub(crate) fn hand_over(&self) {
        self.0.0.lock().is_handed_over = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.running -= 1;
        state.silent_since = Instant::now();
        state.read_bytes = 0;
    }
}

/// The body of an answer, with which its request ends.
#[derive(Debug)]
pub(crate) struct Answering<B> {
    body: B,
    _turn: Turn,
}

impl<B> Answering<B> {
    pub(crate) fn new(body: B, turn: Turn) -> Self {
        Self { body, _turn: turn }
    }
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(conversation: &Conversation, bytes: usize) -> io::Result<()> {
        conversation.has_read(bytes);
        conversation.before_reading()
    }

    #[test]
    fn halves_of_heads_share_a_sum_and_give_it_back() {
        let memory = Arc::<Memory>::default();
        let all = Arc::new(Heads::new(Arc::clone(&memory)));
        let many: Vec<_> =
            (0..HEADS_BYTES / HEAD_BYTES as u64 + 5).map(|_| Conversation::new(&all)).collect();
        assert!(many.iter().all(|c| heads(c, OWN_HEAD_BYTES as usize).is_ok()));
        assert_eq!(memory.held_bytes(pilothouse_model::memory::Part::Requests), 0, "these are their own");
        let fits = many.iter().filter(|c| heads(c, 2 * HEAD_BYTES).is_ok()).count();
        assert_eq!(fits as u64, HEADS_BYTES / HEAD_BYTES as u64);
        assert_eq!(memory.held_bytes(pilothouse_model::memory::Part::Requests), HEADS_BYTES);
        drop(many.first().unwrap().begin());
        assert!(heads(many.last().unwrap(), 1).is_ok(), "there is room for one more");
        drop(many);
        assert_eq!(memory.held_bytes(pilothouse_model::memory::Part::Requests), 0);
        assert_eq!(all.left_bytes.load(Relaxed), HEADS_BYTES);
    }

    #[test]
    fn bodies_are_not_heads() {
        let conversation = Conversation::new(&Arc::new(Heads::new(Arc::default())));
        let turn = conversation.begin();
        for _ in 0..3 {
            heads(&conversation, HEADS_BYTES as usize).unwrap();
        }
        drop(turn);
        heads(&conversation, 0).unwrap();
        assert_eq!(conversation.0.lock().share.bytes, 0);
    }

    #[test]
    fn what_follows_an_upgrade_is_no_head() {
        let memory = Arc::<Memory>::default();
        let conversation = Conversation::new(&Arc::new(Heads::new(Arc::clone(&memory))));
        let turn = conversation.begin();
        turn.hand_over();
        drop(turn);
        for _ in 0..1_000 {
            heads(&conversation, HEAD_BYTES).unwrap();
        }
        assert_eq!(memory.held_bytes(pilothouse_model::memory::Part::Requests), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_of_those_whom_nobody_answers() {
        let conversation = Conversation::new(&Arc::new(Heads::new(Arc::default())));
        let began = Instant::now();
        let turn = conversation.begin();
        let other = Arc::clone(&conversation);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(35)).await;
            drop(turn);
            other.has_read(7);
        });
        conversation.silence(Duration::from_secs(10)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(45));
    }
}
