//! Files, redb and the write-ahead log, opened one way.
//!
//! Stores use the disk only through this crate: [`files`] holds the directory lock, whole-file
//! replacement and the names of file generations; [`database`] opens redb with a checked format
//! version and a commit that survives a crash without a walk over the file, [`ledger`] those of them
//! that are read once and written for ever after, [`remains`] what is certain of a damaged one; [`sectors`] is for
//! files of which the disk does not give every part; [`wal`] is the log that a write is in before it is
//! answered; [`space`] tells when nothing more is to be taken in.
//!
//! Nothing here knows what a series is. Records, tables and their bytes belong to the stores.

pub mod backup;
pub mod check;
pub mod database;
mod error;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
pub mod files;
pub mod ledger;
mod os;
mod overlay;
mod pages;
pub mod remains;
pub mod sectors;
pub mod space;
pub mod wal;
pub mod workers;

pub use database::{Database, ReadOnlyDatabase};
pub use error::{Error, is_latched, is_unreadable};
pub use ledger::Ledger;
pub use wal::{Position, Wal, WalError};
