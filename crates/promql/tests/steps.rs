//! A range query answers at each step what an instant query answers there.

// A failure in here is the test's own, and says where.
#![allow(clippy::expect_used)]

mod memory;

use std::collections::BTreeMap;

use memory::Memory;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::{Budget, Labels, QueryValue, SampleValue};
use pilothouse_promql::{Engine, Options, ParseContext, parse};
use proptest::prelude::*;

const QUERIES: &[&str] = &[
    "m",
    "m offset 20s",
    "m @ 100",
    "m smoothed",
    "rate(m[1m])",
    "increase(m[90s] anchored)",
    "increase(m[90s] smoothed)",
    "irate(m[2m])",
    "delta(m[1m] offset 30s)",
    "sum_over_time(m[1m])",
    "max_over_time(m[45s])",
    "quantile_over_time(0.3, m[2m])",
    "last_over_time(m[1m])",
    "changes(m[2m])",
    "resets(m[2m])",
    "deriv(m[2m])",
    "predict_linear(m[2m] @ 120, 60)",
    "sum(m)",
    "avg by (a) (m)",
    "stddev(m)",
    "min(rate(m[1m]))",
    "count_values(\"v\", m)",
    "topk(1, m)",
    "m + on (a, b) m offset 30s",
    "m > bool 3 or m * 2",
    "m unless m offset 1m",
    "sum(m) / on () fill(1) count(m > 5)",
    "avg_over_time(rate(m[30s])[1m:10s])",
    "max_over_time(m[1m:20s] offset 10s)",
    "absent(m{a=\"1\"})",
    "absent_over_time(m[20s])",
    "timestamp(m)",
    "clamp_max(m, scalar(count(m)))",
    "time() - vector(1)",
];

type At = BTreeMap<i64, BTreeMap<Labels, u64>>;

fn instants(memory: &Memory, query: &str, (start, end, step): (i64, i64, i64)) -> At {
    let expr = parse(query, &ParseContext::default()).expect(query);
    let mut at = At::new();
    for t_ms in (start..=end).step_by(step as usize) {
        let outcome = Engine::instant(memory, &expr, t_ms, &Options::default(), &Budget::unlimited());
        let values = at.entry(t_ms).or_default();
        match outcome.expect(query).value {
            QueryValue::Vector(samples) => {
                for sample in samples {
                    if let SampleValue::Float(value) = sample.value {
                        values.insert(sample.labels, value.to_bits());
                    }
                }
            }
            other => panic!("{query}: {other:?}"),
        }
    }
    at
}

fn range(memory: &Memory, query: &str, times: (i64, i64, i64)) -> At {
    let expr = parse(query, &ParseContext::default()).expect(query);
    let outcome = Engine::range(memory, &expr, times, &Options::default(), &Budget::unlimited());
    let mut at: At = (times.0..=times.1).step_by(times.2 as usize).map(|t| (t, BTreeMap::new())).collect();
    match outcome.expect(query).value {
        QueryValue::Matrix(series) => {
            for one in series {
                for (t_ms, value) in one.floats {
                    at.entry(t_ms).or_default().insert(one.labels.clone(), value.to_bits());
                }
            }
        }
        other => panic!("{query}: {other:?}"),
    }
    at
}

/// Samples of one series: the gap before each in seconds, and its value, or a stale marker.
fn series() -> impl Strategy<Value = Vec<(i64, Option<u8>)>> {
    proptest::collection::vec((1i64..60, proptest::option::weighted(0.9, 0u8..20)), 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_range_is_its_instants(all in proptest::collection::vec(series(), 1..4), step in 1i64..5) {
        let mut memory = Memory::default();
        for (i, samples) in all.iter().enumerate() {
            let labels = [("__name__", "m".to_owned()), ("a", (i % 2).to_string()), ("b", i.to_string())];
            let labels = Labels::from_pairs(labels);
            let mut t_ms = 0;
            for (gap_s, value) in samples {
                t_ms += gap_s * 1000;
                let value = value.map_or_else(stale_nan, f64::from);
                memory.add(labels.clone(), t_ms, SampleValue::Float(value));
            }
        }
        let times = (-10_000, 600_000, step * 17_000);
        for query in QUERIES {
            prop_assert_eq!(range(&memory, query, times), instants(&memory, query, times), "{}", query);
        }
    }
}
