//! Groups that come, change and go, and what a restart finds.

use super::*;
use crate::format::{print_group, print_namespaces};
use crate::{Error, RuleFile, RuleGroup};

const ALERT: &str = "name: g\ninterval: 30s\nalign_evaluation_time_on_interval: true\nrules:\n- alert: A\n  expr: m > 0\n  for: 1h\n  labels: {x: y}\n";

/// Milliseconds after the start since which the first alert is active.
fn active_since(bench: &Bench) -> Option<i64> {
    let RuleKind::Alerting { alerts, .. } = bench.rule("g", 0).kind else { return None };
    alerts.first().map(|alert| alert.active_at_ms - START_MS)
}

#[test]
fn a_waiting_alert_finds_back_after_a_restart() {
    let bench = Bench::new();
    bench.push_range("m", 0, 3 * 3_600_000, 1.0);
    bench.set("ns", ALERT);
    bench.run_for(20 * MINUTE);
    assert_eq!(active_since(&bench), Some(30_000));
    // Down for ten minutes: that long it waits longer.
    let after = bench.restarted(START_MS + 30 * MINUTE);
    after.run_for(30_000);
    assert_eq!(active_since(&after), Some(30 * MINUTE + 30_000));
    // While nothing is known of before, nothing is written that would hide it.
    let state_at = |t_ms| after.query_at("timestamp(ALERTS_FOR_STATE)", t_ms);
    assert_eq!(state_at(after.clock.now_ms()), Vec::<String>::new());
    after.run_for(60_000);
    assert_eq!(active_since(&after), Some(30_000 + 11 * MINUTE));
    assert_eq!(state_at(after.clock.now_ms()).len(), 1);
}

#[test]
fn an_alert_that_had_nearly_fired_waits_for_the_grace_period() {
    let bench = Bench::new();
    bench.push_range("m", 0, 3 * 3_600_000, 1.0);
    bench.set("ns", ALERT);
    bench.run_for(55 * MINUTE);
    let after = bench.restarted(START_MS + 60 * MINUTE);
    after.run_for(2 * MINUTE);
    // Restored a minute after the start, ten minutes before it may fire.
    assert_eq!(active_since(&after), Some((61 + 10 - 60) * MINUTE));
    after.run_to(START_MS + 71 * MINUTE - 1000);
    assert_eq!(after.states("g", 0).0, "pending");
    after.run_to(START_MS + 71 * MINUTE);
    assert_eq!(after.states("g", 0).0, "firing");
}

#[test]
fn an_alert_that_fired_fires_again_at_once_and_old_or_short_ones_begin_anew() {
    let bench = Bench::new();
    bench.push_range("m", 0, 5 * 3_600_000, 1.0);
    bench.set("ns", ALERT);
    bench.set("ns", &ALERT.replace("name: g", "name: short").replace("1h", "9m"));
    bench.run_for(70 * MINUTE);
    assert_eq!(bench.states("g", 0).0, "firing");
    let after = bench.restarted(START_MS + 72 * MINUTE);
    after.run_for(90_000);
    assert_eq!(after.states("g", 0).0, "firing");
    assert_eq!(after.states("short", 0).0, "pending");
    // Beyond the tolerance nothing is believed any more.
    let later = bench.restarted(START_MS + 140 * MINUTE);
    later.run_for(90_000);
    assert_eq!(later.states("g", 0).0, "pending");
}

#[test]
fn a_group_that_is_replaced_keeps_what_stays_the_same() {
    let bench = Bench::new();
    bench.push_range("m", 0, 3_600_000, 1.0);
    let text = |rules: &str| {
        format!("name: g\ninterval: 30s\nalign_evaluation_time_on_interval: true\nrules:\n{rules}")
    };
    let alert = "- alert: A\n  expr: m > 0\n  for: 5m\n";
    bench.set("ns", &text(&format!("{alert}- record: gone\n  expr: m\n- record: stays\n  expr: m\n")));
    bench.run_for(2 * MINUTE);
    bench.set("ns", &text(&format!("- record: stays\n  expr: m * 2\n{}", alert.replace("m > 0", "m >= 1"))));
    assert_eq!(bench.states("g", 1).0, "pending");
    bench.run_for(30_000);
    assert_eq!(bench.query("gone"), Vec::<String>::new());
    assert_eq!(bench.query("stays"), ["{__name__=\"stays\"} 2"]);
    let RuleKind::Alerting { alerts, .. } = bench.rule("g", 1).kind else { panic!("no alerts") };
    assert_eq!(alerts[0].active_at_ms, START_MS + 30_000);
    // A rule that waits longer puts a firing alert back to waiting.
    bench.run_for(5 * MINUTE);
    assert_eq!(bench.states("g", 1).0, "firing");
    bench.set("ns", &text(&format!("- record: stays\n  expr: m\n{}", alert.replace("5m", "30m"))));
    bench.run_for(30_000);
    assert_eq!(bench.states("g", 1).0, "pending");
}

#[test]
fn series_of_a_removed_group_end_unless_another_gives_them() {
    let bench = Bench::new();
    bench.push_range("m", 0, 3_600_000, 1.0);
    let text = |name: &str, rules: &str| {
        format!("name: {name}\ninterval: 30s\nalign_evaluation_time_on_interval: true\nrules:\n{rules}")
    };
    bench.set("ns", &text("old", "- record: a\n  expr: m\n- record: b\n  expr: m\n"));
    bench.run_for(MINUTE);
    bench.run_for(5_000);
    bench.ruler.delete_group("m", "ns", "old").unwrap();
    bench.set("ns", &text("new", "- record: a\n  expr: m\n"));
    assert_eq!(bench.query("b").len(), 1);
    bench.run_for(90_000);
    assert_eq!(bench.query("b"), Vec::<String>::new());
    assert_eq!(bench.query("a"), ["{__name__=\"a\"} 1"]);
    assert_eq!(bench.query("count_over_time(a[5m])"), ["{} 5"]);
}

#[test]
fn groups_are_kept_and_given_back_as_they_were_set() {
    let bench = Bench::new();
    let text = "name: my group\ninterval: 1m\nquery_offset: 30s\nlimit: 10\nrules:\n    - alert: A\n      expr: |-\n        vector(1)\n        + vector(2)\n      for: 2m\n      keep_firing_for: 1h30m\n      labels:\n        severity: page\n      annotations:\n        summary: 'It is {{ $value }}: bad'\n    - record: größe:sum\n      expr: vector(1)\nlabels:\n    a: b\n";
    bench.set("a/b", text);
    bench.set("ns", "{\"name\": \"j\", \"rules\": [{\"record\": \"r\", \"expr\": \"1\"}]}");
    let after = bench.restarted(START_MS + MINUTE);
    let group = after.ruler.group("m", "a/b", "my group").unwrap();
    assert_eq!(print_group(&group), text);
    let all = after.ruler.namespaces("m", None);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["a/b", "ns"]);
    assert!(print_namespaces(&all).starts_with("a/b:\n    - name: my group\n      interval: 1m\n"));
    assert_eq!(print_namespaces(&after.ruler.namespaces("m", Some("none"))), "{}\n");
    after.ruler.delete_namespace("m", "ns").unwrap();
    assert!(matches!(after.ruler.delete_namespace("m", "ns"), Err(Error::NoNamespace)));
    assert!(matches!(after.ruler.delete_group("m", "a/b", "other"), Err(Error::NoGroup)));
    assert!(matches!(after.ruler.group("other", "a/b", "my group"), Err(Error::NoGroup)));
    assert_eq!(after.restarted(START_MS + 2 * MINUTE).ruler.namespaces("m", None).len(), 1);
}

#[test]
fn limits_on_groups_and_rules() {
    let limits =
        pilothouse_model::limits::Limits { max_rule_groups: 1, max_rules_per_group: 1, ..Default::default() };
    let bench = Bench::with(
        Settings { limits: limits.into(), ..settings() },
        Arc::default(),
        Arc::new(MemoryState::default()),
        START_MS,
    );
    let set = |text: &str| bench.ruler.set_group("m", "ns", text).map_err(|e| e.to_string());
    let two = "name: a\nrules: [{record: r, expr: '1'}, {record: s, expr: '1'}]";
    assert_eq!(set(two), Err("per-user rules per rule group limit (limit: 1 actual: 2) exceeded".to_owned()));
    let one = |name: &str| format!("name: {name}\nrules: [{{record: r, expr: '1'}}]");
    assert_eq!(set(&one("a")), Ok(()));
    assert_eq!(set(&one("a")), Ok(()));
    assert_eq!(set(&one("b")), Err("per-user rule groups limit (limit: 1 actual: 2) exceeded".to_owned()));
}

#[test]
fn files_replace_what_came_from_files() {
    let bench = Bench::new();
    bench.push_range("m", 0, 3_600_000, 1.0);
    let group = |name: &str, expr: &str| -> RuleGroup {
        let text = format!(
            "name: {name}\ninterval: 30s\nalign_evaluation_time_on_interval: true\nrules:\n- record: {name}\n  expr: {expr}\n"
        );
        crate::format::read_group(&text).unwrap().group
    };
    let file = |groups: Vec<RuleGroup>| vec![RuleFile { path: "/etc/r.yml".to_owned(), groups }];
    bench.set("ns", "name: stored\nrules: [{record: s, expr: '1'}]");
    bench.ruler.set_files("m", &file(vec![group("a", "m"), group("b", "m")]), true).unwrap();
    bench.run_for(MINUTE);
    assert_eq!(bench.ruler.views("m").len(), 3);
    let ran = bench.ruler.figures().groups.iter().find(|g| g.key.name == "a").map(|g| g.iterations);
    bench.ruler.set_files("m", &file(vec![group("a", "m")]), false).unwrap();
    // What did not change was not disturbed.
    let still = bench.ruler.figures().groups.iter().find(|g| g.key.name == "a").map(|g| g.iterations);
    assert_eq!(ran, still);
    bench.run_for(2 * MINUTE);
    assert_eq!(bench.query("b"), Vec::<String>::new());
    assert_eq!(bench.query("a").len(), 1);
    let names: Vec<String> = bench.ruler.views("m").into_iter().map(|v| v.key.name).collect();
    assert_eq!(names, ["a", "stored"]);
    // Files are no namespaces of the configuration API.
    assert_eq!(bench.ruler.namespaces("m", None).keys().collect::<Vec<_>>(), ["ns"]);
}

#[test]
fn threads_evaluate_and_end() {
    let clock = Arc::new(pilothouse_model::ports::SystemClock);
    let series = Arc::new(MemorySeries::default());
    let ruler = Arc::new(Ruler::new(Parts {
        settings: settings(),
        clock,
        store: Arc::new(MemoryState::default()),
        alerts: Arc::new(Sent::default()),
        observer: None,
    }));
    let source = RuleSource {
        data: Data::Metrics(Arc::clone(&series) as _),
        sink: Arc::clone(&series) as _,
        written: Arc::clone(&series) as _,
    };
    ruler.add_source("m", source).unwrap();
    ruler.spawn().unwrap();
    ruler.set_group("m", "ns", "name: g\ninterval: 100ms\nrules: [{record: r, expr: '1'}]").unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while ruler.figures().groups[0].iterations < 3 && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    ruler.drain();
    let ran = ruler.figures().groups[0].iterations;
    assert!(ran >= 3);
    std::thread::sleep(std::time::Duration::from_millis(250));
    assert_eq!(ruler.figures().groups[0].iterations, ran);
}

#[test]
fn expressions_that_are_nested_deeply_are_refused_or_run() {
    let bench = Bench::new();
    let text = |depth: usize| {
        let (open, close) = ("(".repeat(depth), ")".repeat(depth));
        format!(
            "name: g\ninterval: 30s\nalign_evaluation_time_on_interval: true\nrules: [{{record: r, expr: '{open}1{close}'}}]"
        )
    };
    bench.set("ns", &text(1000));
    bench.run_for(30_000);
    assert_eq!(bench.query("r"), ["{__name__=\"r\"} 1"]);
    assert!(bench.ruler.set_group("m", "ns", &text(100_000)).is_err());
}
