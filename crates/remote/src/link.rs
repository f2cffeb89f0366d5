//! What stores that are far away have in common, whatever they keep: calls to their system, what was
//! active in them lately, and what waits to be sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use parking_lot::Mutex;
use pilothouse_model::active::minute_of;
use pilothouse_model::limits::{Limits, LiveLimits};
use pilothouse_model::memory::Reservation;
use pilothouse_model::write::Durable;
use pilothouse_model::{ActiveLimit, Clock};
use tokio::runtime::Handle;

use crate::ask::Asker;
use crate::peer::Peer;
use crate::queue::{Queue, QueueFigures, Sender};
use crate::recent::Recent;

/// Names and values of the headers of a write.
pub(crate) type Headers = &'static [(HeaderName, &'static str)];

/// The way to one other system.
#[derive(Debug)]
pub struct Link {
    pub(crate) asker: Asker,
    headers: Headers,
    limits: LiveLimits,
    clock: Arc<dyn Clock>,
    recent: Mutex<Recent>,
    active: Arc<ActiveLimit>,
    queue: Queue,
}

impl Link {
    /// `active` is the limit on active series or streams, and `active_minutes` how long one is active
    /// after an arrival; calls are made on `runtime`.
    pub(crate) fn new(
        peer: Peer,
        headers: Headers,
        limits: LiveLimits,
        active: Arc<ActiveLimit>,
        active_minutes: u32,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        let peer = Arc::new(peer);
        let sender = Arc::clone(&peer);
        let send: Sender = Box::new(move |body| {
            let peer = Arc::clone(&sender);
            Box::pin(async move { peer.write(headers, body).await })
        });
        Self {
            queue: Queue::start(peer.name(), &runtime, limits.clone(), send),
            asker: Asker { peer, runtime },
            headers,
            recent: Mutex::new(Recent::new(minute_of(clock.now_ms()), active_minutes)),
            limits,
            clock,
            active,
        }
    }

    pub fn peer(&self) -> &Arc<Peer> {
        &self.asker.peer
    }

    pub fn active_limit(&self) -> &ActiveLimit {
        &self.active
    }

    /// Series or streams that got something lately by way of this server.
    pub fn active(&self) -> u64 {
        let mut recent = self.recent.lock();
        recent.advance(minute_of(self.clock.now_ms()));
        recent.total()
    }

    pub fn waiting(&self) -> QueueFigures {
        self.queue.figures()
    }

    /// What is known of them takes so much memory, about.
    pub fn known_bytes(&self) -> u64 {
        self.recent.lock().held_bytes()
    }

    /// Sends what waits, as far as the other side takes it. Blocks.
    pub fn drain(&self, longest: Duration) {
        self.asker.runtime.block_on(self.queue.drain(longest));
    }

    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.now()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Takes something with what was active lately at hand, and reports what is active then.
    pub(crate) fn noting<T>(&self, take: impl FnOnce(&mut Recent) -> T) -> T {
        let mut recent = self.recent.lock();
        recent.advance(minute_of(self.clock.now_ms()));
        let taken = take(&mut recent);
        self.active.report(recent.total());
        taken
    }

    /// Sends a write when it is awaited, and waits for the other system's word. What came in was asked
    /// for; what goes on is counted until then.
    pub(crate) fn sent(&self, body: Bytes) -> Durable {
        let body = Reservation::regardless(body.len() as u64, self.peer().memory()).attached_to(body);
        let (peer, headers) = (Arc::clone(self.peer()), self.headers);
        Box::pin(async move { Ok(peer.write(headers, body).await?) })
    }

    /// Puts a write behind those that wait.
    pub(crate) fn push(&self, body: Bytes) {
        self.queue.push(body);
    }
}
