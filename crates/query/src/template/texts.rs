//! Functions on texts.

use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};
use pilothouse_model::limits::TEMPLATE_TEXT_BYTES;
use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use pilothouse_model::sample::format_float_general;

use super::bounded::{LONGEST, check, give};
use super::{int_arg, need_args, text_arg};

type Answer = Result<Value, TemplateError>;

fn text(value: impl Into<Arc<str>>) -> Value {
    Value::String(value.into())
}

fn failed(why: impl std::fmt::Display) -> TemplateError {
    TemplateError::Exec(why.to_string())
}

/// Values as Go prints them: floats by `%v`, times by their own text, a missing one as
/// `<no value>`.
pub(super) fn print(args: &[Value]) -> String {
    args.last().map_or_else(String::new, |value| match value {
        Value::Nil => "<no value>".to_owned(),
        Value::String(text) => text.to_string(),
        other => plain(other),
    })
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Float(f) => format_float_general(*f),
        Value::List(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Map(map) => match super::Zoned::from_value(value) {
            Some(time) => time.to_string(),
            None => {
                let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect();
                format!("map[{}]", pairs.join(" "))
            }
        },
        other => other.to_string(),
    }
}

fn regex(pattern: &str) -> Result<CapturingPattern, TemplateError> {
    CapturingPattern::new(pattern, Anchoring::Part).map_err(failed)
}

/// Name and function of one that takes texts and gives a text.
fn texts<const N: usize>(f: fn([&str; N]) -> String) -> ValueFunc {
    Arc::new(move |args| {
        need_args(args, N)?;
        let mut read = [""; N];
        for (i, slot) in read.iter_mut().enumerate() {
            *slot = text_arg(args, i)?;
        }
        Ok(text(f(read)))
    })
}

fn test(f: fn(&str, &str) -> bool) -> ValueFunc {
    Arc::new(move |args| {
        need_args(args, 2)?;
        Ok(Value::Bool(f(text_arg(args, 0)?, text_arg(args, 1)?)))
    })
}

/// One that takes a number and a text and gives a text.
fn sized(f: fn(i64, &str) -> Result<String, TemplateError>) -> ValueFunc {
    Arc::new(move |args| {
        need_args(args, 2)?;
        Ok(text(f(int_arg(args, 0)?, text_arg(args, 1)?)?))
    })
}

/// Functions on texts, with the names and orders of arguments of Go's `strings` (capitals,
/// subject first) and of Sprig (subject last).
pub(super) fn text_functions() -> FuncMap {
    let list: [(&str, ValueFunc); 38] = [
        ("ToLower", texts(|[s]| s.to_lowercase())),
        ("ToUpper", texts(|[s]| s.to_uppercase())),
        ("Replace", Arc::new(replace_n)),
        ("Trim", texts(|[s, cut]| s.trim_matches(|c| cut.contains(c)).to_owned())),
        ("TrimLeft", texts(|[s, cut]| s.trim_start_matches(|c| cut.contains(c)).to_owned())),
        ("TrimRight", texts(|[s, cut]| s.trim_end_matches(|c| cut.contains(c)).to_owned())),
        ("TrimPrefix", texts(|[s, prefix]| s.strip_prefix(prefix).unwrap_or(s).to_owned())),
        ("TrimSuffix", texts(|[s, suffix]| s.strip_suffix(suffix).unwrap_or(s).to_owned())),
        ("TrimSpace", texts(|[s]| s.trim().to_owned())),
        ("lower", texts(|[s]| s.to_lowercase())),
        ("upper", texts(|[s]| s.to_uppercase())),
        ("title", texts(|[s]| title(s))),
        ("trim", texts(|[s]| s.trim().to_owned())),
        ("trimAll", texts(|[cut, s]| s.trim_matches(|c| cut.contains(c)).to_owned())),
        ("trimPrefix", texts(|[prefix, s]| s.strip_prefix(prefix).unwrap_or(s).to_owned())),
        ("trimSuffix", texts(|[suffix, s]| s.strip_suffix(suffix).unwrap_or(s).to_owned())),
        ("replace", Arc::new(replace)),
        ("contains", test(|part, s| s.contains(part))),
        ("hasPrefix", test(|prefix, s| s.starts_with(prefix))),
        ("hasSuffix", test(|suffix, s| s.ends_with(suffix))),
        ("trunc", sized(|n, s| Ok(truncated(n, s)))),
        ("indent", sized(indented)),
        ("nindent", sized(|n, s| Ok(format!("\n{}", indented(n, s)?)))),
        ("repeat", sized(repeated)),
        ("alignLeft", sized(|n, s| aligned(n, s, false))),
        ("alignRight", sized(|n, s| aligned(n, s, true))),
        ("substr", Arc::new(substring)),
        ("regexReplaceAll", Arc::new(|args| replace_regex(args, false))),
        ("regexReplaceAllLiteral", Arc::new(|args| replace_regex(args, true))),
        ("count", Arc::new(count)),
        ("urlencode", texts(|[s]| url_encode(s))),
        ("urldecode", Arc::new(url_decode)),
        ("b64enc", texts(|[s]| base64_encode(s.as_bytes()))),
        ("b64dec", texts(|[s]| base64_decode(s))),
        ("fromJson", Arc::new(from_json)),
        ("default", Arc::new(default)),
        // The engine's own would print floats as Rust does.
        ("print", Arc::new(|args| Ok(text(print_all(args))))),
        ("println", Arc::new(|args| Ok(text(print_line(args))))),
    ];
    list.into_iter().map(|(name, function)| (name.to_owned(), function)).collect()
}

/// Go's `fmt.Sprint`: a blank between operands that are both no texts.
pub(super) fn print_all(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in args.iter().enumerate() {
        let is_text = |v: &Value| matches!(v, Value::String(_));
        if i > 0 && !is_text(value) && !is_text(&args[i - 1]) {
            out.push(' ');
        }
        out.push_str(&match value {
            Value::String(text) => text.to_string(),
            other => plain(other),
        });
    }
    out
}

/// Go's `fmt.Sprintln`: a blank between all operands, and a line feed.
fn print_line(args: &[Value]) -> String {
    let shown: Vec<String> = args.iter().map(super::display).collect();
    shown.join(" ") + "\n"
}

/// Fails where replacing so often would make too long a text.
fn check_replaced(s: &str, times: usize, new: &str) -> Result<(), TemplateError> {
    check(times.saturating_mul(new.len()).saturating_add(s.len()))
}

fn replace(args: &[Value]) -> Answer {
    need_args(args, 3)?;
    let (old, new, s) = (text_arg(args, 0)?, text_arg(args, 1)?, text_arg(args, 2)?);
    check_replaced(s, s.matches(old).count(), new)?;
    Ok(text(s.replace(old, new)))
}

fn replace_n(args: &[Value]) -> Answer {
    need_args(args, 4)?;
    let (s, old, new, n) = (text_arg(args, 0)?, text_arg(args, 1)?, text_arg(args, 2)?, int_arg(args, 3)?);
    let times = s.matches(old).count().min(usize::try_from(n).unwrap_or(usize::MAX));
    check_replaced(s, times, new)?;
    Ok(text(match usize::try_from(n) {
        Ok(n) => s.replacen(old, new, n),
        Err(_) => s.replace(old, new),
    }))
}

/// Go's `strings.Title`: the first letter of each word in capitals.
fn title(s: &str) -> String {
    let mut start = true;
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        start = if c.is_ascii() { !(c.is_ascii_alphanumeric() || c == '_') } else { c.is_whitespace() };
    }
    out
}

/// The first `n` bytes, or the last `-n`.
fn truncated(n: i64, s: &str) -> String {
    let length = s.len() as i64;
    let bytes = s.as_bytes();
    if n < 0 && length + n > 0 {
        return from_bytes(&bytes[(length + n) as usize..]);
    }
    if n >= 0 && length > n {
        return from_bytes(&bytes[..n as usize]);
    }
    s.to_owned()
}

/// Bytes that are no letter become one U+FFFD each, as Go has it.
fn from_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}

fn indented(n: i64, s: &str) -> Result<String, TemplateError> {
    let blanks = repeated(n, " ")?;
    Ok(format!("{blanks}{}", s.replace('\n', &format!("\n{blanks}"))))
}

fn repeated(n: i64, s: &str) -> Result<String, TemplateError> {
    let n = usize::try_from(n).map_err(|_| failed("strings: negative Repeat count"))?;
    if n.saturating_mul(s.len()) > TEMPLATE_TEXT_BYTES {
        return Err(failed("repeated text is too long"));
    }
    Ok(s.repeat(n))
}

/// Padded with blanks, or cut, to a number of characters.
fn aligned(n: i64, s: &str, right: bool) -> Result<String, TemplateError> {
    let Ok(width) = usize::try_from(n) else { return Ok(s.to_owned()) };
    let length = s.chars().count();
    if width > TEMPLATE_TEXT_BYTES {
        return Err(failed("aligned text is too long"));
    }
    Ok(match (length < width, right) {
        (true, true) => format!("{}{s}", " ".repeat(width - length)),
        (true, false) => format!("{s}{}", " ".repeat(width - length)),
        (false, true) => s.chars().skip(length - width).collect(),
        (false, false) => s.chars().take(width).collect(),
    })
}

fn substring(args: &[Value]) -> Answer {
    need_args(args, 3)?;
    let (start, end, s) = (int_arg(args, 0)?, int_arg(args, 1)?, text_arg(args, 2)?);
    let length = s.len() as i64;
    let (from, to) = match (start < 0, end < 0 || end > length) {
        (true, _) => (0, end),
        (false, true) => (start, length),
        (false, false) => (start, end),
    };
    if from < 0 || to < from || to > length {
        return Err(failed(format!("slice bounds out of range [{from}:{to}]")));
    }
    Ok(text(from_bytes(&s.as_bytes()[from as usize..to as usize])))
}

fn replace_regex(args: &[Value], literal: bool) -> Answer {
    need_args(args, 3)?;
    let (regex, s, new) = (regex(text_arg(args, 0)?)?, text_arg(args, 1)?, text_arg(args, 2)?);
    // What is captured lies apart, so that each reference gives no more than the whole text in all.
    let references = if literal { 0 } else { new.matches('$').count() };
    let most = s.len().saturating_mul(references).saturating_add((s.len() + 1).saturating_mul(new.len()));
    if most > LONGEST {
        check(s.len().saturating_mul(references))?;
        check_replaced(s, regex.count(s), new)?;
    }
    Ok(text(regex.replace_all(s, new, literal)))
}

fn count(args: &[Value]) -> Answer {
    need_args(args, 2)?;
    Ok(Value::Int(regex(text_arg(args, 0)?)?.count(text_arg(args, 1)?) as i64))
}

fn url_encode(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for b in s.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn url_decode(args: &[Value]) -> Answer {
    need_args(args, 1)?;
    let s = text_arg(args, 0)?;
    let mut out = Vec::with_capacity(s.len());
    let mut rest = s.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let code = tail
                    .get(..2)
                    .and_then(|h| std::str::from_utf8(h).ok())
                    .filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
                let Some(byte) = code.and_then(|h| u8::from_str_radix(h, 16).ok()) else {
                    let shown = String::from_utf8_lossy(&tail[..tail.len().min(2)]);
                    return Err(failed(format!("invalid URL escape \"%{shown}\"")));
                };
                out.push(byte);
                rest = &tail[2..];
            }
            b => out.push(*b),
        }
    }
    Ok(text(String::from_utf8_lossy(&out).into_owned()))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Padding is optional. What is no base64 becomes Go's message about it.
fn base64_decode(s: &str) -> String {
    let digits = s.trim_end_matches('=');
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0u32);
    for (i, b) in digits.bytes().enumerate() {
        let Some(value) = BASE64.iter().position(|d| *d == b) else {
            return format!("illegal base64 data at input byte {i}");
        };
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if digits.len() % 4 == 1 {
        return format!("illegal base64 data at input byte {}", digits.len() - 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn from_json(args: &[Value]) -> Answer {
    need_args(args, 1)?;
    // A value takes some ten times its text.
    give(text_arg(args, 0)?.len().saturating_mul(10))?;
    Ok(serde_json::from_str(text_arg(args, 0)?).map_or(Value::Nil, json_value))
}

/// Numbers are floats, as Go's decoder makes them.
fn json_value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(s) => text(s),
        serde_json::Value::Array(items) => {
            Value::List(items.into_iter().map(json_value).collect::<Vec<_>>().into())
        }
        serde_json::Value::Object(map) => {
            Value::Map(Arc::new(map.into_iter().map(|(k, v)| (Arc::from(k), json_value(v))).collect()))
        }
    }
}

fn default(args: &[Value]) -> Answer {
    let given = args.get(1).filter(|v| v.is_truthy()).or(args.first());
    given.cloned().ok_or_else(|| failed("wrong number of args for default: want at least 1 got 0"))
}
