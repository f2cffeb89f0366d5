//! The allocator, and how soon it gives back to the system what nobody uses.
//!
//! On a small machine memory that is kept for later is memory that something else lacks. As
//! mimalloc comes, it waits a second, within which a busy server has used the next pages already,
//! and asks for huge pages, of which a few live bytes keep two megabytes: 190 MB after a push of
//! 400 MB of logs. Without both it is 93 MB for the same work at the same CPU.

use std::ffi::c_long;

/// How long freed pages may be kept for the next one who asks.
const PURGE_DELAY_MS: c_long = 50;
/// `mi_option_purge_delay`, which the bindings do not name.
const OPTION_PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sets what can only be said while the process runs; huge pages are left out by a feature of the
/// crate. To be called once, first of all.
#[allow(unsafe_code, reason = "a call into the allocator that takes no pointer")]
pub(crate) fn tune() {
    // SAFETY: stores a number in a table of options, which allocations read as an atomic; no
    // other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(OPTION_PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Has this thread give back to the system what it has freed. The allocator keeps it for a while,
/// and a thread that does nothing any more keeps it for ever.
#[allow(unsafe_code, reason = "a call into the allocator that takes no pointer and may be made at any time")]
pub(crate) fn give_back_freed() {
    // SAFETY: mi_collect works on the calling thread's own heap under the allocator's own locks; it
    // has no preconditions and invalidates nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
