//! Groups to YAML, in the form that Mimir and Loki answer with.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pilothouse_model::time::format_duration_ms;

use super::{Rule, RuleGroup};

/// One group.
pub fn print_group(group: &RuleGroup) -> String {
    let mut out = String::new();
    push_group(&mut out, group, 0);
    out
}

/// Groups by namespace; `{}` if there are none.
pub fn print_namespaces(namespaces: &BTreeMap<String, Vec<RuleGroup>>) -> String {
    if namespaces.is_empty() {
        return "{}\n".to_owned();
    }
    let mut out = String::new();
    for (namespace, groups) in namespaces {
        push_key(&mut out, namespace);
        if groups.is_empty() {
            out.push_str(" []");
        }
        out.push('\n');
        for group in groups {
            push_item(&mut out, 4, |out| push_group(out, group, 6));
        }
    }
    out
}

/// How far in what belongs to a key stands: the next multiple of four, as the printer of the real
/// servers has it.
fn nested(indent: usize) -> usize {
    (indent + 4) / 4 * 4
}

/// An entry of a list: what `push` writes indented by `indent + 2`, its first line marked.
fn push_item(out: &mut String, indent: usize, push: impl FnOnce(&mut String)) {
    let at = out.len();
    push(out);
    out.replace_range(at..at + indent + 2, &format!("{:indent$}- ", ""));
}

fn push_group(out: &mut String, group: &RuleGroup, indent: usize) {
    push_text(out, indent, "name", &group.name);
    push_duration(out, indent, "interval", group.interval_ms);
    push_duration(out, indent, "evaluation_delay", group.evaluation_delay_ms);
    push_duration(out, indent, "query_offset", group.query_offset_ms);
    if group.limit != 0 {
        let _ = writeln!(out, "{:indent$}limit: {}", "", group.limit);
    }
    if group.rules.is_empty() {
        let _ = writeln!(out, "{:indent$}rules: []", "");
    } else {
        let _ = writeln!(out, "{:indent$}rules:", "");
    }
    for rule in &group.rules {
        let at = nested(indent);
        push_item(out, at, |out| push_rule(out, rule, at + 2));
    }
    push_texts(out, indent, "labels", &group.labels);
    if group.aligned {
        let _ = writeln!(out, "{:indent$}align_evaluation_time_on_interval: true", "");
    }
}

fn push_rule(out: &mut String, rule: &Rule, indent: usize) {
    if !rule.record.is_empty() {
        push_text(out, indent, "record", &rule.record);
    }
    if !rule.alert.is_empty() {
        push_text(out, indent, "alert", &rule.alert);
    }
    push_text(out, indent, "expr", &rule.expr);
    push_duration(out, indent, "for", Some(rule.for_ms).filter(|ms| *ms != 0));
    push_duration(out, indent, "keep_firing_for", Some(rule.keep_firing_for_ms).filter(|ms| *ms != 0));
    push_texts(out, indent, "labels", &rule.labels);
    push_texts(out, indent, "annotations", &rule.annotations);
}

fn push_duration(out: &mut String, indent: usize, key: &str, duration_ms: Option<i64>) {
    if let Some(ms) = duration_ms {
        let _ = writeln!(out, "{:indent$}{key}: {}", "", format_duration_ms(ms));
    }
}

fn push_texts(out: &mut String, indent: usize, key: &str, texts: &BTreeMap<String, String>) {
    if texts.is_empty() {
        return;
    }
    let _ = writeln!(out, "{:indent$}{key}:", "");
    for (name, value) in texts {
        push_text(out, nested(indent), name, value);
    }
}

fn push_text(out: &mut String, indent: usize, key: &str, value: &str) {
    let _ = write!(out, "{:indent$}", "");
    push_key(out, key);
    out.push(' ');
    if may_be_block(value) {
        push_block(out, nested(indent), value);
    } else {
        out.push_str(&scalar(value));
        out.push('\n');
    }
}

fn push_key(out: &mut String, key: &str) {
    out.push_str(&scalar(key));
    out.push(':');
}

/// On one line, in quotes where it needs them.
fn scalar(value: &str) -> String {
    if value.contains('\n') {
        // JSON's quotes are YAML's double quotes.
        return json_quoted(value);
    }
    match serde_norway::to_string(value) {
        Ok(text) => text.trim_end_matches('\n').to_owned(),
        Err(_) => json_quoted(value),
    }
}

fn json_quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether a text of several lines can stand as a block, line by line as it is.
fn may_be_block(value: &str) -> bool {
    value.contains('\n')
        && !value.starts_with([' ', '\n', '\t'])
        && !value.lines().any(|line| line.ends_with([' ', '\t']))
        && !value.chars().any(|c| c != '\n' && c != '\t' && c.is_control())
}

fn push_block(out: &mut String, indent: usize, value: &str) {
    let body = value.trim_end_matches('\n');
    out.push_str(match value.len() - body.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in value.strip_suffix('\n').unwrap_or(value).split('\n') {
        if !line.is_empty() {
            let _ = write!(out, "{:indent$}{line}", "");
        }
        out.push('\n');
    }
}
