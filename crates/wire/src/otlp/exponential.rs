//! Exponential histograms into native ones.

use pilothouse_model::histogram::EXPONENTIAL_SCHEMAS;
use pilothouse_model::{Histogram, Span};

use super::words::{Buckets, Exponential};

/// Prometheus' zero bucket for them, whatever the point says.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Up to so many empty buckets are written out rather than begin a new span.
const SHORT_GAP: i64 = 2;

/// The native histogram of a point, or why there is none. Resolutions above the finest schema
/// are merged down to it.
pub(super) fn native(point: &Exponential, max_buckets: usize) -> Result<Histogram, String> {
    let (coarsest, finest) = EXPONENTIAL_SCHEMAS.into_inner();
    if point.scale < coarsest {
        return Err(format!(
            "cannot convert exponential to native histogram. Scale must be >= {coarsest}, was {}",
            point.scale
        ));
    }
    // A shift of 63 already sends every index to 0 or -1.
    let shift = (i64::from(point.scale) - i64::from(finest)).clamp(0, 63) as u32;
    let (positive_spans, positive_counts) = sparse(&point.positive, shift, max_buckets)?;
    let (negative_spans, negative_counts) = sparse(&point.negative, shift, max_buckets)?;
    Ok(Histogram {
        schema: point.scale.min(finest),
        integer: true,
        zero_threshold: ZERO_THRESHOLD,
        zero_count: point.zero_count as f64,
        count: point.count as f64,
        sum: point.sum,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        ..Histogram::default()
    })
}

/// Spans and counts of the buckets that are not empty. A bucket's index is one higher here: it
/// counts upper bounds, not lower ones.
fn sparse(buckets: &Buckets, shift: u32, max_buckets: usize) -> Result<(Vec<Span>, Vec<f64>), String> {
    let (mut spans, mut counts) = (Vec::<Span>::new(), Vec::<f64>::new());
    // Behind the last bucket written.
    let mut next = 0i64;
    for (index, count) in merged(buckets, shift) {
        let gap = index - next;
        match spans.last_mut() {
            Some(span) if gap <= SHORT_GAP => {
                let added = gap.max(0) as usize;
                counts.extend(std::iter::repeat_n(0.0, added));
                span.length += added as u32 + 1;
            }
            _ => {
                let offset = i32::try_from(gap).map_err(|_| "a bucket's index is out of range".to_owned())?;
                spans.push(Span { offset, length: 1 });
            }
        }
        counts.push(count as f64);
        if counts.len() > max_buckets {
            return Err(format!("too many buckets, limit: {max_buckets}"));
        }
        next = index + 1;
    }
    Ok((spans, counts))
}

/// Buckets with something in them by index, those that fall together added up.
fn merged(buckets: &Buckets, shift: u32) -> impl Iterator<Item = (i64, u64)> {
    let offset = i64::from(buckets.offset);
    let index = move |i: usize| ((offset + i as i64) >> shift) + 1;
    let mut indexed = buckets.counts.iter().enumerate().map(move |(i, count)| (index(i), *count)).peekable();
    std::iter::from_fn(move || {
        let (index, mut count) = indexed.next()?;
        while let Some((_, more)) = indexed.next_if(|(next, _)| *next == index) {
            count = count.saturating_add(more);
        }
        Some((index, count))
    })
    .filter(|(_, count)| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(offset: i32, counts: &[u64], shift: u32, spans: &[(i32, u32)], expected: &[f64]) {
        let buckets = Buckets { offset, counts: counts.to_vec() };
        let (got_spans, got) = sparse(&buckets, shift, 100).unwrap();
        let got_spans: Vec<_> = got_spans.iter().map(|s| (s.offset, s.length)).collect();
        assert_eq!((got_spans.as_slice(), got.as_slice()), (spans, expected), "{counts:?}");
    }

    #[test]
    fn buckets_become_spans() {
        check(0, &[], 0, &[], &[]);
        check(0, &[0, 0], 0, &[], &[]);
        check(-3, &[1, 2, 3], 0, &[(-2, 3)], &[1.0, 2.0, 3.0]);
        check(0, &[1, 0, 0, 2], 0, &[(1, 4)], &[1.0, 0.0, 0.0, 2.0]);
        check(0, &[1, 0, 0, 0, 2], 0, &[(1, 1), (3, 1)], &[1.0, 2.0]);
        check(0, &[1, 2, 3, 4, 5], 1, &[(1, 3)], &[3.0, 7.0, 5.0]);
        check(-1, &[1, 2, 3], 1, &[(0, 2)], &[1.0, 5.0]);
    }

    #[test]
    fn scales_are_bounded() {
        let point = |scale| Exponential { scale, ..Exponential::default() };
        assert!(native(&point(-5), 10).is_err());
        assert_eq!(native(&point(-4), 10).map(|h| h.schema), Ok(-4));
        assert_eq!(native(&point(i32::MAX), 10).map(|h| h.schema), Ok(8));
        let wide = Exponential { positive: Buckets { offset: 0, counts: vec![1; 11] }, ..point(0) };
        assert!(native(&wide, 10).is_err());
    }
}
