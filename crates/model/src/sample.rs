//! Float samples: the stale marker, number text as Go prints it, and columns of samples.

use std::sync::Arc;

use crate::Histogram;

/// The one NaN that means "this series ended here", as Prometheus `value.StaleNaN`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker as a float. Compare with [`is_stale`], never with `==`.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether a value is the stale marker; every other NaN is a value.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// Samples of one series in ascending time: floats in two columns, histograms beside them.
/// A time occurs at most once over both. Stale markers are included.
#[derive(Debug, Default, Clone)]
pub struct SampleColumns {
    pub times_ms: Vec<i64>,
    pub values: Vec<f64>,
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

impl SampleColumns {
    pub fn clear(&mut self) {
        self.times_ms.clear();
        self.values.clear();
        self.histograms.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.times_ms.is_empty() && self.histograms.is_empty()
    }

    /// Samples of both kinds.
    pub fn len(&self) -> usize {
        self.times_ms.len() + self.histograms.len()
    }

    #[inline]
    pub fn push_float(&mut self, t_ms: i64, value: f64) {
        self.times_ms.push(t_ms);
        self.values.push(value);
    }
}

/// A float as Prometheus' JSON writes it: the shortest text that reads back, plain between
/// 1e-6 and 1e21, else with an exponent of at least two digits (`1e-09`, `1.5e+21`); `NaN`,
/// `+Inf`, `-Inf`.
pub fn push_float(out: &mut String, value: f64) {
    let magnitude = value.abs();
    let exponent = magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude);
    push_go_float(out, value, exponent);
}

/// [`push_float`] as a new text.
pub fn format_float(value: f64) -> String {
    let mut out = String::with_capacity(24);
    push_float(&mut out, value);
    out
}

/// A float as Go's `strconv.FormatFloat(f, 'f', -1, 64)`: never an exponent.
pub fn format_float_plain(value: f64) -> String {
    let mut out = String::with_capacity(24);
    push_go_float(&mut out, value, false);
    out
}

/// A float as Go's `%v` and `strconv.FormatFloat(f, 'g', -1, 64)`: an exponent below 1e-4 and
/// from 1e6 on, where the shortest form turns to it whatever the number of digits.
pub fn format_float_general(value: f64) -> String {
    let mut out = String::with_capacity(24);
    let magnitude = value.abs();
    push_go_float(&mut out, value, magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude));
    out
}

fn push_go_float(out: &mut String, value: f64, exponent: bool) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    // Whole numbers below 2^53 are their own shortest text.
    if !exponent && value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        if value == 0.0 && value.is_sign_negative() {
            return out.push_str("-0");
        }
        return push_integer(out, value as i64);
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    // Where ryu writes no exponent it writes what Go does, but for whole numbers.
    if !exponent && !text.contains('e') {
        return out.push_str(text.strip_suffix(".0").unwrap_or(text));
    }
    let (negative, digits, point) = shortest(text);
    if negative {
        out.push('-');
    }
    let digits = digits.as_str();
    if exponent {
        push_exponent(out, digits, point - 1);
    } else {
        push_plain(out, digits, point);
    }
}

fn push_integer(out: &mut String, value: i64) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), value.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
}

/// Takes ryu's text apart: sign, significant digits without zeros around them, and the place
/// of the decimal point counted from the first digit.
fn shortest(text: &str) -> (bool, String, i32) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut point = whole.len() as i32 + exponent.parse::<i32>().unwrap_or(0);
    let all: String = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    point -= (all.len() - digits.len()) as i32;
    (negative, digits.trim_end_matches('0').to_owned(), point)
}

fn push_exponent(out: &mut String, digits: &str, exponent: i32) {
    out.push_str(&digits[..1]);
    if digits.len() > 1 {
        out.push('.');
        out.push_str(&digits[1..]);
    }
    out.push('e');
    out.push(if exponent < 0 { '-' } else { '+' });
    if exponent.abs() < 10 {
        out.push('0');
    }
    push_integer(out, i64::from(exponent.abs()));
}

fn push_plain(out: &mut String, digits: &str, point: i32) {
    if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        out.push_str(digits);
    } else if point as usize >= digits.len() {
        out.push_str(digits);
        out.extend(std::iter::repeat_n('0', point as usize - digits.len()));
    } else {
        out.push_str(&digits[..point as usize]);
        out.push('.');
        out.push_str(&digits[point as usize..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_prometheus_json() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-42.0, "-42"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1e-7, "1e-07"),
            (1.5e21, "1.5e+21"),
            (1e20, "100000000000000000000"),
            (123456789.125, "123456789.125"),
            (1e21, "1e+21"),
            (1e-100, "1e-100"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_float(value), text);
        }
        for (value, text) in [
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (999999.5, "999999.5"),
            (1e6, "1e+06"),
            (123456789.0, "1.23456789e+08"),
        ] {
            assert_eq!(format_float_general(value), text);
        }
        assert_eq!(format_float_plain(1e-9), "0.000000001");
    }

    proptest::proptest! {
        #[test]
        fn number_text_reads_back(bits in proptest::num::u64::ANY) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                for text in [format_float(value), format_float_plain(value), format_float_general(value)] {
                    proptest::prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(bits));
                }
            }
        }
    }
}
