//! Power cuts at any moment of a store's work, by seeds: what was acknowledged is there, once,
//! nothing is there that was not sent, and the store goes on. Everything is cut: the log, the
//! catalog, tantivy's files and what lies beside them, their content and their names.

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};

use pilothouse_disk::faults::{Dice, Disk};

use super::*;

/// How many lives are tried, unless the environment says so.
const SEEDS: u64 = 40;
/// The first of them.
const FIRST_SEED: &str = "PILOTHOUSE_FIRST_SEED";

/// Whether a push was acknowledged.
fn is_taken(store: &Store, entries: &[Entry]) -> bool {
    let Ok(appended) = store.append(&batch(entries)) else { return false };
    let mut durable = appended.durable;
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = durable.as_mut().poll(&mut context) {
            return result.is_ok();
        }
        std::thread::yield_now();
    }
}

/// Some entries of some streams, over three days.
fn entries(clock: &TestClock, dice: &mut Dice) -> Vec<Entry> {
    clock.advance(1000);
    let t_ns = clock.now_ns() - dice.roll(3) as i64 * 26 * 60 * MINUTE_NS;
    let first = dice.roll(8);
    let of = |app: u64| line(&format!("app-{app}"), t_ns, &format!("line of {t_ns} and {app}"));
    (first..=first + dice.roll(3)).map(of).collect()
}

fn check(
    store: &Store,
    sent: &BTreeSet<Entry>,
    acknowledged: &BTreeSet<Entry>,
    what: &str,
) -> BTreeSet<Entry> {
    let found = all(store);
    let there: BTreeSet<Entry> = found.iter().cloned().collect();
    assert_eq!(there.len(), found.len(), "{what}: an entry is there twice");
    assert!(acknowledged.is_subset(&there), "{what}: lost {:?}", acknowledged - &there);
    assert!(there.is_subset(sent), "{what}: invented {:?}", &there - sent);
    there
}

fn life(seed: u64) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let clock = TestClock::at(NOON_NS);
    let disk = Disk::below(dir.path());
    let mut dice = Dice(seed);
    let (mut sent, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..2 {
        disk.cut_power_after(dice.roll(300));
        if let Ok(store) = Store::open(dir.path(), options(&clock)) {
            while !disk.is_power_out() {
                let went_well = match dice.roll(12) {
                    0 => store.flush().is_ok(),
                    1 => {
                        clock.advance(20 * 60_000);
                        store.maintain().is_ok()
                    }
                    _ => {
                        let entries = entries(&clock, &mut dice);
                        sent.extend(entries.iter().cloned());
                        let taken = is_taken(&store, &entries);
                        if taken {
                            acknowledged.extend(entries);
                        }
                        taken
                    }
                };
                if !went_well {
                    break;
                }
            }
        }
        disk.settle(dice.roll(u64::MAX)).unwrap();
        let what = format!("seed {seed}, round {round}");
        let store = Store::open(dir.path(), options(&clock)).unwrap_or_else(|e| panic!("{what}: {e}"));
        acknowledged = check(&store, &sent, &acknowledged, &what);
        let more = entries(&clock, &mut dice);
        sent.extend(more.iter().cloned());
        assert!(is_taken(&store, &more), "{what}");
        acknowledged.extend(more);
        store.flush().unwrap();
        check(&store, &sent, &acknowledged, &what);
        assert_eq!(store.stats().corruptions, 0, "{what}");
        store.close().unwrap();
    }
}

#[test]
fn power_cuts_at_any_moment_lose_nothing_and_double_nothing() {
    let said = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let first = said(FIRST_SEED).unwrap_or(0);
    let seeds = said("PILOTHOUSE_SEEDS").unwrap_or(SEEDS);
    std::thread::scope(|scope| {
        for part in 0..3 {
            scope.spawn(move || (first + part..first + seeds).step_by(3).for_each(life));
        }
    });
}
