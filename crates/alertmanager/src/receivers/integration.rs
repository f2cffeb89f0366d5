//! One integration of a receiver: whose turn it is, and how long an answer is waited for.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pilothouse_model::Memory;
use pilothouse_model::limits::{
    LARGE_NOTIFICATION_ALERTS, LARGE_NOTIFICATIONS_TOGETHER, LATE_NOTIFICATIONS, LATE_NOTIFICATIONS_BYTES,
    NOTIFICATION_TRY_SECONDS,
};
use pilothouse_model::memory::Reservation;
use tokio::sync::Semaphore;

use super::{Failure, Message, Notifier, Sending};
use crate::telemetry::FailureReason;

/// One integration of a receiver.
#[derive(Debug)]
pub struct Integration {
    pub kind: &'static str,
    /// As logs and the notification log call it within its receiver: `webhook[0]`.
    pub name: String,
    pub send_resolved: bool,
    notifier: Box<dyn Notifier>,
    /// So that a slow one keeps neither all connections nor others waiting.
    turns: Semaphore,
    /// For tries that wait for a late answer, so that others have their turns meanwhile.
    late: Semaphore,
    late_after: Duration,
}

/// An answer that comes later than this is late.
const LATE_AFTER: Duration = Duration::from_secs(10);
pub(crate) const LONGEST_TRY: Duration = Duration::from_secs(NOTIFICATION_TRY_SECONDS);

/// What the integrations of all receivers share.
#[derive(Debug)]
pub struct Places {
    /// For alerts of large messages.
    large: Semaphore,
    /// Kibibytes of messages that wait for late answers.
    late: Semaphore,
    /// Where messages are booked while they are printed and sent.
    memory: Arc<Memory>,
}

impl Places {
    pub fn new(memory: Arc<Memory>) -> Self {
        Self::of(LARGE_NOTIFICATIONS_TOGETHER, LATE_NOTIFICATIONS_BYTES, memory)
    }

    fn of(large: u32, late_bytes: u64, memory: Arc<Memory>) -> Self {
        let semaphore = |places: u32| Semaphore::new(places as usize);
        Self { large: semaphore(large), late: semaphore(kibibytes(late_bytes)), memory }
    }
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

impl Integration {
    /// The one of its kind that stands at an index within the receiver.
    pub fn new(
        kind: &'static str,
        index: usize,
        send_resolved: bool,
        notifier: Box<dyn Notifier>,
        concurrency: usize,
    ) -> Arc<Self> {
        Self::named(kind, format!("{kind}[{index}]"), send_resolved, notifier, concurrency)
    }

    pub(crate) fn named(
        kind: &'static str,
        name: String,
        send_resolved: bool,
        notifier: Box<dyn Notifier>,
        concurrency: usize,
    ) -> Arc<Self> {
        let turns = Semaphore::new(concurrency.max(1));
        let late = Semaphore::new(LATE_NOTIFICATIONS);
        Arc::new(Self { kind, name, send_resolved, notifier, turns, late, late_after: LATE_AFTER })
    }

    /// Makes one try, when it is its turn, and where it is a large message when there is a place
    /// among the large ones. A receiver that answers late may have taken the message, so it is
    /// waited for as Alertmanager does; turn and place go to others. Where too much waits so, a
    /// message keeps its turn, and a large one is given up: large ones of others need its place.
    pub async fn send(&self, message: &Message, places: &Places) -> Result<(), Failure> {
        let turn = self.turns.acquire().await;
        let large = large_places(message);
        let place = places.large.acquire_many(large).await;
        let bytes = PRINTED * message.bytes();
        // It goes out while memory is short: others give way to it.
        let _held = Reservation::regardless(bytes, &places.memory);
        let mut sending = self.notifier.send(message);
        if let Some(outcome) = within(self.late_after, &mut sending).await {
            return outcome;
        }
        let room = kibibytes(bytes.min(LATE_NOTIFICATIONS_BYTES));
        let late = self.late.try_acquire().and_then(|late| Ok((late, places.late.try_acquire_many(room)?)));
        let kept = late.is_err().then_some((turn, place));
        if kept.is_some() && large > 0 {
            return Err(late_answer());
        }
        let outcome = within(LONGEST_TRY.saturating_sub(self.late_after), &mut sending).await;
        drop((late, kept));
        outcome.unwrap_or_else(|| Err(late_answer()))
    }
}

fn late_answer() -> Failure {
    Failure::retry(FailureReason::ContextDeadlineExceeded, "context deadline exceeded")
}

/// What templates see of a message and what they print take so many times its alerts, about.
const PRINTED: u64 = 2;

/// What a message takes of the places of large ones. One of very many alerts takes many times their
/// memory while it is printed and sent; such wait for each other, and none of the others for them.
fn large_places(message: &Message) -> u32 {
    match u32::try_from(message.alerts.len()).unwrap_or(u32::MAX) {
        alerts @ LARGE_NOTIFICATION_ALERTS.. => alerts.min(LARGE_NOTIFICATIONS_TOGETHER),
        _ => 0,
    }
}

/// How a try went, if it ends in time. One that ends at once needs no clock.
async fn within(time: Duration, sending: &mut Sending<'_>) -> Option<Result<(), Failure>> {
    let mut clock = None;
    std::future::poll_fn(|context| {
        if let Poll::Ready(outcome) = sending.as_mut().poll(context) {
            return Poll::Ready(Some(outcome));
        }
        let clock = clock.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        clock.as_mut().poll(context).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receivers::tests::message_of;

    /// Answers at once, but for messages of which all is over.
    #[derive(Debug)]
    struct Slow;

    impl Notifier for Slow {
        fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
            Box::pin(async { if message.is_firing() { Ok(()) } else { std::future::pending().await } })
        }
    }

    fn integration() -> Arc<Integration> {
        Arc::new(Integration {
            kind: "webhook",
            name: "webhook[0]".to_owned(),
            send_resolved: true,
            notifier: Box::new(Slow),
            turns: Semaphore::new(1),
            late: Semaphore::new(1),
            late_after: Duration::from_millis(20),
        })
    }

    fn send(
        integration: &Arc<Integration>,
        message: &Arc<Message>,
        places: &Arc<Places>,
    ) -> tokio::task::JoinHandle<Result<(), Failure>> {
        let (integration, message, places) =
            (Arc::clone(integration), Arc::clone(message), Arc::clone(places));
        tokio::spawn(async move { integration.send(&message, &places).await })
    }

    fn message(alerts: u32, over: bool) -> Arc<Message> {
        Arc::new(message_of(alerts as usize, over))
    }

    /// A receiver that hangs keeps neither its own other messages waiting nor large ones of others,
    /// until too many hang at once.
    #[tokio::test]
    async fn who_answers_late_gives_turn_and_place_to_others() {
        let (hanging, well) = (integration(), integration());
        let places = Arc::new(Places::new(Arc::default()));
        let firing = message(LARGE_NOTIFICATIONS_TOGETHER, false);
        let first = send(&hanging, &message(LARGE_NOTIFICATIONS_TOGETHER, true), &places);
        tokio::task::yield_now().await;
        assert_eq!(well.send(&firing, &places).await, Ok(()), "a large one of another receiver");
        assert_eq!(hanging.send(&firing, &places).await, Ok(()), "one of its own");
        assert!(!first.is_finished(), "it may have taken the message, and is waited for");
        // One more than may be late: it keeps its turn.
        let second = send(&hanging, &message(1, true), &places);
        tokio::task::yield_now().await;
        let small = message_of(1, false);
        let waits = tokio::time::timeout(Duration::from_millis(200), hanging.send(&small, &places)).await;
        assert!(waits.is_err(), "its turn does not come");
        assert_eq!(well.send(&small, &places).await, Ok(()), "others go on");
        second.abort();
        assert_eq!(hanging.send(&small, &places).await, Ok(()));
        first.abort();
    }

    /// However many receivers hang, what waits for them has a bound, is counted, and keeps no message of
    /// others waiting.
    #[tokio::test]
    async fn what_waits_for_late_answers_has_a_bound_over_all_receivers() {
        let (memory, alerts) = (Arc::<Memory>::default(), LARGE_NOTIFICATION_ALERTS);
        let large = message(alerts, true);
        let bytes = PRINTED * large.bytes();
        let places = Arc::new(Places::of(2 * alerts, 2 * bytes + 2_048, Arc::clone(&memory)));
        let sends: Vec<_> = (0..7).map(|_| send(&integration(), &large, &places)).collect();
        let given_up = || sends.iter().filter(|send| send.is_finished()).count();
        let began = std::time::Instant::now();
        while given_up() < 5 {
            assert!(began.elapsed() < Duration::from_secs(10), "{} were given up", given_up());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(memory.held_bytes(pilothouse_model::memory::Part::Requests), 2 * bytes);
        for quick in [message(1, false), message(alerts, false)] {
            assert_eq!(integration().send(&quick, &places).await, Ok(()));
        }
        let mut outcomes = Vec::new();
        for send in sends {
            match send.is_finished() {
                true => outcomes.push(send.await.unwrap().unwrap_err().retry),
                false => send.abort(),
            }
        }
        assert_eq!(outcomes, [true; 5], "they are tried again");
    }
}
