//! `logproto.PushRequest`.

use std::collections::HashMap;

use pilothouse_model::limits::Limits;
use pilothouse_model::log_ports::EntryReason;

use super::label_text::{self, StreamStart};
use super::{Enricher, Intake, LogDecoded};
use crate::DecodeError;
use crate::decoded::Fault;
use crate::proto::{Cursor, ProtoError};
use crate::proto_complaint::{Dialect, Message, bytes, nested, number};

const MESSAGE: &str = "logproto.PushRequest";

// The shape of a push, for saying what is wrong with one.
static REQUEST: Message = Message { name: "PushRequest", fields: &[nested(1, "Streams", &STREAM)] };
static STREAM: Message = Message {
    name: "StreamAdapter",
    fields: &[bytes(1, "Labels"), nested(2, "Entries", &ENTRY), number(3, "Hash")],
};
static ENTRY: Message = Message {
    name: "EntryAdapter",
    fields: &[
        nested(1, "Timestamp", &TIMESTAMP),
        bytes(2, "Line"),
        nested(3, "StructuredMetadata", &PAIR),
        nested(4, "Parsed", &PAIR),
    ],
};
static TIMESTAMP: Message =
    Message { name: "Timestamp", fields: &[number(1, "Seconds"), number(2, "Nanos")] };
static PAIR: Message = Message { name: "LabelPairAdapter", fields: &[bytes(1, "Name"), bytes(2, "Value")] };

pub(super) fn decode(body: &[u8], enricher: &Enricher, limits: &Limits) -> Result<LogDecoded, DecodeError> {
    let mut walk = Walk { intake: Intake::new(enricher, limits), known: HashMap::new() };
    walk.intake.reserve(body.len());
    let mut request = Cursor::new(body);
    walk.request(&mut request).map_err(|fault| fault.told(Dialect::Gogo, &REQUEST, body, request.at))?;
    Ok(walk.intake.finish())
}

struct Walk<'b, 'e> {
    intake: Intake<'e>,
    /// Label texts of this request that have been read.
    known: HashMap<&'b [u8], StreamStart>,
}

impl<'b> Walk<'b, '_> {
    fn request(&mut self, request: &mut Cursor<'b>) -> Result<(), Fault> {
        while let Some(key) = request.key()? {
            match (key >> 3, key & 7) {
                (1, 2) => self.stream(request.message()?)?,
                _ => request.skip_unknown(key, 1..=1)?,
            }
        }
        Ok(())
    }

    /// Labels may stand behind the entries, so a first walk looks for them.
    fn stream(&mut self, message: Cursor<'b>) -> Result<(), Fault> {
        let mut first = message;
        let mut labels: &[u8] = b"";
        while let Some(key) = first.key()? {
            match (key >> 3, key & 7) {
                (1, 2) => labels = first.bytes()?,
                (2, 2) => drop(first.message()?),
                _ => first.skip_unknown(key, 1..=2)?,
            }
        }
        self.begin(labels)?;
        let mut second = message;
        while let Some(key) = second.key()? {
            match (key >> 3, key & 7) {
                (2, 2) => self.entry(second.message()?)?,
                _ => second.skip(key)?,
            }
        }
        Ok(())
    }

    fn begin(&mut self, labels: &'b [u8]) -> Result<(), DecodeError> {
        let start = match self.known.get(labels) {
            Some(start) => start.clone(),
            None => {
                let text = std::str::from_utf8(labels)
                    .map_err(|e| format!("1:{}: parse error: invalid UTF-8 rune", e.valid_up_to() + 1));
                let pairs = text.and_then(label_text::parse).map_err(|why| DecodeError::Labels { why })?;
                let start = StreamStart::new(pairs, self.intake.enricher);
                self.known.insert(labels, start.clone());
                start
            }
        };
        self.intake.begin_stream(start)
    }

    #[inline]
    fn entry(&mut self, mut message: Cursor<'b>) -> Result<(), Fault> {
        let (mut t_ns, mut line): (Option<i64>, &[u8]) = (None, b"");
        while let Some(key) = message.key()? {
            match (key >> 3, key & 7) {
                (1, 2) => t_ns = Some(timestamp(message.message()?)?),
                (2, 2) => line = message.bytes()?,
                (3, 2) => self.metadata(message.message()?)?,
                _ => message.skip_unknown(key, 1..=3)?,
            }
        }
        match t_ns {
            Some(t_ns) => self.intake.entry(t_ns, &String::from_utf8_lossy(line))?,
            None => self.intake.refuse(EntryReason::Undecodable { why: NO_TIME.to_owned() }),
        }
        Ok(())
    }

    fn metadata(&mut self, mut pair: Cursor<'b>) -> Result<(), ProtoError> {
        let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
        while let Some(key) = pair.key()? {
            match (key >> 3, key & 7) {
                (1, 2) => name = pair.bytes()?,
                (2, 2) => value = pair.bytes()?,
                _ => pair.skip_unknown(key, 1..=2)?,
            }
        }
        self.intake.metadata.push(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
        Ok(())
    }
}

const NO_TIME: &str = "an entry has no timestamp";

/// The seconds that a `google.protobuf.Timestamp` may hold: the years 1 to 9999.
const SECONDS: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

/// Nanoseconds since 1970; what lies beyond their reach (the years 1677 and 2262) becomes its end.
fn timestamp(mut message: Cursor<'_>) -> Result<i64, Fault> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    while let Some(key) = message.key()? {
        match (key >> 3, key & 7) {
            (1, 0) => seconds = message.int64()?,
            (2, 0) => nanos = message.int32()?,
            _ => message.skip_unknown(key, 1..=2)?,
        }
    }
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        let why = format!("a timestamp is out of range: {seconds} s, {nanos} ns");
        return Err(DecodeError::malformed(MESSAGE, why).into());
    }
    let exact = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Ok(exact.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}
