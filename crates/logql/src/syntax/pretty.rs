//! The tree as text over several lines, as Loki's `format_query` lays it out: what is longer than
//! 100 characters is split, and its parts are indented by two blanks a level.

use pilothouse_model::labels::quote;
use pilothouse_model::sample::format_float_general;
use pilothouse_model::time::format_duration_ms;

use super::ast::*;
use super::print::{modifiers, selector};

const LINE_CHARS: usize = 100;

/// The canonical text of a query.
pub fn pretty(expr: &Expr) -> String {
    match expr {
        Expr::Log(log) => self::log(log, 0),
        Expr::Metric(metric) => self::metric(metric, 0),
    }
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

fn fits(text: &str) -> bool {
    text.len() <= LINE_CHARS
}

fn log(log: &LogExpr, level: usize) -> String {
    let flat = log.to_string();
    if fits(&flat) || log.stages.is_empty() {
        return indent(level) + &flat;
    }
    let stages: Vec<String> = log.stages.iter().map(|s| stage(s, level + 1)).collect();
    format!("{}{}\n{}", indent(level), selector(&log.matchers), stages.join("\n"))
}

fn stage(stage: &Stage, level: usize) -> String {
    match stage {
        Stage::Lines(filters) if !fits(&stage.to_string()) => {
            let lines: Vec<String> = filters.iter().map(|f| format!("{}{f}", indent(level))).collect();
            lines.join("\n")
        }
        // Loki forgets to indent this one.
        Stage::Decolorize => stage.to_string(),
        _ => format!("{}{stage}", indent(level)),
    }
}

fn range(range: &LogRange, level: usize) -> String {
    let mut out = log(&range.log, level);
    if let Some(unwrap) = &range.unwrap {
        let inner = indent(level + 1);
        out.push_str(&format!("\n{inner}{}", unwrap.head()));
        for filter in &unwrap.filters {
            out.push_str(&format!("\n{inner}| {filter}"));
        }
    }
    out.push_str(&format!(" [{}]", format_duration_ms(range.interval_ns / 1_000_000)));
    if range.offset_ns != 0 {
        out.push_str(&format!(" offset {}", format_duration_ms(range.offset_ns / 1_000_000)));
    }
    out
}

fn grouping(grouping: &Grouping) -> String {
    let word = match (grouping.without, grouping.labels.is_empty()) {
        (true, _) => " without",
        (false, false) => " by",
        (false, true) => "",
    };
    let list =
        if grouping.labels.is_empty() { String::new() } else { format!(" ({})", grouping.labels.join(", ")) };
    format!("{word}{list}")
}

fn metric(expr: &MetricExpr, level: usize) -> String {
    let flat = expr.to_string();
    if fits(&flat) {
        return indent(level) + &flat;
    }
    match expr {
        MetricExpr::Range(aggregation) => {
            let mut parts = Vec::new();
            if let Some(parameter) = aggregation.parameter {
                parts.push(format!("{}{}", indent(level + 1), format_float_general(parameter)));
            }
            parts.push(range(&aggregation.range, level + 1));
            let tail = aggregation.grouping.as_ref().map(grouping).unwrap_or_default();
            call(aggregation.op.as_str(), &parts, level) + &tail
        }
        MetricExpr::Aggregate(aggregation) => {
            let mut parts = Vec::new();
            if aggregation.op.takes_parameter() {
                parts.push(format!("{}{}", indent(level + 1), aggregation.parameter));
            }
            parts.push(metric(&aggregation.inner, level + 1));
            let head = format!("{}{}", aggregation.op.as_str(), grouping(&aggregation.grouping));
            call(&head, &parts, level)
        }
        MetricExpr::Binary(binary) => format!(
            "{}\n{}{}{}\n{}",
            metric(&binary.left, level + 1),
            indent(level),
            binary.op.as_str(),
            modifiers(&binary.matching, ", "),
            metric(&binary.right, level + 1)
        ),
        MetricExpr::Replace(inner, r) => {
            let mut parts = vec![metric(inner, level + 1)];
            for text in [&r.target, &r.replacement, &r.source, &r.regex] {
                parts.push(format!("{}{}", indent(level + 1), quote(text)));
            }
            call("label_replace", &parts, level)
        }
        MetricExpr::Literal(_) | MetricExpr::Vector(_) | MetricExpr::Invalid(_) => indent(level) + &flat,
    }
}

fn call(head: &str, parts: &[String], level: usize) -> String {
    format!("{}{head}(\n{}\n{})", indent(level), parts.join(",\n"), indent(level))
}
