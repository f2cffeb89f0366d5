//! The dispatcher against a plain specification of what a receiver is told, for any sequence of
//! alerts that fire and end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::world::World;

const S: i64 = 1_000;
const WAIT: i64 = 3;
const INTERVAL: i64 = 7;
const REPEAT: i64 = 20;

/// One group of the specification, in whole seconds.
#[derive(Default)]
struct Spec {
    /// Until when each alert fires; those that are over stay until they are told.
    alerts: BTreeMap<String, i64>,
    next: Option<i64>,
    told: Option<(BTreeSet<String>, BTreeSet<String>, i64)>,
}

impl Spec {
    fn put(&mut self, name: &str, ends: i64, now: i64) {
        self.alerts.insert(name.to_owned(), ends);
        self.next.get_or_insert(now + WAIT);
    }

    /// The message at this second, if there is one.
    fn look(&mut self, now: i64) -> Option<String> {
        if self.next != Some(now) {
            return None;
        }
        self.next = Some(now + INTERVAL);
        let (over, firing): (BTreeSet<String>, BTreeSet<String>) = {
            let over = self.alerts.iter().filter(|(_, e)| **e <= now).map(|(n, _)| n.clone()).collect();
            let firing = self.alerts.iter().filter(|(_, e)| **e > now).map(|(n, _)| n.clone()).collect();
            (over, firing)
        };
        let tell = match &self.told {
            None => !firing.is_empty(),
            Some((was, _, _)) if !firing.is_subset(was) => true,
            Some((was, _, _)) if firing.is_empty() => !was.is_empty(),
            Some((_, was_over, _)) if !over.is_subset(was_over) => true,
            Some((_, _, at)) => *at < now - REPEAT,
        };
        let join = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        let message = tell.then(|| format!("{now}s a: firing[{}] resolved[{}]", join(&firing), join(&over)));
        if tell {
            self.told = Some((firing, over.clone(), now));
        }
        for name in over {
            self.alerts.remove(&name);
        }
        if self.alerts.is_empty() {
            self.next = None;
        }
        message
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_receiver_is_told_what_the_specification_says(
        events in proptest::collection::vec((0i64..90, 0usize..3, any::<bool>()), 0..40)
    ) {
        let mut world = World::new(&format!(
            "route: {{receiver: a, group_wait: {WAIT}s, group_interval: {INTERVAL}s, repeat_interval: {REPEAT}s}}\nreceivers: [{{name: a}}]\n"
        ));
        let mut spec = Spec::default();
        let (mut expected, mut heard) = (Vec::new(), Vec::new());
        for now in 0..150 {
            // What is due at a second is done before what comes in at it.
            world.until(now * S);
            heard.extend(world.heard());
            expected.extend(spec.look(now));
            for (_, i, fires) in events.iter().filter(|(at, _, _)| *at == now) {
                let name = ["x", "y", "z"][*i];
                let ends = if *fires { now + 1000 } else { now };
                world.put(name, &[], ends * S + i64::from(ends == 0));
                spec.put(name, if *fires { ends } else { now.max(i64::from(ends == 0)) }, now);
            }
        }
        prop_assert_eq!(heard, expected);
    }
}
