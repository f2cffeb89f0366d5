//! Waiting for a position without a runtime.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::writer::Shared;
use super::{Position, WalError};

/// Ends when the record at a position is durable, or can no longer become so.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Durable {
    shared: Arc<Shared>,
    position: Position,
    /// Under which the waker is kept, once there is one.
    ticket: Option<u64>,
}

impl Durable {
    pub(super) fn new(shared: Arc<Shared>, position: Position) -> Self {
        Self { shared, position, ticket: None }
    }
}

impl Future for Durable {
    type Output = Result<(), WalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let poll = this.shared.poll_durable(this.position, &mut this.ticket, cx.waker());
        if poll.is_ready()
            && let Some(ticket) = this.ticket.take()
        {
            this.shared.forget(ticket);
        }
        poll
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.forget(ticket);
        }
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("position", &self.position).finish_non_exhaustive()
    }
}
