//! A file of tests as it is written.

use std::collections::BTreeMap;

use pilothouse_model::labels::quote;
use pilothouse_model::time::SECOND_MS;

use crate::format::Reader;
use crate::format::yaml::{self, Node};

#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) rule_files: Vec<String>,
    /// 0: a minute.
    pub(super) evaluation_interval_ms: i64,
    pub(super) group_eval_order: Vec<String>,
    pub(super) fuzzy_compare: bool,
    pub(super) tests: Vec<Test>,
}

#[derive(Debug, Default)]
pub(super) struct Test {
    pub(super) name: String,
    /// 0: the interval of evaluation.
    pub(super) interval_ms: i64,
    pub(super) input_series: Vec<InputSeries>,
    pub(super) alert_rule_tests: Vec<AlertTest>,
    pub(super) promql_expr_tests: Vec<ExprTest>,
    pub(super) external_labels: BTreeMap<String, String>,
    pub(super) external_url: String,
    pub(super) start_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct InputSeries {
    pub(super) series: String,
    pub(super) values: String,
}

#[derive(Debug, Default)]
pub(super) struct AlertTest {
    pub(super) eval_time_ms: i64,
    pub(super) alertname: String,
    pub(super) expected: Vec<ExpectedAlert>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExpectedAlert {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct ExprTest {
    pub(super) expr: String,
    pub(super) eval_time_ms: i64,
    pub(super) expected: Vec<ExpectedSample>,
}

#[derive(Debug, Default)]
pub(super) struct ExpectedSample {
    pub(super) labels: String,
    pub(super) value: f64,
    /// Where it is not empty, the value counts for nothing.
    pub(super) histogram: String,
}

pub(super) fn read(text: &str) -> Result<Document, String> {
    let mut document = Document::default();
    let Some(root) = yaml::parse(text)? else { return Ok(document) };
    let mut reader = Reader::new(true);
    reader.mapping(&root, "main.unitTestFile", |reader, key, value| {
        match key {
            "rule_files" => document.rule_files = reader.list(value, "[]string", Reader::text),
            "evaluation_interval" => document.evaluation_interval_ms = reader.duration(value),
            "group_eval_order" => document.group_eval_order = reader.list(value, "[]string", Reader::text),
            "fuzzy_compare" => document.fuzzy_compare = reader.flag(value),
            "tests" => document.tests = reader.list(value, "[]main.testGroup", test),
            _ => return false,
        }
        true
    });
    reader.finish(document)
}

fn test(reader: &mut Reader, node: &Node) -> Test {
    let mut test = Test::default();
    reader.mapping(node, "main.testGroup", |reader, key, value| {
        match key {
            "name" => test.name = reader.text(value),
            "interval" => test.interval_ms = reader.duration(value),
            "input_series" => test.input_series = reader.list(value, "[]main.series", input_series),
            "alert_rule_test" => {
                test.alert_rule_tests = reader.list(value, "[]main.alertTestCase", alert_test);
            }
            "promql_expr_test" => {
                test.promql_expr_tests = reader.list(value, "[]main.promqlTestCase", expr_test);
            }
            "external_labels" => test.external_labels = reader.texts(value),
            "external_url" => test.external_url = reader.text(value),
            "start_timestamp" => test.start_ms = time(reader, value),
            _ => return false,
        }
        true
    });
    test
}

fn input_series(reader: &mut Reader, node: &Node) -> InputSeries {
    let mut series = InputSeries::default();
    reader.mapping(node, "main.series", |reader, key, value| {
        match key {
            "series" => series.series = reader.text(value),
            "values" => series.values = reader.text(value),
            _ => return false,
        }
        true
    });
    series
}

fn alert_test(reader: &mut Reader, node: &Node) -> AlertTest {
    let mut test = AlertTest::default();
    reader.mapping(node, "main.alertTestCase", |reader, key, value| {
        match key {
            "eval_time" => test.eval_time_ms = reader.duration(value),
            "alertname" => test.alertname = reader.text(value),
            "exp_alerts" => test.expected = reader.list(value, "[]main.alert", expected_alert),
            _ => return false,
        }
        true
    });
    test
}

fn expected_alert(reader: &mut Reader, node: &Node) -> ExpectedAlert {
    let mut alert = ExpectedAlert::default();
    reader.mapping(node, "main.alert", |reader, key, value| {
        match key {
            "exp_labels" => alert.labels = reader.texts(value),
            "exp_annotations" => alert.annotations = reader.texts(value),
            _ => return false,
        }
        true
    });
    alert
}

fn expr_test(reader: &mut Reader, node: &Node) -> ExprTest {
    let mut test = ExprTest::default();
    reader.mapping(node, "main.promqlTestCase", |reader, key, value| {
        match key {
            "expr" => test.expr = reader.text(value),
            "eval_time" => test.eval_time_ms = reader.duration(value),
            "exp_samples" => test.expected = reader.list(value, "[]main.sample", expected_sample),
            _ => return false,
        }
        true
    });
    test
}

fn expected_sample(reader: &mut Reader, node: &Node) -> ExpectedSample {
    let mut sample = ExpectedSample::default();
    reader.mapping(node, "main.sample", |reader, key, value| {
        match key {
            "labels" => sample.labels = reader.text(value),
            "value" => sample.value = float(reader, value),
            "histogram" => sample.histogram = reader.text(value),
            _ => return false,
        }
        true
    });
    sample
}

/// A number as YAML writes it: `.inf` and `.nan`, too.
fn float(reader: &mut Reader, node: &Node) -> f64 {
    let text = reader.text(node);
    let lower = text.to_lowercase();
    match lower.trim_start_matches('+').strip_prefix('.').unwrap_or(lower.trim_start_matches('+')) {
        "inf" => return f64::INFINITY,
        "nan" => return f64::NAN,
        _ if lower == "-.inf" => return f64::NEG_INFINITY,
        _ => {}
    }
    text.parse().unwrap_or_else(|_| {
        reader.wrong_type(node, "float64");
        0.0
    })
}

/// Seconds since 1970, or RFC 3339.
fn time(reader: &mut Reader, node: &Node) -> i64 {
    let text = reader.text(node);
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds * SECOND_MS as f64) as i64;
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.as_millisecond(),
        Err(_) => {
            reader.fault(format!("cannot parse {} to a valid timestamp", quote(&text)));
            0
        }
    }
}
