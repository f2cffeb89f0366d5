//! OTLP logs as Loki takes them (`pkg/loghttp/push`, `otlplabels`): some attributes of the
//! resource become the labels of a stream, all others, those of the scope and of the record, and
//! the record's own fields become structured metadata, and the body becomes the line.
//!
//! Both readers hand over one record at a time. Entries without any time get the clock's.

mod json;
mod protobuf;

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use pilothouse_model::limits::Limits;

use super::OtlpFormat;
use super::words::{Value, hex};
use crate::DecodeError;
use crate::decoded::Quota;
use crate::logs::{Enricher, Intake, LogDecoded, StreamStart, label_name};

const MESSAGE: &str = "ExportLogsServiceRequest";

/// Takes a decompressed `ExportLogsServiceRequest` apart. As with [`crate::logs::decode`], an error
/// refuses it as a whole, `service_name` and `detected_level` are in place, and no streams mean
/// that there was no record.
pub fn decode_logs(
    format: OtlpFormat,
    body: &[u8],
    enricher: &Enricher,
    limits: &Limits,
) -> Result<LogDecoded, DecodeError> {
    let mut to = Translation::new(enricher, limits);
    match format {
        OtlpFormat::Protobuf => protobuf::read_request(body, &mut to)?,
        OtlpFormat::Json => json::read_request(body, &mut to)?,
    }
    Ok(to.intake.finish())
}

type Attributes = Vec<(String, Value)>;

/// A log record without its body. Times are nanoseconds since 1970, 0 where there is none.
#[derive(Debug, Default)]
struct Record {
    t_ns: u64,
    observed_ns: u64,
    severity_number: i64,
    severity_text: String,
    attributes: Attributes,
    dropped_attributes: u32,
    flags: u32,
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    event_name: String,
}

#[derive(Debug, Default)]
struct Scope {
    name: String,
    version: String,
    attributes: Attributes,
    dropped_attributes: u32,
}

struct Translation<'e> {
    intake: Intake<'e>,
    now_ns: u64,
    /// The stream of the resource at hand, until its first record.
    waiting: Option<StreamStart>,
    /// Metadata of the resource and of the scope at hand, names made fit.
    of_resource: Vec<(String, String)>,
    of_scope: Vec<(String, String)>,
}

impl<'e> Translation<'e> {
    fn new(enricher: &'e Enricher, limits: &Limits) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            intake: Intake::new(enricher, limits),
            now_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            waiting: None,
            of_resource: Vec::new(),
            of_scope: Vec::new(),
        }
    }

    fn begin_resource(&mut self, attributes: Attributes) -> Result<(), DecodeError> {
        let enricher = self.intake.enricher;
        let mut labels: Vec<(String, String)> = Vec::new();
        self.of_resource.clear();
        self.of_scope.clear();
        for (key, value) in attributes {
            let is_label = enricher.is_stream_attribute(&key);
            let to = if is_label { &mut labels } else { &mut self.of_resource };
            flatten("", &key, value, &mut self.intake.quota, &mut |name, value| to.push((name, value)))?;
        }
        // Of equal names the last stays, whatever its value.
        labels.reverse();
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        labels.dedup_by(|later, kept| later.0 == kept.0);
        let pairs = labels.into_iter().map(|(n, v)| (Cow::Owned(n), Cow::Owned(v))).collect();
        self.waiting = Some(StreamStart::new(pairs, enricher));
        Ok(())
    }

    fn begin_scope(&mut self, scope: Scope) -> Result<(), DecodeError> {
        self.of_scope.clear();
        let to = &mut self.of_scope;
        for (key, value) in scope.attributes {
            flatten("", &key, value, &mut self.intake.quota, &mut |name, value| to.push((name, value)))?;
        }
        let dropped = number_text(scope.dropped_attributes.into());
        let own = [
            ("scope_name", scope.name),
            ("scope_version", scope.version),
            ("scope_dropped_attributes_count", dropped),
        ];
        to.extend(own.map(|(name, value)| (name.to_owned(), value)));
        Ok(())
    }

    fn record(&mut self, record: Record, line: &str) -> Result<(), DecodeError> {
        if let Some(start) = self.waiting.take() {
            self.intake.begin_stream(start)?;
        }
        let t_ns = match (record.t_ns, record.observed_ns) {
            (0, 0) => self.now_ns,
            (0, observed) => observed,
            (t, _) => t,
        };
        self.own_metadata(record)?;
        let metadata = &mut self.intake.metadata;
        for (name, value) in self.of_resource.iter().chain(&self.of_scope) {
            metadata.push(name, value);
        }
        self.intake.entry(i64::try_from(t_ns).unwrap_or(i64::MAX), line)
    }

    fn own_metadata(&mut self, record: Record) -> Result<(), DecodeError> {
        let Intake { metadata, quota, .. } = &mut self.intake;
        for (key, value) in record.attributes {
            // The field of that name comes before the attribute.
            if key != "event_name" || record.event_name.is_empty() {
                flatten("", &key, value, quota, &mut |name, value| metadata.push(&name, &value))?;
            }
        }
        let observed = if record.t_ns == 0 { 0 } else { record.observed_ns };
        let id = |bytes: &[u8]| if bytes.iter().all(|b| *b == 0) { String::new() } else { hex(bytes) };
        for (name, value) in [
            ("observed_timestamp", number_text(i128::from(observed))),
            ("severity_number", number_text(i128::from(record.severity_number))),
            ("severity_text", record.severity_text),
            ("dropped_attributes_count", number_text(record.dropped_attributes.into())),
            ("flags", number_text(record.flags.into())),
            ("trace_id", id(&record.trace_id)),
            ("span_id", id(&record.span_id)),
            ("event_name", record.event_name),
        ] {
            if !value.is_empty() {
                metadata.push(name, &value);
            }
        }
        Ok(())
    }
}

/// A number as text; zero stands for nothing.
fn number_text(n: i128) -> String {
    if n == 0 { String::new() } else { n.to_string() }
}

/// An attribute as pairs: a map gives one for each of its leaves, named by the path. What a path
/// repeats counts against the bytes of the request.
fn flatten(
    prefix: &str,
    key: &str,
    value: Value,
    quota: &mut Quota,
    push: &mut impl FnMut(String, String),
) -> Result<(), DecodeError> {
    let joined = if prefix.is_empty() { Cow::Borrowed(key) } else { Cow::Owned(format!("{prefix}_{key}")) };
    quota.take_bytes(prefix.len())?;
    let name = label_name(&joined).into_owned();
    let Value::Map(pairs) = value else {
        push(name, value.into_text());
        return Ok(());
    };
    pairs.into_iter().try_for_each(|(key, value)| flatten(&name, &key, value, quota, push))
}
