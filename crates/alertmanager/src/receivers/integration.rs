//! One integration of a receiver: whose turn it is, and how long an answer is waited for.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pilothouse_model::limits::{
    LARGE_NOTIFICATION_ALERTS, LARGE_NOTIFICATIONS_TOGETHER, LATE_NOTIFICATIONS, NOTIFICATION_TRY_SECONDS,
};
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
    /// among the `large` ones. A receiver that answers late may have taken the message, so it is
    /// waited for as Alertmanager does; turn and place go to others.
    pub async fn send(&self, message: &Message, large: &Semaphore) -> Result<(), Failure> {
        let turn = self.turns.acquire().await;
        let place = large.acquire_many(places(message)).await;
        let mut sending = self.notifier.send(message);
        if let Some(outcome) = within(self.late_after, &mut sending).await {
            return outcome;
        }
        let late = self.late.try_acquire();
        let kept = late.is_err().then_some((turn, place));
        let outcome = within(LONGEST_TRY.saturating_sub(self.late_after), &mut sending).await;
        drop((late, kept));
        outcome.unwrap_or_else(|| {
            Err(Failure::retry(FailureReason::ContextDeadlineExceeded, "context deadline exceeded"))
        })
    }
}

/// What a message takes of the places of large ones. One of very many alerts takes many times their
/// memory while it is printed and sent; such wait for each other, and none of the others for them.
fn places(message: &Message) -> u32 {
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

    /// A receiver that hangs keeps neither its own other messages waiting nor large ones of others,
    /// until too many hang at once.
    #[tokio::test]
    async fn who_answers_late_gives_turn_and_place_to_others() {
        let (hanging, well) = (integration(), integration());
        let large = Arc::new(Semaphore::new(LARGE_NOTIFICATIONS_TOGETHER as usize));
        let alerts = LARGE_NOTIFICATIONS_TOGETHER as usize;
        let (over, firing) = (Arc::new(message_of(alerts, true)), Arc::new(message_of(alerts, false)));
        let hang = || {
            let (integration, message, large) = (Arc::clone(&hanging), Arc::clone(&over), Arc::clone(&large));
            tokio::spawn(async move { integration.send(&message, &large).await })
        };
        let first = hang();
        tokio::task::yield_now().await;
        assert_eq!(well.send(&firing, &large).await, Ok(()), "a large one of another receiver");
        assert_eq!(hanging.send(&firing, &large).await, Ok(()), "one of its own");
        assert!(!first.is_finished(), "it may have taken the message, and is waited for");
        // One more than may be late: it keeps its turn.
        let second = hang();
        tokio::task::yield_now().await;
        let small = message_of(1, false);
        let waits = tokio::time::timeout(Duration::from_millis(200), hanging.send(&small, &large)).await;
        assert!(waits.is_err(), "its turn does not come");
        assert_eq!(well.send(&small, &large).await, Ok(()), "others go on");
        second.abort();
        assert_eq!(hanging.send(&small, &large).await, Ok(()));
        first.abort();
    }
}
