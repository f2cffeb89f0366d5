//! Random pushes, flushes, kills and restarts beside a plain map.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Entries by stream, distance in time, text, metadata.
    Push(Vec<(u8, i64, u8, u8)>),
    /// The push before, again.
    Repeat,
    Maintain,
    Flush,
    Kill,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    // Close together, hours apart, and over midnight.
    let distance = prop_oneof![0i64..20, 0i64..100_000_000, (-30i64..30).prop_map(|h| h * 3_600_000_000_000)];
    let entry = (0u8..6, distance, 0u8..8, 0u8..3);
    prop_oneof![
        6 => proptest::collection::vec(entry, 1..60).prop_map(Step::Push),
        1 => Just(Step::Repeat),
        2 => Just(Step::Maintain),
        1 => Just(Step::Flush),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

fn entry_of((app, distance, text, set): (u8, i64, u8, u8)) -> Entry {
    let words =
        ["", "connection refused", "GET /index 200", "größer", "\u{0}\n", "timeout after 12ms", "a", "b"];
    let line = words[usize::from(text) % words.len()].repeat(1 + usize::from(text));
    let metadata = Labels::from_pairs((0..set).map(|i| (format!("m{i}"), format!("v{text}"))));
    (labels(&format!("app-{app}")), NOON_NS + distance, line, metadata)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_a_map(steps in proptest::collection::vec(step(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOON_NS + 40 * 60 * MINUTE_NS);
        let mut store = open(dir.path(), &clock);
        let mut model = Model::default();
        let mut last = Vec::new();
        for step in steps {
            match step {
                Step::Push(_) | Step::Repeat => {
                    if let Step::Push(entries) = step {
                        last = entries.into_iter().map(entry_of).collect();
                    }
                    let before = model.0.len();
                    let appended = push(&store, &last);
                    model.add(&last);
                    prop_assert_eq!(appended.entries, (model.0.len() - before) as u64);
                    prop_assert_eq!(appended.entries + appended.duplicates, last.len() as u64);
                }
                Step::Maintain => store.maintain().unwrap(),
                Step::Flush => store.flush().unwrap(),
                Step::Kill => {
                    drop(store);
                    store = open(dir.path(), &clock);
                }
                Step::Close => {
                    store.close().unwrap();
                    drop(store);
                    store = open(dir.path(), &clock);
                }
            }
            check_same(&all(&store), &model.entries(), "after a step");
        }
        prop_assert_eq!(store.stats().corruptions, 0);
    }
}
