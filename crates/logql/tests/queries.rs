//! Queries over a small list of entries, as text in and text out.

use pilothouse_logql::{
    Direction, LogPipeline, LogqlValue, MemoryEntries, RangeQuery, parse, parse_log, query_instant,
    query_range,
};
use pilothouse_model::sample::format_float;
use pilothouse_model::{Budget, Labels, SampleValue};

const SECOND: i64 = 1_000_000_000;

/// Entry `i` of a stream lies at `(i + 1) * 10` seconds.
fn source() -> MemoryEntries {
    let source = MemoryEntries::default();
    let add = |labels: &[(&str, &str)], lines: &[&str], metadata: &[(&str, &str)]| {
        let (labels, metadata) =
            (Labels::from_pairs(labels.iter().copied()), Labels::from_pairs(metadata.iter().copied()));
        for (i, line) in lines.iter().enumerate() {
            source.add(&labels, (i as i64 + 1) * 10 * SECOND, line, &metadata);
        }
    };
    add(
        &[("app", "json"), ("env", "prod")],
        &[
            r#"{"level":"info","took":"12ms","n":1,"req":{"path":"/a","env":"x"},"env":"y"}"#,
            r#"{"level":"error","took":"1.5s","n":2,"req":{"path":"/b"},"arr":[1,{"k":"v"}]}"#,
            r#"{"level":"info","took":"oops","n":3"#,
            "plain",
        ],
        &[("trace_id", "t1")],
    );
    add(
        &[("app", "fmt")],
        &[
            r#"level=info dur=10ms size=1KB msg="hello world" v=1"#,
            "level=warn dur=2s size=2KiB v=5",
            "level=info v=2",
        ],
        &[],
    );
    add(&[("app", "text")], &["GET /x 200", "POST /y 500", "from 10.0.0.7", ""], &[]);
    source
}

fn labels_text<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(n, v)| if n == "__error_details__" { format!("{n}=*") } else { format!("{n}={v}") })
        .collect();
    pairs.join(",")
}

fn shown(value: &LogqlValue) -> String {
    let number = |v: &SampleValue| match v {
        SampleValue::Float(f) => format_float(*f),
        SampleValue::Histogram(_) => "histogram".to_owned(),
    };
    let lines: Vec<String> = match value {
        LogqlValue::Scalar { value, .. } => vec![format_float(*value)],
        LogqlValue::Vector(samples) => samples
            .iter()
            .map(|s| format!("{{{}}} {}", labels_text(s.labels.iter()), number(&s.value)))
            .collect(),
        LogqlValue::Matrix(series) => series
            .iter()
            .map(|s| {
                let points: Vec<String> =
                    s.floats.iter().map(|(t, v)| format!("{}:{}", t / 1000, format_float(*v))).collect();
                format!("{{{}}} {}", labels_text(s.labels.iter()), points.join(" "))
            })
            .collect(),
        LogqlValue::Streams(streams) => streams
            .iter()
            .map(|s| {
                let entries: Vec<String> =
                    s.entries.iter().map(|e| format!("{}:{}", e.t_ns / SECOND, e.line)).collect();
                let labels = s.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                format!("{{{}}} {}", labels_text(labels), entries.join(" ; "))
            })
            .collect(),
    };
    lines.join("\n")
}

fn range(text: &str, limit: usize, direction: Direction) -> String {
    spaced(text, limit, direction, 0)
}

fn spaced(text: &str, limit: usize, direction: Direction, interval_ns: i64) -> String {
    let query = RangeQuery {
        start_ns: 10 * SECOND,
        end_ns: 50 * SECOND,
        step_ns: 20 * SECOND,
        limit,
        direction,
        interval_ns,
        categorize: false,
        max_series: 500,
    };
    let answer = parse(text).and_then(|e| query_range(&source(), &e, &query, &Budget::unlimited()));
    match answer {
        Ok(result) => shown(&result.value),
        Err(error) => format!("! {error}"),
    }
}

fn instant(text: &str) -> String {
    let answer =
        parse(text).and_then(|e| query_instant(&source(), &e, 50 * SECOND, 500, &Budget::unlimited()));
    match answer {
        Ok(result) => shown(&result.value),
        Err(error) => format!("! {error}"),
    }
}

fn check(cases: &[(&str, &str)], run: impl Fn(&str) -> String) {
    for (query, expected) in cases {
        assert_eq!(run(query), *expected, "{query}");
    }
}

#[test]
fn log_queries() {
    check(
        &[
            (r#"{app="text"} |= "00""#, "{app=text} 20:POST /y 500 ; 10:GET /x 200"),
            (r#"{app="text"} |= ip("10.0.0.0/8")"#, "{app=text} 30:from 10.0.0.7"),
            (r#"{app="text"} |> "<_> /<_> <_>""#, "{app=text} 20:POST /y 500 ; 10:GET /x 200"),
            (r#"{app="text"} != "GET" or "POST""#, "{app=text} 40: ; 30:from 10.0.0.7"),
            (
                r#"{app="text"} | pattern "<verb> <path> <code>" | code >= 500"#,
                "{app=text,code=500,path=/y,verb=POST} 20:POST /y 500",
            ),
            (
                r#"{app="text"} | regexp "(?P<code>\\d{3})$" | code = "200""#,
                "{app=text,code=200} 10:GET /x 200",
            ),
            (
                r#"{app="json"} | json | level="error""#,
                r#"{app=json,env=prod,level=error,n=2,req_path=/b,took=1.5s,trace_id=t1} 20:{"level":"error","took":"1.5s","n":2,"req":{"path":"/b"},"arr":[1,{"k":"v"}]}"#,
            ),
            (
                r#"{app="json"} | json p="req.path", k="arr[1].k" | k = "v" | line_format "{{.p}} {{.k | upper}}" | keep p"#,
                "{p=/b} 20:/b V",
            ),
            (
                r#"{app="json"} |= "oops" | json | drop trace_id, n"#,
                "{__error__=JSONParserErr,__error_details__=*,app=json,env=prod,level=info,took=oops} 30:{\"level\":\"info\",\"took\":\"oops\",\"n\":3",
            ),
            (
                r#"{app="json"} | json | __error__ = "" | took > 1s | keep took"#,
                r#"{took=1.5s} 20:{"level":"error","took":"1.5s","n":2,"req":{"path":"/b"},"arr":[1,{"k":"v"}]}"#,
            ),
            (
                r#"{app="json"} |= "/a" | json | line_format "{{.req_env}} {{.env_extracted}} {{.env}}" | keep app"#,
                "{app=json} 10:x y prod",
            ),
            (
                r#"{app="fmt"} | logfmt | size > 1500B or v = 2 | label_format x="{{.v}}!", y=level | keep x, y"#,
                "{x=2!,y=info} 30:level=info v=2\n{x=5!,y=warn} 20:level=warn dur=2s size=2KiB v=5",
            ),
            (
                r#"{app="fmt"} | logfmt m="msg", nosuch | m != "" | line_format "{{.m}}" | drop app"#,
                "{m=hello world,nosuch=} 10:hello world",
            ),
            (r#"{app="fmt"} | logfmt | line_format "{{.v}}" |= "5" | keep level"#, "{level=warn} 20:5"),
            // Filters lose lines while these are parsed, wherever they stand.
            (
                r#"{app="fmt"} | level!="info" | logfmt | keep level"#,
                "{level=warn} 20:level=warn dur=2s size=2KiB v=5",
            ),
            (r#"{app="fmt"} | logfmt | label_format level="x" | level="x" | keep level"#, ""),
            // As do expressions that are put together of texts.
            (r#"{app="fmt"} | logfmt v | v=~"" | level!~"" | keep v"#, ""),
            (
                r#"{app="fmt"} | logfmt msg, size | msg=~"wor.*" | size=~"1KB|" | keep size"#,
                r#"{size=1KB} 10:level=info dur=10ms size=1KB msg="hello world" v=1"#,
            ),
            (
                r#"{app="fmt"} | logfmt | dur = "x" or v > "a""#,
                "! parse error at line 1, col 41: syntax error: unexpected STRING",
            ),
        ],
        |q| range(q, 100, Direction::Backward),
    );
    assert_eq!(
        range(r#"{app=~"text|fmt"}"#, 2, Direction::Forward),
        "{app=fmt} 10:level=info dur=10ms size=1KB msg=\"hello world\" v=1\n{app=text} 10:GET /x 200"
    );
    assert_eq!(range(r#"{app="text"}"#, 1, Direction::Backward), "{app=text} 40:");
    // The limit counts before the interval does.
    for (limit, expected) in
        [(2, "{app=text} 10:GET /x 200"), (4, "{app=text} 10:GET /x 200 ; 30:from 10.0.0.7")]
    {
        assert_eq!(spaced(r#"{app="text"}"#, limit, Direction::Forward, 20 * SECOND), expected);
    }
}

#[test]
fn metric_queries_over_a_range() {
    check(
        &[
            (r#"count_over_time({app="text"}[20s])"#, "{app=text} 20:2 40:2"),
            (r#"count_over_time({app="text"}[10s])"#, "{app=text} 20:1 40:1"),
            (r#"sum(rate({app=~".+"}[20s]))"#, "{} 20:0.3 40:0.25"),
            (r#"bytes_over_time({app="text"}[20s])"#, "{app=text} 20:21 40:13"),
            (r#"sum by (x) (count_over_time({app="fmt"} | logfmt x="size" [20s]))"#, "{x=} 20:2 40:1"),
            (
                r#"sum by (v, level) (count_over_time({app="fmt"} | logfmt v, level [20s]))"#,
                "{level=info,v=} 20:1 40:1\n{level=warn,v=} 20:1",
            ),
            (r#"sum without (app) (count_over_time({app="fmt"} | logfmt x="nosuch" [20s]))"#, "{} 20:2 40:1"),
            (r#"max without (app) (count_over_time({app="fmt"} | logfmt x="nosuch" [20s]))"#, "{} 20:2 40:1"),
            (
                r#"count_over_time({app="fmt"} | logfmt size, x="nosuch" | keep size, x [20s])"#,
                "{size=,x=} 40:1\n{size=1KB,x=} 20:1\n{size=2KiB,x=} 20:1",
            ),
            (r#"bytes_over_time({app="text"} | env="" [20s])"#, "{app=text} 20:21 40:13"),
            (r#"sum(bytes_rate({app="text"} | label_format a=env [20s]))"#, "{} 20:1.05 40:0.65"),
            (r#"bytes_over_time({app="text"} | keep app | line_format "x" [20s])"#, "{app=text} 20:2 40:2"),
            (
                r#"sum by (level) (count_over_time({app="fmt"} | logfmt [20s]))"#,
                "{level=info} 20:1 40:1\n{level=warn} 20:1",
            ),
            (r#"max_over_time({app="fmt"} | logfmt | unwrap v [40s]) by (app)"#, "{app=fmt} 20:5 40:5 60:2"),
            (
                r#"sum by (app) (sum_over_time({app="fmt"} | logfmt | unwrap v [40s]))"#,
                "{app=fmt} 20:6 40:8 60:2",
            ),
            (
                r#"quantile_over_time(0.5, {app="fmt"} | logfmt | unwrap v [60s]) by (app)"#,
                "{app=fmt} 20:3 40:2 60:2",
            ),
            (r#"absent_over_time({app="nope", env!="x"}[1m])"#, "{app=nope} 0:1 20:1 40:1 60:1"),
            (r#"count_over_time({app="text"}[20s] offset 20s) > 1"#, "{app=text} 40:2 60:2"),
            ("vector(2) * 3", "{} 0:6 20:6 40:6 60:6"),
            ("1 + 1", "{} 0:2 20:2 40:2 60:2"),
            (
                r#"avg_over_time({app="json"} | json | unwrap duration(took) [60s]) by (app)"#,
                "! pipeline error: 'SampleExtractionErr' for series: '{__error__=\"SampleExtractionErr\", __error_details__=\"time: invalid duration \\\"oops\\\"\", app=\"json\", env=\"prod\", took=\"oops\", trace_id=\"t1\"}'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"SampleExtractionErr\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n",
            ),
            // Nothing of the line is wanted, so the parser does not run and cannot fail.
            (r#"sum(count_over_time({app="json"} | json [1m]))"#, "{} 20:2 40:4 60:4"),
            (r#"sum by (app) (count_over_time({app="json"} | json [1m]))"#, "!pipeline"),
            (r#"count_over_time({app="json"} | json | __error__!="" | keep app [1m])"#, "!pipeline"),
        ],
        |q| {
            let got = range(q, 100, Direction::Backward);
            if got.starts_with("! pipeline") && !q.contains("took") { "!pipeline".to_owned() } else { got }
        },
    );
}

#[test]
fn instant_queries() {
    check(
        &[
            ("1 / 0", "NaN"),
            ("2 ^ 3 ^ 2", "512"),
            ("1 > bool 2", "0"),
            ("1_000 + 0x1p4 + 1e1_0", "10000001016"),
            (r#"sum by (app) (count_over_time({app="fmt"} | logfmt | v >= 2 [1m]))"#, "{app=fmt} 2"),
            (r#"topk(1, count_over_time({app=~".+"}[1m]))"#, "{app=json,env=prod,trace_id=t1} 4"),
            (
                r#"sort_desc(sum by (app) (count_over_time({app=~".+"} !~ "^$" [1m])))"#,
                "{app=json} 4\n{app=fmt} 3\n{app=text} 3",
            ),
            (
                r#"sum by (app) (count_over_time({app=~".+"}[1m])) / on () group_left () sum(count_over_time({app="fmt"}[1m])) > 1"#,
                "{app=json} 1.3333333333333333\n{app=text} 1.3333333333333333",
            ),
            (
                r#"sum by (app) (count_over_time({app=~".+"}[1m])) and sum by (app) (count_over_time({app="fmt"}[1m]))"#,
                "{app=fmt} 3",
            ),
            (
                r#"label_replace(count_over_time({app="fmt"}[1m]), "kind", "$1-$2", "app", "(.)(.*)")"#,
                "{app=fmt,kind=f-mt} 3",
            ),
            (
                r#"{app="fmt"}"#,
                "! log queries are not supported as an instant query type, please change your query to a range query type",
            ),
            (
                r#"approx_topk(1, count_over_time({app="fmt"}[1m]))"#,
                "! approx_topk is not enabled. See -limits.shard_aggregations",
            ),
            (
                r#"rate_counter({app="fmt"} | logfmt | unwrap v [1m])"#,
                "{app=fmt,dur=10ms,level=info,msg=hello world,size=1KB} 0\n{app=fmt,dur=2s,level=warn,size=2KiB} 0\n{app=fmt,level=info} 0",
            ),
        ],
        instant,
    );
}

#[test]
fn refused_texts() {
    for (query, message) in [
        ("", "parse error : syntax error: unexpected $end"),
        ("{", "parse error at line 1, col 2: syntax error: unexpected $end, expecting IDENTIFIER or }"),
        (r#"{foo="bar""#, "parse error at line 1, col 11: syntax error: unexpected $end, expecting } or ,"),
        (
            r#"{foo="bar"} |~"#,
            "parse error at line 1, col 15: syntax error: unexpected $end, expecting STRING or ip",
        ),
        (r#"{foo="bar"} foo"#, "parse error at line 1, col 13: syntax error: unexpected IDENTIFIER"),
        (r#"{foo="bar}"#, "parse error at line 1, col 6: literal not terminated"),
        (r#"{foo="bar"} | logfmt 'x"#, "parse error at line 1, col 22: literal not terminated"),
        (r#"{foo="bar"} | logfmt 'xy'"#, "parse error at line 1, col 22: invalid char literal"),
        ("{foo=\"b\0ar\"}", "parse error at line 1, col 6: invalid character NUL"),
        (r#"unk({ foo = "bar" }[5m])"#, "parse error at line 1, col 1: syntax error: unexpected IDENTIFIER"),
        (r#"min({ foo = "bar" }[5m])"#, "parse error at line 0, col 20: syntax error: unexpected RANGE"),
        (
            r#"rate({ foo = "bar" }[5minutes])"#,
            r#"parse error at line 0, col 21: unknown unit "minutes" in duration "5minutes""#,
        ),
        (r#"rate({ foo = "bar" }[5)"#, "parse error at line 0, col 21: missing closing ']' in duration"),
        (
            "vector(abc)",
            "parse error at line 1, col 8: syntax error: unexpected IDENTIFIER, expecting NUMBER",
        ),
        ("bool 1 > 1", "parse error at line 1, col 1: syntax error: unexpected bool"),
        (
            r#"{a=~".*"}"#,
            "parse error : queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
        ),
        (r#"topk(0, rate({a="b"}[1m]))"#, "parse error : invalid parameter (must be greater than 0) topk(0"),
        // In a filter the number itself is refused before what kept the scanner from reading it.
        (
            r#"{a="b"} | e == 0x 5m != 3 | g"#,
            "parse error : unable to parse literal as a float: strconv.ParseFloat: parsing \"0x\": invalid syntax",
        ),
        (
            "1e500",
            "parse error : unable to parse literal as a float: strconv.ParseFloat: parsing \"1e500\": value out of range",
        ),
        (
            r#"label_replace(vector(1), "a", "", "", "(")"#,
            "parse error : invalid regex in label_replace: error parsing regexp: missing closing ): `^(?:()$`",
        ),
        (
            r#"{a="b"} | regexp "(?P<x>a)(?P<x>b)""#,
            "parse error : invalid regexp parser: duplicate extracted label name 'x'",
        ),
        (r#"sum(2, rate({a="b"}[1m]))"#, "parse error : unsupported parameter for operation sum(2,"),
        (
            r#"sum_over_time({a="b"} | unwrap x [1m]) by (c)"#,
            "parse error : grouping not allowed for sum_over_time aggregation",
        ),
        (
            r#"{a="b"} + 1"#,
            "parse error : unexpected type for left leg of binary operation (+): *syntax.MatchersExpr",
        ),
        (
            r#"rate({a="b"}[1m]) or 1"#,
            "parse error : unexpected literal for right leg of logical/set binary operation (or): 1.000000",
        ),
        (
            r#"{a="b"} | regexp "x""#,
            "parse error : invalid regexp parser: at least one named capture must be supplied",
        ),
        (
            r#"{a="b"} | pattern "<_>""#,
            "parse error : invalid pattern parser: at least one capture is required",
        ),
    ] {
        let error = parse(query).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some(message), "{query}");
    }
}

#[test]
fn syntax_errors_name_what_is_expected() {
    for (query, message) in [
        ("{a!}", "1, col 3: syntax error: unexpected IDENTIFIER, expecting = or =~ or !~ or !="),
        ("rate(5{", "1, col 7: syntax error: unexpected {, expecting ,"),
        ("rate((5", "1, col 7: syntax error: unexpected NUMBER, expecting { or ("),
        ("rate({a=\"b\"}[5m] x", "1, col 18: syntax error: unexpected IDENTIFIER, expecting )"),
        ("rate({a=\"b\"} x", "1, col 14: syntax error: unexpected IDENTIFIER"),
        (
            "rate({a=\"b\"} | unwrap 5",
            "1, col 23: syntax error: unexpected NUMBER, expecting IDENTIFIER or BYTES_CONV or DURATION_CONV or \
             DURATION_SECONDS_CONV",
        ),
        ("rate({a=\"b\"} | unwrap c)", "1, col 24: syntax error: unexpected ), expecting RANGE or |"),
        (
            "rate(({a=\"b\"} | unwrap c 5",
            "1, col 26: syntax error: unexpected NUMBER, expecting RANGE or ) or |",
        ),
        ("rate(({a=\"b\"}))", "1, col 15: syntax error: unexpected ), expecting RANGE"),
        ("rate((({a=\"b\"}))[5m])", "1, col 16: syntax error: unexpected ), expecting RANGE"),
        ("rate(({a=\"b\"})[5m] | json)", "1, col 22: syntax error: unexpected json, expecting unwrap"),
        ("(vector(1)", "1, col 11: syntax error: unexpected $end"),
        ("sum(vector(1) by", "1, col 15: syntax error: unexpected by"),
        ("label_replace(vector(1) 5", "1, col 25: syntax error: unexpected NUMBER"),
        ("label_replace(vector(1), \"a\" 5", "1, col 30: syntax error: unexpected NUMBER, expecting ,"),
        ("{a=\"b\"} | (c=\"d\" 5", "1, col 18: syntax error: unexpected NUMBER"),
        ("{a=\"b\"} | c=\"d\" or 5", "1, col 20: syntax error: unexpected NUMBER, expecting IDENTIFIER or ("),
        // What is wrong first is told, be it a token or its place.
        ("{a=\"b\"} c \"d", "1, col 9: syntax error: unexpected IDENTIFIER"),
        ("{a=\"b\"} |= \"d", "1, col 12: literal not terminated"),
        ("{a 0x", "1, col 4: hexadecimal literal has no digits"),
        ("0x 5m", "1, col 1: hexadecimal literal has no digits"),
        ("sum(0x)", "1, col 5: hexadecimal literal has no digits"),
        ("1 + 1e 5", "1, col 5: exponent has no digits"),
        ("vector(1) 1e", "1, col 11: exponent has no digits"),
        ("{a=\"b\"} 0xip", "1, col 9: hexadecimal literal has no digits"),
        ("1+0x2*label_replace(", "1, col 21: syntax error: unexpected $end"),
    ] {
        let error = parse(query).err().map(|e| e.to_string());
        assert_eq!(error, Some(format!("parse error at line {message}")), "{query}");
    }
}

#[test]
fn nesting_has_an_end() {
    for deep in [
        format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!(r#"{{a="b"}} | {}x=1{}"#, "(".repeat(5_000), ")".repeat(5_000)),
        format!(r#"rate({}{{a="b"}}[1m]{})"#, "(".repeat(5_000), ")".repeat(5_000)),
        "2^".repeat(20_000) + "2",
        r#"{a="b"} | x=1"#.to_owned() + &" , x=1".repeat(20_000),
    ] {
        assert!(parse(&deep).is_err());
    }
    // Left-associative chains are as long as they like.
    assert!(parse(&("1+".repeat(20_000) + "1")).is_ok());
}

#[test]
fn printing_goes_back() {
    for query in [
        r#"{app="x", env!="y"} |= "a" or "b" != "c" |~ "d" !~ "e" |> "<_>f" !> "g""#,
        r#"{app="x"} | json a="b.c",d="d" | a>5 | b="c" | logfmt --strict --keep-empty e="e""#,
        r#"sum by (a,b)(rate({app="x"} | logfmt | unwrap duration(d) | __error__=""[1m30s] offset 1h0m0s))"#,
        r#"quantile_over_time(0.99,{app="x"} | unwrap v[5m]) by (a)"#,
        r#"(count_over_time({a="b"}[1m]) > bool 3)"#,
        r#"topk(5,sum without (x)(bytes_rate({a="b"}[1m])))"#,
        r#"label_replace(vector(1.000000),"x","$1","y","(.*)")"#,
        r#"{app="x"} | line_format "{{.a}}" | label_format b=c,d="{{.e}}" | decolorize | drop a,b="c" | keep d | a=ip("::1")"#,
    ] {
        let expr = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert_eq!(expr.to_string(), query);
    }
    let long = r#"sum by (level) (rate({app="a-rather-long-name"} |= "some text to look for" | json | level="error" [5m])) / 2"#;
    let expr = parse(long).unwrap_or_else(|e| panic!("{e}"));
    let pretty = pilothouse_logql::pretty(&expr);
    assert_eq!(
        pretty,
        "  sum by (level)(\n    rate(\n      {app=\"a-rather-long-name\"} |= \"some text to look for\" | json | level=\"error\" [5m]\n    )\n  )\n/\n  2"
            .replace("    rate(\n      {app=\"a-rather-long-name\"} |= \"some text to look for\" | json | level=\"error\" [5m]\n    )", "    rate({app=\"a-rather-long-name\"} |= \"some text to look for\" | json | level=\"error\"[5m])")
    );
    assert_eq!(parse(&pretty).map(|e| e.to_string()).ok(), Some(expr.to_string()));
}

#[test]
fn a_pipeline_runs_entry_by_entry() {
    let log = parse_log(r#"{app="x"} |= "keep" | logfmt | level="error" | line_format "{{.msg}}""#)
        .unwrap_or_else(|e| panic!("{e}"));
    let mut pipeline = LogPipeline::new(&log).unwrap_or_else(|e| panic!("{e}"));
    let labels = Labels::from_pairs([("app", "x")]);
    let metadata = Labels::from_pairs([("trace", "t")]);
    let passed = pipeline.process(&labels, 1, "level=error msg=keep", &metadata);
    assert_eq!(passed.map(|p| (p.line, p.metadata.len(), p.parsed.len())), Some(("keep".to_owned(), 1, 2)));
    for (labels, line) in [
        (&labels, "level=info msg=keep"),
        (&labels, "level=error"),
        (&Labels::empty(), "level=error msg=keep"),
    ] {
        assert_eq!(pipeline.process(labels, 1, line, &metadata), None);
    }
}
