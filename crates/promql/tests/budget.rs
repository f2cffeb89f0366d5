//! A query stops at each of its ceilings, and gives back the memory it took.

// A failure in here is the test's own, and says where.
#![allow(clippy::expect_used)]

mod memory;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use memory::Memory;
use pilothouse_model::budget::Ceilings;
use pilothouse_model::{Budget, BudgetError, Labels, SampleValue};
use pilothouse_promql::{Engine, EvalError, Options, ParseContext, parse};

fn memory() -> Memory {
    let mut memory = Memory::default();
    for i in 0..200 {
        let labels = Labels::from_pairs([("__name__", "m_total".to_owned()), ("i", i.to_string())]);
        for minute in 0..10 {
            memory.add(labels.clone(), minute * 60_000, SampleValue::Float(minute as f64));
        }
    }
    memory
}

fn ask(query: &str, budget: &Budget) -> Result<(), EvalError> {
    let expr = parse(query, &ParseContext::default()).expect(query);
    let times = (0, 540_000, 1_000);
    Engine::range(&memory(), &expr, times, &Options::default(), budget).map(|_| ())
}

#[test]
fn every_ceiling_stops_a_query() {
    let budget = |ceilings: Ceilings| Budget::new(ceilings);
    let samples = budget(Ceilings { samples: 1_000, ..Ceilings::NONE });
    assert!(matches!(ask("m_total", &samples), Err(EvalError::Budget(BudgetError::Samples(_)))));
    let series = budget(Ceilings { series: 10, ..Ceilings::NONE });
    assert!(matches!(
        ask("sum(m_total)", &series),
        Err(EvalError::Budget(BudgetError::Series { limit: 10 }))
    ));
    let bytes = budget(Ceilings { memory_bytes: 100_000, ..Ceilings::NONE });
    assert!(matches!(ask("m_total", &bytes), Err(EvalError::Budget(BudgetError::Memory { .. }))));
    // A sum holds its group, not its series.
    let bytes = budget(Ceilings { memory_bytes: 100_000, ..Ceilings::NONE });
    ask("sum(rate(m_total[5m]))", &bytes).expect("a sum within its memory");
    // A subquery of a step so short that its grid alone would not fit.
    let bytes = budget(Ceilings { memory_bytes: 1 << 20, ..Ceilings::NONE });
    let asked = ask("max_over_time(vector(1)[30d:1ms])", &bytes);
    assert!(matches!(asked, Err(EvalError::Budget(BudgetError::Memory { .. }))));
    let late = budget(Ceilings { timeout: Duration::ZERO, ..Ceilings::NONE });
    assert!(matches!(ask("m_total", &late), Err(EvalError::Budget(BudgetError::Timeout(_)))));
    let gone = Budget::unlimited();
    gone.cancel();
    assert!(matches!(ask("m_total", &gone), Err(EvalError::Budget(BudgetError::Canceled(_)))));
}

#[test]
fn memory_is_given_back() {
    let budget = Budget::new(Ceilings { memory_bytes: 4 << 20, ..Ceilings::NONE });
    for _ in 0..10 {
        ask("m_total * 2", &budget).expect("each query has all of the memory");
    }
    assert!(budget.memory_peak_bytes() > 200 * 541 * 8);
}

#[test]
fn what_is_done_after_the_last_sample_was_read_ends_with_its_client_too() {
    let queries = [
        "m_total + m_total",
        "m_total and m_total",
        "m_total unless on() vector(1)",
        "m_total or m_total",
        "m_total * on() group_left() vector(1)",
        "topk(3, m_total)",
        "limitk(3, m_total)",
        "quantile(0.5, m_total)",
        "count_values(\"v\", m_total)",
        "sum by (i) (m_total + m_total)",
        "sort(m_total)",
        "sort_by_label(m_total, \"i\")",
        "label_replace(m_total, \"x\", \"$1\", \"i\", \"(.*)\")",
        "label_join(m_total, \"x\", \"-\", \"i\", \"i\")",
        "absent(m_total)",
        "abs(m_total + m_total)",
        "-(m_total + m_total)",
        "histogram_quantile(0.5, m_total)",
        "max_over_time(m_total[5m:1m])",
        "abs(m_total)",
    ];
    let mut source = memory();
    let run = |source: &Memory, query: &str, reads: u64| {
        source.reads_left.store(reads, Relaxed);
        let expr = parse(query, &ParseContext::default()).expect(query);
        Engine::instant(source, &expr, 540_000, &Options::default(), &Budget::unlimited()).map(|_| ())
    };
    for i in 0..40 {
        let labels = Labels::from_pairs([("__name__", "m_total"), ("i", "1"), ("le", &*i.to_string())]);
        source.add(labels, 540_000, SampleValue::Float(f64::from(i)));
    }
    for query in queries {
        let many = 1 << 40;
        run(&source, query, many).expect(query);
        let reads = many - source.reads_left.load(Relaxed);
        let ended = run(&source, query, reads);
        assert!(matches!(ended, Err(EvalError::Budget(BudgetError::Canceled(_)))), "{query}");
    }
}
