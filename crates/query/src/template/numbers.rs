//! Functions on numbers. Arguments may be numeric texts; what is no number counts as 0.

use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};
use pilothouse_model::sample::format_float_plain;

use super::need_args;

type Answer = Result<Value, TemplateError>;

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        Value::Uint(n) => *n as i64,
        Value::Float(f) => *f as i64,
        Value::Bool(b) => i64::from(*b),
        Value::String(s) => int_text(s),
        _ => 0,
    }
}

fn int_text(s: &str) -> i64 {
    let whole = match s.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        Some(_) => return 0,
        None => s,
    };
    let (digits, negative) = whole.strip_prefix('-').map_or((whole, false), |d| (d, true));
    let value = match digits.get(..2) {
        Some("0x" | "0X") => i64::from_str_radix(&digits[2..], 16),
        Some("0b" | "0B") => i64::from_str_radix(&digits[2..], 2),
        Some("0o" | "0O") => i64::from_str_radix(&digits[2..], 8),
        _ => digits.trim_start_matches('+').parse(),
    };
    value.map_or(0, |v| if negative { -v } else { v })
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(f) => *f,
        Value::String(s) => s.parse().unwrap_or(0.0),
        other => int(other) as f64,
    }
}

fn ints(f: fn(i64, i64) -> Result<i64, &'static str>) -> ValueFunc {
    Arc::new(move |args| {
        let mut all = args.iter().map(int);
        let first = all.next().ok_or_else(|| TemplateError::Exec("wrong number of args".to_owned()))?;
        all.try_fold(first, f).map(Value::Int).map_err(|e| TemplateError::Exec(e.to_owned()))
    })
}

/// Exactly two integers.
fn two(f: fn(i64, i64) -> Result<i64, &'static str>) -> ValueFunc {
    let folded = ints(f);
    Arc::new(move |args| {
        need_args(args, 2)?;
        folded(args)
    })
}

fn floats(f: fn(f64, f64) -> f64) -> ValueFunc {
    Arc::new(move |args| {
        let mut all = args.iter().map(float);
        let first = all.next().ok_or_else(|| TemplateError::Exec("wrong number of args".to_owned()))?;
        Ok(Value::Float(all.fold(first, f)))
    })
}

fn rounded(f: fn(f64) -> f64) -> ValueFunc {
    Arc::new(move |args| {
        need_args(args, 1)?;
        Ok(Value::Float(f(float(&args[0]))))
    })
}

const BY_ZERO: &str = "runtime error: integer divide by zero";

pub fn number_functions() -> FuncMap {
    let list: [(&str, ValueFunc); 17] = [
        ("int", Arc::new(|args| one(args, |v| Value::Int(int(v))))),
        ("float64", Arc::new(|args| one(args, |v| Value::Float(float(v))))),
        ("add", ints(|a, b| Ok(a.wrapping_add(b)))),
        ("mul", ints(|a, b| Ok(a.wrapping_mul(b)))),
        ("sub", two(|a, b| Ok(a.wrapping_sub(b)))),
        ("div", two(|a, b| if b == 0 { Err(BY_ZERO) } else { Ok(a.wrapping_div(b)) })),
        ("mod", two(|a, b| if b == 0 { Err(BY_ZERO) } else { Ok(a.wrapping_rem(b)) })),
        ("max", ints(|a, b| Ok(a.max(b)))),
        ("min", ints(|a, b| Ok(a.min(b)))),
        ("addf", floats(|a, b| decimal(a, b, Decimal::add).unwrap_or(a + b))),
        ("subf", floats(|a, b| decimal(a, -b, Decimal::add).unwrap_or(a - b))),
        ("mulf", floats(|a, b| decimal(a, b, Decimal::mul).unwrap_or(a * b))),
        ("divf", Arc::new(divide)),
        ("maxf", floats(f64::max)),
        ("minf", floats(f64::min)),
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
    let first = all.next().ok_or_else(|| TemplateError::Exec("wrong number of args".to_owned()))?;
    let quotient = all.try_fold(first, |a, b| {
        if b == 0.0 { Err(TemplateError::Exec("decimal division by 0".to_owned())) } else { Ok(a / b) }
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
