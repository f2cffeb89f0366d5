//! The label index of both stores: which series carry which labels.
//!
//! A series is a number that the store gives. [`Index`] holds the label sets of all live series
//! in memory and answers matchers with bitmaps of such numbers; [`day`] holds the label sets of a
//! closed day on disk, read page by page. Both are a [`PostingsSource`], and what a matcher means
//! is written once, over that trait, in [`resolve`](mod@resolve): as in Prometheus'
//! `PostingsForMatchers`, a label that is not there is the empty text.
//!
//! Nothing here locks for its caller: reading takes `&self`, changing takes `&mut self`.
//!
//! Reading order: `pairs` and `rows` (what is held), [`index`](mod@index),
//! [`resolve`](mod@resolve), [`projection`], [`cardinality`]; then [`page`] and [`day`] for the
//! disk, whose bytes are told in `docs/formats/index.md`.

mod bytes;
mod cache;
pub mod cardinality;
pub mod day;
mod error;
pub mod index;
pub mod page;
mod pairs;
mod postings;
pub mod projection;
pub mod resolve;
mod rows;
mod sorted;

pub use day::{DayIndex, DayRows, DayWriter, VisitRow};
pub use error::Error;
pub use index::Index;
pub use page::{Page, PageRow, PageWriter};
pub use postings::{Listed, Union};
pub use projection::Projection;
pub use resolve::{PostingsSource, Scan, Test, label_names, label_values, resolve};
pub use roaring::RoaringBitmap;
