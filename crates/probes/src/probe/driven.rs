//! The half of a connection that works while requests are made over it.

use std::future::Future;

use tokio::task::AbortHandle;

/// Ends with its owner: a run that hangs and is given up leaves no connection behind.
#[derive(Debug)]
pub(super) struct Driven(AbortHandle);

impl Driven {
    pub(super) fn spawn<T: Send + 'static>(connection: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(connection).abort_handle())
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}
