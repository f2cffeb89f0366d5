use pilothouse_model::SampleValue;

use super::histograms::histogram_text;
use super::series::{parse_labels, parse_values};
use super::*;

fn shown(text: &str) -> Result<String, String> {
    let one = |value: Option<SampleValue>| match value {
        None => "_".to_owned(),
        Some(SampleValue::Float(value)) if pilothouse_model::sample::is_stale(value) => "stale".to_owned(),
        Some(SampleValue::Float(value)) => pilothouse_model::sample::format_float(value),
        Some(SampleValue::Histogram(histogram)) => histogram_text(&histogram),
    };
    Ok(parse_values(text)?.into_iter().map(one).collect::<Vec<_>>().join(" "))
}

#[test]
fn values_are_read_as_promtool_reads_them() {
    for (text, expected) in [
        ("1 2.5 -3 1e3 +4", "1 2.5 -3 1000 4"),
        ("_ stale NaN Inf -Inf", "_ stale NaN +Inf -Inf"),
        ("1x2 _x3", "1 1 1 _ _ _"),
        ("0+10x3", "0 10 20 30"),
        ("-2+4x3", "-2 2 6 10"),
        ("10-2x2 1+0x1", "10 8 6 1 1"),
        ("1e-3+1e-3x1", "0.001 0.002"),
        ("0x2", "0 0 0"),
        ("", ""),
        ("{{count:3 sum:5 buckets:[1 2]}}", "{{count:3 sum:5 buckets:[1 2]}}"),
        ("{{}} 1", "{{}} 1"),
        (
            "{{schema:1 offset:2 buckets:[1]}}x1",
            "{{schema:1 offset:2 buckets:[1]}} {{schema:1 offset:2 buckets:[1]}}",
        ),
        (
            "{{count:1 sum:1 buckets:[1]}}+{{count:1 sum:2 buckets:[1]}}x2",
            "{{count:1 sum:1 buckets:[1]}} {{count:2 sum:3 buckets:[2]}} {{count:3 sum:5 buckets:[3]}}",
        ),
    ] {
        assert_eq!(shown(text), Ok(expected.to_owned()), "{text}");
    }
    for bad in ["x", "1+", "1x", "stales", "{{count:x}}", "{{count:1", "{{nope:1}}", "1x99999999999", "a1"] {
        assert!(shown(bad).is_err(), "{bad}");
    }
    assert_eq!(parse_labels("m{a=\"b\"}").map(|l| l.to_string()), Ok("{__name__=\"m\", a=\"b\"}".to_owned()));
    assert_eq!(parse_labels("{}").map(|l| l.to_string()), Ok("{}".to_owned()));
    assert!(parse_labels("m{").is_err());
}

const RULES: &str = "groups:
- name: one
  rules:
  - record: job:m:sum
    expr: sum by (job) (m)
  - alert: InstanceDown
    expr: up == 0
    for: 5m
    labels: {severity: page, zone: '{{ $externalLabels.zone }}'}
    annotations:
      summary: '{{ $labels.instance }} of {{ $labels.job }} down since {{ $externalURL }}'
- name: two
  rules:
  - alert: High
    expr: job:m:sum > 100
";

const TESTS: &str = "rule_files: [rules*.yml, absent.yml]
evaluation_interval: 1m
group_eval_order: [one, two]
tests:
- name: all
  interval: 1m
  external_labels: {zone: here}
  external_url: http://x
  input_series:
  - series: 'up{job=\"a\", instance=\"i1\"}'
    values: '1x3 0x20'
  - series: 'm{job=\"a\", i=\"1\"}'
    values: '0+10x20'
  - series: 'm{job=\"a\", i=\"2\"}'
    values: '0 _x5 stale 60x10'
  alert_rule_test:
  - eval_time: 8m
    alertname: InstanceDown
  - eval_time: 9m
    alertname: InstanceDown
    exp_alerts:
    - exp_labels: {severity: page, zone: here, job: a, instance: i1}
      exp_annotations: {summary: i1 of a down since http://x}
  - eval_time: 10m30s
    alertname: High
    exp_alerts:
    - exp_labels: {job: a}
  promql_expr_test:
  - expr: job:m:sum
    eval_time: 10m
    exp_samples:
    - labels: 'job:m:sum{job=\"a\"}'
      value: 160
  - expr: sum(nothing)
    eval_time: 1m
  - expr: '1.5'
    eval_time: 1m
    exp_samples: [{labels: '{}', value: 1.5}]
";

fn run(tests: &str) -> Report {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.yml"), RULES).unwrap();
    let path = directory.path().join("tests.yml");
    std::fs::write(&path, tests).unwrap();
    run_file(&path)
}

#[test]
fn tests_that_hold_say_nothing() {
    let report = run(TESTS);
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.warnings.len() == 1 && report.warnings[0].ends_with("absent.yml"), "{report:?}");
}

#[test]
fn what_differs_is_shown() {
    let report = run(&TESTS
        .replace("value: 160", "value: 161")
        .replace("severity: page, zone: here", "severity: info"));
    assert_eq!(
        report.failures,
        [
            "    name: all,\n    alertname: InstanceDown, time: 9m, \n        exp:[\n            0:\n              Labels:{alertname=\"InstanceDown\", instance=\"i1\", job=\"a\", severity=\"info\"}\n              Annotations:{summary=\"i1 of a down since http://x\"}\n            ], \n        got:[\n            0:\n              Labels:{alertname=\"InstanceDown\", instance=\"i1\", job=\"a\", severity=\"page\", zone=\"here\"}\n              Annotations:{summary=\"i1 of a down since http://x\"}\n            ]",
            "    expr: \"job:m:sum\", time: 10m,\n        exp: {__name__=\"job:m:sum\", job=\"a\"} 1.61E+02\n        got: {__name__=\"job:m:sum\", job=\"a\"} 1.6E+02",
        ]
    );
}

#[test]
fn faults_of_the_file_are_told() {
    for (text, expected) in [
        ("tets: []", "yaml: unmarshal errors:\n  line 1: field tets not found in type main.unitTestFile"),
        (
            "rule_files: [rules.yml]\ntests:\n- alert_rule_test: [{eval_time: 1m}]",
            "an item under alert_rule_test misses required attribute alertname at eval_time 1m",
        ),
        ("group_eval_order: [a, a]", "group name repeated in evaluation order: a"),
        (
            "tests:\n- promql_expr_test: [{expr: 'sum(', eval_time: 1m}]",
            "    expr: \"sum(\", time: 1m, err: 1:5: parse error: unclosed left parenthesis",
        ),
        ("tests:\n- start_timestamp: never", "cannot parse \"never\" to a valid timestamp"),
    ] {
        assert_eq!(run(text).failures, [expected], "{text}");
    }
}

#[test]
fn time_may_start_elsewhere_and_floats_may_be_neighbours() {
    let text = "tests:\n- interval: 1m\n  start_timestamp: 2025-01-01T00:00:00Z\n  input_series: [{series: m, values: 1x5}]\n  promql_expr_test:\n  - expr: timestamp(m)\n    eval_time: 5m\n    exp_samples: [{labels: '{}', value: 1735689900}]\n";
    assert_eq!(run(text).failures, Vec::<String>::new());
    let text = |fuzzy: bool| {
        format!(
            "fuzzy_compare: {fuzzy}\ntests:\n- promql_expr_test:\n  - expr: 0.1 + 0.2\n    exp_samples: [{{labels: '{{}}', value: 0.3}}]\n"
        )
    };
    assert_eq!(run(&text(true)).failures, Vec::<String>::new());
    assert_eq!(run(&text(false)).failures.len(), 1);
}
