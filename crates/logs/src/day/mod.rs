//! Blocks on the disk: for each UTC day a directory with a tantivy index and the filters of its
//! blocks. What lies where is told in `docs/formats/logs.md`.
//!
//! Reading order: `schema` (what a document holds), `directory` and `meta` (how tantivy's files are
//! read and written), `table` (the blocks of a segment in memory), `filters` (the file of slabs), `streams` (whose
//! numbers the blocks have), `rebuild` (the list of segments, where it is lost), `one` (one directory: opened, read, committed to), `set` (all of them).

pub(crate) mod directory;
pub(crate) mod filters;
pub(crate) mod meta;
pub(crate) mod one;
mod rebuild;
pub(crate) mod schema;
pub(crate) mod set;
pub(crate) mod streams;
pub(crate) mod table;

pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

/// The UTC day of a time, counted from 1970.
pub(crate) fn day_of(t_ns: i64) -> i32 {
    t_ns.div_euclid(DAY_NS) as i32
}

/// The first time of a day, and of the next.
pub(crate) fn bounds_of(day: i32) -> (i64, i64) {
    let start = i64::from(day).saturating_mul(DAY_NS);
    (start, start.saturating_add(DAY_NS))
}
