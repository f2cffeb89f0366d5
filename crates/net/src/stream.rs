//! Answers that are handed on while they come.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};

use crate::CallError;

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub struct Streamed {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: BodyStream,
}

impl Streamed {
    pub(crate) fn new(sent: reqwest::Response, max_bytes: u64) -> Self {
        let (parts, inner) = http::Response::<reqwest::Body>::from(sent).into_parts();
        let body = BodyStream { inner, max_bytes, left_bytes: max_bytes };
        Self { status: parts.status, headers: parts.headers, body }
    }
}

/// A body up to a bound; what is longer ends with an error. Dropping it ends the call.
#[derive(Debug)]
pub struct BodyStream {
    inner: reqwest::Body,
    max_bytes: u64,
    left_bytes: u64,
}

impl Body for BodyStream {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else { return Poll::Pending };
        let Some(frame) = frame else { return Poll::Ready(None) };
        Poll::Ready(Some(frame.map_err(CallError::from).and_then(|frame| self.admit(frame))))
    }
}

impl BodyStream {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        loop {
            match poll_fn(|context| Pin::new(&mut *self).poll_frame(context)).await?.map(Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                // Trailers are nobody's.
                Ok(Err(_)) => {}
                Err(e) => return Some(Err(e)),
            }
        }
    }

    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, CallError> {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left_bytes.checked_sub(bytes) {
            Some(left) => {
                self.left_bytes = left;
                Ok(frame)
            }
            None => Err(CallError::TooLong { limit_bytes: self.max_bytes }),
        }
    }
}
