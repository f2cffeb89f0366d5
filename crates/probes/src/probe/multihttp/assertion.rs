//! What an answer must be like.

use pilothouse_model::matcher::{Anchoring, Pattern};
use serde_json::Value;
use serde_json_path::JsonPath;

use crate::probe::http::Answer;
use crate::run::Recorder;
use crate::words::{
    AssertionCondition as Condition, AssertionSubject as Subject, AssertionType, MultiHttpAssertion,
};

pub(super) fn holds(assertion: &MultiHttpAssertion, answer: &Answer) -> bool {
    match AssertionType::try_from(assertion.kind) {
        Ok(AssertionType::Text) => compare(assertion, &subject(assertion, answer)),
        Ok(AssertionType::JsonPathValue) => {
            json_values(&assertion.expression, answer).iter().any(|value| compare_json(assertion, value))
        }
        Ok(AssertionType::JsonPathAssertion) => !json_values(&assertion.expression, answer).is_empty(),
        Ok(AssertionType::RegexAssertion) => {
            let pattern = Pattern::new(&assertion.expression, Anchoring::Part);
            pattern.is_ok_and(|pattern| pattern.is_match(&whole_subject(assertion, answer)))
        }
        Err(_) => false,
    }
}

/// The text that is looked at; of the headers one value, where the expression names one.
fn subject(assertion: &MultiHttpAssertion, answer: &Answer) -> String {
    let is_header = Subject::try_from(assertion.subject) == Ok(Subject::ResponseHeaders);
    if is_header && !assertion.expression.is_empty() {
        let values = answer.headers.get_all(assertion.expression.as_str());
        return values.iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect::<Vec<_>>().join(", ");
    }
    whole_subject(assertion, answer)
}

fn whole_subject(assertion: &MultiHttpAssertion, answer: &Answer) -> String {
    match Subject::try_from(assertion.subject) {
        Ok(Subject::HttpStatusCode) => answer.status.as_u16().to_string(),
        Ok(Subject::ResponseHeaders) => {
            let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
            };
            answer.headers.iter().map(line).collect()
        }
        _ => String::from_utf8_lossy(&answer.body).into_owned(),
    }
}

/// What a JSONPath finds; nothing where body or path do not read.
pub(super) fn json_values(path: &str, answer: &Answer) -> Vec<Value> {
    let Ok(document) = serde_json::from_slice::<Value>(&answer.body) else { return Vec::new() };
    JsonPath::parse(path)
        .map_or_else(|_| Vec::new(), |path| path.query(&document).all().into_iter().cloned().collect())
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

/// Takes down an assertion under the words that describe it.
pub(super) fn take_down(assertion: &MultiHttpAssertion, held: bool, recorder: &mut Recorder) {
    let name = describe(assertion);
    let result = if held { "pass" } else { "fail" };
    let labels = [("scenario", "default"), ("check", name.as_str())];
    let counted = [labels.as_slice(), &[("result", result)]].concat();
    recorder.gauge("probe_checks_total", "Assertions by result", &counted, 1.0);
    recorder.gauge(
        "probe_check_success_rate",
        "Share of assertions that held",
        &labels,
        f64::from(u8::from(held)),
    );
    if held {
        recorder.info("check passed", &[("check", &name)]);
    } else {
        recorder.error("check failed", &[("check", &name)]);
    }
}

fn describe(assertion: &MultiHttpAssertion) -> String {
    let subject = match Subject::try_from(assertion.subject) {
        Ok(Subject::HttpStatusCode) => "status code",
        Ok(Subject::ResponseHeaders) => "headers",
        _ => "body",
    };
    let verb = match condition(assertion) {
        Condition::NotContains => "does not contain",
        Condition::Equals => "equals",
        Condition::StartsWith => "starts with",
        Condition::EndsWith => "ends with",
        Condition::TypeOf => "is of type",
        Condition::Default | Condition::Contains => "contains",
    };
    let (expression, value) = (&assertion.expression, &assertion.value);
    match AssertionType::try_from(assertion.kind) {
        Ok(AssertionType::JsonPathValue) => format!("{expression} {verb} \"{value}\""),
        Ok(AssertionType::JsonPathAssertion) => format!("{expression} exists"),
        Ok(AssertionType::RegexAssertion) => format!("{subject} matches /{expression}/"),
        _ if expression.is_empty() => format!("{subject} {verb} \"{value}\""),
        _ => format!("header {expression} {verb} \"{value}\""),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode, Version};

    use super::*;

    fn check(kind: i32, subject: i32, condition: i32, expression: &str, value: &str, expected: bool) {
        let answer = Answer {
            status: StatusCode::OK,
            version: Version::HTTP_11,
            headers: HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static("abc"))]),
            body: bytes::Bytes::from_static(br#"{"token":"tok-42","n":7,"items":[{"id":1}]}"#),
            encrypted: false,
        };
        let assertion = MultiHttpAssertion {
            kind,
            subject,
            condition,
            expression: expression.into(),
            value: value.into(),
        };
        assert_eq!(holds(&assertion, &answer), expected, "{assertion:?}");
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
}
