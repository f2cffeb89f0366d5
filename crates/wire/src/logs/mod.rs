//! Pushes of log entries: Loki's JSON (both generations), its protobuf, and what Loki adds to
//! each entry on its way in.
//!
//! A caller asks [`PushFormat::from_content_type`], takes the compression off with [`open`], and
//! hands the plain body to [`decode`] together with an [`Enricher`], which is made once from an
//! [`Enrichment`]. Out comes a [`LogDecoded`]: the good part as one batch, with `service_name`
//! and `detected_level` already in place, and what was refused of the rest. OTLP logs give the
//! same ([`crate::otlp::decode_logs`]). The other way go pushes to another system ([`PushWriter`]) and
//! answers to questions in protobuf ([`StreamsWriter`] and its like).
//!
//! What is checked here: that the body can be read, label text, duplicate label names, and the
//! size of an entry's metadata as it was sent. How long names, values and lines may be, how old an
//! entry, and how many streams there may be, the store checks: it knows the streams.
//!
//! Nothing is allocated for an entry but the place of its line: sets of metadata are shared
//! within a request, and most entries have one of eight.

mod answer;
mod encode;
mod enrich;
mod intake;
mod json;
mod json_complaint;
mod label_text;
mod level;
mod media_type;
mod metadata;
mod protobuf;

use std::borrow::Cow;

use pilothouse_model::LogBatch;
use pilothouse_model::limits::Limits;
use pilothouse_model::log_ports::EntryRejection;
use pilothouse_model::memory::Reservation;

use crate::DecodeError;
use crate::body::{BodyError, Encoding, decompress_booked};

pub use answer::{
    ANSWER_TYPE, Cost, FieldAnswer, SamplesWriter, StreamsWriter, detected_labels_answer, fields_answer,
    index_stats_answer, labels_answer, patterns_answer, series_answer,
};
pub use encode::PushWriter;
pub use enrich::{Enricher, Enrichment};
pub(crate) use intake::{Intake, StreamStart};
pub use level::Level;
pub(crate) use metadata::label_name;

/// How the body of a push is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushFormat {
    /// `logproto.PushRequest` as a snappy block.
    Protobuf,
    /// `{"streams":[{"stream":{..},"values":[["<ns>","line",{..}]]}]}`, and the older
    /// `{"streams":[{"labels":"{..}","entries":[{"ts":"<RFC 3339>","line":".."}]}]}`.
    Json,
}

impl PushFormat {
    /// From the value of a `Content-Type`, as Loki: JSON by its name, and anything else that
    /// looks like a media type is protobuf. What does not is told in the words of Go's package mime.
    pub fn from_content_type(value: &str) -> Result<Self, &'static str> {
        let kind = media_type::essence(value)?;
        Ok(if kind.eq_ignore_ascii_case("application/json") { Self::Json } else { Self::Protobuf })
    }
}

/// Takes the compression off a body, of at most `max_bytes` then. `content_encoding` is the value
/// of that header. Protobuf is a snappy block whatever the header says, and gzip, deflate or zstd
/// stand around it. What comes out is booked in `held`. For [`BodyError::UnsupportedEncoding`] Loki's
/// text is `Content-Encoding "br" not supported`.
pub fn open<'b>(
    format: PushFormat,
    content_encoding: &str,
    body: &'b [u8],
    max_bytes: u64,
    held: &mut Reservation,
) -> Result<Cow<'b, [u8]>, BodyError> {
    let outer = match outer_encoding(content_encoding)? {
        Encoding::Identity | Encoding::Snappy if body.len() as u64 > max_bytes => {
            return Err(BodyError::TooLarge { limit: max_bytes });
        }
        Encoding::Identity | Encoding::Snappy => Cow::Borrowed(body),
        encoding => Cow::Owned(decompress_booked(encoding, body, max_bytes, held)?),
    };
    match format {
        PushFormat::Json => Ok(outer),
        PushFormat::Protobuf => decompress_booked(Encoding::Snappy, &outer, max_bytes, held).map(Cow::Owned),
    }
}

/// Names count as they are written, and `identity` is none of them.
fn outer_encoding(name: &str) -> Result<Encoding, BodyError> {
    match name {
        "" => Ok(Encoding::Identity),
        "snappy" | "gzip" | "deflate" | "zstd" => Encoding::from_header(name),
        _ => Err(BodyError::UnsupportedEncoding(name.to_owned())),
    }
}

/// Why a body cannot be decompressed, as Go's packages say it, where they have a name for it.
pub fn corrupt_text(encoding: Encoding, why: &str) -> Option<&'static str> {
    match encoding {
        Encoding::Snappy => Some("snappy: corrupt input"),
        Encoding::Gzip if why.contains("header") => Some("gzip: invalid header"),
        Encoding::Gzip if why.contains("checksum") => Some("gzip: invalid checksum"),
        Encoding::Gzip | Encoding::Deflate if why.contains("end of file") || why.contains("incomplete") => {
            Some("unexpected EOF")
        }
        _ => None,
    }
}

/// Takes a plain body apart. An error refuses the push as a whole: 413 where
/// [`DecodeError::is_too_large`], else 400 with its text.
pub fn decode(
    format: PushFormat,
    body: &[u8],
    enricher: &Enricher,
    limits: &Limits,
) -> Result<LogDecoded, DecodeError> {
    match format {
        PushFormat::Protobuf => protobuf::decode(body, enricher, limits),
        PushFormat::Json => json::decode(body, enricher, limits),
    }
}

/// The good part of a push, and what was refused of the rest.
#[derive(Debug, Default)]
pub struct LogDecoded {
    pub batch: LogBatch,
    /// Streams that the request named, with or without entries. Where it is 0, Loki answers 422
    /// with [`NO_STREAMS`]; where only the batch is empty, 204.
    pub streams: u64,
    /// The first refusals, at most [`pilothouse_model::write::Appended::MAX_REJECTIONS`].
    pub rejections: Vec<EntryRejection>,
    /// All entries that were refused.
    pub rejected: u64,
}

/// What Loki says to a push without streams.
pub const NO_STREAMS: &str = "error at least one valid stream is required for ingestion";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_tells_the_format() {
        use PushFormat::{Json, Protobuf};
        for (value, format) in [
            ("application/json", Ok(Json)),
            ("Application/JSON; charset=utf-8", Ok(Json)),
            ("application/x-protobuf", Ok(Protobuf)),
            ("text/plain", Ok(Protobuf)),
            ("application/vnd.x+json", Ok(Protobuf)),
            ("text", Ok(Protobuf)),
            ("", Err("mime: no media type")),
        ] {
            assert_eq!(PushFormat::from_content_type(value), format, "{value}");
        }
    }

    #[test]
    fn a_snappy_block_stands_inside_every_other_compression() {
        let memory = std::sync::Arc::default();
        let open = |format, encoding, body: &[u8], max_bytes| {
            let opened = super::open(format, encoding, body, max_bytes, &mut Reservation::nothing(&memory));
            opened.map(Cow::into_owned)
        };
        let block = crate::body::snappy(b"hello");
        for (encoding, body) in [
            ("", block.clone()),
            ("snappy", block.clone()),
            ("gzip", crate::body::gzip(&block)),
            ("zstd", zstd::bulk::compress(&block, 1).unwrap()),
        ] {
            let opened = open(PushFormat::Protobuf, encoding, &body, 100);
            assert_eq!(opened.as_deref(), Ok(b"hello".as_slice()), "{encoding}");
            assert!(open(PushFormat::Protobuf, encoding, &body, 4).is_err(), "{encoding}");
        }
        assert_eq!(open(PushFormat::Json, "", b"{}", 2).as_deref(), Ok(b"{}".as_slice()));
        assert_eq!(open(PushFormat::Json, "", b"{}", 1), Err(BodyError::TooLarge { limit: 1 }));
        for encoding in ["br", "identity", "GZIP", "x-gzip", "gzip, gzip"] {
            let refused = Err(BodyError::UnsupportedEncoding(encoding.to_owned()));
            assert_eq!(open(PushFormat::Json, encoding, b"{}", 9), refused);
        }
        assert!(open(PushFormat::Protobuf, "", b"", 9).is_err());
    }
}
