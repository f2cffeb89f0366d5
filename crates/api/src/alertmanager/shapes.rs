//! Times, filters and bodies as version 2 reads and writes them.

use std::sync::LazyLock;

use http::{StatusCode, header};
use jiff::Timestamp;
use pilothouse_alertmanager::matchers::{self, MatcherError};
use pilothouse_model::matcher::{Anchoring, Pattern, fault_when_anchored};
use pilothouse_model::{Labels, Matcher};
use serde_json::{Map, Value as Json};

use super::{bad_request, invalid};
use crate::reply::Reply;
use crate::service::Call;

/// A time with milliseconds.
pub(super) fn time(t_ms: i64) -> String {
    match Timestamp::from_millisecond(t_ms) {
        Ok(time) => format!("{time:.3}"),
        // Beyond the years that can be written.
        Err(_) if t_ms > 0 => "9999-12-31T23:59:59.999Z".to_owned(),
        Err(_) => "0001-01-01T00:00:00.000Z".to_owned(),
    }
}

/// A time of RFC 3339. Go's zero time, and nothing, are no time: 0.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let t_ms = text.parse::<Timestamp>().ok()?.as_millisecond();
    Some(if t_ms <= -62_135_596_800_000 { 0 } else { t_ms })
}

pub(super) fn labels(labels: &Labels) -> Json {
    labels.iter().map(|(n, v)| (n.to_owned(), Json::from(v))).collect::<Map<_, _>>().into()
}

/// `filter`, as often as it is given.
pub(super) fn filters(call: &Call, name: &str) -> Result<Vec<Matcher>, Reply> {
    read_filters(call, name).map_err(bad_request)
}

/// `receiver_matchers`, on labels of receivers.
pub(super) fn receiver_matchers(call: &Call) -> Result<Vec<Matcher>, Reply> {
    let name = "receiver_matchers";
    read_filters(call, name).map_err(|e| bad_request(format!("failed to parse {name} param: {e}")))
}

/// An empty one is a matcher that cannot be read, as in Alertmanager.
fn read_filters(call: &Call, name: &str) -> Result<Vec<Matcher>, MatcherError> {
    call.params.all(name).map(matchers::parse_matcher).collect()
}

/// A flag that is on unless it is said otherwise.
pub(super) fn flag(call: &Call, name: &str) -> bool {
    match call.params.text(name).to_ascii_lowercase().as_str() {
        "" => true,
        text => ["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"].contains(&text),
    }
}

/// An expression that names receivers.
pub(super) fn receiver(call: &Call) -> Result<Option<Pattern>, Reply> {
    match call.params.text("receiver") {
        "" => Ok(None),
        text => {
            let refused =
                |why: &dyn std::fmt::Display| bad_request(format!("failed to parse receiver param: {why}"));
            let pattern = Pattern::new(text, Anchoring::Whole)
                .map_err(|e| refused(&fault_when_anchored(text).unwrap_or(e)))?;
            matchers::count(&pattern).map_err(|e| refused(&e))?;
            Ok(Some(pattern))
        }
    }
}

/// Reads a body field by field, and says what does not fit the schema.
pub(super) struct Body<'a> {
    /// What the schema calls the body as a whole: `alerts`, `silence`.
    of: &'static str,
    /// Where in the body, for messages: `0.`, `matchers.1.`.
    path: String,
    map: &'a Map<String, Json>,
}

impl<'a> Body<'a> {
    pub(super) fn new(of: &'static str, value: &'a Json, path: impl Into<String>) -> Result<Self, Reply> {
        static NOTHING: LazyLock<Map<String, Json>> = LazyLock::new(Map::new);
        let path = path.into();
        match value {
            Json::Object(map) => Ok(Self { of, path, map }),
            Json::Null => Ok(Self { of, path, map: &NOTHING }),
            _ => Err(unreadable(of, &format!("{} is no object", path.trim_end_matches('.')))),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Json> {
        self.map.get(name).filter(|v| !v.is_null())
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a Json, Reply> {
        self.get(name).ok_or_else(|| {
            let message = format!("{}{name} in body is required", self.path);
            invalid(StatusCode::UNPROCESSABLE_ENTITY, 602, &message)
        })
    }

    pub(super) fn text(&self, name: &str) -> Result<String, Reply> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Json::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.wrong(name, "string")),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<String, Reply> {
        self.required(name)?;
        self.text(name)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Reply> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "bool")),
        }
    }

    pub(super) fn time(&self, name: &str) -> Result<i64, Reply> {
        let text = self.text(name)?;
        parse_time(&text).ok_or_else(|| unreadable(self.of, &format!("parsing time {text:?}: cannot parse")))
    }

    /// A text that is empty, a path from the root, or has a scheme.
    pub(super) fn uri(&self, name: &str) -> Result<String, Reply> {
        let text = self.text(name)?;
        if text.is_empty() || is_uri(&text) {
            return Ok(text);
        }
        let message = format!("{}{name} in body must be of type uri: {text:?}", self.path);
        Err(invalid(StatusCode::UNPROCESSABLE_ENTITY, 601, &message))
    }

    /// Names and texts.
    pub(super) fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, Reply> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let Json::Object(map) = value else { return Err(self.wrong(name, "models.LabelSet")) };
        let pair = |(n, v): (&String, &Json)| match v {
            Json::String(v) => Ok((n.clone(), v.clone())),
            _ => Err(self.wrong(&format!("{name}.{n}"), "string")),
        };
        map.iter().map(pair).collect()
    }

    fn wrong(&self, name: &str, kind: &str) -> Reply {
        unreadable(
            self.of,
            &format!("json: cannot unmarshal {}{name} into Go value of type {kind}", self.path),
        )
    }
}

/// As Go's `url.ParseRequestURI` takes them: what stands for a byte must be two hexadecimal digits,
/// and a colon in front of the first slash ends a scheme.
fn is_uri(text: &str) -> bool {
    let mut escapes = text.split('%').skip(1);
    let escapes =
        escapes.all(|rest| rest.as_bytes().get(..2).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)));
    let (scheme, has_colon) = text.split_once(':').map_or(("", false), |(scheme, _)| (scheme, true));
    let schemed = has_colon
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    escapes && !text.chars().any(char::is_control) && (text.starts_with('/') || schemed)
}

/// A body that is no JSON, or JSON of another kind.
pub(super) fn unreadable(of: &str, why: &str) -> Reply {
    let message = format!("parsing {of} body from \"\" failed, because {why}");
    invalid(StatusCode::BAD_REQUEST, 400, &message)
}

/// The body, which a request may call nothing else than JSON.
pub(super) fn json_body(call: &Call, of: &str) -> Result<Json, Reply> {
    let named = call.parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = named.map(|text| text.split(';').next().unwrap_or("").trim());
    if let Some(other) = essence.filter(|e| !e.eq_ignore_ascii_case("application/json")) {
        let message = format!("unsupported media type {other:?}, only [application/json] are allowed");
        return Err(invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, &message));
    }
    if call.body.is_empty() {
        let message = format!("{of} in body is required");
        return Err(invalid(StatusCode::UNPROCESSABLE_ENTITY, 602, &message));
    }
    serde_json::from_slice(&call.body).map_err(|e| unreadable(of, &e.to_string()))
}
