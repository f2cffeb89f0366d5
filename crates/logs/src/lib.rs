//! The entry store: lines with their structured metadata, of one data source.

pub mod block;
