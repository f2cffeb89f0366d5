//! The text formats: tables of texts and what they mean, and what is written read back.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

mod words;

use pilothouse_model::Labels;
use pilothouse_model::limits::Limits;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::write::MetricType;
use pilothouse_wire::Decoded;
use pilothouse_wire::exposition::TextFormat::{OpenMetrics, Prometheus};
use pilothouse_wire::exposition::{
    Exposition, TextFormat, TextWriter, federate, import, parse, parse_prefix,
};
use proptest::prelude::*;
use words::check;

const NOW: i64 = 1000;

fn read(format: TextFormat, text: &str) -> Decoded {
    parse(format, text.as_bytes(), NOW, &Limits::default()).unwrap()
}

#[test]
fn the_prometheus_format() {
    let text = r#"# HELP http_requests_total The total number of "HTTP" requests.\nWith a \\ line.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{ method = "post" , code="400" , }    3 	1395066363000

# A remark, and one without a space:
#nothing
# HELP
# TYPE msdos_file_access_time_seconds untyped
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find:\n\"FILE.TXT\" \t"} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf 3982045
{"a name",b="c","a \"quoted\" label"="x"} NaN
{"alone"} -0.5e-3
:colons: 16
spaces_before_and_after   1   2   
"#;
    check(
        &read(Prometheus, text),
        &[
            r#"# http_requests_total counter "The total number of \"HTTP\" requests.\nWith a \\ line." """#,
            r#"# msdos_file_access_time_seconds unknown "" """#,
            r#"http_requests_total{code="200", method="post"} 1027 @1395066363000"#,
            r#"http_requests_total{code="400", method="post"} 3 @1395066363000"#,
            r#"msdos_file_access_time_seconds{error="Cannot find:\n\"FILE.TXT\" \\t", path="C:\\DIR\\FILE.TXT"} 1458255915 @1000"#,
            "metric_without_timestamp_and_labels 12.47 @1000",
            r#"something_weird{problem="division by zero"} +Inf @3982045"#,
            r#"{__name__="a name", "a \"quoted\" label"="x", b="c"} NaN @1000"#,
            "alone -0.0005 @1000",
            ":colons: 16 @1000",
            "spaces_before_and_after 1 @2",
        ],
    );
}

#[test]
fn the_openmetrics_format() {
    let text = r#"# TYPE foo_seconds counter
# UNIT foo_seconds seconds
# HELP foo_seconds Help with \"quotes\".
foo_seconds_total{a="b"} 17.0 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879600.5
foo_seconds_created{a="b"} 1520872607.123
# TYPE bar histogram
bar_bucket{le="1"} 0 # {} 0.5
bar_bucket{le="2.5e3"} 5
bar_bucket{le="+Inf"} 6 1e3
# TYPE sum summary
sum{quantile="0.50"} 3
# TYPE state stateset
state{state="on"} 1
# TYPE build info
build_info{version="1"} 1
# EOF
"#;
    check(
        &read(OpenMetrics, text),
        &[
            r#"# foo_seconds counter "Help with \"quotes\"." "seconds""#,
            r#"# bar histogram "" """#,
            r#"# sum summary "" """#,
            r#"# state stateset "" """#,
            r#"# build info "" """#,
            r#"foo_seconds_total{a="b"} 17 @1520879607789"#,
            r#"  exemplar [("trace_id", "KOO5S4vxi0o")] 0.67 @1520879600500"#,
            r#"foo_seconds_created{a="b"} 1520872607.123 @1000"#,
            r#"bar_bucket{le="1.0"} 0 @1000"#,
            "  exemplar [] 0.5 @1000",
            r#"bar_bucket{le="2500.0"} 5 @1000"#,
            r#"bar_bucket{le="+Inf"} 6 @1000000"#,
            r#"sum{quantile="0.5"} 3 @1000"#,
            r#"state{state="on"} 1 @1000"#,
            r#"build_info{version="1"} 1 @1000"#,
        ],
    );
}

#[test]
fn bad_lines_are_named() {
    for (format, line, why) in [
        (Prometheus, "a", "expected value after metric, got the end of the line"),
        (Prometheus, "a{b=\"c\"", "expected comma or brace close, got the end of the line"),
        (Prometheus, "a{b='c'} 1", "expected label value, got \"'c'} 1\""),
        (Prometheus, "a{b=\"c} 1", "expected label value, got \"\\\"c} 1\""),
        (Prometheus, "a{9=\"c\"} 1", "expected label name, got \"9=\\\"c\\\"} 1\""),
        (Prometheus, "a{b} 1", "expected equal, got \"} 1\""),
        (Prometheus, "a{\"b\"} 1", "metric name already set"),
        (Prometheus, "{b=\"c\"} 1", "metric name not set"),
        (Prometheus, "9a 1", "expected a metric name, got \"9a 1\""),
        (Prometheus, "a one", "invalid number \"one\""),
        (Prometheus, "a 0x1p-2", "invalid number \"0x1p-2\""),
        (Prometheus, "a 1_000", "invalid number \"1_000\""),
        (Prometheus, "a 1 1.5", "invalid timestamp \"1.5\""),
        (Prometheus, "a 1 2 3", "expected end of line, got \"3\""),
        (Prometheus, "a 1 # {b=\"c\"} 1", "expected end of line, got \"# {b=\\\"c\\\"} 1\""),
        (Prometheus, "# TYPE a thing", "invalid metric type \"thing\""),
        (Prometheus, "a 1e400", "invalid number \"1e400\""),
        (Prometheus, "# TYPE ", "expected metric name after TYPE"),
        (OpenMetrics, "# TYPE", "expected metric name after TYPE"),
        (OpenMetrics, "# TYPE a untyped", "invalid metric type \"untyped\""),
        (OpenMetrics, "# UNIT a_b c", "unit \"c\" not a suffix of metric \"a_b\""),
        (OpenMetrics, "a 1 NaN", "invalid timestamp \"NaN\""),
        (OpenMetrics, "a 1 1e300", "invalid timestamp \"1e300\""),
        (OpenMetrics, "a 1 # {\"b\"} 1", "expected equal, got \"} 1\""),
        (OpenMetrics, "a 1 # x", "expected end of line, got \" # x\""),
    ] {
        let text = format!("good 1\n{line}\ngood 2 7\n# EOF");
        let limits = Limits::default();
        let error = parse(format, text.as_bytes(), NOW, &limits).unwrap_err();
        assert_eq!(error.to_string(), format!("line 2: {why}"), "{line}");
        let imported = import(format, text.as_bytes(), NOW, &limits).unwrap();
        let last = if format == OpenMetrics { 7000 } else { 7 };
        check(&imported, &["good 1 @1000", &format!("good 2 @{last}"), &format!("! line 2: {why}")]);
    }
    let bytes = b"good 1\nbad{a=\"\xff\"} 1\n# HELP good \xfe\n";
    let imported = import(Prometheus, bytes, NOW, &Limits::default()).unwrap();
    assert_eq!((imported.batch.floats.len(), imported.rejected), (1, 2));
}

/// What Prometheus takes of each format, and what it refuses.
#[test]
fn the_formats_are_as_strict_as_prometheus() {
    const WHOLE: &str = "\n# EOF\n";
    // Both formats, then those that differ: the text, whether the older one takes it, whether
    // OpenMetrics does (with its end behind it).
    for (text, old, new) in [
        // Names and labels.
        ("m 1", true, true),
        ("_m 1", true, true),
        ("m:rate5m{_l=\"x\"} 1", true, true),
        ("9m 1", false, false),
        ("é 1", false, false),
        ("m\0 1", false, false),
        ("m{} 1", true, true),
        ("m{a=\"b\",} 1", true, true),
        ("m{a=\"b\"c=\"d\"} 1", true, false),
        ("m{ a = \"b\" , } 1", true, false),
        ("m {a=\"b\"} 1", true, false),
        ("m{a=\"b\"}1", true, false),
        ("m{,a=\"b\"} 1", false, false),
        ("m{a=\"b\",,c=\"d\"} 1", false, false),
        ("m{a} 1", false, false),
        ("m{=\"b\"} 1", false, false),
        ("m{9a=\"b\"} 1", false, false),
        ("m{a=b} 1", false, false),
        ("m{a='b'} 1", false, false),
        ("m{a=\"b} 1", false, false),
        ("m{a=\"b\" 1", false, false),
        ("m{a\0=\"b\"} 1", false, false),
        ("m{a=\0\"b\"} 1", false, false),
        ("m{a=\"\0\"} 1", true, true),
        ("m{a=\"\\\"\\n\\\\\"} 1", true, true),
        // Quoted names.
        ("{\"m.x\"} 1", true, true),
        ("{\"m.x\",a=\"b\",\"c.d\"=\"e\"} 1", true, true),
        ("{a=\"b\",\"m.x\"} 1", true, true),
        ("{ \"m.x\" , a = \"b\" } 1", true, false),
        ("{\"m.x\" a=\"b\"} 1", false, false),
        ("{\"m.x\",\"n.y\"} 1", false, false),
        ("m{\"n.y\"} 1", false, false),
        ("{a=\"b\"} 1", false, false),
        ("{\"m\",\"a = \"b\"} 1", false, false),
        ("{m} 1", false, false),
        // Values.
        ("m", false, false),
        ("m +Inf", true, true),
        ("m nan", true, true),
        ("m -.5e+3", true, true),
        ("m true", false, false),
        ("m 1_0", false, false),
        ("m 0x1p-3", false, false),
        ("m 0X1P-3", false, false),
        ("m  1", true, false),
        ("m\t1", true, false),
        (" m 1", true, false),
        ("m 1 ", true, false),
        // Times.
        ("m 1 2", true, true),
        ("m 1 2.5", false, true),
        ("m 1 2 ", true, false),
        ("m 1\t2", true, false),
        ("m 1 2 3", false, false),
        ("m 1 2_0", false, false),
        ("m 1 2z", false, false),
        ("m 1 -2", false, true),
        ("m 1 +2", false, true),
        ("m 1 2\r", false, false),
        ("m 1\r", false, false),
        ("m\r1", false, false),
        ("# TYPE m counter\r", false, false),
        ("# a remark\r", true, false),
        ("m 1 2\0", false, false),
        ("m 1 Inf", false, false),
        ("m 1 -Inf", false, false),
        ("m 1 2 #", false, false),
        // Exemplars.
        ("m 1 # {a=\"b\"} 1", false, true),
        ("m 1 2 # {a=\"b\",\"c.d\"=\"e\"} 1 2.5", false, true),
        ("m 1 # {} 1", false, true),
        ("m 1 # {a=\"b\"}", false, false),
        ("m 1 # {a=b} 1", false, false),
        ("m 1 # {a} 1", false, false),
        ("m 1 # {a, b=\"c\"} 1", false, false),
        ("m 1 # {\"a\"} 1", false, false),
        ("m 1 # {a=\"b\",,c=\"d\"} 1", false, false),
        ("m 1 # {a=\"b\"} x", false, false),
        ("m 1 # {a=\"b\"} 1_0", false, false),
        ("m 1 # {a=\"b\"} 1 NaN", false, false),
        ("m 1 # {a=\"b\"} 1 2 3", false, false),
        ("m 1 #{a=\"b\"} 1", false, false),
        ("m 1 # { a=\"b\"} 1", false, false),
        // Remarks, empty lines and metadata.
        ("m 1\n\nm 2", true, false),
        ("\nm 1", true, false),
        ("#", true, false),
        ("# ", true, false),
        ("# H", true, false),
        ("# a remark", true, false),
        ("#TYPE m thing", true, false),
        ("# TYPEm thing", true, false),
        ("# TYPE", true, false),
        ("# TYPE #", false, false),
        ("# HELP #", false, false),
        ("# TYPE m", false, false),
        ("# TYPE m counter", true, true),
        ("# TYPE m counter ", false, false),
        ("# TYPE m  counter", false, false),
        ("#  TYPE m counter", true, false),
        ("#\tTYPE m counter", true, false),
        ("# TYPE \"m.x\" summary", true, true),
        ("# TYPE m untyped", true, false),
        ("# TYPE m unknown", false, true),
        ("# TYPE m info", false, true),
        ("# TYPE m stateset", false, true),
        ("# TYPE m gaugehistogram", false, true),
        ("# HELP m", true, false),
        ("# HELP m ", true, true),
        ("# HELP m a\0b", true, true),
        ("# UNIT m_s s", true, true),
        ("# UNIT m s", true, false),
        ("# UNIT ms s", true, false),
        ("# UNIT m", true, false),
        ("# UNIT m ", true, true),
    ] {
        let limits = Limits::default();
        let is_read = |format, text: &str| parse(format, text.as_bytes(), NOW, &limits).is_ok();
        assert_eq!(is_read(Prometheus, text), old, "{text:?}");
        assert_eq!(is_read(OpenMetrics, &format!("{text}{WHOLE}")), new, "{text:?}");
    }
}

#[test]
fn where_openmetrics_ends() {
    for (text, is_read) in [
        ("# EOF", true),
        ("# EOF\n", true),
        ("m 1\n# EOF", true),
        ("", false),
        ("\n", false),
        ("m 1", false),
        (" # EOF\n", false),
        ("#EOF\n", false),
        ("# EOF\n\n", false),
        ("# EOF\nm 1", false),
        ("# EOFm 1", false),
    ] {
        let found = parse(OpenMetrics, text.as_bytes(), NOW, &Limits::default());
        assert_eq!(found.is_ok(), is_read, "{text:?}");
    }
}

/// What is scraped is cut off, what is imported is not.
#[test]
fn times_of_openmetrics() {
    for (seconds, scraped, imported) in [
        ("123.123", 123_123, 123_123),
        ("1520879607.789", 1_520_879_607_789_i64, 1_520_879_607_789_i64),
        ("-1.5", -1_500, -1_500),
        ("1.001", 1_000, 1_001),
        ("1.0019", 1_001, 1_002),
        ("-1.0019", -1_001, -1_002),
    ] {
        let text = format!("m 1 {seconds} # {{a=\"b\"}} 2 {seconds}\n# EOF\n");
        let read_again = import(OpenMetrics, text.as_bytes(), NOW, &Limits::default()).unwrap();
        for (decoded, t_ms) in [(read(OpenMetrics, &text), scraped), (read_again, imported)] {
            let exemplar = format!(r#"  exemplar [("a", "b")] 2 @{t_ms}"#);
            check(&decoded, &[&format!("m 1 @{t_ms}"), &exemplar]);
        }
    }
}

/// What no scrape takes.
#[test]
fn an_import_is_less_severe() {
    let text = b"# TYPE a counter\r\na 1\r\n\r\na 2 -7\r\n";
    let imported = import(Prometheus, text, NOW, &Limits::default()).unwrap();
    check(&imported, &[r#"# a counter "" """#, "a 1 @1000", "a 2 @-7"]);
}

#[test]
fn what_stands_before_a_bad_line_can_be_had() {
    let (decoded, fault) = parse_prefix(Prometheus, b"a 1\nb 2\nc\nd 4\n", NOW, &Limits::default());
    check(&decoded, &["a 1 @1000", "b 2 @1000"]);
    assert!(fault.unwrap().to_string().starts_with("line 3: "));
    assert!(parse_prefix(Prometheus, b"a 1\n", NOW, &Limits::default()).1.is_none());
}

#[test]
fn an_openmetrics_text_has_an_end() {
    let limits = Limits::default();
    let why = |text: &str| parse(OpenMetrics, text.as_bytes(), NOW, &limits).unwrap_err().to_string();
    assert_eq!(why(""), "line 0: data does not end with # EOF");
    assert_eq!(why("a 1\n"), "line 1: data does not end with # EOF");
    assert_eq!(why("a 1\n# EOF\nb 1\n"), "line 3: unexpected data after # EOF");
    let cut = import(OpenMetrics, b"a 1\n", NOW, &limits).unwrap();
    check(&cut, &["a 1 @1000", "! line 1: data does not end with # EOF"]);
    assert!(read(OpenMetrics, "# EOF").batch.series.is_empty());
    assert!(read(Prometheus, "# EOF\na 1\n").batch.series.len() == 1);
}

#[test]
fn a_backfill_is_one_series_and_bounded() {
    let text: String = (0..100).map(|i| format!("a{{b=\"c\"}} {i} {i}\n")).collect();
    let decoded = read(Prometheus, &text);
    assert_eq!((decoded.batch.series.len(), decoded.batch.floats.len()), (1, 100));
    assert!(decoded.batch.arena.len() < 40);
    let few = Limits { max_request_samples: 99, ..Limits::default() };
    for result in [parse(Prometheus, text.as_bytes(), 0, &few), import(Prometheus, text.as_bytes(), 0, &few)]
    {
        assert!(result.is_err_and(|e| e.is_too_large()));
    }
    let few = Limits { max_request_series: 1, ..Limits::default() };
    assert!(import(Prometheus, b"a 1\nb 1", 0, &few).is_err_and(|e| e.is_too_large()));
}

fn own_metrics(format: TextFormat) -> String {
    let mut writer = TextWriter::new(format);
    writer.family("requests_total", MetricType::Counter, "Requests\nserved.", "");
    writer.sample("", &[("path", "/a\"b\\c"), ("code", "200")], 3.0);
    writer.sample("", &[], 0.1);
    writer.family("heap_bytes", MetricType::Gauge, "", "bytes");
    writer.sample("", &[], 1e21);
    writer.family("latency_seconds", MetricType::Histogram, "Time.", "seconds");
    writer.histogram(&[("op", "x")], &[0.005, 1.0], &[1, 2, 5], 7.5);
    writer.family("odd name", MetricType::Unknown, "", "");
    writer.sample("", &[("odd label", "1")], f64::NAN);
    writer.finish()
}

#[test]
fn what_is_written_for_prometheus() {
    let expected = r#"# HELP requests_total Requests\nserved.
# TYPE requests_total counter
requests_total{path="/a\"b\\c",code="200"} 3
requests_total 0.1
# TYPE heap_bytes gauge
heap_bytes 1e+21
# HELP latency_seconds Time.
# TYPE latency_seconds histogram
latency_seconds_bucket{op="x",le="0.005"} 1
latency_seconds_bucket{op="x",le="1.0"} 2
latency_seconds_bucket{op="x",le="+Inf"} 5
latency_seconds_sum{op="x"} 7.5
latency_seconds_count{op="x"} 5
# TYPE "odd name" untyped
{"odd name","odd label"="1"} NaN
"#;
    assert_eq!(own_metrics(Prometheus), expected);
}

#[test]
fn what_is_written_for_openmetrics() {
    let text = own_metrics(OpenMetrics);
    let head = "# HELP requests Requests\\nserved.\n# TYPE requests counter\nrequests_total{";
    assert!(text.starts_with(head), "{text}");
    assert!(text.contains("# UNIT heap_bytes bytes\n") && text.ends_with("NaN\n# EOF\n"));
    let (plain, open) = (read(Prometheus, &own_metrics(Prometheus)), read(OpenMetrics, &text));
    let samples =
        |d: &Decoded| words::lines(d).into_iter().filter(|l| !l.starts_with('#')).collect::<Vec<_>>();
    assert_eq!(samples(&plain), samples(&open));
}

#[test]
fn the_header_decides_the_format() {
    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let proto_first = format!(
        "{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1"
    );
    let proto_last = format!("text/plain;version=0.0.4;q=0.9,{PROTOBUF};q=0.3");
    for (accept, format) in [
        ("", Exposition::Text(Prometheus)),
        ("*/*", Exposition::Text(Prometheus)),
        ("text/plain", Exposition::Text(Prometheus)),
        ("application/openmetrics-text", Exposition::Text(OpenMetrics)),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            Exposition::Text(OpenMetrics),
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0.2,text/plain;version=0.0.4;q=0.3",
            Exposition::Text(Prometheus),
        ),
        ("application/openmetrics-text;q=0", Exposition::Text(Prometheus)),
        (PROTOBUF, Exposition::Protobuf),
        (&proto_first, Exposition::Protobuf),
        (&proto_last, Exposition::Text(Prometheus)),
        ("application/vnd.google.protobuf;q=1,text/plain;q=0.2", Exposition::Text(Prometheus)),
        (
            "application/vnd.google.protobuf; proto=\"io.prometheus.client.MetricFamily\"; encoding=delimited",
            Exposition::Protobuf,
        ),
    ] {
        assert_eq!(Exposition::negotiate(accept), format, "{accept}");
    }
    assert_eq!(TextFormat::from_content_type("application/openmetrics-text; version=1.0.0"), OpenMetrics);
    assert_eq!(TextFormat::from_content_type("text/plain"), Prometheus);
    assert_eq!(TextFormat::from_content_type(OpenMetrics.content_type()), OpenMetrics);
}

#[test]
fn federation_is_sorted_untyped_and_fresh() {
    let series = |pairs: &[(&str, &str)], t, v| (Labels::from_pairs(pairs.iter().copied()), t, v);
    let text = federate(&[
        series(&[("__name__", "b"), ("x", "1"), ("instance", "i")], 5, 2.5),
        series(&[("__name__", "a"), ("y", "\"")], 4, 1.0),
        series(&[("__name__", "b")], 6, f64::INFINITY),
        series(&[("__name__", "c")], 6, stale_nan()),
        series(&[("z", "no name")], 6, 1.0),
        series(&[("__name__", "a b")], 7, 1.0),
    ]);
    let expected = r#"# TYPE a untyped
a{y="\"",instance=""} 1 4
# TYPE "a b" untyped
{"a b",instance=""} 1 7
# TYPE b untyped
b{instance=""} +Inf 6
b{instance="i",x="1"} 2.5 5
"#;
    assert_eq!(text, expected);
    assert_eq!(federate(&[]), "");
}

proptest! {
    #[test]
    fn samples_read_back(
        open_metrics in any::<bool>(),
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,10}|.{1,10}",
        labels in prop::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,5}|.{1,5}", ".{1,20}", 0..4),
        bits in any::<u64>(),
    ) {
        let format = if open_metrics { OpenMetrics } else { Prometheus };
        let value = f64::from_bits(bits);
        prop_assume!(!labels.contains_key("__name__"));
        let mut writer = TextWriter::new(format);
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        writer.family(&name, MetricType::Gauge, "", "");
        writer.sample("", &pairs, value);
        let decoded = read(format, &writer.finish());
        let mut read = Vec::new();
        let series = &decoded.batch.series[0];
        (decoded.batch.read_labels)(decoded.batch.raw_labels(series), &mut read).unwrap();
        let mut expected: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        expected.push((b"__name__", name.as_bytes()));
        expected.sort();
        prop_assert_eq!(read, expected);
        let got = decoded.batch.floats[0].value;
        prop_assert!(got.to_bits() == bits || got.is_nan() && value.is_nan());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n\"\\\\{}=,#]{0,80}|\\PC{0,40}") {
        for format in [Prometheus, OpenMetrics] {
            let imported = import(format, text.as_bytes(), NOW, &Limits::default()).unwrap();
            let parsed = parse(format, text.as_bytes(), NOW, &Limits::default());
            prop_assert!(parsed.is_err() || imported.rejected == 0);
        }
    }
}
