//! Power cuts at any moment of a store's work, by seeds: what was acknowledged is there, nothing is
//! there that was not sent, and the store goes on.

use pilothouse_disk::faults::{Dice, Disk};
use pilothouse_model::time::MINUTE_MS;

use super::*;

/// How many lives are tried, unless the environment says so.
const SEEDS: u64 = 130;
const SERIES: u64 = 6;

type Samples = BTreeMap<(u64, i64), f64>;

/// Appends some samples; whether that was acknowledged.
fn push(
    store: &Store,
    clock: &Stepped,
    dice: &mut Dice,
    sent: &mut Samples,
    acknowledged: &mut Samples,
) -> bool {
    clock.step(1000);
    let t_ms = clock.now_ms() - dice.roll(3) as i64 * 26 * HOUR_MS;
    let first = dice.roll(SERIES);
    let batch: Samples =
        (first..=first + dice.roll(3)).map(|i| ((i, t_ms), t_ms as f64 + i as f64)).collect();
    let mut push = Push::new();
    for ((i, t_ms), value) in &batch {
        push = push.floats(&series("a", *i as usize), &[(*t_ms, *value)]);
    }
    sent.extend(batch.iter());
    let taken = store.append(&push.0).is_ok_and(|appended| wait(appended.durable).is_ok());
    if taken {
        acknowledged.extend(batch);
    }
    taken
}

fn found(store: &Store) -> Samples {
    let mut found = Samples::new();
    for (labels, samples) in read_all(store) {
        let i: u64 = labels.value("i").parse().unwrap();
        found.extend(samples.iter().map(|(t_ms, value)| ((i, *t_ms), number(value))));
    }
    found
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Float(bits) => f64::from_bits(*bits),
        other => panic!("{other:?} was never sent"),
    }
}

fn life(seed: u64) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let clock = Stepped::new(NOON);
    let disk = Disk::below(dir.path());
    let mut dice = Dice(seed);
    let (mut sent, mut acknowledged) = (Samples::new(), Samples::new());
    for round in 0..2 {
        disk.cut_power_after(dice.roll(200));
        if let Ok(store) = Store::open(dir.path(), options(&clock)) {
            while !disk.is_power_out() {
                let went_well = match dice.roll(12) {
                    0 => store.seal_all().is_ok(),
                    1 => store.compact_now().is_ok(),
                    2 => {
                        clock.step(40 * MINUTE_MS);
                        store.maintain().is_ok()
                    }
                    _ => push(&store, &clock, &mut dice, &mut sent, &mut acknowledged),
                };
                if !went_well {
                    break;
                }
            }
        }
        disk.settle(dice.roll(u64::MAX)).unwrap();
        let store = Store::open(dir.path(), options(&clock)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let there = found(&store);
        for (key, value) in &acknowledged {
            assert_eq!(there.get(key), Some(value), "seed {seed}, round {round}: {key:?} is lost");
        }
        for (key, value) in &there {
            assert_eq!(sent.get(key), Some(value), "seed {seed}, round {round}: {key:?} is invented");
        }
        assert!(push(&store, &clock, &mut dice, &mut sent, &mut acknowledged), "seed {seed}, round {round}");
        acknowledged.extend(there);
        store.compact_now().unwrap();
        assert_eq!(found(&store), acknowledged, "seed {seed}, round {round}");
        assert_eq!(store.stats().corruptions, 0, "seed {seed}, round {round}");
        store.close().unwrap();
    }
}

#[test]
fn power_cuts_at_any_moment_lose_nothing() {
    let seeds = std::env::var("PILOTHOUSE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    std::thread::scope(|scope| {
        for part in 0..3 {
            scope.spawn(move || (part..seeds).step_by(3).for_each(life));
        }
    });
}
