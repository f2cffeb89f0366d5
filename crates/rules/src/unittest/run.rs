//! Running the tests of a file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use pilothouse_model::time::{MINUTE_MS, format_duration_ms};
use pilothouse_model::write::WriteBatch;
use pilothouse_model::{Alert, AlertSink, Budget, Clock, Labels, SampleSink as _, SampleValue, SourceError};

use super::Report;
use super::document::{AlertTest, Document, ExpectedAlert, ExprTest, Test};
use super::histograms::{histogram_text, parse_histogram};
use super::series::{Values, parse_labels, parse_values};
use crate::alerting::{ALERT_NAME, AlertState};
use crate::expression::{EvaluationOptions, Expression, Language};
use crate::files::{load_file, paths_of};
use crate::format::RuleGroup;
use crate::group::{Evaluation, Group, GroupKey, Origin};
use crate::memory::MemorySeries;
use crate::rule::Kind;
use crate::settings::{Durations, Settings, Surrounding};
use crate::source::{Data, RuleSource};

pub(super) fn run(document: &Document, directory: &Path) -> Report {
    let mut report = Report::default();
    let groups = match load_groups(document, directory, &mut report.warnings) {
        Ok(groups) => groups,
        Err(errors) => {
            report.failures = errors;
            return report;
        }
    };
    let interval_ms = match document.evaluation_interval_ms {
        0 => MINUTE_MS,
        ms => ms,
    };
    for test in &document.tests {
        let bench = Bench { test, groups: &groups, interval_ms, fuzzy: document.fuzzy_compare };
        match bench.run() {
            Ok(failures) => report.failures.extend(failures),
            Err(e) => report.failures.push(e),
        }
    }
    report
}

/// The groups of all files, with the files, in the order in which they are evaluated.
fn load_groups(
    document: &Document,
    directory: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<(String, RuleGroup)>, Vec<String>> {
    let mut order = BTreeMap::new();
    for (i, name) in document.group_eval_order.iter().enumerate() {
        if order.insert(name.as_str(), i).is_some() {
            return Err(vec![format!("group name repeated in evaluation order: {name}")]);
        }
    }
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for path in rule_paths(document, directory, warnings) {
        match load_file(&path, Language::Promql) {
            Ok(file) => groups.extend(file.groups.into_iter().map(|group| (file.path.clone(), group))),
            Err(e) => errors.extend(e.problems.iter().map(|problem| format!("{}: {problem}", e.path))),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    groups.sort_by_key(|(_, group)| order.get(group.name.as_str()).copied().unwrap_or(0));
    Ok(groups)
}

fn rule_paths(document: &Document, directory: &Path, warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for name in &document.rule_files {
        let pattern = directory.join(name);
        let found = paths_of(&pattern).unwrap_or_default();
        if found.is_empty() || (found == [pattern.clone()] && !pattern.exists()) {
            warnings.push(format!("no file match pattern {}", pattern.display()));
            continue;
        }
        paths.extend(found);
    }
    paths
}

/// The time of the step that is evaluated.
#[derive(Debug, Default)]
struct StepClock(AtomicI64);

impl Clock for StepClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Nobody is told of the alerts of a test.
#[derive(Debug)]
struct Nobody;

impl AlertSink for Nobody {
    fn send(&self, _: &[Alert]) -> Result<(), SourceError> {
        Ok(())
    }
}

struct Bench<'a> {
    test: &'a Test,
    groups: &'a [(String, RuleGroup)],
    interval_ms: i64,
    fuzzy: bool,
}

/// A series that is written step by step, as far as the evaluations have come.
struct Input {
    labels: Labels,
    values: Values,
    written: usize,
}

impl Bench<'_> {
    fn run(&self) -> Result<Vec<String>, String> {
        let series = Arc::new(MemorySeries::default());
        let mut inputs = self.inputs()?;
        let around = self.surrounding();
        let groups = self.groups(&series, &around)?;
        for case in &self.test.alert_rule_tests {
            if case.alertname.is_empty() {
                return Err(self.nameless(case));
            }
        }
        let start_ms = self.test.start_ms;
        let longest = self.test.alert_rule_tests.iter().map(|case| case.eval_time_ms);
        let longest = longest.chain(self.test.promql_expr_tests.iter().map(|case| case.eval_time_ms));
        let end_ms = start_ms.saturating_add(longest.max().unwrap_or(0));
        let mut failures = Vec::new();
        let mut t_ms = start_ms;
        while t_ms <= end_ms {
            self.write_until(&mut inputs, t_ms, &series)?;
            let errors = evaluate(&groups, &around, t_ms);
            if !errors.is_empty() {
                failures.extend(errors);
                return Ok(failures);
            }
            self.compare_alerts(&groups, t_ms - start_ms, &mut failures);
            t_ms += self.interval_ms;
        }
        let data = Data::Metrics(series);
        for case in &self.test.promql_expr_tests {
            failures.extend(self.compare_expr(case, &data).err());
        }
        Ok(failures)
    }

    fn nameless(&self, case: &AlertTest) -> String {
        let name = &self.test.name;
        let within = if name.is_empty() { String::new() } else { format!(" (in TestGroup {name})") };
        let time = format_duration_ms(case.eval_time_ms);
        format!(
            "an item under alert_rule_test misses required attribute alertname at eval_time {time}{within}"
        )
    }

    fn inputs(&self) -> Result<Vec<Input>, String> {
        let read = |input: &super::document::InputSeries| {
            let labels = parse_labels(&input.series).map_err(|e| format!("{}: {e}", input.series))?;
            let values = parse_values(&input.values).map_err(|e| format!("{}: {e}", input.series))?;
            Ok(Input { labels, values, written: 0 })
        };
        self.test.input_series.iter().map(read).collect()
    }

    /// Writes the samples up to a time, which are all that is known then.
    fn write_until(&self, inputs: &mut [Input], t_ms: i64, series: &MemorySeries) -> Result<(), String> {
        let step_ms = if self.test.interval_ms == 0 { self.interval_ms } else { self.test.interval_ms };
        let mut batch = WriteBatch::of_labels();
        for input in inputs {
            while let Some(value) = input.values.get(input.written) {
                let at_ms = self.test.start_ms.saturating_add(step_ms.saturating_mul(input.written as i64));
                if at_ms > t_ms {
                    break;
                }
                input.written += 1;
                match value {
                    Some(SampleValue::Float(value)) => batch.push_float(&input.labels, at_ms, *value),
                    Some(SampleValue::Histogram(h)) => {
                        batch.push_histogram(&input.labels, at_ms, h.as_ref().clone());
                    }
                    None => {}
                }
            }
        }
        let appended = series.append(&batch).map_err(|e| e.to_string())?;
        match appended.rejections.first() {
            Some(first) => Err(format!("duplicate sample for timestamp in {}", first.series)),
            None => Ok(()),
        }
    }

    fn surrounding(&self) -> Surrounding {
        let mut evaluation = EvaluationOptions::default();
        evaluation.promql.default_subquery_step_ms = self.interval_ms;
        let settings = Settings {
            external_url: Arc::from(self.test.external_url.as_str()),
            external_labels: Labels::from_pairs(&self.test.external_labels),
            evaluation,
            ..Settings::default()
        };
        Surrounding {
            settings,
            clock: Arc::new(StepClock::default()),
            alerts: Arc::new(Nobody),
            observer: None,
            durations: Durations::default(),
            sent: AtomicU64::new(0),
            send_failures: AtomicU64::new(0),
        }
    }

    fn groups(&self, series: &Arc<MemorySeries>, around: &Surrounding) -> Result<Vec<Group>, String> {
        let source = RuleSource {
            data: Data::Metrics(Arc::clone(series) as _),
            sink: Arc::clone(series) as _,
            written: Arc::clone(series) as _,
        };
        let live = |(file, config): &(String, RuleGroup)| {
            let key = GroupKey {
                source: String::new(),
                namespace: file.clone(),
                name: config.name.clone(),
                origin: Origin::File,
            };
            Group::new(key, config.clone(), source.clone(), around, false).map_err(|e| e.to_string())
        };
        self.groups.iter().map(live).collect()
    }

    /// Compares the alerts of a step with the tests whose time lies between it and the next.
    fn compare_alerts(&self, groups: &[Group], after_ms: i64, failures: &mut Vec<String>) {
        let within = after_ms..after_ms + self.interval_ms;
        for case in self.test.alert_rule_tests.iter().filter(|case| within.contains(&case.eval_time_ms)) {
            let mut expected = case.expected.clone();
            for alert in &mut expected {
                alert.labels.insert(ALERT_NAME.to_owned(), case.alertname.clone());
            }
            let mut got = firing(groups, &case.alertname);
            expected.sort();
            got.sort();
            if expected != got {
                failures.push(format!(
                    "{}    alertname: {}, time: {}, \n        exp:{}, \n        got:{}",
                    self.name_line(),
                    case.alertname,
                    format_duration_ms(case.eval_time_ms),
                    alerts_text(&expected),
                    alerts_text(&got),
                ));
            }
        }
    }

    fn name_line(&self) -> String {
        match self.test.name.as_str() {
            "" => String::new(),
            name => format!("    name: {name},\n"),
        }
    }

    fn compare_expr(&self, case: &ExprTest, data: &Data) -> Result<(), String> {
        let at = format!("    expr: {:?}, time: {}", case.expr, format_duration_ms(case.eval_time_ms));
        let failed = |why: String| format!("{at}, err: {why}");
        let expression = Expression::parse(Language::Promql, &case.expr).map_err(failed)?;
        let mut options = EvaluationOptions::default();
        options.promql.default_subquery_step_ms = self.interval_ms;
        let t_ms = self.test.start_ms.saturating_add(case.eval_time_ms);
        let result = expression.evaluate(data, t_ms, &options, &Budget::unlimited());
        let result = result.map_err(|e| failed(e.to_string()))?;
        let mut got: Vec<Shown> = result
            .into_iter()
            .map(|element| match &element.value {
                SampleValue::Float(value) => Shown { labels: element.labels, value: *value, histogram: None },
                SampleValue::Histogram(h) => {
                    Shown { labels: element.labels, value: 0.0, histogram: Some(histogram_text(h)) }
                }
            })
            .collect();
        let mut expected = Vec::new();
        for sample in &case.expected {
            let wrong = |e: String| failed(format!("labels {:?}: {e}", sample.labels));
            let labels = parse_labels(&sample.labels).map_err(wrong)?;
            let text = sample.histogram.trim();
            let histogram = match text.strip_prefix("{{").and_then(|t| t.strip_suffix("}}")) {
                Some(inside) => Some(histogram_text(&parse_histogram(inside).map_err(wrong)?)),
                None if text.is_empty() => None,
                None => return Err(wrong(format!("expected histogram, got {text}"))),
            };
            let value = if histogram.is_some() { 0.0 } else { sample.value };
            expected.push(Shown { labels, value, histogram });
        }
        got.sort_by(|a, b| a.labels.cmp(&b.labels));
        expected.sort_by(|a, b| a.labels.cmp(&b.labels));
        let equal = got.len() == expected.len()
            && got.iter().zip(&expected).all(|(got, expected)| got.equals(expected, self.fuzzy));
        if equal {
            return Ok(());
        }
        Err(format!("{at},\n        exp: {}\n        got: {}", shown_text(&expected), shown_text(&got)))
    }
}

/// Evaluates all groups at a time; what went wrong, by rule.
fn evaluate(groups: &[Group], around: &Surrounding, t_ms: i64) -> Vec<String> {
    let mut errors = Vec::new();
    for group in groups {
        group.evaluate(&Evaluation { around, slot_ms: t_ms });
        for (rule, state) in group.rules.iter().zip(&group.states) {
            if let Some(error) = &state.lock().last_error {
                let time = format_duration_ms(t_ms);
                errors.push(format!("    rule: {}, time: {time}, err: {error}", rule.config.name()));
            }
        }
    }
    errors
}

/// The alerts of a name that fire, of all groups.
fn firing(groups: &[Group], name: &str) -> Vec<ExpectedAlert> {
    let rules = groups.iter().flat_map(|group| group.rules.iter().zip(&group.states));
    let named =
        rules.filter(|(rule, _)| matches!(rule.kind, Kind::Alerting(_)) && rule.config.name() == name);
    let alerts = named.flat_map(|(_, state)| state.lock().alerts.active());
    let shown = alerts.filter(|alert| alert.state == AlertState::Firing).map(|alert| ExpectedAlert {
        labels: alert.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        annotations: alert.annotations.as_ref().clone(),
    });
    shown.collect()
}

fn texts(pairs: &BTreeMap<String, String>) -> String {
    Labels::from_pairs(pairs).to_string()
}

/// As promtool shows a list of alerts, every line indented.
fn alerts_text(alerts: &[ExpectedAlert]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut out = "[".to_owned();
    for (i, alert) in alerts.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let (labels, annotations) = (texts(&alert.labels), texts(&alert.annotations));
        let _ = write!(
            out,
            "{comma}\n            {i}:\n              Labels:{labels}\n              Annotations:{annotations}"
        );
    }
    out.push_str("\n            ]");
    out
}

/// A sample as it is compared and shown.
struct Shown {
    labels: Labels,
    value: f64,
    histogram: Option<String>,
}

impl Shown {
    fn equals(&self, other: &Self, fuzzy: bool) -> bool {
        let value = self.value == other.value || (fuzzy && are_neighbours(self.value, other.value));
        self.labels == other.labels && self.histogram == other.histogram && value
    }
}

/// Whether no other float lies between two.
fn are_neighbours(a: f64, b: f64) -> bool {
    a.next_up() == b || a.next_down() == b
}

fn shown_text(samples: &[Shown]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let one = |sample: &Shown| match &sample.histogram {
        Some(histogram) => format!("{} {histogram}", sample.labels),
        None => format!("{} {}", sample.labels, exponent_text(sample.value)),
    };
    samples.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// As Go's `strconv.FormatFloat(f, 'E', -1, 64)`.
fn exponent_text(value: f64) -> String {
    if !value.is_finite() {
        return pilothouse_model::sample::format_float(value);
    }
    let text = format!("{value:E}");
    let (mantissa, exponent) = text.split_once('E').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}E{sign}{digits:0>2}")
}
