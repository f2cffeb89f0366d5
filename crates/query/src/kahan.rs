//! Compensated sums and means, as Prometheus `util/kahansum`.

/// A running sum that carries the rounding error beside the value (Neumaier's variant of
/// Kahan's summation).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    value: f64,
    compensation: f64,
}

impl Sum {
    pub const ZERO: Self = Self { value: 0.0, compensation: 0.0 };

    pub fn new(value: f64) -> Self {
        Self { value, compensation: 0.0 }
    }

    #[inline]
    pub fn add(&mut self, increment: f64) {
        let total = self.value + increment;
        if total.is_infinite() {
            // An error term beside an infinity would turn it into NaN later on.
            self.compensation = 0.0;
        } else if self.value.abs() >= increment.abs() {
            self.compensation += (self.value - total) + increment;
        } else {
            self.compensation += (increment - total) + self.value;
        }
        self.value = total;
    }

    /// Adds another sum together with the error it carries.
    #[inline]
    pub fn absorb(&mut self, other: Self) {
        self.add(other.value);
        if other.compensation != 0.0 {
            self.add(other.compensation);
        }
    }

    /// Value and error, each multiplied.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { value: self.value * factor, compensation: self.compensation * factor }
    }

    /// Value and error, each divided.
    #[must_use]
    pub fn divided(self, divisor: f64) -> Self {
        Self { value: self.value / divisor, compensation: self.compensation / divisor }
    }

    /// The sum without its correction.
    pub fn value(self) -> f64 {
        self.value
    }

    /// What [`Sum::total`] adds to [`Sum::value`].
    pub fn compensation(self) -> f64 {
        self.compensation
    }

    #[inline]
    pub fn total(self) -> f64 {
        self.value + self.compensation
    }

    pub fn is_infinite(self) -> bool {
        self.value.is_infinite()
    }
}

impl Extend<f64> for Sum {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        values.into_iter().for_each(|v| self.add(v));
    }
}

/// The compensated sum of many values.
pub fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = Sum::ZERO;
    sum.extend(values);
    sum.total()
}

/// A running mean that does not overflow: a sum divided at the end for as long as the sum is
/// finite, the incremental mean from there on, as Prometheus' `avg` and `avg_over_time`.
#[derive(Debug, Clone, Copy)]
pub struct Mean {
    /// The sum, or the mean itself once `incremental`.
    running: Sum,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub fn new(first: f64) -> Self {
        Self { running: Sum::new(first), count: 1.0, incremental: false }
    }

    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut sum = self.running;
            sum.add(value);
            if !sum.is_infinite() {
                self.running = sum;
                return;
            }
            self.incremental = true;
            self.running = self.running.divided(self.count - 1.0);
        }
        self.running = self.running.scaled((self.count - 1.0) / self.count);
        self.running.add(value / self.count);
    }

    /// Takes in the mean of other values.
    pub fn absorb(&mut self, other: Self) {
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let mut sum = self.running;
            sum.absorb(other.running);
            if !sum.is_infinite() {
                *self = Self { running: sum, count, incremental: false };
                return;
            }
        }
        let mut running = self.share_of(count);
        running.absorb(other.share_of(count));
        *self = Self { running, count, incremental: true };
    }

    /// What these values add to the mean of `count` values.
    fn share_of(self, count: f64) -> Sum {
        let mean = if self.incremental { self.running } else { self.running.divided(self.count) };
        mean.scaled(self.count / count)
    }

    pub fn count(&self) -> f64 {
        self.count
    }

    pub fn mean(&self) -> f64 {
        if self.incremental { self.running.total() } else { self.running.divided(self.count).total() }
    }
}

/// The mean of many values; `None` of none.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values = values.into_iter();
    let mut mean = Mean::new(values.next()?);
    values.for_each(|v| mean.add(v));
    Some(mean.mean())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_what_plain_addition_loses() {
        assert_eq!(sum([1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum([5e-324; 3]), 1.5e-323);
        assert_eq!(sum([f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum([f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum([f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(sum([1.0, f64::NAN]).is_nan());
        assert_eq!(sum([]), 0.0);
    }

    #[test]
    fn means_do_not_overflow() {
        assert_eq!(mean([]), None);
        assert_eq!(mean([1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(mean([f64::MAX, f64::MAX]), Some(f64::MAX));
        assert_eq!(mean([f64::INFINITY, 1.0]), Some(f64::INFINITY));
        assert_eq!(mean([-f64::INFINITY]), Some(f64::NEG_INFINITY));
        assert_eq!(mean([1e100, 1.0, -1e100, -1.0]), Some(0.0));
        assert!(mean([f64::INFINITY, f64::NEG_INFINITY]).is_some_and(f64::is_nan));
        for (a, b, want) in
            [(1.0, 4.0, 2.5), (f64::MAX, f64::MAX, f64::MAX), (f64::INFINITY, 1.0, f64::INFINITY)]
        {
            let mut joined = Mean::new(a);
            joined.absorb(Mean::new(b));
            assert_eq!((joined.mean(), joined.count()), (want, 2.0));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_compensated_sum_is_at_least_as_near_as_a_plain_one(
            values in proptest::collection::vec(-1e12f64..1e12, 0..60),
        ) {
            // Exact reference: every value as a multiple of 2^-40 in 128 bits.
            let values: Vec<f64> = values.into_iter().map(|v| (v * 1024.0).round() / 1024.0).collect();
            let exact = values.iter().map(|v| (v * 1024.0) as i128).sum::<i128>() as f64 / 1024.0;
            proptest::prop_assert_eq!(sum(values.iter().copied()), exact);
        }
    }
}
