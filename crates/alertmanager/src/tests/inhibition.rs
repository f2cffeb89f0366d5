//! Inhibition against a plain scan: an alert is muted if and only if some source fires that may
//! mute it, whatever was told, ended, forgotten or seen before.

use std::sync::Arc;

use pilothouse_model::Matcher;
use pilothouse_model::limits::Limits;
use proptest::prelude::*;

use super::world::World;
use crate::alert::Held;
use crate::matchers::match_all;

const S: i64 = 1_000;
const YAML: &str = "
route: {receiver: a, group_wait: 0s, group_interval: 10s}
receivers: [{name: a}]
inhibit_rules:
- {source_matchers: [sev=crit], target_matchers: [sev=warn], equal: [dc]}
- {source_matchers: ['sev=~\"crit|warn\"'], target_matchers: ['sev!=info'], equal: [dc, rack]}
- {source_matchers: ['rack!=1'], target_matchers: ['i=~\".*0\"']}
- {source_matchers: ['sev=~\"c.*\"'], target_matchers: ['rack=\"\"'], equal: [absent]}
";

#[derive(Debug, Clone)]
enum Step {
    /// Which alert, and for how long it fires from now on.
    Tell(u8, i64),
    End(u8),
    Wait(i64),
    SetBack(i64),
    Reload,
}

fn step(longest_s: i64) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..40, 1..=longest_s).prop_map(|(i, s)| Step::Tell(i, s * S)),
        4 => (0u8..40).prop_map(Step::End),
        4 => (0i64..1_200).prop_map(|s| Step::Wait(s * S)),
        1 => (0i64..100).prop_map(|s| Step::SetBack(s * S)),
        1 => Just(Step::Reload),
    ]
}

fn take(world: &mut World, step: &Step) {
    let put = |world: &mut World, i: u8, ends_at_ms: i64| {
        let sev = ["crit", "crit", "warn", "info"][usize::from(i % 4)];
        let rack = ["", "1", "2"][usize::from(i % 3)];
        let labels = [("sev", sev), ("dc", if i < 20 { "x" } else { "y" }), ("rack", rack)];
        world.put(&i.to_string(), &labels, ends_at_ms);
    };
    match step {
        Step::Tell(i, ms) => put(world, *i, world.now_ms + ms),
        // 0 would be no end at all.
        Step::End(i) => put(world, *i, world.now_ms.max(1)),
        Step::Wait(ms) => world.until(world.now_ms + ms),
        Step::SetBack(ms) => {
            let by_ms = *ms.min(&world.now_ms);
            world.now_ms -= by_ms;
            world.engine.clock_went_back(by_ms, world.now_ms);
        }
        Step::Reload => {
            let setup = world.engine.setup().cloned().unwrap();
            world.engine.configure(setup, world.now_ms);
        }
    }
    world.until(world.now_ms);
}

/// A rule as it is written.
struct Rule {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    equal: Vec<String>,
}

fn rules(world: &World) -> Vec<Rule> {
    let written = &world.engine.setup().unwrap().config.inhibit_rules;
    written.iter().map(|r| Rule { source: r.source(), target: r.target(), equal: r.equal.clone() }).collect()
}

/// Whether a source mutes a target by some rule.
fn mutes(rules: &[Rule], source: &Held, target: &Held) -> bool {
    rules.iter().any(|rule| {
        let both =
            |alert: &Held| (match_all(&rule.source, &alert.labels), match_all(&rule.target, &alert.labels));
        let (source_side, target_side) = (both(source), both(target));
        source_side.0
            && target_side.1
            && !(source_side.1 && target_side.0)
            && rule.equal.iter().all(|name| source.labels.value(name) == target.labels.value(name))
    })
}

/// Alerts that are muted, as they are shown and as a scan of all that fire says.
fn muted(world: &mut World) -> (Vec<u64>, Vec<u64>) {
    let rules = rules(world);
    let firing: Vec<Arc<Held>> = world.engine.pending(world.now_ms);
    let mut shown = Vec::new();
    for view in world.alerts() {
        for by in &view.inhibited_by {
            let source = firing.iter().find(|alert| format!("{:016x}", alert.fingerprint) == *by);
            assert!(source.is_some_and(|source| mutes(&rules, source, &view.alert)), "{by} fires and mutes");
            shown.push(view.alert.fingerprint);
        }
    }
    let is_muted = |target: &&Arc<Held>| firing.iter().any(|source| mutes(&rules, source, target));
    (shown, firing.iter().filter(is_muted).map(|alert| alert.fingerprint).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn what_fires_mutes_and_nothing_else_does(steps in prop::collection::vec(step(600), 0..60)) {
        let mut world = World::new(YAML);
        for step in &steps {
            take(&mut world, step);
            let (shown, scanned) = muted(&mut world);
            prop_assert_eq!(shown, scanned, "after {:?} at {}", step, world.now_ms);
        }
    }

    /// Where places become scarce nothing is missed either, as long as each rule finds one for each set
    /// of equal labels. Where there are too many for that, none mutes that should not, and as soon as
    /// there is room again none is missing: nobody has to tell them.
    #[test]
    fn sources_that_were_left_out_take_the_places_of_those_that_end(
        steps in prop::collection::vec(step(600), 0..60),
        most in prop_oneof![1u64..20, 20u64..120],
    ) {
        let mut world = World::limited(YAML, Limits { max_inhibition_sources: most, ..Limits::default() });
        for step in &steps {
            take(&mut world, step);
            let (shown, scanned) = muted(&mut world);
            let (sources, limited) = world.engine.inhibition_sources();
            prop_assert!(sources <= most, "{} of {}", sources, most);
            prop_assert!(shown.iter().all(|fp| scanned.contains(fp)));
            prop_assert!(limited > 0 || shown == scanned, "after {:?} at {}", step, world.now_ms);
        }
        // What still fires goes on for long enough; what is over is noticed.
        let firing = world.engine.pending(world.now_ms);
        for alert in &firing {
            take(&mut world, &Step::Tell(alert.labels.value("i").parse().unwrap(), 1_000 * S));
        }
        world.until(world.now_ms + 25 * S);
        let rules = rules(&world);
        let known = |alert: &Arc<Held>| rules.iter().filter(|r| match_all(&r.source, &alert.labels)).count();
        let places: usize = firing.iter().map(known).sum();
        let (shown, scanned) = muted(&mut world);
        prop_assert!(places as u64 > most || shown == scanned, "{:?} {:?}", shown, scanned);
    }
}

#[test]
fn thousands_alike_end_one_after_another() {
    let mut world = World::new(YAML);
    let put = |world: &mut World, i: usize, ends_at_ms: i64| {
        world.put(&format!("s{i}"), &[("sev", "crit"), ("dc", "x")], ends_at_ms);
    };
    for i in 0..2_000 {
        put(&mut world, i, 10_000 * S);
    }
    world.put("target", &[("sev", "warn"), ("dc", "x"), ("rack", "9")], 10_000 * S);
    let is_muted = |world: &mut World| {
        let views = world.alerts();
        views.iter().any(|v| v.alert.labels.value("i") == "target" && !v.inhibited_by.is_empty())
    };
    for i in 0..2_000 {
        world.now_ms += 1;
        let end_ms = world.now_ms;
        put(&mut world, i, end_ms);
        if i % 100 == 0 || i > 1_990 {
            assert_eq!(is_muted(&mut world), i < 1_999, "after the end of {i}");
        }
    }
    put(&mut world, 7, 20_000 * S);
    assert!(is_muted(&mut world), "it fires again");
}
