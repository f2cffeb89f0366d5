//! What is said of queries that cannot be read, as Prometheus says it.

// A failure in here is the test's own, and says where.
#![allow(clippy::expect_used)]

use pilothouse_promql::{ParseContext, parse, parse_selector};

fn error(query: &str) -> String {
    parse(query, &ParseContext::default()).err().map_or_else(|| "no error".to_owned(), |e| e.to_string())
}

#[test]
fn errors_have_the_texts_and_places_of_prometheus() {
    for (query, at, message) in [
        ("", "1:1", "no expression found in input"),
        ("# only a comment", "1:1", "no expression found in input"),
        ("1 /", "1:4", "unexpected end of input"),
        ("*1", "1:1", "unexpected <op:*>"),
        ("sum(", "1:5", "unclosed left parenthesis"),
        ("((1)", "1:5", "unclosed left parenthesis"),
        ("(1))", "1:4", "unexpected right parenthesis ')'"),
        ("foo bar", "1:5", r#"unexpected identifier "bar""#),
        ("foo\n  bar", "2:3", r#"unexpected identifier "bar""#),
        ("1 == 1", "1:3", "comparisons between scalars must use BOOL modifier"),
        ("1 and 1", "1:1", r#"set operator "and" not allowed in binary scalar expression"#),
        ("foo + bool bar", "1:5", "bool modifier can only be used on comparison operators"),
        ("foo and on(x) group_left(y) bar", "1:1", r#"no grouping allowed for "and" operation"#),
        (
            "foo + on(x) group_left(x) bar",
            "1:5",
            r#"label "x" must not occur in ON and GROUP clause at once"#,
        ),
        ("foo + on(x) 1", "1:1", "vector matching only allowed between instant vectors"),
        ("foo and fill(0) bar", "1:1", "filling in missing series not allowed for set operators"),
        (
            "-foo[5m]",
            "1:1",
            r#"unary expression only allowed on expressions of type scalar or instant vector, got "range vector""#,
        ),
        ("{}", "1:1", "vector selector must contain at least one non-empty matcher"),
        (r#"foo{__name__="bar"}"#, "1:1", r#"metric name must not be set twice: "foo" or "bar""#),
        ("foo{a=b}", "1:7", r#"unexpected identifier "b" in label matching, expected string"#),
        ("foo{a}", "1:6", r#"unexpected "}" in label matching, expected label matching operator"#),
        ("foo{", "1:5", "unexpected end of input inside braces"),
        ("foo[0s]", "1:5", "duration must be greater than 0"),
        ("foo[5m / 0]", "1:8", "division by zero"),
        ("foo offset 1m[5m]", "1:14", "no offset modifiers allowed before range"),
        ("(foo)[5m]", "1:6", "ranges only allowed for vector selectors"),
        ("foo offset 1m offset 2m", "1:1", "offset may not be set multiple times"),
        ("foo @ 1 @ 2", "1:1", "@ <timestamp> may not be set multiple times"),
        ("foo @ inf", "1:1", "timestamp out of bounds for @ modifier: +Inf"),
        (
            "1 offset 1m",
            "1:1",
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("foo anchored smoothed", "1:1", "anchored and smoothed modifiers cannot be used together"),
        ("rate(foo)", "1:6", r#"expected type range vector in call to function "rate", got instant vector"#),
        ("floor()", "1:1", r#"expected 1 argument(s) in call to "floor", got 0"#),
        ("1 + nothing_such(1)", "1:5", r#"unknown function with name "nothing_such""#),
        ("floor(foo,)", "1:10", "trailing commas not allowed in function call args"),
        ("sum()", "1:1", "no arguments for aggregate expression provided"),
        (
            "sum(1, foo)",
            "1:1",
            "wrong number of arguments for aggregate expression provided, expected 1, got 2",
        ),
        ("sum(1)", "1:5", "expected type instant vector in aggregation expression, got scalar"),
        (r#"topk("a", foo)"#, "1:6", "expected type scalar in aggregation parameter, got string"),
        ("sum by 1 (foo)", "1:8", r#"unexpected number "1" in grouping opts, expected "(""#),
        ("rate(foo[5m])[5m]", "1:14", "ranges only allowed for vector selectors"),
        ("foo[5m][5m:]", "1:1", "subquery is only allowed on instant vector, got matrix instead"),
        (r#"info(foo, bar)"#, "1:11", "expected label selectors only, got vector selector instead"),
        (
            "foo offset bar",
            "1:12",
            r#"unexpected identifier "bar" in offset, expected number, duration, step(), or range()"#,
        ),
        ("foo @ bar", "1:7", r#"unexpected identifier "bar" in @, expected timestamp"#),
    ] {
        assert_eq!(error(query), format!("{at}: parse error: {message}"), "{query}");
    }
}

#[test]
fn length_and_nesting_are_bounded() {
    let context = ParseContext { max_length_bytes: 1_000, max_depth: 20 };
    for deep in ["(".repeat(30) + "1" + &")".repeat(30), "-".repeat(30) + "1", "1+".repeat(30) + "1"] {
        let error = parse(&deep, &context).expect_err("a query too deep");
        assert!(error.message.contains("nests deeper than 20 levels"), "{error}");
    }
    assert!(parse(&" ".repeat(2_000), &context).is_err());
    assert!(parse(&("1+".repeat(10) + "1"), &context).is_ok());
}

#[test]
fn selectors_are_read_alone() {
    let context = ParseContext::default();
    for (text, want) in [
        (r#"up{job="a"}"#, vec![r#"job="a""#, r#"__name__="up""#]),
        (r#"{"a.b", c=~"d"}"#, vec![r#"__name__="a.b""#, r#"c=~"d""#]),
    ] {
        let matchers = parse_selector(text, &context).expect(text);
        assert_eq!(matchers.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }
    for bad in ["up offset 5m", "sum(up)", "{}", r#"{a=""}"#, "up up", "1"] {
        assert!(parse_selector(bad, &context).is_err(), "{bad}");
    }
}
