//! A query's tree as JSON, as Prometheus' `parse_query` shows it.

use pilothouse_model::Matcher;
use pilothouse_model::sample::{format_float_plain, push_float};
use pilothouse_promql::ast::{
    Aggregate, At, Binary, Call, Duration, DurationKind, Extended, Kind, Matching, Node, Subquery, TimeShift,
    VectorSelector,
};

use crate::json::{Object, push_integer, push_list, push_object, push_string};

/// Appends an object that names its kind first.
fn push_typed(out: &mut String, kind: &str, members: impl FnOnce(&mut Object<'_>)) {
    push_object(out, |object| {
        object.text("type", kind);
        members(object);
    });
}

fn push_texts(out: &mut String, texts: &[String]) {
    push_list(out, texts, |out, text| push_string(out, text));
}

/// Recursion is as deep as the query's nesting, which the parser bounds.
pub(crate) fn push_node(out: &mut String, node: &Node) {
    match &node.kind {
        Kind::Number(number) => push_typed(out, "numberLiteral", |object| {
            object.text("val", &format_float_plain(number.value));
        }),
        Kind::String(text) => push_typed(out, "stringLiteral", |object| object.text("val", text)),
        Kind::Vector(selector) => {
            push_typed(out, "vectorSelector", |object| push_selector(object, selector));
        }
        Kind::Matrix(matrix) => push_typed(out, "matrixSelector", |object| {
            push_selector(object, &matrix.selector);
            push_duration(object, "range", "rangeExpr", Some(&matrix.range));
        }),
        Kind::Subquery(subquery) => push_subquery(out, subquery),
        Kind::Call(call) => push_call(out, call),
        Kind::Aggregate(aggregate) => push_aggregate(out, aggregate),
        Kind::Binary(binary) => push_binary(out, binary),
        Kind::Unary(unary) => push_typed(out, "unaryExpr", |object| {
            object.text("op", if unary.minus { "-" } else { "+" });
            object.member("expr", |out| push_node(out, &unary.inner));
        }),
        Kind::Paren(inner) => push_typed(out, "parenExpr", |object| {
            object.member("expr", |out| push_node(out, inner));
        }),
    }
}

fn push_selector(object: &mut Object<'_>, selector: &VectorSelector) {
    object.text("name", selector.name.as_deref().unwrap_or(""));
    object.list("matchers", &selector.matchers, push_matcher);
    push_time(object, &selector.time);
    object.flag("anchored", selector.extended == Some(Extended::Anchored));
    object.flag("smoothed", selector.extended == Some(Extended::Smoothed));
}

fn push_matcher(out: &mut String, matcher: &Matcher) {
    push_typed(out, &matcher.op.to_string(), |object| {
        object.text("name", &matcher.name);
        object.text("value", &matcher.value);
    });
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
        // What stands in parentheses is an expression, a bare number one with a plus.
        DurationKind::Literal(_) if wrapped => ("+", None, Some(duration)),
        DurationKind::Literal(literal) => {
            return push_typed(out, "numberLiteral", |object| {
                object.text("val", &format_float_plain(literal.value));
                object.flag("duration", literal.is_duration);
            });
        }
        DurationKind::Paren(inner) => return push_wrapped_duration(out, inner, true),
        DurationKind::Step => ("step", None, None),
        DurationKind::Range => ("range", None, None),
        DurationKind::Unary { minus, inner } => (if *minus { "-" } else { "+" }, None, Some(&**inner)),
        DurationKind::Binary { op, lhs, rhs } => (op.as_str(), Some(&**lhs), Some(&**rhs)),
    };
    push_typed(out, "durationExpr", |object| {
        object.text("op", op);
        object.optional("lhs", lhs, push_duration_expr);
        object.optional("rhs", rhs, push_duration_expr);
        object.flag("wrapped", wrapped);
    });
}

fn push_subquery(out: &mut String, subquery: &Subquery) {
    push_typed(out, "subquery", |object| {
        object.member("expr", |out| push_node(out, &subquery.inner));
        push_duration(object, "range", "rangeExpr", Some(&subquery.range));
        push_duration(object, "step", "stepExpr", subquery.step.as_ref());
        push_time(object, &subquery.time);
    });
}

fn push_call(out: &mut String, call: &Call) {
    let function = call.function;
    push_typed(out, "call", |object| {
        object.object("func", |object| {
            object.text("name", function.name);
            object.list("argTypes", function.args, |out, kind| push_string(out, kind.as_str()));
            object.integer("variadic", i64::from(function.variadic));
            object.text("returnType", function.returns.as_str());
        });
        object.list("args", &call.args, push_node);
    });
}

fn push_aggregate(out: &mut String, aggregate: &Aggregate) {
    push_typed(out, "aggregation", |object| {
        object.text("op", aggregate.op.as_str());
        object.member("expr", |out| push_node(out, &aggregate.inner));
        object.optional("param", aggregate.param.as_ref(), push_node);
        object.member("grouping", |out| push_texts(out, &aggregate.grouping));
        object.flag("without", aggregate.without);
    });
}

fn push_binary(out: &mut String, binary: &Binary) {
    push_typed(out, "binaryExpr", |object| {
        object.text("op", binary.op.as_str());
        object.member("lhs", |out| push_node(out, &binary.lhs));
        object.member("rhs", |out| push_node(out, &binary.rhs));
        object.optional("matching", binary.matching.as_ref(), push_matching);
        object.flag("bool", binary.return_bool);
    });
}

fn push_matching(out: &mut String, matching: &Matching) {
    push_object(out, |object| {
        object.text("card", matching.card.as_str());
        object.member("labels", |out| push_texts(out, &matching.labels));
        object.flag("on", matching.on);
        object.member("include", |out| push_texts(out, &matching.include));
        object.object("fillValues", |fills| {
            fills.optional("lhs", matching.fill_left.filter(|v| v.is_finite()), push_float);
            fills.optional("rhs", matching.fill_right.filter(|v| v.is_finite()), push_float);
        });
    });
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

    /// A duration that is a plain literal is a number beside the selector; anything else is a tree.
    #[test]
    fn durations_in_parentheses_are_expressions() {
        let expression = |op: &str, lhs: Value, rhs: Value, wrapped: bool| json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": wrapped});
        let number =
            |val: &str, duration: bool| json!({"type": "numberLiteral", "val": val, "duration": duration});
        let null = Value::Null;
        let five = expression("+", null.clone(), number("5", false), true);
        let minutes = expression("+", null.clone(), number("120", true), true);
        let step = || expression("step", null.clone(), null.clone(), false);
        for (query, offset, offset_expr) in [
            ("foo offset 5", 5_000, null.clone()),
            ("foo offset (5)", 0, five.clone()),
            ("foo offset +((5))", 0, five.clone()),
            ("foo offset -(5)", 0, expression("-", null.clone(), five.clone(), false)),
            ("foo offset (2m)", 0, minutes.clone()),
            ("foo offset +step()", 0, expression("+", null.clone(), step(), false)),
            ("foo offset (step() * (2m))", 0, expression("*", step(), minutes, true)),
        ] {
            let mut out = String::new();
            push_node(&mut out, parse(query, &ParseContext::default()).unwrap().root());
            let got: Value = serde_json::from_str(&out).unwrap();
            assert_eq!((&got["offset"], &got["offsetExpr"]), (&json!(offset), &offset_expr), "{query}");
        }
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
