//! The index of a closed day.
//!
//! Strategy: one of a few small indexes is copied, then some of its rows are overwritten, cut or dropped as
//! the bytes say. Everything that can be asked of it is asked.
//! Invariants: never a panic, never without end; an index left as it was answers as the list of
//! its series does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use pilothouse_index::day::VisitRow;
use pilothouse_index::{
    DayIndex, DayRows, DayWriter, Error, PostingsSource, RoaringBitmap, Scan, label_names, label_values,
    resolve,
};
use pilothouse_model::{Budget, Labels, MatchOp, Matcher};

use crate::choices::Choices;

#[derive(Debug, Default, Clone)]
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

pub fn run(data: &[u8]) {
    static WHOLE: LazyLock<Vec<(BTreeSet<Labels>, Table)>> =
        LazyLock::new(|| [1, 100, 129, 270].map(|n| (series(n), write(&series(n)))).into());
    let mut choices = Choices::new(data);
    let (series, table) = &WHOLE[choices.below(4)];
    let mut table = table.clone();
    let changed = !choices.is_empty();
    while !choices.is_empty() {
        change(&mut table, &mut choices);
    }
    let Ok(day) = DayIndex::open(table) else {
        assert!(changed);
        return;
    };
    ask(&day, (!changed).then_some(series));
}

fn series(n: usize) -> BTreeSet<Labels> {
    (0..n)
        .map(|i| Labels::from_pairs([("a", (i * 3 % 7).to_string()), ("b", format!("{:x}", i * 7919))]))
        .collect()
}

fn write(series: &BTreeSet<Labels>) -> Table {
    let mut table = Table::default();
    let mut put = |key: &[u8], value: &[u8]| {
        table.0.insert(key.to_vec(), value.to_vec());
        Ok::<_, Error>(())
    };
    let mut writer = DayWriter::new();
    for labels in series {
        writer.push(labels, 0, &mut put).expect("series in order");
    }
    writer.finish(&mut put).expect("rows into memory");
    table
}

fn change(table: &mut Table, choices: &mut Choices<'_>) {
    let at = choices.below(table.0.len());
    let Some(key) = table.0.keys().nth(at).cloned() else { return };
    let Some(row) = table.0.get_mut(&key) else { return };
    match choices.byte() % 4 {
        0 => row.truncate(choices.below(row.len())),
        1 => drop(table.0.remove(&key)),
        2 => {
            // As if it were not compressed, so that the content is reached.
            let n = choices.below(60);
            *row = [0].into_iter().chain((0..n).map(|_| choices.byte())).collect();
        }
        _ => {
            let at = choices.below(row.len());
            if let Some(byte) = row.get_mut(at) {
                *byte ^= choices.byte();
            }
        }
    }
}

fn ask(day: &DayIndex<Table>, whole: Option<&BTreeSet<Labels>>) {
    let budget = Budget::unlimited();
    let sets = [
        vec![Matcher::equal("a", "3")],
        vec![Matcher::new(MatchOp::Regex, "b", "1.*").expect("an expression")],
        vec![Matcher::new(MatchOp::NotEqual, "b", "").expect("a matcher"), Matcher::equal("a", "1")],
    ];
    for set in &sets {
        let found = resolve(day, set, &budget);
        if let Some(series) = whole {
            let wanted = series.iter().map(|l| set.iter().all(|m| m.matches(l.value(&m.name))));
            let wanted: RoaringBitmap = (0..).zip(wanted).filter(|(_, is)| *is).map(|(n, _)| n).collect();
            assert_eq!(found.expect("a whole index answers"), wanted);
        }
    }
    let _ = label_names(day, &sets, &budget);
    let _ = label_values(day, "b", &sets, &budget);
    let _ = day.get(&Labels::from_pairs([("a", "3"), ("b", "5dc9")]));
    let some: RoaringBitmap = (0..400).collect();
    let _ = day.for_each(&some, &mut |_, page, row| {
        let _ = page.labels(row);
        Ok(Scan::Continue(()))
    });
    let _ = day.having("b");
    for number in [0, 127, 128, u32::MAX] {
        let _ = day.labels(number);
    }
}
