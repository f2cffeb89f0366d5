//! Samples on the disk, by UTC day.
//!
//! A day has files of two kinds. What is flushed from the head lands in `l0` files in the order
//! of flushes; when the day is over they are rewritten into one `l1` file in the order of
//! labels, which carries its own label index. Each name carries a generation; an `l1` file says
//! which `l0` generations it has taken in, so that after a crash the names and that one row tell
//! what stands.

pub(crate) mod l0;
pub(crate) mod l1;
pub(crate) mod set;
pub(crate) mod writer;
