//! Recording rules: a result under another name.

use std::collections::{BTreeMap, HashSet};

use pilothouse_model::Labels;
use pilothouse_model::labels::METRIC_NAME;

use crate::expression::Element;
use crate::overlay::Overlay;
use crate::rule::RuleError;
use crate::written::Output;

#[derive(Debug, Clone)]
pub(crate) struct Recording {
    /// The rule's labels and its name.
    overlay: Overlay,
}

impl Recording {
    pub(crate) fn new(name: &str, labels: &BTreeMap<String, String>) -> Self {
        let mut over = labels.clone();
        over.insert(METRIC_NAME.to_owned(), name.to_owned());
        Self { overlay: Overlay::new(over) }
    }

    /// The series of a result. `limit` 0 allows any number.
    pub(crate) fn outputs(&self, result: Vec<Element>, limit: i64) -> Result<Vec<Output>, RuleError> {
        let rename =
            |element: Element| Output { labels: self.overlay.over(&element.labels), value: element.value };
        let outputs: Vec<Output> = result.into_iter().map(rename).collect();
        if has_duplicates(outputs.iter().map(|output| &output.labels)) {
            return Err(RuleError::DuplicateSeries);
        }
        let series = outputs.len();
        if limit > 0 && i64::try_from(series).is_ok_and(|n| n > limit) {
            return Err(RuleError::TooManySeries { limit, series });
        }
        Ok(outputs)
    }
}

fn has_duplicates<'a>(sets: impl ExactSizeIterator<Item = &'a Labels>) -> bool {
    let mut seen: HashSet<&Labels, foldhash::fast::RandomState> =
        HashSet::with_capacity_and_hasher(sets.len(), foldhash::fast::RandomState::default());
    let mut sets = sets;
    !sets.all(|labels| seen.insert(labels))
}
