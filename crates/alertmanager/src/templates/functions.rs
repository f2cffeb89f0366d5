//! Alertmanager's functions.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use gotmpl::{FuncMap, SafeKind, TemplateError, Value, ValueFunc};
use pilothouse_model::matcher::{Anchoring, CapturingPattern, Pattern};
use pilothouse_query::template::{Time, Zoned, bounded, sprintf};

use super::data::{self, print, text};
use super::time;
use super::{data::to_json, duration};

type Answer = Result<Value, TemplateError>;

/// One step of a path.
pub(super) const GET: &str = "\u{1}get";
/// What every printed value passes through.
pub(super) const PRINT: &str = "\u{1}print";
/// The engine's own.
const BUILTIN: [&str; 20] = [
    "and", "or", "not", "len", "index", "slice", "print", "println", "printf", "eq", "ne", "lt", "le", "gt",
    "ge", "html", "js", "urlquery", "call", "break",
];

pub(super) fn is_function(name: &str) -> bool {
    BUILTIN.contains(&name) || FUNCTIONS.contains_key(name)
}

pub(super) fn functions() -> FuncMap {
    FUNCTIONS.clone()
}

fn failed(why: impl std::fmt::Display) -> TemplateError {
    TemplateError::Exec(why.to_string())
}

fn text_of(value: &Value) -> Result<&str, TemplateError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Safe { s, .. } => Ok(s),
        other => Err(failed(format!("wrong type for value; expected string; got {}", other.type_name()))),
    }
}

fn escape(escape: fn(&str) -> String) -> ValueFunc {
    Arc::new(move |args| match args {
        [Value::Nil] => Ok(text(&escape("<no value>"))),
        [one] => Ok(text(&text_of(one).map_or_else(|_| escape(&print(one)), escape))),
        _ => Err(failed(format!("wrong number of args: want 1 got {}", args.len()))),
    })
}

/// A function of so many texts.
fn texts<const N: usize>(f: fn([&str; N]) -> Answer) -> ValueFunc {
    Arc::new(move |args| {
        if args.len() != N {
            return Err(failed(format!("wrong number of args: want {N} got {}", args.len())));
        }
        let mut read = [""; N];
        for (slot, arg) in read.iter_mut().zip(args) {
            *slot = text_of(arg)?;
        }
        f(read)
    })
}

static FUNCTIONS: LazyLock<FuncMap> = LazyLock::new(|| {
    let safe = |kind: SafeKind| -> ValueFunc {
        Arc::new(move |args| {
            let [arg] = args else { return Err(failed("wrong number of args: want 1")) };
            Ok(Value::Safe { kind, s: Arc::from(text_of(arg)?) })
        })
    };
    let list: [(&str, ValueFunc); 34] = [
        (GET, Arc::new(data::get)),
        (PRINT, Arc::new(|args| Ok(printed(args.last())))),
        ("index", Arc::new(index)),
        ("print", Arc::new(|args| Ok(text(&print_all(args))))),
        ("printf", Arc::new(printf)),
        ("toUpper", texts(|[s]| Ok(text(&s.to_uppercase())))),
        ("toLower", texts(|[s]| Ok(text(&s.to_lowercase())))),
        ("title", texts(|[s]| Ok(text(&title(s))))),
        ("trimSpace", texts(|[s]| Ok(text(s.trim())))),
        ("join", Arc::new(join)),
        ("match", texts(|[pattern, s]| Ok(Value::Bool(pattern_of(pattern)?.is_match(s))))),
        ("safeHtml", safe(SafeKind::Html)),
        ("safeUrl", safe(SafeKind::Url)),
        ("urlUnescape", texts(|[s]| url_unescape(s))),
        (
            "reReplaceAll",
            texts(|[pattern, new, s]| {
                let regex = CapturingPattern::new(pattern, Anchoring::Part).map_err(failed)?;
                Ok(text(&regex.replace_all(s, new, false)))
            }),
        ),
        ("stringSlice", Arc::new(|args| Ok(Value::List(args.to_vec().into())))),
        ("routeLabels", texts(|[_]| Ok(text("")))),
        ("date", Arc::new(date)),
        ("tz", Arc::new(tz)),
        ("now", Arc::new(|_| Ok(time::to_value(&now())))),
        ("since", Arc::new(since)),
        ("humanizeDuration", Arc::new(humanize_duration)),
        (
            "toDate",
            texts(|[layout, s]| {
                Ok(time::to_value(&to_date(layout, s).unwrap_or_else(|| time::from_ms(time::ZERO_MS))))
            }),
        ),
        (
            "mustToDate",
            texts(|[layout, s]| match to_date(layout, s) {
                Some(time) => Ok(time::to_value(&time)),
                None => Err(failed(format!("parsing time {s:?} as {layout:?}: cannot parse"))),
            }),
        ),
        (
            "toJson",
            Arc::new(|args| match args {
                [value] => Ok(text(&go_json(value))),
                _ => Err(failed("wrong number of args for toJson: want 1")),
            }),
        ),
        ("base64encode", texts(|[s]| Ok(text(&BASE64_URL_SAFE.encode(s))))),
        (
            "base64decode",
            texts(|[s]| {
                let bytes = BASE64_URL_SAFE.decode(s).map_err(|_| failed("illegal base64 data"))?;
                Ok(text(&String::from_utf8_lossy(&bytes)))
            }),
        ),
        ("list", Arc::new(|args| Ok(Value::List(args.to_vec().into())))),
        ("append", Arc::new(append)),
        // The engine's own, within the bounds of all others.
        ("html", escape(gotmpl::html_escape)),
        ("js", escape(gotmpl::js_escape)),
        ("urlquery", escape(gotmpl::url_encode)),
        ("dict", Arc::new(dict)),
        ("println", Arc::new(|args| Ok(text(&format!("{}\n", data::join(args, " ")))))),
    ];
    bounded(list.into_iter().map(|(name, function)| (name.to_owned(), function)).collect())
});

/// A value on its way out. What is trusted stays so, for the escaping that follows.
fn printed(value: Option<&Value>) -> Value {
    match value {
        None => text(""),
        Some(safe @ Value::Safe { .. }) => safe.clone(),
        Some(value) => text(&print(value)),
    }
}

/// Go's `fmt.Sprint`: a blank between operands that are both no texts.
fn print_all(args: &[Value]) -> String {
    let is_text = |v: &Value| matches!(v, Value::String(_));
    let mut out = String::new();
    let mut before: Option<&Value> = None;
    for value in args {
        if before.is_some_and(|b| !is_text(b) && !is_text(value)) {
            out.push(' ');
        }
        out.push_str(&print(value));
        before = Some(value);
    }
    out
}

/// The engine's `index`, but a name that is missing is empty, and a structure has fields.
fn index(args: &[Value]) -> Answer {
    let Some((first, path)) = args.split_first() else {
        return Err(failed("wrong number of args for index: want at least 1 got 0"));
    };
    path.iter().try_fold(first.clone(), |value, key| match (&value, value.index(key)?) {
        (Value::Map(_), Value::Nil) => Ok(text("")),
        (_, found) => Ok(found),
    })
}

fn pattern_of(pattern: &str) -> Result<Pattern, TemplateError> {
    Pattern::new(pattern, Anchoring::Part).map_err(failed)
}

/// Each word with its first letter in capitals and the others small.
fn title(s: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || (inside && c == '\'');
    }
    out
}

fn join(args: &[Value]) -> Answer {
    match args {
        [separator, Value::List(items)] => Ok(text(&data::join(items, text_of(separator)?))),
        [_, other] => {
            Err(failed(format!("wrong type for value; expected []string; got {}", other.type_name())))
        }
        _ => Err(failed("wrong number of args for join: want 2")),
    }
}

fn url_unescape(s: &str) -> Answer {
    let mut bad = s.match_indices('%').map(|(at, _)| s.get(at + 1..at + 3).unwrap_or(""));
    if let Some(digits) = bad.find(|d| d.len() < 2 || !d.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(failed(format!("invalid URL escape \"%{digits}\"")));
    }
    // One name without a value.
    let escaped = s.replace('=', "%3D").replace('&', "%26");
    let decoded = form_urlencoded::parse(escaped.as_bytes()).map(|(name, _)| name.into_owned()).next();
    Ok(text(&decoded.unwrap_or_default()))
}

fn time_of(value: Option<&Value>) -> Result<Zoned, TemplateError> {
    value.and_then(time::from_value).ok_or_else(|| failed("wrong type for value; expected time.Time"))
}

fn date(args: &[Value]) -> Answer {
    let layout = args.first().ok_or_else(|| failed("wrong number of args for date: want 2"))?;
    Ok(text(&time_of(args.get(1))?.format(text_of(layout)?)))
}

fn tz(args: &[Value]) -> Answer {
    let name = text_of(args.first().ok_or_else(|| failed("wrong number of args for tz: want 2"))?)?;
    let time = time_of(args.get(1))?;
    time.in_zone(name).map(|t| time::to_value(&t)).ok_or_else(|| failed(format!("unknown time zone {name}")))
}

fn now() -> Zoned {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Zoned::utc(Time { seconds, nanos: since.subsec_nanos() })
}

fn since(args: &[Value]) -> Answer {
    let then = time_of(args.first())?;
    Ok(duration::to_value(now().nanos_since(&then)))
}

fn humanize_duration(args: &[Value]) -> Answer {
    let seconds = match args {
        [Value::Int(n)] => *n as f64,
        [Value::Uint(n)] => *n as f64,
        [Value::Float(f)] => *f,
        [Value::String(s)] => {
            s.parse().map_err(|_| failed(format!("strconv.ParseFloat: parsing {s:?}: invalid syntax")))?
        }
        [value] => match duration::from_value(value) {
            Some(ns) => ns as f64 / 1e9,
            None => return Err(failed(format!("can't convert {} to float", value.type_name()))),
        },
        _ => return Err(failed("wrong number of args for humanizeDuration: want 1")),
    };
    Ok(text(&duration::humanize(seconds)))
}

fn to_date(layout: &str, s: &str) -> Option<Zoned> {
    Zoned::parse(layout, s)
}

/// JSON as Go writes it: what HTML could read is escaped.
fn go_json(value: &Value) -> String {
    let json = to_json(value).to_string();
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn printf(args: &[Value]) -> Answer {
    let (format, values) =
        args.split_first().ok_or_else(|| failed("wrong number of args for printf: want at least 1"))?;
    let values: Vec<Value> = values.iter().map(formattable).collect();
    Ok(text(&sprintf(text_of(format)?, &values)))
}

/// What has a form of its own here is formatted as a text.
fn formattable(value: &Value) -> Value {
    match value {
        Value::Safe { s, .. } => Value::String(Arc::clone(s)),
        Value::Map(_) => text(&print(value)),
        Value::List(items) if matches!(items.first(), Some(Value::Map(_))) => text(&print(value)),
        other => other.clone(),
    }
}

fn append(args: &[Value]) -> Answer {
    match args.split_first() {
        Some((Value::List(items), more)) => {
            Ok(Value::List(items.iter().chain(more).cloned().collect::<Vec<_>>().into()))
        }
        _ => Err(failed("wrong type for value; expected []interface {}")),
    }
}

fn dict(args: &[Value]) -> Answer {
    if !args.len().is_multiple_of(2) {
        return Err(failed("dict requires an even number of arguments"));
    }
    let mut map = BTreeMap::new();
    for pair in args.chunks_exact(2) {
        let [Value::String(name), value] = pair else { return Err(failed("dict keys must be strings")) };
        map.insert(Arc::clone(name), value.clone());
    }
    Ok(Value::Map(Arc::new(map)))
}
