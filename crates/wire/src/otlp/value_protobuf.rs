//! `KeyValue` and `AnyValue` of OpenTelemetry's common protobuf messages.

use pilothouse_model::limits::OTLP_DEPTH;

use super::words::Value;
use crate::DecodeError;
use crate::decoded::{Fault, Quota};
use crate::proto::{Cursor, ProtoError};

/// A `KeyValue`.
pub(super) fn read_pair(
    mut pair: Cursor<'_>,
    quota: &mut Quota,
    depth: u32,
) -> Result<(String, Value), Fault> {
    quota.take_samples(1)?;
    let (mut name, mut value) = (String::new(), Value::Empty);
    while let Some(key) = pair.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => name = pair.text()?,
            (2, 2) => value = read_value(pair.message()?, quota, depth)?,
            _ => pair.skip_unknown(key, 1..=2)?,
        }
    }
    Ok((name, value))
}

/// An `AnyValue`.
pub(super) fn read_value(mut message: Cursor<'_>, quota: &mut Quota, depth: u32) -> Result<Value, Fault> {
    if depth > OTLP_DEPTH {
        return Err(DecodeError::malformed("AnyValue", "an attribute's value is nested too deeply").into());
    }
    quota.take_samples(1)?;
    let mut value = Value::Empty;
    while let Some(key) = message.key()? {
        value = match (key >> 3, key & 7) {
            (1, 2) => Value::Text(message.text()?),
            (2, 0) => Value::Bool(message.varint()? != 0),
            (3, 0) => Value::Int(message.int64()?),
            (4, 1) => Value::Double(message.double()?),
            (5, 2) => read_list(message.message()?, quota, depth + 1)?,
            (6, 2) => read_map(message.message()?, quota, depth + 1)?,
            (7, 2) => Value::Bytes(message.bytes()?.to_vec()),
            _ => {
                message.skip_unknown(key, 1..=7)?;
                continue;
            }
        };
    }
    Ok(value)
}

fn read_list(mut message: Cursor<'_>, quota: &mut Quota, depth: u32) -> Result<Value, Fault> {
    let mut values = Vec::new();
    while let Some(key) = message.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => values.push(read_value(message.message()?, quota, depth)?),
            _ => message.skip_unknown(key, 1..=1)?,
        }
    }
    Ok(Value::List(values))
}

fn read_map(mut message: Cursor<'_>, quota: &mut Quota, depth: u32) -> Result<Value, Fault> {
    let mut pairs = Vec::new();
    while let Some(key) = message.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => pairs.push(read_pair(message.message()?, quota, depth)?),
            _ => message.skip_unknown(key, 1..=1)?,
        }
    }
    Ok(Value::Map(pairs))
}

pub(super) fn fixed64(cursor: &mut Cursor<'_>) -> Result<u64, ProtoError> {
    Ok(cursor.double()?.to_bits())
}
