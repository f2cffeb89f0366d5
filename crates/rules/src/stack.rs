//! Stacks that are deep enough to walk any expression that is allowed.
//!
//! Reading, planning and evaluating walk an expression by recursion, some kilobytes a level, and
//! the limit on nesting is in the thousands. Threads have two megabytes unless told otherwise.

use std::io;
use std::panic::resume_unwind;

use pilothouse_model::limits::QUERY_STACK_BYTES;

/// Runs work on a deep stack and waits for it.
pub(crate) fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("rules-reading".to_owned())
            .stack_size(QUERY_STACK_BYTES)
            .spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
