//! The algebra of native histograms.
//!
//! Strategy: two histograms and some numbers from the bytes. Either anything goes (spans and
//! counts that do not fit, thresholds that are NaN), or counts are small whole numbers, bounds
//! are in order and nothing lies within the zero bucket.
//! Invariants: never a panic, never an endless loop; of the tidy ones addition loses nothing at
//! any bound of the result, subtraction undoes it, the two kinds of sums agree, iteration is the
//! same from both ends and in order, and growing is no reset.

use pilothouse_model::{ResetHint, Span};
use pilothouse_query::histogram::*;

use crate::choices::Choices;

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    if choices.byte().is_multiple_of(2) {
        let (a, b) = (wild(&mut choices), wild(&mut choices));
        exercise(&a, &b, &mut choices);
    } else {
        let custom = choices.byte().is_multiple_of(4);
        let (a, b) = (tidy(&mut choices, custom), tidy(&mut choices, custom));
        exercise(&a, &b, &mut choices);
        check_sums(&a, &b);
        check_order(&a);
    }
}

/// Everything once, for the sake of not panicking.
fn exercise(a: &Histogram, b: &Histogram, choices: &mut Choices<'_>) {
    let (x, y) = (choices.value(0.5), choices.value(2.0));
    for (h, other) in [(a, b), (b, a)] {
        let mut changed = [(); 6].map(|()| h.clone());
        let [sum, difference, scaled, divided, above, below] = &mut changed;
        let _ = (add(sum, other), subtract(difference, other));
        scale(scaled, x);
        divide(divided, y);
        trim_above(above, x);
        trim_below(below, y);
        for h in &mut changed {
            compact(h);
            reduce_to(h, choices.below(14) as i32 - 5);
            // Thresholds and bounds are compared as numbers, so one that is NaN is not equal.
            let nan_bound = h.has_custom_buckets() && h.custom_bounds.iter().any(|b| b.is_nan());
            assert_eq!(equal(h, &h.clone()), !h.zero_threshold.is_nan() && !nan_bound);
            let _ = (HistogramText(h).to_string(), admit(&mut h.clone()));
            let _ = (has_reset(h, other), has_reset(other, h));
            let _ = (quantile(x, h), fraction(x, y, h), average(h), standard_deviation(h));
        }
        let mut mean = HistogramMean::new(h);
        let _ = (mean.add(other), mean.add(h), mean.joined(), mean.finish());
        for range in [Range::Counter, Range::Gauge] {
            let _ = increase(&[h, other, h, other], range);
        }
        assert_eq!(buckets(h).count(), buckets(h).rev().count());
    }
    let classic = |h: &Histogram| -> Vec<ClassicBucket> {
        positive_buckets(h).map(|b| ClassicBucket { upper_bound: b.upper, count: b.count }).collect()
    };
    let _ = (classic_quantile(x, &mut classic(a)), classic_fraction(x, y, &mut classic(b)));
}

fn check_sums(a: &Histogram, b: &Histogram) {
    let mut sum = a.clone();
    add(&mut sum, b).expect("both are of one kind");
    for bound in buckets(&sum).map(|b| b.upper) {
        assert_eq!(below(&sum, bound), below(a, bound) + below(b, bound), "up to {bound}");
    }
    assert_eq!(below(&sum, f64::INFINITY), below(a, f64::INFINITY) + below(b, f64::INFINITY));
    assert!(!has_reset(&sum, a) && !has_reset(&sum, b));

    let mut compensated = HistogramSum::new(a);
    compensated.add(b).expect("both are of one kind");
    assert_eq!(HistogramText(&compensated.finish()).to_string(), HistogramText(&sum).to_string());

    let mut rest = sum.clone();
    subtract(&mut rest, b).expect("both are of one kind");
    assert_eq!(rest.count, a.count);
    for bound in buckets(&sum).map(|b| b.upper) {
        assert_eq!(below(&rest, bound), below(a, bound), "up to {bound}");
    }
}

/// How many observations lie at or below a bound of some bucket.
fn below(h: &Histogram, bound: f64) -> f64 {
    buckets(h).filter(|b| b.upper <= bound).map(|b| b.count).sum()
}

fn check_order(h: &Histogram) {
    let forward: Vec<Bucket> = buckets(h).collect();
    let mut backward: Vec<Bucket> = buckets(h).rev().collect();
    backward.reverse();
    assert_eq!(forward, backward);
    assert!(forward.windows(2).all(|w| w[0].upper <= w[1].lower));
    assert!(validate(h).is_ok());
}

fn wild(choices: &mut Choices<'_>) -> Histogram {
    let hints = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];
    let mut spans = || {
        let far = choices.byte().is_multiple_of(4);
        let span = |c: &mut Choices<'_>| Span {
            offset: if far { i32::from_le_bytes(c.array()) } else { i32::from(c.byte() as i8) },
            length: if far { u32::from_le_bytes(c.array()) } else { u32::from(c.byte() % 8) },
        };
        (0..choices.below(5)).map(|_| span(choices)).collect::<Vec<_>>()
    };
    let (positive_spans, negative_spans) = (spans(), spans());
    let mut counts = || (0..choices.below(24)).map(|_| choices.value(1.0)).collect::<Vec<_>>();
    let (positive_counts, negative_counts) = (counts(), counts());
    let bounds = choices.below(6);
    Histogram {
        schema: if choices.byte().is_multiple_of(4) { -53 } else { i32::from(choices.byte() as i8 % 14) },
        reset_hint: hints[choices.below(4)],
        integer: choices.byte().is_multiple_of(2),
        zero_threshold: choices.value(0.5),
        zero_count: choices.value(1.0),
        count: choices.value(9.0),
        sum: choices.value(9.0),
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        custom_bounds: (0..bounds).map(|_| choices.value(1.0)).collect(),
    }
}

fn tidy(choices: &mut Choices<'_>, custom: bool) -> Histogram {
    let schema = if custom { -53 } else { choices.below(13) as i32 - 4 };
    let threshold = match choices.byte() % 4 {
        _ if custom => 0.0,
        0 => 0.0,
        1 => bucket_bound(choices.below(40) as i64 - 20, schema, &[]),
        _ => f64::from(choices.byte()) / 64.0,
    };
    let bounds: Vec<f64> = match custom {
        true => (0..choices.below(8))
            .scan(-4.0, |b, _| {
                *b += 1.0 + f64::from(choices.byte() % 3);
                Some(*b)
            })
            .collect(),
        false => Vec::new(),
    };
    let mut side = |first: i64, last: i64| {
        let (mut spans, mut counts, mut end) = (Vec::<Span>::new(), Vec::new(), 0i64);
        for index in first..=last {
            let count = choices.byte();
            let inside = !custom && bucket_bound(index - 1, schema, &[]) < threshold;
            if inside || count.is_multiple_of(2) {
                continue;
            }
            match spans.last_mut() {
                Some(span) if end == index => span.length += 1,
                _ => spans.push(Span { offset: (index - end) as i32, length: 1 }),
            }
            counts.push(f64::from(count / 2));
            end = index + 1;
        }
        (spans, counts)
    };
    let (positive_spans, positive_counts) = if custom { side(0, bounds.len() as i64) } else { side(-12, 24) };
    let (negative_spans, negative_counts) = if custom { Default::default() } else { side(-6, 12) };
    let zero_count = if custom || threshold == 0.0 { 0.0 } else { f64::from(choices.byte()) };
    let count = zero_count + positive_counts.iter().chain(&negative_counts).sum::<f64>();
    Histogram {
        schema,
        zero_threshold: threshold,
        zero_count,
        count,
        sum: 2.0 * count,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        custom_bounds: bounds.into(),
        ..Histogram::default()
    }
}
