//! How much is done before others get a turn.
//!
//! Whoever holds the engine holds up everybody else: alerts that come in, people who look, the
//! server's own figures. What may take long (a hundred thousand alerts against thousands of rules
//! that no index helps with) is therefore done in slices of about the same size, each counted in
//! lists of matchers that were asked.

/// Lists of matchers that may be asked in one slice: a few milliseconds.
const SLICE: u64 = 50_000;

/// What is left of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice(u64);

impl Slice {
    pub(crate) fn new() -> Self {
        Self(SLICE)
    }

    /// For who must come to an end at once: tests, and what is small by its nature.
    pub(crate) fn endless() -> Self {
        Self(u64::MAX)
    }

    /// Notes that so many lists were asked.
    pub(crate) fn spend(&mut self, lists: usize) {
        self.0 = self.0.saturating_sub(lists as u64);
    }

    /// The next thing to do, unless others should get their turn first.
    pub(crate) fn go_on<T>(self, next: impl FnOnce() -> Option<T>) -> Option<T> {
        if self.is_over() { None } else { next() }
    }

    /// Whether others should get their turn.
    pub(crate) fn is_over(self) -> bool {
        self.0 == 0
    }
}
