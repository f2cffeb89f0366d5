//! Where buckets begin and end.

use pilothouse_model::histogram::CUSTOM_BUCKETS_SCHEMA;

use super::fractions::FRACTIONS;

/// The finest schema whose bounds are in the table.
const FINEST: i32 = 8;

/// The upper bound of a bucket, which is the lower one of the next, by absolute value.
///
/// With custom buckets index 0 is the first bound, -1 is -Inf and everything beyond the bounds
/// is +Inf. With an exponential schema bucket 0 ends at 1.
pub fn bucket_bound(index: i64, schema: i32, custom_bounds: &[f64]) -> f64 {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return exponential_bound(index, schema);
    }
    match usize::try_from(index) {
        Ok(i) => custom_bounds.get(i).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

/// 2^(index * 2^-schema). The bound that would be 2^1024 is the greatest finite number: the
/// bucket behind it counts the infinities alone.
pub(super) fn exponential_bound(index: i64, schema: i32) -> f64 {
    if schema > FINEST {
        return (index as f64 / f64::from(schema.min(1000)).exp2()).exp2();
    }
    if schema < 0 {
        let exponent = index.saturating_mul(1 << schema.unsigned_abs().min(32));
        return if exponent == 1024 { f64::MAX } else { times_power(1.0, exponent) };
    }
    let within = index & ((1 << schema) - 1);
    let fraction = FRACTIONS.get((within << (FINEST - schema)) as usize).copied().unwrap_or(0.5);
    let exponent = (index >> schema) + 1;
    if fraction == 0.5 && exponent == 1025 { f64::MAX } else { times_power(fraction, exponent) }
}

/// `fraction` * 2^`exponent`, rounded once, for a fraction in [0.5, 1].
fn times_power(fraction: f64, exponent: i64) -> f64 {
    match exponent {
        1026.. => f64::INFINITY,
        1024.. => fraction * 2.0 * power_of_two(exponent - 1) * if exponent == 1025 { 2.0 } else { 1.0 },
        -1074.. => fraction * power_of_two(exponent),
        _ => 0.0,
    }
}

/// 2^`exponent` for exponents of -1074 to 1023.
fn power_of_two(exponent: i64) -> f64 {
    let exponent = exponent.clamp(-1074, 1023);
    if exponent >= -1022 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    } else {
        f64::from_bits(1 << (exponent + 1074))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_prometheus() {
        for (index, schema, bound) in [
            (-1, -1, 0.25),
            (0, -1, 1.0),
            (1, -1, 4.0),
            (512, -1, f64::MAX),
            (513, -1, f64::INFINITY),
            (-1, 0, 0.5),
            (0, 0, 1.0),
            (1, 0, 2.0),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (-1, 2, 0.8408964152537144),
            (0, 2, 1.0),
            (1, 2, 1.189207115002721),
            (4096, 2, f64::MAX),
            (4097, 2, f64::INFINITY),
            (64, -4, f64::MAX),
            (65, -4, f64::INFINITY),
            (-1074, 0, f64::from_bits(1)),
            (-1075, 0, 0.0),
            (i64::MAX, 8, f64::INFINITY),
            (i64::MIN + 1, 8, 0.0),
            (i64::MAX, -4, f64::INFINITY),
            (1 << 20, 20, 2.0),
        ] {
            assert_eq!(bucket_bound(index, schema, &[]), bound, "index {index} of schema {schema}");
        }
        let custom = [1.0, 2.5];
        let bounds = [-2, -1, 0, 1, 2, 3].map(|i| bucket_bound(i, CUSTOM_BUCKETS_SCHEMA, &custom));
        let inf = f64::INFINITY;
        assert_eq!(bounds, [-inf, -inf, 1.0, 2.5, inf, inf]);
    }

    #[test]
    fn bounds_ascend_and_nest() {
        for schema in -4..8 {
            let mut last = 0.0;
            for index in -60..60 {
                let bound = exponential_bound(index, schema);
                assert!(bound > last);
                assert_eq!(bound, exponential_bound(index * 2, schema + 1));
                last = bound;
            }
        }
    }
}
