//! Bytes of stored rows: a version, then the row's own form.

use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Of all rows of this crate.
const VERSION: u8 = 1;

pub(super) fn message<M: Message>(message: &M) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // A Vec has room.
    let _ = message.encode(&mut bytes);
    bytes
}

pub(super) fn read_message<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(body(bytes)?).map_err(|e| e.to_string())
}

pub(super) fn document<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // None of these types can fail to be written.
    let _ = serde_json::to_writer(&mut bytes, value);
    bytes
}

pub(super) fn read_document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body(bytes)?).map_err(|e| e.to_string())
}

fn body(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((version, _)) => Err(format!("version {version}, this program reads {VERSION}")),
        None => Err("empty".to_owned()),
    }
}
