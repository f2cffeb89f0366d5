//! Rule groups as they are written: read from YAML, checked, printed.

mod check;
mod print;
mod read;
pub mod yaml;

use std::collections::BTreeMap;

pub use check::{Problem, check_group};
pub use print::{print_group, print_namespaces};
pub(crate) use read::Reader;
pub use read::{ReadGroup, read_file, read_group};

/// A group of rules: run one after the other, at one time, every interval.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleGroup {
    pub name: String,
    /// Unsaid: the server's default.
    pub interval_ms: Option<i64>,
    /// How far back in time the group evaluates.
    pub query_offset_ms: Option<i64>,
    /// The old name of `query_offset`, kept apart because it is printed as it was given.
    pub evaluation_delay_ms: Option<i64>,
    /// At most this many series or alerts of each rule; 0 for any number.
    pub limit: i64,
    /// Added to every rule, whose own labels override them.
    pub labels: BTreeMap<String, String>,
    pub rules: Vec<Rule>,
    /// Run at multiples of the interval rather than at a place of the group's own.
    pub aligned: bool,
    /// Never accepted with anything in it: there are no tenants here.
    pub source_tenants: Vec<String>,
}

impl RuleGroup {
    /// How far back in time the group evaluates, under either name.
    pub fn offset_ms(&self) -> Option<i64> {
        self.query_offset_ms.or(self.evaluation_delay_ms)
    }
}

/// A rule: exactly one of `record` and `alert` has a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    pub record: String,
    pub alert: String,
    pub expr: String,
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

impl Rule {
    pub fn name(&self) -> &str {
        if self.alert.is_empty() { &self.record } else { &self.alert }
    }
}
