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
    // JSON's quotes are YAML's double quotes.
    if value.contains('\n') || means_something_else(value) {
        return json_quoted(value);
    }
    match serde_norway::to_string(value) {
        Ok(text) => text.trim_end_matches('\n').to_owned(),
        Err(_) => json_quoted(value),
    }
}

/// Whether a text without quotes would be read as no text, by this YAML or by the one before it. The
/// printer of the real servers puts these in double quotes, and what cannot stand without quotes
/// for its letters in single ones.
fn means_something_else(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let is_word = matches!(
        lower.as_str(),
        "" | "~" | "<<" | "null" | "true" | "false" | ".nan" | ".inf" | "-.inf" | "+.inf"
    ) || matches!(lower.as_str(), "y" | "yes" | "n" | "no" | "on" | "off");
    // The old words count in three spellings: small, capital, and large letters.
    let small_behind = value.get(1..).is_some_and(|rest| rest == lower.get(1..).unwrap_or(""));
    let spelled = small_behind || value == value.to_ascii_uppercase();
    (is_word && (spelled || lower.starts_with(['.', '+', '-']))) || is_number(value) || is_time(value)
}

/// Whole numbers of any base, fractions, and minutes behind a colon.
fn is_number(value: &str) -> bool {
    let digits = value.strip_prefix(['+', '-']).unwrap_or(value).replace('_', "");
    let in_base = |prefix: &str, base: u32| {
        let rest = digits.strip_prefix(prefix).or_else(|| digits.strip_prefix(&prefix.to_ascii_uppercase()));
        rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
    };
    let starts = digits.starts_with(|c: char| c.is_ascii_digit())
        || digits.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let decimal = digits.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let sexagesimal = || {
        let mut parts = digits.split(':');
        parts.next().is_some_and(|first| first.bytes().all(|b| b.is_ascii_digit()))
            && digits.contains(':')
            && parts.all(|part| part.split('.').next().is_some_and(|m| m.parse::<u8>().is_ok_and(|m| m < 60)))
    };
    starts
        && (decimal && digits.parse::<f64>().is_ok()
            || in_base("0x", 16)
            || in_base("0o", 8)
            || in_base("0b", 2)
            || sexagesimal())
}

/// A date, alone or with a time of day.
fn is_time(value: &str) -> bool {
    let date = value.split(['T', 't', ' ']).next().unwrap_or("");
    let parts: Vec<&str> = date.split('-').collect();
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let rest = value.get(date.len()..).unwrap_or("");
    let has_time = || {
        rest.get(1..).is_some_and(|time| time.contains(':') && time.starts_with(|c: char| c.is_ascii_digit()))
    };
    matches!(parts.as_slice(), [year, month, day]
        if year.len() == 4 && month.len() <= 2 && day.len() <= 2 && parts.iter().all(|part| is_digits(part)))
        && (rest.is_empty() || has_time())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_would_mean_something_else_are_quoted_twice() {
        for (value, printed) in [
            ("plain text", "plain text"),
            ("{{ $value }}", "'{{ $value }}'"),
            ("a: b", "'a: b'"),
            ("", "\"\""),
            ("1", "\"1\""),
            ("-1.5e3", "\"-1.5e3\""),
            (".5", "\".5\""),
            ("1_000", "\"1_000\""),
            ("0x1F", "\"0x1F\""),
            ("0b11", "\"0b11\""),
            ("1:30", "\"1:30\""),
            ("1:75", "1:75"),
            ("1a", "1a"),
            ("1.2.3", "1.2.3"),
            ("y", "\"y\""),
            ("No", "\"No\""),
            ("nO", "nO"),
            ("true", "\"true\""),
            ("null", "\"null\""),
            ("~", "\"~\""),
            (".inf", "\".inf\""),
            ("2001-01-01", "\"2001-01-01\""),
            ("2001-01-01 10:00:00", "\"2001-01-01 10:00:00\""),
            ("2001-01-01-x", "2001-01-01-x"),
            ("two\nlines", "\"two\\nlines\""),
        ] {
            assert_eq!(scalar(value), printed, "{value:?}");
        }
    }
}
