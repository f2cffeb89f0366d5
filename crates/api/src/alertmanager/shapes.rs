//! Times, filters and bodies as version 2 reads and writes them.

use http::StatusCode;
use jiff::Timestamp;
use pilothouse_alertmanager::matchers;
use pilothouse_model::matcher::{Anchoring, Pattern};
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
    let all = call.params.all(name).filter(|text| !text.is_empty());
    all.map(|text| matchers::parse_matcher(text).map_err(bad_request)).collect()
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
        text => Pattern::new(text, Anchoring::Whole)
            .map(Some)
            .map_err(|e| bad_request(format!("failed to parse receiver param: {e}"))),
    }
}

/// Reads a body field by field, and says what does not fit the schema.
pub(super) struct Body<'a> {
    /// Where in the body, for messages: `0.`, `matchers.1.`.
    path: String,
    map: &'a Map<String, Json>,
}

impl<'a> Body<'a> {
    pub(super) fn new(value: &'a Json, path: impl Into<String>) -> Result<Self, Reply> {
        let path = path.into();
        match value {
            Json::Object(map) => Ok(Self { path, map }),
            _ => Err(unreadable(&format!("{} is no object", path.trim_end_matches('.')))),
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
        parse_time(&text).ok_or_else(|| unreadable(&format!("parsing time {text:?}: cannot parse")))
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
        unreadable(&format!("json: cannot unmarshal {}{name} into Go value of type {kind}", self.path))
    }
}

/// A body that is no JSON, or JSON of another kind.
pub(super) fn unreadable(why: &str) -> Reply {
    invalid(StatusCode::BAD_REQUEST, 400, &format!("parsing body from \"\" failed, because {why}"))
}

pub(super) fn json_body(call: &Call) -> Result<Json, Reply> {
    if call.body.is_empty() {
        return Err(invalid(StatusCode::UNPROCESSABLE_ENTITY, 602, "body is required"));
    }
    serde_json::from_slice(&call.body).map_err(|e| unreadable(&e.to_string()))
}
