//! A query's tree as JSON, as Prometheus' `parse_query` shows it.

use pilothouse_model::Matcher;
use pilothouse_model::sample::format_float_plain;
use pilothouse_promql::ast::{
    Aggregate, At, Binary, Call, Duration, DurationKind, Extended, Kind, Matching, Node, NumberLiteral,
    Subquery, TimeShift, VectorSelector,
};

use crate::json::{push_integer, push_list, push_string};

/// Writes an object member by member.
struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Object<'a> {
    fn of(out: &'a mut String, kind: &str) -> Self {
        out.push('{');
        let mut object = Self { out, first: true };
        object.text("type", kind);
        object
    }

    fn member(&mut self, name: &str, value: impl FnOnce(&mut String)) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        push_string(self.out, name);
        self.out.push(':');
        value(self.out);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.member(name, |out| push_string(out, text));
    }

    fn flag(&mut self, name: &str, flag: bool) {
        self.member(name, |out| out.push_str(if flag { "true" } else { "false" }));
    }

    fn integer(&mut self, name: &str, value: i64) {
        self.member(name, |out| push_integer(out, value));
    }

    fn texts(&mut self, name: &str, texts: &[String]) {
        self.member(name, |out| push_list(out, texts, |out, text| push_string(out, text)));
    }

    /// `null` where there is no value.
    fn optional<T>(&mut self, name: &str, value: Option<T>, write: impl FnOnce(&mut String, T)) {
        self.member(name, |out| match value {
            Some(value) => write(out, value),
            None => out.push_str("null"),
        });
    }

    fn end(self) {
        self.out.push('}');
    }
}

/// Recursion is as deep as the query's nesting, which the parser bounds.
pub(crate) fn push_node(out: &mut String, node: &Node) {
    match &node.kind {
        Kind::Number(number) => push_number(out, number),
        Kind::String(text) => {
            let mut object = Object::of(out, "stringLiteral");
            object.text("val", text);
            object.end();
        }
        Kind::Vector(selector) => {
            let mut object = Object::of(out, "vectorSelector");
            push_selector(&mut object, selector);
            object.end();
        }
        Kind::Matrix(matrix) => {
            let mut object = Object::of(out, "matrixSelector");
            push_selector(&mut object, &matrix.selector);
            push_duration(&mut object, "range", "rangeExpr", Some(&matrix.range));
            object.end();
        }
        Kind::Subquery(subquery) => push_subquery(out, subquery),
        Kind::Call(call) => push_call(out, call),
        Kind::Aggregate(aggregate) => push_aggregate(out, aggregate),
        Kind::Binary(binary) => push_binary(out, binary),
        Kind::Unary(unary) => {
            let mut object = Object::of(out, "unaryExpr");
            object.text("op", if unary.minus { "-" } else { "+" });
            object.member("expr", |out| push_node(out, &unary.inner));
            object.end();
        }
        Kind::Paren(inner) => {
            let mut object = Object::of(out, "parenExpr");
            object.member("expr", |out| push_node(out, inner));
            object.end();
        }
    }
}

fn push_number(out: &mut String, number: &NumberLiteral) {
    let mut object = Object::of(out, "numberLiteral");
    object.text("val", &format_float_plain(number.value));
    object.end();
}

fn push_selector(object: &mut Object<'_>, selector: &VectorSelector) {
    object.text("name", selector.name.as_deref().unwrap_or(""));
    object.member("matchers", |out| push_list(out, &selector.matchers, push_matcher));
    push_time(object, &selector.time);
    object.flag("anchored", selector.extended == Some(Extended::Anchored));
    object.flag("smoothed", selector.extended == Some(Extended::Smoothed));
}

fn push_matcher(out: &mut String, matcher: &Matcher) {
    let mut object = Object::of(out, &matcher.op.to_string());
    object.text("name", &matcher.name);
    object.text("value", &matcher.value);
    object.end();
}

fn push_time(object: &mut Object<'_>, time: &TimeShift) {
    push_duration(object, "offset", "offsetExpr", time.offset.as_ref());
    let t_ms = match time.at {
        Some(At::Time { t_ms }) => Some(t_ms),
        _ => None,
    };
    object.optional("timestamp", t_ms, push_integer);
    let edge = match time.at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        _ => None,
    };
    object.optional("startOrEnd", edge, push_string);
}

/// A literal in milliseconds under `name`; an expression under `name_of_expr`, and then 0.
fn push_duration(object: &mut Object<'_>, name: &str, name_of_expr: &str, duration: Option<&Duration>) {
    let literal = match duration.map(|d| &d.kind) {
        Some(DurationKind::Literal(literal)) => Some(literal),
        _ => None,
    };
    object.integer(name, literal.map_or(0, |l| (l.value * 1000.0).round() as i64));
    let expr = duration.filter(|_| literal.is_none());
    object.optional(name_of_expr, expr, push_duration_expr);
}

fn push_duration_expr(out: &mut String, duration: &Duration) {
    push_wrapped_duration(out, duration, false);
}

/// `wrapped` tells of parentheses around it.
fn push_wrapped_duration(out: &mut String, duration: &Duration, wrapped: bool) {
    let (op, lhs, rhs) = match &duration.kind {
        DurationKind::Literal(literal) => {
            let mut object = Object::of(out, "numberLiteral");
            object.text("val", &format_float_plain(literal.value));
            object.flag("duration", literal.is_duration);
            return object.end();
        }
        DurationKind::Paren(inner) => return push_wrapped_duration(out, inner, true),
        DurationKind::Step => ("step", None, None),
        DurationKind::Range => ("range", None, None),
        DurationKind::Unary { minus, inner } => (if *minus { "-" } else { "+" }, None, Some(inner)),
        DurationKind::Binary { op, lhs, rhs } => (op.as_str(), Some(lhs), Some(rhs)),
    };
    let mut object = Object::of(out, "durationExpr");
    object.text("op", op);
    object.optional("lhs", lhs.map(|d| &**d), push_duration_expr);
    object.optional("rhs", rhs.map(|d| &**d), push_duration_expr);
    object.flag("wrapped", wrapped);
    object.end();
}

fn push_subquery(out: &mut String, subquery: &Subquery) {
    let mut object = Object::of(out, "subquery");
    object.member("expr", |out| push_node(out, &subquery.inner));
    push_duration(&mut object, "range", "rangeExpr", Some(&subquery.range));
    push_duration(&mut object, "step", "stepExpr", subquery.step.as_ref());
    push_time(&mut object, &subquery.time);
    object.end();
}

fn push_call(out: &mut String, call: &Call) {
    let function = call.function;
    let mut object = Object::of(out, "call");
    object.member("func", |out| {
        out.push_str("{\"name\":");
        push_string(out, function.name);
        out.push_str(",\"argTypes\":");
        push_list(out, function.args, |out, kind| push_string(out, kind.as_str()));
        out.push_str(",\"variadic\":");
        push_integer(out, i64::from(function.variadic));
        out.push_str(",\"returnType\":");
        push_string(out, function.returns.as_str());
        out.push('}');
    });
    object.member("args", |out| push_list(out, &call.args, push_node));
    object.end();
}

fn push_aggregate(out: &mut String, aggregate: &Aggregate) {
    let mut object = Object::of(out, "aggregation");
    object.text("op", aggregate.op.as_str());
    object.member("expr", |out| push_node(out, &aggregate.inner));
    object.optional("param", aggregate.param.as_ref(), push_node);
    object.texts("grouping", &aggregate.grouping);
    object.flag("without", aggregate.without);
    object.end();
}

fn push_binary(out: &mut String, binary: &Binary) {
    let mut object = Object::of(out, "binaryExpr");
    object.text("op", binary.op.as_str());
    object.member("lhs", |out| push_node(out, &binary.lhs));
    object.member("rhs", |out| push_node(out, &binary.rhs));
    object.optional("matching", binary.matching.as_ref(), push_matching);
    object.flag("bool", binary.return_bool);
    object.end();
}

fn push_matching(out: &mut String, matching: &Matching) {
    let number = |out: &mut String, value: f64| pilothouse_model::sample::push_float(out, value);
    out.push('{');
    let mut object = Object { out, first: true };
    object.text("card", matching.card.as_str());
    object.texts("labels", &matching.labels);
    object.flag("on", matching.on);
    object.texts("include", &matching.include);
    object.member("fillValues", |out| {
        out.push('{');
        let mut fills = Object { out, first: true };
        fills.optional("lhs", matching.fill_left.filter(|v| v.is_finite()), number);
        fills.optional("rhs", matching.fill_right.filter(|v| v.is_finite()), number);
        fills.end();
    });
    object.end();
}

#[cfg(test)]
mod tests {
    use pilothouse_promql::{ParseContext, parse};
    use serde_json::{Value, json};

    use super::*;

    fn check(query: &str, expected: Value) {
        let expr = parse(query, &ParseContext::default()).unwrap();
        let mut out = String::new();
        push_node(&mut out, expr.root());
        let got: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(got, expected, "{query}");
    }

    #[test]
    fn trees_are_those_of_prometheus() {
        let selector = |kind: &str| {
            json!({"type": kind, "name": "foo", "matchers": [{"type": "=", "name": "__name__", "value": "foo"}],
                "offset": 0, "offsetExpr": null, "timestamp": null, "startOrEnd": null, "anchored": false,
                "smoothed": false})
        };
        check("1.5", json!({"type": "numberLiteral", "val": "1.5"}));
        check("\"x\"", json!({"type": "stringLiteral", "val": "x"}));
        check("foo", selector("vectorSelector"));
        let mut shifted = selector("vectorSelector");
        shifted["offset"] = json!(60_000);
        shifted["startOrEnd"] = json!("end");
        check("foo @ end() offset 1m", shifted);
        let mut matrix = selector("matrixSelector");
        matrix["range"] = json!(300_000);
        matrix["rangeExpr"] = json!(null);
        check(
            "sum by (x) (rate(foo[5m]))",
            json!({"type": "aggregation", "op": "sum", "param": null, "grouping": ["x"], "without": false,
                "expr": {"type": "call", "args": [matrix], "func":
                    {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"}}}),
        );
        check(
            "-foo > bool on (a) group_left (b) foo",
            json!({"type": "binaryExpr", "op": ">", "bool": true, "rhs": selector("vectorSelector"),
                "lhs": {"type": "unaryExpr", "op": "-", "expr": selector("vectorSelector")},
                "matching": {"card": "many-to-one", "labels": ["a"], "on": true, "include": ["b"],
                    "fillValues": {"lhs": null, "rhs": null}}}),
        );
    }
}
