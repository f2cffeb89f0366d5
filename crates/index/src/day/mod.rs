//! The label index of a closed day: written once in the order of labels, read a page at a time.
//!
//! Series are numbered by their place in that order. Everything lies in one table of byte keys,
//! written in ascending order of keys: pages of series first, then for each label its values with
//! their series, then which series have the label at all, then a header. The bytes are told in
//! `docs/formats/index.md`.

mod reader;
mod values;
mod writer;

pub use reader::{DayIndex, DayRows, VisitRow};
pub use writer::{DayWriter, PutRow};

/// First byte of a key.
const SERIES: u8 = 1;
const VALUES: u8 = 2;
const HAVING: u8 = 3;
const HEADER: u8 = 4;

const VERSION: u64 = 1;

/// Series in a page: enough to share text, few enough to read one of them.
const SERIES_PER_PAGE: usize = 128;
/// A page of values is closed at this size before compression.
const VALUES_PAGE_BYTES: usize = 8 << 10;

fn series_key(first: u32) -> Vec<u8> {
    key(SERIES, first)
}

/// Names are numbered in their order.
fn having_key(name: u32) -> Vec<u8> {
    key(HAVING, name)
}

/// The key of a page whose values are `from` or behind it.
fn values_key(name: u32, from: &[u8]) -> Vec<u8> {
    let mut out = key(VALUES, name);
    out.extend_from_slice(from);
    out
}

fn key(table: u8, number: u32) -> Vec<u8> {
    let mut out = vec![table];
    out.extend_from_slice(&number.to_be_bytes());
    out
}
