//! Grouping, repeats, inhibition, silences, intervals, retries.

use pilothouse_model::limits::Limits;

use super::world::World;
use crate::keeper::Teller;
use crate::silence::{MatcherText, Wanted};

const S: i64 = 1_000;
const M: i64 = 60 * S;
const H: i64 = 60 * M;

const PLAIN: &str = "
route: {receiver: a, group_by: [g], group_wait: 30s, group_interval: 5m, repeat_interval: 4h}
receivers: [{name: a}]
";

/// Keeps alerts firing while hours pass, as a ruler does.
fn keep_firing(world: &mut World, names: &[&str], until_ms: i64) {
    while world.now_ms < until_ms {
        for name in names {
            world.fire(name, &[("g", "1")]);
        }
        let next = (world.now_ms + M).min(until_ms);
        world.until(next);
    }
}

#[test]
fn a_group_waits_then_tells_then_repeats_on_its_ticks() {
    let mut world = World::new(PLAIN);
    keep_firing(&mut world, &["x", "y"], 9 * H);
    // 30 s of waiting, then ticks of 5 m; the first tick more than 4 h later repeats.
    assert_eq!(
        world.heard(),
        [
            "30s a: firing[x y] resolved[]",
            "14730s a: firing[x y] resolved[]",
            "29430s a: firing[x y] resolved[]"
        ]
    );
}

#[test]
fn a_new_alert_and_an_end_are_told_at_the_next_tick() {
    let mut world = World::new(PLAIN);
    world.fire("x", &[("g", "1")]);
    world.until(40 * S);
    world.fire("y", &[("g", "1")]);
    world.fire("z", &[("g", "2")]);
    world.until(M + 10 * S);
    assert_eq!(world.heard(), ["30s a: firing[x] resolved[]", "70s a: firing[z] resolved[]"]);
    world.until(4 * M);
    world.fire("x", &[("g", "1")]);
    world.resolve("y", &[("g", "1")]);
    world.fire("z", &[("g", "2")]);
    world.until(5 * M + 40 * S);
    assert_eq!(world.heard(), ["330s a: firing[x] resolved[y]"], "though y was never told as firing");
    world.resolve("x", &[("g", "1")]);
    world.until(12 * M);
    assert_eq!(
        world.heard(),
        ["630s a: firing[] resolved[x]", "670s a: firing[] resolved[z]"],
        "z ended by its timeout"
    );
    world.until(H);
    assert_eq!(world.heard(), Vec::<String>::new());
    assert!(world.groups().is_empty());
}

#[test]
fn an_alert_that_fired_long_before_does_not_wait() {
    let mut world = World::new(PLAIN);
    world.until(H);
    let alert = pilothouse_model::Alert {
        labels: pilothouse_model::Labels::from_pairs([("i", "x")]),
        annotations: Default::default(),
        starts_at_ms: M,
        ends_at_ms: 0,
        generator_url: String::new(),
    };
    world.engine.put(&[alert], Teller::Anybody, world.now_ms);
    world.until(H);
    assert_eq!(world.heard(), ["3600s a: firing[x] resolved[]"]);
}

#[test]
fn a_receiver_that_tells_no_ends_forgets_all_the_same() {
    let mut world =
        World::new(&PLAIN.replace("a}", "a-quiet}").replace("receiver: a,", "receiver: a-quiet,"));
    world.fire("x", &[]);
    world.until(M);
    world.resolve("x", &[]);
    world.until(H);
    world.fire("x", &[]);
    world.until(H + M);
    assert_eq!(
        world.heard(),
        ["30s a-quiet: firing[x] resolved[]", "3630s a-quiet: firing[x] resolved[]"],
        "the second time is news"
    );
}

#[test]
fn inhibition_holds_while_its_source_fires_and_never_mutes_itself() {
    let mut world = World::new(
        "
route: {receiver: a, group_by: ['...'], group_wait: 0s, group_interval: 1m}
receivers: [{name: a}]
inhibit_rules:
- {source_matchers: ['sev=crit'], target_matchers: ['sev=~\"warn|crit\"'], equal: [dc, zone]}
",
    );
    world.fire("s", &[("sev", "crit"), ("dc", "1")]);
    world.until(S);
    world.fire("same", &[("sev", "warn"), ("dc", "1")]);
    world.fire("other", &[("sev", "warn"), ("dc", "2")]);
    world.fire("twin", &[("sev", "crit"), ("dc", "1")]);
    world.until(2 * S);
    let mut heard = world.heard();
    heard.sort();
    assert_eq!(
        heard,
        ["0s a: firing[s] resolved[]", "1s a: firing[other] resolved[]", "1s a: firing[twin] resolved[]"]
    );
    assert_eq!(world.alerts().iter().filter(|v| !v.inhibited_by.is_empty()).count(), 1);
    world.resolve("s", &[("sev", "crit"), ("dc", "1")]);
    world.resolve("twin", &[("sev", "crit"), ("dc", "1")]);
    world.until(62 * S);
    assert!(world.heard().contains(&"61s a: firing[same] resolved[]".to_owned()));
}

fn silence(world: &mut World, id: &str, value: &str, to_ms: i64) {
    let matcher = MatcherText { name: "i".into(), value: value.into(), is_regex: false, is_equal: true };
    let wanted = Wanted {
        id: String::new(),
        matchers: vec![matcher],
        starts_at_ms: world.now_ms,
        ends_at_ms: to_ms,
        created_by: "me".into(),
        comment: "why".into(),
        annotations: Default::default(),
    };
    let changed = world.engine.set_silence(wanted, id.into(), world.now_ms).unwrap();
    let records = world.engine.silence_records(&changed);
    pilothouse_model::StateStore::apply(&*world.store, &records).unwrap();
}

#[test]
fn a_silenced_alert_is_told_when_its_silence_ends() {
    let mut world = World::new(PLAIN);
    silence(&mut world, "00000000-0000-4000-8000-000000000001", "x", 7 * M);
    keep_firing(&mut world, &["x", "y"], 6 * M);
    assert_eq!(world.heard(), ["30s a: firing[y] resolved[]"]);
    world.restart();
    keep_firing(&mut world, &["x", "y"], 20 * M);
    assert_eq!(world.heard(), ["660s a: firing[x y] resolved[]"], "and only once");
}

#[test]
fn intervals_mute_whole_looks() {
    let mut world = World::new(
        "
route:
  receiver: a
  routes:
  - {receiver: a, matchers: ['i=x'], group_wait: 0s, group_interval: 1h, mute_time_intervals: [night]}
  - {receiver: a, matchers: ['i=y'], group_wait: 0s, group_interval: 1h, active_time_intervals: [night]}
receivers: [{name: a}]
time_intervals:
- {name: night, time_intervals: [{times: [{start_time: '00:00', end_time: '03:00'}]}]}
",
    );
    for hour in 0..6 {
        world.fire("x", &[]);
        world.fire("y", &[]);
        // Kept alive by the minute.
        for minute in 0..60 {
            world.until((hour * 60 + minute) * M);
            world.fire("x", &[]);
            world.fire("y", &[]);
        }
    }
    assert_eq!(world.heard(), ["0s a: firing[y] resolved[]", "10800s a: firing[x] resolved[]"]);
    assert_eq!(world.groups().iter().filter(|alerts| alerts[0].muted_by == ["night"]).count(), 1);
}

#[test]
fn routes_go_on_where_they_say_so() {
    let mut world = World::new(
        "
route:
  receiver: root
  group_wait: 0s
  routes:
  - {receiver: first, matchers: ['i=~\"x|y\"'], continue: true}
  - {receiver: second, matchers: ['i=x'], routes: [{receiver: deep, matchers: ['g=\"\"']}]}
receivers: [{name: root}, {name: first}, {name: second}, {name: deep}]
",
    );
    for i in ["x", "y", "z"] {
        world.fire(i, &[]);
        world.until(world.now_ms + S);
    }
    assert_eq!(
        world.heard(),
        ["0s first: firing[x] resolved[]", "0s deep: firing[x] resolved[]", "2s root: firing[z] resolved[]",]
    );
}

#[test]
fn a_failing_receiver_is_tried_again_and_holds_up_nobody() {
    let mut world = World::new(
        "
route:
  receiver: good
  routes: [{receiver: bad, matchers: ['i=x'], group_wait: 0s, group_interval: 1m, continue: true}, {receiver: good, group_wait: 0s, group_interval: 1m}]
receivers: [{name: good}, {name: bad}]
",
    );
    *world.failures["bad"].lock() = 4;
    world.fire("x", &[]);
    world.until(0);
    assert_eq!(world.heard(), ["0s good: firing[x] resolved[]"]);
    world.until(30 * S);
    let heard = world.heard();
    assert_eq!(heard, ["0s bad: firing[x] resolved[]"], "the fifth try");
    let families = world.engine.families(world.now_ms);
    let failed =
        families.iter().find(|f| f.name == "alertmanager_notification_requests_failed_total").unwrap();
    let of_webhooks = failed.samples.iter().find(|s| s.labels[0].1 == "webhook").unwrap();
    assert_eq!(of_webhooks.value, crate::telemetry::SampleValue::Number(4.0));
}

#[test]
fn a_receiver_that_stays_broken_is_given_up_and_told_at_the_next_tick() {
    let mut world = World::new(PLAIN);
    *world.failures["a"].lock() = u32::MAX;
    keep_firing(&mut world, &["x"], 5 * M + 20 * S);
    *world.failures["a"].lock() = 0;
    keep_firing(&mut world, &["x"], 12 * M);
    assert_eq!(world.heard().len(), 1);
    let kinds: Vec<&str> = world.engine.history().newest(&[], 0).map(|e| e.kind.name()).collect();
    assert!(kinds.contains(&"notification_failed") && kinds.contains(&"notification_sent"), "{kinds:?}");
}

#[test]
fn a_clock_that_goes_back_delays_nothing() {
    let mut world = World::new(PLAIN);
    world.until(10 * H);
    world.fire("x", &[]);
    world.now_ms -= 5 * H;
    world.engine.clock_went_back(5 * H, world.now_ms);
    world.until(5 * H + M);
    assert_eq!(world.heard(), ["18030s a: firing[x] resolved[]"]);
}

#[test]
fn limits_refuse_what_is_too_much() {
    let limits = Limits { max_alerts: 1, ..Limits::default() }.into();
    let (mut engine, _) = crate::engine::Engine::new(Default::default(), limits, 0);
    let alert = |i: &str| pilothouse_model::Alert {
        labels: pilothouse_model::Labels::from_pairs([("i", i)]),
        annotations: Default::default(),
        starts_at_ms: 0,
        ends_at_ms: 0,
        generator_url: String::new(),
    };
    assert_eq!(
        engine.put(&[alert("1"), alert("2"), alert("1")], Teller::Anybody, 5),
        ["too many alerts, limit: 1"]
    );
}

#[test]
fn contact_points_are_told_what_the_default_receiver_is_told() {
    let yaml = "
route: {receiver: a, group_by: [g], group_wait: 10s, group_interval: 1m, routes: [{receiver: b, matchers: [t=b]}]}
receivers: [{name: a}, {name: b}]
";
    let mut world = World::new(yaml);
    world.set_contacts(&[("one", true), ("two", false)]);
    world.fire("x", &[("g", "1")]);
    world.fire("y", &[("g", "2"), ("t", "b")]);
    world.until(20 * S);
    let mut heard = world.heard();
    heard.sort();
    assert_eq!(
        heard,
        [
            "10s a: firing[x] resolved[]",
            "10s b: firing[y] resolved[]",
            "10s one: firing[x] resolved[]",
            "10s two: firing[x] resolved[]",
        ]
    );
    // Who comes later is told what goes on; the others hear nothing twice.
    world.set_contacts(&[("one", true), ("three", true), ("two", false)]);
    world.until(2 * M);
    assert_eq!(world.heard(), ["70s three: firing[x] resolved[]"]);
    world.resolve("x", &[("g", "1")]);
    world.until(4 * M);
    let mut heard = world.heard();
    heard.sort();
    let over = |name: &str| format!("130s {name}: firing[] resolved[x]");
    assert_eq!(heard, [over("a"), over("one"), over("three")]);
}
