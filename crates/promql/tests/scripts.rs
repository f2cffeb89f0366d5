//! Runs the scripts next to this file: series are loaded, queries evaluated, answers compared.
//!
//! A script is a list of blocks. A line that is not indented begins one, the indented lines
//! below belong to it; `#` begins a comment line.
//!
//! ```text
//! load 1m                      series with a value a minute from 0 on: numbers, `_` for none,
//!   m{a="x"} 0 1 _ stale       `stale`, `AxN` for N more times A, `A+BxN` for N steps of B,
//!   h {{s=0 sum=5 z=1 b=1,2}}  native histograms: schema, sum, zero count, positive buckets
//! at 5m rate(m[5m])            an instant query and its answer, in any order;
//!   {a="x"} 0.1                `= 1` for a scalar or text, nothing for an empty vector
//! ordered 5m sort(m)           an answer in this order
//! over 0 10m 1m m              a range query: a value for every step
//!   m{a="x"} 1 2 _
//! refused 5m m * on() m        a query that fails, with a part of the message
//!   many-to-many
//! told 5m rate(g[5m])          a query with remarks, of which a part of each is given
//!   might not be a counter
//! forget                       removes all series
//! ```

// A script that cannot be read is a mistake in its folder, and the test says where.
#![allow(clippy::expect_used)]

mod memory;

use std::fmt::Write as _;
use std::sync::Arc;

use memory::Memory;
use pilothouse_model::sample::{format_float, stale_nan};
use pilothouse_model::time::parse_duration_ms;
use pilothouse_model::{Budget, Histogram, Labels, QueryValue, SampleValue, Span};
use pilothouse_promql::{Engine, Options, ParseContext, QueryOutcome, parse, parse_selector};

struct Block<'s> {
    line: usize,
    head: &'s str,
    body: Vec<&'s str>,
}

fn blocks(script: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (i, line) in script.lines().enumerate() {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match blocks.last_mut().filter(|_| line.starts_with(' ')) {
            Some(block) => block.body.push(text),
            None => blocks.push(Block { line: i + 1, head: text, body: Vec::new() }),
        }
    }
    blocks
}

fn time(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    sign * parse_duration_ms(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Splits `name{a="b"} rest` into labels and the rest.
fn labels_and_rest(line: &str) -> (Labels, &str) {
    let end = match line.find('{').filter(|brace| !line[..*brace].contains(' ')) {
        Some(brace) => brace + line[brace..].find('}').expect("an open brace") + 1,
        None => line.find(' ').unwrap_or(line.len()),
    };
    let (labels, rest) = line.split_at(end);
    if labels == "{}" {
        return (Labels::empty(), rest);
    }
    let matchers = parse_selector(labels, &ParseContext::default()).expect("labels");
    (Labels::from_pairs(matchers.iter().map(|m| (&m.name, &m.value))), rest)
}

fn samples(text: &str) -> Vec<Option<SampleValue>> {
    let mut samples = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = match rest.strip_prefix("{{") {
            Some(_) => rest.find("}}").expect("an open histogram") + 2,
            None => rest.find(' ').unwrap_or(rest.len()),
        };
        let word = &rest[..end];
        rest = rest[end..].trim_start();
        if word.starts_with("{{") {
            samples.push(Some(SampleValue::Histogram(Arc::new(histogram(word)))));
        } else {
            push_floats(word, &mut samples);
        }
    }
    samples
}

fn push_floats(word: &str, samples: &mut Vec<Option<SampleValue>>) {
    let float = |value: f64| Some(SampleValue::Float(value));
    let number = |text: &str| text.parse::<f64>().unwrap_or_else(|e| panic!("{text}: {e}"));
    match word {
        "_" => samples.push(None),
        "stale" => samples.push(float(stale_nan())),
        _ => match word.split_once('x') {
            None => samples.push(float(number(word))),
            Some((sequence, times)) => {
                let (start, step) = sequence.split_once('+').unwrap_or((sequence, "0"));
                let times: usize = times.parse().expect("times");
                let value = |i: usize| float(number(start) + i as f64 * number(step));
                samples.extend((0..=times).map(value));
            }
        },
    }
}

fn histogram(word: &str) -> Histogram {
    let mut h = Histogram::default();
    for field in word.trim_matches(['{', '}']).split_whitespace() {
        let (name, value) = field.split_once('=').expect("name=value");
        let numbers: Vec<f64> = value.split(',').map(|n| n.parse().expect("a number")).collect();
        match name {
            "s" => h.schema = numbers[0] as i32,
            "sum" => h.sum = numbers[0],
            "z" => h.zero_count = numbers[0],
            "b" => {
                h.positive_spans = vec![Span { offset: 0, length: numbers.len() as u32 }];
                h.positive_counts = numbers;
            }
            other => panic!("no such field: {other}"),
        }
    }
    h.count = h.zero_count + h.positive_counts.iter().sum::<f64>();
    h
}

fn load(memory: &mut Memory, block: &Block<'_>, step: &str) {
    let step_ms = time(step);
    for line in &block.body {
        let (labels, values) = labels_and_rest(line);
        for (i, value) in samples(values).into_iter().enumerate() {
            if let Some(value) = value {
                memory.add(labels.clone(), i as i64 * step_ms, value);
            }
        }
    }
}

fn text_of(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) => format_float((value * 1e9).round() / 1e9),
        SampleValue::Histogram(h) => {
            let buckets: Vec<String> = h.positive_counts.iter().map(|n| format_float(*n)).collect();
            let (sum, zero) = (format_float(h.sum), format_float(h.zero_count));
            format!("{{{{s={} sum={sum} z={zero} b={}}}}}", h.schema, buckets.join(","))
        }
    }
}

/// The lines of an answer, in the form of the script.
fn lines_of(value: &QueryValue, over: Option<(i64, i64, i64)>) -> Vec<String> {
    match value {
        QueryValue::Scalar { value, .. } => vec![format!("= {}", format_float(*value))],
        QueryValue::String { text, .. } => vec![format!("= {text}")],
        QueryValue::Vector(samples) => {
            samples.iter().map(|s| format!("{} {}", s.labels, text_of(&s.value))).collect()
        }
        QueryValue::Matrix(series) => {
            let lines = series.iter().map(|s| {
                let mut line = s.labels.to_string();
                let points = s.floats.iter().map(|(t, v)| (*t, SampleValue::Float(*v)));
                let mut points: Vec<(i64, SampleValue)> = points
                    .chain(s.histograms.iter().map(|(t, h)| (*t, SampleValue::Histogram(h.clone()))))
                    .collect();
                points.sort_by_key(|(t, _)| *t);
                match over {
                    None => {
                        for (t, value) in points {
                            let _ = write!(line, " {}@{t}", text_of(&value));
                        }
                    }
                    Some((start, end, step)) => {
                        for t in (start..=end).step_by(step as usize) {
                            let cell = points.iter().find(|(at, _)| *at == t);
                            let _ = write!(line, " {}", cell.map_or("_".to_owned(), |(_, v)| text_of(v)));
                        }
                    }
                }
                line
            });
            lines.collect()
        }
    }
}

/// An expected line with its labels in order and its values written out.
fn normal(line: &str) -> String {
    if line.starts_with('=') || line.contains('@') {
        return line.to_owned();
    }
    let (labels, rest) = labels_and_rest(line);
    let values = samples(rest).iter().map(|v| v.as_ref().map_or("_".to_owned(), text_of)).collect::<Vec<_>>();
    format!("{labels} {}", values.join(" "))
}

fn ask(memory: &Memory, query: &str, times: &[i64]) -> Result<QueryOutcome, String> {
    let expr = parse(query, &ParseContext::default()).map_err(|e| e.to_string())?;
    let (options, budget) = (Options::default(), Budget::unlimited());
    let outcome = match times {
        [at] => Engine::instant(memory, &expr, *at, &options, &budget),
        [start, end, step] => Engine::range(memory, &expr, (*start, *end, *step), &options, &budget),
        _ => panic!("one time or three"),
    };
    outcome.map_err(|e| e.to_string())
}

/// Runs a block; what does not hold comes back as text.
fn check(memory: &mut Memory, block: &Block<'_>) -> Result<(), String> {
    let (verb, rest) = block.head.split_once(' ').unwrap_or((block.head, ""));
    match verb {
        "forget" => *memory = Memory::default(),
        "load" => load(memory, block, rest.trim()),
        _ => {
            let count = if verb == "over" { 3 } else { 1 };
            let mut parts = rest.splitn(count + 1, ' ');
            let times: Vec<i64> = parts.by_ref().take(count).map(time).collect();
            let outcome = ask(memory, parts.next().unwrap_or(""), &times);
            return compare(verb, block, &times, outcome);
        }
    }
    Ok(())
}

fn compare(
    verb: &str,
    block: &Block<'_>,
    times: &[i64],
    outcome: Result<QueryOutcome, String>,
) -> Result<(), String> {
    if verb == "refused" {
        let Err(error) = outcome else { return Err("was not refused".to_owned()) };
        return if error.contains(block.body[0]) { Ok(()) } else { Err(error) };
    }
    let outcome = outcome?;
    if verb == "told" {
        let said: Vec<&String> =
            outcome.annotations.warnings.iter().chain(&outcome.annotations.infos).collect();
        let all = block.body.iter().all(|part| said.iter().any(|text| text.contains(part)));
        return if all && said.len() == block.body.len() { Ok(()) } else { Err(format!("{said:?}")) };
    }
    let over = (verb == "over").then(|| (times[0], times[1], times[2]));
    let mut got = lines_of(&outcome.value, over);
    let mut want: Vec<String> = block.body.iter().map(|line| normal(line)).collect();
    if verb != "ordered" {
        got.sort();
        want.sort();
    }
    if got == want { Ok(()) } else { Err(format!("wanted {want:#?}, got {got:#?}")) }
}

#[test]
fn every_script_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let (mut checked, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).expect("the folder of scripts") {
        let entry = entry.expect("an entry");
        let script = std::fs::read_to_string(entry.path()).expect("a script");
        let mut memory = Memory::default();
        for block in blocks(&script) {
            checked += 1;
            if let Err(why) = check(&mut memory, &block) {
                wrong.push(format!("{:?}:{}: {}\n{why}", entry.file_name(), block.line, block.head));
            }
        }
    }
    assert!(checked > 50, "only {checked} blocks");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
