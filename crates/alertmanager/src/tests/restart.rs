//! What was told before the end is not told again, and what was not is.

use super::world::World;

const YAML: &str = "
route: {receiver: a, group_by: [g], group_wait: 10s, group_interval: 1m, repeat_interval: 1h}
receivers: [{name: a}]
";
const S: i64 = 1_000;

/// Stops at every second of a story; in each case the same is told in all, once.
#[test]
fn a_restart_at_any_second_neither_repeats_nor_forgets() {
    for stop_s in 0..180 {
        let mut world = World::new(YAML);
        let mut heard = Vec::new();
        for t_s in 0..400 {
            let t_ms = t_s * S;
            if t_s == stop_s {
                world.restart();
            }
            // A ruler that sends again and again, and at last that it is over.
            if t_s < 120 {
                world.fire("x", &[("g", "1")]);
            } else if t_s < 200 {
                world.resolve("x", &[("g", "1")]);
            }
            world.until(t_ms);
            heard.extend(world.heard());
        }
        let what: Vec<&str> = heard.iter().map(|h| h.split_once(' ').unwrap().1).collect();
        assert_eq!(
            what,
            ["a: firing[x] resolved[]", "a: firing[] resolved[x]"],
            "stopped at {stop_s}: {heard:?}"
        );
    }
}

/// The same without anybody who tells it twice.
#[test]
fn an_alert_that_was_told_of_once_outlives_a_restart() {
    for stop_s in 1..180 {
        let mut world = World::new(YAML);
        world.put("x", &[("g", "1")], 100 * S);
        let mut heard = Vec::new();
        for t_s in 0..400 {
            if t_s == stop_s {
                world.restart();
            }
            world.until(t_s * S);
            heard.extend(world.heard());
        }
        let what: Vec<&str> = heard.iter().map(|h| h.split_once(' ').unwrap().1).collect();
        assert_eq!(
            what,
            ["a: firing[x] resolved[]", "a: firing[] resolved[x]"],
            "stopped at {stop_s}: {heard:?}"
        );
    }
}

/// What mutes others is there again before those others are told.
#[test]
fn inhibition_outlives_a_restart() {
    let yaml =
        format!("{YAML}inhibit_rules: [{{source_matchers: [sev=crit], target_matchers: [sev=warn]}}]\n");
    let mut world = World::new(&yaml);
    world.fire("source", &[("g", "1"), ("sev", "crit")]);
    world.fire("target", &[("g", "2"), ("sev", "warn")]);
    world.until(60 * S);
    assert_eq!(world.heard(), ["10s a: firing[source] resolved[]"]);
    world.restart();
    world.fire("target", &[("g", "2"), ("sev", "warn")]);
    world.until(200 * S);
    assert_eq!(world.heard(), Vec::<String>::new());
}

#[test]
fn a_configuration_that_is_loaded_again_repeats_nothing() {
    let mut world = World::new(YAML);
    for t_s in 0..120 {
        world.fire("x", &[("g", "1")]);
        world.until(t_s * S);
        if t_s % 7 == 0 {
            let setup = world.engine.setup().cloned().unwrap();
            world.engine.configure(setup, world.now_ms);
        }
    }
    assert_eq!(world.heard().len(), 1);
}

/// The disk is full from when an alert fires until long after it is over; what fired and ended meanwhile
/// leaves nothing, however much that is.
#[test]
fn what_ended_while_nothing_could_be_written_does_not_fire_again() {
    let mut world = World::new(YAML);
    world.put("x", &[("g", "1")], 1_000_000 * S);
    world.until(100 * S);
    assert_eq!(world.heard(), ["10s a: firing[x] resolved[]"]);
    world.disk_is_full = true;
    world.resolve("x", &[("g", "1")]);
    for i in 0..50 {
        let name = format!("brief {i}");
        world.fire(&name, &[("g", "2")]);
        world.resolve(&name, &[("g", "2")]);
    }
    world.until(2_000 * S);
    let waiting = world.engine.take_changes();
    assert!(waiting.len() < 10, "{waiting:?}");
    world.engine.changes_failed(waiting);
    world.heard();
    world.disk_is_full = false;
    world.keep();
    world.restart();
    world.until(2_500 * S);
    assert_eq!((world.heard(), world.alerts().len()), (Vec::<String>::new(), 0));
}
