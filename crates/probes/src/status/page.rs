//! A page as the configuration says it.

use pilothouse_model::limits;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::words::Check;

/// Without jobs and labels a page shows all checks; else those that have one of the jobs, and
/// those that have all of the labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatusPage {
    /// The last part of its path.
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Whether it is shown without a token that may read metrics.
    pub public: bool,
    /// Whether targets are shown, which may be nobody's business.
    pub show_targets: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot name a status page: wanted are 1 to 64 of a-z, 0-9, `-` and `_`")]
pub struct InvalidPage {
    pub name: String,
}

impl StatusPage {
    /// Whether its name can stand in a path; the dot is left to `.json`.
    pub fn holds(&self) -> Result<(), InvalidPage> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let fits =
            (1..=limits::STATUS_PAGE_NAME_BYTES).contains(&self.name.len()) && self.name.bytes().all(plain);
        if fits { Ok(()) } else { Err(InvalidPage { name: self.name.clone() }) }
    }

    pub fn title(&self) -> &str {
        if self.title.is_empty() { &self.name } else { &self.title }
    }

    pub fn shows(&self, check: &Check) -> bool {
        let has = |(name, value): (&String, &String)| {
            check.labels.iter().any(|label| label.name == *name && label.value == *value)
        };
        let all = self.jobs.is_empty() && self.labels.is_empty();
        all || self.jobs.contains(&check.job) || (!self.labels.is_empty() && self.labels.iter().all(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Label;

    #[test]
    fn pages_show_what_is_chosen() {
        let check = |job: &str, labels: &[(&str, &str)]| Check {
            job: job.into(),
            labels: labels.iter().map(|(n, v)| Label { name: (*n).into(), value: (*v).into() }).collect(),
            ..Check::default()
        };
        let page = |text: &str| serde_json::from_str::<StatusPage>(text).unwrap();
        for (said, job, labels, expected) in [
            ("{}", "a", &[][..], true),
            (r#"{"jobs": ["a", "b"]}"#, "b", &[], true),
            (r#"{"jobs": ["a", "b"]}"#, "c", &[], false),
            (r#"{"labels": {"t": "web", "e": "p"}}"#, "a", &[("e", "p"), ("t", "web")], true),
            (r#"{"labels": {"t": "web", "e": "p"}}"#, "a", &[("t", "web")], false),
            (r#"{"jobs": ["a"], "labels": {"t": "web"}}"#, "a", &[], true),
        ] {
            assert_eq!(page(said).shows(&check(job, labels)), expected, "{said}");
        }
        assert!(serde_json::from_str::<StatusPage>(r#"{"job": ["a"]}"#).is_err());
    }

    #[test]
    fn names_can_stand_in_a_path() {
        let name = |name: &str| StatusPage { name: name.into(), ..StatusPage::default() }.holds().is_ok();
        assert!(name("a-b_9"));
        for wrong in ["", "a.json", "a/b", "Ä", "A", &"a".repeat(65)] {
            assert!(!name(wrong), "{wrong}");
        }
    }
}
