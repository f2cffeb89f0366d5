//! What a group must fulfil, in the words of each of the programs whose clients read them.

use std::fmt;

use pilothouse_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};

use super::read::{ReadGroup, RulePlaces};
use super::yaml::Position;
use super::{Rule, RuleGroup};
use crate::expression::{Expression, Language};
use crate::template::check_template;

/// One fault of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    message: String,
    /// The rule's number and name, and where it stands.
    rule: Option<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    group: String,
    number: usize,
    name: String,
    at: Option<Position>,
    also_at: Option<Position>,
}

impl Problem {
    fn of_group(message: String) -> Self {
        Self { message, rule: None }
    }

    /// What is wrong, without saying where.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// As Prometheus shows it: `3:9: group "g", rule 1, "a": …`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.rule {
            for at in [place.at, place.also_at].into_iter().flatten() {
                write!(f, "{}:{}: ", at.line, at.column)?;
            }
            write!(f, "group {:?}, rule {}, {:?}: ", place.group, place.number, place.name)?;
        }
        f.write_str(&self.message)
    }
}

/// Checks a group. Rules over metrics are held to Prometheus' demands, with a number of the rule
/// that begins at `first`; rules over logs to Loki's, which tells the first fault of each rule
/// and no places.
pub fn check_group(read: &ReadGroup, language: Language, first: usize) -> Vec<Problem> {
    let mut problems = match language {
        Language::Promql => check_frame(&read.group),
        Language::Logql => check_log_frame(&read.group),
    };
    for (i, rule) in read.group.rules.iter().enumerate() {
        let places = read.places.get(i).copied().unwrap_or_default();
        match language {
            Language::Promql => {
                let mut found = Vec::new();
                check_rule(rule, places, &mut found);
                problems.extend(found.into_iter().map(|fault| fault.in_group(&read.group, first + i, rule)));
            }
            Language::Logql => problems.extend(check_log_rule(rule, &read.group.name).map(Problem::of_group)),
        }
    }
    problems
}

fn check_frame(group: &RuleGroup) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, value) in &group.labels {
        problems.extend(check_label(name, value).map(Problem::of_group));
    }
    problems
}

fn check_log_frame(group: &RuleGroup) -> Vec<Problem> {
    match group.name.is_empty() {
        true => vec![Problem::of_group("group 0: Groupname must not be empty".to_owned())],
        false => Vec::new(),
    }
}

struct Fault {
    message: String,
    at: Option<Position>,
    also_at: Option<Position>,
}

impl Fault {
    fn in_group(self, group: &RuleGroup, number: usize, rule: &Rule) -> Problem {
        let place = Place {
            group: group.name.clone(),
            number,
            name: rule.name().to_owned(),
            at: self.at,
            also_at: self.also_at,
        };
        Problem { message: self.message, rule: Some(place) }
    }
}

fn fault(message: impl Into<String>) -> Fault {
    Fault { message: message.into(), at: None, also_at: None }
}

fn fault_at(at: Position, message: impl Into<String>) -> Fault {
    Fault { message: message.into(), at: Some(at), also_at: None }
}

const BOTH: &str = "only one of 'record' and 'alert' must be set";
const NEITHER: &str = "one of 'record' or 'alert' must be set";
const NO_EXPR: &str = "field 'expr' must be set in rule";

fn check_rule(rule: &Rule, places: RulePlaces, faults: &mut Vec<Fault>) {
    let kind = match (rule.record.is_empty(), rule.alert.is_empty()) {
        (false, false) => Some(BOTH),
        (true, true) => Some(NEITHER),
        _ => None,
    };
    if let Some(message) = kind {
        let also_at = Some(places.alert);
        faults.push(Fault { message: message.to_owned(), at: Some(places.record), also_at });
    }
    if rule.expr.is_empty() {
        faults.push(fault_at(places.expr, NO_EXPR));
    } else if let Err(e) = Expression::parse(Language::Promql, &rule.expr) {
        faults.push(fault_at(places.expr, format!("could not parse expression: {e}")));
    }
    if !rule.record.is_empty() {
        check_recording(rule, places.record, faults);
    }
    for (name, value) in &rule.labels {
        faults.extend(check_label(name, value).map(fault));
    }
    for name in rule.annotations.keys().filter(|name| name.is_empty()) {
        faults.push(fault(format!("invalid annotation name: {name}")));
    }
    faults.extend(template_problems(rule).map(fault));
}

fn check_recording(rule: &Rule, at: Position, faults: &mut Vec<Fault>) {
    let absent = [
        ("annotations", !rule.annotations.is_empty()),
        ("for", rule.for_ms != 0),
        ("keep_firing_for", rule.keep_firing_for_ms != 0),
    ];
    for (field, _) in absent.iter().filter(|(_, given)| *given) {
        faults.push(fault_at(at, format!("invalid field '{field}' in recording rule")));
    }
    if rule.record.contains(['{', '}']) {
        let name = &rule.record;
        faults.push(fault_at(
            at,
            format!("braces present in the recording rule name; should it be in expr?: {name}"),
        ));
    }
}

/// Any text that is no metric's name is a label's name, in UTF-8 as it is.
fn check_label(name: &str, _value: &str) -> Option<String> {
    (name.is_empty() || name == METRIC_NAME).then(|| format!("invalid label name: {name}"))
}

fn template_problems(rule: &Rule) -> impl Iterator<Item = String> {
    let is_alert = !rule.alert.is_empty();
    let labels = rule.labels.iter().map(|(name, text)| ("label", name, text));
    let annotations = rule.annotations.iter().map(|(name, text)| ("annotation", name, text));
    labels.chain(annotations).filter(move |_| is_alert).filter_map(|(kind, name, text)| {
        let error = check_template(&rule.alert, text).err()?;
        Some(format!("{kind} {name:?}: {error}"))
    })
}

/// The first fault of a rule over logs. Names must be of the old form there.
fn check_log_rule(rule: &Rule, group: &str) -> Option<String> {
    match (rule.record.is_empty(), rule.alert.is_empty()) {
        (false, false) => return Some(BOTH.to_owned()),
        (true, true) => return Some(NEITHER.to_owned()),
        _ => {}
    }
    if rule.expr.is_empty() {
        return Some(NO_EXPR.to_owned());
    }
    if let Err(e) = Expression::parse(Language::Logql, &rule.expr) {
        let kind = if rule.alert.is_empty() { "record" } else { "alert" };
        let name = rule.name();
        return Some(format!("could not parse expression for {kind} '{name}' in group '{group}': {e}"));
    }
    if !rule.record.is_empty() {
        if !rule.annotations.is_empty() {
            return Some("invalid field 'annotations' in recording rule".to_owned());
        }
        if rule.for_ms != 0 {
            return Some("invalid field 'for' in recording rule".to_owned());
        }
        if !is_legacy_metric_name(&rule.record) {
            return Some(format!("invalid recording rule name: {}", rule.record));
        }
    }
    let bad_label = |name: &&String| !is_legacy_label_name(name) || name.as_str() == METRIC_NAME;
    if let Some(name) = rule.labels.keys().find(bad_label) {
        return Some(format!("invalid label name: {name}"));
    }
    if let Some(name) = rule.annotations.keys().find(|name| !is_legacy_label_name(name)) {
        return Some(format!("invalid annotation name: {name}"));
    }
    template_problems(rule).next()
}
