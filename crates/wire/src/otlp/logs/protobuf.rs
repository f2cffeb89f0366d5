//! The protobuf form (`opentelemetry.proto.logs.v1`).

use std::borrow::Cow;

use super::super::value_protobuf::{fixed64, read_pair, read_value};
use super::{Attributes, Record, Scope, Translation};
use crate::DecodeError;
use crate::decoded::{Fault, Quota};
use crate::proto::Cursor;
use crate::proto_complaint::{Dialect, Message, bytes, fixed32, fixed64 as fixed64_field, nested, number};

// The shape of a request, for saying what is wrong with one.
static REQUEST: Message =
    Message { name: super::MESSAGE, fields: &[nested(1, "ResourceLogs", &RESOURCE_LOGS)] };
static RESOURCE_LOGS: Message = Message {
    name: "ResourceLogs",
    fields: &[nested(1, "Resource", &RESOURCE), nested(2, "ScopeLogs", &SCOPE_LOGS), bytes(3, "SchemaUrl")],
};
static RESOURCE: Message = Message {
    name: "Resource",
    fields: &[nested(1, "Attributes", &PAIR), number(2, "DroppedAttributesCount")],
};
static SCOPE_LOGS: Message = Message {
    name: "ScopeLogs",
    fields: &[nested(1, "Scope", &SCOPE), nested(2, "LogRecords", &RECORD), bytes(3, "SchemaUrl")],
};
static SCOPE: Message = Message {
    name: "InstrumentationScope",
    fields: &[
        bytes(1, "Name"),
        bytes(2, "Version"),
        nested(3, "Attributes", &PAIR),
        number(4, "DroppedAttributesCount"),
    ],
};
static RECORD: Message = Message {
    name: "LogRecord",
    fields: &[
        fixed64_field(1, "TimeUnixNano"),
        fixed64_field(11, "ObservedTimeUnixNano"),
        number(2, "SeverityNumber"),
        bytes(3, "SeverityText"),
        nested(5, "Body", &VALUE),
        nested(6, "Attributes", &PAIR),
        number(7, "DroppedAttributesCount"),
        fixed32(8, "Flags"),
        bytes(9, "TraceId"),
        bytes(10, "SpanId"),
        bytes(12, "EventName"),
    ],
};
static PAIR: Message = Message { name: "KeyValue", fields: &[bytes(1, "Key"), nested(2, "Value", &VALUE)] };
static VALUE: Message = Message {
    name: "AnyValue",
    fields: &[
        bytes(1, "StringValue"),
        number(2, "BoolValue"),
        number(3, "IntValue"),
        fixed64_field(4, "DoubleValue"),
        nested(5, "ArrayValue", &LIST),
        nested(6, "KvlistValue", &MAP),
        bytes(7, "BytesValue"),
    ],
};
static LIST: Message = Message { name: "ArrayValue", fields: &[nested(1, "Values", &VALUE)] };
static MAP: Message = Message { name: "KeyValueList", fields: &[nested(1, "Values", &PAIR)] };

pub(super) fn read_request(body: &[u8], to: &mut Translation<'_>) -> Result<(), DecodeError> {
    let mut request = Cursor::new(body);
    walk_request(&mut request, to).map_err(|fault| fault.told(Dialect::Pdata, &REQUEST, body, request.at))
}

fn walk_request(request: &mut Cursor<'_>, to: &mut Translation<'_>) -> Result<(), Fault> {
    while let Some(key) = request.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => walk_resource(request.message()?, to)?,
            _ => request.skip_unknown(key, 1..=1)?,
        }
    }
    Ok(())
}

/// The resource may stand behind its records, so a first walk looks for it.
fn walk_resource(message: Cursor<'_>, to: &mut Translation<'_>) -> Result<(), Fault> {
    let mut first = message;
    let mut attributes = Vec::new();
    while let Some(key) = first.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => attributes = read_resource(first.message()?, &mut to.intake.quota)?,
            _ => first.skip_unknown(key, 1..=1)?,
        }
    }
    to.begin_resource(attributes)?;
    let mut second = message;
    while let Some(key) = second.key()? {
        match (key >> 3, key & 7) {
            (2, 2) => walk_scope(second.message()?, to)?,
            _ => second.skip_unknown(key, 2..=2)?,
        }
    }
    Ok(())
}

fn read_resource(mut resource: Cursor<'_>, quota: &mut Quota) -> Result<Attributes, Fault> {
    let mut attributes = Vec::new();
    while let Some(key) = resource.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => attributes.push(read_pair(resource.message()?, quota, 0)?),
            _ => resource.skip_unknown(key, 1..=1)?,
        }
    }
    Ok(attributes)
}

/// The scope, too, may stand behind its records.
fn walk_scope(message: Cursor<'_>, to: &mut Translation<'_>) -> Result<(), Fault> {
    let mut first = message;
    let mut scope = Scope::default();
    while let Some(key) = first.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => scope = read_scope(first.message()?, &mut to.intake.quota)?,
            _ => first.skip_unknown(key, 1..=1)?,
        }
    }
    to.begin_scope(scope)?;
    let mut second = message;
    while let Some(key) = second.key()? {
        match (key >> 3, key & 7) {
            (2, 2) => walk_record(second.message()?, to)?,
            _ => second.skip_unknown(key, 2..=2)?,
        }
    }
    Ok(())
}

fn read_scope(mut message: Cursor<'_>, quota: &mut Quota) -> Result<Scope, Fault> {
    let mut scope = Scope::default();
    while let Some(key) = message.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => scope.name = message.text()?,
            (2, 2) => scope.version = message.text()?,
            (3, 2) => scope.attributes.push(read_pair(message.message()?, quota, 0)?),
            (4, 0) => scope.dropped_attributes = message.varint()? as u32,
            _ => message.skip_unknown(key, 1..=4)?,
        }
    }
    Ok(scope)
}

fn walk_record(mut message: Cursor<'_>, to: &mut Translation<'_>) -> Result<(), Fault> {
    let (mut record, mut body) = (Record::default(), Cow::Borrowed(""));
    let quota = &mut to.intake.quota;
    while let Some(key) = message.key()? {
        match (key >> 3, key & 7) {
            (1, 1) => record.t_ns = fixed64(&mut message)?,
            (11, 1) => record.observed_ns = fixed64(&mut message)?,
            (2, 0) => record.severity_number = message.int32()?.into(),
            (3, 2) => record.severity_text = message.text()?,
            (5, 2) => body = read_body(message.message()?, quota)?,
            (6, 2) => record.attributes.push(read_pair(message.message()?, quota, 0)?),
            (7, 0) => record.dropped_attributes = message.varint()? as u32,
            (8, 5) => record.flags = message.fixed32()?,
            (9, 2) => record.trace_id = message.bytes()?.to_vec(),
            (10, 2) => record.span_id = message.bytes()?.to_vec(),
            (12, 2) => record.event_name = message.text()?,
            (4, _) => message.skip(key)?,
            _ => message.skip_unknown(key, 1..=12)?,
        }
    }
    Ok(to.record(record, &body)?)
}

/// The body as a line. Nearly all are one string, which is not copied.
fn read_body<'b>(message: Cursor<'b>, quota: &mut Quota) -> Result<Cow<'b, str>, Fault> {
    const STRING: u32 = crate::proto::bytes_key(1);
    let mut first = message;
    if first.key()? == Some(STRING) {
        let text = first.bytes()?;
        if first.is_at_end() {
            return Ok(String::from_utf8_lossy(text));
        }
    }
    Ok(Cow::Owned(read_value(message, quota, 0)?.into_text()))
}
