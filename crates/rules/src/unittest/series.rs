//! Series in the notation of tests: `name{a="b"} 1 2 _ stale 1+2x3 {{count:1}}`.

use std::sync::Arc;

use pilothouse_model::limits::RULE_TEST_VALUES;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::{Labels, SampleValue};
use pilothouse_promql::ast::Kind;
use pilothouse_promql::{ParseContext, parse, parse_selector};
use pilothouse_query::histogram;

use super::histograms::parse_histogram;

/// A value at each step; `None` where there is none.
pub(super) type Values = Vec<Option<SampleValue>>;

/// The labels of a series: `name{a="b"}`, or `{}`.
pub(super) fn parse_labels(text: &str) -> Result<Labels, String> {
    if matches!(text.trim(), "" | "{}") {
        return Ok(Labels::empty());
    }
    // A name alone reads as a selector, and so does a list of pairs of which one has a value.
    let context = ParseContext::default();
    let matchers = match parse(text, &context).map(|expr| expr.root().kind.clone()) {
        Ok(Kind::Vector(selector)) => selector.matchers,
        _ => parse_selector(text, &context).map_err(|e| e.to_string())?,
    };
    Ok(Labels::from_pairs(matchers.iter().map(|m| (m.name.as_str(), m.value.as_str()))))
}

pub(super) fn parse_values(text: &str) -> Result<Values, String> {
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = item_end(rest)?;
        let (item, tail) = rest.split_at(end);
        parse_item(item, &mut values)?;
        if values.len() > RULE_TEST_VALUES {
            return Err(format!("a series of a test may have {RULE_TEST_VALUES} values"));
        }
        rest = tail.trim_start();
    }
    Ok(values)
}

/// Where an item ends: at a blank that is not inside of a histogram.
fn item_end(text: &str) -> Result<usize, String> {
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        match (rest.find("{{"), rest.find(char::is_whitespace)) {
            (Some(open), blank) if blank.is_none_or(|b| open < b) => {
                let close = rest.find("}}").ok_or("a histogram is not closed with }}")?;
                at += close + 2;
            }
            (_, Some(blank)) => return Ok(at + blank),
            (_, None) => return Ok(text.len()),
        }
    }
    Ok(text.len())
}

fn parse_item(item: &str, values: &mut Values) -> Result<(), String> {
    if item.starts_with("{{") {
        return parse_histograms(item, values);
    }
    let unexpected = || format!("unexpected {item:?} in series values");
    let (head, times) = match item.rsplit_once('x') {
        Some((head, times)) => (head, Some(times.parse::<usize>().map_err(|_| unexpected())?)),
        None => (item, None),
    };
    check_times(times)?;
    if head == "_" {
        values.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
        return Ok(());
    }
    // A sign inside begins a step; one behind an `e` belongs to an exponent.
    let signs = head.char_indices().skip(1).filter(|(i, c)| {
        matches!(c, '+' | '-') && !head.get(..*i).is_some_and(|before| before.ends_with(['e', 'E']))
    });
    let split = times.and_then(|_| signs.last()).map(|(i, _)| i);
    let (first, step) = match split {
        Some(i) => (number(&head[..i]), number(&head[i..])),
        None => (number(head), Some(0.0)),
    };
    let (Some(mut value), Some(step)) = (first, step) else { return Err(unexpected()) };
    for _ in 0..=times.unwrap_or(0) {
        values.push(Some(SampleValue::Float(value)));
        if split.is_some() {
            value += step;
        }
    }
    Ok(())
}

fn check_times(times: Option<usize>) -> Result<(), String> {
    match times {
        Some(times) if times > RULE_TEST_VALUES => {
            Err(format!("a series of a test may have {RULE_TEST_VALUES} values"))
        }
        _ => Ok(()),
    }
}

/// Never hexadecimal: `0x3` is a zero and three more.
fn number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.to_lowercase().as_str() {
        "stale" if text == "stale" => return Some(stale_nan()),
        "inf" => f64::INFINITY,
        "nan" => f64::NAN,
        lower if lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') => lower.parse().ok()?,
        _ => return None,
    };
    Some(sign * value)
}

/// `{{…}}`, `{{…}}x3`, `{{…}}+{{…}}x3`, `{{…}}-{{…}}x3`.
fn parse_histograms(item: &str, values: &mut Values) -> Result<(), String> {
    let (first, rest) = one_histogram(item)?;
    let mut current = parse_histogram(first)?;
    let mut step = None;
    let mut rest = rest;
    if let Some(sign) = rest.chars().next().filter(|c| matches!(c, '+' | '-')) {
        let (second, tail) = one_histogram(&rest[1..])?;
        step = Some((sign, parse_histogram(second)?));
        rest = tail;
    }
    let times = match rest.strip_prefix('x') {
        Some(times) => times.parse().map_err(|_| format!("unexpected {rest:?} in series values"))?,
        None if rest.is_empty() && step.is_none() => 0,
        None => return Err(format!("unexpected {rest:?} in series values")),
    };
    check_times(Some(times))?;
    values.push(Some(SampleValue::Histogram(Arc::new(current.clone()))));
    for _ in 0..times {
        let done = match &step {
            Some(('+', step)) => histogram::add(&mut current, step).map(drop),
            Some((_, step)) => histogram::subtract(&mut current, step).map(drop),
            None => Ok(()),
        };
        done.map_err(|e| e.to_string())?;
        values.push(Some(SampleValue::Histogram(Arc::new(current.clone()))));
    }
    Ok(())
}

/// The inside of the histogram that a text begins with, and what follows it.
fn one_histogram(text: &str) -> Result<(&str, &str), String> {
    text.strip_prefix("{{")
        .and_then(|inside| inside.split_once("}}"))
        .ok_or_else(|| format!("unexpected {text:?} in series values"))
}
