//! Remote write: the messages `prometheus.WriteRequest` (1.0) and `io.prometheus.write.v2.Request`.
//!
//! Sources: the protobuf definitions of Prometheus' `prompb` and the two published
//! specifications. Start timestamps (2.0) and Cortex' `source` (1.0) are accepted and dropped.

pub(crate) mod histogram;
mod v1;
mod v2;

use pilothouse_model::limits::Limits;

use crate::{DecodeError, Decoded};

/// Which message a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    V1,
    V2,
}

impl Message {
    /// From a `Content-Type`: `application/x-protobuf` with or without the name of the message
    /// (1.0 when there is none, and for an empty header). `None` for anything else.
    pub fn from_content_type(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        match parts.next() {
            Some("") => {}
            Some(kind) if kind.eq_ignore_ascii_case("application/x-protobuf") => {}
            _ => return None,
        }
        let parameter = |part: &str| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"').to_owned())
        };
        match parts.find_map(parameter).as_deref() {
            None | Some("prometheus.WriteRequest") => Some(Self::V1),
            Some("io.prometheus.write.v2.Request") => Some(Self::V2),
            Some(_) => None,
        }
    }
}

/// Takes a decompressed body apart. The batch of a 1.0 request keeps the body itself.
pub fn decode(message: Message, body: Vec<u8>, limits: &Limits) -> Result<Decoded, DecodeError> {
    match message {
        Message::V1 => v1::decode(body, limits),
        Message::V2 => v2::decode(&body, limits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_names_the_message() {
        for (value, message) in [
            ("", Some(Message::V1)),
            ("application/x-protobuf", Some(Message::V1)),
            ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Message::V1)),
            ("application/x-protobuf; proto=io.prometheus.write.v2.Request", Some(Message::V2)),
            ("Application/X-Protobuf ; PROTO = \"io.prometheus.write.v2.Request\"", Some(Message::V2)),
            ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
            ("application/json", None),
            ("text/plain", None),
        ] {
            assert_eq!(Message::from_content_type(value), message, "{value}");
        }
    }
}
