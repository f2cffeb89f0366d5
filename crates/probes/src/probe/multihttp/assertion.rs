//! What an answer must be like.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderName;
use pilothouse_model::NoMemory;
use pilothouse_model::matcher::{Anchoring, Pattern};
use serde_json::Value;

use super::inspected::Inspected;
use super::tree;
use crate::probe::http::Answer;
use crate::run::Recorder;
use crate::words::{
    AssertionCondition as Condition, AssertionSubject as Subject, AssertionType, MultiHttpAssertion,
};

pub(super) fn holds(assertion: &MultiHttpAssertion, inspected: &mut Inspected) -> Result<bool, NoMemory> {
    Ok(match AssertionType::try_from(assertion.kind) {
        Ok(AssertionType::Text) => {
            subjects(assertion, inspected)?.iter().any(|text| compare(assertion, text))
        }
        Ok(AssertionType::JsonPathValue) => {
            let is_wanted = |value: &Value| compare_json(assertion, value);
            tree::json(&assertion.expression, inspected, |found| found.iter().any(|value| is_wanted(value)))?
        }
        Ok(AssertionType::JsonPathAssertion) => {
            tree::json(&assertion.expression, inspected, |found| !found.is_empty())?
        }
        Ok(AssertionType::RegexAssertion) => {
            let texts = subjects(assertion, inspected)?;
            let pattern = Pattern::new(&assertion.expression, Anchoring::Part);
            pattern.is_ok_and(|p| texts.iter().any(|text| p.is_match(text)))
        }
        Err(_) => false,
    })
}

/// The texts of which one has to hold: the body, the status, or the headers, a line for each of
/// them. Where a text names a header it is the value alone, and nothing if there is no such header.
fn subjects<'a>(
    assertion: &MultiHttpAssertion,
    inspected: &'a mut Inspected,
) -> Result<Vec<Cow<'a, str>>, NoMemory> {
    let is_named = AssertionType::try_from(assertion.kind) == Ok(AssertionType::Text);
    let subject = Subject::try_from(assertion.subject);
    if !matches!(subject, Ok(Subject::HttpStatusCode | Subject::ResponseHeaders)) {
        return Ok(vec![inspected.text()?.0.into()]);
    }
    let answer = &inspected.answer;
    Ok(match subject {
        Ok(Subject::HttpStatusCode) => vec![answer.status.as_u16().to_string().into()],
        Ok(Subject::ResponseHeaders) if is_named && !assertion.expression.is_empty() => {
            let name = HeaderName::from_bytes(assertion.expression.as_bytes()).ok();
            let present = name.filter(|name| answer.headers.contains_key(name));
            present.map(|name| header_value(answer, &name).into()).into_iter().collect()
        }
        _ => {
            let line = |name: &'a HeaderName| format!("{name}: {}", header_value(answer, name)).into();
            answer.headers.keys().map(line).collect()
        }
    })
}

/// Values of a header that came several times are one text.
fn header_value(answer: &Answer, name: &HeaderName) -> String {
    let values = answer.headers.get_all(name);
    values.iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect::<Vec<_>>().join(", ")
}

fn condition(assertion: &MultiHttpAssertion) -> Condition {
    Condition::try_from(assertion.condition).unwrap_or(Condition::Default)
}

fn compare(assertion: &MultiHttpAssertion, text: &str) -> bool {
    let value = assertion.value.as_str();
    match condition(assertion) {
        Condition::NotContains => !text.contains(value),
        Condition::Equals => text == value,
        Condition::StartsWith => text.starts_with(value),
        Condition::EndsWith => text.ends_with(value),
        Condition::TypeOf => value == "string",
        Condition::Default | Condition::Contains => text.contains(value),
    }
}

/// A number or a boolean never equals a text; their text may contain one.
fn compare_json(assertion: &MultiHttpAssertion, value: &Value) -> bool {
    match (condition(assertion), value) {
        (Condition::TypeOf, value) => type_name(value) == assertion.value,
        (_, Value::String(text)) => compare(assertion, text),
        (Condition::Equals, _) => false,
        (_, other) => compare(assertion, &other.to_string()),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// How often each assertion held and did not, by its name and the request's method and URL. Two
/// requests may assert the same of one URL.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<[String; 3], [u32; 2]>);

impl Tally {
    /// Counts an assertion, and takes it down under the words that describe it.
    pub(super) fn take_down(
        &mut self,
        assertion: &MultiHttpAssertion,
        held: bool,
        (method, url): (&str, &str),
        recorder: &mut Recorder,
    ) {
        let key = [describe(assertion), method.to_owned(), url.to_owned()];
        let counts = self.0.entry(key.clone()).or_default();
        let [passed, failed] = counts;
        *(if held { &mut *passed } else { &mut *failed }) += 1;
        let (passed, failed) = (f64::from(*passed), f64::from(*failed));
        let [name, method, url] = &key;
        let labels: [(&'static str, &str); 4] =
            [("scenario", "default"), ("check", name), ("method", method), ("url", url)];
        let (result, count) = if held { ("pass", passed) } else { ("fail", failed) };
        let counted = [labels.as_slice(), &[("result", result)]].concat();
        recorder.gauge("probe_checks_total", "Assertions by result", &counted, count);
        let rate = passed / (passed + failed);
        recorder.gauge("probe_check_success_rate", "Share of assertions that held", &labels, rate);
        if held {
            recorder.info("check passed", &[("check", name)]);
        } else {
            recorder.error("check failed", &[("check", name)]);
        }
    }
}

/// The agent's names of its checks, which are a label.
fn describe(assertion: &MultiHttpAssertion) -> String {
    let verb = match condition(assertion) {
        Condition::NotContains => "does not contain",
        Condition::Equals => "equals",
        Condition::StartsWith => "starts with",
        Condition::EndsWith => "ends with",
        Condition::TypeOf => "is of type",
        Condition::Default | Condition::Contains => "contains",
    };
    let (text_of, matched) = match Subject::try_from(assertion.subject) {
        Ok(Subject::HttpStatusCode) => ("status code", "status"),
        Ok(Subject::ResponseHeaders) => ("header", "headers"),
        _ => ("body", "body"),
    };
    let (expression, value) = (&assertion.expression, &assertion.value);
    match AssertionType::try_from(assertion.kind) {
        Ok(AssertionType::JsonPathValue) => format!("{expression} {verb} \"{value}\""),
        Ok(AssertionType::JsonPathAssertion) => format!("{expression} exists"),
        Ok(AssertionType::RegexAssertion) => format!("{matched} matches /{expression}/"),
        _ => format!("{text_of} {verb} \"{value}\""),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    const BODY: &str = "{\"token\":\"tok-42\",\"n\":7,\n\"items\":[{\"id\":1}]}";

    fn assertion(
        kind: i32,
        subject: i32,
        condition: i32,
        expression: &str,
        value: &str,
    ) -> MultiHttpAssertion {
        let (expression, value) = (expression.into(), value.into());
        MultiHttpAssertion { kind, subject, condition, expression, value }
    }

    fn check(kind: i32, subject: i32, condition: i32, expression: &str, value: &str, expected: bool) {
        let headers = [("server", "abc"), ("vary", "x"), ("vary", "y")];
        let headers = headers.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let (mut inspected, _) = Inspected::of(BODY);
        inspected.answer.headers = HeaderMap::from_iter(headers);
        let assertion = assertion(kind, subject, condition, expression, value);
        assert_eq!(holds(&assertion, &mut inspected), Ok(expected), "{assertion:?}");
    }

    #[test]
    fn each_type_of_assertion() {
        check(0, 2, 2, "", "200", true);
        check(0, 0, 0, "", "tok-", true);
        check(0, 0, 1, "", "tok-", false);
        check(0, 1, 2, "Server", "abc", true);
        check(0, 1, 0, "", "server: abc", true);
        check(1, 0, 2, "$.token", "tok-42", true);
        check(1, 0, 2, "$.n", "7", false);
        check(1, 0, 6, "$.n", "7", true);
        check(1, 0, 5, "$.n", "number", true);
        check(2, 0, 0, "$.items[0].id", "", true);
        check(2, 0, 0, "$.items[1].id", "", false);
        check(3, 0, 0, "tok-[0-9]+", "", true);
        check(3, 1, 0, "^server: a", "", true);
        check(3, 0, 0, "(", "", false);
    }

    /// Each header is a line of its own, and one that holds is enough.
    #[test]
    fn headers_are_looked_at_one_by_one() {
        check(3, 1, 0, "^vary: x, y$", "", true);
        check(3, 1, 0, "abc.vary", "", false);
        check(0, 1, 2, "", "server: abc", true);
        check(0, 1, 1, "", "abc", true);
        check(0, 1, 1, "server", "abc", false);
        check(0, 1, 1, "absent", "abc", false);
        check(0, 1, 4, "VARY", "y", true);
    }

    #[test]
    fn a_dot_is_no_line_feed() {
        check(3, 0, 0, "n.:7,.*items", "", false);
        check(3, 0, 0, "(?s)n.:7,.*items", "", true);
    }

    #[test]
    fn what_is_asserted_twice_is_counted_twice() {
        let (mut tally, mut recorder) = (Tally::default(), Recorder::default());
        let status = assertion(0, 2, 2, "", "200");
        for (held, url) in
            [(true, "http://a/"), (true, "http://a/"), (false, "http://a/"), (true, "http://b/")]
        {
            tally.take_down(&status, held, ("GET", url), &mut recorder);
        }
        let outcome = recorder.finish(Ok(false), std::time::Duration::ZERO);
        let of = |name: &str, url: &str, result: Option<&str>| {
            let is_asked = |labels: &[(&'static str, String)]| {
                let has = |name, value| labels.iter().any(|(n, v)| (*n, v.as_str()) == (name, value));
                has("url", url) && has("method", "GET") && result.is_none_or(|result| has("result", result))
            };
            outcome.gauges.iter().find(|g| g.name == name && is_asked(&g.labels)).map(|g| g.value)
        };
        assert_eq!(of("probe_checks_total", "http://a/", Some("pass")), Some(2.0));
        assert_eq!(of("probe_checks_total", "http://a/", Some("fail")), Some(1.0));
        assert_eq!(of("probe_check_success_rate", "http://a/", None), Some(2.0 / 3.0));
        assert_eq!(of("probe_check_success_rate", "http://b/", None), Some(1.0));
    }

    #[test]
    fn names_are_those_of_the_agent() {
        for (words, expected) in [
            (assertion(0, 0, 0, "", "x"), r#"body contains "x""#),
            (assertion(0, 1, 1, "server", "x"), r#"header does not contain "x""#),
            (assertion(0, 2, 2, "", "200"), r#"status code equals "200""#),
            (assertion(1, 0, 3, "$.a", "x"), r#"$.a starts with "x""#),
            (assertion(2, 0, 0, "$.a", ""), "$.a exists"),
            (assertion(3, 0, 0, "x+", ""), "body matches /x+/"),
            (assertion(3, 1, 0, "x+", ""), "headers matches /x+/"),
            (assertion(3, 2, 0, "2..", ""), "status matches /2../"),
        ] {
            assert_eq!(describe(&words), expected);
        }
    }
}
