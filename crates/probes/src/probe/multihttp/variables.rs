//! Values from one answer for the requests that follow.

use std::collections::HashMap;

use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use scraper::{Html, Selector};
use serde_json::Value;

use super::assertion::json_values;
use crate::probe::http::Answer;
use crate::words::{MultiHttpVariable, VariableType};

#[derive(Debug, Default)]
pub(super) struct Variables(HashMap<String, String>);

impl Variables {
    /// A variable that finds nothing becomes the empty text.
    pub(super) fn take(&mut self, wanted: &[MultiHttpVariable], answer: &Answer) {
        for variable in wanted {
            let value = find(variable, answer).unwrap_or_default();
            self.0.insert(variable.name.clone(), value);
        }
    }

    /// Each `${name}` becomes its value; a name that is not known stays as it is.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            match after.split_once('}').and_then(|(name, following)| Some((self.0.get(name)?, following))) {
                Some((value, following)) => {
                    out.push_str(value);
                    rest = following;
                }
                None => {
                    out.push_str("${");
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }
}

fn find(variable: &MultiHttpVariable, answer: &Answer) -> Option<String> {
    let body = || String::from_utf8_lossy(&answer.body);
    match VariableType::try_from(variable.kind).ok()? {
        VariableType::JsonPath => {
            json_values(&variable.expression, answer).into_iter().next().map(|value| match value {
                Value::String(text) => text,
                other => other.to_string(),
            })
        }
        VariableType::Regex => {
            let pattern = CapturingPattern::new(&variable.expression, Anchoring::Part).ok()?;
            let body = body();
            let groups = pattern.captures(&body)?;
            let group = if groups.len() > 1 { groups.get(1) } else { groups.first() };
            group.copied().flatten().map(str::to_owned)
        }
        VariableType::CssSelector => {
            let document = Html::parse_document(&body());
            let selector = Selector::parse(&variable.expression).ok()?;
            let element = document.select(&selector).next()?;
            if variable.attribute.is_empty() {
                Some(element.inner_html())
            } else {
                element.value().attr(&variable.attribute).map(str::to_owned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode, Version};

    use super::*;

    fn filled(kind: i32, expression: &str, attribute: &str, body: &'static str) -> String {
        let answer = Answer {
            status: StatusCode::OK,
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body: bytes::Bytes::from_static(body.as_bytes()),
            encrypted: false,
        };
        let variable = MultiHttpVariable {
            kind,
            name: "v".into(),
            expression: expression.into(),
            attribute: attribute.into(),
        };
        let mut variables = Variables::default();
        variables.take(&[variable], &answer);
        variables.fill("<${v}|${other}|${>")
    }

    #[test]
    fn each_type_of_variable() {
        assert_eq!(filled(0, "$.a[0]", "", r#"{"a":["x"]}"#), "<x|${other}|${>");
        assert_eq!(filled(0, "$.a", "", r#"{"a":7}"#), "<7|${other}|${>");
        assert_eq!(filled(1, "id=([0-9]+)", "", "id=42;"), "<42|${other}|${>");
        assert_eq!(filled(1, "i.=", "", "id=42;"), "<id=|${other}|${>");
        assert_eq!(filled(2, "p.x", "", "<p class=x>a<b>c</b></p>"), "<a<b>c</b>|${other}|${>");
        assert_eq!(filled(2, "a", "href", "<a href='/l'>t</a>"), "</l|${other}|${>");
        assert_eq!(filled(0, "$.gone", "", "{}"), "<|${other}|${>");
    }
}
