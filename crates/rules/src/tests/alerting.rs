//! Alerts as rules make them: states, series, labels, annotations.

use super::*;

const GROUP: &str = "interval: 30s\nalign_evaluation_time_on_interval: true\n";

fn group(name: &str, rules: &str) -> String {
    format!("name: {name}\n{GROUP}rules:\n{rules}")
}

/// Times after the start, in seconds, at which an alert was sent, with `starts` and `ends`.
fn sent_times(sent: &[(i64, Alert)]) -> Vec<(i64, i64, i64)> {
    let after = |t_ms: i64| (t_ms - START_MS) / SECOND;
    sent.iter().map(|(at, alert)| (after(*at), after(alert.starts_at_ms), after(alert.ends_at_ms))).collect()
}

#[test]
fn waiting_firing_and_resolved() {
    let bench = Bench::new();
    let rules = "- alert: Simple\n  expr: m > 10\n  for: 6m\n  labels: {foo: bar}\n  annotations:\n    description: It fires\n    summary: The value is {{$value}} {{.Value}}\n";
    bench.push_range("m{i=\"1\"}", 0, 60_000, 5.0);
    bench.push_range("m{i=\"1\"}", 60_000, 600_000, 11.0);
    bench.push_range("m{i=\"1\"}", 600_000, 1_800_000, 5.0);
    bench.set("ns", &group("g", rules));
    bench.run_for(MINUTE - 30_000);
    assert_eq!(bench.states("g", 0), ("inactive", vec![]));
    bench.run_for(30_000);
    let labels = r#"{alertname="Simple", foo="bar", i="1"}"#;
    assert_eq!(bench.states("g", 0), ("pending", vec![format!("pending {labels}")]));
    let series = |state: &str| {
        vec![format!(
            r#"{{__name__="ALERTS", alertname="Simple", alertstate="{state}", foo="bar", i="1"}} 1"#
        )]
    };
    assert_eq!(bench.query("ALERTS"), series("pending"));
    let since = (START_MS + MINUTE) / SECOND;
    assert_eq!(
        bench.query("ALERTS_FOR_STATE"),
        [format!(r#"{{__name__="ALERTS_FOR_STATE", alertname="Simple", foo="bar", i="1"}} {since}"#)]
    );
    // Six minutes after it began, and not before.
    bench.run_to(START_MS + 7 * MINUTE - 1000);
    assert_eq!(bench.states("g", 0).0, "pending");
    assert!(bench.take_sent().is_empty());
    bench.run_to(START_MS + 7 * MINUTE);
    assert_eq!(bench.states("g", 0).0, "firing");
    assert_eq!(bench.query("ALERTS"), series("firing"));
    bench.run_to(START_MS + 10 * MINUTE - 1000);
    let sent = bench.take_sent();
    // Every 90 seconds: the first multiple of the interval beyond the resend delay.
    assert_eq!(sent_times(&sent), [(420, 420, 660), (510, 420, 750)]);
    let alert = &sent[0].1;
    assert_eq!(alert.labels.to_string(), labels);
    let annotations: Vec<_> = alert.annotations.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(annotations, [("description", "It fires"), ("summary", "The value is 11 11")]);
    assert_eq!(alert.generator_url, "http://ph/graph?g0.expr=m+%3E+10&g0.tab=1");
    // Resolved at the first miss, told at once, and again for fifteen minutes.
    bench.run_to(START_MS + 10 * MINUTE);
    assert_eq!(bench.states("g", 0), ("inactive", vec![]));
    assert_eq!(bench.query("ALERTS"), Vec::<String>::new());
    bench.run_to(START_MS + 28 * MINUTE);
    let sent = sent_times(&bench.take_sent());
    assert_eq!(sent[0], (600, 420, 600));
    assert_eq!(sent[1], (690, 420, 600));
    assert!(sent.iter().all(|(_, starts, ends)| (*starts, *ends) == (420, 600)));
    assert_eq!(sent.last().map(|s| s.0), Some(1500));
}

#[test]
fn an_alert_that_comes_back_begins_anew() {
    let bench = Bench::new();
    bench.push_range("m", 0, 60_000, 1.0);
    bench.push_range("m", 60_000, 120_000, 0.0);
    bench.push_range("m", 120_000, 600_000, 1.0);
    bench.set("ns", &group("g", "- alert: A\n  expr: m > 0\n"));
    bench.run_to(START_MS + 150_000);
    let RuleKind::Alerting { alerts, .. } = bench.rule("g", 0).kind else { panic!("no alerts") };
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].active_at_ms, START_MS + 120_000);
    assert_eq!(sent_times(&bench.take_sent()), [(30, 30, 270), (60, 30, 60), (120, 120, 360)]);
}

#[test]
fn keep_firing_for_bridges_gaps() {
    let bench = Bench::new();
    bench.push_range("m", 0, 60_000, 1.0);
    bench.push_range("m", 60_000, 900_000, 0.0);
    bench.set("ns", &group("g", "- alert: A\n  expr: m > 0\n  keep_firing_for: 2m\n"));
    bench.run_to(START_MS + 60_000);
    let RuleKind::Alerting { alerts, .. } = bench.rule("g", 0).kind else { panic!("no alerts") };
    assert_eq!(alerts[0].keep_firing_since_ms, Some(START_MS + 60_000));
    bench.run_to(START_MS + 150_000);
    assert_eq!(bench.states("g", 0).0, "firing");
    bench.run_to(START_MS + 180_000);
    assert_eq!(bench.states("g", 0).0, "inactive");
}

#[test]
fn external_labels_are_sent_and_not_listed() {
    let settings =
        Settings { external_labels: Labels::from_pairs([("region", "here"), ("i", "no")]), ..settings() };
    let bench = Bench::with(settings, Arc::default(), Arc::new(MemoryState::default()), START_MS);
    bench.push_range("m{i=\"1\"}", 0, 60_000, 1.0);
    bench.set(
        "ns",
        &group("g", "- alert: A\n  expr: m\n  annotations: {r: '{{ $externalLabels.region }}'}\n"),
    );
    bench.run_for(30_000);
    let sent = bench.take_sent();
    assert_eq!(sent[0].1.labels.to_string(), r#"{alertname="A", i="1", region="here"}"#);
    assert_eq!(sent[0].1.annotations["r"], "here");
    assert_eq!(bench.states("g", 0).1, [r#"firing {alertname="A", i="1"}"#]);
}

#[test]
fn values_and_annotations_are_refreshed_and_labels_make_alerts() {
    let bench = Bench::new();
    for (i, value) in [1.0, 2.0, 3.0].into_iter().enumerate() {
        bench.push("m{a=\"b\"}", i as i64 * 30_000 + 30_000, value);
    }
    bench.set("ns", &group("g", "- alert: A\n  expr: m\n  labels: {size: '{{ if gt $value 2.0 }}big{{ else }}small{{ end }}'}\n  annotations: {v: '{{ $value }}', q: '{{ query \"m\" | first | value }}'}\n"));
    bench.run_for(60_000);
    let RuleKind::Alerting { alerts, .. } = bench.rule("g", 0).kind else { panic!("no alerts") };
    assert_eq!(
        (alerts[0].value, alerts[0].annotations["v"].as_str(), alerts[0].annotations["q"].as_str()),
        (2.0, "2", "2")
    );
    assert_eq!(alerts[0].active_at_ms, START_MS + 30_000);
    bench.run_for(30_000);
    // Another label makes another alert; the former one is over.
    assert_eq!(bench.states("g", 0).1, [r#"firing {a="b", alertname="A", size="big"}"#]);
}
