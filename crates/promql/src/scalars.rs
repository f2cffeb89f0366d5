//! Functions of one number.

use std::f64::consts::PI;

/// A function that is applied to every float of a vector.
#[derive(Clone, Copy)]
pub(crate) struct Elementwise {
    name: &'static str,
    pub(crate) apply: fn(f64) -> f64,
}

impl std::fmt::Debug for Elementwise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Elementwise {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|function| function.name == name).copied()
    }
}

const fn function(name: &'static str, apply: fn(f64) -> f64) -> Elementwise {
    Elementwise { name, apply }
}

static TABLE: &[Elementwise] = &[
    function("abs", f64::abs),
    function("acos", f64::acos),
    function("acosh", f64::acosh),
    function("asin", f64::asin),
    function("asinh", f64::asinh),
    function("atan", f64::atan),
    function("atanh", f64::atanh),
    function("ceil", f64::ceil),
    function("cos", f64::cos),
    function("cosh", f64::cosh),
    function("deg", |v| v * 180.0 / PI),
    function("exp", f64::exp),
    function("floor", f64::floor),
    function("ln", f64::ln),
    function("log10", f64::log10),
    function("log2", f64::log2),
    function("rad", |v| v * PI / 180.0),
    function("sgn", sign),
    function("sin", f64::sin),
    function("sinh", f64::sinh),
    function("sqrt", f64::sqrt),
    function("tan", f64::tan),
    function("tanh", f64::tanh),
];

/// -1, 1, or the value itself where it has no sign: zero and NaN.
fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// To a multiple of `to`, halves up. Multiplying by the inverse is what Prometheus does, and it
/// shows in the last digits.
pub(crate) fn round(value: f64, to: f64) -> f64 {
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// The lesser of two numbers, NaN if one is, -0 below 0: Go's `math.Min`.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        // An infinity of its own sign wins over NaN there.
        return if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY { f64::NEG_INFINITY } else { f64::NAN };
    }
    if a == 0.0 && b == 0.0 { if a.is_sign_negative() { a } else { b } } else { a.min(b) }
}

/// The greater of two numbers, NaN if one is: Go's `math.Max`.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    -min(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_and_extremes_follow_go() {
        assert_eq!(round(2.5, 1.0), 3.0);
        assert_eq!(round(-2.5, 1.0), -2.0);
        assert_eq!(round(7.3, 0.5), 7.5);
        assert!(min(f64::NAN, 1.0).is_nan() && max(1.0, f64::NAN).is_nan());
        assert_eq!(min(f64::NAN, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert_eq!(max(3.0, 4.0), 4.0);
        assert_eq!(sign(-0.0).to_bits(), (-0.0f64).to_bits());
    }
}
