//! What this server writes by itself: it waits here while the other system is away, in the order
//! in which it came, since nobody would send it again.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pilothouse_model::RemoteError;
use pilothouse_model::limits::LiveLimits;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const FIRST_WAIT: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

type Sending = Pin<Box<dyn Future<Output = Result<(), RemoteError>> + Send>>;
pub(crate) type Sender = Box<dyn Fn(Bytes) -> Sending + Send + Sync>;

/// Bodies on their way. Those that find no room push out the oldest.
pub(crate) struct Queue {
    shared: Arc<Shared>,
    sending: JoinHandle<()>,
}

struct Shared {
    /// Of the data source, for the log.
    name: String,
    waiting: Mutex<Waiting>,
    bell: Notify,
    limits: LiveLimits,
}

#[derive(Debug, Default)]
struct Waiting {
    bodies: VecDeque<(u64, Bytes)>,
    next: u64,
    bytes: u64,
    lost: u64,
}

/// What waits, and what was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueFigures {
    pub bodies: u64,
    pub bytes: u64,
    /// Bodies that were pushed out, or refused by the other system.
    pub lost: u64,
}

impl Queue {
    pub(crate) fn start(name: &str, runtime: &Handle, limits: LiveLimits, send: Sender) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            waiting: Mutex::default(),
            bell: Notify::new(),
            limits,
        });
        let sending = runtime.spawn(run(Arc::clone(&shared), send));
        Self { shared, sending }
    }

    pub(crate) fn push(&self, body: Bytes) {
        self.shared.push(body);
        self.shared.bell.notify_one();
    }

    pub(crate) fn figures(&self) -> QueueFigures {
        let waiting = self.shared.waiting.lock();
        QueueFigures { bodies: waiting.bodies.len() as u64, bytes: waiting.bytes, lost: waiting.lost }
    }

    /// Waits until all is sent, but not for long: what the other system does not take now is given up.
    pub(crate) async fn drain(&self, longest: Duration) {
        let emptied = async {
            while self.figures().bodies > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(longest, emptied).await.is_err() {
            let left = self.figures();
            tracing::error!(
                source = self.shared.name,
                "{} writes for the remote store are lost",
                left.bodies
            );
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Queue").field(&self.figures()).finish()
    }
}

impl Shared {
    fn push(&self, body: Bytes) {
        let max_bytes = self.limits.now().remote_queue_bytes;
        let mut waiting = self.waiting.lock();
        waiting.bytes += body.len() as u64;
        let number = waiting.next;
        waiting.next += 1;
        waiting.bodies.push_back((number, body));
        let mut lost = 0;
        // The one that came last stays, however long it is.
        while waiting.bytes > max_bytes && waiting.bodies.len() > 1 {
            let gone = waiting.bodies.pop_front().map_or(0, |(_, body)| body.len() as u64);
            waiting.bytes -= gone;
            lost += 1;
        }
        waiting.lost += lost;
        drop(waiting);
        if lost > 0 {
            tracing::warn!(source = self.name, lost, "writes that waited for the remote store gave way");
        }
    }

    fn first(&self) -> Option<(u64, Bytes)> {
        self.waiting.lock().bodies.front().cloned()
    }

    /// Takes the first one out, unless it had to give way meanwhile.
    fn remove(&self, number: u64, is_lost: bool) {
        let mut waiting = self.waiting.lock();
        waiting.lost += u64::from(is_lost);
        let bytes = match waiting.bodies.front() {
            Some((first, body)) if *first == number => body.len() as u64,
            _ => return,
        };
        waiting.bytes -= bytes;
        waiting.bodies.pop_front();
    }
}

async fn run(shared: Arc<Shared>, send: Sender) {
    let mut wait = FIRST_WAIT;
    loop {
        let Some((number, body)) = shared.first() else {
            shared.bell.notified().await;
            continue;
        };
        match send(body).await {
            Ok(()) => {
                shared.remove(number, false);
                wait = FIRST_WAIT;
            }
            Err(cause) if cause.is_temporary() => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            Err(cause) => {
                tracing::warn!(
                    source = shared.name,
                    "the remote store refuses what was written here: {cause}"
                );
                shared.remove(number, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_model::limits::Limits;

    use super::*;

    fn away() -> RemoteError {
        RemoteError::Away { why: "gone".into(), retry_after_s: None }
    }

    /// A queue whose other side answers in turn, and what that side was sent.
    fn queue(max_bytes: u64, mut answers: Vec<Result<(), RemoteError>>) -> (Queue, Arc<Mutex<Vec<Bytes>>>) {
        answers.reverse();
        let (answers, sent) = (Mutex::new(answers), Arc::new(Mutex::new(Vec::new())));
        let heard = Arc::clone(&sent);
        let send: Sender = Box::new(move |body| {
            let answer = answers.lock().pop().unwrap_or(Ok(()));
            heard.lock().push(body);
            Box::pin(std::future::ready(answer))
        });
        let limits = Limits { remote_queue_bytes: max_bytes, ..Limits::default() };
        (Queue::start("s", &Handle::current(), limits.into(), send), sent)
    }

    #[tokio::test]
    async fn what_is_not_taken_is_sent_again_in_order() {
        let refused = RemoteError::Refused { status: 400, text: "no".into() };
        let (queue, sent) = queue(100, vec![Err(away()), Err(away()), Ok(()), Err(refused), Ok(())]);
        ["a", "b", "c"].into_iter().for_each(|body| queue.push(Bytes::from(body)));
        queue.drain(Duration::from_secs(60)).await;
        assert_eq!(*sent.lock(), ["a", "a", "a", "b", "c"]);
        assert_eq!(queue.figures(), QueueFigures { lost: 1, ..QueueFigures::default() });
    }

    #[tokio::test]
    async fn the_oldest_give_way_where_there_is_no_room() {
        let (queue, sent) = queue(5, vec![Err(away())]);
        ["aaa", "bbb", "cc", "dddddddd"].into_iter().for_each(|body| queue.push(Bytes::from(body)));
        assert_eq!(queue.figures(), QueueFigures { bodies: 1, bytes: 8, lost: 3 });
        queue.drain(Duration::from_secs(60)).await;
        assert_eq!(*sent.lock(), ["dddddddd", "dddddddd"]);
    }
}
