//! Rows as bytes: one byte for the version of the row's shape, then a protobuf message.
//!
//! Messages are written by hand beside each kind of record and turned into it by hand, so that
//! what is on the disk is a decision and no accident of a derive. A field that a newer release
//! added is skipped; a version that is not known is refused.

use std::fmt::Debug;

use prost::Message;

use crate::ids::{ProjectId, SourceId, TokenId};
use crate::region::Region;

/// A record that is kept as a row of a table of its own.
pub(crate) trait Row: Clone + Debug + Send + Sync + Sized + 'static {
    const TABLE: &'static str;
    const VERSION: u8 = 1;
    type Key: Key;
    type Message: Message + Default;

    fn key(&self) -> Self::Key;
    fn to_message(&self) -> Self::Message;
    /// `None` where a field makes no sense.
    fn from_message(message: Self::Message) -> Option<Self>;
}

/// What a record is found by.
pub(crate) trait Key: Clone + Ord + Debug {
    /// As the table has it.
    fn text(&self) -> String;
}

macro_rules! plain_keys {
    ($($key:ty)*) => { $(
        impl Key for $key {
            fn text(&self) -> String {
                self.to_string()
            }
        }
    )* };
}

plain_keys! { ProjectId SourceId TokenId Region String u32 u64 }

impl<A: Key, B: Key> Key for (A, B) {
    fn text(&self) -> String {
        format!("{}/{}", self.0.text(), self.1.text())
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn text(&self) -> String {
        format!("{}/{}/{}", self.0.text(), self.1.text(), self.2.text())
    }
}

pub(crate) fn encode<R: Row>(row: &R) -> Vec<u8> {
    let message = row.to_message();
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(R::VERSION);
    bytes.extend(message.encode_to_vec());
    bytes
}

/// The text of an error names what is wrong with the bytes.
pub(crate) fn decode<R: Row>(bytes: &[u8]) -> Result<R, String> {
    let (version, message) = bytes.split_first().ok_or_else(|| "no bytes".to_owned())?;
    if *version != R::VERSION {
        return Err(format!("version {version} of the row, this release reads {}", R::VERSION));
    }
    let message = R::Message::decode(message).map_err(|e| e.to_string())?;
    R::from_message(message).ok_or_else(|| "a field makes no sense".to_owned())
}

/// Whether bytes are a row of this kind, and that of this key.
pub(crate) fn is_row<R: Row>(key: &str, bytes: &[u8]) -> bool {
    decode::<R>(bytes).is_ok_and(|row| row.key().text() == key)
}

/// When a record was made and last changed, and its place in the order of making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Grows with every change of the control plane; breaks ties of time.
    pub number: u64,
    pub created_ms: i64,
    pub updated_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StampMessage {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(int64, tag = "2")]
    created_ms: i64,
    #[prost(int64, tag = "3")]
    updated_ms: i64,
}

impl From<Stamp> for StampMessage {
    fn from(Stamp { number, created_ms, updated_ms }: Stamp) -> Self {
        Self { number, created_ms, updated_ms }
    }
}

impl From<StampMessage> for Stamp {
    fn from(StampMessage { number, created_ms, updated_ms }: StampMessage) -> Self {
        Self { number, created_ms, updated_ms }
    }
}
