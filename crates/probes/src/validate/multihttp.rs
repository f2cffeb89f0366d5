//! Settings of a check of several requests.

use std::collections::HashSet;

use pilothouse_model::limits::{
    CHECK_ASSERTIONS, CHECK_EXPRESSION_BYTES, CHECK_EXPRESSION_DEPTH, CHECK_REQUESTS, CHECK_VARIABLES,
};

use super::http::{is_header_name, is_header_value};
use super::{Held, Invalid, hold, target};
use crate::words::{
    AssertionCondition, AssertionSubject, AssertionType, HttpRequestBody, MultiHttpAssertion, MultiHttpEntry,
    MultiHttpRequest, MultiHttpSettings, MultiHttpVariable, VariableType,
};

pub(super) fn settings(settings: &MultiHttpSettings) -> Held {
    hold(!settings.entries.is_empty(), "invalid multi-http targets")?;
    hold(settings.entries.len() <= CHECK_REQUESTS, "too many multi-http targets")?;
    settings.entries.iter().try_for_each(entry)
}

fn entry(entry: &MultiHttpEntry) -> Held {
    let request = entry.request.as_ref().ok_or_else(|| Invalid::because("invalid multi-http targets"))?;
    self::request(request)?;
    hold(entry.assertions.len() <= CHECK_ASSERTIONS, "too many multi-http assertions")?;
    hold(entry.variables.len() <= CHECK_VARIABLES, "too many multi-http variables")?;
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
            let said = !a.value.is_empty() && !a.expression.is_empty();
            hold(no_subject && said && is_shallow(&a.expression), invalid)
        }
        AssertionType::JsonPathAssertion => hold(no_subject && bare && is_shallow(&a.expression), invalid),
        AssertionType::RegexAssertion => hold(bare, invalid),
    }
}

fn variable(v: &MultiHttpVariable) -> Held {
    let holds = match VariableType::try_from(v.kind) {
        Ok(VariableType::CssSelector) => is_shallow(&v.expression),
        Ok(VariableType::JsonPath) => v.attribute.is_empty() && is_shallow(&v.expression),
        Ok(VariableType::Regex) => v.attribute.is_empty(),
        Err(_) => false,
    };
    hold(holds && !v.name.is_empty() && !v.expression.is_empty(), "invalid multi-http variable")
}

/// Whether a JSONPath or a CSS selector is one that can be read and run on any stack: what reads
/// and runs them recurses with their length and their brackets, quoted ones counted too.
pub(crate) fn is_shallow(expression: &str) -> bool {
    let mut depth = 0_usize;
    let within = |byte: u8| {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth <= CHECK_EXPRESSION_DEPTH
    };
    expression.len() <= CHECK_EXPRESSION_BYTES && expression.bytes().all(within)
}
