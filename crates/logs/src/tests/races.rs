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
