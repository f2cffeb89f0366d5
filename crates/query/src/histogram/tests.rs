//! Tables with histograms in short notation, and properties of random ones.

use std::sync::Arc;

use pilothouse_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pilothouse_model::{ResetHint, Span};
use proptest::prelude::*;

use super::*;

const INF: f64 = f64::INFINITY;

fn run(pairs: &[(i64, f64)]) -> (Vec<Span>, Vec<f64>) {
    let mut builder = super::buckets::Builder::with_capacity(pairs.len());
    pairs.iter().for_each(|(i, c)| builder.add(*i, *c));
    let run = builder.finish();
    (run.spans, run.counts)
}

/// An exponential histogram of (index, count) pairs; the count is that of the buckets.
fn exponential(schema: i32, zero: (f64, f64), positive: &[(i64, f64)], negative: &[(i64, f64)]) -> Histogram {
    let (positive_spans, positive_counts) = run(positive);
    let (negative_spans, negative_counts) = run(negative);
    let count = zero.1 + positive_counts.iter().chain(&negative_counts).sum::<f64>();
    Histogram {
        schema,
        zero_threshold: zero.0,
        zero_count: zero.1,
        count,
        sum: count * 2.0,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        ..Histogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[(i64, f64)]) -> Histogram {
    let (positive_spans, positive_counts) = run(counts);
    let count = positive_counts.iter().sum::<f64>();
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: count * 2.0,
        positive_spans,
        positive_counts,
        custom_bounds: Arc::from(bounds),
        ..Histogram::default()
    }
}

/// Ones at the given indexes.
fn ones(indexes: &[i64]) -> Vec<(i64, f64)> {
    indexes.iter().map(|i| (*i, 1.0)).collect()
}

fn added(a: &Histogram, b: &Histogram) -> (Histogram, Joined) {
    let mut sum = a.clone();
    let joined = add(&mut sum, b).unwrap();
    (sum, joined)
}

fn text(h: &Histogram) -> String {
    HistogramText(h).to_string()
}

#[test]
fn addition_reconciles_layouts() {
    let table = [
        (
            "same layout",
            exponential(0, (0.01, 1.0), &[(1, 1.0), (2, 2.0)], &[(0, 4.0)]),
            exponential(0, (0.01, 2.0), &[(1, 10.0), (2, 20.0)], &[(0, 40.0)]),
            "{count:80, sum:160, [-1,-0.5):44, [-0.01,0.01]:3, (1,2]:11, (2,4]:22}",
        ),
        (
            "other buckets",
            exponential(0, (0.01, 0.0), &[(1, 1.0), (5, 1.0)], &[]),
            exponential(0, (0.01, 0.0), &[(-1, 1.0), (2, 1.0), (9, 1.0)], &[(3, 1.0)]),
            "{count:6, sum:12, [-8,-4):1, (0.25,0.5]:1, (1,2]:1, (2,4]:1, (16,32]:1, (256,512]:1}",
        ),
        (
            "a coarser schema wins",
            exponential(1, (0.01, 0.0), &ones(&[1, 2, 3, 4]), &[]),
            exponential(0, (0.01, 0.0), &ones(&[1, 2]), &[]),
            "{count:6, sum:12, (1,2]:3, (2,4]:3}",
        ),
        (
            "a coarser schema wins from the left too",
            exponential(-1, (0.01, 0.0), &ones(&[1]), &[]),
            exponential(0, (0.01, 0.0), &ones(&[1, 2, 3]), &ones(&[1])),
            "{count:5, sum:10, [-4,-1):1, (1,4]:3, (4,16]:1}",
        ),
        (
            "a wider zero bucket takes buckets in",
            exponential(0, (0.25, 1.0), &ones(&[-1, 0]), &ones(&[-1])),
            exponential(0, (0.5, 2.0), &ones(&[1]), &[]),
            "{count:7, sum:14, [-0.5,0.5]:5, (0.5,1]:1, (1,2]:1}",
        ),
        (
            "a zero bucket does not cut a populated bucket",
            exponential(0, (0.1, 1.0), &ones(&[0]), &[]),
            exponential(0, (0.75, 1.0), &ones(&[1]), &ones(&[2])),
            "{count:5, sum:10, [-4,-2):1, [-1,1]:3, (1,2]:1}",
        ),
        (
            "it grows on both sides in turn",
            exponential(0, (1.5, 1.0), &[], &ones(&[2])),
            exponential(1, (0.5, 1.0), &ones(&[2, 4]), &ones(&[1])),
            "{count:6, sum:12, [-4,-2):1, [-2,2]:4, (2,4]:1}",
        ),
        (
            "what the zero bucket took in is not counted again in a coarser bucket",
            exponential(-1, (2.0, 1.0), &ones(&[2]), &[]),
            exponential(0, (0.5, 1.0), &ones(&[1, 2]), &[]),
            "{count:5, sum:10, [-2,2]:3, (1,4]:1, (4,16]:1}",
        ),
        (
            "custom buckets",
            custom(&[1.0, 2.0], &[(0, 1.0), (2, 2.0)]),
            custom(&[1.0, 2.0], &[(1, 5.0)]),
            "{count:8, sum:16, [-Inf,1]:1, (1,2]:5, (2,+Inf]:2}",
        ),
    ];
    for (name, a, b, expected) in table {
        let (sum, joined) = added(&a, &b);
        assert_eq!(text(&sum), expected, "{name}");
        assert_eq!(joined, Joined::default(), "{name}");
    }
}

#[test]
fn custom_bounds_are_cut_to_the_common_ones() {
    let a = custom(&[1.0, 2.0, 3.0, 5.0], &ones(&[0, 1, 2, 3, 4]));
    let b = custom(&[2.0, 4.0, 5.0], &[(0, 10.0), (1, 10.0), (2, 10.0)]);
    let (sum, joined) = added(&a, &b);
    assert_eq!(joined.bounds, CustomBounds::Intersected);
    assert_eq!(*sum.custom_bounds, [2.0, 5.0]);
    assert_eq!(text(&sum), "{count:35, sum:70, [-Inf,2]:12, (2,5]:22, (5,+Inf]:1}");
    let (sum, _) = added(&a, &custom(&[7.0], &ones(&[0, 1])));
    assert_eq!(text(&sum), "{count:7, sum:14, [-Inf,+Inf]:7}");
    let mut difference = b.clone();
    subtract(&mut difference, &a).unwrap();
    assert_eq!(text(&difference), "{count:25, sum:50, [-Inf,2]:8, (2,5]:18, (5,+Inf]:-1}");
}

#[test]
fn kinds_of_buckets_do_not_mix() {
    let (mut a, b) = (exponential(0, (0.0, 1.0), &ones(&[1]), &[]), custom(&[1.0], &ones(&[0])));
    let before = a.clone();
    assert_eq!(add(&mut a, &b), Err(MixedSchemas));
    assert_eq!(a, before);
    assert_eq!(HistogramSum::new(&b).add(&a), Err(MixedSchemas));
    assert_eq!(
        MixedSchemas.to_string(),
        "cannot apply this operation on histograms with a mix of exponential and custom bucket schemas"
    );
}

#[test]
fn reset_hints_go_together() {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    for (a, b, hint, outcome) in [
        (Reset, Reset, Reset, ResetHints::Compatible),
        (Unknown, Reset, Unknown, ResetHints::Compatible),
        (NotReset, Unknown, Unknown, ResetHints::Compatible),
        (Gauge, Reset, Gauge, ResetHints::Compatible),
        (Unknown, Gauge, Gauge, ResetHints::Compatible),
        (Reset, NotReset, Unknown, ResetHints::Colliding),
        (NotReset, Reset, Unknown, ResetHints::Colliding),
    ] {
        let with = |reset_hint| Histogram { reset_hint, ..Histogram::default() };
        let (sum, joined) = added(&with(a), &with(b));
        assert_eq!((sum.reset_hint, joined.hints), (hint, outcome), "{a:?} + {b:?}");
    }
    let mut h = Histogram { reset_hint: Reset, ..Histogram::default() };
    scale(&mut h, 2.0);
    assert_eq!(h.reset_hint, Reset);
    scale(&mut h, -1.0);
    assert_eq!(h.reset_hint, Gauge);
}

#[test]
fn division_by_zero_leaves_no_buckets() {
    let mut h = exponential(0, (0.1, 2.0), &ones(&[1]), &ones(&[1]));
    divide(&mut h, 4.0);
    assert_eq!(text(&h), "{count:1, sum:2, [-2,-1):0.25, [-0.1,0.1]:0.5, (1,2]:0.25}");
    divide(&mut h, 0.0);
    assert_eq!(text(&h), "{count:+Inf, sum:+Inf, [-0.1,0.1]:+Inf}");
}

#[test]
fn equality_is_of_the_data() {
    let h = exponential(0, (0.1, 2.0), &ones(&[1, 2]), &[]);
    let nan = Histogram { sum: f64::NAN, ..h.clone() };
    assert!(equal(&h, &Histogram { reset_hint: ResetHint::Gauge, ..h.clone() }));
    assert!(equal(&nan, &nan.clone()) && !equal(&h, &nan));
    let spans = vec![Span { offset: 1, length: 1 }, Span { offset: 0, length: 1 }];
    assert!(equal(&h, &Histogram { positive_spans: spans, ..h.clone() }));
    let empty_bucket = exponential(0, (0.1, 2.0), &[(1, 1.0), (2, 1.0), (3, 0.0)], &[]);
    assert!(!equal(&h, &empty_bucket));
    let mut compacted = empty_bucket;
    compact(&mut compacted);
    assert!(equal(&h, &compacted));
}

#[test]
fn resets_show_in_counts_and_layouts() {
    let base = || exponential(1, (0.01, 3.0), &[(1, 5.0), (2, 0.0), (4, 2.0)], &[(2, 1.0)]);
    let more = |change: fn(&mut Histogram)| {
        let mut h = base();
        h.count += 10.0;
        change(&mut h);
        h
    };
    let table: [(&str, Histogram, bool); 14] = [
        ("nothing changed", base(), false),
        ("more of everything", more(|h| h.positive_counts[0] = 15.0), false),
        ("count fell", more(|h| h.count = 1.0), true),
        ("zero count fell", more(|h| h.zero_count = 2.0), true),
        ("a bucket fell", more(|h| h.positive_counts[2] = 1.0), true),
        ("a negative bucket fell", more(|h| h.negative_counts[0] = 0.5), true),
        ("a populated bucket is missing", exponential(1, (0.01, 30.0), &[(1, 5.0)], &[(2, 1.0)]), true),
        (
            "an empty bucket is missing",
            more(|h| (h.positive_spans, h.positive_counts) = run(&[(1, 5.0), (4, 2.0)])),
            false,
        ),
        ("finer", more(|h| h.schema = 2), true),
        ("coarser", exponential(0, (0.01, 30.0), &[(1, 5.0), (2, 2.0)], &[(1, 1.0)]), false),
        ("coarser and less", exponential(0, (0.01, 30.0), &[(1, 4.0), (2, 2.0)], &[(1, 1.0)]), true),
        ("narrower zero bucket", more(|h| h.zero_threshold = 0.001), true),
        ("wider zero bucket over a populated bucket", exponential(1, (1.2, 30.0), &ones(&[1]), &[]), true),
        ("custom buckets now", custom(&[1.0], &[(0, 100.0)]), true),
    ];
    for (name, current, expected) in table {
        assert_eq!(has_reset(&current, &base()), expected, "{name}");
    }
    let hinted = |reset_hint| Histogram { reset_hint, ..base() };
    assert!(has_reset(&hinted(ResetHint::Reset), &base()));
    assert!(!has_reset(&hinted(ResetHint::NotReset), &more(|_| ())));
    assert!(has_reset(&hinted(ResetHint::Gauge), &more(|_| ())));
}

#[test]
fn resets_of_custom_buckets_are_seen_through_shared_bounds() {
    let before = custom(&[1.0, 2.0, 3.0], &[(0, 2.0), (1, 2.0), (3, 2.0)]);
    for (current, expected) in [
        (custom(&[2.0, 3.0], &[(0, 4.0), (2, 2.0)]), false),
        (custom(&[2.0, 3.0], &[(0, 3.0), (2, 9.0)]), true),
        (custom(&[2.5], &[(0, 9.0)]), false),
        (custom(&[1.0, 2.0, 3.0], &[(0, 9.0), (3, 2.0)]), true),
        (custom(&[1.0, 2.0, 3.0], &[(0, 2.0), (1, 2.0), (2, 1.0), (3, 2.0)]), false),
    ] {
        assert_eq!(has_reset(&current, &before), expected, "{}", text(&current));
    }
}

#[test]
fn quantiles_interpolate_by_the_kind_of_bucket() {
    let positive = exponential(0, (0.5, 2.0), &[(1, 4.0), (2, 4.0)], &[]);
    let negative = exponential(0, (0.5, 2.0), &[], &[(1, 4.0), (2, 4.0)]);
    let both = exponential(0, (0.5, 2.0), &[(1, 4.0)], &[(1, 4.0)]);
    let bounded = custom(&[0.0, 4.0, 8.0], &[(0, 1.0), (1, 4.0), (2, 4.0), (3, 1.0)]);
    let from_zero = custom(&[4.0], &[(0, 4.0)]);
    let table = [
        (&positive, -0.1, -INF),
        (&positive, 1.1, INF),
        (&positive, 0.0, 0.0),
        (&positive, 0.1, 0.25),
        (&positive, 0.2, 0.5),
        (&positive, 0.4, 2f64.sqrt()),
        (&positive, 0.6, 2.0),
        (&positive, 0.8, 8f64.sqrt()),
        (&positive, 1.0, 4.0),
        (&negative, 0.0, -4.0),
        (&negative, 0.2, -(8f64.sqrt())),
        (&negative, 0.9, -0.25),
        (&negative, 1.0, 0.0),
        (&both, 0.5, 0.0),
        (&both, 0.45, -0.25),
        (&bounded, 0.05, 0.0),
        (&bounded, 0.3, 2.0),
        (&bounded, 0.7, 6.0),
        (&bounded, 0.99, 8.0),
        (&from_zero, 0.5, 2.0),
    ];
    for (h, q, expected) in table {
        let found = quantile(q, h);
        assert_eq!(found.note, None);
        let close = found.value == expected || (found.value - expected).abs() < 1e-12;
        assert!(close, "{q} of {}: {} is not {expected}", text(h), found.value);
    }
    let nowhere = Histogram { count: 2.0, ..custom(&[4.0], &[(0, 0.0)]) };
    assert_eq!(quantile(0.5, &nowhere).value, 4.0);
    assert!(quantile(f64::NAN, &positive).value.is_nan());
    assert!(quantile(0.5, &Histogram::default()).value.is_nan());
}

#[test]
fn observations_that_are_nan_are_told() {
    let mut h = exponential(0, (0.5, 0.0), &[(1, 4.0)], &[]);
    h.sum = f64::NAN;
    assert_eq!(quantile(0.5, &h), Quantile { value: 2f64.sqrt(), note: None });
    h.count = 8.0;
    h.positive_spans[0].length = 2;
    h.positive_counts.push(1.0);
    // Two of four into the first bucket, but between the bounds of the last one and by its count.
    assert_eq!(quantile(0.25, &h), Quantile { value: 8.0, note: Some(NanNote::Skew) });
    let high = quantile(0.75, &h);
    assert!(high.value.is_nan() && high.note == Some(NanNote::Result));
    assert_eq!(fraction(-INF, INF, &h), Fraction { value: 0.625, has_nans: true });
}

#[test]
fn fractions_are_the_inverse_of_quantiles() {
    let h = exponential(0, (0.5, 2.0), &[(1, 4.0), (2, 4.0)], &[(1, 2.0)]);
    for (lower, upper, expected) in [
        (-INF, INF, 1.0),
        (0.5, 2.0, 4.0 / 12.0),
        (2f64.sqrt(), 4.0, 0.5),
        (-0.5, 0.0, 1.0 / 12.0),
        (-2f64.sqrt(), -1.0, 1.0 / 12.0),
        (4.0, 100.0, 0.0),
        (3.0, 1.0, 0.0),
    ] {
        let found = fraction(lower, upper, &h).value;
        assert!((found - expected).abs() < 1e-12, "{lower} to {upper}: {found} is not {expected}");
    }
    assert!(fraction(f64::NAN, 1.0, &h).value.is_nan());
    assert!(fraction(0.0, 1.0, &Histogram::default()).value.is_nan());
    let endless = custom(&[-2.0, 2.0], &[(0, 4.0), (1, 4.0), (2, 2.0)]);
    for (lower, upper, expected) in [
        (-INF, -3.0, 0.4),
        (-INF, -2.0, 0.4),
        (-INF, 0.0, 0.4),
        (0.0, 2.0, 0.4),
        (-INF, 5.0, 0.8),
        (5.0, INF, 0.2),
    ] {
        assert_eq!(fraction(lower, upper, &endless).value, expected, "{lower} to {upper}");
    }
}

fn classic(pairs: &[(f64, f64)]) -> Vec<ClassicBucket> {
    pairs
        .iter()
        .map(|(upper_bound, count)| ClassicBucket { upper_bound: *upper_bound, count: *count })
        .collect()
}

#[test]
fn classic_quantiles() {
    let buckets = [(INF, 20.0), (1.0, 4.0), (2.0, 12.0), (4.0, 16.0)];
    for (q, expected) in
        [(0.1, 0.5), (0.2, 1.0), (0.4, 1.5), (0.8, 4.0), (0.9, 4.0), (-1.0, -INF), (2.0, INF)]
    {
        let found = classic_quantile(q, &mut classic(&buckets));
        assert_eq!(found, ClassicQuantile { value: expected, repair: None }, "{q}");
    }
    let nan = |buckets: &[(f64, f64)]| classic_quantile(0.5, &mut classic(buckets)).value.is_nan();
    assert!(nan(&[]) && nan(&[(1.0, 1.0)]) && nan(&[(INF, 1.0)]) && nan(&[(1.0, 0.0), (INF, 0.0)]));
    assert!(classic_quantile(f64::NAN, &mut classic(&buckets)).value.is_nan());
    let below_zero = classic(&[(-1.0, 5.0), (INF, 10.0)]);
    assert_eq!(classic_quantile(0.1, &mut below_zero.clone()).value, -1.0);
    let mut twice = classic(&[(1.0, 1.0), (1.0, 1.0), (INF, 2.0), (INF, 2.0)]);
    assert_eq!(classic_quantile(0.25, &mut twice).value, 0.5);
    assert_eq!(twice, classic(&[(1.0, 2.0), (INF, 4.0)]));
}

#[test]
fn falling_classic_buckets_are_repaired() {
    let mut buckets =
        classic(&[(1.0, 10.0), (2.0, 8.0), (3.0, 10.0 + 1e-12), (4.0, 12.0), (5.0, 11.0), (INF, 20.0)]);
    let found = classic_quantile(0.55, &mut buckets);
    let repair = MonotonicityRepair { min_bound: 2.0, max_bound: 5.0, max_difference: 2.0 };
    assert_eq!(found, ClassicQuantile { value: 3.5, repair: Some(repair) });
    assert_eq!(buckets.iter().map(|b| b.count).collect::<Vec<_>>(), [10.0, 10.0, 10.0, 12.0, 12.0, 20.0]);
    assert_eq!(classic_quantile(0.55, &mut buckets).repair, None);
}

#[test]
fn classic_fractions() {
    let buckets = [(1.0, 4.0), (2.0, 12.0), (INF, 20.0)];
    for (lower, upper, expected) in [
        (-INF, INF, 1.0),
        (0.0, 0.5, 0.1),
        (0.5, 1.5, 0.3),
        (2.0, INF, 0.4),
        (5.0, INF, 0.4),
        (-INF, 5.0, 0.6),
        (2.0, 1.0, 0.0),
    ] {
        let found = classic_fraction(lower, upper, &mut classic(&buckets));
        assert!((found - expected).abs() < 1e-12, "{lower} to {upper}: {found}");
    }
    assert!(classic_fraction(0.0, 1.0, &mut classic(&[])).is_nan());
    assert!(classic_fraction(0.0, 1.0, &mut classic(&[(1.0, 4.0)])).is_nan());
    let negative = [(-1.0, 4.0), (INF, 8.0)];
    assert_eq!(classic_fraction(-INF, -3.0, &mut classic(&negative)), 0.5);
}

#[test]
fn mean_and_spread() {
    let h = exponential(0, (0.5, 1.0), &[(1, 1.0), (2, 0.0)], &[(1, 1.0)]);
    let h = Histogram { sum: 0.0, ..h };
    assert_eq!(average(&h), 0.0);
    assert!((variance(&h) - 4.0 / 3.0).abs() < 1e-12, "{}", variance(&h));
    let c = Histogram { sum: 12.0, ..custom(&[2.0, 4.0, 6.0], &[(1, 2.0), (2, 2.0)]) };
    assert_eq!((average(&c), variance(&c), standard_deviation(&c)), (3.0, 2.0, 2f64.sqrt()));
    assert!(average(&Histogram::default()).is_nan());
}

#[test]
fn trimming() {
    type Trim = fn(&mut Histogram, f64);
    let h = exponential(0, (0.5, 2.0), &[(1, 4.0), (2, 4.0)], &[(1, 4.0)]);
    let root = 2f64.sqrt();
    let table: [(f64, Trim, &str); 6] = [
        (10.0, trim_above, "{count:14, sum:28, [-2,-1):4, [-0.5,0.5]:2, (1,2]:4, (2,4]:4}"),
        (2.0, trim_above, "{count:10, sum:0, [-2,-1):4, [-0.5,0.5]:2, (1,2]:4}"),
        (0.25, trim_above, "[-2,-1):4, [-0.5,0.5]:1.5}"),
        (-1.5, trim_above, "[-2,-1):1."),
        (2.0, trim_below, ", (2,4]:4}"),
        (0.0, trim_below, "[-0.5,0.5]:1, (1,2]:4, (2,4]:4}"),
    ];
    for (limit, trim, expected) in table {
        let mut trimmed = h.clone();
        trim(&mut trimmed, limit);
        assert!(text(&trimmed).contains(expected), "{limit}: {}", text(&trimmed));
    }
    let mut half = h.clone();
    trim_below(&mut half, root);
    assert!((half.count - 6.0).abs() < 1e-12, "{}", text(&half));
    let nhcb = custom(&[2.0, 4.0], &[(0, 2.0), (1, 2.0), (2, 2.0)]);
    let mut below = nhcb.clone();
    trim_above(&mut below, 3.0);
    assert_eq!(text(&below), "{count:3, sum:4.5, [-Inf,2]:2, (2,4]:1}");
    let mut above = nhcb.clone();
    trim_below(&mut above, 1.0);
    assert_eq!(text(&above), "{count:5, sum:15.5, [-Inf,2]:1, (2,4]:2, (4,+Inf]:2}");
    let mut beyond = nhcb;
    trim_below(&mut beyond, 5.0);
    assert_eq!(text(&beyond), "{count:2, sum:10, (4,+Inf]:2}");
}

#[test]
fn growth_over_a_range() {
    let sample = |n: f64| exponential(0, (0.1, n), &[(1, n)], &[]);
    let hinted = |reset_hint, h| Histogram { reset_hint, ..h };
    let counter = [sample(1.0), sample(5.0), sample(2.0), sample(4.0)];
    let grown = |samples: &[Histogram], range| {
        let outcome = increase(&samples.iter().collect::<Vec<_>>(), range).unwrap();
        (text(outcome.histogram.as_ref().unwrap()), outcome)
    };
    let (found, outcome) = grown(&counter, Range::Counter);
    assert_eq!(found, "{count:16, sum:32, [-0.1,0.1]:8, (1,2]:8}");
    assert_eq!(outcome.kind, KindNote::AsExpected);
    assert_eq!(outcome.histogram.unwrap().reset_hint, ResetHint::Gauge);
    let (found, outcome) = grown(&counter, Range::Gauge);
    assert_eq!(found, "{count:6, sum:12, [-0.1,0.1]:3, (1,2]:3}");
    assert_eq!(outcome.kind, KindNote::NotGauge);
    let gauges = [hinted(ResetHint::Gauge, sample(4.0)), hinted(ResetHint::Gauge, sample(1.0))];
    let (found, outcome) = grown(&gauges, Range::Gauge);
    assert_eq!(found, "{count:-6, sum:-12, [-0.1,0.1]:-3, (1,2]:-3}");
    assert_eq!(outcome.kind, KindNote::AsExpected);
    assert_eq!(grown(&gauges, Range::Counter).1.kind, KindNote::NotCounter);
    // A reset right after the first sample hides its layout.
    let (found, _) = grown(&[custom(&[1.0], &ones(&[0])), sample(1.0), sample(3.0)], Range::Counter);
    assert_eq!(found, "{count:6, sum:12, [-0.1,0.1]:3, (1,2]:3}");
    let mixed = [sample(1.0), custom(&[1.0], &ones(&[0])), sample(2.0)];
    assert_eq!(increase(&mixed.each_ref(), Range::Counter).unwrap().histogram, Err(MixedSchemas));
    assert_eq!(increase(&[&mixed[0]], Range::Counter), None);
    let bounds = [custom(&[1.0, 2.0], &ones(&[0])), custom(&[1.0], &[(0, 2.0)])];
    let (found, outcome) = grown(&bounds, Range::Counter);
    assert_eq!(
        (found.as_str(), outcome.subtracted),
        ("{count:1, sum:2, [-Inf,1]:1}", CustomBounds::Intersected)
    );
    // The coarsest of all samples is the schema of the result; to become finer takes a reset.
    let coarse = [sample(1.0), exponential(-1, (0.1, 2.0), &[(1, 2.0)], &[]), sample(9.0)];
    assert_eq!(grown(&coarse, Range::Counter).0, "{count:20, sum:40, [-0.1,0.1]:10, (1,4]:10}");
}

#[test]
fn sums_and_means_of_many() {
    let big = |sign: f64| {
        let mut h = exponential(0, (0.1, 1e100), &[(1, 1e100)], &[]);
        scale(&mut h, sign);
        h
    };
    let one = exponential(0, (0.1, 1.0), &ones(&[1]), &[]);
    let mut sum = HistogramSum::new(&big(1.0));
    for h in [&one, &big(-1.0)] {
        sum.add(h).unwrap();
    }
    assert_eq!(text(&sum.finish()), "{count:2, sum:4, [-0.1,0.1]:1, (1,2]:1}");

    let huge = exponential(0, (0.1, 0.0), &[(1, f64::MAX)], &[]);
    let mut mean = HistogramMean::new(&huge);
    mean.add(&huge).unwrap();
    mean.add(&huge).unwrap();
    let mean = mean.finish();
    assert!((mean.positive_counts[0] / f64::MAX - 1.0).abs() < 1e-12, "{}", text(&mean));

    let hinted = |reset_hint| Histogram { reset_hint, ..one.clone() };
    let mut mean = HistogramMean::new(&hinted(ResetHint::Reset));
    mean.add(&hinted(ResetHint::Unknown)).unwrap();
    assert_eq!(mean.joined().hints, ResetHints::Compatible);
    mean.add(&hinted(ResetHint::NotReset)).unwrap();
    assert_eq!(mean.joined().hints, ResetHints::Colliding);
    assert_eq!(text(&mean.finish()), text(&one));

    let mut mean = HistogramMean::new(&custom(&[1.0, 2.0], &ones(&[0, 2])));
    mean.add(&custom(&[2.0], &ones(&[0, 1]))).unwrap();
    assert_eq!(mean.joined().bounds, CustomBounds::Intersected);
    assert_eq!(text(&mean.finish()), "{count:2, sum:4, [-Inf,2]:1, (2,+Inf]:1}");
}

#[test]
fn what_cannot_be_a_histogram_is_refused() {
    let good = || Histogram { integer: true, ..exponential(0, (0.1, 1.0), &ones(&[1, 2]), &ones(&[1])) };
    let nhcb = || custom(&[1.0, 2.0], &ones(&[0, 2]));
    let with = |mut h: Histogram, change: fn(&mut Histogram)| {
        change(&mut h);
        h
    };
    let table: Vec<(Histogram, &str)> = vec![
        (with(good(), |h| h.schema = 9), ""),
        (
            with(good(), |h| h.schema = 53),
            "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema 53",
        ),
        (
            with(good(), |h| h.schema = -5),
            "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema -5",
        ),
        (
            with(good(), |h| h.positive_spans.push(Span { offset: -1, length: 0 })),
            "positive side: span number 2 with offset -1: histogram has a span whose offset is negative",
        ),
        (
            with(good(), |h| h.negative_counts.push(1.0)),
            "negative side: spans need 1 buckets, have 2 buckets: histogram spans specify different number of buckets than provided",
        ),
        (
            with(good(), |h| h.positive_spans.push(Span { offset: 1, length: u32::MAX })),
            "positive side: spans need 4294967297 buckets, have 2 buckets: histogram spans specify different number of buckets than provided",
        ),
        (
            with(good(), |h| h.positive_counts[1] = -2.0),
            "positive side: bucket number 2 has observation count of -2: histogram has a bucket whose observation count is negative",
        ),
        (
            with(good(), |h| h.negative_counts[0] = -0.5),
            "negative side: bucket number 1 has observation count of -0.5: histogram has a bucket whose observation count is negative",
        ),
        (
            with(good(), |h| h.zero_count = -1.0),
            "zero bucket has observation count of -1: histogram has a bucket whose observation count is negative",
        ),
        (
            with(good(), |h| h.count = -1.0),
            "observation count is  -1: histogram's observation count is negative",
        ),
        (
            with(good(), |h| h.count = 5.0),
            "4 observations found in buckets, but the Count field is 5: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)",
        ),
        (with(good(), |h| (h.count, h.integer) = (5.0, false)), ""),
        (with(good(), |h| (h.count, h.sum) = (5.0, f64::NAN)), ""),
        (
            with(good(), |h| (h.count, h.sum) = (3.0, f64::NAN)),
            "4 observations found in buckets, but the Count field is 3: histogram's observation count should be at least the number of observations found in the buckets",
        ),
        (
            with(good(), |h| h.custom_bounds = Arc::from([1.0])),
            "histogram with exponential schema must not have custom bounds",
        ),
        (nhcb(), ""),
        (
            with(nhcb(), |h| h.custom_bounds = Arc::from([1.0, f64::NAN])),
            "custom buckets: histogram custom bounds must not be NaN",
        ),
        (
            with(nhcb(), |h| h.custom_bounds = Arc::from([2.0, 2.0])),
            "custom buckets: previous bound is 2.000000 and current is 2.000000: histogram custom bounds must be in strictly increasing order",
        ),
        (
            with(nhcb(), |h| h.custom_bounds = Arc::from([2.0, INF])),
            "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
        ),
        (
            with(nhcb(), |h| h.custom_bounds = Arc::from([2.0])),
            "custom buckets: only 1 custom bounds defined which is insufficient to cover total span length of 3: histogram custom bounds are too few",
        ),
        (
            with(nhcb(), |h| h.positive_spans[0].offset = -1),
            "custom buckets: span number 1 with offset -1: histogram has a span whose offset is negative",
        ),
        (
            with(nhcb(), |h| h.positive_spans[0].length = 3),
            "custom buckets: spans need 4 buckets, have 2 buckets: histogram spans specify different number of buckets than provided",
        ),
        (with(nhcb(), |h| h.zero_count = 1.0), "custom buckets: must have zero count of 0"),
        (with(nhcb(), |h| h.zero_threshold = 1.0), "custom buckets: must have zero threshold of 0"),
        (
            with(nhcb(), |h| h.negative_spans.push(Span { offset: 0, length: 0 })),
            "custom buckets: must not have negative spans",
        ),
        (with(nhcb(), |h| h.negative_counts.push(1.0)), "custom buckets: must not have negative buckets"),
    ];
    for (mut h, expected) in table {
        let outcome = admit(&mut h).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(outcome, expected);
    }
    let mut fine = exponential(10, (0.1, 0.0), &ones(&[1, 4, 5]), &[]);
    admit(&mut fine).unwrap();
    assert_eq!((fine.schema, run(&[(1, 2.0), (2, 1.0)])), (8, (fine.positive_spans, fine.positive_counts)));
}

fn side(max: i64) -> impl Strategy<Value = Vec<(i64, f64)>> {
    let counts = prop_oneof![1 => Just(0u32), 4 => 1u32..1000];
    proptest::collection::btree_map(-max..max, counts, 0..12)
        .prop_map(|m| m.into_iter().map(|(i, c)| (i, f64::from(c))).collect())
}

/// Whole counts, so that sums are exact; zero thresholds on and off bucket bounds.
fn any_exponential() -> impl Strategy<Value = Histogram> {
    let threshold = prop_oneof![Just(0.0), Just(0.001), Just(0.25), Just(1.0), 0.0..4.0f64];
    (-4..=8i32, threshold, 0u32..100, side(60), side(60)).prop_map(
        |(schema, threshold, zero, positive, negative)| {
            // Nothing lies within the zero bucket but what it counts.
            let outside = |b: Vec<(i64, f64)>| -> Vec<(i64, f64)> {
                b.into_iter().filter(|(i, _)| bucket_bound(i - 1, schema, &[]) >= threshold).collect()
            };
            exponential(schema, (threshold, f64::from(zero)), &outside(positive), &outside(negative))
        },
    )
}

fn any_custom() -> impl Strategy<Value = Histogram> {
    let bounds = proptest::collection::btree_set(-20..20i32, 0..8);
    (bounds, proptest::collection::vec(0u32..100, 9)).prop_map(|(bounds, counts)| {
        let bounds: Vec<f64> = bounds.into_iter().map(f64::from).collect();
        let counts: Vec<_> = (0..=bounds.len() as i64).zip(counts.into_iter().map(f64::from)).collect();
        custom(&bounds, &counts)
    })
}

fn pair() -> impl Strategy<Value = (Histogram, Histogram)> {
    prop_oneof![(any_exponential(), any_exponential()), (any_custom(), any_custom())]
}

fn counted(h: &Histogram) -> f64 {
    buckets(h).map(|b| b.count).sum()
}

/// How many observations lie at or below a bucket bound.
fn below(h: &Histogram, bound: f64) -> f64 {
    buckets(h).filter(|b| b.upper <= bound).map(|b| b.count).sum()
}

proptest! {
    #[test]
    fn adding_loses_nothing((a, b) in pair()) {
        let (sum, _) = added(&a, &b);
        prop_assert_eq!(sum.count, a.count + b.count);
        prop_assert_eq!(counted(&sum), counted(&a) + counted(&b), "{} + {} = {}", text(&a), text(&b), text(&sum));
        for bucket in buckets(&sum) {
            let (at, parts) = (bucket.upper, below(&a, bucket.upper) + below(&b, bucket.upper));
            prop_assert_eq!(below(&sum, at), parts, "up to {}: {} + {} = {}", at, text(&a), text(&b), text(&sum));
        }
        let (other_way, _) = added(&b, &a);
        prop_assert_eq!(text(&sum), text(&other_way));
        prop_assert!(!has_reset(&sum, &a), "{} after {}", text(&sum), text(&a));
    }

    #[test]
    fn subtracting_undoes_adding((a, b) in pair()) {
        let (sum, _) = added(&a, &b);
        let (mut rest, mut expected, zero) = (sum.clone(), a, b.clone());
        subtract(&mut rest, &b).unwrap();
        // The other one's layout without its counts.
        let mut nothing = zero;
        scale(&mut nothing, 0.0);
        add(&mut expected, &nothing).unwrap();
        prop_assert_eq!(counted(&rest), counted(&expected));
        prop_assert_eq!(rest.count, expected.count);
        for bucket in buckets(&rest) {
            prop_assert!(bucket.count >= 0.0);
        }
    }

    #[test]
    fn many_histograms_sum_up_as_one_by_one(first in any_exponential(), more in proptest::collection::vec(any_exponential(), 0..5)) {
        let mut sum = HistogramSum::new(&first);
        let mut mean = HistogramMean::new(&first);
        let mut plain = first;
        for h in &more {
            sum.add(h).unwrap();
            mean.add(h).unwrap();
            add(&mut plain, h).unwrap();
        }
        let sum = sum.finish();
        prop_assert_eq!(text(&sum), text(&plain));
        let mut mean = mean.finish();
        scale(&mut mean, more.len() as f64 + 1.0);
        prop_assert!((mean.count - sum.count).abs() <= 1e-9 * sum.count.abs());
        prop_assert_eq!(populated_buckets(&mean).count(), populated_buckets(&sum).count());
    }

    #[test]
    fn compacting_and_reducing_keep_counts(h in any_exponential(), schema in -4..=8i32) {
        let mut compacted = h.clone();
        compact(&mut compacted);
        prop_assert_eq!(text(&compacted), text(&h));
        prop_assert!(positive_buckets(&compacted).chain(negative_buckets(&compacted)).all(|b| b.count != 0.0));
        let mut reduced = h.clone();
        reduce_to(&mut reduced, schema);
        prop_assert_eq!(counted(&reduced), counted(&h));
        prop_assert!(reduced.schema <= h.schema);
        prop_assert!(validate(&reduced).is_ok());
        let uppers: Vec<f64> = positive_buckets(&reduced).map(|b| b.upper).collect();
        prop_assert!(uppers.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn buckets_come_in_order_both_ways(h in prop_oneof![any_exponential(), any_custom()]) {
        let forward: Vec<Bucket> = buckets(&h).collect();
        let mut backward: Vec<Bucket> = buckets(&h).rev().collect();
        backward.reverse();
        prop_assert_eq!(&forward, &backward);
        prop_assert!(forward.windows(2).all(|w| w[0].upper <= w[1].lower), "{:?}", forward);
    }

    #[test]
    fn quantiles_ascend_and_fractions_invert_them(h in any_exponential(), a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
        // A zero bucket without width lies above its own bound.
        prop_assume!(h.count > 0.0 && (h.zero_threshold > 0.0 || h.zero_count == 0.0));
        let (low, high) = (quantile(a.min(b), &h).value, quantile(a.max(b), &h).value);
        prop_assert!(low <= high + high.abs() * 1e-9, "{low} {high} of {}", text(&h));
        let share = fraction(f64::NEG_INFINITY, high, &h).value;
        prop_assert!(share >= a.max(b) - 1e-6, "{} below the {} quantile {high} of {}", share, a.max(b), text(&h));
    }

    #[test]
    fn trimming_at_a_value_splits_the_histogram(h in any_exponential(), at in -8.0..8.0f64) {
        let (mut low, mut high) = (h.clone(), h.clone());
        trim_above(&mut low, at);
        trim_below(&mut high, at);
        let total = low.count + high.count;
        prop_assert!((total - h.count).abs() <= 1e-9 * h.count.max(1.0), "{} {} {}", text(&low), text(&high), text(&h));
    }
}
