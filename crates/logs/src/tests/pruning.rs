//! Filters leave out blocks and never lines that match.

use pilothouse_model::logs::{LineDemand, Literal};
use proptest::prelude::*;

use super::*;

pub(super) fn demand(text: &str, fold_case: bool) -> LineDemand {
    LineDemand { alternatives: vec![vec![Literal { text: text.to_owned(), fold_case }]] }
}

/// The entries whose lines contain a text, found with the help of filters.
pub(super) fn with(store: &Store, text: &str) -> Vec<Entry> {
    let selection = LogSelection {
        demands: vec![demand(text, false)],
        ..LogSelection::all(every_stream(), i64::MIN, i64::MAX)
    };
    select(store, &selection).into_iter().filter(|e| e.2.contains(text)).collect()
}

#[test]
fn a_rare_text_is_found_in_few_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = open(dir.path(), &clock);
    let mix = |i: u64| {
        (i ^ 0x5bd1_e995)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let id = |i: i64| format!("{:016x}{:016x}", mix(i as u64), mix(i as u64 + (1 << 40)));
    let words =
        "request served by a worker of the pool after it had waited for the connection to the upstream";
    let text = |i: i64| format!("{} {words} and was logged {words} in {}ms", id(i), i % 977);
    for part in 0..24 {
        let entries: Vec<Entry> =
            (0..2_000).map(|i| part * 2_000 + i).map(|i| line("a", NOON_NS + i * 1_000, &text(i))).collect();
        push(&store, &entries);
        store.maintain().unwrap();
    }
    let needle = id(31_000);
    let selection = LogSelection {
        demands: vec![demand(&needle[1..], false)],
        ..LogSelection::all(every_stream(), i64::MIN, i64::MAX)
    };
    let collect = Collect::default();
    let report = store.read(&selection, &collect, &Budget::unlimited()).unwrap();
    assert!(report.blocks >= 12 && report.blocks_pruned + 2 >= report.blocks, "{report:?}");
    assert_eq!(with(&store, &needle).len(), 1);
    assert_eq!(with(&store, &"ab".repeat(16)).len(), 0);
}

fn words() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("connection".to_owned()),
        Just("Größe".to_owned()),
        Just("timeout".to_owned()),
        Just("KELVIN \u{212A}".to_owned()),
        "[a-z]{1,6}",
        "[0-9a-f]{8}",
        "[A-Z][a-z]{3,9}",
        "[ -~]{0,5}",
    ];
    proptest::collection::vec(word, 0..8).prop_map(|w| w.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn pruning_changes_no_answer(
        lines in proptest::collection::vec((0u8..4, words()), 1..300),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..14, any::<bool>()), 1..30),
        flushes in 1usize..6,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
        let store = open(dir.path(), &clock);
        let mut entries = Vec::new();
        for (i, part) in lines.chunks(lines.len().div_ceil(flushes)).enumerate() {
            let part: Vec<Entry> = part.iter().enumerate()
                .map(|(k, (app, text))| line(&format!("app-{app}"), NOON_NS + (i * 1000 + k) as i64, text)).collect();
            push(&store, &part);
            entries.extend(part);
            if i % 3 < 2 {
                store.flush().unwrap();
            }
        }
        entries.sort();
        for (of, from, length, fold_case) in picks {
            let text: Vec<char> = lines[of.index(lines.len())].1.chars().collect();
            let start = if text.is_empty() { 0 } else { from.index(text.len()) };
            let needle: String = text[start..(start + length).min(text.len())].iter().collect();
            if needle.is_empty() {
                continue;
            }
            let matches = |line: &str| match fold_case {
                true => line.to_lowercase().contains(&needle.to_lowercase()),
                false => line.contains(&needle),
            };
            let selection = LogSelection {
                demands: vec![demand(&needle, fold_case)], ..LogSelection::all(every_stream(), i64::MIN, i64::MAX)
            };
            let found: Vec<Entry> = select(&store, &selection).into_iter().filter(|e| matches(&e.2)).collect();
            let expected: Vec<Entry> = entries.iter().filter(|e| matches(&e.2)).cloned().collect();
            check_same(&found, &expected, &format!("{needle:?} fold {fold_case}"));
        }
    }
}
