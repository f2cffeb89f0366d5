//! A query stops at each of its ceilings, and gives back the memory it took.

// A failure in here is the test's own, and says where.
#![allow(clippy::expect_used)]

mod memory;

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
    assert!(ask("m_total", &bytes).is_err_and(|e| e.is_limit()));
    // A sum holds its group, not its series.
    let bytes = budget(Ceilings { memory_bytes: 100_000, ..Ceilings::NONE });
    ask("sum(rate(m_total[5m]))", &bytes).expect("a sum within its memory");
    // A subquery of a step so short that its grid alone would not fit.
    let bytes = budget(Ceilings { memory_bytes: 1 << 20, ..Ceilings::NONE });
    assert!(ask("max_over_time(vector(1)[30d:1ms])", &bytes).is_err_and(|e| e.is_limit()));
    let late = budget(Ceilings { timeout: Duration::ZERO, ..Ceilings::NONE });
    assert!(ask("m_total", &late).is_err_and(|e| e.is_timeout()));
    let gone = Budget::unlimited();
    gone.cancel();
    assert!(ask("m_total", &gone).is_err_and(|e| e.is_canceled()));
}

#[test]
fn memory_is_given_back() {
    let budget = Budget::new(Ceilings { memory_bytes: 4 << 20, ..Ceilings::NONE });
    for _ in 0..10 {
        ask("m_total * 2", &budget).expect("each query has all of the memory");
    }
    assert!(budget.memory_peak_bytes() > 200 * 541 * 8);
}
