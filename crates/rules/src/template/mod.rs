//! Texts of labels and annotations: Go templates with the functions of Prometheus.
//!
//! A template is read once. Most texts are no templates at all and are given as they are.

mod functions;
mod numbers;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use gotmpl::Value;
use pilothouse_model::limits::RULE_TEXT_BYTES;
use pilothouse_model::sample::format_float_general;
use pilothouse_model::{Histogram, Labels, SampleValue};
use pilothouse_query::histogram::populated_buckets;
use pilothouse_query::template::{Program, TemplateError, Vocabulary};

use crate::expression::Element;

/// In front of every text, as Prometheus has it.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";
/// Functions whose answer may differ though labels and value are the same.
const CHANGING: [&str; 2] = ["query", "now"];

static VOCABULARY: LazyLock<Vocabulary> =
    LazyLock::new(|| Vocabulary::new(functions::all(), functions::method, PRELUDE));

/// Answers the function `query` with the elements of an expression at the time of evaluation.
pub(crate) trait TemplateQuery {
    fn query(&self, text: &str) -> Result<Vec<Element>, String>;
}

/// What every text of one evaluation has in common.
pub(crate) struct Surroundings {
    now_ms: i64,
    external_url: Arc<str>,
    /// `.ExternalLabels`, made once.
    external_labels: Value,
    query: Box<dyn TemplateQuery>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

impl Surroundings {
    pub(crate) fn new(
        now_ms: i64,
        external_url: Arc<str>,
        external_labels: &Labels,
        query: Box<dyn TemplateQuery>,
    ) -> Self {
        Self { now_ms, external_url, external_labels: label_map(external_labels), query }
    }
}

thread_local! {
    // The engine's functions see their arguments alone. What `query`, `now` and their like need
    // beside them lies here while a text is made, and only then.
    static HERE: RefCell<Option<Rc<Surroundings>>> = const { RefCell::new(None) };
}

fn here() -> Option<Rc<Surroundings>> {
    HERE.with_borrow(Clone::clone)
}

/// Takes the surroundings away again, even if a function panics.
struct Within;

impl Within {
    fn enter(surroundings: &Rc<Surroundings>) -> Self {
        HERE.set(Some(Rc::clone(surroundings)));
        Self
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// A text of a rule.
#[derive(Debug)]
pub(crate) struct AlertText {
    source: String,
    /// `None` where the text is no template.
    program: Option<Program>,
    /// The name of the template in messages.
    name: String,
}

impl AlertText {
    pub(crate) fn parse(alert: &str, source: &str) -> Result<Self, TemplateError> {
        let name = format!("__alert_{alert}");
        let program = match source.contains("{{") {
            true => Some(Program::parse(&name, source, &VOCABULARY)?),
            false => None,
        };
        Ok(Self { source: source.to_owned(), program, name })
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.program.is_none()
    }

    /// Whether the same labels and value always give the same text.
    pub(crate) fn is_steady(&self) -> bool {
        let changes = |program: &Program| CHANGING.iter().any(|function| program.calls(function));
        !self.program.as_ref().is_some_and(changes)
    }

    /// The text for one alert. What goes wrong becomes a part of the text, as in Prometheus.
    /// It may be no longer than [`RULE_TEXT_BYTES`], and `left_bytes`.
    pub(crate) fn expand(&self, data: &AlertData, left_bytes: usize) -> String {
        let Some(program) = &self.program else { return self.source.clone() };
        let _within = Within::enter(&data.surroundings);
        let failed = |e: &dyn fmt::Display| {
            let name = &self.name;
            tracing::warn!("expanding a template of {name} failed: {e}");
            format!("<error expanding template: error executing template {name}: template: {name}: {e}>")
        };
        match program.render(&data.value) {
            Ok(text) if text.len() > RULE_TEXT_BYTES.min(left_bytes) => failed(&"the text is too long"),
            Ok(text) => text,
            Err(e) => failed(&e),
        }
    }
}

/// What a text of a rule becomes for an element, where every query gives that element again; for
/// those who try texts that somebody may write.
pub fn try_text(text: &str, element: &Element) -> Result<String, TemplateError> {
    struct Same(Element);
    impl TemplateQuery for Same {
        fn query(&self, _: &str) -> Result<Vec<Element>, String> {
            Ok(vec![self.0.clone(); 2])
        }
    }
    let query = Box::new(Same(element.clone()));
    let here = Surroundings::new(0, Arc::from("http://here/"), &Labels::empty(), query);
    Ok(AlertText::parse("A", text)?.expand(&AlertData::new(element, &Rc::new(here)), usize::MAX))
}

/// Whether a text can be read as a template.
pub(crate) fn check_template(alert: &str, text: &str) -> Result<(), TemplateError> {
    AlertText::parse(alert, text).map(drop)
}

/// `.Labels`, `.ExternalLabels`, `.ExternalURL` and `.Value` of one alert.
#[derive(Debug)]
pub(crate) struct AlertData {
    value: Value,
    surroundings: Rc<Surroundings>,
}

impl AlertData {
    pub(crate) fn new(element: &Element, surroundings: &Rc<Surroundings>) -> Self {
        let entries: [(&str, Value); 4] = [
            ("ExternalLabels", surroundings.external_labels.clone()),
            ("ExternalURL", Value::String(Arc::clone(&surroundings.external_url))),
            ("Labels", label_map(&element.labels)),
            ("Value", sample_value(&element.value)),
        ];
        let map = entries.into_iter().map(|(name, value)| (Arc::from(name), value)).collect();
        Self { value: Value::Map(Arc::new(map)), surroundings: Rc::clone(surroundings) }
    }
}

fn label_map(labels: &Labels) -> Value {
    let entry = |(name, value): (&str, &str)| (Arc::from(name), Value::String(Arc::from(value)));
    Value::Map(Arc::new(labels.iter().map(entry).collect::<BTreeMap<_, _>>()))
}

fn sample_value(value: &SampleValue) -> Value {
    match value {
        SampleValue::Float(value) => Value::Float(*value),
        SampleValue::Histogram(histogram) => Value::String(Arc::from(histogram_text(histogram))),
    }
}

/// As Prometheus prints a native histogram: `{count:3, sum:4, (1,2]:3}`.
fn histogram_text(histogram: &Histogram) -> String {
    let float = format_float_general;
    let mut out = format!("{{count:{}, sum:{}", float(histogram.count), float(histogram.sum));
    for bucket in populated_buckets(histogram) {
        let open = if bucket.boundaries.lower_inclusive() { '[' } else { '(' };
        let close = if bucket.boundaries.upper_inclusive() { ']' } else { ')' };
        let (lower, upper, count) = (float(bucket.lower), float(bucket.upper), float(bucket.count));
        out.push_str(&format!(", {open}{lower},{upper}{close}:{count}"));
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests;
