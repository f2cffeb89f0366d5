//! Asking the other system from threads that may block, as ports are asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pilothouse_model::{Budget, SourceError};
use tokio::runtime::Handle;

use crate::Peer;

/// How soon a query that is ended lets its call go.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) peer: Arc<Peer>,
    /// Where calls are made.
    pub(crate) runtime: Handle,
}

impl Asker {
    /// Waits for the answer as long as the budget lasts. Blocks; never on a thread of the runtime
    /// that runs tasks.
    pub(crate) fn ask(
        &self,
        path: &str,
        form: &[(&str, &str)],
        budget: &Budget,
    ) -> Result<Bytes, SourceError> {
        self.wait(self.peer.ask(path, form, budget), budget)
    }

    /// The same for a request of remote read, compressed as its answer is.
    pub(crate) fn read(&self, request: Bytes, budget: &Budget) -> Result<Bytes, SourceError> {
        self.wait(self.peer.read(request, budget), budget)
    }

    fn wait(
        &self,
        call: impl Future<Output = Result<Bytes, SourceError>>,
        budget: &Budget,
    ) -> Result<Bytes, SourceError> {
        self.runtime.block_on(async {
            tokio::pin!(call);
            loop {
                tokio::select! {
                    answer = &mut call => return answer,
                    () = tokio::time::sleep(LOOK) => budget.check("a query to the remote store")?,
                }
            }
        })
    }
}

/// A text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_~".contains(&b);
    let encoded = |b: u8| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_one_whatever_is_in_it() {
        assert_eq!(segment("a_b-1"), "a_b-1");
        assert_eq!(segment("a b/../é"), "a%20b%2F%2E%2E%2F%C3%A9");
    }
}
