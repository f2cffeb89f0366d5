//! The scenarios by which Prometheus' compliance suite judges a generator of alerts, each told to
//! its end: every change of state, and every message to the Alertmanager with its times and texts.
//!
//! The suite runs them in real time against a receiver; here the clock is stepped. Series have a
//! sample every 15 seconds, groups run every 30, messages come again after the resend delay of a
//! minute, so every 90 seconds.

use super::*;

/// A series as runs of a value: how often it comes before the next.
type Runs = &'static [(f64, i64)];

/// Writes a series from the start on and gives when it ends, in seconds.
fn push_runs(bench: &Bench, selector: &str, runs: Runs) -> i64 {
    let mut at_ms = 0;
    for (value, count) in runs {
        bench.push_range(selector, at_ms, at_ms + count * 15_000, *value);
        at_ms += count * 15_000;
    }
    at_ms / SECOND
}

fn run(rules: &str, series: &[(&str, Runs)], until_s: i64) -> Bench {
    let bench = Bench::new();
    for (selector, runs) in series {
        push_runs(&bench, selector, runs);
    }
    bench.set(
        "ns",
        &format!("name: g\ninterval: 30s\nalign_evaluation_time_on_interval: true\nrules:\n{rules}"),
    );
    bench.run_to(START_MS + until_s * SECOND);
    bench
}

fn changes(bench: &Bench) -> Vec<String> {
    bench.observed.0.lock().clone()
}

/// Messages about an alert: when, whether it is over, since when and until when it fires, and an
/// annotation.
fn messages(bench: &Bench, alert: &str, variant: &str, annotation: &str) -> Vec<String> {
    let sent = bench.sent.alerts.lock();
    let is_wanted =
        |(_, a): &&(i64, Alert)| a.labels.value("alertname") == alert && a.labels.value("variant") == variant;
    let line = |(at_ms, alert): &(i64, Alert)| {
        let after = |t_ms: i64| (t_ms - START_MS) / SECOND;
        let word = if alert.resolved_at(*at_ms) { "resolved" } else { "firing" };
        let text = alert.annotations.get(annotation).map_or("", String::as_str);
        let (starts, ends) = (after(alert.starts_at_ms), after(alert.ends_at_ms));
        format!("{} {word} {starts}..{ends} {text}", after(*at_ms)).trim_end().to_owned()
    };
    sent.iter().filter(is_wanted).map(line).collect()
}

/// A message every 90 seconds. A firing alert ends four resend delays ahead.
fn every_90_s(from: i64, to: i64, starts: i64, resolved: Option<i64>, text: &str) -> Vec<String> {
    let line = |at: i64| match resolved {
        Some(ends) => format!("{at} resolved {starts}..{ends} {text}").trim_end().to_owned(),
        None => format!("{at} firing {starts}..{} {text}", at + 240).trim_end().to_owned(),
    };
    (from..=to).step_by(90).map(line).collect()
}

#[test]
fn waiting_firing_resolved_and_all_of_it_again() {
    const VALUES: Runs = &[
        (3.0, 1),
        (5.0, 3),
        (9.0, 4),
        // Two minutes: waits, for six, with one value and then another.
        (11.0, 13),
        (15.0, 32),
        (19.0, 16),
        // 1035 s: over for five minutes, while it is still told.
        (9.0, 20),
        // 1335 s: from the beginning.
        (15.0, 45),
        // 2010 s: over for good.
        (8.0, 80),
    ];
    let rules = "- alert: A\n  expr: m > 10\n  for: 6m\n  labels: {foo: bar}\n  annotations: {summary: 'at {{$value}} {{.Value}}'}\n";
    let bench = run(rules, &[("m{i=\"1\"}", VALUES)], 300);
    let waiting = |bench: &Bench| match bench.rule("g", 0).kind {
        RuleKind::Alerting { alerts, .. } => alerts[0].annotations["summary"].clone(),
        RuleKind::Recording => String::new(),
    };
    assert_eq!(waiting(&bench), "at 11 11");
    bench.run_to(START_MS + 330 * SECOND);
    assert_eq!(waiting(&bench), "at 15 15", "while it waits, texts follow the value");
    bench.run_to(START_MS + 3_600 * SECOND);
    assert_eq!(
        changes(&bench),
        [
            "120 A inactive -> pending",
            "480 A pending -> firing",
            "1050 A firing -> inactive",
            "1350 A inactive -> pending",
            "1710 A pending -> firing",
            "2010 A firing -> inactive",
        ]
    );
    let expected = [
        every_90_s(480, 750, 480, None, "at 15 15"),
        every_90_s(840, 1020, 480, None, "at 19 19"),
        // Nothing more once it waits again.
        every_90_s(1050, 1320, 480, Some(1050), "at 19 19"),
        every_90_s(1710, 1980, 1710, None, "at 15 15"),
        // For fifteen minutes.
        every_90_s(2010, 2910, 1710, Some(2010), "at 15 15"),
    ];
    assert_eq!(messages(&bench, "A", "", "summary"), expected.concat());
}

#[test]
fn waiting_and_gone_and_never_there() {
    const VALUES: Runs = &[(3.0, 1), (5.0, 3), (9.0, 4), (11.0, 11), (9.0, 80)];
    const ENDING: Runs = &[(9.0, 8), (11.0, 11)];
    let rules = "- alert: Waits\n  expr: m > 10\n  for: 3m\n- alert: Never\n  expr: m > 99\n  for: 3m\n\
                 - alert: Ends\n  expr: ending > 10\n  for: 20m\n";
    let bench = run(rules, &[("m", VALUES), ("ending", ENDING)], 1_800);
    assert_eq!(
        changes(&bench),
        [
            "120 Waits inactive -> pending",
            "120 Ends inactive -> pending",
            "300 Waits pending -> inactive",
            // Its data ended at 270 s and is too old five minutes later.
            "570 Ends pending -> inactive",
        ]
    );
    assert_eq!(bench.take_sent(), []);
    assert_eq!(bench.query("count_over_time(ALERTS{alertname=\"Never\"}[1h])"), Vec::<String>::new());
    assert_eq!(bench.query("{__name__=~\"ALERTS.*\"}"), Vec::<String>::new());
}

#[test]
fn no_wait_a_wait_shorter_than_the_interval_and_texts_that_ask() {
    const VALUES: Runs = &[
        (3.0, 1),
        (5.0, 3),
        (9.0, 4),
        // 120 s
        (15.0, 13),
        // 315 s: over for longer than it is told.
        (9.0, 72),
        // 1395 s: again, for the rule that wants less.
        (11.0, 13),
        (9.0, 200),
    ];
    const ENDING: Runs = &[(9.0, 8), (11.0, 4)];
    let rules = "- alert: Zero\n  expr: m > 10\n  annotations:\n    asked: '{{ define \"t\" }}of {{.arg0}} {{.arg1}}: {{ with query \"ids\" }}{{ . | sortByLabel \"id\" | first | label \"id\" }};{{ range $v := sortByLabel \"id\" . }} {{ . | label \"id\" }}={{ . | value }}{{ end }}{{ end }}{{ end }}{{ template \"t\" (args \"x\" 99) }}'\n\
                 - alert: Small\n  expr: m > 13\n  for: 15s\n  annotations:\n    made: '{{title \"of parts\"}} {{toUpper \"up\"}} {{stripPort \"[::1]:6006\"}} {{parseDuration \"2h10m15s\"}} {{if match \"[0-9]+$\" \"1a\"}}no{{end}}{{reReplaceAll \"r.*d\" \"replaced\" \"rpld\"}}'\n\
                 - alert: Ends\n  expr: ending > 10\n";
    let ids: [(&str, Runs); 2] =
        [("ids{id=\"102\"}", &[(2.0, 10), (4.0, 300)]), ("ids{id=\"101\"}", &[(1.0, 10), (3.0, 300)])];
    let bench = run(rules, &[&[("m", VALUES), ("ending", ENDING)], &ids[..]].concat(), 3_000);
    assert_eq!(
        changes(&bench),
        [
            "120 Zero inactive -> firing",
            "120 Small inactive -> pending",
            "120 Ends inactive -> firing",
            "150 Small pending -> firing",
            "330 Zero firing -> inactive",
            "330 Small firing -> inactive",
            // Its data ended at 165 s.
            "480 Ends firing -> inactive",
            "1410 Zero inactive -> firing",
            "1590 Zero firing -> inactive",
        ]
    );
    let asked = ["of x 99: 101; 101=1 102=2", "of x 99: 101; 101=3 102=4"];
    let expected = [
        every_90_s(120, 120, 120, None, asked[0]),
        every_90_s(210, 300, 120, None, asked[1]),
        every_90_s(330, 1230, 120, Some(330), asked[1]),
        every_90_s(1410, 1500, 1410, None, asked[1]),
        every_90_s(1590, 2490, 1410, Some(1590), asked[1]),
    ];
    assert_eq!(messages(&bench, "Zero", "", "asked"), expected.concat());
    let made = "Of Parts UP ::1 7815 replaced";
    let expected = [every_90_s(150, 240, 150, None, made), every_90_s(330, 1230, 150, Some(330), made)];
    assert_eq!(messages(&bench, "Small", "", "made"), expected.concat());
    let expected = [every_90_s(120, 390, 120, None, ""), every_90_s(480, 1380, 120, Some(480), "")];
    assert_eq!(messages(&bench, "Ends", "", ""), expected.concat());
}

#[test]
fn new_alerts_beside_others_and_rules_that_read_the_alerts_of_others() {
    const ONE: Runs = &[(1.0, 8), (11.0, 65), (9.0, 100)];
    const TWO: Runs = &[(1.0, 32), (11.0, 33), (9.0, 100)];
    let rules = "- alert: First\n  expr: m > 10\n  for: 3m\n  labels: {foo: bar}\n  annotations: {text: more may come}\n\
                 - alert: Second\n  expr: (ALERTS{alertstate=\"firing\",alertname=\"First\",variant=\"one\"} + ignoring (variant) ALERTS{alertstate=\"firing\",alertname=\"First\",variant=\"two\"}) == 2\n  labels: {foo: baz}\n  annotations: {text: 'it was {{$labels.alertname}} with {{.Labels.foo}}'}\n";
    let bench = run(rules, &[("m{variant=\"one\"}", ONE), ("m{variant=\"two\"}", TWO)], 2_400);
    assert_eq!(
        changes(&bench),
        [
            "120 Firstone inactive -> pending",
            "300 Firstone pending -> firing",
            "480 Firsttwo inactive -> pending",
            "660 Firsttwo pending -> firing",
            // In the very evaluation in which both are there, and in which one is gone.
            "660 Second inactive -> firing",
            "990 Firsttwo firing -> inactive",
            "990 Second firing -> inactive",
            "1110 Firstone firing -> inactive",
        ]
    );
    let text = "more may come";
    let expected = [every_90_s(300, 1020, 300, None, text), every_90_s(1110, 2010, 300, Some(1110), text)];
    assert_eq!(messages(&bench, "First", "one", "text"), expected.concat());
    let expected = [every_90_s(660, 930, 660, None, text), every_90_s(990, 1890, 660, Some(990), text)];
    assert_eq!(messages(&bench, "First", "two", "text"), expected.concat());
    // Texts see the labels of the result and not those that the rule lays over them.
    let text = "it was First with bar";
    let expected = [every_90_s(660, 930, 660, None, text), every_90_s(990, 1890, 660, Some(990), text)];
    assert_eq!(messages(&bench, "Second", "", "text"), expected.concat());
    let sent = bench.take_sent();
    let second = sent.iter().find(|(_, alert)| alert.labels.value("alertname") == "Second").unwrap();
    assert_eq!(second.1.labels.to_string(), r#"{alertname="Second", alertstate="firing", foo="baz"}"#);
}
