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
    /// `None` where a field makes no sense here, such as a word that a newer release added.
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

/// Why bytes are not taken for a row; says what is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Another release may well read them: their version, or a word in them, is not known here.
    Unknown(String),
    Damaged(String),
}

pub(crate) fn decode<R: Row>(bytes: &[u8]) -> Result<R, Unread> {
    let (version, message) =
        bytes.split_first().ok_or_else(|| Unread::Damaged("it has no bytes".to_owned()))?;
    if *version != R::VERSION {
        let what = format!("it has version {version}, and this release reads version {}", R::VERSION);
        return Err(Unread::Unknown(what));
    }
    let message = R::Message::decode(message).map_err(|e| Unread::Damaged(e.to_string()))?;
    let unknown = || Unread::Unknown("a field has a value that this release does not know".to_owned());
    R::from_message(message).ok_or_else(unknown)
}

/// As [`decode`], of what is found under a key.
pub(crate) fn judge<R: Row>(key: &str, bytes: &[u8]) -> Result<(), Unread> {
    match decode::<R>(bytes)?.key().text() == key {
        true => Ok(()),
        false => Err(Unread::Damaged("it is the row of another key".to_owned())),
    }
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
