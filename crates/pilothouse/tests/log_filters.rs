//! Random filters over random lines: the store, which leaves out blocks that its filters exclude,
//! answers as a list in memory does, which looks at every line.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::sync::Arc;

use pilothouse_logql::{Direction, LogqlValue, MemoryEntries, RangeQuery, parse, query_range};
use pilothouse_logs::{Store, StoreOptions};
use pilothouse_model::labels::quote;
use pilothouse_model::{Budget, Clock, EntrySink, EntrySource, Labels, LogBatch};
use proptest::prelude::*;

/// Noon of 2026-11-22 UTC.
const NOON_NS: i64 = 1_795_348_800_000_000_000;

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        NOON_NS / 1_000_000 + 3_600_000
    }
}

/// Words that lines are made of, and that filters are made of parts of.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "connection",
        "refused",
        "Timeout",
        "Größe",
        "straße",
        "KELVIN \u{212A}",
        "lo\u{17f}t",
        "trace_id=4bf92f3577b34da6",
        "10.3.77.201",
        "GET /api/v1/users/42",
        "status=503",
        "\\\"quoted\\\"",
        "",
    ];
    prop_oneof![
        6 => prop::sample::select(words.map(str::to_owned).to_vec()),
        2 => "[a-cA-C]{1,6}",
        2 => "[0-9a-f]{8}",
        1 => "[ -~]{0,5}",
    ]
}

fn line() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..7).prop_map(|words| words.join(" "))
}

/// Part of a word, or all of it.
fn needle() -> impl Strategy<Value = String> {
    (word(), any::<prop::sample::Index>(), 1usize..14).prop_map(|(word, from, length)| {
        let letters: Vec<char> = word.chars().collect();
        let start = if letters.is_empty() { 0 } else { from.index(letters.len()) };
        letters[start..(start + length).min(letters.len())].iter().collect()
    })
}

fn escaped(text: &str) -> String {
    let escape = |c: char| if "\\.+*?()|[]{}^$".contains(c) { format!("\\{c}") } else { c.to_string() };
    text.chars().map(escape).collect()
}

fn regex() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        5 => needle().prop_map(|n| escaped(&n)),
        1 => prop::sample::select(vec![".*", ".+", ".", "[a-c]", "[^a]", "\\d+", "\\w", "\\s?", "^", "$", "\\b"]).prop_map(str::to_owned),
    ];
    let inner = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            (inner.clone(), prop::sample::select(vec!["?", "*", "+", "{0,2}", "{2}"]))
                .prop_map(|(part, times)| format!("(?:{part}){times}")),
            inner.prop_map(|part| format!("(?i:{part})")),
        ]
    });
    (any::<bool>(), inner).prop_map(|(fold, regex)| if fold { format!("(?i){regex}") } else { regex })
}

fn pattern() -> impl Strategy<Value = String> {
    let literal = || "[a-zA-Z0-9 /=.]{1,5}";
    (any::<bool>(), prop::collection::vec(literal(), 1..3), any::<bool>()).prop_map(|(first, parts, last)| {
        let gap = |is: bool| if is { "<_>" } else { "" };
        format!("{}{}{}", gap(first), parts.join("<_>"), gap(last))
    })
}

fn filter() -> impl Strategy<Value = String> {
    let texts = |operator: &'static str, needles: Vec<String>| {
        let quoted: Vec<String> = needles.iter().map(|n| quote(n)).collect();
        format!("{operator} {}", quoted.join(" or "))
    };
    prop_oneof![
        4 => prop::collection::vec(needle(), 1..3).prop_map(move |n| texts("|=", n)),
        1 => prop::collection::vec(needle(), 1..3).prop_map(move |n| texts("!=", n)),
        4 => prop::collection::vec(regex(), 1..3).prop_map(move |n| texts("|~", n)),
        1 => prop::collection::vec(regex(), 1..3).prop_map(move |n| texts("!~", n)),
        2 => pattern().prop_map(move |n| texts("|>", vec![n])),
        1 => pattern().prop_map(move |n| texts("!>", vec![n])),
    ]
}

/// Entries that pass, or the error.
fn answer(source: &dyn EntrySource, filter: &str) -> Result<Vec<(i64, String)>, String> {
    let expr = parse(&format!("{{app=~\".+\"}} {filter}")).map_err(|e| e.to_string())?;
    let query = RangeQuery {
        start_ns: NOON_NS,
        end_ns: NOON_NS + 1_000_000,
        step_ns: 1,
        limit: 5_000,
        direction: Direction::Forward,
        interval_ns: 0,
        categorize: false,
        max_series: 500,
    };
    let result = query_range(source, &expr, &query, &Budget::unlimited()).map_err(|e| e.to_string())?;
    let LogqlValue::Streams(streams) = result.value else { panic!("no streams") };
    let entries = streams.into_iter().flat_map(|s| s.entries).map(|e| (e.t_ns, e.line));
    let mut entries: Vec<(i64, String)> = entries.collect();
    entries.sort();
    Ok(entries)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn pruning_changes_no_answer(
        lines in prop::collection::vec((0u8..3, line()), 1..250),
        filters in prop::collection::vec(prop::collection::vec(filter(), 1..4).prop_map(|f| f.join(" ")), 40),
        commits in 1usize..9,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { clock: Arc::new(Noon), background: false, ..StoreOptions::default() };
        let store = Store::open(directory.path(), options).unwrap();
        let list = MemoryEntries::default();
        for (i, part) in lines.chunks(lines.len().div_ceil(commits)).enumerate() {
            let mut batch = LogBatch::default();
            for (k, (app, line)) in part.iter().enumerate() {
                let labels = Labels::from_pairs([("app", format!("app-{app}"))]);
                let t_ns = NOON_NS + (i * 1_000 + k) as i64;
                batch.begin_stream(labels.clone());
                batch.push(t_ns, line, Labels::empty());
                list.add(&labels, t_ns, line, &Labels::empty());
            }
            store.append(&batch).unwrap();
            // The last part stays in memory.
            if i + 1 < commits {
                store.flush().unwrap();
            }
        }
        for filter in &filters {
            prop_assert_eq!(answer(&store, filter), answer(&list, filter), "{}", filter);
        }
    }
}
