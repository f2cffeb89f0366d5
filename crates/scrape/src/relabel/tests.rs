//! Tables: rules in YAML, labels before and after.

use pilothouse_model::{Labels, LabelsBuilder};

use super::{NameScheme, Rule, RuleSpec, apply};

fn rules(yaml: &str) -> Result<Vec<Rule>, String> {
    let specs: Vec<RuleSpec> = serde_norway::from_str(yaml).map_err(|e| e.to_string())?;
    specs.into_iter().map(|spec| Rule::new(spec).map_err(|e| e.to_string())).collect()
}

/// `a=1 b=2` as labels.
fn labels(text: &str) -> Labels {
    Labels::from_pairs(text.split_whitespace().map(|pair| pair.split_once('=').unwrap()))
}

fn check(yaml: &str, before: &str, after: Option<&str>) {
    let rules = rules(yaml).unwrap();
    let mut builder = LabelsBuilder::from(&labels(before));
    let kept = apply(&rules, &mut builder);
    assert_eq!(kept.then(|| builder.build()), after.map(labels), "{yaml}\non {before}");
}

#[test]
fn values_are_replaced() {
    for (rule, before, after) in [
        // What a group captured, and labels joined.
        (
            "source_labels: [a], regex: f(.*), target_label: d, replacement: ch$1-ch$1",
            "a=foo",
            "a=foo d=choo-choo",
        ),
        ("source_labels: [a, b], target_label: c", "a=1 b=2", "a=1 b=2 c=1;2"),
        ("source_labels: [a, b], separator: '', target_label: c", "a=1 b=2", "a=1 b=2 c=12"),
        ("source_labels: [a, none], target_label: c", "a=1", "a=1 c=1;"),
        // Anchored on both sides, and `.` matches line feeds.
        ("source_labels: [a], regex: oo, target_label: b, replacement: x", "a=foo", "a=foo"),
        ("source_labels: [a], regex: f|b, target_label: b, replacement: x", "a=foo", "a=foo"),
        // No source is the empty text, which the default matches.
        ("target_label: a, replacement: fixed", "", "a=fixed"),
        ("target_label: a, replacement: 7", "", "a=7"),
        ("source_labels: [none], regex: x?, target_label: a, replacement: y", "b=1", "a=y b=1"),
        ("source_labels: [none], regex: .+, target_label: a, replacement: y", "b=1", "b=1"),
        // An expression that is given as nothing matches nothing but nothing.
        ("source_labels: [b], regex: '', target_label: a, replacement: y", "b=1", "b=1"),
        ("source_labels: [c], regex: '', target_label: a, replacement: y", "b=1", "a=y b=1"),
        ("source_labels: [c], regex: null, target_label: a, replacement: y", "b=1", "a=y b=1"),
        // An empty result removes; a target that comes out as no name does nothing.
        ("source_labels: [a], regex: (x)?foo, target_label: a, replacement: $1", "a=foo b=1", "b=1"),
        ("target_label: a, replacement: ''", "a=1 b=1", "b=1"),
        ("source_labels: [a], regex: (x)?foo, target_label: $1, replacement: y", "a=foo", "a=foo"),
        // Variables in the target, with and without braces; unknown ones are empty.
        ("source_labels: [a], regex: (f).*, target_label: '${1}oo', replacement: y", "a=foo", "a=foo foo=y"),
        ("source_labels: [a], regex: (f).*, target_label: $1oo, replacement: y", "a=foo", "a=foo"),
        (
            "source_labels: [a], regex: (?P<n>f).*, target_label: b, replacement: '${n}-$3-$$'",
            "a=foo",
            "a=foo b=f--$",
        ),
        // Names beyond the older set.
        ("source_labels: [a], target_label: 'dotted.name', replacement: ü", "a=1", "a=1 dotted.name=ü"),
        ("source_labels: [dotted.name], target_label: b", "dotted.name=1", "dotted.name=1 b=1"),
    ] {
        check(&format!("[{{{rule}}}]"), before, Some(after));
    }
}

#[test]
fn labels_are_kept_and_dropped() {
    for (rule, before, kept) in [
        ("action: keep, source_labels: [a], regex: f.*", "a=foo", true),
        ("action: keep, source_labels: [a], regex: f", "a=foo", false),
        ("action: keep, source_labels: [none], regex: f", "a=foo", false),
        ("action: drop, source_labels: [a], regex: f.*", "a=foo", false),
        ("action: drop, source_labels: [none], regex: ''", "a=foo", false),
        ("action: DROP, source_labels: [a, b], regex: foo;1", "a=foo b=1", false),
        ("action: drop, source_labels: [a]", "a=foo", false),
        ("action: keepequal, source_labels: [a], target_label: b", "a=1 b=1", true),
        ("action: keepequal, source_labels: [a], target_label: b", "a=1 b=2", false),
        ("action: keepequal, source_labels: [x], target_label: y", "a=1", true),
        ("action: dropequal, source_labels: [a], target_label: b", "a=1 b=1", false),
        ("action: dropequal, source_labels: [a], target_label: b", "a=1 b=2", true),
    ] {
        check(&format!("[{{{rule}}}]"), before, kept.then_some(before));
    }
}

#[test]
fn other_actions() {
    for (rule, before, after) in [
        ("action: hashmod, source_labels: [a], modulus: 1000, target_label: h", "a=foo", "a=foo h=696"),
        (
            "action: hashmod, source_labels: [a, b], modulus: 7, target_label: h",
            "a=foo b=bar",
            "a=foo b=bar h=6",
        ),
        ("action: labelmap, regex: __meta_(.+)", "__meta_x=1 b=2", "__meta_x=1 x=1 b=2"),
        ("action: labelmap, regex: '(.)1', replacement: '${1}2'", "a1=x b1=y a2=z", "a1=x b1=y a2=x b2=y"),
        ("action: labelmap, regex: '(.)(x)?', replacement: $2", "a=1", "a=1"),
        // What it writes is not mapped again.
        ("action: labelmap, regex: (a+), replacement: '${1}a'", "a=1", "a=1 aa=1"),
        ("action: labeldrop, regex: b.*", "a=1 b=2 bb=3", "a=1"),
        ("action: labelkeep, regex: b.*", "a=1 b=2 bb=3", "b=2 bb=3"),
        ("action: lowercase, source_labels: [a], target_label: b", "a=FooÄẞ", "a=FooÄẞ b=fooäß"),
        ("action: uppercase, source_labels: [a], target_label: b", "a=fooäß", "a=fooäß b=FOOÄß"),
        ("action: uppercase, source_labels: [none], target_label: a", "a=x b=1", "b=1"),
    ] {
        check(&format!("[{{{rule}}}]"), before, Some(after));
    }
}

#[test]
fn rules_see_what_the_ones_before_them_did() {
    let yaml = "
- {source_labels: [a], regex: (.)(.)(.), target_label: b, replacement: $3$2$1}
- {source_labels: [b], regex: oof, target_label: c, replacement: found}
- {action: labeldrop, regex: a}
";
    check(yaml, "a=foo", Some("b=oof c=found"));
    check("[{action: drop, source_labels: [a], regex: x}, {target_label: a, replacement: x}]", "a=x", None);
}

#[test]
fn what_is_refused() {
    for (rule, text) in [
        ("action: nothing", "unknown relabel action \"nothing\""),
        ("sauce_labels: [a]", "unknown field `sauce_labels`"),
        ("source_labels: [a]", "relabel configuration for replace action requires 'target_label' value"),
        ("action: hashmod, target_label: a", "relabel configuration for hashmod requires non-zero modulus"),
        (
            "action: hashmod, modulus: 8",
            "relabel configuration for hashmod action requires 'target_label' value",
        ),
        ("action: lowercase", "relabel configuration for lowercase action requires 'target_label' value"),
        ("action: keepequal", "relabel configuration for keepequal action requires 'target_label' value"),
        (
            "action: lowercase, target_label: a, replacement: x",
            "'replacement' can not be set for lowercase action",
        ),
        ("action: labelmap, replacement: ''", "\"\" is invalid 'replacement' for labelmap action"),
        (
            "action: dropequal, target_label: a, regex: (.*)",
            "dropequal action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        (
            "action: labeldrop, target_label: a, regex: x",
            "labeldrop action requires only 'regex', and no other fields",
        ),
        (
            "action: labelkeep, separator: '-', regex: x",
            "labelkeep action requires only 'regex', and no other fields",
        ),
        ("target_label: a, regex: '('", "missing closing ): `(`"),
    ] {
        let error = rules(&format!("[{{{rule}}}]")).unwrap_err();
        assert!(error.contains(text), "{rule}: {error}");
    }
}

#[test]
fn the_older_names_may_be_asked_for() {
    let with = |text: &str| {
        let mut spec: RuleSpec = serde_norway::from_str(&format!("{{{text}}}")).unwrap();
        spec.names = NameScheme::Legacy;
        Rule::new(spec).map_err(|e| e.to_string())
    };
    for (rule, text) in [
        ("target_label: a.b", "\"a.b\" is invalid 'target_label' for replace action"),
        ("target_label: 'a-$1'", "\"a-$1\" is invalid 'target_label' for replace action"),
        ("target_label: '1$1'", "\"1$1\" is invalid 'target_label' for replace action"),
        ("target_label: 'a${1'", "\"a${1\" is invalid 'target_label' for replace action"),
        ("action: uppercase, target_label: $1", "\"$1\" is invalid 'target_label' for uppercase action"),
        (
            "action: hashmod, modulus: 1, target_label: ü",
            "\"ü\" is invalid 'target_label' for hashmod action",
        ),
        ("action: labelmap, replacement: '-$1'", "\"-$1\" is invalid 'replacement' for labelmap action"),
    ] {
        assert_eq!(with(rule).unwrap_err(), text);
    }
    let rule = with("source_labels: [a], target_label: 'x_${1}_$1', replacement: y").unwrap();
    let mut builder = LabelsBuilder::from(&labels("a=b"));
    assert!(apply(std::slice::from_ref(&rule), &mut builder));
    assert_eq!(builder.build(), labels("a=b x_b_b=y"));
    // What comes out must be such a name too.
    let mut builder = LabelsBuilder::from(&labels("a=b-c"));
    assert!(apply(&[rule], &mut builder));
    assert_eq!(builder.build(), labels("a=b-c"));
}
