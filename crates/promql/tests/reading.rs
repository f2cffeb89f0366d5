//! Queries made at random: reading never panics, and what was read prints as a query that reads
//! back to the same print. Queries as deep as the limit allows evaluate on the stack they get.

// A failure in here is the test's own, and says where.
#![allow(clippy::expect_used)]

mod memory;

use memory::Memory;
use pilothouse_model::{Budget, Labels, QueryValue, SampleValue};
use pilothouse_promql::printer::format;
use pilothouse_promql::{Engine, Options, ParseContext, parse};
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "foo",
    "a:b",
    "{a=\"b\"}",
    "{\"x.y\", c=~\"d|e\"}",
    "1",
    "0x1F",
    "1e3",
    "Inf",
    "5m",
    "1h30m",
    "\"text\"",
    "`raw`",
    "(",
    ")",
    "[5m]",
    "[5m:1m]",
    "[step()+1m:]",
    ",",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "!=",
    ">=",
    "<",
    "</",
    ">/",
    "and",
    "or",
    "unless",
    "atan2",
    "bool",
    "on(a)",
    "ignoring()",
    "group_left(b)",
    "group_right",
    "fill(1)",
    "fill_left(-2)",
    "sum",
    "by(a)",
    "without(c)",
    "topk",
    "count_values",
    "rate",
    "abs",
    "label_replace",
    "time()",
    "start()",
    "offset 5m",
    "offset -(1h/2)",
    "@ 12.5",
    "@ end()",
    "anchored",
    "smoothed",
    "info",
    "min_of",
    "# comment\n",
];

fn round_trip(query: &str) {
    let Ok(expr) = parse(query, &ParseContext::default()) else { return };
    let printed = format(&expr);
    let again =
        parse(&printed, &ParseContext::default()).unwrap_or_else(|e| panic!("{query}\n{printed}\n{e}"));
    assert_eq!(format(&again), printed, "{query}");
}

/// Expressions that mostly make sense, so that deep parts are reached.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("foo".to_owned()),
        Just("foo{a=\"b\"} offset 1m".to_owned()),
        Just("bar @ start()".to_owned()),
        Just("rate(foo[5m])".to_owned()),
        Just("vector(2)".to_owned()),
        Just("increase(foo[1m] anchored)".to_owned()),
    ];
    leaf.prop_recursive(6, 40, 3, |inner| {
        let binary =
            ["+", "-", "*", "^", "and", "or", "> bool", "== on(a) group_left()", "/ fill(1)", "atan2", "</"];
        prop_oneof![
            (inner.clone(), proptest::sample::select(binary.to_vec()), inner.clone())
                .prop_map(|(l, op, r)| format!("{l} {op} {r}")),
            inner.clone().prop_map(|e| format!("-{e}")),
            inner.clone().prop_map(|e| format!("({e})")),
            inner.clone().prop_map(|e| format!("sum by (a) ({e})")),
            inner.clone().prop_map(|e| format!("topk(2, {e}) without (b)")),
            inner.clone().prop_map(|e| format!("max_over_time(({e})[5m:1m] offset 10s)")),
            inner.clone().prop_map(|e| format!("clamp({e}, 1, 2)")),
        ]
    })
}

proptest! {
    #[test]
    fn words_in_any_order_do_no_harm(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..14)) {
        round_trip(&words.join(" "));
        round_trip(&words.concat());
    }

    #[test]
    fn any_text_does_no_harm(text in "\\PC{0,40}") {
        round_trip(&text);
    }

    #[test]
    fn expressions_read_and_print(query in expression()) {
        prop_assert!(parse(&query, &ParseContext::default()).is_ok(), "{}", query);
        round_trip(&query);
    }
}

#[test]
fn the_deepest_queries_evaluate() {
    let deep = |text: String| {
        let mut memory = Memory::default();
        memory.add(Labels::from_pairs([("__name__", "m")]), 0, SampleValue::Float(1.0));
        let expr = parse(&text, &ParseContext::default()).expect("a query within the limit");
        let outcome = Engine::instant(&memory, &expr, 0, &Options::default(), &Budget::unlimited());
        outcome.expect("an answer").value
    };
    let evaluate = move || {
        let levels = 900;
        for text in [
            "1+".repeat(levels) + "1",
            "vector(1) or ".repeat(levels) + "vector(1)",
            "-(".repeat(levels) + "m" + &")".repeat(levels),
            "abs(".repeat(levels) + "vector(1)" + &")".repeat(levels),
            "sum(".repeat(levels) + "vector(1)" + &")".repeat(levels),
        ] {
            match deep(text) {
                QueryValue::Scalar { value, .. } => assert_eq!(value, 901.0),
                QueryValue::Vector(samples) => assert_eq!(samples.len(), 1),
                other => panic!("{other:?}"),
            }
        }
    };
    // As much as a thread of the server's query pool has.
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(evaluate).expect("a thread");
    thread.join().expect("no overflow");
}
