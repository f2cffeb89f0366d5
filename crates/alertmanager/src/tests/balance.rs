//! What comes goes again: nothing piles up of alerts, groups, notifications and silences, and the
//! memory account is told so.

use std::collections::BTreeMap;

use pilothouse_model::limits::Limits;
use pilothouse_model::{Alert, Labels};

use super::world::World;
use crate::keeper::Teller;
use crate::silence::{MatcherText, Wanted};

const S: i64 = 1_000;
const M: i64 = 60 * S;
const H: i64 = 60 * M;

const YAML: &str = "
route:
  receiver: a
  group_by: [g]
  group_wait: 1s
  group_interval: 20s
  repeat_interval: 1h
  routes:
  - {receiver: b-quiet, matchers: ['i=~\".*1\"'], group_by: ['...'], continue: true}
  - {receiver: a, matchers: ['g!=\"\"']}
receivers: [{name: a}, {name: b-quiet}]
inhibit_rules: [{source_matchers: [sev=crit], target_matchers: ['sev!=crit'], equal: [g]}]
";

fn silence(world: &mut World, id: &str, value: &str, to_ms: i64) {
    let matcher = MatcherText { name: "i".into(), value: value.into(), is_regex: false, is_equal: true };
    let wanted = Wanted {
        id: String::new(),
        matchers: vec![matcher],
        starts_at_ms: world.now_ms,
        ends_at_ms: to_ms,
        created_by: "me".into(),
        comment: "why".into(),
        annotations: BTreeMap::new(),
    };
    assert!(world.engine.set_silence(wanted, id.into(), world.now_ms).is_ok());
}

/// Rounds of alerts of their own, some of which end by themselves; receivers fail now and then, the
/// configuration is loaded again while notifications are under way, the clock is set back.
#[test]
fn nothing_is_left_of_what_came_and_went() {
    let mut world = World::new(YAML);
    for round in 0..40 {
        let name = |i: i64| format!("r{round}-{i}");
        let labels = |i: i64| {
            [("g", ["1", "2", "3"][(i % 3) as usize]), ("sev", if i % 5 == 0 { "crit" } else { "warn" })]
        };
        if round % 3 == 0 {
            *world.failures["a"].lock() = 3;
        }
        let to_ms = world.now_ms + H;
        silence(&mut world, &format!("s{round}"), &name(2), to_ms);
        for i in 0..12 {
            world.fire(&name(i), &labels(i));
        }
        if round % 4 == 1 {
            // Under way while all groups are made anew.
            world.now_ms += S;
            let attempts = world.engine.step(world.now_ms);
            let setup = world.engine.setup().cloned().unwrap();
            world.engine.configure(setup, world.now_ms);
            for attempt in attempts {
                world.engine.finished(attempt.job, Ok(()), 1, world.now_ms);
            }
        }
        world.until(world.now_ms + 30 * S);
        for i in 0..12 {
            if i % 4 != 3 {
                world.resolve(&name(i), &labels(i));
            }
        }
        if round % 7 == 2 {
            world.now_ms -= 20 * S;
            world.engine.clock_went_back(20 * S, world.now_ms);
        }
        world.until(world.now_ms + 30 * M);
        let remains = world.engine.remains();
        let is_gone = |(name, _): &(&str, u64)| *name != "notification log" && *name != "bytes";
        assert!(!remains.iter().any(is_gone), "after round {round}: {remains:?}");
    }
    assert!(!world.heard().is_empty());
    world.until(world.now_ms + 300 * H);
    assert_eq!(world.engine.remains(), [], "the log and silences are forgotten after their time");
    for table in ["alertmanager_alerts", "alertmanager_nflog", "alertmanager_silences"] {
        let kept = pilothouse_model::StateStore::load(&*world.store, table).unwrap();
        assert!(kept.is_empty(), "{table}: {} records", kept.len());
    }
}

/// A receiver that is dead for days: those who come and go meanwhile leave, and whose begin was told
/// waits for its end to be told.
#[test]
fn a_dead_receiver_piles_up_no_alerts() {
    let yaml =
        "route: {receiver: a, group_by: [g], group_wait: 1s, group_interval: 20s}\nreceivers: [{name: a}]\n";
    let mut world = World::new(yaml);
    world.fire("told", &[("g", "1")]);
    world.until(10 * S);
    assert_eq!(world.heard(), ["1s a: firing[told] resolved[]"]);
    *world.failures["a"].lock() = u32::MAX;
    world.resolve("told", &[("g", "1")]);
    for i in 0..300 {
        let name = format!("x{i}");
        world.fire(&name, &[("g", "1")]);
        world.until(world.now_ms + M);
        world.resolve(&name, &[("g", "1")]);
        world.until(world.now_ms + M);
    }
    world.until(world.now_ms + 30 * M);
    let of = |world: &World, wanted: &str| {
        let remains = world.engine.remains();
        remains.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, size)| *size)
    };
    assert_eq!((of(&world, "members"), of(&world, "alerts")), (1, 1), "{:?}", world.engine.remains());
    world.restart();
    *world.failures["a"].lock() = 0;
    world.until(world.now_ms + 5 * M);
    let heard = world.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].ends_with("a: firing[] resolved[told]"), "{heard:?}");
    world.until(world.now_ms + 30 * M);
    assert_eq!((of(&world, "members"), of(&world, "alerts")), (0, 0));
}

/// New alerts are not refused on behalf of those that are over.
#[test]
fn what_is_over_makes_room_for_what_begins() {
    let yaml = "route: {receiver: a, group_wait: 0s, group_interval: 5s}\nreceivers: [{name: a}]\n";
    let mut world = World::limited(yaml, Limits { max_alerts: 3, ..Limits::default() });
    let refused = |world: &mut World, name: &str| {
        let labels = Labels::from_pairs([("i", name)]);
        let (annotations, generator_url) = (BTreeMap::new(), String::new());
        let alert = Alert { labels, annotations, starts_at_ms: 0, ends_at_ms: 0, generator_url };
        world.engine.put(&[alert], Teller::Anybody, world.now_ms)
    };
    world.until(M);
    for name in ["x", "y", "z"] {
        world.fire(name, &[]);
    }
    assert_eq!(refused(&mut world, "new"), ["too many alerts, limit: 3"]);
    world.resolve("x", &[]);
    world.until(M + 30 * S);
    assert!(refused(&mut world, "new").is_empty(), "x is over and was told to be");
    assert_eq!(refused(&mut world, "newer"), ["too many alerts, limit: 3"]);
    let limited = |world: &World| {
        let families = world.engine.families(world.now_ms);
        let family = families.iter().find(|f| f.name == "alertmanager_alerts_limited_total").unwrap();
        format!("{:?}", family.samples[0].value)
    };
    assert_eq!(limited(&world), "Number(2.0)");
}
