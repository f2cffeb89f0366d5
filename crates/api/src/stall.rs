//! A connection whose other end must go on reading.
//!
//! A client that asks for much and reads nothing would hold its answer in memory for ever, and a
//! place among the requests. And it must say something at all: which protocol it speaks is read
//! from its first bytes, before any other clock runs. Waiting to read more is bounded elsewhere, by
//! the time that the head and the body of a request may take. Who follows logs may be silent for
//! long, and is not cut. What is read is told to the conversation that it belongs to.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::conversation::Conversation;

/// Fails writes that the other end has not taken for a while.
#[derive(Debug)]
pub(crate) struct Stalling<S> {
    inner: S,
    patience: Duration,
    /// Runs while a write waits.
    deadline: Pin<Box<Sleep>>,
    is_waiting: bool,
    /// Runs until the first bytes have come.
    greeting: Option<Pin<Box<Sleep>>>,
    /// `None` below a tunnel, where what is read is no request yet.
    conversation: Option<Arc<Conversation>>,
}

impl<S> Stalling<S> {
    /// `greeting` is how long the first bytes may take.
    pub(crate) fn new(inner: S, patience: Duration, greeting: Duration) -> Self {
        let timer = |time| Box::pin(tokio::time::sleep(time));
        let (deadline, greeting) = (timer(patience), Some(timer(greeting)));
        Self { inner, patience, deadline, is_waiting: false, greeting, conversation: None }
    }

    pub(crate) fn telling(self, conversation: Arc<Conversation>) -> Self {
        Self { conversation: Some(conversation), ..self }
    }

    /// Passes on what a write has come to; one that waits starts the clock, or ends by it.
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.is_waiting = false;
            return polled;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(conversation) = &self.conversation {
            conversation.before_reading()?;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(conversation) = &self.conversation {
            conversation.has_read(buf.filled().len().saturating_sub(before));
        }
        if polled.is_ready() {
            self.greeting = None;
        } else if let Some(greeting) = &mut self.greeting {
            ready!(greeting.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_stops_ends_the_connection_and_a_slow_one_does_not() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut ours = Stalling::new(ours, Duration::from_secs(10), Duration::from_secs(10));
        let reading = tokio::spawn(async move {
            let mut taken = [0; 8];
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                theirs.read_exact(&mut taken).await.unwrap();
            }
            theirs
        });
        ours.write_all(&[1; 40]).await.unwrap();
        let _theirs = reading.await.unwrap();
        let error = ours.write_all(&[1; 40]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_cut_and_who_has_said_something_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut ours = Stalling::new(ours, Duration::from_secs(10), Duration::from_secs(10));
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (other, mut others) = tokio::io::duplex(8);
        let mut other = Stalling::new(other, Duration::from_secs(10), Duration::from_secs(10));
        others.write_all(b"a").await.unwrap();
        assert_eq!(other.read_u8().await.unwrap(), b'a');
        let late = tokio::time::timeout(Duration::from_secs(100), other.read_u8()).await;
        assert!(late.is_err(), "it still waits");
        theirs.shutdown().await.unwrap();
    }
}
