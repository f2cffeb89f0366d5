//! What ended queries gave back and the allocator has not.
//!
//! Their bytes leave the account at once and stay resident until the allocator purges them. Whoever
//! took those for bytes in use would end one query after another for memory that is on its way.

use std::time::{Duration, Instant};

/// How long it may take: the watch has threads give back what they freed every five seconds while
/// memory is short, and a look comes a moment later.
const LEAVES_WITHIN: Duration = Duration::from_secs(6);

/// What was given back between two looks.
#[derive(Debug)]
struct Given {
    bytes: u64,
    /// What is resident once it has left.
    without_bytes: u64,
    until: Instant,
}

/// The account's list; each look adds one at most, and none stays for longer than it may take.
#[derive(Debug, Default)]
pub(super) struct Leaving(Vec<Given>);

impl Leaving {
    /// A look: `given_back` came since the last one. How much of all that is resident has yet to leave.
    pub(super) fn look(&mut self, given_back: u64, resident_bytes: u64, now: Instant) -> u64 {
        if given_back > 0 {
            let without_bytes = resident_bytes.saturating_sub(given_back);
            self.0.push(Given { bytes: given_back, without_bytes, until: now + LEAVES_WITHIN });
        }
        // What has left once does not leave again: memory that is taken afterwards is somebody's.
        for given in &mut self.0 {
            given.bytes = given.bytes.min(resident_bytes.saturating_sub(given.without_bytes));
        }
        self.0.retain(|given| given.bytes > 0 && given.until > now);
        self.0.iter().map(|given| given.bytes).sum()
    }
}
