//! What recording rules write.

use super::*;
use crate::Health;

#[test]
fn a_rule_writes_its_result_under_its_name_at_the_slot() {
    let bench = Bench::new();
    bench.push("m{team=\"old\",zone=\"z\"}", 50_000, 3.0);
    bench.set(
        "ns",
        "name: g\ninterval: 30s\nalign_evaluation_time_on_interval: true\nlabels: {from: group, team: group}\nrules:\n- record: a:b\n  expr: m\n  labels: {team: new}\n- record: c:d\n  expr: a:b * 2\n- record: drop\n  expr: m\n  labels: {zone: \"\"}\n- record: one\n  expr: '42'\n",
    );
    bench.run_for(MINUTE);
    let at = START_MS + MINUTE;
    assert_eq!(bench.query_at("a:b", at), ["{__name__=\"a:b\", from=\"group\", team=\"new\", zone=\"z\"} 3"]);
    assert_eq!(
        bench.query_at("c:d", at),
        ["{__name__=\"c:d\", from=\"group\", team=\"group\", zone=\"z\"} 6"]
    );
    assert_eq!(bench.query_at("drop", at), ["{__name__=\"drop\", from=\"group\", team=\"group\"} 3"]);
    assert_eq!(
        bench.query_at("timestamp(one)", at),
        [format!("{{from=\"group\", team=\"group\"}} {}", at / 1000)]
    );
    let view = bench.view("g");
    assert_eq!((view.interval_ms, view.key.namespace.as_str()), (30_000, "ns"));
    assert_eq!(view.rules[0].query.as_ref(), "m");
    assert_eq!(view.rules[0].health, Health::Good);
}

#[test]
fn an_offset_moves_reading_and_writing_back() {
    let bench = Bench::new();
    bench.push("m", 0, 1.0);
    bench.push("m", 30_000, 2.0);
    bench.set(
        "ns",
        "name: g\ninterval: 1m\nquery_offset: 40s\nalign_evaluation_time_on_interval: true\nrules:\n- record: r\n  expr: m\n- alert: A\n  expr: m > 0\n",
    );
    bench.run_for(MINUTE);
    let at = START_MS + 20_000;
    assert_eq!(bench.query_at("r", at), ["{__name__=\"r\"} 1"]);
    assert_eq!(
        bench.query_at("timestamp(ALERTS)", at),
        [format!("{{alertname=\"A\", alertstate=\"firing\"}} {}", at / 1000)]
    );
}

#[test]
fn a_rule_that_fails_fails_alone() {
    let bench = Bench::new();
    for i in ["1", "2", "3"] {
        bench.push(&format!("m{{i=\"{i}\"}}"), 0, 1.0);
    }
    bench.set(
        "ns",
        "name: g\ninterval: 1m\nlimit: 2\nalign_evaluation_time_on_interval: true\nrules:\n- record: same\n  expr: m\n  labels: {i: x}\n- record: many\n  expr: m\n- alert: Many\n  expr: m\n- alert: Same\n  expr: m\n  labels: {i: x}\n- record: text\n  expr: '\"a\"'\n- record: matrix\n  expr: m[5m]\n- record: good\n  expr: sum(m)\n",
    );
    bench.run_for(MINUTE);
    let errors: Vec<Option<String>> =
        bench.view("g").rules.iter().map(|r| r.last_error.as_deref().map(str::to_owned)).collect();
    let expected = [
        Some("vector contains metrics with the same labelset after applying rule labels"),
        Some("exceeded limit of 2 with 3 series"),
        Some("exceeded limit of 2 with 3 alerts"),
        Some("vector contains metrics with the same labelset after applying alert labels"),
        Some("rule result is not a vector or scalar"),
        Some("rule result is not a vector or scalar"),
        None,
    ];
    assert_eq!(errors, expected.map(|e| e.map(str::to_owned)));
    assert_eq!(bench.query("good"), ["{__name__=\"good\"} 3"]);
    assert_eq!(bench.query("{__name__=~\"same|many|ALERTS.*\"}"), Vec::<String>::new());
    let figures = &bench.ruler.figures().groups[0];
    assert_eq!((figures.evaluations, figures.failures, figures.iterations), (7, 6, 1));
}

#[test]
fn series_that_are_gone_end() {
    let bench = Bench::new();
    bench.push_range("m{i=\"1\"}", 0, 120_000, 1.0);
    bench.push("m{i=\"2\"}", 0, 1.0);
    bench.push("m{i=\"2\"}", 45_000, f64::from_bits(pilothouse_model::sample::STALE_NAN_BITS));
    bench.set(
        "ns",
        "name: g\ninterval: 30s\nalign_evaluation_time_on_interval: true\nrules:\n- record: r\n  expr: m\n",
    );
    bench.run_for(30_000);
    assert_eq!(bench.query("r").len(), 2);
    bench.run_for(30_000);
    assert_eq!(bench.query("r"), ["{__name__=\"r\", i=\"1\"} 1"]);
}

#[test]
fn slots_that_nobody_had_time_for_are_counted() {
    let bench = Bench::new();
    bench.set("ns", "name: g\ninterval: 10s\nalign_evaluation_time_on_interval: true\nrules:\n- record: r\n  expr: time()\n");
    bench.run_for(10_000);
    bench.clock.0.fetch_add(34_000, Relaxed);
    bench.ruler.step();
    let figures = &bench.ruler.figures().groups[0];
    assert_eq!((figures.iterations, figures.missed), (4, 2));
    // The newest slot was evaluated, at its own time.
    let last = (START_MS + 40_000) / SECOND;
    assert_eq!(bench.query("r"), [format!("{{__name__=\"r\"}} {last}")]);
    assert_eq!(bench.query("timestamp(r)"), [format!("{{}} {last}")]);
}

#[test]
fn groups_keep_to_places_of_their_own() {
    let bench = Bench::new();
    let mut places = std::collections::HashSet::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        bench.set("ns", &format!("name: {name}\ninterval: 1h\nrules:\n- record: {name}\n  expr: time()\n"));
    }
    bench.run_for(60 * MINUTE);
    for name in ["a", "b", "c", "d", "e", "f"] {
        places.insert(bench.query(&format!("sum(last_over_time({name}[2h]))")));
    }
    assert_eq!(places.len(), 6, "{places:?}");
    assert!(!places.contains(&Vec::new()));
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_a_group() {
    let bench = Bench::new();
    bench.set("ns", "name: g\ninterval: 10s\nalign_evaluation_time_on_interval: true\nrules:\n- record: r\n  expr: time()\n");
    bench.run_for(20_000);
    let before = bench.ruler.figures().groups[0].iterations;
    bench.clock.0.store(START_MS - 3_600_000, Relaxed);
    bench.ruler.reschedule();
    bench.run_for(20_000);
    assert_eq!(bench.ruler.figures().groups[0].iterations, before + 2);
}
