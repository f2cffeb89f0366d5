//! Values from one answer for the requests that follow.

use std::collections::HashMap;

use pilothouse_model::NoMemory;
use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use serde_json::Value;

use super::inspected::Inspected;
use super::tree;
use crate::words::{MultiHttpVariable, VariableType};

#[derive(Debug, Default)]
pub(super) struct Variables(HashMap<String, String>);

impl Variables {
    pub(super) fn keep(&mut self, values: Vec<(String, String)>) {
        self.0.extend(values);
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

/// Names and values. A variable that finds nothing becomes the empty text.
pub(super) fn values(
    wanted: &[MultiHttpVariable],
    inspected: &mut Inspected,
) -> Result<Vec<(String, String)>, NoMemory> {
    wanted.iter().map(|v| Ok((v.name.clone(), find(v, inspected)?.unwrap_or_default()))).collect()
}

pub(super) fn find(
    variable: &MultiHttpVariable,
    inspected: &mut Inspected,
) -> Result<Option<String>, NoMemory> {
    let expression = variable.expression.as_str();
    match VariableType::try_from(variable.kind) {
        Ok(VariableType::JsonPath) => tree::json(expression, inspected, |found| {
            found.first().map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        }),
        Ok(VariableType::Regex) => Ok(captured(expression, inspected.text()?.0)),
        Ok(VariableType::CssSelector) => tree::element(expression, &variable.attribute, inspected),
        Err(_) => Ok(None),
    }
}

fn captured(expression: &str, body: &str) -> Option<String> {
    let pattern = CapturingPattern::new(expression, Anchoring::Part).ok()?;
    let groups = pattern.captures(body)?;
    let group = |i: usize| groups.get(i).copied().flatten().filter(|text| !text.is_empty());
    // A group that took no part leaves the whole match, as where there is no group.
    group(1).or(group(0)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(kind: i32, expression: &str, attribute: &str, body: &'static str) -> String {
        let (mut inspected, _) = Inspected::of(body);
        let variable = MultiHttpVariable {
            kind,
            name: "v".into(),
            expression: expression.into(),
            attribute: attribute.into(),
        };
        let mut variables = Variables::default();
        variables.keep(values(&[variable], &mut inspected).unwrap());
        variables.fill("<${v}|${other}|${>")
    }

    #[test]
    fn each_type_of_variable() {
        assert_eq!(filled(0, "$.a[0]", "", r#"{"a":["x"]}"#), "<x|${other}|${>");
        assert_eq!(filled(0, "$.a", "", r#"{"a":7}"#), "<7|${other}|${>");
        assert_eq!(filled(1, "id=([0-9]+)", "", "id=42;"), "<42|${other}|${>");
        assert_eq!(filled(1, "i.=", "", "id=42;"), "<id=|${other}|${>");
        assert_eq!(filled(1, "id=(x)?", "", "id=42;"), "<id=|${other}|${>");
        assert_eq!(filled(1, "a.*", "", "a1\nb"), "<a1|${other}|${>");
        assert_eq!(filled(2, "p.x", "", "<p class=x>a<b>c</b></p>"), "<a<b>c</b>|${other}|${>");
        assert_eq!(filled(2, "a", "href", "<a href='/l'>t</a>"), "</l|${other}|${>");
        assert_eq!(filled(0, "$.gone", "", "{}"), "<|${other}|${>");
    }

    /// What reads and runs these recurses; a stack that is overrun would end the process.
    #[test]
    fn the_deepest_expressions_fit_a_stack_and_deeper_ones_find_nothing() {
        let tried = std::thread::Builder::new().stack_size(1 << 20).spawn(|| {
            let chain = ["div"; 250].join(" ");
            let page = format!("{}<p>x</p>", "<div>".repeat(5_000)).leak();
            assert_eq!(filled(2, &format!("{chain} p"), "", page), "<x|${other}|${>");
            let nested = |open: &str, n: usize| format!("{}x{}", open.repeat(n), ")".repeat(n));
            assert_eq!(filled(2, &nested("p:not(", 15), "", page), "<x|${other}|${>");
            assert_eq!(filled(2, &nested("p:not(", 100_000), "", page), "<|${other}|${>");
            let list = format!("{}1{}", "[".repeat(100), "]".repeat(100)).leak();
            let inside = |n: usize| format!("$[?{}@{}]", "(".repeat(n), ")".repeat(n));
            assert_ne!(filled(0, &inside(15), "", list), "<|${other}|${>");
            assert_eq!(filled(0, &inside(100_000), "", list), "<|${other}|${>");
        });
        tried.unwrap().join().unwrap();
    }
}
