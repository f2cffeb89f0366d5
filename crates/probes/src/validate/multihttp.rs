//! Settings of a check of several requests.

use std::collections::HashSet;

use super::http::{is_header_name, is_header_value};
use super::{Held, Invalid, hold, target};
use crate::words::{
    AssertionCondition, AssertionSubject, AssertionType, HttpRequestBody, MultiHttpAssertion, MultiHttpEntry,
    MultiHttpRequest, MultiHttpSettings, MultiHttpVariable, VariableType,
};

const MAX_ENTRIES: usize = 10;
const MAX_ASSERTIONS: usize = 5;
const MAX_VARIABLES: usize = 5;

pub(super) fn settings(settings: &MultiHttpSettings) -> Held {
    hold(!settings.entries.is_empty(), "invalid multi-http targets")?;
    hold(settings.entries.len() <= MAX_ENTRIES, "too many multi-http targets")?;
    settings.entries.iter().try_for_each(entry)
}

fn entry(entry: &MultiHttpEntry) -> Held {
    let request = entry.request.as_ref().ok_or_else(|| Invalid::because("invalid multi-http targets"))?;
    self::request(request)?;
    hold(entry.assertions.len() <= MAX_ASSERTIONS, "too many multi-http assertions")?;
    hold(entry.variables.len() <= MAX_VARIABLES, "too many multi-http variables")?;
    entry.assertions.iter().try_for_each(assertion)?;
    entry.variables.iter().try_for_each(variable)?;
    let mut names = HashSet::new();
    let unique = entry.variables.iter().all(|v| names.insert(v.name.as_str()));
    hold(unique, "multi-http variable names must be unique")
}

fn request(request: &MultiHttpRequest) -> Held {
    if !request.url.contains("${") {
        target::http_url(&request.url)?;
    }
    if let Some(body) = &request.body {
        hold(body_holds(body), "invalid HTTP request body content type")?;
    }
    let header = |h: &crate::words::HttpHeader| is_header_name(&h.name) && is_header_value(&h.value);
    hold(request.headers.iter().all(header), "invalid HTTP headers")?;
    hold(request.query_fields.iter().all(|f| !f.name.is_empty()), "invalid query field name")
}

fn body_holds(body: &HttpRequestBody) -> bool {
    let media = |text: &str| {
        let kind = text.split(';').next().unwrap_or("").trim();
        kind.split('/').all(is_header_name)
    };
    is_header_value(&body.content_type)
        && body.content_type.split(',').all(media)
        && is_header_value(&body.content_encoding)
}

fn assertion(a: &MultiHttpAssertion) -> Held {
    let invalid = "invalid multi-http assertion";
    let (Ok(kind), Ok(subject), Ok(condition)) = (
        AssertionType::try_from(a.kind),
        AssertionSubject::try_from(a.subject),
        AssertionCondition::try_from(a.condition),
    ) else {
        return Err(Invalid::because(invalid));
    };
    let no_subject = subject == AssertionSubject::Default;
    let bare = condition == AssertionCondition::Default && a.value.is_empty() && !a.expression.is_empty();
    match kind {
        AssertionType::Text => {
            hold(!a.value.is_empty(), "invalid multi-http assertion, missing value")?;
            let allowed = subject == AssertionSubject::ResponseHeaders || a.expression.is_empty();
            hold(allowed, "invalid multi-http assertion, expression not allowed")
        }
        AssertionType::JsonPathValue => {
            hold(no_subject && !a.value.is_empty() && !a.expression.is_empty(), invalid)
        }
        AssertionType::JsonPathAssertion => hold(no_subject && bare, invalid),
        AssertionType::RegexAssertion => hold(bare, invalid),
    }
}

fn variable(v: &MultiHttpVariable) -> Held {
    let attribute_allowed = match VariableType::try_from(v.kind) {
        Ok(kind) => kind == VariableType::CssSelector || v.attribute.is_empty(),
        Err(_) => false,
    };
    hold(attribute_allowed && !v.name.is_empty() && !v.expression.is_empty(), "invalid multi-http variable")
}
