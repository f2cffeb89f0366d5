//! What is refused, in which words.

use crate::Language;
use crate::files::check_file;
use crate::format::read_group;

use super::*;

#[test]
fn files_are_held_to_the_demands_of_prometheus() {
    let rules = |rules: &str| format!("groups:\n- name: g\n  rules:\n{rules}");
    for (text, expected) in [
        (
            rules("  - record: a\n    alert: b\n    expr: '1'\n"),
            vec!["4:13: 5:12: group \"g\", rule 1, \"b\": only one of 'record' and 'alert' must be set"],
        ),
        (
            rules("  - expr: '1'\n"),
            vec!["0:0: 0:0: group \"g\", rule 1, \"\": one of 'record' or 'alert' must be set"],
        ),
        (rules("  - record: a\n"), vec!["0:0: group \"g\", rule 1, \"a\": field 'expr' must be set in rule"]),
        (
            rules("  - record: a\n    expr: sum(\n"),
            vec![
                "5:11: group \"g\", rule 1, \"a\": could not parse expression: 1:5: parse error: unclosed left parenthesis",
            ],
        ),
        (
            rules(
                "  - record: a\n    expr: '1'\n    for: 1m\n    keep_firing_for: 1m\n    annotations: {x: y}\n",
            ),
            vec![
                "4:13: group \"g\", rule 1, \"a\": invalid field 'annotations' in recording rule",
                "4:13: group \"g\", rule 1, \"a\": invalid field 'for' in recording rule",
                "4:13: group \"g\", rule 1, \"a\": invalid field 'keep_firing_for' in recording rule",
            ],
        ),
        (
            rules("  - record: 'a{b}'\n    expr: '1'\n"),
            vec![
                "4:13: group \"g\", rule 1, \"a{b}\": braces present in the recording rule name; should it be in expr?: a{b}",
            ],
        ),
        (
            rules("  - alert: a\n    expr: '1'\n    labels: {__name__: x}\n"),
            vec!["group \"g\", rule 1, \"a\": invalid label name: __name__"],
        ),
        (
            rules("  - alert: a\n    expr: '1'\n    annotations: {x: '{{ $nope }}'}\n"),
            vec![
                "group \"g\", rule 1, \"a\": annotation \"x\": template: __alert_a:1: undefined variable \"$nope\"",
            ],
        ),
        (
            rules("  - alert: a\n    expr: '1'\n    labels: {x: '{{ nope 1 }}'}\n"),
            vec![
                "group \"g\", rule 1, \"a\": label \"x\": template: __alert_a:1: function \"nope\" not defined",
            ],
        ),
        (
            rules(
                "  - alert: a\n    expr: '1'\n    labels: {x: 1, y: true, z: 1.50}\n  - record: größe.x\n    expr: '1'\n",
            ),
            vec![],
        ),
        (
            rules("  - alert: a\n    expr: '1'\n    fro: 1m\n"),
            vec!["yaml: unmarshal errors:\n  line 6: field fro not found in type rulefmt.Rule"],
        ),
        (
            "group: []\n".to_owned(),
            vec!["yaml: unmarshal errors:\n  line 1: field group not found in type rulefmt.RuleGroups"],
        ),
        ("groups:\n- rules: []\n".to_owned(), vec!["0:0: Groupname must not be empty"]),
        (
            "groups:\n- name: a\n- name: a\n".to_owned(),
            vec!["0:0: groupname: \"a\" is repeated in the same file"],
        ),
        ("groups:\n- name: a\n  interval: abc\n".to_owned(), vec!["not a valid duration string: \"abc\""]),
        (
            "groups:\n- name: a\n  limit: many\n".to_owned(),
            vec!["yaml: unmarshal errors:\n  line 3: cannot unmarshal !!str `many` into int"],
        ),
        (
            "groups: {}\n".to_owned(),
            vec!["yaml: unmarshal errors:\n  line 1: cannot unmarshal !!map into []rulefmt.RuleGroup"],
        ),
        (
            "groups:\n- name: a\n  name: b\n".to_owned(),
            vec!["yaml: unmarshal errors:\n  line 3: mapping key \"name\" already defined at line 2"],
        ),
        (String::new(), vec![]),
    ] {
        let problems = check_file(&text, Language::Promql).err().unwrap_or_default();
        assert_eq!(problems, expected, "{text}");
    }
}

#[test]
fn the_configuration_api_refuses_in_the_words_of_mimir() {
    let bench = Bench::new();
    for (text, expected) in [
        ("", "invalid rules configuration: rule group name must not be empty"),
        ("rules: [{record: a, expr: '1'}]", "invalid rules configuration: rule group name must not be empty"),
        ("name: g", "invalid rules configuration: rule group 'g' has no rules"),
        ("name: [", "unable to decoded rule group"),
        ("name: g\ninterval: abc\nrules: [{record: a, expr: '1'}]", "unable to decoded rule group"),
        (
            "name: g\nsource_tenants: [a]\nrules: [{record: a, expr: '1'}]",
            "invalid rules configuration: rule group 'g' is a federated rule group, but rules federation is disabled; please contact your service administrator to have it enabled",
        ),
        (
            "name: g\nquery_offset: 1m\nevaluation_delay: 2m\nrules: [{record: a, expr: '1'}]",
            "invalid rules configuration: rule group 'g' has both query_offset and (deprecated) evaluation_delay set, but to different values; please remove the deprecated evaluation_delay and use query_offset instead",
        ),
        (
            "name: g\nrules:\n- expr: '1'\n- record: a",
            "0:0: 0:0: group \"g\", rule 0, \"\": one of 'record' or 'alert' must be set, 0:0: group \"g\", rule 1, \"a\": field 'expr' must be set in rule",
        ),
    ] {
        let error = bench.ruler.set_group("m", "ns", text).map_err(|e| e.to_string());
        assert_eq!(error, Err(expected.to_owned()), "{text}");
    }
    assert_eq!(
        bench
            .ruler
            .set_group("m", "ns", "name: g\nunknown: x\nrules: [{record: a, expr: '1'}]")
            .map_err(|e| e.to_string()),
        Ok(())
    );
    assert!(bench.ruler.set_group("other", "ns", "name: g").is_err());
}

#[test]
fn rules_over_logs_are_held_to_the_demands_of_loki() {
    for (text, expected) in [
        ("rules:\n- record: a\n  expr: vector(1)\n", Some("group 0: Groupname must not be empty")),
        ("name: g\nrules:\n- record: 'a b'\n  expr: vector(1)\n", Some("invalid recording rule name: a b")),
        (
            "name: g\nrules:\n- alert: A\n  expr: vector(1)\n  labels: {a-b: c}\n",
            Some("invalid label name: a-b"),
        ),
        (
            "name: g\nrules:\n- record: a\n  expr: vector(1)\n  for: 1m\n",
            Some("invalid field 'for' in recording rule"),
        ),
        (
            "name: g\nrules:\n- record: a\n  alert: b\n  expr: vector(1)\n",
            Some("only one of 'record' and 'alert' must be set"),
        ),
        ("name: g\nrules:\n- expr: vector(1)\n", Some("one of 'record' or 'alert' must be set")),
        ("name: g\nrules:\n- alert: A\n", Some("field 'expr' must be set in rule")),
        ("name: g\nrules:\n- alert: A\n  expr: sum(rate({a=\"b\"}[5m])) > 10\n", None),
        ("name: g\n", None),
    ] {
        let read = read_group(text).unwrap();
        let problems = crate::format::check_group(&read, Language::Logql, 0);
        assert_eq!(problems.first().map(|p| p.to_string()).as_deref(), expected, "{text}");
    }
    let read = read_group("name: g\nrules:\n- alert: A\n  expr: sum(rate(\n").unwrap();
    let problems = crate::format::check_group(&read, Language::Logql, 0);
    assert!(
        problems[0]
            .to_string()
            .starts_with("could not parse expression for alert 'A' in group 'g': parse error")
    );
}
