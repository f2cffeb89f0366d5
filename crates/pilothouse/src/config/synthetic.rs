//! Checks and status pages in the file. They are documents of several fields, so they are read
//! as such: a mapping each, in a list.

use std::collections::HashSet;

use pilothouse_probes::declared;
use pilothouse_probes::registry::DeclaredCheck;
use pilothouse_probes::status::StatusPage;
use pilothouse_rules::format::yaml::{Content, Node};
use serde_json::{Map, Number, Value};

use super::values::{Setting, Wrong};

/// The checks that the configuration declares.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct DeclaredChecks(pub(crate) Vec<DeclaredCheck>);

impl Setting for DeclaredChecks {
    const ALLOWED: &'static str = "a list of checks with the fields of the Synthetic Monitoring API";

    fn from_text(text: &str) -> Result<Self, String> {
        documents(text)?.into_iter().map(declared::read).collect::<Result<_, _>>().map(Self)
    }

    fn from_node(node: &Node) -> Result<Self, Wrong> {
        each(node, declared::read).map(Self)
    }

    fn show(&self) -> Option<String> {
        Some(Value::from(self.0.iter().map(declared::show).collect::<Vec<_>>()).to_string())
    }
}

/// The status pages that the configuration names.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct StatusPages(pub(crate) Vec<StatusPage>);

impl StatusPages {
    fn of(pages: Vec<StatusPage>) -> Result<Self, String> {
        let mut names = HashSet::new();
        match pages.iter().find(|page| !names.insert(&page.name)) {
            Some(page) => Err(format!("there are two status pages named {:?}", page.name)),
            None => Ok(Self(pages)),
        }
    }
}

impl Setting for StatusPages {
    const ALLOWED: &'static str = "a list of pages: name, title, public, show_targets, jobs, labels";

    fn from_text(text: &str) -> Result<Self, String> {
        Self::of(documents(text)?.into_iter().map(page).collect::<Result<_, _>>()?)
    }

    fn from_node(node: &Node) -> Result<Self, Wrong> {
        Self::of(each(node, page)?).map_err(|why| Wrong::at(node, why))
    }

    fn show(&self) -> Option<String> {
        serde_json::to_string(&self.0).ok()
    }
}

fn page(document: Value) -> Result<StatusPage, String> {
    let page: StatusPage = serde_json::from_value(document).map_err(|e| e.to_string())?;
    page.holds().map_err(|e| e.to_string())?;
    Ok(page)
}

/// A flag or a variable holds a list in JSON.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    serde_json::from_str(text).map_err(|e| format!("is not a list in JSON: {e}"))
}

/// Reads each item of a list; what is wrong has the line of its item.
pub(super) fn each<T>(node: &Node, read: impl Fn(Value) -> Result<T, String>) -> Result<Vec<T>, Wrong> {
    let Content::Sequence(items) = &node.content else {
        return Err(Wrong::at(node, "a list is wanted"));
    };
    items.iter().map(|item| read(document(item)?).map_err(|why| Wrong::at(item, why))).collect()
}

/// A node as JSON: a scalar without quotes is what YAML's core schema takes it for.
pub(super) fn document(node: &Node) -> Result<Value, Wrong> {
    Ok(match &node.content {
        Content::Scalar { .. } if node.is_null() => Value::Null,
        Content::Scalar { text, plain: true } => plain(text),
        Content::Scalar { text, plain: false } => Value::from(text.as_str()),
        Content::Sequence(items) => Value::from(items.iter().map(document).collect::<Result<Vec<_>, _>>()?),
        Content::Mapping(pairs) => {
            let mut members = Map::new();
            for (key, value) in pairs {
                let Content::Scalar { text, .. } = &key.content else {
                    return Err(Wrong::at(key, "a key must be a text"));
                };
                if members.insert(text.clone(), document(value)?).is_some() {
                    return Err(Wrong::at(key, format!("{text} is said twice")));
                }
            }
            Value::Object(members)
        }
    })
}

fn plain(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => return Value::from(true),
        "false" | "False" | "FALSE" => return Value::from(false),
        _ => {}
    }
    let digit = text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+' || c == '.');
    let whole = text.parse::<i64>().ok().map(Number::from);
    let number = whole.or_else(|| text.parse().ok().and_then(Number::from_f64)).filter(|_| digit);
    number.map_or_else(|| Value::from(text), Value::Number)
}

#[cfg(test)]
mod tests {
    use pilothouse_rules::format::yaml::parse;

    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, (usize, String)> {
        T::from_node(&parse(text).unwrap().unwrap()).map_err(|wrong| (wrong.line, wrong.why))
    }

    #[test]
    fn checks_are_read_and_shown() {
        let yaml = "- job: front\n  target: https://example.org/\n  frequency: 60000\n  timeout: 3000\n  enabled: true\n  \
                    labels: [{name: release, value: '1.10'}]\n  settings:\n    http: {ipVersion: V4, bearerToken: s3cret}\n";
        let checks = read::<DeclaredChecks>(yaml).unwrap();
        let check = &checks.0[0].check;
        assert_eq!((check.frequency, check.labels[0].value.as_str()), (60_000, "1.10"));
        let shown = checks.show().unwrap();
        assert!(shown.contains("<encrypted>") && !shown.contains("s3cret"), "{shown}");
        assert_eq!(DeclaredChecks::from_text(&shown).unwrap().0.len(), 1);
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let (line, why) = read::<DeclaredChecks>("- job: a\n- job: b\n  frequenzy: 1\n").unwrap_err();
        assert_eq!((line, why.as_str()), (2, "there is no field frequenzy"));
        let (line, why) = read::<DeclaredChecks>("- job: 7\n").unwrap_err();
        assert!(line == 1 && why.contains("expected a string"), "{why}");
        assert!(read::<DeclaredChecks>("job: a\n").is_err());
        let twice = read::<StatusPages>("- name: a\n- name: b\n- name: a\n").unwrap_err();
        assert!(twice.1.contains("two status pages named \"a\""), "{twice:?}");
        assert_eq!(read::<StatusPages>("- name: a.b\n").unwrap_err().0, 1);
    }

    #[test]
    fn scalars_are_what_yaml_takes_them_for() {
        for (text, expected) in [
            ("1", "1"),
            ("-2.5", "-2.5"),
            ("true", "true"),
            ("1.2.3", "\"1.2.3\""),
            ("inf", "\"inf\""),
            ("V4", "\"V4\""),
        ] {
            assert_eq!(plain(text).to_string(), expected);
        }
    }
}
