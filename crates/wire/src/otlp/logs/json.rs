//! The JSON form (OTLP/JSON).

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::super::value_json::{AnyValue, List, Number, Pair, elements, read_object};
use super::super::words;
use super::{Attributes, MESSAGE, Record, Scope, Translation};
use crate::DecodeError;
use crate::decoded::Quota;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, default, alias = "resource_logs")]
    resource_logs: List<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "scope_logs")]
    scope_logs: List<'a>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    attributes: List<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    #[serde(borrow, default)]
    scope: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "log_records")]
    log_records: List<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyScope<'a> {
    name: Option<String>,
    version: Option<String>,
    #[serde(borrow, default)]
    attributes: List<'a>,
    #[serde(default, alias = "dropped_attributes_count")]
    dropped_attributes_count: Number<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyRecord<'a> {
    #[serde(default, alias = "time_unix_nano")]
    time_unix_nano: Number<u64>,
    #[serde(default, alias = "observed_time_unix_nano")]
    observed_time_unix_nano: Number<u64>,
    #[serde(default, alias = "severity_number")]
    severity_number: Severity,
    #[serde(alias = "severity_text")]
    severity_text: Option<String>,
    body: Option<AnyValue>,
    #[serde(borrow, default)]
    attributes: List<'a>,
    #[serde(default, alias = "dropped_attributes_count")]
    dropped_attributes_count: Number<u32>,
    #[serde(default)]
    flags: Number<u32>,
    #[serde(alias = "trace_id")]
    trace_id: Option<String>,
    #[serde(alias = "span_id")]
    span_id: Option<String>,
    #[serde(alias = "event_name")]
    event_name: Option<String>,
}

pub(super) fn read_request(body: &[u8], to: &mut Translation<'_>) -> Result<(), DecodeError> {
    let text = String::from_utf8_lossy(body);
    // As in Loki, `null` is a request without anything in it.
    let request = read_object::<Request<'_>>(&text)?.unwrap_or_default();
    for resource_logs in elements(&request.resource_logs) {
        let Some(logs) = read_object::<ResourceLogs<'_>>(resource_logs.get())? else { continue };
        let resource = logs.resource.map(|r| read_object::<Resource<'_>>(r.get())).transpose()?.flatten();
        let resource = resource.map(|r| attributes(&r.attributes, &mut to.intake.quota)).transpose()?;
        to.begin_resource(resource.unwrap_or_default())?;
        for scope_logs in elements(&logs.scope_logs) {
            if let Some(scope_logs) = read_object(scope_logs.get())? {
                walk_scope(scope_logs, to)?;
            }
        }
    }
    Ok(())
}

fn walk_scope(logs: ScopeLogs<'_>, to: &mut Translation<'_>) -> Result<(), DecodeError> {
    let scope = logs.scope.map(|scope| read_object::<AnyScope<'_>>(scope.get())).transpose()?.flatten();
    let scope = scope.map(|scope| scope.into_words(&mut to.intake.quota)).transpose()?;
    to.begin_scope(scope.unwrap_or_default())?;
    for record in elements(&logs.log_records) {
        let record: Option<AnyRecord<'_>> = read_object(record.get())?;
        walk_record(record.unwrap_or_default(), to)?;
    }
    Ok(())
}

impl AnyScope<'_> {
    fn into_words(self, quota: &mut Quota) -> Result<Scope, DecodeError> {
        Ok(Scope {
            attributes: attributes(&self.attributes, quota)?,
            name: self.name.unwrap_or_default(),
            version: self.version.unwrap_or_default(),
            dropped_attributes: self.dropped_attributes_count.0,
        })
    }
}

fn walk_record(record: AnyRecord<'_>, to: &mut Translation<'_>) -> Result<(), DecodeError> {
    let line = record.body.map(|body| Ok(body.into_words()?.into_text())).transpose()?.unwrap_or_default();
    let id = |text: Option<String>, bytes: usize| {
        let text = text.unwrap_or_default();
        words::from_hex(&text)
            .filter(|id| id.is_empty() || id.len() == bytes)
            .ok_or_else(|| DecodeError::malformed(MESSAGE, format!("not the id of {bytes} bytes: {text:?}")))
    };
    let words = Record {
        t_ns: record.time_unix_nano.0,
        observed_ns: record.observed_time_unix_nano.0,
        severity_number: record.severity_number.0,
        severity_text: record.severity_text.unwrap_or_default(),
        attributes: attributes(&record.attributes, &mut to.intake.quota)?,
        dropped_attributes: record.dropped_attributes_count.0,
        flags: record.flags.0,
        trace_id: id(record.trace_id, 16)?,
        span_id: id(record.span_id, 8)?,
        event_name: record.event_name.unwrap_or_default(),
    };
    to.record(words, &line)
}

fn attributes(list: &List<'_>, quota: &mut Quota) -> Result<Attributes, DecodeError> {
    let each = elements(list).map(|pair| {
        quota.take_samples(1)?;
        read_object::<Pair>(pair.get())?.map(Pair::into_words).transpose()
    });
    each.filter_map(Result::transpose).collect()
}

/// A severity as its number or its name (`SEVERITY_NUMBER_WARN2`).
#[derive(Default)]
struct Severity(i64);

impl<'de> Deserialize<'de> for Severity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SeverityVisitor).map(Self)
    }
}

struct SeverityVisitor;

const NAMES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

impl Visitor<'_> for SeverityVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a severity number")
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<i64, E> {
        Ok(i64::from(n as i32))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<i64, E> {
        Ok(i64::from(n as i32))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        let unknown = || E::custom(format_args!("unknown severity number {text:?}"));
        let name = text.strip_prefix("SEVERITY_NUMBER_").ok_or_else(unknown)?;
        if name == "UNSPECIFIED" {
            return Ok(0);
        }
        let stem = name.trim_end_matches(['2', '3', '4']);
        let group = NAMES.iter().position(|n| *n == stem).ok_or_else(unknown)?;
        let within = match &name[stem.len()..] {
            "" => 1,
            "2" => 2,
            "3" => 3,
            "4" => 4,
            _ => return Err(unknown()),
        };
        Ok(4 * group as i64 + within)
    }

    fn visit_unit<E: de::Error>(self) -> Result<i64, E> {
        Ok(0)
    }
}
