//! Rules of relabelling as JSON, over labels from outside.
//!
//! Strategy: up to the first zero a list of rules, behind it names and values, parted by lines.
//! Invariants: never a panic; labels that come out are in order, named once, and have values.

use pilothouse_model::LabelsBuilder;
use pilothouse_scrape::relabel::{Rule, RuleSpec, apply};

use super::as_text;

pub fn run(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let Ok(specs) = serde_json::from_slice::<Vec<RuleSpec>>(&data[..at]) else { return };
    // Each may double what there is.
    let rules: Vec<Rule> = specs.into_iter().take(6).filter_map(|spec| Rule::new(spec).ok()).collect();
    let mut labels = LabelsBuilder::default();
    labels.set("__address__", "h1.example.org:9100").set("job", "api");
    let mut lines = as_text(data.get(at + 1..).unwrap_or_default()).lines();
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        labels.set(name, value);
    }
    if apply(&rules, &mut labels) {
        let built = labels.build();
        let pairs: Vec<_> = built.iter().collect();
        assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "{built}");
        assert!(pairs.iter().all(|(_, value)| !value.is_empty()), "{built}");
    }
}
