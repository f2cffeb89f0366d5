//! Readers beside a writer, flushes and compactions: what was acknowledged before a read began
//! is in its answer, whole and in order.

use std::sync::atomic::AtomicBool;
use std::thread;

use super::*;

const SERIES: usize = 40;
const STEPS: i64 = 600;

/// The time that is acknowledged for all series.
struct Progress(AtomicI64);

#[test]
fn readers_miss_nothing_while_samples_move_to_the_disk() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
    let store = Store::open(dir.path(), StoreOptions { background: true, ..options(&clock) }).unwrap();
    let (progress, done) = (Progress(AtomicI64::new(0)), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for step in 1..=STEPS {
                let push = (0..SERIES)
                    .fold(Push::new(), |push, i| push.floats(&series("a", i), &[(NOON + step, step as f64)]));
                assert_eq!(push.to(&store).rejected, 0);
                progress.0.store(step, Relaxed);
            }
            done.store(true, Relaxed);
        });
        scope.spawn(|| {
            while !done.load(Relaxed) {
                store.seal_all().unwrap();
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            while !done.load(Relaxed) {
                store.compact_now().unwrap();
                thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    look(&store, &progress);
                }
            });
        }
    });
    look(&store, &progress);
    assert_eq!(read_all(&store).values().map(BTreeMap::len).sum::<usize>(), SERIES * STEPS as usize);
    store.close().unwrap();
}

fn look(store: &Store, progress: &Progress) {
    let least = progress.0.load(Relaxed);
    let matcher = Matcher::equal("__name__", "a");
    let (start_ms, end_ms) = (NOON, NOON + STEPS);
    let selection = Selection { matchers: vec![matcher], start_ms, end_ms, needs: LabelNeeds::All };
    let selected = store.select(&selection, &Budget::unlimited()).unwrap();
    assert!(least == 0 || selected.len() == SERIES);
    let mut columns = SampleColumns::default();
    for series in selected {
        let newest = series.samples.latest(start_ms, end_ms).unwrap();
        assert!(newest.map_or(0, |n| n.0 - NOON) >= least, "{} of {least}", series.labels);
        series.samples.read(start_ms, end_ms, &mut columns).unwrap();
        let whole = columns.times_ms.iter().zip(&columns.values).zip(1..);
        for ((t, v), step) in whole {
            assert_eq!((*t, *v), (NOON + step, step as f64), "{}", series.labels);
        }
        assert!(columns.len() as i64 >= least, "{} of {least} in {}", columns.len(), series.labels);
    }
}
