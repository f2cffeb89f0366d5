//! Ten thousand alerts are routed well within a second, even here.

use std::time::{Duration, Instant};

use super::world::World;

#[test]
fn ten_thousand_alerts_are_routed_in_a_moment() {
    let mut world = World::new(
        "
route: {receiver: a, group_by: [g], group_wait: 0s, routes: [{matchers: ['sev=page'], receiver: a}]}
receivers: [{name: a}]
inhibit_rules: [{source_matchers: ['sev=crit'], target_matchers: ['sev=page'], equal: [g]}]
",
    );
    let began = Instant::now();
    for i in 0..10_000 {
        let group = (i % 500).to_string();
        world.fire(&i.to_string(), &[("alertname", "A"), ("g", &group), ("sev", "page"), ("job", "j")]);
    }
    world.until(0);
    assert_eq!(world.heard().len(), 500);
    // A generous bound: an unoptimized build on a busy machine.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
