//! The index in memory and that of a day, against a plain list of label sets.
#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

use std::collections::{BTreeMap, BTreeSet};

use pilothouse_index::day::VisitRow;
use pilothouse_index::{
    DayIndex, DayRows, DayWriter, Error, Index, Page, PageWriter, PostingsSource, Scan, label_names,
    label_values, resolve,
};
use pilothouse_model::{Budget, Labels, MatchOp, Matcher};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["__name__", "instance", "job", "ж"];
const VALUES: [&str; 9] = ["", "a", "ab", "abc", "b", "a.b", "ü", "a\nb", "x\0y"];
const PATTERNS: [&str; 20] = [
    "",
    "a",
    ".*",
    ".+",
    "a|b",
    "a|",
    "a.*",
    ".*b",
    "ab?",
    "(a|ab)c?",
    "a.b",
    "[ab]+",
    "|",
    "a\\.b",
    "(?i)A",
    "^a",
    "x.y",
    "nothing",
    "a|nothing",
    "(ab|a).*",
];

fn label_set() -> impl Strategy<Value = Labels> {
    proptest::collection::vec(0..VALUES.len(), NAMES.len()).prop_map(|values| {
        Labels::from_pairs(NAMES.iter().zip(values).map(|(name, value)| (*name, VALUES[value])))
    })
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let names = proptest::sample::select(vec!["__name__", "instance", "job", "ж", "absent"]);
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    (names, proptest::sample::select(ops.to_vec()), 0..PATTERNS.len(), 0..VALUES.len()).prop_map(
        |(name, op, pattern, value)| {
            let text = match op {
                MatchOp::Equal | MatchOp::NotEqual => VALUES[value],
                _ => PATTERNS[pattern],
            };
            Matcher::new(op, name, text).unwrap()
        },
    )
}

fn sets() -> impl Strategy<Value = Vec<Vec<Matcher>>> {
    proptest::collection::vec(proptest::collection::vec(matcher(), 0..4), 0..3)
}

fn selected(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| m.matches(labels.value(&m.name)))
}

/// Everything that can be asked, of a source and of the list.
fn check(source: &impl PostingsSource, model: &BTreeMap<u32, Labels>, sets: &[Vec<Matcher>]) {
    let budget = Budget::unlimited();
    for set in sets {
        let found: Vec<u32> = resolve(source, set, &budget).unwrap().iter().collect();
        let expected: Vec<u32> = model.iter().filter(|(_, l)| selected(l, set)).map(|(id, _)| *id).collect();
        assert_eq!(found, expected, "{set:?}");
    }
    let any: Vec<&Labels> =
        model.values().filter(|l| sets.is_empty() || sets.iter().any(|set| selected(l, set))).collect();
    let names: BTreeSet<&str> = any.iter().flat_map(|l| l.iter().map(|(n, _)| n)).collect();
    assert_eq!(label_names(source, sets, &budget).unwrap(), names.into_iter().collect::<Vec<_>>());
    for name in NAMES.iter().chain(&["absent"]) {
        let values: BTreeSet<&str> = any.iter().filter_map(|l| l.get(name)).collect();
        let found = label_values(source, name, sets, &budget).unwrap();
        assert_eq!(found, values.into_iter().collect::<Vec<_>>(), "{name} of {sets:?}");
    }
}

/// A table of rows in memory.
#[derive(Debug, Default)]
struct Table(BTreeMap<Vec<u8>, Vec<u8>>);

impl DayRows for Table {
    fn scan_from(&self, from: &[u8], visit: &mut VisitRow<'_>) -> Result<(), Error> {
        let start = self.0.range(..=from.to_vec()).next_back().map_or(Vec::new(), |(key, _)| key.clone());
        for (key, value) in self.0.range(start..) {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn write_day(series: &BTreeSet<Labels>) -> DayIndex<Table> {
    let mut table = Table::default();
    let mut put = |key: &[u8], value: &[u8]| -> Result<(), Error> {
        assert!(table.0.last_key_value().is_none_or(|(last, _)| last.as_slice() < key));
        table.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    };
    let mut writer = DayWriter::new();
    for (number, labels) in (0u32..).zip(series) {
        assert_eq!(writer.push(labels, u64::from(number) * 7, &mut put).unwrap(), number);
    }
    writer.finish(&mut put).unwrap();
    DayIndex::open(table).unwrap()
}

#[derive(Debug, Clone)]
enum Change {
    Insert(u32, Labels),
    Remove(u32),
    Compact,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0u32..40, label_set()).prop_map(|(id, labels)| Change::Insert(id * 3001, labels)),
        3 => (0u32..40).prop_map(|id| Change::Remove(id * 3001)),
        1 => Just(Change::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_index_in_memory_is_a_list(
        changes in proptest::collection::vec((change(), sets()), 0..60),
        projected in proptest::sample::subsequence(NAMES.to_vec(), 0..4),
    ) {
        let (mut index, mut model) = (Index::new(), BTreeMap::new());
        for (change, sets) in changes {
            match change {
                Change::Insert(id, labels) => {
                    let new = !model.contains_key(&id);
                    assert_eq!(index.insert(id, &labels).unwrap(), new);
                    model.entry(id).or_insert(labels);
                }
                Change::Remove(id) => assert_eq!(index.remove(id), model.remove(&id).is_some()),
                Change::Compact => index.compact(),
            }
            check(&index, &model, &sets);
        }
        assert_eq!(index.len(), model.len());
        let pairs: BTreeSet<(&str, &str)> = model.values().flat_map(Labels::iter).collect();
        assert_eq!(index.pair_count(), pairs.len());
        let mut projection = index.projection(&projected);
        for (id, labels) in &model {
            assert_eq!(index.labels(*id).as_ref(), Some(labels));
            let found = index.get(labels).unwrap();
            assert_eq!(model.get(&found), Some(labels));
            assert_eq!(projection.labels(*id), Some(labels.filter(|name| projected.contains(&name))));
            for name in NAMES {
                assert_eq!(index.value(*id, name), labels.get(name));
            }
        }
    }

    #[test]
    fn the_index_of_a_day_is_a_list(
        series in proptest::collection::btree_set(label_set(), 0..300),
        sets in proptest::collection::vec(sets(), 1..8),
    ) {
        let day = write_day(&series);
        let model: BTreeMap<u32, Labels> = (0..).zip(series.iter().cloned()).collect();
        assert_eq!(day.len() as usize, series.len());
        for set in &sets {
            check(&day, &model, set);
        }
        let mut visited = Vec::new();
        day.for_each(&day.all().unwrap(), &mut |number, page, row| {
            visited.push((number, page.labels(row)));
            Ok(Scan::Continue(()))
        }).unwrap();
        assert!(visited.iter().map(|(n, l)| (n, l)).eq(model.iter()));
        for (number, labels) in model.iter().step_by(17) {
            assert_eq!(day.labels(*number).unwrap(), (labels.clone(), u64::from(*number) * 7));
            assert_eq!(day.get(labels).unwrap(), Some(*number));
        }
        for name in ["", "_", "zzz"] {
            assert_eq!(day.get(&Labels::from_pairs([("a", name)])).unwrap(), None.filter(|_: &u32| series.is_empty()).or(
                model.iter().find(|(_, l)| **l == Labels::from_pairs([("a", name)])).map(|(n, _)| *n)));
        }
    }

    #[test]
    fn pages_read_back_alone_and_into_an_index(
        series in proptest::collection::btree_map(0u32..5000, (label_set(), proptest::num::u64::ANY), 0..80),
        flips in proptest::collection::vec((0usize..4000, 0u8..8), 1..6),
    ) {
        let mut writer = PageWriter::new();
        for (id, (labels, tag)) in &series {
            writer.push(*id, *tag, labels).unwrap();
        }
        let bytes = writer.finish();
        let page = Page::decode(&bytes).unwrap();
        let read: BTreeMap<u32, (Labels, u64)> =
            page.rows().iter().map(|row| (row.id, (page.labels(row), row.tag))).collect();
        assert_eq!(read, series);
        let mut index = Index::new();
        assert_eq!(index.insert_page(&page), series.len());
        assert_eq!(index.insert_page(&page), 0);
        let model: BTreeMap<u32, Labels> = series.into_iter().map(|(id, (labels, _))| (id, labels)).collect();
        check(&index, &model, &[vec![Matcher::new(MatchOp::Regex, "job", "a.*").unwrap()]]);

        let mut broken = bytes.clone();
        for (at, bit) in flips {
            let at = at % broken.len();
            broken[at] ^= 1 << bit;
        }
        if let Ok(page) = Page::decode(&broken) {
            let mut index = Index::new();
            index.insert_page(&page);
            check(&index, &page.rows().iter().map(|row| (row.id, page.labels(row))).collect(), &[]);
        }
        let cut = bytes.len() / 2;
        let _ = Page::decode(&bytes[..cut]);
    }
}

#[test]
fn many_values_are_paged_and_found() {
    let series: BTreeSet<Labels> = (0..20_000)
        .map(|i| Labels::from_pairs([("__name__", format!("m{}", i % 7)), ("id", format!("{:x}", i * 7919))]))
        .collect();
    let day = write_day(&series);
    let model: BTreeMap<u32, Labels> = (0..).zip(series.iter().cloned()).collect();
    let sets = [
        ("id", MatchOp::Equal, "1eef"),
        ("id", MatchOp::Regex, "1ee.*"),
        ("id", MatchOp::NotRegex, "1ee.*|2.*"),
        ("__name__", MatchOp::Regex, "m[135]"),
    ];
    let sets = sets.map(|(name, op, value)| vec![Matcher::new(op, name, value).unwrap()]);
    for set in sets {
        let found: Vec<u32> = resolve(&day, &set, &Budget::unlimited()).unwrap().iter().collect();
        let expected: Vec<u32> = model.iter().filter(|(_, l)| selected(l, &set)).map(|(n, _)| *n).collect();
        assert_eq!(found, expected, "{set:?}");
    }
    assert_eq!(day.value_count("id"), 20_000);
    for number in [0, 1, 127, 128, 9999, 19_999] {
        assert_eq!(day.get(&model[&number]).unwrap(), Some(number));
    }
    assert!(day.labels(20_000).is_err());
}

#[test]
fn series_out_of_order_are_refused() {
    let labels = |v: &str| Labels::from_pairs([("a", v)]);
    let mut put = |_: &[u8], _: &[u8]| Ok::<_, Error>(());
    let mut writer = DayWriter::new();
    writer.push(&labels("2"), 0, &mut put).unwrap();
    for again in ["2", "1"] {
        assert!(matches!(writer.push(&labels(again), 0, &mut put), Err(Error::Unordered)));
    }
    let mut page = PageWriter::new();
    page.push(5, 0, &labels("1")).unwrap();
    assert!(matches!(page.push(5, 0, &labels("2")), Err(Error::Unordered)));
}

#[test]
fn cardinality_counts_as_prometheus_does() {
    let mut index = Index::new();
    for (id, (name, job)) in [("up", "a"), ("up", "b"), ("go_info", "a")].into_iter().enumerate() {
        index.insert(id as u32, &Labels::from_pairs([("__name__", name), ("job", job)])).unwrap();
    }
    let found = index.cardinality(1);
    let top = |counts: &[pilothouse_index::cardinality::Count]| {
        counts.iter().map(|c| (c.name.clone(), c.count)).collect::<Vec<_>>()
    };
    assert_eq!((found.series, found.label_pairs, found.label_names), (3, 4, 2));
    assert_eq!(top(&found.series_by_metric), [("up".to_owned(), 2)]);
    assert_eq!(top(&found.values_by_label), [("__name__".to_owned(), 2)]);
    // Twice (9 + 3) and once (9 + 8), by the lengths of a name and a value and a byte for each.
    assert_eq!(top(&found.bytes_by_label), [("__name__".to_owned(), 2 * 12 + 17)]);
    assert_eq!(top(&found.series_by_pair), [("__name__=up".to_owned(), 2)]);
    let budget = Budget::unlimited();
    let ups = resolve(&index, &[Matcher::equal("__name__", "up")], &budget).unwrap();
    let jobs = index.label_cardinality("job", Some(&ups), 10);
    assert_eq!((jobs.values, jobs.series), (2, 2));
    assert_eq!(top(&jobs.top), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn a_spent_budget_stops_matching() {
    let mut index = Index::new();
    for id in 0..10_000 {
        index.insert(id, &Labels::from_pairs([("id", id.to_string())])).unwrap();
    }
    let budget = Budget::unlimited();
    budget.cancel();
    let set = vec![Matcher::new(MatchOp::Regex, "id", "1.*").unwrap()];
    assert!(matches!(resolve(&index, &set, &budget), Err(Error::Budget(_))));
    assert!(matches!(label_values(&index, "id", &[], &budget), Err(Error::Budget(_))));
}
