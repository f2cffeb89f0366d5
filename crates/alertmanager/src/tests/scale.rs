//! Very many rules, routes and silences beside very many alerts: an alert meets few of them, what
//! meets many is done in slices, and what is remembered has an end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilothouse_model::limits::Limits;
use pilothouse_model::memory::Part;
use pilothouse_model::{Alert, Labels, Memory};

use super::world::World;
use crate::keeper::Teller;
use crate::silence::{MatcherText, Wanted};

const S: i64 = 1_000;
/// A generous bound: an unoptimized build on a busy machine. Each alert against each rule took
/// minutes.
const A_MOMENT: Duration = Duration::from_secs(20);

fn alert(labels: &[(&str, &str)]) -> Alert {
    Alert {
        labels: Labels::from_pairs(labels.iter().copied()),
        annotations: BTreeMap::new(),
        starts_at_ms: 0,
        ends_at_ms: 0,
        generator_url: String::new(),
    }
}

fn rules(count: usize, rule: impl Fn(usize) -> String) -> String {
    let mut yaml = "route: {receiver: a, group_by: [g], group_wait: 0s, group_interval: 1m}\nreceivers: [{name: a}]\ninhibit_rules:\n".to_owned();
    (0..count).for_each(|i| yaml.push_str(&format!("- {}\n", rule(i))));
    yaml
}

#[test]
fn ten_thousand_inhibitions_beside_as_many_alerts_take_a_moment() {
    let mut world = World::new(&rules(10_000, |i| {
        format!(
            "{{source_matchers: ['alertname=s{i}'], target_matchers: ['alertname=t{i}', 'sev!=x'], equal: [dc]}}"
        )
    }));
    let began = Instant::now();
    let alerts: Vec<Alert> = (0..10_000)
        .map(|i| {
            let name = format!("{}{}", if i % 2 == 0 { "s" } else { "t" }, i / 2);
            alert(&[("alertname", &name), ("i", &name), ("dc", if i % 4 < 2 { "1" } else { "2" })])
        })
        .collect();
    assert!(world.engine.put(&alerts, Teller::Anybody, 0).is_empty());
    world.until(0);
    let told = world.heard().concat();
    assert!(told.contains(" s7 ") && !told.contains(" t7 "), "its source fires");
    assert_eq!(world.alerts().iter().filter(|v| !v.inhibited_by.is_empty()).count(), 5_000);
    assert!(began.elapsed() < A_MOMENT, "{:?}", began.elapsed());
}

#[test]
fn rules_that_no_index_helps_with_are_asked_slice_by_slice() {
    let mut world = World::new(&rules(500, |i| {
        format!(
            "{{source_matchers: ['alertname!=s{i}', 'sev=crit'], target_matchers: ['alertname!=t{i}', 'dc!=x'], equal: [dc]}}"
        )
    }));
    let mut alerts: Vec<Alert> = (0..1_000).map(|i| alert(&[("i", &i.to_string()), ("dc", "1")])).collect();
    alerts.push(alert(&[("i", "s"), ("sev", "crit"), ("dc", "2")]));
    world.engine.put(&alerts, Teller::Anybody, 0);
    // 1,000 alerts against 500 rules are no single step.
    let mut steps = 0;
    while world.heard().is_empty() {
        let attempts = world.engine.step(world.now_ms);
        steps += 1;
        if !attempts.is_empty() {
            assert_eq!(attempts[0].message.alerts.len(), 1_001);
            break;
        }
        assert!(world.engine.next_due_ms() <= world.now_ms, "it goes on at once");
    }
    assert!((5..100).contains(&steps), "{steps}");
}

#[test]
fn a_new_configuration_sees_all_alerts_before_anybody_is_told() {
    let yaml = rules(600, |i| {
        format!(
            "{{source_matchers: ['x!=s{i}', 'sev=~\"c.*\"'], target_matchers: ['sev=warn'], equal: [dc]}}"
        )
    });
    let mut world = World::new(&yaml);
    let mut alerts: Vec<Alert> =
        (0..500).map(|i| alert(&[("i", &i.to_string()), ("sev", "warn"), ("dc", "1")])).collect();
    alerts.push(alert(&[("i", "crit"), ("sev", "crit"), ("dc", "1")]));
    world.engine.put(&alerts, Teller::Anybody, 0);
    world.until(0);
    assert_eq!(world.heard().len(), 1);
    world.restart();
    assert!(world.engine.next_due_ms() <= 0, "alerts wait to be seen");
    world.fire("late", &[("sev", "warn"), ("dc", "1")]);
    world.until(90 * S);
    assert!(!world.heard().concat().contains("late"), "its source was seen before it was looked at");
}

#[test]
fn sources_hand_over_to_each_other() {
    let mut world = World::new(&rules(1, |_| {
        "{source_matchers: ['sev=crit'], target_matchers: ['t=y'], equal: [dc]}".to_owned()
    }));
    let inhibited = |world: &mut World| world.alerts().iter().filter(|v| !v.inhibited_by.is_empty()).count();
    for i in 0..30 {
        world.fire(&format!("s{i}"), &[("sev", "crit"), ("dc", "1")]);
    }
    world.fire("both", &[("sev", "crit"), ("t", "y"), ("dc", "1")]);
    world.fire("target", &[("t", "y"), ("dc", "1")]);
    assert_eq!(inhibited(&mut world), 2, "one that is both is muted by those that are sources only");
    world.now_ms += 30 * S;
    for i in 0..30 {
        world.resolve(&format!("s{i}"), &[("sev", "crit"), ("dc", "1")]);
    }
    assert_eq!(inhibited(&mut world), 1, "it mutes the other, and nothing mutes it");
    world.resolve("both", &[("sev", "crit"), ("t", "y"), ("dc", "1")]);
    assert_eq!(inhibited(&mut world), 0);
}

#[test]
fn ten_thousand_routes_and_silences_beside_as_many_alerts_take_a_moment() {
    let mut yaml = "receivers: [{name: a}]\nroute:\n  receiver: a\n  group_wait: 0s\n  routes:\n".to_owned();
    (0..10_000)
        .for_each(|i| yaml.push_str(&format!("  - {{matchers: ['i=~\"x{i}|y{i}\"'], group_by: [i]}}\n")));
    let mut world = World::new(&yaml);
    let began = Instant::now();
    for i in 0..9_000 {
        let name = format!("x{i}");
        let matcher = MatcherText { name: "i".into(), value: name.clone(), is_regex: false, is_equal: true };
        let wanted = Wanted {
            id: String::new(),
            matchers: vec![matcher],
            starts_at_ms: 0,
            ends_at_ms: 3_600 * S,
            created_by: String::new(),
            comment: String::new(),
            annotations: BTreeMap::new(),
        };
        let set = world.engine.set_silence(wanted, name, 0);
        assert!(set.is_ok());
    }
    let alerts: Vec<Alert> = (0..10_000).map(|i| alert(&[("i", &format!("x{i}"))])).collect();
    world.engine.put(&alerts, Teller::Anybody, 0);
    world.until(0);
    assert_eq!(world.heard().len(), 1_000, "those without a silence, each in a group of its own");
    assert!(began.elapsed() < A_MOMENT, "{:?}", began.elapsed());
}

#[test]
fn alerts_stand_in_the_memory_account_and_new_ones_wait_below_its_ceiling() {
    let memory = Arc::new(Memory::limited(100 << 20));
    let mut world = World::new(&rules(1, |_| "{source_matchers: ['i=s'], target_matchers: ['i=x']}".into()))
        .within(&memory);
    let before = world.engine.held_bytes();
    world.fire("x", &[]);
    assert!(world.engine.held_bytes() > before);
    memory.hold(Part::Alerts, world.engine.held_bytes());
    memory.set(&[], 99 << 20);
    let put = |world: &mut World, i: &str| {
        let errors = world.engine.put(&[alert(&[("i", i)])], Teller::Anybody, world.now_ms);
        errors.concat()
    };
    assert_eq!(put(&mut world, "x"), "", "what is known may go on, and end");
    assert_eq!(
        put(&mut world, "new"),
        "the server is at its memory limit (99 MiB of 100 MiB are in use); try again later"
    );
    memory.set(&[], 50 << 20);
    assert_eq!(put(&mut world, "new"), "");
}

/// Counted in moves, not in time: each group is taken once when it is due and put back once, however
/// many steps that takes, and one whose receiver answers late is not looked at meanwhile.
#[test]
fn a_step_costs_what_it_does_however_many_groups_are_due() {
    const GROUPS: u64 = 20_000;
    let yaml = "route: {receiver: a, group_by: ['...'], group_wait: 1s, group_interval: 5s}\nreceivers: [{name: a}]\n";
    let mut world = World::new(yaml);
    let alerts: Vec<Alert> = (0..GROUPS).map(|i| alert(&[("i", &i.to_string())])).collect();
    assert!(world.engine.put(&alerts, Teller::Anybody, 0).is_empty());
    assert_eq!(world.engine.group_moves(), GROUPS);
    world.now_ms = S;
    let (mut flying, mut steps, mut longest) = (Vec::new(), 0, 0);
    while world.engine.next_due_ms() <= world.now_ms {
        let before = world.engine.group_moves();
        let attempts = world.engine.step(world.now_ms);
        longest = longest.max(world.engine.group_moves() - before);
        steps += 1;
        flying.extend(attempts.into_iter().map(|attempt| attempt.job));
    }
    assert_eq!(flying.len() as u64, GROUPS);
    assert!(steps > 20, "{steps}");
    // A step may end within a look, which is taken up again by the next one.
    let made = world.engine.group_moves();
    assert!((3 * GROUPS..=3 * GROUPS + 2 * steps).contains(&made), "made, taken, put back: {made}");
    assert!(longest < GROUPS / 10, "{longest} in one step");
    // The next look comes due while all are under way, and is made up for once they landed.
    world.now_ms = 6 * S - 1;
    assert!(world.engine.step(world.now_ms).is_empty());
    let at_rest = world.engine.group_moves();
    let late = flying.split_off(flying.len() / 2);
    for job in flying {
        world.engine.finished(job, Ok(()), 1, world.now_ms);
    }
    assert_eq!(world.engine.group_moves(), at_rest, "their next look is not due yet");
    world.now_ms = 6 * S;
    while world.engine.next_due_ms() <= world.now_ms {
        assert!(world.engine.step(world.now_ms).is_empty(), "half were told, half are under way");
        steps += 1;
    }
    for job in late {
        world.engine.finished(job, Ok(()), 1, world.now_ms);
    }
    while world.engine.next_due_ms() <= world.now_ms {
        assert!(world.engine.step(world.now_ms).is_empty(), "all were told");
        steps += 1;
    }
    let all = world.engine.group_moves();
    assert!(
        (6 * GROUPS..=6 * GROUPS + 2 * steps).contains(&all),
        "taken and put back, half of them twice: {all}"
    );
}

#[test]
fn limits_on_what_alerts_make_hold() {
    let yaml = "receivers: [{name: a}]\nroute:\n  receiver: a\n  routes:\n  - {continue: true}\n  - {continue: true}\n";
    let limits = Limits { max_grouped_alerts: 3, max_alerts_bytes: 2_000, ..Limits::default() };
    let mut world = World::limited(yaml, limits);
    let errors = world.engine.put(&[alert(&[("i", "1")]), alert(&[("i", "2")])], Teller::Anybody, 0);
    assert!(errors.is_empty());
    assert_eq!(world.groups().iter().map(Vec::len).sum::<usize>(), 3, "of four places");
    let long = "x".repeat(2_000);
    let errors = world.engine.put(&[alert(&[("i", &long)])], Teller::Anybody, 0);
    assert_eq!(errors, ["alerts too big, total size limit: 2000 bytes"]);
}
