//! YAML to groups, with the messages of the parser that Prometheus, Mimir and Loki use.

use std::collections::BTreeMap;

use pilothouse_model::labels::quote;
use pilothouse_model::time::parse_duration_ms;

use super::yaml::{self, Content, Node, Position};
use super::{Rule, RuleGroup};

/// A group with the places of its parts, which messages name.
#[derive(Debug, Clone, Default)]
pub struct ReadGroup {
    pub group: RuleGroup,
    pub(super) places: Vec<RulePlaces>,
}

/// Where the values of a rule stand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RulePlaces {
    pub(super) record: Position,
    pub(super) alert: Position,
    pub(super) expr: Position,
}

/// Reads one group, as the configuration APIs take it: YAML or JSON, unknown keys left out of
/// account. An empty text is an empty group, which the checks refuse.
pub fn read_group(text: &str) -> Result<ReadGroup, String> {
    let Some(node) = yaml::parse(text)? else { return Ok(ReadGroup::default()) };
    let mut reader = Reader::new(false);
    let group = reader.group(&node);
    reader.finish(group)
}

/// Reads a file of groups, in which nothing may stand that is not known.
pub fn read_file(text: &str) -> Result<Vec<ReadGroup>, String> {
    let Some(node) = yaml::parse(text)? else { return Ok(Vec::new()) };
    let mut reader = Reader::new(true);
    let mut groups = Vec::new();
    reader.mapping(&node, "rulefmt.RuleGroups", |reader, key, value| {
        if key == "groups" {
            groups = reader.list(value, "[]rulefmt.RuleGroup", Reader::group);
        }
        key == "groups"
    });
    reader.finish(groups)
}

/// Reads values out of a tree and collects what does not fit.
pub(crate) struct Reader {
    strict: bool,
    errors: Vec<Fault>,
}

enum Fault {
    /// One of a list that is told as a whole.
    Type(String),
    /// Told alone.
    Value(String),
}

impl Reader {
    /// `strict`: keys that are not known are faults.
    pub(crate) fn new(strict: bool) -> Self {
        Self { strict, errors: Vec::new() }
    }

    pub(crate) fn finish<T>(self, value: T) -> Result<T, String> {
        let mut types = Vec::new();
        for fault in self.errors {
            match fault {
                Fault::Value(text) => return Err(text),
                Fault::Type(text) => types.push(text),
            }
        }
        if types.is_empty() {
            return Ok(value);
        }
        Err(format!("yaml: unmarshal errors:\n  {}", types.join("\n  ")))
    }

    pub(crate) fn wrong_type(&mut self, node: &Node, wanted: &str) {
        let line = node.at.line;
        let shown = match &node.content {
            Content::Sequence(_) => "!!seq".to_owned(),
            Content::Mapping(_) => "!!map".to_owned(),
            Content::Scalar { text, plain } => {
                let short: String = match text.chars().count() {
                    0..=10 => text.clone(),
                    _ => text.chars().take(7).chain("...".chars()).collect(),
                };
                format!("{} `{short}`", tag_of(text, *plain))
            }
        };
        self.errors.push(Fault::Type(format!("line {line}: cannot unmarshal {shown} into {wanted}")));
    }

    /// Calls `each` with every key; it tells whether the key is known.
    pub(crate) fn mapping(
        &mut self,
        node: &Node,
        of: &str,
        mut each: impl FnMut(&mut Self, &str, &Node) -> bool,
    ) {
        if node.is_null() {
            return;
        }
        let Content::Mapping(pairs) = &node.content else { return self.wrong_type(node, of) };
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, value) in pairs {
            let Content::Scalar { text, .. } = &key.content else {
                self.wrong_type(key, "string");
                continue;
            };
            if let Some(first) = seen.insert(text, key.at.line) {
                self.errors.push(Fault::Type(format!(
                    "line {}: mapping key {} already defined at line {first}",
                    key.at.line,
                    quote(text)
                )));
                continue;
            }
            if !each(self, text, value) && self.strict {
                self.errors
                    .push(Fault::Type(format!("line {}: field {text} not found in type {of}", key.at.line)));
            }
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        node: &Node,
        of: &str,
        mut each: impl FnMut(&mut Self, &Node) -> T,
    ) -> Vec<T> {
        if node.is_null() {
            return Vec::new();
        }
        match &node.content {
            Content::Sequence(items) => items.iter().map(|item| each(self, item)).collect(),
            _ => {
                self.wrong_type(node, of);
                Vec::new()
            }
        }
    }

    pub(crate) fn text(&mut self, node: &Node) -> String {
        match &node.content {
            _ if node.is_null() => String::new(),
            Content::Scalar { text, .. } => text.clone(),
            _ => {
                self.wrong_type(node, "string");
                String::new()
            }
        }
    }

    pub(crate) fn number(&mut self, node: &Node) -> i64 {
        if node.is_null() {
            return 0;
        }
        if let Content::Scalar { text, plain: true } = &node.content
            && let Ok(number) = text.parse()
        {
            return number;
        }
        self.wrong_type(node, "int");
        0
    }

    pub(crate) fn flag(&mut self, node: &Node) -> bool {
        match &node.content {
            Content::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "True" | "TRUE") => {
                true
            }
            Content::Scalar { text, plain: true } if matches!(text.as_str(), "false" | "False" | "FALSE") => {
                false
            }
            _ if node.is_null() => false,
            _ => {
                self.wrong_type(node, "bool");
                false
            }
        }
    }

    pub(crate) fn duration(&mut self, node: &Node) -> i64 {
        let text = self.text(node);
        if node.is_null() || !matches!(node.content, Content::Scalar { .. }) {
            return 0;
        }
        parse_duration_ms(&text).unwrap_or_else(|e| {
            self.errors.push(Fault::Value(e.to_string()));
            0
        })
    }

    pub(crate) fn texts(&mut self, node: &Node) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        self.mapping(node, "map[string]string", |reader, key, value| {
            let value = reader.text(value);
            map.insert(key.to_owned(), value);
            true
        });
        map
    }

    /// A fault that is told alone.
    pub(crate) fn fault(&mut self, text: String) {
        self.errors.push(Fault::Value(text));
    }

    fn group(&mut self, node: &Node) -> ReadGroup {
        let mut read = ReadGroup::default();
        self.mapping(node, "rulefmt.RuleGroup", |reader, key, value| {
            let group = &mut read.group;
            match key {
                "name" => group.name = reader.text(value),
                "interval" => group.interval_ms = Some(reader.duration(value)).filter(|ms| *ms != 0),
                "query_offset" => group.query_offset_ms = Some(reader.duration(value)),
                "evaluation_delay" => group.evaluation_delay_ms = Some(reader.duration(value)),
                "limit" => group.limit = reader.number(value),
                "labels" => group.labels = reader.texts(value),
                "align_evaluation_time_on_interval" => group.aligned = reader.flag(value),
                "source_tenants" => group.source_tenants = reader.list(value, "[]string", Self::text),
                "rules" => {
                    let rules = reader.list(value, "[]rulefmt.Rule", Self::rule);
                    (group.rules, read.places) = rules.into_iter().unzip();
                }
                _ => return false,
            }
            true
        });
        read
    }

    fn rule(&mut self, node: &Node) -> (Rule, RulePlaces) {
        let (mut rule, mut places) = (Rule::default(), RulePlaces::default());
        self.mapping(node, "rulefmt.Rule", |reader, key, value| {
            match key {
                "record" => (rule.record, places.record) = (reader.text(value), value.at),
                "alert" => (rule.alert, places.alert) = (reader.text(value), value.at),
                "expr" => (rule.expr, places.expr) = (reader.text(value), value.at),
                "for" => rule.for_ms = reader.duration(value),
                "keep_firing_for" => rule.keep_firing_for_ms = reader.duration(value),
                "labels" => rule.labels = reader.texts(value),
                "annotations" => rule.annotations = reader.texts(value),
                _ => return false,
            }
            true
        });
        (rule, places)
    }
}

fn tag_of(text: &str, plain: bool) -> &'static str {
    if !plain {
        return "!!str";
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => "!!null",
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => "!!bool",
        _ if text.parse::<i64>().is_ok() => "!!int",
        _ if text.parse::<f64>().is_ok() => "!!float",
        _ => "!!str",
    }
}
