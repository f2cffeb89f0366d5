//! The functions of Prometheus' templates.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};
use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use pilothouse_model::sample::{format_float, format_float_general};
use pilothouse_model::time::parse_duration_ms;
use pilothouse_query::template::{Time, time_method};
use pilothouse_query::units::{format_go_duration, parse_go_duration};

use super::{here, label_map, numbers, sample_value};
use crate::links;

type Answer = Result<Value, TemplateError>;

pub(super) fn all() -> FuncMap {
    let list: [(&str, ValueFunc); 31] = [
        ("query", Arc::new(query)),
        ("first", Arc::new(first)),
        ("label", Arc::new(|args| sample_label(args, |args| text_arg(args, 0).map(str::to_owned)))),
        ("strvalue", Arc::new(|args| sample_label(args, |_| Ok("__value__".to_owned())))),
        ("value", Arc::new(|args| Ok(member(last(args)?, "Value")?.clone()))),
        ("sortByLabel", Arc::new(sort_by_label)),
        ("args", Arc::new(numbered)),
        ("humanize", number_text(numbers::humanize)),
        ("humanize1024", number_text(numbers::humanize_1024)),
        ("humanizeDuration", number_text(numbers::humanize_duration)),
        ("humanizePercentage", number_text(|value| numbers::four_digits(value * 100.0) + "%")),
        ("humanizeTimestamp", Arc::new(humanize_timestamp)),
        ("toTime", Arc::new(|args| Ok(time_of(float_arg(args)?)?.to_value()))),
        ("toDuration", Arc::new(to_duration)),
        ("now", Arc::new(|_| Ok(Value::Float(here().map_or(0.0, |h| h.now_ms as f64 / 1000.0))))),
        ("title", texts(|[s]| Ok(title(s)))),
        ("toUpper", texts(|[s]| Ok(s.to_uppercase()))),
        ("toLower", texts(|[s]| Ok(s.to_lowercase()))),
        ("match", Arc::new(|args| Ok(Value::Bool(regex(text_arg(args, 0)?)?.is_match(text_arg(args, 1)?))))),
        ("reReplaceAll", texts(|[pattern, new, s]| Ok(regex(pattern)?.replace_all(s, new, false)))),
        ("stripPort", texts(|[s]| Ok(split_host_port(s).map_or(s, |(host, _)| host).to_owned()))),
        ("stripDomain", texts(|[s]| Ok(strip_domain(s)))),
        ("urlQueryEscape", texts(|[s]| Ok(links::query_escape(s)))),
        ("safeHtml", texts(|[s]| Ok(s.to_owned()))),
        ("graphLink", texts(|[expr]| Ok(links::graph(expr)))),
        ("tableLink", texts(|[expr]| Ok(links::table(expr)))),
        ("pathPrefix", Arc::new(|_| Ok(text(links::path_of(&external_url()))))),
        ("externalURL", Arc::new(|_| Ok(Value::String(external_url())))),
        ("parseDuration", Arc::new(parse_duration)),
        // The engine's own print floats as Rust does.
        ("print", Arc::new(|args| Ok(text(print_with(args, false))))),
        ("println", Arc::new(|args| Ok(text(print_with(args, true) + "\n")))),
    ];
    list.into_iter().map(|(name, function)| (name.to_owned(), function)).collect()
}

fn external_url() -> Arc<str> {
    here().map_or_else(|| Arc::from(""), |h| Arc::clone(&h.external_url))
}

// ---- arguments ----

fn failed<T>(why: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError::Exec(why.into()))
}

fn text(value: impl Into<Arc<str>>) -> Value {
    Value::String(value.into())
}

fn last(args: &[Value]) -> Result<&Value, TemplateError> {
    args.last().map_or_else(|| failed("wrong number of args: want at least 1 got 0"), Ok)
}

fn text_arg(args: &[Value], i: usize) -> Result<&str, TemplateError> {
    match args.get(i) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => failed(format!("wrong type for value; expected string; got {}", type_name(other))),
        None => failed(format!("wrong number of args: want {} got {}", i + 1, args.len())),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Float(_) => "float64",
        other => other.type_name(),
    }
}

/// One that takes texts and gives a text.
fn texts<const N: usize>(f: fn([&str; N]) -> Result<String, TemplateError>) -> ValueFunc {
    Arc::new(move |args| {
        if args.len() != N {
            return failed(format!("wrong number of args: want {N} got {}", args.len()));
        }
        let mut read = [""; N];
        for (i, slot) in read.iter_mut().enumerate() {
            *slot = text_arg(args, i)?;
        }
        Ok(text(f(read)?))
    })
}

/// A number, or a text that is one.
fn float_arg(args: &[Value]) -> Result<f64, TemplateError> {
    match last(args)? {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Uint(value) => Ok(*value as f64),
        Value::String(text) => match text.parse() {
            Ok(value) => Ok(value),
            Err(_) => failed(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
        },
        other => failed(format!("can't convert {} to float", type_name(other))),
    }
}

fn number_text(f: fn(f64) -> String) -> ValueFunc {
    Arc::new(move |args| Ok(text(f(float_arg(args)?))))
}

// ---- results of queries ----

fn query(args: &[Value]) -> Answer {
    let expr = text_arg(args, 0)?;
    let Some(here) = here() else { return failed("no query is possible here") };
    let elements = match here.query.query(expr) {
        Ok(elements) => elements,
        Err(e) => return failed(format!("error calling query: {e}")),
    };
    let samples = elements.iter().map(|element| {
        Value::from_entries([
            ("Labels".to_owned(), label_map(&element.labels)),
            ("Value".to_owned(), sample_value(&element.value)),
        ])
    });
    Ok(Value::List(samples.collect::<Vec<_>>().into()))
}

fn first(args: &[Value]) -> Answer {
    match last(args)? {
        Value::List(items) => match items.first() {
            Some(first) => Ok(first.clone()),
            None => failed("error calling first: first() called on vector with no elements"),
        },
        other => {
            failed(format!("wrong type for value; expected template.queryResult; got {}", type_name(other)))
        }
    }
}

fn member<'a>(sample: &'a Value, name: &str) -> Result<&'a Value, TemplateError> {
    match sample.field(name) {
        Some(found) => Ok(found),
        None => failed(format!("wrong type for value; expected *template.sample; got {}", type_name(sample))),
    }
}

fn label_of<'a>(sample: &'a Value, name: &str) -> Result<&'a str, TemplateError> {
    match member(sample, "Labels")?.field(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Ok(""),
    }
}

fn sample_label(args: &[Value], name: fn(&[Value]) -> Result<String, TemplateError>) -> Answer {
    Ok(text(label_of(last(args)?, &name(args)?)?))
}

fn sort_by_label(args: &[Value]) -> Answer {
    let (name, samples) = (text_arg(args, 0)?, last(args)?);
    let Value::List(items) = samples else {
        return failed("wrong type for value; expected template.queryResult");
    };
    let mut keyed = Vec::with_capacity(items.len());
    for item in items.iter() {
        keyed.push((label_of(item, name)?.to_owned(), item.clone()));
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::List(keyed.into_iter().map(|(_, item)| item).collect::<Vec<_>>().into()))
}

fn numbered(args: &[Value]) -> Answer {
    let entries = args.iter().enumerate().map(|(i, value)| (Arc::from(format!("arg{i}")), value.clone()));
    Ok(Value::Map(Arc::new(entries.collect::<BTreeMap<_, _>>())))
}

// ---- times ----

fn time_of(seconds: f64) -> Result<Time, TemplateError> {
    if !seconds.is_finite() {
        return failed("value is NaN or Inf");
    }
    let ns = seconds * 1e9;
    if ns >= i64::MAX as f64 || ns <= i64::MIN as f64 {
        let shown = format_float_general(seconds);
        return failed(format!(
            "{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"
        ));
    }
    // Prometheus' times are whole milliseconds, rounded towards zero.
    Ok(Time::from_ns(ns as i64 / 1_000_000 * 1_000_000))
}

fn humanize_timestamp(args: &[Value]) -> Answer {
    let value = float_arg(args)?;
    if !value.is_finite() {
        return Ok(text(format_float(value)));
    }
    Ok(text(time_of(value)?.to_string()))
}

/// As a text in Go's form, which has a duration's methods.
fn to_duration(args: &[Value]) -> Answer {
    let ns = float_arg(args)? * 1e9;
    Ok(text(format_go_duration(ns as i64)))
}

fn parse_duration(args: &[Value]) -> Answer {
    let given = text_arg(args, 0)?;
    let (sign, positive) = given.strip_prefix('-').map_or((1.0, given), |rest| (-1.0, rest));
    match parse_duration_ms(positive) {
        Ok(ms) => Ok(Value::Float(sign * ms as f64 / 1000.0)),
        Err(e) => failed(format!("error calling parseDuration: {e}")),
    }
}

/// Methods of times and durations.
pub(super) fn method(value: &Value, name: &str, args: &[Value]) -> Option<Answer> {
    if let Value::String(duration) = value {
        return duration_method(parse_go_duration(duration).ok()?, name);
    }
    if let Value::Map(fields) = value
        && matches!(fields.get("Labels"), Some(Value::Map(_)))
        && !fields.contains_key(name)
    {
        return Some(failed(format!("can't evaluate field {name} in type struct")));
    }
    time_method(value, name, args)
}

fn duration_method(ns: i64, name: &str) -> Option<Answer> {
    let whole = |unit: i64| Some(Ok(Value::Int(ns / unit)));
    let parts = |unit: f64| Some(Ok(Value::Float(ns as f64 / unit)));
    match name {
        "Nanoseconds" => whole(1),
        "Microseconds" => whole(1_000),
        "Milliseconds" => whole(1_000_000),
        "Seconds" => parts(1e9),
        "Minutes" => parts(60e9),
        "Hours" => parts(3600e9),
        "String" => Some(Ok(text(format_go_duration(ns)))),
        _ => None,
    }
}

// ---- texts ----

fn regex(pattern: &str) -> Result<CapturingPattern, TemplateError> {
    CapturingPattern::new(pattern, Anchoring::Part).map_err(|e| TemplateError::Exec(e.to_string()))
}

/// The first letter of each word in capitals, the others as they are; words as Unicode has them,
/// so that an apostrophe begins none.
fn title(s: &str) -> String {
    let mut in_word = false;
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        let is_letter = c.is_alphanumeric() || c == '_';
        if is_letter && !in_word {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        in_word = is_letter || (in_word && matches!(c, '\'' | '\u{2019}' | '.' | ':' | '\u{b7}'));
    }
    out
}

/// Host and port of `host:port` or `[host]:port`.
fn split_host_port(s: &str) -> Option<(&str, &str)> {
    if let Some(rest) = s.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        return (!host.contains(['[', ']']) && !port.contains([':', '[', ']'])).then_some((host, port));
    }
    let (host, port) = s.rsplit_once(':')?;
    (!host.contains([':', '[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

fn strip_domain(s: &str) -> String {
    let (host, port) = split_host_port(s).unwrap_or((s, ""));
    if host.parse::<IpAddr>().is_ok() {
        return s.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    match (port.is_empty(), host.contains(':')) {
        (true, _) => host.to_owned(),
        (false, true) => format!("[{host}]:{port}"),
        (false, false) => format!("{host}:{port}"),
    }
}

/// Go's `Sprint` and, with blanks everywhere, `Sprintln`.
fn print_with(args: &[Value], line: bool) -> String {
    let is_text = |value: &Value| matches!(value, Value::String(_));
    let mut out = String::new();
    for (i, value) in args.iter().enumerate() {
        if i > 0 && (line || (!is_text(value) && !is_text(&args[i - 1]))) {
            out.push(' ');
        }
        out.push_str(&pilothouse_query::template::display(value));
    }
    out
}
