//! Functions on numbers. Arguments may be numeric texts; what is no number counts as 0.

use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};
use pilothouse_model::sample::format_float_plain;

use super::need_args;
use crate::go_number::{parse_float, parse_int};

type Answer = Result<Value, TemplateError>;

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        Value::Uint(n) => *n as i64,
        // What does not fit is the least integer there.
        Value::Float(f) if f.is_nan() || f.abs() >= i64::MAX as f64 => i64::MIN,
        Value::Float(f) => *f as i64,
        Value::Bool(b) => i64::from(*b),
        Value::String(s) => parse_int(whole_part(s)).unwrap_or(0),
        _ => 0,
    }
}

/// What stands in front of the point of a plain decimal number.
fn whole_part(s: &str) -> &str {
    let Some((whole, fraction)) = s.split_once('.') else { return s };
    let digits = whole.strip_prefix(['+', '-']).unwrap_or(whole);
    if !digits.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return s;
    }
    if digits.is_empty() { "0" } else { whole }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(f) => *f,
        Value::String(s) => parse_float(s).unwrap_or(0.0),
        other => int(other) as f64,
    }
}

fn no_args() -> TemplateError {
    TemplateError::Exec("wrong number of args: want at least 1 got 0".to_owned())
}

/// At least one integer, or any number of them that begin with `none`.
fn ints(none: Option<i64>, f: fn(i64, i64) -> Result<i64, &'static str>) -> ValueFunc {
    Arc::new(move |args| {
        let mut all = args.iter().map(int);
        let first = all.next().or(none).ok_or_else(no_args)?;
        all.try_fold(first, f).map(Value::Int).map_err(|e| TemplateError::Exec(e.to_owned()))
    })
}

/// Exactly two integers.
fn two(f: fn(i64, i64) -> Result<i64, &'static str>) -> ValueFunc {
    let folded = ints(None, f);
    Arc::new(move |args| {
        need_args(args, 2)?;
        folded(args)
    })
}

fn floats(none: Option<f64>, f: fn(f64, f64) -> f64) -> ValueFunc {
    Arc::new(move |args| {
        let mut all = args.iter().map(float);
        let first = all.next().or(none).ok_or_else(no_args)?;
        Ok(Value::Float(all.fold(first, f)))
    })
}

fn rounded(f: fn(f64) -> f64) -> ValueFunc {
    Arc::new(move |args| {
        need_args(args, 1)?;
        Ok(Value::Float(f(float(&args[0]))))
    })
}

/// Go's `math.Max`, for which no number wins.
fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

const BY_ZERO: &str = "runtime error: integer divide by zero";

pub(super) fn number_functions() -> FuncMap {
    let list: [(&str, ValueFunc); 17] = [
        ("int", Arc::new(|args| one(args, |v| Value::Int(int(v))))),
        ("float64", Arc::new(|args| one(args, |v| Value::Float(float(v))))),
        ("add", ints(Some(0), |a, b| Ok(a.wrapping_add(b)))),
        ("mul", ints(None, |a, b| Ok(a.wrapping_mul(b)))),
        ("sub", two(|a, b| Ok(a.wrapping_sub(b)))),
        ("div", two(|a, b| if b == 0 { Err(BY_ZERO) } else { Ok(a.wrapping_div(b)) })),
        ("mod", two(|a, b| if b == 0 { Err(BY_ZERO) } else { Ok(a.wrapping_rem(b)) })),
        ("max", ints(None, |a, b| Ok(a.max(b)))),
        ("min", ints(None, |a, b| Ok(a.min(b)))),
        ("addf", floats(Some(0.0), |a, b| decimal(a, b, Decimal::add).unwrap_or(a + b))),
        ("subf", floats(None, |a, b| decimal(a, -b, Decimal::add).unwrap_or(a - b))),
        ("mulf", floats(None, |a, b| decimal(a, b, Decimal::mul).unwrap_or(a * b))),
        ("divf", Arc::new(divide)),
        ("maxf", floats(None, go_max)),
        ("minf", floats(None, go_min)),
        ("ceil", rounded(f64::ceil)),
        ("floor", rounded(f64::floor)),
    ];
    let mut map: FuncMap = list.into_iter().map(|(name, function)| (name.to_owned(), function)).collect();
    map.insert("round".to_owned(), Arc::new(round));
    map
}

fn one(args: &[Value], f: fn(&Value) -> Value) -> Answer {
    need_args(args, 1)?;
    Ok(f(&args[0]))
}

fn divide(args: &[Value]) -> Answer {
    let mut all = args.iter().map(float);
    let first = all.next().ok_or_else(no_args)?;
    let quotient = all.try_fold(first, |a, b| {
        if b == 0.0 {
            return Err(TemplateError::Exec("decimal division by 0".to_owned()));
        }
        Ok(decimal(a, b, Decimal::div).unwrap_or(a / b))
    })?;
    Ok(Value::Float(quotient))
}

fn round(args: &[Value]) -> Answer {
    let (Some(value), Some(places)) = (args.first(), args.get(1)) else {
        return Err(TemplateError::Exec("wrong number of args for round".to_owned()));
    };
    let half = args.get(2).map_or(0.5, float);
    let power = 10f64.powf(float(places));
    let scaled = power * float(value);
    let up = scaled.fract() >= half;
    Ok(Value::Float(if up { scaled.ceil() } else { scaled.floor() } / power))
}

/// A float as the decimal number it prints as: `digits * 10^exponent`. Sprig adds and multiplies
/// such numbers, so that 0.1 + 0.2 is 0.3.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    fn new(value: f64) -> Option<Self> {
        if !value.is_finite() || value.abs() >= 1e17 {
            return None;
        }
        let text = format_float_plain(value);
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = [whole, fraction].concat().parse().ok()?;
        (fraction.len() <= 20).then_some(Self { digits, exponent: -(fraction.len() as i32) })
    }

    fn add(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        let scaled = |d: Self| d.digits.checked_mul(10i128.checked_pow((d.exponent - exponent) as u32)?);
        Some(Self { digits: scaled(self)?.checked_add(scaled(other)?)?, exponent })
    }

    /// To sixteen places behind the point, rounded.
    fn div(self, other: Self) -> Option<Self> {
        const PLACES: i32 = 16;
        let shift = self.exponent - other.exponent + PLACES;
        let power = 10i128.checked_pow(shift.unsigned_abs())?;
        let (above, below) = match shift >= 0 {
            true => (self.digits.checked_mul(power)?, other.digits),
            false => (self.digits, other.digits.checked_mul(power)?),
        };
        let (quotient, rest) = (above / below, above % below);
        let up = rest.unsigned_abs().checked_mul(2)? >= below.unsigned_abs();
        let away = if (above < 0) == (below < 0) { 1 } else { -1 };
        Some(Self { digits: quotient + if up { away } else { 0 }, exponent: -PLACES })
    }

    fn mul(self, other: Self) -> Option<Self> {
        Some(Self {
            digits: self.digits.checked_mul(other.digits)?,
            exponent: self.exponent + other.exponent,
        })
    }
}

fn decimal(a: f64, b: f64, f: fn(Decimal, Decimal) -> Option<Decimal>) -> Option<f64> {
    let result = f(Decimal::new(a)?, Decimal::new(b)?)?;
    format!("{}e{}", result.digits, result.exponent).parse().ok()
}
