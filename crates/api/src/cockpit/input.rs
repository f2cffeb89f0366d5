//! Arguments of a call: from the JSON body where there is one, else from the URL.

use std::str::FromStr;

use http::{Method, header};
use pilothouse_control::{Actor, Fault, Order, Page, ProjectId, Region, SortKey};
use pilothouse_model::labels::quote;
use serde_json::{Map, Value};

use super::error::Refusal;
use crate::service::Call;

pub(super) struct Input {
    call: Call,
    /// Empty where the method has no body, or the client sent none: some send `{}` with
    /// everything.
    body: Map<String, Value>,
    pub(super) region: Region,
}

type Result<T> = std::result::Result<T, Refusal>;

impl Input {
    pub(super) fn read(call: Call) -> Result<Self> {
        let region = match call.segment("region") {
            "" => Region::default(),
            name => name.parse().map_err(|_| Refusal::not_found("region", name))?,
        };
        let has_body = matches!(call.parts.method, Method::POST | Method::PATCH);
        let body = match call.body.trim_ascii() {
            bytes if !bytes.is_empty() && has_body => read_object(bytes)?,
            _ => Map::new(),
        };
        Ok(Self { call, body, region })
    }

    pub(super) fn actor(&self) -> Actor {
        self.call.caller.actor(self.call.peer())
    }

    /// A segment of the path.
    pub(super) fn segment(&self, name: &str) -> &str {
        self.call.segment(name)
    }

    /// A segment that is an id of its kind; what is none names nothing.
    pub(super) fn id<T: FromStr>(&self, resource: &str) -> Result<T> {
        let text = self.segment("id");
        text.parse().map_err(|_| Refusal::not_found(resource, text))
    }

    /// Where the request came to: `http://HOST`, without a trailing slash.
    pub(super) fn host(&self) -> Option<String> {
        let named = self.call.header(header::HOST);
        let host = if named.is_empty() { self.call.parts.uri.authority()?.as_str() } else { named };
        let sound = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b));
        let forwarded = self.call.parts.headers.get("x-forwarded-proto").map(|v| v.as_bytes());
        let scheme = if forwarded == Some(b"https") { "https" } else { "http" };
        sound.then(|| format!("{scheme}://{host}"))
    }

    // ---- arguments ----

    /// A text of the body, or else of the URL; `None` where it is missing, null or empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        text_of(self.value(name), name).map(|text| text.or_else(|| self.query(name)))
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|v| !v.is_null())
    }

    fn query(&self, name: &str) -> Option<&str> {
        Some(self.call.params.text(name)).filter(|t| !t.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str> {
        let missing = || Refusal::argument(name, Fault::Required, format!("{name} is required"));
        self.text(name)?.ok_or_else(missing)
    }

    /// A text that may be there and empty, which then is a fault of the caller's.
    pub(super) fn present_text(&self, name: &str) -> Result<Option<String>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(malformed(name, "a text")),
        }
    }

    pub(super) fn word<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.text(name)?.map(|text| parse_word(name, text)).transpose()
    }

    pub(super) fn required_word<T: FromStr>(&self, name: &str) -> Result<T> {
        parse_word(name, self.required(name)?)
    }

    /// A parameter that may be repeated.
    pub(super) fn words<T: FromStr>(&self, name: &str) -> Result<Vec<T>> {
        self.call.params.all(name).filter(|t| !t.is_empty()).map(|text| parse_word(name, text)).collect()
    }

    /// A list of the body.
    pub(super) fn list<T: FromStr>(&self, name: &str) -> Result<Vec<T>> {
        let items = match self.value(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(malformed(name, "a list of texts")),
        };
        let word = |item: &Value| match item {
            Value::String(text) => parse_word(name, text),
            _ => Err(malformed(name, "a list of texts")),
        };
        items.iter().map(word).collect()
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(malformed(name, "an object")),
        }
    }

    /// As [`Input::object`]; `Some(None)` where it is said to be null.
    pub(super) fn optional_object(&self, name: &str) -> Result<Option<Option<&Value>>> {
        match self.body.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value @ Value::Object(_)) => Ok(Some(Some(value))),
            Some(_) => Err(malformed(name, "an object")),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.value(name) {
            None => match self.query(name) {
                None => Ok(None),
                Some("true") => Ok(Some(true)),
                Some("false") => Ok(Some(false)),
                Some(_) => Err(malformed(name, "true or false")),
            },
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(malformed(name, "true or false")),
        }
    }

    /// A whole number of the body that is not negative.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        let read = |value: &Value| value.as_u64().ok_or_else(|| malformed(name, "a whole number"));
        self.value(name).map(read).transpose()
    }

    /// As [`Input::number`]; `Some(None)` where it is said to be null.
    pub(super) fn optional_number(&self, name: &str) -> Result<Option<Option<u64>>> {
        match self.body.get(name) {
            Some(Value::Null) => Ok(Some(None)),
            _ => Ok(self.number(name)?.map(Some)),
        }
    }

    /// Where an address for mail stands: `{"email": {"to": "…"}}`, below another object in the
    /// older version.
    pub(super) fn email(&self, below: Option<&str>) -> Result<String> {
        let missing = || Refusal::argument("email.to", Fault::Required, "email.to is required");
        let holder = match below {
            None => Some(&self.body),
            Some(name) => self.object(name)?,
        };
        let email = holder.and_then(|h| h.get("email")).filter(|e| !e.is_null()).ok_or_else(missing)?;
        let to = text_of(email.get("to").filter(|t| !t.is_null()), "email.to")?;
        to.map(str::to_owned).ok_or_else(missing)
    }

    // ---- what most calls have ----

    /// `None` where it is not said; lists then show all projects.
    pub(super) fn project_filter(&self) -> Result<Option<ProjectId>> {
        let read = |text: &str| text.parse().map_err(|_| malformed("project_id", "a UUID"));
        self.text("project_id")?.map(read).transpose()
    }

    /// The default project where none is said.
    pub(super) fn project(&self) -> Result<ProjectId> {
        Ok(self.project_filter()?.unwrap_or(ProjectId::DEFAULT))
    }

    pub(super) fn page(&self) -> Result<Page> {
        let number = |name: &str, default: usize| match self.query(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| malformed(name, "a whole number")),
        };
        Ok(Page::new(number("page", 1)?, number("page_size", Page::DEFAULT_SIZE)?)?)
    }

    pub(super) fn order(&self, keys: &[SortKey]) -> Result<Order> {
        Ok(Order::parse(self.query("order_by").unwrap_or(""), keys)?)
    }
}

fn read_object(bytes: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(malformed("body", "a JSON object")),
        Err(e) => Err(Refusal::argument("body", Fault::Format, format!("not JSON: {e}"))),
    }
}

fn text_of<'a>(value: Option<&'a Value>, name: &str) -> Result<Option<&'a str>> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|t| !t.is_empty())),
        Some(_) => Err(malformed(name, "a text")),
    }
}

fn parse_word<T: FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Refusal::argument(name, Fault::Unknown, format!("{} is not known", quote(text))))
}

pub(super) fn malformed(name: &str, expected: &str) -> Refusal {
    Refusal::argument(name, Fault::Format, format!("{name} must be {expected}"))
}
