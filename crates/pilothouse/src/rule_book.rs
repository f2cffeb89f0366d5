//! What the management API learns of rules, and the shipped rules that it switches on.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilothouse_alertmanager::Alertmanager;
use pilothouse_api::{AlertRule, MANAGED_RULES, ManagedRule, RuleBook};
use pilothouse_control::{AlertSettings, SourceId};
use pilothouse_model::time::{format_duration_ms, parse_duration_ms};
use pilothouse_rules::{Rule, RuleFile, RuleGroup, RuleKind};

use crate::rules::Rules;

/// The ruler's source of the shipped rules. No data source has this id, so that no list of users'
/// rules shows them.
pub(crate) const MANAGED: &str = "managed";

/// The shipped rules that some project or region has switched on, as a file for the ruler.
pub(crate) fn managed_file(settings: &[AlertSettings]) -> RuleFile {
    let is_on = |rule: &&ManagedRule| settings.iter().any(|s| s.managed_alerts || s.rules.contains(rule.id));
    let rules: Vec<Rule> = MANAGED_RULES.iter().filter(is_on).map(rule_of).collect();
    let group = RuleGroup { name: MANAGED.to_owned(), rules, ..RuleGroup::default() };
    let groups = if group.rules.is_empty() { Vec::new() } else { vec![group] };
    RuleFile { path: MANAGED.to_owned(), groups }
}

fn rule_of(rule: &ManagedRule) -> Rule {
    let texts = |pairs: [(&str, &str); 2]| pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    Rule {
        alert: rule.name.to_owned(),
        expr: rule.expr.to_owned(),
        for_ms: parse_duration_ms(rule.hold).unwrap_or(0),
        labels: texts([("managed", "true"), ("severity", rule.severity)]),
        annotations: texts([("description", rule.description), ("summary", rule.title)]),
        ..Rule::default()
    }
}

/// Rules and the Alertmanager, as the management API asks for them.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) rules: Arc<Rules>,
    pub(crate) alertmanager: Alertmanager,
}

impl Book {
    /// Sources of users, with the id that each is known by.
    fn sources(&self) -> impl Iterator<Item = (SourceId, String)> {
        let sources = self.rules.ruler().sources().into_iter();
        sources.filter_map(|(id, _)| Some((id.parse().ok()?, id)))
    }
}

impl RuleBook for Book {
    fn alerts(&self) -> Vec<AlertRule> {
        let mut found = Vec::new();
        for (source, id) in self.sources() {
            for rule in self.rules.ruler().views(&id).into_iter().flat_map(|group| group.rules) {
                let RuleKind::Alerting { state, for_ms, annotations, .. } = rule.kind else { continue };
                found.push(AlertRule {
                    source,
                    name: rule.name,
                    expr: rule.query.to_string(),
                    hold: format_duration_ms(for_ms),
                    state: state.as_str(),
                    annotations,
                });
            }
        }
        found
    }

    fn counts(&self) -> Vec<(SourceId, u64)> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for group in self.rules.ruler().figures().groups {
            *counts.entry(group.key.source).or_default() += group.rules;
        }
        self.sources().map(|(source, id)| (source, counts.get(&id).copied().unwrap_or(0))).collect()
    }

    fn state_of(&self, managed: &str) -> &'static str {
        let rules = self.rules.ruler().views(MANAGED).into_iter().flat_map(|group| group.rules);
        let state = rules.filter(|rule| rule.name == managed).find_map(|rule| match rule.kind {
            RuleKind::Alerting { state, .. } => Some(state.as_str()),
            RuleKind::Recording => None,
        });
        state.unwrap_or("inactive")
    }

    /// What is stored through the Alertmanager's own API is not made of contact points.
    fn has_other_receivers(&self) -> bool {
        self.alertmanager.document().is_some()
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_rules::Language;
    use pilothouse_rules::expression::Expression;

    use super::*;

    #[test]
    fn shipped_rules_can_be_evaluated_and_are_off() {
        assert!(managed_file(&[]).groups.is_empty());
        for rule in MANAGED_RULES {
            let made = rule_of(rule);
            assert!(Expression::parse(Language::Promql, &made.expr).is_ok(), "{}", rule.name);
            assert!(parse_duration_ms(rule.hold).is_ok(), "{}", rule.name);
        }
    }
}
