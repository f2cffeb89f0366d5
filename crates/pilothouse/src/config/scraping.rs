//! Jobs of scraping in the file: documents with Prometheus' fields.

use pilothouse_rules::format::yaml::Node;
use pilothouse_scrape::config::sections::{GlobalSection, JobSection};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::secrets::{hidden, resolved};
use super::synthetic::{document, documents, each};
use super::values::{Setting, Wrong};

/// The section `global`, as far as it is about scraping and rules.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Global {
    pub(crate) section: GlobalSection,
    /// As it was written.
    shown: Value,
}

impl Global {
    fn of(shown: Value) -> Result<Self, String> {
        Ok(Self { section: read(&shown)?, shown })
    }
}

impl Setting for Global {
    const ALLOWED: &'static str = "a mapping with fields of Prometheus' section global";

    fn from_text(text: &str) -> Result<Self, String> {
        Self::of(serde_json::from_str(text).map_err(|e| format!("is not a mapping in JSON: {e}"))?)
    }

    fn from_node(node: &Node) -> Result<Self, Wrong> {
        Self::of(document(node)?).map_err(|why| Wrong::at(node, why))
    }

    fn show(&self) -> Option<String> {
        Some(if self.shown.is_null() { "{}".to_owned() } else { self.shown.to_string() })
    }
}

/// `scrape_configs`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Jobs {
    pub(crate) sections: Vec<JobSection>,
    /// As they were written, secrets hidden.
    shown: Vec<Value>,
}

impl Jobs {
    fn of(all: Vec<(JobSection, Value)>) -> Self {
        let (sections, shown) = all.into_iter().map(|(section, value)| (section, hidden(value))).unzip();
        Self { sections, shown }
    }

    fn job(shown: Value) -> Result<(JobSection, Value), String> {
        Ok((read(&resolved(shown.clone())?)?, shown))
    }
}

impl Setting for Jobs {
    const ALLOWED: &'static str = "a list of jobs with Prometheus' fields";

    fn from_text(text: &str) -> Result<Self, String> {
        documents(text)?.into_iter().map(Self::job).collect::<Result<_, _>>().map(Self::of)
    }

    fn from_node(node: &Node) -> Result<Self, Wrong> {
        each(node, Self::job).map(Self::of)
    }

    fn show(&self) -> Option<String> {
        Some(Value::from(self.shown.clone()).to_string())
    }
}

fn read<T: DeserializeOwned + Default>(document: &Value) -> Result<T, String> {
    if document.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(document.clone()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use pilothouse_rules::format::yaml::parse;

    use super::*;

    #[test]
    fn jobs_are_read_and_shown_without_secrets() {
        let yaml = "- job_name: web\n  basic_auth: {username: a, password: s3cret}\n  \
                    http_headers: {x-key: {secrets: [s3cret]}}\n  relabel_configs:\n    - {target_label: a, replacement: 7}\n";
        let jobs = Jobs::from_node(&parse(yaml).unwrap().unwrap()).unwrap();
        assert_eq!(jobs.sections[0].relabel_configs[0].replacement, "7");
        let shown = jobs.show().unwrap();
        assert!(!shown.contains("s3cret") && shown.contains("\"password\":\"<secret>\""), "{shown}");
        assert_eq!(Jobs::from_text(&shown).unwrap().sections.len(), 1);
    }

    #[test]
    fn unknown_fields_are_named_with_their_line() {
        let yaml = "- job_name: a\n- job_name: b\n  scrape_intervall: 5s\n";
        let wrong = Jobs::from_node(&parse(yaml).unwrap().unwrap()).unwrap_err();
        assert!(wrong.line == 2 && wrong.why.contains("unknown field `scrape_intervall`"), "{wrong:?}");
        let global = Global::from_node(&parse("{scrape_interval: 5s, runtime: {}}").unwrap().unwrap());
        assert!(global.unwrap_err().why.contains("unknown field `runtime`"));
    }
}
