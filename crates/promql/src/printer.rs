//! Queries as text again: on one line, or broken over lines, both as Prometheus writes them.

use std::fmt::{self, Display, Formatter, Write};

use pilothouse_model::labels::{METRIC_NAME, is_legacy_label_name, quote};
use pilothouse_model::sample::{format_float_general, format_float_plain};
use pilothouse_model::time::format_duration_ms;
use pilothouse_model::{MatchOp, Matcher};

use crate::Expr;
use crate::ast::{
    Aggregate, At, Binary, Call, Cardinality, Duration, DurationKind, DurationOp, Extended, Kind, Matching,
    MatrixSelector, Node, NumberLiteral, Subquery, TimeShift, VectorSelector,
};

/// Bytes beyond which an expression is broken over lines.
const MAX_LINE_BYTES: usize = 100;

/// A query broken over lines: what is too long for one line puts its parts on lines of their own,
/// two spaces further in. This is what `format_query` answers.
pub fn format(expr: &Expr) -> String {
    let mut out = String::with_capacity(expr.text().len() * 2);
    // Writing into a text does not fail.
    let _ = pretty(&mut out, expr.root(), 0);
    out
}

/// A query or a part of one on a single line.
#[derive(Debug)]
pub struct OneLine<'a>(pub &'a Node);

impl Display for OneLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::Number(number) => write_number(f, number),
            Kind::String(text) => f.write_str(&quote(text)),
            Kind::Vector(selector) => write_vector(f, selector),
            Kind::Matrix(matrix) => write_matrix(f, matrix),
            Kind::Subquery(subquery) => write!(f, "{}{}", OneLine(&subquery.inner), Window(subquery)),
            Kind::Call(call) => write_call(f, call),
            Kind::Aggregate(aggregate) => write_aggregate(f, aggregate),
            Kind::Binary(binary) => {
                write!(f, "{} {} {}", OneLine(&binary.lhs), Operator(binary), OneLine(&binary.rhs))
            }
            Kind::Unary(unary) => write!(f, "{}{}", sign(unary.minus), OneLine(&unary.inner)),
            Kind::Paren(inner) => write!(f, "({})", OneLine(inner)),
        }
    }
}

fn sign(minus: bool) -> char {
    if minus { '-' } else { '+' }
}

/// Writes a node at a level of indentation, its first line indented as well.
fn pretty(out: &mut String, node: &Node, level: usize) -> fmt::Result {
    match &node.kind {
        // A subquery leaves the indentation to what is within, and on one line it has none.
        Kind::Subquery(subquery) if !fits(node) => {
            pretty(out, &subquery.inner, level)?;
            return write!(out, "{}", Window(subquery));
        }
        Kind::Subquery(_) => return write!(out, "{}", OneLine(node)),
        Kind::Binary(binary) if !fits(node) => return pretty_binary(out, binary, level),
        _ => indent(out, level),
    }
    match &node.kind {
        Kind::Unary(unary) => {
            let mut inner = String::new();
            pretty(&mut inner, &unary.inner, level)?;
            write!(out, "{}{}", sign(unary.minus), inner.trim())
        }
        Kind::Aggregate(aggregate) if !fits(node) => {
            write!(out, "{}", Grouping(aggregate))?;
            pretty_parts(out, aggregate.param.iter().chain([&aggregate.inner]), level)
        }
        Kind::Call(call) if !fits(node) => {
            out.push_str(call.function.name);
            pretty_parts(out, call.args.iter(), level)
        }
        Kind::Paren(inner) if !fits(node) => pretty_parts(out, [&**inner].into_iter(), level),
        _ => write!(out, "{}", OneLine(node)),
    }
}

fn pretty_binary(out: &mut String, binary: &Binary, level: usize) -> fmt::Result {
    pretty(out, &binary.lhs, level + 1)?;
    out.push('\n');
    indent(out, level);
    writeln!(out, "{}", Operator(binary))?;
    pretty(out, &binary.rhs, level + 1)
}

/// Writes parts in parentheses, each on its own lines.
fn pretty_parts<'a>(out: &mut String, parts: impl Iterator<Item = &'a Node>, level: usize) -> fmt::Result {
    out.push_str("(\n");
    for (i, part) in parts.enumerate() {
        if i > 0 {
            out.push_str(",\n");
        }
        pretty(out, part, level + 1)?;
    }
    out.push('\n');
    indent(out, level);
    out.push(')');
    Ok(())
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// Whether a node has room on a line of its own.
fn fits(node: &Node) -> bool {
    write!(Room(MAX_LINE_BYTES), "{}", OneLine(node)).is_ok()
}

/// Counts what is written down to nothing left, and fails there.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

fn write_call(f: &mut Formatter<'_>, call: &Call) -> fmt::Result {
    write!(f, "{}(", call.function.name)?;
    for (i, arg) in call.args.iter().enumerate() {
        write!(f, "{}{}", if i > 0 { ", " } else { "" }, OneLine(arg))?;
    }
    f.write_str(")")
}

fn write_aggregate(f: &mut Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    write!(f, "{}(", Grouping(aggregate))?;
    if let Some(param) = &aggregate.param {
        write!(f, "{}, ", OneLine(param))?;
    }
    write!(f, "{})", OneLine(&aggregate.inner))
}

/// An aggregation without its arguments: `sum by (a, b) `.
struct Grouping<'a>(&'a Aggregate);

impl Display for Grouping<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        let clause = match (self.0.without, self.0.grouping.is_empty()) {
            (true, _) => "without",
            (false, false) => "by",
            (false, true) => return Ok(()),
        };
        write!(f, " {clause} ({}) ", Names(&self.0.grouping))
    }
}

/// Label names, quoted where they must be.
struct Names<'a>(&'a [String]);

impl Display for Names<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            if is_legacy_label_name(name) {
                f.write_str(name)?;
            } else {
                f.write_str(&quote(name))?;
            }
        }
        Ok(())
    }
}

/// A binary operator with everything that stands between its sides.
struct Operator<'a>(&'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        self.0.matching.as_ref().map_or(Ok(()), |m| write_matching(f, m))
    }
}

fn write_matching(f: &mut Formatter<'_>, matching: &Matching) -> fmt::Result {
    let group = match matching.card {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !matching.labels.is_empty() || matching.on || group.is_some() {
        let clause = if matching.on { "on" } else { "ignoring" };
        write!(f, " {clause} ({})", Names(&matching.labels))?;
    }
    if let Some(group) = group {
        write!(f, " {group} ({})", Names(&matching.include))?;
    }
    let fill = |f: &mut Formatter<'_>, name: &str, value: f64| {
        write!(f, " {name} ({})", format_float_general(value))
    };
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left == right => fill(f, "fill", left),
        (left, right) => {
            left.map_or(Ok(()), |v| fill(f, "fill_left", v))?;
            right.map_or(Ok(()), |v| fill(f, "fill_right", v))
        }
    }
}

/// The name and the matchers, sorted by how they read.
fn write_series(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    let said_by_name =
        |m: &&Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal && m.value == name && !name.is_empty();
    let mut matchers: Vec<String> =
        selector.matchers.iter().filter(|m| !said_by_name(m)).map(Matcher::to_string).collect();
    matchers.sort_unstable();
    f.write_str(name)?;
    if matchers.is_empty() { Ok(()) } else { write!(f, "{{{}}}", matchers.join(",")) }
}

fn write_vector(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    write_series(f, selector)?;
    write_at(f, &selector.time)?;
    write_extended(f, selector.extended)?;
    write_offset(f, &selector.time)
}

fn write_matrix(f: &mut Formatter<'_>, matrix: &MatrixSelector) -> fmt::Result {
    write_series(f, &matrix.selector)?;
    write!(f, "[{}]", Length(&matrix.range))?;
    write_extended(f, matrix.selector.extended)?;
    write_at(f, &matrix.selector.time)?;
    write_offset(f, &matrix.selector.time)
}

fn write_extended(f: &mut Formatter<'_>, extended: Option<Extended>) -> fmt::Result {
    extended.map_or(Ok(()), |e| write!(f, " {}", e.as_str()))
}

fn write_at(f: &mut Formatter<'_>, time: &TimeShift) -> fmt::Result {
    match time.at {
        Some(At::Time { t_ms }) => write!(f, " @ {:.3}", t_ms as f64 / 1000.0),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        None => Ok(()),
    }
}

fn write_offset(f: &mut Formatter<'_>, time: &TimeShift) -> fmt::Result {
    match &time.offset {
        Some(Duration { kind: DurationKind::Literal(number), .. }) if number.value == 0.0 => Ok(()),
        Some(offset) => write!(f, " offset {}", Length(offset)),
        None => Ok(()),
    }
}

/// The part of a subquery behind its expression: `[5m:1m] @ end() offset 1m`.
struct Window<'a>(&'a Subquery);

impl Display for Window<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", Length(&self.0.range))?;
        self.0.step.as_ref().map_or(Ok(()), |step| write!(f, "{}", Length(step)))?;
        f.write_str("]")?;
        write_at(f, &self.0.time)?;
        write_offset(f, &self.0.time)
    }
}

/// A duration where one is expected, so that a bare number reads as one too.
struct Length<'a>(&'a Duration);

impl Display for Length<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            DurationKind::Literal(number) => f.write_str(&duration_text(number.value)),
            _ => write_duration(f, self.0),
        }
    }
}

fn write_duration(f: &mut Formatter<'_>, duration: &Duration) -> fmt::Result {
    match &duration.kind {
        DurationKind::Literal(number) => write_number(f, number),
        DurationKind::Step => f.write_str("step()"),
        DurationKind::Range => f.write_str("range()"),
        DurationKind::Unary { minus, inner } => {
            f.write_str(if *minus { "-" } else { "" })?;
            write_duration(f, inner)
        }
        DurationKind::Binary { op: op @ (DurationOp::MinOf | DurationOp::MaxOf), lhs, rhs } => {
            write!(f, "{}(", op.as_str())?;
            write_duration(f, lhs)?;
            f.write_str(", ")?;
            write_duration(f, rhs)?;
            f.write_str(")")
        }
        DurationKind::Binary { op, lhs, rhs } => {
            write_duration(f, lhs)?;
            write!(f, " {} ", op.as_str())?;
            write_duration(f, rhs)
        }
        DurationKind::Paren(inner) => {
            f.write_str("(")?;
            write_duration(f, inner)?;
            f.write_str(")")
        }
    }
}

fn write_number(f: &mut Formatter<'_>, number: &NumberLiteral) -> fmt::Result {
    if number.is_duration {
        f.write_str(&duration_text(number.value))
    } else {
        f.write_str(&format_float_plain(number.value))
    }
}

fn duration_text(seconds: f64) -> String {
    format_duration_ms((seconds * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParseContext, parse};

    fn read(query: &str) -> Expr {
        parse(query, &ParseContext::default()).unwrap_or_else(|e| panic!("{query}: {e}"))
    }

    #[test]
    fn queries_print_on_one_line() {
        for (query, expected) in [
            ("1.5e3", "1500"),
            ("-0x10", "-16"),
            ("1e-9", "0.000000001"),
            ("inf", "+Inf"),
            ("90s", "1m30s"),
            ("'a\"b\\n'", r#""a\"b\n""#),
            ("foo{}", "foo"),
            ("foo{b='2',a=~\"1.*\",}", r#"foo{a=~"1.*",b="2"}"#),
            (r#"{"foo.bar","a b"!="c"}"#, r#"{"a b"!="c",__name__="foo.bar"}"#),
            ("{__name__=\"foo\"}", "{__name__=\"foo\"}"),
            ("foo[5m] offset 1h", "foo[5m] offset 1h"),
            ("foo[300]", "foo[5m]"),
            ("foo offset -1h", "foo offset -1h"),
            ("foo offset 0s", "foo"),
            ("foo offset 5m @ 1603774568", "foo @ 1603774568.000 offset 5m"),
            ("foo[1h] @ start()", "foo[1h] @ start()"),
            ("sum(foo)[1h:] @ end() offset 1m", "sum(foo)[1h:] @ end() offset 1m"),
            ("rate(foo[5m])[1h:30s]", "rate(foo[5m])[1h:30s]"),
            ("sum( rate(foo{a='b'}[5m] ) )by(x)", r#"sum by (x) (rate(foo{a="b"}[5m]))"#),
            ("sum without() (foo)", "sum without () (foo)"),
            ("sum by () (foo)", "sum(foo)"),
            ("topk by (\"a.b\", c) (5, foo)", r#"topk by ("a.b", c) (5, foo)"#),
            ("count_values('x', foo)", r#"count_values("x", foo)"#),
            ("a+b*-c", "a + b * -c"),
            ("(a and b)or(c)", "(a and b) or (c)"),
            ("a == bool on(x) group_left(y) b", "a == bool on (x) group_left (y) b"),
            ("a / ignoring(x) group_right b", "a / ignoring (x) group_right () b"),
            ("a - on() b", "a - on () b"),
            ("time()", "time()"),
            ("round(foo,0.1)", "round(foo, 0.1)"),
            ("+foo", "+foo"),
            ("a  # a comment\n + b", "a + b"),
        ] {
            let expr = read(query);
            assert_eq!(OneLine(expr.root()).to_string(), expected, "{query}");
            assert_eq!(format(&expr), expected, "{query}");
        }
    }

    #[test]
    fn what_is_printed_reads_as_the_same() {
        for query in [
            "foo[step() + 2m]",
            "foo offset -(1m)",
            "foo[min_of(5m, range())]",
            "foo[(5m)] anchored",
            "foo[5m] smoothed offset 1m",
            "foo[2 * (1m + 30)]",
            "a + fill(1) b",
            "a + fill_left(1) fill_right(2e9) b",
            "a </ 5 >/ 2",
            "-(-foo) ^ 2",
        ] {
            let expr = read(query);
            let printed = OneLine(expr.root()).to_string();
            assert_eq!(OneLine(read(&printed).root()).to_string(), printed, "{query}");
        }
    }

    #[test]
    fn long_queries_are_broken_over_lines() {
        let long = "a_metric_with_quite_a_long_name{with=\"labels\",and=\"values\"}";
        for (query, expected) in [
            (
                format!("sum by (job) (rate({long}[5m])) / on (job) group_left () sum by (job) (rate(x[5m]))"),
                format!(
                    "  sum by (job) (rate({}[5m]))\n/ on (job) group_left ()\n  sum by (job) (rate(x[5m]))",
                    long.replace("with=\"labels\",and=\"values\"", "and=\"values\",with=\"labels\"")
                ),
            ),
            (
                format!("topk(5, sum without (instance, pod, container) (rate(first{long}[5m])))", long = &long[8..]),
                "topk(\n  5,\n  sum without (instance, pod, container) (\n    rate(first_with_quite_a_long_name{and=\"values\",with=\"labels\"}[5m])\n  )\n)".to_owned(),
            ),
            (
                format!("(label_replace({long}, 'destination', '$1', 'source_label', '(.*)') + -(aaaaaaaaaaaaaaaaaaaaa))"),
                "(\n    label_replace(\n      a_metric_with_quite_a_long_name{and=\"values\",with=\"labels\"},\n      \"destination\",\n      \"$1\",\n      \"source_label\",\n      \"(.*)\"\n    )\n  +\n    -(aaaaaaaaaaaaaaaaaaaaa)\n)".to_owned(),
            ),
            (
                format!("max_over_time(sum by (aaaaaaaaaaaaaa) (rate({long}[5m]))[1h:30s])"),
                "max_over_time(\n  sum by (aaaaaaaaaaaaaa) (rate(a_metric_with_quite_a_long_name{and=\"values\",with=\"labels\"}[5m]))[1h:30s]\n)".to_owned(),
            ),
        ] {
            let printed = super::format(&read(&query));
            assert_eq!(printed, expected, "\n{printed}");
            assert_eq!(super::format(&read(&printed)), printed);
        }
    }
}
