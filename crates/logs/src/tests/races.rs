//! Readers beside a writer, a flusher and merges see each entry once.

use std::sync::atomic::AtomicBool;

use super::*;

const ROUNDS: i64 = 40;
const ENTRIES: i64 = 400;

fn round(i: i64) -> Vec<Entry> {
    let t_ns = |k: i64| NOON_NS + i * MINUTE_NS / 2 + k;
    (0..ENTRIES).map(|k| line(&format!("app-{}", k * 3 / ENTRIES), t_ns(k), &format!("{i} {k}"))).collect()
}

#[test]
fn each_entry_is_seen_once_whatever_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let written = AtomicI64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (store, written, done) = (&store, &written, &done);
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    let before = written.load(Relaxed);
                    let found = all(store);
                    assert!(found.windows(2).all(|w| w[0] != w[1]), "an entry twice");
                    assert!(found.len() as i64 >= before * ENTRIES, "{} of {before} rounds", found.len());
                    if reader == 0 {
                        // As if other days had pushed it out: it is read from the disk again.
                        store.inner.days.all().iter().for_each(|day| day.unload());
                    }
                }
            });
        }
        for i in 0..ROUNDS {
            push(&store, &round(i));
            written.store(i + 1, Relaxed);
            store.flush().unwrap();
        }
        done.store(true, Relaxed);
    });
    assert_eq!(all(&store).len() as i64, ROUNDS * ENTRIES);
    assert_eq!(store.stats().corruptions, 0);
}

/// Senders repeat each other's lines, late ones among them, while everything is on its way to the
/// disk: each line is stored by one of them, whatever was where when it was looked for.
#[test]
fn each_entry_is_stored_once_whoever_sends_it_and_when() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let stored = AtomicI64::new(0);
    let done = AtomicBool::new(false);
    let (senders, rounds) = (3, 20);
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            while !done.load(Relaxed) {
                store.flush().unwrap();
                store.inner.forget_seen();
            }
        });
        let all: Vec<_> = (0..senders)
            .map(|sender| {
                let (store, stored) = (&store, &stored);
                scope.spawn(move || {
                    for i in 0..rounds {
                        // Each in an order of its own, so that what is new to one is late for another.
                        let which = (i * [1, 7, 11][sender] + sender as i64) % rounds;
                        let entries: Vec<Entry> = round(which).into_iter().step_by(5).collect();
                        let appended = push(store, &entries);
                        assert_eq!(appended.entries + appended.duplicates, 80);
                        stored.fetch_add(appended.entries as i64, Relaxed);
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|sender| sender.join().unwrap());
        done.store(true, Relaxed);
        flusher.join().unwrap();
    });
    let found = all(&store);
    assert!(found.windows(2).all(|w| w[0] != w[1]), "an entry twice");
    assert_eq!((found.len() as i64, stored.load(Relaxed)), (rounds * 80, rounds * 80));
}

/// A deletion comes between the search for late lines and their append.
#[test]
fn what_is_deleted_while_it_is_sent_again_is_there_once_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let entries = round(0);
    push(&store, &entries);
    store.flush().unwrap();
    let request = crate::DeletionRequest {
        matchers: vec![Matcher::equal("app", "app-0")],
        start_ns: NOON_NS,
        end_ns: NOON_NS + MINUTE_NS,
        ..crate::DeletionRequest::default()
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..12 {
                let id = store.delete(&request).unwrap();
                if i % 3 == 0 {
                    let _ = store.cancel_deletion(id).unwrap();
                }
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            push(&store, &entries);
            let found = all(&store);
            assert!(found.windows(2).all(|w| w[0] != w[1]), "an entry twice");
        }
    });
    push(&store, &entries);
    assert_eq!(all(&store).len(), entries.len());
}
